"""Racy programs: what the host says is among what the model says under some schedule, and both can be told apart."""

from __future__ import annotations

from collections import Counter

import pytest

from taskscope.labs.truth import races, sets
from taskscope.labs.truth.host import HostRunner
from taskscope.labs.truth.model import ModelRunner
from taskscope.labs.truth.program import Program

#: racy programs that are run with the other tests; tools/truth.py --racy runs more
COUNT = 40
#: schedules of the model at most
MOST = 400


@pytest.mark.limit(240)
def test_what_the_host_says_is_possible_on_the_model() -> None:
    """What the host says most often of a racy program is among what schedules of the model say.

    What it says once in a hundred times may need more schedules than a test has time for: tools/truth.py --racy.
    """
    programs = [races.race(f"check {n}", 2) for n in range(COUNT)]
    with HostRunner() as host:
        runs = [list(host.run_all(programs)) for _ in range(7)]
    usual = [Counter(map(tuple, lines)).most_common(1)[0][0] for lines in zip(*runs, strict=True)]
    found = sets.outcomes(programs, lambda _: [list(lines) for lines in usual], MOST)
    lost = [one for one in found if not one.found]
    assert not lost, "\n".join(one.text() for one in lost)


def test_races_are_races() -> None:
    """Most racy programs have several transcripts on the model, and all kinds of races are among them."""
    programs = [races.race(n) for n in range(40)]
    seen: list[set[tuple[str | None, ...]]] = [set() for _ in programs]
    for name, cpus, check in sets.schedules(12):
        runner = ModelRunner(name, cpus=cpus, check=check)
        for lines, transcripts in zip(runner.run_all(programs), seen, strict=True):
            transcripts.add(tuple(lines))
    assert sum(len(transcripts) > 1 for transcripts in seen) > 25
    names = {item[1] for n in range(300) for script in races.race(n).scripts for item in script}
    assert names >= {"kill", "sigqueue", "exit", "wait4", "waitid", "caught", "pend", "sigwait", "mask", "act", "stat",
                     "getppid", "getpgid", "setpgid", "prctl", "settle", "end", "sweep"}


def test_what_no_kernel_may_say_is_told() -> None:
    """A transcript that no schedule can give is in no set: one who killed himself and was reaped with another code."""
    scripts = [
        [[0, "fork", 1, 17, "fn"], [-1, "settle"], [-1, "end", 1], [3, "wait4", "@1", 0x40000000], [-1, "sweep"]],
        [[1, "kill", "@1", 9], [2, "exit", 4]],
    ]
    program = Program(scripts, [None] * 4, "certain")
    wrong = ["@1", None, None, "@1 0x0400"]
    lost = next(sets.outcomes([program], lambda programs: [wrong for _ in programs], 20))
    assert not lost.found
    assert lost.schedules == 20
    assert set(lost.model) == {("@1", None, None, "@1 0x0009")}
    assert "@1 0x0400   |   @1 0x0009" in lost.text()


def test_nothing_is_left_of_a_race() -> None:
    """Whatever a race does, its reaper ends and reaps all of it: on the host, and on the model with nothing left."""
    programs = [races.race(f"left {n}") for n in range(40)]
    with HostRunner() as host:
        for program, lines in zip(programs, host.run_all(programs), strict=True):
            assert len(lines) == program.operations, lines[-1]
    for name in ("seed:3", "pct:3:4"):
        for program, lines in zip(programs, ModelRunner(name).run_all(programs), strict=True):
            assert len(lines) == program.operations, f"{name}: {program.seed}: {lines[-1]}"
