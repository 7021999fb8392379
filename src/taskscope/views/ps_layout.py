"""Lines as procps-ng's ps writes them: a cell that is too long pushes the next ones, and later blanks make up for it.

Follows show_one_proc() and check_header_width() of procps-ng 4.0.2, src/ps/output.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from taskscope.snapshot.snapshot import TaskRow
from taskscope.views.ps_cells import Column, Context, state_style
from taskscope.views.text import Paint, width

#: cells of a line that is not cut
_WIDE: Final = 1 << 20


class Place(NamedTuple):
    """A column where it stands: under a header of its own, perhaps."""

    column: Column
    header: str
    width: int


def place(column: Column, header: str | None = None, pid_digits: int = 5, cells: int | None = None) -> Place:
    """Put a column into a table.

    :param header: instead of its own; it may make the column wider, as only those of pids do of themselves
    :param pid_digits: how wide pids are
    :param cells: a width that is asked for
    """
    head = column.header if header is None else header
    if cells is not None:
        return Place(column, head, cells)
    least = pid_digits if column.pid else column.width
    return Place(column, head, least if header is None and not column.pid else max(least, width(head)))


def lines(
    places: Sequence[Place],
    tasks: Sequence[TaskRow],
    context: Context,
    *,
    paint: Paint | None = None,
    header: bool = True,
    limit: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a table, without newlines.

    :param limit: cells of the screen; a line takes as many of them as its columns need. None cuts nothing
    """
    cells, wide = _screen(places, limit)
    last = len(places) - 1
    if header and any(p.header for p in places):
        # Headers are never cut.
        aligned = (p.column if p.column.align in ">s" else p.column._replace(align="<") for p in places)
        titles = [p._replace(column=column) for p, column in zip(places, aligned, strict=True)]
        line = _line(titles, [p.header for p in places], cells, wide, last)
        yield paint(line, "head") if paint else line
    shows: list[Callable[[TaskRow, Context], str]] = [p.column.show for p in places]
    states = [k for k, p in enumerate(places) if p.column.header in ("S", "STAT") and p.column.align == "<"]
    plain = paint is None and limit is None and all(p.column.align != "s" for p in places)
    pads = [(p.width, p.column.align) for p in places]
    for task in tasks:
        texts = [show(task, context) for show in shows]
        if plain and (fits := _fitting(pads, texts)) is not None:
            yield fits
            continue
        styles = {}
        if paint and (style := state_style(task)):
            styles = dict.fromkeys(states, (paint, style))
        yield _line(places, texts, cells, wide, last, styles)


def _fitting(pads: Sequence[tuple[int, str]], texts: Sequence[str]) -> str | None:
    """Return the line if no cell pushes the next, as in nearly all; None if one does, or is wider than its letters.

    :param pads: the width of each cell, and how it is aligned
    """
    parts = []
    for (size, align), text in zip(pads, texts, strict=True):
        if not text.isascii():
            return None
        if align == ">":
            parts.append(text.rjust(size))
        elif align == "n" and len(text) > size:
            parts.append(_name(text, size))
        else:
            parts.append(text.ljust(size) if align == "<" else text[:size].ljust(size))
        if len(parts[-1]) > size and len(parts) < len(pads):
            return None
    if pads[-1][1] != ">":
        parts[-1] = texts[-1]
    return " ".join(parts)


def _screen(places: Sequence[Place], limit: int | None) -> tuple[int, bool]:
    """Return how many cells a line may have, and whether there is room for whole sets of signals."""
    if limit is None:
        return _WIDE, True
    total = sum(3 if p.column.align == "u" and k == len(places) - 1 else p.width for k, p in enumerate(places))
    total += len(places) - 1
    cells = limit
    while cells < total:
        cells += limit
    return cells, total + 7 * sum(p.column.align == "s" for p in places) <= cells


def _line(
    places: Sequence[Place], texts: Sequence[str], cells: int, wide: bool, last: int,
    styles: dict[int, tuple[Paint, str]] | None = None,
) -> str:
    parts: list[str] = []
    correct = actual = 0
    for k, (p, text) in enumerate(zip(places, texts, strict=True)):
        align = p.column.align
        gap = 1 if k else 0
        if k == last:
            room = cells - max(correct, actual + gap)
        else:
            room = 16 if align == "s" and wide else p.width
        amount = len(text) if text.isascii() else width(text)
        fill = 0
        if align == ">":
            fill = p.width - amount
        elif align == "s":
            text, fill, amount = _signals(text, wide, p.width)
        elif align == "<" and k != last:
            pass
        elif amount > room:
            text = _name(text, room) if align == "n" else _cut(text, max(room, 1))
            amount = len(text) if text.isascii() else width(text)
        space = correct - actual + max(fill, 0)
        if space < 1:
            space = gap
        parts.append(" " * space)
        if styles and k in styles:
            paint, style = styles[k]
            parts.append(paint(text, style))
        else:
            parts.append(text)
        actual += space + amount
        correct += p.width + 1 + (7 if align == "s" and wide else 0)
    return "".join(parts)


def _signals(text: str, wide: bool, least: int) -> tuple[str, int, int]:
    """Return a set of signals (16 digits) as there is room for it, blanks before it, and its cells."""
    if len(text) == 16 and not wide:
        text = f"<{text[8:]}" if text[:8].strip("0") else text[8:]
    return text, (16 if wide else least) - len(text), len(text)


def _name(text: str, room: int) -> str:
    """Cut a name so that it can be seen that it was cut."""
    return _cut(text, max(room - 1, 1)) + "+"


def _cut(text: str, cells: int) -> str:
    if text.isascii():
        return text[:cells]
    kept, used = [], 0
    for char in text:
        used += width(char)
        if used > cells:
            break
        kept.append(char)
    return "".join(kept)
