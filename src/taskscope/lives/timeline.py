"""The scheduling records of a recording, each given to its life and sorted by (life, time).

Switches and wakeups come by the million: everything here is columns, see `rows`.  What was not recorded but follows
(births, tasks found running, execs from a thread, tasks that left a cpu unseen) becomes rows of its own; `spans` drops
the wakeups that changed nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.lives.identity import Identities, collect_births
from taskscope.lives.life import State
from taskscope.lives.records import IRQ_FLAGS, Rec, chosen_rows, ints, records
from taskscope.lives.rows import WAKE, WAKING, Rows
from taskscope.lives.states import Outs, decode_outs
from taskscope.trace.source import Gap, Index
from taskscope.trace.trace import Trace

_SWITCH = "sched_switch"


@dataclass
class Handover:
    """An exec from a non-leader thread: from `rec` on, thread `old` runs as the leader's life `new`."""

    rec: Rec
    cpu: int
    old: int
    new: int


class Timeline:
    """Gathers the records, numbers the lives, and holds the sorted state changes.

    The switches stay available in storage order: `switch_rows` and, parallel to it, `prev`, `next`, `outs`,
    `life_out` and `life_in`.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        births = collect_births(trace)
        self._gather()
        self._cpu_firsts = self._first_records()
        self.ids = Identities(births, trace.cpus)
        self._number_lives()
        self._assign()

    # ---- gathering ---------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        trace = self.trace
        rows = self.switch_rows = chosen_rows(trace, _SWITCH)
        wakes = chosen_rows(trace, "sched_wakeup")
        waking = chosen_rows(trace, "sched_waking")
        if not len(wakes):
            # Without sched_wakeup, the beginning of the wakeup has to do.
            wakes, waking = waking, waking[:0]
        self._wake_rows = np.concatenate([wakes, waking])
        self._wake_code = np.repeat(np.array([WAKE, WAKING], np.uint8), [len(wakes), len(waking)])
        self.prev = self.next = np.empty(0, np.int32)
        self.outs = Outs(np.empty(0, np.uint8), np.empty(0, bool))
        # NumPy lets go of the interpreter while it gathers: two threads are nearly twice as fast as one.
        with ThreadPoolExecutor(2) as pool:
            if len(rows):
                outs = pool.submit(decode_outs, trace, rows)
                prev = pool.submit(ints, trace, _SWITCH, "prev_pid", rows)
                next_ = pool.submit(ints, trace, _SWITCH, "next_pid", rows)
            woken = pool.submit(self._wake_columns)
            self.switch_ts, self.switch_cpu = trace.ts(rows), trace.cpu(rows).astype(np.int16)
            self._wake_ts = trace.ts(self._wake_rows)
            self._woken, self._target = woken.result()
            if len(rows):
                self.outs = outs.result()
                self.prev = prev.result().astype(np.int32, copy=False)
                self.next = next_.result().astype(np.int32, copy=False)

    def _wake_columns(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16]]:
        """Gather pid and target_cpu of the wakeup records."""
        rows = self._wake_rows
        pid = np.full(len(rows), -1, np.int32)
        target = np.full(len(rows), -1, np.int16)
        types = self.trace.source.index.type[rows]
        for name in ("sched_wakeup", "sched_waking"):
            type_ = self.trace.type(name)
            if type_ is None:
                continue
            mine = np.flatnonzero(types == type_.index)
            if not len(mine):
                continue
            pid[mine] = ints(self.trace, name, "pid", rows[mine])
            target[mine] = ints(self.trace, name, "target_cpu", rows[mine]).astype(np.int16)
        return pid, target

    def _first_records(self) -> list[Rec]:
        """Find the record that shows who is running: the first of each cpu, and the first after each gap."""
        trace, index = self.trace, self.trace.source.index
        if not len(self.switch_rows):
            return []
        buffer = int(index.buffer[self.switch_rows[0]])
        ends: dict[int, list[int]] = {}
        for g in trace.lost:
            if g.cpu is not None and g.end is not None and g.buffer == buffer:
                ends.setdefault(g.cpu, []).append(g.end)
        found: list[int] = []
        for cpu, rows in _rows_by_cpu(index, buffer):
            ts = index.ts[rows]
            at = np.searchsorted(ts, np.array(ends.get(cpu, ()), np.int64), "left")
            found += [rows.start + k if isinstance(rows, slice) else int(rows[k])
                      for k in (0, *at.tolist()) if k < len(ts)]
        at = np.unique(np.array(found, np.int64))
        pids = trace.source.pids(at).tolist()
        return [Rec(int(index.ts[r]), int(r), int(index.cpu[r]), p, False, {})
                for r, p in zip(at.tolist(), pids, strict=True)]

    def _number_lives(self) -> None:
        trace = self.trace
        shown: list[tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]] = [
            (self.prev, self.switch_ts), (self.next, self.switch_ts), (self._woken, self._wake_ts)]
        for name in ("signal_generate", "task_rename", "sched_process_exit", "sched_process_exec",
                     "sched_migrate_task"):
            rows = chosen_rows(trace, name)
            if not len(rows):
                continue
            shown.append((ints(trace, name, "pid", rows), trace.ts(rows)))
            shown.append((trace.source.pids(rows), trace.ts(rows)))
        if len(self._wake_rows) and len(trace):
            # A recording of chosen pids has wakers that it shows nowhere else; an interrupt's current is no waker.
            woke = (trace.source.flags(self._wake_rows) & IRQ_FLAGS) == 0
            shown.append((trace.source.pids(self._wake_rows[woke]), self._wake_ts[woke]))
        shown.append((np.array([f.pid for f in self._cpu_firsts], np.int64),
                      np.array([f.ts for f in self._cpu_firsts], np.int64)))
        shown.append((np.array([b.first.pid for b in self.ids.births], np.int64),
                      np.array([b.first.ts for b in self.ids.births], np.int64)))
        if not len(self.switch_rows):
            # Without switches only the header of each record shows who was running.
            shown.append((trace.source.pids(np.arange(len(trace), dtype=np.int64)), trace.source.index.ts))
        self.ids.add_unrecorded(trace, [(self.next, self.switch_ts), (self._woken, self._wake_ts)])
        self.ids.build([pid for pid, _ in shown], shown)

    # ---- assigning ---------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        ids = self.ids
        self.life_in = ids.of(self.next, self.switch_ts, self.switch_cpu)
        self.life_out = ids.of(self.prev, self.switch_ts, self.switch_cpu)
        self._follow_cpus()
        self.handovers = self._find_handovers()
        woken = ids.of(self._woken, self._wake_ts, np.full(len(self._woken), -1, np.int16))
        n, number = len(self.switch_rows), np.int32 if len(self.trace) < 1 << 31 else np.int64
        nothing = np.zeros(n, bool)
        running = np.full(n, np.uint8(State.RUNNING))
        switch_row, wake_row = self.switch_rows.astype(number), self._wake_rows.astype(number)
        rows = Rows.concat([
            self._extra_rows(number),
            Rows(self.life_out, self.switch_ts, self.outs.state, self.switch_cpu, switch_row, self.outs.involuntary),
            Rows(self.life_in, self.switch_ts, running, self.switch_cpu, switch_row, nothing),
            Rows(woken, self._wake_ts, self._wake_code, self._target, wake_row, np.zeros(len(woken), bool)),
            self._unseen_switches(number)])
        if len(rows.life) and int(rows.life.min()) < 0:
            rows = rows.take(np.flatnonzero(rows.life >= 0))
        self.rows = self._by_life_and_time(rows)

    def _by_life_and_time(self, rows: Rows) -> Rows:
        """Sort by (life, time, place in the recording); what `_extra_rows` made comes first.

        Each part is in storage order, cpu by cpu: a stable sort by time merges few long runs.  Equal stamps on one
        cpu are put into the order in which the kernel wrote them.
        """
        order = np.argsort(rows.ts, kind="stable")
        key = rows.life.astype(np.uint16) if len(self.ids) < 1 << 16 else rows.life
        order = order.take(np.argsort(key.take(order), kind="stable"))
        # Gathering in this order misses the cache at every row: three columns are carried instead of six.
        packed = ((rows.cpu.astype(np.int32) + 1) << 8) | (rows.involuntary.astype(np.int32) << 7) | rows.code
        columns: tuple[npt.NDArray[Any], ...] = (rows.ts, rows.row, packed)
        with ThreadPoolExecutor(2) as pool:
            ts, row, packed = pool.map(lambda c: c.take(order), columns)
        counts = np.bincount(rows.life, minlength=len(self.ids))
        rows = Rows(np.repeat(np.arange(len(counts), dtype=np.int32), counts), ts, (packed & 0x7F).astype(np.uint8),
                    ((packed >> 8) - 1).astype(np.int16), row, (packed & 0x80) != 0)
        equal = (rows.ts[1:] == rows.ts[:-1]) & (rows.life[1:] == rows.life[:-1])
        wrong = np.flatnonzero(equal & (rows.row[1:] < rows.row[:-1]) & (rows.row[1:] >= 0))
        late = np.flatnonzero(equal[1:] & equal[:-1] & (rows.code[2:] == WAKE)) + 2
        if len(wrong) or len(late):
            # Whole runs of equal (life, time); few rows, except where a guest's clock stood still.
            starts = np.append(np.flatnonzero(np.concatenate([[True], ~equal])), len(rows.ts))
            for which, mend in ((wrong, self._as_written), (late, self._wakeup_first)):
                runs = np.unique(np.searchsorted(starts, which, "right") - 1)
                for first, end in zip(starts[runs].tolist(), starts[runs + 1].tolist(), strict=True):
                    mend(rows, first, end)
        return rows

    @staticmethod
    def _as_written(rows: Rows, first: int, end: int) -> None:
        rows.permute(first, np.argsort(rows.row[first:end], kind="stable"))

    @staticmethod
    def _wakeup_first(rows: Rows, first: int, end: int) -> None:
        """Put a wakeup before the run that it began, where a coarse clock gives both the same stamp.

        The cpus' own order is kept; between cpus, a task that came and left at the time of its wakeup was woken first.
        """
        wake = int(np.argmax(rows.code[first:end] == WAKE))
        came = np.flatnonzero(rows.code[first:first + wake] == State.RUNNING)
        before = int(rows.code[first - 1]) if first > 0 and rows.life[first - 1] == rows.life[first] else -1
        if len(came) and before not in (State.RUNNING, State.RUNNABLE, WAKE, WAKING) \
                and rows.cpu[first + int(came[0])] != rows.cpu[first + wake]:
            rows.permute(first, np.array([wake, *range(wake)]))

    def _unseen_switches(self, number: type[np.signedinteger]) -> Rows:
        """Make rows for tasks that left their cpu unseen: another one leaves it next.

        So it is where only some tasks were recorded (set_event_pid, perf), and after losses.  The task was there at
        its last record on that cpu; what it did afterwards is unknown.
        """
        a, b = self._pairs
        odd = (self.life_out[b] != self.life_in[a]) & (self.life_in[a] >= 0)
        a, b = a[odd], b[odd]
        for h in self.handovers:
            same = (self.life_out[b] == h.new) & (self.life_in[a] == h.old)
            a, b = a[~same], b[~same]
        last = self.switch_rows[a]
        if len(a):
            # The records between the two switches, all at once: the last one that the task itself wrote there.
            lengths = self.switch_rows[b] - last
            begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            every = np.arange(int(lengths.sum())) + np.repeat(last - begins, lengths)
            mine = (self.trace.source.pids(every) == np.repeat(self.next[a], lengths)) \
                & (self.trace.cpu(every) == np.repeat(self.switch_cpu[a], lengths))
            last = np.maximum(last, np.maximum.reduceat(np.where(mine, every, -1), begins))
        n = len(a)
        return Rows(self.life_in[a], self.trace.ts(last), np.full(n, np.uint8(State.UNKNOWN)),
                    np.full(n, np.int16(-1)), last.astype(number), np.zeros(n, bool))

    @cached_property
    def _pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Pairs of switches that follow each other on one cpu, as numbers of switches."""
        order = np.argsort(self.switch_cpu, kind="stable")
        same = self.switch_cpu[order[1:]] == self.switch_cpu[order[:-1]]
        return order[:-1][same], order[1:][same]

    def _follow_cpus(self) -> None:
        """A task leaves a cpu as the life that came to it, also where its pid was given away in between."""
        if not self.ids.reused or len(self.prev) < 2:
            return
        a, b = self._pairs
        same = (self.prev[b] == self.next[a]) & (self.prev[b] != 0) & (self.life_out[b] != self.life_in[a])
        self.life_out[b[same]] = self.life_in[a[same]]

    def _find_handovers(self) -> list[Handover]:
        found: list[Handover] = []
        for rec in records(self.trace, "sched_process_exec", "pid", "old_pid"):
            pid, old = rec.f["pid"], rec.f["old_pid"]
            if old is None or pid == old:
                continue
            new_life, old_life = self.ids.one(pid, rec.ts, row=rec.row), self.ids.one(old, rec.ts, row=rec.row)
            if new_life is None or old_life is None:
                continue
            found.append(Handover(self._handover_moment(rec, pid, old_life), rec.cpu, old_life, new_life))
        return found

    def _handover_moment(self, exec_: Rec, pid: int, old_life: int) -> Rec:
        """begin_new_exec() renames the task after de_thread(): its first record under the leader's pid."""
        born = self.ids.birth_of[old_life]
        since = born.first.ts if born is not None else self.trace.start
        exits = [rec.ts for rec in self._exits_and_renames.get(("sched_process_exit", pid), ()) if rec.ts <= exec_.ts]
        since = max([since, *exits])
        renames = [rec for rec in self._exits_and_renames.get(("task_rename", pid), ())
                   if rec.cpu == exec_.cpu and since <= rec.ts <= exec_.ts]
        return renames[-1] if renames else exec_

    @cached_property
    def _exits_and_renames(self) -> dict[tuple[str, int], list[Rec]]:
        """The records by event and pid, for finding the moment of an exec."""
        found: dict[tuple[str, int], list[Rec]] = {}
        for event in ("sched_process_exit", "task_rename"):
            for rec in records(self.trace, event, "pid"):
                found.setdefault((event, rec.f["pid"]), []).append(rec)
        return found

    def _extra_rows(self, number: type[np.signedinteger]) -> Rows:
        """Make the rows of tasks found running, of births and of handovers; each comes before what it precedes."""
        start = self.trace.start
        extra: list[tuple[int, int, int, int, int]] = [      # ts, life, code, cpu, row
            (start, life, int(State.UNKNOWN), -1, -1)
            for life, birth in enumerate(self.ids.birth_of) if birth is None]
        for life, birth in enumerate(self.ids.birth_of):
            if birth is not None:
                state = State.RUNNABLE if birth.seen is None else State.UNKNOWN
                extra.append((birth.first.ts, life, int(state), -1, -1))
        for rec in self._cpu_firsts:
            current = self.ids.one(rec.pid, rec.ts, rec.cpu, rec.row)
            if current is not None:
                extra.append((rec.ts, current, int(State.RUNNING), rec.cpu, -1))
        for h in self.handovers:
            extra.append((h.rec.ts, h.old, int(State.DEAD), h.cpu, -1))
            extra.append((h.rec.ts, h.new, int(State.RUNNING), h.cpu, -1))
        extra.sort(key=lambda x: x[0])
        table = np.array(extra, np.int64).reshape(-1, 5)
        return Rows(table[:, 1].astype(np.int32), table[:, 0], table[:, 2].astype(np.uint8),
                    table[:, 3].astype(np.int16), table[:, 4].astype(number), np.zeros(len(extra), bool))

    @cached_property
    def _bounds(self) -> npt.NDArray[np.int64]:
        return np.searchsorted(self.rows.life, np.arange(len(self.ids) + 1, dtype=np.int32)).astype(np.int64)

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """The losses; one before the records of an unknown cpu lasts until every cpu has a record."""
        index = self.trace.source.index
        out = []
        for g in self.trace.lost:
            if g.cpu is None and g.start is None:
                firsts = [int(index.ts[r.start if isinstance(r, slice) else r[0]])
                          for _, r in _rows_by_cpu(index, g.buffer)]
                g = replace(g, end=max(firsts, default=g.end))
            out.append(g)
        return tuple(out)

    @property
    def wakeups_recorded(self) -> bool:
        """Tell whether the recording has wakeups at all."""
        return len(self._wake_rows) > 0

    def bounds(self, life: int) -> tuple[int, int]:
        """Return where the rows of a life begin and end in `rows`."""
        return int(self._bounds[life]), int(self._bounds[life + 1])

    def state_at(self, life: int, key: tuple[int, int]) -> int:
        """Return the code of the last row of a life at or before a record (ts, row); -1 if there is none."""
        a, b = self.bounds(life)
        k = int(np.searchsorted(self.rows.ts[a:b], key[0], "right")) + a - 1
        while k >= a and int(self.rows.ts[k]) == key[0] and int(self.rows.row[k]) > key[1]:
            k -= 1
        return int(self.rows.code[k]) if k >= a else -1

    def wakers(self, rows: npt.NDArray[np.integer]
               ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return who wrote wakeup records: (life, or -1 for an interrupt; whether it was one; time of the record)."""
        at = rows.astype(np.int64)
        source = self.trace.source
        if not len(at) or not len(self.trace):
            return np.empty(0, np.int32), np.empty(0, bool), np.empty(0, np.int64)
        irq = (source.flags(at) & IRQ_FLAGS) != 0
        ts = source.index.ts[at]
        life = self.ids.of(source.pids(at), ts, source.index.cpu[at])
        return np.where(irq, np.int32(-1), life), irq, ts


def _rows_by_cpu(index: Index, buffer: int) -> list[tuple[int, slice | npt.NDArray[np.int64]]]:
    """Return the rows of each cpu of one buffer, in storage order."""
    # In a binary recording each cpu is one run of rows; text keeps the order of its lines.
    change = np.flatnonzero((index.cpu[1:] != index.cpu[:-1]) | (index.buffer[1:] != index.buffer[:-1])) + 1
    starts = np.concatenate([[0], change])
    cpus, mine = index.cpu[starts], index.buffer[starts] == buffer
    if len(np.unique(cpus[mine])) == int(mine.sum()):
        ends = np.append(change, len(index))
        return [(int(c), slice(a, b))
                for c, a, b in zip(cpus[mine], starts[mine].tolist(), ends[mine].tolist(), strict=True)]
    rows = np.flatnonzero(index.buffer == buffer)
    cpu = index.cpu[rows]
    order = np.argsort(cpu, kind="stable")
    rows, cpu = rows[order], cpu[order]
    cuts = np.flatnonzero(cpu[1:] != cpu[:-1]) + 1
    return [(int(index.cpu[r[0]]), r) for r in np.split(rows, cuts) if len(r)]
