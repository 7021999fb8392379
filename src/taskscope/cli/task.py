"""``taskscope task`` and ``taskscope stack``: a task descriptor, a kernel stack; of a dump or a machine's recording."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Common, missing_source, verb
from taskscope.cli.output import put_bytes, put_lines
from taskscope.cli.source import end, memory_of
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


def described(common: Common, what: str, task: str) -> tuple[list[TaskDetail], str, list[str]]:
    """Return the descriptors that a pid or a name means, the architecture, and the wounds of the dump they are from.

    :raises NoSuchTaskError: there is none
    """
    memory = memory_of(common)
    if memory is None:
        saved = saved_tasks(common, what)
        return chosen(saved, task, common.input), saved.arch, []
    from taskscope.snapshot.decode import detail_of

    number, text = memory.number, memory.text
    found = [detail_of(memory, one) for one in memory.tasks() if task in (str(number(one, "pid")), text(one, "comm"))]
    if not found:
        raise NoSuchTaskError(f"{common.core}: no task {task!r} is in it; 'taskscope ps --core' lists those that are")
    return found, memory.image.arch, memory.wounds


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
    takes=("core", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope task -i trace.dat 1", "init's task_struct, every bit with its name"),
        ("taskscope task --core vmcore sshd", "of a crash dump, by name"),
        ("taskscope task -i trace.dat kthreadd --json", "as data, addresses as hex strings"),
    ),
)
@click.argument("task", metavar="PID|NAME")
def command(common: Common, task: str) -> None:
    """Show a task descriptor, member by member: of a crash dump, or as a machine's recording keeps it."""
    from taskscope.views.task import task_json, task_lines

    found, arch, wounds = described(common, "task", task)
    if common.json:
        put_bytes((task_json(detail) for detail in found), common)
        end(common, wounds)
        return

    def lines() -> Iterator[str]:
        for n, detail in enumerate(found):
            if n:
                yield ""
            yield from task_lines(detail, arch)

    put_lines(lines(), common)
    end(common, wounds)


@verb(
    "stack",
    takes=("core",),
    file=False,
    default=False,
    examples=(
        ("taskscope stack -i trace.dat 2", "where kthreadd sleeps"),
        ("taskscope stack --core vmcore kthreadd", "of a crash dump, by name; no debug package is needed"),
        ("taskscope stack -i trace.dat bash", "of each task of that name"),
    ),
)
@click.argument("task", metavar="PID|NAME")
def stack(common: Common, task: str) -> None:
    """Show the kernel call stack of a task: of a crash dump, or as a machine's recording keeps it."""
    from taskscope.views.task import stack_lines

    found, _, wounds = described(common, "stack", task)
    put_lines((line for detail in found for line in stack_lines(detail)), common)
    end(common, wounds)
