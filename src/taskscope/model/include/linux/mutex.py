"""Mutexes: include/linux/mutex.h, v4.19.  What works on them is in kernel/locking/mutex.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskscope.model.include.linux.spinlock import Spinlock

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task


class Mutex:
    """struct mutex: one owner, who may sleep; others wait in turn."""

    __slots__ = ("owner", "wait_list", "wait_lock")

    def __init__(self, name: str) -> None:
        self.owner: Task | None = None
        # wait_lock:
        self.wait_lock = Spinlock(f"{name}.wait_lock")
        self.wait_list: list[Task] = []         # oldest first
