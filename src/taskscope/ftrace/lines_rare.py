"""Records of ftrace's own that are rare: their texts are made one by one.

trace_printk() with arguments (bprint, bputs), raw markers, the records of the latency tracers and of the old scheduler
tracer.  Follows kernel/trace/trace_output.c, and bstr_printf() in lib/vsprintf.c for the arguments (v6.18).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from taskscope.ftrace.format import EventFormat
from taskscope.ftrace.lines_special import listed
from taskscope.ftrace.printfmt.cint import CInt
from taskscope.ftrace.printfmt.evaluate import Kernel
from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.pieces import Piece
from taskscope.ftrace.printfmt.plain import escaped
from taskscope.ftrace.printfmt.records import PageRecords
from taskscope.ftrace.printfmt.spec import Spec, format_number, format_text, parse_spec

#: __TASK_STATE as task_index_to_char() shows it (include/linux/sched.h)
_STATES = "RSDTtXZPI"


class Single(ABC):
    """A body that makes the text of each record by itself.

    :raises ValueError: the format lacks a field that the text needs
    """

    needs: tuple[str, ...] = ()

    def __init__(self, fmt: EventFormat, kernel: Kernel) -> None:
        found = [fmt.field(n) for n in self.needs]
        if None in found:
            raise ValueError(f"a {fmt.name} record without {self.needs[found.index(None)]}")
        self.fields = [f for f in found if f is not None]
        self.kernel = kernel
        self.reach = max((f.offset + f.size for f in self.fields), default=8)

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `lines_special.Body.pieces`."""
        columns: list[list[Any]] = []
        for f in self.fields:
            if f.is_string or f.is_array:
                spans = records.spans(f)
                columns.append([spans.tobytes(i) for i in range(len(spans))])
            else:
                columns.append(records.number(f).tolist())
        return [listed([self.text(*row) + b"\n" for row in zip(*columns, strict=True)])]

    @abstractmethod
    def text(self, *values: Any) -> bytes:
        """Make the text of one record from its fields, without the newline."""


class RawData(Single):
    """``# 1f buf: 00 01``: what was written to trace_marker_raw."""

    needs = ("id", "buf")

    def text(self, *values: Any) -> bytes:
        """See `Single.text`."""
        number, raw = values
        return b"# %x buf:" % number + b"".join(b" %02x" % b for b in raw)


class Hwlat(Single):
    """A hardware latency sample."""

    needs: tuple[str, ...] = ("duration", "outer_duration", "tv_sec", "tv_nsec", "nmi_total_ts", "nmi_count", "seqnum")

    def __init__(self, fmt: EventFormat, kernel: Kernel) -> None:
        self.counts = fmt.field("count") is not None         # since v5.10
        if self.counts:
            self.needs = (*self.needs, "count")
        super().__init__(fmt, kernel)

    def text(self, *values: Any) -> bytes:
        """See `Single.text`."""
        duration, outer, sec, nsec, nmi_ts, nmi, seq, *count = values
        text = b"#%-5d inner/outer(us): %4d/%-5d ts:%d.%09d" % (seq, duration, outer, sec, nsec)
        if count:
            text += b" count:%d" % count[0]
        if nmi:
            text += b" nmi-total:%d nmi-count:%d" % (nmi_ts, nmi)
        return text


class Switch(Single):
    """The records of the wakeup tracers: ``prev:prio:state ==> [cpu] next:prio:state comm``."""

    needs = ("prev_pid", "prev_prio", "prev_state", "next_cpu", "next_pid", "next_prio", "next_state")

    def __init__(self, fmt: EventFormat, kernel: Kernel, comm: Callable[[int], bytes]) -> None:
        super().__init__(fmt, kernel)
        self.arrow = b"==>" if fmt.name == "context_switch" else b"  +"
        self.comm = comm

    def text(self, *values: Any) -> bytes:
        """See `Single.text`."""
        prev, prev_prio, prev_state, cpu, pid, prio, state = values
        return b" %7d:%3d:%s %s [%03d] %7d:%3d:%s %s" % (
            prev, prev_prio, _state(prev_state), self.arrow, cpu, pid, prio, _state(state), escaped(self.comm(pid)))


def _state(index: int) -> bytes:
    return _STATES[index].encode() if index < len(_STATES) else b"?"


class Bputs(Single):
    """``function: text``: a text of the kernel that trace_puts() pointed to."""

    needs = ("ip", "str")

    def text(self, *values: Any) -> bytes:
        """See `Single.text`."""
        ip, address = values
        text = self.kernel.strings.get(address)
        shown = b"0x%x" % address if text is None else escaped(text.removesuffix(b"\n"), b"\t")
        return self.kernel.symbols([ip], "ip")[0] + b": " + shown


class Bprint(Single):
    """``function: text``: trace_printk() with arguments, formatted when it is read."""

    needs = ("ip", "fmt", "buf")

    def text(self, *values: Any) -> bytes:
        """See `Single.text`."""
        ip, address, raw = values
        name = self.kernel.symbols([ip], "ip")[0]
        fmt = self.kernel.strings.get(address)
        if fmt is None:
            return name + b": 0x%x" % address
        try:
            text = binary_printf(fmt, raw, self.kernel)
        except FormatError as e:
            text = escaped(fmt) + b" (" + str(e).encode() + b")"
        return name + b": " + escaped(text.removesuffix(b"\n"), b"\t")


class _Arguments:
    """The arguments of a bprint record, one after the other (vbin_printf in lib/vsprintf.c)."""

    def __init__(self, raw: bytes, kernel: Kernel) -> None:
        self.raw = raw
        self.at = 0
        self.order = "big" if kernel.big_endian else "little"

    def number(self, type_: CInt) -> int:
        """Take a number; one of 8 bytes is aligned to 4."""
        step = min(type_.size, 4)
        self.at = (self.at + step - 1) // step * step
        piece = self.raw[self.at:self.at + type_.size]
        if len(piece) < type_.size:
            raise FormatError("an argument is missing")
        self.at += type_.size
        return int.from_bytes(piece, self.order, signed=type_.signed)  # type: ignore[arg-type]

    def text(self) -> bytes:
        """Take a text that ends in NUL."""
        end = self.raw.find(b"\0", self.at)
        if end < 0:
            raise FormatError("a text is cut")
        text, self.at = self.raw[self.at:end], end + 1
        return text


def binary_printf(fmt: bytes, raw: bytes, kernel: Kernel) -> bytes:
    """Format the binary arguments of a bprint record.

    :param raw: the field ``buf``, which begins on a 4-byte boundary
    :raises FormatError: the arguments do not fit the format
    """
    args = _Arguments(raw, kernel)
    pointer = CInt(kernel.long_size, False)
    out: list[bytes] = []
    for part in parse_spec(fmt):
        if isinstance(part, bytes):
            out.append(part)
            continue
        width = args.number(CInt(4, True)) if part.width == -1 else None
        precision = args.number(CInt(4, True)) if part.precision == -1 else None
        if part.kind == "s":
            out.append(format_text(part, args.text(), width, precision))
        elif part.kind == "c":
            out.append(format_text(part, bytes([args.number(CInt(1, False))]), width, None))
        elif part.kind != "p":
            out.append(format_number(part, args.number(part.type(kernel.long_size)), width, precision))
        elif part.extension[:1] in ("S", "s", "F", "f", "B"):
            style = "pS" if part.extension[:1] in ("S", "F", "B") else "ps"
            out.append(kernel.symbols([args.number(pointer)], style)[0])
        elif part.extension[:1] in ("", "x", "K", "e"):
            spec = Spec("x", "0", 2 * kernel.long_size, None, "l")
            out.append(format_number(spec, args.number(pointer)))
        else:
            # What was behind other pointers was printed when the record was written.
            out.append(format_text(part, args.text(), width, None))
    return b"".join(out)

