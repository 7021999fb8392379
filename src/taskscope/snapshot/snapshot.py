"""The tasks of a system at one moment: what `ps` and `tree` show.

Every source (a recording at a time, /proc, kernel memory) fills the same rows; a value that a source cannot give
is None and its reason stands in `Snapshot.unavailable` under the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

#: ns of a tick as /proc counts: USER_HZ is 100 on every architecture that is read here
TICK: Final = 10_000_000


# Not frozen: thousands are made at once, and a frozen one takes three times as long.
@dataclass(slots=True)
class TaskRow:
    """One task at one moment; field names follow task_struct and proc(5)."""

    pid: int
    generation: int | None          # in a recording; None elsewhere
    tgid: int | None
    ppid: int | None                # the real parent at that moment
    kind: str | None                # process, thread, kthread, idle
    comm: str
    state: str                      # one letter as in ps(1), "?" if unknown
    cpu: int | None
    prio: int | None                # kernel prio 0…139 (120 is nice 0)
    nice: int | None
    pgid: int | None
    sid: int | None
    tty: str | None
    tpgid: int | None
    uid: int | None
    rss_kib: int | None
    size_kib: int | None
    wchan: str | None
    start_time: int | None          # birth, ns of the source's clock; None if before the recording
    sum_exec_runtime: int | None    # ns on a cpu; in a recording since its start
    forked: bool | None = None      # has not exec'ed since its birth
    cputime: int | None = None      # ns on a cpu as ps counts them: of a leader its whole process, dead threads too
    args: str | None = None         # the command line, NUL bytes as blanks; "" if it has none
    flags: int | None = None        # PF_*
    exit_state: int | None = None   # EXIT_*
    exit_code: int | None = None    # a wait status, as in task_struct
    real_parent: int | None = None  # pid of the task that created it, or adopted it
    parent: int | None = None       # pid of who gets SIGCHLD: the tracer of a traced task
    tracer: int | None = None
    group_leader: int | None = None
    children: tuple[int, ...] | None = None  # pids, in the order of the kernel's list
    threads: int | None = None      # of its process
    utime: int | None = None        # ns, of this task alone, as the kernel accounts them
    stime: int | None = None
    last_arrival: int | None = None  # sched_info, ns of the clock of sched_clock()
    run_delay: int | None = None
    pcount: int | None = None
    on_cpu: bool | None = None
    on_rq: bool | None = None       # it runs, or waits for a cpu
    static_prio: int | None = None
    rt_priority: int | None = None
    policy: int | None = None       # SCHED_*
    address: int | None = None      # of the task_struct
    stack: int | None = None        # of the kernel stack; None if it has none any more
    thread_info: Mapping[str, Any] | None = None  # flags, preempt_count, cpu, cpu_context (register: value)
    kernel_stack: tuple[str, ...] | None = None   # functions, innermost first; where it was asked for
    thread_fn: str | None = None    # of a kernel thread: the function that it runs
    role: str | None = None         # of a kernel thread: what it is for, told by that: kworker, irq, ksoftirqd, …
    about: str | None = None        # of a kernel thread: what it works on: a work and its queue, an interrupt
    waits: str | None = None        # in state D: what for: mutex, I/O, vfork child, …
    waits_for: int | None = None    # pid of who holds or is that
    gid: int | None = None          # the effective one, as uid is
    ruid: int | None = None         # real
    rgid: int | None = None
    suid: int | None = None         # saved
    sgid: int | None = None
    fsuid: int | None = None
    fsgid: int | None = None
    min_flt: int | None = None      # page faults; of a leader those of its process
    maj_flt: int | None = None
    locked_kib: int | None = None   # memory locked into RAM
    pending: int | None = None      # signals sent to the thread, bit n - 1 for signal n
    shared_pending: int | None = None  # and to its process
    blocked: int | None = None
    ignored: int | None = None
    caught: int | None = None
    nvcsw: int | None = None        # voluntary context switches
    nivcsw: int | None = None
    cgroup: str | None = None       # hierarchy:controllers:path, comma, …, where it is not at the root; "" if nowhere
    namespaces: Mapping[str, int] | None = None  # cgroup, ipc, mnt, net, pid, time, user, uts: inode numbers
    unavailable: Mapping[str, str] = field(default_factory=dict)  # field -> why it is None here and not elsewhere


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All tasks that exist at ``at`` (ns of the source's clock), by pid."""

    tasks: tuple[TaskRow, ...]
    at: int | None
    source: str                     # for people: "d05-zombie.dat at 163.1"
    unavailable: Mapping[str, str]  # field -> why this source cannot give it
    wounds: tuple[str, ...] = ()    # damage that was met on the way, a line each; what could be reached is in `tasks`
    arch: str | None = None         # as uname -m says it, for the meaning of numbers
    boot: int | None = None         # s since the epoch when the source's clock was 0
    pid_max: int | None = None      # /proc/sys/kernel/pid_max
    memory_kib: int | None = None   # of the whole machine
    users: Mapping[int, str] = field(default_factory=dict)   # names of uids, where the source has them
    groups: Mapping[int, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return a table for notebooks: what ps -l shows, names escaped."""
        from html import escape

        heads = ("S", "PID", "PPID", "PRIO", "NI", "CPU", "WCHAN", "TTY", "COMM")
        rows = "".join(
            "<tr>" + "".join(f"<td>{'–' if cell is None else escape(plain(str(cell)))}</td>" for cell in (
                t.state, t.pid, t.ppid, t.prio, t.nice, t.cpu, t.wchan, t.tty, t.comm)) + "</tr>"
            for t in self.tasks)
        head = "".join(f"<th>{name}</th>" for name in heads)
        return f"<table><caption>{escape(plain(self.source))}</caption><tr>{head}</tr>{rows}</table>"


#: fields of `TaskRow` of which None says that there is none: no terminal, no tracer
_NONE: Final = frozenset({"tty", "tracer", "thread_fn", "role", "about", "waits", "waits_for", "unavailable"})
_MAYBE: Final = tuple(one.name for one in fields(TaskRow) if one.name not in _NONE)


def why_missing(rows: Sequence[TaskRow], known: Mapping[str, str], otherwise: str) -> dict[str, str]:
    """Return why each field is missing that no row has.

    :param known: reasons, by field; also of fields that only some rows have
    :param otherwise: the reason of all others
    """
    missing = (name for name in _MAYBE if name not in known and all(getattr(row, name) is None for row in rows))
    return {**dict.fromkeys(missing, otherwise), **known}


def plain(text: str) -> str:
    """Show what is not printable by its code: names are chosen by whoever was looked at."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in text)
