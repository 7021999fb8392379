"""Which life a pid means at a time.

A life begins at its birth; a pid without a birth in the recording was alive when it began.  The k-th life of a pid
has generation k.  The idle tasks all have pid 0: theirs is the number of their cpu.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from taskscope.lives.life import TaskRef
from taskscope.lives.records import Rec, records
from taskscope.trace.trace import Trace

#: PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h); a greater number is damage
PID_LIMIT = 1 << 22

#: before any time stamp
_EVER = -(1 << 63)

Lives = npt.NDArray[np.int32]


@dataclass(slots=True)
class BirthRecords:
    """The records that together tell one creation; each may be missing."""

    pid: int
    newtask: Rec | None = None
    fork: Rec | None = None
    wakeup: Rec | None = None
    seen: Rec | None = None         # the task that had the pid was released before: a birth that was not recorded

    @property
    def first(self) -> Rec:
        """The earliest of them: the moment of birth, or of the first sight of an unrecorded one."""
        rec = self.newtask or self.fork or self.wakeup or self.seen
        assert rec is not None, "a birth has a record"
        return rec


def collect_births(trace: Trace) -> list[BirthRecords]:
    """Group task_newtask, sched_process_fork and sched_wakeup_new into creations, in order of time.

    copy_process() emits the first, kernel_clone() the second, wake_up_new_task() the third, each once per task:
    a record that does not come later in this order than the last one of its pid begins another life.
    """
    found: list[tuple[int, int, int, int, Rec]] = []
    for rank, (event, field_) in enumerate((("task_newtask", "pid"), ("sched_process_fork", "child_pid"),
                                            ("sched_wakeup_new", "pid"))):
        type_ = trace.type(event)
        if type_ is None or type_.field(field_) is None:
            continue
        fields = [f.name for f in type_.fields]
        for rec in records(trace, event, *fields):
            pid = rec.f[field_]
            if isinstance(pid, int) and 0 < pid <= PID_LIMIT:
                found.append((rec.ts, rec.row, rank, pid, rec))
    found.sort(key=lambda x: x[:2])
    births: list[BirthRecords] = []
    latest: dict[int, tuple[int, BirthRecords]] = {}
    for _, _, rank, pid, rec in found:
        before = latest.get(pid)
        if before is not None and before[0] < rank and before[1].first.pid == rec.pid:
            birth = before[1]
        else:
            birth = BirthRecords(pid)
            births.append(birth)
        if rank == 0:
            birth.newtask = rec
        elif rank == 1:
            birth.fork = rec
        else:
            birth.wakeup = rec
        latest[pid] = (rank, birth)
    return births


@dataclass
class Identities:
    """Numbers all lives and finds the life of (pid, time)."""

    births: list[BirthRecords]
    cpus: tuple[int, ...]
    refs: list[TaskRef] = field(default_factory=list)               # of each life
    birth_of: list[BirthRecords | None] = field(default_factory=list)
    _first: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _found: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _multi: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))

    @property
    def reused(self) -> bool:
        """Tell whether any pid has more than one life."""
        return bool(self._multi.any())

    def add_unrecorded(self, trace: Trace, shown: list[tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]]) -> None:
        """Find lives whose birth was not recorded: their pid is seen after the task that had it was freed.

        :param shown: (pids, their times) of records that show a task at work
        """
        frees = [r for r in records(trace, "sched_process_free", "pid") if 0 < r.f["pid"] <= PID_LIMIT]
        if not frees:
            return
        earliest = np.full(max(r.f["pid"] for r in frees) + 1, np.iinfo(np.int64).max, np.int64)
        for rec in reversed(frees):
            earliest[rec.f["pid"]] = rec.ts
        times: dict[int, list[int]] = {}
        for pids, ts in shown:
            if len(pids):
                inside = np.where((pids > 0) & (pids < len(earliest)), pids, 0)
                which = np.flatnonzero(ts > earliest.take(inside))
                for pid, t in zip(pids[which].tolist(), ts[which].tolist(), strict=True):
                    times.setdefault(pid, []).append(t)
        if not times:
            return
        exits = _by_pid((r.f["pid"], r.key) for r in records(trace, "sched_process_exit", "pid"))
        born = _by_pid((b.pid, b.first.key) for b in self.births)
        for rec in frees:
            pid = rec.f["pid"]
            seen, births, ends = sorted(times.get(pid, ())), born.get(pid, []), exits.get(pid, [])
            # What the free belongs to: the last death of the pid before it, unless somebody was born since.
            died = bisect_right(ends, rec.key) - 1
            next_birth = bisect_right(births, ends[died]) if died >= 0 else 0
            if died < 0 or (next_birth < len(births) and births[next_birth] <= rec.key):
                continue
            again = bisect_right(seen, rec.ts)
            if again < len(seen) and (next_birth == len(births) or seen[again] < births[next_birth][0]):
                self.births.append(BirthRecords(pid, seen=rec._replace(ts=seen[again], row=-1, pid=-1, cpu=-1)))
        self.births.sort(key=lambda b: b.first.ts)

    def build(self, seen: Iterable[npt.NDArray[np.integer]],
              early: Iterable[tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]]) -> None:
        """Number the lives.

        :param seen: pids that records show, in arrays
        :param early: (pids, their times), to see which pids were there before their first birth
        """
        pids: set[int] = {b.pid for b in self.births}
        for column in seen:
            real = column[(column > 0) & (column <= PID_LIMIT)]
            # Marking a table is faster than sorting millions of pids.
            marks = np.zeros(int(real.max(initial=0)) + 1, bool)
            marks[real] = True
            pids.update(np.flatnonzero(marks).tolist())
        size = max(pids, default=0) + 1
        first_birth = np.full(size, np.iinfo(np.int64).max, np.int64)
        for b in reversed(self.births):
            first_birth[b.pid] = b.first.ts
        before = np.zeros(size, bool)
        for column, ts in early:
            ok = (column > 0) & (column < size)
            if not ok.all():
                column, ts = column[ok], ts[ok]
            if self.births:
                before[column[ts < first_birth.take(column)]] = True
            else:
                before[column] = True
        self._number(pids, before, size)

    def _number(self, pids: set[int], before: npt.NDArray[np.bool_], size: int) -> None:
        by_pid: dict[int, list[BirthRecords]] = {}
        for b in self.births:
            by_pid.setdefault(b.pid, []).append(b)
        for cpu in range(max(self.cpus, default=-1) + 1):
            self.refs.append(TaskRef(0, cpu))
            self.birth_of.append(None)
        self._idle = len(self.refs)
        self._first = np.full(size, -1, np.int32)
        self._found = np.full(size, -1, np.int32)
        self._multi = np.zeros(size, bool)
        self._by_pid: dict[int, tuple[list[tuple[int, int]], list[int]]] = {}
        key_ts: list[int] = []
        key_pid: list[int] = []
        key_life: list[int] = []
        for pid in sorted(pids):
            born = by_pid.get(pid, [])
            generation = 0
            self._first[pid] = len(self.refs)
            first = len(self.refs)
            times = [b.first.key for b in born]
            if before[pid] or not born:
                self._found[pid] = len(self.refs)
                self.refs.append(TaskRef(pid, 0))
                self.birth_of.append(None)
                generation = 1
            if generation + len(born) > 1:
                self._multi[pid] = True
            for b in born:
                if self._multi[pid]:
                    key_ts.append(b.first.ts)
                    key_pid.append(pid)
                    key_life.append(len(self.refs))
                self.refs.append(TaskRef(pid, generation))
                self.birth_of.append(b)
                generation += 1
            if len(times) < generation:
                times.insert(0, (_EVER, -1))
            self._by_pid[pid] = times, list(range(first, len(self.refs)))
        self._index = {ref: i for i, ref in enumerate(self.refs)}
        ts = np.array(key_ts, np.int64)
        self._birth_ts = np.sort(ts)
        rank = np.searchsorted(self._birth_ts, ts, "left") + 1
        key = np.array(key_pid, np.int64) * (len(ts) + 2) + rank
        order = np.argsort(key, kind="stable")
        self._keys, self._key_pid = key[order], np.array(key_pid, np.int64)[order]
        self._key_life = np.array(key_life, np.int32)[order]

    def __len__(self) -> int:
        return len(self.refs)

    def number(self, ref: TaskRef) -> int | None:
        """Return the number of a life."""
        return self._index.get(ref)

    def of(self, pids: npt.NDArray[np.integer], ts: npt.NDArray[np.int64], cpu: npt.NDArray[np.integer]) -> Lives:
        """Return the life of each (pid, time); pid 0 is the idle task of `cpu`; -1 where no life is known."""
        size = len(self._first)
        ok = (pids >= 0) & (pids < size)
        if ok.all():
            inside = pids
        else:
            inside = np.where(ok, pids, 0)
        life = self._first.take(inside)
        idle = inside == 0
        if idle.any():
            at = cpu[idle].astype(np.int32)
            life[idle] = np.where(at < self._idle, at, -1)
        if not ok.all():
            life[~ok] = -1
        if len(self._keys):
            multi = np.flatnonzero(self._multi.take(inside))
            if len(multi):
                life[multi] = self._of_multi(inside[multi].astype(np.int64), ts[multi])
        return life

    def _of_multi(self, pids: npt.NDArray[np.int64], ts: npt.NDArray[np.int64]) -> Lives:
        rank = np.searchsorted(self._birth_ts, ts, "right")
        at = np.searchsorted(self._keys, pids * (len(self._birth_ts) + 2) + rank, "right") - 1
        born = (at >= 0) & (self._key_pid.take(np.maximum(at, 0)) == pids)
        # Before the first birth of its pid, a time belongs to the life found running, if there was one.
        found = self._found.take(pids)
        earliest = np.where(found >= 0, found, self._first.take(pids))
        return np.where(born, self._key_life.take(np.maximum(at, 0)), earliest).astype(np.int32)

    def one(self, pid: int, ts: int, cpu: int = -1, row: int = 1 << 62) -> int | None:
        """Return the life of one (pid, time), None if there is none.

        :param cpu: tells the idle tasks apart
        :param row: of the record, which tells on which side of a birth of the same time it stands
        """
        if pid == 0:
            return cpu if 0 <= cpu < self._idle else None
        lives = self._by_pid.get(pid)
        if lives is None:
            return None
        times, numbers = lives
        return numbers[max(bisect_right(times, (ts, row)) - 1, 0)]

    def ref(self, life: int | None) -> TaskRef | None:
        """Return the identity of a life number."""
        return None if life is None or life < 0 else self.refs[life]

    def generations(self, pid: int) -> list[int]:
        """Return the numbers of all lives of a pid, in order."""
        lives = self._by_pid.get(pid)
        return lives[1] if lives is not None else []


def _by_pid(pairs: Iterable[tuple[int, tuple[int, int]]]) -> dict[int, list[tuple[int, int]]]:
    """Sort the (time, row) of records by pid."""
    found: dict[int, list[tuple[int, int]]] = {}
    for pid, key in pairs:
        found.setdefault(pid, []).append(key)
    for keys in found.values():
        keys.sort()
    return found
