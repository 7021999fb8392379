"""One task out of /proc as a `TaskDetail`: what /proc tells of task_struct, under the kernel's names.

What it does not tell (addresses, thread_info, most of the scheduler's numbers) is not there; /proc/PID/sched, where the
kernel has it, gives some of those.  Follows proc(5), fs/proc/array.c and kernel/sched/debug.c of Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Final

from taskscope.abi.era import DEFAULT, Version, kernel_of
from taskscope.errors import TraceError, UsageError
from taskscope.procfs.files import GoneError, Proc
from taskscope.procfs.snapshot import EVERYTHING, folder_of, snapshot
from taskscope.snapshot.detail import TaskDetail
from taskscope.snapshot.snapshot import TaskRow

#: member -> field of a row, in the order of the struct
_OF_ROW: Final = (
    ("comm", "comm"), ("flags", "flags"), ("prio", "prio"), ("static_prio", "static_prio"),
    ("rt_priority", "rt_priority"), ("se.sum_exec_runtime", "sum_exec_runtime"), ("policy", "policy"),
    ("sched_info.pcount", "pcount"), ("sched_info.run_delay", "run_delay"), ("exit_state", "exit_state"),
    ("exit_code", "exit_code"), ("pid", "pid"), ("tgid", "tgid"), ("real_parent.pid", "real_parent"),
    ("parent.pid", "parent"), ("group_leader.pid", "group_leader"), ("utime", "utime"), ("stime", "stime"),
    ("nvcsw", "nvcsw"), ("nivcsw", "nivcsw"), ("start_time", "start_time"), ("min_flt", "min_flt"),
    ("maj_flt", "maj_flt"), ("blocked", "blocked"), ("pending.signal", "pending"),
    ("signal.nr_threads", "threads"), ("signal.shared_pending.signal", "shared_pending"),
    ("cred.uid", "ruid"), ("cred.euid", "uid"), ("cred.suid", "suid"), ("cred.fsuid", "fsuid"), ("cred.gid", "rgid"),
    ("cred.egid", "gid"), ("PGID", "pgid"), ("SID", "sid"),
)
#: lines of /proc/PID/sched -> member; times there are ms with six digits
_OF_SCHED: Final = {
    "se.exec_start": ("se.exec_start", True), "se.vruntime": ("se.vruntime", True),
    "se.load.weight": ("se.load.weight", False), "nr_migrations": ("se.nr_migrations", False),
    "se.nr_migrations": ("se.nr_migrations", False),
}


def details(task: str, root: str | PathLike[str] = "/proc") -> list[TaskDetail]:
    """Return the tasks that a pid or a name means; none if there is none.

    :param task: a pid, tid or name
    :raises TraceError: there is no proc file system
    """
    proc = Proc(root)
    meant = {row.pid for row in snapshot(root, fields=()).tasks if task in (str(row.pid), row.comm)}
    if not meant:
        return []
    # Of their processes every thread is there.
    found = snapshot(root, fields=EVERYTHING | {"kernel_stack", "namespaces"}, pids=meant)
    release = (proc.read("sys/kernel/osrelease") or b"").decode("ascii", "replace").strip()
    by_group: dict[int | None, list[int]] = {}
    for row in found.tasks:
        by_group.setdefault(row.tgid, []).append(row.pid)
    why = {name: text for name, text in found.unavailable.items() if name != "kernel_stack"}
    return [_detail(proc, row, tuple(by_group[row.tgid]), _version(release), why) for row in found.tasks
            if row.pid in meant]


def _version(release: str) -> Version:
    try:
        return kernel_of(release)
    except UsageError:
        return DEFAULT


def _detail(proc: Proc, row: TaskRow, threads: tuple[int, ...], version: Version, why: Mapping[str, str]) -> TaskDetail:
    row.unavailable = {**why, **row.unavailable}
    members: dict[str, Any] = {"state": row.state}
    for member, name in _OF_ROW:
        value = getattr(row, name)
        if value is not None:
            members[member] = value
    folder = folder_of(row.tgid or row.pid, row.pid)
    members |= _of_files(proc, folder)
    if row.tracer is not None:
        members["ptrace.by"] = row.tracer
    return TaskDetail(
        row=row, version=version, address=None, members=members, thread_info={}, thread_info_address=None,
        thread_size=0, children=row.children or (), threads=threads, stack=row.kernel_stack or (),
        cgroup=_path(row.cgroup), namespaces=row.namespaces or {})


def _path(cgroup: str | None) -> str | None:
    """Return the path in the unified hierarchy, of which ``0::`` stands in front; the root is not listed."""
    if cgroup is None:
        return None
    paths = f",{cgroup}".split(",0::")[1:]
    return paths[0] if paths else None if cgroup else "/"


def _of_files(proc: Proc, folder: str) -> dict[str, Any]:
    """Return the members that files tell which a snapshot does not read."""
    found: dict[str, Any] = {}
    try:
        for key, value in proc.words(f"{folder}/status"):
            if key == "Cpus_allowed":
                found["cpus_mask"] = int(value.replace(",", ""), 16)
            elif key in ("NoNewPrivs", "Seccomp"):
                found[{"NoNewPrivs": "no_new_privs", "Seccomp": "seccomp.mode"}[key]] = int(value)
        for key, value in proc.words(f"{folder}/sched"):
            if (known := _OF_SCHED.get(key.strip())) is not None:
                member, is_time = known
                whole, _, part = value.partition(".")
                found[member] = int(whole) * 1_000_000 + int((part + "000000")[:6]) if is_time else int(whole)
        adj = (proc.read(f"{folder}/oom_score_adj") or b"").strip()
        if adj:
            found["signal.oom_score_adj"] = int(adj)
        personality = (proc.read(f"{folder}/personality") or b"").strip()
        if personality:
            found["personality"] = int(personality, 16)
    except (GoneError, ValueError, TraceError):
        return found
    return found
