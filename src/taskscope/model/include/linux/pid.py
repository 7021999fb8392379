"""Pids and pid namespaces: include/linux/pid.h, pid_namespace.h, v4.19.  What works on them is in kernel/pid.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

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


MAX_PID_NS_LEVEL: Final = 32


class Upid(NamedTuple):
    """struct upid: the number that a pid has in one namespace."""

    nr: int
    ns: PidNamespace


class Pid:
    """struct pid: what a number stands for.

    ``numbers`` has one entry for each namespace from the initial one down to the pid's own, which is at ``level``;
    ``nr`` is the first of these numbers, the global one.
    """

    __slots__ = ("address", "count", "inode", "level", "nr", "numbers", "tasks", "wait_pidfd")

    def __init__(self, address: int) -> None:
        self.address = address
        self.count = 1
        self.level = 0
        self.nr = 0
        self.numbers: tuple[Upid, ...] = ()
        self.tasks: tuple[ListHead, ...] = (ListHead(), ListHead(), ListHead(), ListHead())
        self.wait_pidfd: Any = None     # wait queue of those who poll a pidfd; made by the first
        self.inode = 0

    def __repr__(self) -> str:
        return f"<pid {'/'.join(str(upid.nr) for upid in self.numbers) or self.nr}>"


class PidNamespace:
    """struct pid_namespace."""

    __slots__ = (
        "child_reaper", "count", "idr", "idr_next", "inum", "level", "parent", "pid_allocated", "pid_cachep", "pid_max",
    )

    def __init__(self, pid_max: int, parent: PidNamespace | None = None) -> None:
        # pidmap_lock:
        self.idr: dict[int, Pid | None] = {}    # None: given out, not yet to be found
        self.idr_next = 0
        self.pid_allocated = PIDNS_ADDING
        # atomic:
        self.count = 1                          # references: nsproxies, pids, namespaces below
        # set once:
        self.child_reaper: Task | None = None   # by copy_process() of number 1
        self.parent = parent
        self.level: int = 0 if parent is None else parent.level + 1
        self.inum = 0                           # what stat() of /proc/PID/ns/pid shows
        self.pid_cachep: Any = None
        # sysctl kernel.pid_max: the initial namespace's for all until v6.14
        self.pid_max = pid_max
