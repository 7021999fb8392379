"""Ring-buffer pages decoded as they are read from a running recorder: the records of a few events, in order of time.

Pages of all cpus are walked together, once a round, by the walker that reads recordings (`pages`); only the rows of
the wanted events become Python objects, so that switches and wakeups in the same buffer cost next to nothing.  The
cpus are read one after the other, so a record is held back until a later round proves that every earlier one is in.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from taskscope.errors import TraceError
from taskscope.ftrace.fields import FieldReader
from taskscope.ftrace.format import EventFormat, RawField, parse_format
from taskscope.ftrace.pages import MISSED_EVENTS, PageWalker, Walked, parse_header_page

#: event of the records that say that a cpu lost events before them; its field ``count`` is None if unknown
LOST = "lost"

#: pages walked together at most (the walker takes up to 65,536; fewer stay in the cache)
_BLOCK = 4096

#: pages that wait undecoded at most: 8 MiB of those of 4 KiB
_WAITING = 2048

#: common_flags of a record that was written in an interrupt (hardirq, softirq, NMI; traceflags)
_IRQ = 0x08 | 0x10 | 0x40

_NAME = re.compile(rb"name:\s*(\S+)")

_Ints = npt.NDArray[np.int64]


class Record(NamedTuple):
    """One record; sorts by time, then cpu, then place in the cpu's buffer."""

    ts: int                  # of the recording's clock
    cpu: int
    n: int                   # place among the records of its cpu
    pid: int                 # the task that was current
    irq: bool                # written in interrupt context
    late: bool               # later records were given out before it came
    event: str
    f: dict[str, Any]        # text decoded, arrays as lists; a field that the format lacks is None


@dataclass(slots=True)
class _Event:
    """An event that is wanted, and its fields as this kernel has them."""

    name: str
    fields: dict[str, RawField | None]
    words: int               # of data that its fixed fields need
    only: tuple[str, frozenset[int]] | None = None       # take the rows alone whose field has one of these values


@dataclass(slots=True)
class _Cpu:
    """What is known of one cpu's buffer."""

    cpu: int
    fed: list[bytes] = field(default_factory=list)
    records: int = 0         # walked so far
    last: tuple[int, int] = (0, -1)      # event id and pid of the last record, for the stack that may follow


class Stream:
    """Decodes pages as they come.

    :param header_page: text of ``events/header_page``
    :param formats: (system, text of a format file); only those of wanted events are parsed
    :param wanted: fields by event name.  ``kernel_stack`` gives the stacks that stand directly behind an event of
        `stacks_of`, as the field ``caller``
    :param only: event -> (field, values): rows with another value are left out
    :param stacks_of: events whose stacks are wanted
    :param page_size: bytes of a sub-buffer
    :raises TraceError: the header page or the format of a wanted event cannot be understood
    """

    def __init__(self, header_page: bytes, formats: Iterable[tuple[str, bytes]], wanted: Mapping[str, Sequence[str]], *,
                 only: Mapping[str, tuple[str, frozenset[int]]] | None = None, stacks_of: frozenset[str] = frozenset(),
                 long_size: int = 8, big_endian: bool = False, page_size: int = 4096) -> None:
        try:
            self.layout = parse_header_page(header_page, long_size)
        except ValueError as e:
            raise TraceError(f"{e}; its pages cannot be read: give the header_page of the kernel that wrote them",
                             "events/header_page") from e
        self.page_size, self.big_endian, self.long_size = page_size, big_endian, long_size
        self._events: dict[int, _Event] = {}
        self._common: dict[str, RawField] = {}
        for system, text in formats:
            found = _NAME.search(text, 0, 4096)
            name = found[1].decode("ascii", "replace") if found else ""
            if name in wanted and all(e.name != name for e in self._events.values()):
                self._add(system, text, wanted[name], (only or {}).get(name))
        self._is_wanted = np.zeros(65536, bool)
        self._is_wanted[list(self._events)] = True
        self._with_stack = np.array([k for k, e in self._events.items() if e.name in stacks_of], np.uint16)
        self._cpus: dict[tuple[int, int], _Cpu] = {}         # by cpu and buffer
        self._waiting = 0
        self._held: list[Record] = []
        self._out: list[Record] = []
        # The newest time decoded, that of the round before, and up to where records were given out.
        self._newest = self._proved = self._given = -(1 << 63)

    @property
    def events(self) -> frozenset[str]:
        """The wanted events that this kernel has."""
        return frozenset(e.name for e in self._events.values())

    def _add(self, system: str, text: bytes, fields: Sequence[str], only: tuple[str, frozenset[int]] | None) -> None:
        try:
            fmt = parse_format(text, system, self.long_size)
        except ValueError as e:
            raise TraceError(f"{e}; record with a kernel whose formats are whole", f"events/{system}") from e
        if 0 < fmt.id < 65536:
            found = {n: fmt.field(n) for n in fields}
            caller = found.get("caller")
            if caller is not None:
                # Whatever length the format gives the array: it goes on to the end of the record.
                found["caller"] = replace(caller, count=0)
            self._events[fmt.id] = _Event(fmt.name, found, _words(fmt), only)
            self._common = self._common or {f.name: f for f in fmt.common}

    # ---- in ----------------------------------------------------------------------------------------------------

    def feed(self, cpu: int, pages: bytes | bytearray | memoryview, buffer: int = 0) -> None:
        """Take pages that were read from a cpu: whole sub-buffers, each as full as it was when it was read.

        The bytes are copied.  No record may be given twice: ``trace_pipe_raw`` never does.

        :param buffer: tells apart the buffers of several instances, which must record different events
        """
        if not len(pages):
            return
        state = self._cpus.setdefault((cpu, buffer), _Cpu(cpu))
        chunk = bytes(pages)
        short = -len(chunk) % self.page_size
        state.fed.append(chunk + bytes(short) if short else chunk)
        self._waiting += -(-len(chunk) // self.page_size)
        if self._waiting >= _WAITING:
            self._decode()

    def tick(self) -> None:
        """Say that every cpu has been read until it had nothing more, since the last tick.

        So each record that was written before the last tick is here now, and those fed before it can be put in order.
        Partly filled pages must have been read too, or else what stands in them comes late.
        """
        self._decode()
        self._release(self._proved)
        self._proved = self._newest

    def take(self) -> list[Record]:
        """Return the records that can be followed by later ones only, in order of time; each once."""
        out, self._out = self._out, []
        return out

    def end(self) -> list[Record]:
        """Return all records that are left: nothing more will be fed."""
        self._decode()
        self._release(self._newest)
        return self.take()

    def _release(self, until: int) -> None:
        self._held.sort(key=lambda r: r[:3])
        k = bisect_right(self._held, until, key=lambda r: r.ts)
        self._out += self._held[:k]
        del self._held[:k]
        self._given = max(self._given, until)

    # ---- decoding ----------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        states = [state for _, state in sorted(self._cpus.items()) if state.fed]
        if not states:
            return
        data = np.frombuffer(b"".join(chunk for state in states for chunk in state.fed), np.uint8)
        owner = np.repeat(np.arange(len(states)), [sum(map(len, s.fed)) // self.page_size for s in states])
        for state in states:
            state.fed = []
        self._waiting = 0
        walker = PageWalker(data, self.big_endian, self.layout, self.page_size)
        reader = FieldReader(walker, data, self.big_endian, self.long_size)
        for k in range(0, len(owner), _BLOCK):
            self._block(walker, reader, k * self.page_size, owner[k:k + _BLOCK], states)

    def _block(self, walker: PageWalker, reader: FieldReader, start: int, owner: _Ints, states: list[_Cpu]) -> None:
        """Decode pages that stand one behind the other; `owner` is the place of each page's cpu among the states."""
        offsets = start + np.arange(len(owner), dtype=np.int64) * self.page_size
        w = walker.walk(offsets, walker.lengths(offsets, np.full(len(owner), self.page_size, np.int64)))
        cpus = np.array([state.cpu for state in states], np.int64)[owner]
        shift = np.zeros(len(owner), np.int64)       # number in its cpu minus number in the block, by page
        runs: list[tuple[_Cpu, int, int]] = []       # whose, its first record, behind its last one
        for a, b in pairwise(np.flatnonzero(np.diff(owner, prepend=-1, append=-1)).tolist()):
            state = states[int(owner[a])]
            first, end = int(w.first[a]), int(w.first[b])
            shift[a:b] = state.records - first
            state.records += end - first
            if first < end:
                runs.append((state, first, end))
        self._losses(walker, w, offsets, cpus, shift)
        rows = np.flatnonzero(self._is_wanted.take(w.id))
        ids = w.id[rows]
        for number in np.unique(ids).tolist():
            event = self._events[number]
            mine = rows[ids == number]
            mine = mine[w.words[mine] >= event.words]
            if event.name == "kernel_stack":
                mine = mine[self._behind(reader, w, mine, runs)]
            if len(mine):
                page = np.searchsorted(w.first, mine, side="right") - 1
                self._rows(reader, w, event, mine, cpus[page], shift[page])
        for state, _, end in runs:
            pid = self._common_ints(reader, w.head[end - 1:end], "common_pid")
            state.last = int(w.id[end - 1]), int(pid[0])
        if len(w.ts):
            self._newest = max(self._newest, int(w.ts.max()))

    def _losses(self, walker: PageWalker, w: Walked, offsets: _Ints, cpus: _Ints, shift: _Ints) -> None:
        """Note where pages say that events were lost before them, and where a damaged record ends a page."""
        found: list[tuple[int, int, int, int | None]] = []       # page, record that is nearest, place, count
        for p in np.flatnonzero(walker.commits(offsets) & np.uint32(MISSED_EVENTS)).tolist():
            _, count = walker.missed(int(offsets[p]), self.page_size)
            found.append((p, int(w.first[p]), -1, count))
        found += [(p, int(w.first[p + 1]) - 1, 1, None) for p in w.damaged.tolist()]
        for p, row, side, count in found:
            inside = int(w.first[p]) <= row < int(w.first[p + 1])
            ts = int(w.ts[row]) if inside else int(walker.stamps(offsets[p:p + 1])[0])
            # The record of that number has twice it as its place: this one stands before or behind it.
            place = 2 * (row + int(shift[p])) + side
            self._newest = max(self._newest, ts)
            self._held.append(Record(ts, int(cpus[p]), place, 0, False, ts < self._given, LOST, {"count": count}))

    def _behind(self, reader: FieldReader, w: Walked, rows: _Ints,
                runs: list[tuple[_Cpu, int, int]]) -> npt.NDArray[np.bool_]:
        """Tell which stacks stand directly behind a record of the same task whose stack is wanted."""
        if not len(rows) or not len(self._with_stack):
            return np.zeros(len(rows), bool)
        before = np.maximum(rows - 1, 0)
        pids = self._common_ints(reader, w.head[rows], "common_pid")
        same = pids == self._common_ints(reader, w.head[before], "common_pid")
        keep: npt.NDArray[np.bool_] = np.isin(w.id[before], self._with_stack) & same
        for state, first, _ in runs:
            at = np.flatnonzero(rows == first)
            if len(at):
                number, pid = state.last
                keep[at] = number in self._with_stack and pid == int(pids[at[0]])
        return keep

    def _common_ints(self, reader: FieldReader, head: npt.NDArray[np.uint32], name: str) -> npt.NDArray[Any]:
        f = self._common.get(name)
        return reader.ints(head, f.offset, f.size, f.signed) if f is not None else np.zeros(len(head), np.int32)

    def _rows(self, reader: FieldReader, w: Walked, event: _Event, rows: _Ints, cpus: _Ints, shift: _Ints) -> None:
        if event.only is not None:
            f = event.fields.get(event.only[0])
            if f is None:
                return
            keep = np.isin(reader.column(f, w.head[rows]), list(event.only[1]))
            rows, cpus, shift = rows[keep], cpus[keep], shift[keep]
        head = w.head[rows]
        names = tuple(event.fields)
        columns = [_values(reader, f, head) for f in event.fields.values()]
        values = zip(*columns, strict=True) if columns else iter([()] * len(rows))
        ts = w.ts[rows].tolist()
        irq = (self._common_ints(reader, head, "common_flags") & _IRQ) != 0
        pids = self._common_ints(reader, head, "common_pid")
        given = self._given
        self._held += [
            Record(t, cpu, n, pid, i, t < given, event.name, dict(zip(names, v, strict=True)))
            for t, cpu, n, pid, i, v in zip(ts, cpus.tolist(), (2 * (rows + shift)).tolist(), pids.tolist(),
                                            irq.tolist(), values, strict=True)]


def _words(fmt: EventFormat) -> int:
    """Return the words that a record of the format has at least."""
    need = max((f.offset + f.size for f in (*fmt.common, *fmt.fields)), default=0)
    # The kernel cuts ftrace's own records (stacks) to what they hold.
    return (min(need, 8) if fmt.system == "ftrace" else need) + 3 >> 2


def _values(reader: FieldReader, f: RawField | None, head: npt.NDArray[np.uint32]) -> list[Any]:
    if f is None:
        return [None] * len(head)
    column = reader.column(f, head).tolist()
    if f.is_string:
        return [bytes(x).decode("utf-8", "backslashreplace") for x in column]
    return [x.tolist() for x in column] if f.is_array else column
