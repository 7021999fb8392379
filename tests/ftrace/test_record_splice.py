"""Records put between those of a cpu, and records that are discarded: record_splice, record_outside, record_pages."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pagewriter import Page

from taskscope.ftrace.pages import PageLayout, PageWalker, Walked
from taskscope.ftrace.record_outside import Kinds, Ours, births, ours_of, rows_of
from taskscope.ftrace.record_pages import Counted, StackRule, tidy
from taskscope.ftrace.record_splice import Spliced, splice

BIG = sys.byteorder == "big"
LAYOUT = PageLayout(8, 8, 16)
FORK, SIGNAL, FREE, STACK, OTHER = 10, 11, 12, 5, 20


def record(number: int, pid: int, subject: int = 0, *, irq: bool = False, words: int = 3) -> bytes:
    """Return the data of a record: common fields, then a pid, then filler."""
    order = sys.byteorder
    head = number.to_bytes(2, order) + bytes([0x08 if irq else 0, 0]) + pid.to_bytes(4, order)
    return (head + subject.to_bytes(4, order)).ljust(4 * words, b"\x07")


def pages(records: list[tuple[int, bytes]], size: int = 4096, missed: int | None = None) -> bytes:
    """Lay records out in pages, an independent way."""
    out: list[bytes] = []
    page: Page | None = None
    for ts, data in records:
        need = len(data) + 16
        if page is None or page.room < need + 8:
            if page is not None:
                out.append(_bytes(page, missed if not out else None))
            page = Page(ts, big_endian=BIG, size=size)
        page.event(ts - page.now, data)
    if page is not None:
        out.append(_bytes(page, missed if not out else None))
    return b"".join(out)


def _bytes(page: Page, missed: int | None) -> bytes:
    return page.bytes(missed is not None, missed or None)


def walk(content: bytes, size: int = 4096) -> tuple[list[tuple[int, bytes]], PageWalker, Walked]:
    """Read pages back: (time, data) of every record."""
    data = np.frombuffer(bytearray(content), np.uint8)
    walker = PageWalker(data, BIG, LAYOUT, size)
    offsets = np.arange(0, len(content), size, dtype=np.int64)
    w = walker.walk(offsets, walker.lengths(offsets, np.full(len(offsets), size, np.int64)))
    at, sizes = walker.data_words(w.head) * 4, walker.sizes(w.head)
    return [(int(t), data[a:a + n].tobytes()) for t, a, n in zip(w.ts, at, sizes, strict=True)], walker, w


def made(spliced: Spliced, step: int = 40960) -> bytes:
    """Return the pages that would be written."""
    parts = [bytes(p) for p in spliced.pieces(step)]
    assert all(len(p) == step for p in parts[:-1])
    content = b"".join(parts)
    assert len(content) == spliced.size
    return content


deltas = st.one_of(st.integers(0, 5000), st.integers(0, 1 << 30))
lists = st.lists(st.tuples(deltas, st.integers(3, 40)), max_size=300)


def timed(steps: list[tuple[int, int]], start: int, number: int) -> list[tuple[int, bytes]]:
    """Return records of the given steps in time and lengths, all told apart by their subject."""
    out = []
    for k, (delta, words) in enumerate(steps):
        start += delta
        out.append((start, record(number, 7, k, words=words)))
    return out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists, lists, st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_every_record_is_there_at_its_time(tmp_path: Path, a: list[tuple[int, int]], b: list[tuple[int, int]],
                                           first: int, second: int) -> None:
    """Spliced pages hold both sequences, each in its order, all in the order of time, to the nanosecond."""
    base, added = timed(a, first, OTHER), timed(b, second, SIGNAL)
    path = tmp_path / "cpu0.raw"
    path.write_bytes(pages(base))
    got = walk(made(splice(path, path.stat().st_size, 4096, LAYOUT, BIG, added)))[0]
    assert [r for r in got if r in base] == base
    assert [r for r in got if r in added] == added
    assert len(got) == len(base) + len(added)
    assert [ts for ts, _ in got] == sorted(ts for ts, _ in got)


def test_pages_without_new_records_are_not_touched(tmp_path: Path) -> None:
    """Only the page that gets a record is written anew."""
    content = pages(timed([(100, 30)] * 2000, 0, OTHER))
    path = tmp_path / "cpu0.raw"
    path.write_bytes(content)
    spliced = splice(path, len(content), 4096, LAYOUT, BIG, [(100_050, record(SIGNAL, 7))])
    assert len(spliced.anew) == 1
    number = next(iter(spliced.anew))
    written = made(spliced)
    assert written[:number * 4096] == content[:number * 4096]
    assert written[(number + len(spliced.anew[number]) // 4096) * 4096:] == content[(number + 1) * 4096:]


@pytest.mark.parametrize("missed", [0, 41])
def test_lost_events_stay_told(tmp_path: Path, missed: int) -> None:
    """A page that says that events were lost before it still does when it is written anew, with their number."""
    path = tmp_path / "cpu0.raw"
    path.write_bytes(pages(timed([(100, 5)] * 10, 0, OTHER), missed=missed))
    content = made(splice(path, 4096, 4096, LAYOUT, BIG, [(450, record(SIGNAL, 7))]))
    _, walker, _ = walk(content)
    assert walker.missed(0, 4096) == (True, missed or None)
    counted = Counted()
    lost = tidy(np.frombuffer(bytearray(content), np.uint8), 0, len(content), LAYOUT, 4096, BIG, None, counted)
    assert (counted.events, lost) == (11, missed or None)


def kinds() -> Kinds:
    """Return the events of these tests."""
    return Kinds(births={FORK: 8}, subjects={SIGNAL: 8, FREE: 8}, free=FREE, stack=STACK)


def test_whose_records_are_kept() -> None:
    """Kept is what is about a recorded task or made by one; a stack goes with its event; a pid may be used again."""
    main = [(10, record(FORK, 1, 100)), (500, record(FORK, 1, 100))]
    outside = [
        (5, record(SIGNAL, 99, 100)),                 # before it was born
        (6, record(STACK, 99)),
        (20, record(SIGNAL, 99, 100)),                # to the child, from outside
        (21, record(STACK, 99)),
        (30, record(SIGNAL, 100, 98)),                # from the child, to outside
        (31, record(SIGNAL, 100, 97, irq=True)),      # a timer of another's, while the child ran
        (40, record(FREE, 1, 96)),                    # another's release, while ours ran
        (50, record(FREE, 0, 100)),
        (51, record(STACK, 0)),
        (60, record(SIGNAL, 99, 100)),                # its pid is another's now
        (61, record(STACK, 99)),
        (600, record(SIGNAL, 99, 100)),               # and ours again
    ]
    ours = Ours([1])
    _, walker, w = walk(pages(main))
    for ts, pid in births(walker, w, kinds()):
        ours.born(ts, pid)
    _, walker, w = walk(pages(outside))
    keep = ours_of([rows_of(walker, w, kinds())], ours, kinds())[0]
    assert [ts for (ts, _), k in zip(outside, keep, strict=True) if k] == [20, 21, 30, 50, 51, 600]


def test_no_rows_at_all() -> None:
    """Without a second instance, or without records in it, nothing is kept."""
    assert ours_of([], Ours([1]), kinds()) == []


def test_stacks_of_dropped_records_are_discarded() -> None:
    """A stack stays only behind an event of the same task that has one; an interrupt may have come in between."""
    records = [
        (10, record(SIGNAL, 1)), (11, record(STACK, 1, words=30)),
        (20, record(OTHER, 1)), (21, record(STACK, 1)),                   # of a record that was dropped
        (30, record(SIGNAL, 1)), (31, record(STACK, 2)),                  # of another task's
        (40, record(SIGNAL, 1)), (41, record(OTHER, 1, irq=True)), (42, record(STACK, 1)),
        (50, record(STACK, 1, words=40)),                                 # after a stack
        (60, record(OTHER, 3)), (60, record(STACK, 3)), (61, record(OTHER, 3)),
    ]
    data = np.frombuffer(bytearray(pages(records)), np.uint8)
    counted = Counted()
    tidy(data, 0, len(data), LAYOUT, 4096, BIG, StackRule(STACK, frozenset([SIGNAL])), counted)
    left = walk(data.tobytes())[0]
    assert [(ts, d[0] if not BIG else d[1]) for ts, d in left if ts < 60] == [
        (10, SIGNAL), (11, STACK), (20, OTHER), (30, SIGNAL), (40, SIGNAL), (41, OTHER), (42, STACK)]
    assert counted.discarded == 4
    assert counted.events == len(left)
    again = Counted()
    tidy(data, 0, len(data), LAYOUT, 4096, BIG, StackRule(STACK, frozenset([SIGNAL])), again)
    assert (again.events, again.discarded) == (counted.events, 0)
