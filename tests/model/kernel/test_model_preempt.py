"""Preemption: the models, where the kernel gives way in each, and what forbids it."""

from __future__ import annotations

from typing import Any

import pytest
from kernel_calls import in_kernel

import taskscope
from bare import world
from interrupt_rules import rows_of
from taskscope.model import machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.spinlock import Spinlock, spin_lock, spin_unlock
from taskscope.model.kernel import softirq
from taskscope.model.kernel.sched import core

MS = 1_000_000
MODELS = ["none", "voluntary", "full"]


def switches_from(model: str, section: Any, flavour: str = "6.1-x86_64") -> list[tuple[str, int]]:
    """Run a section of kernel code while a realtime task wants to run every ms.

    :return: prev_state of each switch from it to that task, and how long (us) the task had waited
    """

    def program(sys: Any, argv: list[str]) -> None:
        in_kernel(section)

    with taskscope.boot(cpus=1, flavour=flavour, preempt=None if flavour == "4.19-arm" else model) as k:
        k.trace("sched:sched_switch", "sched:sched_wakeup")
        k.spawn(alarm, name="alarm")
        k.run(s=0.0105)
        k.write("/sys/kernel/tracing/trace", "")
        k.spawn(program, name="section").wait()
        rows = rows_of(k.read("/sys/kernel/tracing/trace"))
    out = []
    woken = 0.0
    for row in rows:
        time = float(row.text.split(": ")[0].rsplit(maxsplit=1)[1])
        if row.event == "sched_wakeup" and row.value("comm") == "alarm":
            woken = time
        if row.event == "sched_switch" and row.comm == "section" and row.value("next_comm") == "alarm":
            out.append((row.value("prev_state"), round((time - woken) * 1e6)))
    return out


def alarm(sys: Any, argv: list[str]) -> None:
    """Wake up every ms, with realtime priority."""
    sys.sched_setscheduler(0, 1, 50)
    for _ in range(200):
        sys.nanosleep(MS)


def plain() -> None:
    """Compute in the kernel for 5 ms."""
    machine.cur.run_for(5 * MS)


def polite() -> None:
    """The same with cond_resched() each 0.1 ms."""
    for _ in range(50):
        machine.cur.run_for(MS // 10)
        core._cond_resched()


def sleepy() -> None:
    """The same with might_sleep() each 0.1 ms."""
    for _ in range(50):
        machine.cur.run_for(MS // 10)
        core.might_resched()


def locked() -> None:
    """The same with a spinlock held."""
    lock = Spinlock("test")
    spin_lock(lock)
    machine.cur.run_for(5 * MS)
    spin_unlock(lock)


def disabled() -> None:
    """The same with preemption disabled."""
    preempt.preempt_disable()
    machine.cur.run_for(5 * MS)
    preempt.preempt_enable()


def without_softirqs() -> None:
    """The same with softirqs disabled."""
    softirq.local_bh_disable()
    machine.cur.run_for(5 * MS)
    softirq.local_bh_enable()


@pytest.mark.parametrize("model", MODELS)
def test_plain_kernel_code_is_preempted_with_full_only(model: str) -> None:
    """Kernel code with preempt_count 0 loses the CPU at an interrupt's end with preempt=full, else at its own end."""
    seen = switches_from(model, plain)
    states = [state for state, _ in seen]
    if model == "full":
        assert states.count("R+") >= 4
        assert max(wait for _, wait in seen) < 50
    else:
        assert states.count("R+") == 0
        assert max(wait for _, wait in seen) > 3_000


@pytest.mark.parametrize("model", MODELS)
def test_cond_resched_gives_way_without_full(model: str) -> None:
    """cond_resched() gives way with none and voluntary (R+, as the task stays runnable); with full there is no need."""
    seen = switches_from(model, polite)
    assert [state for state, _ in seen].count("R+") >= 4
    assert max(wait for _, wait in seen) < (50 if model == "full" else 250)


@pytest.mark.parametrize("model", MODELS)
def test_might_sleep_gives_way_with_voluntary(model: str) -> None:
    """might_sleep() is a place to give way with voluntary, and none with none."""
    waits = [wait for _, wait in switches_from(model, sleepy)]
    assert (max(waits) > 3_000) == (model == "none")


@pytest.mark.parametrize("section", [locked, disabled, without_softirqs])
@pytest.mark.parametrize("flavour", ["4.19-arm", "6.1-x86_64"])
def test_a_raised_count_forbids_it(flavour: str, section: Any) -> None:
    """With a lock, preemption or softirqs disabled nobody else runs; what was due happens where it is 0 again."""
    seen = switches_from("full", section, flavour)
    assert seen[0][0] == "R+"
    assert seen[0][1] > 3_000


def test_cond_resched_says_whether_others_ran() -> None:
    """cond_resched() returns 1 if it gave way, 0 if nothing was due, it may not, or the kernel preempts itself."""

    def scenario(sys: Any) -> list[int]:
        return list(in_kernel(ask))

    def ask() -> list[int]:
        m = machine.cur
        out = [core._cond_resched()]
        m.cpu.irqs_off = True
        core.resched_cpu(0)
        m.cpu.irqs_off = False
        m.cpu.preempt_count += 1
        out.append(core._cond_resched())
        m.cpu.preempt_count -= 1
        out.append(core._cond_resched())
        out.append(core._cond_resched())
        return out

    with world("6.1-x86_64") as w:
        assert w.run(scenario) == [0, 0, 1, 0]


def test_the_model_is_chosen_at_boot() -> None:
    """A word that is no model is refused in the log, as the kernel does, and changes nothing."""
    with world("6.18-x86_64") as w, w.current() as m:
        assert core.setup_preempt_mode("sometimes") == 0
        assert m.preempt == "voluntary"
        assert core.setup_preempt_mode("none") == 1
        assert (m.preempt, m.kernel_preempt) == ("none", False)
        assert core.setup_preempt_mode("full") == 1
        assert (m.preempt, m.kernel_preempt) == ("full", True)
