"""Interrupt entry and exit, softirqs: kernel/softirq.c, v4.19.

`irq_enter` and `irq_exit` count the hard interrupt in preempt_count; on the way out of the outermost one softirqs that
were raised run, with interrupts enabled, or ksoftirqd/N takes them over when they do not end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from taskscope.abi.preempt import HARDIRQ_MASK, HARDIRQ_OFFSET, NMI_MASK, SOFTIRQ_MASK, SOFTIRQ_OFFSET
from taskscope.model import costs, machine
from taskscope.model.include.linux.interrupt import (
    HI_SOFTIRQ,
    HRTIMER_SOFTIRQ,
    NR_SOFTIRQS,
    RCU_SOFTIRQ,
    SCHED_SOFTIRQ,
    TASKLET_SOFTIRQ,
    TIMER_SOFTIRQ,
)
from taskscope.model.include.linux.preempt import SOFTIRQ_DISABLE_OFFSET
from taskscope.model.include.linux.sched import PF_MEMALLOC, Task
from taskscope.model.include.trace.events import irq as trace
from taskscope.model.kernel import smpboot
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import tick_sched

__all__ = ["HI_SOFTIRQ", "HRTIMER_SOFTIRQ", "RCU_SOFTIRQ", "SCHED_SOFTIRQ", "TASKLET_SOFTIRQ", "TIMER_SOFTIRQ"]

MAX_SOFTIRQ_RESTART: Final = 10
MAX_SOFTIRQ_TIME: Final = 2_000_000         # ns: 2 ms, as msecs_to_jiffies(2) rounds to one jiffy or more
_INTERRUPT: Final = HARDIRQ_MASK | SOFTIRQ_MASK | NMI_MASK


def open_softirq(nr: int, action: Callable[[], None]) -> None:
    """Name the function of a softirq."""
    machine.cur.softirq_vec[nr] = action


def softirq_init() -> None:
    """Make the table of softirqs.  Called by start_kernel() before any open_softirq()."""
    machine.cur.softirq_vec = [None] * NR_SOFTIRQS
    for cpu in machine.cur.cpus:
        cpu.pcpu["softirqs"] = [0] * NR_SOFTIRQS             # kstat_softirqs


def wakeup_softirqd() -> None:
    """Wake this CPU's ksoftirqd."""
    tsk = machine.cur.cpu.ksoftirqd
    if tsk is not None and tsk.state:
        core.wake_up_process(tsk)


def ksoftirqd_running(pending: int) -> bool:
    """Tell whether ksoftirqd is runnable: it will handle what is pending (HI and TASKLET are not left to it)."""
    if pending & (1 << HI_SOFTIRQ | 1 << TASKLET_SOFTIRQ):
        return False
    tsk = machine.cur.cpu.ksoftirqd
    return tsk is not None and tsk.state == 0 and tsk.on_rq == 1


def raise_softirq_irqoff(nr: int) -> None:
    """Mark a softirq to be run; outside of interrupts ksoftirqd is woken for it.  Context: irqs off."""
    cpu = machine.cur.cpu
    assert cpu.irqs_off, "irqs off"
    cpu.softirq_pending |= 1 << nr
    trace.trace_softirq_raise(nr)
    # If we're in an interrupt or softirq, we're done (this also catches softirq-disabled code).
    if not cpu.preempt_count & _INTERRUPT:
        wakeup_softirqd()


def raise_softirq(nr: int) -> None:
    """Mark a softirq to be run."""
    cpu = machine.cur.cpu
    off = cpu.irqs_off
    cpu.irqs_off = True
    raise_softirq_irqoff(nr)
    cpu.irqs_off = off


def local_softirq_pending() -> int:
    """Return the softirqs that are raised on this CPU, as bits."""
    return machine.cur.cpu.softirq_pending


def local_bh_disable() -> None:
    """Let no softirq run on this CPU."""
    machine.cur.cpu.preempt_count += SOFTIRQ_DISABLE_OFFSET


def local_bh_enable() -> None:
    """Let softirqs run again, and run those that were raised meanwhile.  Context: no hard interrupt, irqs on."""
    m = machine.cur
    cpu = m.cpu
    assert not cpu.preempt_count & HARDIRQ_MASK, "local_bh_enable() in an interrupt"
    assert not cpu.irqs_off, "irqs on"
    assert cpu.preempt_count & SOFTIRQ_MASK >= SOFTIRQ_DISABLE_OFFSET, "local_bh_enable() without local_bh_disable()"
    # Keep preemption disabled until we are done with softirq processing.
    cpu.preempt_count -= SOFTIRQ_DISABLE_OFFSET - 1
    if not cpu.preempt_count & _INTERRUPT and cpu.softirq_pending:
        do_softirq()
    cpu.preempt_count -= 1
    if m.kernel_preempt and not cpu.preempt_count and cpu.curr.thread_info.flags & m.tif_need_resched:
        core.preempt_schedule()


def do_softirq() -> None:
    """Run the raised softirqs, unless an interrupt or ksoftirqd will."""
    cpu = machine.cur.cpu
    if cpu.preempt_count & _INTERRUPT:
        return
    off = cpu.irqs_off
    cpu.irqs_off = True
    if cpu.softirq_pending and not ksoftirqd_running(cpu.softirq_pending):
        __do_softirq()
    cpu.irqs_off = off


def __do_softirq() -> None:
    """Run the raised softirqs on the current stack.  Context: irqs off; handlers run with irqs on."""
    m = machine.cur
    cpu = m.cpu
    end = m.now + MAX_SOFTIRQ_TIME
    max_restart = MAX_SOFTIRQ_RESTART
    # Mask out PF_MEMALLOC as current task context is borrowed for the softirq.
    old_flags = cpu.curr.flags
    cpu.curr.flags &= ~PF_MEMALLOC
    pending = cpu.softirq_pending
    cpu.preempt_count += SOFTIRQ_OFFSET                     # __local_bh_disable_ip()
    while True:
        cpu.softirq_pending = 0
        cpu.irqs_off = False
        counts = cpu.pcpu["softirqs"]
        nr = 0
        while pending:
            if pending & 1:
                prev_count = cpu.preempt_count
                counts[nr] += 1
                trace.trace_softirq_entry(nr)
                m.softirq_vec[nr]()
                trace.trace_softirq_exit(nr)
                assert prev_count == cpu.preempt_count, f"softirq {nr} left preempt_count at {cpu.preempt_count:#x}"
            pending >>= 1
            nr += 1
        if cpu.curr is cpu.ksoftirqd:
            rcu_tree.rcu_softirq_qs()
        cpu.irqs_off = True
        pending = cpu.softirq_pending
        if not pending:
            break
        max_restart -= 1
        if m.now >= end or cpu.curr.thread_info.flags & m.tif_need_resched or not max_restart:
            wakeup_softirqd()
            break
    cpu.preempt_count -= SOFTIRQ_OFFSET                     # __local_bh_enable()
    if old_flags & PF_MEMALLOC:
        cpu.curr.flags |= PF_MEMALLOC


def irq_enter() -> None:
    """Enter an interrupt context.  Context: irqs off, as the hardware enters."""
    m = machine.cur
    cpu = m.cpu
    m.now += costs.IRQ
    rcu_tree.rcu_irq_enter()
    if cpu.curr is cpu.idle and not cpu.preempt_count & _INTERRUPT:
        # Prevent raise_softirq from needlessly waking up ksoftirqd here, as softirq will be serviced on return from
        # interrupt.
        cpu.preempt_count += SOFTIRQ_DISABLE_OFFSET
        tick_sched.tick_irq_enter()
        cpu.preempt_count -= SOFTIRQ_DISABLE_OFFSET
    cpu.preempt_count += HARDIRQ_OFFSET                     # __irq_enter()


def invoke_softirq() -> None:
    """Run the raised softirqs on the way out of an interrupt, unless ksoftirqd is about to."""
    cpu = machine.cur.cpu
    if ksoftirqd_running(cpu.softirq_pending):
        return
    __do_softirq()


def tick_irq_exit() -> None:
    """Let an idle CPU that an interrupt woke look at its next timer again.  The idle loop does so in the model."""


def irq_exit() -> None:
    """Exit an interrupt context.  Process softirqs if needed and possible.  Context: irqs off; returns so."""
    cpu = machine.cur.cpu
    assert cpu.irqs_off, "irqs off"
    assert cpu.preempt_count & HARDIRQ_MASK, "irq_exit() without irq_enter()"
    cpu.preempt_count -= HARDIRQ_OFFSET
    if not cpu.preempt_count & _INTERRUPT and cpu.softirq_pending:
        invoke_softirq()
    tick_irq_exit()
    rcu_tree.rcu_irq_exit()


# ---- ksoftirqd ---------------------------------------------------------------------------------------------


def ksoftirqd_should_run(cpu: int) -> bool:
    """Tell whether ksoftirqd has something to do."""
    del cpu
    return bool(machine.cur.cpu.softirq_pending)


def run_ksoftirqd(cpu: int) -> None:
    """Run the raised softirqs in ksoftirqd/N."""
    del cpu
    this = machine.cur.cpu
    this.irqs_off = True
    if this.softirq_pending:
        # We can safely run softirq on inline stack, as we are not deep in the task stack here.
        __do_softirq()
        this.irqs_off = False
        core._cond_resched()
        return
    this.irqs_off = False


def ksoftirqd_store(cpu: int, tsk: Task | None) -> None:
    """Remember the CPU's thread (smp_hotplug_thread.store is a per-cpu pointer in C)."""
    machine.cur.cpus[cpu].ksoftirqd = tsk


def spawn_ksoftirqd() -> None:
    """Make ksoftirqd/N for all CPUs (an early initcall)."""
    smpboot.smpboot_register_percpu_thread(smpboot.SmpHotplugThread(
        comm="ksoftirqd/%u",
        store=ksoftirqd_store,
        should_run=ksoftirqd_should_run,
        fn=run_ksoftirqd,
    ))
