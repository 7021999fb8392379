"""Tracing as a whole: its instances, their buffers and options (kernel/trace/trace.c, v4.19).

`trace_init` gives a booting machine its top-level instance; nothing is made before it is used, so that a machine that nobody watches
pays for none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.kernel.trace import ring_buffer, trace_events

if TYPE_CHECKING:
    from taskscope.model.include.linux.trace_events import TraceEventFile
    from taskscope.model.machine import Machine

#: bytes per CPU (TRACE_BUF_SIZE_DEFAULT)
TRACE_BUF_SIZE_DEFAULT: Final = 1441792


class TraceArray:
    """struct trace_array: an instance of tracing; the top-level one has no name."""

    __slots__ = ("buffers", "clock", "events", "filtered_pids", "name", "tracing_on")

    def __init__(self, cur: Machine, name: str) -> None:
        self.name = name
        self.tracing_on = True
        self.clock = "local"
        self.filtered_pids: set[int] | None = None      # set_event_pid
        room = ring_buffer.PAGE_SIZE - 8 - cur.flavour.long_size
        pages = -(-TRACE_BUF_SIZE_DEFAULT // room)
        self.buffers = [ring_buffer.RingBufferPerCpu(n, cur.flavour.long_size, pages) for n in range(len(cur.cpus))]
        self.events: dict[tuple[str, str], TraceEventFile] = {}


def trace_init() -> None:
    """Set tracing up; called by start_kernel()."""
    cur = machine.cur
    cur.savedcmd = {0: b"<idle>".ljust(16, b"\0")}
    cur.trace_events = trace_events.event_calls(cur)
    cur.ftrace_trace_arrays = [TraceArray(cur, "")]
    tr = cur.ftrace_trace_arrays[0]
    tr.events = trace_events.trace_event_files(cur, tr)


def trace_clock_of(cur: Machine, tr: TraceArray) -> int:
    """Return the time of the instance's clock."""
    del tr
    return cur.now


def ftrace_trace_stack(cur: Machine, tr: TraceArray) -> None:
    """Write the call stack of the running task behind the record just written."""
    del cur, tr
