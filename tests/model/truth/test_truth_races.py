"""Racy programs: what the host says is among what the model says under some schedule, and both can be told apart."""

from __future__ import annotations

from collections import Counter

import pytest

from taskscope.labs.truth import guided, races, sets
from taskscope.labs.truth.host import HostRunner
from taskscope.labs.truth.model import ModelRunner
from taskscope.labs.truth.program import Program

#: racy programs that are run with the other tests, in so many tests; tools/truth.py --racy runs more
COUNT, PARTS = 300, 10
#: schedules of the model at most: first, and for what the host is asked once more
MOST, MORE = 1500, 20_000


@pytest.mark.real
@pytest.mark.limit(240)
@pytest.mark.parametrize("part", range(PARTS))
def test_what_the_host_says_is_possible_on_the_model(part: int) -> None:
    """What the host usually says of a racy program is among what schedules of the model say.

    What it says once may be a thing of luck: tools/truth.py --racy looks for that.
    """
    programs = [races.race(f"check {n}") for n in range(part, COUNT, PARTS)]
    with HostRunner() as host:
        lost = searched(programs, host, 7, MOST)
        if lost:
            lost = searched([one.program for one in lost], host, 25, MORE)
    assert not lost, "\n".join(one.text() for one in lost)


def searched(programs: list[Program], host: HostRunner, times: int, most: int) -> list[sets.Outcome]:
    """Run programs so many times on the host; return those whose usual transcript no schedule of the model gives."""
    runs = [list(host.run_all(programs)) for _ in range(times)]
    usual = [list(Counter(map(tuple, lines)).most_common(1)[0][0]) for lines in zip(*runs, strict=True)]
    return [one for one in sets.outcomes(programs, lambda _: usual, most) if not one.found]


def test_who_exits_is_beyond_signals_for_a_while() -> None:
    """Who exits gets no signals any more and is no zombie yet: others can do several things in that time."""
    scripts = [
        [[0, "fork", 1, 17, "fn"], [-1, "settle"], [-1, "end", 1], [1, "wait4", "@1", 0x40000000],
         [2, "wait4", "@2", 0x40000000], [-1, "sweep"]],
        [[3, "fork", 2, 17, "fn"], [4, "kill", "@2", 15], [5, "kill", "@2", 9], [6, "wait4", -1, 1], [7, "getppid"]],
        [[8, "getppid"], [9, "exit", 4]],
    ]
    program = Program(scripts, [None] * 10, "exiting")
    wanted = ["@1", "@1 0x0009", "@2 0x0400", "@2", "0", "0", "0", "@0", "@1", None]
    found = guided.search(program, wanted, MORE)
    assert found.found
    assert found.lines == wanted


def test_a_signal_may_come_between_two_calls() -> None:
    """A process that has heard what its call returned may be killed before it makes the next one."""
    scripts = [
        [[0, "fork", 1, 17, "fn"], [1, "fork", 2, 17, "fn"], [-1, "settle"], [-1, "end", 2],
         [2, "wait4", "@1", 0x40000000], [3, "wait4", "@2", 0x40000000], [-1, "sweep"]],
        [[4, "getppid"], [5, "exit", 4]],
        [[6, "kill", "@1", 15]],
    ]
    program = Program(scripts, [None] * 7, "between")
    wanted = ["@1", "@2", "@1 0x000f", "@2 0x0009", "@0", None, "0"]
    assert guided.search(program, wanted, 2000).found
    # But nobody is killed by a signal that was not sent, or ends in two ways.
    assert not guided.search(program, [*wanted[:2], "@1 0x0009", *wanted[3:]], 200).found
    assert not guided.search(program, [*wanted[:4], "@0", "0", "0"], 200).found


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
    # The search ends its runs where they begin to differ: with the reaper's wait.
    assert set(lost.model) == {("@1", None, None, "@1 0x0009"), ("@1", None, None, None)}
    assert "@1 0x0400   |   @1 0x0009" in lost.text()


@pytest.mark.real
def test_nothing_is_left_of_a_race() -> None:
    """Whatever a race does, its reaper ends and reaps all of it: on the host, and on the model with nothing left."""
    programs = [races.race(f"left {n}") for n in range(40)]
    with HostRunner() as host:
        for program, lines in zip(programs, host.run_all(programs), strict=True):
            assert len(lines) == program.operations, lines[-1]
    for name in ("seed:3", "pct:3:4"):
        for program, lines in zip(programs, ModelRunner(name).run_all(programs), strict=True):
            assert len(lines) == program.operations, f"{name}: {program.seed}: {lines[-1]}"
