"""Tables of a recording for people who work with data frames: one event type as a Polars table."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np

from taskscope.abi.traceflags import flags_text
from taskscope.trace.source import Column, EventType, Field

if TYPE_CHECKING:
    import polars as pl

    from taskscope.trace.trace import Trace

#: columns that every event table has
COMMON = ("ts", "cpu", "pid", "comm", "flags")


def decode(text: bytes) -> str:
    r"""Decode a name of a recording; bytes that are not UTF-8 are shown as ``\xff``."""
    return text.decode("utf-8", "backslashreplace")


def _series(name: str, field: Field, column: Column) -> pl.Series:
    import polars as pl

    if field.shape == "string":
        return pl.Series(name, [decode(bytes(x)) for x in column.tolist()], dtype=pl.String)
    if field.shape == "array":
        dtype: Any = pl.List(pl.Int64 if field.signed else pl.UInt64)
        return pl.Series(name, [[int(v) for v in x] for x in column], dtype=dtype)
    return pl.Series(name, np.ascontiguousarray(column))


def _by_value(values: Column, show: Any) -> list[str]:
    unique, inverse = np.unique(values, return_inverse=True)
    shown = [show(v) for v in unique.tolist()]
    return [shown[i] for i in inverse.reshape(-1).tolist()]


def event_frame(trace: Trace, type: EventType) -> pl.DataFrame:
    """Make the table of one event type, see `Trace.events`."""
    import polars as pl

    rows = trace.rows(f"{type.system}:{type.name}")
    rows = rows[np.argsort(trace.ts(rows), kind="stable")]
    source = trace.source
    data: dict[str, pl.Series] = {
        "ts": pl.Series("ts", trace.ts(rows)),
        "cpu": pl.Series("cpu", trace.cpu(rows)),
        "pid": pl.Series("pid", source.pids(rows)),
        "comm": pl.Series("comm", [decode(c) for c in trace.comms_at(rows)], dtype=pl.String),
        "flags": pl.Series("flags", _by_value(source.flags(rows), lambda v: flags_text(v & 0xFF, v >> 8)),
                           dtype=pl.String),
    }
    for field in type.fields:
        name = f"fields.{field.name}" if field.name in data else field.name
        data[name] = _series(name, field, source.column(type, field.name, rows))
    return pl.DataFrame(data)


def trace_html(trace: Trace) -> str:
    """Show what a recording holds as an HTML table, for notebooks."""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{count:,}</td></tr>"
                   for name, count in sorted(trace.counts.items(), key=lambda x: -x[1])[:20])
    return (f"<div><b>{html.escape(trace.path)}</b>: {html.escape(trace.source.container)}, "
            f"{html.escape(trace.kernel.release or 'kernel unknown')}, {len(trace.cpus)} cpus, "
            f"{(trace.end - trace.start) / 1e9:.3f} s, {len(trace.lost)} gaps"
            f"<table><tr><th>event</th><th>records</th></tr>{rows}</table></div>")
