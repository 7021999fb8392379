"""Times: how stamps and lengths are shown, and how a time on the command line is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.errors import UsageError
from taskscope.trace.source import Clock
from taskscope.views.times import Times

NS = Times(Clock("local"))
US = Times(Clock("local", resolution=1000))
CYCLES = Times(Clock("x86-tsc", unit="cycles"), start=100)


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0.000000"),
        (499, "0.000000"),
        (500, "0.000001"),
        (6_644_967_123, "6.644967"),
        (1_999_999_999_500, "2000.000000"),
    ],
)
def test_stamps_are_rounded_as_the_kernel_rounds(ns: int, shown: str) -> None:
    """Six decimals, half a microsecond up, as in tracefs' trace file."""
    assert NS.stamp(ns) == shown


def test_stamps_of_other_precision() -> None:
    """Nine decimals show ns; text has microseconds and never more; unknown is a dash; cycles are whole."""
    assert NS.stamp(6_644_967_123, 9) == "6.644967123"
    assert US.stamp(6_644_967_000, 9) == "6.644967"
    assert NS.stamp(None) == "-"
    assert CYCLES.stamp(170941558772) == "170941558772"


@pytest.mark.parametrize(
    ("ns", "prose", "table"),
    [
        (0, "0 ns", "0"),
        (850, "850 ns", "850ns"),
        (1_234, "1.2 us", "1.23us"),
        (61_000, "61 us", "61.0us"),
        (999_499, "999 us", "999us"),
        (999_600, "1.000 ms", "1.00ms"),
        (1_204_000, "1.204 ms", "1.20ms"),
        (13_503_010_000, "13.503 s", "13.5s"),
        (9_000_000_000_000, "9000.000 s", "9000s"),
        (36_000_000_000_000, "36000.000 s", "10.0h"),
        (864_000_000_000_000, "864000.000 s", "10.0d"),
    ],
)
def test_lengths(ns: int, prose: str, table: str) -> None:
    """Lengths carry their unit: three decimals in prose, three digits without a blank in tables."""
    assert NS.length(ns) == prose
    assert NS.short(ns) == table


@given(st.integers(0, 9 * 10**16))
def test_lengths_in_tables_are_narrow(ns: int) -> None:
    """No length takes more than seven cells or has a blank in it."""
    for times in (NS, CYCLES):
        assert len(times.short(ns)) <= 7
        assert " " not in times.short(ns)


def test_lengths_never_pretend() -> None:
    """Where stamps have microseconds, lengths have no fractions of them; cycles stay cycles."""
    assert US.length(4_000) == "4 us"
    assert CYCLES.length(890_266) == "890,266 cycles"
    assert CYCLES.short(890_266) == "890kc"
    assert NS.short(None) == "-"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("6.644967123", 6_644_967_123),
        ("6", 6_000_000_000),
        ("+1.5", 101_500_000_000),
        ("6644967123ns", 6_644_967_123),
        ("1500us", 1_500_000),
        ("+2.5ms", 100_002_500_000),
        (".5", 500_000_000),
        ("1.0000000019", 1_000_000_001),
        ("0.1s", 100_000_000),
    ],
)
def test_times_are_read_exactly(text: str, ns: int) -> None:
    """Seconds, + from the start, or with a unit; no digit is lost in a float."""
    assert Times(Clock("local"), start=100_000_000_000).parse(text) == ns


@given(st.integers(0, 2**62))
def test_what_is_shown_is_read_back(ns: int) -> None:
    """The nine decimals of a stamp are the time it came from."""
    assert NS.parse(NS.stamp(ns, 9)) == ns


@given(st.integers(0, 10**15))
def test_a_stamp_from_a_report_includes_its_records(ns: int) -> None:
    """Between the edges of a six-decimal stamp lie exactly the times that are shown as it."""
    shown = NS.stamp(ns)
    first, last = NS.parse(shown, edge="first"), NS.parse(shown, edge="last")
    assert first <= ns <= last
    assert {NS.stamp(first), NS.stamp(last)} == {shown}
    assert NS.stamp(last + 1) != shown
    assert first == 0 or NS.stamp(first - 1) != shown


@pytest.mark.parametrize("text", ["6.644967123", "+1.5", "6644967123ns", "5ms"])
def test_other_times_are_exact_at_both_edges(text: str) -> None:
    """Nine decimals, a unit, or a time from the start mean themselves."""
    assert NS.parse(text, edge="first") == NS.parse(text, edge="last") == NS.parse(text)


@pytest.mark.parametrize("text", ["", "abc", "-1", "1e3", "1:30", ".", "+", "5 h", "٣", "1.2.3", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything else is a usage error that names the option."""
    with pytest.raises(UsageError, match="--from"):
        NS.parse(text, "--from")


def test_cycles_are_whole() -> None:
    """A clock of cycles takes a whole number, or one from its start, and no seconds."""
    assert CYCLES.parse("12345") == 12345
    assert CYCLES.parse("+5") == 105
    for text in ("1.5", "3ms"):
        with pytest.raises(UsageError, match="cycles"):
            CYCLES.parse(text)
