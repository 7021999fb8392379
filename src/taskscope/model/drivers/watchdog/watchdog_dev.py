"""The thread that feeds hardware watchdogs: drivers/watchdog/watchdog_dev.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.syscalls as sched_syscalls
from taskscope.model import machine
from taskscope.model.include.linux.sched import Task


def watchdog_dev_init() -> int:
    """Start watchdogd, of high priority so that a busy machine is not taken for a dead one: 0 or a negative errno."""
    t = kthread.kthread_run(kthread.kthread_worker_fn, None, "watchdogd")
    if not isinstance(t, Task):
        return t
    # MAX_RT_PRIO / 2 since v5.9 (sched_set_fifo()), 99 before
    return sched_syscalls.sched_setscheduler_nocheck(t, 1, 50 if machine.cur.flavour.version >= (5, 9) else 99)
