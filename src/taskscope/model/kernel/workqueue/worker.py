"""Workers: kernel/workqueue.c, v4.19: their making and end, and worker_thread(), which does the works of a pool.

A worker is named kworker/CPU:ID, with an H if its pool is of high priority, or kworker/uPOOL:ID.  One that is about to
work sees that another one stays idle behind it, and makes it if need be: so workers come.  More than a quarter of the
busy ones, idle for five minutes, go.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.fs.exec as exec_
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.locking.mutex as mutex
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.time.timer as timer_
from taskscope.model import machine
from taskscope.model.include.linux.list import (
    list_add,
    list_add_tail,
    list_del_init,
    list_empty,
    list_first_entry,
)
from taskscope.model.include.linux.preempt import in_atomic
from taskscope.model.include.linux.sched import PF_WQ_WORKER, TASK_IDLE, Task
from taskscope.model.include.linux.spinlock import raw_spin_lock_irq, raw_spin_unlock_irq
from taskscope.model.include.linux.timer import TimerList, timer_pending
from taskscope.model.include.linux.wait import wake_up
from taskscope.model.include.linux.workqueue import (
    WORK_CPU_UNBOUND,
    WORK_STRUCT_LINKED,
    WQ_CPU_INTENSIVE,
    WorkStruct,
    wq_name_len,
)
from taskscope.model.include.trace.events import workqueue as trace
from taskscope.model.kernel.workqueue import pool as pool_
from taskscope.model.kernel.workqueue import pwq as pwq_
from taskscope.model.kernel.workqueue import queue
from taskscope.model.kernel.workqueue.pool import (
    POOL_DISASSOCIATED,
    POOL_MANAGER_ACTIVE,
    WORKER_CPU_INTENSIVE,
    WORKER_DIE,
    WORKER_IDLE,
    WORKER_PREP,
    WORKER_REBOUND,
    WORKER_UNBOUND,
    WorkerPool,
)
from taskscope.model.kernel.workqueue_internal import Worker

IDLE_WORKER_TIMEOUT: Final = 300                            # s: keep idle ones for 5 mins
MAYDAY_INITIAL_TIMEOUT: Final = 100                         # HZ by this: call for help after 10 ms, 2 jiffies at least
MAYDAY_INTERVAL: Final = 10                                 # HZ by this: and then every 100 ms
CREATE_COOLDOWN: Final = 1                                  # s: time to breathe after a failure

# ---- idle --------------------------------------------------------------------------------------------------


def worker_enter_idle(worker: Worker) -> None:
    """Put a worker on the idle list, and start the timer if there are too many.

    Context: pool.lock held.
    """
    pool = worker.pool
    m = machine.cur
    assert pool is not None, "pool.lock"
    assert pool.lock.held, "pool.lock"
    assert not worker.flags & WORKER_IDLE, "not idle yet"
    assert list_empty(worker.entry), "not idle yet"
    # can't use worker_set_flags(), also called from create_worker()
    worker.flags |= WORKER_IDLE
    pool.nr_idle += 1
    worker.last_active = m.jiffies
    # idle_list is LIFO
    list_add(worker.entry, pool.idle_list)
    if pool_.too_many_workers(pool) and not timer_pending(pool.idle_timer):
        timer_.mod_timer(pool.idle_timer, m.jiffies + IDLE_WORKER_TIMEOUT * m.hz)
    assert pool.nr_workers != pool.nr_idle or not pool.nr_running, "nobody runs where all are idle"


def worker_leave_idle(worker: Worker) -> None:
    """Take a worker off the idle list.

    Context: pool.lock held.
    """
    pool = worker.pool
    assert pool is not None, "it is idle"
    assert worker.flags & WORKER_IDLE, "it is idle"
    pool_.worker_clr_flags(worker, WORKER_IDLE)
    pool.nr_idle -= 1
    list_del_init(worker.entry)


def idle_worker_timeout(t: TimerList) -> None:
    """End the workers that have been idle for too long, if there are too many.

    Since v6.3 (3f959aa3b338, "Convert the idle_timer to a timer + work_struct") a work does it, as the timer may not
    sleep.

    Context: softirq.
    """
    m = machine.cur
    pool: WorkerPool = t.owner
    raw_spin_lock_irq(pool.lock)
    if m.flavour.switches.idle_cull_work:
        do_cull = False
        if pool_.too_many_workers(pool):
            oldest: Worker = pool.idle_list.prev.owner
            expires = oldest.last_active + IDLE_WORKER_TIMEOUT * m.hz
            do_cull = m.jiffies >= expires
            if not do_cull:
                timer_.mod_timer(pool.idle_timer, expires)
        raw_spin_unlock_irq(pool.lock)
        if do_cull:
            queue.queue_work_on(WORK_CPU_UNBOUND, m.system_unbound_wq, pool.idle_cull_work)
        return
    _cull(pool)
    raw_spin_unlock_irq(pool.lock)


def _cull(pool: WorkerPool) -> list[Worker]:
    """End the idle workers that are too many and have been idle for long enough; return them.

    Context: pool.lock held.
    """
    m = machine.cur
    culled = []
    while pool_.too_many_workers(pool):
        # idle_list is kept in LIFO order, check the last one
        worker: Worker = pool.idle_list.prev.owner
        expires = worker.last_active + IDLE_WORKER_TIMEOUT * m.hz
        if m.jiffies < expires:
            timer_.mod_timer(pool.idle_timer, expires)
            break
        destroy_worker(worker)
        culled.append(worker)
    return culled


def idle_cull_fn(work: WorkStruct) -> None:
    """End idle workers from a worker, and let them die on any CPU, not on that which they served (v6.3: e02b93124855).

    Context: process context; sleeps.
    """
    m = machine.cur
    pool: WorkerPool = work.owner
    mutex.mutex_lock(m.wq_pool_attach_mutex)
    raw_spin_lock_irq(pool.lock)
    culled = _cull(pool)
    raw_spin_unlock_irq(pool.lock)
    wake_dying_workers(culled)
    mutex.mutex_unlock(m.wq_pool_attach_mutex)


def wake_dying_workers(dying: list[Worker]) -> None:
    """Let workers end, on any CPU (v6.3; before, destroy_worker() has woken them).

    Context: wq_pool_attach_mutex held.
    """
    m = machine.cur
    if m.flavour.switches.idle_cull_work:
        for worker in dying:
            assert worker.task is not None, "the worker has its thread"
            sched_core.set_cpus_allowed_ptr(worker.task, (1 << m.nr_cpus) - 1)      # unbind_worker()
            sched_core.wake_up_process(worker.task)


# ---- coming and going --------------------------------------------------------------------------------------


def alloc_worker() -> Worker:
    """Make a worker, idle not yet and preparing."""
    return Worker(WORKER_PREP)


def worker_attach_to_pool(worker: Worker, pool: WorkerPool) -> None:
    """Make a worker one of the pool's: on its CPUs, unbound if it is.

    Context: process context; sleeps.
    """
    m = machine.cur
    mutex.mutex_lock(m.wq_pool_attach_mutex)
    assert worker.task is not None, "the worker has its thread"
    # This fails where none of the CPUs is up; rebind_workers() does it again.
    sched_core.set_cpus_allowed_ptr(worker.task, pool.attrs.cpumask)
    if pool.flags & POOL_DISASSOCIATED:
        worker.flags |= WORKER_UNBOUND
    list_add_tail(worker.node, pool.workers)
    worker.pool = pool
    mutex.mutex_unlock(m.wq_pool_attach_mutex)


def worker_detach_from_pool(worker: Worker) -> None:
    """Undo `worker_attach_to_pool`; who waits for the pool's last worker hears of it.

    Context: process context; sleeps.
    """
    m = machine.cur
    pool = worker.pool
    assert pool is not None, "the worker is attached"
    detach_completion = None
    mutex.mutex_lock(m.wq_pool_attach_mutex)
    list_del_init(worker.node)
    worker.pool = None
    if list_empty(pool.workers):
        detach_completion = pool.detach_completion
    mutex.mutex_unlock(m.wq_pool_attach_mutex)
    # clear leftover flags without pool->lock after it is detached
    worker.flags &= ~(WORKER_UNBOUND | WORKER_REBOUND)
    if detach_completion is not None:
        completion.complete(detach_completion)


def format_worker_id(worker: Worker, pool: WorkerPool) -> str:
    """Return the name of a worker's thread (a function of its own since v6.11)."""
    if pool.cpu >= 0:
        return f"kworker/{pool.cpu}:{worker.id}{'H' if pool.attrs.nice < 0 else ''}"
    return f"kworker/u{pool.id}:{worker.id}"


def create_worker(pool: WorkerPool) -> Worker | None:
    """Make a worker for a pool and wake it; None if its thread could not be made.

    Context: process context; sleeps.
    """
    worker = alloc_worker()
    worker.id = next(n for n in range(len(pool.worker_ida) + 1) if n not in pool.worker_ida)    # ida_alloc()
    pool.worker_ida.add(worker.id)
    task = kthread.kthread_create_on_node(worker_thread, worker, -1, format_worker_id(worker, pool))
    if isinstance(task, int):
        pool.worker_ida.remove(worker.id)
        return None
    worker.task = task
    sched_syscalls.set_user_nice(task, pool.attrs.nice)
    kthread.kthread_bind_mask(task, pool.attrs.cpumask)
    # successful, attach the worker to the pool
    worker_attach_to_pool(worker, pool)
    # start the newly created worker
    raw_spin_lock_irq(pool.lock)
    pool.nr_workers += 1
    worker_enter_idle(worker)
    sched_core.wake_up_process(task)
    raw_spin_unlock_irq(pool.lock)
    return worker


def destroy_worker(worker: Worker) -> None:
    """Let an idle worker end.  set_worker_dying() since v6.3.

    Context: pool.lock held.
    """
    pool = worker.pool
    assert pool is not None, "pool.lock"
    assert pool.lock.held, "pool.lock"
    assert worker.current_work is None, "it is idle"
    assert list_empty(worker.scheduled), "it is idle"
    assert worker.flags & WORKER_IDLE, "it is idle"
    pool.nr_workers -= 1
    pool.nr_idle -= 1
    list_del_init(worker.entry)
    worker.flags |= WORKER_DIE
    assert worker.task is not None, "the worker has its thread"
    if not machine.cur.flavour.switches.idle_cull_work:
        sched_core.wake_up_process(worker.task)


def maybe_create_worker(pool: WorkerPool) -> None:
    """Make workers until one is idle, crying for rescuers if that takes long.

    Context: pool.lock held; released meanwhile.  The pool's manager alone.
    """
    m = machine.cur
    while True:
        raw_spin_unlock_irq(pool.lock)
        # if we don't make progress in MAYDAY_INITIAL_TIMEOUT, call for help
        timer_.mod_timer(pool.mayday_timer, m.jiffies + max(m.hz // MAYDAY_INITIAL_TIMEOUT, 2))
        while create_worker(pool) is None and pool_.need_to_create_worker(pool):
            timer_.schedule_timeout_interruptible(CREATE_COOLDOWN * m.hz)
            if not pool_.need_to_create_worker(pool):
                break
        timer_.del_timer_sync(pool.mayday_timer)
        raw_spin_lock_irq(pool.lock)
        # The new worker might have already become busy, as the lock was dropped.
        if not pool_.need_to_create_worker(pool):
            return


def manage_workers(worker: Worker) -> bool:
    """Be the pool's manager, if nobody is: see that there is an idle worker.

    Context: pool.lock held; released meanwhile if it returns True.
    :return: whether what the caller knew of the pool may have changed
    """
    pool = worker.pool
    assert pool is not None, "the worker is attached"
    if pool.flags & POOL_MANAGER_ACTIVE:
        return False
    pool.flags |= POOL_MANAGER_ACTIVE
    pool.manager = worker
    maybe_create_worker(pool)
    pool.manager = None
    pool.flags &= ~POOL_MANAGER_ACTIVE
    wake_up(machine.cur.wq_manager_wait)
    return True


# ---- at work -----------------------------------------------------------------------------------------------


def process_one_work(worker: Worker, work: WorkStruct) -> None:
    """Do one work.

    Context: pool.lock held; released while the work's function runs.
    """
    m = machine.cur
    pwq = work.pwq
    pool = worker.pool
    assert pwq is not None, "a worker does works that are queued"
    assert pool is not None, "a worker does works that are queued"
    cpu_intensive = pwq.wq.flags & WQ_CPU_INTENSIVE
    assert pool.flags & POOL_DISASSOCIATED or m.cpu.id == pool.cpu, "ensure we're on the correct CPU"
    # A single work shouldn't be executed concurrently by multiple workers of a pool.  If somebody is at it, leave it to
    # him.
    collision = pool_.find_worker_executing_work(pool, work)
    if collision is not None:
        pool_.move_linked_works(work, collision.scheduled)
        return
    # claim and dequeue
    pool.busy_hash.append(worker)
    worker.current_work = work
    worker.current_func = work.func
    worker.current_pwq = pwq
    task = m.cpu.curr
    worker.current_at = task.se.sum_exec_runtime
    work_color = work.color
    # Record wq name for cmdline and debug reporting, may get overridden through set_worker_desc().
    worker.desc = pwq.wq.name
    list_del_init(work.entry)
    # CPU intensive works don't participate in concurrency management.  They're the scheduler's responsibility.
    if cpu_intensive:
        pool_.worker_set_flags(worker, WORKER_CPU_INTENSIVE)
    # Wake up another worker if necessary.  That is never so for normal workers of a CPU, as this one counts as running;
    # it chains the execution of pending works on unbound pools and behind works that are CPU intensive.
    if pool_.need_more_worker(pool):
        pool_.wake_up_worker(pool)
    # Record the last pool and clear PENDING, which is the last update to the work: it can be queued again from here on.
    queue.set_work_pool_and_clear_pending(work, pool.id)
    raw_spin_unlock_irq(pool.lock)
    func = worker.current_func
    trace.trace_workqueue_execute_start(work)
    func(work)
    # While we must be careful to not use the work after this, the trace point will only record its address.
    trace.trace_workqueue_execute_end(work, func)
    m = machine.cur
    if in_atomic():
        printk_.printk(f"<3>BUG: workqueue leaked lock or atomic: {task.comm}/0x{m.cpu.preempt_count:08x}/{task.pid}\n")
        raise AssertionError(f"{func.__name__}() leaked a lock: preempt_count is {m.cpu.preempt_count:#x}")
    # Where the kernel is not preemptible, a work that queues itself again must not keep others from the CPU.
    sched_core._cond_resched()
    raw_spin_lock_irq(pool.lock)
    # clear cpu intensive status; it may have been set by the tick
    if worker.flags & WORKER_CPU_INTENSIVE:
        pool_.worker_clr_flags(worker, WORKER_CPU_INTENSIVE)
    # tag the worker for identification in schedule()
    worker.last_func = func
    # we're done with it, release
    pool.busy_hash.remove(worker)
    worker.current_work = None
    worker.current_func = None
    worker.current_pwq = None
    pwq_.pwq_dec_nr_in_flight(pwq, work_color)


def process_scheduled_works(worker: Worker) -> None:
    """Do the works that were given to this very worker.

    Context: pool.lock held; released while works run.
    """
    while not list_empty(worker.scheduled):
        process_one_work(worker, list_first_entry(worker.scheduled))


def set_pf_worker(val: bool) -> None:
    """Tell the scheduler that the running task is a worker, or is none any more.

    Context: process context; sleeps.
    """
    m = machine.cur
    current = m.cpu.curr
    mutex.mutex_lock(m.wq_pool_attach_mutex)
    if val:
        current.flags |= PF_WQ_WORKER
    else:
        current.flags &= ~PF_WQ_WORKER
    mutex.mutex_unlock(m.wq_pool_attach_mutex)


def worker_thread(worker: Worker) -> int:
    """Be a worker: do the pool's works one after the other, sleep when there is none, end when told to.

    A worker begins on the idle list, where create_worker() put it.
    """
    pool = worker.pool
    assert pool is not None, "the worker is attached before it is woken"
    # tell the scheduler that this is a workqueue worker
    set_pf_worker(True)
    while True:                                             # woke_up:
        raw_spin_lock_irq(pool.lock)
        # am I supposed to die?
        if worker.flags & WORKER_DIE:
            raw_spin_unlock_irq(pool.lock)
            _worker_die(worker, pool)
            return 0
        worker_leave_idle(worker)
        # no more worker necessary?  do we need to manage?
        managed = True
        while managed and pool_.need_more_worker(pool):
            managed = not pool_.may_start_working(pool) and manage_workers(worker)
        if not managed:
            assert list_empty(worker.scheduled), "nobody gave works to an idle worker"
            # Finish PREP stage.  We're guaranteed to have at least one idle worker or that someone else has already
            # assumed the manager role.  This is where the worker starts participating in concurrency management if
            # applicable.
            pool_.worker_clr_flags(worker, WORKER_PREP | WORKER_REBOUND)
            while True:
                work: WorkStruct = list_first_entry(pool.worklist)
                if not work.flags & WORK_STRUCT_LINKED:
                    # optimization path, not strictly necessary
                    process_one_work(worker, work)
                    if not list_empty(worker.scheduled):
                        process_scheduled_works(worker)
                else:
                    pool_.move_linked_works(work, worker.scheduled)
                    process_scheduled_works(worker)
                if not pool_.keep_working(pool):
                    break
            pool_.worker_set_flags(worker, WORKER_PREP)
        # pool->lock is held and there's no work to process and no need to manage, sleep.  Workers are woken up only
        # while holding pool->lock or from local cpu, so setting the current state before releasing pool->lock is enough
        # to prevent losing any event.
        worker_enter_idle(worker)
        machine.cur.cpu.curr.state = TASK_IDLE
        raw_spin_unlock_irq(pool.lock)
        sched_core.schedule()


def _worker_die(worker: Worker, pool: WorkerPool) -> None:
    """Leave the pool for good: the part of worker_thread() for WORKER_DIE.

    Context: process context; sleeps.
    """
    assert list_empty(worker.entry), "a dying worker is on no list"
    set_pf_worker(False)
    assert worker.task is not None, "the worker is this thread"
    if not machine.cur.flavour.switches.format_worker_id:
        exec_.set_task_comm(worker.task, "kworker/dying")
    pool.worker_ida.remove(worker.id)
    worker_detach_from_pool(worker)


# ---- names -------------------------------------------------------------------------------------------------


def set_worker_desc(desc: str) -> None:
    """Say what the running worker does, until its work ends; nothing if the task is no worker."""
    current = machine.cur.cpu.curr
    if current.flags & PF_WQ_WORKER:
        worker: Worker = kthread.kthread_data(current)
        worker.desc = desc[: wq_name_len() - 1]


def wq_worker_comm(task: Task) -> str:
    """Return the name of a worker for /proc: with ``+`` and what it does, or ``-`` and what it did last (v4.18).

    :param task: with PF_WQ_WORKER
    """
    worker: Worker = kthread.kthread_data(task)
    pool = worker.pool
    name = task.comm
    if machine.cur.flavour.switches.format_worker_id:
        # since v6.11 made anew, so that it is whole where comm is cut to 15 bytes
        if worker.rescue_wq is not None:
            name = f"kworker/R-{worker.rescue_wq.name}"
        else:
            name = format_worker_id(worker, pool) if pool is not None else "kworker/dying"
    if pool is not None and worker.desc:
        name += ("+" if worker.current_work is not None else "-") + worker.desc
    return name[:63]
