"""Rescuers: kernel/workqueue.c, v4.19: who does the works of a workqueue when no worker can be made for them.

A workqueue with WQ_MEM_RECLAIM may be needed to free memory, of which a new worker needs some.  If a pool's manager
gets no worker in 10 ms, the mayday timer wakes the rescuers of all workqueues that have works there; each goes to
that pool and does those of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.time.timer as timer_
from taskscope.model import machine
from taskscope.model.include.linux.list import (
    list_add_tail,
    list_del_init,
    list_empty,
    list_first_entry,
    list_for_each_entry,
)
from taskscope.model.include.linux.sched import TASK_IDLE, TASK_RUNNING, set_current_state
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock,
    raw_spin_lock_irq,
    raw_spin_unlock,
    raw_spin_unlock_irq,
)
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.linux.workqueue import WQ_MEM_RECLAIM, WorkStruct
from taskscope.model.kernel.workqueue import pool as pool_
from taskscope.model.kernel.workqueue import pwq as pwq_
from taskscope.model.kernel.workqueue import worker as worker_
from taskscope.model.kernel.workqueue.pool import WORKER_NOT_RUNNING, WorkerPool
from taskscope.model.kernel.workqueue_internal import Worker

if TYPE_CHECKING:
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue, WorkqueueStruct

RESCUER_NICE_LEVEL: Final = -20


def init_rescuer(wq: WorkqueueStruct) -> int:
    """Give a workqueue its rescuer if it may be needed to free memory: 0 or a negative errno.

    Context: process context; sleeps.
    """
    if not wq.flags & WQ_MEM_RECLAIM:
        return 0
    m = machine.cur
    rescuer = worker_.alloc_worker()
    rescuer.rescue_wq = wq
    # Since v6.9 (b6a46f7263bd, "workqueue: Rename wq_worker rescuers") they bear a prefix.
    name = f"kworker/R-{wq.name}" if m.flavour.version >= (6, 9) else wq.name
    task = kthread.kthread_create(rescuer_thread, rescuer, name)
    if isinstance(task, int):
        return task
    rescuer.task = task
    wq.rescuer = rescuer
    kthread.kthread_bind_mask(task, (1 << m.nr_cpus) - 1)
    sched_core.wake_up_process(task)
    return 0


def send_mayday(work: WorkStruct) -> None:
    """Call the rescuer of a work's workqueue.

    Context: pool.lock and wq_mayday_lock held.
    """
    pwq = work.pwq
    assert pwq is not None, "the work is queued"
    wq = pwq.wq
    assert machine.cur.wq_mayday_lock.held, "wq_mayday_lock"
    if wq.rescuer is None:
        return
    # mayday mayday mayday
    if list_empty(pwq.mayday_node):
        # The base reference of an unbound workqueue's pwq may be put at any time: pin it until the rescuer is done.
        pwq_.get_pwq(pwq)
        list_add_tail(pwq.mayday_node, wq.maydays)
        assert wq.rescuer.task is not None, "the rescuer has its thread"
        sched_core.wake_up_process(wq.rescuer.task)


def pool_mayday_timeout(t: TimerList) -> None:
    """Call for help: the pool's manager has got no worker for too long.

    Context: softirq.
    """
    m = machine.cur
    pool: WorkerPool = t.owner
    raw_spin_lock_irq(pool.lock)
    raw_spin_lock(m.wq_mayday_lock)                         # for wq->maydays
    if pool_.need_to_create_worker(pool):
        # We've been trying to create a new worker but haven't been successful.  We might be hitting an allocation
        # deadlock.  Send distress signals to rescuers.
        for work in list_for_each_entry(pool.worklist):
            send_mayday(work)
    raw_spin_unlock(m.wq_mayday_lock)
    raw_spin_unlock_irq(pool.lock)
    timer_.mod_timer(pool.mayday_timer, m.jiffies + m.hz // worker_.MAYDAY_INTERVAL)


def _rescue(rescuer: Worker, pwq: PoolWorkqueue) -> None:
    """Go to a pool and do the works of one pwq: the inner part of rescuer_thread().

    Context: process context; sleeps.
    """
    m = machine.cur
    wq = rescuer.rescue_wq
    pool = pwq.pool
    assert wq is not None, "a rescuer has its workqueue"
    worker_.worker_attach_to_pool(rescuer, pool)
    raw_spin_lock_irq(pool.lock)
    # Slurp in all works issued via this workqueue and process'em.
    assert list_empty(rescuer.scheduled), "a rescuer at rest has no works"
    node = pool.worklist.next
    while node is not pool.worklist:
        work: WorkStruct = node.owner
        node = pool_.move_linked_works(work, rescuer.scheduled) if work.pwq is pwq else node.next
    if not list_empty(rescuer.scheduled):
        worker_.process_scheduled_works(rescuer)
        # The above execution of rescued work items could have created more to rescue: by activating works that were
        # kept back, or by chained queueing.  Put the pwq back, so that they do not wait for the next mayday.
        if pwq.nr_active and pool_.need_to_create_worker(pool):
            raw_spin_lock(m.wq_mayday_lock)
            # Queue iff we aren't racing destruction and somebody else hasn't queued it already.
            if wq.rescuer is not None and list_empty(pwq.mayday_node):
                pwq_.get_pwq(pwq)
                list_add_tail(pwq.mayday_node, wq.maydays)
            raw_spin_unlock(m.wq_mayday_lock)
    # Put the reference grabbed by send_mayday().  The pool won't go away while we're still attached to it.
    pwq_.put_pwq(pwq)
    # Leave this pool.  If there is still need of a worker, notify a regular one: otherwise nobody would run.
    if pool_.need_more_worker(pool):
        pool_.wake_up_worker(pool)
    raw_spin_unlock_irq(pool.lock)
    worker_.worker_detach_from_pool(rescuer)


def rescuer_thread(rescuer: Worker) -> int:
    """Be a rescuer: wait to be needed."""
    m = machine.cur
    wq = rescuer.rescue_wq
    assert wq is not None, "a rescuer has its workqueue"
    sched_syscalls.set_user_nice(m.cpu.curr, RESCUER_NICE_LEVEL)
    # Mark rescuer as worker too.  As WORKER_PREP is never cleared, it doesn't participate in concurrency management.
    worker_.set_pf_worker(True)
    while True:                                             # repeat:
        set_current_state(TASK_IDLE)
        # By the time the rescuer is requested to stop, the workqueue shouldn't have any work pending, but maydays may
        # still hold pwqs, whose works others have done: the list is emptied before it ends.
        should_stop = kthread.kthread_should_stop()
        # see whether any pwq is asking for help
        raw_spin_lock_irq(m.wq_mayday_lock)
        while not list_empty(wq.maydays):
            pwq: PoolWorkqueue = list_first_entry(wq.maydays)
            m.cpu.curr.state = TASK_RUNNING
            list_del_init(pwq.mayday_node)
            raw_spin_unlock_irq(m.wq_mayday_lock)
            _rescue(rescuer, pwq)
            raw_spin_lock_irq(m.wq_mayday_lock)
        raw_spin_unlock_irq(m.wq_mayday_lock)
        if should_stop:
            m.cpu.curr.state = TASK_RUNNING
            worker_.set_pf_worker(False)
            return 0
        # rescuers should never participate in concurrency management
        assert rescuer.flags & WORKER_NOT_RUNNING, "a rescuer does not count"
        sched_core.schedule()
