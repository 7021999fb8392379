"""File attributes: fs/stat.c, v4.19."""

from __future__ import annotations

from errno import EBADF, EFAULT
from typing import Any

import taskscope.model.fs.file as file
import taskscope.model.fs.namei as namei
from taskscope.model.include.linux.fs import Inode, Kstat
from taskscope.model.include.linux.uaccess import put_user


def generic_fillattr(inode: Inode) -> Kstat:
    """Return an inode's attributes."""
    return Kstat(inode.i_ino, inode.i_mode, inode.i_nlink, inode.i_uid, inode.i_gid, inode.i_rdev, inode.i_size)


def vfs_stat(filename: Any, statbuf: Any) -> int:
    """Store the attributes of a name."""
    path = namei.user_path(filename)
    if isinstance(path, int):
        return path
    return -EFAULT if put_user(generic_fillattr(path.inode), statbuf) else 0


def sys_newstat(filename: Any, statbuf: Any) -> int:
    """stat(2)."""
    return vfs_stat(filename, statbuf)


def sys_newlstat(filename: Any, statbuf: Any) -> int:
    """lstat(2); there are no symbolic links."""
    return vfs_stat(filename, statbuf)


def sys_newfstat(fd: int, statbuf: Any) -> int:
    """fstat(2)."""
    f = file.fcheck(fd)
    if f is None:
        return -EBADF
    return -EFAULT if put_user(generic_fillattr(f.f_inode), statbuf) else 0


def sys_stat64(filename: Any, statbuf: Any) -> int:
    """stat64(2) of 32-bit architectures."""
    return vfs_stat(filename, statbuf)


def sys_lstat64(filename: Any, statbuf: Any) -> int:
    """lstat64(2) of 32-bit architectures."""
    return vfs_stat(filename, statbuf)


def sys_fstat64(fd: int, statbuf: Any) -> int:
    """fstat64(2) of 32-bit architectures."""
    return sys_newfstat(fd, statbuf)
