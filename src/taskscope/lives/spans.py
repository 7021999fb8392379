"""State intervals of all lives, from sorted state changes: columns, no loop over records.

What a loss of events spans is unknown from the loss on: a task that runs is certain as long as its own cpu lost
nothing, anything else may have been changed from any cpu; a dead task stays dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.lives.life import State
from taskscope.lives.rows import WAKE, WAKING, Rows
from taskscope.trace.source import Gap

#: how many rows before a wakeup are looked at for its sched_waking
_REACH = 8

#: number of states that time is counted in (all but DEAD)
COUNTED = int(State.UNKNOWN) + 1


@dataclass
class Spans:
    """All intervals sorted by (life, time); ``bounds[k]:bounds[k + 1]`` are those of life k."""

    life: npt.NDArray[np.int32]
    at: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    state: npt.NDArray[np.uint8]
    cpu: npt.NDArray[np.int16]          # -1 unknown
    wake_row: npt.NDArray[np.int64]     # of the sched_waking (else sched_wakeup) that began a runnable span; -1
    preempted: npt.NDArray[np.bool_]
    bounds: npt.NDArray[np.int64]

    def totals(self, lives: int) -> npt.NDArray[np.int64]:
        """Return ns per (life, state), all states but DEAD."""
        key = self.life.astype(np.int64) * (COUNTED + 1) + self.state
        flat = np.bincount(key, weights=self.end - self.at, minlength=lives * (COUNTED + 1))
        # Sums of whole ns stay exact in a double up to 2**53 ns, 104 days.
        return flat.reshape(lives, COUNTED + 1)[:, :COUNTED].astype(np.int64)


def fold_wakeups(rows: Rows) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Reduce sorted rows to state changes.

    :return: the rows whose code is a `State`, and for each the row of the waking record that began it (-1)
    """
    n = len(rows.life)
    code, life, own = rows.code, rows.life, rows.row
    places = np.flatnonzero(code == WAKE)
    # What the task was doing before each wakeup, and the sched_waking that belongs to it: within a few rows,
    # since between the two only a switch-out can stand.
    before = np.full(len(places), np.uint8(State.UNKNOWN))
    from_ = own[places].astype(np.int64)
    has_before = np.zeros(len(places), bool)
    has_waking = np.zeros(len(places), bool)
    for back in range(1, _REACH):
        j = np.maximum(places - back, 0)
        mine = (places >= back) & (life[j] == life[places])
        c = code[j]
        waking = mine & (c == WAKING) & ~has_waking & ~(has_before & (before == State.RUNNING))
        from_[waking] = own[j[waking]]
        has_waking |= waking
        state = mine & (c != WAKING) & ~has_before
        before[state] = c[state]
        has_before |= state
        if bool((has_before | ~mine).all()):
            break
    awake = (before == State.RUNNING) | (before == State.RUNNABLE) | (before == WAKE) | (before == State.DEAD) \
        | (before == State.ZOMBIE)
    wake_row = np.full(n, -1, np.int64)
    wake_row[places] = from_
    keep = code != WAKING
    keep[places[awake]] = False
    kept = np.flatnonzero(keep)
    rows, wake_row = rows.take(kept), wake_row[kept]
    rows.code[rows.code == WAKE] = State.RUNNABLE
    _doubt_unseen_runs(rows, wake_row)
    return rows, wake_row


def _doubt_unseen_runs(rows: Rows, wake_row: npt.NDArray[np.int64]) -> None:
    """Make unknown what a task did before a switch-out from a cpu that nothing shows it to have come to."""
    left = (rows.row[1:] >= 0) & (rows.code[1:] != State.RUNNING) & (wake_row[1:] < 0) \
        & (rows.code[1:] != State.UNKNOWN)
    there = (rows.code[:-1] == State.RUNNING) & ((rows.cpu[:-1] == rows.cpu[1:]) | (rows.cpu[:-1] < 0))
    doubtful = np.flatnonzero(left & ~there & (rows.life[1:] == rows.life[:-1]))
    rows.code[doubtful] = State.UNKNOWN
    wake_row[doubtful] = -1


def with_ends(rows: Rows, wake_row: npt.NDArray[np.int64], ends: dict[int, int], state: State
              ) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Add a last change that no switch tells: a zombie that was released (DEAD), an exit never left (UNKNOWN).

    :param ends: life -> time of it
    """
    if not ends:
        return rows, wake_row
    lives = np.array(sorted(ends), rows.life.dtype)
    times = np.array([ends[k] for k in lives.tolist()], np.int64)
    at = np.searchsorted(rows.life, lives, "right")
    # Never before the last record of the life: the reaper can be faster than the last switch-out.
    last = rows.ts.take(np.maximum(at - 1, 0))
    has_rows = (at > 0) & (rows.life.take(np.maximum(at - 1, 0)) == lives)
    times = np.where(has_rows, np.maximum(times, last), times)
    merged = Rows(
        np.insert(rows.life, at, lives), np.insert(rows.ts, at, times), np.insert(rows.code, at, np.uint8(state)),
        np.insert(rows.cpu, at, np.int16(-1)), np.insert(rows.row, at, -1),
        np.insert(rows.involuntary, at, values=False))
    return merged, np.insert(wake_row, at, np.int64(-1))


def build_spans(rows: Rows, wake_row: npt.NDArray[np.int64], lives: int, end: int, gaps: tuple[Gap, ...],
                start: int) -> Spans:
    """Turn state changes into intervals.

    :param end: time at which the recording ends, for what lasts until then
    :param start: time at which it begins
    """
    ends = np.empty(len(rows.ts), np.int64)
    ends[:-1] = rows.ts[1:]
    last = np.ones(len(rows.ts), bool)
    last[:-1] = rows.life[1:] != rows.life[:-1]
    ends[last] = end
    dead = rows.code == State.DEAD
    ends[dead] = rows.ts[dead]
    # Clocks of cpus that disagree can put a change before the one it follows: no interval is negative.
    np.maximum(ends, rows.ts, out=ends)
    preempted = rows.involuntary & (rows.code == State.RUNNABLE)
    spans = Spans(rows.life, rows.ts, ends, rows.code, rows.cpu, wake_row, preempted, np.empty(0, np.int64))
    if gaps:
        spans = _split_at_gaps(spans, gaps, start, end)
    spans.bounds = np.searchsorted(spans.life, np.arange(lives + 1, dtype=spans.life.dtype))
    return spans


def merged_gaps(gaps: list[Gap], start: int, end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the union of gaps as sorted, disjoint (starts, ends)."""
    pairs = sorted((start if g.start is None else g.start, end if g.end is None else g.end) for g in gaps)
    out: list[list[int]] = []
    for a, b in pairs:
        if out and a <= out[-1][1]:
            out[-1][1] = max(out[-1][1], b)
        else:
            out.append([a, b])
    return np.array([a for a, _ in out], np.int64), np.array([b for _, b in out], np.int64)


def _split_at_gaps(spans: Spans, gaps: tuple[Gap, ...], start: int, end: int) -> Spans:
    running = spans.state == State.RUNNING
    fixed = (spans.state == State.ZOMBIE) | (spans.state == State.DEAD) | (spans.state == State.UNKNOWN)
    cut = np.full(len(spans.at), -1, np.int64)       # where the certain part ends
    _cut(cut, np.flatnonzero(~running & ~fixed), spans, list(gaps), start, end)
    for cpu in sorted({g.cpu for g in gaps if g.cpu is not None}):
        _cut(cut, np.flatnonzero(running & (spans.cpu == cpu)), spans,
             [g for g in gaps if g.cpu == cpu], start, end)
    # Who is seen running was seen to come: a loss before all records of its cpu does not touch it.
    anywhere = [g for g in gaps if g.cpu is None and g.start is not None]
    if anywhere:
        _cut(cut, np.flatnonzero(running), spans, anywhere, start, end)
    hit = np.flatnonzero(cut >= 0)
    if not len(hit):
        return spans
    new_end = spans.end.copy()
    new_end[hit] = cut[hit]
    at = hit + 1

    def put(column: npt.NDArray[Any], values: Any) -> npt.NDArray[Any]:
        out: npt.NDArray[Any] = np.insert(column, at, values)
        return out

    return Spans(put(spans.life, spans.life[hit]), put(spans.at, cut[hit]), put(new_end, spans.end[hit]),
                 put(spans.state, np.uint8(State.UNKNOWN)), put(spans.cpu, np.int16(-1)),
                 put(spans.wake_row, np.int64(-1)), put(spans.preempted, False), np.empty(0, np.int64))


def _cut(cut: npt.NDArray[np.int64], which: npt.NDArray[np.int64], spans: Spans, gaps: list[Gap], start: int,
         end: int) -> None:
    """Note in `cut` where the first gap that overlaps each span begins."""
    starts, ends = merged_gaps(gaps, start, end)
    if not len(which) or not len(starts):
        return
    k = np.searchsorted(ends, spans.at[which], "right")
    inside = k < len(starts)
    k = np.minimum(k, len(starts) - 1)
    first = np.maximum(starts[k], spans.at[which])
    hit = inside & (first < spans.end[which])
    where = which[hit]
    before = cut[where]
    cut[where] = np.where(before < 0, first[hit], np.minimum(before, first[hit]))
