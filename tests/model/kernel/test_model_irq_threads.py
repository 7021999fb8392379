"""Threads of interrupts: their halves, oneshot masking, threadirqs; and what /proc and the boot arguments say."""

from __future__ import annotations

from typing import Any

import pytest
from kernel_calls import Device, handler, in_kernel, new_line, sys_text, thread_fn

import taskscope
from bare import ALL, world
from taskscope.errors import UsageError
from taskscope.model import irqline
from taskscope.model.include.linux.interrupt import (
    IRQ_WAKE_THREAD,
    IRQF_ONESHOT,
)
from taskscope.model.include.linux.irqdesc import IRQD_IRQ_MASKED
from taskscope.model.kernel import printk, softirq
from taskscope.model.kernel.irq import irqdesc, manage

MS = 1_000_000


# ---- threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_the_thread_does_the_second_half(flavour: str) -> None:
    """IRQ_WAKE_THREAD runs the thread's function in irq/60-device: SCHED_FIFO 50, in a task's context."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line(), IRQ_WAKE_THREAD)
        assert in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev) == 0
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        [task] = [t for t in w.tasks() if t.comm == "irq/60-device"]
        return dev, (task.policy, task.rt_priority), dev.desc.threads_handled

    with world(flavour) as w:
        dev, priority, handled = w.run(scenario)
    assert priority == (1, 50)
    assert [x[1:4] for x in dev.thread_seen] == [("irq/60-device", True, False)]
    assert handled == 1


def test_a_oneshot_line_stays_masked_until_its_thread_is_done() -> None:
    """A level line with IRQF_ONESHOT does not interrupt again before the thread has served the device."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc, IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        [(*_, masked)] = dev.thread_seen
        return len(dev.seen), masked, bool(desc.irq_data.state & IRQD_IRQ_MASKED), desc.threads_oneshot

    with world("4.19-arm") as w:
        assert w.run(scenario) == (1, (True, 1), False, 0)


def test_without_oneshot_a_level_line_storms() -> None:
    """The same without IRQF_ONESHOT: the handler is called again and again, and the thread cannot begin."""

    def scenario(sys: Any) -> tuple[int, int]:
        dev = Device(new_line())
        in_kernel(manage.request_threaded_irq, 60, calmed, thread_fn, 0, "device", dev)
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        return len(dev.seen), dev.thread_seen[0][4]

    def calmed(irq: int, dev: Device) -> int:
        dev.seen.append((0, 0, 0, True, True, True))
        if len(dev.seen) == 1000:
            dev.serve()
        return IRQ_WAKE_THREAD

    with world("4.19-arm") as w:
        assert w.run(scenario) == (1000, 1000)


def test_the_primary_handler_can_be_left_to_the_kernel() -> None:
    """With handler None and IRQF_ONESHOT the interrupt wakes the thread and nothing else."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line())
        assert in_kernel(manage.request_threaded_irq, 60, None, thread_fn, IRQF_ONESHOT, "device", dev) == 0
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        return dev

    with world() as w:
        assert len(w.run(scenario).thread_seen) == 1


def test_wake_thread_without_a_thread_is_told_once() -> None:
    """IRQ_WAKE_THREAD of a handler that has no thread is a line in the log, once."""

    def scenario(sys: Any) -> None:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, confused, 0, "device", dev)
        for _ in range(3):
            dev.interrupt()
            sys.run_for(MS)

    def confused(irq: int, dev: Device) -> int:
        dev.serve()
        return IRQ_WAKE_THREAD

    with world() as w:
        w.run(scenario)
        with w.current():
            assert printk.dmesg().count("IRQ 60 device device returned IRQ_WAKE_THREAD but no thread function") == 1


@pytest.mark.parametrize("flavour", ALL)
def test_threadirqs_makes_threads_of_handlers(flavour: str) -> None:
    """With threadirqs a handler runs in a thread, softirqs off and since v5.12 interrupts too; two halves in two."""

    def quieting(irq: int, dev: Device) -> int:
        dev.serve()                             # masks the interrupt at the device: the line will not stay masked
        return IRQ_WAKE_THREAD

    with taskscope.boot(cpus=1, flavour=flavour, threadirqs=True) as k:
        with k.current():
            dev, both = Device(new_line(60)), Device(new_line(61), IRQ_WAKE_THREAD)
        out: list[int] = []

        def module(sys: Any, argv: list[str]) -> None:
            out.append(in_kernel(manage.request_irq, 60, handler, 0, "plain", dev))
            out.append(in_kernel(manage.request_threaded_irq, 61, quieting, thread_fn, 0, "both", both))

        k.spawn(module).wait()
        assert out == [0, 0]
        with k.current():
            dev.interrupt()
            both.interrupt(after=2 * MS)
        k.run(s=0.02)
        names = {t.comm: t.rt_priority for t in k.machine_tasks() if t.comm.startswith("irq/6")}
        assert names == {"irq/60-plain": 50, "irq/61-both": 50, "irq/61-s-both": 49}
        [(_, _, count, irqs_off, in_irq, _)] = dev.seen
        assert (count, in_irq) == (0x200, False)
        assert irqs_off == (flavour != "4.19-arm")
        assert [x[1] for x in both.thread_seen] == ["irq/61-s-both"]
        assert k.read("/proc/cmdline") == b"threadirqs\n"
        # The serial port's own handler too: what is typed still arrives.
        terminal = k.terminal()
        terminal.type("echo hello")
        assert "hello\n" in terminal.text


# ---- routing and /proc -------------------------------------------------------------------------------------


def test_affinity_routes_the_line_and_its_thread() -> None:
    """x86's lines go to the CPU that smp_affinity names, and their threads follow; the Pi's controller refuses."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line(), IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        out = []
        for mask in (1, 2):
            ret = in_kernel(manage.irq_set_affinity, 60, mask)
            dev.interrupt()
            sys.nanosleep(5 * MS)
            [task] = [t for t in w.tasks() if t.comm == "irq/60-device"]
            out.append((ret, dev.seen[-1][1], task.cpus_allowed))
        out.append(in_kernel(manage.irq_set_affinity, 60, 4))
        return out, sys_text("/proc/irq/60/smp_affinity") + sys_text("/proc/irq/60/smp_affinity_list")

    with world("6.1-x86_64", cpus=2) as w:
        assert w.run(scenario) == ([(0, 0, 1), (0, 1, 2), -22], ["2", "1"])
    with world("4.19-arm", cpus=2) as w:
        assert w.run(scenario)[0][1] == (-5, 0, 3)


@pytest.mark.parametrize("flavour", ALL)
def test_proc_interrupts_has_the_true_counts(flavour: str) -> None:
    """Each column of /proc/interrupts counts what its CPU took; the table has the kernel's form."""
    with taskscope.boot(cpus=2, flavour=flavour) as k:
        terminal = k.terminal()
        before = interrupts(k)
        for _ in range(3):
            terminal.type("true")
        after = interrupts(k)
        uart = "81" if flavour == "4.19-arm" else "4"
        assert [b - a for a, b in zip(before[uart], after[uart], strict=True)] == [3, 0]
        lines = k.read("/proc/interrupts").decode().splitlines()
        assert lines[0] == "           CPU0       CPU1       "
        text = {
            "4.19-arm": " 86:          0          0  ARMCTRL-level  94 Edge      mmc1",
            "6.1-x86_64": " 25:          0          0  PCI-MSIX-0000:00:02.0   1-edge      virtio0-req.0",
            "6.18-x86_64": " 25:          0          0  PCI-MSIX-0000:00:02.0   1-edge      virtio0-req.0",
        }[flavour]
        assert text in lines


def interrupts(k: taskscope.System) -> dict[str, list[int]]:
    """Return the counts of /proc/interrupts by the first column."""
    rows = [line.split() for line in k.read("/proc/interrupts").decode().splitlines()[1:]]
    return {row[0].rstrip(":"): [int(n) for n in row[1:3] if n.isdigit()] for row in rows}


def test_proc_softirqs_has_the_true_counts() -> None:
    """/proc/softirqs counts how often each CPU ran each softirq; /proc/stat sums them up."""
    with taskscope.boot(cpus=2) as k:
        ran: list[int] = []
        with k.probe("run_rebalance_domains", lambda *_: ran.append(k.machine.cpu.id)):
            before = softirqs(k)["SCHED"]
            k.spawn(lambda sys, argv: sys.run_for(200 * MS), name="busy").wait()
            after = softirqs(k)["SCHED"]
        assert ran
        assert [b - a for a, b in zip(before, after, strict=True)] == [ran.count(0), ran.count(1)]
        stat = next(line for line in k.read("/proc/stat").decode().splitlines() if line.startswith("softirq "))
        totals = [sum(counts) for counts in softirqs(k).values()]
        assert stat == "softirq " + " ".join(map(str, [sum(totals), *totals]))


def softirqs(k: taskscope.System) -> dict[str, list[int]]:
    """Return the counts of /proc/softirqs by name."""
    rows = [line.split() for line in k.read("/proc/softirqs").decode().splitlines()[1:]]
    return {row[0].rstrip(":"): [int(n) for n in row[1:]] for row in rows}


def test_proc_irq_spurious() -> None:
    """/proc/irq/N/spurious shows what the detection of broken lines has counted."""

    def scenario(sys: Any) -> list[str]:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, handler, 0, "device", dev)
        assert dev.line is not None
        irqline.pulse(dev.line)
        dev.interrupt(after=MS)
        sys.run_for(2 * MS)
        return sys_text("/proc/irq/60/spurious")

    with world() as w:
        lines = w.run(scenario)
    assert lines[:2] == ["count 2", "unhandled 1"]


def test_irq_descs_can_go() -> None:
    """A line that nobody uses can be forgotten."""

    def scenario(sys: Any) -> Any:
        new_line()
        irqdesc.irq_free_desc(60)
        return irqdesc.irq_to_desc(60), in_kernel(manage.request_irq, 60, handler, 0, "device", None)

    with world() as w:
        assert w.run(scenario) == (None, -22)


# ---- preemption models at boot -----------------------------------------------------------------------------


def test_which_kernel_can_choose_its_preemption_model() -> None:
    """preempt= is for kernels since v5.12; 4.19-arm has full and says so when asked for another."""
    with taskscope.boot(flavour="6.1-x86_64", preempt="full", cpus=1) as k:
        assert "Dynamic Preempt: full" in k.dmesg()
        assert k.read("/proc/cmdline") == b"preempt=full\n"
        assert "SMP PREEMPT_DYNAMIC" in k.dmesg()
    taskscope.boot(flavour="4.19-arm", preempt="full", cpus=1).close()
    with pytest.raises(UsageError, match="built with preempt=full"):
        taskscope.boot(flavour="4.19-arm", preempt="none")
    with pytest.raises(UsageError, match="none, voluntary or full"):
        taskscope.boot(flavour="6.1-x86_64", preempt="lazy")


def test_softirqs_go_to_ksoftirqd_with_threadirqs() -> None:
    """With threadirqs the kernel leaves what is raised in an interrupt to ksoftirqd/N."""
    with taskscope.boot(cpus=1, flavour="6.1-x86_64", threadirqs=True) as k:
        who: list[str] = []
        with k.current():
            softirq.open_softirq(5, lambda: who.append(k.running().comm))
            dev = Device(new_line())
        with k.probe("hrtimer_interrupt", lambda *_: softirq.raise_softirq_irqoff(5)):
            k.run(s=0.02)
        assert who
        assert set(who) == {"ksoftirqd/0"}
        assert dev.desc.action is None
