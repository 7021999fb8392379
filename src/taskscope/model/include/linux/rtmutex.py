"""Mutexes with priority inheritance: include/linux/rtmutex.h and kernel/locking/rtmutex_common.h, v4.19.

What works on them is in kernel/locking/rtmutex.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskscope.model.include.linux.spinlock import Spinlock

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task


class RtMutex:
    """struct rt_mutex.  Guarded by its wait_lock."""

    __slots__ = ("owner", "wait_lock", "waiters")

    def __init__(self) -> None:
        self.wait_lock = Spinlock("rt_mutex.wait_lock")
        self.waiters: list[RtMutexWaiter] = []  # in order of priority
        self.owner: Task | None = None


class RtMutexWaiter:
    """struct rt_mutex_waiter: one that waits, on its mutex's list and, if the first there, on the owner's."""

    __slots__ = ("lock", "prio", "task")

    def __init__(self) -> None:
        self.task: Task = None  # type: ignore[assignment]  # set by task_blocks_on_rt_mutex()
        self.lock: RtMutex = None  # type: ignore[assignment]
        self.prio = 0


class PiState:
    """What task_struct has of priority inheritance: pi_waiters and so on; a task without any has none of these.

    Guarded by pi_lock.
    """

    __slots__ = ("pi_blocked_on", "pi_state_list", "pi_top_task", "pi_waiters")

    def __init__(self) -> None:
        self.pi_waiters: list[RtMutexWaiter] = []   # the first of each mutex that the task owns, in order of priority
        self.pi_blocked_on: RtMutexWaiter | None = None
        self.pi_top_task: Task | None = None        # whose priority it has
        self.pi_state_list: list[Any] = []          # struct futex_pi_state of the futexes that it owns


def pi_of(task: Task) -> PiState:
    """Return a task's part in priority inheritance, made when it is first wanted."""
    found: PiState | None = task.pi
    if found is None:
        found = task.pi = PiState()
    return found
