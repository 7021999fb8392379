"""``taskscope ps``: a process table of a `Snapshot` in the formats of ps(1): ``-ely``, ``-ejH``, ``axjf``.

Columns, their order, headers and alignment are those of procps-ng, with pids of five digits where that is enough; what
the source cannot know is ``-``, never a guess.  As in ps, threads are left out; kernel threads stand in brackets,
zombies are ``<defunct>``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from taskscope.snapshot.snapshot import RECORDED, Snapshot, TaskRow
from taskscope.views.json import dumps
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Cell, Paint, escape

Style = Literal["ely", "ejH", "axjf"]
STYLES: tuple[Style, ...] = ("ely", "ejH", "axjf")

_COLUMNS: Mapping[Style, Sequence[Column]] = {
    "ely": (
        Column("S", "<"),
        Column("UID", least=5),
        Column("PID", least=5),
        Column("PPID", least=5),
        Column("C", least=2),
        Column("PRI", least=3),
        Column("NI", least=3),
        Column("RSS", least=5),
        Column("SZ", least=5),
        Column("WCHAN", "<", 6),
        Column("TTY", "<", 8),
        Column("TIME", least=8),
        Column("CMD", "<"),
    ),
    "ejH": (
        Column("PID", least=5),
        Column("PGID", least=5),
        Column("SID", least=5),
        Column("TTY", "<", 8),
        Column("TIME", least=8),
        Column("CMD", "<"),
    ),
    "axjf": (
        Column("PPID", least=5),
        Column("PID", least=5),
        Column("PGID", least=5),
        Column("SID", least=5),
        Column("TTY", "<", 8),
        Column("TPGID", least=5),
        Column("STAT", "<", 4),
        Column("UID", least=5),
        Column("TIME", least=6),
        Column("COMMAND", "<"),
    ),
}
_STATE_STYLES = {"R": "running", "D": "blocked", "T": "stopped", "t": "traced", "Z": "zombie"}


def ps_table(
    snapshot: Snapshot,
    style: Style = "ely",
    *,
    paint: Paint | None = None,
    header: bool = True,
    limit: int | None = None,
) -> Iterator[str]:
    """Yield the lines of the table of all processes of a snapshot.

    :param style: which of the formats of ps(1)
    :param limit: cells of a line, to which the command is cut, as ps does on a terminal
    """
    processes = [t for t in snapshot.tasks if t.kind != "thread" and t.pid != 0]
    threads: dict[int | None, int] = {}
    for t in snapshot.tasks:
        threads[t.tgid] = threads.get(t.tgid, 0) + 1
    rows: list[Row] = []
    if style == "ely":
        rows = [_ely(t, snapshot) for t in processes]
    elif style == "ejH":
        rows = [_ejh(t, depth) for t, depth, _ in forest(processes)]
    else:
        rows = [_axjf(t, lead, threads.get(t.tgid, 1)) for t, _, lead in forest(processes)]
    return table(_COLUMNS[style], rows, paint, header, limit)


def _num(value: int | None) -> str:
    return "-" if value is None else str(value)


def _state(task: TaskRow) -> Cell:
    return Cell("-" if task.state == "?" else task.state, _STATE_STYLES.get(task.state))


def _cmd(task: TaskRow) -> str:
    comm = escape(task.comm)
    shown = f"[{comm}]" if task.kind in ("kthread", "idle") else comm
    return f"{shown} <defunct>" if task.state == "Z" else shown


def _cputime(task: TaskRow) -> int | None:
    """Return the cpu time in whole seconds since birth; None for a task older than the source's records."""
    return None if task.runtime is None or task.start is None else task.runtime // 1_000_000_000


def clock_time(seconds: int | None) -> str:
    """Write cpu time as ps does: ``[dd-]hh:mm:ss``."""
    if seconds is None:
        return "-"
    days, rest = divmod(seconds, 86_400)
    shown = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days:02d}-{shown}" if days else shown


def _usage(task: TaskRow, snapshot: Snapshot) -> str:
    """Return C: cpu time as a whole percentage of the task's age, at most 99."""
    if task.runtime is None or task.start is None or snapshot.at is None:
        return "-"
    age = snapshot.at - task.start
    return str(min(task.runtime * 100 // age, 99)) if age > 0 else "0"


def _ely(task: TaskRow, snapshot: Snapshot) -> Row:
    # PRI of ps -l is the kernel's priority less 40 (its "opri": 60 + priority of /proc, which counts from
    # 100).
    pri = "-" if task.prio is None else str(task.prio - 40)
    nice = _num(task.nice) if task.prio is None or task.prio >= 100 else "-"
    return [
        _state(task),
        _num(task.uid),
        str(task.pid),
        _num(task.ppid),
        _usage(task, snapshot),
        pri,
        nice,
        _num(task.rss_kib),
        # In pages, as ps has it, whatever RSS is in.
        _num(None if task.size_kib is None else task.size_kib // 4),
        escape(task.wchan or "-")[:6],
        escape(task.tty or "-"),
        clock_time(_cputime(task)),
        _cmd(task),
    ]


def _ejh(task: TaskRow, depth: int) -> Row:
    return [
        str(task.pid),
        _num(task.pgid),
        _num(task.sid),
        escape(task.tty or "-"),
        clock_time(_cputime(task)),
        "  " * depth + _cmd(task),
    ]


def _axjf(task: TaskRow, lead: str, threads: int) -> Row:
    stat = _state(task).text
    if task.nice is not None and task.nice != 0 and (task.prio is None or task.prio >= 100):
        stat += "<" if task.nice < 0 else "N"
    if threads > 1:
        stat += "l"
    seconds = _cputime(task)
    shown = "-" if seconds is None else f"{seconds // 60}:{seconds % 60:02d}"
    return [
        _num(task.ppid),
        str(task.pid),
        _num(task.pgid),
        _num(task.sid),
        escape(task.tty or "-"),
        _num(task.tpgid),
        Cell(stat, _STATE_STYLES.get(task.state)),
        _num(task.uid),
        shown,
        lead + _cmd(task),
    ]


def forest(tasks: Sequence[TaskRow]) -> Iterator[tuple[TaskRow, int, str]]:
    r"""Yield tasks as ps's forest: (task, depth, lead), children below their parent, in order of pid.

    ``lead`` is what ``ps f`` draws before the command: `` \_ `` under ``|``.  Kernel threads whose parent is
    unknown stand under kthreadd (pid 2) if it is there: nothing else creates them.
    """
    by_pid = {t.pid: t for t in tasks}
    children: dict[int | None, list[TaskRow]] = {}
    for t in sorted(tasks, key=lambda t: t.pid):
        parent = t.ppid
        if parent is None and t.kind == "kthread" and t.pid != 2:
            parent = 2
        if parent not in by_pid or parent == t.pid:
            parent = None
        children.setdefault(parent, []).append(t)
    stack: list[tuple[TaskRow, int, str, bool]] = [(t, 0, "", True) for t in reversed(children.get(None, []))]
    done: set[int] = set()
    while stack:
        t, depth, before, last = stack.pop()
        if t.pid in done:
            continue
        done.add(t.pid)
        yield t, depth, "" if depth == 0 else f"{before} \\_ "
        under = "" if depth == 0 else before + ("    " if last else " |  ")
        kids = children.get(t.pid, [])
        stack += [(kid, depth + 1, under, k == 0) for k, kid in enumerate(reversed(kids))]
    # A circle of parents cannot come from a kernel; from a damaged recording it must not swallow tasks.
    for t in tasks:
        if t.pid not in done:
            yield t, 0, ""


def ps_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield one JSON object a task, threads too: its fields, ``at``, and why those that are null are unavailable."""
    for task in snapshot.tasks:
        # What follows these is of sources that read descriptors: see `descriptors_json`.
        fields = {name: getattr(task, name) for name in RECORDED}
        if fields["state"] == "?":
            fields["state"] = None
        why = {
            name: snapshot.unavailable[name]
            for name, value in fields.items()
            if value is None and name in snapshot.unavailable
        }
        yield (dumps({"at": snapshot.at, **fields, "unavailable": why}) + "\n").encode()
