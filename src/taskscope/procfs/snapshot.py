"""The tasks of a machine out of /proc, as a `Snapshot`: `snapshot`.

Which files are read depends on what is asked for: one a task for most of what ps shows.  What only kernel memory tells
is None, with the reason; so is what this user may not see.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from os import PathLike
from typing import Any, Final

from taskscope.abi.kthreads import kind_of_kthread
from taskscope.procfs.files import GoneError, Proc
from taskscope.procfs.parse import Stat, Status, parse_stat
from taskscope.procfs.split import split
from taskscope.procfs.tty import Terminals
from taskscope.snapshot.snapshot import TICK, Snapshot, TaskRow

_PF_FORKNOEXEC: Final = 0x40
_PF_KTHREAD: Final = 0x20_0000
_MEMORY: Final = "only kernel memory tells (--live)"
_EXIT_ZOMBIE, _EXIT_DEAD = 0x20, 0x10
#: processes that are so many that a second reader pays
_MANY: Final = 300
#: the values of a row, in the order of its fields
_plain: Final = attrgetter(*(field.name for field in dataclasses.fields(TaskRow)))

#: of each file that is read where a field of it is asked for, the fields
_FILES: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset({
        "rss_kib", "size_kib", "locked_kib", "ruid", "suid", "fsuid", "gid", "rgid", "sgid", "fsgid", "pending",
        "shared_pending", "blocked", "ignored", "caught", "nvcsw", "nivcsw", "tracer", "parent"}),
    "cmdline": frozenset({"args"}),
    "wchan": frozenset({"wchan"}),
    "schedstat": frozenset({"sum_exec_runtime", "run_delay", "pcount"}),
    "children": frozenset({"children"}),
    "cgroup": frozenset({"cgroup"}),
    "ns": frozenset({"namespaces"}),
    "stack": frozenset({"kernel_stack", "thread_fn", "role", "waits"}),
    "own": frozenset({"utime", "stime"}),
}
#: what is read where nothing is said
EVERYTHING: Final = frozenset().union(*_FILES.values()) - _FILES["stack"] - _FILES["ns"]
_UNAVAILABLE: Final = dict.fromkeys((
    "last_arrival", "on_cpu", "on_rq", "address", "stack", "thread_info", "waits_for", "about",
    "thread_fn"), _MEMORY) | {
    "generation": "a pid is counted only in recordings",
    "kernel_stack": "not asked for",
    "namespaces": "read of one task, by 'taskscope task'",
}


def snapshot(
    root: str | PathLike[str] = "/proc",
    *,
    fields: Collection[str] = EVERYTHING,
    threads: bool = True,
    pids: Iterable[int] = (),
    names: bool = False,
    cpus: int = 1,
) -> Snapshot:
    """Read the tasks of a machine.

    A task that ends meanwhile is left out, as if it had been looked for a moment later.

    :param root: a proc file system, or a copy of its files
    :param fields: those of `TaskRow` that are wanted besides what stat holds; `EVERYTHING` leaves out kernel_stack and
        namespaces
    :param threads: the threads that lead no group too
    :param pids: these processes only, those of which the tids are among them too
    :param names: the names of users and groups
    :param cpus: how many may be used; with more than one a second process reads half of many tasks
    :raises TraceError: there is no proc file system
    """
    return _Reader(Proc(root), frozenset(fields), names).snapshot(threads, frozenset(pids), cpus)


class _Reader:
    def __init__(self, proc: Proc, fields: frozenset[str], names: bool) -> None:
        self._proc = proc
        self._fields = fields
        self._terminals = Terminals(proc)
        self._status = Status(fields | ({"tracer"} if "parent" in fields else frozenset()))
        self._wants = [name for name, held in _FILES.items() if held & fields]
        self._names = names

    def snapshot(self, threads: bool, pids: frozenset[int], cpus: int) -> Snapshot:
        proc = self._proc
        uptime = (proc.read("uptime") or b"").split()
        at = int(float(uptime[0]) * 100) * TICK if uptime else None

        there = proc.pids()
        if cpus > 1 and len(there) > _MANY:
            def plain(some: Sequence[int]) -> list[tuple[Any, ...]]:
                return [_plain(row) for row in self._rows(some, threads, pids)]

            rows = [TaskRow(*values) for values in split(plain, there)]
        else:
            rows = list(self._rows(there, threads, pids))
        rows.sort(key=lambda row: row.pid)
        release = (proc.read("sys/kernel/osrelease") or b"").decode("ascii", "replace").strip()
        why = {name: text for name, text in _UNAVAILABLE.items() if name not in self._fields}
        live = proc.root == "/proc"
        return Snapshot(
            tuple(rows), at, f"{proc.root} of Linux {release}" if release else proc.root, why,
            arch=os.uname().machine if live else None,
            boot=self._word("stat", b"btime"), pid_max=self._int("sys/kernel/pid_max"),
            memory_kib=self._word("meminfo", b"MemTotal:"),
            users=_named(rows, _USERS, _user) if self._names else {},
            groups=_named(rows, _GROUPS, _group) if self._names else {})

    def _int(self, name: str) -> int | None:
        text = (self._proc.read(name) or b"").strip()
        return int(text) if text.isdigit() else None

    def _word(self, name: str, key: bytes) -> int | None:
        for line in (self._proc.read(name) or b"").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == key and words[1].isdigit():
                return int(words[1])
        return None

    def _rows(self, there: Iterable[int], threads: bool, pids: frozenset[int]) -> Iterator[TaskRow]:
        for pid in there:
            tids = self._proc.tids(pid) if threads or (pids and pid not in pids) else [pid]
            if pids and not pids.intersection((pid, *tids)):
                continue
            for tid in tids if threads else [pid]:
                row = self._row(pid, tid)
                if row is not None:
                    yield row

    def _row(self, pid: int, tid: int) -> TaskRow | None:
        folder = str(pid) if pid == tid else f"{pid}/task/{tid}"
        try:
            line = self._proc.read(f"{folder}/stat")
            stat = parse_stat(line) if line else None
            if stat is None:
                return None
            more: dict[str, Any] = {"uid": None}
            why: dict[str, str] = {}
            for name in self._wants:
                getattr(self, f"_read_{name}")(folder, stat, more, why)
        except GoneError:
            return None
        if more["uid"] is None:
            more["uid"] = self._proc.owner(folder)
        return self._made(pid, tid, stat, more, why)

    def _made(self, pid: int, tid: int, stat: Stat, more: dict[str, Any], why: dict[str, str]) -> TaskRow:
        flags, state = stat.flags, stat.state
        kind = "kthread" if flags & _PF_KTHREAD else "process" if pid == tid else "thread"
        more["exit_state"] = {"Z": _EXIT_ZOMBIE, "X": _EXIT_DEAD}.get(state, 0)
        if more.get("wchan") is None and "wchan" in self._wants and "wchan" not in why:
            why["wchan"] = "it does not sleep" if state == "R" else "it is dead" if state in "ZX" else "not told"
        more.setdefault("wchan", None)
        more["exit_code"] = stat.exit_code if self._tells_exit_codes(stat, folder_of(pid, tid)) else None
        if more["exit_code"] is None:
            why["exit_code"] = "shown to who may trace the task (root)"
        tracer = more.pop("tracer", None)
        if tracer is not None:
            more["tracer"] = tracer or None
            more["parent"] = tracer or stat.ppid
        if kind == "kthread" and (stack := more.get("kernel_stack")):
            more |= _of_kthread(stack)
        if state == "D" and more.get("kernel_stack"):
            from taskscope.snapshot.waits import kind_of_wait

            more["waits"] = kind_of_wait(more["kernel_stack"])
        for name in ("rss_kib", "size_kib", "sum_exec_runtime"):
            more.setdefault(name, None)
        return TaskRow(
            pid=tid, generation=None, tgid=pid, ppid=stat.ppid, kind=kind,
            comm=stat.comm.decode("utf-8", "surrogateescape"), state=state, cpu=stat.cpu, prio=stat.prio + 100,
            nice=stat.nice, pgid=stat.pgid, sid=stat.sid, tty=self._terminals.name(stat.tty, pid), tpgid=stat.tpgid,
            start_time=stat.start * TICK, forked=bool(flags & _PF_FORKNOEXEC), cputime=(stat.utime + stat.stime) * TICK,
            flags=flags, real_parent=stat.ppid, group_leader=pid, threads=stat.threads, rt_priority=stat.rt_priority,
            policy=stat.policy, static_prio=stat.nice + 120, min_flt=stat.min_flt, maj_flt=stat.maj_flt,
            unavailable=why, **more)

    def _tells_exit_codes(self, stat: Stat, folder: str) -> bool:
        if not stat.exit_code_shown:
            return False
        # 0 is what others are shown, too.
        return bool(stat.exit_code) or os.geteuid() == 0 or self._proc.link(f"{folder}/exe") is not None

    # ---- a file each: what it holds goes into `more`, why something is not there into `why` -------------------

    def _read_status(self, folder: str, _stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        text = self._proc.read(f"{folder}/status")
        if text is None:
            why |= dict.fromkeys(_FILES["status"], "status cannot be read")
        else:
            more |= self._status.fields(text)

    def _read_cmdline(self, folder: str, stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        if stat.flags & _PF_KTHREAD or stat.state in "ZX":
            more["args"] = ""
            return
        text = self._proc.read(f"{folder}/cmdline")
        if text is None:
            why["args"] = "the command line cannot be read"
        else:
            more["args"] = text.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")

    def _read_wchan(self, folder: str, stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        text = self._proc.read(f"{folder}/wchan")
        if text is None:
            why["wchan"] = "this kernel does not tell"
        elif text in (b"", b"0"):
            more["wchan"] = None
            if stat.state not in "RZX" and os.geteuid() != 0:
                why["wchan"] = "shown to who may trace the task (root)"
        else:
            more["wchan"] = text.decode("ascii", "replace").lstrip(".")

    def _read_schedstat(self, folder: str, _stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        words = (self._proc.read(f"{folder}/schedstat") or b"").split()
        if len(words) == 3 and all(map(bytes.isdigit, words)):
            more["sum_exec_runtime"], more["run_delay"], more["pcount"] = map(int, words)
        else:
            why |= dict.fromkeys(_FILES["schedstat"], "this kernel has no schedstat (CONFIG_SCHED_INFO)")

    def _read_children(self, folder: str, _stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        path = folder if "/" in folder else f"{folder}/task/{folder}"
        text = self._proc.read(f"{path}/children")
        if text is None:
            why["children"] = "this kernel does not list them (CONFIG_PROC_CHILDREN)"
        else:
            more["children"] = tuple(int(word) for word in text.split() if word.isdigit())

    def _read_cgroup(self, folder: str, _stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        text = self._proc.read(f"{folder}/cgroup")
        if text is None:
            why["cgroup"] = "this kernel has no control groups"
        else:
            held = (line for line in text.decode("utf-8", "surrogateescape").splitlines() if not line.endswith("/"))
            more["cgroup"] = ",".join(held)

    def _read_ns(self, folder: str, _stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        found = {}
        for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
            link = self._proc.link(f"{folder}/ns/{name}") or ""
            number = link.partition("[")[2].rstrip("]")
            if number.isdigit():
                found[name] = int(number)
        if found:
            more["namespaces"] = found
        else:
            why["namespaces"] = "shown to who may trace the task (root)"

    def _read_stack(self, folder: str, stat: Stat, more: dict[str, Any], why: dict[str, str]) -> None:
        text = self._proc.read(f"{folder}/stack")
        entries = [line.split(b"] ", 1)[1] for line in (text or b"").splitlines() if b"] " in line]
        if entries:
            more["kernel_stack"] = tuple(entry.decode("ascii", "replace") for entry in entries)
        else:
            why["kernel_stack"] = ("it runs" if stat.state == "R" else "it is dead" if stat.state in "ZX" else
                                   "shown to root" if text is None else "it is empty")

    def _read_own(self, folder: str, stat: Stat, more: dict[str, Any], _why: dict[str, str]) -> None:
        """Read the times of the thread itself: a process's stat has those of all its threads."""
        if "/" not in folder:
            line = self._proc.read(f"{folder}/task/{folder}/stat")
            own = parse_stat(line) if line else None
            stat = own or stat
        more["utime"], more["stime"] = stat.utime * TICK, stat.stime * TICK


def folder_of(pid: int, tid: int) -> str:
    """Return the folder of a thread in /proc."""
    return str(pid) if pid == tid else f"{pid}/task/{tid}"


def _of_kthread(stack: tuple[str, ...]) -> dict[str, Any]:
    """Return what a kernel thread runs: what kthread() called, or kthreadd(), which nobody calls."""
    names = [entry.partition("+")[0] for entry in stack]
    outer = next((name for name in ("kthread", "ret_from_fork") if name in names), None)
    at = names.index(outer) if outer else 0
    if not at:
        return {}
    return {"thread_fn": names[at - 1], "role": kind_of_kthread(names[at - 1])}


_USERS: Final = ("uid", "ruid", "suid", "fsuid")
_GROUPS: Final = ("gid", "rgid", "sgid", "fsgid")


def _user(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def _named(rows: Iterable[TaskRow], fields: tuple[str, ...], find: Callable[[int], str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for number in {getattr(row, name) for row in rows for name in fields} - {None}:
        try:
            found[number] = find(number)
        except (KeyError, OverflowError):
            continue
    return found

