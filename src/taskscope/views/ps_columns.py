"""The columns that ``taskscope ps -o`` and ``--sort`` know: `COLUMNS`.

Names, headers and widths are those of procps-ng 4.0.2 (ps(1), STANDARD FORMAT SPECIFIERS); some members of task_struct
that ps has not follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from taskscope.snapshot.snapshot import TaskRow
from taskscope.views import ps_cells as cell
from taskscope.views.ps_cells import Column, Context
from taskscope.views.text import escape

_PAGE_KIB: Final = 4


def _pages(kib: int) -> str:
    return str(kib // _PAGE_KIB)


def _threads(task: TaskRow, context: Context) -> int | None:
    return task.threads or context.threads.get(task.tgid)


def _tif(task: TaskRow, _: Context) -> int | None:
    return (task.thread_info or {}).get("flags")


def _cgroup(task: TaskRow, _: Context) -> str | None:
    return escape(task.cgroup) if task.cgroup else None


def _of(column: Column, names: str) -> Iterator[tuple[str, Column]]:
    """Give a column under several names; ``name=HEADER`` has a header of its own."""
    for word in names.split():
        name, _, header = word.partition("=")
        yield name, column._replace(header=header or column.header)


def _catalog() -> Iterator[tuple[str, Column]]:
    yield from _of(cell.process("PID"), "pid tgid=TGID")
    yield from _of(cell.number("LWP", 5, "pid", pid=True), "lwp tid=TID spid=SPID")
    yield from _of(cell.number("PPID", 5, "ppid", pid=True), "ppid")
    yield from _of(cell.number("PGID", 5, "pgid", pid=True), "pgid pgrp=PGRP")
    yield from _of(cell.number("SID", 5, "sid", pid=True), "sid sess=SESS session=SESS")
    yield from _of(cell.number("TPGID", 5, "tpgid", pid=True), "tpgid")
    yield from _of(Column("NLWP", 4, ">", _threads), "nlwp")
    yield from _of(Column("THCNT", 5, ">", _threads), "thcount")
    yield from _of(Column("COMMAND", 15, "u", cell.comm), "comm ucomm ucmd=CMD")
    yield from _of(Column("COMMAND", 8, "<", cell.short_name), "fname")
    yield from _of(Column("COMMAND", 27, "u", cell.command, fields=("args",)), "args command cmd=CMD")
    yield from _of(cell.number("UID", 5, "uid"), "uid euid=EUID")
    yield from _of(cell.number("RUID", 5, "ruid"), "ruid")
    yield from _of(cell.number("SUID", 5, "suid"), "suid svuid=SVUID")
    yield from _of(cell.number("FSUID", 5, "fsuid"), "fsuid fuid=FUID")
    yield from _of(cell.number("GID", 5, "gid"), "gid egid=EGID")
    yield from _of(cell.number("RGID", 5, "rgid"), "rgid")
    yield from _of(cell.number("SGID", 5, "sgid"), "sgid svgid=SVGID")
    yield from _of(cell.number("FSGID", 5, "fsgid"), "fsgid fgid=FGID")
    yield from _of(cell.user("USER", "uid"), "user uname euser=EUSER uid_hack=UID")
    yield from _of(cell.user("RUSER", "ruid"), "ruser")
    yield from _of(cell.user("SUSER", "suid"), "suser svuser=SVUSER")
    yield from _of(cell.user("FSUSER", "fsuid"), "fsuser fuser=FUSER")
    yield from _of(cell.group("GROUP", "gid"), "group egroup=EGROUP")
    yield from _of(cell.group("RGROUP", "rgid"), "rgroup")
    yield from _of(Column("S", 1, "<", cell.state), "s state")
    yield from _of(Column("STAT", 4, "<", cell.stat, fields=("locked_kib",)), "stat")
    yield from _of(cell.plain("F", 1, ">", "flags", cell.flag), "f flag flags")
    yield from _of(Column("C", 2, ">", cell.usage, "{:2d}".format), "c util")
    yield from _of(Column("CP", 3, ">", cell.most_per_mille, "{:3d}".format), "cp")
    yield from _of(Column("%CPU", 4, ">", cell.per_mille, cell.percent), "pcpu %cpu")
    yield from _of(Column("%MEM", 4, ">", cell.memory, cell.memory_text, fields=("rss_kib",)), "pmem %mem")
    yield from _of(Column("PRI", 3, ">", cell.prio(60)), "opri intpri")
    yield from _of(Column("PRI", 3, ">", cell.prio(39, -1)), "pri")
    yield from _of(Column("PRI", 3, ">", cell.prio(0)), "priority")
    yield from _of(Column("FOO", 3, ">", cell.prio(-20)), "pri_foo")
    yield from _of(Column("BAR", 3, ">", cell.prio(1)), "pri_bar")
    yield from _of(Column("BAZ", 3, ">", cell.prio(100)), "pri_baz")
    yield from _of(Column("API", 3, ">", cell.prio(-1, -1)), "pri_api")
    yield from _of(Column("NI", 3, ">", cell.nice), "ni nice")
    yield from _of(cell.plain("CLS", 3, "<", "policy", cell.policy), "class policy=POL")
    yield from _of(cell.plain("CLS", 3, ">", "policy", cell.policy), "cls")
    yield from _of(cell.number("SCH", 3, "policy"), "sched")
    yield from _of(Column("RTPRIO", 6, ">", cell.real_time), "rtprio")
    yield from _of(cell.number("PSR", 3, "cpu"), "psr lastcpu=C")
    yield from _of(cell.number("CPUID", 5, "cpu"), "cpuid")
    yield from _of(cell.number("RSS", 5, "rss_kib"), "rss rssize rsz=RSZ")
    yield from _of(cell.number("VSZ", 6, "size_kib"), "vsz vsize")
    yield from _of(cell.plain("SZ", 5, ">", "size_kib", _pages), "sz")
    yield from _of(cell.number("MINFLT", 6, "min_flt"), "minflt min_flt=MINFL")
    yield from _of(cell.number("MAJFLT", 6, "maj_flt"), "majflt maj_flt=MAJFL pagein=PAGEIN")
    yield from _of(Column("ADDR", 4, ">", cell.nothing), "addr")
    yield from _of(Column("ADDR", 1, "<", cell.nothing), "addr_1")
    yield from _of(Column("WCHAN", 6, "w", cell.wchan, fields=("wchan",)), "wchan wname")
    yield from _of(Column("TTY", 8, "<", cell.tty, escape), "tname tty8 longtname tty=TT tt=TT")
    yield from _of(Column("TIME", 8, ">", cell.seconds, cell.clock_time), "time cputime atime")
    yield from _of(Column("TIME", 8, ">", cell.seconds), "times cputimes")
    yield from _of(Column("TIME", 6, ">", cell.seconds, cell.bsd_time), "bsdtime")
    yield from _of(Column("ELAPSED", 11, ">", cell.elapsed, cell.elapsed_time), "etime")
    yield from _of(Column("ELAPSED", 7, ">", cell.elapsed), "etimes")
    yield from _of(Column("STIME", 5, ">", cell.started(cell.stime)), "stime start_time=START")
    yield from _of(Column("STARTED", 8, ">", cell.started(cell.start)), "start")
    yield from _of(Column("START", 6, ">", cell.started(cell.bsd_start)), "bsdstart")
    yield from _of(Column("STARTED", 24, ">", cell.started(cell.long_start)), "lstart")
    yield from _of(Column("PENDING", 9, "s", cell.both_pending, cell.mask, fields=("pending", "shared_pending")),
                   "pending sig")
    yield from _of(cell.plain("PENDING", 9, "s", "pending", cell.mask), "tsig")
    yield from _of(cell.plain("BLOCKED", 9, "s", "blocked", cell.mask), "blocked sigmask sig_block")
    yield from _of(cell.plain("IGNORED", 9, "s", "ignored", cell.mask), "ignored sigignore sig_ignore")
    yield from _of(cell.plain("CAUGHT", 9, "s", "caught", cell.mask), "caught sigcatch")
    yield from _of(Column("CGROUP", 27, "u", _cgroup, fields=("cgroup",)), "cgroup")
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        yield from _of(cell.namespace(name), f"{name}ns")
    # What ps has not.
    yield from _of(cell.plain("KIND", 7, "<", "kind"), "kind")
    yield from _of(cell.plain("ROLE", 14, "<", "role", escape), "role")
    yield from _of(cell.plain("THREADFN", 18, "<", "thread_fn", escape), "thread_fn")
    yield from _of(cell.plain("ABOUT", 24, "<", "about", escape), "about")
    yield from _of(cell.plain("WAITS", 12, "<", "waits"), "waits")
    yield from _of(cell.number("FOR", 5, "waits_for", pid=True), "waits_for")
    yield from _of(cell.plain("FLAGS", 8, ">", "flags", "{:x}".format), "pf")
    yield from _of(Column("TIF", 8, ">", _tif, "{:x}".format, fields=("thread_info",)), "tif")
    yield from _of(cell.number("RPPID", 5, "real_parent", pid=True), "real_parent")
    yield from _of(cell.number("PARENT", 5, "parent", pid=True), "parent")
    yield from _of(cell.number("TRACER", 5, "tracer", pid=True), "tracer")
    yield from _of(cell.number("EXIT", 4, "exit_state"), "exit_state")
    yield from _of(cell.number("CODE", 5, "exit_code"), "exit_code")
    yield from _of(cell.number("SPRIO", 5, "static_prio"), "static_prio")
    yield from _of(cell.number("RUNTIME", 14, "sum_exec_runtime"), "sum_exec_runtime")
    yield from _of(cell.number("UTIME", 12, "utime"), "utime")
    yield from _of(cell.number("DELAY", 12, "run_delay"), "run_delay")
    yield from _of(cell.number("PCOUNT", 8, "pcount"), "pcount")
    yield from _of(cell.number("ARRIVAL", 16, "last_arrival"), "last_arrival")
    yield from _of(cell.number("NVCSW", 7, "nvcsw"), "nvcsw")
    yield from _of(cell.number("NIVCSW", 6, "nivcsw"), "nivcsw")
    yield from _of(cell.plain("ONCPU", 5, ">", "on_cpu", cell.yes), "on_cpu")
    yield from _of(cell.plain("TASK_STRUCT", 18, ">", "address", "{:#x}".format), "address")
    yield from _of(cell.plain("STACK", 18, ">", "stack", "{:#x}".format), "stack")


COLUMNS: Final[Mapping[str, Column]] = dict(_catalog())
