"""The rhythm of a life: a bar of what the task did over time, its totals, and what its wakeups have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from taskscope.lives.life import Span, State, TaskRef
from taskscope.views.text import Paint

#: how each state is drawn and called; a cell with any running in it is drawn as running
MARKS: dict[State, tuple[str, str]] = {
    State.RUNNING: ("▌", "running"),
    State.RUNNABLE: ("w", "waiting for a cpu"),
    State.SLEEPING: ("·", "sleeping (S)"),
    State.BLOCKED: ("D", "blocked (D)"),
    State.STOPPED: ("T", "stopped (T)"),
    State.TRACED: ("t", "traced (t)"),
    State.PARKED: ("P", "parked (P)"),
    State.IDLE: ("i", "idle (I)"),
    State.ZOMBIE: ("z", "zombie (Z)"),
    State.UNKNOWN: ("?", "unknown"),
}
STYLES = {
    State.RUNNING: "running",
    State.RUNNABLE: "runnable",
    State.SLEEPING: "sleeping",
    State.BLOCKED: "blocked",
    State.STOPPED: "stopped",
    State.TRACED: "traced",
    State.PARKED: "sleeping",
    State.IDLE: "sleeping",
    State.ZOMBIE: "zombie",
    State.UNKNOWN: "lost",
}
FULL = "█"


def bar(spans: Sequence[Span], start: int, end: int, cells: int, paint: Paint, killed: bool = False) -> str:
    """Draw spans as one line: ``█`` ran for most of the cell, ``▌`` ran in it, else the state that took most of it.

    :param start: ns, the left edge; `end` the right one
    :param killed: end the bar in ``×``
    """
    if killed:
        cells -= 1
    if cells <= 0 or end <= start:
        return "×" if killed else ""
    length = end - start
    shares: list[dict[State, int]] = [{} for _ in range(cells)]
    for span in spans:
        low, high = max(span.at, start), min(span.end, end)
        if high < low or span.state not in MARKS:
            continue
        first = (low - start) * cells // length
        last = min((max(high - 1, low) - start) * cells // length, cells - 1)
        for cell in range(min(first, cells - 1), last + 1):
            left, right = start + cell * length // cells, start + (cell + 1) * length // cells
            share = shares[cell]
            # A span of no length (one time stamp) still marks its cell.
            share[span.state] = share.get(span.state, 0) + max(min(high, right) - max(low, left), 1)
    drawn: list[tuple[str, str | None]] = []
    for share in shares:
        if not share:
            drawn.append((" ", None))
            continue
        ran = share.get(State.RUNNING, 0)
        if ran:
            drawn.append((FULL if 2 * ran >= length // cells else MARKS[State.RUNNING][0], "running"))
        else:
            most = max(share, key=lambda s: (share[s], s))
            drawn.append((MARKS[most][0], STYLES[most]))
    return _painted(drawn, paint) + (paint("×", "kill") if killed else "")


def _painted(drawn: list[tuple[str, str | None]], paint: Paint) -> str:
    if not paint.on:
        return "".join(mark for mark, _ in drawn)
    out, k = [], 0
    while k < len(drawn):
        style, run = drawn[k][1], ""
        while k < len(drawn) and drawn[k][1] == style:
            run += drawn[k][0]
            k += 1
        out.append(paint(run, style))
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Total:
    """How long and how often a task was in one state."""

    state: State
    time: int  # ns
    times: int


def totals(spans: Sequence[Span]) -> list[Total]:
    """Sum spans by state, in the order of `State`; states that do not occur are left out."""
    time: Counter[State] = Counter()
    times: Counter[State] = Counter()
    for span in spans:
        time[span.state] += span.dur
        times[span.state] += 1
    return [Total(s, time[s], times[s]) for s in State if s in MARKS and times[s]]


def period(wakeups: Sequence[int], least: int = 3, within: float = 0.1) -> int | None:
    """Return the period of wakeups in ns if they are regular, else None.

    Regular means at least `least` intervals, every one within `within` of their median.
    """
    gaps = [b - a for a, b in pairwise(wakeups)]
    if len(gaps) < least:
        return None
    median = sorted(gaps)[len(gaps) // 2]
    if median <= 0 or any(abs(gap - median) > within * median for gap in gaps):
        return None
    return median


@dataclass(frozen=True, slots=True)
class Waker:
    """One waker of a task, and when it woke it (ns); ``ref`` None: an interrupt (``irq``), or not recorded."""

    ref: TaskRef | None
    irq: bool
    at: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wakers:
    """Who woke a task, most frequent first, and how long it then waited for a cpu (ns, sorted)."""

    by: tuple[Waker, ...]
    latencies: tuple[int, ...]


def wakers(spans: Sequence[Span]) -> Wakers:
    """Collect who woke the task and how long it then waited for a cpu."""
    by: dict[tuple[TaskRef | None, bool], list[int]] = {}
    latencies: list[int] = []
    for k, span in enumerate(spans):
        if span.state is not State.RUNNABLE or span.woken_at is None:
            continue
        by.setdefault((span.waker, span.irq_waker), []).append(span.woken_at)
        if k + 1 < len(spans) and spans[k + 1].state is State.RUNNING:
            latencies.append(span.dur)
    found = [Waker(ref, irq, tuple(at)) for (ref, irq), at in by.items()]
    return Wakers(tuple(sorted(found, key=lambda w: -len(w.at))), tuple(sorted(latencies)))
