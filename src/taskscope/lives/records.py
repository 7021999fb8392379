"""The rare records of a recording (births, execs, signals, deaths …) as plain tuples, in order of time.

Switches, wakeups and system calls are too many for this; they stay columns, see `timeline`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from taskscope.trace.source import Rows
from taskscope.trace.trace import Trace

#: common_flags that say the record was written in an interrupt, of which the current task knows nothing
IRQ_FLAGS = 0x08 | 0x10 | 0x40      # hardirq, softirq, NMI


class Rec(NamedTuple):
    """One record: its header and, by name, the fields asked for."""

    ts: int
    row: int
    cpu: int
    pid: int                # the task that was current
    irq: bool               # written in interrupt context
    f: dict[str, Any]

    @property
    def key(self) -> tuple[int, int]:
        """Place in the order of all records."""
        return self.ts, self.row


def chosen_rows(trace: Trace, *names: str) -> Rows:
    """Return the rows of events, from one ring buffer each.

    An event that several instances recorded must count once: the buffer that has most of it is taken.
    """
    if len(trace.source.buffers) < 2:
        return trace.rows(*names)
    parts = []
    for name in names:
        rows = trace.rows(name)
        if len(rows):
            buffers = trace.source.index.buffer[rows]
            rows = rows[buffers == np.argmax(np.bincount(buffers))]
        parts.append(rows)
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def records(trace: Trace, event: str, *fields: str, rows: Rows | None = None) -> list[Rec]:
    """Return the records of one event type in order of time; a field that it lacks is None.

    :param rows: only these rows (all of the type); else all, see `chosen_rows`
    """
    rows = chosen_rows(trace, event) if rows is None else rows
    if not len(rows):
        return []
    type_ = trace.type(event)
    assert type_ is not None, "an event with rows is declared"
    rows = rows[np.argsort(trace.ts(rows), kind="stable")]
    irq = (trace.source.flags(rows) & IRQ_FLAGS) != 0
    columns: list[list[Any]] = []
    for name in fields:
        field = type_.field(name)
        if field is None:
            columns.append([None] * len(rows))
        elif field.shape == "string":
            columns.append([bytes(x).decode("utf-8", "backslashreplace")
                            for x in trace.column(event, name, rows).tolist()])
        else:
            columns.append(trace.column(event, name, rows).tolist())
    values = zip(*columns, strict=True) if columns else iter([()] * len(rows))
    return [Rec(ts, row, cpu, pid, i, dict(zip(fields, v, strict=True)))
            for ts, row, cpu, pid, i, v in zip(trace.ts(rows).tolist(), rows.tolist(), trace.cpu(rows).tolist(),
                                               trace.source.pids(rows).tolist(), irq.tolist(), values, strict=True)]


def first_field(trace: Trace, event: str, *names: str) -> str | None:
    """Return the first of the names that the event declares as a field (fields were renamed between kernels)."""
    type_ = trace.type(event)
    if type_ is None:
        return None
    return next((n for n in names if type_.field(n) is not None), None)
