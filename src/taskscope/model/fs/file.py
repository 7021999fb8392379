"""Descriptor tables: fs/file.c, v4.19.

Called by fork (dup_fd() unless CLONE_FILES shares the table), exit (exit_files()), exec (do_close_on_exec(),
unshare_files()) and every call that opens, duplicates or closes a descriptor.
"""

from __future__ import annotations

from errno import EBADF, EINVAL, EMFILE

import taskscope.model.fs.file_table as file_table
from taskscope.model import machine
from taskscope.model.include.linux.fs import O_CLOEXEC, File, FilesStruct
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.sched_signal import RLIMIT_NOFILE, rlimit


def files_init() -> None:
    """Make init_task's empty table; called by start_kernel() before init_task is filled."""
    machine.cur.init_files = FilesStruct()


def dup_fd(oldf: FilesStruct) -> FilesStruct | int:
    """Return a copy of a table: the same open files, each with one reference more."""
    # Not modelled: fdtables in arrays, and with them ENOMEM and EMFILE here.
    newf = FilesStruct()
    newf.close_on_exec = oldf.close_on_exec
    newf.next_fd = oldf.next_fd
    newf.fd = list(oldf.fd)
    for f in newf.fd:
        if f is not None:
            file_table.get_file(f)
    return newf


def close_files(files: FilesStruct) -> None:
    """Close every descriptor of a table that nobody uses any more."""
    for fd, f in enumerate(files.fd):
        if f is not None:
            files.fd[fd] = None
            filp_close(f)


def put_files_struct(files: FilesStruct) -> None:
    """Drop a reference to a table; the last one closes its files."""
    assert files.count > 0, "put_files_struct() of a free table"
    files.count -= 1
    if files.count == 0:
        close_files(files)


def reset_files_struct(files: FilesStruct) -> None:
    """Give the current task another table."""
    tsk = machine.cur.cpu.curr
    old = tsk.files
    tsk.files = files
    put_files_struct(old)


def exit_files(tsk: Task) -> None:
    """Take a dying task's table away."""
    files = tsk.files
    if files is not None:
        tsk.files = None
        put_files_struct(files)


def __alloc_fd(files: FilesStruct, start: int, end: int, flags: int) -> int:
    """Return the lowest free descriptor from `start` on; -EMFILE if that is not below `end`."""
    fd = max(start, files.next_fd)
    table = files.fd
    while fd < len(table) and table[fd] is not None:
        fd += 1
    if fd >= end:
        return -EMFILE
    while len(table) <= fd:
        table.append(None)
    if start <= files.next_fd:
        files.next_fd = fd + 1
    if flags & O_CLOEXEC:
        files.close_on_exec |= 1 << fd
    else:
        files.close_on_exec &= ~(1 << fd)
    return fd


def get_unused_fd_flags(flags: int) -> int:
    """Return a free descriptor of the current task.  It is to be installed or put back before the task can schedule."""
    current = machine.cur.cpu.curr
    return __alloc_fd(current.files, 0, rlimit(current, RLIMIT_NOFILE), flags)


def put_unused_fd(fd: int) -> None:
    """Give back a descriptor that was not installed."""
    files = machine.cur.cpu.curr.files
    files.next_fd = min(files.next_fd, fd)


def fd_install(fd: int, f: File) -> None:
    """Let a descriptor of the current task stand for a file; the table takes over the caller's reference."""
    files = machine.cur.cpu.curr.files
    assert files.fd[fd] is None, f"fd_install(): {fd} is in use"
    files.fd[fd] = f


def fget(fd: int) -> File | None:
    """Return the file of a descriptor, with a reference of the caller's own."""
    f = fcheck(fd)
    return None if f is None else file_table.get_file(f)


def fcheck(fd: int) -> File | None:
    """Return the file of a descriptor, without a reference: for code that does not sleep."""
    table = machine.cur.cpu.curr.files.fd
    return table[fd] if 0 <= fd < len(table) else None


def filp_close(f: File) -> int:
    """Close an open file's descriptor: its reference."""
    # Not modelled: f_op->flush, dnotify, POSIX locks.
    assert f.f_count > 0, "filp_close() of a closed file"
    file_table.fput(f)
    return 0


def __close_fd(files: FilesStruct, fd: int) -> int:
    """Close a descriptor of a table."""
    if not 0 <= fd < len(files.fd):
        return -EBADF
    f = files.fd[fd]
    if f is None:
        return -EBADF
    files.fd[fd] = None
    files.close_on_exec &= ~(1 << fd)
    files.next_fd = min(files.next_fd, fd)
    if machine.cur.flavour.switches.close_syncs:
        file_table.__fput_sync(f)
        return 0
    return filp_close(f)


def do_close_on_exec(files: FilesStruct) -> None:
    """Close what was opened with O_CLOEXEC; the table is the caller's alone by now."""
    for fd in range(files.close_on_exec.bit_length()):
        if files.close_on_exec >> fd & 1:
            f = files.fd[fd]
            if f is not None:
                files.fd[fd] = None
                files.next_fd = min(files.next_fd, fd)
                filp_close(f)
    files.close_on_exec = 0


def set_close_on_exec(fd: int, flag: bool) -> None:
    """Set or clear FD_CLOEXEC of a descriptor."""
    files = machine.cur.cpu.curr.files
    if flag:
        files.close_on_exec |= 1 << fd
    else:
        files.close_on_exec &= ~(1 << fd)


def get_close_on_exec(fd: int) -> bool:
    """Tell whether a descriptor is closed by exec."""
    return bool(machine.cur.cpu.curr.files.close_on_exec >> fd & 1)


def sys_dup(fildes: int) -> int:
    """dup(2)."""
    f = fget(fildes)
    if f is None:
        return -EBADF
    fd = get_unused_fd_flags(0)
    if fd >= 0:
        fd_install(fd, f)
    else:
        file_table.fput(f)
    return fd


def sys_dup2(oldfd: int, newfd: int) -> int:
    """dup2(2)."""
    if newfd == oldfd:
        return -EBADF if fcheck(oldfd) is None else oldfd
    return ksys_dup3(oldfd, newfd, 0)


def sys_dup3(oldfd: int, newfd: int, flags: int) -> int:
    """dup3(2)."""
    return ksys_dup3(oldfd, newfd, flags)


def ksys_dup3(oldfd: int, newfd: int, flags: int) -> int:
    """Let one descriptor stand for the file of another, closing what it stood for."""
    current = machine.cur.cpu.curr
    files = current.files
    if flags & ~O_CLOEXEC:
        return -EINVAL
    if oldfd == newfd:
        return -EINVAL
    if newfd < 0 or newfd >= rlimit(current, RLIMIT_NOFILE):
        return -EBADF
    f = fcheck(oldfd)
    if f is None:
        return -EBADF
    while len(files.fd) <= newfd:
        files.fd.append(None)
    tofree = files.fd[newfd]
    files.fd[newfd] = file_table.get_file(f)
    set_close_on_exec(newfd, bool(flags & O_CLOEXEC))
    if tofree is not None:
        filp_close(tofree)
    return newfd


def f_dupfd(start: int, f: File, flags: int) -> int:
    """Duplicate a file to the lowest free descriptor from `start` on (F_DUPFD)."""
    current = machine.cur.cpu.curr
    limit = rlimit(current, RLIMIT_NOFILE)
    if start < 0 or start >= limit:
        return -EINVAL
    fd = __alloc_fd(current.files, start, limit, flags)
    if fd >= 0:
        fd_install(fd, file_table.get_file(f))
    return fd
