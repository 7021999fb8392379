"""The rhythm bar, totals, periods and wakers, from spans made by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskscope.lives.life import Span, State, TaskRef
from taskscope.views.rhythm import bar, period, totals, wakers
from taskscope.views.text import Paint

PLAIN = Paint(False)


def span(at: int, end: int, state: State, *, waker: TaskRef | None = None, woken: bool = False,
         irq: bool = False) -> Span:  # fmt: skip
    """Return a span; a woken one was woken where it begins."""
    return Span(at, end, state, 0, waker, at if woken else None, irq, False)


def test_the_bar() -> None:
    """Cells that ran are marked, full where most of the cell ran; others show what took most of them."""
    spans = [
        span(0, 10, State.RUNNING),
        span(10, 39, State.SLEEPING),
        span(39, 40, State.RUNNING),
        span(40, 60, State.STOPPED),
        span(60, 79, State.BLOCKED),
        span(79, 80, State.RUNNABLE),
    ]
    assert bar(spans, 0, 80, 8, PLAIN) == "█··▌TTDD"
    assert bar(spans, 0, 80, 9, PLAIN, killed=True) == "█··▌TTDD×"


def test_a_short_burst_is_seen() -> None:
    """A run of no length still marks its cell, in a bar as coarse as it may be."""
    spans = [span(0, 500, State.SLEEPING), span(500, 500, State.RUNNING), span(500, 1000, State.SLEEPING)]
    assert bar(spans, 0, 1000, 10, PLAIN) == "·····▌····"


def test_nothing_to_draw() -> None:
    """No time and no cells give no bar, and no error."""
    assert bar([], 5, 5, 10, PLAIN) == ""
    assert bar([span(0, 9, State.RUNNING)], 0, 9, 0, PLAIN) == ""
    assert bar([], 0, 10, 3, PLAIN) == "   "


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from([s for s in State if s is not State.DEAD])), max_size=12),
    st.integers(1, 60),
)
def test_the_bar_is_as_wide_as_asked(parts: list[tuple[int, State]], cells: int) -> None:
    """Any spans fill exactly the cells, and colour changes nothing but colour."""
    spans, at = [], 0
    for length, state in parts:
        spans.append(span(at, at + length, state))
        at += length
    drawn = bar(spans, 0, max(at, 1), cells, PLAIN)
    assert len(drawn) == cells
    painted = bar(spans, 0, max(at, 1), cells, Paint(True))
    import re

    assert re.sub(r"\x1b\[[0-9]*m", "", painted) == drawn


def test_totals() -> None:
    """Spans are summed by state, in one order, states that do not occur left out."""
    spans = [span(0, 3, State.RUNNING), span(3, 10, State.SLEEPING), span(10, 12, State.RUNNING)]
    assert [(t.state, t.time, t.times) for t in totals(spans)] == [(State.RUNNING, 5, 2), (State.SLEEPING, 7, 1)]


def test_a_period_is_claimed_only_where_there_is_one() -> None:
    """At least three intervals, all near their median; else there is no period."""
    assert period([0, 100, 205, 300]) == 100
    assert period([0, 100, 200]) is None
    assert period([0, 100, 200, 450]) is None
    assert period([0, 0, 0, 0]) is None
    assert period([]) is None


def test_wakers() -> None:
    """Wakers are counted, most frequent first; latency is the time from the wakeup until it runs."""
    sh = TaskRef(911, 0)
    spans = []
    for k, (waker, irq) in enumerate([(None, True), (sh, False), (None, True), (None, False)]):
        at = 100 * k
        spans += [
            span(at, at + 10 + k, State.RUNNABLE, waker=waker, woken=True, irq=irq),
            span(at + 10 + k, at + 50, State.RUNNING),
            span(at + 50, at + 100, State.SLEEPING),
        ]
    spans.append(span(400, 450, State.RUNNABLE, woken=True))  # woken, but the recording ends
    spans.append(span(50, 60, State.RUNNABLE))  # preempted: nobody woke it
    found = wakers(spans)
    assert [(w.ref, w.irq, len(w.at)) for w in found.by] == [(None, True, 2), (None, False, 2), (sh, False, 1)]
    assert found.latencies == (10, 11, 12, 13)
