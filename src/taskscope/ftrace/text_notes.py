"""What could not be read of a text, in sentences."""

from __future__ import annotations

from taskscope.ftrace.systems import UNKNOWN
from taskscope.ftrace.text_scan import Scan
from taskscope.ftrace.text_types import MAX_TYPES
from taskscope.trace.source import EventType


def notes_of(found: Scan, types: tuple[EventType, ...], unknown_flags: list[bytes]) -> tuple[str, ...]:
    """Return the notes of a text.

    :param types: its event types
    :param unknown_flags: flag columns whose meaning the text does not tell
    """
    notes: list[str] = []
    unread = found.unread
    if unread.lines == 1:
        notes.append(f"1 line was not understood: line {unread.first}")
    elif unread.lines:
        notes.append(f"{unread.lines:,} lines were not understood, the first is line {unread.first}")
    if found.endless is not None:
        notes.append(f"line {found.endless} is longer than 64 MiB: it was not read, nor was anything after it")
    for index, odd in found.odd.items():
        records = "1 record" if odd.lines == 1 else f"{odd.lines:,} records"
        notes.append(f"the fields of {records} of {types[index].name} were not understood, the first is at line "
                     f"{odd.first}")
    style = found.grammar.style
    if style == "latency" and found.grammar.unit == "ns":
        notes.append("the latency format shows microseconds since the start of the tracer: time 0 is that start")
    if found.grammar.comm_width == 8:
        notes.append("the text cuts the comm of the current task to 8 bytes; the longer name is known where an event "
                     "tells it")
    if style == "report" and any(t.system == "ftrace" and t.name == "kernel_stack" for t in types) \
            and b"caller=ARRAY[" in found.data[:1 << 20]:
        notes.append("the call stacks are raw bytes, of which report -R prints the first 64: their frames are not read")
    state = next((f for t in types if t.name == "sched_switch" and (f := t.field("prev_state")) is not None), None)
    if state is not None and style.startswith("report") and state.shape == "string":
        notes.append("trace-cmd may print the states of kernels before 4.14, where X and Z are the other way round (X "
                     "is then a zombie, Z is dead), W for idle, and no +; the trace.dat tells more")
    elif state is not None and style.startswith("report"):
        notes.append("report -R prints prev_state as a number, whose bits the text does not explain: what a task did "
                     "after a switch is not known; give the trace.dat, or its report without -R")
    if found.no_cpu:
        notes.append("the text has no cpu column: all its records are shown on cpu 0")
    if unknown_flags:
        notes.append(f"the flag columns {unknown_flags[0].decode('utf-8', 'backslashreplace')!r} are not known: those "
                     "records have no flags")
    unnamed = [t for t in found.types.all if t.system == UNKNOWN and t.bare]
    if len(found.types.all) >= MAX_TYPES:
        notes.append(f"there are more than {MAX_TYPES:,} names of events: records of further ones are kept as "
                     f"{UNKNOWN}:unknown")
    elif unnamed:
        notes.append("some records name no event; they are kept under the name "
                     + " and ".join(f"{t.system}:{t.name}" for t in unnamed))
    return tuple(notes)
