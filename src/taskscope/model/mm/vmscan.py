"""The thread that frees pages when few are left: mm/vmscan.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_KSWAPD, PF_MEMALLOC, TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def kswapd_init() -> int:
    """Start kswapd0: 0 or a negative errno."""
    t = kthread.kthread_run(kswapd, None, "kswapd0")
    return 0 if isinstance(t, Task) else t


def kswapd(p: object) -> int:
    """Be kswapd0: wait until the zone is below its low watermark."""
    del p
    queue = WaitQueueHead("kswapd_wait")
    wait = DEFINE_WAIT()
    machine.cur.cpu.curr.flags |= PF_MEMALLOC | PF_KSWAPD
    while True:
        # Not modelled: reclaim.
        wait_.prepare_to_wait(queue, wait, TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
