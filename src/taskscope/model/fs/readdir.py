"""Reading directories: fs/readdir.c, v4.19.  A struct linux_dirent64 is its name here."""

from __future__ import annotations

from errno import EBADF, EFAULT, ENOTDIR
from typing import Any

import taskscope.model.fs.file as file
from taskscope.model.include.linux.uaccess import put_user

_ENTRY_SIZE = 32


def sys_getdents64(fd: int, dirent: Any, count: int) -> int:
    """getdents64(2): store the next names, as many as the buffer takes; 0 at the end."""
    f = file.fcheck(fd)
    if f is None:
        return -EBADF
    if f.f_op.iterate is None:
        return -ENOTDIR
    if f.private_data is None:
        f.private_data = [".", "..", *f.f_op.iterate(f)]
    names: list[str] = f.private_data[f.f_pos:f.f_pos + max(1, count // _ENTRY_SIZE)]
    if put_user(names, dirent):
        return -EFAULT
    f.f_pos += len(names)
    return len(names) * _ENTRY_SIZE
