"""The thread that feeds hardware watchdogs: drivers/watchdog/watchdog_dev.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.syscalls as sched_syscalls
from taskscope.model import machine


def watchdog_dev_init() -> int:
    """Start watchdogd, of high priority so that a busy machine is not taken for a dead one: 0 or a negative errno."""
    watchdog_kworker = kthread.kthread_create_worker("watchdogd")
    if isinstance(watchdog_kworker, int):
        return watchdog_kworker
    t = watchdog_kworker.task
    assert t is not None, "its thread"
    # MAX_RT_PRIO / 2 since v5.9 (sched_set_fifo()), 99 before
    return sched_syscalls.sched_setscheduler_nocheck(t, 1, 50 if machine.cur.flavour.version >= (5, 9) else 99)
