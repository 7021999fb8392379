"""Pids and pid namespaces: include/linux/pid.h, pid_namespace.h, v4.19.  What works on them is in kernel/pid.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model.include.linux.list import ListHead

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

PIDTYPE_PID: Final = 0
PIDTYPE_TGID: Final = 1
PIDTYPE_PGID: Final = 2
PIDTYPE_SID: Final = 3
PIDTYPE_MAX: Final = 4

RESERVED_PIDS: Final = 300
PID_MAX_DEFAULT: Final = 0x8000
PIDS_PER_CPU_DEFAULT: Final = 1024
PIDS_PER_CPU_MIN: Final = 8
PIDNS_ADDING: Final = 1 << 31           # in pid_allocated: numbers may still be given out


class Pid:
    """struct pid: what a number stands for."""

    __slots__ = ("address", "count", "inode", "level", "nr", "tasks", "wait_pidfd")

    def __init__(self, address: int) -> None:
        self.address = address
        self.count = 1
        self.level = 0
        self.nr = 0
        self.tasks: tuple[ListHead, ...] = (ListHead(), ListHead(), ListHead(), ListHead())
        self.wait_pidfd: Any = None     # wait queue of those who poll a pidfd; made by the first
        self.inode = 0

    def __repr__(self) -> str:
        return f"<pid {self.nr}>"


class PidNamespace:
    """struct pid_namespace; there is only the initial one."""

    __slots__ = (
        "child_reaper", "idr", "idr_next", "last_pid_unused", "level", "pid_allocated", "pid_cachep", "pid_max",
    )

    def __init__(self, pid_max: int) -> None:
        # pidmap_lock:
        self.idr: dict[int, Pid | None] = {}    # None: given out, not yet to be found
        self.idr_next = 0
        self.pid_allocated = PIDNS_ADDING
        # set once:
        self.child_reaper: Task = None  # type: ignore[assignment]  # by copy_process() of pid 1
        self.level = 0
        self.pid_cachep: Any = None
        # sysctl kernel.pid_max:
        self.pid_max = pid_max
