"""Softirqs: when they run, where, how long, and what holds them back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import Device, in_an_interrupt, in_kernel, new_line

from bare import ALL, world
from taskscope.model import machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.interrupt import (
    IRQ_HANDLED,
)
from taskscope.model.kernel import softirq
from taskscope.model.kernel.irq import manage
from taskscope.model.kernel.sched import core

MS = 1_000_000


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
