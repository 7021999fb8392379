"""Works for a thread of their own: include/linux/kthread.h, v4.19.  What works on them is in kernel/kthread.py.

A kthread_worker is one thread that does works in the order in which they come: for works that need a priority, or must
not wait for the pools of workqueues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.spinlock import Spinlock
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.linux.workqueue import data_address, stack_address

KthreadWorkFunc = Callable[["KthreadWork"], None]


class KthreadWorker:
    """struct kthread_worker.  Guarded by ``lock``."""

    __slots__ = ("address", "current_work", "delayed_work_list", "lock", "task", "work_list")

    def __init__(self) -> None:
        self.lock = Spinlock("kthread_worker.lock")
        self.work_list = ListHead()
        self.delayed_work_list = ListHead()
        self.task: Task | None = None                       # the thread; None once it has ended
        self.current_work: KthreadWork | None = None
        self.address = data_address(0x80)


class KthreadWork:
    """struct kthread_work; ``owner`` is what container_of() would find.  Guarded by worker.lock."""

    __slots__ = ("address", "canceling", "func", "node", "owner", "worker")

    def __init__(self, func: KthreadWorkFunc, owner: Any = None, *, on_stack: bool = False) -> None:
        self.func = func
        self.owner = owner
        self.node = ListHead(self)
        self.worker: KthreadWorker | None = None            # which it was given to first
        self.canceling = 0                                  # so many cancel it now: it cannot be queued
        self.address = stack_address(0x40) if on_stack else data_address(0x40)


class KthreadDelayedWork:
    """struct kthread_delayed_work: a work that a timer queues."""

    __slots__ = ("owner", "timer", "work")

    def __init__(self, func: KthreadWorkFunc, owner: Any = None) -> None:
        from taskscope.model.kernel import kthread

        self.work = KthreadWork(func, self)
        self.timer = TimerList(kthread.kthread_delayed_work_timer_fn, self)
        self.owner = owner
