"""What stands in the cells of ``taskscope ps``: `Column`, and the values that need more than a member of `TaskRow`.

Contents are those of procps-ng 4.0.2 (src/ps/output.c); what a source does not know is ``-``, never a guess.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from taskscope.snapshot.snapshot import TICK, Snapshot, TaskRow
from taskscope.views.text import escape

S: Final = 1_000_000_000
_POLICIES: Final = ("TS", "FF", "RR", "B", "ISO", "IDL", "DLN")
_STYLES: Final = {"R": "running", "D": "blocked", "T": "stopped", "t": "traced", "Z": "zombie"}


@dataclass
class Context:
    """What the columns of one table have in common."""

    snapshot: Snapshot
    leads: Mapping[int, str] = field(default_factory=dict)  # pid -> what is drawn before its command
    full: bool = False                                      # with arguments where ps -f has them
    now: float = 0.0                                        # s since the epoch; 0 is the moment of the snapshot

    @cached_property
    def _now(self) -> float | None:
        boot, at = self.snapshot.boot, self.snapshot.at
        return self.now or (None if boot is None or at is None else boot + at / S)

    @cached_property
    def threads(self) -> Mapping[int | None, int]:
        """Threads of each process, as the snapshot's rows show them."""
        counted: dict[int | None, int] = {}
        for task in self.snapshot.tasks:
            counted[task.tgid] = counted.get(task.tgid, 0) + 1
        return counted

    def born(self, task: TaskRow) -> int | None:
        """Return when a task was born, in s since the epoch."""
        if task.start_time is None or self.snapshot.boot is None:
            return None
        return self.snapshot.boot + task.start_time // S

    def age(self, task: TaskRow) -> int | None:
        """Return a task's age in ticks."""
        if task.start_time is None or self.snapshot.at is None:
            return None
        return max(self.snapshot.at // TICK - task.start_time // TICK, 0)

    def share(self, task: TaskRow, scale: int) -> int | None:
        """Return the part of its life that a task spent on a cpu, in 1/scale."""
        age = self.age(task)
        if age is None or task.cputime is None:
            return None
        return task.cputime // TICK * scale // age if age else 0

    @cached_property
    def day(self) -> time.struct_time | None:
        """The day of the snapshot, local time."""
        return None if self._now is None else time.localtime(self._now)

    def ago(self, born: int) -> float:
        """Return how long before the snapshot a moment was, in s."""
        return (self._now or 0.0) - born


Value = Callable[[TaskRow, Context], Any]


class Column(NamedTuple):
    """A column.

    :param align: ``<`` left, ``>`` right, ``u`` takes what it needs, ``s`` a set of signals, ``w`` cut to its width
    :param pid: as wide as the highest pid that the machine can have
    :param value: what the table is sorted by; None if it is unknown
    :param text: how a value is shown
    :param fields: those of a `TaskRow` that it shows, and that not every task is asked for
    """

    header: str
    width: int
    align: str
    value: Value
    text: Callable[[Any], str] = str
    pid: bool = False
    fields: tuple[str, ...] = ()

    def show(self, task: TaskRow, context: Context) -> str:
        """Return the text of a task's cell."""
        value = self.value(task, context)
        return "-" if value is None else self.text(value)


def plain(header: str, width: int, align: str, name: str, text: Callable[[Any], str] = str) -> Column:
    """Return a column that shows a member of `TaskRow` as it is."""
    return Column(header, width, align, lambda task, _: getattr(task, name), text, fields=(name,))


def number(header: str, width: int, name: str, pid: bool = False) -> Column:
    """Return a column of numbers."""
    return plain(header, width, ">", name)._replace(pid=pid)


def process(header: str) -> Column:
    """Return a column of process ids."""
    return Column(header, 5, ">", lambda task, _: task.pid if task.tgid is None else task.tgid, pid=True)


# ---- who -----------------------------------------------------------------------------------------------------


def comm(task: TaskRow, context: Context) -> str:
    """Return the name."""
    if context.full:
        return command(task, context)
    return context.leads.get(task.pid, "") + escape(task.comm)


def command(task: TaskRow, context: Context) -> str:
    """Return the command line; of a task that has none its name in brackets."""
    lead = context.leads.get(task.pid, "")
    if task.args:
        # ps shows a line break as a blank.
        return lead + escape(task.args.replace("\n", " "))
    name = escape(task.comm)
    # Where command lines are not known, brackets are for those who cannot have one.
    shown = f"[{name}]" if task.args is not None or task.kind in ("kthread", "idle") else name
    return lead + shown + (" <defunct>" if task.state == "Z" else "")


def short_name(task: TaskRow, context: Context) -> str:
    """Return the first eight letters of the name."""
    return context.leads.get(task.pid, "") + escape(task.comm)[:8]


def nothing(task: TaskRow, context: Context) -> None:
    """Return nothing: what old systems showed there does not exist."""


def yes(value: bool) -> str:
    """Write a truth as 1 or 0."""
    return str(int(value))


def user(header: str, name: str) -> Column:
    """Return a column of users' names; of a uid without a name its number."""
    def value(task: TaskRow, context: Context) -> str | None:
        uid = getattr(task, name)
        return None if uid is None else context.snapshot.users.get(uid, str(uid))

    return Column(header, max(8, len(header)), "n", value, escape, fields=(name,))


def group(header: str, name: str) -> Column:
    """Return a column of groups' names."""
    def value(task: TaskRow, context: Context) -> str | None:
        gid = getattr(task, name)
        return None if gid is None else context.snapshot.groups.get(gid, str(gid))

    return Column(header, max(8, len(header)), "n", value, escape, fields=(name,))


def namespace(name: str) -> Column:
    """Return a column of namespaces, by inode number."""
    return Column(f"{name.upper()}NS", 10, ">", lambda task, _: (task.namespaces or {}).get(name),
                  fields=("namespaces",))


def tty(task: TaskRow, context: Context) -> str | None:
    """Return the terminal; ? for none."""
    if task.tty is None:
        # A source that tells terminals says so of those that have none.
        return "?" if task.tpgid is not None and "tty" not in context.snapshot.unavailable else None
    return task.tty


# ---- how -----------------------------------------------------------------------------------------------------


def state_style(task: TaskRow) -> str | None:
    """Return what a task's state is painted in."""
    return _STYLES.get(task.state)


def state(task: TaskRow, _: Context) -> str | None:
    """Return the letter of the state."""
    return None if task.state == "?" else task.state


def stat(task: TaskRow, context: Context) -> str | None:
    """Return the state with the letters of BSD: nice, locked, session leader, threads, foreground."""
    if task.state == "?":
        return None
    shown, nice = task.state, task.nice or 0
    if task.prio is None or task.prio >= 100 or task.policy is not None:
        shown += "<" if nice < 0 else "N" if nice > 0 else ""
    if task.locked_kib:
        shown += "L"
    if task.sid is not None and task.sid == task.tgid:
        shown += "s"
    if (task.threads or context.threads.get(task.tgid, 1)) > 1:
        shown += "l"
    if task.pgid is not None and task.pgid == task.tpgid:
        shown += "+"
    return shown


def nice(task: TaskRow, _: Context) -> int | None:
    """Return the nice value of who has one."""
    if task.policy is not None:
        # Only SCHED_NORMAL and SCHED_BATCH are nice.
        return task.nice if task.policy in (0, 3) else None
    return task.nice if task.prio is None or task.prio >= 100 else None


def real_time(task: TaskRow, _: Context) -> int | None:
    """Return the real-time priority of who has one."""
    return task.rt_priority if task.policy else None


def wchan(task: TaskRow, _: Context) -> str | None:
    """Return the function that a task waits in, without leading underscores."""
    return task.wchan and escape(task.wchan).lstrip("_")


def prio(offset: int, sign: int = 1) -> Value:
    """Give the kernel's priority counted from 100, as /proc has it, in one of the ways of ps."""
    return lambda task, _: None if task.prio is None else offset + sign * (task.prio - 100)


def policy(value: int) -> str:
    """Write a scheduling policy."""
    return _POLICIES[value] if 0 <= value < len(_POLICIES) else "?"


def flag(flags: int) -> str:
    """Write PF_FORKNOEXEC and its two neighbours as an octal digit."""
    return f"{flags >> 6 & 7:o}"


def mask(value: int) -> str:
    """Write a set of signals."""
    return f"{value:016x}"


def both_pending(task: TaskRow, _: Context) -> int | None:
    """Return the signals that are pending for a thread or its process."""
    if task.pending is None or task.shared_pending is None:
        return None
    return task.pending | task.shared_pending


# ---- when ----------------------------------------------------------------------------------------------------


def clock_time(seconds: int) -> str:
    """Write cpu time as ps does: ``[d-]hh:mm:ss``."""
    days, rest = divmod(seconds, 86_400)
    shown = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{shown}" if days else shown


def elapsed_time(seconds: int) -> str:
    """Write an age as ps does: ``[[d-]hh:]mm:ss``."""
    days, rest = divmod(seconds, 86_400)
    shown = f"{rest % 3600 // 60:02d}:{rest % 60:02d}"
    if days or rest >= 3600:
        shown = f"{rest // 3600:02d}:{shown}"
    return f"{days}-{shown}" if days else shown


def seconds(task: TaskRow, _: Context) -> int | None:
    """Return the cpu time in whole seconds."""
    return None if task.cputime is None else task.cputime // S


def bsd_time(seconds: int) -> str:
    """Write cpu time as minutes and seconds."""
    return f"{seconds // 60:3d}:{seconds % 60:02d}"


def elapsed(task: TaskRow, context: Context) -> int | None:
    """Return the age in seconds."""
    age = context.age(task)
    return None if age is None else age * TICK // S


def usage(task: TaskRow, context: Context) -> int | None:
    """Return the cpu time as a whole percentage of the age, at most 99."""
    share = context.share(task, 100)
    return None if share is None else min(share, 99)


def per_mille(task: TaskRow, context: Context) -> int | None:
    """Return the cpu time in 1/1000 of the age."""
    return context.share(task, 1000)


def most_per_mille(task: TaskRow, context: Context) -> int | None:
    """Return the cpu time in 1/1000 of the age, at most 999."""
    share = context.share(task, 1000)
    return None if share is None else min(share, 999)


def percent(mille: int) -> str:
    """Write 1/1000 as percent."""
    return str(mille // 10) if mille > 999 else f"{mille // 10}.{mille % 10}"


def memory(task: TaskRow, context: Context) -> int | None:
    """Return the resident memory in 1/1000 of the machine's."""
    if task.rss_kib is None or not context.snapshot.memory_kib:
        return None
    return min(task.rss_kib * 1000 // context.snapshot.memory_kib, 999)


def memory_text(mille: int) -> str:
    """Write 1/1000 of memory as percent."""
    return f"{mille // 10:2d}.{mille % 10}"


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _day(born: time.struct_time, blank: str = " ") -> str:
    return f"{_MONTHS[born.tm_mon - 1]}{blank}{born.tm_mday:2d}"


class _Start(NamedTuple):
    """When a task was born: sorts by time, shows as it should."""

    at: int
    text: str

    def __str__(self) -> str:
        return self.text


def started(write: Callable[[time.struct_time, time.struct_time, float], str]) -> Value:
    """Give the time of birth, which sorts as it should and is written as one likes."""
    def value(task: TaskRow, context: Context) -> _Start | None:
        born = context.born(task)
        if born is None or context.day is None:
            return None
        return _Start(task.start_time or 0, write(time.localtime(born), context.day, context.ago(born)))

    return value


def stime(born: time.struct_time, day: time.struct_time, _: float) -> str:
    """Write a time of today, a day of this year, a year."""
    if born.tm_year != day.tm_year:
        return str(born.tm_year)
    if born.tm_yday != day.tm_yday:
        return f"{_MONTHS[born.tm_mon - 1]}{born.tm_mday:02d}"
    return f"{born.tm_hour:02d}:{born.tm_min:02d}"


def start(born: time.struct_time, _: time.struct_time, ago: float) -> str:
    """Write the time if it is less than a day ago, else the day."""
    if int(ago) < 86_400:
        return f"{born.tm_hour:02d}:{born.tm_min:02d}:{born.tm_sec:02d}"
    return f"  {_MONTHS[born.tm_mon - 1]} {born.tm_mday:02d}"


def bsd_start(born: time.struct_time, _: time.struct_time, ago: float) -> str:
    """Write the time, or the day."""
    return _day(born) if int(ago) > 86_400 else f" {born.tm_hour:02d}:{born.tm_min:02d}"


def long_start(born: time.struct_time, *_: object) -> str:
    """Write day and time in full."""
    return time.asctime(born)
