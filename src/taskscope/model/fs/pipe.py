"""Pipes: fs/pipe.c, v4.19.

A pipe is a ring of up to 16 page-sized buffers under a mutex.  In v4.19 readers and writers sleep on one queue, and
whoever changes the ring wakes all.  Since v5.6 each side has a queue on which it waits in turn.
"""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINVAL, EPIPE
from stat import S_IFIFO
from typing import Any, Final

import taskscope.model.fs.file as file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.super as super_
import taskscope.model.kernel.locking.mutex as mutex
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
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import (
    DEFINE_WAIT,
    WaitQueueHead,
    wake_up_interruptible_all,
    wake_up_interruptible_sync_poll,
)

PIPE_DEF_BUFFERS: Final = 16
PAGE_SIZE: Final = 4096
SIGPIPE: Final = 13


class PipeInodeInfo:
    """struct pipe_inode_info."""

    __slots__ = ("buffers", "bufs", "files", "mutex", "rd_wait", "readers", "waiting_writers", "wr_wait", "writers")

    def __init__(self) -> None:
        self.mutex = Mutex("pipe.mutex")
        # Two queues since v5.6 (0ddad21d3e99, "pipe: use exclusive waits when reading or writing"); before that, one
        # ("wait") for readers and writers: the first of these.
        self.rd_wait = WaitQueueHead("pipe.rd_wait")
        self.wr_wait = WaitQueueHead("pipe.wr_wait")
        # mutex:
        self.bufs: list[bytes] = []         # oldest first, each at most a page
        self.buffers = PIPE_DEF_BUFFERS
        self.readers = 0
        self.writers = 0
        self.waiting_writers = 0
        self.files = 0


def take(pipe: PipeInodeInfo, count: int) -> tuple[bytes, bool]:
    """Take up to `count` bytes; also tell whether a buffer has become free: the middle of pipe_read()."""
    got: list[bytes] = []
    freed = False
    while pipe.bufs and count:
        chars = pipe.bufs[0][:count]
        got.append(chars)
        count -= len(chars)
        rest = pipe.bufs[0][len(chars):]
        if rest:
            pipe.bufs[0] = rest
        else:
            del pipe.bufs[0]
            freed = True
    return b"".join(got), freed


def merge(pipe: PipeInodeInfo, data: bytes) -> int:
    """Put the part of a write that is no whole page into the last buffer, if it fits there; return its length."""
    chars = len(data) & (PAGE_SIZE - 1)
    if not pipe.bufs or not chars or len(pipe.bufs[-1]) + chars > PAGE_SIZE:
        return 0
    pipe.bufs[-1] += data[:chars]
    return chars


# ---- since v5.6 -----------------------------------------------------------------------------------------

def pipe_readable(pipe: PipeInodeInfo) -> bool:
    """Tell whether a reader need not wait."""
    return bool(pipe.bufs) or not pipe.writers


def pipe_writable(pipe: PipeInodeInfo) -> bool:
    """Tell whether a writer need not wait."""
    return len(pipe.bufs) < pipe.buffers or not pipe.readers


def pipe_read(f: File, count: int) -> bytes | int:
    """Take up to `count` bytes of what there is; wait in turn while the pipe is empty and has a writer.

    anon_pipe_read() since v6.15.
    """
    if machine.cur.flavour.version < (5, 6):
        return pipe_read_4_19(f, count)
    pipe: PipeInodeInfo = f.private_data
    if count == 0:
        return b""
    mutex.mutex_lock(pipe.mutex)
    # We only wake up writers if the pipe was full when we started reading in order to avoid unnecessary wakeups.
    was_full = len(pipe.bufs) >= pipe.buffers
    wake_next_reader = False
    error = 0
    while True:
        got, _ = take(pipe, count)
        if got or not pipe.writers:
            break
        if f.f_flags & O_NONBLOCK:
            error = -EAGAIN
            break
        mutex.mutex_unlock(pipe.mutex)
        # We only get here if we didn't actually read anything.  But because we didn't read anything, we'll be woken for
        # whatever is written next.
        if was_full:
            wake_up_interruptible_sync_poll(pipe.wr_wait, None)
        if sched_wait.wait_event_interruptible_exclusive(pipe.rd_wait, pipe_readable, pipe):
            return -ERESTARTSYS
        mutex.mutex_lock(pipe.mutex)
        was_full = len(pipe.bufs) >= pipe.buffers
        wake_next_reader = True
    if not pipe.bufs:
        wake_next_reader = False
    mutex.mutex_unlock(pipe.mutex)
    if was_full:
        wake_up_interruptible_sync_poll(pipe.wr_wait, None)
    if wake_next_reader:
        wake_up_interruptible_sync_poll(pipe.rd_wait, None)
    return error or got


def pipe_write(f: File, data: bytes) -> int:
    """Put bytes in; wait in turn while the pipe is full.  Without readers: SIGPIPE and -EPIPE.

    anon_pipe_write() since v6.15.
    """
    if machine.cur.flavour.version < (5, 6):
        return pipe_write_4_19(f, data)
    pipe: PipeInodeInfo = f.private_data
    if not data:
        return 0
    current = machine.cur.cpu.curr
    mutex.mutex_lock(pipe.mutex)
    if not pipe.readers:
        signal_send.send_sig(SIGPIPE, current, False)
        mutex.mutex_unlock(pipe.mutex)
        return -EPIPE
    # If it wasn't empty we try to merge new data into the last buffer.
    was_empty = not pipe.bufs
    wake_next_writer = False
    ret = merge(pipe, data)
    data = data[ret:]
    while data:
        if not pipe.readers:
            signal_send.send_sig(SIGPIPE, current, False)
            ret = ret or -EPIPE
            break
        if len(pipe.bufs) < pipe.buffers:
            pipe.bufs.append(data[:PAGE_SIZE])
            ret += len(pipe.bufs[-1])
            data = data[PAGE_SIZE:]
            continue
        # Wait for buffer space to become available.
        if f.f_flags & O_NONBLOCK:
            ret = ret or -EAGAIN
            break
        if signal_pending(current):
            ret = ret or -ERESTARTSYS
            break
        # We're going to release the pipe lock and wait for more space.  We wake up any readers if necessary, and then
        # after waiting we need to re-check whether the pipe become empty while we dropped the lock.
        mutex.mutex_unlock(pipe.mutex)
        if was_empty:
            wake_up_interruptible_sync_poll(pipe.rd_wait, None)
        sched_wait.wait_event_interruptible_exclusive(pipe.wr_wait, pipe_writable, pipe)
        mutex.mutex_lock(pipe.mutex)
        was_empty = not pipe.bufs
        wake_next_writer = True
    if len(pipe.bufs) >= pipe.buffers:
        wake_next_writer = False
    mutex.mutex_unlock(pipe.mutex)
    # If we do do a wakeup event, we do a 'sync' wakeup, because we want the reader to start processing things asap.
    if was_empty:
        wake_up_interruptible_sync_poll(pipe.rd_wait, None)
    if wake_next_writer:
        wake_up_interruptible_sync_poll(pipe.wr_wait, None)
    return ret


# ---- v4.19 ----------------------------------------------------------------------------------------------

def pipe_wait(pipe: PipeInodeInfo) -> None:
    """Drop the mutex, sleep until somebody changes the pipe, or a signal comes, and take it again.

    Context: pipe.mutex held.
    """
    wait = DEFINE_WAIT()
    # Pipes are system-local resources, so sleeping on them is considered a noninteractive wait:
    sched_wait.prepare_to_wait(pipe.rd_wait, wait, TASK_INTERRUPTIBLE)
    mutex.mutex_unlock(pipe.mutex)
    sched_core.schedule()
    sched_wait.finish_wait(pipe.rd_wait, wait)
    mutex.mutex_lock(pipe.mutex)


def pipe_read_4_19(f: File, count: int) -> bytes | int:
    """Take up to `count` bytes; wait while the pipe is empty and has a writer: pipe_read() until v5.5."""
    pipe: PipeInodeInfo = f.private_data
    if count == 0:
        return b""
    current = machine.cur.cpu.curr
    mutex.mutex_lock(pipe.mutex)
    found = b""
    do_wakeup = False
    error = 0
    while True:
        got, freed = take(pipe, count - len(found))
        found += got
        do_wakeup = do_wakeup or freed
        if len(found) == count or not pipe.writers:
            break
        # A sleeping writer has more for us: go on as long as there is one.  Gone with v5.5 (a28c8b9db8a1, "pipe: remove
        # 'waiting_writers' merging logic").
        if not pipe.waiting_writers:
            if found:
                break
            if f.f_flags & O_NONBLOCK:
                error = -EAGAIN
                break
        if signal_pending(current):
            error = -ERESTARTSYS
            break
        if do_wakeup:
            wake_up_interruptible_sync_poll(pipe.rd_wait, None)
        pipe_wait(pipe)
    mutex.mutex_unlock(pipe.mutex)
    # Signal writers asynchronously that there is more room.
    if do_wakeup:
        wake_up_interruptible_sync_poll(pipe.rd_wait, None)
    return found if found or not error else error


def pipe_write_4_19(f: File, data: bytes) -> int:
    """Put bytes in; wait while the pipe is full: pipe_write() until v5.5."""
    pipe: PipeInodeInfo = f.private_data
    if not data:
        return 0
    current = machine.cur.cpu.curr
    mutex.mutex_lock(pipe.mutex)
    if not pipe.readers:
        signal_send.send_sig(SIGPIPE, current, False)
        mutex.mutex_unlock(pipe.mutex)
        return -EPIPE
    # We try to merge small writes.
    ret = merge(pipe, data)
    data = data[ret:]
    do_wakeup = ret > 0
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
            wake_up_interruptible_sync_poll(pipe.rd_wait, None)
            do_wakeup = False
        pipe.waiting_writers += 1
        pipe_wait(pipe)
        pipe.waiting_writers -= 1
    mutex.mutex_unlock(pipe.mutex)
    if do_wakeup:
        wake_up_interruptible_sync_poll(pipe.rd_wait, None)
    return ret


# ---- ends -----------------------------------------------------------------------------------------------

def pipe_release(inode: Inode, f: File) -> int:
    """Close one end: the other end's sleepers must look again."""
    pipe: PipeInodeInfo = f.private_data
    mutex.mutex_lock(pipe.mutex)
    if f.f_mode & FMODE_READ:
        pipe.readers -= 1
    if f.f_mode & FMODE_WRITE:
        pipe.writers -= 1
    if machine.cur.flavour.version < (5, 6):
        if pipe.readers or pipe.writers:
            wake_up_interruptible_sync_poll(pipe.rd_wait, None)
    # Was that the last reader or writer, but not the other side?
    elif (not pipe.readers) != (not pipe.writers):
        wake_up_interruptible_all(pipe.rd_wait)
        wake_up_interruptible_all(pipe.wr_wait)
    mutex.mutex_unlock(pipe.mutex)
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
