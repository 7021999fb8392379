"""Workqueues: kernel/workqueue.c, v4.19: work is put on a pool's list, the pool's workers (kworker/CPU:ID) do it.

Each CPU has two pools, of nice 0 and -20 (H); unbound work has pools of its own (kworker/uN:ID).  A workqueue with
WQ_MEM_RECLAIM has a rescuer, a thread of its name, for when no worker can be made.

Not modelled: concurrency management (each pool has the worker of the boot, and a second one when that is busy),
flushing, delayed work, pool attributes.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_WQ_WORKER, TASK_IDLE, TASK_RUNNING, Task, set_current_state
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)

WQ_UNBOUND: Final = 1 << 1
WQ_FREEZABLE: Final = 1 << 2
WQ_MEM_RECLAIM: Final = 1 << 3
WQ_HIGHPRI: Final = 1 << 4
WQ_SYSFS: Final = 1 << 6
HIGHPRI_NICE_LEVEL: Final = -20
RESCUER_NICE_LEVEL: Final = -20
#: for queue_work_on(): any CPU
WORK_CPU_UNBOUND: Final = -1


class WorkStruct:
    """struct work_struct: a function to be called by a worker."""

    __slots__ = ("data", "func", "pending")

    def __init__(self, func: Any, data: Any = None) -> None:
        self.func = func
        self.data = data
        self.pending = False


class Worker:
    """struct worker."""

    __slots__ = ("current_work", "id", "pool", "task")

    def __init__(self, pool: WorkerPool, id: int) -> None:
        self.pool = pool
        self.id = id
        self.task: Task | None = None
        self.current_work: tuple[WorkStruct, WorkqueueStruct] | None = None


class WorkerPool:
    """struct worker_pool.  Guarded by ``lock``."""

    __slots__ = ("cpu", "id", "lock", "nice", "workers", "worklist")

    def __init__(self, cpu: int, nice: int, id: int) -> None:
        self.cpu = cpu                          # -1: unbound
        self.nice = nice
        self.id = id
        self.lock = Spinlock("pool.lock")
        self.worklist: deque[tuple[WorkStruct, WorkqueueStruct]] = deque()
        self.workers: list[Worker] = []


class WorkqueueStruct:
    """struct workqueue_struct."""

    __slots__ = ("flags", "max_active", "name", "rescuer")

    def __init__(self, name: str, flags: int, max_active: int) -> None:
        self.name = name
        self.flags = flags
        self.max_active = max_active
        self.rescuer: Worker | None = None


def workqueue_init_early() -> None:
    """Make the pools and the system's workqueues; no worker exists yet.  Called by start_kernel()."""
    m = machine.cur
    m.wq_online = False
    m.workqueues = []
    m.cpu_worker_pools = []
    number = 0
    for cpu in range(m.nr_cpus):
        pools = []
        for nice in (0, HIGHPRI_NICE_LEVEL):
            pools.append(WorkerPool(cpu, nice, number))
            number += 1
        m.cpu_worker_pools.append(pools)
    # unbound pools are numbered behind those of all possible CPUs
    m.unbound_pool = WorkerPool(-1, 0, number)
    m.system_wq = alloc_workqueue("events", 0, 0)
    m.system_highpri_wq = alloc_workqueue("events_highpri", WQ_HIGHPRI, 0)
    m.system_long_wq = alloc_workqueue("events_long", 0, 0)
    m.system_unbound_wq = alloc_workqueue("events_unbound", WQ_UNBOUND, 0)
    m.system_freezable_wq = alloc_workqueue("events_freezable", WQ_FREEZABLE, 0)


def alloc_workqueue(fmt: str, flags: int, max_active: int) -> WorkqueueStruct:
    """Make a workqueue, and its rescuer if threads can be made already."""
    wq = WorkqueueStruct(fmt, flags, max_active)
    m = machine.cur
    if m.wq_online:
        init_rescuer(wq)
    m.workqueues.append(wq)
    return wq


def init_rescuer(wq: WorkqueueStruct) -> int:
    """Give a workqueue its rescuer if it may be needed to free memory: 0 or a negative errno."""
    if not wq.flags & WQ_MEM_RECLAIM:
        return 0
    m = machine.cur
    rescuer = Worker(m.unbound_pool, -1)
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


def workqueue_init() -> None:
    """Make the rescuers and the first workers: threads can be made from now on.  Called by kernel_init_freeable()."""
    m = machine.cur
    if m.flavour.version >= (6, 6):
        # releases pools of workqueues from a context that may sleep
        kthread.kthread_run(kthread.kthread_worker_fn, None, "pool_workqueue_release")
    for wq in m.workqueues:
        init_rescuer(wq)
    # create the initial workers
    for cpu in range(m.nr_cpus):
        if m.cpu_online_mask >> cpu & 1:
            for pool in m.cpu_worker_pools[cpu]:
                create_worker(pool)
    create_worker(m.unbound_pool)
    m.wq_online = True


def workqueue_prepare_cpu(cpu: int) -> int:
    """Make the workers of a CPU that is about to come up: 0."""
    for pool in machine.cur.cpu_worker_pools[cpu]:
        if not pool.workers:
            create_worker(pool)
    return 0


def create_worker(pool: WorkerPool) -> Worker | None:
    """Make a worker for a pool; None if its thread could not be made."""
    m = machine.cur
    worker = Worker(pool, len(pool.workers))
    if pool.cpu >= 0:
        name = f"kworker/{pool.cpu}:{worker.id}{'H' if pool.nice < 0 else ''}"
    else:
        name = f"kworker/u{pool.id}:{worker.id}"
    task = kthread.kthread_create(worker_thread, worker, name)
    if isinstance(task, int):
        return None
    worker.task = task
    if pool.nice:
        sched_syscalls.set_user_nice(task, pool.nice)
    kthread.kthread_bind_mask(task, 1 << pool.cpu if pool.cpu >= 0 else (1 << m.nr_cpus) - 1)
    # successful, attach the worker to the pool
    pool.workers.append(worker)
    sched_core.wake_up_process(task)
    return worker


def worker_thread(worker: Worker) -> int:
    """Be a worker: do the pool's work, sleep when there is none."""
    pool = worker.pool
    current = machine.cur.cpu.curr
    # tell the scheduler that this is a workqueue worker
    current.flags |= PF_WQ_WORKER
    while True:
        spin_lock_irq(pool.lock)
        while pool.worklist:
            process_one_work(worker, pool.worklist.popleft())
        # pool->lock is held and there's no work to process and no need to manage, sleep.
        set_current_state(TASK_IDLE)
        spin_unlock_irq(pool.lock)
        sched_core.schedule()


def process_one_work(worker: Worker, item: tuple[WorkStruct, WorkqueueStruct]) -> None:
    """Do one work.

    Context: pool.lock held; released while the function runs.
    """
    work, _ = item
    worker.current_work = item
    work.pending = False
    machine.cur.cpu.curr.state = TASK_RUNNING
    spin_unlock_irq(worker.pool.lock)
    work.func(work)
    spin_lock_irq(worker.pool.lock)
    worker.current_work = None


def rescuer_thread(rescuer: Worker) -> int:
    """Be a rescuer: wait to be needed."""
    del rescuer
    current = machine.cur.cpu.curr
    sched_syscalls.set_user_nice(current, RESCUER_NICE_LEVEL)
    current.flags |= PF_WQ_WORKER
    while True:
        set_current_state(TASK_IDLE)
        if kthread.kthread_should_stop():
            current.state = TASK_RUNNING
            current.flags &= ~PF_WQ_WORKER
            return 0
        # Not modelled: mayday requests; a worker can always be made.
        sched_core.schedule()


def queue_work_on(cpu: int, wq: WorkqueueStruct, work: WorkStruct) -> bool:
    """Queue a work on a CPU's pool; False if it waits there already.

    Context: any.
    """
    if work.pending:
        return False
    m = machine.cur
    work.pending = True
    if wq.flags & WQ_UNBOUND:
        pool = m.unbound_pool
    else:
        pool = m.cpu_worker_pools[m.cpu.id if cpu == WORK_CPU_UNBOUND else cpu][bool(wq.flags & WQ_HIGHPRI)]
    flags = spin_lock_irqsave(pool.lock)
    pool.worklist.append((work, wq))
    # wake_up_worker(): the first idle one
    idle = next((w for w in pool.workers if w.current_work is None), None)
    if idle is not None and idle.task is not None:
        sched_core.wake_up_process(idle.task)
    spin_unlock_irqrestore(pool.lock, flags)
    return True


def queue_work(wq: WorkqueueStruct, work: WorkStruct) -> bool:
    """Queue a work on the CPU at hand."""
    return queue_work_on(WORK_CPU_UNBOUND, wq, work)


def schedule_work(work: WorkStruct) -> bool:
    """Queue a work on the system's workqueue."""
    return queue_work(machine.cur.system_wq, work)
