"""A part of a recording as a trace.dat: some of its records, with all that is needed to read them.

Pages of which every record is kept go on as the kernel gave them; of the others new ones are made.  Records keep their
bytes and their time to the nanosecond.  A loss of events that touches the part stays a loss of as many events, before
the first kept record behind it.  Formats, names, symbols and the clock are those of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.datwrite import DatFile, dat_of
from taskscope.ftrace.pages import MISSED_EVENTS, PageWalker
from taskscope.ftrace.record_splice import Encoder
from taskscope.ftrace.recorded import Buffer, CpuPages
from taskscope.ftrace.ring import RingSource
from taskscope.trace.source import Rows

_BLOCK = 1024


@dataclass(slots=True)
class _Kept:
    """The pages of one cpu as they are to be written: runs of bytes of the recording, and new pages."""

    data: npt.NDArray[np.uint8]
    parts: list[tuple[int, int] | bytes] = field(default_factory=list)    # (first byte, bytes), or pages

    @property
    def size(self) -> int:
        """Bytes of all pages."""
        return sum(len(p) if isinstance(p, bytes) else p[1] for p in self.parts)

    def as_it_is(self, offset: int, size: int) -> None:
        """Add a page of the recording."""
        last = self.parts[-1] if self.parts else b""
        if isinstance(last, tuple) and last[0] + last[1] == offset:
            self.parts[-1] = (last[0], last[1] + size)
        else:
            self.parts.append((offset, size))

    def pieces(self, step: int) -> Iterator[memoryview]:
        """Yield the pages in pieces of `step` bytes, the last one shorter."""
        held = bytearray()
        for part in self.parts:
            whole = memoryview(part) if isinstance(part, bytes) else self.data[part[0]:part[0] + part[1]].data
            for at in range(0, len(whole), step):
                held += whole[at:at + step]
                while len(held) >= step:
                    yield memoryview(bytes(held[:step]))
                    del held[:step]
        if held:
            yield memoryview(bytes(held))


def cut(source: RingSource, rows: Rows, after: int | None = None, before: int | None = None) -> DatFile:
    """Return what to write for a part of a recording.

    :param rows: the records to keep
    :param after: ns; losses that ended before that time are not part of it; `before`: nor those that began later
    """
    keep = np.zeros(len(source.index), np.bool_)
    keep[rows] = True
    # Statistics tell of the whole: the losses that only they showed are in the pages of the part.
    whole = dat_of(replace(source.recorded, buffers=list(source.chosen), texts={}))
    buffers = {b.name: b for b in whole.buffers}
    first = 0
    for buffer in source.chosen:
        cpus: dict[int, _Kept] = {}
        for pages in sorted(buffer.cpus, key=lambda c: c.cpu):
            walked = _walk(source, buffer, pages)
            end = first + len(walked.ts)
            losses = [loss for loss in walked.losses if _touches(source.index.ts[first:end], loss[0], after, before)]
            cpus[pages.cpu] = _kept(source, buffer, walked, keep[first:end], source.head[first:end], losses)
            first = end
        buffers[buffer.name] = replace(buffers[buffer.name], cpus=cpus, stats={})
    assert first == len(keep), "the pages are walked as the index was made"
    return replace(whole, buffers=list(buffers.values()))


@dataclass(slots=True)
class _Walked:
    """The pages of one cpu; the records of page k are ``bounds[k]:bounds[k + 1]``."""

    offsets: list[int]
    bounds: npt.NDArray[np.int64]
    ts: npt.NDArray[np.int64]                   # as the pages have them: the recording's stamps may be converted
    whole: list[bool]                           # nothing of the page is damaged or cut off
    losses: list[tuple[int, int | None]]        # before which record how many events were lost


def _walk(source: RingSource, buffer: Buffer, pages: CpuPages) -> _Walked:
    walker = PageWalker(source.recorded.data, source.recorded.big_endian, source.layout, buffer.page_size)
    end = pages.offset + pages.size
    offsets = pages.offset + np.arange(0, pages.size - source.layout.data, buffer.page_size, dtype=np.int64)
    ts, counts, damaged = [np.empty(0, np.int64)], [np.zeros(1, np.int64)], [np.empty(0, np.int64)]
    for k in range(0, len(offsets), _BLOCK):
        some = offsets[k:k + _BLOCK]
        w = walker.walk(some, walker.lengths(some, np.minimum(end - some, buffer.page_size)))
        ts.append(w.ts)
        counts.append(np.diff(w.first))
        damaged.append(w.damaged + k)
    bounds = np.cumsum(np.concatenate(counts))
    bad = np.concatenate(damaged)
    told = np.flatnonzero(walker.commits(offsets) & np.uint32(MISSED_EVENTS)) if len(offsets) else bad
    losses: list[tuple[int, int | None]] = []
    for page in np.union1d(told, bad + 1).tolist():
        inside = page < len(offsets)
        count = walker.missed(int(offsets[page]), end - int(offsets[page]))[1] if inside else None
        losses.append((int(bounds[page]), count))
    if pages.overrun and not losses:
        losses.append((0, pages.overrun))
    if pages.missing or pages.dropped:
        losses.append((int(bounds[-1]), None if pages.missing else pages.dropped))
    whole = ((end - offsets >= buffer.page_size) & ~np.isin(np.arange(len(offsets)), bad)).tolist()
    return _Walked(offsets.tolist(), bounds, np.concatenate(ts), whole, losses)


def _touches(ts: npt.NDArray[np.int64], at: int, after: int | None, before: int | None) -> bool:
    """Tell whether a loss before a record reaches into the time from `after` to `before`."""
    begun = before is None or at == 0 or int(ts[at - 1]) <= before
    return begun and (after is None or at == len(ts) or int(ts[at]) >= after)


def _kept(source: RingSource, buffer: Buffer, walked: _Walked, keep: npt.NDArray[np.bool_],
          heads: npt.NDArray[np.uint32], losses: list[tuple[int, int | None]]) -> _Kept:
    """Put together the pages of the kept records of one cpu, with the losses before each."""
    recorded = source.recorded
    walker = PageWalker(recorded.data, recorded.big_endian, source.layout, buffer.page_size)
    encoder = Encoder(source.layout, buffer.page_size, recorded.big_endian)
    kept = _Kept(recorded.data)
    lost: list[int | None] = []             # since the last kept record
    at = 0
    for page, offset in enumerate(walked.offsets):
        low, high = int(walked.bounds[page]), int(walked.bounds[page + 1])
        own = not lost
        while at < len(losses) and losses[at][0] <= low:
            lost.append(losses[at][1])
            at += 1
        chosen = np.flatnonzero(keep[low:high]) + low
        if not len(chosen):
            continue
        if len(chosen) == high - low and own and walked.whole[page] and _says(walker, offset) == bool(lost):
            kept.as_it_is(offset, buffer.page_size)
        else:
            words, sizes = walker.data_words(heads[chosen]), walker.sizes(heads[chosen])
            records = [(int(ts), _padded(recorded.data[4 * word:4 * word + size].tobytes()))
                       for ts, word, size in zip(walked.ts[chosen], words.tolist(), sizes.tolist(), strict=True)]
            kept.parts.append(encoder.pages(records, _sum(lost)))
        lost = []
    lost += [count for _, count in losses[at:]]
    if lost:
        kept.parts.append(encoder.lost(int(walked.ts[-1]) if len(walked.ts) else 0, _sum(lost) or 0))
    return kept


def _says(walker: PageWalker, offset: int) -> bool:
    """Tell whether a page itself says that events were lost before it."""
    return bool(int(walker.commits(np.array([offset]))[0]) & MISSED_EVENTS)


def _padded(data: bytes) -> bytes:
    # The next record begins at a word, also behind one that damage gave another length.
    return data.ljust(-(-len(data) // 4) * 4, b"\0")


def _sum(lost: list[int | None]) -> int | None:
    """Add up losses: 0 where one does not say how many, None where nothing was lost."""
    return sum(n or 0 for n in lost) if lost and all(lost) else 0 if lost else None
