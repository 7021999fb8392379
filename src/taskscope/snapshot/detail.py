"""One task descriptor, member by member: `TaskDetail`, `detail_of`; and who would adopt its children: `reaper_of`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from taskscope.abi.era import Version
from taskscope.snapshot.decode import CPU_CONTEXT, PIDTYPES, UNREAD, Memory, StackUse, full_row, one_of
from taskscope.snapshot.snapshot import TaskRow, plain, why_missing

_PF_EXITING: Final = 0x4
#: no task has so many ancestors that more would be meant
_MOST: Final = 1 << 16


class Reaper(NamedTuple):
    """Who would adopt a task's children.

    :param how: ``thread`` (another of its process), ``subreaper`` (above it), ``init`` (of its PID namespace)
    """

    pid: int
    comm: str
    how: str


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """A task descriptor, member by member; names and units are the kernel's, addresses are numbers."""

    row: TaskRow
    version: Version
    address: int | None  # of the task_struct; None if the source knows no addresses
    members: dict[str, Any]  # by the kernel's name, in the order of the struct
    thread_info: dict[str, Any]
    thread_info_address: int | None
    thread_size: int
    children: tuple[int, ...]  # pids
    threads: tuple[int, ...]
    stack: tuple[str, ...]  # call stack, innermost first
    stack_use: StackUse | None = None
    reaper: Reaper | None = None  # who would adopt its children if it died now; None if that is not known
    cgroup: str | None = None
    namespaces: Mapping[str, int] = field(default_factory=dict)  # inode numbers
    every: Mapping[str, int | str] = field(default_factory=dict)  # all members, where they were asked for

    def _repr_html_(self) -> str:
        """Return a table for notebooks: the members as they are; `views.task.task_lines` says what they mean."""
        from html import escape

        rows = {**self.members, **{f"thread_info.{name}": value for name, value in self.thread_info.items()}}
        cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(plain(str(value)))}</td></tr>"
                        for name, value in rows.items())
        return f"<table><caption>{escape(plain(f'{self.row.pid} {self.row.comm}'))}</caption>{cells}</table>"


#: members of task_struct that are numbers, in the struct's order; alternatives are names of other kernels
_NUMBERS: Final = (
    ("state", "__state"),
    ("stack",),
    ("usage.refs.counter", "usage"),
    ("flags",),
    ("ptrace",),
    ("on_cpu",),
    ("on_rq",),
    ("prio",),
    ("static_prio",),
    ("normal_prio",),
    ("rt_priority",),
    ("se.load.weight",),
    ("se.vruntime",),
    ("se.sum_exec_runtime",),
    ("se.nr_migrations",),
    ("policy",),
    ("nr_cpus_allowed",),
    ("cpus_allowed", "cpus_mask"),
    ("sched_info.pcount",),
    ("sched_info.run_delay",),
    ("sched_info.last_arrival",),
    ("sched_info.last_queued",),
    ("mm",),
    ("active_mm",),
    ("exit_state",),
    ("exit_code",),
    ("exit_signal",),
    ("pdeath_signal",),
    ("jobctl",),
    ("personality",),
    ("pid",),
    ("tgid",),
    ("real_parent.pid",),
    ("parent.pid",),
    ("group_leader.pid",),
    ("vfork_done",),
    ("utime",),
    ("stime",),
    ("nvcsw",),
    ("nivcsw",),
    ("start_time",),
    ("min_flt",),
    ("maj_flt",),
    ("fs",),
    ("files",),
    ("nsproxy",),
    ("signal",),
    ("sighand",),
    ("blocked",),
    ("pending.signal",),
)
#: members of what task_struct points to
_BEHIND: Final = (
    ("mm.mm_users", "mm.mm_users.counter"),
    ("mm.mm_count", "mm.mm_count.counter"),
    ("fs.users",),
    ("files.count", "files.count.counter"),
    ("sighand.count", "sighand.count.refs.counter"),
    ("signal.live", "signal.live.counter"),
    ("signal.nr_threads",),
    ("signal.flags",),
    ("signal.group_exit_code",),
    ("signal.shared_pending.signal",),
    ("signal.oom_score_adj",),
    ("cred.uid", "cred.uid.val"),
    ("cred.euid", "cred.euid.val"),
    ("cred.gid", "cred.gid.val"),
    ("cred.suid", "cred.suid.val"),
    ("cred.fsuid", "cred.fsuid.val"),
    ("cred.egid", "cred.egid.val"),
    ("cred.cap_effective.val", "cred.cap_effective"),
    ("cred.cap_permitted.val", "cred.cap_permitted"),
    ("cred.securebits",),
    ("seccomp.mode",),
    ("loginuid", "loginuid.val"),
)
_THREAD_INFO: Final = (
    "flags",
    "preempt_count",
    "addr_limit",
    "task",
    "cpu",
    "cpu_domain",
    "syscall",
    "used_cp",
    "status",
    "syscall_work",
)
#: name -> where its inode number is
_NAMESPACES: Final = (
    ("cgroup", "nsproxy.cgroup_ns.ns.inum"), ("ipc", "nsproxy.ipc_ns.ns.inum"), ("mnt", "nsproxy.mnt_ns.ns.inum"),
    ("net", "nsproxy.net_ns.ns.inum"), ("pid_for_children", "nsproxy.pid_ns_for_children.ns.inum"),
    ("time", "nsproxy.time_ns.ns.inum"), ("user", "cred.user_ns.ns.inum"), ("uts", "nsproxy.uts_ns.ns.inum"),
)


def detail_of(memory: Memory, task: Any, *, every: bool = False) -> TaskDetail:
    """Return a task descriptor, member by member.

    :param every: with all members that there are
    """
    members: dict[str, Any] = {"comm": memory.text(task, "comm")}
    for names in (*_NUMBERS, *_BEHIND):
        name, value = one_of(memory, task, names)
        if value is not None:
            members[name.removesuffix(".refs.counter").removesuffix(".counter").removesuffix(".val")] = value
    for pointer in ("mm", "active_mm", "fs", "files", "nsproxy", "signal", "sighand", "vfork_done"):
        if memory.follow(task, pointer) is None:
            members[pointer] = 0
    for kind in PIDTYPES[2:]:
        members[kind] = memory.id_of(task, kind)
    members["sched_class"] = memory.text(task, "sched_class.name")
    info = memory.follow(task, "thread_info")
    thread_info: dict[str, Any] = {}
    for name in _THREAD_INFO:
        value = memory.number(info, name)
        if value is not None:
            thread_info[name] = value
    for name in CPU_CONTEXT:
        value = memory.number(info, f"cpu_context.{name}")
        if value is not None:
            thread_info[f"cpu_context.{name}"] = value
    leader = memory.follow(task, "group_leader")
    row = full_row(memory, task, stacks=True)
    row.unavailable = {**why_missing((row,), UNREAD, "this kernel does not keep it"), **row.unavailable}
    return TaskDetail(
        row=row,
        version=memory.version,
        address=memory.address(task),
        members=members,
        thread_info=thread_info,
        thread_info_address=memory.address(info),
        thread_size=getattr(memory, "thread_size", 0),
        children=tuple(memory.number(child, "pid") or 0 for child in memory.children(task)),
        threads=tuple(memory.number(thread, "pid") or 0 for thread in memory.threads(leader))
        if leader is not None
        else (),
        stack=tuple(memory.stack(task)),
        stack_use=memory.stack_use(task),
        reaper=reaper_of(memory, task),
        cgroup=memory.cgroup(task),
        namespaces={name: value for name, path in _NAMESPACES if (value := memory.number(task, path)) is not None},
        every=memory.every(task) if every else {},
    )


def reaper_of(memory: Memory, task: Any) -> Reaper | None:
    """Return who would adopt a task's children if it died now: find_new_reaper(), kernel/exit.c, v6.1.

    None if that cannot be told: it is dead itself, or a pointer on the way leads nowhere.
    """
    if memory.number(task, "exit_state"):
        return None
    if (thread := _alive(memory, task, but=memory.number(task, "pid"))) is not None:
        return _reaper(memory, thread, "thread")
    init = memory.child_reaper(task)
    if init is None:
        return None
    if memory.number(task, "signal.has_child_subreaper"):
        above = memory.follow(task, "real_parent")
        for _ in range(_MOST):
            if above is None or memory.number(above, "pid") in (0, memory.number(init, "pid")):
                break
            if memory.number(above, "signal.is_child_subreaper"):
                thread = _alive(memory, above)
                if thread is not None:
                    return _reaper(memory, thread, "subreaper")
            above = memory.follow(above, "real_parent")
    return _reaper(memory, init, "init")


def _reaper(memory: Memory, task: Any, how: str) -> Reaper | None:
    pid = memory.number(task, "pid")
    return None if pid is None else Reaper(pid, memory.text(task, "comm") or "", how)


def _alive(memory: Memory, task: Any, but: int | None = None) -> Any:
    """Return a thread of a task's process that is not on its way out: find_alive_thread()."""
    leader = memory.follow(task, "group_leader")
    for thread in memory.threads(leader) if leader is not None else ():
        if memory.number(thread, "pid") != but and not (memory.number(thread, "flags") or 0) & _PF_EXITING:
            return thread
    return None
