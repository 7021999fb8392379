"""Worker pools: kernel/workqueue.c, v4.19: what a pool is, when it needs one more running worker, and its wakeups.

A pool wants exactly one of its bound workers to run as long as there is work: ``nr_running`` counts them, and the
scheduler tells when one goes to sleep or comes back.  Workers of unbound pools, and those at a WQ_CPU_INTENSIVE work,
do not count: for them there is always need of one more.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.list import ListHead, list_empty, list_first_entry, list_move_tail
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    raw_spin_lock,
    raw_spin_lock_irq,
    raw_spin_unlock,
    raw_spin_unlock_irq,
)
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.linux.workqueue import WORK_STRUCT_LINKED, WorkStruct
from taskscope.model.kernel.workqueue_internal import Worker

# worker_pool.flags
POOL_MANAGER_ACTIVE: Final = 1 << 0     # somebody makes workers
POOL_DISASSOCIATED: Final = 1 << 2      # bound to no CPU

# worker.flags
WORKER_DIE: Final = 1 << 1              # die die die
WORKER_IDLE: Final = 1 << 2             # is idle
WORKER_PREP: Final = 1 << 3             # preparing to run works
WORKER_CPU_INTENSIVE: Final = 1 << 6    # at a work that computes for long
WORKER_UNBOUND: Final = 1 << 7          # of an unbound pool
WORKER_REBOUND: Final = 1 << 8          # its CPU came back
#: with any of these it does not take part in concurrency management
WORKER_NOT_RUNNING: Final = WORKER_PREP | WORKER_CPU_INTENSIVE | WORKER_UNBOUND | WORKER_REBOUND

MAX_IDLE_WORKERS_RATIO: Final = 4       # 1/4 of busy can be idle
WQ_CPU_INTENSIVE_THRESH_US: Final = 10_000

NSEC_PER_USEC: Final = 1000


class WorkqueueAttrs:
    """struct workqueue_attrs: what sets the pools of unbound workqueues apart."""

    __slots__ = ("cpumask", "nice", "no_numa")

    def __init__(self, nice: int, cpumask: int, no_numa: bool = False) -> None:
        self.nice = nice
        self.cpumask = cpumask
        self.no_numa = no_numa                              # ordered: affn_scope is WQ_AFFN_SYSTEM since v6.5

    def __repr__(self) -> str:
        return f"<attrs nice {self.nice} cpus {self.cpumask:#x}>"


class WorkerPool:
    """struct worker_pool.  Guarded by ``lock`` but for what wq_pool_attach_mutex and wq_pool_mutex say."""

    __slots__ = (
        "attrs",
        "busy_hash",
        "cpu",
        "detach_completion",
        "flags",
        "id",
        "idle_cull_work",
        "idle_list",
        "idle_timer",
        "lock",
        "manager",
        "mayday_timer",
        "nr_idle",
        "nr_running",
        "nr_workers",
        "refcnt",
        "worker_ida",
        "workers",
        "worklist",
    )

    def __init__(self, attrs: WorkqueueAttrs) -> None:
        from taskscope.model.kernel.workqueue import rescuer, worker

        self.lock = Spinlock("pool.lock")
        self.cpu = -1                                       # the associated cpu; -1: unbound
        self.id = -1
        self.flags = POOL_DISASSOCIATED
        self.worklist = ListHead()                          # pending works
        self.nr_workers = 0
        self.nr_idle = 0                                    # of them
        self.idle_list = ListHead()                         # the last one to become idle comes first
        self.idle_timer = TimerList(worker.idle_worker_timeout, self)
        self.idle_cull_work = WorkStruct(worker.idle_cull_fn, self)     # v6.3
        self.mayday_timer = TimerList(rescuer.pool_mayday_timeout, self)
        self.busy_hash: list[Worker] = []                   # those at a work
        self.manager: Worker | None = None                  # purely informational
        self.nr_running = 0
        self.attrs = attrs
        # wq_pool_attach_mutex:
        self.workers = ListHead()                           # all that are attached, rescuers too
        self.detach_completion: Completion | None = None    # all workers are gone
        self.worker_ida: set[int] = set()                   # numbers of workers in use
        # wq_pool_mutex:
        self.refcnt = 1                                     # of an unbound pool

    def __repr__(self) -> str:
        return f"<pool {self.id} cpu {self.cpu} {self.attrs}>"


# ---- when a worker is needed; Context of all: pool.lock held -----------------------------------------------


def __need_more_worker(pool: WorkerPool) -> bool:
    return not pool.nr_running


def need_more_worker(pool: WorkerPool) -> bool:
    """Tell whether a worker should be woken.  Asked by all but running workers.

    Workers of an unbound pool never count, so that there it is so as long as there is work.
    """
    return not list_empty(pool.worklist) and __need_more_worker(pool)


def may_start_working(pool: WorkerPool) -> bool:
    """Tell a worker that is about to work whether another one stays idle, to take over when this one sleeps."""
    return pool.nr_idle > 0


def keep_working(pool: WorkerPool) -> bool:
    """Tell a running worker whether to take the next work: nobody else does."""
    return not list_empty(pool.worklist) and pool.nr_running <= 1


def need_to_create_worker(pool: WorkerPool) -> bool:
    """Tell the manager whether a worker must be made."""
    return need_more_worker(pool) and not may_start_working(pool)


def too_many_workers(pool: WorkerPool) -> bool:
    """Tell whether some idle workers should go: more than two, and more than a quarter of the busy ones."""
    managing = bool(pool.flags & POOL_MANAGER_ACTIVE)
    nr_idle = pool.nr_idle + managing                       # manager is considered idle
    nr_busy = pool.nr_workers - nr_idle
    return nr_idle > 2 and (nr_idle - 2) * MAX_IDLE_WORKERS_RATIO >= nr_busy


def first_idle_worker(pool: WorkerPool) -> Worker | None:
    """Return the worker that became idle last, whose caches are warmest."""
    if list_empty(pool.idle_list):
        return None
    worker: Worker = list_first_entry(pool.idle_list)
    return worker


def wake_up_worker(pool: WorkerPool) -> bool:
    """Wake the first idle worker; return whether there was one.  kick_pool() since v6.5."""
    worker = first_idle_worker(pool)
    if worker is None:
        return False
    assert worker.task is not None, "a worker on idle_list has its thread"
    sched_core.wake_up_process(worker.task)
    return True


# ---- what the scheduler calls ------------------------------------------------------------------------------


def wq_worker_waking_up(task: Task, cpu: int) -> None:
    """Count a worker that becomes runnable.  Until v5.2, of ttwu_activate().

    Context: rq.lock held.
    """
    worker: Worker = kthread.kthread_data(task)
    if not worker.flags & WORKER_NOT_RUNNING:
        pool = worker.pool
        assert pool is not None, "a worker is woken on the CPU of its pool"
        assert pool.cpu == cpu, "a worker is woken on the CPU of its pool"
        pool.nr_running += 1


def wq_worker_sleeping(task: Task) -> Task | None:
    """Count a worker that goes to sleep, and let another one run if that would leave work undone.

    Until v5.2 the caller, __schedule(), wakes the worker that is returned; since then (6d25be5782e4, "sched/core,
    workqueues: Distangle worker accounting from rq lock") it is woken here.

    Context: v4.19: rq.lock of the worker's CPU held; the worker is bound to it, so that nobody else touches idle_list.
    v5.2: schedule(), before the runqueue is locked.
    """
    worker: Worker = kthread.kthread_data(task)
    # Rescuers, which may not have all the fields set up like normal workers, also reach here: look at NOT_RUNNING
    # first.
    if worker.flags & WORKER_NOT_RUNNING:
        return None
    pool = worker.pool
    assert pool is not None, "a bound worker runs on the CPU of its pool"
    assert pool.cpu == machine.cur.cpu.id, "a bound worker runs on the CPU of its pool"
    outside = machine.cur.flavour.switches.wq_worker_running
    if outside:
        # Return if preempted before wq_worker_running() was reached.
        if worker.sleeping:
            return None
        worker.sleeping = True
        raw_spin_lock_irq(pool.lock)
    pool.nr_running -= 1
    to_wakeup = first_idle_worker(pool) if need_more_worker(pool) else None
    if outside:
        if to_wakeup is not None:
            wake_up_worker(pool)
        raw_spin_unlock_irq(pool.lock)
        return None
    return to_wakeup.task if to_wakeup is not None else None


def wq_worker_running(task: Task) -> None:
    """Count a worker that has come back from schedule() (v5.2: 6d25be5782e4, "Distangle worker accounting")."""
    worker: Worker = kthread.kthread_data(task)
    if not worker.sleeping:
        return
    if not worker.flags & WORKER_NOT_RUNNING:
        assert worker.pool is not None, "a bound worker has a pool"
        worker.pool.nr_running += 1
    # Automatic detection of intensive works is about how long one has the CPU without sleeping.
    worker.current_at = task.se.sum_exec_runtime
    worker.sleeping = False


def wq_worker_tick(task: Task) -> None:
    """Take a worker that computes for more than 10 ms out of concurrency management (v6.5: 616db8779b1e).

    Context: scheduler_tick(), hard interrupt.
    """
    worker: Worker = kthread.kthread_data(task)
    if worker.current_pwq is None:
        return
    pool = worker.pool
    hogged = task.se.sum_exec_runtime - worker.current_at
    if worker.flags & WORKER_NOT_RUNNING or worker.sleeping or hogged < WQ_CPU_INTENSIVE_THRESH_US * NSEC_PER_USEC:
        return
    assert pool is not None, "a bound worker has a pool"
    raw_spin_lock(pool.lock)
    worker_set_flags(worker, WORKER_CPU_INTENSIVE)
    # Not modelled: wq_cpu_intensive_report() (CONFIG_WQ_CPU_INTENSIVE_REPORT is off).
    if need_more_worker(pool):
        wake_up_worker(pool)
    raw_spin_unlock(pool.lock)


# ---- flags of a worker; Context: pool.lock held ------------------------------------------------------------


def worker_set_flags(worker: Worker, flags: int) -> None:
    """Set flags of the running worker and let nr_running follow."""
    pool = worker.pool
    assert pool is not None, "the worker is attached"
    # If transitioning into NOT_RUNNING, adjust nr_running.
    if flags & WORKER_NOT_RUNNING and not worker.flags & WORKER_NOT_RUNNING:
        pool.nr_running -= 1
    worker.flags |= flags


def worker_clr_flags(worker: Worker, flags: int) -> None:
    """Clear flags of the running worker and let nr_running follow."""
    pool = worker.pool
    assert pool is not None, "the worker is attached"
    oflags = worker.flags
    worker.flags &= ~flags
    # NOT_RUNNING is a mask of several flags: leaving one of them is not yet running.
    if flags & WORKER_NOT_RUNNING and oflags & WORKER_NOT_RUNNING and not worker.flags & WORKER_NOT_RUNNING:
        pool.nr_running += 1


# ---- works on lists; Context: pool.lock held ---------------------------------------------------------------


def find_worker_executing_work(pool: WorkerPool, work: WorkStruct) -> Worker | None:
    """Return the worker of the pool that is at this work, with the same function."""
    for worker in pool.busy_hash:
        if worker.current_work is work and worker.current_func == work.func:
            return worker
    return None


def move_linked_works(work: WorkStruct, head: ListHead) -> ListHead:
    """Move a work, and those linked to it, to the end of a list; return what stood behind them."""
    node = work.entry
    while True:
        after = node.next
        one: WorkStruct = node.owner
        list_move_tail(node, head)
        if not one.flags & WORK_STRUCT_LINKED:
            return after
        node = after
