"""Tasks as data, where their descriptors were read: one JSON object a task (docs/json.md).

Times are ns, addresses hex strings; what is unknown is null, and ``unavailable`` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskscope.snapshot.snapshot import Snapshot, TaskRow
from taskscope.views.json import dumps

#: as they are, in this order
_PLAIN = (
    "flags", "exit_state", "exit_code", "real_parent", "parent", "tracer", "group_leader", "children", "utime", "stime",
)
_SCHED = (
    "last_arrival", "run_delay", "pcount", "cpu", "on_cpu", "prio", "static_prio", "rt_priority", "policy",
)
_PS = ("ppid", "kind", "nice", "pgid", "sid", "tty", "tpgid", "uid", "rss_kib", "size_kib", "threads")


def descriptors_json(snapshot: Snapshot, *, threads: bool = True, stacks: bool = False) -> Iterator[bytes]:
    """Yield one JSON object a task.

    :param threads: those that lead no group too
    :param stacks: with ``kernel_stack``, function names, innermost first
    """
    for task in snapshot.tasks:
        if threads or task.kind != "thread":
            yield (dumps(_fields(task, snapshot, stacks)) + "\n").encode()


def _fields(task: TaskRow, snapshot: Snapshot, stacks: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"pid": task.pid, "tgid": task.tgid, "comm": task.comm,
                             "state": None if task.state == "?" else task.state}
    found |= {name: getattr(task, name) for name in _PLAIN}
    found |= {"sum_exec_runtime": task.runtime, "start_time": task.start}
    found |= {name: getattr(task, name) for name in _SCHED}
    found |= {"address": _hex(task.address), "stack": _hex(task.stack), "wchan": task.wchan, "thread_info": None}
    if task.thread_info is not None:
        info = dict(task.thread_info)
        context = info.get("cpu_context")
        info["cpu_context"] = context and {name: _hex(value) for name, value in context.items()}
        found["thread_info"] = info
    if stacks:
        found["kernel_stack"] = task.kernel_stack and [entry.partition("+")[0] for entry in task.kernel_stack]
    found |= {name: getattr(task, name) for name in _PS}
    why = {name: text for name, text in snapshot.unavailable.items() if found.get(name, 0) is None}
    return {**found, "at": snapshot.at, "unavailable": why | dict(task.unavailable)}


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"
