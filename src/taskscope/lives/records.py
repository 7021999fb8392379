"""The rare records of a recording (births, execs, signals, deaths …) as plain tuples, in order of time.

Switches, wakeups and system calls are too many for this; they stay columns, see `timeline`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from taskscope.trace.source import Rows
from taskscope.trace.trace import Trace

#: fields that are text; all others asked for are numbers or arrays of numbers
_TEXTS = frozenset({"comm", "parent_comm", "child_comm", "oldcomm", "newcomm", "filename"})

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

    Fields that are numbers in the kernel are numbers here, or None where damage left something else; an event without
    the pid that it is about (``pid``, ``child_pid``) is left out.

    :param rows: only these rows (all of the type); else all, see `chosen_rows`
    """
    rows = chosen_rows(trace, event) if rows is None else rows
    if not len(rows):
        return []
    rows = rows[np.argsort(trace.ts(rows), kind="stable")]
    irq = (trace.source.flags(rows) & IRQ_FLAGS) != 0
    columns = [_values(trace, event, name, rows) for name in fields]
    needed = [columns[k] for k, name in enumerate(fields) if name in ("pid", "child_pid")]
    values = zip(*columns, strict=True) if columns else iter([()] * len(rows))
    whole = [all(isinstance(v, int) for v in vs) for vs in zip(*needed, strict=True)] if needed else [True] * len(rows)
    return [Rec(ts, row, cpu, pid, i, dict(zip(fields, v, strict=True)))
            for ts, row, cpu, pid, i, v, ok in zip(
                trace.ts(rows).tolist(), rows.tolist(), trace.cpu(rows).tolist(), trace.source.pids(rows).tolist(),
                irq.tolist(), values, whole, strict=True) if ok]


def _values(trace: Trace, event: str, name: str, rows: Rows) -> list[Any]:
    """Return one field of records as Python values of the kind that its name asks for."""
    type_ = trace.type(event)
    field = type_.field(name) if type_ is not None else None
    if field is None:
        return [None] * len(rows)
    column = trace.column(event, name, rows)
    text = name in _TEXTS
    if field.shape == "array":
        return [None] * len(rows) if text else list(column)
    if field.shape == "string":
        shown = [bytes(x).decode("utf-8", "backslashreplace") for x in column.tolist()]
        return shown if text else [_number(x) for x in shown]
    return [None] * len(rows) if text else column.tolist()


def _number(text: str) -> int | None:
    """Read a decimal number of a damaged text column; None if it is none."""
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else None


def ints(trace: Trace, event: str, field: str, rows: Rows) -> npt.NDArray[Any]:
    """Gather a field that is a number in the kernel; -1 where a damaged text has something else, or no such field."""
    type_ = trace.type(event)
    if type_ is None or type_.field(field) is None:
        return np.full(len(rows), -1, np.int64)
    column = trace.column(event, field, rows)
    if column.dtype.kind in "iu":
        return column
    return np.array([-1 if n is None else n for n in (
        _number(bytes(x).decode("ascii", "replace")) if isinstance(x, bytes) else None for x in column.tolist())],
        np.int64)
