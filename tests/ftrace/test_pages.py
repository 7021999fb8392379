"""Ring-buffer pages are walked as the kernel wrote them: times, lengths, losses, damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrace.pagewriter import Page
from taskscope.ftrace.pages import PageLayout, PageWalker, Walked, parse_header_page


def walk(pages: list[bytes], *, big_endian: bool = False, long_size: int = 8,
         size: int = 4096) -> tuple[PageWalker, Walked]:
    data = np.frombuffer(b"".join(pages), np.uint8)
    walker = PageWalker(data, big_endian, PageLayout(8, long_size, 8 + long_size), size)
    offsets = np.arange(0, len(data), size, dtype=np.int64)
    return walker, walker.walk(offsets, walker.lengths(offsets, len(data) - offsets))


def found(walker: PageWalker, w: Walked) -> list[tuple[int, bytes]]:
    data = walker.words.tobytes()
    starts = (walker.data_words(w.head) * 4).tolist()
    return [(t, data[s:s + n]) for t, s, n in zip(w.ts.tolist(), starts, walker.sizes(w.head).tolist(), strict=True)]


def test_events_bear_the_sum_of_deltas():
    """The time of an event is the page's time stamp plus all deltas up to it."""
    page = Page(1000).event(5, b"\1\0aa" * 2).event(7, b"\2\0bb" * 3)
    walker, w = walk([page.bytes()])
    assert found(walker, w) == [(1005, b"\1\0aa" * 2), (1012, b"\2\0bb" * 3)]
    assert w.id.tolist() == [1, 2]


def test_time_extend_carries_more_than_27_bits():
    """A time extend adds its delta to the records behind it."""
    page = Page(10).event(1, b"\1\0\0\0").event(1 << 40, b"\2\0\0\0")
    _, w = walk([page.bytes()])
    assert w.ts.tolist() == [11, 11 + (1 << 40)]


def test_absolute_stamp_replaces_the_time_and_keeps_the_upper_bits():
    """An absolute stamp has 59 bits; the bits above come from the stamp before it."""
    high = 3 << 59
    page = Page(high + 10).absolute(high + 77).event(1, b"\1\0\0\0")
    _, w = walk([page.bytes()])
    assert w.ts.tolist() == [high + 78]


def test_long_event_keeps_its_length_in_a_second_word():
    """Data of more than 112 bytes has type_len 0 and its length in array[0]."""
    data = b"\5\0" + bytes(range(198))
    walker, w = walk([Page(1).event(2, data).event(1, b"\1\0\0\0").bytes()])
    assert found(walker, w) == [(3, data), (4, b"\1\0\0\0")]


def test_discarded_events_are_skipped_and_their_time_counts():
    """A discarded event is padding of its length; the next delta counts from its time."""
    page = Page(100).event(1, b"\1\0\0\0").discarded(10, 4).event(1, b"\2\0\0\0").fill()
    walker, w = walk([page.bytes()])
    assert found(walker, w) == [(101, b"\1\0\0\0"), (112, b"\2\0\0\0")]
    assert not len(w.damaged)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("long_size", [4, 8])
@pytest.mark.parametrize("count", [None, 12345])
def test_losses_stand_in_the_commit_word(big_endian, long_size, count):
    """Bit 31 of commit says that events are missing before the page, bit 30 that their number is behind the data."""
    pages = [Page(1, big_endian, long_size).event(1, b"\0\1\0\0").bytes(),
             Page(9, big_endian, long_size).event(1, b"\0\1\0\0").bytes(missed=True, count=count)]
    walker, w = walk(pages, big_endian=big_endian, long_size=long_size)
    assert walker.missed(0, 4096) == (False, None)
    assert walker.missed(4096, 4096) == (True, count)
    assert w.ts.tolist() == [2, 10]


def test_record_beyond_its_page_ends_the_page_alone():
    """A record whose length runs out of its page is damage; records before it and other pages stay."""
    bad = Page(1).event(1, b"\1\0\0\0")
    bad.body += bad._word(20, 3)
    good = Page(50).event(1, b"\2\0\0\0")
    walker, w = walk([bad.bytes(), good.bytes()])
    assert [t for t, _ in found(walker, w)] == [2, 51]
    assert w.damaged.tolist() == [0]


def test_commit_beyond_the_page_is_cut():
    """A commit that exceeds the page is cut to it; the zeros behind the records are damage, not events."""
    walker, w = walk([Page(1).event(1, b"\1\0\0\0").bytes(commit=60000)])
    assert next(t for t, _ in found(walker, w)) == 2
    assert w.damaged.tolist() == [0]


def test_header_page_text_gives_the_layout():
    """The layout comes from the recording's header_page, on 32-bit kernels too."""
    text = (b"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
            b"\tfield: local_t commit;\toffset:8;\tsize:4;\tsigned:1;\n"
            b"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
            b"\tfield: char data;\toffset:12;\tsize:4084;\tsigned:1;\n")
    assert parse_header_page(text, 4) == PageLayout(8, 4, 12)
    assert parse_header_page(b"", 8) == PageLayout(8, 8, 16)
    with pytest.raises(ValueError, match="no commit"):
        parse_header_page(b"nonsense", 8)


_records = st.lists(st.one_of(
    st.tuples(st.just("event"), st.integers(0, 1 << 40), st.integers(1, 60)),
    st.tuples(st.just("extend"), st.integers(1, 1 << 45), st.just(0)),
    st.tuples(st.just("absolute"), st.integers(1, 1 << 45), st.just(0)),
    st.tuples(st.just("discarded"), st.integers(1, (1 << 27) - 1), st.integers(1, 20))), max_size=60)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 1 << 50), _records), min_size=1, max_size=5), st.booleans(),
       st.sampled_from([4, 8]), st.sampled_from([1024, 4096, 16384]))
def test_any_records_are_read_back(content, big_endian, long_size, size):
    """Whatever sequence of records the kernel can write, the walk finds its events with their times."""
    pages: list[Page] = []
    for ts, records in content:
        page = Page(ts, big_endian, long_size, size)
        for kind, n, words in records:
            if page.room < 4 * words + 32:
                break
            if kind == "event":
                page.event(n, bytes([1, 0]) + bytes(range(2, 4 * words)))
            elif kind == "extend":
                page.extend(n)
            elif kind == "absolute":
                page.absolute(page.now + n)
            else:
                page.discarded(n, words)
        pages.append(page.fill())
    walker, w = walk([p.bytes() for p in pages], big_endian=big_endian, long_size=long_size, size=size)
    assert found(walker, w) == [e for p in pages for e in p.expected]
    assert w.first.tolist() == np.cumsum([0] + [len(p.expected) for p in pages]).tolist()
    assert not len(w.damaged)


@settings(deadline=None, max_examples=150)
@given(st.binary(min_size=0, max_size=4096), st.booleans())
def test_any_bytes_end(body, big_endian):
    """Arbitrary bytes in a page end the walk with some events or none, each inside its page."""
    page = Page(1, big_endian)
    page.body = body[:4080]
    walker, w = walk([page.bytes(), Page(7, big_endian).event(1, b"\0\1\0\1").bytes()], big_endian=big_endian)
    ends = walker.data_words(w.head) * 4 + walker.sizes(w.head)
    assert (ends <= np.where(np.arange(len(ends)) < w.first[1], 4096, 8192)).all()
    assert int(w.ts[-1]) == 8
