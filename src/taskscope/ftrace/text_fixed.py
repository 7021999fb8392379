"""Heads in fixed columns, read for all lines of a block at once.

tracefs and trace-cmd pad what stands before the time to columns, so almost all lines of a text have their heads in the
same places.  Here those lines are recognised and their numbers read column by column; every other line, and every
line whose event was not seen before, is left to the grammar.  What is read is the same either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.text_lines import Grammar
from taskscope.ftrace.text_types import TextType

_Bytes = npt.NDArray[np.uint8]
_Which = npt.NDArray[np.bool_]

_BLANK = 0x20
#: characters of the flag columns
_FLAG = np.zeros(256, bool)
_FLAG[[ord("."), ord("_"), *range(0x30, 0x3A), *range(0x41, 0x5B), *range(0x61, 0x7B)]] = True
#: bytes that a name of an event has at most
_NAME = 255


@dataclass
class FixedHeads:
    """The heads of some lines; parallel columns."""

    lines: npt.NDArray[np.int64]         # numbers of the lines in the block
    ts: npt.NDArray[np.int64]            # ns, or cycles
    cpu: npt.NDArray[np.uint16]
    pid: npt.NDArray[np.int32]
    tgid: npt.NDArray[np.int32]          # -1 unknown
    comms: list[bytes]                   # without padding
    flags: list[bytes]
    types: list[TextType]
    rests: list[bytes]                   # bodies
    digits: int                          # decimal places of the stamps


@dataclass(frozen=True)
class Fixed:
    """The columns of a head; each part is (first, end)."""

    pid: tuple[int, int]
    tgid: tuple[int, int] | None
    cpu: tuple[int, int]
    flags: tuple[int, int] | None
    seconds: tuple[int, int]
    fraction: tuple[int, int] | None
    name: int                            # where the event's name begins
    wide: bool

    @classmethod
    def of(cls, grammar: Grammar, line: bytes) -> Fixed | None:
        """Take the columns from one line, None if it is no record or its style has no columns."""
        if grammar.style not in ("tracefs", "report"):
            return None
        m = grammar.pattern.match(line)
        if m is None or not m["sec"] or not m["name"]:
            return None
        tgid = m.span("tgid") if m["tgid"] else None
        bracket = m.start("cpu") - 1
        if tgid is not None and tgid[0] > bracket:
            return None
        flags = m.span("flags") if m["flags"] else None
        pid_end = line.index(b"(", m.start("pid")) if tgid is not None else bracket
        seconds = (flags[1] if flags is not None else m.end("cpu") + 1, m.end("sec"))
        fraction = m.span("frac") if "frac" in m.re.groupindex else None
        parenthesis = (pid_end + 1, tgid[1]) if tgid is not None else None
        return cls((m.start("pid"), pid_end), parenthesis, m.span("cpu"), flags, seconds, fraction,
                   (fraction or seconds)[1] + 2, grammar.wide)

    def read(self, text: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64],
             known: dict[bytes, TextType]) -> FixedHeads | None:
        """Read the heads of the lines that have these columns and an event that is known.

        :param starts: first bytes of the lines in `text`
        :param known: types by the name before the body
        """
        lines = np.flatnonzero(ends - starts > self.name + 1)
        if not len(lines):
            return None
        data = np.frombuffer(text, np.uint8)
        rows = np.lib.stride_tricks.sliding_window_view(data, self.name)
        columns = np.ascontiguousarray(rows[starts[lines]].T)
        fits, pid = _left(columns, self.pid)
        cpu_fits, cpu = _right(columns, self.cpu)
        second_fits, ts = _right(columns, self.seconds)
        fits &= cpu_fits & second_fits & (columns[self.pid[0] - 1] == ord("-")) & (columns[self.pid[1] - 1] == _BLANK)
        fits &= (columns[self.cpu[0] - 1] == ord("[")) & (columns[self.cpu[1]] == ord("]"))
        fits &= (columns[self.name - 2] == ord(":")) & (columns[self.name - 1] == _BLANK)
        digits = 0
        if self.fraction is not None:
            digits = self.fraction[1] - self.fraction[0]
            fraction_fits, fraction = _right(columns, self.fraction)
            fits &= fraction_fits & (columns[self.fraction[0] - 1] == ord(".")) & (columns[self.fraction[0]] != _BLANK)
            fits &= ts < 9_000_000_000
            ts = ts * 1_000_000_000 + fraction * 10 ** (9 - digits)
        else:
            fits &= ts < 9 * 10 ** 18
        tgid = np.full(len(lines), -1, np.int64)
        if self.tgid is not None:
            first, end = self.tgid
            tgid_fits, found = _right(columns, self.tgid)
            unknown = (columns[first:end] == ord("-")).all(axis=0)
            fits &= (tgid_fits | unknown) & (columns[first - 1] == ord("(")) & (columns[end] == ord(")"))
            fits &= (found < 1_000_000_000) & (columns[end + 1] == _BLANK)
            tgid = np.where(unknown, -1, found)
        if self.flags is not None:
            first, end = self.flags
            fits &= _FLAG[columns[first:end]].all(axis=0) & (columns[first - 1] == _BLANK) & (columns[end] == _BLANK)
        fits &= (pid < 2_000_000_000) & (cpu < 10_000)
        found_lines = np.flatnonzero(fits)
        at = starts[lines[found_lines]]
        names = (at + self.name).tolist()
        colons = [text.find(b":", a, a + _NAME) for a in names]
        types = [known.get(text[a:c]) if c > 0 else None for a, c in zip(names, colons, strict=True)]
        named = [t is not None for t in types]
        colon = np.array(colons, np.int64)
        stop = ends[lines[found_lines]]
        with_body = np.array(named, bool) & (colon + 1 < stop)
        with_body[with_body] = data[colon[with_body] + 1] == _BLANK
        keep = np.flatnonzero(with_body)
        if not len(keep):
            return None
        chosen = found_lines[keep]
        kept = [types[i] for i in keep.tolist()]
        begin, body = at[keep].tolist(), (colon[keep] + 2).tolist()
        rests = [text[a:b] for a, b in zip(body, stop[keep].tolist(), strict=True)]
        if self.wide:
            rests = [r.lstrip(b" ") for r in rests]
        dash = self.pid[0] - 1
        flags = [b""] * len(keep)
        if self.flags is not None:
            first, end = self.flags
            flags = [text[a + first:a + end] for a in begin]
        return FixedHeads(lines[chosen], ts[chosen], cpu[chosen].astype(np.uint16), pid[chosen].astype(np.int32),
                          tgid[chosen].astype(np.int32), [text[a:a + dash].lstrip(b" ") for a in begin], flags,
                          [t for t in kept if t is not None], rests, digits)


def _value(digits: Any, is_digit: Any) -> npt.NDArray[np.int64]:
    value = np.zeros(digits.shape[1], np.int64)
    for digit, counts in zip(digits, is_digit, strict=True):
        value = np.where(counts, value * 10 + digit, value)
    return value


def _left(columns: _Bytes, part: tuple[int, int]) -> tuple[_Which, npt.NDArray[np.int64]]:
    """Read numbers that blanks follow; the first result tells which lines have one."""
    digits = columns[part[0]:part[1]] - np.uint8(0x30)
    is_digit = digits < 10
    fits = is_digit[0] & (is_digit[:-1] | ~is_digit[1:]).all(axis=0)
    fits &= (is_digit | (columns[part[0]:part[1]] == _BLANK)).all(axis=0)
    return fits, _value(digits, is_digit)


def _right(columns: _Bytes, part: tuple[int, int]) -> tuple[_Which, npt.NDArray[np.int64]]:
    """Read numbers that blanks stand before; the first result tells which lines have one."""
    digits = columns[part[0]:part[1]] - np.uint8(0x30)
    is_digit = digits < 10
    fits = is_digit[-1] & (~is_digit[:-1] | is_digit[1:]).all(axis=0)
    fits &= (is_digit | (columns[part[0]:part[1]] == _BLANK)).all(axis=0)
    return fits, _value(digits, is_digit)
