"""The thread that makes huge pages of small ones: mm/khugepaged.c, v6.18."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model import machine
from taskscope.model.include.linux.sched import MAX_NICE, TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def start_stop_khugepaged() -> int:
    """Start khugepaged: 0 or a negative errno."""
    t = kthread.kthread_run(khugepaged, None, "khugepaged")
    return 0 if isinstance(t, Task) else t


def khugepaged(none: object) -> int:
    """Be khugepaged: wait for an mm to scan."""
    del none
    queue = WaitQueueHead("khugepaged_wait")
    wait = DEFINE_WAIT()
    sched_syscalls.set_user_nice(machine.cur.cpu.curr, MAX_NICE)
    while True:
        # Not modelled: huge pages.
        wait_.prepare_to_wait(queue, wait, TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
