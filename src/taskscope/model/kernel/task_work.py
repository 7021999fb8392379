"""Work for a task to do itself, on its way to user space: kernel/task_work.c, v4.19.

Whoever wants a function to run in the context of a task (without its locks, with its files and its address space) puts
a `CallbackHead` on it and sets TIF_NOTIFY_RESUME.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ESRCH
from typing import Any, Final

import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_EXITING, Task
from taskscope.model.include.linux.spinlock import raw_spin_lock_irq, raw_spin_unlock_irq


class CallbackHead:
    """struct callback_head: one piece of work, and the one behind it."""

    __slots__ = ("data", "func", "next")

    def __init__(self, func: Callable[[CallbackHead], None], data: Any = None) -> None:
        self.next: CallbackHead | None = None
        self.func = func
        self.data = data                # what container_of() would find


def work_done(work: CallbackHead) -> None:
    """Stand on the list of a task that takes no more work: never called."""
    raise AssertionError(f"{work} is no work")


#: no more work, please: the list of a task that has run its last
work_exited: Final = CallbackHead(work_done)


def set_notify_resume(task: Task) -> None:
    """Have a task look at its work before it goes on in user mode (include/linux/tracehook.h)."""
    bit = machine.cur.tif.NOTIFY_RESUME
    if not task.thread_info.flags & bit:
        task.thread_info.flags |= bit
        sched_core.kick_process(task)


def task_work_add(task: Task, work: CallbackHead, notify: bool) -> int:
    """Have the task call ``work.func(work)``: 0, or -ESRCH if it will never be in user mode again.

    The last one that was added runs first.

    :param notify: before it goes on in user mode, not only when it exits
    """
    if task.task_works is work_exited:
        return -ESRCH
    work.next = task.task_works
    task.task_works = work
    if notify:
        set_notify_resume(task)
    return 0


def task_work_cancel(task: Task, func: Callable[[CallbackHead], None]) -> CallbackHead | None:
    """Take the first piece of work with this function off the list; return it."""
    before: CallbackHead | None = None
    work: CallbackHead | None = task.task_works
    while work is not None and work is not work_exited:
        if work.func is func:
            if before is None:
                task.task_works = work.next
            else:
                before.next = work.next
            return work
        before, work = work, work.next
    return None


def task_work_run() -> None:
    """Do the work of the running task, and what that brings; a task that exits takes none from then on."""
    task = machine.cur.cpu.curr
    while True:
        # Synchronize with task_work_cancel().  Work can add work: work_exited is not set unless the list is empty.
        raw_spin_lock_irq(task.pi_lock)
        work: CallbackHead | None = task.task_works
        task.task_works = work_exited if work is None and task.flags & PF_EXITING else None
        raw_spin_unlock_irq(task.pi_lock)
        if work is None:
            return
        while work is not None:
            after = work.next
            work.func(work)
            work = after


def exit_task_work(task: Task) -> None:
    """Do what is left to do, and refuse more (include/linux/task_work.h)."""
    assert task is machine.cur.cpu.curr, "another task's work"
    if task.task_works is None:
        task.task_works = work_exited
    else:
        task_work_run()


def tracehook_notify_resume() -> None:
    """Do the work that TIF_NOTIFY_RESUME stands for (tracehook.h).  resume_user_mode_work() since v5.18."""
    if machine.cur.cpu.curr.task_works is not None:
        task_work_run()
