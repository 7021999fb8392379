"""tracefs as a file system: fs/tracefs/inode.c, v4.19.

Mounted at /sys/kernel/tracing, and seen below /sys/kernel/debug too.  What its files show and take stands in
kernel/trace/tracefs.py.
"""

from __future__ import annotations

from errno import EACCES, EAGAIN, EINTR, EINVAL, ENOENT, EPERM
from stat import S_IFDIR, S_IFREG, S_ISDIR
from typing import Final

import taskscope.model.fs.super as super_
import taskscope.model.kernel.time.timer as timer
from taskscope.model import machine
from taskscope.model.include.linux.fs import (
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    O_TRUNC,
    File,
    FileOperations,
    Inode,
    InodeOperations,
)
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.kernel.trace import trace, tracefs


def tracefs_init() -> None:
    """Mount tracefs; called at boot."""
    for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        super_.kern_add(path, tracefs_get_dir(""))


def tracefs_get_dir(path: str) -> Inode:
    """Return the inode of a folder, by its path below the top."""
    inode = super_.new_inode(S_IFDIR | 0o755, tracefs_dir_operations, tracefs_dir_inode_operations)
    inode.i_private = path
    return inode


def tracefs_lookup(dir: Inode, name: str) -> Inode | None:
    """Look a name up in a folder."""
    path = f"{dir.i_private}/{name}".lstrip("/")
    node = tracefs.tracefs_lookup(machine.cur, path)
    if node is None:
        return None
    if node.file is None:
        return tracefs_get_dir(path)
    inode = super_.new_inode(S_IFREG | node.file.mode, tracefs_file_operations)
    inode.i_private = path
    return inode


def tracefs_create(dir: Inode, name: str, mode: int) -> Inode | int:
    """Make an instance: a folder in instances/.  Files are the kernel's to make: EACCES, as without ->create()."""
    if not S_ISDIR(mode):
        return -EACCES
    if dir.i_private != "instances":
        return -EPERM
    error = trace.instance_mkdir(machine.cur, name)
    return error if error else tracefs_get_dir(f"instances/{name}")


def tracefs_unlink(dir: Inode, name: str) -> int:
    """Remove an instance (tracefs_syscall_rmdir())."""
    return trace.instance_rmdir(machine.cur, name) if dir.i_private == "instances" else -EPERM


def tracefs_readdir(f: File) -> list[str]:
    """Return the names in a folder."""
    node = tracefs.tracefs_lookup(machine.cur, f.f_inode.i_private)
    return list(node.names or ()) if node is not None else []


def tracefs_open(inode: Inode, f: File) -> int:
    """Open a file; O_TRUNC empties what the file is about (a filter, the log)."""
    node = tracefs.tracefs_lookup(machine.cur, inode.i_private)
    if node is None or node.file is None or node.tr is None:
        return -ENOENT
    if f.f_flags & O_TRUNC and f.f_flags & O_ACCMODE != O_RDONLY and node.file.truncate is not None:
        node.file.truncate(machine.cur, node.tr, node.what)
    return 0


def tracefs_read(f: File, count: int) -> bytes | int:
    """Read on; a text is made at its start, a stream is taken as it comes."""
    cur = machine.cur
    node = tracefs.tracefs_lookup(cur, f.f_inode.i_private)
    if node is None or node.file is None or node.tr is None or node.file.show is None:
        return -EINVAL
    if node.file.stream:
        return tracefs_read_stream(f, count, node)
    if f.f_pos == 0 or f.private_data is None:
        text = node.file.show(cur, node.tr, node.what)
        if isinstance(text, int):
            return text
        f.private_data = text
    part: bytes = f.private_data[f.f_pos : f.f_pos + count]
    f.f_pos += len(part)
    return part


def tracefs_read_stream(f: File, count: int, node: tracefs.Node) -> bytes | int:
    """Take what is there, or wait for it (tracing_read_pipe(), tracing_wait_pipe()).

    What has been read once ends when tracing is switched off.  From outside of the machine nothing is waited for.
    """
    cur = machine.cur
    assert node.file is not None
    assert node.file.show is not None
    assert node.tr is not None
    data: bytes = f.private_data or b""
    while not data:
        taken = node.file.show(cur, node.tr, node.what)
        if isinstance(taken, int):
            return taken
        data = taken
        if data:
            break
        if f.f_flags & O_NONBLOCK:
            return -EAGAIN
        if (f.f_pos and not node.tr.tracing_on) or not cur.running:
            return b""
        # The kernel is woken by the writer, through an irq_work; until v3.9 it looked ten times a second, as here.
        timer.schedule_timeout_interruptible(cur.hz // 10)
        if signal_pending(cur.cpu.curr):
            return -EINTR
    f.private_data = data[count:]
    f.f_pos += len(data[:count])
    return data[:count]


def tracefs_write(f: File, data: bytes) -> int:
    """Hand a write to the file."""
    cur = machine.cur
    node = tracefs.tracefs_lookup(cur, f.f_inode.i_private)
    if node is None or node.file is None or node.tr is None or node.file.store is None:
        return -EINVAL
    return node.file.store(cur, node.tr, node.what, data)


def tracefs_llseek(f: File, offset: int, whence: int) -> int:
    """Seek, from the start or from here."""
    pos = offset + (f.f_pos if whence == 1 else 0)
    if whence not in (0, 1) or pos < 0:
        return -EINVAL
    f.f_pos = pos
    return pos


tracefs_file_operations: Final = FileOperations(
    read=tracefs_read, write=tracefs_write, open=tracefs_open, llseek=tracefs_llseek
)
tracefs_dir_operations: Final = FileOperations(iterate=tracefs_readdir)
tracefs_dir_inode_operations: Final = InodeOperations(
    lookup=tracefs_lookup, create=tracefs_create, unlink=tracefs_unlink
)
