"""The vectorised intervals equal a plain state machine that takes one record at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.lives.life import State
from taskscope.lives.rows import WAKE, WAKING, Rows
from taskscope.lives.spans import Spans, build_spans, fold_wakeups, merged_gaps
from taskscope.trace.source import Gap

_OUTS = [State.RUNNABLE, State.SLEEPING, State.BLOCKED, State.STOPPED, State.IDLE]
_changes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6),
                              st.sampled_from([*_OUTS, State.RUNNING, WAKE, WAKING])), max_size=60)


def rows_of(changes: list[tuple[int, int, int]]) -> Rows:
    """Sort (life, step, code) into rows; steps add up to times."""
    table, now = [], [0, 0, 0, 0]
    for life, step, code in changes:
        now[life] += step
        table.append((life, now[life], int(code), len(table)))
    table.sort(key=lambda r: (r[0], r[1], r[3]))
    life, ts, code, row = (np.array(c) for c in zip(*table, strict=True)) if table else (np.empty(0, int),) * 4
    n = len(table)
    return Rows(life.astype(np.int32), ts.astype(np.int64), code.astype(np.uint8), np.zeros(n, np.int16),
                row.astype(np.int64), np.zeros(n, bool))


def plain(rows: Rows, end: int) -> list[tuple[int, int, int, int]]:
    """One record after the other, as one would do it by hand: (life, at, end, state)."""
    out: list[list[int]] = []
    for life, ts, code in zip(rows.life.tolist(), rows.ts.tolist(), rows.code.tolist(), strict=True):
        if code == WAKING:
            continue
        mine = bool(out) and out[-1][0] == life
        if code == WAKE:
            if mine and out[-1][3] in (State.RUNNING, State.RUNNABLE):
                continue
            code = int(State.RUNNABLE)
        elif mine and code != State.RUNNING and out[-1][3] != State.RUNNING:
            # It leaves a cpu that it was never seen to come to: what it did before is not known.
            out[-1][3] = int(State.UNKNOWN)
        if mine:
            out[-1][2] = ts
        out.append([life, ts, end, code])
    return [tuple(x) for x in out]


def listed(s: Spans) -> list[tuple[int, int, int, int]]:
    return list(zip(s.life.tolist(), s.at.tolist(), s.end.tolist(), s.state.tolist(), strict=True))


@settings(deadline=None, max_examples=200)
@given(_changes)
def test_spans_equal_the_plain_state_machine(changes):
    """Any sequence of switches and wakeups gives the intervals that a record-by-record reading gives."""
    rows = rows_of(changes)
    end = int(rows.ts.max(initial=0)) + 5
    folded, wake_row = fold_wakeups(rows)
    spans = build_spans(folded, wake_row, 4, end, (), 0)
    assert listed(spans) == plain(rows, end)
    totals = spans.totals(4)
    for life in range(4):
        mine = [x for x in plain(rows, end) if x[0] == life]
        assert totals[life].sum() == (end - mine[0][1] if mine else 0)


@settings(deadline=None, max_examples=200)
@given(_changes, st.lists(st.tuples(st.integers(0, 1), st.integers(0, 120), st.integers(0, 20)), max_size=5))
def test_a_gap_makes_unknown_what_spans_it_and_nothing_else(changes, holes):
    """At each moment: before the first gap inside an interval its state stands, from there to its end it is unknown."""
    rows = rows_of(changes)
    end = int(rows.ts.max(initial=0)) + 5
    gaps = tuple(Gap(cpu, at, at + width, None) for cpu, at, width in holes)
    folded, wake_row = fold_wakeups(rows)
    before = listed(build_spans(folded, wake_row, 4, end, (), 0))
    after = listed(build_spans(folded, wake_row, 4, end, gaps, 0))
    expected = []
    for life, at, stop, state in before:
        # A running task is certain as long as its own cpu (0 here) lost nothing.
        relevant = [g for g in gaps if state != State.RUNNING or g.cpu == 0]
        starts, ends = merged_gaps(relevant, 0, end)
        cuts = [max(a, at) for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if b > at and max(a, at) < stop]
        if cuts and state != State.UNKNOWN:
            expected += [(life, at, cuts[0], state), (life, cuts[0], stop, int(State.UNKNOWN))]
        else:
            expected.append((life, at, stop, state))
    assert after == expected


def test_the_waker_is_taken_from_sched_waking():
    """The wakeup record may be written on the target's cpu: sched_waking before it names the waker."""
    rows = rows_of([(0, 1, State.SLEEPING), (0, 1, WAKING), (0, 1, WAKE), (0, 1, State.RUNNING)])
    folded, wake_row = fold_wakeups(rows)
    assert folded.code.tolist() == [State.SLEEPING, State.RUNNABLE, State.RUNNING]
    assert wake_row.tolist() == [-1, 1, -1]


def test_a_waking_that_an_earlier_run_used_up_is_not_taken_again():
    """A wakeup without a sched_waking of its own (lost) is its own evidence."""
    rows = rows_of([(0, 1, WAKING), (0, 1, WAKE), (0, 1, State.RUNNING), (0, 1, State.SLEEPING), (0, 1, WAKE)])
    _, wake_row = fold_wakeups(rows)
    assert wake_row.tolist()[-1] == 4
