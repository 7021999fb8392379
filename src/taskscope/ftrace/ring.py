"""A recording of ring-buffer pages as a `Source`: walks all pages, gathers fields of any event by their offsets.

What is gathered comes from the event formats that the recording carries.  Only the index (time, cpu, type, place of
each record) is kept; a column is read from the pages when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskscope.errors import TraceError
from taskscope.ftrace.fields import FieldReader
from taskscope.ftrace.format import EventFormat, parse_format
from taskscope.ftrace.kallsyms import Symbols
from taskscope.ftrace.pages import MISSED_EVENTS, PageWalker, Walked, parse_header_page
from taskscope.ftrace.recorded import Buffer, CpuPages, Recorded, TscConversion
from taskscope.trace.source import UNKNOWN_TYPE, Clock, Column, EventType, Gap, Index, Kernel, Rows, Source

if TYPE_CHECKING:
    from taskscope.ftrace.lines import LineWriter

#: pages walked together: large enough that NumPy's overhead vanishes, small enough to stay in the cache
_BLOCK = 4096

#: bytes of a small but common record, its header included
_COMMON = 24

#: clocks that count something else than ns
COUNTERS = frozenset({"x86-tsc", "counter", "ppc-tb"})


@dataclass(slots=True)
class _Job:
    """A block of pages of one cpu of one buffer."""

    number: int              # of the buffer among those chosen
    buffer: Buffer
    cpu: CpuPages
    walker: PageWalker
    offsets: npt.NDArray[np.int64]


@dataclass(slots=True)
class _Block:
    """What a block of pages holds."""

    job: _Job
    walked: Walked
    ts: npt.NDArray[np.int64]
    types: npt.NDArray[np.uint16]
    commits: npt.NDArray[np.uint32]
    short: int
    unknown: int


class RingSource(Source):
    """See `taskscope.trace.source.Source`; `formats` are the parsed formats, parallel to `types`."""

    def __init__(self, recorded: Recorded, buffer: str | None = None) -> None:
        self.recorded = recorded
        self.path = recorded.path
        self.container = recorded.container
        self.cmdlines = recorded.cmdlines
        self.tgids = recorded.tgids
        self._notes: list[str] = list(recorded.notes)
        self.formats: list[EventFormat] = []
        self.types = self._parse_formats()
        buffers = recorded.buffers
        if buffer is not None:
            buffers = [b for b in buffers if b.name == buffer]
            if not buffers:
                names = ", ".join(repr(b.name) for b in recorded.buffers)
                raise TraceError(f"has no buffer {buffer!r}; it has {names}", self.path)
        self.chosen = buffers = self._of_one_clock(buffers)
        self.buffers = tuple(b.name for b in buffers)
        try:
            self.layout = parse_header_page(recorded.header_page, recorded.long_size)
        except ValueError as e:
            raise TraceError(f"{e}; its pages cannot be read, record again", self.path) from e
        self.clock = self._clock()
        self.kernel = Kernel(recorded.release, recorded.machine, "big" if recorded.big_endian else "little",
                             recorded.long_size, _hostname(recorded.uname))
        self.index, self.head, self.gaps = self._walk_all()
        cpus = {c.cpu for b in buffers for c in b.cpus}
        if recorded.cpu_count is not None:
            cpus.update(range(min(recorded.cpu_count, 1 << 14)))
        self.cpus = tuple(sorted(cpus))
        self.notes = tuple(self._notes)

    # ---- formats -----------------------------------------------------------------------------------------------

    def _parse_formats(self) -> tuple[EventType, ...]:
        types: list[EventType] = []
        seen: set[int] = set()
        bad = 0
        first_bad = ""
        for system, text in self.recorded.formats:
            try:
                fmt = parse_format(text, system, self.recorded.long_size)
            except ValueError as e:
                bad += 1
                first_bad = first_bad or str(e)
                continue
            if fmt.id in seen or not 0 < fmt.id < UNKNOWN_TYPE:
                continue
            seen.add(fmt.id)
            self.formats.append(fmt)
            types.append(EventType(len(types), fmt.system, fmt.name, fmt.public_fields(), fmt.print_fmt))
        if bad:
            self._notes.append(f"{bad} event format{'s' if bad > 1 else ''} could not be understood ({first_bad}); "
                               "records of these events are not decoded")
        return tuple(types)

    @cached_property
    def _type_of_id(self) -> npt.NDArray[np.uint16]:
        table = np.full(65536, UNKNOWN_TYPE, np.uint16)
        for i, f in enumerate(self.formats):
            table[f.id] = i
        return table

    @cached_property
    def _min_words(self) -> npt.NDArray[np.uint16]:
        """Words of data that a record of each event id must have for its fixed fields."""
        table = np.zeros(65536, np.uint16)
        for f in self.formats:
            need = max((x.offset + x.size for x in (*f.common, *f.fields)), default=0)
            if f.system == "ftrace":
                # The kernel cuts ftrace's own records (stacks, prints) to what they hold.
                need = min(need, 8)
            table[f.id] = min((need + 3) // 4, 0xFFFF)
        return table

    def _of_one_clock(self, buffers: list[Buffer]) -> list[Buffer]:
        """Keep the buffers whose clock is the first one's: other stamps cannot be put in order with them."""
        first = next((b.clock for b in buffers if b.clock), None)
        kept = [b for b in buffers if b.clock in (None, first)]
        for b in buffers:
            if b.clock not in (None, first):
                self._notes.append(f"buffer {b.name!r} was recorded with clock {b.clock}, not {first}; it is left out "
                                   f"(read it alone: buffer={b.name!r})")
        return kept

    def _clock(self) -> Clock:
        name = next((b.clock for b in self.chosen if b.clock), None) or self.recorded.clock or "local"
        if name in COUNTERS and self.recorded.tsc is None:
            return Clock(name, "cycles")
        return Clock(name)

    # ---- pages -------------------------------------------------------------------------------------------------

    def _walk_all(self) -> tuple[Index, npt.NDArray[np.uint32], tuple[Gap, ...]]:
        jobs: list[_Job] = []
        for b, buffer in enumerate(self.chosen):
            walker = PageWalker(self.recorded.data, self.recorded.big_endian, self.layout, buffer.page_size)
            for c in sorted(buffer.cpus, key=lambda c: c.cpu):
                offsets = c.offset + np.arange(0, c.size - self.layout.data, buffer.page_size, dtype=np.int64)
                jobs += [_Job(b, buffer, c, walker, offsets[k:k + _BLOCK]) for k in range(0, len(offsets), _BLOCK)]
        _ = self._type_of_id, self._min_words          # made here, used in the threads
        with ThreadPoolExecutor(2 if len(jobs) > 2 else 1) as pool:
            return self._index(jobs, pool.map(self._walk, jobs))

    def _walk(self, job: _Job) -> _Block:
        """Walk one block of pages and look its records' types up."""
        limits = np.minimum(job.cpu.offset + job.cpu.size - job.offsets, job.buffer.page_size)
        commits = job.walker.commits(job.offsets)
        w = job.walker.walk(job.offsets, job.walker.lengths(job.offsets, limits))
        types = self._type_of_id.take(w.id)
        small = w.words < self._min_words.take(w.id)
        short = int(np.count_nonzero(small))
        if short:
            types[small] = UNKNOWN_TYPE
        unknown = int(np.count_nonzero(types == UNKNOWN_TYPE))
        return _Block(job, w, self._to_ns(w.ts), types, commits, short, unknown)

    def _index(self, jobs: list[_Job], blocks: Iterator[_Block]
               ) -> tuple[Index, npt.NDArray[np.uint32], tuple[Gap, ...]]:
        # Room for as many records as pages commonly hold: what is not used is never touched, and costs nothing.
        room = sum(len(j.offsets) * (j.buffer.page_size // _COMMON + 1) for j in jobs)
        columns: list[npt.NDArray[Any]] = [np.empty(room, d) for d in ("i8", "u2", "u2", "u1", "u4")]
        ts, cpu, type_, buf, head = columns
        gaps: list[Gap] = []
        previous: tuple[int, int] | None = None
        last_ts: int | None = None
        damaged = short = unknown = at = 0
        for block in blocks:
            job, here = block.job, slice(at, at + len(block.ts))
            if (job.number, job.cpu.cpu) != previous:
                previous, last_ts = (job.number, job.cpu.cpu), None
            gaps += self._gaps_of(block, last_ts)
            if here.stop > len(ts):
                columns = [_grown(c, at, 2 * here.stop) for c in columns]
                ts, cpu, type_, buf, head = columns
            ts[here], type_[here], head[here] = block.ts, block.types, block.walked.head
            cpu[here], buf[here] = job.cpu.cpu, job.number
            if len(block.ts):
                last_ts = int(block.ts[-1])
            damaged, short, unknown = damaged + len(block.walked.damaged), short + block.short, unknown + block.unknown
            at += len(block.ts)
        ts, cpu, type_, buf, head = ts[:at], cpu[:at], type_[:at], buf[:at], head[:at]
        if damaged:
            self._notes.append(f"{damaged} ring-buffer page{'s' if damaged > 1 else ''} hold damaged records; "
                               "what stands before the damage was read, what follows in that page is lost")
        if short:
            self._notes.append(f"{short} records are shorter than their event's format and were not decoded")
        if unknown > short:
            self._notes.append(f"{unknown - short} records are of event types that the recording does not declare")
        gaps += self._overwritten(gaps, ts, cpu, buf)
        gaps += self._cut_off(ts, cpu, buf)
        gaps.sort(key=lambda g: (g.end if g.end is not None else 1 << 62, g.cpu if g.cpu is not None else -1))
        return Index(ts, cpu, type_, buf), head, tuple(gaps)

    @staticmethod
    def _gaps_of(block: _Block, last_ts: int | None) -> list[Gap]:
        """Find the losses that pages report, and those that damaged records made.

        :param last_ts: time of the last record of the same cpu before the block
        """
        job, w, ts = block.job, block.walked, block.ts
        gaps: list[Gap] = []
        for page in np.union1d(np.flatnonzero(block.commits & np.uint32(MISSED_EVENTS)), w.damaged + 1).tolist():
            first = int(w.first[page]) if page < len(job.offsets) else len(ts)
            start = int(ts[first - 1]) if first > 0 else last_ts
            end = int(ts[first]) if first < len(ts) else None
            count: int | None = None
            if page < len(job.offsets):
                offset = int(job.offsets[page])
                _, count = job.walker.missed(offset, job.cpu.offset + job.cpu.size - offset)
            gaps.append(Gap(job.cpu.cpu, start, end, count, job.number))
        return gaps

    def _overwritten(self, gaps: list[Gap], ts: npt.NDArray[np.int64], cpu: npt.NDArray[np.uint16],
                     buf: npt.NDArray[np.uint8]) -> list[Gap]:
        """Find losses that only the statistics tell: the oldest events of a ring that was overwritten."""
        found: list[Gap] = []
        for b, buffer in enumerate(self.chosen):
            for c in buffer.cpus:
                if c.overrun and not any(g.cpu == c.cpu and g.buffer == b for g in gaps):
                    rows = np.flatnonzero((cpu == c.cpu) & (buf == b))
                    found.append(Gap(c.cpu, None, int(ts[rows[0]]) if len(rows) else None, c.overrun, b))
        return found

    def _cut_off(self, ts: npt.NDArray[np.int64], cpu: npt.NDArray[np.uint16],
                 buf: npt.NDArray[np.uint8]) -> list[Gap]:
        """Find losses at the end of a cpu: a file that is cut, or a buffer that was full and took no more events."""
        found: list[Gap] = []
        for b, buffer in enumerate(self.chosen):
            for c in buffer.cpus:
                if c.missing or c.dropped:
                    rows = np.flatnonzero((cpu == c.cpu) & (buf == b))
                    start = int(ts[rows[-1]]) if len(rows) else None
                    found.append(Gap(c.cpu, start, None, None if c.missing else c.dropped, b))
        return found

    def _to_ns(self, ts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        tsc = self.recorded.tsc
        if tsc is not None:
            ts = _tsc_to_ns(ts, tsc)
        return ts + self.recorded.ts_offset if self.recorded.ts_offset else ts

    # ---- columns -----------------------------------------------------------------------------------------------

    @cached_property
    def reader(self) -> FieldReader:
        """Gathers fields from the pages."""
        walker = PageWalker(self.recorded.data, self.recorded.big_endian, self.layout, 4096)
        return FieldReader(walker, self.recorded.data, self.recorded.big_endian, self.recorded.long_size)

    @cached_property
    def _common(self) -> dict[str, tuple[int, int]]:
        """Offset and size of the common fields, which all events of a kernel share."""
        for f in self.formats:
            found = {x.name: (x.offset, x.size) for x in f.common}
            if "common_pid" in found:
                return found
        return {}

    def pids(self, rows: Rows) -> npt.NDArray[np.int32]:
        """See `Source.pids`."""
        offset, size = self._common.get("common_pid", (4, 4))
        return self.reader.ints(self.head[rows], offset, size, signed=True).astype(np.int32, copy=False)

    def flags(self, rows: Rows) -> npt.NDArray[np.uint16]:
        """See `Source.flags`."""
        head = self.head[rows]
        flags = self.reader.ints(head, *self._common.get("common_flags", (2, 1)), signed=False).astype(np.uint16)
        count = self.reader.ints(head, *self._common.get("common_preempt_count", (3, 1)), signed=False)
        return (flags | (count.astype(np.uint16) << np.uint16(8))).astype(np.uint16, copy=False)

    def column(self, type: EventType, field: str, rows: Rows) -> Column:
        """See `Source.column`."""
        fmt = self.formats[type.index]
        for f in (*fmt.fields, *fmt.common):
            if f.name == field:
                return self.reader.column(f, self.head[rows])
        raise KeyError(field)

    @cached_property
    def symbols(self) -> Symbols:
        """The kernel's symbols, as the recording carries them."""
        return Symbols(self.recorded.kallsyms)

    # ---- text --------------------------------------------------------------------------------------------------

    @cached_property
    def _lines(self) -> LineWriter:
        from taskscope.ftrace.lines import LineWriter

        return LineWriter(self)

    def field_text(self, type: EventType, field: str, values: Column) -> list[str]:
        """See `Source.field_text`."""
        return self._lines.field_text(type, field, values)

    def report(self, rows: Rows, *, comms: Sequence[bytes] | None = None) -> bytes:
        """See `Source.report`."""
        return self._lines.report(rows, comms)

    def frames(self, row: int) -> tuple[str, ...]:
        """See `Source.frames`."""
        type_ = self.types[int(self.index.type[row])]
        rows = np.array([row])
        callers = self.column(type_, "caller", rows)[0]
        if type_.field("size") is not None:
            # The record may be longer than the stack in it.
            callers = callers[:max(int(self.column(type_, "size", rows)[0]), 0)]
        end = (1 << (8 * self.recorded.long_size)) - 1
        names: list[str] = []
        for address in callers.tolist():
            address &= end
            if address in (0, end):
                break
            names.append(self.symbols.function(address) or f"0x{address:x}")
        return tuple(names)


def _grown(column: npt.NDArray[Any], used: int, size: int) -> npt.NDArray[Any]:
    """Return a longer column with the same beginning."""
    longer = np.empty(size, column.dtype)
    longer[:used] = column[:used]
    return longer


def _tsc_to_ns(ts: npt.NDArray[np.int64], tsc: TscConversion) -> npt.NDArray[np.int64]:
    """Convert cycles as trace-cmd does since 2021, without the offset: it is in cycles of another zero.

    (ts * mult) needs more than 64 bits, so the halves are multiplied apart.
    """
    high, low = ts >> 32, ts & 0xFFFFFFFF
    if tsc.shift <= 32:
        ns = ((high * tsc.mult) << (32 - tsc.shift)) + ((low * tsc.mult) >> tsc.shift)
    else:
        ns = (high * tsc.mult + ((low * tsc.mult) >> 32)) >> (tsc.shift - 32)
    return ns


def _hostname(uname: str | None) -> str | None:
    words = uname.split() if uname else []
    return words[1] if len(words) >= 4 else None
