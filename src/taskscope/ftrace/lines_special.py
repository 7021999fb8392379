"""Events whose text the kernel does not make from their print format.

The print formats of ftrace's own events, of system calls and of probes are written for other programs; tracefs prints
them through functions of their own.  What can be said as a print format is one here (`FORMATS`, `probe_format`), the
rest are small bodies.  Follows kernel/trace/trace_output.c, trace_syscalls.c, trace_kprobe.c, trace_uprobe.c,
trace_branch.c (v6.18 unless said otherwise).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from taskscope.abi.era import Version
from taskscope.ftrace.format import EventFormat, RawField
from taskscope.ftrace.printfmt import octets
from taskscope.ftrace.printfmt.cache import SlotCache
from taskscope.ftrace.printfmt.evaluate import Kernel
from taskscope.ftrace.printfmt.numbers import digits
from taskscope.ftrace.printfmt.pieces import Chosen, Copied, Cut, Instead, Literal, Piece, Texts
from taskscope.ftrace.printfmt.plain import escaped, measure
from taskscope.ftrace.printfmt.records import PageRecords, gather

Column = npt.NDArray[Any]

#: since then system calls are shown with 0x before numbers from 10 on
#: ("tracing: Have syscall trace events show "0x" for values greater than 10", in v6.18)
_HEX_PREFIX_SINCE: Version = (6, 18)


class Body(Protocol):
    """What makes the text of a type's records behind the head of the line; it ends in a newline."""

    #: bytes of a record that its fixed fields take, as far as they are read
    reach: int

    def pieces(self, records: PageRecords) -> list[Piece]:
        """Make the text of records."""


_IP = "__taskscope_ip"

#: print formats in place of those of the ftrace system; no event name stands before them
FORMATS: Mapping[str, str] = {
    "function": f'"%s%s%s", {_IP}(REC->ip), REC->parent_ip ? " <-" : "", '
                f'REC->parent_ip ? {_IP}(REC->parent_ip) : ""',
    "osnoise": '"%llu %10llu %3llu.%05llu %7llu %6u %6u %6u %6u %6u", REC->runtime, REC->noise, '
               "(REC->runtime - REC->noise) * 10000000 / REC->runtime / 100000, "
               "(REC->runtime - REC->noise) * 10000000 / REC->runtime % 100000, REC->max_sample, REC->hw_count, "
               "REC->nmi_count, REC->irq_count, REC->softirq_count, REC->thread_count",
    "timerlat": '"#%-5u context %6s timer_latency %9llu ns", REC->seqnum, '
                '__print_symbolic(REC->context, {0, "irq"}, {1, "thread"}, {2, "user ret"}), REC->timer_latency',
    "branch": '"[%s] %s:%s:%d", REC->correct ? "  ok  " : " MISS ", REC->func, REC->file, REC->line',
}


def probe_format(fmt: EventFormat) -> str | None:
    """Return the print format of a kprobe, uprobe or fprobe with its place named; None if it is none of them."""
    names = {f.name for f in fmt.fields}
    text = fmt.print_fmt
    if "__probe_ip" in names and text.startswith('"(%lx)'):
        return text.replace('"(%lx)', '"(%s)', 1).replace("REC->__probe_ip", "__taskscope_probe(REC->__probe_ip)", 1)
    if {"__probe_func", "__probe_ret_ip"} <= names and text.startswith('"(%lx <- %lx)'):
        text = text.replace('"(%lx <- %lx)', '"(%s <- %s)', 1)
        return text.replace("REC->__probe_func, REC->__probe_ret_ip",
                            "__taskscope_probe(REC->__probe_ret_ip), __taskscope_function(REC->__probe_func)", 1)
    return None


class SyscallEnter:
    """``sys_openat(dfd: 0xffffff9c, filename: 0x55fa3346aff0, flags: 0x241, mode: 0x1b6)``."""

    def __init__(self, fmt: EventFormat, kernel: Kernel, version: Version | None) -> None:
        self._prefix = version is None or version >= _HEX_PREFIX_SINCE
        self._name = escaped(b"sys" + fmt.name.removeprefix("sys_enter").encode())
        fields = [f for f in fmt.fields if f.name not in ("nr", "__syscall_nr")]
        own = {f.name: f for f in fields}
        # What an argument points to in user memory stands in a field of its own (since v6.19).
        self._args = [(f, own.get(f"__{f.name}_val")) for f in fields
                      if not (f.name.endswith("_val") and f.name.startswith("__"))]
        if any(f.size not in (1, 2, 4, 8) or f.location != "fixed" for f, _ in self._args):
            raise ValueError("an argument of a system call that is no register")
        self._arrays = {f.name for f, v in self._args if v and f"__print_dynamic_array({v.name}" in fmt.print_fmt}
        self._kernel = kernel
        self.reach = max((f.offset + f.size for f in fields), default=8)

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `Body.pieces`."""
        out: list[Piece] = []
        text = self._name + b"("
        for i, (field, value) in enumerate(self._args):
            text += (b", " if i else b"") + escaped(field.name.encode()) + b": "
            out.append(Literal(text))
            text = b""
            number = records.number(field)
            number = number.view(f"u{number.dtype.itemsize}")
            if self._prefix:
                out.append(Cut(b"0x", (number >= 10).view(np.uint8) << 1))
            out += digits(number, 16)
            if value is not None and field.name in self._arrays:
                out.append(self._array(records, value))
            elif value is not None:
                out += [Literal(b' "'), *copied(records, value), Literal(b'"')]
        out.append(Literal(text + b")\n"))
        return out

    def _array(self, records: PageRecords, field: RawField) -> Piece:
        spans = records.spans(field)
        texts = [b" (" + octets.hex_bytes(spans.tobytes(i), b":") + b")" for i in range(len(spans))]
        return listed(texts)


class SyscallExit:
    """``sys_openat -> 0x3``."""

    def __init__(self, fmt: EventFormat) -> None:
        self._name = escaped(b"sys" + fmt.name.removeprefix("sys_exit").encode())
        field = fmt.field("ret")
        if field is None or field.size not in (4, 8):
            raise ValueError("the end of a system call without its result")
        self._field = field
        self.reach = field.offset + field.size

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `Body.pieces`."""
        number = records.number(self._field)
        return [Literal(self._name + b" -> 0x"), *digits(number.view(f"u{number.dtype.itemsize}"), 16), Literal(b"\n")]


class Print:
    """``tracing_mark_write: text``: what user space or trace_puts() wrote."""

    def __init__(self, fmt: EventFormat, kernel: Kernel) -> None:
        ip, buf = fmt.field("ip"), fmt.field("buf")
        if ip is None or buf is None:
            raise ValueError("a print without ip and buf")
        self._ip, self._buf = ip, buf
        self._symbols = SlotCache(lambda keys: [t + b": " for t in kernel.symbols(keys.tolist(), "ip")])
        self.reach = buf.offset

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `Body.pieces`."""
        name = self._symbols.piece(records.number(self._ip).astype(np.uint64))
        return [name, *copied(records, self._buf, keep=b"\t"), Literal(b"\n")]


def copied(records: PageRecords, field: RawField, keep: bytes = b"") -> list[Piece]:
    """Copy a text, without the newline that may end it."""
    spans = records.spans(field)
    length, _ = measure(spans)
    last = gather(spans.data, spans.start + np.maximum(length - 1, 0), "u1")
    length = length - ((last == 10) & (length > 0))
    length, odd = measure(spans, length)
    raw = [spans.tobytes(i)[:int(length[i])] for i in odd.tolist()]
    texts = [escaped(t, keep) for t in raw]
    changed = [k for k in range(len(raw)) if raw[k] != texts[k]]
    piece: Piece = Copied(spans, length)
    return [Instead(piece, odd[changed], [texts[k] for k in changed])] if changed else [piece]


def listed(texts: list[bytes]) -> Piece:
    """Make a piece of texts that are given one by one."""
    slots: dict[bytes, int] = {}
    at = np.array([slots.setdefault(t, len(slots)) for t in texts], np.int64)
    table = Texts()
    table.add(list(slots))
    return Chosen(table, at)
