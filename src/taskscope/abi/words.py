"""Reading what a person typed: numbers in any base, names in any case, ``A|B|C``; and near matches for what is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from taskscope.errors import UsageError

_NUMBER = re.compile(r"[-+]?(?:0x[0-9a-f]+|0o[0-7]+|0b[01]+|[0-9]+)", re.IGNORECASE)

MAX_BITS = 64


def cut(word: str) -> str:
    """Shorten what was typed for an error message."""
    return word if len(word) <= 40 else word[:37] + "..."


def number_of(word: str) -> int | None:
    """Read a number written in decimal or with ``0x``, ``0o``, ``0b``, perhaps negative; None if it is no number.

    Leading zeros without a letter are decimal: ``0120`` is 120.

    :raises UsageError: it is a number of more than 64 bits
    """
    text = word.strip()
    if not _NUMBER.fullmatch(text):
        return None
    # Longer than 64 binary digits with their sign and prefix: no number of 64 bits, and slow to convert.
    digits = text.lstrip("+-")
    value = None if len(digits) > MAX_BITS + 2 else int(digits, 0 if digits[1:2].isalpha() else 10)
    if value is None or value >> MAX_BITS:
        raise UsageError(f"{cut(text)} has more than {MAX_BITS} bits")
    return -value if text.startswith("-") else value


def is_plain_decimal(word: str) -> bool:
    """Tell whether a word is digits alone, so that it may have been meant as hexadecimal."""
    return word.strip().isdecimal() and len(word.strip()) >= 5


def near(word: str, candidates: Iterable[str], prefixes: Iterable[str] = ()) -> str:
    """Return ``; did you mean A, B?`` with the candidates most like a word, or nothing.

    :param prefixes: what a reader may have left out
    """
    from difflib import get_close_matches

    by_key: dict[str, str] = {}
    for name in candidates:
        by_key.setdefault(name.lower(), name)
        for prefix in prefixes:
            if name.startswith(prefix):
                by_key.setdefault(name[len(prefix):].lower(), name)
    found: list[str] = []
    for key in get_close_matches(word.lower()[:80], list(by_key), n=6, cutoff=0.6):
        if by_key[key] not in found:
            found.append(by_key[key])
    return f"; did you mean {', '.join(found[:3])}?" if found else ""


def lookup(word: str, values: Mapping[str, int], prefixes: Iterable[str] = ()) -> int | None:
    """Find a name in any case, with or without one of the prefixes; None if it is not there.

    ``_TIF_SIGPENDING`` finds ``TIF_SIGPENDING``: leading underscores do not matter where no name has them.
    """
    given = word.strip().upper()
    upper = {name.upper(): value for name, value in values.items()}
    for key in (given, given.lstrip("_")):
        for candidate in (key, *(prefix.upper() + key for prefix in prefixes)):
            if key and candidate in upper:
                return upper[candidate]
    return None


def split_flags(word: str) -> list[str]:
    """Split ``A|B|C`` (commas and spaces do as well) into its names and numbers."""
    return [part for part in re.split(r"[|,\s]+", word.strip()) if part]


def unknown(kind: str, word: str, candidates: Iterable[str], prefixes: Iterable[str] = ()) -> UsageError:
    """Make the error for a word that is neither a number nor a name."""
    return UsageError(f"{kind}: {cut(word)!r} is neither a number nor a name{near(word, candidates, prefixes)}")
