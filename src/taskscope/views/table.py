"""Tables as ps(1) prints them: a header, one record a line, columns wide enough for what stands in them.

No boxes and no lines: what is printed survives cut(1) and awk(1).  The last column may hold spaces and is
never padded; all others are single words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from taskscope.views.text import Cell, Paint, cut, width

Row = Sequence["str | Cell"]


class Column(NamedTuple):
    """A column: its header, alignment (``<`` or ``>``) and least width in cells."""

    name: str
    align: str = ">"
    least: int = 0


def table(
    columns: Sequence[Column],
    rows: Iterable[Row],
    paint: Paint | None = None,
    header: bool = True,
    limit: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a table, without newlines.

    :param rows: one sequence of texts or `Cell` per record, as many as there are columns; escaped already
    :param limit: cells of a line, to which the last column is cut; None cuts nothing
    """
    kept = [list(row) for row in rows]
    widths = [max(width(c.name), c.least) for c in columns]
    for row in kept:
        for k, cell in enumerate(row):
            text = cell.text if isinstance(cell, Cell) else cell
            n = len(text) if text.isascii() else width(text)
            if n > widths[k]:
                widths[k] = n
    last = len(columns) - 1
    room = None if limit is None else max(limit - sum(widths[:last]) - last, 1)
    if header:
        names = [_fill(c.name, widths[k], c.align, k == last) for k, c in enumerate(columns)]
        line = " ".join(names).rstrip()
        yield paint(line, "head") if paint else line
    for row in kept:
        parts = []
        for k, cell in enumerate(row):
            text, style = cell if isinstance(cell, Cell) else (cell, None)
            if room is not None and k == last:
                text = cut(text, room)
            filled = _fill(text, widths[k], columns[k].align, k == last)
            # Only the word is painted, not the blanks beside it: underlines and backgrounds stay inside the
            # column.
            parts.append(filled.replace(text, paint(text, style), 1) if paint and style and text else filled)
        yield " ".join(parts).rstrip()


def _fill(text: str, cells: int, align: str, last: bool) -> str:
    if align == "<" and last:
        return text
    blanks = " " * (cells - (len(text) if text.isascii() else width(text)))
    return text + blanks if align == "<" else blanks + text
