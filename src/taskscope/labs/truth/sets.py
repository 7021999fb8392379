"""Racy programs on the host and on the model: what the host says is among what the model can say.

A few schedules are tried with all programs; then each transcript that has not come up is searched for (`guided`).  A
program whose transcript some thousand schedules do not give shows a mistake of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from taskscope.labs.truth.compare import Runner
from taskscope.labs.truth.guided import CPUS, search
from taskscope.labs.truth.model import ModelRunner
from taskscope.labs.truth.program import Program, Transcript

#: schedules that all programs meet, one machine each
COMMON: Final = 10


@dataclass(slots=True)
class Outcome:
    """A racy program: what the host said, and what the model said until it said the same."""

    program: Program
    host: Transcript
    #: by transcript, the first schedule that gave it
    model: dict[tuple[str | None, ...], str] = field(default_factory=dict)
    schedules: int = 0
    found: bool = False

    def note(self, lines: Transcript, schedule: str) -> None:
        """Note what the model said under a schedule."""
        self.schedules += 1
        self.model.setdefault(tuple(lines), schedule)
        self.found = lines == self.host

    def unlike(self, lines: Sequence[str | None]) -> int:
        """Return in how many lines a transcript differs from the host's."""
        return sum(a != b for a, b in zip(lines, self.host, strict=False)) + abs(len(lines) - len(self.host))

    def text(self) -> str:
        """Write it down for people: the host's transcript beside the model's that is nearest to it."""
        host = self.host

        unlike = [(self.unlike(lines), n) for n, lines in enumerate(self.model)]
        near, schedule = list(self.model.items())[min(unlike)[1]]
        return (f"race {self.program.seed}: not among {len(self.model)} transcripts of {self.schedules} schedules; "
                f"host | model, nearest ({schedule})\n{self.program.text(host, near, fences=True)}")


def schedules(count: int) -> Iterator[tuple[str, int, bool]]:
    """Yield schedules to try, with the number of CPUs: the usual one, then seeds and priorities by turns."""
    yield "seed:0", 2, True
    for n in range(1, count):
        name = f"pct:{1 + n // 2 % 4}:{n}" if n % 2 else f"seed:{n}"
        yield name, CPUS[n // 2 % len(CPUS)], n % 8 == 0


def outcomes(
    programs: Sequence[Program], host: Runner, most: int = 4000, flavour: str = "4.19-arm"
) -> Iterator[Outcome]:
    """Run racy programs on the host once, on the model until it says the same; yield what came of each.

    :param most: schedules to try: a few are common to all, the others look for each program that is left
    """
    todo = [Outcome(program, lines) for program, lines in zip(programs, host(programs), strict=True)]
    left = list(todo)
    common = min(COMMON, most)
    for name, cpus, check in schedules(common):
        if not left:
            break
        runner = ModelRunner(name, flavour=flavour, cpus=cpus, check=check)
        for one, lines in zip(left, runner.run_all([one.program for one in left]), strict=True):
            one.note(lines, f"{name} on {cpus} CPUs")
        left = [one for one in left if not one.found]
    for one in left:
        if most > common:
            found = search(one.program, one.host, most - common, flavour)
            one.note(found.lines, found.schedule)
            one.schedules += found.runs - 1
    yield from todo
