"""Fault injection: lib/fault-inject.c, v4.19.

Every place of the model that can fail for lack of something asks `should_fail` with its name (`POINTS`).  Two ways to
let one fail, once: ``task.fail_nth = n``, the n-th place that the task passes (/proc/PID/fail-nth), and `fail_next`,
the next time that a task of some name passes the place of some name.  `fault_log` holds the places passed while
either is set.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import machine

#: the places of copy_process() that can fail, in their order; a flavour has one of the two kinds of stack
POINTS: Final = (
    "task_struct", "__get_free_pages", "__vmalloc_node_range", "cred_jar", "sched_fork", "security_task_alloc",
    "files_cache",
    "fs_cache", "sighand_cache", "signal_cache", "mm_struct", "dup_mmap", "copy_thread", "pid", "cgroup_can_fork",
)


def fault_init() -> None:
    """Let nothing fail; called by start_kernel()."""
    m = machine.cur
    m.fault_log = []
    m.fault_point = None


def fail_next(point: str, comm: str) -> None:
    """Let the next pass of a place by a task called `comm` fail."""
    machine.cur.fault_point = (point, comm)


def should_fail(what: str) -> bool:
    """Tell whether this place has to fail now; `what` names it."""
    m = machine.cur
    task = m.cpu.curr
    nth = task.fail_nth
    point = m.fault_point
    if not nth and point is None:
        return False
    m.fault_log.append(what)
    if point is not None and point[0] == what and point[1] == task.comm:
        m.fault_point = None
        return True
    if nth:
        task.fail_nth = nth - 1
    return nth == 1
