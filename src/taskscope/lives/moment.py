"""The tasks that existed at one moment of a recording, as a `Snapshot`.

What ftrace does not record (uid, memory, terminal …) is None, with the reason under its name.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from taskscope.abi.sched import prio_to_nice
from taskscope.lives.life import STATE_LETTERS, Life, State, TaskRef
from taskscope.lives.records import ints
from taskscope.lives.rows import WAKE
from taskscope.snapshot.snapshot import Snapshot, TaskRow

if TYPE_CHECKING:
    from taskscope.lives.build import Built

_NOT_RECORDED = "ftrace's process events do not carry it"
#: what `_row` gives; the rest of a `TaskRow` is in no event
_GIVEN = frozenset({"pid", "generation", "tgid", "ppid", "kind", "comm", "state", "cpu", "prio", "nice", "start_time",
                    "sum_exec_runtime", "cputime", "forked", "unavailable"})
UNAVAILABLE = {
    **{one.name: _NOT_RECORDED for one in fields(TaskRow) if one.name not in _GIVEN},
    "wchan": "only a call stack at the switch-out tells it",
    "start_time": "tasks that were there before the recording began have no birth in it",
    "ppid": "the parent of a task that was there before the recording began is not recorded",
    "forked": "whether a task that was there before the recording began has exec'ed is not recorded",
    "cputime": "what a task had used before the recording began is not recorded",
    "kernel_stack": "only a call stack at the switch-out tells it",
    "prio": "only a switch of the task shows its priority, and it had none yet",
}


def snapshot_at(built: Built, time: int) -> Snapshot:
    """Return the tasks that exist at `time` (ns of the recording's clock)."""
    prios = _prios(built, time)
    rows = [row for life in built.lives for row in [_row(built, life, time, prios)] if row is not None]
    rows.sort(key=lambda r: (r.pid, r.generation or 0))
    name = Path(built.trace.path).name or built.trace.path
    return Snapshot(tuple(rows), time, f"{name} at {time / 1e9:.6f}", UNAVAILABLE)


def _prios(built: Built, time: int) -> dict[int, int]:
    """Return the priority of each life number in its last switch until `time`; none where it had none by then."""
    tl = built.timeline
    switches = np.flatnonzero((tl.rows.row >= 0) & (tl.rows.code < WAKE) & (tl.rows.code != State.UNKNOWN)
                              & (tl.rows.ts <= time))
    life = tl.rows.life[switches]
    last = np.ones(len(switches), bool)
    last[:-1] = life[1:] != life[:-1]
    switches, life = switches[last], life[last]
    came = tl.rows.code[switches] == State.RUNNING
    rows = tl.rows.row[switches].astype(np.int64)
    prio = np.where(came, ints(built.trace, "sched_switch", "next_prio", rows),
                    ints(built.trace, "sched_switch", "prev_prio", rows)) if len(rows) else rows
    return {k: p for k, p in zip(life.tolist(), prio.tolist(), strict=True) if p >= 0}


def _row(built: Built, life: Life, time: int, prios: dict[int, int]) -> TaskRow | None:
    if life.born is not None and time < life.born.at:
        return None
    k = built.number[life.ref]
    s = built.spans
    a, b = int(s.bounds[k]), int(s.bounds[k + 1])
    i = a + int(np.searchsorted(s.at[a:b], time, "right")) - 1
    if i < a:
        i = a
    state, cpu = State(int(s.state[i])), int(s.cpu[i])
    if state is State.DEAD and s.at[i] <= time:
        return None
    runtime, prio = _runtime(built, a, b, time), prios.get(k)
    return TaskRow(
        pid=life.pid, generation=life.generation, tgid=life.tgid, ppid=_ppid(life, time), kind=life.kind,
        comm=_comm(life, time), state=STATE_LETTERS[state], cpu=cpu if cpu >= 0 else None, prio=prio,
        nice=prio_to_nice(prio) if prio is not None else None, pgid=None, sid=None, tty=None,
        tpgid=None, uid=None, rss_kib=None, size_kib=None, wchan=None,
        start_time=life.born.at if life.born is not None else None, sum_exec_runtime=runtime,
        cputime=runtime if life.born is not None else None,
        forked=not any(e.at <= time for e in life.execs) if life.born is not None else None)


def _runtime(built: Built, a: int, b: int, time: int) -> int:
    s = built.spans
    running = np.flatnonzero((s.state[a:b] == State.RUNNING) & (s.at[a:b] < time)) + a
    return int((np.minimum(s.end[running], time) - s.at[running]).sum())


def _ppid(life: Life, time: int) -> int | None:
    parent: TaskRef | None = life.parent
    if life.orphaned_at is not None and life.orphaned_at <= time:
        parent = None       # the adopter, if the recording shows one
    for adoption in life.adopted:
        if adoption.at is not None and adoption.at <= time:
            parent = adoption.by
    return parent.pid if parent is not None else None


def _comm(life: Life, time: int) -> str:
    name = life.comms[0].comm
    for c in life.comms:
        if c.at > time:
            break
        name = c.comm
    return name
