"""fcntl: fs/fcntl.c, v4.19: descriptors and their flags; not locks, owners or leases."""

from __future__ import annotations

from errno import EBADF, EINVAL

import taskscope.model.fs.file as file
from taskscope.model.include.linux.fs import O_APPEND, O_CLOEXEC, O_NONBLOCK

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
FD_CLOEXEC = 1
SETFL_MASK = O_APPEND | O_NONBLOCK


def sys_fcntl(fd: int, cmd: int, arg: int) -> int:
    """fcntl(2)."""
    f = file.fcheck(fd)
    if f is None:
        return -EBADF
    if cmd == F_DUPFD:
        return file.f_dupfd(arg, f, 0)
    if cmd == F_DUPFD_CLOEXEC:
        return file.f_dupfd(arg, f, O_CLOEXEC)
    if cmd == F_GETFD:
        return FD_CLOEXEC if file.get_close_on_exec(fd) else 0
    if cmd == F_SETFD:
        file.set_close_on_exec(fd, bool(arg & FD_CLOEXEC))
        return 0
    if cmd == F_GETFL:
        return f.f_flags
    if cmd == F_SETFL:
        f.f_flags = arg & SETFL_MASK | f.f_flags & ~SETFL_MASK
        return 0
    return -EINVAL


def sys_fcntl64(fd: int, cmd: int, arg: int) -> int:
    """fcntl64(2) of 32-bit architectures."""
    return sys_fcntl(fd, cmd, arg)


