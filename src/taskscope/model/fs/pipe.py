"""Pipes: fs/pipe.c, v4.19.

A pipe is a ring of up to 16 page-sized buffers.  Readers and writers sleep interruptibly in pipe_wait(); whoever
changes the ring wakes the others.  pipe->mutex is not modelled: between two sleeps the code here is one step of the
machine.
"""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINVAL, EPIPE
from stat import S_IFIFO
from typing import Any, Final

import taskscope.model.fs.file as file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.super as super_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
import taskscope.model.kernel.signal.send as signal_send
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTARTSYS
from taskscope.model.include.linux.fs import (
    FMODE_READ,
    FMODE_WRITE,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    File,
    FileOperations,
    Inode,
    Path,
)
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, wake_up_interruptible_sync_poll

PIPE_DEF_BUFFERS: Final = 16
PAGE_SIZE: Final = 4096
SIGPIPE: Final = 13


class PipeInodeInfo:
    """struct pipe_inode_info."""

    __slots__ = ("buffers", "bufs", "files", "readers", "wait", "waiting_writers", "writers")

    def __init__(self) -> None:
        self.wait = WaitQueueHead("pipe.wait")
        self.bufs: list[bytes] = []         # oldest first, each at most a page
        self.buffers = PIPE_DEF_BUFFERS
        self.readers = 0
        self.writers = 0
        self.waiting_writers = 0
        self.files = 0


def pipe_wait(pipe: PipeInodeInfo) -> None:
    """Sleep until somebody changes the pipe, or a signal comes."""
    wait = DEFINE_WAIT()
    sched_wait.prepare_to_wait(pipe.wait, wait, TASK_INTERRUPTIBLE)
    sched_core.schedule()
    sched_wait.finish_wait(pipe.wait, wait)


def pipe_read(f: File, count: int) -> bytes | int:
    """Take up to `count` bytes; wait while the pipe is empty and has a writer."""
    pipe: PipeInodeInfo = f.private_data
    if count == 0:
        return b""
    current = machine.cur.cpu.curr
    got: list[bytes] = []
    left = count
    do_wakeup = False
    error = 0
    while True:
        while pipe.bufs and left:
            chars = pipe.bufs[0][:left]
            got.append(chars)
            left -= len(chars)
            rest = pipe.bufs[0][len(chars):]
            if rest:
                pipe.bufs[0] = rest
            else:
                del pipe.bufs[0]
                do_wakeup = True
        if not left or not pipe.writers:
            break
        # Until v5.5 (a28c8b9db8a1, "pipe: remove 'waiting_writers' merging logic") a writer that sleeps has more for us:
        # go on as long as there is one.
        if not pipe.waiting_writers or machine.cur.flavour.version >= (5, 5):
            if got:
                break
            if f.f_flags & O_NONBLOCK:
                error = -EAGAIN
                break
        if signal_pending(current):
            error = -ERESTARTSYS
            break
        if do_wakeup:
            wake_up_interruptible_sync_poll(pipe.wait, None)
        pipe_wait(pipe)
    # Signal writers asynchronously that there is more room.
    if do_wakeup:
        wake_up_interruptible_sync_poll(pipe.wait, None)
    return b"".join(got) if got or not error else error


def pipe_write(f: File, data: bytes) -> int:
    """Put bytes in; wait while the pipe is full.  Without readers: SIGPIPE and -EPIPE."""
    pipe: PipeInodeInfo = f.private_data
    if not data:
        return 0
    current = machine.cur.cpu.curr
    ret = 0
    do_wakeup = False
    if not pipe.readers:
        signal_send.send_sig(SIGPIPE, current, False)
        return -EPIPE
    # We try to merge small writes.
    chars = len(data) & (PAGE_SIZE - 1)
    if pipe.bufs and chars and len(pipe.bufs[-1]) + chars <= PAGE_SIZE:
        pipe.bufs[-1] += data[:chars]
        data = data[chars:]
        ret = chars
        do_wakeup = True
    while data:
        if not pipe.readers:
            signal_send.send_sig(SIGPIPE, current, False)
            ret = ret or -EPIPE
            break
        if len(pipe.bufs) < pipe.buffers:
            pipe.bufs.append(data[:PAGE_SIZE])
            ret += len(pipe.bufs[-1])
            data = data[PAGE_SIZE:]
            do_wakeup = True
            continue
        if f.f_flags & O_NONBLOCK:
            ret = ret or -EAGAIN
            break
        if signal_pending(current):
            ret = ret or -ERESTARTSYS
            break
        if do_wakeup:
            wake_up_interruptible_sync_poll(pipe.wait, None)
            do_wakeup = False
        pipe.waiting_writers += 1
        pipe_wait(pipe)
        pipe.waiting_writers -= 1
    if do_wakeup:
        wake_up_interruptible_sync_poll(pipe.wait, None)
    return ret


def pipe_release(inode: Inode, f: File) -> int:
    """Close one end: the other end's sleepers must look again."""
    pipe: PipeInodeInfo = f.private_data
    if f.f_mode & FMODE_READ:
        pipe.readers -= 1
    if f.f_mode & FMODE_WRITE:
        pipe.writers -= 1
    if pipe.readers or pipe.writers:
        wake_up_interruptible_sync_poll(pipe.wait, None)
    pipe.files -= 1
    if not pipe.files:
        inode.i_pipe = None
    return 0


def get_pipe_inode() -> Inode:
    """Return the inode of a new pipe, which has one reader and one writer."""
    inode = super_.new_inode(S_IFIFO | 0o600, pipefifo_fops)
    pipe = PipeInodeInfo()
    pipe.files = 2
    pipe.readers = pipe.writers = 1
    inode.i_pipe = pipe
    return inode


def create_pipe_files(flags: int) -> tuple[File, File]:
    """Return the two ends of a new pipe."""
    inode = get_pipe_inode()
    path = Path(inode, None, f"pipe:[{inode.i_ino}]")
    read_end = file_table.alloc_file(path, O_RDONLY | flags & O_NONBLOCK, pipefifo_fops)
    write_end = file_table.alloc_file(path, O_WRONLY | flags & O_NONBLOCK, pipefifo_fops)
    read_end.private_data = write_end.private_data = inode.i_pipe
    return read_end, write_end


def do_pipe2(fildes: Any, flags: int) -> int:
    """Make a pipe, give its ends descriptors and store them."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        return -EINVAL
    read_end, write_end = create_pipe_files(flags)
    fdr = file.get_unused_fd_flags(flags)
    if fdr < 0:
        file_table.fput(read_end)
        file_table.fput(write_end)
        return fdr
    fdw = file.get_unused_fd_flags(flags)
    if fdw < 0 or put_user((fdr, fdw), fildes):
        if fdw >= 0:
            file.put_unused_fd(fdw)
        file.put_unused_fd(fdr)
        file_table.fput(read_end)
        file_table.fput(write_end)
        return fdw if fdw < 0 else -EFAULT
    file.fd_install(fdr, read_end)
    file.fd_install(fdw, write_end)
    return 0


def sys_pipe(fildes: Any) -> int:
    """pipe(2)."""
    return do_pipe2(fildes, 0)


def sys_pipe2(fildes: Any, flags: int) -> int:
    """pipe2(2)."""
    return do_pipe2(fildes, flags)


pipefifo_fops: Final = FileOperations(read=pipe_read, write=pipe_write, release=pipe_release)
