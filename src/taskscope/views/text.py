"""Text that is safe and straight on a terminal: escaping, width in cells, colour.

Names in a recording (comm, file name, strings of events) are chosen by the programs that were recorded, so
they are untrusted: `escape` leaves nothing in them that a terminal would obey.  Width is counted in cells, so
that 한글 and other wide or combining characters line up.  Colour is an addition: every coloured word can be
read without it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    r"""Return `text` with everything that is not a printable character shown as a backslash escape.

    Control characters, escape sequences, line separators, format characters (bidi overrides, zero-width
    marks), private-use and unassigned code points, and lone surrogates are escaped; a surrogate that stands
    for an undecodable byte (PEP 383) becomes ``\xNN``.

    >>> escape("a\x1b[31m\u202eb\n")
    'a\\x1b[31m\\u202eb\\n'
    """
    # str.isprintable() is false for exactly the categories Cc Cf Cs Co Cn Zl Zp and Zs but the space.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    short = _SHORT.get(char)
    if short is not None:
        return short
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@lru_cache(maxsize=4096)
def _wide(text: str) -> int:
    cells = 0
    for char in text:
        code = ord(char)
        # Vowels and finals of a decomposed Hangul syllable stand in the cells of its initial.
        if 0x1160 <= code <= 0x11FF or 0xD7B0 <= code <= 0xD7FF:
            continue
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        cells += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return cells


def width(text: str) -> int:
    """Count the terminal cells that printable text takes (UAX #11; ambiguous characters are narrow)."""
    return len(text) if text.isascii() else _wide(text)


def pad(text: str, cells: int, align: str = "<") -> str:
    """Fill text with spaces to a number of cells, at the right (``<``) or the left (``>``); never cuts."""
    fill = " " * (cells - width(text))
    return text + fill if align == "<" else fill + text


def cut(text: str, cells: int) -> str:
    """Cut text down to a number of cells; what was cut ends in ``…``."""
    if width(text) <= cells:
        return text
    kept, used = [], 0
    for char in text:
        step = width(char)
        if used + step > cells - 1:
            break
        kept.append(char)
        used += step
    return "".join(kept) + "…"


_TOKENS = re.compile(r" +|[^ |]+\|?|\|")


def wrap(text: str, cells: int, indent: str = "") -> list[str]:
    """Break text at blanks and behind ``|`` into lines of at most `cells` cells; a longer word keeps a line of its own.

    :param indent: put before every line but the first; counts towards the width
    """
    lines: list[str] = []
    line = ""
    for token in _TOKENS.findall(text):
        if line.strip() and width(line + token.rstrip()) > cells:
            lines.append(line.rstrip())
            line = indent + token.lstrip()
        else:
            line += token
    lines.append(line.rstrip())
    return lines


# What a colour says; the words are used by all views, so that the same thing has the same colour everywhere.
_SGR: Mapping[str, str] = {
    "head": "1",
    "name": "1",
    "running": "32",
    "runnable": "33",
    "wake": "33",
    "sleeping": "2",
    "evidence": "2",
    "blocked": "31",
    "stopped": "36",
    "traced": "36",
    "kill": "31",
    "zombie": "35",
    "born": "32",
    "lost": "7",
    "inferred": "3",
    "note": "2",
}


class Lines(tuple[str, ...]):
    """Lines of a view that show themselves, on a terminal and in a notebook: ``Lines(cpus_table(snapshot))``.

    >>> print(Lines(["S   PID", "R     1"]))
    S   PID
    R     1
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(self)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


class Paint:
    r"""Colours text, or leaves it alone when colour is off.

    >>> Paint(False)("R", "running"), Paint(True)("R", "running")
    ('R', '\x1b[32mR\x1b[0m')
    """

    def __init__(self, on: bool = False) -> None:
        self.on = on

    def __call__(self, text: str, style: str | None) -> str:
        """Return text in the colour of `style` (see ``_SGR``); unknown styles and None leave it plain."""
        if not self.on or style is None or not text:
            return text
        sgr = _SGR.get(style)
        return text if sgr is None else f"\x1b[{sgr}m{text}\x1b[0m"


class Cell(NamedTuple):
    """One cell of a table with the style it is painted in."""

    text: str
    style: str | None = None
