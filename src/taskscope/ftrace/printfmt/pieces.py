"""Pieces of lines, and the sheet that they are written on.

The lines of many records are written at once: a piece holds its text for every record and how long it is in each, the
sheet is one array of bytes.  Copying costs the same per record for 1 or for 16 bytes, so a piece always writes whole
units, and what is too much is overwritten by the piece that follows.  Therefore pieces are written in the order in
which they stand, and the heads of the lines (which are longer than `SPILL`) after the bodies of all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.printfmt.records import Spans

Places = npt.NDArray[np.int64]
Column = npt.NDArray[Any]

#: bytes that a piece may write behind its end
SPILL = 32


class Sheet:
    """Bytes that pieces are written on; used again for the next lines, because fresh memory is slow to touch."""

    def __init__(self) -> None:
        self._bytes = np.empty(1 << 16, np.uint8)
        self._windows: dict[str, Column] = {}

    def prepare(self, size: int) -> None:
        """Make room for `size` bytes."""
        if size + SPILL > self._bytes.size:
            self._bytes = np.empty((size + SPILL) * 5 // 4, np.uint8)
            self._windows = {}

    def window(self, dtype: str) -> Column:
        """Return the sheet as items of `dtype`, one at each byte."""
        window = self._windows.get(dtype)
        if window is None:
            size = np.dtype(dtype).itemsize
            window = np.ndarray((self._bytes.size - size + 1,), dtype, buffer=self._bytes, strides=(1,))
            if len(self._windows) < 256:
                self._windows[dtype] = window
        return window

    def write(self, at: int, text: bytes) -> None:
        """Write one text."""
        self._bytes[at:at + len(text)] = np.frombuffer(text, np.uint8)

    def tobytes(self, size: int) -> bytes:
        """Return the first `size` bytes."""
        return self._bytes[:size].tobytes()


class Piece(ABC):
    """A part of each line: `length` bytes in each record, or in all of them the same."""

    length: Column | int

    @abstractmethod
    def put(self, sheet: Sheet, at: Places) -> None:
        """Write it at a place for each record; at most `SPILL` bytes behind its end may be touched."""


class Literal(Piece):
    """The same text in every record."""

    def __init__(self, text: bytes) -> None:
        self.length = len(text)
        self._text = np.frombuffer(text, f"V{len(text)}") if text else None

    def put(self, sheet: Sheet, at: Places) -> None:
        """See `Piece.put`."""
        if self._text is not None:
            sheet.window(self._text.dtype.str)[at] = self._text


class Cut(Piece):
    """The first bytes of one text, more or fewer in each record: padding, a sign, a prefix."""

    def __init__(self, text: bytes, length: Column) -> None:
        self.length = length
        self._text = text

    def put(self, sheet: Sheet, at: Places) -> None:
        """See `Piece.put`."""
        for k in range(0, len(self._text), SPILL):
            part = np.frombuffer(self._text[k:k + SPILL], f"V{len(self._text[k:k + SPILL])}")
            if k:
                more = np.flatnonzero(self.length > k)
                if not len(more):
                    break
                at_k = at[more] + k
            else:
                at_k = at
            sheet.window(part.dtype.str)[at_k] = part


class Word(Piece):
    """A text of up to 8 bytes per record, the first byte lowest."""

    def __init__(self, word: Column, length: Column | int) -> None:
        self.length = length
        self._word = word

    def put(self, sheet: Sheet, at: Places) -> None:
        """See `Piece.put`."""
        sheet.window(f"<u{self._word.dtype.itemsize}")[at] = self._word


class Texts:
    """Many texts, each by its slot: what pieces with few different texts take theirs from.  It only grows.

    :param unit: bytes that are copied at a time, at most `SPILL`
    """

    def __init__(self, unit: int = 16) -> None:
        self.unit = unit
        self._count = 0
        self.texts: list[bytes] = []
        self._lengths = np.zeros(64, np.int64)
        self._units = np.zeros((64, 1), f"V{unit}")

    def __len__(self) -> int:
        return self._count

    def add(self, texts: list[bytes]) -> int:
        """Append texts; return the slot of the first."""
        first, unit = self._count, self.unit
        self._count += len(texts)
        self.texts += texts
        width = max([self._units.shape[1], *((len(t) + unit - 1) // unit for t in texts)])
        rows = self._units.shape[0]
        if self._count > rows or width > self._units.shape[1]:
            rows = max(rows, 1 << (self._count - 1).bit_length())
            units = np.zeros((rows, width), f"V{unit}")
            units[:first, :self._units.shape[1]] = self._units[:first]
            lengths = np.zeros(rows, np.int64)
            lengths[:first] = self._lengths[:first]
            self._units, self._lengths = units, lengths
        if texts:
            flat = b"".join(t.ljust(unit * width, b"\0") for t in texts)
            self._units[first:self._count] = np.frombuffer(flat, f"V{unit}").reshape(len(texts), width)
            self._lengths[first:self._count] = [len(t) for t in texts]
        return first

    def lengths(self, slots: Column) -> Column:
        """Return how long the texts of the slots are."""
        return self._lengths.take(slots)

    def units(self, k: int) -> Column:
        """Return the k-th unit of every text."""
        return self._units[:, k]


class Chosen(Piece):
    """One of few texts per record."""

    def __init__(self, texts: Texts, slots: Column) -> None:
        self.length = texts.lengths(slots)
        self._texts = texts
        self._slots = slots

    def put(self, sheet: Sheet, at: Places) -> None:
        """See `Piece.put`."""
        longest, unit = int(np.max(self.length, initial=0)), self._texts.unit
        window = sheet.window(f"V{unit}")
        for k in range((longest + unit - 1) // unit):
            if k:
                more = np.flatnonzero(self.length > unit * k)
                window[at[more] + unit * k] = self._texts.units(k)[self._slots[more]]
            else:
                window[at] = self._texts.units(0)[self._slots]


class Copied(Piece):
    """Bytes of the recording, copied as they are: `length` of them in each record."""

    def __init__(self, spans: Spans, length: Column) -> None:
        self.length = length
        self._spans = spans

    def put(self, sheet: Sheet, at: Places) -> None:
        """See `Piece.put`."""
        longest = int(np.max(self.length, initial=0))
        window = sheet.window("V16")
        for k in range(0, longest, 16):
            if k:
                more = np.flatnonzero(self.length > k)
                window[at[more] + k] = self._spans.items("V16", k, more)
            else:
                window[at] = self._spans.items("V16", 0)


class Instead(Piece):
    """Another piece, replaced in some rows by texts of their own (what had to be escaped)."""

    def __init__(self, piece: Piece, rows: Column, texts: list[bytes]) -> None:
        self._piece = piece
        self._rows = rows
        self._own = Texts()
        self._own.add(texts)
        self._chosen = Chosen(self._own, np.arange(len(texts)))
        length = np.array(np.broadcast_to(piece.length, (int(rows.max()) + 1,)) if isinstance(piece.length, int)
                          else piece.length, np.int64)
        length[rows] = self._chosen.length
        self.length = length

    def put(self, sheet: Sheet, at: Places) -> None:
        """See `Piece.put`."""
        self._piece.put(sheet, at)
        self._chosen.put(sheet, at[self._rows])
