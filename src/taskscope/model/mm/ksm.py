"""The thread that merges equal pages: mm/ksm.c, v6.1."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model import machine
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def ksm_init() -> int:
    """Start ksmd: 0 or a negative errno."""
    t = kthread.kthread_run(ksm_scan_thread, None, "ksmd")
    return 0 if isinstance(t, Task) else t


def ksm_scan_thread(nothing: object) -> int:
    """Be ksmd: wait until merging is turned on."""
    del nothing
    queue = WaitQueueHead("ksm_scan_thread_wait")
    wait = DEFINE_WAIT()
    sched_syscalls.set_user_nice(machine.cur.cpu.curr, 5)
    while True:
        # Not modelled: merging.
        wait_.prepare_to_wait(queue, wait, TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
