"""A worker, and what the scheduler calls of it: kernel/workqueue_internal.h, v4.19."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.preempt import in_interrupt
from taskscope.model.include.linux.sched import PF_WQ_WORKER, Task

if TYPE_CHECKING:
    from taskscope.model.include.linux.workqueue import WorkFunc, WorkStruct
    from taskscope.model.kernel.workqueue.pool import WorkerPool
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue, WorkqueueStruct


class Worker:
    """struct worker: a thread of a pool, or a rescuer.

    Guarded by pool.lock but for ``flags`` and ``sleeping``, which the worker alone writes once it runs.
    """

    __slots__ = (
        "current_at",
        "current_func",
        "current_pwq",
        "current_work",
        "desc",
        "entry",
        "flags",
        "id",
        "last_active",
        "last_func",
        "node",
        "pool",
        "rescue_wq",
        "scheduled",
        "sleeping",
        "task",
    )

    def __init__(self, flags: int) -> None:
        self.entry = ListHead(self)                         # on pool.idle_list while idle
        self.current_work: WorkStruct | None = None         # the work being processed, its function and pwq
        self.current_func: WorkFunc | None = None
        self.current_pwq: PoolWorkqueue | None = None
        self.current_at = 0                                 # se.sum_exec_runtime at the work's start or last wakeup
        self.sleeping = False                               # counted as sleeping (v5.2)
        self.scheduled = ListHead()                         # works that only this worker may do
        self.task: Task | None = None
        self.pool: WorkerPool | None = None                 # None for a rescuer at rest
        self.node = ListHead(self)                          # on pool.workers
        self.last_active = 0                                # jiffies: when it became idle
        self.flags = flags
        self.id = -1
        self.desc = ""                                      # what it does, or last did: see wq_worker_comm()
        self.last_func: WorkFunc | None = None
        self.rescue_wq: WorkqueueStruct | None = None       # of a rescuer: whom it rescues

    def __repr__(self) -> str:
        return f"<worker {self.task}>"


def current_wq_worker() -> Worker | None:
    """Return the running worker; None if the running task is none, or an interrupt is being handled."""
    current = machine.cur.cpu.curr
    if current.flags & PF_WQ_WORKER and not in_interrupt():
        worker: Worker = current.kthread.data               # kthread_data()
        return worker
    return None
