"""C's integer types: widths, promotion and conversion, for constants and for whole columns.

A value of an expression is a `Num`: its C type and either a Python int (a constant, always within the type) or a
column.  The arithmetic is that of C on a two's complement machine; where C leaves a result undefined (overflow of a
signed type, division by zero, a shift by too much) it wraps, or is 0, and never raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CInt:
    """An integer type of `size` bytes."""

    size: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of the same width."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.size}")

    def wrap(self, value: int) -> int:
        """Convert a number to the type, modulo its width."""
        bits = 8 * self.size
        value &= (1 << bits) - 1
        return value - (1 << bits) if self.signed and value >> (bits - 1) else value

    def holds(self, value: int) -> bool:
        """Tell whether the type has the value."""
        return self.wrap(value) == value


CHAR, UCHAR = CInt(1, True), CInt(1, False)
SHORT, USHORT = CInt(2, True), CInt(2, False)
INT, UINT = CInt(4, True), CInt(4, False)
LLONG, ULLONG = CInt(8, True), CInt(8, False)


@dataclass(frozen=True, slots=True, eq=False)
class Num:
    """A number, or a column of them."""

    type: CInt
    data: int | Column

    def column(self) -> Column | np.generic:
        """Return the value as something NumPy computes with, of the type's dtype."""
        if isinstance(self.data, int):
            return np.asarray(self.data, self.type.dtype)[()]     # a scalar, which keeps its dtype
        return self.data.astype(self.type.dtype, copy=False)

    def full(self, n: int) -> Column:
        """Return the value as a column of `n` rows."""
        if isinstance(self.data, int):
            return np.full(n, self.data, self.type.dtype)
        return self.data.astype(self.type.dtype, copy=False)


def truth(value: Num) -> bool | npt.NDArray[np.bool_]:
    """Tell whether a value is not zero."""
    return value.data != 0


def convert(value: Num, type_: CInt) -> Num:
    """Convert to a type as an assignment or a cast does."""
    if value.type == type_:
        return value
    if isinstance(value.data, int):
        return Num(type_, type_.wrap(value.data))
    # Widening goes by the sign of the source, narrowing drops bits: what astype does between integers.
    return Num(type_, value.column().astype(type_.dtype))


def promote(value: Num) -> Num:
    """Apply the integer promotions: what is narrower than int becomes int."""
    return convert(value, INT) if value.type.size < 4 else value


def usual(a: Num, b: Num) -> tuple[Num, Num]:
    """Apply the usual arithmetic conversions to the two operands of an operator."""
    a, b = promote(a), promote(b)
    if a.type == b.type:
        return a, b
    if a.type.size == b.type.size:
        common = CInt(a.type.size, False)
    else:
        common = a.type if a.type.size > b.type.size else b.type
    return convert(a, common), convert(b, common)


_COMPARE = {"==": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater, "<=": np.less_equal,
            ">=": np.greater_equal}
_PLAIN = {"+": np.add, "-": np.subtract, "*": np.multiply, "&": np.bitwise_and, "|": np.bitwise_or,
          "^": np.bitwise_xor}


def binary(op: str, a: Num, b: Num) -> Num:
    """Apply a binary operator other than ``&&`` and ``||``."""
    if op in ("<<", ">>"):
        return _shift(op, promote(a), promote(b))
    a, b = usual(a, b)
    if isinstance(a.data, int) and isinstance(b.data, int):
        return _constant(op, a.type, a.data, b.data)
    x, y = a.column(), b.column()
    if op in _COMPARE:
        return Num(INT, _COMPARE[op](x, y))
    if op in _PLAIN:
        with np.errstate(over="ignore"):
            return Num(a.type, _PLAIN[op](x, y))
    return Num(a.type, _divide(op, x, y))


def _constant(op: str, type_: CInt, x: int, y: int) -> Num:
    match op:
        case "==":
            return Num(INT, int(x == y))
        case "!=":
            return Num(INT, int(x != y))
        case "<":
            return Num(INT, int(x < y))
        case ">":
            return Num(INT, int(x > y))
        case "<=":
            return Num(INT, int(x <= y))
        case ">=":
            return Num(INT, int(x >= y))
        case "+":
            result = x + y
        case "-":
            result = x - y
        case "*":
            result = x * y
        case "&":
            result = x & y
        case "|":
            result = x | y
        case "^":
            result = x ^ y
        case "/":
            result = _quotient(x, y)
        case "%":
            result = x - _quotient(x, y) * y if y else 0
        case _:
            raise ValueError(f"no operator {op!r}")
    return Num(type_, type_.wrap(result))


def _quotient(x: int, y: int) -> int:
    """Divide towards zero, as C does."""
    if y == 0:
        return 0
    q = abs(x) // abs(y)
    return q if (x < 0) == (y < 0) else -q


def _divide(op: str, x: Any, y: Any) -> Column:
    x, y = np.broadcast_arrays(x, y)
    zero = y == 0
    y = np.where(zero, np.ones_like(y), y)
    with np.errstate(over="ignore", divide="ignore"):
        if op == "/":
            # NumPy rounds down; C towards zero: one more where signs differ and something is left.
            q = x // y
            if x.dtype.kind == "i":
                q = q + ((x % y != 0) & ((x < 0) != (y < 0)))
        elif op == "%":
            q = np.fmod(x, y)
        else:
            raise ValueError(f"no operator {op!r}")
    result: Column = np.where(zero, np.zeros_like(q), q)
    return result


def _shift(op: str, a: Num, b: Num) -> Num:
    bits = 8 * a.type.size
    if isinstance(a.data, int) and isinstance(b.data, int):
        if not 0 <= b.data < bits:
            return Num(a.type, 0)
        return Num(a.type, a.type.wrap(a.data << b.data if op == "<<" else a.data >> b.data))
    x = a.column()
    count = b.column().astype(np.int64)
    good = (count >= 0) & (count < bits)
    count = np.where(good, count, 0).astype(a.type.dtype)
    y = np.left_shift(x, count) if op == "<<" else np.right_shift(x, count)
    return Num(a.type, np.where(good, y, np.zeros_like(y)))


def unary(op: str, a: Num) -> Num:
    """Apply ``-``, ``+``, ``~`` or ``!``."""
    if op == "!":
        t = truth(a)
        return Num(INT, int(not t) if isinstance(t, bool) else ~t)
    a = promote(a)
    if isinstance(a.data, int):
        return Num(a.type, a.type.wrap({"-": -a.data, "+": a.data, "~": ~a.data}[op]))
    x = a.column()
    with np.errstate(over="ignore"):
        return Num(a.type, {"-": np.negative, "+": np.positive, "~": np.invert}[op](x))


def choose(condition: Num, a: Num, b: Num) -> Num:
    """Apply ``condition ? a : b`` to numbers."""
    a, b = usual(a, b)
    t = truth(condition)
    if isinstance(t, bool):
        return a if t else b
    return Num(a.type, np.where(t, a.column(), b.column()))


def literal(value: int, suffix: str, decimal: bool, long_size: int) -> Num:
    """Type a number as it is written.

    :param suffix: the letters behind it (``UL``), in any case
    :param decimal: it is written in decimal, so it never becomes unsigned by itself
    """
    s = suffix.lower()
    unsigned = "u" in s
    longs = s.count("l")
    sizes = [4, long_size, 8] if longs == 0 else [long_size, 8] if longs == 1 else [8]
    for size in sizes:
        if not unsigned and CInt(size, True).holds(value):
            return Num(CInt(size, True), value)
        if (unsigned or not decimal) and CInt(size, False).holds(value):
            return Num(CInt(size, False), value)
    return Num(ULLONG, ULLONG.wrap(value))
