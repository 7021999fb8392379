"""Wakeups that wait until a lock is released: wake_q of include/linux/sched/wake_q.h and kernel/sched/core.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.sched.core as core
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct


def wake_q_add(head: list[Task], task: Task) -> None:
    """Note that a task is to be woken, with a reference; once is enough."""
    if task not in head:
        get_task_struct(task)
        head.append(task)


def wake_up_q(head: list[Task]) -> None:
    """Wake those noted, in the order in which they were.

    Context: no spinlock held that a wakeup could want.
    """
    for task in head:
        # wake_up_process() executes a full barrier: it pairs with the one of who sets its state and tests.
        core.wake_up_process(task)
        put_task_struct(task)
    head.clear()
