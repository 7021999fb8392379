"""The threads of RCU-tasks, whose grace periods wait until every task has slept: kernel/rcu/tasks.h, v6.1."""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model.include.linux.sched import TASK_IDLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead


def rcu_init_tasks_generic() -> int:
    """Start the threads of this kernel's kinds of RCU-tasks: 0 or a negative errno."""
    # comm has 15 bytes; the names are cut there.  4.19 has one kind, which the Pi's kernel is built without.
    for name in ("rcu_tasks_kthread", "rcu_tasks_rude_kthread", "rcu_tasks_trace_kthread"):
        t = kthread.kthread_run(rcu_tasks_kthread, None, name)
        if not isinstance(t, Task):
            return t
    return 0


def rcu_tasks_kthread(arg: object) -> int:
    """Be one of them: wait for callbacks."""
    del arg
    queue = WaitQueueHead("rcu_tasks_kthread_wait")
    wait = DEFINE_WAIT()
    while True:
        # Not modelled: call_rcu_tasks().
        wait_.prepare_to_wait(queue, wait, TASK_IDLE)
        if kthread.kthread_should_stop():
            wait_.finish_wait(queue, wait)
            return 0
        sched_core.schedule()
        wait_.finish_wait(queue, wait)
