"""``taskscope cpus``: what each CPU runs, and who waits for it; ``taskscope blocked``: who is in R or D, and why.

Both are of one moment.  A source that tells of a task only that it is in state R (/proc) does not tell whether it runs
or waits for its CPU: then both are said to be possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from taskscope.abi.decode import decode
from taskscope.errors import UsageError
from taskscope.snapshot.snapshot import Snapshot, TaskRow
from taskscope.views.json import dumps
from taskscope.views.ps_cells import state_style
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Cell, Paint, escape

_CPUS: Final = (
    Column("CPU", least=3), Column("S", "<"), Column("PID", least=5), Column("PRIO", least=4), Column("COUNT", least=5),
    Column("TASK", "<"),
)
_BLOCKED: Final = (
    Column("S", "<"), Column("PID", least=5), Column("CPU", least=3), Column("WAITS", "<"), Column("FOR", "<"),
    Column("WCHAN", "<"), Column("TASK", "<"),
)


def runs(task: TaskRow) -> str:
    """Return what a task in state R does: it runs, waits for a CPU, or one of both."""
    if task.on_cpu is None:
        return "runs|waits"
    return "runs" if task.on_cpu else "a CPU"


def _name(task: TaskRow) -> str:
    name = escape(task.comm)
    return f"[{name}]" if task.kind in ("kthread", "idle") else f"{{{name}}}" if task.kind == "thread" else name


def _lines_of(snapshot: Snapshot) -> dict[int, list[TaskRow]]:
    """Return for each CPU its idle task and the tasks in state R, those that run first."""
    found: dict[int, list[TaskRow]] = {}
    for task in snapshot.tasks:
        if task.cpu is not None and (task.state == "R" or task.kind == "idle"):
            found.setdefault(task.cpu, []).append(task)
    for cpu, tasks in found.items():
        busy = [t for t in tasks if t.kind != "idle"]
        tasks.sort(key=lambda t: (not t.on_cpu, t.kind == "idle", t.prio or 0, t.pid))
        # An idle CPU runs its idle task; a busy one does not.
        found[cpu] = [t for t in tasks if t.kind != "idle" or t.on_cpu or (t.on_cpu is None and not busy)]
    return dict(sorted(found.items()))


def _count(task: TaskRow) -> str:
    """Return preempt_count of a running task, decoded."""
    value = (task.thread_info or {}).get("preempt_count") if task.on_cpu else None
    if value is None:
        return "-"
    try:
        return decode("preempt", [str(value)])[0].text if value else "0"
    except UsageError:
        return f"{value:#x}"


def cpus_table(snapshot: Snapshot, *, paint: Paint | None = None, header: bool = True) -> Iterator[str]:
    """Yield the lines: of each CPU the task that it runs (``*``), then those that wait for it."""
    rows: list[Row] = []
    for cpu, tasks in _lines_of(snapshot).items():
        for task in tasks:
            mark = "*" if task.on_cpu else "?" if task.on_cpu is None and task.kind != "idle" else " "
            rows.append([str(cpu), Cell(mark, "running"), str(task.pid), "-" if task.prio is None else str(task.prio),
                         _count(task), _name(task)])
    return table(_CPUS, rows, paint, header)


def cpus_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield one JSON object a CPU: ``cpu``, ``current`` (a pid, null if not known), ``waiting`` and ``runnable``."""
    for cpu, tasks in _lines_of(snapshot).items():
        now = [t for t in tasks if t.on_cpu]
        known = any(t.on_cpu is not None for t in tasks)
        yield (dumps({
            "cpu": cpu,
            "current": _who(now[0]) if now else None,
            "preempt_count": (now[0].thread_info or {}).get("preempt_count") if now else None,
            "waiting": [_who(t) for t in tasks if t.on_cpu is False and t.kind != "idle"] if known else None,
            "runnable": [_who(t) for t in tasks if t.kind != "idle"],
        }) + "\n").encode()


def _who(task: TaskRow) -> dict[str, Any]:
    return {"pid": task.pid, "comm": task.comm, "prio": task.prio}


def blocked(snapshot: Snapshot) -> list[TaskRow]:
    """Return the tasks in states R and D, idle ones left out: many of them point to trouble."""
    return [t for t in snapshot.tasks if t.state in ("R", "D") and t.kind != "idle"]


def states(snapshot: Snapshot) -> list[tuple[str, int]]:
    """Return how many tasks, idle ones left out, are in which state, the most frequent first."""
    return Counter(t.state for t in snapshot.tasks if t.kind != "idle").most_common()


def blocked_table(snapshot: Snapshot, *, paint: Paint | None = None, header: bool = True) -> Iterator[str]:
    """Yield the lines: how many tasks are in which state, then those in R and D with what they wait for."""
    counted = states(snapshot)
    yield f"{sum(n for _, n in counted)} tasks: " + ", ".join(f"{n} {state}" for state, n in counted)
    found = blocked(snapshot)
    names = {t.pid: escape(t.comm) for t in snapshot.tasks}
    if found:
        yield from table(_BLOCKED, [_row(t, names) for t in found], paint, header)


def _row(task: TaskRow, names: dict[int, str]) -> Row:
    waits = runs(task) if task.state == "R" else task.waits or "-"
    held = "-" if task.waits_for is None else f"{task.waits_for}({names.get(task.waits_for, '?')})"
    return [Cell(task.state, state_style(task)), str(task.pid), "-" if task.cpu is None else str(task.cpu),
            waits.replace(" ", "-"), held.replace(" ", "-"), escape(task.wchan or "-"), _name(task)]


def blocked_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield one JSON object a task in state R or D: what it waits for, and its kernel stack where that is known."""
    for task in blocked(snapshot):
        stack: Sequence[str] | None = task.kernel_stack
        yield (dumps({
            "pid": task.pid, "comm": task.comm, "state": task.state, "cpu": task.cpu, "on_cpu": task.on_cpu,
            "waits": None if task.state == "R" else task.waits, "waits_for": task.waits_for, "wchan": task.wchan,
            "kernel_stack": None if stack is None else [entry.partition("+")[0] for entry in stack],
        }) + "\n").encode()
