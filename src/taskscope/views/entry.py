"""What a story is made of: entries of text with time, cpu and evidence, and the teller who makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from taskscope.lives.life import Life, Span, TaskRef
from taskscope.lives.lives import Lives
from taskscope.trace.trace import Trace
from taskscope.views.evidence import Evidence
from taskscope.views.text import Paint
from taskscope.views.times import Times
from taskscope.views.who import who

#: stands between words that must not be parted; shown as a blank
NO_BREAK = "\u00a0"


@dataclass(slots=True)
class Entry:
    """One entry of a story: a word, and lines of text each with the event it rests on (None: none of its own).

    ``rank`` orders entries of equal time as the kernel does things: created before ran, exit before zombie.
    """

    at: int | None
    cpu: int | None
    word: str
    lines: list[tuple[str, str | None]]
    rank: int
    style: str | None = None
    rows: list[int] = field(default_factory=list)
    #: where an entry without a time belongs
    near: int | None = None

    def say(self, text: str, evidence: str | None = None) -> None:
        """Add a line of text, and the event that it rests on."""
        self.lines.append((text, evidence))

    @property
    def key(self) -> tuple[int, int]:
        """Order of the story."""
        at = self.at if self.at is not None else self.near
        return (at if at is not None else 0, self.rank)


class Teller:
    """All that the chapters of one story need."""

    def __init__(self, life: Life, lives: Lives, *, color: bool = False, verbose: bool = False) -> None:
        self.life = life
        self.lives = lives
        self.trace: Trace = lives.trace
        self.evidence = Evidence(self.trace)
        self.times = Times(self.trace.clock, self.trace.start)
        self.paint = Paint(color)
        self.verbose = verbose

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The state intervals of the life."""
        return self.lives.spans(self.life.ref)

    def who(self, ref: TaskRef | None, at: int | None = None) -> str:
        """Name a task of the recording, with a no-break space between its name and its pid."""
        if ref is not None and ref == self.life.ref:
            return "itself"
        name, blank, pid = who(self.lives, ref, at).rpartition(" ")
        return f"{name}{NO_BREAK if blank else ''}{pid}"

    def seen(self, entry: Entry, line: str, row: int | None) -> None:
        """Add a line to an entry, resting on the record `row` if that was found."""
        entry.say(line, None if row is None else self.evidence.name(row))
        if row is not None and row not in entry.rows:
            entry.rows.append(row)

    def inferred(self, entry: Entry, reasons: tuple[str, ...]) -> None:
        """Add what was concluded, and from what."""
        entry.lines += [(f"(inferred: {reason})", None) for reason in reasons]
