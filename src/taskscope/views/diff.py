"""``taskscope diff``: what changed between two moments: who is new, who is gone, and what became of the others.

A task is the same if pid and start time are; where a source does not know start times (a task that was there before a
recording began), the pid has to do, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from taskscope.abi.decode import decode
from taskscope.errors import UsageError
from taskscope.snapshot.snapshot import TICK, Snapshot, TaskRow
from taskscope.views.json import dumps
from taskscope.views.text import Lines, Paint, escape

#: what is compared, in this order; a field that one of both does not know is left out
_FIELDS: Final = ("comm", "state", "ppid", "parent", "tracer", "flags", "cpu", "prio", "nice", "policy", "uid", "pgid",
                  "sid", "tty", "exit_code")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one task.

    :param how: ``new``, ``gone`` or ``changed``
    :param changes: field -> before, after
    :param used: ns on a CPU meanwhile; None if that is not known
    :param inferred: that both are one task was told by the pid alone
    """

    how: str
    task: TaskRow
    changes: dict[str, tuple[Any, Any]]
    used: int | None = None
    inferred: bool = False


class Diff(list[Change]):
    """What changed; shows itself, on a terminal and in a notebook."""

    def __str__(self) -> str:
        return str(Lines(diff_lines(self)))

    def _repr_html_(self) -> str:
        return Lines(diff_lines(self))._repr_html_()


def diff(before: Snapshot, after: Snapshot) -> Diff:
    """Return the differences, by pid; tasks in which nothing changed are left out.

    :raises UsageError: the second moment is of the same clock, and earlier
    """
    found = Diff()
    old = {t.pid: t for t in before.tasks if t.kind != "idle"}
    new = {t.pid: t for t in after.tasks if t.kind != "idle"}
    for pid in sorted(old.keys() | new.keys()):
        a, b = old.get(pid), new.get(pid)
        same = _same(a, b)
        if a is not None and not same:
            found.append(Change("gone", a, {}))
        if b is not None and not same:
            found.append(Change("new", b, {}))
        if a is None or b is None or not same:
            continue
        changes = {name: (x, y) for name in _FIELDS
                   if (x := getattr(a, name)) is not None and (y := getattr(b, name)) is not None and x != y
                   and "?" not in (x, y) and not (name == "comm" and _same_name(a, b))}
        used = None
        if a.sum_exec_runtime is not None and b.sum_exec_runtime is not None:
            used = b.sum_exec_runtime - a.sum_exec_runtime
        elif a.cputime is not None and b.cputime is not None:
            used = b.cputime - a.cputime
        if changes or used:
            found.append(Change("changed", b, changes, used, a.start_time is None or b.start_time is None))
    return found


def _same_name(a: TaskRow, b: TaskRow) -> bool:
    """Tell whether two names of a kernel thread are one: /proc has more of it than the 15 letters of the descriptor."""
    if "kthread" not in (a.kind, b.kind):
        return a.comm == b.comm
    return a.comm.startswith(b.comm[:15]) or b.comm.startswith(a.comm[:15])


def _same(a: TaskRow | None, b: TaskRow | None) -> bool:
    if a is None or b is None:
        return False
    if a.start_time is None or b.start_time is None:
        return True
    return abs(a.start_time - b.start_time) <= TICK  # start times in /proc are in ticks


def diff_lines(changes: list[Change], *, paint: Paint | None = None) -> Iterator[str]:
    """Yield a line a task: ``+`` new, ``-`` gone, ``~`` changed and how."""
    for change in changes:
        task = change.task
        name = f"{task.pid:>7} {escape(task.comm)}"
        if change.how == "new":
            parent = "" if task.ppid is None else f", child of {task.ppid}"
            line = f"+{name}  {task.kind or 'task'} in {task.state}{parent}"
            yield paint(line, "born") if paint else line
        elif change.how == "gone":
            yield paint(f"-{name}  was in {task.state}", "kill") if paint else f"-{name}  was in {task.state}"
        else:
            parts = [f"{field} {_shown(field, x)} → {_shown(field, y)}" for field, (x, y) in change.changes.items()]
            parts += [f"ran {change.used / 1e9:.6f} s"] if change.used else []
            parts += ["(same pid; when it was born is not known)"] if change.inferred else []
            yield f"~{name}  " + ", ".join(parts)


def _shown(field: str, value: Any) -> str:
    if field == "flags":
        try:
            return decode("pf", [str(value)])[0].text
        except UsageError:
            return f"{value:#x}"
    return escape(str(value))


def diff_json(changes: list[Change]) -> Iterator[bytes]:
    """Yield one JSON object a task: pid, comm, ``how``, ``changes`` (field: [before, after]), ``used`` ns, inferred."""
    for change in changes:
        yield (dumps({
            "pid": change.task.pid, "comm": change.task.comm, "how": change.how,
            "changes": {name: list(pair) for name, pair in change.changes.items()}, "used": change.used,
            "inferred": change.inferred,
        }) + "\n").encode()
