"""Columns of fields that were read from text: packed piece by piece, made whole on demand.

An integer becomes int64, or uint64 where a value needs the 64th bit (addresses); text becomes dtype ``S`` cut at the
first NUL, or objects where one long value would make a wide rectangle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from taskscope.trace.source import Column, Field

#: a text column this wide is a rectangle, whatever the mean length of its values
_NARROW = 64
_MASK = (1 << 64) - 1
_INT64 = np.iinfo(np.int64)

_DECIMALS = re.compile(rb"(?:-?\d{1,20}\n)*+\Z")
_HEXES = re.compile(rb"(?:(?:0x)?[0-9a-fA-F]{1,16}\n)*+\Z")
_ADDRESSES = re.compile(rb"(?:0x[0-9a-fA-F]{1,16}\n)*+\Z")
_NUMBERS = re.compile(rb"(?:(?:-?\d{1,20}|0x[0-9a-fA-F]{1,16})\n)*+\Z")
#: a number with what the print format says of it: "6833295 [ns]", "24516kB"
_MEASURES = re.compile(rb"(?:(?:-?\d{1,20}|0x[0-9a-fA-F]{1,16}) ?(?:\[(?:ns|us|ms|s)\]|ns|us|ms|[kMG]B|bytes|pages)?\n)"
                       rb"*+\Z")
_MEASURE = re.compile(rb"-?(?:0x)?[0-9a-fA-F]+")
_ARGUMENT = re.compile(rb"[0-9a-f]{1,16}")

#: kinds that are numbers in every record
_NUMERIC = "dcxrth"
_TRUE = {b"true": 1, b"false": 0, b"handled": 1, b"unhandled": 0, b"1": 1, b"0": 0}


def pack(values: Sequence[bytes]) -> Column:
    """Make a column of texts, each cut at its first NUL."""
    if not values:
        return np.empty(0, "S1")
    width = max(map(len, values))
    if b"\0" in b"\n".join(values):
        values = [v.split(b"\0", 1)[0] for v in values]
    if width > _NARROW and width * len(values) > 4 * sum(map(len, values)):
        column = np.empty(len(values), object)
        column[:] = values
        return column
    return np.array(values, f"S{max(width, 1)}")


def decimals(values: Sequence[bytes]) -> npt.NDArray[Any]:
    """Make an integer column of decimal texts, see `integers`."""
    if not values:
        return np.empty(0, np.int64)
    # Saturates where a number needs more than 63 bits, so these ends of the range are looked at again.
    found = np.fromstring(b" ".join(values), np.int64, sep=" ")
    if int(found.max()) == _INT64.max or int(found.min()) == _INT64.min:
        return integers(list(map(int, values)))
    return found


def integers(values: list[int]) -> npt.NDArray[Any]:
    """Make an integer column: int64, uint64 if a value does not fit; beyond that, as the kernel would wrap it."""
    try:
        return np.array(values, np.int64)
    except OverflowError:
        pass
    if min(values) >= 0:
        return np.array([v & _MASK for v in values], np.uint64)
    wrapped: npt.NDArray[Any] = np.array([v & _MASK for v in values], np.uint64).view(np.int64)
    return wrapped


def merge(parts: list[Column]) -> Column:
    """Put pieces of one column behind each other; signed and unsigned ones meet where both fit."""
    if len(parts) == 1:
        return parts[0]
    kinds = {p.dtype.kind for p in parts}
    if kinds == {"i", "u"}:
        negative = any(len(p) and int(p.min()) < 0 for p in parts if p.dtype.kind == "i")
        target = np.int64 if negative else np.uint64
        parts = [p.view(target) if negative and p.dtype.kind == "u" else p.astype(target) for p in parts]
    return np.concatenate(parts)


class FieldColumn:
    """One field of one event type, gathered while the text is read.

    :param kind: as in `taskscope.ftrace.text_templates`, or ``g``: a number where all values are, else text; ``n`` and
        ``r``: a signed number that is printed as an unsigned hexadecimal one (``n`` where it may be missing)
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self._parts: list[Column] = []
        self._whole: Column | None = None

    @property
    def is_name(self) -> bool:
        """Tell whether the values are names, which may hold anything."""
        return self.name.endswith(("comm", "name", "path"))

    def add(self, values: Sequence[bytes]) -> None:
        """Append the values of further records."""
        kind = self.kind
        if kind in "dc":
            self._parts.append(decimals(values))
        elif kind == "x":
            self._parts.append(integers([int(v, 16) for v in values]))
        elif kind == "r":
            self._parts.append(integers([int(v, 16) for v in values]).view(np.int64))
        elif kind in "th":
            self._parts.append(np.array([_TRUE[v] for v in values], np.int64))
        else:
            self._parts.append(pack(values))

    def fill(self, count: int) -> None:
        """Append empty values for records that lack the field."""
        if count:
            self._parts.append(np.zeros(count, "S1"))

    @property
    def values(self) -> Column:
        """The whole column."""
        if self._whole is None:
            if self.kind in _NUMERIC:
                self._whole = merge(self._parts) if self._parts else np.empty(0, np.int64)
            else:
                self._whole = self._finish(merge(self._parts) if self._parts else np.empty(0, "S1"))
            self._parts = []
        return self._whole

    def _finish(self, column: Column) -> Column:
        """Turn a column of texts into numbers, if it is one of numbers."""
        kind = self.kind
        if kind not in "vpng" or not len(column):
            return column
        values: list[bytes] = column.tolist()
        lines = b"\n".join(values) + b"\n"
        # A name may be made of digits, but is no number for that.
        name = kind == "g" and self.is_name
        if kind in "pn" or name:
            numbers = _ADDRESSES if name else _HEXES
            if not numbers.match(lines):
                return column
            found = integers([int(v, 16) for v in values])
            return found.view(np.int64) if kind == "n" else found
        if _DECIMALS.match(lines):
            return decimals(values)
        if _NUMBERS.match(lines):
            return integers([int(v, 16 if v.startswith(b"0x") else 10) for v in values])
        if kind == "g" and _MEASURES.match(lines):
            heads = [m[0] for m in map(_MEASURE.match, values) if m]
            return integers([int(v, 16 if v.startswith(b"0x") else 10) for v in heads])
        return column

    def take(self, at: npt.NDArray[np.int64]) -> Column:
        """Return the values of some records, by their number among the records of the type."""
        column = self.values.take(at)
        if self.kind != "a":
            return column
        rows = np.empty(len(column), object)
        for i, text in enumerate(column.tolist()):
            rows[i] = np.array([int(x, 16) for x in _ARGUMENT.findall(text.replace(b"0x", b""))], np.uint64)
        return rows

    @property
    def field(self) -> Field:
        """What `taskscope.trace.source` says of the field."""
        shape: Literal["int", "string", "array"]
        if self.kind == "a":
            return Field(self.name, "", "array", False, 0)
        dtype = self.values.dtype
        shape = "int" if dtype.kind in "iu" else "string"
        return Field(self.name, "", shape, dtype.kind == "i", 8 if shape == "int" else 0)

    def show(self, value: Any) -> str:
        """Show one value as the print format does."""
        if isinstance(value, bytes):
            return value.decode("utf-8", "backslashreplace")
        if self.kind == "x":
            return f"{value:x}"
        if self.kind == "c":
            return f"{value:03d}"
        if self.kind == "p":
            return f"{value:#x}"
        return str(value)
