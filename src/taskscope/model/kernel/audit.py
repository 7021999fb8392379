"""The thread that hands audit records to a daemon: kernel/audit.c, v6.1."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def audit_init() -> int:
    """Start kauditd: 0 or a negative errno."""
    t = kthread.kthread_run(kauditd_thread, None, "kauditd")
    return 0 if isinstance(t, Task) else t


def kauditd_thread(dummy: object) -> int:
    """Be kauditd: wait for records."""
    del dummy
    queue = WaitQueueHead("kauditd_thread_wait")
    wait = DEFINE_WAIT()
    while True:
        # Not modelled: audit.
        wait_.prepare_to_wait(queue, wait, TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
