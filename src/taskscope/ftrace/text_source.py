"""A recording that is text, as a `Source`.

A row is the number of a record in the order of the text, except that a call stack stands directly behind its record.
So within a cpu rows are in the order in which the kernel wrote them, and equal stamps of different cpus keep the
order in which the text, made from finer stamps, has them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.text_block import Block
from taskscope.ftrace.text_frames import perf_frames, shown, storage_order, symbols
from taskscope.ftrace.text_gaps import gaps_of
from taskscope.ftrace.text_lines import Grammar
from taskscope.ftrace.text_notes import notes_of
from taskscope.ftrace.text_scan import Scan
from taskscope.ftrace.text_types import TextType
from taskscope.trace.source import Clock, Column, EventType, Index, Kernel, Rows, Source

_CONTAINERS = {"tracefs": "tracefs text", "latency": "tracefs text (latency format)",
               "verbose": "tracefs text (latency format, verbose)", "report": "trace-cmd report text",
               "report-latency": "trace-cmd report text (latency format)", "perf": "perf script text"}

#: what stands for a comm that is not known; perf prints the pid
_UNKNOWN, _UNKNOWN_PERF = re.compile(rb"<\.\.\.>\Z"), re.compile(rb":-?\d{1,10}\Z")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f-\xff]")
_SHORT = {b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}

#: (event, field with a pid, field with its comm) that tell a comm whole where the comm's column is cut
_WHOLE_COMMS = (("sched_switch", "prev_pid", "prev_comm"), ("sched_switch", "next_pid", "next_comm"),
                ("sched_wakeup", "pid", "comm"), ("sched_waking", "pid", "comm"), ("task_rename", "pid", "newcomm"))


class TextSource(Source):
    """What a text holds.

    :param path: the file, for messages
    :param found: the text, scanned
    """

    def __init__(self, path: str, found: Scan) -> None:
        self.path = path
        self._scan = found
        self._grammar: Grammar = found.grammar
        self.container = _CONTAINERS[found.grammar.style]
        self._comms, buffer_of, self.buffers = _split_buffers(found)
        records = found.records
        buffer = buffer_of[records.comm] if len(buffer_of) else np.zeros(len(records.ts), np.uint8)
        bits = {n: found.bits(token) for token, n in found.tokens.items()}
        self._bits = np.array([bits[n] or 0 for n in range(len(bits))], np.uint16)
        self.types = tuple(t.event_type() for t in found.types.all)
        self.gaps = gaps_of(found, buffer)
        records, buffer = self._order(records, buffer)
        self._records = records
        self.index = Index(records.ts, records.cpu, records.type, buffer)
        digits = found.digits or 6
        cycles = found.grammar.unit == "cycles"
        # No text names the clock of its stamps.
        self.clock = Clock("unknown", found.grammar.unit, 1 if cycles else 10 ** (9 - digits))
        header = found.header
        self.kernel = Kernel(header.release, header.machine, None, None, header.hostname)
        seen = np.unique(records.cpu).tolist()
        if header.cpus and (not seen or seen[-1] < header.cpus):
            seen = list(range(header.cpus))
        self.cpus = tuple(seen)
        self.tgids = _last(records.pid, records.tgid, records.tgid >= 0)
        self.cmdlines = self._last_comms()
        self.notes = notes_of(found, self.types, [t for t, n in found.tokens.items() if bits[n] is None])

    def _order(self, records: Block, buffer: npt.NDArray[np.uint8]) -> tuple[Block, npt.NDArray[np.uint8]]:
        kinds = np.zeros(max(len(self.types), 1), np.uint8)
        for t in self._scan.types.all:
            if t.is_stack:
                kinds[t.index] = 1 if t.name == "kernel_stack" else 2
        order = storage_order(records.cpu, buffer, records.pid, self._bits[records.flags] & 0xFF, kinds[records.type])
        return (records, buffer) if order is None else (records.take(order), buffer[order])

    # ---- Source ------------------------------------------------------------------------------------------------

    def pids(self, rows: Rows) -> npt.NDArray[np.int32]:
        """See `Source.pids`."""
        return self._records.pid[rows]

    def flags(self, rows: Rows) -> npt.NDArray[np.uint16]:
        """See `Source.flags`."""
        return self._bits[self._records.flags[rows]]

    def column(self, type: EventType, field: str, rows: Rows) -> Column:
        """See `Source.column`."""
        reading = self._scan.types.all[type.index].reading
        for column in reading.columns if reading is not None else ():
            if column.name == field:
                return column.take(self._ordinals(type, rows))
        raise KeyError(f"{type.name} has no field {field!r}")

    def field_text(self, type: EventType, field: str, values: Column) -> list[str]:
        """See `Source.field_text`."""
        reading = self._scan.types.all[type.index].reading
        for column in reading.columns if reading is not None else ():
            if column.name == field:
                return [column.show(v) for v in values.tolist()]
        raise KeyError(f"{type.name} has no field {field!r}")

    def report(self, rows: Rows, *, comms: Sequence[bytes] | None = None) -> bytes:
        """See `Source.report`; the bodies are those of the text."""
        records, data = self._records, self._scan.data
        types = [t if not t.bare else None for t in self._scan.types.all]
        heads = [b"" if t is None else escape(t.name.encode()) + b": " for t in types]
        stacks = {t.index: t for t in self._scan.types.all if t.is_stack}
        names = [self._comms[c] for c in records.comm[rows].tolist()] if comms is None else comms
        tokens = [self._token(t) for t in self._scan.tokens]
        stamps = self._stamps(records.ts[rows])
        out = []
        for name, pid, cpu, flags, stamp, kind, start, size in zip(
                names, records.pid[rows].tolist(), records.cpu[rows].tolist(), records.flags[rows].tolist(), stamps,
                records.type[rows].tolist(), records.start[rows].tolist(), records.size[rows].tolist(), strict=True):
            body = data[start:start + size]
            shape = stacks.get(kind)
            text = heads[kind] + escape(body) if shape is None else self._stack_text(shape, body)
            out.append(b"%16s-%-7d [%03d] %s %s: %s\n" % (escape(name), pid, cpu, tokens[flags], stamp, text))
        return b"".join(out)

    def frames(self, row: int) -> tuple[str, ...]:
        """See `Source.frames`; symbols without the offsets that the text may show."""
        shape = self._scan.types.all[int(self._records.type[row])]
        if not shape.is_stack:
            return ()
        start, size = int(self._records.start[row]), int(self._records.size[row])
        body = self._scan.data[start:start + size]
        if self._grammar.style == "perf":
            kernel = shape.name == "kernel_stack"
            return tuple(f.name for f in perf_frames(body) if f.kernel == kernel)
        return symbols(body)

    # ---- lookups and layout -------------------------------------------------------------------------------------

    def _ordinals(self, type: EventType, rows: Rows) -> npt.NDArray[np.int64]:
        """Return which of its type's records each row is."""
        return np.searchsorted(self._rows_of(type.index), rows)

    def _rows_of(self, index: int) -> Rows:
        rows = self._by_type.get(index)
        if rows is None:
            rows = self._by_type[index] = np.flatnonzero(self.index.type == index)
        return rows

    @cached_property
    def _by_type(self) -> dict[int, Rows]:
        return {}

    def _token(self, token: bytes) -> bytes:
        if token.startswith(b"="):
            from taskscope.abi.traceflags import flags_text

            bits = int(token[1:], 16)
            return flags_text(bits & 0xFF, bits >> 8).encode()
        return token or b"....."

    def _stamps(self, ts: npt.NDArray[np.int64]) -> list[bytes]:
        if self.clock.unit == "cycles":
            return [b"%12d" % t for t in ts.tolist()]
        # trace_print_time() rounds to microseconds.
        us = (ts // 1000) + (ts % 1000 >= 500)
        return [b"%5d.%06d" % divmod(t, 1_000_000) for t in us.tolist()]

    def _stack_text(self, shape: TextType, body: bytes) -> bytes:
        title = b"<stack trace>" if shape.name == "kernel_stack" else b"<user stack trace>"
        if self._grammar.style == "perf":
            kernel = shape.name == "kernel_stack"
            frames = [f.name.encode() for f in perf_frames(body) if f.kernel == kernel]
        else:
            frames = shown(body)
        return b"".join([title, *(b"\n => " + escape(f) for f in frames)])

    def _last_comms(self) -> dict[int, bytes]:
        unknown = _UNKNOWN_PERF if self._grammar.style == "perf" else _UNKNOWN
        known = np.array([not unknown.match(c) for c in self._comms], bool)
        records = self._records
        last = _last(records.pid, records.comm, known[records.comm])
        comms = {pid: self._comms[c] for pid, c in last.items()}
        if self._grammar.comm_width == 8:
            self._complete(comms)
        return comms

    def _complete(self, comms: dict[int, bytes]) -> None:
        """Give comms that were cut to 8 bytes the rest, where an event tells it."""
        for event, pid, comm in _WHOLE_COMMS:
            type_ = next((t for t in self.types if t.name == event and t.field(comm) is not None), None)
            if type_ is None:
                continue
            rows = self._rows_of(type_.index)
            pids, names = self.column(type_, pid, rows).tolist(), self.column(type_, comm, rows).tolist()
            for p, name in dict(zip(pids, names, strict=True)).items():
                cut = comms.get(p)
                if cut is not None and len(cut) == 8 and name.startswith(cut):
                    comms[p] = name


def _last(pids: npt.NDArray[np.int32], values: npt.NDArray[np.int32], which: npt.NDArray[np.bool_]) -> dict[int, int]:
    """Return the last value of each pid among some records."""
    pids, values = pids[which][::-1], values[which][::-1]
    unique, first = np.unique(pids, return_index=True)
    return dict(zip(unique.tolist(), values[first].tolist(), strict=True))


def _split_buffers(found: Scan) -> tuple[list[bytes], npt.NDArray[np.uint8], tuple[str, ...]]:
    """Take the names of ring buffers off the comms, before which trace-cmd report prints them.

    Behind the name, a colon and a blank, the comm has its column of full width; so its width tells.

    :return: comms, their buffers, names of the buffers
    """
    comms = list(found.comms)
    buffers = [b""]
    of = np.zeros(len(comms), np.uint8)
    if found.grammar.style in ("report", "report-latency"):
        width = found.grammar.comm_width
        for i, comm in enumerate(comms):
            name, colon, rest = comm[:-width - 2], comm[-width - 2:-width], comm[-width:]
            if colon == b": " and name and len(buffers) < 256:
                if name not in buffers:
                    buffers.append(name)
                of[i] = buffers.index(name)
                comms[i] = rest.lstrip(b" ")
    return comms, of, tuple(b.decode("utf-8", "backslashreplace") for b in buffers)


def escape(text: bytes) -> bytes:
    r"""Show control characters and bytes that are not UTF-8 as ``\n``, ``\x1b`` …, all else as it is."""
    if not _CONTROL.search(text):
        return text
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = text.decode("utf-8", "surrogateescape")
    if decoded.isprintable():
        return text
    return b"".join(_escaped(c) for c in decoded)


def _escaped(char: str) -> bytes:
    if char.isprintable():
        return char.encode("utf-8")
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    raw = char.encode("utf-8", "surrogateescape")
    if raw in _SHORT:
        return _SHORT[raw]
    return b"\\x%02x" % code if code <= 0xFF else b"\\u%04x" % code if code <= 0xFFFF else b"\\U%08x" % code
