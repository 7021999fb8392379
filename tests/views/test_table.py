"""Tables: columns as wide as what stands in them, one record a line, nothing that cut and awk stumble over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskscope.views.table import Column, table
from taskscope.views.text import Cell, Paint, width

COLUMNS = (Column("PID", least=5), Column("COMM", "<"), Column("END", "<"))
WORDS = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=9)


def test_columns_line_up_in_cells() -> None:
    """Korean names take two cells a syllable, and the column behind them still begins in one place."""
    lines = list(table(COLUMNS, [["1", "한글이름", "exit 0"], ["2042", "bash", "SIGKILL by bash 911"]]))
    assert lines == ["  PID COMM     END", "    1 한글이름 exit 0", " 2042 bash     SIGKILL by bash 911"]
    assert width(lines[1][: lines[1].index("exit")]) == lines[2].index("SIGKILL") == lines[0].index("END")


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=8))
def test_awk_finds_every_word(rows: list[tuple[str, str, str]]) -> None:
    """Splitting a line at blanks gives the cells back; no line ends in blanks."""
    lines = list(table(COLUMNS, rows))
    assert [tuple(line.split()) for line in lines[1:]] == rows
    assert lines[0].split() == ["PID", "COMM", "END"]
    assert all(line == line.rstrip() for line in lines)


def test_colour_does_not_move_columns() -> None:
    """The text between colours is the text without them, and blanks are never coloured."""
    rows = [["1", Cell("a", "kill"), "x"], ["2", Cell("bbb", "running"), "y"]]
    plain = list(table(COLUMNS, rows))
    painted = list(table(COLUMNS, rows, Paint(True)))
    for one, other in zip(plain, painted, strict=True):
        for sgr in ("\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"):
            other = other.replace(sgr, "")
        assert one == other
    assert "\x1b[31ma\x1b[0m" in painted[1]


def test_header_can_be_left_out() -> None:
    """Without a header only records are printed."""
    assert list(table(COLUMNS, [["1", "a", "b"]], header=False)) == ["    1 a    b"]
