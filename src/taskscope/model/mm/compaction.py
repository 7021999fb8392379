"""The thread that makes large blocks of free pages: mm/compaction.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def kcompactd_init() -> int:
    """Start kcompactd0: 0 or a negative errno."""
    t = kthread.kthread_run(kcompactd, None, "kcompactd0")
    return 0 if isinstance(t, Task) else t


def kcompactd(p: object) -> int:
    """Be kcompactd0: wait to be asked for a large block."""
    del p
    queue = WaitQueueHead("kcompactd_wait")
    wait = DEFINE_WAIT()
    while True:
        # Not modelled: compaction, and since v5.9 a look every half second.
        wait_.prepare_to_wait(queue, wait, TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
