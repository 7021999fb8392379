"""The thread that frees the memory of those whom the OOM killer chose: mm/oom_kill.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def oom_init() -> int:
    """Start oom_reaper: 0 or a negative errno."""
    t = kthread.kthread_run(oom_reaper, None, "oom_reaper")
    return 0 if isinstance(t, Task) else t


def oom_reaper(unused: object) -> int:
    """Be oom_reaper: wait for a victim."""
    del unused
    queue = WaitQueueHead("oom_reaper_wait")
    wait = DEFINE_WAIT()
    while True:
        # Not modelled: the OOM killer; there are no victims.
        wait_.prepare_to_wait(queue, wait, TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
