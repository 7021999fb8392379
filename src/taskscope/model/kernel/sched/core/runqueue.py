"""A runqueue and its tasks: kernel/sched/core.c, v4.19: on and off the queue, priorities, who is asked to give way."""

from __future__ import annotations

from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux.sched import (
    MAX_RT_PRIO,
    TASK_NOLOAD,
    TASK_ON_RQ_QUEUED,
    TASK_UNINTERRUPTIBLE,
    Task,
)
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock_irqsave,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.kernel import smp
from taskscope.model.kernel.sched import stats
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_NOCLOCK,
    DEQUEUE_SAVE,
    ENQUEUE_NOCLOCK,
    ENQUEUE_RESTORE,
    WEIGHT_IDLEPRIO,
    Rq,
    idle_policy,
    rq_lock,
    rq_unlock,
    rt_policy,
    sched_prio_to_weight,
)


def update_rq_clock(rq: Rq) -> None:
    """Let the runqueue's clock show the time.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    if not rq.skip_clock_update:
        rq.clock = machine.cur.now


def set_load_weight(p: Task) -> None:
    """Set the weight that the fair class gives the task's nice value."""
    load = p.se.load
    if idle_policy(p.policy):
        load.weight = WEIGHT_IDLEPRIO
    else:
        load.weight = sched_prio_to_weight[p.static_prio - MAX_RT_PRIO]
    load.inv_weight = 0


def enqueue_task(rq: Rq, p: Task, flags: int) -> None:
    """Put the task on the queue of its class.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    if not flags & ENQUEUE_NOCLOCK:
        update_rq_clock(rq)
    if not flags & ENQUEUE_RESTORE:
        stats.sched_info_queued(rq, p)
    p.sched_class.enqueue_task(rq, p, flags)


def dequeue_task(rq: Rq, p: Task, flags: int) -> None:
    """Take the task off the queue of its class.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    if not flags & DEQUEUE_NOCLOCK:
        update_rq_clock(rq)
    if not flags & DEQUEUE_SAVE:
        stats.sched_info_dequeued(rq, p)
    p.sched_class.dequeue_task(rq, p, flags)


def task_contributes_to_load(p: Task) -> bool:
    """Tell whether the sleep counts in the load average."""
    return bool(p.state & TASK_UNINTERRUPTIBLE) and not p.state & TASK_NOLOAD


def activate_task(rq: Rq, p: Task, flags: int) -> None:
    """Make the task runnable on this runqueue."""
    if task_contributes_to_load(p):
        rq.nr_uninterruptible -= 1
    enqueue_task(rq, p, flags)


def deactivate_task(rq: Rq, p: Task, flags: int) -> None:
    """Take the task off this runqueue."""
    if task_contributes_to_load(p):
        rq.nr_uninterruptible += 1
    dequeue_task(rq, p, flags)


def __normal_prio(p: Task) -> int:
    return p.static_prio


def normal_prio(p: Task) -> int:
    """Return the priority without boosting: by policy, realtime priority and nice value."""
    if rt_policy(p.policy):
        return MAX_RT_PRIO - 1 - p.rt_priority
    return __normal_prio(p)


def effective_prio(p: Task) -> int:
    """Return the priority that the scheduler uses; a realtime one that is lent (rt_mutex_setprio()) stays."""
    p.normal_prio = normal_prio(p)
    if p.prio >= MAX_RT_PRIO:
        return p.normal_prio
    return p.prio


def task_curr(p: Task) -> bool:
    """Tell whether the task is the one that its CPU runs."""
    return machine.cur.cpus[p.thread_info.cpu].rq.curr is p


def check_class_changed(rq: Rq, p: Task, prev_class: Any, oldprio: int) -> None:
    """Tell the classes that the task's class or priority has changed.  Context: rq.lock held."""
    if prev_class is not p.sched_class:
        if prev_class.switched_from:
            prev_class.switched_from(rq, p)
        p.sched_class.switched_to(rq, p)
    elif oldprio != p.prio:
        p.sched_class.prio_changed(rq, p, oldprio)


def check_preempt_curr(rq: Rq, p: Task, flags: int) -> None:
    """Ask the running task to give way if the one that became runnable should run instead.  Context: rq.lock held."""
    curr = rq.curr
    if p.sched_class is curr.sched_class:
        curr.sched_class.check_preempt_curr(rq, p, flags)
    elif p.sched_class.rank < curr.sched_class.rank:
        resched_curr(rq)
    # A queue event has occurred, and we're going to schedule: the clock of __schedule() is the one of now.
    if curr.on_rq and curr.thread_info.flags & machine.cur.tif_need_resched:
        rq.skip_clock_update = True


def resched_curr(rq: Rq) -> None:
    """Mark the CPU's running task "to be rescheduled now"; another CPU is told by an interrupt.

    Context: rq.lock held.
    """
    m = machine.cur
    assert rq.lock.owner is m.cpu, "rq.lock"
    info = rq.curr.thread_info
    if info.flags & m.tif_need_resched:
        return
    info.flags |= m.tif_need_resched
    if rq.cpu is m.cpu:
        m.cpu.resched_by_ipi = None                         # set_preempt_need_resched()
    else:
        rq.cpu.resched_by_ipi = rq.curr
        # Not modelled: idle loops that poll TIF_NEED_RESCHED (_TIF_POLLING_NRFLAG) and need no interrupt.
        smp.smp_send_reschedule(rq.cpu_id)


def resched_cpu(cpu: int) -> None:
    """Mark the task that runs on the CPU to be rescheduled."""
    rq = machine.cur.cpus[cpu].rq
    flags = raw_spin_lock_irqsave(rq.lock)
    resched_curr(rq)
    raw_spin_unlock_irqrestore(rq.lock, flags)


def wake_up_nohz_cpu(cpu: int) -> None:
    """Let a CPU that idles without a tick look at its timers again: another CPU has started one there."""
    rq = machine.cur.cpus[cpu].rq
    if rq.curr is rq.idle:                                  # wake_up_idle_cpu()
        resched_cpu(cpu)


def __task_rq_lock(p: Task) -> Rq:
    """Lock the runqueue that the task is on.  Context: p.pi_lock held."""
    assert p.pi_lock.owner is machine.cur.cpu, "p.pi_lock"
    rq = machine.cur.cpus[p.thread_info.cpu].rq
    rq_lock(rq)
    return rq


def task_rq_lock(p: Task) -> tuple[Rq, bool]:
    """Lock p.pi_lock and the runqueue that the task is on; return what `task_rq_unlock` needs."""
    flags = raw_spin_lock_irqsave(p.pi_lock)
    rq = machine.cur.cpus[p.thread_info.cpu].rq
    rq_lock(rq)
    return rq, flags


def task_rq_unlock(rq: Rq, p: Task, flags: bool) -> None:
    """Undo `task_rq_lock`."""
    rq_unlock(rq)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)


def task_sched_runtime(p: Task) -> int:
    """Return the time that the task has run (ns), up to now."""
    rq, flags = task_rq_lock(p)
    if rq.curr is p and p.on_rq == TASK_ON_RQ_QUEUED:
        update_rq_clock(rq)
        p.sched_class.update_curr(rq)
    ns = p.se.sum_exec_runtime
    task_rq_unlock(rq, p, flags)
    return ns


def idle_cpu(cpu: int) -> int:
    """Tell whether the CPU idles and nothing waits for it."""
    rq = machine.cur.cpus[cpu].rq
    if rq.curr is not rq.idle or rq.nr_running or rq.wake_list:
        return 0
    return 1


def idle_task(cpu: int) -> Task:
    """Return the idle task of a CPU."""
    return machine.cur.cpus[cpu].rq.idle
