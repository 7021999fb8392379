"""Lending a task the priority of who waits for it: rt_mutex_setprio() of kernel/sched/core.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.sched.core as core
import taskscope.model.kernel.sched.fair as fair
import taskscope.model.kernel.sched.rt as rt
from taskscope.model import machine
from taskscope.model.include.linux.preempt import preempt_enable
from taskscope.model.include.linux.rtmutex import pi_of
from taskscope.model.include.linux.sched import TASK_ON_RQ_QUEUED, Task, rt_prio
from taskscope.model.include.trace.events.sched import trace_sched_pi_setprio
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_MOVE,
    DEQUEUE_NOCLOCK,
    DEQUEUE_SAVE,
    ENQUEUE_HEAD,
    ENQUEUE_MOVE,
    ENQUEUE_NOCLOCK,
    ENQUEUE_RESTORE,
)


def __rt_effective_prio(pi_task: Task | None, prio: int) -> int:
    return prio if pi_task is None else min(prio, pi_task.prio)


def rt_effective_prio(p: Task, prio: int) -> int:
    """Return the priority that the task has when its own would be `prio`: that, or the one that is lent to it."""
    return prio if p.pi is None else __rt_effective_prio(p.pi.pi_top_task, prio)


def rt_mutex_setprio(p: Task, pi_task: Task | None) -> None:
    """Give a task the priority of the first who waits for it, or its own back if that is None.

    Context: the wait_lock of the mutex held; takes p.pi_lock and the runqueue's lock.
    """
    pi = pi_of(p)
    prio = __rt_effective_prio(pi_task, p.normal_prio)
    # If nothing changed; bail early.
    if pi.pi_top_task is pi_task and prio == p.prio:
        return
    rq, flags = core.task_rq_lock(p)
    core.update_rq_clock(rq)
    # Set under pi_lock && rq->lock, such that the value can be used under either lock.
    pi.pi_top_task = pi_task
    if prio == p.prio:
        core.task_rq_unlock(rq, p, flags)
        return
    trace_sched_pi_setprio(p, pi_task)
    oldprio = p.prio
    queue_flag = DEQUEUE_SAVE | DEQUEUE_MOVE | DEQUEUE_NOCLOCK
    prev_class = p.sched_class
    queued = p.on_rq == TASK_ON_RQ_QUEUED
    running = rq.curr is p
    if queued:
        core.dequeue_task(rq, p, queue_flag)
    if running:
        p.sched_class.put_prev_task(rq, p)
    queue_flag = ENQUEUE_RESTORE | ENQUEUE_MOVE | ENQUEUE_NOCLOCK
    # Boosting condition: a task that becomes realtime stays where it was in its queue.
    if rt_prio(prio):
        if oldprio < prio:
            queue_flag |= ENQUEUE_HEAD
        p.sched_class = rt.rt_sched_class
    else:
        if rt_prio(oldprio):
            p.rt.timeout = 0
        p.sched_class = fair.fair_sched_class
    p.prio = prio
    if queued:
        core.enqueue_task(rq, p, queue_flag)
    if running:
        p.sched_class.set_curr_task(rq)
    core.check_class_changed(rq, p, prev_class, oldprio)
    # Avoid rq from going away on us: preemption stays disabled over the unlock.
    machine.cur.cpu.preempt_count += 1
    core.task_rq_unlock(rq, p, flags)
    core.balance_callback(rq)
    preempt_enable()
