"""ioctl: fs/ioctl.c, v4.19."""

from __future__ import annotations

from errno import EBADF, ENOTTY
from typing import Any

import taskscope.model.fs.file as file
import taskscope.model.fs.file_table as file_table
from taskscope.model.include.linux.errno import ENOIOCTLCMD


def sys_ioctl(fd: int, cmd: int, arg: Any) -> int:
    """ioctl(2): what the file's driver knows."""
    # Not modelled: the calls that all files know (FIOCLEX, FIONBIO, FS_IOC_*).
    f = file.fget(fd)
    if f is None:
        return -EBADF
    error = -ENOTTY
    if f.f_op.unlocked_ioctl is not None:
        error = f.f_op.unlocked_ioctl(f, cmd, arg)
        if error == -ENOIOCTLCMD:
            error = -ENOTTY
    file_table.fput(f)
    return error
