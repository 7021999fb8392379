"""Supplementary groups: kernel/groups.c, v4.19."""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM, EPERM
from typing import Any

import taskscope.model.kernel.cred as cred_
from taskscope.model import machine
from taskscope.model.include.linux.uaccess import put_user


def sys_getgroups(gidsetsize: int, grouplist: Any) -> int:
    """getgroups(2): a tuple of ids goes through the pointer."""
    groups: tuple[int, ...] = machine.cur.cpu.curr.cred.group_info
    if gidsetsize < 0:
        return -EINVAL
    if gidsetsize:
        if len(groups) > gidsetsize:
            return -EINVAL
        if put_user(groups, grouplist):
            return -EFAULT
    return len(groups)


def sys_setgroups(gidsetsize: int, grouplist: Any) -> int:
    """setgroups(2)."""
    if not cred_.capable(cred_.CAP_SETGID):
        return -EPERM
    if not 0 <= gidsetsize <= cred_.NGROUPS_MAX:
        return -EINVAL
    if gidsetsize and not isinstance(grouplist, (list, tuple)):
        return -EFAULT
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    new.group_info = tuple(sorted(grouplist[:gidsetsize])) if gidsetsize else ()
    return cred_.commit_creds(new)
