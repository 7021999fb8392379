"""Fields of records, gathered by offset from the pages: integers of any size and byte order, text, arrays.

Nothing is read beyond a record: a dynamic array (``__data_loc``, ``__rel_loc``) that points outside its record is
taken as empty, a field of open length ends with the record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.format import RawField
from taskscope.ftrace.pages import PageWalker
from taskscope.trace.source import Column

_Heads = npt.NDArray[np.uint32]

#: text columns wider than this in all are kept as objects, not as one rectangle
_WIDE = 64 << 20


class FieldReader:
    """Reads fields of records whose header words stand at given word positions."""

    def __init__(self, walker: PageWalker, data: npt.NDArray[np.uint8], big_endian: bool, long_size: int) -> None:
        self.walker = walker
        self.bytes = data
        self.words = walker.words
        self.big_endian = big_endian
        self.long_size = long_size

    def ints(self, head: _Heads, offset: int, size: int, signed: bool) -> npt.NDArray[Any]:
        """Gather an integer at a byte offset of each record's data."""
        return self._at(self.walker.data_words(head) * 4 + offset, offset, size, signed)

    def _at(self, at: npt.NDArray[np.int64], alignment: int, size: int, signed: bool) -> npt.NDArray[Any]:
        """Gather integers at byte positions; `alignment` is a number congruent to all of them modulo 4."""
        if size not in (1, 2, 4, 8):
            raise ValueError(f"no integer has {size} bytes")
        kind = "i" if signed else "u"
        if alignment % 4 == 0 and size in (4, 8):
            w = at >> 2
            a = self.words.take(w)
            if size == 4:
                native: npt.NDArray[Any] = a.astype(np.uint32, copy=False)
                return native.view(f"{kind}4")
            a = a.astype(np.uint64)
            b = self.words.take(w + 1).astype(np.uint64)
            both = (a << np.uint64(32)) | b if self.big_endian else a | (b << np.uint64(32))
            return both.view(f"{kind}8")
        if size == 1:
            return self.bytes.take(at).view(f"{kind}1")
        value = np.zeros(len(at), np.uint64)
        for k in range(size):
            shift = 8 * (size - 1 - k if self.big_endian else k)
            value |= self.bytes.take(at + k).astype(np.uint64) << np.uint64(shift)
        return value.astype(f"u{size}").view(f"{kind}{size}")

    def column(self, field: RawField, head: _Heads) -> Column:
        """Gather a field of any shape, see `taskscope.trace.source.Field`."""
        if field.location != "fixed" or field.count == 0:
            return self._dynamic(field, head)
        if field.is_string:
            return self._fixed_text(field, head)
        if field.is_array:
            return self._fixed_array(field, head)
        if field.size not in (1, 2, 4, 8):      # a struct by value: its bytes
            return self._fixed_array(field, head)
        return self.ints(head, field.offset, field.size, field.signed)

    def _fixed_text(self, field: RawField, head: _Heads) -> Column:
        n, size = len(head), field.size
        at = self.walker.data_words(head) * 4 + field.offset
        if field.offset % 4 == 0 and size % 4 == 0:
            words = np.empty((n, size // 4), np.uint32)
            raw = self.words.view(np.uint32)     # bytes keep their order
            for k in range(size // 4):
                words[:, k] = raw.take((at >> 2) + k)
            text = words.view(np.uint8)
        else:
            text = np.empty((n, size), np.uint8)
            for k in range(size):
                text[:, k] = self.bytes.take(at + k)
        return cut_at_nul(text)

    def _fixed_array(self, field: RawField, head: _Heads) -> Column:
        element = field.element if field.element in (1, 2, 4, 8) else 1
        count = field.size // element
        at = self.walker.data_words(head) * 4 + field.offset
        table = np.stack([self._at(at + k * element, field.offset + k * element, element, field.signed)
                          for k in range(count)], axis=1) if count else np.empty((len(head), 0), np.uint8)
        return _objects(list(table))

    def _dynamic(self, field: RawField, head: _Heads) -> Column:
        base = self.walker.data_words(head) * 4
        size = self.walker.sizes(head)
        if field.location == "fixed":            # runs to the end of the record
            start = np.full(len(head), field.offset, np.int64)
            length = np.maximum(size - field.offset, 0)
        else:
            word = self.ints(head, field.offset, 4, signed=False).astype(np.int64)
            start, length = word & 0xFFFF, word >> 16
            if field.location == "rel_loc":
                start += field.offset + 4
            length = np.where(start + length <= size, length, 0)
        if field.is_string:
            return self._texts(base + start, length)
        element = field.element if field.element in (1, 2, 4, 8) else 1
        count = length // element
        return self._arrays(base + start, count, element, field.signed)

    def _texts(self, at: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> Column:
        n = len(at)
        width = max(int(length.max(initial=0)), 1)
        if n * width > _WIDE:
            return _objects([self.bytes[a:a + k].tobytes().split(b"\0", 1)[0]
                             for a, k in zip(at.tolist(), length.tolist(), strict=True)])
        last = len(self.bytes) - 1
        cells = np.minimum(at[:, None] + np.arange(width), last)
        text = self.bytes.take(cells)
        text[np.arange(width) >= length[:, None]] = 0
        return cut_at_nul(text)

    def _arrays(self, at: npt.NDArray[np.int64], count: npt.NDArray[np.int64], element: int, signed: bool) -> Column:
        dtype = np.dtype(f"{'>' if self.big_endian else '<'}{'i' if signed else 'u'}{element}")
        native = dtype.newbyteorder("=")
        return _objects([self.bytes[a:a + k * element].view(dtype).astype(native)
                         for a, k in zip(at.tolist(), count.tolist(), strict=True)])


def cut_at_nul(text: npt.NDArray[np.uint8]) -> Column:
    """Turn a matrix of bytes (one row a text) into a column of dtype S; what follows a NUL is dropped."""
    width = text.shape[1]
    nul = text == 0
    # Most kernels pad with NULs: only rows with something behind their first NUL need the longer way.
    dirty = np.flatnonzero((nul[:, :-1] & ~nul[:, 1:]).any(axis=1)) if width > 1 else np.empty(0, np.int64)
    if len(dirty):
        rows = text[dirty]
        rows[np.logical_or.accumulate(nul[dirty], axis=1)] = 0
        text[dirty] = rows
    return np.ascontiguousarray(text).view(f"S{width}")[:, 0]


def _objects(values: list[Any]) -> Column:
    out = np.empty(len(values), object)
    out[:] = values if values and not isinstance(values[0], np.ndarray) else None
    for i, v in enumerate(values):
        out[i] = v
    return out
