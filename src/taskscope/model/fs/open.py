"""open, close and what changes where a task stands in the tree: fs/open.c, v4.19."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOTDIR, EPERM
from stat import S_ISDIR
from typing import Any

import taskscope.model.fs.file as file
import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.fs.namei as namei
from taskscope.model import machine
from taskscope.model.include.linux.fs import MAY_EXEC, O_RDWR, S_IALLUGO

AT_FDCWD = -100


def do_sys_open(filename: Any, flags: int, mode: int) -> int:
    """Open a file and give it a descriptor."""
    fd = file.get_unused_fd_flags(flags)
    if fd < 0:
        return fd
    f = namei.do_filp_open(filename, flags, mode)
    if isinstance(f, int):
        file.put_unused_fd(fd)
        return f
    file.fd_install(fd, f)
    return fd


def sys_open(filename: Any, flags: int, mode: int) -> int:
    """open(2)."""
    return do_sys_open(filename, flags, mode)


def sys_openat(dfd: int, filename: Any, flags: int, mode: int) -> int:
    """openat(2), from the working directory."""
    # Not modelled: names relative to an open directory.
    if dfd != AT_FDCWD and not (isinstance(filename, str) and filename.startswith("/")):
        return -EINVAL
    return do_sys_open(filename, flags, mode)


def sys_creat(pathname: Any, mode: int) -> int:
    """creat(2)."""
    return do_sys_open(pathname, 0o1101, mode)


def sys_close(fd: int) -> int:
    """close(2)."""
    return file.__close_fd(machine.cur.cpu.curr.files, fd)


def sys_chdir(filename: Any) -> int:
    """chdir(2)."""
    path = namei.user_path(filename)
    if isinstance(path, int):
        return path
    if not S_ISDIR(path.inode.i_mode):
        return -ENOTDIR
    error = namei.inode_permission(path.inode, MAY_EXEC)
    if error:
        return error
    fs_struct.set_fs_pwd(machine.cur.cpu.curr.fs, path)
    return 0


def sys_chmod(filename: Any, mode: int) -> int:
    """chmod(2)."""
    path = namei.user_path(filename)
    if isinstance(path, int):
        return path
    cred = machine.cur.cpu.curr.cred
    if cred is not None and cred.fsuid not in (0, path.inode.i_uid):
        return -EPERM
    path.inode.i_mode = path.inode.i_mode & ~S_IALLUGO | mode & S_IALLUGO
    return 0


def sys_access(filename: Any, mode: int) -> int:
    """access(2); checked with the file system ids, which are the real ones in programs that are not set-user-id."""
    if mode & ~7:
        return -EINVAL
    path = namei.user_path(filename)
    if isinstance(path, int):
        return path
    return namei.inode_permission(path.inode, mode) and -EACCES


def filp_open(filename: str, flags: int, mode: int) -> Any:
    """Open a file from inside the kernel: the File, or -errno."""
    return namei.do_filp_open(filename, flags, mode)


def open_console() -> int:
    """Open /dev/console as descriptors 0, 1 and 2 of the current task (kernel_init_freeable()): 0 or -errno."""
    error = do_sys_open("/dev/console", O_RDWR, 0)
    if error < 0:
        return error
    file.sys_dup(0)
    file.sys_dup(0)
    return 0
