"""``taskscope task``: one task descriptor, member by member, every bit with its name; and ``taskscope stack``.

Members bear the kernel's names and come in groups.  A number whose bits mean something is followed by what `taskscope
decode` says of it; times are ns as in the kernel, with seconds beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from taskscope.abi.decode import decode
from taskscope.errors import UsageError
from taskscope.snapshot.detail import TaskDetail
from taskscope.views.descriptors import row_fields
from taskscope.views.json import dumps
from taskscope.views.text import escape

#: group -> members, in the order in which they are shown; a name that the kernel at hand has not is left out
GROUPS: Final = {
    "identity": ("comm", "pid", "tgid", "group_leader.pid", "PGID", "SID"),
    "state": ("state", "__state", "exit_state", "exit_code", "exit_signal", "flags", "ptrace", "jobctl", "usage"),
    "family": ("real_parent.pid", "parent.pid", "pdeath_signal", "vfork_done"),
    "scheduling": (
        "on_cpu",
        "on_rq",
        "prio",
        "static_prio",
        "normal_prio",
        "rt_priority",
        "policy",
        "sched_class",
        "nr_cpus_allowed",
        "cpus_allowed",
        "cpus_mask",
        "se.load.weight",
        "se.vruntime",
        "se.sum_exec_runtime",
        "se.nr_migrations",
    ),
    "times": (
        "start_time",
        "utime",
        "stime",
        "nvcsw",
        "nivcsw",
        "sched_info.pcount",
        "sched_info.run_delay",
        "sched_info.last_arrival",
        "sched_info.last_queued",
    ),
    "what it has": (
        "stack",
        "mm",
        "mm.mm_users",
        "mm.mm_count",
        "active_mm",
        "fs",
        "fs.users",
        "files",
        "files.count",
        "signal",
        "signal.live",
        "signal.nr_threads",
        "signal.flags",
        "signal.group_exit_code",
        "signal.oom_score_adj",
        "sighand",
        "sighand.count",
        "nsproxy",
    ),
    "credentials": (
        "cred.uid",
        "cred.euid",
        "cred.suid",
        "cred.fsuid",
        "cred.gid",
        "cred.egid",
        "cred.cap_effective",
        "cred.cap_permitted",
        "cred.securebits",
        "loginuid",
        "seccomp.mode",
    ),
    "signals": ("blocked", "pending.signal", "signal.shared_pending.signal"),
}
_KINDS: Final = {
    "state": "state",
    "__state": "state",
    "exit_state": "state",
    "exit_code": "wait",
    "exit_signal": "signal",
    "flags": "pf",
    "pdeath_signal": "signal",
    "prio": "prio",
    "policy": "policy",
    "blocked": "sigset",
    "pending.signal": "sigset",
    "signal.shared_pending.signal": "sigset",
}
_ADDRESSES: Final = frozenset(
    {"stack", "mm", "active_mm", "fs", "files", "nsproxy", "signal", "sighand", "vfork_done", "task"}
)
_TIMES: Final = frozenset(
    {
        "start_time",
        "utime",
        "stime",
        "se.vruntime",
        "se.sum_exec_runtime",
        "sched_info.run_delay",
        "sched_info.last_arrival",
        "sched_info.last_queued",
    }
)
_HEX: Final = frozenset(
    {
        "state",
        "__state",
        "exit_state",
        "exit_code",
        "flags",
        "jobctl",
        "cpus_allowed",
        "cpus_mask",
        "blocked",
        "pending.signal",
        "signal.shared_pending.signal",
        "signal.flags",
        "cred.cap_effective",
        "cred.cap_permitted",
        "cred.securebits",
        "preempt_count",
        "addr_limit",
        "cpu_domain",
    }
)


#: how a reaper is found
_HOW: Final = {"thread": "another thread of its process", "subreaper": "the nearest subreaper above it",
               "init": "init of its PID namespace"}


def _any(value: int | str) -> str:
    """Write a member of which nothing is known but its number."""
    if isinstance(value, str):
        return f'"{escape(value)}"'
    return f"{value:#x}" if abs(value) > 0xFFFF else str(value)


def _value(name: str, value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, int):
        return escape(str(value))
    if name in _ADDRESSES:
        return f"{value:#x}" if value else "NULL"
    if name in _HEX or name.startswith("cpu_context."):
        return f"{value:#x}"
    return str(value)


def _meaning(name: str, value: object, detail: TaskDetail, arch: str | None) -> str:
    if not isinstance(value, int):
        return ""
    if name in _TIMES:
        return f"{value / 1e9:.6f} s"
    kind = _KINDS.get(name)
    words = [str(value)]
    if name == "thread_info.flags":
        kind = "tif"
    elif name == "thread_info.preempt_count":
        kind = "preempt"
    if (
        kind is None
        or (value == 0 and name not in ("state", "__state", "exit_state"))
        or (name == "exit_signal" and value < 0)
    ):
        return "a thread that is not the leader" if name == "exit_signal" and value == -1 else ""
    if name == "exit_state" and value == 0:
        return "not dead"
    try:
        found = decode(kind, words, arch=arch, kernel=detail.version)
    except UsageError:
        return ""
    return found[0].text


def task_lines(detail: TaskDetail, arch: str | None = None) -> Iterator[str]:
    """Yield the lines that show one task descriptor.

    :param arch: whose thread flags they are; by default those of ARM for a thread_info on the stack, else of x86-64
    """
    row = detail.row
    on_stack = detail.thread_info_address != detail.address
    arch = arch or ("arm" if on_stack else "x86_64")
    where = "" if detail.address is None else f"; struct task_struct at {detail.address:#x}"
    yield f"{row.pid} {escape(row.comm)}: a {row.kind}, {row.state}{where}"
    for group, names in GROUPS.items():
        yield f"{group}:"
        for name in names:
            if name in detail.members:
                value = detail.members[name]
                yield _line(name, value, _meaning(name, value, detail, arch))
        if group == "family":
            yield _line("children", " ".join(map(str, detail.children)) or "none", "")
            yield _line("threads", " ".join(map(str, detail.threads)) or "none", "")
            if (reaper := detail.reaper) is not None:
                yield _line("adopter", reaper.pid, f"{_HOW[reaper.how]}, {escape(reaper.comm)}: find_new_reaper()")
    if detail.thread_info_address is None:
        yield "thread_info: only kernel memory tells (--live)"
    else:
        where = "the lowest address of its stack" if on_stack else "the first member of task_struct"
        yield f"thread_info at {detail.thread_info_address:#x}, {where}:"
    for name, value in detail.thread_info.items():
        yield _line(name, value, _meaning(f"thread_info.{name}", value, detail, arch))
    if detail.cgroup is not None or detail.namespaces:
        yield "control group and namespaces:"
        if detail.cgroup is not None:
            yield _line("cgroup", detail.cgroup, "")
        for name, number in detail.namespaces.items():
            yield _line(name, number, "")
    yield "kernel stack:"
    if (use := detail.stack_use) is not None:
        yield f"  {use.low:#x}…{use.low + use.size:#x}: {use.used:,} of {use.size:,} bytes used so far"
        yield "  STACK_END_MAGIC " + ("stands at its end" if use.whole else "is GONE from its end: it has overflowed")
    none = row.unavailable.get("kernel_stack", "it runs, or has none")
    yield from (f"  {entry}" for entry in detail.stack or (none,))
    if detail.every:
        yield "all members:"
        yield from (f"  {name:<40} {_any(value)}" for name, value in detail.every.items())


def _line(name: str, value: object, meaning: str) -> str:
    return f"  {name:<28} {_value(name, value):<20} {meaning}".rstrip()


def task_json(detail: TaskDetail) -> bytes:
    """Return a task descriptor as one JSON object: what ``ps --json`` says of the task, then the struct's members.

    Addresses are hex strings.
    """
    row = detail.row
    members = {name: f"{value:#x}" if name in _ADDRESSES and isinstance(value, int) else value
               for name, value in detail.members.items()}
    info = {name: f"{value:#x}" if name == "task" or name.startswith("cpu_context.") else value
            for name, value in detail.thread_info.items()}
    found = {**row_fields(row, stacks=True), "children": list(detail.children), "cgroup": _cgroup(detail),
             "namespaces": dict(detail.namespaces) or None, **_frames(detail)}
    return (dumps({
        **found,
        "unavailable": {name: why for name, why in row.unavailable.items() if found.get(name) is None},
        "members": members,
        "thread_info_address": None if detail.thread_info_address is None else f"{detail.thread_info_address:#x}",
        "thread_info_members": info or None,
        "thread_pids": list(detail.threads),
        "stack_use": None if detail.stack_use is None else {
            **detail.stack_use._asdict(), "low": f"{detail.stack_use.low:#x}"
        },
        "reaper": None if detail.reaper is None else detail.reaper._asdict(),
        "every": dict(detail.every) or None,
    }) + "\n").encode()


def _cgroup(detail: TaskDetail) -> str | None:
    """Return the control group as /proc/PID/cgroup and ``ps --json`` have it, "" at the root."""
    if detail.row.cgroup is not None or detail.cgroup is None:
        return detail.row.cgroup
    return "" if detail.cgroup == "/" else f"0::{detail.cgroup}"


def _frames(detail: TaskDetail) -> dict[str, list[str] | None]:
    """Return the kernel stack as functions, and as function+offset/size; None where there is none."""
    return {"kernel_stack": [entry.partition("+")[0] for entry in detail.stack] or None,
            "frames": list(detail.stack) or None}


def stack_json(detail: TaskDetail) -> bytes:
    """Return whose stack it is and the stack, innermost first, as one JSON object; null where there is none."""
    row = detail.row
    why = row.unavailable.get("kernel_stack", "it runs: its stack is in use")
    return (dumps({"pid": row.pid, "comm": row.comm, "state": row.state, **_frames(detail),
                   "unavailable": {} if detail.stack else {"kernel_stack": why}}) + "\n").encode()


def stack_lines(detail: TaskDetail) -> Iterator[str]:
    """Yield the kernel call stack of one task, as /proc/PID/stack shows it, under a line that says whose it is."""
    yield f"{detail.row.pid} {escape(detail.row.comm)}, {detail.row.state}"
    yield from (f"  [<0>] {entry}" for entry in detail.stack)
    if not detail.stack:
        yield "  " + detail.row.unavailable.get("kernel_stack", "it runs: its stack is in use")
