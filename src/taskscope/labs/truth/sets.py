"""Racy programs on the host and on the model: what the host says is among what the model can say.

Schedules are tried one after the other until each program's transcript has come up: seeds and priorities by turns.
A program whose transcript has not come up under some hundred schedules shows a mistake of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from taskscope.labs.truth.compare import Runner
from taskscope.labs.truth.model import ModelRunner
from taskscope.labs.truth.program import Program, Transcript


@dataclass(slots=True)
class Outcome:
    """A racy program: what the host said, and what the model said until it said the same."""

    program: Program
    host: Transcript
    #: by transcript, the first schedule that gave it
    model: dict[tuple[str | None, ...], str] = field(default_factory=dict)
    schedules: int = 0
    found: bool = False

    def text(self) -> str:
        """Write it down for people: the host's transcript beside the model's that is nearest to it."""
        host = self.host

        def unlike(lines: tuple[str | None, ...]) -> int:
            return sum(a != b for a, b in zip(lines, host, strict=False)) + abs(len(lines) - len(host))

        near = list(min(self.model, key=unlike))
        return (f"race {self.program.seed}: not among {len(self.model)} transcripts of {self.schedules} schedules; "
                f"host | model, nearest ({self.model[tuple(near)]})\n{self.program.text(host, near, fences=True)}")


def schedules(count: int) -> Iterator[tuple[str, int, bool]]:
    """Yield schedules to try, with the number of CPUs: the usual one, then seeds and priorities by turns."""
    yield "seed:0", 2, True
    for n in range(1, count):
        name = f"pct:{1 + n // 2 % 4}:{n}" if n % 2 else f"seed:{n}"
        yield name, 1 + n // 4 % 4, n % 8 == 0


def outcomes(
    programs: Sequence[Program], host: Runner, most: int = 400, flavour: str = "4.19-arm"
) -> Iterator[Outcome]:
    """Run racy programs on the host once, on the model until it says the same; yield what came of each.

    :param most: schedules to try
    """
    todo = [Outcome(program, lines) for program, lines in zip(programs, host(programs), strict=True)]
    left = list(todo)
    for name, cpus, check in schedules(most):
        if not left:
            break
        runner = ModelRunner(name, flavour=flavour, cpus=cpus, check=check)
        for one, lines in zip(left, runner.run_all([one.program for one in left]), strict=True):
            one.schedules += 1
            one.model.setdefault(tuple(lines), f"{name} on {cpus} CPUs")
            one.found = lines == one.host
        left = [one for one in left if not one.found]
    yield from todo
