"""Random programs of processes: they are well formed, and fenced so that one order can not differ from another."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from truth_strategies import PROGRAMS, STEP_LISTS

from taskscope.abi.sched import CloneFlag
from taskscope.labs.truth import build, compare
from taskscope.labs.truth.fences import Builder
from taskscope.labs.truth.model import ModelRunner
from taskscope.labs.truth.program import Program
from taskscope.labs.truth.shadow import World
from taskscope.labs.truth.shadow_signals import bit
from taskscope.labs.truth.shadow_state import SkipError


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
    played(program)


#: the second child kills its parent, which sleeps in vfork(); a parent is stopped after its vfork() child has exited
KILLED_IN_VFORK = [
    (190, 434, 171, 817, 0), (38, 31, 149, 297, 236), (108, 213, 702, 1023, 363), (260, 341, 640, 313, 377),
    (312, 930, 446, 133, 256), (358, 239, 56, 221, 172), (839, 403, 570, 127, 35), (194, 113, 32, 762, 966),
    (185, 445, 607, 217, 254), (1, 257, 997, 511, 396), (181, 210, 3, 727, 242), (256, 1022, 512, 1, 290),
    (256, 91, 99, 577, 732), (600, 595, 72, 211, 417), (363, 46, 516, 314, 200), (416, 256, 791, 373, 97),
    (0, 442, 271, 359, 217), (117, 68, 283, 436, 1023), (62, 748, 681, 217, 600), (226, 517, 255, 352, 184),
    (779, 256, 196, 331, 442), (990, 497, 269, 13, 694), (157, 307, 554, 123, 239), (743, 404, 188, 117, 73),
    (354, 517, 929, 128, 200),
]
STOPPED_AFTER_VFORK = [
    (668, 54, 398, 123, 349), (201, 682, 578, 964, 887), (165, 249, 145, 347, 33), (103, 259, 110, 600, 813),
    (238, 581, 252, 211, 1023), (200, 540, 174, 199, 216), (513, 433, 31, 421, 245), (905, 148, 477, 397, 63),
    (5, 333, 908, 326, 382),
]


@pytest.mark.parametrize("steps", [KILLED_IN_VFORK, STOPPED_AFTER_VFORK], ids=["killed", "stopped"])
def test_who_sleeps_in_vfork_can_be_killed_and_goes_on_afterwards(steps: list[build.Step]) -> None:
    """A birth by vfork() returns when its child has ended or execed, and never if the parent was killed meanwhile."""
    played(build.build(steps))


def played(program: Program) -> None:
    """Play a program on the reference in the order of its serial numbers, and compare."""
    world = World()
    asleep: dict[int, int] = {}         # in vfork(): child -> parent
    for actor, item in program.ordered():
        if item[0] < 0:
            continue
        world = world.copy()
        procs = world.procs
        expected = program.expected[item[0]]
        if item[1] == "waitid" and expected == "ECHILD" and item[2] == 1:
            number = int(str(item[3])[1:]) if str(item[3]).startswith("@") else 0
            if number and procs[number].state == "ghost":
                continue                # the parent waits until it has gone by itself
        effect = world.apply(actor, item)
        if item[1] == "fork" and int(item[3]) & CloneFlag.CLONE_VFORK:
            asleep[int(item[2])] = actor
            if expected is None:
                continue                # looked at when the parent is killed
        for child, parent in list(asleep.items()):
            if procs[parent].state in ("zombie", "ghost"):
                born = [x for x in program.scripts[parent] if x[1] == "fork" and x[2] == child]
                assert program.expected[born[0][0]] is None, program.text()
                del asleep[child]
            elif procs[child].state not in ("run", "stopped") or procs[child].execed:
                procs[parent].waiting = False
                del asleep[child]
        if effect.result is not None and procs[actor].state == "run":
            assert effect.result == expected, program.text()
    assert not asleep, program.text()


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
    told = {line.partition(" code ")[2].split()[0] for line in results if " from @" in line}
    assert told >= {"0", "-1", "-6"}, "kill(), sigqueue(), tgkill()"
    codes = {line.split()[2] for line in results if " status " in line}
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


def test_who_kills_himself_runs_no_handlers_of_others() -> None:
    """A signal to one's own group that ends its sender and runs another's handler cannot be fenced: it is left out."""
    builder = Builder()
    for who, call in ((1, ["fork", 2, 17, "fn"]), (1, ["act", 10, "catch", 0, 0])):
        builder.emit(who, call)
    with pytest.raises(SkipError):
        builder.emit(2, ["kill", 0, 10])
    builder.finish(1)
    program = Program(builder.scripts, builder.expected)
    assert all(ModelRunner(seed).run(program) == program.expected for seed in range(5))


def test_a_signal_that_is_not_waited_for_is_fenced() -> None:
    """Who waits for a signal knows of no other that came later: a child's death while one's own signal is pending."""
    builder = Builder()
    for who, call in (
        (1, ["act", 10, "catch", 0, 0]), (1, ["mask", 0, bit(10) | bit(17)]), (1, ["fork", 2, 17, "fn"]),
        (2, ["fork", 3, 17, "fn"]), (1, ["sigqueue", "@1", 10, 0]), (3, ["sigqueue", "@2", 15, 0]),
        (1, ["suspend", bit(17)]), (0, ["stat", "@2"]),
    ):
        builder.emit(who, call)
    builder.finish(1)
    program = Program(builder.scripts, builder.expected)
    for seed in range(20):
        assert ModelRunner(seed).run(program) == program.expected, seed
