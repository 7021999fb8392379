"""Interrupt lines: requesting, sharing, masking, threads, disabling, what nobody handles, and what /proc shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import Device, handler, in_kernel, new_line, sys_text, thread_fn

from bare import ALL, world
from taskscope.model import irqline, machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.interrupt import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQF_ONESHOT,
    IRQF_SHARED,
)
from taskscope.model.include.linux.irqdesc import IRQD_IRQ_DISABLED, IRQD_IRQ_MASKED
from taskscope.model.kernel import printk
from taskscope.model.kernel.irq import manage, spurious

MS = 1_000_000


# ---- handlers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_a_handler_runs_in_hard_interrupt_context(flavour: str) -> None:
    """While a handler runs preempt_count has HARDIRQ_OFFSET and interrupts are off; afterwards all is as before."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line())
        assert in_kernel(manage.request_irq, 60, handler, 0, "device", dev) == 0
        before = machine.cur.cpu.preempt_count
        dev.interrupt(after=MS)
        sys.run_for(2 * MS)
        return before, dev.seen, machine.cur.cpu.preempt_count, dev.desc.kstat_irqs

    with world(flavour) as w:
        before, seen, after, counts = w.run(scenario)
    [(_, _, count, irqs_off, in_irq, in_interrupt)] = seen
    assert (before, count, after) == (0, 0x10000, 0)
    assert irqs_off
    assert in_irq
    assert in_interrupt
    assert counts == [1]


@pytest.mark.parametrize("flavour", ALL)
def test_what_comes_while_interrupts_are_off_comes_once_when_they_are_on(flavour: str) -> None:
    """Two interrupts of one line that come while the CPU takes none are one interrupt afterwards."""

    def scenario(sys: Any) -> int:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, handler, 0, "device", dev)
        in_kernel(closed, dev)
        sys.run_for(MS)
        return len(dev.seen)

    def closed(dev: Device) -> None:
        preempt.local_irq_disable()
        dev.interrupt()
        dev.interrupt(after=10_000)
        machine.cur.run_for(MS)
        assert not dev.seen
        preempt.local_irq_enable()

    with world(flavour) as w:
        assert w.run(scenario) == 1


def test_a_level_line_interrupts_until_its_device_is_served() -> None:
    """A handler that does not serve the device of a level line is called again as soon as it returns."""

    def scenario(sys: Any) -> int:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, stubborn, 0, "device", dev)
        dev.interrupt()
        sys.run_for(MS)
        return len(dev.seen)

    def stubborn(irq: int, dev: Device) -> int:
        dev.seen.append(0)
        if len(dev.seen) == 5:
            dev.serve()
        return IRQ_HANDLED

    with world("4.19-arm") as w:
        assert w.run(scenario) == 5


@pytest.mark.parametrize("flavour", ALL)
def test_a_shared_line_asks_all_its_handlers(flavour: str) -> None:
    """Each handler of a shared line is called; the one whose device it was not returns IRQ_NONE."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        first, second = Device(desc), Device(desc)
        assert in_kernel(manage.request_irq, 60, handler, IRQF_SHARED, "one", first) == 0
        assert in_kernel(manage.request_irq, 60, handler, IRQF_SHARED, "two", second) == 0
        second.interrupt()
        sys.run_for(MS)
        shown = [line for line in sys_text("/proc/interrupts") if line.lstrip().startswith("60:")]
        return len(first.seen), len(second.seen), shown, desc.irqs_unhandled

    with world(flavour) as w:
        first, second, shown, unhandled = w.run(scenario)
    assert (first, second, unhandled) == (0, 1, 0)
    assert shown[0].endswith("  one, two")


def test_who_may_share_a_line() -> None:
    """All or nobody shares, with equal flags and a dev_id to tell them apart; a line that is not there is EINVAL."""

    def scenario(sys: Any) -> list[Any]:
        desc = new_line()
        a, b = Device(desc), Device(desc)
        ask = manage.request_threaded_irq
        return [
            in_kernel(ask, 60, handler, None, IRQF_SHARED, "no dev_id", None),
            in_kernel(ask, 61, handler, None, 0, "no line", a),
            in_kernel(ask, 162, handler, None, 0, "the CPUs' timer", a),
            in_kernel(ask, 60, None, None, 0, "neither", a),
            in_kernel(ask, 60, None, thread_fn, 0, "thread alone, not oneshot", a),
            in_kernel(ask, 60, handler, None, 0, "a", a),
            in_kernel(ask, 60, handler, None, IRQF_SHARED, "b", b),
            in_kernel(manage.free_irq, 60, a),
            in_kernel(ask, 60, handler, None, IRQF_SHARED, "b", b),
            in_kernel(ask, 60, handler, thread_fn, IRQF_SHARED | IRQF_ONESHOT, "a", a),
            in_kernel(manage.free_irq, 60, a),
            len([t for t in w.tasks() if t.comm.startswith("irq/")]),
        ]

    with world("4.19-arm") as w:
        inval, busy = -22, -16
        assert w.run(scenario) == [inval, inval, inval, inval, inval, 0, busy, "a", 0, busy, None, 0]
        with w.current():
            log = printk.dmesg()
    assert "Flags mismatch irq 60. 00000080 (b) vs. 00000000 (a)" in log
    assert "Threaded irq requested with handler=NULL and !ONESHOT" in log
    assert "Trying to free already-free IRQ 60" in log


def test_a_handler_that_enables_interrupts_is_told_off() -> None:
    """Interrupts are off again after a handler that has enabled them, and the log says who it was."""

    def scenario(sys: Any) -> None:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, careless, 0, "device", dev)
        dev.interrupt()
        sys.run_for(MS)

    def careless(irq: int, dev: Device) -> int:
        preempt.local_irq_enable()
        dev.serve()
        return IRQ_HANDLED

    with world() as w:
        w.run(scenario)
        with w.current():
            assert "irq 60 handler careless enabled interrupts" in printk.dmesg()


def test_hard_interrupts_nest_only_where_a_handler_lets_them() -> None:
    """An interrupt that comes during a handler waits for its end, and nests if the handler enables interrupts."""

    def scenario(sys: Any) -> Any:
        slow, quick = Device(new_line(60)), Device(new_line(61))
        in_kernel(manage.request_irq, 60, long, 0, "slow", slow)
        in_kernel(manage.request_irq, 61, handler, 0, "quick", quick)
        out = []
        for enable in (False, True):
            slow.answer = enable  # type: ignore[assignment]
            slow.interrupt()
            quick.interrupt(after=100_000)
            sys.run_for(2 * MS)
            out.append((quick.seen[-1][2], quick.seen[-1][0] < slow.seen[-1]))
        return out

    def long(irq: int, dev: Device) -> int:
        dev.serve()
        if dev.answer:
            preempt.local_irq_enable()
        machine.cur.run_for(MS)
        preempt.local_irq_disable()
        dev.seen.append(machine.cur.now)
        return IRQ_HANDLED

    with world() as w:
        assert w.run(scenario) == [(0x10000, False), (0x20000, True)]


# ---- disabling and freeing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_disable_irq_nests_and_loses_nothing(flavour: str) -> None:
    """An interrupt that comes while the line is disabled is handled when the last enable_irq() is called, once."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc)
        in_kernel(manage.request_irq, 60, handler, 0, "device", dev)
        in_kernel(manage.disable_irq, 60)
        in_kernel(manage.disable_irq, 60)
        # Lazy: only what comes masks the line.
        lazy = bool(desc.irq_data.state & IRQD_IRQ_DISABLED), bool(desc.irq_data.state & IRQD_IRQ_MASKED)
        dev.interrupt()
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(MS)
        masked, seen = bool(desc.irq_data.state & IRQD_IRQ_MASKED), [len(dev.seen)]
        in_kernel(manage.enable_irq, 60)
        sys.run_for(MS)
        seen.append(len(dev.seen))
        in_kernel(manage.enable_irq, 60)
        sys.run_for(MS)
        seen.append(len(dev.seen))
        in_kernel(manage.enable_irq, 60)
        return lazy, masked, seen, sum(desc.kstat_irqs)

    # The Pi's lines are not marked as level: the kernel sends again what the line itself repeats; one finds nothing.
    counted = 2 if flavour == "4.19-arm" else 1
    with world(flavour) as w:
        assert w.run(scenario) == ((True, False), True, [0, 0, 1], counted)
        with w.current():
            assert "Unbalanced enable for IRQ 60" in printk.dmesg()


def test_disable_irq_waits_for_the_thread() -> None:
    """disable_irq() returns when the thread is done; disable_irq_nosync() at once."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line(), IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        sys.run_for(MS)
        out = []
        for call in (manage.disable_irq_nosync, manage.disable_irq):
            dev.thread_seen.clear()
            dev.interrupt()
            sys.run_for(1_000)
            in_kernel(call, 60)
            out.append(len(dev.thread_seen))
            sys.run_for(5 * MS)
            in_kernel(manage.enable_irq, 60)
        return out

    with world(cpus=2) as w:
        assert w.run(scenario) == [0, 1]


def test_free_irq_stops_the_thread_and_shuts_the_line_down() -> None:
    """After free_irq() there is neither thread nor handler, and an interrupt of the device reaches nobody."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc, IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(1_000)
        name = in_kernel(manage.free_irq, 60, dev)
        dev.interrupt()
        sys.run_for(MS)
        return name, len(dev.seen), [t.comm for t in w.tasks() if t.comm.startswith("irq/")], desc.action

    with world(cpus=2) as w:
        assert w.run(scenario) == ("device", 1, [], None)


# ---- what nobody handles -----------------------------------------------------------------------------------


def test_a_line_that_nobody_handles_is_switched_off() -> None:
    """After 100,000 interrupts of which more than 99,900 were handled by nobody: "nobody cared", and polling."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc)
        in_kernel(manage.request_irq, 60, handler, IRQF_SHARED, "device", dev)
        for _ in range(99_999):
            spurious.note_interrupt(desc, IRQ_NONE)
        before = bool(desc.irq_data.state & IRQD_IRQ_DISABLED)
        assert dev.line is not None
        irqline.pulse(dev.line)
        sys.run_for(MS)
        after = bool(desc.irq_data.state & IRQD_IRQ_DISABLED)
        # The device is looked after by a timer from now on.
        dev.interrupt()
        sys.run_for(300 * MS)
        return before, after, [(count, in_irq) for _, _, count, _, in_irq, _ in dev.seen]

    with world() as w:
        before, after, seen = w.run(scenario)
        with w.current():
            log = printk.dmesg()
    assert (before, after) == (False, True)
    assert 'irq 60: nobody cared (try booting with the "irqpoll" option)' in log
    assert "handlers:" in log
    assert "Disabling IRQ #60" in log
    assert seen == [(0x100, False)]


@given(st.lists(st.sampled_from([IRQ_NONE, IRQ_HANDLED, IRQ_WAKE_THREAD]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_threads_are_judged_by_the_next_interrupt(answers: list[int]) -> None:
    """An interrupt that only woke a thread counts as unhandled if no thread has handled any by the next such one."""
    with world() as w:
        w.m.irq_desc_tree = {}
        w.m.irq_descs = []
        w.m.jiffies = 0
        w.m.hz = 1_000_000
        with w.current():
            desc = new_line()
            deferred, expected, last = False, 0, 0
            for n, answer in enumerate(answers):
                desc.threads_handled += n % 3 == 0
                if answer == IRQ_NONE:
                    expected += 1
                elif answer == IRQ_WAKE_THREAD:
                    if deferred:
                        expected += desc.threads_handled == last
                        last = desc.threads_handled if desc.threads_handled != last else last
                    deferred = True
                spurious.note_interrupt(desc, answer)
            assert desc.irqs_unhandled == expected
