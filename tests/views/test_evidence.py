"""Stacks folded to what they tell, and the record behind a line found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taskscope.recording import Recording
from taskscope.views.evidence import Evidence, arrows, essential, plain, wake_function, wchan
from world import World

Make = Callable[..., World]

FORK = ("copy_process", "kernel_clone", "__do_sys_clone", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
SLEEP = (
    "__schedule", "schedule", "do_nanosleep", "hrtimer_nanosleep", "__x64_sys_clock_nanosleep", "do_syscall_64",
    "entry_SYSCALL_64_after_hwframe",
)  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        ("__x64_sys_clone", "sys_clone"),
        ("__se_sys_exit_group", "sys_exit_group"),
        ("__s390x_sys_wait4", "sys_wait4"),
        ("__ia32_sys_fork", "sys_fork"),
        ("SyS_fork", "sys_fork"),
        ("do_execveat_common.isra.0", "do_execveat_common"),
        ("load_elf_binary.cold", "load_elf_binary"),
        ("sys_enter_exit", "sys_enter_exit"),
        ("do_exit", "do_exit"),
    ],
)
def test_plain_names(frame: str, name: str) -> None:
    """What the compiler and the system call macros add to a name is left out."""
    assert plain(frame) == name


def test_stacks_read_from_the_outside() -> None:
    """A folded stack goes the way the call went, without entry code, and says where frames are left out."""
    assert essential(FORK) == ["sys_clone", "kernel_clone", "copy_process"]
    assert arrows(FORK) == "sys_clone → kernel_clone → copy_process"
    many = tuple(f"f{k}" for k in range(12))
    folded = essential(many)
    assert folded[:2] == ["f11", "f10"]
    assert folded[-1] == "f0"
    assert "…" in folded
    assert len(folded) == 6
    assert arrows(None) is None
    assert arrows(()) is None


def test_a_stack_of_entry_code_alone_is_still_shown() -> None:
    """Where nothing but entry code is left, that is what is shown."""
    assert essential(("do_syscall_64",)) == ["do_syscall_64"]


def test_where_it_sleeps_and_what_woke_it() -> None:
    """WCHAN is the innermost function that is not the scheduler's; the waker's that is not part of waking."""
    assert wchan(SLEEP) == "do_nanosleep"
    assert wchan(("__schedule", "schedule", "do_wait", "kernel_wait4")) == "do_wait"
    assert wchan(("__schedule", "preempt_schedule_irq", "asm_sysvec_apic_timer_interrupt")) is None
    assert wchan(None) is None
    assert wake_function(("try_to_wake_up", "hrtimer_wakeup", "__hrtimer_run_queues")) == "hrtimer_wakeup"
    assert wake_function(("try_to_wake_up", "__wake_up_common", "pipe_write")) == "pipe_write"


def test_a_record_is_found_by_time_event_and_field(world: Make) -> None:
    """Among records of one stamp the one with the event and the value is taken; none is made up."""
    w = world()
    w.waking(5, 0, ("a", 10))
    w.waking(5, 0, ("b", 11))
    w.wakeup(5, 1, ("b", 11))
    trace = w.open()
    evidence = Evidence(trace)
    row = evidence.find(w.ns(5), None, ("sched_waking",), {"pid": 11})
    assert row is not None
    assert (evidence.name(row), evidence.value(row, "pid")) == ("sched_waking", 11)
    first = evidence.find(w.ns(5), None, ("sched_wakeup", "sched_waking"), {"pid": 11})
    assert first is not None
    assert evidence.name(first) == "sched_wakeup"
    assert evidence.find(w.ns(5), 0, ("sched_wakeup",)) is None
    assert evidence.find(w.ns(6), None, ("sched_waking",)) is None
    assert evidence.find(None, None, ("sched_waking",)) is None
    assert evidence.find(w.ns(5), None, ("sched_waking",), {"pid": 12}) is None


def test_interrupt_context(data: Path) -> None:
    """A record written in a softirq says so: sched_process_free comes from an RCU callback."""
    trace = Recording.open(data / "d05-zombie.dat")
    evidence = Evidence(trace)
    rows = trace.rows("sched_process_free").tolist()
    assert rows
    assert {evidence.irq(r) for r in rows} == {"softirq"}
    assert evidence.irq(trace.rows("sched_process_exit").tolist()[0]) is None
    text = evidence.text(rows[0])
    assert "sched_process_free: comm=" in text[0]
