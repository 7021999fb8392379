"""The event printk:console: include/trace/events/printk.h, v4.19 (unchanged until v6.18)."""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events


def trace_console(text: bytes) -> None:
    """Trace a line that goes to the consoles."""
    probes = machine.cur.tp.console
    if probes:
        for probe, data in probes:
            probe(data, text)


def trace_event_raw_event_console(file: TraceEventFile, text: bytes) -> None:
    """Write the record of a line, without the newline at its end."""
    trace_events.trace_event_buffer_commit(file, (text.removesuffix(b"\n"),))


EVENTS: Final = (
    Declaration(
        "printk", "console", "__data_loc char[] msg", '"%s", __get_str(msg)', trace_event_raw_event_console, None
    ),
)
