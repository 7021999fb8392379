"""Queueing works: kernel/workqueue.c, v4.19: queue_work_on(), delayed works, taking a pending work back."""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING

import taskscope.model.kernel.time.timer as timer_
from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead, list_add_tail, list_del_init, list_empty
from taskscope.model.include.linux.preempt import irqs_disabled, local_irq_restore, local_irq_save
from taskscope.model.include.linux.spinlock import raw_spin_lock, raw_spin_unlock
from taskscope.model.include.linux.timer import TimerList, timer_pending
from taskscope.model.include.linux.workqueue import (
    __WQ_DRAINING,
    WORK_CPU_UNBOUND,
    WORK_OFFQ_CANCELING,
    WORK_OFFQ_POOL_NONE,
    WORK_STRUCT_DELAYED,
    WORK_STRUCT_PENDING,
    WQ_UNBOUND,
    DelayedWork,
    WorkStruct,
    to_delayed_work,
)
from taskscope.model.include.trace.events import workqueue as trace
from taskscope.model.kernel.workqueue import pool as pool_
from taskscope.model.kernel.workqueue import pwq as pwq_
from taskscope.model.kernel.workqueue_internal import current_wq_worker

if TYPE_CHECKING:
    from taskscope.model.kernel.workqueue.pool import WorkerPool
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue, WorkqueueStruct

# ---- work->data --------------------------------------------------------------------------------------------


def get_work_pool(work: WorkStruct) -> WorkerPool | None:
    """Return the pool that a work is on, or was on last; None if it was on none or that is gone."""
    if work.pwq is not None:
        return work.pwq.pool
    if work.pool_id == WORK_OFFQ_POOL_NONE:
        return None
    pool: WorkerPool | None = machine.cur.worker_pool_idr.get(work.pool_id)
    return pool


def set_work_pool_and_keep_pending(work: WorkStruct, pool_id: int) -> None:
    """Note that a work is off its queue, and still owned by whoever took it."""
    work.pwq = None
    work.pool_id = pool_id
    work.flags = WORK_STRUCT_PENDING


def set_work_pool_and_clear_pending(work: WorkStruct, pool_id: int) -> None:
    """Note that a work is off its queue, and may be queued again."""
    work.pwq = None
    work.pool_id = pool_id
    work.flags = 0


def mark_work_canceling(work: WorkStruct) -> None:
    """Tell others that try to grab the work to back off."""
    work.pool_id = work.pwq.pool.id if work.pwq is not None else work.pool_id
    work.pwq = None
    work.flags = WORK_STRUCT_PENDING | WORK_OFFQ_CANCELING


def work_is_canceling(work: WorkStruct) -> bool:
    """Tell whether somebody waits in cancel_work_sync() for the work."""
    return work.pwq is None and bool(work.flags & WORK_OFFQ_CANCELING)


def _test_and_set_pending(work: WorkStruct) -> bool:
    """Claim a work; return whether somebody else had it (test_and_set_bit(WORK_STRUCT_PENDING_BIT))."""
    if work.flags & WORK_STRUCT_PENDING:
        return True
    work.flags |= WORK_STRUCT_PENDING
    return False


# ---- queueing ----------------------------------------------------------------------------------------------


def insert_work(pwq: PoolWorkqueue, work: WorkStruct, head: ListHead, extra_flags: int, color: int) -> None:
    """Put a work before a node of a list, and see that somebody does it.

    Context: pool.lock held.
    """
    pool = pwq.pool
    assert pool.lock.held, "pool.lock"
    # we own @work, set data and link
    work.pwq = pwq
    work.color = color
    work.flags = WORK_STRUCT_PENDING | extra_flags
    list_add_tail(work.entry, head)
    pwq_.get_pwq(pwq)
    # Either wq_worker_sleeping() sees the work on the list, or we see that nobody runs.
    if pool_.__need_more_worker(pool):
        pool_.wake_up_worker(pool)


def is_chained_work(wq: WorkqueueStruct) -> bool:
    """Tell whether the running task is a worker at a work of this workqueue."""
    worker = current_wq_worker()
    return worker is not None and worker.current_pwq is not None and worker.current_pwq.wq is wq


def __queue_work(cpu: int, wq: WorkqueueStruct, work: WorkStruct) -> None:
    """Queue a work that the caller owns.

    Context: irqs off.
    """
    m = machine.cur
    assert irqs_disabled(), "irqs off"
    req_cpu = cpu
    # if draining, only works from the same workqueue are allowed
    if wq.flags & __WQ_DRAINING and not is_chained_work(wq):
        raise AssertionError(f"{work} is queued on {wq}, which is being drained")
    if req_cpu == WORK_CPU_UNBOUND:
        # raw_smp_processor_id(); wq_select_unbound_cpu() takes it too, as wq_unbound_cpumask holds all CPUs
        cpu = m.cpu.id
    # pwq which will be used unless @work is executing elsewhere
    pwq = wq.dfl_pwq if wq.flags & WQ_UNBOUND else wq.cpu_pwqs[cpu]
    assert pwq is not None, f"{wq} has no pool"
    # If @work was previously on a different pool, it might still be running there, in which case the work needs to be
    # queued on that pool to guarantee non-reentrancy.
    last_pool = get_work_pool(work)
    if last_pool is not None and last_pool is not pwq.pool:
        raw_spin_lock(last_pool.lock)
        worker = pool_.find_worker_executing_work(last_pool, work)
        if worker is not None and worker.current_pwq is not None and worker.current_pwq.wq is wq:
            pwq = worker.current_pwq
        else:
            # meh... not running there, queue here
            raw_spin_unlock(last_pool.lock)
            raw_spin_lock(pwq.pool.lock)
    else:
        raw_spin_lock(pwq.pool.lock)
    assert pwq.refcnt, f"{pwq} is dead"
    # pwq determined, queue
    trace.trace_workqueue_queue_work(req_cpu, pwq, work)
    assert list_empty(work.entry), f"{work} is on a list"
    pwq.nr_in_flight[pwq.work_color] += 1
    if pwq.nr_active < pwq.max_active:
        trace.trace_workqueue_activate_work(work)
        pwq.nr_active += 1
        insert_work(pwq, work, pwq.pool.worklist, 0, pwq.work_color)
    else:
        insert_work(pwq, work, pwq.delayed_works, WORK_STRUCT_DELAYED, pwq.work_color)
    raw_spin_unlock(pwq.pool.lock)


def queue_work_on(cpu: int, wq: WorkqueueStruct, work: WorkStruct) -> bool:
    """Queue a work on a CPU; False if it waits somewhere already.

    Context: any.
    """
    ret = False
    flags = local_irq_save()
    if not _test_and_set_pending(work):
        __queue_work(cpu, wq, work)
        ret = True
    local_irq_restore(flags)
    return ret


# ---- delayed works -----------------------------------------------------------------------------------------


def delayed_work_timer_fn(t: TimerList) -> None:
    """Queue a delayed work whose time has come.

    Context: softirq; the timer is irqsafe, so that irqs are off here.
    """
    dwork: DelayedWork = t.owner
    assert dwork.wq is not None, "the timer was started for a workqueue"
    flags = local_irq_save()                                # expire_timers() does it for TIMER_IRQSAFE
    __queue_work(dwork.cpu, dwork.wq, dwork.work)
    local_irq_restore(flags)


def __queue_delayed_work(cpu: int, wq: WorkqueueStruct, dwork: DelayedWork, delay: int) -> None:
    timer = dwork.timer
    assert timer.function is delayed_work_timer_fn, "a delayed work's timer queues it"
    assert not timer_pending(timer), "the timer runs"
    # The earliest a timer can expire is the next tick; users depend on that there is no such delay for 0.
    if not delay:
        __queue_work(cpu, wq, dwork.work)
        return
    dwork.wq = wq
    dwork.cpu = cpu
    timer.expires = machine.cur.jiffies + delay
    if cpu != WORK_CPU_UNBOUND:
        timer_.add_timer_on(timer, cpu)
    else:
        timer_.add_timer(timer)


def queue_delayed_work_on(cpu: int, wq: WorkqueueStruct, dwork: DelayedWork, delay: int) -> bool:
    """Queue a work on a CPU in `delay` jiffies; False if it is pending already.

    Context: any.
    """
    ret = False
    flags = local_irq_save()
    if not _test_and_set_pending(dwork.work):
        __queue_delayed_work(cpu, wq, dwork, delay)
        ret = True
    local_irq_restore(flags)
    return ret


def mod_delayed_work_on(cpu: int, wq: WorkqueueStruct, dwork: DelayedWork, delay: int) -> bool:
    """Let a work be queued in `delay` jiffies, whether it is pending (True) or not (False).

    Context: any.
    """
    flags = local_irq_save()
    ret = try_to_grab_pending(dwork.work, True)
    if ret >= 0:
        __queue_delayed_work(cpu, wq, dwork, delay)
    local_irq_restore(flags)
    # -ENOENT from try_to_grab_pending() becomes True
    return bool(ret)


# ---- taking back -------------------------------------------------------------------------------------------


def try_to_grab_pending(work: WorkStruct, is_dwork: bool) -> int:
    """Take a work from wherever it waits, so that the caller owns it.

    The kernel's -EAGAIN (somebody is just about to queue it) does not occur: that is one step here.

    Context: irqs off; they stay so.
    :return: 1 if it was pending, 0 if it was idle, -ENOENT if somebody else cancels it
    """
    assert irqs_disabled(), "irqs off"
    # try to steal the timer if it exists
    if is_dwork and timer_.del_timer(to_delayed_work(work).timer):
        return 1
    # try to claim PENDING the normal way
    if not _test_and_set_pending(work):
        return 0
    pwq = work.pwq
    if pwq is None:
        assert work_is_canceling(work), f"{work} is pending, and nowhere"
        return -ENOENT
    # The queueing has been done.  Steal it from the list without clearing PENDING.
    raw_spin_lock(pwq.pool.lock)
    # A work that is kept back cannot be grabbed directly, as works without colour may be linked to it, which would
    # upset nr_active later.  It is activated first.
    if work.flags & WORK_STRUCT_DELAYED:
        pwq_.pwq_activate_delayed_work(work)
    list_del_init(work.entry)
    color = work.color
    pool = pwq.pool
    pwq_.pwq_dec_nr_in_flight(pwq, color)
    # work->data points to pwq iff queued, point to pool
    set_work_pool_and_keep_pending(work, pool.id)
    raw_spin_unlock(pool.lock)
    return 1
