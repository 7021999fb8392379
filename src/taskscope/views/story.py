"""A life told in order: created, ran, rhythm, signals, exit, zombie, reaped, freed.

Every line stands at the time and on the cpu of a record and names that record's event in brackets, so that it
can be checked with ``taskscope report``; what was concluded rather than recorded says ``(inferred: …)``;
where the kernel lost events, a LOST line says so.  What is many is folded, and said how many; `verbose` shows
all of it, with the records and whole stacks beneath.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from taskscope.lives.life import Life
from taskscope.lives.lives import Lives
from taskscope.trace.trace import Trace
from taskscope.views import chapters
from taskscope.views.entry import NO_BREAK, Entry, Teller
from taskscope.views.lives_table import lived
from taskscope.views.names import signal_name
from taskscope.views.text import escape, pad, wrap
from taskscope.views.text import width as cells_of
from taskscope.views.who import comm_at, decorated, pid_text, who


class TraceWithLives(Protocol):
    """What a story is told from: `taskscope.open` gives one."""

    @property
    def lives(self) -> Lives:
        """The lives of the recording, which know their trace."""
        ...


#: columns before the text of a line: TIME, CPU and the word
_CPU, _WORD = 5, 10


def story_text(life: Life, trace: TraceWithLives, width: int = 80, color: bool = False, verbose: bool = False) -> str:
    """Tell one life as text, without a newline at the end.

    :param width: cells of a line
    :param color: whether to colour words
    :param verbose: nothing folded, stamps in ns, the records and whole stacks beneath each line
    """
    return told(life, trace.lives, width=width, color=color, verbose=verbose)


def told(life: Life, lives: Lives, *, width: int = 80, color: bool = False, verbose: bool = False) -> str:
    """Tell one life of some lives, see `story_text`."""
    teller = Teller(life, lives, color=color, verbose=verbose)
    left = _stamps(teller) + _CPU + 2 + _WORD
    entries = chapters.tell(teller, bar_cells=max(width - left, 20))
    lines = [*_headline(teller, width), "", *_body(teller, entries, width)]
    tail = _relatives(teller, width)
    if tail:
        lines += ["", *tail]
    lines += ["", *_next(teller, width)]
    return "\n".join(lines)


def _headline(teller: Teller, width: int) -> list[str]:
    life, times, paint = teller.life, teller.times, teller.paint
    name = f"{decorated(life.kind, comm_at(life))} {pid_text(life.ref)}"
    length = times.length(lived(life))
    shown = f"seen for {length}" if life.born is None else f"lived {length}" + ("" if life.exit else " so far")
    what = _ending(teller)
    first = f"{paint(name, 'name')}   {shown}   {what}"
    if cells_of(f"{name}   {shown}   {what}") > width:
        return [f"{paint(name, 'name')}   {shown}", *wrap(what, width), *_source(teller, width)]
    return [first, *_source(teller, width)]


def _ending(teller: Teller) -> str:
    life, lives = teller.life, teller.lives
    end = life.exit
    if end is None:
        if life.kind == "idle":
            return f"idle task of cpu {','.join(map(str, life.cpus)) or '?'}"
        return "alive when the recording ended" if life.freed is None else "ended; how was not recorded"
    if end.cause == "exec":
        return "ended by another thread's execve"
    if end.signal is not None:
        name = signal_name(end.signal)
        if end.cause == "group_exit":
            return f"died with its thread group: {name}"
        if end.cause == "oom":
            return f"killed by the OOM killer with {name}"
        if end.killer == life.ref:
            return f"killed by {name}, raised by itself" + (", dumped core" if end.core else "")
        by = f" by {who(lives, end.killer, end.at)}" if end.killer else ""
        return f"killed{by} with {name}" + (", dumped core" if end.core else "")
    if end.cause == "group_exit":
        return "ended with its thread group" + (f", exit {end.code}" if end.code is not None else "")
    return f"exit {end.code}" if end.code is not None else "exited; its status was not recorded"


def _source(teller: Teller, width: int) -> list[str]:
    trace: Trace = teller.trace
    kernel = trace.kernel
    lost = trace.lost_count
    parts = [
        " ".join(["Linux", kernel.release, kernel.machine or ""]).strip() if kernel.release else "kernel not recorded",
        f"{len(trace.cpus)} cpu{'s' if len(trace.cpus) != 1 else ''}",
        f"{len(trace):,} events",
        f"{'unknown number' if lost is None else f'{lost:,}'} lost",
    ]
    if trace.clock.unit == "cycles":
        parts.append(f"clock {trace.clock.name}, in cycles")
    elif trace.clock.resolution >= 1000:
        parts.append("stamps of 1 us")
    return [teller.paint(line, "note") for line in wrap(escape(", ".join(parts)), width)]


def _stamps(teller: Teller) -> int:
    """Return how wide the TIME column is: the latest stamp is the longest."""
    return max(11, len(teller.times.stamp(teller.trace.end, 9 if teller.verbose else 6)))


def _body(teller: Teller, entries: Sequence[Entry], width: int) -> list[str]:
    times, paint, verbose = teller.times, teller.paint, teller.verbose
    digits = 9 if verbose else 6
    stamps = [times.stamp(e.at, digits) if e.at is not None else "?" for e in entries]
    column = _stamps(teller)
    left = column + _CPU + 2 + _WORD
    lines = [] if not entries else [paint(f"{'TIME':>{column}}{'CPU':>{_CPU}}", "head")]
    for entry, stamp in zip(entries, stamps, strict=True):
        cpu = "" if entry.cpu is None else str(entry.cpu)
        head = f"{stamp:>{column}}{cpu:>{_CPU}}  " + paint(pad(entry.word, _WORD), entry.style)
        rows: list[str] = []
        for text, evidence in entry.lines:
            rows += _line(teller, text, evidence, width - left)
        for k, row in enumerate(rows or [""]):
            lines.append((head + row if k == 0 else " " * left + row).rstrip())
        if verbose:
            for row_number in entry.rows:
                lines += _details(teller, row_number)
    return lines


def _line(teller: Teller, text: str, evidence: str | None, cells: int) -> list[str]:
    """Lay out one line of an entry with its evidence at the right edge."""
    painted = "\x1b" in text
    rows = [text] if painted else wrap(text, cells, "  ")
    if evidence and not painted and cells_of(rows[-1]) + cells_of(evidence) + 4 > cells and " " in rows[-1].strip():
        # The last word goes to the next line rather than the evidence alone.
        head, _, word = rows[-1].rpartition(" ")
        rows[-1:] = [head.rstrip(), f"  {word}"]
    rows = [row.replace(NO_BREAK, " ") for row in rows]
    shown = [_style(teller, row) for row in rows]
    if not evidence:
        return shown
    tag = f"[{evidence}]"
    room = cells - (cells if painted else cells_of(rows[-1])) - cells_of(tag)
    if room >= 2:
        shown[-1] += " " * room + teller.paint(tag, "evidence")
    else:
        shown.append(" " * max(cells - cells_of(tag), 0) + teller.paint(tag, "evidence"))
    return shown


def _style(teller: Teller, row: str) -> str:
    return teller.paint(row, "inferred") if row.lstrip().startswith("(inferred") else row


def _details(teller: Teller, row: int) -> list[str]:
    """Show the record that a line rests on, and its whole stack."""
    lines = [f"      | {line}" for line in teller.evidence.text(row) if line]
    frames = teller.trace.stacks.raw(row)
    if frames:
        lines += [f"      |   => {frame}" for frame in frames]
    return [teller.paint(escape(line), "note") for line in lines]


def _relatives(teller: Teller, width: int) -> list[str]:
    """List the threads and children of a task, shortly."""
    life, lives = teller.life, teller.lives
    threads, children = [], []
    for other in lives:
        if other.ref == life.ref:
            continue
        if (
            other.kind == "thread"
            and other.tgid == life.pid
            and life.kind == "process"
            and other.first <= life.last
            and other.last >= life.first
        ):
            threads.append(other)
        elif other.parent == life.ref and other.kind != "thread":
            children.append(other)
    return [*_list(teller, "Threads", threads, width), *_list(teller, "Children", children, width)]


def _list(teller: Teller, title: str, lives: Sequence[Life], width: int) -> list[str]:
    if not lives:
        return []
    most = len(lives) if teller.verbose else 12
    names = [f"{comm_at(one)} {pid_text(one.ref)}" for one in lives[:most]]
    if len(lives) > most:
        names.append(f"and {len(lives) - most:,} more (-v)")
    rows = [f"{title:<9}{len(lives)}: "]
    for k, name in enumerate(names):
        word = name + ("," if k + 1 < len(names) else "")
        if cells_of(f"{rows[-1]} {word}") > width:
            rows.append(" " * 9)
        rows[-1] += word if rows[-1].endswith(" ") else f" {word}"
    return rows


def _next(teller: Teller, width: int) -> list[str]:
    import shlex

    path = escape(teller.trace.path)
    source = "" if path == "trace.dat" else f" -i {shlex.quote(path)}"
    ref = pid_text(teller.life.ref)
    steps = [f"taskscope report{source} -p {teller.life.pid}"]
    if not teller.verbose:
        steps.append(f"taskscope life -v{source} {ref}")
    one = "Next: " + " · ".join(steps)
    if cells_of(one) <= width:
        return [teller.paint(one, "note")]
    return [teller.paint(("Next: " if k == 0 else "      ") + step, "note") for k, step in enumerate(steps)]
