"""Programs of processes on the executable kernel: as on the host, under every schedule, and nothing is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truth_strategies import STEP_LISTS

from taskscope.labs.truth import build
from taskscope.labs.truth.host import HostRunner, best_mode
from taskscope.labs.truth.invariants import Watch
from taskscope.labs.truth.model import ModelRunner
from taskscope.labs.truth.program import Program, Transcript
from taskscope.model import flavours, machine
from taskscope.model.init import main as init_main

SCHEDULES = 20
FLAVOURS = ("4.19-arm", "6.1-x86_64", "6.18-x86_64")


def may_be_root() -> bool:
    """Tell whether programs may become other users' on the host."""
    return os.getuid() == 0 and best_mode() == "pid"


def told(program: Program, lines: Transcript) -> str:
    """What a failing test shows."""
    return program.text(program.expected, lines, fences=True)


@pytest.mark.limit(180)
def test_the_model_does_what_the_host_does() -> None:
    """500 random programs give on the model, under 20 schedules between them, the transcripts that the host gives."""
    root = may_be_root()
    programs = [build.program(f"truth {n}", root=root) for n in range(500)]
    with HostRunner() as host:
        real = list(host.run_all(programs))
    for schedule in range(SCHEDULES):
        mine = slice(schedule, None, SCHEDULES)
        runner = ModelRunner(schedule, cpus=1 + schedule % 3)
        for program, lines, truth in zip(programs[mine], runner.run_all(programs[mine]), real[mine], strict=True):
            assert lines == truth, told(program, lines)
            assert truth == program.expected, told(program, truth)


@pytest.mark.limit(180)
def test_twenty_schedules_give_one_transcript() -> None:
    """A program gives the same transcript under each of 20 schedules."""
    programs = [build.program(f"schedules {n}", root=True) for n in range(25)]
    for schedule in range(SCHEDULES):
        for program, lines in zip(programs, ModelRunner(schedule).run_all(programs), strict=True):
            assert lines == program.expected, f"schedule {schedule}\n{told(program, lines)}"


@settings(max_examples=60, deadline=None)
@given(STEP_LISTS, st.integers(0, SCHEDULES - 1), st.sampled_from(FLAVOURS), st.integers(1, 4))
def test_the_model_agrees_on_what_hypothesis_finds(
    steps: list[build.Step], schedule: int, flavour: str, cpus: int
) -> None:
    """No list of steps makes a program that the model runs otherwise than the reference, whatever the machine."""
    program = build.build(steps, root=True)
    lines = ModelRunner(schedule, flavour=flavour, cpus=cpus).run(program)
    assert lines == program.expected, told(program, lines)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_flavours_agree(flavour: str) -> None:
    """Every flavour gives the transcripts of the reference: programs do not see what differs between the kernels."""
    programs = [build.program(f"flavour {n}", root=True) for n in range(30)]
    for program, lines in zip(programs, ModelRunner(3, flavour=flavour).run_all(programs), strict=True):
        assert lines == program.expected, told(program, lines)


def test_schedules_differ() -> None:
    """Seeds make different schedules of one program: switches come at other times, and other numbers of them."""
    program = build.program("schedules 3", root=True)
    seen = set()
    for schedule in range(SCHEDULES):
        switches: list[Any] = []
        m = machine.Machine(flavours.flavour("4.19-arm"), 2, 100, schedule, 256 << 20)
        runner = _Recording(schedule, switches)
        assert runner.run(program) == program.expected
        m.close()
        seen.add(tuple(switches))
    assert len(seen) > SCHEDULES // 2


class _Recording(ModelRunner):
    """A runner whose watch notes who is switched to."""

    def __init__(self, schedule: int, switches: list[Any]) -> None:
        super().__init__(schedule)
        self.switches = switches

    def watch(self, m: machine.Machine) -> Watch:
        """See `ModelRunner.watch`."""
        from taskscope.model.include.linux.tracepoint import tracepoint_probe_register

        tracepoint_probe_register(m.tp, "sched_switch", _note, self.switches)
        return super().watch(m)


def _note(switches: list[Any], preempt: bool, prev: Any, next: Any) -> None:
    switches.append((machine.cur.cpu.id, next.pid))


# ---- the invariants do find what is wrong --------------------------------------------------------------------


def broken_child(m: machine.Machine) -> None:
    """A child forgets whose it is."""
    m.kthreadd_task.real_parent = m.kthreadd_task


def broken_list(m: machine.Machine) -> None:
    """A pointer back leads elsewhere."""
    node = m.init_task.tasks.next
    node.prev = node


def broken_queue(m: machine.Machine) -> None:
    """A sleeping task says that it is queued."""
    m.kthreadd_task.on_rq = 1


def broken_count(m: machine.Machine) -> None:
    """A count is one too high."""
    m.nr_threads += 1


def broken_reference(m: machine.Machine) -> None:
    """A reference is not given back."""
    assert m.kthreadd_task.sighand is not None
    m.kthreadd_task.sighand.count += 1


def broken_preempt(m: machine.Machine) -> None:
    """A preempt_disable() has no preempt_enable()."""
    m.cpu.preempt_count += 1


def broken_pid(m: machine.Machine) -> None:
    """A number in use is free."""
    del m.init_pid_ns.idr[2]


@pytest.mark.parametrize("breakage", [
    broken_child, broken_list, broken_queue, broken_count, broken_reference, broken_preempt, broken_pid,
])
def test_what_is_broken_is_found(breakage: Callable[[machine.Machine], None]) -> None:
    """A kernel with one thing wrong does not pass the check that it passed before."""
    m = machine.Machine(flavours.flavour("4.19-arm"), 1, 100, 0, 64 << 20)
    found: list[str] = []

    def program(sys: Any, argv: list[str]) -> None:
        watch = Watch(m)
        watch.check()
        breakage(m)
        try:
            watch.check()
        except AssertionError as error:
            found.append(str(error))
        m.stop()
        sys.pause()

    init_main.power_on(m, bare=True, program=program)
    with pytest.MonkeyPatch.context():
        try:
            m.run_until(10**10)
        except AssertionError:
            assert found, "the kernel noticed before the watch did"
    assert len(found) == 1, breakage.__doc__
    m.close()


def test_a_leak_is_found() -> None:
    """A program after which something is left on the machine does not pass."""
    program = Program([[[0, "fork", 1, 17, "fn"], [1, "wait4", "@1", 0]], [[2, "exit", 0]]], ["@1", "@1 0x0000", None])
    assert ModelRunner().run(program) == program.expected
    left = Program([[[0, "fork", 1, 17, "fn"]], []], ["@1"])
    lines = ModelRunner().run(left)
    assert "left behind" in str(lines[-1])
    assert "task_struct" in str(lines[-1])


def test_a_program_that_hangs_is_told() -> None:
    """A program that waits for a token that nobody sends ends with the machine's patience, and the next one runs."""
    hangs = Program([[[0, "fork", 1, 17, "fn"], [-1, "await", 3]], []], ["@1"])
    good = build.program("after")
    first, second = ModelRunner().run_all([hangs, good])
    assert str(first[-1]).startswith("not at its end")
    assert second == good.expected
