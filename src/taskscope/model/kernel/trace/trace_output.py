"""The log as text: ``trace`` and ``trace_pipe`` (kernel/trace/trace_output.c, trace.c, v4.19).

An event's own function prints it where its print format has more than fields; all others are printed from that format.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskscope.abi.traceflags import flags_text
from taskscope.model.kernel import kallsyms
from taskscope.model.kernel.trace import ring_buffer, trace_entries, trace_syscalls

if TYPE_CHECKING:
    from taskscope.model.include.linux.trace_events import TraceEventCall
    from taskscope.model.kernel.trace.trace import TraceArray
    from taskscope.model.machine import Machine

_DIRECTIVE: Final = re.compile(r"%(?P<flags>[-0#+ ]*\d*)(?P<length>hh|h|ll|l|L|z)?(?P<kind>ps|pS|pf|[diuxXspc%])")
_ARG: Final = re.compile(r"(?:\([\w ]+\*?\)\s*)?(?:REC->(?P<field>\w+)(?P<rest>.*)|__get_str\((?P<string>\w+)\))\Z")


class TraceEntry(NamedTuple):
    """A record with its time and its CPU."""

    ts: int
    cpu: int
    type: int
    flags: int
    preempt_count: int
    pid: int
    data: bytes


def trace_entries_of(tr: TraceArray, cpu: int | None = None) -> Iterator[TraceEntry]:
    """Iterate over the records of an instance in the order of time, and leave them."""
    cpus = [b for b in tr.buffers if cpu is None or b.cpu == cpu]
    yield from heapq.merge(*(_entries(b) for b in cpus), key=_ts)


def _ts(entry: TraceEntry) -> int:
    return entry.ts


def _entries(cpu_buffer: ring_buffer.RingBufferPerCpu) -> Iterator[TraceEntry]:
    for ts, page, start, length in ring_buffer.rb_records(cpu_buffer):
        data = bytes(page[start : start + length])
        yield TraceEntry(
            ts,
            cpu_buffer.cpu,
            data[0] | data[1] << 8,
            data[2],
            data[3],
            int.from_bytes(data[4:8], "little", signed=True),
            data,
        )


class Printer:
    """Prints the records of an instance."""

    def __init__(self, cur: Machine, tr: TraceArray) -> None:
        self.cur = cur
        self.tr = tr
        self.long_size = cur.flavour.long_size
        self.calls = {call.id: call for call in cur.trace_events}
        self.comms = {
            pid: comm.partition(b"\0")[0].decode("utf-8", "replace") for pid, comm in saved_cmdlines(cur).items()
        }
        self.comms[0] = "<idle>"
        self._bodies: dict[int, Callable[[tuple[Any, ...]], str]] = {}

    def line(self, entry: TraceEntry) -> str:
        """Return a record as its line or lines."""
        head = self.head(entry)
        if entry.type == trace_entries.TRACE_FN:
            ip, parent = (self.word(entry.data, 8 + i * self.long_size) for i in range(2))
            body = self.symbol(ip) + (f" <-{self.symbol(parent)}" if self.tr.options["print-parent"] else "")
            return f"{head}{body}\n"
        if entry.type == trace_entries.TRACE_STACK:
            return f"{head}<stack trace>\n" + "".join(f" => {self.symbol(a)}\n" for a in self.callers(entry.data))
        if entry.type == trace_entries.TRACE_PRINT:
            text = entry.data[8 + self.long_size :].partition(b"\0")[0].decode("utf-8", "replace")
            if self.tr.options["printk-msg-only"]:
                return f"{head}{text}"
            return f"{head}{self.symbol(self.word(entry.data, 8))}: {text}"
        call = self.calls.get(entry.type)
        if call is None:
            return f"{head}Unknown type {entry.type}\n"
        body = self.body(call, entry.data)
        return f"{head}{body}\n" if call.system == "syscalls" else f"{head}{call.name}: {body}\n"

    def head(self, entry: TraceEntry) -> str:
        """Return what stands before the event."""
        version = self.cur.flavour.version
        if not self.tr.options["context-info"]:
            return ""
        comm = self.comms.get(entry.pid, "<...>")
        width = 7 if version >= (5, 12) else 5
        tgid = flags = ""
        if self.tr.options["record-tgid"]:
            group = self.cur.saved_tgids.get(entry.pid)
            tgid = f"({group:{width}d}) " if group else f"({'-' * width}) "
        if self.tr.options["irq-info"]:
            flags = flags_text(entry.flags, entry.preempt_count, version)
        if self.tr.clock == "counter":
            time = f"{entry.ts:12d}: "
        else:
            us = (entry.ts + 500) // 1000
            time = f"{us // 1_000_000:5d}.{us % 1_000_000:06d}: "
        return f"{comm:>16s}-{entry.pid:<{width}d} {tgid}[{entry.cpu:03d}] {flags} {time}"

    def word(self, data: bytes, at: int) -> int:
        """Return an unsigned long of a record."""
        return int.from_bytes(data[at : at + self.long_size], "little")

    def callers(self, data: bytes) -> list[int]:
        """Return the addresses of a stack."""
        first = 16 if self.long_size == 8 else 12
        end = (1 << 8 * self.long_size) - 1
        words = [self.word(data, at) for at in range(first, len(data) - self.long_size + 1, self.long_size)]
        return words[: words.index(end)] if end in words else words

    def symbol(self, address: int) -> str:
        """Return an address as the options sym-offset and sym-addr want it."""
        if address == 0:
            return "0"
        text = kallsyms.sprint_symbol(self.cur, address, self.tr.options["sym-offset"])
        return f"{text} <{address:0{2 * self.long_size}x}>" if self.tr.options["sym-addr"] else text

    def body(self, call: TraceEventCall, data: bytes) -> str:
        """Return the fields of a record as its event prints them."""
        values = call.unpack_from(data.ljust(call.size, b"\0"))[4:]
        shown: list[Any] = []
        for i, value in enumerate(values):
            field = call.fields[i] if i < len(call.fields) else None
            if field is not None and field.dynamic:
                at, length = value & 0xFFFF, value >> 16
                value = data[at : at + length].partition(b"\0")[0].decode("utf-8", "replace")
            elif isinstance(value, bytes):
                value = value.partition(b"\0")[0].decode("utf-8", "replace")
            shown.append(value)
        if call.output is not None:
            return call.output(tuple(shown))
        if call.system == "syscalls":
            return trace_syscalls.print_syscall(self.cur, call, tuple(shown))
        maker = self._bodies.get(call.id)
        if maker is None:
            maker = self._bodies[call.id] = _Format(self, call).text
        return maker(tuple(shown))


class _Format:
    """The print format of an event, as far as it is made of fields."""

    def __init__(self, printer: Printer, call: TraceEventCall) -> None:
        self.printer = printer
        text, args = _split_print_fmt(call.print_fmt)
        places = {f.name: i for i, f in enumerate(call.fields)}
        self.parts: list[str | tuple[str, str, int]] = []
        at = 0
        todo = iter(args)
        for match in _DIRECTIVE.finditer(text):
            self.parts.append(text[at : match.start()])
            at = match.end()
            if match["kind"] == "%":
                self.parts.append("%")
                continue
            found = _ARG.match(next(todo).strip())
            name = (found["field"] or found["string"]) if found is not None else None
            if found is None or name is None or (found["rest"] or "").strip():
                raise AssertionError(f"{call.name}: its print format needs an output function")
            self.parts.append((match["flags"], match["kind"], places[name]))
        self.parts.append(text[at:])

    def text(self, values: tuple[Any, ...]) -> str:
        """Print a record."""
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            flags, kind, place = part
            value = values[place]
            if kind in ("ps", "pS", "pf"):
                out.append(kallsyms.sprint_symbol(self.printer.cur, value, kind == "pS"))
            elif kind == "p":
                out.append(f"{value:0{2 * self.printer.long_size}x}")
            else:
                out.append(f"%{flags}{'d' if kind in 'diu' else kind}" % value)
        return "".join(out)


def _split_print_fmt(print_fmt: str) -> tuple[str, list[str]]:
    """Split a print format into the text and the arguments."""
    end = print_fmt.index('", ') if '", ' in print_fmt else len(print_fmt) - 1
    text = print_fmt[1:end].replace("\\n", "\n").replace("\\t", "\t")
    rest = print_fmt[end + 2 :]
    args: list[str] = []
    depth, start = 0, 0
    for i, c in enumerate(rest):
        depth += (c in "({") - (c in ")}")
        if c == "," and depth == 0:
            args.append(rest[start:i])
            start = i + 1
    if rest[start:].strip():
        args.append(rest[start:])
    return text, args


def saved_cmdlines(cur: Machine) -> dict[int, bytes]:
    """Return the names of tasks that are kept: those of the saved_cmdlines_size tasks that came last."""
    pids = [pid for pid in cur.savedcmd if pid]
    return {pid: cur.savedcmd[pid] for pid in pids[-cur.saved_cmdlines_size :]}


# ---- the files -------------------------------------------------------------------------------------------


def trace_text(cur: Machine, tr: TraceArray, cpu: int | None = None) -> str:
    """Return what the file ``trace`` shows."""
    printer = Printer(cur, tr)
    return _header(cur, tr, cpu) + "".join(printer.line(e) for e in trace_entries_of(tr, cpu))


def trace_pipe_text(cur: Machine, tr: TraceArray, cpu: int | None = None) -> str:
    """Return what can be read from ``trace_pipe`` now, and take it: lost events are told, then it is gone."""
    printer = Printer(cur, tr)
    buffers = [b for b in tr.buffers if cpu is None or b.cpu == cpu]
    lost = {b.cpu: b.overrun - b.last_overrun for b in buffers}
    out = []
    for entry in trace_entries_of(tr, cpu):
        if lost[entry.cpu]:
            out.append(f"CPU:{entry.cpu} [LOST {lost[entry.cpu]} EVENTS]\n")
            lost[entry.cpu] = 0
        out.append(printer.line(entry))
    for b in buffers:
        while ring_buffer.ring_buffer_read_page(b):
            pass
    return "".join(out)


def _header(cur: Machine, tr: TraceArray, cpu: int | None) -> str:
    buffers = [b for b in tr.buffers if cpu is None or b.cpu == cpu]
    entries = sum(ring_buffer.ring_buffer_entries_cpu(b) for b in buffers)
    total = entries + sum(b.overrun for b in buffers)
    text = f"# tracer: {tr.current_trace}\n#\n"
    text += f"# entries-in-buffer/entries-written: {entries}/{total}   #P:{len(cur.cpus)}\n#\n"
    tgid = tr.options["record-tgid"]
    if cur.flavour.version >= (5, 15):
        return text + _help_new(tgid, tr.options["irq-info"])
    return text + _help_old(tgid, tr.options["irq-info"])


def _help_new(tgid: bool, irq_info: bool) -> str:
    """Return the column heads of v5.15 and later."""
    if not irq_info:
        return (
            f"#           TASK-PID    {'   TGID   ' if tgid else ''} CPU#     TIMESTAMP  FUNCTION\n"
            f"#              | |      {'     |    ' if tgid else ''}   |         |         |\n"
        )
    space = "#" + " " * (28 + (12 if tgid else 2))
    return (
        f"{space}  _-----=> irqs-off/BH-disabled\n{space} / _----=> need-resched\n{space}| / _---=> hardirq/softirq\n"
        f"{space}|| / _--=> preempt-depth\n{space}||| / _-=> migrate-disable\n{space}|||| /     delay\n"
        f"#           TASK-PID  {'     TGID   ' if tgid else '  '} CPU#  |||||  TIMESTAMP  FUNCTION\n"
        f"#              | |    {'       |    ' if tgid else '  '}   |   |||||     |         |\n"
    )


def _help_old(tgid: bool, irq_info: bool) -> str:
    """Return the column heads of v4.19."""
    if not irq_info:
        return (
            f"#           TASK-PID   {'  TGID   ' if tgid else ''}CPU#   TIMESTAMP  FUNCTION\n"
            f"#              | |     {'    |    ' if tgid else ''}  |       |         |\n"
        )
    space = "#" + " " * (26 + (10 if tgid else 2))
    return (
        f"{space}  _-----=> irqs-off\n{space} / _----=> need-resched\n{space}| / _---=> hardirq/softirq\n"
        f"{space}|| / _--=> preempt-depth\n{space}||| /     delay\n"
        f"#           TASK-PID   CPU#{'   TGID   ' if tgid else '  '}||||    TIMESTAMP  FUNCTION\n"
        f"#              | |       | {'     |    ' if tgid else '  '}||||       |         |\n"
    )
