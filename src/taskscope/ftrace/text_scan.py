"""The pass over a text: every line is read once, in blocks, into parallel columns of records.

A block is matched in one go by the line grammar (`taskscope.ftrace.text_lines`), its columns are turned into arrays,
and the bodies of each event type are taken apart together.  What is kept of a record is some 35 bytes and its fields;
bodies stay where they are, in the text.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.text_block import Block, Unread
from taskscope.ftrace.text_columns import decimals
from taskscope.ftrace.text_fixed import Fixed, FixedHeads
from taskscope.ftrace.text_frames import perf_frames
from taskscope.ftrace.text_header import Header
from taskscope.ftrace.text_join import Lines, join_bodies, join_comm
from taskscope.ftrace.text_lines import Grammar, Text
from taskscope.ftrace.text_types import TextType, Types

#: bytes read at a time; a line longer than this is no line of a recording
_BLOCK = 1 << 20
#: after a line this long nothing more is read
_ENDLESS = 64 << 20
#: lines in which the columns of a block's heads are looked for
_SAMPLE = 64
#: bytes that the line of a record has at least
_SHORTEST = 8
_SCALE = [10 ** (9 - n) for n in range(10)]


@dataclass
class Scan:
    """What one text holds; made by `scan`."""

    data: Text
    grammar: Grammar
    header: Header = field(default_factory=Header)
    types: Types = field(init=False)
    comms: dict[bytes, int] = field(default_factory=dict)
    tokens: dict[bytes, int] = field(default_factory=lambda: {b"": 0})
    unread: Unread = field(default_factory=Unread)
    odd: dict[int, Unread] = field(default_factory=dict)      # type index -> records whose body was not understood
    records: Block = field(init=False)
    digits: int = 0                      # decimal places of the finest stamp
    no_cpu: bool = False
    endless: int | None = None           # number of a line so long that what follows it was not read
    _count: int = 0
    _line: int = 1
    _crlf: bool = False                  # lines end as in texts of Windows

    def __post_init__(self) -> None:
        self.types = Types(self.grammar.style)
        self._group = {name: number - 1 for name, number in self.grammar.pattern.groupindex.items()}
        self._perf = self.grammar.style == "perf"

    def run(self, regions: list[tuple[int, int]]) -> None:
        """Read the stretches of the text that hold the recording."""
        blocks: list[Block] = []
        at = 0
        for start, end in regions:
            self._crlf = self.data[start:start + (1 << 16)].partition(b"\n")[0].endswith(b"\r")
            self._line += _newlines(self.data, at, start)
            at = start
            while at < end:
                stop = self._block_end(at, end)
                if stop - at > _BLOCK + (1 << 20):
                    if stop - at > _ENDLESS:
                        self.endless = self._line
                    self.unread.add(self._line)
                    self._line += 1
                else:
                    block = self._read(at, stop)
                    if block is not None:
                        blocks.append(block)
                        self._count += len(block.ts)
                at = stop
        self.records = Block.concat(blocks)

    def _block_end(self, at: int, end: int) -> int:
        """Return where a block that begins at `at` ends: before a record, so that what follows one stays with it."""
        stop = at + _BLOCK
        if stop >= end:
            return end
        cut = self.data.rfind(b"\n", at, stop)
        if cut < 0:
            cut = self.data.find(b"\n", stop, min(end, at + _ENDLESS))
            return end if cut < 0 else cut + 1
        first = cut + 1
        place = first
        for _ in range(256):
            m = self.grammar.pattern.match(self.data, place, min(end, place + 65536))
            if m is not None and m[self.grammar.stamp]:
                return place
            place = self.data.find(b"\n", place, min(end, first + (1 << 20))) + 1
            if not place:
                return end if end - first <= 1 << 20 else first
        return first

    # ---- one block ---------------------------------------------------------------------------------------------

    def _read(self, at: int, stop: int) -> Block | None:
        lines, fixed, rows, slow = self._split(at, stop)
        for i, line in lines.others:
            if line.startswith(b"#"):
                self.header.comment(line, self._count + int(np.searchsorted(lines.events, i)))
        stamp = self._group[self.grammar.stamp]
        rows = [row for row in rows if row[stamp]]
        parts: list[Block] = []
        rests: list[bytes] = []
        types: list[TextType] = []
        if rows:
            columns = list(zip(*rows, strict=True))
            rests = list(columns[self._group["rest"]])
            part = self._columns(columns)
            part.start = lines.ends[slow] - np.fromiter(map(len, rests), np.int64, len(rests))
            rests = self._plain(rests)
            types = self._types(columns, rests, part.start)
            parts.append(part)
        if fixed is not None:
            part = self._fixed_columns(fixed)
            part.start = lines.ends[fixed.lines] - np.fromiter(map(len, fixed.rests), np.int64, len(fixed.rests))
            parts.append(part)
            rests += self._plain(fixed.rests)
            types += fixed.types
        block = Block.concat(parts)
        if len(parts) == 2:
            order = np.argsort(np.concatenate([slow, fixed.lines if fixed is not None else slow]), kind="stable")
            block = block.take(order)
            rests = [rests[i] for i in order.tolist()]
            types = [types[i] for i in order.tolist()]
        join_bodies(self.data, self.grammar, lines, rests, types)
        self._others(lines, block)
        if not parts:
            for i in lines.frames.tolist():
                self.unread.add(int(lines.number[i]))
            return None
        block.type = np.array([t.index for t in types], np.uint16)
        block.size = np.fromiter(map(len, rests), np.int32, len(rests))
        self._bodies(block, rests, types, lines)
        return self._stacks(block, lines)

    def _plain(self, bodies: list[bytes]) -> list[bytes]:
        return [b.removesuffix(b"\r") for b in bodies] if self._crlf else bodies

    def _split(self, at: int, stop: int) -> tuple[Lines, FixedHeads | None, list[tuple[bytes, ...]],
                                                  npt.NDArray[np.int64]]:
        """Split a block into lines and match them.

        :return: the lines; the heads that stand in fixed columns; what the grammar found in the other lines; which
            of those are records
        """
        text = self.data[at:stop].removesuffix(b"\n")
        breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == 0x0A)
        starts, ends = np.concatenate(([0], breaks + 1)), np.concatenate((breaks, [len(text)]))
        number = np.arange(self._line, self._line + len(starts))
        self._line += len(starts)
        short = ends - starts < _SHORTEST
        if len(starts) > 4096 and 2 * int(short.sum()) > len(starts):
            # No text of a tracer has so many: they are passed over without being looked at one by one.
            junk = np.flatnonzero(short & (ends > starts))
            if len(junk):
                self.unread.add(int(number[junk[0]]), len(junk))
            starts, ends, number = starts[~short], ends[~short], number[~short]
        fixed = self._find_fixed(text, starts, ends)
        slow = np.ones(len(starts), bool)
        if fixed is not None:
            slow[fixed.lines] = False
        if fixed is not None or len(breaks) + 1 != len(starts):
            places = zip(starts[slow].tolist(), ends[slow].tolist(), strict=True)
            rows = self.grammar.pattern.findall(b"\n".join([text[a:b] for a, b in places])) if slow.any() else []
        else:
            rows = self.grammar.pattern.findall(text)
        stamp, other = self._group[self.grammar.stamp], self._group["other"]
        is_event = ~slow
        slow_lines = np.flatnonzero(slow)
        is_event[slow_lines] = [row[stamp] != b"" for row in rows]
        others = [(i, row[other]) for i, row in zip(slow_lines.tolist(), rows, strict=True) if row[other]]
        frames = ~is_event & (ends > starts)
        frames[[i for i, _ in others]] = False
        lines = Lines(starts + at, ends + at, is_event, np.flatnonzero(is_event), others, np.flatnonzero(frames),
                      number)
        return lines, fixed, rows, slow_lines[is_event[slow_lines]]

    def _find_fixed(self, text: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> FixedHeads | None:
        """Read the heads in fixed columns; the columns are those of the first record whose event is known."""
        if not self.types.known:
            return None
        for a, b in zip(starts[:_SAMPLE].tolist(), ends[:_SAMPLE].tolist(), strict=True):
            fixed = Fixed.of(self.grammar, text[a:b])
            if fixed is not None:
                return fixed.read(text, starts, ends, self.types.known)
        return None

    def _types(self, columns: list[Any], rests: list[bytes], starts: npt.NDArray[np.int64]) -> list[TextType]:
        """Find the types; bodies that begin with the name are given it back."""
        self.types.tracer = self.header.tracer
        names = columns[self._group["name"]]
        types: list[Any] = list(map(self.types.known.get, names))
        if None in types:
            for i, name in enumerate(names):
                if types[i] is None:
                    types[i], inside = self.types.resolve(name, rests[i])
                    if inside:
                        body = name + b": " + rests[i]
                        starts[i] -= len(body) - len(rests[i])
                        rests[i] = body
        return types

    def _fixed_columns(self, fixed: FixedHeads) -> Block:
        n = len(fixed.lines)
        self.digits = max(self.digits, fixed.digits)
        return Block(fixed.ts, fixed.cpu, np.zeros(n, np.uint16), fixed.pid, fixed.tgid, self._comms(fixed.comms),
                     self._flags(fixed.flags), np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int8))

    def _comms(self, comms: Sequence[bytes]) -> npt.NDArray[np.int32]:
        for comm in dict.fromkeys(comms):
            self.comms.setdefault(comm, len(self.comms))
        return np.fromiter(map(self.comms.__getitem__, comms), np.int32, len(comms))

    def _flags(self, tokens: Sequence[bytes]) -> npt.NDArray[np.uint16]:
        for token in dict.fromkeys(tokens):
            self._token(token)
        return np.fromiter([self.tokens.get(t, 0) for t in tokens], np.uint16, len(tokens))

    def _columns(self, columns: list[Any]) -> Block:
        group, comms = self._group, columns[self._group["comm"]]
        n = len(comms)
        flags = np.zeros(n, np.uint16)
        if "flags" in group:
            flags = self._flags(columns[group["flags"]])
        elif "rawflags" in group:
            raw = zip(columns[group["rawflags"]], columns[group["rawcount"]], strict=True)
            flags = np.array([self._raw_token(a, b) for a, b in raw], np.uint16)
        tgid = np.full(n, -1, np.int32)
        if "tgid" in group and any(columns[group["tgid"]]):
            found = columns[group["tgid"]]
            number = {t: int(t) if t.isdigit() and len(t) < 10 else -1 for t in set(found)}
            tgid = np.fromiter(map(number.__getitem__, found), np.int32, n)
        cpus = columns[group["cpu"]]
        if b"" in cpus:
            self.no_cpu = True
            cpus = [c or b"0" for c in cpus]
        return Block(self._stamps(columns), decimals(cpus).astype(np.uint16), np.zeros(n, np.uint16),
                     decimals(columns[group["pid"]]).astype(np.int32), tgid, self._comms(comms), flags,
                     np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int8))

    def _token(self, token: bytes) -> int:
        if len(self.tokens) > 0xFFFF and token not in self.tokens:
            return 0
        return self.tokens.setdefault(token, len(self.tokens))

    def _raw_token(self, flags: bytes, count: bytes) -> int:
        """Number the flags of the verbose format, which prints the bits themselves (`Scan.bits` knows the mark)."""
        return self._token(b"=%x" % (int(flags) & 0xFF | (int(count, 16) & 0xFF) << 8))

    def bits(self, token: bytes) -> int | None:
        """Return common_flags and common_preempt_count of a token, None if its columns are not known."""
        if token.startswith(b"="):
            return int(token[1:], 16)
        return self.header.flags(token) if token else 0

    def _stamps(self, columns: list[Any]) -> npt.NDArray[np.int64]:
        group = self._group
        if "hexus" in group:
            self.digits = max(self.digits, 6)
            return np.array([int(x, 16) for x in columns[group["hexus"]]], np.int64) * 1000
        if "us" in group:
            self.digits = max(self.digits, 6)
            return decimals(columns[group["us"]]) * 1000
        seconds = decimals(columns[group["sec"]])
        if "frac" not in group:
            return seconds
        fractions = columns[group["frac"]]
        widths = set(map(len, fractions))
        self.digits = max(self.digits, *widths)
        parts = decimals(fractions)
        scale: Any = _SCALE[min(widths)]
        if len(widths) > 1:
            scale = np.array([_SCALE[len(f)] for f in fractions], np.int64)
        found: npt.NDArray[np.int64] = seconds * 1_000_000_000 + parts * scale
        return found

    def _bodies(self, block: Block, rests: list[bytes], types: list[TextType], lines: Lines) -> None:
        """Take the bodies of each type apart; those that cannot be go over to its odd type."""
        for index in np.unique(block.type).tolist():
            type_ = self.types.all[index]
            mine = np.flatnonzero(block.type == index)
            if type_.is_stack:
                continue
            bad = self.types.read(type_, [rests[i] for i in mine.tolist()])
            if bad:
                assert type_.odd is not None, "the odd type is made with its first body"
                rows = mine[bad]
                block.type[rows] = type_.odd.index
                place = int(lines.number[lines.events[rows[0]]])
                self.odd.setdefault(type_.odd.index, Unread()).add(place, len(rows))
                for i in rows.tolist():
                    types[i] = type_.odd

    # ---- lines that are no records -----------------------------------------------------------------------------

    def _others(self, lines: Lines, block: Block) -> None:
        """Read the lines between the records; names with newlines are put together again."""
        before = np.searchsorted(lines.events, [i for i, _ in lines.others]).tolist()
        taken = -1
        for (i, text), k in zip(lines.others, before, strict=True):
            if i <= taken or text.startswith(b"#"):
                continue
            blank = text.isspace()
            if not blank and self.header.other(text, self._count + k):
                continue
            comm = join_comm(self.data, self.grammar, lines, i, k)
            if comm is not None:
                block.comm[k:k + 1] = self._comms([comm])
                taken = int(lines.events[k]) - 1
            elif not blank:
                self.unread.add(int(lines.number[i]))

    # ---- call stacks -------------------------------------------------------------------------------------------

    def _stacks(self, block: Block, lines: Lines) -> Block:
        """Give stack records the place of their frames; make records of the call chains of perf."""
        events = lines.events
        kinds = np.array([t.is_stack for t in self.types.all], bool)
        stacks = kinds[block.type]
        frames = lines.frames
        owner = np.searchsorted(events, frames) - 1
        owned = owner >= 0
        if not self._perf:
            owned[owned] = stacks[owner[owned]]
        for i in frames[~owned].tolist():
            self.unread.add(int(lines.number[i]))
        following = np.append(lines.starts[events[1:]], lines.ends[-1])
        if not self._perf:
            rows = np.flatnonzero(stacks)
            block.start[rows] = np.minimum(lines.ends[events[rows]] + 1, following[rows])
            block.size[rows] = following[rows] - block.start[rows]
            return block
        return self._chains(block, lines, np.unique(owner[owned]), following)

    def _chains(self, block: Block, lines: Lines, rows: npt.NDArray[np.int64],
                following: npt.NDArray[np.int64]) -> Block:
        parts = [block]
        for order, name in ((1, "kernel_stack"), (2, "user_stack")):
            which = [r for r in rows.tolist() if self._has_frames(lines, r, following, name == "kernel_stack")]
            if not which:
                continue
            part = block.take(np.array(which, np.int64))
            part.type[:] = self.types.get("ftrace", name, True).index
            part.start = lines.ends[lines.events[which]] + 1
            part.size = (following[which] - part.start).astype(np.int32)
            part.count[:] = order
            parts.append(part)
        if len(parts) == 1:
            return block
        owners = [np.searchsorted(block.start, p.start) - 1 for p in parts[1:]]
        line = np.concatenate([np.arange(len(block.ts)), *owners])
        whole = Block.concat(parts)
        return whole.take(np.lexsort((whole.count, line)))

    def _has_frames(self, lines: Lines, row: int, following: npt.NDArray[np.int64], kernel: bool) -> bool:
        text = self.data[int(lines.ends[lines.events[row]]):int(following[row])]
        return any(f.kernel == kernel for f in perf_frames(text))


def _newlines(data: Text, start: int, end: int) -> int:
    return sum(data[at:min(at + _BLOCK, end)].count(b"\n") for at in range(start, end, _BLOCK))


def scan(data: Text, grammar: Grammar, regions: list[tuple[int, int]]) -> Scan:
    """Read a text.

    :param regions: the stretches of bytes that hold the recording
    """
    found = Scan(data, grammar)
    # The rows of a block are made and dropped together: looking for cycles among them only takes time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        found.run(regions)
    finally:
        if collecting:
            gc.enable()
    return found
