"""Pages with records put in between: those of the second instance, at their time among the records of the same cpu.

Only a page that gets records is written anew; all others go on as the kernel gave them.  Records keep their time to
the nanosecond.  Layout as in struct buffer_data_page and struct ring_buffer_event (kernel/trace/ring_buffer.c); the
byte order is that of this machine, whose kernel it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from taskscope.ftrace.pages import MISSED_EVENTS, MISSED_STORED, TYPE_TIME_EXTEND, PageLayout, PageWalker

_BLOCK = 1024
_SMALL = 28 * 4
_DELTA = 1 << 27
_EXTEND = _DELTA << 32


@dataclass(slots=True)
class Spliced:
    """The pages of one cpu as they are to be written; ``anew`` replaces pages by their number.

    ``behind`` stands after the last page.
    """

    path: Path
    page_size: int
    pages: int
    anew: dict[int, bytes] = field(default_factory=dict)
    behind: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of all pages."""
        return (self.pages - len(self.anew)) * self.page_size + sum(map(len, self.anew.values())) + len(self.behind)

    def pieces(self, step: int) -> Iterator[memoryview]:
        """Yield the pages in pieces of `step` bytes, the last one shorter."""
        held = bytearray()
        for part in self._parts(max(step // self.page_size, 1)):
            held += part
            while len(held) >= step:
                yield memoryview(bytes(held[:step]))
                del held[:step]
        if held:
            yield memoryview(bytes(held))

    def _parts(self, many: int) -> Iterator[bytes]:
        changed = sorted(self.anew)
        with self.path.open("rb") as file:
            at = 0
            while at < self.pages:
                if at in self.anew:
                    yield self.anew[at]
                    at += 1
                    continue
                while changed and changed[0] < at:
                    changed.pop(0)
                count = min(many, (changed[0] if changed else self.pages) - at)
                file.seek(at * self.page_size)
                part = file.read(count * self.page_size)
                if len(part) < count * self.page_size:
                    raise OSError(f"{self.path} has become shorter while it was read")
                yield part
                at += count
        yield self.behind


def splice(path: Path, size: int, page_size: int, layout: PageLayout, big: bool,
           added: list[tuple[int, bytes]]) -> Spliced:
    """Put records among those of a file of pages.

    :param size: bytes of pages in the file
    :param added: time and data of each record, in order of time; a stack directly behind its event
    """
    spliced = Spliced(path, page_size, size // page_size)
    data = np.memmap(path, np.uint8, "r", shape=(size,)) if size else np.empty(0, np.uint8)
    walker = PageWalker(data, big, layout, page_size)
    encoder = Encoder(layout, page_size, big)
    at = 0
    for first in range(0, spliced.pages, _BLOCK):
        if at >= len(added):
            break
        offsets = np.arange(first, min(first + _BLOCK, spliced.pages), dtype=np.int64) * page_size
        w = walker.walk(offsets, walker.lengths(offsets, np.full(len(offsets), page_size, np.int64)))
        commits = walker.commits(offsets)
        words = walker.data_words(w.head)
        sizes = walker.sizes(w.head)
        for k in range(len(offsets)):
            low, high = int(w.first[k]), int(w.first[k + 1])
            if low == high or at >= len(added) or added[at][0] >= int(w.ts[high - 1]):
                continue
            records = [(int(w.ts[n]), data[int(words[n]) * 4:int(words[n]) * 4 + int(sizes[n])].tobytes())
                       for n in range(low, high)]
            merged: list[tuple[int, bytes]] = []
            for record in records:
                while at < len(added) and added[at][0] < record[0]:
                    merged.append(added[at])
                    at += 1
                merged.append(record)
            lost: int | None = None
            if int(commits[k]) & MISSED_EVENTS:
                lost = walker.missed(int(offsets[k]), page_size)[1] or 0
            spliced.anew[first + k] = encoder.pages(merged, lost)
    if at < len(added):
        spliced.behind = encoder.pages(added[at:], None)
    return spliced


class Encoder:
    """Makes ring-buffer pages of records."""

    def __init__(self, layout: PageLayout, page_size: int, big: bool) -> None:
        self._order = ">" if big else "<"
        self._big = big
        self._layout = layout
        self._page_size = page_size

    def pages(self, records: list[tuple[int, bytes]], lost: int | None) -> bytes:
        """Return pages of records in order of time.

        :param lost: events that are missing before them, 0 for an unknown number; None: none are
        """
        out: list[bytes] = []
        body = bytearray()
        start = now = records[0][0]
        # The number of lost events stands behind the records of the first page.
        room = self._page_size - self._layout.data - 8
        for ts, data in records:
            one = self._record(min(max(ts - now, 0), _EXTEND - 1) if body else 0, data)
            # A stamp before the last one (a clock that was set back) needs a page that begins with it, as does one
            # that is farther away than a time extend can say.
            if body and (len(body) + len(one) > room or not 0 <= ts - now < _EXTEND):
                out.append(self._page(start, body, lost))
                lost = None
                body = bytearray()
                one = self._record(0, data)
            if not body:
                start = ts
            body += one
            now = ts
        out.append(self._page(start, body, lost))
        return b"".join(out)

    def lost(self, at: int, count: int) -> bytes:
        """Return a page without records that says that events were lost before it.

        :param at: its time
        :param count: of the events, 0 for an unknown number
        """
        return self._page(at, bytearray(), count)

    def _word(self, kind: int, delta: int) -> bytes:
        return struct.pack(self._order + "I", kind << 27 | delta if self._big else delta << 5 | kind)

    def _record(self, delta: int, data: bytes) -> bytes:
        head = b""
        if delta >= _DELTA:
            head = self._word(TYPE_TIME_EXTEND, delta % _DELTA) + struct.pack(self._order + "I", delta // _DELTA)
            delta = 0
        if len(data) <= _SMALL:
            return head + self._word(len(data) // 4, delta) + data
        return head + self._word(0, delta) + struct.pack(self._order + "I", len(data) + 4) + data

    def _page(self, start: int, body: bytearray, lost: int | None) -> bytes:
        commit = len(body)
        tail = b""
        if lost is not None:
            commit |= MISSED_EVENTS
            # As the kernel does: a number for which the page has no room is left out.
            size = self._layout.commit_size
            if lost and self._layout.data + len(body) + size <= self._page_size and lost < 1 << (8 * size - 2):
                commit |= MISSED_STORED
                tail = struct.pack(self._order + ("Q" if size == 8 else "I"), lost)
        page = struct.pack(self._order + "Q", start & (1 << 64) - 1).ljust(self._layout.commit, b"\0")
        page += struct.pack(self._order + ("Q" if self._layout.commit_size == 8 else "I"), commit)
        page = page.ljust(self._layout.data, b"\0") + bytes(body) + tail
        return page.ljust(self._page_size, b"\0")
