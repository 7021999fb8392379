"""References to a task_struct: include/linux/sched/task.h, v4.19."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task


def get_task_struct(t: Task) -> Task:
    """Take a reference; the task_struct stays until put_task_struct()."""
    t.usage += 1
    return t


def put_task_struct(t: Task) -> None:
    """Drop a reference; the last one frees the task_struct."""
    t.usage -= 1
    assert t.usage >= 0, f"{t}: put_task_struct() of a free task"
    if t.usage == 0:
        from taskscope.model.kernel import fork  # include/ imports kernel/ in functions only

        fork.__put_task_struct(t)
