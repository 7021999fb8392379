"""Recordings that are text: tracefs ``trace`` and ``trace_pipe``, ``trace-cmd report``, ``perf script``, systrace.

`open_text` reads one into a `Source`.  Text tells less than pages do: no format of the events, mostly no system, no
clock, and microseconds; what it does not tell is None or "unknown", and what could not be read is in ``notes``.
"""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

from taskscope.errors import TraceError
from taskscope.ftrace.text_header import Header
from taskscope.ftrace.text_lines import HORIZON, Text, choose_grammar, has_header, looks_like_text, regions
from taskscope.ftrace.text_scan import scan
from taskscope.ftrace.text_source import TextSource
from taskscope.trace.source import Source

__all__ = ["looks_like_text", "open_text"]

_GRAPH = re.compile(rb"^# tracer: function_graph|^# CPU  (?:TASK/PID +)?DURATION +FUNCTION CALLS", re.MULTILINE)
_EXPECTED = ("expected the text of tracefs' trace file, of `trace-cmd report`, of `perf script` or of systrace; give "
             "one of these, or a trace.dat")


def _content(path: str) -> Text:
    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return file.read()
    except OSError as e:
        from taskscope.ftrace.blob import os_error

        raise os_error(e, path) from e


def open_text(path: str, data: bytes | None = None) -> Source:
    """Read a recording that is text.

    :param path: the file; with `data`, only its name in messages
    :param data: the text, if it is in memory already
    :raises TraceError: no line of it is a record's, or it is the output of function_graph
    :raises PermissionRefusedError: the system refuses to open it
    """
    text: Text = _content(path) if data is None else data
    parts = regions(text)
    grammar = None
    for start, end in parts:
        grammar = choose_grammar(text, start, end)
        if grammar is not None:
            break
    head = text[parts[0][0]:min(parts[0][1], parts[0][0] + (1 << 16))]
    if grammar is None:
        if _GRAPH.search(head):
            raise TraceError("is output of the function_graph tracer, whose lines have neither time stamps nor tasks; "
                             "record it with `trace-cmd record` and give the trace.dat, or its `trace-cmd report`",
                             path, 1, "line")
        number, line = _first_line(head)
        if not has_header(head):
            raise TraceError(f"is no recording: {line or 'an empty line'} is not a line of one, nor is any after it in "
                             f"the first {HORIZON >> 20} MiB; {_EXPECTED}", path, number, "line")
        if line:
            raise TraceError(f"has the head of a recording, but no line after it is a record's; the first is {line}. "
                             "The option context-info must be on (trace_options), and the tracer one that prints a "
                             "task and a time on each line", path, number, "line")
        # A recording without records.
        grammar = choose_grammar(b"<idle>-0 [000] ..... 0.000000: x: \n", 0, 34)
        assert grammar is not None, "this line is a record"
    return TextSource(path, scan(text, grammar, parts))


def _first_line(head: bytes) -> tuple[int, str]:
    """Return the number and the beginning of the first line that is no comment and not empty, "" if there is none."""
    header = Header()
    for number, line in enumerate(head.split(b"\n"), 1):
        if line.startswith(b"#") or header.other(line, 0):
            continue
        shown = line[:40].decode("utf-8", "backslashreplace")
        return number, "'{}'".format("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown))
    return 1, ""
