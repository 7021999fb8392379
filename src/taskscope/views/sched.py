"""``taskscope sched``: where each task's time went, and how long it waited for a cpu after it was woken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taskscope.lives.life import Life, Span, State
from taskscope.lives.lives import Lives
from taskscope.views.json import dumps
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Cell, Paint
from taskscope.views.times import Times
from taskscope.views.who import comm_at, pid_text, who


@dataclass(frozen=True, slots=True)
class Latency:
    """How long wakeups of one task took until it ran, in ns; None where it was never seen woken."""

    count: int
    mean: int | None
    p99: int | None
    worst: int | None


@dataclass(frozen=True, slots=True)
class Wakeup:
    """One wakeup and how long it took until the task ran."""

    life: Life
    at: int  # ns, the wakeup
    latency: int  # ns
    span: Span | None  # the time in which it waited


class SchedStats:
    """Wakeup latencies of the lives of a recording.

    :param after: count wakeups from that time (ns) on only
    :param before: … and up to that time
    """

    def __init__(self, lives: Lives, after: int | None = None, before: int | None = None) -> None:
        self.lives = lives
        self._lives: Sequence[Life] = list(lives)
        which, at, ns = lives.latencies()
        keep = np.ones(len(at), np.bool_)
        if after is not None:
            keep &= at >= after
        if before is not None:
            keep &= at <= before
        which, at, ns = which[keep], at[keep], ns[keep]
        order = np.lexsort((ns, which))
        self._which: npt.NDArray[np.int64] = which[order]
        self._at: npt.NDArray[np.int64] = at[order]
        self._ns: npt.NDArray[np.int64] = ns[order]
        self._bounds = np.searchsorted(self._which, np.arange(len(self._lives) + 1))
        self._number = {life.ref: k for k, life in enumerate(self._lives)}

    def latency(self, life: Life) -> Latency:
        """Return the latencies of one life; p99 is the smallest latency that 99 % of the wakeups do not exceed."""
        k = self._number[life.ref]
        sorted_ns = self._ns[self._bounds[k] : self._bounds[k + 1]]
        n = len(sorted_ns)
        if not n:
            return Latency(0, None, None, None)
        p99 = int(sorted_ns[-(-99 * n // 100) - 1])
        return Latency(n, int(sorted_ns.sum()) // n, p99, int(sorted_ns[-1]))

    def worst(self, chosen: Sequence[Life], count: int) -> list[Wakeup]:
        """Return the wakeups of some lives that took longest, longest first."""
        numbers = np.array(sorted(self._number[life.ref] for life in chosen), np.int64)
        mine = np.flatnonzero(np.isin(self._which, numbers))
        if not len(mine) or count <= 0:
            return []
        take = mine[np.lexsort((self._at[mine], -self._ns[mine]))][:count]
        found = []
        for k in take.tolist():
            life, at = self._lives[int(self._which[k])], int(self._at[k])
            found.append(Wakeup(life, at, int(self._ns[k]), self._waiting(life, at)))
        return found

    def _waiting(self, life: Life, at: int) -> Span | None:
        return next((s for s in self.lives.spans(life.ref) if s.state is State.RUNNABLE and s.at == at), None)


_COLUMNS = (
    Column("PID", least=5),
    Column("RUN", least=6),
    Column("WAIT", least=6),
    Column("SLEEP", least=6),
    Column("BLOCK", least=6),
    Column("P99", least=6),
    Column("MAX", least=6),
    Column("VOL", least=4),
    Column("INV", least=4),
    Column("MIG"),
)
_MORE = (Column("WAKE", least=4), Column("AVG", least=6))
_COMM = Column("COMM", "<")

_WORST = (
    Column("LATENCY", least=7),
    Column("TIME", least=10),
    Column("CPU"),
    Column("PID", least=5),
    Column("COMM", "<", 4),
    Column("WAKER", "<"),
)

#: by what the table can be sorted: name -> the life's state time or its latency
ORDERS = ("run", "wait", "sleep", "block", "max", "pid")


def sched_table(
    stats: SchedStats,
    chosen: Sequence[Life],
    *,
    paint: Paint | None = None,
    wide: bool = False,
    header: bool = True,
) -> Iterator[str]:
    """Yield one line a task: times, wakeup latencies, switches away from it, migrations.

    :param wide: also how many wakeups there were and their average latency
    """
    times = Times(stats.lives.trace.clock, stats.lives.trace.start)
    columns = (*_COLUMNS, *(_MORE if wide else ()), _COMM)
    return table(columns, (_row(life, stats.latency(life), times, wide) for life in chosen), paint, header)


def order_by(stats: SchedStats, chosen: Sequence[Life], key: str) -> list[Life]:
    """Sort lives for the table: most first, by pid ascending."""
    state = {"run": "running", "wait": "runnable", "sleep": "sleeping", "block": "blocked"}.get(key)
    if state is not None:
        return sorted(chosen, key=lambda x: (-x.time[state], x.pid, x.generation))
    if key == "max":
        return sorted(chosen, key=lambda x: (-(stats.latency(x).worst or 0), x.pid, x.generation))
    return sorted(chosen, key=lambda x: (x.pid, x.generation))


def _row(life: Life, latency: Latency, times: Times, wide: bool) -> Row:
    time = life.time
    return [
        pid_text(life.ref),
        Cell(times.short(time["running"]), "running"),
        times.short(time["runnable"]),
        times.short(time["sleeping"] + time["idle"]),
        Cell(times.short(time["blocked"]), "blocked" if time["blocked"] else None),
        times.short(latency.p99),
        times.short(latency.worst),
        str(life.switches.voluntary),
        str(life.switches.involuntary),
        str(life.migrations),
        *((str(latency.count), times.short(latency.mean)) if wide else ()),
        comm_at(life),
    ]


def worst_table(
    stats: SchedStats, wakeups: Sequence[Wakeup], *, paint: Paint | None = None, header: bool = True
) -> Iterator[str]:
    """Yield the worst latencies: how long, when woken, on which cpu it then ran, who woke it."""
    lives = stats.lives
    times = Times(lives.trace.clock, lives.trace.start)
    rows: list[Row] = []
    for w in wakeups:
        cpu = None if w.span is None else _ran_on(lives, w)
        rows.append(
            [
                Cell(times.short(w.latency), "wake"),
                times.stamp(w.at),
                "-" if cpu is None else str(cpu),
                pid_text(w.life.ref),
                comm_at(w.life, w.at),
                waker_text(lives, w),
            ]
        )
    return table(_WORST, rows, paint, header)


def _ran_on(lives: Lives, wakeup: Wakeup) -> int | None:
    end = wakeup.at + wakeup.latency
    ran = next((s for s in lives.spans(wakeup.life.ref) if s.state is State.RUNNING and s.at == end), None)
    return None if ran is None else ran.cpu


def waker_text(lives: Lives, wakeup: Wakeup) -> str:
    """Name the waker: a task, ``(interrupt)``, or ``-`` where it was not recorded."""
    span = wakeup.span
    if span is None or (span.waker is None and not span.irq_waker):
        return "-"
    return "(interrupt)" if span.irq_waker else who(lives, span.waker, wakeup.at)


def sched_json(stats: SchedStats, chosen: Sequence[Life]) -> Iterator[bytes]:
    """Yield one JSON object a task: its times, latencies (ns), switches, migrations."""
    for life in chosen:
        latency = stats.latency(life)
        yield (
            dumps(
                {
                    **life.ref._asdict(),
                    "comm": life.comm,
                    "kind": life.kind,
                    "time": life.time,
                    "latency": {"count": latency.count, "mean": latency.mean, "p99": latency.p99, "max": latency.worst},
                    "switches": {"voluntary": life.switches.voluntary, "involuntary": life.switches.involuntary},
                    "migrations": life.migrations,
                    "gaps": life.gaps,
                }
            )
            + "\n"
        ).encode()
