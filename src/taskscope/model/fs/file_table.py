"""Open files and their reference counts: fs/file_table.c, v4.19."""

from __future__ import annotations

from stat import S_ISREG

import taskscope.model.kernel.task_work as task_work
from taskscope.model import machine
from taskscope.model.include.linux.fs import FMODE_WRITE, File, FileOperations, Path, put_write_access
from taskscope.model.include.linux.preempt import in_interrupt
from taskscope.model.include.linux.sched import PF_KTHREAD


def alloc_file(path: Path, flags: int, fop: FileOperations) -> File:
    """Return a new open file with one reference."""
    # Not modelled: sysctl fs.file-max, credentials of the file.
    return File(path, flags, fop)


def get_file(f: File) -> File:
    """Take a reference."""
    f.f_count += 1
    return f


def fput(f: File) -> None:
    """Drop a reference; the last one has the file closed on the task's way to user space, or at its end."""
    assert f.f_count > 0, "fput() of a closed file"
    f.f_count -= 1
    if f.f_count == 0:
        # file_free_rcu() and the work share a word of struct file.
        task = machine.cur.cpu.curr
        if in_interrupt() or task.flags & PF_KTHREAD or task_work.task_work_add(
            task, task_work.CallbackHead(____fput, f), True
        ):
            # Not modelled: delayed_fput(), by a worker a jiffy later; here at once.
            __fput(f)


def __fput_sync(f: File) -> None:
    """Drop a reference; the last one closes the file here and now.

    Context: process context, with no locks that a release could want: close(2) since v6.6.
    """
    assert f.f_count > 0, "fput() of a closed file"
    f.f_count -= 1
    if f.f_count == 0:
        __fput(f)


def ____fput(work: task_work.CallbackHead) -> None:
    """Close a file for good.

    Context: task work.
    """
    __fput(work.data)


def __fput(f: File) -> None:
    release = f.f_op.release
    if release is not None:
        release(f.f_inode, f)
    if f.f_mode & FMODE_WRITE and S_ISREG(f.f_inode.i_mode):
        put_write_access(f.f_inode)
