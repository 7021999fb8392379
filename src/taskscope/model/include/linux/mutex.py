"""Mutexes: include/linux/mutex.h, v4.19.  What works on them is in kernel/locking/mutex.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.spinlock import Spinlock

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task


class Mutex:
    """struct mutex: a lock whose holder may sleep."""

    __slots__ = ("name", "owner", "wait_list", "wait_lock")

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner: Task | None = None
        self.wait_lock = Spinlock("mutex.wait_lock")
        self.wait_list = ListHead()             # the tasks that wait, the first come first

    def __repr__(self) -> str:
        return f"<mutex {self.name}>"


def mutex_is_locked(lock: Mutex) -> bool:
    """Tell whether somebody holds it."""
    return lock.owner is not None
