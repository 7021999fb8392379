"""Words of the C text of a print format: numbers, strings, characters, identifiers and operators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: a print format of the kernel has some thousand words at most
MAX_TOKENS = 200_000

_WORD = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>0[xX][0-9a-fA-F]+[uUlL]* | [0-9]+[uUlL]*)
      | (?P<name>[A-Za-z_$][\w$]*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<char>'(?:[^'\\]|\\.)+')
      | (?P<op>->|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||\.\.\.|[-+*/%&|^~!<>=?:;,.(){}\[\]\#])
    """, re.VERBOSE | re.DOTALL)

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"e": b"\x1b"}


class FormatError(ValueError):
    """The text is not a print format that can be understood; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word and where it begins in the text."""

    kind: Literal["number", "name", "string", "char", "op", "end"]
    text: str
    at: int


def tokens(text: str) -> list[Token]:
    """Split a text into words; the last is of the kind ``end``.

    :raises FormatError: a character belongs to no word
    """
    out: list[Token] = []
    at = 0
    while at < len(text):
        m = _WORD.match(text, at)
        if m is None:
            raise FormatError(f"unexpected {text[at]!r} at character {at}")
        if m.lastgroup != "space":
            out.append(Token(m.lastgroup, m[0], at))  # type: ignore[arg-type]
            if len(out) > MAX_TOKENS:
                raise FormatError("more words than any print format has")
        at = m.end()
    out.append(Token("end", "", at))
    return out


def unescape(quoted: str) -> bytes:
    """Return the bytes of a string or character literal, quotes and escapes undone."""
    def plain(m: re.Match[bytes]) -> bytes:
        e = m[1]
        if e[:1] == b"x" and len(e) > 1:
            return bytes([int(e[1:], 16)])
        if e[:1].isdigit() and e[:1] < b"8":
            return bytes([int(e, 8) & 0xFF])
        return _SIMPLE.get(e, e)

    return _ESCAPE.sub(plain, quoted[1:-1].encode("utf-8", "surrogateescape"))
