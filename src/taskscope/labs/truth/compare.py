"""Programs side by side: the reference, the host's kernel, the model under many schedules; what differs is shrunk.

A program that the host runs otherwise than the reference expects shows a mistake of the generator (a missing fence) or
of the reference; one that the model runs otherwise than the host, or differently under two schedules, one of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from taskscope.labs.truth import build
from taskscope.labs.truth.build import Step
from taskscope.labs.truth.program import Program, Transcript

#: runs programs, yields a transcript of each
Runner = Callable[[Sequence[Program]], Iterable[Transcript]]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A program and the transcripts that should have been equal, by the name of who wrote them."""

    program: Program
    transcripts: dict[str, Transcript]

    def text(self, *, fences: bool = False) -> str:
        """Write it down for people."""
        names = " | ".join(self.transcripts)
        return (f"program {self.program.seed or '(no seed)'}: results of {names}\n"
                f"{self.program.text(*self.transcripts.values(), fences=fences)}")


def compare(programs: Sequence[Program], runners: dict[str, Runner]) -> Iterator[Divergence | None]:
    """Run programs on every runner; yield for each what differs from the reference, None if nothing does."""
    results = {name: list(runner(programs)) for name, runner in runners.items()}
    for n, program in enumerate(programs):
        found = {name: lines[n] for name, lines in results.items()}
        if all(lines == program.expected for lines in found.values()):
            yield None
        else:
            yield Divergence(program, {"reference": program.expected, **found})


def shrink(
    steps: Sequence[Step], differs: Callable[[Program], bool], tries: int = 400, *, root: bool = False
) -> Program:
    """Return a smaller program that still differs: with fewer steps, of smaller numbers.

    :param tries: how many programs may be run
    :param root: see `build.build`
    """
    best = list(steps)
    left = tries

    def still(candidate: list[Step]) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and differs(build.build(candidate, root=root))

    size = len(best)
    while size and left > 0:
        at = 0
        while at < len(best) and left > 0:
            shorter = best[:at] + best[at + size :]
            if still(shorter):
                best = shorter
            else:
                at += size
        size //= 2
    for at in range(len(best)):
        for place in range(5):
            for value in (0, best[at][place] % 64, best[at][place] % 256):
                if left > 0 and value < best[at][place]:
                    step = best[at]
                    smaller = (*step[:place], value, *step[place + 1 :])
                    candidate: list[Step] = [*best[:at], smaller, *best[at + 1 :]]  # type: ignore[list-item]
                    if still(candidate):
                        best = candidate
                        break
    return build.build(best, "shrunk", root=root)
