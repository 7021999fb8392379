"""Escaping, width in cells, colour: what untrusted names may do to a terminal, and how columns stay straight."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.views.text import Paint, cut, escape, pad, width, wrap


@given(st.text())
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    """Whatever a program calls itself, only printable characters are shown."""
    shown = escape(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "M"))))
def test_what_can_be_shown_is_shown(text: str) -> None:
    """Letters, digits, punctuation and symbols of any script are left as they are."""
    if text.isprintable():
        assert escape(text) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b]0;evil\x07", "\\x1b]0;evil\\x07"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\u2066\u200b\ufeff", "\\u2066\\u200b\\ufeff"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("한글 é 日本", "한글 é 日本"),
    ],
)
def test_how_it_is_escaped(raw: str, shown: str) -> None:
    """Control sequences, line ends, bidi overrides, invisible marks and lone surrogates become backslash escapes."""
    assert escape(raw) == shown


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("bash", 4),
        ("한글", 4),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", 4),
        ("é", 1),
        ("e\u0301", 1),
        ("日本語x", 7),
        ("", 0),
        ("─│█▌·→×…", 8),
    ],
)
def test_width_in_cells(text: str, cells: int) -> None:
    """Wide characters take two cells, combining ones none, also where a Hangul syllable is decomposed."""
    assert width(text) == cells


@given(st.text(st.characters(categories=("L", "N", "P"))), st.integers(1, 40))
def test_pad_and_cut_keep_columns(text: str, cells: int) -> None:
    """A cut text never exceeds its column, and a padded one fills it exactly."""
    assert width(cut(text, cells)) <= cells
    assert width(pad(cut(text, cells), cells)) == cells
    assert pad("ab", 4, ">") == "  ab"


@given(st.lists(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12), min_size=1, max_size=20))
def test_wrap_loses_nothing(words: list[str]) -> None:
    """Wrapping breaks lines and keeps every word, in order, within the width where a word fits."""
    lines = wrap(" ".join(words), 24, "  ")
    assert " ".join(lines).split() == words
    assert all(width(line) <= 24 or len(line.split()) == 1 for line in lines)


def test_wrap_breaks_flags() -> None:
    """A flag word is broken behind ``|``, which stays where it was."""
    assert wrap("VM|FS|FILES|SIGHAND", 12, "  ") == ["VM|FS|FILES|", "  SIGHAND"]


def test_colour_is_an_addition() -> None:
    """Without colour the text is the same, and colour adds nothing but colour."""
    assert Paint(False)("R", "running") == "R"
    painted = Paint(True)("R", "running")
    assert painted != "R"
    assert painted.replace("\x1b[32m", "").replace("\x1b[0m", "") == "R"
    assert Paint(True)("R", None) == Paint(True)("R", "no such style") == "R"
