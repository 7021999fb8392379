"""The data of a timeline page: tasks in their creation tree, slices by CPU and by task, arrows, stories.

Numbers that come by the million are columns of fixed width, compressed; a slice takes at most 12 bytes with all its
levels before that.  `pack` gives all that a page on disk holds; `Pages` gives the outline of a page that asks for the
rest as it needs it, and that rest in pieces.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from taskscope.abi.decode import decode
from taskscope.lives.life import Life, State, TaskRef
from taskscope.lives.lives import Lives
from taskscope.views import chapters
from taskscope.views.entry import NO_BREAK, Teller
from taskscope.views.names import signal_name
from taskscope.views.text import escape
from taskscope.views.timeline.mips import Lanes, levels
from taskscope.views.who import comm_at, end_text, pid_text

if TYPE_CHECKING:
    import polars as pl

#: slices of a level that the outline holds; of a larger one the page asks for pieces of this many
PIECE: Final = 1 << 16
#: wakeups that are given at a time: a page draws no more
_MOST_WAKES: Final = 3000
#: lives whose stories are in the page; of more, those that were longest on a CPU
STORIES: Final = 1500
#: wakeups that are in the page
WAKEUPS: Final = 400_000
_STATES: Final = {state.name.lower(): state.value for state in State}
_UNKNOWN, _DEAD, _NOBODY = State.UNKNOWN.value, State.DEAD.value, 0xFFFFFFFF
#: kinds of arrows
FORK, WAKE, SIGNAL, REAP = range(4)
_SIGCHLD: Final = 17


def pack(lives: Lives, title: str, *, lab: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the data of one recording as JSON-able objects.

    :param title: what stands above the page
    :param lab: of a lab: its question, answer and checks
    """
    return Pages(lives, title, lab=lab).whole()


class Pages:
    """The data of one recording, whole or in pieces.

    :param title: what stands above the page
    :param lab: of a lab: its question, answer and checks
    """

    def __init__(self, lives: Lives, title: str, *, lab: Mapping[str, Any] | None = None) -> None:
        trace = lives.trace
        self._lives, self._start, self._end = lives, trace.start, max(trace.end, trace.start + 1)
        start, end = self._start, self._end
        ordered = _in_tree(list(lives))
        self._tasks = [life for life, _ in ordered]
        index = {life.ref: k for k, life in enumerate(self._tasks)}
        frame = _numbered(lives.spans_frame(), index)
        cpus = sorted(set(trace.cpus))
        self._few, self._woken = _deeds(frame, self._tasks, index, start)
        self._head = {
            "title": title, "lab": lab, "start": start, "length": end - start, "cpus": cpus,
            "kernel": " ".join(["Linux", trace.kernel.release, trace.kernel.machine or ""]).strip()
            if trace.kernel.release else "", "events": len(trace),
            "tasks": [_task(life, depth, index, start) for life, depth in ordered],
            "lost": [[0 if g.start is None else g.start - start, end - start if g.end is None else g.end - start,
                      g.cpu, g.count] for g in trace.lost],
            "irqs": _irqs(lives, cpus, start), "notes": list(lives.notes),
        }
        self.levels = {"task": Column(levels(_task_lanes(frame, self._tasks, start)), "u1"),
                       "cpu": Column(levels(_cpu_lanes(frame, cpus, start, end)), "<u4")}

    def whole(self) -> dict[str, Any]:
        """Return all that a page on disk holds, as JSON-able objects."""
        return self._head | {f"{name}Levels": column.whole() for name, column in self.levels.items()} | {
            "arrows": _arrows(self._few, self._woken), "stories": _stories(self._lives, self._tasks, self._start)}

    def outline(self) -> dict[str, Any]:
        """Return what a page needs at once that may ask for more: no large level, no wakeup, no story."""
        return self._head | {f"{name}Levels": column.outline() for name, column in self.levels.items()} | {
            "arrows": _arrows(self._few, self._woken[:0]), "stories": {}}

    def story(self, task: int) -> list[list[Any]]:
        """Return the story of a task.

        :raises IndexError: there is no such task
        """
        return _story(self._lives, self._tasks[task], self._start)

    def having(self, event: str, seconds: float = 3.0) -> tuple[list[int], bool]:
        """Return the tasks whose stories have an event or a word of that name, and whether all stories were told.

        :param seconds: no longer
        """
        found: list[int] = []
        end = time.monotonic() + seconds
        for task, life in enumerate(self._tasks):
            if time.monotonic() > end:
                return found, False
            if life.kind != "idle" and has(self.story(task), event):
                found.append(task)
        return found, True

    def wakes(self, task: int, after: int, before: int) -> list[list[int]]:
        """Return wakeups by and of a task: when, by whom, whom; the first few thousand between two times."""
        import polars as pl

        mine = self._woken.filter(
            ((pl.col("task") == task) | (pl.col("waker") == task)) & pl.col("woken_at").is_between(after, before)
        ).head(_MOST_WAKES)
        return [list(row) for row in mine.select("woken_at", "waker", "task").rows()]


def has(story: Sequence[Sequence[Any]], event: str) -> bool:
    """Tell whether a story has an event among its evidence, or an entry of that word, in any case."""
    return any(word.lower() == event.lower() or any(evidence == event for _, evidence in lines)
               for _, _, word, lines in story)


class Column:
    """The slices of one kind of lanes, on all levels.

    :param dtype: of what each slice is
    """

    def __init__(self, found: Sequence[Lanes], dtype: str) -> None:
        self.levels = found
        self._dtype = dtype

    def whole(self) -> list[dict[str, Any]]:
        """Return the levels as the page reads them: starts as 32 low and 16 high bits, what each is, and the bounds."""
        return [self._level(level, inside=True) for level in self.levels]

    def outline(self) -> list[dict[str, Any]]:
        """Return the same without what is on large levels."""
        return [self._level(level, inside=len(level.at) <= PIECE) for level in self.levels]

    def _level(self, level: Lanes, *, inside: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"n": len(level.at), "bounds": _blob(level.bounds.astype("<u4"))}
        if inside:
            found |= zip(("lo", "hi", "code"), map(_blob, self._columns(level)), strict=True)
        return found

    def _columns(self, level: Lanes) -> tuple[npt.NDArray[Any], ...]:
        at = np.maximum(level.at, 0)
        return (at & 0xFFFFFFFF).astype("<u4"), (at >> 32).astype("<u2"), level.code.astype(self._dtype)

    def piece(self, level: int, number: int) -> bytes:
        """Return a piece of a level: its starts' low bits, their high bits, what each slice is.

        :raises IndexError: there is no such piece
        """
        lanes = self.levels[level]
        first = number * PIECE
        if level < 0 or not 0 <= first < max(len(lanes.at), 1):
            raise IndexError(number)
        part = Lanes(lanes.at[first : first + PIECE], lanes.code[first : first + PIECE], lanes.bounds)
        return b"".join(column.tobytes() for column in self._columns(part))


def _in_tree(lives: Sequence[Life]) -> list[tuple[Life, int]]:
    """Return lives in the order of their creation tree: threads and children below who made them, with the depth."""
    by_ref = {life.ref: life for life in lives}
    below: dict[TaskRef | None, list[Life]] = {}
    leaders: dict[int | None, list[Life]] = {}
    for life in lives:
        if life.kind != "thread":
            leaders.setdefault(life.pid, []).append(life)
    for life in lives:
        above = life.parent
        if life.kind == "thread":
            leader = next((x for x in leaders.get(life.tgid, ()) if x.first <= life.last), None)
            above = leader.ref if leader is not None else above
        elif life.kind == "kthread" and above is None and life.pid != 2:
            above = TaskRef(2, 0)
        below.setdefault(above if above in by_ref and above != life.ref else None, []).append(life)
    found: list[tuple[Life, int]] = []
    seen: set[TaskRef] = set()
    roots = sorted(below.get(None, []), key=lambda x: (x.kind in ("idle", "kthread"), x.first, x.pid))
    stack = [(life, 0) for life in reversed(roots)]
    while stack:
        life, depth = stack.pop()
        if life.ref in seen:
            continue
        seen.add(life.ref)
        found.append((life, depth))
        stack += [(child, depth + 1) for child in reversed(below.get(life.ref, []))]
    return found + [(life, 0) for life in lives if life.ref not in seen]


def _task(life: Life, depth: int, index: Mapping[TaskRef, int], start: int) -> list[Any]:
    """Return what the page knows of a task: a list, in the order that web/src/data.ts has."""
    first = life.born.at if life.born is not None else life.first
    end = life.reaped.at if life.reaped is not None and life.reaped.at is not None else life.last
    ended = end_text(life) if life.exit is not None or life.freed is not None else ""
    names = {c.comm for c in life.comms} - {life.comm}
    return [
        life.pid, pid_text(life.ref), life.kind or "", escape(comm_at(life)), depth,
        index.get(life.parent, -1) if life.parent is not None else -1,
        first - start, end - first, life.born is not None,
        life.exit is not None or life.freed is not None, ended, life.exit is not None and life.exit.signal is not None,
        [escape(name) for name in sorted(names)],
    ]


def _numbered(frame: pl.DataFrame, index: Mapping[TaskRef, int]) -> pl.DataFrame:
    """Give each span its task's place in the page, and its waker's."""
    import polars as pl

    places = pl.DataFrame({
        "pid": [ref.pid for ref in index], "generation": [ref.generation for ref in index],
        "task": list(index.values())}, schema={"pid": pl.Int64, "generation": pl.Int64, "task": pl.Int64})
    frame = frame.join(places, on=["pid", "generation"], how="inner")
    waker = places.rename({"pid": "waker_pid", "generation": "waker_generation", "task": "waker"})
    return frame.join(waker, on=["waker_pid", "waker_generation"], how="left").with_columns(
        pl.col("state").replace_strict(_STATES, default=_UNKNOWN, return_dtype=pl.UInt8).alias("code")
    ).sort("task", "ts")


def _task_lanes(frame: pl.DataFrame, tasks: Sequence[Life], start: int) -> Lanes:
    """Return a lane a task: its states, then its end."""
    task = frame["task"].to_numpy()
    counts = np.bincount(task, minlength=len(tasks)) if len(task) else np.zeros(len(tasks), np.int64)
    bounds = np.concatenate(([0], np.cumsum(counts + 1)))
    at = np.zeros(bounds[-1], np.int64)
    code = np.full(bounds[-1], _DEAD, np.uint8)
    ends = bounds[1:] - 1
    own = np.ones(len(at), bool)
    own[ends] = False
    at[own] = frame["ts"].to_numpy() - start
    code[own] = frame["code"].to_numpy()
    lasts = np.zeros(len(tasks), np.int64)
    np.maximum.at(lasts, task, (frame["ts"] + frame["dur"]).to_numpy() - start)
    at[ends] = lasts
    return Lanes(at, code, bounds)


def _cpu_lanes(frame: pl.DataFrame, cpus: Sequence[int], start: int, end: int) -> Lanes:
    """Return a lane a CPU: who ran; nobody where that is not known."""
    import polars as pl

    runs = frame.filter((pl.col("code") == State.RUNNING.value) & (pl.col("cpu") >= 0)).sort("cpu", "ts")
    parts_at, parts_code, counts = [], [], []
    for cpu in cpus:
        mine = runs.filter(pl.col("cpu") == cpu)
        begin = mine["ts"].to_numpy() - start
        stop = begin + mine["dur"].to_numpy()
        # Between one who ran and the next there may be a hole.
        at = np.empty(2 * len(begin) + 2, np.int64)
        code = np.full(len(at), _NOBODY, np.uint32)
        at[0], at[1:-1:2], at[2:-1:2], at[-1] = 0, begin, stop, end - start
        code[1:-1:2] = mine["task"].to_numpy()
        keep = np.append(np.diff(at) > 0, True)
        parts_at.append(at[keep])
        parts_code.append(code[keep])
        counts.append(int(keep.sum()))
    bounds = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    return Lanes(np.concatenate(parts_at) if parts_at else np.zeros(0, np.int64),
                 np.concatenate(parts_code) if parts_code else np.zeros(0, np.uint32), bounds)


def _blob(column: npt.NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(column.tobytes(), 6)).decode("ascii")


def _irqs(lives: Lives, cpus: Sequence[int], start: int) -> dict[str, Any]:
    """Return interrupts and softirqs by CPU: when each began, how long it took, what it is called."""
    names: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, bool]] = []
    for entry, leave, label, soft in (("irq_handler_entry", "irq_handler_exit", "name", False),
                                      ("softirq_entry", "softirq_exit", "vec", True)):
        rows += _pairs(lives, entry, leave, label, soft, start, names)
    rows = [row for row in rows if row[0] in cpus]
    rows.sort(key=lambda row: (row[0], row[1]))
    columns = list(zip(*rows, strict=True)) or [()] * 5
    at = np.array(columns[1], np.int64)
    return {
        "n": len(rows), "cpu": _blob(np.array(columns[0], "<u2")), "lo": _blob((at & 0xFFFFFFFF).astype("<u4")),
        "hi": _blob((at >> 32).astype("<u2")), "dur": _blob(np.minimum(np.array(columns[2], np.int64), 0xFFFFFFFF)
                                                            .astype("<u4")),
        "name": _blob(np.array(columns[3], "<u2")), "soft": _blob(np.array(columns[4], "u1")),
        "names": list(names),
    }


#: softirq vectors, include/linux/interrupt.h
_VECTORS: Final = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")


def _pairs(
    lives: Lives, entry: str, leave: str, label: str, soft: bool, start: int, names: dict[str, int]
) -> list[tuple[int, int, int, int, bool]]:
    trace = lives.trace
    if trace.type(entry) is None or trace.type(leave) is None:
        return []
    begun, done = trace.events(entry), trace.events(leave)
    ends: dict[int, npt.NDArray[np.int64]] = {}
    for cpu in trace.cpus:
        ends[cpu] = done.filter(done["cpu"] == cpu)["ts"].to_numpy()
    column = f"fields.{label}" if f"fields.{label}" in begun.columns else label
    rows = []
    for ts, cpu, what in zip(begun["ts"].to_list(), begun["cpu"].to_list(), begun[column].to_list(), strict=True):
        after = ends.get(cpu, np.zeros(0, np.int64))
        k = int(np.searchsorted(after, ts))
        if k == len(after):
            continue
        name = (_VECTORS[what] if soft and isinstance(what, int) and what < len(_VECTORS) else escape(str(what)))
        rows.append((cpu, ts - start, int(after[k]) - ts, names.setdefault(name, len(names)), soft))
    return rows


#: what is done to a task that is not by the million: kind, when, by whom, to whom, what hovering shows
_Deed = tuple[int, int, int, int, str]


def _deeds(
    frame: pl.DataFrame, tasks: Sequence[Life], index: Mapping[TaskRef, int], start: int
) -> tuple[list[_Deed], pl.DataFrame]:
    """Return who did something to whom and when: forks, signals, reaps; and the wakeups."""
    import polars as pl

    few: list[_Deed] = []
    for k, life in enumerate(tasks):
        if life.born is not None and life.born.by is not None and life.born.by in index:
            few.append((FORK, life.born.at, index[life.born.by], k, _fork_text(life)))
        few += [(SIGNAL, signal.at, index[signal.sender], k, signal_name(signal.sig))
                for signal in life.signals if signal.sender is not None and signal.sender in index]
        reaped = life.reaped
        if reaped is not None and reaped.at is not None and reaped.by is not None and reaped.by in index:
            few.append((REAP, reaped.at, k, index[reaped.by], "reaped"))
    woken = frame.filter(pl.col("waker").is_not_null() & pl.col("woken_at").is_not_null()).select(
        pl.max_horizontal(pl.col("woken_at") - start, 0).alias("woken_at"), "waker", "task").sort("woken_at")
    return [(kind, max(at - start, 0), by, to, text) for kind, at, by, to, text in few], woken


def _arrows(few: Sequence[_Deed], woken: pl.DataFrame) -> dict[str, Any]:
    """Return what was done, and as many wakeups as a page holds, in columns."""
    left = max(len(woken) - WAKEUPS, 0)
    woken = woken.head(WAKEUPS)
    at = np.concatenate((np.array([row[1] for row in few], np.int64), woken["woken_at"].to_numpy()))
    kind = np.concatenate((np.array([row[0] for row in few], np.uint8), np.full(len(woken), WAKE, np.uint8)))
    by = np.concatenate((np.array([row[2] for row in few], np.int64), woken["waker"].to_numpy()))
    to = np.concatenate((np.array([row[3] for row in few], np.int64), woken["task"].to_numpy()))
    return {
        "n": len(at), "lo": _blob((at & 0xFFFFFFFF).astype("<u4")), "hi": _blob((at >> 32).astype("<u2")),
        "kind": _blob(kind), "by": _blob(by.astype("<u4")), "to": _blob(to.astype("<u4")),
        "texts": [row[4] for row in few], "left": left,
    }


def _fork_text(life: Life) -> str:
    assert life.born is not None
    parts = [f"creates {escape(comm_at(life))} {pid_text(life.ref)}"]
    if life.born.clone_flags is not None:
        parts.append(decode("clone", [hex(life.born.clone_flags)])[0].text)
    if life.born.stack:
        parts.append(" ← ".join(escape(entry.partition("+")[0]) for entry in life.born.stack[:8]))
    return "\n".join(parts)


def _stories(lives: Lives, tasks: Sequence[Life], start: int) -> dict[str, list[list[Any]]]:
    """Return the stories by place of the task: of each entry the time, CPU, word, and its lines with their evidence."""
    chosen = range(len(tasks))
    if len(tasks) > STORIES:
        busy = sorted(chosen, key=lambda k: (tasks[k].exit is None, -tasks[k].time["running"]))
        chosen = sorted(busy[:STORIES])  # type: ignore[assignment]
    found: dict[str, list[list[Any]]] = {}
    for k in chosen:
        if tasks[k].kind == "idle":
            continue
        found[str(k)] = _story(lives, tasks[k], start)
    return found


def _story(lives: Lives, task: Life, start: int) -> list[list[Any]]:
    """Return the entries of a story: time, CPU, word, and its lines with their evidence."""
    entries = chapters.tell(Teller(task, lives), bar_cells=32)
    return [[None if e.at is None else e.at - start, e.cpu, e.word,
             [[text.replace(NO_BREAK, " "), evidence] for text, evidence in e.lines]] for e in entries]
