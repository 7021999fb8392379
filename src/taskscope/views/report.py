"""The events themselves: as the kernel's text, or one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from json.encoder import encode_basestring_ascii
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.abi.traceflags import flags_text
from taskscope.trace.frames import decode
from taskscope.trace.source import UNKNOWN_TYPE, Column, Field, Rows, is_stack
from taskscope.trace.trace import Trace

Mask = npt.NDArray[np.bool_]


def report_text(trace: Trace, rows: Rows, *, then: bool = False) -> Iterator[bytes]:
    """Yield the kernel's text of the rows in blocks of lines.

    :param then: show the name that a task bore at the time, not the last one known of its pid
    """
    return trace.report(rows, then=then)


def report_json(trace: Trace, rows: Rows, *, stacks: bool = True, block: int = 20_000) -> Iterator[bytes]:
    """Yield the rows as JSON Lines, in blocks.

    Keys: ts, cpu, comm (of that time), pid, flags (as in the fourth column of the text), event, fields,
    stack.  A stack record is no line of its own: it stands as ``stack`` (innermost first, the tracer's own
    frames folded) in the event that it belongs to.

    :param stacks: give the stacks; without, ``stack`` is null throughout
    """
    rows = _without_owned(trace, rows)
    for k in range(0, len(rows), block):
        yield "".join(_lines(trace, rows[k : k + block], stacks)).encode("ascii")


def _is_stack(trace: Trace, rows: Rows) -> Mask:
    kinds = [t.index for t in trace.types if is_stack(t)]
    return np.isin(trace.source.index.type[rows], np.array(kinds, np.uint16))


def without_stacks(trace: Trace, rows: Rows) -> Rows:
    """Drop all stack records."""
    return rows[~_is_stack(trace, rows)]


def _without_owned(trace: Trace, rows: Rows) -> Rows:
    """Drop the stacks that belong to another of the rows: a stack on its own must not vanish silently."""
    stack = _is_stack(trace, rows)
    if not stack.any():
        return rows
    find = trace.stacks.row
    owned = [found for row in rows[~stack].tolist() if (found := find(row)) is not None]
    return rows[~(stack & np.isin(rows, np.array(owned, np.int64)))]


def with_stacks(trace: Trace, rows: Rows) -> Rows:
    """Add the stacks of the rows, each behind what it belongs to; order of time stays."""
    if not len(trace.stacks):
        return rows
    find = trace.stacks.row
    more = [found for row in rows.tolist() if (found := find(row)) is not None]
    keep = np.zeros(len(trace), np.bool_)
    keep[rows] = True
    keep[np.array(more, np.int64)] = True
    return trace.order[keep[trace.order]]


def _lines(trace: Trace, rows: Rows, with_stack: bool) -> list[str]:
    index, source = trace.source.index, trace.source
    types = index.type[rows]
    bodies: list[str] = [""] * len(rows)
    for number in np.unique(types).tolist():
        here = np.flatnonzero(types == number)
        if number == UNKNOWN_TYPE:
            for k in here.tolist():
                bodies[k] = '"event":null,"fields":{}'
            continue
        t = trace.types[number]
        name = encode_basestring_ascii(t.name)
        columns = [
            (encode_basestring_ascii(f.name), _encoded(f, source.column(t, f.name, rows[here]))) for f in t.fields
        ]
        for i, k in enumerate(here.tolist()):
            fields = ",".join([f"{key}:{values[i]}" for key, values in columns])
            bodies[k] = f'"event":{name},"fields":{{{fields}}}'
    comms: dict[bytes, str] = {}
    flags: dict[int, str] = {}
    lines = []
    stacks = trace.stacks if with_stack else None
    for k, (row, ts, cpu, pid, flag, comm) in enumerate(
        zip(
            rows.tolist(),
            index.ts[rows].tolist(),
            index.cpu[rows].tolist(),
            source.pids(rows).tolist(),
            source.flags(rows).tolist(),
            trace.comms_at(rows),
            strict=True,
        )
    ):
        shown = comms.get(comm)
        if shown is None:
            shown = comms[comm] = encode_basestring_ascii(decode(bytes(comm)))
        letters = flags.get(flag)
        if letters is None:
            letters = flags[flag] = encode_basestring_ascii(flags_text(flag & 0xFF, flag >> 8))
        frames = None if stacks is None else stacks.get(row)
        stack = "null" if frames is None else f"[{','.join(map(encode_basestring_ascii, frames))}]"
        lines.append(
            f'{{"ts":{ts},"cpu":{cpu},"comm":{shown},"pid":{pid},"flags":{letters},{bodies[k]},"stack":{stack}}}\n'
        )
    return lines


def _encoded(field: Field, column: Column) -> list[Any]:
    """Encode a column: integers as they are, text as JSON strings, arrays as lists."""
    if field.shape == "string":
        known: dict[bytes, str] = {}
        out = []
        for value in column.tolist():
            shown = known.get(value)
            if shown is None:
                shown = known[value] = encode_basestring_ascii(decode(bytes(value)))
            out.append(shown)
        return out
    if field.shape == "array":
        return [f"[{','.join([str(int(v)) for v in value])}]" for value in column]
    return list(column.tolist())
