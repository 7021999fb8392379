"""Waking tasks, new ones too: kernel/sched/core.c, v4.19: try_to_wake_up(), sched_fork(), wake_up_new_task().

A woken task is put on the runqueue that its class chooses; a CPU that shares no cache with ours does that by itself, in
the reschedule interrupt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskscope.model import costs, machine
from taskscope.model.include.linux.sched import (
    DEFAULT_PRIO,
    MAX_RT_PRIO,
    PF_WQ_WORKER,
    SCHED_NORMAL,
    TASK_NEW,
    TASK_NORMAL,
    TASK_ON_RQ_MIGRATING,
    TASK_ON_RQ_QUEUED,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    TASK_WAKING,
    SchedEntity,
    SchedInfo,
    SchedRtEntity,
    Task,
)
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock_irqsave,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.include.trace.events import sched as trace
from taskscope.model.kernel import smp, softirq, workqueue
from taskscope.model.kernel.sched import fair, rt
from taskscope.model.kernel.sched.core import affinity, runqueue
from taskscope.model.kernel.sched.sched import (
    ENQUEUE_MIGRATED,
    ENQUEUE_NOCLOCK,
    ENQUEUE_WAKEUP,
    SD_BALANCE_FORK,
    SD_BALANCE_WAKE,
    WF_FORK,
    WF_MIGRATED,
    Rq,
    rq_lock,
    rq_unlock,
    rt_policy,
)
from taskscope.model.kernel.time import timer

if TYPE_CHECKING:
    from taskscope.model.include.linux.wait import WaitQueueEntry


def select_task_rq(p: Task, cpu: int, sd_flags: int, wake_flags: int) -> int:
    """Choose the CPU for a task that becomes runnable.  Context: p.pi_lock held."""
    if p.nr_cpus_allowed > 1:
        cpu = p.sched_class.select_task_rq(p, cpu, sd_flags, wake_flags)
    else:
        cpu = p.cpus_allowed.bit_length() - 1
    # In order not to call set_task_cpu() on a blocking task we need to rely on ttwu() to place it on a valid CPU.
    if not affinity.is_cpu_allowed(p, cpu):
        cpu = affinity.select_fallback_rq(p.thread_info.cpu, p)
    return cpu


def __set_task_cpu(p: Task, cpu: int) -> None:
    p.thread_info.cpu = cpu
    p.wake_cpu = cpu


def set_task_cpu(p: Task, new_cpu: int) -> None:
    """Move a task that is on no queue to another CPU.  Context: p.pi_lock or the old rq.lock held."""
    assert p.state in (TASK_RUNNING, TASK_WAKING) or p.on_rq == TASK_ON_RQ_MIGRATING, "a sleeping task is not moved"
    assert not p.on_cpu, "a running task is not moved"
    trace.trace_sched_migrate_task(p, new_cpu)
    if p.thread_info.cpu != new_cpu:
        if p.sched_class.migrate_task_rq:
            p.sched_class.migrate_task_rq(p, new_cpu)
        p.se.nr_migrations += 1
    __set_task_cpu(p, new_cpu)


def ttwu_stat(p: Task, cpu: int, wake_flags: int) -> None:
    """Count the wakeup."""
    del p, wake_flags
    this = machine.cur.cpu
    rq = this.rq
    rq.ttwu_count += 1
    if cpu == this.id:
        rq.ttwu_local += 1


def ttwu_activate(rq: Rq, p: Task, en_flags: int) -> None:
    """Put the woken task on the runqueue."""
    runqueue.activate_task(rq, p, en_flags)
    p.on_rq = TASK_ON_RQ_QUEUED
    # If a worker is waking up, notify the workqueue: until v5.2.
    if p.flags & PF_WQ_WORKER and not machine.cur.flavour.switches.wq_worker_running:
        workqueue.wq_worker_waking_up(p, rq.cpu_id)


def ttwu_do_wakeup(rq: Rq, p: Task, wake_flags: int) -> None:
    """Mark the task runnable and see whether it preempts.  Context: rq.lock held."""
    runqueue.check_preempt_curr(rq, p, wake_flags)
    p.state = TASK_RUNNING
    trace.trace_sched_wakeup(p)
    if rq.idle_stamp:
        rq.idle_stamp = 0


def ttwu_do_activate(rq: Rq, p: Task, wake_flags: int) -> None:
    """Put the woken task on the runqueue and mark it runnable.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    en_flags = ENQUEUE_WAKEUP | ENQUEUE_NOCLOCK
    if p.sched_contributes_to_load:
        rq.nr_uninterruptible -= 1
    if wake_flags & WF_MIGRATED:
        en_flags |= ENQUEUE_MIGRATED
    ttwu_activate(rq, p, en_flags)
    ttwu_do_wakeup(rq, p, wake_flags)


def ttwu_remote(p: Task, wake_flags: int) -> bool:
    """Wake a task that is still on its runqueue: it set its state but has not called schedule() yet.

    Context: p.pi_lock held.
    """
    rq = runqueue.__task_rq_lock(p)
    ret = False
    if p.on_rq == TASK_ON_RQ_QUEUED:
        runqueue.update_rq_clock(rq)
        ttwu_do_wakeup(rq, p, wake_flags)
        ret = True
    rq_unlock(rq)
    return ret


def sched_ttwu_pending() -> None:
    """Activate the tasks that other CPUs have queued for this one.  Context: irqs off."""
    rq = machine.cur.cpu.rq
    if not rq.wake_list:
        return
    rq_lock(rq)
    runqueue.update_rq_clock(rq)
    # llist_del_all() gives the newest first, llist_reverse_order() turns them.
    tasks = rq.wake_list
    rq.wake_list = []
    for p in tasks:
        ttwu_do_activate(rq, p, WF_MIGRATED if p.wake_entry else 0)
    rq_unlock(rq)


def scheduler_ipi() -> None:
    """Handle the reschedule interrupt: tasks queued by other CPUs, a request to balance.

    Context: hard interrupt entry of the architecture; the way out of the interrupt looks at TIF_NEED_RESCHED.
    """
    cpu = machine.cur.cpu
    cpu.resched_by_ipi = None                               # preempt_fold_need_resched()
    if not cpu.rq.wake_list and not got_nohz_idle_kick():
        return
    softirq.irq_enter()
    sched_ttwu_pending()
    if got_nohz_idle_kick():
        cpu.rq.idle_balance = True
        softirq.raise_softirq_irqoff(softirq.SCHED_SOFTIRQ)
    softirq.irq_exit()


def got_nohz_idle_kick() -> bool:
    """Tell whether this idle CPU was asked to balance for the others that idle without a tick."""
    cpu = machine.cur.cpu
    return bool(cpu.pcpu.get("nohz_kick")) and cpu.rq.curr is cpu.rq.idle


def ttwu_queue_remote(p: Task, cpu: int, wake_flags: int) -> None:
    """Leave the wakeup to the task's CPU, and interrupt it."""
    rq = machine.cur.cpus[cpu].rq
    p.wake_entry = bool(wake_flags & WF_MIGRATED)           # sched_remote_wakeup
    first = not rq.wake_list
    rq.wake_list.append(p)
    if first:
        # Not modelled: set_nr_if_polling().
        smp.smp_send_reschedule(cpu)


def cpus_share_cache(this_cpu: int, that_cpu: int) -> bool:
    """Tell whether two CPUs share a last level cache."""
    cpus = machine.cur.cpus
    return cpus[this_cpu].llc_id == cpus[that_cpu].llc_id


def ttwu_queue(p: Task, cpu: int, wake_flags: int) -> None:
    """Put the woken task on the runqueue of the CPU, or let that CPU do it if it shares no cache with us."""
    m = machine.cur
    if m.cpus[cpu].llc_id != m.cpu.llc_id:
        ttwu_queue_remote(p, cpu, wake_flags)
        return
    rq = m.cpus[cpu].rq
    rq_lock(rq)
    runqueue.update_rq_clock(rq)
    ttwu_do_activate(rq, p, wake_flags)
    rq_unlock(rq)


def try_to_wake_up(p: Task, state: int, wake_flags: int) -> int:
    """Wake the task if its state is one of `state`.

    :return: 1 if it was woken, 0 if there was nothing to wake
    """
    m = machine.cur
    flags = raw_spin_lock_irqsave(p.pi_lock)
    if not p.state & state:
        raw_spin_unlock_irqrestore(p.pi_lock, flags)
        return 0
    trace.trace_sched_waking(p)
    m.now += costs.WAKEUP
    cpu = p.thread_info.cpu
    if not (p.on_rq and ttwu_remote(p, wake_flags)):
        # A CPU that is descheduling the task would be waited for here; one step of the machine has no such moment.
        assert not p.on_cpu, "a task off its runqueue has left its CPU"
        p.sched_contributes_to_load = runqueue.task_contributes_to_load(p)
        p.state = TASK_WAKING
        if p.in_iowait:
            m.cpus[cpu].rq.nr_iowait -= 1
        cpu = select_task_rq(p, p.wake_cpu, SD_BALANCE_WAKE, wake_flags)
        if p.thread_info.cpu != cpu:
            wake_flags |= WF_MIGRATED
            set_task_cpu(p, cpu)
        ttwu_queue(p, cpu, wake_flags)
    ttwu_stat(p, cpu, wake_flags)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)
    return 1


def try_to_wake_up_local(p: Task) -> None:
    """Wake a task of this CPU's runqueue, from within __schedule(): the worker that takes over.  Until v5.2.

    Context: rq.lock of this CPU held, by the task that leaves it.
    """
    rq = machine.cur.cpu.rq
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    assert machine.cur.cpus[p.thread_info.cpu].rq is rq, "a task of this runqueue"
    assert p is not machine.cur.cpu.curr, "a task of this runqueue"
    # p.pi_lock is taken by raw_spin_trylock(), against the order; here nobody can hold it.
    assert p.pi_lock.owner is None, "p.pi_lock"
    if not p.state & TASK_NORMAL:
        return
    trace.trace_sched_waking(p)
    machine.cur.now += costs.WAKEUP
    if not p.on_rq:
        if p.in_iowait:
            rq.nr_iowait -= 1
        ttwu_activate(rq, p, ENQUEUE_WAKEUP | ENQUEUE_NOCLOCK)
    ttwu_do_wakeup(rq, p, 0)
    ttwu_stat(p, rq.cpu_id, 0)


def wake_up_process(p: Task) -> int:
    """Wake a task that sleeps in TASK_INTERRUPTIBLE or TASK_UNINTERRUPTIBLE."""
    return try_to_wake_up(p, TASK_NORMAL, 0)


def wake_up_state(p: Task, state: int) -> int:
    """Wake a task that sleeps in one of the states."""
    return try_to_wake_up(p, state, 0)


def wait_task_inactive(p: Task, match_state: int) -> int:
    """Wait until the task is off its CPU and runqueue; 0 if its state became another than `match_state`.

    The kernel spins while the task runs elsewhere; here the caller sleeps for a tick each time.
    """
    m = machine.cur
    while p.on_cpu or p.on_rq:
        if match_state and p.state != match_state and not (p.on_cpu or p.on_rq):
            return 0
        m.cpu.curr.state = TASK_UNINTERRUPTIBLE
        timer.schedule_timeout(1)
    if match_state and p.state != match_state:
        return 0
    return p.nvcsw | 1 << 63                                # sets MSB


def kick_process(p: Task) -> None:
    """Bring a task that runs in user mode on another CPU into the kernel, so that it notices its signals."""
    m = machine.cur
    cpu = p.thread_info.cpu
    if cpu != m.cpu.id and m.cpus[cpu].rq.curr is p:
        smp.smp_send_reschedule(cpu)


def default_wake_function(curr: WaitQueueEntry, mode: int, wake_flags: int, key: Any) -> int:
    """Wake the task of a wait queue entry."""
    del key
    assert curr.private is not None, "the entry has a task"
    return try_to_wake_up(curr.private, mode, wake_flags)


def __sched_fork(clone_flags: int, p: Task) -> None:
    """Set up the scheduler's part of a new task, which is so far a copy of its parent's."""
    del clone_flags
    load = p.se.load
    p.on_rq = 0
    # Embedded structures in C: the copy of task_struct has its own already.
    p.se = SchedEntity(p)
    p.se.load.weight = load.weight
    p.se.load.inv_weight = load.inv_weight
    p.rt = SchedRtEntity(p)


def sched_fork(clone_flags: int, p: Task) -> int:
    """Prepare the scheduler's part of a new task.

    :return: 0 or a negative errno
    """
    m = machine.cur
    current = m.cpu.curr
    parent = current.se
    __sched_fork(clone_flags, p)
    # TASK_NEW guarantees that nothing wakes it, and that it is on no runqueue yet.
    p.state = TASK_NEW
    # Make sure we do not leak priority boosting of the parent to the child.
    p.prio = current.normal_prio
    if p.sched_reset_on_fork:
        if rt_policy(p.policy):
            p.policy = SCHED_NORMAL
            p.static_prio = DEFAULT_PRIO
            p.rt_priority = 0
        elif p.static_prio < DEFAULT_PRIO:
            p.static_prio = DEFAULT_PRIO
        p.prio = p.normal_prio = runqueue.__normal_prio(p)
        runqueue.set_load_weight(p)
        p.sched_reset_on_fork = False
    if p.prio < MAX_RT_PRIO:
        p.sched_class = rt.rt_sched_class
        p.rt.time_slice = rt.RR_TIMESLICE * m.hz // 1000
    else:
        p.sched_class = fair.fair_sched_class
    p.se.vruntime = parent.vruntime
    flags = raw_spin_lock_irqsave(p.pi_lock)
    # We're setting the CPU for the first time, we don't migrate, so use __set_task_cpu().
    __set_task_cpu(p, m.cpu.id)
    if p.sched_class.task_fork:
        p.sched_class.task_fork(p)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)
    p.sched_info = SchedInfo()
    p.on_cpu = 0
    # init_task_preempt_count(): a task that does not run has PREEMPT_SWITCHED, as FORK_PREEMPT_COUNT is.
    return 0


def wake_up_new_task(p: Task) -> None:
    """Put a task that was just created on a runqueue: its first wakeup."""
    m = machine.cur
    flags = raw_spin_lock_irqsave(p.pi_lock)
    p.state = TASK_RUNNING
    # Fork balancing, do it here and not earlier because cpus_allowed can change in the fork path, and any previously
    # selected CPU might disappear through hotplug.
    m.now += costs.WAKEUP
    __set_task_cpu(p, select_task_rq(p, p.thread_info.cpu, SD_BALANCE_FORK, 0))
    rq = runqueue.__task_rq_lock(p)
    runqueue.update_rq_clock(rq)
    # Not modelled: post_init_entity_util_avg().
    runqueue.activate_task(rq, p, ENQUEUE_NOCLOCK)
    p.on_rq = TASK_ON_RQ_QUEUED
    trace.trace_sched_wakeup_new(p)
    runqueue.check_preempt_curr(rq, p, WF_FORK)
    rq_unlock(rq)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)
