"""Tasklets: asked for, run once, on one CPU at a time, disabled, killed, traced."""

from __future__ import annotations

from typing import Any

import pytest
from kernel_calls import in_an_interrupt, in_kernel, new_line

from bare import ALL, world
from taskscope.model import machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.interrupt import (
    TASKLET_STATE_RUN,
    TASKLET_STATE_SCHED,
    TaskletStruct,
)
from taskscope.model.kernel import kthread, printk, softirq
from taskscope.model.kernel.sched import core

MS = 1_000_000


def settle(sys: Any) -> None:
    """Let a program compute for a while."""
    sys.run_for(20 * MS)


@pytest.mark.parametrize("flavour", ALL)
def test_a_tasklet_that_is_asked_for_twice_runs_once(flavour: str) -> None:
    """tasklet_schedule() of a tasklet that is on a list already changes nothing."""
    ran: list[tuple[Any, int, bool, bool]] = []

    def function(data: Any) -> None:
        ran.append((data, machine.cur.cpu.preempt_count, preempt.in_serving_softirq(), machine.cur.cpu.irqs_off))

    def twice() -> None:
        for _ in range(2):
            softirq.tasklet_schedule(t)
        assert t.state == TASKLET_STATE_SCHED

    def scenario(sys: Any) -> int:
        in_an_interrupt(twice)
        settle(sys)
        return t.state

    t = TaskletStruct(function, "data")
    with world(flavour) as w:
        assert w.run(scenario) == 0
    assert ran == [("data", 0x100, True, False)]


def test_a_callback_gets_the_tasklet() -> None:
    """A tasklet made by tasklet_setup() gets itself, one made by tasklet_init() its data."""
    got: list[Any] = []
    one, two = TaskletStruct(got.append, None), TaskletStruct(got.append, None)
    softirq.tasklet_setup(one, got.append)
    softirq.tasklet_init(two, got.append, 7)

    def both() -> None:
        softirq.tasklet_schedule(one)
        softirq.tasklet_schedule(two)

    def scenario(sys: Any) -> None:
        in_an_interrupt(both)
        settle(sys)

    with world() as w:
        w.run(scenario)
    assert got == [one, 7]


def test_hi_tasklets_come_first() -> None:
    """HI_SOFTIRQ is vector 0: its tasklets run before all others, TIMER and TASKLET too."""
    order: list[str] = []

    def ask() -> None:
        softirq.tasklet_schedule(TaskletStruct(order.append, "low"))
        softirq.open_softirq(5, lambda: order.append("irq_poll"))
        softirq.raise_softirq_irqoff(5)
        softirq.tasklet_hi_schedule(TaskletStruct(order.append, "high"))

    def scenario(sys: Any) -> None:
        in_an_interrupt(ask)
        settle(sys)

    with world() as w:
        w.run(scenario)
    assert order == ["high", "irq_poll", "low"]


def test_a_tasklet_can_ask_for_itself() -> None:
    """What is asked for while a tasklet runs comes afterwards, in the next round."""
    ran: list[int] = []

    def again(data: Any) -> None:
        ran.append(t.state)
        if len(ran) < 3:
            softirq.tasklet_schedule(t)
            assert t.state == TASKLET_STATE_RUN | TASKLET_STATE_SCHED

    def scenario(sys: Any) -> None:
        in_an_interrupt(lambda: softirq.tasklet_schedule(t))
        settle(sys)

    t = TaskletStruct(again, None)
    with world() as w:
        w.run(scenario)
    assert ran == [TASKLET_STATE_RUN] * 3


def test_a_tasklet_runs_on_one_cpu_at_a_time() -> None:
    """A tasklet that is asked for on another CPU while it runs waits there until it is done."""
    spans: list[tuple[int, int, int]] = []

    def slow(data: Any) -> None:
        m = machine.cur
        begin, cpu = m.now, m.cpu.id
        m.run_for(2 * MS)
        spans.append((begin, m.now, cpu))

    def scenario(sys: Any) -> None:
        for n in range(2):
            desc = new_line(60 + n)
            assert desc.irq_data.line is not None
            desc.irq_data.line.cpu = n
            in_an_interrupt(lambda: softirq.tasklet_schedule(t), 60 + n)
            sys.nanosleep(500_000)
        sys.nanosleep(30 * MS)

    t = TaskletStruct(slow, None)
    with world(cpus=2) as w:
        w.run(scenario)
    assert [cpu for _, _, cpu in spans] == [0, 1]
    assert spans[0][1] <= spans[1][0]


@pytest.mark.parametrize("flavour", ALL)
def test_a_disabled_tasklet_stays_on_its_list(flavour: str) -> None:
    """While tasklet_disable() holds it does not run; after as many tasklet_enable() it does."""
    ran: list[int] = []

    def scenario(sys: Any) -> list[Any]:
        in_kernel(softirq.tasklet_disable, t)
        in_kernel(softirq.tasklet_disable_nosync, t)
        in_an_interrupt(lambda: softirq.tasklet_schedule(t))
        out = []
        for _ in range(2):
            sys.run_for(30 * MS)
            out.append((len(ran), t.state))
            in_kernel(softirq.tasklet_enable, t)
        sys.run_for(30 * MS)
        return [*out, (len(ran), t.state)]

    t = TaskletStruct(lambda data: ran.append(1), None)
    with world(flavour, cpus=2) as w:
        assert w.run(scenario) == [(0, TASKLET_STATE_SCHED), (0, TASKLET_STATE_SCHED), (1, 0)]


def test_tasklet_disable_waits_for_the_one_that_runs() -> None:
    """tasklet_disable() returns when the tasklet that runs on another CPU is done; _nosync() at once."""

    def slow(data: Any) -> None:
        machine.cur.run_for(3 * MS)
        done.append(machine.cur.now)

    def scenario(sys: Any) -> None:
        sys.sched_setaffinity(0, [1])
        in_an_interrupt(lambda: softirq.tasklet_schedule(t))
        sys.run_for(MS)
        in_kernel(softirq.tasklet_disable_nosync, t)
        assert not done
        in_kernel(softirq.tasklet_disable, t)
        assert done

    done: list[int] = []
    t = TaskletStruct(slow, None)
    with world(cpus=2) as w:
        w.run(scenario)


@pytest.mark.parametrize("flavour", ALL)
def test_tasklet_kill_waits_for_its_last_run(flavour: str) -> None:
    """After tasklet_kill() the tasklet has run and is on no list; from v5.13 on the caller sleeps meanwhile."""
    ran: list[int] = []
    states: list[int] = []

    def scenario(sys: Any) -> None:
        in_kernel(softirq.tasklet_disable, t)
        in_an_interrupt(lambda: softirq.tasklet_schedule(t))
        sys.run_for(MS)
        m, current = machine.cur, machine.cur.cpu.curr
        m.at(m.now + 5 * MS, lambda _: states.append(current.state))
        m.at(m.now + 10 * MS, lambda _: setattr(t, "count", 0))
        in_kernel(softirq.tasklet_kill, t)
        assert ran == [1]
        assert t.state == 0

    t = TaskletStruct(lambda data: ran.append(1), None)
    with world(flavour, cpus=2) as w:
        w.run(scenario)
    assert states == [0 if flavour == "4.19-arm" else 2]


def test_tasklets_are_traced_where_the_kernel_does() -> None:
    """tasklet_entry and tasklet_exit stand around the function on 6.1 and 6.18, and name it; 4.19 has none."""
    import taskscope

    for flavour in ALL:
        with taskscope.boot(cpus=1, flavour=flavour) as k:
            if flavour == "4.19-arm":
                with pytest.raises(taskscope.errors.UsageError):
                    k.trace("irq:tasklet_entry")
                continue
            k.trace("irq:*")
            t = TaskletStruct(core.resched_cpu, 0)
            with k.probe("hrtimer_interrupt", lambda *_, t=t: softirq.tasklet_schedule(t)):
                k.run(s=0.01)
            log = k.read("/sys/kernel/tracing/trace").decode().splitlines()
            lines = [line for line in log if "action=TASKLET" in line or "tasklet=" in line]
            events = [line.split(": ")[1] for line in lines]
            first = events.index("softirq_entry")
            assert events[first : first + 4] == ["softirq_entry", "tasklet_entry", "tasklet_exit", "softirq_exit"]
            assert any("function=resched_cpu" in line for line in lines)


def test_a_tasklet_without_its_bit_is_told() -> None:
    """A tasklet on a list whose bit was taken away is complained of in the log, and not run."""
    ran: list[int] = []

    def ask() -> None:
        softirq.tasklet_schedule(t)
        t.state = 0

    def scenario(sys: Any) -> None:
        in_an_interrupt(ask)
        settle(sys)

    t = TaskletStruct(ran.append, 1)
    with world() as w:
        w.run(scenario)
        with w.current():
            assert "tasklet SCHED state not set" in printk.dmesg()
    assert not ran


def test_kthreads_can_wait_for_tasklets() -> None:
    """A kernel thread that kills a tasklet goes on when it has run."""
    ended: list[int] = []

    def thread(data: Any) -> int:
        softirq.tasklet_schedule(t)
        softirq.tasklet_kill(t)
        ended.append(t.state)
        return 0

    def scenario(sys: Any) -> None:
        in_kernel(kthread.kthread_run, thread, None, "killer")
        sys.nanosleep(50 * MS)

    t = TaskletStruct(lambda data: None, None)
    with world("6.18-x86_64", bare=False) as w:
        w.run(scenario)
    assert ended == [0]
