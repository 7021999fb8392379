"""Interrupt entry and exit, softirqs, tasklets: kernel/softirq.c, v4.19.

`irq_enter` and `irq_exit` count the hard interrupt in preempt_count; on the way out of the outermost one softirqs that
were raised run, with interrupts enabled, or ksoftirqd/N takes them over when they do not end.  Tasklets are functions
that TASKLET_SOFTIRQ and HI_SOFTIRQ call, each on one CPU at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.sched.wait as sched_wait
from taskscope.abi.preempt import HARDIRQ_MASK, HARDIRQ_OFFSET, NMI_MASK, SOFTIRQ_MASK, SOFTIRQ_OFFSET
from taskscope.model import costs, machine
from taskscope.model.include.linux.interrupt import (
    HI_SOFTIRQ,
    HRTIMER_SOFTIRQ,
    NR_SOFTIRQS,
    RCU_SOFTIRQ,
    SCHED_SOFTIRQ,
    TASKLET_SOFTIRQ,
    TASKLET_STATE_RUN,
    TASKLET_STATE_SCHED,
    TIMER_SOFTIRQ,
    TaskletStruct,
)
from taskscope.model.include.linux.preempt import (
    SOFTIRQ_DISABLE_OFFSET,
    in_interrupt,
    local_irq_disable,
    local_irq_enable,
    local_irq_restore,
    local_irq_save,
)
from taskscope.model.include.linux.sched import PF_MEMALLOC, TASK_UNINTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, wake_up_all
from taskscope.model.include.trace.events import irq as trace
from taskscope.model.kernel import smpboot
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import tick_sched

__all__ = ["HI_SOFTIRQ", "HRTIMER_SOFTIRQ", "RCU_SOFTIRQ", "SCHED_SOFTIRQ", "TASKLET_SOFTIRQ", "TIMER_SOFTIRQ"]

MAX_SOFTIRQ_RESTART: Final = 10
MAX_SOFTIRQ_TIME: Final = 2                 # ms: msecs_to_jiffies() makes one jiffy or more of it
_INTERRUPT: Final = HARDIRQ_MASK | SOFTIRQ_MASK | NMI_MASK


def open_softirq(nr: int, action: Callable[[], None]) -> None:
    """Name the function of a softirq."""
    machine.cur.softirq_vec[nr] = action


def softirq_init() -> None:
    """Make the table of softirqs, and the lists of tasklets.  Called by start_kernel() before any open_softirq()."""
    m = machine.cur
    m.softirq_vec = [None] * NR_SOFTIRQS
    m.tasklet_wait = WaitQueueHead("tasklet.state")
    for cpu in m.cpus:
        cpu.pcpu["softirqs"] = [0] * NR_SOFTIRQS             # kstat_softirqs
        cpu.pcpu["tasklet_vec"] = []
        cpu.pcpu["tasklet_hi_vec"] = []
    open_softirq(TASKLET_SOFTIRQ, tasklet_action)
    open_softirq(HI_SOFTIRQ, tasklet_hi_action)


def wakeup_softirqd() -> None:
    """Wake this CPU's ksoftirqd."""
    tsk = machine.cur.cpu.ksoftirqd
    if tsk is not None and tsk.state:
        core.wake_up_process(tsk)


def ksoftirqd_running(pending: int) -> bool:
    """Tell whether ksoftirqd is runnable: it will handle what is pending (HI and TASKLET are not left to it).

    Gone in v6.5: d15121be7485, "Revert "softirq: Let ksoftirqd do its job"".
    """
    if not machine.cur.flavour.switches.ksoftirqd_goes_first:
        return False
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


def __raise_softirq_irqoff(nr: int) -> None:
    """Mark a softirq to be run, and wake nobody.  Context: irqs off."""
    cpu = machine.cur.cpu
    assert cpu.irqs_off, "irqs off"
    trace.trace_softirq_raise(nr)
    cpu.softirq_pending |= 1 << nr


def __local_bh_disable_ip(cnt: int) -> None:
    """Let no softirq run on this CPU.  Context: no hard interrupt."""
    cpu = machine.cur.cpu
    assert not cpu.preempt_count & HARDIRQ_MASK, "softirqs are disabled in an interrupt"
    cpu.preempt_count += cnt


def local_bh_disable() -> None:
    """Let no softirq run on this CPU."""
    __local_bh_disable_ip(SOFTIRQ_DISABLE_OFFSET)


def _local_bh_enable() -> None:
    """Let softirqs run again, but do not run those that were raised meanwhile: the caller knows who will.

    Context: no hard interrupt, irqs off.
    """
    cpu = machine.cur.cpu
    assert not cpu.preempt_count & HARDIRQ_MASK, "_local_bh_enable() in an interrupt"
    assert cpu.irqs_off, "irqs off"
    cpu.preempt_count -= SOFTIRQ_DISABLE_OFFSET


def __local_bh_enable_ip(cnt: int) -> None:
    """Let softirqs run again, and run those that were raised meanwhile.  Context: no hard interrupt, irqs on."""
    m = machine.cur
    cpu = m.cpu
    assert not cpu.preempt_count & HARDIRQ_MASK, "local_bh_enable() in an interrupt"
    assert not cpu.irqs_off, "irqs on"
    assert cpu.preempt_count & SOFTIRQ_MASK >= cnt & SOFTIRQ_MASK, "local_bh_enable() without local_bh_disable()"
    # Keep preemption disabled until we are done with softirq processing.
    cpu.preempt_count -= cnt - 1
    if not cpu.preempt_count & _INTERRUPT and cpu.softirq_pending:
        # Run softirq if any pending.  And do it in its own stack as we may be calling this deep in a task call stack.
        do_softirq()
    cpu.preempt_count -= 1
    # preempt_check_resched()
    if m.kernel_preempt and not cpu.preempt_count and cpu.curr.thread_info.flags & m.tif_need_resched:
        core.preempt_schedule()


def local_bh_enable() -> None:
    """Let softirqs run again, and run those that were raised meanwhile.  Context: no hard interrupt, irqs on."""
    __local_bh_enable_ip(SOFTIRQ_DISABLE_OFFSET)


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
    # The clock tells jiffies: where the tick could not come in between, the kernel's own would have.
    end = m.now // m.tick_nsec - (-MAX_SOFTIRQ_TIME * m.hz // 1000)
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
        if m.now // m.tick_nsec >= end or cpu.curr.thread_info.flags & m.tif_need_resched or not max_restart:
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
    """Run the raised softirqs on the way out of an interrupt, unless ksoftirqd is about to.

    With ``threadirqs`` on the command line they are left to ksoftirqd.
    """
    m = machine.cur
    cpu = m.cpu
    if ksoftirqd_running(cpu.softirq_pending):
        return
    if m.force_irqthreads and cpu.ksoftirqd is not None:
        wakeup_softirqd()
    else:
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


# ---- tasklets ----------------------------------------------------------------------------------------------


def tasklet_init(t: TaskletStruct, func: Callable[[Any], None], data: Any) -> None:
    """Prepare a tasklet that calls ``func(data)``."""
    t.__init__(func, data)  # type: ignore[misc]


def tasklet_setup(t: TaskletStruct, callback: Callable[[Any], None]) -> None:
    """Prepare a tasklet that calls ``callback(t)`` (v5.9)."""
    t.__init__(callback, None, True)  # type: ignore[misc]


def __tasklet_schedule_common(t: TaskletStruct, head: str, softirq_nr: int) -> None:
    flags = local_irq_save()
    machine.cur.cpu.pcpu[head].append(t)
    raise_softirq_irqoff(softirq_nr)
    local_irq_restore(flags)


def __tasklet_schedule(t: TaskletStruct) -> None:
    """Put the tasklet on this CPU's list."""
    __tasklet_schedule_common(t, "tasklet_vec", TASKLET_SOFTIRQ)


def __tasklet_hi_schedule(t: TaskletStruct) -> None:
    """Put the tasklet on this CPU's list of those that come first."""
    __tasklet_schedule_common(t, "tasklet_hi_vec", HI_SOFTIRQ)


def tasklet_schedule(t: TaskletStruct) -> None:
    """Let the tasklet run soon, once, however often it is asked for until it begins."""
    if not t.state & TASKLET_STATE_SCHED:
        t.state |= TASKLET_STATE_SCHED
        __tasklet_schedule(t)


def tasklet_hi_schedule(t: TaskletStruct) -> None:
    """Let the tasklet run soon, before all other softirqs."""
    if not t.state & TASKLET_STATE_SCHED:
        t.state |= TASKLET_STATE_SCHED
        __tasklet_hi_schedule(t)


def tasklet_clear_sched(t: TaskletStruct) -> bool:
    """Take the request off the tasklet, and tell whoever waits for that; whether it was there."""
    if t.state & TASKLET_STATE_SCHED:
        t.state &= ~TASKLET_STATE_SCHED
        wake_up_all(machine.cur.tasklet_wait)               # wake_up_var(), since v5.13
        return True
    printk_.printk(f"<4>tasklet SCHED state not set: func {t.func.__name__}\n")
    return False


def tasklet_unlock(t: TaskletStruct) -> None:
    """Note that no CPU runs the tasklet any more."""
    t.state &= ~TASKLET_STATE_RUN
    wake_up_all(machine.cur.tasklet_wait)


def tasklet_action_common(head: str, softirq_nr: int) -> None:
    """Run the tasklets of one of this CPU's lists; one that runs elsewhere or is disabled stays on it."""
    m = machine.cur
    local_irq_disable()
    pcpu = m.cpu.pcpu
    todo: list[TaskletStruct] = pcpu[head]
    pcpu[head] = []
    local_irq_enable()
    for t in todo:
        if not t.state & TASKLET_STATE_RUN:                 # tasklet_trylock()
            t.state |= TASKLET_STATE_RUN
            if not t.count:
                if tasklet_clear_sched(t):
                    trace.trace_tasklet_entry(t, t.func)
                    t.func(t if t.use_callback else t.data)
                    trace.trace_tasklet_exit(t, t.func)
                tasklet_unlock(t)
                continue
            tasklet_unlock(t)
        local_irq_disable()
        pcpu[head].append(t)
        __raise_softirq_irqoff(softirq_nr)
        local_irq_enable()


def tasklet_action() -> None:
    """Be TASKLET_SOFTIRQ."""
    tasklet_action_common("tasklet_vec", TASKLET_SOFTIRQ)


def tasklet_hi_action() -> None:
    """Be HI_SOFTIRQ."""
    tasklet_action_common("tasklet_hi_vec", HI_SOFTIRQ)


def tasklet_unlock_wait(t: TaskletStruct) -> None:
    """Wait until no CPU runs the tasklet: by spinning, as 4.19 does (v5.13 sleeps where it may)."""
    while t.state & TASKLET_STATE_RUN:
        machine.cur.run_for(1_000)                          # cpu_relax()


def tasklet_disable_nosync(t: TaskletStruct) -> None:
    """Let the tasklet not begin from now on; calls nest."""
    t.count += 1


def tasklet_disable(t: TaskletStruct) -> None:
    """Let the tasklet not run, and wait until it does not."""
    tasklet_disable_nosync(t)
    tasklet_unlock_wait(t)


def tasklet_enable(t: TaskletStruct) -> None:
    """Undo one tasklet_disable(); a tasklet that was asked for meanwhile is still on its list."""
    assert t.count > 0, "tasklet_enable() without tasklet_disable()"
    t.count -= 1


def tasklet_kill(t: TaskletStruct) -> None:
    """Wait until the tasklet has run for the last time; nobody may ask for it any more.

    Kernels before v5.13 call yield() until it is off its list, later ones sleep.
    Context: process context; sleeps.
    """
    if in_interrupt():
        printk_.printk("<5>Attempt to kill tasklet from interrupt\n")
    m = machine.cur
    sleeps = m.flavour.switches.tasklet_kill_sleeps
    while t.state & TASKLET_STATE_SCHED:
        if sleeps:
            wait = DEFINE_WAIT()                            # wait_var_event()
            sched_wait.prepare_to_wait(m.tasklet_wait, wait, TASK_UNINTERRUPTIBLE)
            if t.state & TASKLET_STATE_SCHED:
                core.schedule()
            sched_wait.finish_wait(m.tasklet_wait, wait)
        else:
            sched_syscalls.do_sched_yield()                 # yield()
            m.run_for(1_000)
    tasklet_unlock_wait(t)


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
