"""``taskscope task`` and ``taskscope stack``: a task descriptor and a kernel stack that a machine's recording keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Common, missing_source, verb
from taskscope.cli.output import put_bytes, put_lines
from taskscope.errors import NoSuchTaskError, UsageError

if TYPE_CHECKING:
    from taskscope.snapshot.decode import TaskDetail
    from taskscope.snapshot.saved import Saved


def saved_tasks(common: Common, what: str) -> Saved:
    """Return the tasks that the named recording keeps.

    :raises UsageError: no recording was named, or it keeps none
    """
    if common.input is None:
        raise missing_source(what)
    from taskscope.snapshot.saved import read_tasks

    saved = read_tasks(common.input)
    if saved is None:
        raise UsageError(
            f"{common.input} keeps no task descriptors: it is no recording of the executable kernel (taskscope run); "
            f"'taskscope life' and 'taskscope ps' tell what its events show"
        )
    return saved


def chosen(saved: Saved, task: str, path: str | None) -> list[TaskDetail]:
    """Return the descriptors that a pid or a name means.

    :raises NoSuchTaskError: there is none
    """
    found = [d for d in saved.tasks if str(d.row.pid) == task or d.row.comm == task]
    if not found:
        raise NoSuchTaskError(
            f"{path}: no task {task!r} was there at {saved.at / 1e9:.6f}; 'taskscope ps' lists those that were"
        )
    return found


@verb(
    "task",
    takes=("json",),
    file=False,
    default=False,
    examples=(
        ("taskscope task -i trace.dat 1", "init's task_struct, every bit with its name"),
        ("taskscope task -i trace.dat raspbian_proc", "by name"),
        ("taskscope task -i trace.dat kthreadd --json", "as data, addresses as hex strings"),
    ),
)
@click.argument("task", metavar="PID|NAME")
def command(common: Common, task: str) -> None:
    """Show a task descriptor, member by member, as it was when a machine's recording was written."""
    from taskscope.views.task import task_json, task_lines

    saved = saved_tasks(common, "task")
    found = chosen(saved, task, common.input)
    if common.json:
        put_bytes((task_json(detail) for detail in found), common)
        return

    def lines() -> Iterator[str]:
        for n, detail in enumerate(found):
            if n:
                yield ""
            yield from task_lines(detail, saved.arch)

    put_lines(lines(), common)


@verb(
    "stack",
    file=False,
    default=False,
    examples=(
        ("taskscope stack -i trace.dat 2", "where kthreadd sleeps"),
        ("taskscope stack -i trace.dat raspbian_proc", "by name"),
        ("taskscope stack -i trace.dat bash", "of each task of that name"),
    ),
)
@click.argument("task", metavar="PID|NAME")
def stack(common: Common, task: str) -> None:
    """Show the kernel call stack of a task, as it was when a machine's recording was written."""
    from taskscope.views.task import stack_lines

    saved = saved_tasks(common, "stack")
    put_lines((line for detail in chosen(saved, task, common.input) for line in stack_lines(detail)), common)
