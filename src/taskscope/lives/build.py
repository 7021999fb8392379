"""Builds the lives of a recording: columns for what comes by the million, objects for what happens once.

The order: gather and sort the state changes (`timeline`), name and relate the lives (`names`, `family`), collect and
judge the deaths (`deaths`, `causes`, `reaping`), then cut the intervals (`spans`) and make one `Life` each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskscope.lives.causes import Causes
from taskscope.lives.deaths import Death, Deaths, unseen_ends
from taskscope.lives.family import Family, FamilyBuilder
from taskscope.lives.functions import Functions
from taskscope.lives.life import Birth, Exec, Life, Span, State, Switches, TaskRef
from taskscope.lives.names import Names
from taskscope.lives.reaping import Reaping, migration_counts
from taskscope.lives.records import chosen_rows, ints, records
from taskscope.lives.rows import WAKE
from taskscope.lives.signals import Signals
from taskscope.lives.spans import COUNTED, Spans, build_spans, fold_wakeups, with_ends
from taskscope.lives.timeline import Timeline
from taskscope.trace.trace import Trace

if TYPE_CHECKING:
    from taskscope.lives.lives import Lives

_STATE_NAMES = tuple(State(k).name.lower() for k in range(COUNTED))


@dataclass
class Built:
    """The finished lives and the columns that their spans are made from."""

    trace: Trace
    timeline: Timeline
    family: Family
    reaping: Reaping
    spans: Spans
    lives: list[Life]
    by_ref: dict[TaskRef, Life]
    number: dict[TaskRef, int]
    order: list[int]                    # life numbers in the order of `lives`
    notes: tuple[str, ...]

    def spans_of(self, ref: TaskRef) -> tuple[Span, ...]:
        """Return the intervals of one life; those of no length are left out unless a wakeup began them."""
        k = self.number[TaskRef(*ref)]
        s = self.spans
        which = np.arange(s.bounds[k], s.bounds[k + 1])
        which = which[(s.state[which] != State.DEAD) & ((s.end[which] > s.at[which]) | (s.wake_row[which] >= 0))]
        rows = s.wake_row[which]
        life, irq, woken = self.timeline.wakers(np.maximum(rows, 0))
        columns = (s.at[which], s.end[which], s.state[which], s.cpu[which], rows, life, irq, woken, s.preempted[which])
        return tuple(
            Span(at, end, State(state), cpu if cpu >= 0 else None, self.timeline.ids.ref(by) if row >= 0 else None,
                 at_waking if row >= 0 else None, row >= 0 and from_irq, preempted)
            for at, end, state, cpu, row, by, from_irq, at_waking, preempted in zip(
                *(c.tolist() for c in columns), strict=True))

    def latencies(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """See `Lives.latencies`."""
        s = self.spans
        woken = (s.wake_row >= 0) & (s.state == State.RUNNABLE)
        woken[:-1] &= (s.life[1:] == s.life[:-1]) & (s.state[1:] == State.RUNNING)
        woken[-1:] = False
        at = np.flatnonzero(woken)
        position = np.full(len(self.number), -1, np.int64)
        position[np.array(self.order, np.int64)] = np.arange(len(self.order))
        return position.take(s.life[at]), s.at[at], s.end[at] - s.at[at]


def build(trace: Trace, owner: Lives) -> Built:
    """Build all lives of a recording.

    :param owner: kept in each `Life`, which asks it for spans and story
    """
    timeline = Timeline(trace)
    ids, n = timeline.ids, len(timeline.ids)
    functions = Functions(trace)
    names = Names(timeline)
    family = FamilyBuilder(timeline, functions, names).build()
    signals = Signals(timeline, family)
    deaths = Deaths(timeline, family, signals, functions).collect()
    causes = Causes(timeline, family, signals, deaths)
    reaping = Reaping(timeline, family, deaths, functions, signals.recorded)
    rows, wake_row = fold_wakeups(timeline.rows)
    rows, wake_row = with_ends(rows, wake_row, unseen_ends(timeline, deaths), State.UNKNOWN)
    rows, wake_row = with_ends(rows, wake_row, reaping.ends(), State.DEAD)
    if not len(timeline.switch_rows):
        # Without switches nothing shows when a task ran or slept.
        rows.code = np.where(rows.code == State.DEAD, rows.code, np.uint8(State.UNKNOWN))
    spans = build_spans(rows, wake_row, n, trace.end, timeline.gaps, trace.start)
    totals = spans.totals(n)
    made = _Maker(timeline, names, family, signals, causes, reaping, deaths, spans, totals, owner)
    numbers = [k for k in range(n) if made.exists(k)]
    lives = [made.life(k) for k in numbers]
    order = sorted(range(len(lives)), key=lambda i: (lives[i].first, lives[i].pid, lives[i].generation))
    lives = [lives[i] for i in order]
    return Built(trace, timeline, family, reaping, spans, lives, {x.ref: x for x in lives},
                 {ref: k for k, ref in enumerate(ids.refs)}, [numbers[i] for i in order], _notes(trace, timeline))


def _notes(trace: Trace, timeline: Timeline) -> tuple[str, ...]:
    notes = []
    if not len(timeline.switch_rows):
        notes.append("no sched_switch events: when tasks ran and slept is unknown (record with -e sched)")
    elif not len(trace.rows("sched_wakeup", "sched_waking")):
        notes.append("no sched_wakeup events: a task counts as asleep until it runs")
    if not len(trace.rows("sched_process_fork", "task_newtask")) and len(trace):
        notes.append("no sched_process_fork or task_newtask events: creations are not recorded, or there were none")
    return tuple(notes)


class _Maker:
    """Makes one `Life` after the other."""

    def __init__(self, timeline: Timeline, names: Names, family: Family, signals: Signals, causes: Causes,
                 reaping: Reaping, deaths: dict[int, Death], spans: Spans, totals: npt.NDArray[Any],
                 owner: Lives) -> None:
        self.tl, self.names, self.family, self.signals = timeline, names, family, signals
        self.causes, self.reaping, self.deaths, self.spans = causes, reaping, deaths, spans
        self.owner = owner
        self.trace, self.ids = timeline.trace, timeline.ids
        n = len(self.ids)
        self.totals = totals.tolist()
        out, involuntary = timeline.life_out, timeline.outs.involuntary
        ok = out >= 0
        self.involuntary = np.bincount(out[ok & involuntary], minlength=n).tolist()
        self.voluntary = np.bincount(out[ok & ~involuntary], minlength=n).tolist()
        self.wakeups = self._count_wakeups(n)
        self.migrations = migration_counts(timeline, n).tolist()
        self.cpus = self._cpus()
        self.execs = self._execs()
        self.prio = self._prios(n)
        self.gap_starts, self.gap_ends = (np.sort(x) for x in self._gap_times())

    def _count_wakeups(self, n: int) -> list[int]:
        total = np.zeros(n, np.int64)
        if len(chosen_rows(self.trace, "sched_wakeup")):
            total += np.bincount(self.tl.rows.life[self.tl.rows.code == WAKE], minlength=n)
        new = chosen_rows(self.trace, "sched_wakeup_new")
        if len(new):
            life = self.ids.of(ints(self.trace, "sched_wakeup_new", "pid", new), self.trace.ts(new),
                               np.full(len(new), -1))
            total += np.bincount(life[life >= 0], minlength=n)
        counts: list[int] = total.tolist()
        return counts

    def _cpus(self) -> dict[int, list[int]]:
        rows = self.tl.rows
        # Where it came to a cpu or left one; wakeups only say where it was to run.
        ran = (rows.code < WAKE) & (rows.cpu >= 0)
        width = int(rows.cpu.max(initial=0)) + 1
        key = rows.life[ran].astype(np.int64) * width + rows.cpu[ran]
        size = len(self.ids) * width
        present = np.flatnonzero(np.bincount(key, minlength=1)) if size < 1 << 26 else np.unique(key)
        found: dict[int, list[int]] = {}
        for k in present.tolist():
            found.setdefault(k // width, []).append(k % width)
        return found

    def _execs(self) -> dict[int, list[Exec]]:
        found: dict[int, list[Exec]] = {}
        for rec in records(self.trace, "sched_process_exec", "filename", "pid", "old_pid"):
            life = self.ids.one(rec.f["pid"], rec.ts, row=rec.row)
            if life is not None and rec.f["filename"] is not None:
                old = rec.f["old_pid"] if rec.f["old_pid"] is not None else rec.f["pid"]
                found.setdefault(life, []).append(Exec(rec.ts, rec.cpu, rec.f["filename"], old))
        return found

    def _prios(self, n: int) -> list[int | None]:
        """Return the last prio of each life, from the switches that brought it to a cpu or took it away."""
        tl = self.tl
        type_ = self.trace.type("sched_switch")
        if type_ is None or not len(tl.switch_rows) or type_.field("prev_prio") is None:
            return [None] * n
        rows = tl.rows
        left = np.flatnonzero((rows.row >= 0) & (rows.code < WAKE) & (rows.code != State.RUNNING))
        last = np.full(n, -1, np.int64)
        last[rows.life[left]] = rows.row[left]       # the last assignment wins
        out: list[int | None] = [None] * n
        has = np.flatnonzero(last >= 0)
        prio = ints(self.trace, "sched_switch", "prev_prio", last[has])
        for k, p in zip(has.tolist(), prio.tolist(), strict=True):
            out[k] = int(p) if p >= 0 else None
        return out

    def _gap_times(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        start, end = self.trace.start, self.trace.end
        return (np.array([start if g.start is None else g.start for g in self.tl.gaps], np.int64),
                np.array([end if g.end is None else g.end for g in self.tl.gaps], np.int64))

    def exists(self, k: int) -> bool:
        """Tell whether the recording shows a life at all (an idle task of a cpu without records does not)."""
        return self.ids.refs[k].pid != 0 or int(self.spans.bounds[k + 1] - self.spans.bounds[k]) > 1

    def life(self, k: int) -> Life:
        """Make one life."""
        ids, f = self.ids, self.family
        ref = ids.refs[k]
        a, b = int(self.spans.bounds[k]), int(self.spans.bounds[k + 1])
        born = f.born[k]
        birth = ids.birth_of[k]
        begin = birth.first.ts if birth is not None else self.trace.start
        last = int(self.spans.end[b - 1]) if b > a else begin
        comms = self.names.history(k, begin)
        exit_ = self.causes.exit_of(k)
        if exit_ is not None and born is not None:
            born = self._with_exit_signal(k, born)
        parent = f.parent[k]
        gaps = int(np.searchsorted(self.gap_starts, last, "left") - np.searchsorted(self.gap_ends, begin, "right")) \
            if len(self.gap_starts) else 0
        return Life(
            pid=ref.pid, generation=ref.generation, tgid=f.tgid[k], kind=f.kind[k], comm=comms[-1].comm, comms=comms,
            parent=ids.ref(parent), born=born, execs=tuple(self.execs.get(k, ())), signals=self.signals.of(k),
            exit=exit_, reaped=self.reaping.reaped.get(k), freed=self.reaping.freed.get(k),
            adopted=tuple(self.reaping.adopted.get(k, ())), time=dict(zip(_STATE_NAMES, self.totals[k], strict=True)),
            switches=Switches(self.voluntary[k], self.involuntary[k]), wakeups=self.wakeups[k],
            migrations=self.migrations[k], cpus=tuple(self.cpus.get(k, ())), gaps=max(gaps, 0),
            first=begin, last=last, inferred=tuple(f.inferred[k]),
            orphaned_at=self.reaping.orphaned.get(k), prio=self.prio[k], _owner=self.owner)

    def _with_exit_signal(self, k: int, born: Birth) -> Birth:
        death = self.deaths.get(k)
        if death is None or death.notice is None or born.exit_signal is not None:
            return born
        return replace(born, exit_signal=death.notice.sig,
                       inferred=(*born.inferred, "born.exit_signal: the signal that its parent got in the end"))

