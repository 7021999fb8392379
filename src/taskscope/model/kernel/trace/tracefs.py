"""The files of tracefs: what each shows and takes (kernel/trace/trace.c, trace_events.c, ftrace.c, v4.19).

`tracefs_lookup` finds a file or a folder by its path below /sys/kernel/tracing; `tracefs_read` and `tracefs_write` use
one as ``cat`` and ``echo`` do.  fs/tracefs/inode.py hangs the same tree into the machine's file system.

Not modelled: kprobe_events and its like, snapshot, trace_stat, synthetic events, set_graph_function and the files of
tracers that are not there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskscope.model.kernel.trace import ftrace, ring_buffer, trace, trace_events, trace_events_trigger, trace_output

if TYPE_CHECKING:
    from taskscope.model.include.linux.trace_events import TraceEventFile
    from taskscope.model.kernel.trace.trace import TraceArray
    from taskscope.model.machine import Machine

PAGE: Final = ring_buffer.PAGE_SIZE


class TraceFile(NamedTuple):
    """A file: its mode, and what is called with (machine, instance, of what) to read, write and (O_TRUNC) empty it."""

    mode: int
    show: Callable[[Machine, TraceArray, Any], bytes | int] | None
    store: Callable[[Machine, TraceArray, Any, bytes], int] | None = None
    truncate: Callable[[Machine, TraceArray, Any], None] | None = None
    stream: bool = False  # reading takes: trace_pipe, trace_pipe_raw


class Node(NamedTuple):
    """What a path leads to: a folder (``names``) or a file."""

    names: tuple[str, ...] | None
    file: TraceFile | None = None
    tr: TraceArray | None = None
    what: Any = None


# ---- small values ----------------------------------------------------------------------------------------


def _number(data: bytes) -> int | None:
    """Read a number as kstrtoul_from_user() does; None if it is none."""
    try:
        return int(data.strip(b" \t\n\0"), 0)
    except ValueError:
        return None


def _words(data: bytes) -> list[str]:
    return data.decode("utf-8", "replace").split()


def show_tracing_on(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show whether records are let into the buffer."""
    del cur, what
    return b"%d\n" % tr.tracing_on


def store_tracing_on(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Let records into the buffer, or none."""
    del cur, what
    value = _number(data)
    if value is None:
        return -errno.EINVAL
    trace.tracing_set_on(tr, bool(value))
    return len(data)


def show_trace_clock(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the clocks, the current one in brackets."""
    del cur, what
    return " ".join(f"[{c}]" if c == tr.clock else c for c in trace.CLOCKS).encode() + b"\n"


def store_trace_clock(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Choose a clock."""
    del cur, what
    return trace.tracing_set_clock(tr, data.decode("utf-8", "replace").strip()) or len(data)


def show_current_tracer(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the current tracer."""
    del cur, what
    return tr.current_trace.encode() + b"\n"


def store_current_tracer(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Choose a tracer."""
    del what
    return trace.tracing_set_tracer(cur, tr, data.decode("utf-8", "replace").strip()) or len(data)


def show_available_tracers(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the tracers."""
    del cur, tr, what
    return " ".join(trace.TRACERS).encode() + b"\n"


def show_buffer_size_kb(cur: Machine, tr: TraceArray, what: int | None) -> bytes:
    """Show the size of a CPU's buffer; X if they differ."""
    sizes = {b.nr_pages for b in tr.buffers if what is None or b.cpu == what}
    if len(sizes) > 1:
        return b"X\n"
    room = PAGE - 8 - cur.flavour.long_size
    return b"%d\n" % (sizes.pop() * room >> 10)


def store_buffer_size_kb(cur: Machine, tr: TraceArray, what: int | None, data: bytes) -> int:
    """Set the size of a CPU's buffer, or of all."""
    value = _number(data)
    if value is None or value <= 0:
        return -errno.EINVAL
    return trace.tracing_resize_ring_buffer(cur, tr, value << 10, what) or len(data)


def show_buffer_total_size_kb(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the size of all CPUs' buffers."""
    del what
    room = PAGE - 8 - cur.flavour.long_size
    return b"%d\n" % (sum(b.nr_pages * room for b in tr.buffers) >> 10)


def show_trace_options(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the options by name, ``no`` before those that are off."""
    del cur, what
    return "".join(f"{'' if on else 'no'}{name}\n" for name, on in tr.options.items()).encode()


def store_trace_options(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Set an option by its name, or with ``no`` before it clear it."""
    del what
    name = data.decode("utf-8", "replace").strip()
    on = name in tr.options or not name.startswith("no")
    return trace.set_tracer_flag(cur, tr, name if on else name.removeprefix("no"), on) or len(data)


def show_option(cur: Machine, tr: TraceArray, what: str) -> bytes:
    """Show one option."""
    del cur
    return b"%d\n" % tr.options[what]


def store_option(cur: Machine, tr: TraceArray, what: str, data: bytes) -> int:
    """Set one option to 0 or 1."""
    value = _number(data)
    if value not in (0, 1):
        return -errno.EINVAL
    return trace.set_tracer_flag(cur, tr, what, bool(value)) or len(data)


def store_trace_marker(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Write a program's words into the log."""
    del what
    return trace.tracing_mark_write(cur, tr, data)


def show_saved_cmdlines(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the names of tasks that are kept."""
    del tr, what
    return b"".join(b"%d %s\n" % (pid, comm.rstrip(b"\0")) for pid, comm in trace_output.saved_cmdlines(cur).items())


def show_saved_cmdlines_size(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show how many names are kept."""
    del tr, what
    return b"%d\n" % cur.saved_cmdlines_size


def store_saved_cmdlines_size(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Say how many names are kept."""
    del tr, what
    value = _number(data)
    if value is None or value <= 0:
        return -errno.EINVAL
    cur.saved_cmdlines_size = value
    return len(data)


def show_saved_tgids(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the thread groups of tasks that are kept."""
    del tr, what
    return b"".join(b"%d %d\n" % item for item in sorted(cur.saved_tgids.items()))


def show_empty(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show nothing: no trace_printk() formats are there."""
    del cur, tr, what
    return b""


# ---- the log ---------------------------------------------------------------------------------------------


def show_trace(cur: Machine, tr: TraceArray, what: int | None) -> bytes:
    """Show the log, and leave it."""
    return trace_output.trace_text(cur, tr, what).encode()


def truncate_trace(cur: Machine, tr: TraceArray, what: int | None) -> None:
    """Empty the buffer: what ``echo > trace`` does."""
    del cur
    for cpu_buffer in tr.buffers:
        if what is None or cpu_buffer.cpu == what:
            ring_buffer.rb_reset_cpu(cpu_buffer)


def store_nothing(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Take a write and do nothing: opening was what counted."""
    del cur, tr, what
    return len(data)


def read_trace_pipe(cur: Machine, tr: TraceArray, what: int | None) -> bytes:
    """Take the log as text; b"" while there is nothing."""
    return trace_output.trace_pipe_text(cur, tr, what).encode()


def read_trace_pipe_raw(cur: Machine, tr: TraceArray, what: int) -> bytes:
    """Take a page of a CPU's buffer."""
    del cur
    return ring_buffer.ring_buffer_read_page(tr.buffers[what])


def show_stats(cur: Machine, tr: TraceArray, what: int) -> bytes:
    """Show the counts of a CPU's buffer."""
    b = tr.buffers[what]
    oldest, now = ring_buffer.ring_buffer_oldest_event_ts(b), cur.now
    stamp = [f"{(t + 500) // 1000 // 1_000_000:5d}.{(t + 500) // 1000 % 1_000_000:06d}" for t in (oldest, now)]
    return (
        f"entries: {ring_buffer.ring_buffer_entries_cpu(b)}\noverrun: {b.overrun}\ncommit overrun: 0\n"
        f"bytes: {ring_buffer.ring_buffer_bytes_cpu(b)}\noldest event ts: {stamp[0]}\nnow ts: {stamp[1]}\n"
        f"dropped events: {b.dropped_events}\nread events: {b.read_events}\n"
    ).encode()


# ---- functions -------------------------------------------------------------------------------------------


def show_available_filter_functions(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the functions that can be traced."""
    del tr, what
    return "".join(f"{s.name}\n" for s in ftrace.available_filter_functions(cur)).encode()


def show_enabled_functions(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the functions that are patched now, and for how many instances."""
    del tr, what
    counts: dict[str, int] = {}
    for instance in cur.ftrace_trace_arrays:
        for symbol in instance.functions:
            counts[symbol.name] = counts.get(symbol.name, 0) + 1
    return "".join(f"{name} ({n})\n" for name, n in counts.items()).encode()


def show_set_ftrace_filter(cur: Machine, tr: TraceArray, what: str) -> bytes:
    """Show a filter of functions."""
    del cur
    symbols = (tr.filter if what == "filter" else tr.notrace).symbols
    if not symbols:
        return b"#### all functions enabled ####\n" if what == "filter" else b"#### no functions disabled ####\n"
    return "".join(f"{symbols[address].name}\n" for address in sorted(symbols)).encode()


def store_set_ftrace_filter(cur: Machine, tr: TraceArray, what: str, data: bytes) -> int:
    """Add functions to a filter; words before one that matches nothing have been taken."""
    chosen = tr.filter if what == "filter" else tr.notrace
    status = 0
    for word in _words(data):
        status = ftrace.ftrace_process_regex(cur, chosen, word)
        if status:
            break
    trace.update_ftrace_function(cur, tr)
    return status or len(data)


def truncate_set_ftrace_filter(cur: Machine, tr: TraceArray, what: str) -> None:
    """Empty a filter: what ``echo … >`` does before it writes."""
    (tr.filter if what == "filter" else tr.notrace).symbols.clear()
    trace.update_ftrace_function(cur, tr)


# ---- events ----------------------------------------------------------------------------------------------


def show_available_events(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the events as SYSTEM:EVENT."""
    del cur, what
    return "".join(f"{s}:{n}\n" for s, n in tr.events).encode()


def show_set_event(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the events that are on."""
    del cur, what
    return "".join(f"{s}:{n}\n" for (s, n), file in tr.events.items() if file.enabled).encode()


def store_set_event(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Switch events on, or with ``!`` off: SYSTEM:EVENT, SYSTEM:*, SYSTEM or EVENT."""
    del cur, what
    for word in _words(data):
        status = trace_events.ftrace_set_clr_event(tr, word.removeprefix("!"), not word.startswith("!"))
        if status:
            return status
    return len(data)


def truncate_set_event(cur: Machine, tr: TraceArray, what: Any) -> None:
    """Switch all events off."""
    del cur, what
    trace_events.set_event(tr, None, None, False)


def show_set_event_pid(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the tasks that are recorded."""
    del cur, what
    return b"".join(b"%d\n" % pid for pid in sorted(tr.filtered_pids or ()))


def _pids(data: bytes) -> set[int] | None:
    numbers = [_number(word.encode()) for word in _words(data)]
    pids = {n for n in numbers if n is not None and n >= 0}
    return pids if all(n in pids for n in numbers) else None


def show_set_ftrace_pid(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the tasks whose functions are traced."""
    del cur, what
    return b"".join(b"%d\n" % pid for pid in sorted(tr.function_pids or ())) or b"no pid\n"


def store_set_ftrace_pid(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Add tasks to those whose functions are traced."""
    del cur, what
    pids = _pids(data)
    if pids is None:
        return -errno.EINVAL
    if pids:
        tr.function_pids = (tr.function_pids or set()) | pids
    return len(data)


def truncate_set_ftrace_pid(cur: Machine, tr: TraceArray, what: Any) -> None:
    """Trace the functions of all tasks again."""
    del cur, what
    tr.function_pids = None


def store_set_event_pid(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Add tasks to those that are recorded."""
    del what
    pids = _pids(data)
    if pids is None:
        return -errno.EINVAL
    if pids:
        trace.set_event_pid(cur, tr, (tr.filtered_pids or set()) | pids)
    return len(data)


def truncate_set_event_pid(cur: Machine, tr: TraceArray, what: Any) -> None:
    """Record all tasks again."""
    del what
    trace.set_event_pid(cur, tr, None)


def _files(tr: TraceArray, what: Any) -> list[TraceEventFile]:
    """Return the events of a system, or (None) all."""
    return [file for (system, _), file in tr.events.items() if what in (None, system)]


def show_enable(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show whether an event is on, or those of a system: 0, 1, X for some; ``*`` where triggers need it."""
    del cur
    if isinstance(what, tuple):
        file = tr.events[what]
        return b"%d%s\n" % (file.enabled, b"*" if file.soft_mode else b"")
    states = {file.enabled for file in _files(tr, what)}
    return b"X\n" if len(states) == 2 else b"%d\n" % (True in states)


def store_enable(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Switch an event, or those of a system, on or off."""
    del cur
    value = _number(data)
    if value not in (0, 1):
        return -errno.EINVAL
    for file in [tr.events[what]] if isinstance(what, tuple) else _files(tr, what):
        trace_events.ftrace_event_enable_disable(file, bool(value))
    return len(data)


def show_filter(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show a filter; for a system, what was written to it last and how that went."""
    del cur
    text = tr.events[what].filter_text if isinstance(what, tuple) else ""
    if not isinstance(what, tuple):
        return (
            b"### global filter ###\n# Use this to set filters for multiple events.\n"
            b"# Only events with the given fields will be affected.\n"
        )
    return (text or "none").encode() + b"\n"


def store_filter(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Set the filter of an event, or of all events of a system that have its fields; ``0`` takes it away."""
    del cur
    text = data.decode("utf-8", "replace").strip()
    if isinstance(what, tuple):
        return trace_events.apply_event_filter(tr.events[what], text) or len(data)
    results = [trace_events.apply_event_filter(file, text) for file in _files(tr, what)]
    return len(data) if 0 in results else -errno.EINVAL


def show_format(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the format of an event."""
    call = next(c for c in cur.trace_events if (c.system, c.name) == what)
    del tr
    return call.format_text


def show_id(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the id of an event."""
    call = next(c for c in cur.trace_events if (c.system, c.name) == what)
    del tr
    return b"%d\n" % call.id


def show_trigger(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show the triggers of an event."""
    del cur
    return trace_events_trigger.triggers_text(tr.events[what]).encode()


def store_trigger(cur: Machine, tr: TraceArray, what: Any, data: bytes) -> int:
    """Set a trigger, or with ``!`` take it away."""
    del cur
    return trace_events_trigger.event_trigger_write(tr.events[what], data.decode("utf-8", "replace").strip()) or len(
        data
    )


def truncate_trigger(cur: Machine, tr: TraceArray, what: Any) -> None:
    """Take all triggers of an event away."""
    del cur
    trace_events_trigger.clear_event_triggers(tr.events[what])


def show_header_page(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show how a page is laid out (ring_buffer_print_page_header())."""
    del tr, what
    return ring_buffer.header_page(cur.flavour.long_size, trace_events.trace_abi(cur).char_signed)


def show_header_event(cur: Machine, tr: TraceArray, what: Any) -> bytes:
    """Show how the header word of a record is laid out (ring_buffer_print_entry_header())."""
    del cur, tr, what
    return ring_buffer.HEADER_EVENT


# ---- the tree --------------------------------------------------------------------------------------------

_CPU_FILES: Final = {
    "buffer_size_kb": TraceFile(0o644, show_buffer_size_kb, store_buffer_size_kb),
    "stats": TraceFile(0o444, show_stats),
    "trace": TraceFile(0o644, show_trace, store_nothing, truncate_trace),
    "trace_pipe": TraceFile(0o444, read_trace_pipe, stream=True),
    "trace_pipe_raw": TraceFile(0o444, read_trace_pipe_raw, stream=True),
}
_EVENT_FILES: Final = {
    "enable": TraceFile(0o644, show_enable, store_enable),
    "filter": TraceFile(0o644, show_filter, store_filter),
    "format": TraceFile(0o444, show_format),
    "id": TraceFile(0o444, show_id),
    "trigger": TraceFile(0o644, show_trigger, store_trigger, truncate_trigger),
}
_INSTANCE_FILES: Final = {
    "available_tracers": TraceFile(0o444, show_available_tracers),
    "buffer_size_kb": TraceFile(0o644, show_buffer_size_kb, store_buffer_size_kb),
    "buffer_total_size_kb": TraceFile(0o444, show_buffer_total_size_kb),
    "current_tracer": TraceFile(0o644, show_current_tracer, store_current_tracer),
    "set_event": TraceFile(0o644, show_set_event, store_set_event, truncate_set_event),
    "set_event_pid": TraceFile(0o644, show_set_event_pid, store_set_event_pid, truncate_set_event_pid),
    "set_ftrace_filter": TraceFile(0o644, show_set_ftrace_filter, store_set_ftrace_filter, truncate_set_ftrace_filter),
    "set_ftrace_notrace": TraceFile(0o644, show_set_ftrace_filter, store_set_ftrace_filter, truncate_set_ftrace_filter),
    "set_ftrace_pid": TraceFile(0o644, show_set_ftrace_pid, store_set_ftrace_pid, truncate_set_ftrace_pid),
    "trace": TraceFile(0o644, show_trace, store_nothing, truncate_trace),
    "trace_clock": TraceFile(0o644, show_trace_clock, store_trace_clock),
    "trace_marker": TraceFile(0o200, None, store_trace_marker),
    "trace_options": TraceFile(0o644, show_trace_options, store_trace_options),
    "trace_pipe": TraceFile(0o444, read_trace_pipe, stream=True),
    "tracing_on": TraceFile(0o644, show_tracing_on, store_tracing_on),
}
_TOP_FILES: Final = {
    "available_events": TraceFile(0o444, show_available_events),
    "available_filter_functions": TraceFile(0o444, show_available_filter_functions),
    "enabled_functions": TraceFile(0o444, show_enabled_functions),
    "printk_formats": TraceFile(0o444, show_empty),
    "saved_cmdlines": TraceFile(0o444, show_saved_cmdlines),
    "saved_cmdlines_size": TraceFile(0o644, show_saved_cmdlines_size, store_saved_cmdlines_size),
    "saved_tgids": TraceFile(0o444, show_saved_tgids),
}
#: what a file is about, where its name alone says it
_WHAT: Final = {"set_ftrace_filter": "filter", "set_ftrace_notrace": "notrace"}
_OPTION_FILE: Final = TraceFile(0o644, show_option, store_option)
_HEADERS: Final = {
    "header_page": TraceFile(0o444, show_header_page),
    "header_event": TraceFile(0o444, show_header_event),
}
_SYSTEM_FILES: Final = {name: _EVENT_FILES[name] for name in ("enable", "filter")}


def tracefs_lookup(cur: Machine, path: str) -> Node | None:
    """Find a file or folder by its path below the top of tracefs; None if it does not exist."""
    top = trace.top_trace_array(cur)
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["instances"]:
        if len(parts) == 1:
            return Node(tuple(tr.name for tr in cur.ftrace_trace_arrays[1:]))
        instance = next((tr for tr in cur.ftrace_trace_arrays[1:] if tr.name == parts[1]), None)
        return None if instance is None else _in_instance(cur, instance, parts[2:], top=False)
    return _in_instance(cur, top, parts, top=True)


def _in_instance(cur: Machine, tr: TraceArray, parts: list[str], *, top: bool) -> Node | None:
    files = {**_INSTANCE_FILES, **_TOP_FILES} if top else _INSTANCE_FILES
    if not parts:
        return Node((*sorted(files), "events", "options", "per_cpu", *(["instances"] if top else [])), tr=tr)
    name, rest = parts[0], parts[1:]
    if name == "events":
        return _in_events(cur, tr, rest)
    if name == "options":
        if not rest:
            return Node(tuple(tr.options), tr=tr)
        return Node(None, _OPTION_FILE, tr, rest[0]) if rest[0] in tr.options and len(rest) == 1 else None
    if name == "per_cpu":
        cpus = {f"cpu{b.cpu}": b.cpu for b in tr.buffers}
        if not rest:
            return Node(tuple(cpus), tr=tr)
        if rest[0] not in cpus or len(rest) > 2:
            return None
        if len(rest) == 1:
            return Node(tuple(_CPU_FILES), tr=tr)
        return Node(None, _CPU_FILES[rest[1]], tr, cpus[rest[0]]) if rest[1] in _CPU_FILES else None
    return Node(None, files[name], tr, _WHAT.get(name)) if name in files and not rest else None


def _in_events(cur: Machine, tr: TraceArray, parts: list[str]) -> Node | None:
    systems = dict.fromkeys(call.system for call in cur.trace_events)
    if not parts:
        return Node((*systems, "enable", *_HEADERS), tr=tr)
    name, rest = parts[0], parts[1:]
    if name == "enable" or name in _HEADERS:
        return Node(None, _HEADERS.get(name, _EVENT_FILES["enable"]), tr, None) if not rest else None
    if name not in systems:
        return None
    events = [call.name for call in cur.trace_events if call.system == name]
    if not rest:
        return Node((*events, *(() if name == "ftrace" else _SYSTEM_FILES)), tr=tr)
    if rest[0] in _SYSTEM_FILES and name != "ftrace":
        return Node(None, _SYSTEM_FILES[rest[0]], tr, name) if len(rest) == 1 else None
    if rest[0] not in events:
        return None
    files = ("format", "id") if name == "ftrace" else tuple(_EVENT_FILES)
    if len(rest) == 1:
        return Node(files, tr=tr)
    return Node(None, _EVENT_FILES[rest[1]], tr, (name, rest[0])) if len(rest) == 2 and rest[1] in files else None


def tracefs_read(cur: Machine, path: str) -> bytes | int:
    """Read a file as ``cat`` does; return its bytes or a negative errno.

    :param path: below /sys/kernel/tracing
    """
    node = tracefs_lookup(cur, path)
    if node is None:
        return -errno.ENOENT
    if node.file is None:
        return -errno.EISDIR
    if node.file.show is None:
        return -errno.EINVAL
    assert node.tr is not None
    return node.file.show(cur, node.tr, node.what)


def tracefs_write(cur: Machine, path: str, data: bytes, append: bool = False) -> int:
    """Write to a file as ``echo … >`` does, or with `append` as ``>>``; return the bytes taken or a negative errno."""
    node = tracefs_lookup(cur, path)
    if node is None:
        return -errno.ENOENT
    if node.file is None:
        return -errno.EISDIR
    assert node.tr is not None
    if not append and node.file.truncate is not None:
        node.file.truncate(cur, node.tr, node.what)
    if node.file.store is None:
        return -errno.EINVAL
    return node.file.store(cur, node.tr, node.what, data)
