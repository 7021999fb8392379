"""Namespaces: kernel/nsproxy.c, v4.19.  There is one of each kind, shared by all."""

from __future__ import annotations

from errno import EINVAL, EPERM
from typing import Final

import taskscope.model.kernel.cred as cred
from taskscope.model import machine
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.uapi.linux.sched import CLONE_NAMESPACES, CLONE_NEWUSER


class NsProxy:
    """struct nsproxy: uts, ipc, mount, pid and network namespace."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 1


_ASKED: Final = CLONE_NAMESPACES & ~CLONE_NEWUSER


def copy_namespaces(flags: int, tsk: Task) -> int:
    """Share the caller's namespaces; -EPERM or -EINVAL where new ones are asked for."""
    if not flags & CLONE_NAMESPACES:
        tsk.nsproxy.count += 1
        return 0
    if flags & _ASKED and not cred.capable(cred.CAP_SYS_ADMIN):
        return -EPERM
    # Not modelled: namespaces.  A kernel that is built without them refuses so, too.
    return -EINVAL


def exit_task_namespaces(p: Task) -> None:
    """Drop the reference."""
    ns = p.nsproxy
    if ns is not None:
        p.nsproxy = None
        ns.count -= 1
        assert ns.count > 0 or machine.cur.closed, "the initial namespaces lose their last user"
