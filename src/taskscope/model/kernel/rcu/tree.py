"""RCU: kernel/rcu/tree.c, v4.19: call a function when every CPU has passed a quiescent state.

A grace period starts when a CPU has callbacks, and ends when each CPU that was not idle at its start has switched
tasks, been found in user mode or idle by its tick, or gone idle.  Callbacks run in RCU_SOFTIRQ.  The grace-period
kthread (rcu_sched) drives it once it exists; before that, and on a machine booted without it, the softirq does the
same steps.

Not modelled: the tree of rcu_nodes (one node is enough here), expedited grace periods, offloaded callbacks, stall
warnings, preemptible readers (a reader is one step of the machine).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.interrupt import RCU_SOFTIRQ
from taskscope.model.include.linux.spinlock import Spinlock, raw_spin_lock_irqsave, raw_spin_unlock_irqrestore
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead
from taskscope.model.include.linux.workqueue import WQ_MEM_RECLAIM
from taskscope.model.kernel import softirq, workqueue
from taskscope.model.kernel.sched import completion, core
from taskscope.model.kernel.sched import wait as sched_wait
from taskscope.model.kernel.time import timer

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task
    from taskscope.model.machine import Cpu

Callback = tuple[Any, Callable[[Any], None]]

#: callbacks run at a time before others are let in
DEFAULT_RCU_BLIMIT: Final = 10
#: so many callbacks wait that all of them are run at a time
DEFAULT_RCU_QHIMARK: Final = 10_000


class RcuData:
    """struct rcu_data of a CPU: its callbacks by what they wait for."""

    __slots__ = ("done", "gp_seq", "need_qs", "next", "no_qs", "wait", "wait_seq")

    def __init__(self) -> None:
        self.next: list[Callback] = []          # need a grace period that begins after they were queued
        self.wait: list[Callback] = []          # wait for the end of grace period wait_seq
        self.wait_seq = 0
        self.done: list[Callback] = []          # may be called
        self.gp_seq = 0                         # the last grace period that this CPU has seen begin
        self.need_qs = False                    # it waits for us to report
        self.no_qs = True                       # we have passed no quiescent state since


class RcuState:
    """struct rcu_state and its one rcu_node."""

    __slots__ = ("completed", "gp_flags", "gp_kthread", "gp_seq", "gp_wq", "in_progress", "lock", "name", "qsmask")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = Spinlock("rnp.lock")
        self.gp_seq = 0                         # number of the grace period that runs, or ran last
        self.completed = 0                      # number of the last one that has ended
        self.in_progress = False
        self.qsmask = 0                         # CPUs that it still waits for
        self.gp_kthread: Task | None = None
        self.gp_wq = WaitQueueHead("rcu_state.gp_wq")
        self.gp_flags = False                   # RCU_GP_FLAG_INIT: a grace period is wanted


def rcu_init() -> None:
    """Set RCU up.  Called by start_kernel()."""
    m = machine.cur
    m.rcu_state = RcuState("rcu_sched")
    for cpu in m.cpus:
        cpu.rcu_data = RcuData()
    softirq.open_softirq(RCU_SOFTIRQ, rcu_process_callbacks)
    # Create workqueues for expedited grace periods; since v6.9 those have kthread_workers, but for rcu_gp, of SRCU too.
    m.rcu_gp_wq = workqueue.alloc_workqueue("rcu_gp", WQ_MEM_RECLAIM, 0)
    if m.flavour.version < (6, 9):
        m.rcu_par_gp_wq = workqueue.alloc_workqueue("rcu_par_gp", WQ_MEM_RECLAIM, 0)


# ---- quiescent states --------------------------------------------------------------------------------------


def rcu_softirq_qs() -> None:
    """Note that ksoftirqd is between two softirqs."""
    machine.cur.cpu.rcu_data.no_qs = False


def rcu_irq_enter() -> None:
    """Note that an interrupt ended the idleness of this CPU, if it was idle: it may read now."""


def rcu_irq_exit() -> None:
    """Note that the CPU may be idle again."""


def rcu_idle_enter() -> None:
    """Enter an extended quiescent state: an idle CPU reads nothing, and needs not be waited for.

    The grace-period kthread finds idle CPUs by their dynticks counter; without it the CPU reports by itself.
    """
    m = machine.cur
    rdp: RcuData = m.cpu.rcu_data
    rdp.no_qs = False
    rsp: RcuState = m.rcu_state
    if rsp.in_progress and rsp.gp_kthread is None and rsp.qsmask >> m.cpu.id & 1:
        rcu_report_qs_rnp(rsp, 1 << m.cpu.id)


def rcu_idle_exit() -> None:
    """Leave the extended quiescent state."""


def rcu_sleep_check() -> None:
    """Check that no reader sleeps.  Readers disable preemption in the model, so that schedule() has checked it."""


def rcu_is_idle(cpu: Cpu) -> bool:
    """Tell whether the CPU is in an extended quiescent state: idle and in no interrupt."""
    return cpu.curr is cpu.idle and not cpu.preempt_count & 0xFFFFF00


def rcu_report_qs_rnp(rsp: RcuState, mask: int) -> None:
    """Report that CPUs have passed a quiescent state; the last one ends the grace period."""
    rsp.qsmask &= ~mask
    if not rsp.qsmask:
        if rsp.gp_kthread is not None:
            rcu_gp_kthread_wake(rsp)
        else:
            rcu_gp_cleanup(rsp)


# ---- grace periods -----------------------------------------------------------------------------------------


def rcu_gp_kthread_wake(rsp: RcuState) -> None:
    """Wake the grace-period kthread."""
    if rsp.gp_kthread is not machine.cur.cpu.curr:
        sched_wait.__wake_up(rsp.gp_wq, 3, 1, None)


def rcu_gp_init(rsp: RcuState) -> None:
    """Begin a grace period: all CPUs that are not idle must pass a quiescent state."""
    m = machine.cur
    assert not rsp.in_progress, "one grace period at a time"
    rsp.gp_flags = False
    rsp.gp_seq += 1
    rsp.in_progress = True
    rsp.qsmask = 0
    for cpu in m.cpus:
        rdp: RcuData = cpu.rcu_data
        if m.cpu_online_mask >> cpu.id & 1:
            if not rcu_is_idle(cpu) or cpu is m.cpu:
                rsp.qsmask |= 1 << cpu.id
            # __note_gp_changes(): each CPU notes this by itself in C, at its next tick.
            rdp.need_qs = True
            rdp.no_qs = True
            rdp.gp_seq = rsp.gp_seq


def rcu_gp_cleanup(rsp: RcuState) -> None:
    """End the grace period; each CPU finds at its next tick that its callbacks may run."""
    assert not rsp.qsmask, "every CPU has reported"
    rsp.completed = rsp.gp_seq
    rsp.in_progress = False
    for cpu in machine.cur.cpus:
        rdp: RcuData = cpu.rcu_data
        rdp.need_qs = False
        if rdp.next:
            rsp.gp_flags = True


def rcu_gp_fqs(rsp: RcuState) -> None:
    """Force quiescent states: report for the CPUs that have gone idle since (dyntick_save_progress_counter())."""
    for cpu in machine.cur.cpus:
        if rsp.qsmask >> cpu.id & 1 and rcu_is_idle(cpu):
            rsp.qsmask &= ~(1 << cpu.id)


def rcu_gp_kthread(arg: Any) -> int:
    """Be the grace-period kthread: wait for a request, begin a grace period, see it through, end it."""
    rsp: RcuState = arg
    m = machine.cur
    while True:
        while True:                                         # swait_event_idle_exclusive(rsp->gp_wq, RCU_GP_FLAG_INIT)
            wait = DEFINE_WAIT()
            sched_wait.prepare_to_wait(rsp.gp_wq, wait, 0x402)      # TASK_IDLE
            if rsp.gp_flags:
                break
            core.schedule()
        sched_wait.finish_wait(rsp.gp_wq, wait)
        rcu_gp_init(rsp)
        while rsp.qsmask:                                   # rcu_gp_fqs_loop(): every three jiffies
            sched_wait.prepare_to_wait(rsp.gp_wq, wait, 0x402)
            if rsp.qsmask:
                timer.schedule_timeout(max(1, m.hz * 3 // 1000) if m.hz >= 1000 else 1)
            sched_wait.finish_wait(rsp.gp_wq, wait)
            rcu_gp_fqs(rsp)
        rcu_gp_cleanup(rsp)


def rcu_start_this_gp(rsp: RcuState) -> None:
    """Ask for a grace period."""
    rsp.gp_flags = True
    if rsp.in_progress:
        return
    if rsp.gp_kthread is not None:
        rcu_gp_kthread_wake(rsp)
    else:
        rcu_gp_init(rsp)


# ---- callbacks ---------------------------------------------------------------------------------------------


def call_rcu(head: Any, func: Callable[[Any], None]) -> None:
    """Call ``func(head)`` after a grace period, in softirq context.

    :param head: what container_of() of the rcu_head would find
    """
    rdp: RcuData = machine.cur.cpu.rcu_data
    rdp.next.append((head, func))


call_rcu_sched = call_rcu


def wakeme_after_rcu(head: Completion) -> None:
    """Complete what synchronize_rcu() waits for."""
    completion.complete(head)


def synchronize_rcu() -> None:
    """Wait for a grace period.  Context: may sleep."""
    m = machine.cur
    if m.nr_cpus == 1 or not getattr(m, "rcu_scheduler_active", True):      # rcu_blocking_is_gp()
        core._cond_resched()
        return
    done = Completion()
    call_rcu(done, wakeme_after_rcu)
    completion.wait_for_completion(done)


def rcu_segcblist_advance(rsp: RcuState, rdp: RcuData) -> None:
    """Move the callbacks whose grace period has ended, and let those behind wait for the next one."""
    if rdp.wait and rdp.wait_seq <= rsp.completed:
        rdp.done.extend(rdp.wait)
        rdp.wait = []
    if rdp.next and not rdp.wait:
        # A grace period that runs began before some of them were queued: they need the one after it.
        rdp.wait = rdp.next
        rdp.next = []
        rdp.wait_seq = rsp.gp_seq + 1


def rcu_pending() -> bool:
    """Tell whether the softirq has something to do on this CPU."""
    m = machine.cur
    rdp: RcuData = m.cpu.rcu_data
    rsp: RcuState = m.rcu_state
    if rdp.need_qs and not rdp.no_qs:
        return True
    if rdp.done or (rdp.wait and rdp.wait_seq <= rsp.completed):
        return True
    return bool(rdp.next or rdp.wait) and not rsp.in_progress


def rcu_needs_cpu(cpu: Cpu) -> bool:
    """Tell whether an idle CPU must keep its tick for RCU: it has callbacks."""
    rdp: RcuData = cpu.rcu_data
    return bool(rdp.next or rdp.wait or rdp.done)


def rcu_check_callbacks(user: bool) -> None:
    """Look, at the tick, whether it interrupted a quiescent state, and whether there is work.

    Context: hard interrupt, irqs off.  Called rcu_sched_clock_irq() since v5.2.
    """
    m = machine.cur
    cpu = m.cpu
    if user or (cpu.curr is cpu.idle and cpu.preempt_count & 0xFFF00 == 0x10000):
        cpu.rcu_data.no_qs = False
    if rcu_pending():
        softirq.raise_softirq_irqoff(RCU_SOFTIRQ)


def rcu_do_batch(rdp: RcuData) -> None:
    """Call the callbacks whose grace period has ended: a few at a time if others want the CPU."""
    m = machine.cur
    done = rdp.done
    limit = DEFAULT_RCU_BLIMIT if len(done) + len(rdp.next) + len(rdp.wait) < DEFAULT_RCU_QHIMARK else len(done)
    count = 0
    for head, func in done:
        func(head)
        count += 1
        cpu = m.cpu
        if count >= limit and (cpu.curr.thread_info.flags & m.tif_need_resched or cpu.curr is not cpu.idle):
            break
    del done[:count]
    if done:
        softirq.raise_softirq(RCU_SOFTIRQ)                  # invoke_rcu_core()


def rcu_process_callbacks() -> None:
    """Handle RCU_SOFTIRQ: report our quiescent state, begin a grace period if one is needed, call what is due.

    Context: softirq.  Called rcu_core() since v5.4.
    """
    m = machine.cur
    rsp: RcuState = m.rcu_state
    cpu = m.cpu
    rdp: RcuData = cpu.rcu_data
    flags = raw_spin_lock_irqsave(rsp.lock)
    need = rdp.need_qs and not rdp.no_qs
    if need:
        rdp.need_qs = False
    raw_spin_unlock_irqrestore(rsp.lock, flags)
    if need and rsp.qsmask >> cpu.id & 1:
        rcu_report_qs_rnp(rsp, 1 << cpu.id)                 # rcu_report_qs_rdp()
    rcu_segcblist_advance(rsp, rdp)
    if rdp.wait and not rsp.in_progress and rdp.wait_seq > rsp.completed:
        rcu_start_this_gp(rsp)
    if rdp.done:
        rcu_do_batch(rdp)                                   # invoke_rcu_callbacks()
