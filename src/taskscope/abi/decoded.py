"""What a value turned out to mean: the record that `taskscope.abi.decode` makes, as JSON and as text.

The text is plain and aligned, one field a line, and fits the given width; values come first, so that it survives awk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """One bit or field of a value."""

    value: int | None       # the bits it takes in the whole; None where it is not made of bits
    name: str
    meaning: str
    shown: str | None = None    # what the text shows instead of the value

    def as_json(self) -> dict[str, object]:
        """Return the part as JSON has it."""
        return {"value": self.value, "hex": None if self.value is None else hex(self.value),
                "name": self.name, "meaning": self.meaning}


class Decoded(NamedTuple):
    """One value, taken apart."""

    kind: str
    input: str              # as it was given
    value: int
    text: str               # the names, so written that the same kind reads them back
    meaning: str = ""
    of: str | None = None       # the architecture or the signal that the value belongs to
    kernel: str | None = None   # the kernel whose table was used; None: it holds for all
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the record as ``decode --json`` prints it."""
        return {"kind": self.kind, "input": self.input, "of": self.of, "kernel": self.kernel, "value": self.value,
                "hex": hex(self.value), "text": self.text, "meaning": self.meaning,
                "parts": [part.as_json() for part in self.parts], "notes": list(self.notes)}


_GAP = "  "
# Where a line may break: at spaces, and after the bar between two names.
_TOKENS = re.compile(r"[^|\s]+\|?|\|")


def _wrap(text: str, width: int, first: str = "", rest: str = "") -> Iterator[str]:
    line, glue = first, ""
    for token in _TOKENS.findall(text):
        if line.strip() and len(line) + len(glue) + len(token) > width:
            yield line.rstrip()
            line, glue = rest, ""
        line += glue + token
        glue = "" if token.endswith("|") else " "
    yield line.rstrip()


def _hex(value: int, digits: int) -> str:
    return f"{'-' if value < 0 else ''}0x{abs(value):0{digits}x}"


def _block(record: Decoded, width: int) -> Iterator[str]:
    basis = f"Linux {record.kernel}" if record.kernel else ""
    head = (record.kind, record.of or "", _hex(record.value, 0), str(record.value), basis)
    yield _GAP.join(word for word in head if word)
    if record.text != str(record.value):
        yield from _wrap(record.text, width)
    if record.meaning:
        yield from _wrap(record.meaning, width)
    bits = max((abs(part.value).bit_length() for part in record.parts if part.value is not None), default=0)
    digits = max(1, -(-bits // 16)) * 4
    firsts = [part.shown if part.shown is not None else "" if part.value is None else _hex(part.value, digits)
              for part in record.parts]
    first = max((len(word) for word in firsts), default=0)
    second = max((len(part.name) for part in record.parts), default=0)
    for word, part in zip(firsts, record.parts, strict=True):
        start = f"{_GAP}{word:{first}}{_GAP if first else ''}{part.name:{second}}{_GAP}"
        yield from _wrap(part.meaning, width, start, " " * min(len(start), width // 2))
    for note in record.notes:
        yield from _wrap(note, width)


def _table(records: Sequence[Decoded], width: int) -> Iterator[str]:
    rows = [(r.kind, r.of or "", str(r.value), _hex(r.value, 0), r.text) for r in records]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for record, row in zip(records, rows, strict=True):
        start = "".join(f"{word:{size}}{_GAP}" for word, size in zip(row, widths, strict=True) if size)
        if len(start) > width * 2 // 3:         # no room for the meaning beside it
            yield from _wrap(row[4], width, start[:-len(row[4].ljust(widths[4]) + _GAP)], 2 * _GAP)
            yield from _wrap(record.meaning, width, 2 * _GAP, 2 * _GAP)
        else:
            yield from _wrap(record.meaning, width, start, " " * len(start))
        for note in record.notes:
            yield from _wrap(note, width, _GAP, _GAP)


def lines(records: Sequence[Decoded], width: int = 80) -> Iterator[str]:
    """Write records as text.

    Values of one kind that have no parts make a table, one a line: kind, architecture or signal, decimal, hexadecimal,
    name, meaning.  Others make a block each, with an empty line between two.

    :param width: columns; longer lines are broken where that is possible
    """
    if all(not record.parts for record in records):
        yield from _table(records, width)
        return
    for number, record in enumerate(records):
        if number:
            yield ""
        yield from _block(record, width)
