"""Lines that belong together: names and marks may hold newlines, which break a record's line into several.

A body is continued by the lines behind it if only together they are what the event prints; a comm by the lines before
it if together they fill the comm's column, which the kernel pads to a fixed width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.text_lines import Grammar, Text
from taskscope.ftrace.text_templates import Template, templates_of
from taskscope.ftrace.text_types import TextType

#: lines that one comm or one body may be broken into by newlines in names
_PIECES = 16


@dataclass
class Lines:
    """One block of text, split: byte positions are those of the whole text."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    is_event: npt.NDArray[np.bool_]
    events: npt.NDArray[np.int64]        # numbers of the lines that are records
    others: list[tuple[int, bytes]]      # lines that are neither records nor frames, with their text
    frames: npt.NDArray[np.int64]        # numbers of the lines that are frames of a call stack
    number: npt.NDArray[np.int64]        # line numbers in the text, from 1


def join_bodies(data: Text, grammar: Grammar, lines: Lines, rests: list[bytes],
                types: list[TextType]) -> None:
    """Give bodies that newlines broke into lines the rest of them; those lines are no others any more."""
    if not len(lines.events):
        return
    following = np.append(lines.events[1:], len(lines.starts))
    taken: set[int] = set()
    for k in np.flatnonzero(following > lines.events + 1).tolist():
        type_ = types[k]
        first, end = int(lines.events[k]) + 1, int(following[k])
        if type_.system == "ftrace" and type_.name in ("print", "bputs", "bprint"):
            if k + 1 < len(lines.events):
                end = comm_start(data, grammar, lines, k + 1)[0]
            last = _mark_end(data, lines, first, end)
        else:
            last = _body_end(data, lines, first, end, rests[k], templates_of(type_.name))
        if last >= first:
            rests[k] += data[int(lines.ends[first - 1]):int(lines.ends[last])]
            taken.update(range(first, last + 1))
    if taken:
        lines.others = [x for x in lines.others if x[0] not in taken]
        lines.frames = lines.frames[~np.isin(lines.frames, list(taken))]


def _mark_end(data: Text, lines: Lines, first: int, end: int) -> int:
    """Return the last line of a text that was written to trace_marker."""
    last = first - 1
    for i in range(first, end):
        line = data[int(lines.starts[i]):int(lines.ends[i])]
        if not line.strip():
            continue
        if line.startswith((b"# tracer: ", b"#####", b"CPU:")):
            break
        last = i
    return last


def _body_end(data: Text, lines: Lines, first: int, end: int, body: bytes, templates: tuple[Template, ...]) -> int:
    """Return the last line of a body that fits a template only together with lines behind it."""
    if templates and not any(t.whole.match(body) for t in templates):
        for i in range(first, min(end, first + _PIECES)):
            body += data[int(lines.ends[i - 1]):int(lines.ends[i])]
            if any(t.whole.match(body) for t in templates):
                return i
    return first - 1


def comm_start(data: Text, grammar: Grammar, lines: Lines, k: int) -> tuple[int, int]:
    """Return the line at which the comm of record `k` begins, its own or one before it, and the byte where it ends."""
    event = int(lines.events[k])
    if event == 0 or lines.is_event[event - 1] or grammar.style == "perf":
        return event, 0
    start = int(lines.starts[event])
    m = grammar.pattern.match(data[start:int(lines.ends[event])])
    width = m.end("comm") if m is not None else 0
    for i in range(event - 1, max(event - _PIECES, 0) - 1, -1):
        if lines.is_event[i] or start - int(lines.starts[i]) + width > grammar.comm_width:
            break
        if start - int(lines.starts[i]) + width == grammar.comm_width:
            return i, start + width
    return event, start + width


def join_comm(data: Text, grammar: Grammar, lines: Lines, i: int, k: int) -> bytes | None:
    """Return the comm of record `k`, if it begins at line `i` before it; else None."""
    if k >= len(lines.events):
        return None
    first, end = comm_start(data, grammar, lines, k)
    return data[int(lines.starts[i]):end].lstrip(b" ") if first == i else None
