"""Lines of ps: the short way, for lines in which every cell fits, is the long one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskscope.views.ps_cells import Column
from taskscope.views.ps_layout import _WIDE, Place, _fitting, _line

CELL = st.text(st.characters(codec="ascii", categories=("L", "N", "P")) | st.sampled_from(" 한"), max_size=9)
COLUMN = st.tuples(st.integers(1, 8), st.sampled_from("<>nuw"))


@given(st.lists(st.tuples(COLUMN, CELL), min_size=1, max_size=6))
def test_the_short_way_is_the_long_way(row: list[tuple[tuple[int, str], str]]) -> None:
    """Where the short way gives a line at all, it is the one that show_one_proc() would make."""
    places = [Place(Column("H", size, align, lambda *_: None), "H", size) for (size, align), _ in row]
    texts = [text for _, text in row]
    short = _fitting([pad for pad, _ in row], texts)
    if short is not None:
        assert short == _line(places, texts, _WIDE, True, len(places) - 1)


def test_what_the_short_way_leaves_to_the_long_one() -> None:
    """A cell that pushes the next ones, or is wider than its letters, is not for the short way; what is cut is."""
    assert _fitting([(3, ">"), (4, "<")], ["1234", "x"]) is None
    assert _fitting([(6, "<"), (4, "<")], ["한글", "x"]) is None
    assert _fitting([(3, "w"), (4, "<")], ["do_wait", "x"]) == "do_ x"
    assert _fitting([(3, "n"), (4, "<")], ["somebody", "x"]) == "so+ x"
