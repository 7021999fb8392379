"""Lines of text as tracefs' ``trace`` shows them, for any rows of a recording of pages.

Rows are taken in blocks.  Of each block the records of one type are read together: their body comes from the print
format that the recording carries (`printfmt.program`) or, for the events that the kernel prints through functions of
its own, from `lines_special`, `lines_stack` and `lines_rare`.  The bodies of all types are written to one sheet, each
at its row's place, then the heads.  An event whose print format cannot be computed is shown as ``field=value`` of all
its fields; `LineWriter.unparsed` says which, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskscope.abi.era import Version, kernel_of
from taskscope.errors import UsageError
from taskscope.ftrace.format import EventFormat, RawField
from taskscope.ftrace.lines_graph import Call, Graph, Repeats, Return
from taskscope.ftrace.lines_head import Heads
from taskscope.ftrace.lines_rare import Bprint, Bputs, Hwlat, RawData, Switch
from taskscope.ftrace.lines_special import FORMATS, Body, Print, SyscallEnter, SyscallExit, listed, probe_format
from taskscope.ftrace.lines_stack import Stack
from taskscope.ftrace.lines_symbols import SymbolTexts
from taskscope.ftrace.lines_values import FieldTexts, by_field, fields_of
from taskscope.ftrace.printfmt.evaluate import Kernel
from taskscope.ftrace.printfmt.parser import PrintFormat
from taskscope.ftrace.printfmt.pieces import Literal, Piece, Sheet
from taskscope.ftrace.printfmt.plain import escaped
from taskscope.ftrace.printfmt.program import Program
from taskscope.ftrace.printfmt.records import PageRecords, gather
from taskscope.ftrace.saved import parse_printk_formats
from taskscope.trace.source import UNKNOWN_TYPE, EventType, Rows

if TYPE_CHECKING:
    from taskscope.ftrace.ring import RingSource

Column = npt.NDArray[Any]

#: rows that are written together
BLOCK = 65536

#: a longer line is left out, as in the kernel, whose limit is two pages
LONGEST = 1 << 16


class LineWriter:
    """Writes lines of a recording's rows.

    :param source: the recording
    """

    def __init__(self, source: RingSource) -> None:
        self.source = source
        recorded = source.recorded
        self.version = _version(source.kernel.release)
        tgids = source.tgids if self._has_tgids() else {}
        self.heads = Heads(source.cmdlines, tgids, source.clock.unit == "cycles", self.version)
        self.sheet = Sheet()
        self._bodies: dict[int, Body] = {}
        self._reasons: dict[str, str] = {}
        self._fields: dict[tuple[int, str], FieldTexts] = {}
        self._by_name: dict[int, dict[str, RawField]] = {}
        self._long_size = recorded.long_size
        self._big_endian = recorded.big_endian

    @cached_property
    def kernel(self) -> Kernel:
        """What print formats need of the recorded kernel."""
        strings = parse_printk_formats(self.source.recorded.printk_formats)
        symbols = SymbolTexts(self.source.symbols)
        return Kernel(self._long_size, self._big_endian, symbols.texts, strings)

    @cached_property
    def graph(self) -> Graph:
        """Calls of the function_graph tracer."""
        return Graph(self.source)

    @property
    def unparsed(self) -> dict[str, str]:
        """The events shown field by field so far, as ``system:name``, and why their print format was not used."""
        return dict(self._reasons)

    def _has_tgids(self) -> bool:
        """Tell whether most of the tasks recorded had their thread groups saved.

        The kernel keeps what it saved long ago: a few pids that are used again do not count.
        """
        tgids, n = self.source.tgids, len(self.source.index)
        if not tgids or not n:
            return False
        sample = np.arange(0, n, max(n // 100_000, 1), dtype=np.int64)
        pids = set(np.unique(self.source.pids(sample)).tolist()) - {0}
        return 2 * len(pids & tgids.keys()) > len(pids)

    def _fields_of(self, number: int) -> dict[str, RawField]:
        found = self._by_name.get(number)
        if found is None:
            found = self._by_name[number] = fields_of(self.source.formats[number])
        return found

    # ---- bodies --------------------------------------------------------------------------------------------------

    def body(self, type_: EventType) -> Body:
        """Return what makes the text of a type's records."""
        body = self._bodies.get(type_.index)
        if body is None:
            body = self._bodies[type_.index] = self._make_body(self.source.formats[type_.index])
        return body

    def _make_body(self, fmt: EventFormat) -> Body:
        try:
            special = self._special(fmt)
            if special is not None:
                return special
            text = probe_format(fmt) or fmt.print_fmt
            return self._program(fmt, text, escaped(fmt.name.encode()) + b": ")
        except ValueError as e:              # FormatError, and what special bodies miss
            return self._by_field(fmt, str(e))

    def _by_field(self, fmt: EventFormat, reason: str) -> Program:
        """Show a type field by field, and say why."""
        self._reasons[f"{fmt.system}:{fmt.name}"] = reason
        head = escaped(fmt.name.encode()) + b": "
        try:
            return self._program(fmt, by_field(fmt), head)
        except ValueError:
            # More fields than a line can hold.
            return self._program(fmt, PrintFormat(b"", ()), head)

    def _program(self, fmt: EventFormat, text: str | PrintFormat, head: bytes) -> Program:
        return Program(self.kernel, fields_of(fmt), text, head)

    def _special(self, fmt: EventFormat) -> Body | None:
        if fmt.system == "syscalls":
            if fmt.name.startswith("sys_enter_"):
                return SyscallEnter(fmt, self.kernel, self.version)
            if fmt.name.startswith("sys_exit_"):
                return SyscallExit(fmt)
        if fmt.system != "ftrace":
            return None
        match fmt.name:
            case "kernel_stack" | "user_stack":
                return Stack(fmt, self.kernel, user=fmt.name == "user_stack")
            case "print":
                return Print(fmt, self.kernel)
            case "bprint":
                return Bprint(fmt, self.kernel)
            case "bputs":
                return Bputs(fmt, self.kernel)
            case "raw_data":
                return RawData(fmt, self.kernel)
            case "hwlat":
                return Hwlat(fmt, self.kernel)
            case "context_switch" | "wakeup":
                return Switch(fmt, self.kernel, self.heads.comm)
            case "funcgraph_entry":
                return Call(fmt, self.kernel, self.graph)
            case "funcgraph_exit":
                return Return(fmt, self.kernel, self.graph)
            case "func_repeats":
                return Repeats(fmt, self.kernel, self.graph)
        text = FORMATS.get(fmt.name)
        return None if text is None else self._program(fmt, text, b"")

    # ---- lines ---------------------------------------------------------------------------------------------------

    def report(self, rows: Rows, comms: Sequence[bytes] | None = None) -> bytes:
        """Write lines, see `taskscope.trace.source.Source.report`."""
        rows = np.asarray(rows, np.int64)
        out = [self._block(rows[k:k + BLOCK], None if comms is None else comms[k:k + BLOCK])
               for k in range(0, len(rows), BLOCK)]
        return b"".join(out)

    def _block(self, rows: Rows, comms: Sequence[bytes] | None) -> bytes:
        index = self.source.index
        types = index.type[rows]
        keep = self.graph.without_leaf_returns(rows, types)
        if not keep.all():
            rows, types = rows[keep], types[keep]
            comms = comms if comms is None else [c for c, k in zip(comms, keep.tolist(), strict=True) if k]
        if not len(rows):
            return b""
        heads = self.source.head[rows]
        at = self.source.reader.walker.data_words(heads) * 4
        pids, flags = self._common(rows, at)
        head = self.heads.pieces(pids, index.cpu[rows], flags, index.ts[rows], comms)
        before = _total(head)
        length = np.zeros(len(rows), np.int64) + before
        lost = self._lost_before(rows)
        for k, text in lost:
            length[k] += len(text)
        bodies = self._bodies_of(rows, types, heads, at)
        for which, pieces in bodies:
            length[which] += _total(pieces)
        if int(length.max()) > LONGEST:
            bodies = self._cut(rows, types, heads, at, length > LONGEST)
            length = np.zeros(len(rows), np.int64) + before
            for k, text in lost:
                length[k] += len(text)
            for which, pieces in bodies:
                length[which] += _total(pieces)
        end = np.cumsum(length)
        start = end - length
        sheet = self.sheet
        sheet.prepare(int(end[-1]))
        for k, text in lost:
            start[k] += len(text)
        body = start + before
        for which, pieces in bodies:
            _put(pieces, sheet, body[which])
        # What bodies wrote behind their ends is where heads and losses come.
        for k, text in lost:
            sheet.write(int(start[k]) - len(text), text)
        _put(head, sheet, start)
        return sheet.tobytes(int(end[-1]))

    def _bodies_of(self, rows: Rows, types: Column, heads: Column, at: Column) -> list[tuple[Column, list[Piece]]]:
        """Make the bodies of rows, type by type: which of the rows, and their pieces."""
        source = self.source
        walker = source.reader.walker
        order = np.argsort(types, kind="stable")
        ordered = types[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        ends = np.r_[starts[1:], len(order)]
        parts: list[tuple[Column, list[Piece]]] = []
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
            which = order[a:b]
            number = int(ordered[a])
            if number == UNKNOWN_TYPE:
                parts.append((which, [self._unknown(at[which])]))
                continue
            body = self.body(source.types[number])
            here = heads[which]
            records = PageRecords(self._fields_of(number), self._big_endian, self._long_size,
                                  data=source.recorded.data, at=at[which], sizes=partial(walker.sizes, here),
                                  reach=body.reach, rows=rows[which])
            try:
                parts.append((which, body.pieces(records)))
            except ValueError as e:
                # What no record of zeros showed when the body was made.
                body = self._bodies[number] = self._by_field(source.formats[number], str(e))
                parts.append((which, body.pieces(records)))
        return parts

    def _cut(self, rows: Rows, types: Column, heads: Column, at: Column,
             long: Column) -> list[tuple[Column, list[Piece]]]:
        """Make the bodies again, with a remark in place of those that are too long."""
        short, cut = np.flatnonzero(~long), np.flatnonzero(long)
        parts = self._bodies_of(rows[short], types[short], heads[short], at[short]) if len(short) else []
        return [*((short[which], pieces) for which, pieces in parts), (cut, [Literal(b"[LINE TOO BIG]\n")])]

    def _common(self, rows: Rows, at: Column) -> tuple[Column, Column]:
        """Return pid and flags of rows; where they stand as they always have, from one word of each record."""
        if not self._usual_head:
            return self.source.pids(rows), self.source.flags(rows)
        if self._big_endian:
            word = gather(self.source.recorded.data, at, ">u8").astype(np.uint64)
            swapped = (word >> np.uint64(32)).astype(np.uint32)
            flags = ((swapped & np.uint32(0xFF)) << np.uint32(8)) | ((swapped >> np.uint32(8)) & np.uint32(0xFF))
            return word.astype(np.uint32).view(np.int32), flags
        word = gather(self.source.recorded.data, at, "<u8").astype(np.uint64, copy=False)
        return (word >> np.uint64(32)).astype(np.uint32).view(np.int32), (word >> np.uint64(16)) & np.uint64(0xFFFF)

    @cached_property
    def _usual_head(self) -> bool:
        usual = {"common_type": (0, 2), "common_flags": (2, 1), "common_preempt_count": (3, 1), "common_pid": (4, 4)}
        for f in self.source.formats:
            if f.common:
                return {c.name: (c.offset, c.size) for c in f.common if c.name in usual} == usual
        return False

    def _unknown(self, at: Column) -> Piece:
        """Show records of types that the recording does not declare, as the kernel does."""
        ids = gather(self.source.recorded.data, at, ">u2" if self._big_endian else "<u2").tolist()
        return listed([b"Unknown type %d\n" % i for i in ids])

    # ---- losses --------------------------------------------------------------------------------------------------

    @cached_property
    def _losses(self) -> tuple[Column, list[bytes]]:
        """The rows that are the first after a loss, in order, and what the kernel prints before each."""
        index = self.source.index
        texts: dict[int, bytes] = {}
        gaps = [(g, g.cpu, g.end) for g in self.source.gaps if g.end is not None and g.cpu is not None]
        if not gaps or not len(index):
            return np.empty(0, np.int64), []
        place = (index.buffer.astype(np.uint32) << np.uint32(16)) | index.cpu
        starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
        ends = np.r_[starts[1:], len(place)].tolist()
        range_of = {int(place[a]): (a, b) for a, b in zip(starts.tolist(), ends, strict=True)}
        for g, cpu, end in gaps:
            a, b = range_of.get(g.buffer << 16 | cpu, (0, 0))
            row = a + int(np.searchsorted(index.ts[a:b], end))
            if row < b and index.ts[row] == end:
                count = b"" if g.count is None else b"%d " % g.count
                texts[row] = texts.get(row, b"") + b"CPU:%d [LOST %sEVENTS]\n" % (cpu, count)
        rows = sorted(texts)
        return np.array(rows, np.int64), [texts[r] for r in rows]

    def _lost_before(self, rows: Rows) -> list[tuple[int, bytes]]:
        """Return the losses to show before rows: which of the rows, and the line."""
        first, texts = self._losses
        if not len(first):
            return []
        k = np.minimum(np.searchsorted(first, rows), len(first) - 1)
        return [(i, texts[k[i]]) for i in np.flatnonzero(first[k] == rows).tolist()]

    # ---- fields --------------------------------------------------------------------------------------------------

    def field_text(self, type_: EventType, field: str, values: Column) -> list[str]:
        """Show values of a field, see `taskscope.trace.source.Source.field_text`.

        :raises KeyError: the type has no such field
        """
        key = (type_.index, field)
        texts = self._fields.get(key)
        if texts is None:
            fmt = self.source.formats[type_.index]
            program = self._parsed(type_)
            texts = self._fields[key] = FieldTexts(fmt, field, program, self.kernel)
        return texts.texts(values)

    def _parsed(self, type_: EventType) -> Program | None:
        """Return the program of a type's own print format, None if it cannot be used."""
        body = self.body(type_)
        fmt = self.source.formats[type_.index]
        if f"{fmt.system}:{fmt.name}" in self._reasons:
            return None
        return body if isinstance(body, Program) else None


def _total(pieces: Sequence[Piece]) -> Column | int:
    total: Column | int = 0
    for p in pieces:
        total = total + p.length
    return total


def _put(pieces: Sequence[Piece], sheet: Sheet, at: Column) -> None:
    """Write pieces one behind the other; `at` is moved along."""
    for p in pieces:
        p.put(sheet, at)
        at += p.length


def _version(release: str | None) -> Version | None:
    try:
        return kernel_of(release) if release else None
    except UsageError:
        return None
