"""Tracing as a whole: its instances, their buffers, clocks and options (kernel/trace/trace.c, v4.19).

Nothing is made before it is used: a machine that nobody watches pays for none of it.  `top_trace_array` gives the
top-level instance.
"""

from __future__ import annotations

import errno
import struct
import sys
from typing import TYPE_CHECKING, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import (
    EVENT_FILE_FL_PID_FILTER,
    EVENT_FILE_FL_SLOW,
    EVENT_FILE_FL_STACKTRACE,
)
from taskscope.model.kernel import kallsyms, stacktrace
from taskscope.model.kernel.trace import ftrace, ring_buffer, trace_entries, trace_events

if TYPE_CHECKING:
    from taskscope.model.include.linux.trace_events import TraceEventFile
    from taskscope.model.machine import Machine

#: bytes per CPU (TRACE_BUF_SIZE_DEFAULT)
TRACE_BUF_SIZE_DEFAULT: Final = 1441792
SAVED_CMDLINES_DEFAULT: Final = 128
CLOCKS: Final = ("local", "global", "counter", "uptime", "perf", "mono", "mono_raw", "boot")
TRACERS: Final = ("function", "nop")

# trace_options in the order of TRACE_FLAGS, and whether each is on at boot.  Those of the function tracer come behind.
OPTIONS: Final = {
    "print-parent": True,
    "sym-offset": False,
    "sym-addr": False,
    "verbose": False,
    "raw": False,
    "hex": False,
    "bin": False,
    "block": False,
    "trace_printk": True,
    "annotate": True,
    "userstacktrace": False,
    "sym-userobj": False,
    "printk-msg-only": False,
    "context-info": True,
    "latency-format": False,
    "record-cmd": True,
    "record-tgid": False,
    "overwrite": True,
    "disable_on_free": False,
    "irq-info": True,
    "markers": True,
    "event-fork": False,
    "function-trace": True,
    "function-fork": False,
    "stacktrace": False,
    "func_stack_trace": False,
}

#: Not modelled: other forms of the text, and stacks of user space.  They are refused where somebody wants them.
_REFUSED: Final = frozenset({"verbose", "raw", "hex", "bin", "userstacktrace", "sym-userobj", "latency-format"})

_FUNCTION_32: Final = struct.Struct("<HBBiII")
_FUNCTION_64: Final = struct.Struct("<HBBiQQ")
_HEAD: Final = struct.Struct("<HBBi")


class TraceArray:
    """struct trace_array: an instance of tracing; the top-level one has no name."""

    __slots__ = (
        "buffer_size",
        "buffers",
        "clock",
        "current_trace",
        "enter_syscall_files",
        "events",
        "exit_syscall_files",
        "filter",
        "filtered_pids",
        "function_pids",
        "functions",
        "name",
        "notrace",
        "options",
        "tracing_on",
    )

    def __init__(self, cur: Machine, name: str) -> None:
        self.name = name
        self.tracing_on = True
        self.clock = "local"
        self.options = dict(OPTIONS)
        self.current_trace = "nop"
        self.filter = ftrace.FtraceHash()
        self.notrace = ftrace.FtraceHash()
        self.functions: list[kallsyms.Symbol] = []  # patched for this instance
        self.filtered_pids: set[int] | None = None  # set_event_pid
        self.function_pids: set[int] | None = None  # set_ftrace_pid
        self.buffer_size = TRACE_BUF_SIZE_DEFAULT  # bytes per CPU
        pages = _pages(cur, self.buffer_size)
        self.buffers = [ring_buffer.RingBufferPerCpu(n, cur.flavour.long_size, pages) for n in range(len(cur.cpus))]
        self.enter_syscall_files: dict[int, TraceEventFile] = {}  # by number; those that are on
        self.exit_syscall_files: dict[int, TraceEventFile] = {}
        self.events: dict[tuple[str, str], TraceEventFile] = trace_events.trace_event_files(cur, self)

    def __repr__(self) -> str:
        return f"<instance {self.name or 'top'}>"


def _pages(cur: Machine, size: int) -> int:
    return max(2, -(-size // (ring_buffer.PAGE_SIZE - 8 - cur.flavour.long_size)))


def trace_init() -> None:
    """Set tracing up; called by start_kernel()."""
    cur = machine.cur
    cur.savedcmd = {}
    cur.saved_cmdlines_size = SAVED_CMDLINES_DEFAULT
    cur.saved_tgids = {}
    cur.trace_counter = 0
    cur.trace_events = []
    cur.ftrace_trace_arrays = []


def top_trace_array(cur: Machine) -> TraceArray:
    """Return the top-level instance; made at the first call, with the events of this kernel."""
    if not cur.ftrace_trace_arrays:
        cur.trace_events = trace_events.event_calls(cur)
        cur.ftrace_trace_arrays.append(TraceArray(cur, ""))
    return cur.ftrace_trace_arrays[0]


def instance_mkdir(cur: Machine, name: str) -> int:
    """Make another instance; return 0 or a negative errno."""
    top_trace_array(cur)
    if any(tr.name == name for tr in cur.ftrace_trace_arrays):
        return -errno.EEXIST
    cur.ftrace_trace_arrays.append(TraceArray(cur, name))
    return 0


def instance_rmdir(cur: Machine, name: str) -> int:
    """Remove an instance, its events off; return 0 or a negative errno."""
    tr = next((tr for tr in cur.ftrace_trace_arrays[1:] if tr.name == name), None)
    if tr is None:
        return -errno.ENOENT
    tracing_set_tracer(cur, tr, "nop")
    trace_events.set_event(tr, None, None, False)
    cur.ftrace_trace_arrays.remove(tr)
    return 0


# ---- clocks ----------------------------------------------------------------------------------------------


def trace_clock_of(cur: Machine, tr: TraceArray) -> int:
    """Return the time of the instance's clock: ns, or for ``counter`` a number that grows with each record."""
    if tr.clock == "counter":
        cur.trace_counter += 1
        return cur.trace_counter
    if tr.clock == "uptime":
        return cur.now // cur.tick_nsec * cur.tick_nsec
    # Not modelled: clocks of the host that differ (x86-tsc, drift between CPUs): the machine has one clock.
    return cur.now


def tracing_set_clock(tr: TraceArray, name: str) -> int:
    """Choose a clock; records of another one are dropped.  Return 0 or -EINVAL."""
    if name not in CLOCKS:
        return -errno.EINVAL
    tr.clock = name
    slow = name in ("counter", "uptime")
    for file in tr.events.values():
        always = file.event_call.dynamic or not file.event_call.type_len
        trace_events.event_file_set_flag(file, EVENT_FILE_FL_SLOW, slow or always)
    tracing_reset(tr)
    return 0


# ---- buffers ---------------------------------------------------------------------------------------------


def tracing_set_on(tr: TraceArray, on: bool) -> None:
    """Let records into the buffer, or none (tracing_on)."""
    tr.tracing_on = on
    for cpu_buffer in tr.buffers:
        ring_buffer.ring_buffer_record(cpu_buffer, on)


def tracing_reset(tr: TraceArray) -> None:
    """Empty the buffer."""
    for cpu_buffer in tr.buffers:
        ring_buffer.rb_reset_cpu(cpu_buffer)


def tracing_resize_ring_buffer(cur: Machine, tr: TraceArray, size: int, cpu: int | None = None) -> int:
    """Give the buffer `size` bytes per CPU; return 0 or -EINVAL."""
    if size <= 0:
        return -errno.EINVAL
    if cpu is None:
        tr.buffer_size = size
    for cpu_buffer in tr.buffers:
        if cpu is None or cpu_buffer.cpu == cpu:
            ring_buffer.ring_buffer_resize(cpu_buffer, _pages(cur, size))
    return 0


def tracing_mark_write(cur: Machine, tr: TraceArray, text: bytes) -> int:
    """Write what a program says into the log (trace_marker); return the bytes taken or a negative errno."""
    if not tr.options["markers"]:
        return -errno.EINVAL
    limit = 1024
    taken = text[:limit]
    body = taken if taken.endswith(b"\n") else taken + b"\n"
    ip = kallsyms.kallsyms_lookup_name("tracing_mark_write", cur)
    _write(cur, tr, trace_entries.TRACE_PRINT, ip.to_bytes(cur.flavour.long_size, "little") + body + b"\0")
    return len(taken)


def _write(cur: Machine, tr: TraceArray, kind: int, body: bytes) -> None:
    cpu = cur.cpu
    cpu_buffer = tr.buffers[cpu.id]
    if cpu_buffer.recording:
        context = trace_events.tracing_gen_ctx(cur)
        head = _HEAD.pack(kind, context >> 16 & 0xFF, context >> 24, cpu.curr.pid)
        ring_buffer.ring_buffer_write(cpu_buffer, trace_clock_of(cur, tr), head + body)


# ---- stacks ----------------------------------------------------------------------------------------------


def ftrace_trace_stack(cur: Machine, tr: TraceArray) -> None:
    """Write the call stack of the running task behind the record just written."""
    entries = stacktrace.save_stack_trace(cur, sys._getframe(1))
    old = cur.flavour.version < (5, 2)
    end = (1 << 8 * cur.flavour.long_size) - 1
    if old:
        # save_stack_trace() closes a list that has room with ULONG_MAX; the record has room for eight callers at least.
        entries.append(end)
    size = len(entries)
    words = entries + [0] * (8 - size) if old else entries
    long_size = cur.flavour.long_size
    room = size.to_bytes(4, "little") + bytes(4 if long_size == 8 else 0)
    _write(cur, tr, trace_entries.TRACE_STACK, room + b"".join(w.to_bytes(long_size, "little") for w in words))


# ---- options ---------------------------------------------------------------------------------------------


def set_tracer_flag(cur: Machine, tr: TraceArray, name: str, on: bool) -> int:
    """Set one of `OPTIONS`; return 0 or -EINVAL."""
    if name not in tr.options or (on and name in _REFUSED):
        return -errno.EINVAL
    tr.options[name] = on
    if name == "overwrite":
        for cpu_buffer in tr.buffers:
            cpu_buffer.overwrite = on
    elif name == "stacktrace":
        for file in tr.events.values():
            trace_events.event_file_set_flag(file, EVENT_FILE_FL_STACKTRACE, on)
    elif name == "event-fork":
        trace_events.trace_event_follow_fork(cur, tr, on)
    elif name == "function-fork":
        trace_events.ftrace_pid_follow_fork(cur, tr, on)
    elif name == "record-tgid":
        trace_events.trace_event_record_tgid(cur, on)
    return 0


def set_event_pid(cur: Machine, tr: TraceArray, pids: set[int] | None) -> None:
    """Record only what these tasks do; None: all tasks."""
    tr.filtered_pids = pids
    for file in tr.events.values():
        trace_events.event_file_set_flag(file, EVENT_FILE_FL_PID_FILTER, pids is not None)
    trace_events.trace_event_follow_fork(cur, tr, tr.options["event-fork"] and pids is not None)


# ---- the function tracer (kernel/trace/trace_functions.c) ------------------------------------------------


def tracing_set_tracer(cur: Machine, tr: TraceArray, name: str) -> int:
    """Choose the current tracer; return 0 or -EINVAL."""
    if name not in TRACERS:
        return -errno.EINVAL
    tr.current_trace = name
    update_ftrace_function(cur, tr)
    trace_events.update_cmdline_record(cur)
    return 0


def update_ftrace_function(cur: Machine, tr: TraceArray) -> None:
    """Patch the functions that the tracer and its filter ask for, and only them."""
    ops = _OPS[cur.ftrace_trace_arrays.index(tr) == 0]
    wanted = (
        {s.address: s for s in ftrace.ftrace_filtered(cur, tr.filter, tr.notrace)}
        if tr.current_trace == "function"
        else {}
    )
    have = {s.address: s for s in tr.functions}
    for address, symbol in have.items():
        if address not in wanted and symbol.function is not None:
            ftrace.unregister_ftrace_function(cur, symbol.function, ops)
    for address, symbol in wanted.items():
        if address not in have and symbol.function is not None:
            ftrace.register_ftrace_function(cur, symbol.function, ops)
    tr.functions = list(wanted.values())


def function_trace_call(cur: Machine, record: ftrace.DynFtrace, args: tuple[object, ...]) -> None:
    """Write the record of a call for the top-level instance; called by the stub that a patched function has become."""
    del args
    _function_trace(cur, cur.ftrace_trace_arrays[0], record)


def function_trace_instances(cur: Machine, record: ftrace.DynFtrace, args: tuple[object, ...]) -> None:
    """Write the record of a call for the other instances that trace the function."""
    del args
    for tr in cur.ftrace_trace_arrays[1:]:
        if any(s.code is record.code for s in tr.functions):
            _function_trace(cur, tr, record)


_OPS: Final = (function_trace_instances, function_trace_call)


def _function_trace(cur: Machine, tr: TraceArray, record: ftrace.DynFtrace) -> None:
    if not tr.tracing_on:
        return
    pid = cur.cpu.curr.pid
    if tr.function_pids is not None and pid not in tr.function_pids:
        return
    symbol = kallsyms.kallsyms(cur).symbol_of(record.code)
    assert symbol is not None, record.function
    # this < function_trace_call() < ftrace_ops_list_func() < the stub < the caller
    stub = sys._getframe(3)
    caller = stacktrace.save_stack_trace(cur, stub.f_back, 1)
    parent_ip = caller[0] if caller else 0
    ip = ftrace.ftrace_call_address(symbol, cur.flavour.arch == "arm")
    cpu_buffer = tr.buffers[cur.cpu.id]
    context = trace_events.tracing_gen_ctx(cur)
    pack = _FUNCTION_32 if cur.flavour.long_size == 4 else _FUNCTION_64
    data = pack.pack(trace_entries.TRACE_FN, context >> 16 & 0xFF, context >> 24, pid, ip, parent_ip)
    ring_buffer.ring_buffer_write(cpu_buffer, trace_clock_of(cur, tr), data)
    if tr.options["func_stack_trace"]:
        ftrace_trace_stack(cur, tr)
