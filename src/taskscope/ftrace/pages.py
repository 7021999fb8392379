"""Ring-buffer pages, walked in lock step: step k reads the k-th record of every page of a block at once.

Follows struct buffer_data_page and struct ring_buffer_event in the kernel's include/linux/ring_buffer.h and
kernel/trace/ring_buffer.c (6.1, 6.12, 6.18); the layout of the page header is read from the recording's own
``header_page``.  A record that does not fit into its page ends that page: it is counted as damaged, and what stands
before it stays usable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: bits of the commit word that are not its length (RB_MISSED_EVENTS, RB_MISSED_STORED)
MISSED_EVENTS = 1 << 31
MISSED_STORED = 1 << 30

TYPE_PADDING, TYPE_TIME_EXTEND, TYPE_TIME_STAMP = 29, 30, 31

#: upper bits that an absolute time stamp (59 bits) cannot hold; they are taken from the stamp before
_STAMP_MSB = np.int64(-(1 << 59))


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Where a page keeps its header, in bytes; words are the 4-byte units that records are made of."""

    commit: int
    commit_size: int
    data: int

    @property
    def header_words(self) -> int:
        """Words before the first record."""
        return self.data // 4


def parse_header_page(text: bytes, long_size: int) -> PageLayout:
    """Read the page layout from the text of ``events/header_page``; by `long_size` if the recording has none.

    :raises ValueError: the text has no usable fields
    """
    if not text.strip():
        return PageLayout(8, long_size, 8 + long_size)
    fields: dict[str, tuple[int, int]] = {}
    for line in text.decode("ascii", "replace").splitlines():
        m = re.match(r"\s*field:.*?(\w+);\s*offset:(\d+);\s*size:(\d+);", line)
        if m:
            fields[m[1]] = (int(m[2]), int(m[3]))
    if "commit" not in fields or "data" not in fields:
        raise ValueError("header_page declares no commit and data fields")
    commit, size = fields["commit"]
    data = fields["data"][0]
    if commit % 4 or data % 4 or size not in (4, 8) or not 8 <= commit < data <= 64:
        raise ValueError(f"header_page declares an impossible layout (commit at {commit}, data at {data})")
    return PageLayout(commit, size, data)


@dataclass(slots=True)
class Walked:
    """The records of a run of pages in storage order.

    ``head`` is the position of a record's header word in the data, in words; ``words`` the length of its data in
    words (65,535 stands for more).  ``first`` is the number of the first record of each page, and, last, the number
    of records: a page without records has an empty range.
    """

    ts: npt.NDArray[np.int64]
    head: npt.NDArray[np.uint32]
    id: npt.NDArray[np.uint16]
    words: npt.NDArray[np.uint16]
    first: npt.NDArray[np.int64]
    damaged: npt.NDArray[np.int64]      # numbers of the pages that end in a damaged record


class PageWalker:
    """Walks pages of one flat byte array.

    :param data: the pages, 4-byte aligned
    :param big_endian: byte order of the recording
    :param layout: of the page header
    :param page_size: bytes of a sub-buffer
    """

    def __init__(self, data: npt.NDArray[np.uint8], big_endian: bool, layout: PageLayout, page_size: int) -> None:
        self.big_endian = big_endian
        self.layout = layout
        self.page_size = page_size
        self.words: npt.NDArray[Any] = data[:data.size // 4 * 4].view(">u4" if big_endian else "<u4")

    def commits(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Return the commit words of pages at byte offsets, flags included."""
        at = offsets // 4 + self.layout.commit // 4
        if self.big_endian and self.layout.commit_size == 8:
            at = at + 1
        return self.words.take(at).astype(np.uint32, copy=False)

    def stamps(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the time stamps of the page headers."""
        a = self.words.take(offsets // 4).astype(np.int64)
        b = self.words.take(offsets // 4 + 1).astype(np.int64)
        return (a << 32) | b if self.big_endian else a | (b << 32)

    def lengths(self, offsets: npt.NDArray[np.int64], limits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the bytes of records in each page, cut to what the page can hold (`limits`: bytes there are)."""
        length = (self.commits(offsets) & np.uint32(MISSED_STORED - 1)).astype(np.int64)
        room = np.minimum(limits, self.page_size) - self.layout.data
        held: npt.NDArray[np.int64] = np.minimum(length, np.maximum(room, 0)) & ~3
        return held

    def missed(self, offset: int, limit: int) -> tuple[bool, int | None]:
        """Tell whether events were lost before the page at `offset`, and how many if the page says so."""
        commit = int(self.commits(np.array([offset]))[0])
        if not commit & MISSED_EVENTS:
            return False, None
        if not commit & MISSED_STORED:
            return True, None
        length = commit & (MISSED_STORED - 1)
        size = self.layout.commit_size       # an unsigned long, as the commit word is
        at = offset + self.layout.data + length
        if length % 4 or at + size > offset + min(limit, self.page_size):
            return True, None
        w = [int(x) for x in self.words[at // 4:at // 4 + size // 4]]
        count = w[0] if size == 4 else ((w[0] << 32 | w[1]) if self.big_endian else (w[1] << 32 | w[0]))
        return True, count if 0 < count < 1 << 62 else None

    def walk(self, offsets: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Walked:
        """Walk one block of pages (at most 65,536).

        :param offsets: byte offset of each page
        :param lengths: bytes of records in each page, see `lengths`
        """
        words, big = self.words, self.big_endian
        n = len(offsets)
        ts = self.stamps(offsets)
        pos = offsets // 4 + self.layout.header_words
        end = pos + lengths // 4
        page = np.arange(n, dtype=np.uint16)
        damaged: list[npt.NDArray[np.int64]] = []
        out_ts: list[Any] = []
        out_pos: list[Any] = []
        out_page: list[Any] = []
        live = np.flatnonzero(pos < end)
        if len(live) < n:
            pos, ts, end, page = pos[live], ts[live], end[live], page[live]
        while len(pos):
            head = words.take(pos)
            if big:
                head = head.astype(np.uint32)
                kind, delta = head >> 27, head & 0x7FFFFFF
            else:
                kind, delta = head & 31, head >> 5
            ts = ts + delta
            after = pos + kind
            after += 1
            # All but plain data: a length in a second word (0), padding, time extends, absolute stamps.
            odd = np.flatnonzero(kind - np.uint32(1) >= np.uint32(28))
            skip = self._odd_records(odd, kind, delta, pos, ts, after) if len(odd) else None
            done = after >= end
            any_done = bool(done.any())
            if any_done:
                over = np.flatnonzero(after > end)
                if len(over):
                    fills = (kind[over] == TYPE_PADDING) & (delta[over] == 0)
                    if not fills.all():
                        damaged.append(page[over[~fills]].astype(np.int64))
                    skip = over if skip is None else np.union1d(skip, over)
            if skip is None or not len(skip):
                out_ts.append(ts)
                out_pos.append(pos)
                out_page.append(page)
            elif len(skip) < len(pos):
                keep = np.ones(len(pos), bool)
                keep[skip] = False
                out_ts.append(ts[keep])
                out_pos.append(pos[keep])
                out_page.append(page[keep])
            pos = after
            if any_done:
                live = np.flatnonzero(~done)
                pos, ts, end, page = pos[live], ts[live], end[live], page[live]
        return self._in_order(n, out_ts, out_pos, out_page, damaged)

    def _odd_records(self, odd: npt.NDArray[np.int64], kind: npt.NDArray[Any], delta: npt.NDArray[Any],
                     pos: npt.NDArray[np.int64], ts: npt.NDArray[np.int64],
                     after: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Correct time and end of records that are not plain data; return those that are no data at all."""
        k, d, at = kind[odd], delta[odd].astype(np.int64), pos[odd]
        # In the last word of the data there is no second word; such a record does not fit its page anyway.
        arg = self.words.take(np.minimum(at + 1, len(self.words) - 1)).astype(np.int64)
        before = ts[odd] - d
        stamp = (arg << 27) + d
        ts[odd] = np.select([k == TYPE_TIME_EXTEND, k == TYPE_TIME_STAMP],
                            [before + stamp, stamp | (before & _STAMP_MSB)], before + d)
        words = (arg + 3) // 4                        # array[0] counts itself and the data, in bytes
        far = np.int64(1) << 40                       # beyond any page
        # A discarded event is padding with a length; padding without a delta fills the page.
        step = np.select([k == 0, k != TYPE_PADDING, d == 0], [np.where(words < 2, far, words + 1), 2, far], words + 1)
        after[odd] = at + step
        no_data: npt.NDArray[np.int64] = odd[k != 0]
        return no_data

    def _in_order(self, n: int, out_ts: list[Any], out_pos: list[Any], out_page: list[Any],
                  damaged: list[npt.NDArray[np.int64]]) -> Walked:
        bad = np.unique(np.concatenate(damaged)) if damaged else np.empty(0, np.int64)
        if not out_ts:
            return Walked(np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint16),
                          np.empty(0, np.uint16), np.zeros(n + 1, np.int64), bad)
        page = np.concatenate(out_page)
        order = np.argsort(page, kind="stable")          # 16 bits: a radix sort
        pos = np.concatenate(out_pos)[order]
        head = self.words.take(pos)
        kind = ((head >> 27) if self.big_endian else (head & 31)).astype(np.uint16)
        data = pos + 1
        long_ = np.flatnonzero(kind == 0)
        if len(long_):
            # array[0] counts itself and the data, in bytes
            size = (self.words.take(data[long_]).astype(np.int64) + 3) // 4 - 1
            kind[long_] = np.minimum(size, 0xFFFF)
            data[long_] += 1
        id_ = self.words.take(data)
        id_ = (id_ >> 16) if self.big_endian else (id_ & 0xFFFF)
        first = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(page, minlength=n), out=first[1:])
        return Walked(np.concatenate(out_ts)[order], pos.astype(np.uint32), id_.astype(np.uint16), kind, first, bad)

    def _is_long(self, head: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Tell which records keep their length in a second word (type_len 0); None if none does."""
        w = self.words.take(head)
        kind = (w >> 27) if self.big_endian else (w & 31)
        long_: npt.NDArray[np.bool_] = kind == 0
        return long_ if long_.any() else None

    def data_words(self, head: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Return where the data of records begin, in words, from the positions of their headers."""
        data = head.astype(np.int64) + 1
        long_ = self._is_long(head)
        if long_ is not None:
            data += long_
        return data

    def sizes(self, head: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Return the bytes of data of records, from the positions of their headers."""
        w = self.words.take(head).astype(np.uint32)
        kind = (w >> 27) if self.big_endian else (w & 31)
        size = kind.astype(np.int64) * 4
        long_ = kind == 0
        if long_.any():
            size[long_] = self.words.take(head[long_].astype(np.int64) + 1).astype(np.int64) - 4
        return size
