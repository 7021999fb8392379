"""``taskscope task`` and ``taskscope stack``: a task descriptor, a kernel stack; of any source."""

from __future__ import annotations

from collections.abc import Iterator

import click

from taskscope.cli.options import Common, verb
from taskscope.cli.output import progress, put_bytes, put_lines
from taskscope.cli.source import end, source_of
from taskscope.errors import NoSuchTaskError, UsageError
from taskscope.source import Details


def described(common: Common, task: str) -> Details:
    """Return the descriptors that a pid or a name means.

    :raises NoSuchTaskError: there is none
    :raises UsageError: a recording was named that keeps none
    """
    source = source_of(common)
    if source is None:
        return _saved(common, task)
    with progress(f"reading {source.name}", common):
        result = source.details(task, every=bool(common.verbose))
    if not result.tasks:
        raise NoSuchTaskError(f"{source.name}: there is no task {task!r}; 'taskscope ps' lists those that are there")
    return result


def _saved(common: Common, task: str) -> Details:
    from taskscope.snapshot.saved import read_tasks

    assert common.input is not None
    saved = read_tasks(common.input)
    if saved is None:
        raise UsageError(
            f"{common.input} keeps no task descriptors: it is no recording of the executable kernel (taskscope run); "
            f"'taskscope life' and 'taskscope ps' tell what its events show"
        )
    found = [d for d in saved.tasks if task in (str(d.row.pid), d.row.comm)]
    if not found:
        raise NoSuchTaskError(
            f"{common.input}: no task {task!r} was there at {saved.at / 1e9:.6f}; 'taskscope ps' lists those that were"
        )
    return Details(found, saved.arch, [])


@verb(
    "task",
    takes=("kernel", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope task 1", "what this machine's /proc tells of init, every bit with its name"),
        ("taskscope task --core vmcore sshd", "of a crash dump, by name"),
        ("taskscope task -i trace.dat kthreadd --json", "as data, addresses as hex strings"),
    ),
)
@click.argument("task", metavar="PID|NAME")
def command(common: Common, task: str) -> None:
    """Show a task descriptor, member by member: of this machine, a dump, a guest, or a machine's recording.

    With -v all members of task_struct that there are (of kernel memory); else those of which the meaning is known.
    "adopter" is who would get its children if it died now.
    """
    from taskscope.views.task import task_json, task_lines

    found, arch, wounds = described(common, task)
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
    takes=("kernel", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope stack --live 2", "where this machine's kthreadd sleeps, out of its memory"),
        ("taskscope stack --core vmcore kthreadd", "of a crash dump, by name; no debug package is needed"),
        ("taskscope stack -i trace.dat bash", "of each task of that name"),
    ),
)
@click.argument("task", metavar="PID|NAME")
def stack(common: Common, task: str) -> None:
    """Show the kernel call stack of a task: of this machine (root), a crash dump, or a machine's recording."""
    from taskscope.views.task import stack_json, stack_lines

    found, _, wounds = described(common, task)
    if common.json:
        put_bytes((stack_json(detail) for detail in found), common)
        end(common, wounds)
        return
    put_lines((line for detail in found for line in stack_lines(detail)), common)
    end(common, wounds)
