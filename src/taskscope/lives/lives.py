"""The lives of all tasks of a recording: find one, walk them, take the moment between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from taskscope.errors import AmbiguousTaskError, NoSuchTaskError
from taskscope.lives.build import Built, build
from taskscope.lives.life import Life, Span, State, TaskRef
from taskscope.snapshot.snapshot import Snapshot
from taskscope.trace.trace import Trace

if TYPE_CHECKING:
    import polars as pl


class Lives:
    """Every life of a recording, in order of first appearance (birth, or first record), then pid.

    :param trace: the recording
    :param story: what ``print(life)`` shows
    """

    def __init__(self, trace: Trace, story: Callable[[Life], str] | None = None) -> None:
        self.trace = trace
        self.story = story

    @cached_property
    def _built(self) -> Built:
        return build(self.trace, self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the recording lacks for telling lives, one sentence each."""
        return self._built.notes

    def __len__(self) -> int:
        return len(self._built.lives)

    def __iter__(self) -> Iterator[Life]:
        return iter(self._built.lives)

    def __getitem__(self, ref: TaskRef | tuple[int, int]) -> Life:
        """Return the life (pid, generation); KeyError if there is none."""
        return self._built.by_ref[TaskRef(*ref)]

    def find(self, task: str | int | tuple[int, int]) -> list[Life]:
        """Return every life that fits a pid, comm (any it ever bore), ``pid:comm`` or ``pid.generation``."""
        if isinstance(task, tuple):
            life = self._built.by_ref.get(TaskRef(*task))
            return [life] if life is not None else []
        if isinstance(task, int):
            return [x for x in self if x.pid == task]
        if re.fullmatch(r"\d+", task):
            found = [x for x in self if x.pid == int(task)]
            return found or [x for x in self if _bore(x, task)]
        m = re.fullmatch(r"(\d+)\.(\d+)", task)
        if m:
            life = self._built.by_ref.get(TaskRef(int(m[1]), int(m[2])))
            if life is not None:
                return [life]
        m = re.fullmatch(r"(\d+):(.*)", task, re.DOTALL)
        if m:
            found = [x for x in self if x.pid == int(m[1]) and _bore(x, m[2])]
            if found:
                return found
        # The name a task bore last is meant before one that it only inherited.
        named = [x for x in self if x.comm == task]
        return named or [x for x in self if _bore(x, task)]

    def get(self, task: str | int | tuple[int, int]) -> Life:
        """Return the one life that fits; raise NoSuchTaskError or AmbiguousTaskError (candidates listed)."""
        found = self.find(task)
        shown = f"{task[0]}.{task[1]}" if isinstance(task, tuple) else str(task)
        if not found:
            import difflib

            names = sorted({c.comm for x in self for c in x.comms})
            near = difflib.get_close_matches(shown, names, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else "; 'taskscope lives' lists all"
            raise NoSuchTaskError(f"{self.trace.path}: no task {shown!r}{hint}")
        if len(found) > 1:
            lines = tuple(f"{x.pid}.{x.generation} {x.comm}" for x in found)
            first = ", ".join(lines[:8]) + (f" and {len(lines) - 8} more" if len(lines) > 8 else "")
            raise AmbiguousTaskError(f"{self.trace.path}: {shown!r} fits {len(found)} lives: {first}; "
                                     "name one as PID.GENERATION", lines)
        return found[0]

    def named(self, task: str | int | tuple[int, int], most: int = 4) -> list[Life]:
        """Return the life that fits, or the few of one name, in order of their births.

        :param most: how many of one name are a few
        :raises NoSuchTaskError: none fits
        :raises AmbiguousTaskError: more fit
        """
        found = self.find(task)
        return sorted(found, key=lambda x: x.first) if 1 < len(found) <= most else [self.get(task)]

    def choose(self, pids: Sequence[int] = (), kinds: Sequence[str] = (), after: int | None = None,
               before: int | None = None) -> list[Life]:
        """Return the lives that bear one of the pids, are of one of the kinds, and touch the time.

        :param pids: any by default, as with `kinds`
        :param after: ns; lives that the recording shows from then on; `before`: up to then
        :raises NoSuchTaskError: a pid is not in the recording
        """
        missing = set(pids) - {x.pid for x in self}
        if missing:
            raise NoSuchTaskError(f"{self.trace.path}: no task has pid {', '.join(map(str, sorted(missing)))}; "
                                  "'taskscope lives' lists all")
        return [x for x in self if (not pids or x.pid in pids) and (not kinds or x.kind in kinds)
                and (before is None or x.first <= before) and (after is None or x.last >= after)]

    def spans(self, ref: TaskRef) -> tuple[Span, ...]:
        """Return the state intervals of one life, contiguous, in order of time."""
        return self._built.spans_of(ref)

    def spans_frame(self, ref: TaskRef | None = None) -> pl.DataFrame:
        """Return the spans of one life or of all: pid, generation, ts, dur, state, cpu, waker_pid, waker_generation, …

        Times in ns; ``state`` is the name in lower case; nulls where unknown.
        """
        from taskscope.lives.tables import spans_frame

        return spans_frame(self._built, ref)

    def frame(self) -> pl.DataFrame:
        """Return one row a life: scalar columns of the data contract, times as time_running …"""
        from taskscope.lives.tables import lives_frame

        return lives_frame(list(self))

    def latencies(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Return every wakeup latency: (position of the life in this object, time of the wakeup, ns until it ran).

        A wakeup whose task had not run by the end of the recording, or of which a gap hides the end, has none.
        """
        return self._built.latencies()

    def at(self, time: int) -> Snapshot:
        """Return the tasks that exist at `time` (ns of the recording's clock)."""
        from taskscope.lives.moment import snapshot_at

        return snapshot_at(self._built, time)

    def state_at(self, ref: TaskRef, time: int) -> Span | None:
        """Return the span that a life is in at a time, None if it does not exist then."""
        return next((s for s in self.spans(ref) if s.at <= time < s.end and s.state is not State.DEAD), None)

    def _repr_html_(self) -> str:
        import html

        rows = "".join(f"<tr><td>{x.pid}</td><td>{x.generation}</td><td>{x.kind}</td><td>{html.escape(x.comm)}</td>"
                       f"<td>{x.time['running'] / 1e6:.3f}</td></tr>" for x in list(self)[:200])
        return ("<table><tr><th>pid</th><th>generation</th><th>kind</th><th>comm</th><th>running, ms</th></tr>"
                f"{rows}</table>")


def _bore(life: Life, comm: str) -> bool:
    return any(c.comm == comm for c in life.comms)
