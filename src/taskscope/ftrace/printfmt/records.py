"""Records of one event type as columns: what the expressions of a print format read.

Two kinds: `PageRecords`, records where they lie in the pages, and `GivenRecords`, values that somebody has in hand
(one field, for `field_text`; the unique values of a field, for texts that are made once per value).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.format import RawField

Places = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

#: bytes that may be read behind the end of a field, so that text can be copied in steps of 16
SLACK = 16


@dataclass
class Spans:
    """One run of bytes per record: `length` bytes of `data` from `start`.

    Up to `SLACK` bytes behind a run can be read, too: they lie within `data`, whatever they hold.
    """

    data: Bytes
    start: Places
    length: Places

    def __len__(self) -> int:
        return len(self.start)

    def items(self, dtype: str, k: int, rows: Column | None = None) -> Column:
        """Return the item of `dtype` at byte `k` of each run, or of some; what lies behind the data's end is 0."""
        start = self.start if rows is None else self.start[rows]
        return gather(self.data, start + k, dtype)

    def tobytes(self, i: int) -> bytes:
        """Return the bytes of one run."""
        start = int(self.start[i])
        return self.data[start:start + int(self.length[i])].tobytes()

    def take(self, rows: Column) -> Spans:
        """Return the runs of some rows."""
        return Spans(self.data, self.start[rows], self.length[rows])


class Grid(Spans):
    """Runs that lie below each other in a table of bytes, one row each."""

    def __init__(self, table: Bytes, first: int, length: int) -> None:
        n, width = table.shape
        super().__init__(table.reshape(-1), np.arange(n, dtype=np.int64) * width + first, np.full(n, length, np.int64))
        self._table = table
        self._first = first

    def items(self, dtype: str, k: int, rows: Column | None = None) -> Column:
        """See `Spans.items`; no gathering is needed."""
        at = self._first + k
        end = at + np.dtype(dtype).itemsize
        if end > self._table.shape[1]:
            return super().items(dtype, k, rows)
        column: Column = self._table[:, at:end].view(dtype)[:, 0]
        return column if rows is None else column[rows]


def gather(data: Bytes, at: Places, dtype: str) -> Column:
    """Return an item of `dtype` at each byte position; bytes behind the end of `data` are 0."""
    size = np.dtype(dtype).itemsize
    last = data.size - size
    if len(at) and int(at.max()) > last:
        out = np.zeros(len(at), dtype)
        good = at <= last
        if last >= 0:
            out[good] = gather(data, at[good], dtype)
        for i in np.flatnonzero(~good).tolist():
            rest = data[int(at[i]):].tobytes()[:size].ljust(size, b"\0")
            out[i] = np.frombuffer(rest, dtype)[0]
        return out
    if last < 0:
        return np.zeros(len(at), dtype)
    window: Column = np.ndarray((last + 1,), dtype, buffer=data, strides=(1,))
    return window[at]


class Records(ABC):
    """Records of one type.

    :param fields: the type's fields by name, the common ones included
    :param long_size: bytes of the recorded kernel's ``long``
    """

    def __init__(self, fields: Mapping[str, RawField], big_endian: bool, long_size: int) -> None:
        self.fields = fields
        self.big_endian = big_endian
        self.long_size = long_size

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def number(self, field: RawField) -> Column:
        """Return an integer field, in its natural dtype and the host's byte order."""

    @abstractmethod
    def spans(self, field: RawField) -> Spans:
        """Return where the bytes of an array or text lie, fixed or dynamic, cut to what the record holds."""

    def elements(self, spans: Spans, index: Column | int, size: int, signed: bool) -> Column:
        """Return one element of each record's array; 0 where the array is not that long."""
        dtype = f"{'>' if self.big_endian else '<'}{'i' if signed else 'u'}{size}"
        native = np.dtype(dtype).newbyteorder("=")
        if isinstance(index, int) and index >= 0 and len(spans) \
                and (index + 1) * size <= int(spans.length.min()):
            return spans.items(dtype, index * size).astype(native, copy=False)
        i = np.asarray(index, np.int64)
        good = (i >= 0) & ((i + 1) * size <= spans.length)
        at = spans.start + np.where(good, i, 0) * size
        values = gather(spans.data, at, dtype).astype(native, copy=False)
        return values if good.all() else np.where(good, values, np.zeros_like(values))


class PageRecords(Records):
    """Records in the pages.

    :param data: all pages
    :param at: where the data of each record begins, in bytes
    :param sizes: tells the bytes of each record's data, asked for where a record ends in an open array
    :param reach: bytes of a record that its fixed fields take, as far as they are asked for
    :param rows: the rows of the recording that they are
    """

    def __init__(self, fields: Mapping[str, RawField], big_endian: bool, long_size: int, *, data: Bytes,
                 at: Places, sizes: Callable[[], Places], reach: int, rows: Places | None = None) -> None:
        super().__init__(fields, big_endian, long_size)
        self.data = data
        self.at = at
        self._sizes = sizes
        self.rows = np.arange(len(at)) if rows is None else rows
        # Whole words, and room for a text at the end of the fixed part to be read in steps of 16.
        self._width = (reach + SLACK + 7) // 8 * 8

    def __len__(self) -> int:
        return len(self.at)

    @cached_property
    def sizes(self) -> Places:
        """Bytes of each record's data."""
        return self._sizes()

    @cached_property
    def _fixed(self) -> Bytes:
        """The fixed part of the records, one row each: one visit to a record's memory serves all its fields."""
        rows = gather(self.data, self.at, f"V{self._width}")
        return rows.view(np.uint8).reshape(len(rows), self._width)

    def number(self, field: RawField) -> Column:
        """See `Records.number`."""
        size = field.size
        if size not in (1, 2, 4, 8):
            raise ValueError(f"field {field.name} of {size} bytes is no integer")
        dtype = np.dtype(f"{'>' if self.big_endian else '<'}{'i' if field.signed else 'u'}{size}")
        if field.offset + size > self._width:
            values = gather(self.data, self.at + field.offset, dtype.str)
        else:
            values = self._fixed[:, field.offset:field.offset + size].view(dtype)[:, 0]
        # Contiguous and in the host's byte order, whichever it was.
        return np.ascontiguousarray(values.astype(dtype.newbyteorder("="), copy=False))

    def spans(self, field: RawField) -> Spans:
        """See `Records.spans`."""
        n = len(self.at)
        if field.location == "fixed" and field.count:
            if field.offset + field.size + SLACK <= self._width:
                return Grid(self._fixed, field.offset, field.size)
            return Spans(self.data, self.at + field.offset, np.full(n, field.size, np.int64))
        if field.location == "fixed":
            length = np.maximum(self.sizes - field.offset, 0)
            return Spans(self.data, self.at + field.offset, length)
        word = self._location(field)
        start, length = word & 0xFFFF, word >> 16
        if field.location == "rel_loc":
            start = start + field.offset + 4
        length = np.where(start + length <= self.sizes, length, 0)
        return Spans(self.data, self.at + start, length)

    def _location(self, field: RawField) -> Places:
        dtype = ">u4" if self.big_endian else "<u4"
        if field.offset + 4 > self._width:
            return gather(self.data, self.at + field.offset, dtype).astype(np.int64)
        return self._fixed[:, field.offset:field.offset + 4].view(dtype)[:, 0].astype(np.int64)


class GivenRecords(Records):
    """Records of which only some integer fields are known: `columns` by field name."""

    def __init__(self, fields: Mapping[str, RawField], big_endian: bool, long_size: int, *,
                 columns: Mapping[str, Column]) -> None:
        super().__init__(fields, big_endian, long_size)
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def number(self, field: RawField) -> Column:
        """See `Records.number`."""
        return self.columns[field.name]

    def spans(self, field: RawField) -> Spans:
        """See `Records.spans`; given values are integers only."""
        raise ValueError(f"the bytes of field {field.name} are not given")
