"""What others do to the recorded tasks: signals to them, their release, the waits that reap them.

``set_event_pid`` lets an event through by who was current, not by whom it is about: a kill from another terminal, and
most releases (they come in whatever task an RCU callback interrupts), would be missing.  So these few events are
recorded in a second instance, without that filter, and what is not about a recorded task is discarded afterwards.
Which tasks those are is known from the births in the recording itself.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.format import parse_format
from taskscope.ftrace.pages import PageWalker, Walked

#: in an interrupt, a softirq (common_flags: TRACE_FLAG_HARDIRQ, TRACE_FLAG_SOFTIRQ)
IRQ = 0x08 | 0x10
_BIRTHS = {"sched_process_fork": "child_pid", "task_newtask": "pid"}
_SUBJECTS = ("signal_generate", "sched_process_free", "mark_victim", "sched_process_wait")
_FREE = "sched_process_free"
_STACK = "kernel_stack"

_Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Kinds:
    """The events that matter here, as this kernel numbers and lays them out."""

    births: dict[int, int] = field(default_factory=dict)       # id -> offset of the new task's pid
    subjects: dict[int, int] = field(default_factory=dict)     # id -> offset of the pid that it is about
    free: int = -1
    stack: int = -1

    @classmethod
    def of(cls, formats: Iterable[tuple[str, bytes]]) -> Kinds:
        """Read them from format files; what cannot be understood is left out."""
        kinds = cls()
        for system, text in formats:
            try:
                event = parse_format(text, system)
            except ValueError:
                continue
            if event.name == _STACK and system == "ftrace":
                kinds.stack = event.id
            for names, table in ((_BIRTHS, kinds.births), (dict.fromkeys(_SUBJECTS, "pid"), kinds.subjects)):
                if event.name in names and (f := event.field(names[event.name])) is not None and f.size == 4:
                    table[event.id] = f.offset
            if event.name == _FREE:
                kinds.free = event.id
        return kinds


class Ours:
    """Which pids are recorded tasks, and when: a pid is used again.

    :param tasks: those that were chosen at the beginning
    """

    def __init__(self, tasks: Iterable[int]) -> None:
        self._births: dict[int, list[int]] = {pid: [-1 << 62] for pid in tasks}
        self._ends: dict[int, list[int]] = {}

    def born(self, ts: int, pid: int) -> None:
        """Take note of a birth; each may be told twice, by two events of it."""
        insort(self._births.setdefault(pid, []), ts)

    def freed(self, ts: int, pid: int) -> None:
        """Take note of a release."""
        insort(self._ends.setdefault(pid, []), ts)

    def has(self, ts: int, pid: int) -> bool:
        """Tell whether a pid is that of a recorded task at a time."""
        births = self._births.get(pid)
        if not births or births[0] > ts:
            return False
        born = births[bisect_right(births, ts) - 1]
        ends = self._ends.get(pid, [])
        at = bisect_right(ends, born)
        return at == len(ends) or ts <= ends[at]


@dataclass(slots=True)
class Rows:
    """Records of the second instance, in the order of their cpus."""

    ts: _Ints
    id: _Ints
    head: _Ints
    pid: _Ints
    subject: _Ints             # -1 where the event is about nobody
    irq: npt.NDArray[np.bool_]


def births(walker: PageWalker, w: Walked, kinds: Kinds) -> list[tuple[int, int]]:
    """Return (time, pid) of the births among walked records."""
    found: list[tuple[int, int]] = []
    for number, offset in kinds.births.items():
        rows = np.flatnonzero(w.id == number)
        if len(rows):
            at = walker.data_words(w.head[rows]) + offset // 4
            found += zip(w.ts[rows].tolist(), walker.words.take(at).astype(np.int64).tolist(), strict=True)
    return found


def rows_of(walker: PageWalker, w: Walked, kinds: Kinds) -> Rows:
    """Return what matters of walked records."""
    data = walker.data_words(w.head)
    first = walker.words.take(data)
    flags = ((first >> 8) if walker.big_endian else (first >> 16)) & 0xFF
    subject = np.full(len(w.ts), -1, np.int64)
    for number, offset in kinds.subjects.items():
        rows = np.flatnonzero(w.id == number)
        subject[rows] = walker.words.take(data[rows] + offset // 4)
    pid = walker.words.take(data + 1).astype(np.int64)
    return Rows(w.ts, w.id.astype(np.int64), w.head.astype(np.int64), pid, subject, (flags & IRQ) != 0)


def ours_of(cpus: Sequence[Rows], ours: Ours, kinds: Kinds) -> list[npt.NDArray[np.bool_]]:
    """Tell which records are about recorded tasks, or were made by one; a stack goes with the record before it.

    :param cpus: the rows of each cpu; the answers are in the same order
    """
    if not cpus:
        return []
    rows = Rows(*(np.concatenate([getattr(p, name) for p in cpus]) for name in Rows.__slots__))
    ends = np.cumsum([len(p.ts) for p in cpus])
    keep = np.zeros(len(rows.ts), bool)
    ts, ids, pids = rows.ts.tolist(), rows.id.tolist(), rows.pid.tolist()
    subjects, irq = rows.subject.tolist(), rows.irq.tolist()
    for k in np.argsort(rows.ts, kind="stable").tolist():
        if ids[k] == kinds.stack:
            continue
        keep[k] = ours.has(ts[k], subjects[k]) or (ids[k] != kinds.free and not irq[k] and ours.has(ts[k], pids[k]))
        if ids[k] == kinds.free:
            ours.freed(ts[k], subjects[k])
    stacks = np.flatnonzero(rows.id == kinds.stack)
    before = np.maximum(stacks - 1, 0)
    keep[stacks] = ~np.isin(stacks, [0, *ends]) & keep[before] & (rows.pid[before] == rows.pid[stacks])
    return np.split(keep, ends[:-1])
