"""Numbers of the kernel that are files of /proc/sys: kernel/sysctl.c, v4.19."""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, EPERM
from typing import Any

import taskscope.model.fs.proc.inode as proc_inode
from taskscope.model import machine


class CtlTable:
    """struct ctl_table: one number, a member of an object, with its bounds."""

    __slots__ = ("changed", "data", "least", "member", "most")

    def __init__(self, data: Any, member: str, least: int, most: int, changed: Callable[[], None] | None) -> None:
        self.data = data
        self.member = member
        self.least = least
        self.most = most
        self.changed = changed              # called after a write


def register_sysctl(
    path: str, data: Any, member: str, least: int = 0, most: int = (1 << 31) - 1,
    changed: Callable[[], None] | None = None, mode: int = 0o644,
) -> None:
    """Put a number into /proc/sys.

    :param path: below /proc/sys
    :param data: the object whose `member` it is
    :param changed: called after a write
    """
    table = CtlTable(data, member, least, most, changed)
    store = proc_dointvec_write if mode & 0o222 else None
    proc_inode.proc_create("sys/" + path, mode, proc_dointvec_read, store, table)


def proc_dointvec_read(table: CtlTable) -> str:
    """Show the number."""
    return f"{getattr(table.data, table.member)}\n"


def proc_dointvec_write(table: CtlTable, data: bytes) -> int:
    """Set the number; -EINVAL outside of its bounds (proc_dointvec_minmax())."""
    if machine.cur.cpu.curr.cred.euid:
        return -EPERM
    try:
        value = int(data)
    except ValueError:
        return -EINVAL
    if not table.least <= value <= table.most:
        return -EINVAL
    setattr(table.data, table.member, value)
    if table.changed is not None:
        table.changed()
    return len(data)
