r"""Text from a recording made fit for a line: control characters and bytes that are no UTF-8 are escaped.

A comm or a file name may hold any byte but NUL.  Escapes look like ``\x1b``; in a text that has any, a backslash is
doubled, so that it can be undone.  Text without such bytes stays as it is, backslashes and all, as in tracefs.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.printfmt.records import Spans

Column = npt.NDArray[Any]

#: C0, DEL, and C1 as UTF-8
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_SIXTIES = np.uint64(0x6060606060606060)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def escaped(text: bytes, keep: bytes = b"") -> bytes:
    r"""Escape what would not be one line of valid text.

    :param keep: control characters to leave alone

    >>> escaped(b"kworker/0:1"), escaped(b"a\x1b[2J\\b"), escaped("문서".encode()).decode(), escaped(b"dev-a\\x2db")
    (b'kworker/0:1', b'a\\x1b[2J\\\\b', '문서', b'dev-a\\x2db')
    """
    checked = text.translate(None, keep) if keep else text
    if not _CONTROL.search(checked):
        if checked.isascii():
            return text
        try:
            checked.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return text
    shown = text.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(_escape(c, keep) for c in shown).encode()


def _escape(c: str, keep: bytes) -> str:
    code = ord(c)
    if code < 0x20 or 0x7F <= code < 0xA0:
        raw = c.encode()
        return c if raw in keep else "".join(f"\\x{b:02x}" for b in raw)
    return c


def measure(spans: Spans, limit: Column | int | None = None) -> tuple[Column, Column]:
    """Find where texts end: at their first NUL, or with the span.

    :param limit: at most that many bytes count
    :return: length of each text, and the rows whose text may hold something to escape
    """
    n = len(spans)
    length = np.zeros(n, np.int64)
    room = spans.length if limit is None else np.minimum(spans.length, np.maximum(limit, 0))
    odd: list[Column] = []
    rows: Column | None = None           # None: all
    left, k = room, 0
    while n:
        x = spans.items("<u8", k, rows).astype(np.uint64, copy=False)
        nul = (x - _ONES) & ~x & _HIGHS
        first = nul & (~nul + np.uint64(1))
        # The bit of the first NUL is a power of two; as a float its exponent is its number.
        count = ((first.astype(np.float64).view(np.int64) >> 52) - 1023) >> 3
        count[nul == 0] = 8
        count = np.minimum(count, left)
        strange = (x | (x + _ONES) | ~(x + _SIXTIES)) & _HIGHS & (first - np.uint64(1))
        if strange.any():
            short = left < 8
            if short.any():
                # Behind the end of a span stands something else.
                inside = np.where(short, (np.uint64(1) << (8 * np.minimum(left, 7)).astype(np.uint64)) - np.uint64(1),
                                  _ALL)
                strange &= inside
            found = np.flatnonzero(strange)
            odd.append(found if rows is None else rows[found])
        if rows is None:
            length = count
        else:
            length[rows] += count
        on = np.flatnonzero((count == 8) & (left > 8))
        if not len(on):
            break
        rows = on if rows is None else rows[on]
        left, k = left[on] - 8, k + 8
    return length, np.unique(np.concatenate(odd)) if odd else np.empty(0, np.int64)
