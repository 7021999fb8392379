"""Tasks as data: one JSON object a task, the same from every source (docs/json.md).

Times are ns, addresses hex strings; what is unknown is null, and ``unavailable`` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from taskscope.snapshot.snapshot import Snapshot, TaskRow
from taskscope.views.json import dumps

#: as they are, in this order
_FIRST: Final = (
    "flags", "exit_state", "exit_code", "real_parent", "parent", "tracer", "group_leader", "children", "utime", "stime",
    "sum_exec_runtime", "start_time", "last_arrival", "run_delay", "pcount", "cpu", "on_cpu", "prio", "static_prio",
    "rt_priority", "policy", "on_rq",
)
_REST: Final = (
    "generation", "ppid", "kind", "forked", "args", "cputime", "nice", "pgid", "sid", "tty", "tpgid", "uid", "ruid",
    "suid", "fsuid", "gid", "rgid", "sgid", "fsgid", "rss_kib", "size_kib", "locked_kib", "threads", "min_flt",
    "maj_flt", "nvcsw", "nivcsw", "pending", "shared_pending", "blocked", "ignored", "caught", "cgroup", "namespaces",
    "thread_fn", "role", "about", "waits", "waits_for",
)


def ps_json(snapshot: Snapshot, *, threads: bool = True, stacks: bool = False) -> Iterator[bytes]:
    """Yield one JSON object a task.

    :param threads: those that lead no group too
    :param stacks: with ``kernel_stack``, function names, innermost first
    """
    for task in snapshot.tasks:
        if threads or task.kind != "thread":
            found = row_fields(task, stacks=stacks) | {"at": snapshot.at}
            why = {name: text for name, text in snapshot.unavailable.items() if found.get(name, 0) is None}
            yield (dumps({**found, "unavailable": why | dict(task.unavailable)}) + "\n").encode()


def row_fields(task: TaskRow, *, stacks: bool = False) -> dict[str, Any]:
    """Return what is known of a task under the names that it has in JSON, whatever command prints it.

    :param stacks: with ``kernel_stack``, function names, innermost first
    """
    found: dict[str, Any] = {"pid": task.pid, "tgid": task.tgid, "comm": task.comm,
                             "state": None if task.state == "?" else task.state}
    found |= {name: getattr(task, name) for name in _FIRST}
    found |= {"address": _hex(task.address), "stack": _hex(task.stack), "wchan": task.wchan, "thread_info": None}
    if task.thread_info is not None:
        info = dict(task.thread_info)
        context = info.get("cpu_context")
        info["cpu_context"] = context and {name: _hex(value) for name, value in context.items()}
        found["thread_info"] = info
    if stacks:
        found["kernel_stack"] = task.kernel_stack and [entry.partition("+")[0] for entry in task.kernel_stack]
    return found | {name: getattr(task, name) for name in _REST}


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"
