"""Columns of numbers as decimal or hexadecimal text, eight digits at a time.

The digits of a number are looked up four at a time and joined to a word of eight, with zeros in front; a shift drops
the zeros that are too many, so that the first digit stands lowest.  The text is that of `spec.format_number`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.printfmt.pieces import Cut, Literal, Piece, Word
from taskscope.ftrace.printfmt.spec import Spec

Column = npt.NDArray[Any]

_U8 = np.uint64


def _four(base: int, count: int) -> npt.NDArray[np.uint32]:
    """The four digits of each number below `count`, zeros in front, the first digit in the lowest byte."""
    n = np.arange(count, dtype=np.uint32)
    table = np.zeros(count, np.uint32)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8).astype(np.uint32)
    for place in range(4):
        table |= digits[n // np.uint32(base ** (3 - place)) % np.uint32(base)] << np.uint32(8 * place)
    return table


_DECIMAL = _four(10, 10_000)
_HEX = _four(16, 65_536)
_TENS = [10**k for k in range(1, 20)]
_SIXTEENS = [1 << (4 * k) for k in range(1, 16)]


def digit_count(value: Column, base: int, greatest: int) -> Column:
    """Count the digits of unsigned numbers (1 for 0)."""
    if base == 16 and greatest >= 1 << 20:
        # The exponent of a float is the number of its highest bit.  With the bit below that one cleared, rounding
        # cannot carry into the next power of two.
        v = value.astype(_U8) | _U8(1)
        v &= ~(v >> _U8(1))
        exponent: Column = (v.astype(np.float64).view(np.int64) >> 52) - 1019
        exponent >>= 2
        return exponent
    count = np.ones(len(value), np.uint8)
    for bound in _TENS if base == 10 else _SIXTEENS:
        if bound > greatest:
            break
        count += (value >= value.dtype.type(bound)).view(np.uint8)
    return count


@lru_cache(maxsize=32)
def _small(base: int, least: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Tables of small numbers: their digits, the first lowest, and how many they are, `least` or more."""
    table = _DECIMAL if base == 10 else _HEX
    n = np.arange(len(table), dtype=np.uint32)
    count = np.maximum(digit_count(n, base, len(table)), np.uint8(least))
    return table >> ((np.uint32(4) - count) * np.uint32(8)), count.astype(np.int64)


def eight_digits(value: Column, base: int, greatest: int) -> Column:
    """The eight digits of numbers below base**8 as words, zeros in front."""
    if base == 16:
        v = value.astype(np.uint32, copy=False)
        low = _HEX.take(v & np.uint32(0xFFFF)).astype(_U8) << _U8(32)
        if greatest < 1 << 16:
            return low | _U8(0x30303030)
        return low | _HEX.take(v >> np.uint32(16)).astype(_U8)
    v = value.astype(np.uint32, copy=False)
    if greatest < 10_000:
        return (_DECIMAL.take(v).astype(_U8) << _U8(32)) | _U8(0x30303030)
    high = v // np.uint32(10_000)
    low = _DECIMAL.take(v - high * np.uint32(10_000)).astype(_U8) << _U8(32)
    return low | _DECIMAL.take(high).astype(_U8)


def _shifted(word: Column, count: Column) -> Column:
    """Drop all but the last `count` digits of words of eight; the first that stays stands lowest."""
    # A shift by 64 is not defined, so a count of 0 drops 7 digits: the eighth lies behind the piece's end.
    shift = np.minimum(_U8(8) - count.astype(_U8), _U8(7)) * _U8(8)
    shifted: Column = word >> shift
    return shifted


def digits(value: Column, base: int, least: Column | int = 1) -> list[Piece]:
    """Make the pieces of unsigned numbers in decimal (10) or hexadecimal (16).

    :param least: show at least as many digits, zeros in front
    """
    greatest = int(value.max(initial=0))
    least_all = int(np.max(least)) if not isinstance(least, int) else least
    if greatest < (10_000 if base == 10 else 65_536) and least_all <= 4:
        table = _DECIMAL if base == 10 else _HEX
        if isinstance(least, int):
            words, counts = _small(base, least)
            return [Word(words.take(value), least if least == 4 else counts.take(value))]
        count = np.maximum(digit_count(value.astype(np.uint16, copy=False), base, greatest), least.astype(np.uint8))
        return [Word(table.take(value) >> ((np.uint32(4) - count) * np.uint32(8)), count)]
    half = base**8
    if greatest < half and least_all <= 8:
        v = value.astype(np.uint32, copy=False)
        word = eight_digits(v, base, greatest)
        if isinstance(least, int) and least == 8:
            return [Word(word, 8)]
        count = digit_count(v, base, greatest)
        if least_all > 1:
            count = np.maximum(count, np.asarray(least, np.uint8))
        return [Word(_shifted(word, count), count)]
    if base == 16 and isinstance(least, int) and least <= 8:
        return _long_hex(value.astype(_U8, copy=False), least)
    # More than eight digits: the upper ones, then eight that are all shown where there are upper ones.
    v = value.astype(_U8, copy=False)
    if base == 16:
        high, low = v >> _U8(32), (v & _U8(0xFFFFFFFF)).astype(np.uint32)
    else:
        high = v // _U8(half)
        low = (v - high * _U8(half)).astype(np.uint32)
    least_high = np.maximum(np.asarray(least, np.int64) - 8, 0)
    pieces = _upper(high, base, least_high, greatest // half)
    full = (high > 0) | (least_high > 0)
    count = digit_count(low, base, half - 1)
    count = np.where(full, np.uint8(8), np.maximum(count, np.minimum(np.asarray(least, np.int64), 8)).astype(np.uint8))
    return [*pieces, Word(_shifted(eight_digits(low, base, half - 1), count), count)]


def _long_hex(v: Column, least: int) -> list[Piece]:
    """Up to sixteen hexadecimal digits."""
    count = digit_count(v, 16, 1 << 63)
    if least > 1:
        count = np.maximum(count, least)
    upper = np.maximum(count - 8, 0)
    lower = count - upper
    high, low = (v >> _U8(32)).astype(np.uint32), v.astype(np.uint32)
    return [Word(_shifted(eight_digits(high, 16, 0xFFFFFFFF), upper), upper),
            Word(_shifted(eight_digits(low, 16, 0xFFFFFFFF), lower), lower)]


def _upper(high: Column, base: int, least: Column, greatest: int) -> list[Piece]:
    """The digits above the last eight; none where the number is 0 and none are asked for."""
    if greatest >= base**8 or int(np.max(least)) > 8:
        half = _U8(base**8)
        top = high // half
        rest = (high - top * half).astype(np.uint32)
        pieces = _upper(top, base, np.maximum(least - 8, 0), greatest // base**8)
        full = (top > 0) | (least > 8)
        count = np.where(rest > 0, digit_count(rest, base, base**8 - 1), 0).astype(np.int64)
        count = np.where(full, 8, np.maximum(count, np.minimum(least, 8))).astype(np.uint8)
        return [*pieces, Word(_shifted(eight_digits(rest, base, base**8 - 1), count), count)]
    v = high.astype(np.uint32)
    count = np.where(v > 0, digit_count(v, base, greatest), 0).astype(np.int64)
    count = np.maximum(count, least).astype(np.uint8)
    return [Word(_shifted(eight_digits(v, base, greatest), count), count)]


def columnwise(spec: Spec) -> bool:
    """Tell whether `number` can show the conversion; else its texts are made one by one."""
    if spec.base == 8 or spec.kind == "X" or spec.width == -1 or spec.precision is not None:
        return False
    return (spec.width or 0) <= 24 and not set(spec.flags) & {"+", " "}


def number(spec: Spec, value: Column) -> list[Piece]:
    """Make the pieces of a column of numbers that have the conversion's type, see `columnwise`."""
    pieces: list[Piece] = []
    width = spec.width or 0
    minus: Column | None = None
    if value.dtype.kind == "i":
        negative = value < 0
        if negative.any():
            minus = negative.view(np.uint8)
            # The magnitude of the least value does not fit its type, but the unsigned one of the same width.
            with np.errstate(over="ignore"):
                value = np.where(negative, np.negative(value), value)
        value = value.view(f"u{value.dtype.itemsize}")
    prefix = b"0x" if "#" in spec.flags and spec.base == 16 else b""
    least: Column | int = 1
    if spec.zero and width:
        room = max(width - len(prefix), 1)
        least = room if minus is None else np.maximum(room - minus.astype(np.int64), 1)
    shown = digits(value, spec.base, least)
    length: Column | int = len(prefix)
    for p in shown:
        length = length + (p.length.astype(np.int64) if not isinstance(p.length, int) else p.length)
    if minus is not None:
        length = length + minus.astype(np.int64)
    padding = None
    if width and not spec.zero:
        pad = np.maximum(width - np.asarray(length), 0)
        if pad.ndim == 0:
            pad = np.full(len(value), pad)
        if pad.any():
            padding = Cut(b" " * width, pad)
    if padding is not None and not spec.left:
        pieces.append(padding)
    if minus is not None:
        pieces.append(Cut(b"-", minus))
    if prefix:
        pieces.append(Literal(prefix))
    pieces += shown
    if padding is not None and spec.left:
        pieces.append(padding)
    return pieces
