"""A recording, read: the records in time order, and the table of any event when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from taskscope.errors import NoSuchEventError
from taskscope.trace.comms import Comms
from taskscope.trace.source import Clock, Column, EventType, Gap, Kernel, Rows, Source
from taskscope.trace.stacks import Stacks

if TYPE_CHECKING:
    import polars as pl


class Trace:
    """A recording of a kernel.

    >>> import taskscope
    >>> t = taskscope.open("tests/data/d05-zombie.dat")
    >>> t.clock.name, t.cpus, len(t.lost)
    ('local', (0, 1), 0)
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def path(self) -> str:
        """The file or folder that was opened."""
        return self.source.path

    @property
    def clock(self) -> Clock:
        """The clock of all time stamps."""
        return self.source.clock

    @property
    def cpus(self) -> tuple[int, ...]:
        """The numbers of the cpus that were recorded."""
        return self.source.cpus

    @property
    def kernel(self) -> Kernel:
        """The kernel that was recorded, as far as the recording says."""
        return self.source.kernel

    @property
    def lost(self) -> tuple[Gap, ...]:
        """The places where events were lost, in order of time."""
        return self.source.gaps

    @property
    def lost_count(self) -> int | None:
        """How many events were lost; None if a gap does not say how many."""
        counts = [g.count for g in self.lost]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, one sentence each; empty for a whole recording."""
        return self.source.notes

    @cached_property
    def start(self) -> int:
        """Time of the first record (0 in an empty recording)."""
        return int(self.source.index.ts.min()) if len(self) else 0

    @cached_property
    def end(self) -> int:
        """Time of the last record (0 in an empty recording)."""
        return int(self.source.index.ts.max()) if len(self) else 0

    def __len__(self) -> int:
        return len(self.source.index)

    @property
    def types(self) -> tuple[EventType, ...]:
        """Every event type that the recording declares, whether or not it has records of it."""
        return self.source.types

    @cached_property
    def _by_name(self) -> dict[str, EventType]:
        names: dict[str, EventType] = {}
        for t in self.source.types:
            names.setdefault(t.name, t)
            names[f"{t.system}:{t.name}"] = t
        return names

    def type(self, name: str) -> EventType | None:
        """Return the event type ``name`` or ``system:name``, None if the recording does not declare it."""
        return self._by_name.get(name)

    @cached_property
    def _count(self) -> npt.NDArray[np.int64]:
        """Records per type index."""
        column, n = self.source.index.type, len(self.source.types)
        count = np.zeros(n, np.int64)
        # In parts: bincount makes a column of 8-byte numbers first.
        for k in range(0, len(column), 1 << 18):
            count += np.bincount(column[k:k + (1 << 18)], minlength=n)[:n]
        return count

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many records each event type has (types without records left out), by ``system:name``."""
        return {f"{t.system}:{t.name}": int(self._count[t.index]) for t in self.source.types if self._count[t.index]}

    @cached_property
    def _rare(self) -> dict[int, Rows]:
        """Rows of every type that has few records, found in one pass over the index."""
        few = (self._count > 0) & (self._count < max(len(self) // 64, 1024))
        rows = np.flatnonzero(np.append(few, np.zeros(max(65536 - len(few), 0), bool)).take(self.source.index.type))
        types = self.source.index.type[rows]
        order = np.argsort(types, kind="stable")
        rows, types = rows[order], types[order]
        return {int(t): rows[np.searchsorted(types, t, "left"):np.searchsorted(types, t, "right")]
                for t in np.unique(types)}

    def rows(self, *names: str) -> Rows:
        """Return the rows of the named event types in storage order; a type not declared has none."""
        wanted = sorted({t.index for t in map(self.type, names) if t is not None and self._count[t.index]})
        rare = [self._rare[w] for w in wanted if w in self._rare]
        common = [w for w in wanted if w not in self._rare]
        if common:
            mask = self.source.index.type == common[0]
            for w in common[1:]:
                mask |= self.source.index.type == w
            rare.insert(0, np.flatnonzero(mask))
        if len(rare) > 1:
            return np.sort(np.concatenate(rare), kind="stable")
        return rare[0] if rare else np.empty(0, np.int64)

    def column(self, event: str, field: str, rows: Rows) -> Column:
        """Gather one field of rows that are all of the type `event`.

        :raises NoSuchEventError: the recording does not declare the event
        :raises KeyError: the event has no such field
        """
        t = self.type(event)
        if t is None:
            raise self._no_such_event(event)
        return self.source.column(t, field, rows)

    def ts(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the time stamps of rows."""
        return self.source.index.ts[rows]

    def cpu(self, rows: Rows) -> npt.NDArray[np.uint16]:
        """Return the cpus of rows."""
        return self.source.index.cpu[rows]

    @cached_property
    def order(self) -> Rows:
        """All rows in order of time; equal stamps by cpu, and within a cpu as the kernel wrote them."""
        # A stable sort that merges runs: each cpu's rows are in order already.
        return np.argsort(self.source.index.ts, kind="stable").astype(np.int64, copy=False)

    @cached_property
    def stacks(self) -> Stacks:
        """The kernel call stacks, each attached to the record it belongs to."""
        return Stacks(self.source)

    def events(self, name: str) -> pl.DataFrame:
        """Return the table of one event type, in order of time.

        Columns: ``ts`` (ns), ``cpu``, ``pid`` and ``comm`` of the task that was current, ``flags`` (as in the fourth
        column of tracefs' ``trace``), then the event's fields; a field whose name is taken bears the prefix
        ``fields.``, as in ``report --json``.

        :param name: event name, or ``system:name``
        :raises NoSuchEventError: the recording does not declare the event
        """
        from taskscope.trace.frames import event_frame

        t = self.type(name)
        if t is None:
            raise self._no_such_event(name)
        return event_frame(self, t)

    def _no_such_event(self, name: str) -> NoSuchEventError:
        import difflib

        near = difflib.get_close_matches(name, self._by_name, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return NoSuchEventError(f"{self.path} declares no event {name!r}{hint}")

    @cached_property
    def comms(self) -> Comms:
        """The names of tasks over time."""
        return Comms(self)

    def comms_at(self, rows: Rows) -> Sequence[bytes]:
        """Return the comm that the current task of each row bore at that time, ``<...>`` where nothing shows it."""
        return self.comms.at(self.source.pids(rows), self.ts(rows))

    def report(self, rows: Rows | None = None, *, then: bool = False, block: int = 65536) -> Iterator[bytes]:
        """Yield the kernel's text of the rows (all, in order of time, by default) in blocks of lines.

        :param then: show the comm that the task bore at that time, not the last one known of its pid
        :param block: rows per block
        """
        wanted = self.order if rows is None else rows
        for k in range(0, len(wanted), block):
            part = wanted[k:k + block]
            yield self.source.report(part, comms=self.comms_at(part) if then else None)

    def __repr__(self) -> str:
        lost = self.lost_count
        loss = f", {'unknown number of' if lost is None else lost} events lost" if self.lost else ""
        seconds = (self.end - self.start) / 1e9
        return f"<Trace {self.path}: {len(self)} events, {len(self.cpus)} cpus, {seconds:.3f} s{loss}>"

    def _repr_html_(self) -> str:
        from taskscope.trace.frames import trace_html

        return trace_html(self)
