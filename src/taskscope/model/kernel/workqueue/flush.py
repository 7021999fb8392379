"""Waiting for works: kernel/workqueue.c, v4.19: flush_work(), flush_workqueue() with its colours, drain, cancel.

A single work is waited for with a barrier, a work that is linked behind it.  A workqueue is flushed by colour: works
that are queued from now on get the next one, and the flush waits until no work of its own is in flight.  Fifteen
colours let as many flushes overlap; more wait for a colour, and share one.
"""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING, Any

import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.kernel.locking.mutex as mutex
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
import taskscope.model.kernel.time.timer as timer_
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.list import (
    list_add_tail,
    list_del_init,
    list_empty,
    list_first_entry,
    list_for_each_entry,
    list_for_each_entry_safe,
    list_splice_tail_init,
)
from taskscope.model.include.linux.preempt import local_irq_restore, local_irq_save
from taskscope.model.include.linux.sched import PF_MEMALLOC, TASK_NORMAL, TASK_UNINTERRUPTIBLE, Task
from taskscope.model.include.linux.spinlock import raw_spin_lock_irq, raw_spin_unlock_irq
from taskscope.model.include.linux.wait import WaitQueueEntry, waitqueue_active
from taskscope.model.include.linux.workqueue import (
    __WQ_DRAINING,
    __WQ_LEGACY,
    WORK_NO_COLOR,
    WORK_OFFQ_POOL_NONE,
    WORK_STRUCT_LINKED,
    WORK_STRUCT_PENDING,
    WQ_MEM_RECLAIM,
    DelayedWork,
    WorkStruct,
    work_next_color,
)
from taskscope.model.kernel.workqueue import pool as pool_
from taskscope.model.kernel.workqueue import pwq as pwq_
from taskscope.model.kernel.workqueue import queue
from taskscope.model.kernel.workqueue_internal import Worker, current_wq_worker

if TYPE_CHECKING:
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue, WorkqueueStruct, WqFlusher

# ---- one work ----------------------------------------------------------------------------------------------


class WqBarrier:
    """struct wq_barrier: a work behind another one, whose end it tells."""

    __slots__ = ("done", "task", "work")

    def __init__(self) -> None:
        self.work = WorkStruct(wq_barrier_func, self, on_stack=True)
        self.work.flags = WORK_STRUCT_PENDING
        self.done = Completion()
        self.task: Task = machine.cur.cpu.curr              # purely informational


def wq_barrier_func(work: WorkStruct) -> None:
    """Tell that the work before this one has ended."""
    barr: WqBarrier = work.owner
    completion.complete(barr.done)


def check_flush_dependency(target_wq: WorkqueueStruct, target_work: WorkStruct | None) -> None:
    """Warn if who must make progress to free memory waits for who need not."""
    if target_wq.flags & WQ_MEM_RECLAIM:
        return
    m = machine.cur
    current = m.cpu.curr
    worker = current_wq_worker()
    func = "0x0" if target_work is None else kallsyms.sprint_symbol(
        m, kallsyms.kallsyms_address(m, target_work.func), False)
    if current.flags & PF_MEMALLOC:
        printk_.printk(f"<4>workqueue: PF_MEMALLOC task {current.pid}({current.comm}) is flushing "
                       f"!WQ_MEM_RECLAIM {target_wq.name}:{func}\n")
    if worker is not None and worker.current_pwq is not None:
        wq = worker.current_pwq.wq
        if wq.flags & (WQ_MEM_RECLAIM | __WQ_LEGACY) == WQ_MEM_RECLAIM:
            own = kallsyms.sprint_symbol(m, kallsyms.kallsyms_address(m, worker.current_func), False)
            printk_.printk(f"<4>workqueue: WQ_MEM_RECLAIM {wq.name}:{own} is flushing "
                           f"!WQ_MEM_RECLAIM {target_wq.name}:{func}\n")


def insert_wq_barrier(pwq: PoolWorkqueue, barr: WqBarrier, target: WorkStruct, worker: Worker | None) -> None:
    """Put a barrier behind a work.

    Context: pool.lock held.
    :param worker: who is at the work; None if it still waits
    """
    linked = 0
    # If the target is currently being executed, schedule the barrier to the worker; otherwise, put it after the target.
    if worker is not None:
        head = worker.scheduled.next
    else:
        head = target.entry.next
        # there can already be other linked works, inherit and set
        linked = target.flags & WORK_STRUCT_LINKED
        target.flags |= WORK_STRUCT_LINKED
    queue.insert_work(pwq, barr.work, head, linked, WORK_NO_COLOR)


def start_flush_work(work: WorkStruct, barr: WqBarrier) -> bool:
    """Put a barrier behind a work that waits or is being done; False if it does neither."""
    pool = queue.get_work_pool(work)
    if pool is None:
        return False
    raw_spin_lock_irq(pool.lock)
    pwq = work.pwq
    worker = None
    if pwq is None:
        worker = pool_.find_worker_executing_work(pool, work)
        if worker is None:
            raw_spin_unlock_irq(pool.lock)
            return False
        pwq = worker.current_pwq
        assert pwq is not None, "a worker at a work knows for whom"
    check_flush_dependency(pwq.wq, work)
    insert_wq_barrier(pwq, barr, work, worker)
    raw_spin_unlock_irq(pool.lock)
    return True


def __flush_work(work: WorkStruct) -> bool:
    assert machine.cur.wq_online, "works are waited for when there are workers"
    barr = WqBarrier()
    if not start_flush_work(work, barr):
        return False
    completion.wait_for_completion(barr.done)
    return True


def flush_work(work: WorkStruct) -> bool:
    """Wait until a work has ended that is queued or being done; False if it was neither.

    Context: process context; sleeps.
    """
    return __flush_work(work)


def flush_delayed_work(dwork: DelayedWork) -> bool:
    """Let a delayed work be done now, and wait for its end.

    Context: process context; sleeps.
    """
    flags = local_irq_save()
    if timer_.del_timer_sync(dwork.timer):
        assert dwork.wq is not None, "its timer ran"
        queue.__queue_work(dwork.cpu, dwork.wq, dwork.work)
    local_irq_restore(flags)
    return flush_work(dwork.work)


# ---- a workqueue -------------------------------------------------------------------------------------------


def flush_workqueue_prep_pwqs(wq: WorkqueueStruct, flush_color: int, work_color: int) -> bool:
    """Let all pwqs of a workqueue tell when they have no work of a colour, and go on to another; -1 leaves either out.

    Context: wq.mutex held.
    :return: whether there is something to wait for
    """
    wait = False
    if flush_color >= 0:
        assert not wq.nr_pwqs_to_flush, "one colour is flushed at a time"
        wq.nr_pwqs_to_flush = 1
    for pwq in list_for_each_entry(wq.pwqs):
        pool = pwq.pool
        raw_spin_lock_irq(pool.lock)
        if flush_color >= 0:
            assert pwq.flush_color == -1, "the colour before is done"
            if pwq.nr_in_flight[flush_color]:
                pwq.flush_color = flush_color
                wq.nr_pwqs_to_flush += 1
                wait = True
        if work_color >= 0:
            assert work_color == work_next_color(pwq.work_color), "colours go round"
            pwq.work_color = work_color
        raw_spin_unlock_irq(pool.lock)
    if flush_color >= 0:
        wq.nr_pwqs_to_flush -= 1
        if not wq.nr_pwqs_to_flush:
            assert wq.first_flusher is not None, "somebody flushes"
            completion.complete(wq.first_flusher.done)
    return wait


def flush_workqueue(wq: WorkqueueStruct) -> None:
    """Wait until all works have ended that are queued now; those that come meanwhile are not waited for.

    Context: process context; sleeps.
    """
    assert machine.cur.wq_online, "works are waited for when there are workers"
    this_flusher = pwq_.WqFlusher()
    mutex.mutex_lock(wq.mutex)
    # Start-to-wait phase
    next_color = work_next_color(wq.work_color)
    if next_color != wq.flush_color:
        # Color space is not full.  The current work_color becomes our flush_color and work_color is advanced by one.
        assert list_empty(wq.flusher_overflow), "nobody waits for a colour while there are some"
        this_flusher.flush_color = wq.work_color
        wq.work_color = next_color
        if wq.first_flusher is None:
            # no flush in progress, become the first flusher
            assert wq.flush_color == this_flusher.flush_color, "the colour in turn"
            wq.first_flusher = this_flusher
            if not flush_workqueue_prep_pwqs(wq, wq.flush_color, wq.work_color):
                # nothing to flush, done
                wq.flush_color = next_color
                wq.first_flusher = None
                mutex.mutex_unlock(wq.mutex)
                return
        else:
            # wait in queue
            assert wq.flush_color != this_flusher.flush_color, "a later colour"
            list_add_tail(this_flusher.list, wq.flusher_queue)
            flush_workqueue_prep_pwqs(wq, -1, wq.work_color)
    else:
        # Color space is full, wait on overflow queue.  The next flush completion will assign us a flush_color and
        # transfer to flusher_queue.
        list_add_tail(this_flusher.list, wq.flusher_overflow)
    check_flush_dependency(wq, None)
    mutex.mutex_unlock(wq.mutex)
    completion.wait_for_completion(this_flusher.done)
    # Wake-up-and-cascade phase: first flushers are responsible for cascading flushes and handling overflow.  Non-first
    # flushers can simply return.
    if wq.first_flusher is not this_flusher:
        return
    mutex.mutex_lock(wq.mutex)
    # we might have raced, check again with mutex held
    if wq.first_flusher is this_flusher:
        _cascade_flushers(wq, this_flusher)
    mutex.mutex_unlock(wq.mutex)


def _cascade_flushers(wq: WorkqueueStruct, this_flusher: WqFlusher) -> None:
    """Complete the flushers of a colour that is done, and start the next colour: the end of flush_workqueue().

    Context: wq.mutex held.
    """
    wq.first_flusher = None
    assert list_empty(this_flusher.list), "a first flusher is in no queue"
    assert wq.flush_color == this_flusher.flush_color, "its colour is done"
    while True:
        # complete all the flushers sharing the current flush color
        for other in list_for_each_entry_safe(wq.flusher_queue):
            if other.flush_color != wq.flush_color:
                break
            list_del_init(other.list)
            completion.complete(other.done)
        # this flush_color is finished, advance by one
        wq.flush_color = work_next_color(wq.flush_color)
        # one color has been freed, handle overflow queue
        if not list_empty(wq.flusher_overflow):
            # Assign the same color to all overflowed flushers, advance work_color and append to flusher_queue.  This is
            # the start-to-wait phase for these overflowed flushers.
            for other in list_for_each_entry(wq.flusher_overflow):
                other.flush_color = wq.work_color
            wq.work_color = work_next_color(wq.work_color)
            list_splice_tail_init(wq.flusher_overflow, wq.flusher_queue)
            flush_workqueue_prep_pwqs(wq, -1, wq.work_color)
        if list_empty(wq.flusher_queue):
            assert wq.flush_color == wq.work_color, "nothing is left to flush"
            return
        # Need to flush more colors.  Make the next flusher the new first flusher and arm pwqs.
        following: WqFlusher = list_first_entry(wq.flusher_queue)
        assert wq.flush_color != wq.work_color, "the colour in turn"
        assert wq.flush_color == following.flush_color, "the colour in turn"
        list_del_init(following.list)
        wq.first_flusher = following
        if flush_workqueue_prep_pwqs(wq, wq.flush_color, -1):
            return
        # This color is already done, clear first flusher and repeat cascading.
        wq.first_flusher = None


def drain_workqueue(wq: WorkqueueStruct) -> None:
    """Wait until a workqueue is empty; meanwhile only its own works may queue works on it.

    Context: process context; sleeps.
    """
    mutex.mutex_lock(wq.mutex)
    if not wq.nr_drainers:
        wq.flags |= __WQ_DRAINING
    wq.nr_drainers += 1
    mutex.mutex_unlock(wq.mutex)
    flush_cnt = 0
    while True:
        flush_workqueue(wq)
        mutex.mutex_lock(wq.mutex)
        if _all_drained(wq):
            break
        flush_cnt += 1
        if flush_cnt == 10 or (flush_cnt % 100 == 0 and flush_cnt <= 1000):
            printk_.printk(f"<4>workqueue {wq.name}: drain_workqueue() isn't complete after {flush_cnt} tries\n")
        mutex.mutex_unlock(wq.mutex)
    wq.nr_drainers -= 1
    if not wq.nr_drainers:
        wq.flags &= ~__WQ_DRAINING
    mutex.mutex_unlock(wq.mutex)


def _all_drained(wq: WorkqueueStruct) -> bool:
    """Tell whether no pwq of a workqueue has a work.

    Context: wq.mutex held.
    """
    for pwq in list_for_each_entry(wq.pwqs):
        raw_spin_lock_irq(pwq.pool.lock)
        drained = not pwq.nr_active and list_empty(pwq.delayed_works)
        raw_spin_unlock_irq(pwq.pool.lock)
        if not drained:
            return False
    return True


# ---- cancel ------------------------------------------------------------------------------------------------


def cwt_wakefn(wait: WaitQueueEntry, mode: int, sync: int, key: Any) -> int:
    """Wake who waits for the same work to be cancelled by somebody else."""
    if wait.owner is not key:
        return 0
    return sched_wait.autoremove_wake_function(wait, mode, sync, key)


def __cancel_work_timer(work: WorkStruct, is_dwork: bool) -> bool:
    m = machine.cur
    while True:
        flags = local_irq_save()
        ret = queue.try_to_grab_pending(work, is_dwork)
        if ret >= 0:
            break
        local_irq_restore(flags)
        # If someone else is already canceling, wait for it to finish.  flush_work() would not do: the work has ended
        # when the other one still has to clear CANCELING.
        assert ret == -ENOENT, "the work is being cancelled"
        cwait = WaitQueueEntry(m.cpu.curr, cwt_wakefn, work)
        sched_wait.prepare_to_wait_exclusive(m.cancel_waitq, cwait, TASK_UNINTERRUPTIBLE)
        if queue.work_is_canceling(work):
            sched_core.schedule()
        sched_wait.finish_wait(m.cancel_waitq, cwait)
    # tell other tasks trying to grab the work to back off
    queue.mark_work_canceling(work)
    local_irq_restore(flags)
    # This allows canceling during early boot.  We know that the work isn't executing.
    if m.wq_online:
        __flush_work(work)
    # clear_work_data()
    queue.set_work_pool_and_clear_pending(work, WORK_OFFQ_POOL_NONE)
    if waitqueue_active(m.cancel_waitq):
        sched_wait.__wake_up(m.cancel_waitq, TASK_NORMAL, 1, work)
    return bool(ret)


def cancel_work_sync(work: WorkStruct) -> bool:
    """Take a work back and wait for its end if it is being done; whether it was pending.

    Works that queue themselves again are stopped too.

    Context: process context; sleeps.
    """
    return __cancel_work_timer(work, False)


def cancel_delayed_work_sync(dwork: DelayedWork) -> bool:
    """Take a delayed work back and wait for its end if it is being done; whether it was pending.

    Context: process context; sleeps.
    """
    return __cancel_work_timer(dwork.work, True)


def __cancel_work(work: WorkStruct, is_dwork: bool) -> bool:
    flags = local_irq_save()
    ret = queue.try_to_grab_pending(work, is_dwork)
    if ret >= 0:
        pool_id = work.pwq.pool.id if work.pwq is not None else work.pool_id
        queue.set_work_pool_and_clear_pending(work, pool_id)
    local_irq_restore(flags)
    return ret > 0


def cancel_work(work: WorkStruct) -> bool:
    """Take a work back; whether it was pending.  It may be running still."""
    return __cancel_work(work, False)


def cancel_delayed_work(dwork: DelayedWork) -> bool:
    """Take a delayed work back; whether it was pending.  It may be running still."""
    return __cancel_work(dwork.work, True)


def schedule_on_each_cpu(func: Any) -> int:
    """Call a function on each CPU, in a worker, and wait for all of them: 0.

    Context: process context; sleeps.
    """
    m = machine.cur
    works = []
    for cpu in range(m.nr_cpus):
        if m.cpu_online_mask >> cpu & 1:
            work = WorkStruct(func)
            works.append(work)
            queue.queue_work_on(cpu, m.system_wq, work)
    for work in works:
        flush_work(work)
    return 0
