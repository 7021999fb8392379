"""Lives and spans as Polars tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskscope.lives.life import Life, State, TaskRef

if TYPE_CHECKING:
    import polars as pl

    from taskscope.lives.build import Built


def lives_frame(lives: list[Life]) -> pl.DataFrame:
    """See `taskscope.lives.lives.Lives.frame`."""
    import polars as pl

    rows = []
    for x in lives:
        row: dict[str, object] = {
            "pid": x.pid, "generation": x.generation, "tgid": x.tgid, "kind": x.kind, "comm": x.comm,
            "parent_pid": x.parent.pid if x.parent else None,
            "parent_generation": x.parent.generation if x.parent else None,
            "born_at": x.born.at if x.born else None, "born_how": x.born.how if x.born else None,
            "clone_flags": x.born.clone_flags if x.born else None,
            "execs": len(x.execs), "signals": len(x.signals),
            "exit_at": x.exit.at if x.exit else None, "exit_code": x.exit.code if x.exit else None,
            "exit_signal": x.exit.signal if x.exit else None, "exit_cause": x.exit.cause if x.exit else None,
            "killer_pid": x.exit.killer.pid if x.exit and x.exit.killer else None,
            "reaped_at": x.reaped.at if x.reaped else None, "freed_at": x.freed.at if x.freed else None,
            "switches_voluntary": x.switches.voluntary, "switches_involuntary": x.switches.involuntary,
            "wakeups": x.wakeups, "migrations": x.migrations, "gaps": x.gaps,
        }
        row.update({f"time_{name}": ns for name, ns in x.time.items()})
        rows.append(row)
    text = {"kind", "comm", "born_how", "exit_cause"}
    schema = {name: pl.String if name in text else pl.Int64 for name in (rows[0] if rows else ())}
    return pl.DataFrame(rows, schema=schema)


def spans_frame(built: Built, ref: TaskRef | None = None) -> pl.DataFrame:
    """See `taskscope.lives.lives.Lives.spans_frame`."""
    import polars as pl

    s, tl = built.spans, built.timeline
    if ref is None:
        which = np.arange(len(s.life), dtype=np.int64)
    else:
        k = built.number[TaskRef(*ref)]
        which = np.arange(s.bounds[k], s.bounds[k + 1], dtype=np.int64)
    which = which[(s.state[which] != State.DEAD) & ((s.end[which] > s.at[which]) | (s.wake_row[which] >= 0))]
    life = s.life[which]
    pids = np.array([r.pid for r in tl.ids.refs], np.int64)
    generations = np.array([r.generation for r in tl.ids.refs], np.int64)
    row = s.wake_row[which]
    woken = np.flatnonzero(row >= 0)
    waker = np.full(len(which), -1, np.int64)
    irq = np.zeros(len(which), bool)
    woken_at = np.full(len(which), -1, np.int64)
    waker[woken], irq[woken], woken_at[woken] = tl.wakers(row[woken])
    names = np.array([State(k).name.lower() for k in range(len(State))])

    def nullable(values: npt.NDArray[Any], known: npt.NDArray[Any]) -> pl.Series:
        return pl.select(pl.when(pl.Series(known)).then(pl.Series(values.astype(np.int64)))).to_series()

    cpu = s.cpu[which]
    return pl.DataFrame({
        "pid": pids[life], "generation": generations[life], "ts": s.at[which], "dur": s.end[which] - s.at[which],
        "state": pl.Series(names[s.state[which]].tolist(), dtype=pl.String), "cpu": nullable(cpu, cpu >= 0),
        "waker_pid": nullable(pids[np.maximum(waker, 0)], waker >= 0),
        "waker_generation": nullable(generations[np.maximum(waker, 0)], waker >= 0),
        "woken_at": nullable(woken_at, woken_at >= 0), "irq_waker": pl.Series(irq),
        "preempted": pl.Series(s.preempted[which]),
    })
