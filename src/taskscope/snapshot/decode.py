"""From a task descriptor to what people see: one decoder for every kind of memory.

What can be read of task_struct is asked of a `Memory`: the executable kernel's objects, or the memory of a real kernel.
Both know the fields by the kernel's names, so that this file is written once.  Fields that changed their name or place
between kernels are looked for under each of them; a field that a kernel has not is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from taskscope.abi.era import Version
from taskscope.abi.kthreads import kind_of_kthread
from taskscope.abi.sched import prio_to_nice
from taskscope.abi.state import state_letter
from taskscope.snapshot.snapshot import Snapshot, TaskRow, why_missing
from taskscope.snapshot.waits import Kthread, kind_of_wait

PF_IDLE: Final = 0x2
PF_WQ_WORKER: Final = 0x20
PF_FORKNOEXEC: Final = 0x40
PF_KTHREAD: Final = 0x20_0000
PIDTYPES: Final = ("PID", "TGID", "PGID", "SID")


class StackUse(NamedTuple):
    """A kernel stack.

    :param low: its lowest address
    :param size: bytes
    :param used: bytes from its top to the deepest that was ever written
    :param whole: whether STACK_END_MAGIC still stands at its end
    """

    low: int
    size: int
    used: int
    whole: bool


class Memory(Protocol):
    """How a source lets task descriptors be read.

    Paths are member names joined by dots, as in C with ``->`` and ``.`` alike.
    """

    version: Version
    source: str  # for people

    @property
    def now(self) -> int | None:
        """The ns of the kernel's monotonic clock; None if it is not known."""

    def init_task(self) -> Any:
        """Return init_task."""

    def processes(self) -> Iterator[Any]:
        """Walk init_task.tasks: every thread group leader but init_task itself."""

    def threads(self, leader: Any) -> Iterator[Any]:
        """Walk the thread group of a leader, itself first."""

    def idle_tasks(self) -> Iterator[Any]:
        """Return the idle task of every CPU."""

    def children(self, task: Any) -> Iterator[Any]:
        """Walk task.children."""

    def number(self, obj: Any, path: str) -> int | None:
        """Read a number or an address; None if there is no such member or a pointer on the way is NULL."""

    def text(self, obj: Any, path: str) -> str | None:
        """Read a string."""

    def follow(self, obj: Any, path: str) -> Any:
        """Follow pointers; None for NULL."""

    def address(self, obj: Any) -> int:
        """Return where an object is in memory."""

    def id_of(self, task: Any, kind: str) -> int | None:
        """Return the number of a task's struct pid of one of the `PIDTYPES`; None if it has none any more."""

    def stack(self, task: Any) -> list[str]:
        """Return a sleeping task's call stack, innermost first, as name+offset/size; [] for one that runs."""

    def kthread(self, task: Any) -> Kthread | None:
        """Return what a kernel thread runs; None for others, or if it is not known."""

    def holder(self, task: Any, kind: str) -> int | None:
        """Return the pid of who holds or is what a task waits for; None if it is not known.

        :param kind: as `kind_of_wait` names it
        """

    def preempt_count(self, cpu: int) -> int | None:
        """Return preempt_count of a CPU, where it is kept per CPU; None elsewhere, or if it is not found."""

    def child_reaper(self, task: Any) -> Any:
        """Return the init of a task's PID namespace; None if it is not found."""

    def cgroup(self, task: Any) -> str | None:
        """Return the path in the unified hierarchy; None if it is not found."""

    def stack_use(self, task: Any) -> StackUse | None:
        """Return how much of its stack a task has used so far; None if it has none, or it is not known."""

    def every(self, task: Any) -> dict[str, int | str]:
        """Return all members of a task's struct that are numbers, pointers or texts, embedded structs' too."""

    def waits_in(self, task: Any) -> str | None:
        """Return the function that a sleeping task waits in; None if it does not sleep."""


_IDS: Final = (("ruid", "uid"), ("suid", "suid"), ("fsuid", "fsuid"), ("gid", "egid"), ("rgid", "gid"),
               ("sgid", "sgid"), ("fsgid", "fsgid"))
#: a field of `TaskRow`, and under which names the kernel's credentials may have it
_CREDENTIALS: Final = tuple((field, (f"cred.{name}", f"cred.{name}.val")) for field, name in _IDS)
#: of what a thread counts and its process adds up: the member, and that for threads that have ended
_FAULTS: Final = (("min_flt", "signal.min_flt"), ("maj_flt", "signal.maj_flt"))
_CPUTIME: Final = (("se.sum_exec_runtime", "signal.sum_sched_runtime"),)
#: what a table of tasks leaves in the kernel's memory, and why
UNREAD: Final = {
    "generation": "a pid is counted only in recordings",
    "args": "they stand in the task's own memory, which is not read",
    "ignored": "the table of its handlers is not read", "caught": "the table of its handlers is not read",
    "cgroup": "read of one task, by 'taskscope task'", "namespaces": "read of one task, by 'taskscope task'",
}
CPU_CONTEXT: Final = ("r4", "r5", "r6", "r7", "r8", "r9", "sl", "fp", "sp", "pc")


def one_of(memory: Memory, task: Any, names: tuple[str, ...]) -> tuple[str, int | None]:
    """Read a number that has several names; return it with that which this kernel has, or with the first."""
    for name in names:
        value = memory.number(task, name)
        if value is not None:
            return name, value
    return names[0], None


def snapshot(
    memory: Memory, *, full: bool = False, stacks: bool = False, wchan: bool = True,
    tasks: Iterable[Any] | None = None,
) -> Snapshot:
    """Return the rows of tasks.

    :param tasks: by default all `listed` ones
    :param full: with all that `TaskRow` has a place for, not only what ps shows
    :param stacks: with `TaskRow.kernel_stack`
    :param wchan: with `TaskRow.wchan`, which takes a part of the stack's unwinding
    """

    def row(task: Any) -> TaskRow:
        if full or stacks:
            return full_row(memory, task, stacks=stacks)
        return TaskRow(**fields_of(memory, task, wchan=wchan))

    rows = [row(task) for task in (listed(memory) if tasks is None else tasks)]
    rows.sort(key=lambda row: (row.pid, row.cpu or 0))
    why = why_missing(rows, UNREAD, "this kernel does not keep it" if full or stacks else "not asked for")
    return Snapshot(tuple(rows), memory.now, memory.source, why)


def listed(memory: Memory) -> Iterator[Any]:
    """Yield every task as ps finds them: the idle ones, those along init_task.tasks, and each group's threads."""
    yield from memory.idle_tasks()
    for leader in memory.processes():
        yield from memory.threads(leader)


def full_row(memory: Memory, task: Any, *, stacks: bool = False) -> TaskRow:
    """Return the row of a task with all that it has a place for.

    :param stacks: with `TaskRow.kernel_stack`
    """
    found = fields_of(memory, task)
    return TaskRow(**found, **more_of(memory, task, found, stacks=stacks))


def more_of(memory: Memory, task: Any, row: dict[str, Any], *, stacks: bool = False) -> dict[str, Any]:
    """Return the fields of a `TaskRow` that `fields_of` leaves out; why some are None stands in ``unavailable``."""
    number = memory.number
    state, on = row["state"], row["cpu"]
    found: dict[str, Any] = {
        name: number(task, path)
        for name, path in (
            ("flags", "flags"), ("exit_state", "exit_state"), ("exit_code", "exit_code"), ("utime", "utime"),
            ("stime", "stime"), ("last_arrival", "sched_info.last_arrival"), ("run_delay", "sched_info.run_delay"),
            ("pcount", "sched_info.pcount"), ("static_prio", "static_prio"), ("rt_priority", "rt_priority"),
            ("policy", "policy"), ("real_parent", "real_parent.pid"), ("parent", "parent.pid"),
            ("group_leader", "group_leader.pid"), ("threads", "signal.nr_threads"), ("nvcsw", "nvcsw"),
            ("nivcsw", "nivcsw"), ("pending", "pending.signal"), ("shared_pending", "signal.shared_pending.signal"),
            ("blocked", "blocked"),
        )
    }
    found |= {name: one_of(memory, task, paths)[1] for name, paths in _CREDENTIALS}
    found["min_flt"], found["maj_flt"] = _of_process(memory, task, row["kind"] != "thread", _FAULTS)
    found["locked_kib"] = (number(task, "mm.locked_vm") or 0) * 4
    why: dict[str, str] = {}
    on_rq = number(task, "on_rq")
    found["on_rq"] = None if on_rq is None else bool(on_rq)
    kthread = memory.kthread(task)
    if kthread is not None:
        found |= {"thread_fn": kthread.inner or kthread.function, "about": kthread.about,
                  "role": kind_of_kthread(kthread.function, kthread.inner)}
    if state == "D":
        found["waits"] = kind_of_wait(memory.stack(task))
        found["waits_for"] = memory.holder(task, found["waits"]) if found["waits"] else None
    on_cpu = number(task, "on_cpu")
    found["on_cpu"] = None if on_cpu is None else bool(on_cpu)
    if on_cpu is None:
        why["on_cpu"] = "kernels without SMP do not keep it"
    found["address"] = memory.address(task)
    found["stack"] = number(task, "stack") or None
    if found["stack"] is None:
        why["stack"] = "it has been given back already: the task is dead"
    # A tracer is the parent for as long as it traces.
    found["tracer"] = found["parent"] if number(task, "ptrace") else None
    # Children hang on the thread that made them.
    found["children"] = tuple(number(child, "pid") or 0 for child in memory.children(task))
    info = memory.follow(task, "thread_info")
    if info is None:
        why["thread_info"] = "it stood on the stack, which has been given back already"
    else:
        context = {name: value for name in CPU_CONTEXT if (value := number(info, f"cpu_context.{name}")) is not None}
        cpu = number(info, "cpu")
        found["thread_info"] = {
            "flags": number(info, "flags"), "preempt_count": number(info, "preempt_count"),
            "cpu": on if cpu is None else cpu, "cpu_context": context or None,
        }
        if found["thread_info"]["preempt_count"] is None:
            if on_cpu and on is not None:
                found["thread_info"]["preempt_count"] = memory.preempt_count(on)
            if found["thread_info"]["preempt_count"] is None:
                why["preempt_count"] = "kept per cpu on x86-64"
    if stacks:
        found["kernel_stack"] = tuple(memory.stack(task)) or None
        if found["kernel_stack"] is None:
            why["kernel_stack"] = ("it runs: its registers are in use" if on_cpu else
                                   "it has no stack any more" if found["stack"] is None else "it could not be unwound")
    if row["wchan"] is None:
        why["wchan"] = "it does not sleep" if state == "R" else "it is dead" if state in "ZX" else "not found"
    found["unavailable"] = why
    return found


def kind_of(flags: int, pid: int, tgid: int) -> str:
    """Return process, thread, kthread or idle."""
    if flags & PF_IDLE:
        return "idle"
    if flags & PF_KTHREAD:
        return "kthread"
    return "process" if pid == tgid else "thread"


def letter_of(memory: Memory, task: Any) -> str:
    """Return the state's letter as ps shows it."""
    state = one_of(memory, task, ("state", "__state"))[1]
    return state_letter(state or 0, memory.number(task, "exit_state") or 0, memory.version)


def _of_process(memory: Memory, task: Any, leads: bool, counts: Sequence[tuple[str, str]]) -> list[int | None]:
    """Return what a task has counted; of one that leads a process, with its threads, those that have ended too.

    As thread_group_cputime() and do_task_stat() add it up.

    :param counts: the member in which each thread counts, and where its process keeps what ended threads had counted
    """
    number = memory.number
    threads = [task]
    if leads and number(task, "signal.nr_threads") != 1:
        threads = list(memory.threads(task))
    found = []
    for own, dead in counts:
        ended = number(task, dead) if leads else None
        if ended is None:
            found.append(number(task, own))
        else:
            found.append(None if number(task, own) is None else ended + sum(number(one, own) or 0 for one in threads))
    return found


def fields_of(memory: Memory, task: Any, *, wchan: bool = True) -> dict[str, Any]:
    """Return the fields of a `TaskRow` that ps(1) shows.

    :param wchan: the function that it waits in, too, for which its stack is unwound
    """
    number = memory.number
    pid, tgid, flags = number(task, "pid") or 0, number(task, "tgid") or 0, number(task, "flags") or 0
    static_prio = number(task, "static_prio")
    has_mm = memory.follow(task, "mm") is not None
    tty = memory.text(task, "signal.tty.name")
    foreground = memory.follow(task, "signal.tty.pgrp")
    return {
        "pid": pid,
        "generation": None,
        "tgid": tgid,
        "ppid": number(task, "real_parent.tgid"),
        "kind": kind_of(flags, pid, tgid),
        "comm": memory.text(task, "comm") or "",
        "state": letter_of(memory, task),
        "cpu": one_of(memory, task, ("thread_info.cpu", "cpu"))[1],
        "prio": number(task, "prio"),
        "nice": None if static_prio is None else prio_to_nice(static_prio),
        "pgid": memory.id_of(task, "PGID"),
        "sid": memory.id_of(task, "SID"),
        "tty": tty,
        "tpgid": -1 if tty is None else number(foreground, "nr") if foreground is not None else 0,
        "uid": one_of(memory, task, ("cred.euid", "cred.euid.val"))[1],
        "rss_kib": (number(task, "mm.rss") or 0) * 4 if has_mm else 0,
        "size_kib": (number(task, "mm.total_vm") or 0) * 4 if has_mm else 0,
        "wchan": memory.waits_in(task) if wchan else None,
        "start_time": number(task, "start_time"),
        "sum_exec_runtime": number(task, "se.sum_exec_runtime"),
        "cputime": _of_process(memory, task, pid == tgid, _CPUTIME)[0],
        "forked": bool(flags & PF_FORKNOEXEC),
    }
