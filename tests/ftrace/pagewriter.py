"""Writes ring-buffer pages record by record, as kernel/trace/ring_buffer.c lays them out: the tests' other side."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MISSED_EVENTS = 1 << 31
MISSED_STORED = 1 << 30


@dataclass
class Page:
    """One page under construction; ``expected`` collects (time, data) of what a reader must find."""

    ts: int
    big_endian: bool = False
    long_size: int = 8
    size: int = 4096
    body: bytes = b""
    now: int = 0
    expected: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = self.ts

    @property
    def _e(self) -> str:
        return ">" if self.big_endian else "<"

    @property
    def room(self) -> int:
        """Bytes left for records."""
        return self.size - 8 - self.long_size - len(self.body)

    def _word(self, kind: int, delta: int) -> bytes:
        value = kind << 27 | delta if self.big_endian else delta << 5 | kind
        return struct.pack(self._e + "I", value)

    def event(self, delta: int, data: bytes) -> Page:
        """Add an event `delta` ns after the last record; data of a multiple of 4 bytes."""
        assert len(data) % 4 == 0
        if delta >= 1 << 27:
            self.extend(delta)
            delta = 0
        self.now += delta
        if 0 < len(data) <= 112:
            self.body += self._word(len(data) // 4, delta) + data
        else:
            self.body += self._word(0, delta) + struct.pack(self._e + "I", len(data) + 4) + data
        self.expected.append((self.now, data))
        return self

    def extend(self, delta: int) -> Page:
        """Add a time extend."""
        self.body += self._word(30, delta & 0x7FFFFFF) + struct.pack(self._e + "I", delta >> 27)
        self.now += delta
        return self

    def absolute(self, ts: int) -> Page:
        """Add an absolute time stamp, of which the record holds 59 bits."""
        low = ts & ((1 << 59) - 1)
        self.body += self._word(31, low & 0x7FFFFFF) + struct.pack(self._e + "I", low >> 27)
        self.now = ts
        return self

    def discarded(self, delta: int, words: int) -> Page:
        """Add an event that a filter discarded after it had been reserved."""
        self.body += self._word(29, delta) + struct.pack(self._e + "I", words * 4) + bytes(words * 4 - 4)
        self.now += delta
        return self

    def fill(self) -> Page:
        """Add the padding that ends a page whose next event did not fit."""
        if self.room >= 4:
            self.body += self._word(29, 0)
        return self

    def bytes(self, missed: bool = False, count: int | None = None, commit: int | None = None) -> bytes:
        """Return the page."""
        length = len(self.body) if commit is None else commit
        flags = (MISSED_EVENTS if missed else 0) | (MISSED_STORED if count is not None else 0)
        long_ = "Q" if self.long_size == 8 else "I"
        body = self.body
        if count is not None:
            body += struct.pack(self._e + long_, count)
        page = struct.pack(self._e + "Q" + long_, self.ts, length | flags) + body
        return page.ljust(self.size, b"\0")
