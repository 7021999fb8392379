"""The thread that reports tasks in uninterruptible sleep for too long: kernel/hung_task.c, v4.19."""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.time.timer as timer
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import TASK_UNINTERRUPTIBLE, Task

#: seconds (CONFIG_DEFAULT_HUNG_TASK_TIMEOUT)
sysctl_hung_task_timeout_secs: Final = 120


def hung_task_init() -> int:
    """Start khungtaskd: 0 or a negative errno."""
    m = machine.cur
    m.hung_task_switches = {}
    t = kthread.kthread_run(watchdog, None, "khungtaskd")
    return 0 if isinstance(t, Task) else t


def watchdog(dummy: object) -> int:
    """Be khungtaskd: look every two minutes."""
    del dummy
    while True:
        timer.schedule_timeout_interruptible(sysctl_hung_task_timeout_secs * machine.cur.hz)
        check_hung_uninterruptible_tasks(sysctl_hung_task_timeout_secs)


def check_hung_uninterruptible_tasks(timeout: int) -> None:
    """Report every task in state D (not killable) that has not run since the last look."""
    m = machine.cur
    seen: dict[int, int] = {}
    for p in list_for_each_entry(m.init_task.tasks):
        for t in signal_send.for_each_thread(p):
            if t.state == TASK_UNINTERRUPTIBLE:
                check_hung_task(t, timeout, seen)
    m.hung_task_switches = seen


def check_hung_task(t: Task, timeout: int, seen: dict[int, int]) -> None:
    """Report one task if it has not run since the last look."""
    switch_count = t.nvcsw + t.nivcsw
    # When a freshly created task is scheduled once, changes its state to TASK_UNINTERRUPTIBLE without having ever been
    # switched out once, it musn't be checked.
    if not switch_count:
        return
    seen[t.address] = switch_count
    if machine.cur.hung_task_switches.get(t.address) != switch_count:
        return
    printk_.printk(f"<3>INFO: task {t.comm}:{t.pid} blocked for more than {timeout} seconds.\n")
    printk_.printk('<3>"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.\n')
    # Not modelled: sched_show_task(), panic_on_oops of it; each report only for the first ten.
