"""Softirqs and tasklets: when they run, where, how long, and what holds them back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import Device, in_kernel, new_line

from bare import ALL, world
from taskscope.model import machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.interrupt import (
    IRQ_HANDLED,
    TASKLET_STATE_RUN,
    TASKLET_STATE_SCHED,
    TaskletStruct,
)
from taskscope.model.kernel import kthread, printk, softirq
from taskscope.model.kernel.irq import manage
from taskscope.model.kernel.sched import core

MS = 1_000_000


def in_an_interrupt(function: Any, irq: int = 60) -> None:
    """Let a function be called by a handler, and all that comes of it happen."""

    def call(irq: int, dev: Device) -> int:
        dev.serve()
        function()
        return IRQ_HANDLED

    m = machine.cur
    if irq not in m.irq_desc_tree:
        new_line(irq)
    dev = Device(m.irq_desc_tree[irq])
    in_kernel(manage.request_irq, irq, call, 0, "device", dev)
    dev.interrupt()


def settle(sys: Any) -> None:
    """Let a program compute for a while."""
    sys.run_for(20 * MS)


# ---- tasklets ----------------------------------------------------------------------------------------------


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


# ---- holding back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_softirqs_wait_for_local_bh_enable(flavour: str) -> None:
    """An interrupt's softirq waits while softirqs are disabled, and runs in local_bh_enable(), in the task."""
    ran: list[tuple[int, str]] = []

    def section() -> list[int]:
        m = machine.cur
        softirq.local_bh_disable()
        softirq.local_bh_disable()
        counts = [m.cpu.preempt_count]
        m.run_for(5 * MS)
        counts.append(len(ran))
        softirq.local_bh_enable()
        counts.append(len(ran))
        softirq.local_bh_enable()
        return [*counts, len(ran), m.cpu.preempt_count]

    def scenario(sys: Any) -> list[int]:
        softirq.open_softirq(5, lambda: ran.append((machine.cur.cpu.preempt_count, machine.cur.cpu.curr.comm)))
        dev = Device(new_line(61))
        in_kernel(manage.request_irq, 61, raiser, 0, "device", dev)
        dev.interrupt(after=MS)
        return list(in_kernel(section))

    def raiser(irq: int, dev: Device) -> int:
        dev.serve()
        softirq.raise_softirq_irqoff(5)
        return IRQ_HANDLED

    with world(flavour) as w:
        assert w.run(scenario) == [0x400, 0, 0, 1, 0]
    assert ran == [(0x101, "init")]


def test__local_bh_enable_runs_nothing() -> None:
    """_local_bh_enable() lets softirqs run again and leaves what is raised to whoever comes next."""

    def section() -> tuple[int, int]:
        softirq.__local_bh_disable_ip(preempt.SOFTIRQ_DISABLE_OFFSET)
        softirq.raise_softirq(5)
        preempt.local_irq_disable()
        softirq._local_bh_enable()
        seen = machine.cur.cpu.softirq_pending >> 5 & 1, machine.cur.cpu.preempt_count
        preempt.local_irq_enable()
        return seen

    def scenario(sys: Any) -> tuple[int, int]:
        softirq.open_softirq(5, lambda: None)
        return tuple(in_kernel(section))  # type: ignore[return-value]

    with world() as w:
        assert w.run(scenario) == (1, 0)


@given(st.lists(st.sampled_from(["disable", "enable", "raise", "irq"]), max_size=30))
@settings(max_examples=60, deadline=None)
def test_softirqs_run_exactly_when_they_may(steps: list[str]) -> None:
    """However sections nest: what is raised runs when the outermost section ends, or on the way out of an interrupt."""
    ran: list[int] = []

    def section() -> None:
        m = machine.cur
        depth = 0
        pending = False
        for step in steps:
            before = len(ran)
            if step == "disable":
                softirq.local_bh_disable()
                depth += 1
            elif step == "enable":
                if not depth:
                    continue
                softirq.local_bh_enable()
                depth -= 1
                assert len(ran) - before == (pending and not depth)
                pending = pending and depth > 0
            elif step == "raise" and depth:
                softirq.raise_softirq(5)
                pending = True
            elif step == "irq":
                m.cpu.irqs_off = True
                softirq.irq_enter()
                softirq.raise_softirq_irqoff(5)
                softirq.irq_exit()
                m.cpu.irqs_off = False
                assert len(ran) - before == (not depth)
                pending = pending or depth > 0
            assert m.cpu.preempt_count == depth * 0x200
        while depth:
            softirq.local_bh_enable()
            depth -= 1

    def scenario(sys: Any) -> None:
        softirq.open_softirq(5, lambda: ran.append(machine.cur.cpu.preempt_count))
        in_kernel(section)

    with world() as w:
        w.run(scenario)
    assert all(count & 0xFF00 == 0x100 for count in ran)


# ---- nesting and time --------------------------------------------------------------------------------------


def test_a_hard_interrupt_interrupts_a_softirq_and_its_softirq_waits() -> None:
    """During a softirq interrupts come (H), and what they raise runs after it, never inside of it."""
    order: list[tuple[str, int]] = []

    def slow() -> None:
        order.append(("slow", machine.cur.cpu.preempt_count))
        machine.cur.run_for(2 * MS)
        order.append(("slow ends", machine.cur.cpu.preempt_count))

    def quick(irq: int, dev: Device) -> int:
        dev.serve()
        order.append(("irq", machine.cur.cpu.preempt_count))
        softirq.raise_softirq_irqoff(4)
        return IRQ_HANDLED

    def scenario(sys: Any) -> None:
        softirq.open_softirq(5, slow)
        softirq.open_softirq(4, lambda: order.append(("quick", machine.cur.cpu.preempt_count)))
        dev = Device(new_line(61))
        in_kernel(manage.request_irq, 61, quick, 0, "quick", dev)
        in_an_interrupt(lambda: softirq.raise_softirq_irqoff(5))
        dev.interrupt(after=MS)
        sys.run_for(10 * MS)

    with world() as w:
        w.run(scenario)
    assert order == [("slow", 0x100), ("irq", 0x1_0100), ("slow ends", 0x100), ("quick", 0x100)]


@pytest.mark.parametrize("flavour", ALL)
def test_time_ends_the_rounds(flavour: str) -> None:
    """Softirqs that take long are left to ksoftirqd after 2 ms, in whole jiffies, though rounds are left."""
    ran: list[tuple[int, str]] = []

    def slow() -> None:
        m = machine.cur
        ran.append((m.now, m.cpu.curr.comm))
        m.cost(3 * MS)
        if len(ran) < 12:
            softirq.raise_softirq(5)

    def scenario(sys: Any) -> None:
        softirq.open_softirq(5, slow)
        in_an_interrupt(lambda: softirq.raise_softirq_irqoff(5))
        sys.nanosleep(200 * MS)

    with world(flavour, bare=False) as w:
        w.run(scenario)
        tick = w.m.tick_nsec
    inline = [now for now, comm in ran if not comm.startswith("ksoftirqd")]
    assert 1 <= len(inline) < 10
    assert inline[-1] // tick <= inline[0] // tick + 1
    assert {comm for _, comm in ran[len(inline) :]} == {"ksoftirqd/0"}


def test_a_due_reschedule_ends_the_rounds() -> None:
    """With TIF_NEED_RESCHED set what is raised again is left to ksoftirqd at once."""
    ran: list[str] = []

    def raiser() -> None:
        ran.append(machine.cur.cpu.curr.comm)
        if len(ran) < 3:
            core.resched_cpu(0)
            softirq.raise_softirq(5)

    def scenario(sys: Any) -> None:
        softirq.open_softirq(5, raiser)
        in_an_interrupt(lambda: softirq.raise_softirq_irqoff(5))
        sys.run_for(50 * MS)

    with world(bare=False) as w:
        w.run(scenario)
    assert ran == ["init", "ksoftirqd/0", "ksoftirqd/0"]


@pytest.mark.parametrize("flavour", ALL)
def test_whether_interrupts_wait_for_ksoftirqd(flavour: str) -> None:
    """While ksoftirqd is runnable interrupts leave their softirqs to it, until v6.5; HI and TASKLET never."""
    where: dict[str, str] = {}

    def section() -> None:
        m = machine.cur
        preempt.preempt_disable()
        softirq.raise_softirq(4)                        # wakes ksoftirqd, which cannot run yet
        assert m.cpu.ksoftirqd is not None
        assert m.cpu.ksoftirqd.state == 0
        m.run_for(5 * MS)
        preempt.preempt_enable()

    def raiser(irq: int, dev: Device) -> int:
        dev.serve()
        softirq.raise_softirq_irqoff(5)
        return IRQ_HANDLED

    def note(name: str) -> None:
        where.setdefault(name, machine.cur.cpu.curr.comm)

    def scenario(sys: Any) -> None:
        softirq.open_softirq(4, lambda: note("block"))
        softirq.open_softirq(5, lambda: note("irq_poll"))
        dev = Device(new_line(61))
        in_kernel(manage.request_irq, 61, raiser, 0, "device", dev)
        dev.interrupt(after=MS)
        in_kernel(section)
        sys.nanosleep(50 * MS)

    with world(flavour, bare=False) as w:
        w.run(scenario)
    expected = "init" if flavour == "6.18-x86_64" else "ksoftirqd/0"
    assert where == {"block": expected, "irq_poll": expected}


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
