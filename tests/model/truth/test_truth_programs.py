"""Random programs of processes: they are well formed, and fenced so that one order can not differ from another."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from truth_strategies import PROGRAMS, STEP_LISTS

from taskscope.abi.sched import CloneFlag
from taskscope.labs.truth import build, compare
from taskscope.labs.truth.program import Program
from taskscope.labs.truth.shadow import World


def play_fences(program: Program, rng: random.Random) -> list[int]:
    """Play births and fences in a random order; return the serial numbers in the order they were passed.

    Waits, stops and deaths are not played: what they add only orders more.
    """
    at = {0: 0}
    sent: set[int] = set()
    order = []
    while True:
        able = []
        for actor, where in at.items():
            script = program.scripts[actor]
            if where < len(script) and (script[where][1] != "await" or script[where][2] in sent):
                able.append(actor)
        if not able:
            return order
        actor = rng.choice(able)
        item = program.scripts[actor][at[actor]]
        at[actor] += 1
        if item[1] == "tok":
            sent.add(item[3])
        elif item[1] == "exec":
            sent.add(item[4])               # cat hands it on
        elif item[1] == "fork":
            at[item[2]] = 0
        if item[0] >= 0:
            order.append(item[0])


@settings(max_examples=150, deadline=None)
@given(PROGRAMS)
def test_every_operation_is_reached_in_any_order(program: Program) -> None:
    """Tokens alone never block a program: played in any order, every operation of every process comes up."""
    for seed in range(3):
        order = play_fences(program, random.Random(seed))
        assert sorted(order) == list(range(program.operations))


@settings(max_examples=150, deadline=None)
@given(PROGRAMS)
def test_tokens_are_sent_once_and_awaited_once(program: Program) -> None:
    """Each token has one sender, and who waits for it is the process it is sent to."""
    items = [(actor, item) for actor, script in enumerate(program.scripts) for item in script]
    awaited = {(actor, item[2]) for actor, item in items if item[1] == "await"}
    sent = Counter((item[2], item[3]) for _, item in items if item[1] == "tok")
    sent.update((item[3], item[4]) for _, item in items if item[1] == "exec")
    assert all(count == 1 for count in sent.values())
    # Who was stopped and never continued waits for a token that never comes.
    assert set(sent) <= awaited


@settings(max_examples=100, deadline=None)
@given(PROGRAMS)
def test_the_order_of_serial_numbers_is_right_for_the_reference(program: Program) -> None:
    """Played one operation after the other, a program gives on the reference what it is said to give."""
    world = World()
    for actor, item in program.ordered():
        if item[0] < 0:
            continue
        world = world.copy()
        procs = world.procs
        if item[1] == "waitid" and program.expected[item[0]] == "ECHILD" and item[2] == 1:
            number = int(str(item[3])[1:]) if str(item[3]).startswith("@") else 0
            if number and procs[number].state == "ghost":
                continue                # the parent waits until it has gone by itself
        effect = world.apply(actor, item)
        if effect.result is not None and procs[actor].state == "run":
            assert effect.result == program.expected[item[0]], program.text()


@settings(max_examples=50, deadline=None)
@given(STEP_LISTS)
def test_equal_steps_give_equal_programs(steps: list[build.Step]) -> None:
    """A program is a function of its steps, and survives being written down."""
    program = build.build(steps)
    assert build.build(steps) == program
    assert Program.from_json(program.to_json()) == program


def test_programs_have_what_the_issue_names() -> None:
    """A few hundred programs have births of all kinds, every kind of wait, orphans, and every errno."""
    programs = [build.program(seed) for seed in range(300)]
    items = [item for program in programs for script in program.scripts for item in script]
    assert {item[1] for item in items} >= {
        "fork", "badclone", "exit", "kill", "wait4", "waitid", "setpgid", "setsid", "getppid", "getpgid", "getsid",
        "prctl", "prctl_get", "setname", "getname", "signal", "umask", "dup2", "exec", "badexec", "stat",
        "tok", "await",
    }
    flags = {item[3] for item in items if item[1] == "fork"}
    assert flags >= {int(flags) for flags in build.FORKS}
    assert any(flag & CloneFlag.CLONE_VFORK for flag in flags)
    results = Counter(line for program in programs for line in program.expected if line)
    assert set(results) >= {"ECHILD", "ESRCH", "EPERM", "EACCES", "EINVAL", "EBADF", "ENOENT", "nothing"}
    codes = {line.split()[2] for line in results if " code " in line}
    assert codes == {"1", "2", "5", "6"}, "exited, killed, stopped, continued"
    orphans = sum(actor > 1 and item[1] == "getppid" and program.expected[item[0]] == "@0"
                  for program in programs for actor, item in program.ordered())
    assert orphans > 10


def test_a_program_that_differs_is_shrunk_to_its_core() -> None:
    """Shrinking keeps what makes a program differ and little else."""
    def differs(program: Program) -> bool:
        return any("setsid" in item and program.expected[item[0]] == "EPERM" for _, item in program.ordered()
                   if item[0] >= 0)

    steps = next(s for n in range(50) if differs(build.build(s := build.random_steps(n, 40))))
    small = compare.shrink(steps, differs)
    assert differs(small)
    assert len(small.scripts) == 2
    assert small.operations <= 8
