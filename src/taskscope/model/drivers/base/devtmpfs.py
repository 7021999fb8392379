"""The thread that makes device nodes: drivers/base/devtmpfs.c, v4.19."""

from __future__ import annotations

from typing import Any

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task, set_current_state


def devtmpfs_init() -> int:
    """Start kdevtmpfs: 0 or a negative errno."""
    setup_done = Completion()
    thread = kthread.kthread_run(devtmpfsd, setup_done, "kdevtmpfs")
    if not isinstance(thread, Task):
        return thread
    machine.cur.devtmpfs_thread = thread
    completion.wait_for_completion(setup_done)
    return 0


def devtmpfsd(p: Any) -> int:
    """Be kdevtmpfs: wait for requests to make nodes."""
    completion.complete(p)
    while True:
        # Not modelled: requests; the nodes in /dev are there from the start.
        set_current_state(TASK_INTERRUPTIBLE)
        sched_core.schedule()
