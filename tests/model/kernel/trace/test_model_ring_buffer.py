"""The pages of the ring buffer, read back by the reader of real recordings."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.ftrace.pages import PageLayout, PageWalker
from taskscope.model.kernel.trace.ring_buffer import (
    PAGE_SIZE,
    RingBufferPerCpu,
    rb_records,
    ring_buffer_bytes_cpu,
    ring_buffer_entries_cpu,
    ring_buffer_oldest_event_ts,
    ring_buffer_pages,
    ring_buffer_read_page,
    ring_buffer_record,
    ring_buffer_resize,
    ring_buffer_write,
)

Record = tuple[int, bytes]


def walk(pages: bytes, long_size: int) -> tuple[list[Record], list[tuple[bool, int | None]]]:
    """Read pages as those of a recording: (time, data) of each record, (missed, how many) of each page."""
    if not pages:
        return [], []
    data = np.frombuffer(pages, np.uint8)
    walker = PageWalker(data, False, PageLayout(8, long_size, 8 + long_size), PAGE_SIZE)
    offsets = np.arange(0, len(pages), PAGE_SIZE, dtype=np.int64)
    walked = walker.walk(offsets, walker.lengths(offsets, np.full(len(offsets), PAGE_SIZE)))
    assert not len(walked.damaged)
    starts = walker.data_words(walked.head) * 4
    sizes = walker.sizes(walked.head)
    found = [
        (int(ts), pages[at : at + size])
        for ts, at, size in zip(walked.ts, starts.tolist(), sizes.tolist(), strict=True)
    ]
    return found, [walker.missed(int(o), PAGE_SIZE) for o in offsets]


def stored(data: bytes) -> bytes:
    """Return data as the ring buffer holds it: whole words, three at least where there would be two."""
    size = -(-len(data) // 4) * 4
    return data.ljust(12 if size == 8 else size, b"\0")


steps = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 1000), st.integers((1 << 27) - 2, (1 << 27) + 2), st.integers(0, 1 << 40)),
        st.one_of(st.integers(8, 128), st.integers(8, 3000)),
    ),
    min_size=1,
    max_size=200,
)


@given(steps, st.sampled_from([4, 8]))
@settings(max_examples=80, deadline=None)
def test_written_is_read(todo: list[tuple[int, int]], long_size: int) -> None:
    """What is written is read back: every time and every byte, whatever the lengths and the time between."""
    ring = RingBufferPerCpu(0, long_size, 1000)
    ts, written = 10**12, []
    for n, (delta, size) in enumerate(todo):
        ts += delta
        data = n.to_bytes(4, "little") + bytes((n + i) & 0xFF for i in range(size - 4))
        assert ring_buffer_write(ring, ts, data)
        written.append((ts, stored(data)))
    read, missed = walk(ring_buffer_pages(ring), long_size)
    assert read == written
    assert not any(m for m, _ in missed)
    assert [(t, bytes(page[at : at + n])) for t, page, at, n in rb_records(ring)] == written
    assert ring_buffer_entries_cpu(ring) == len(written)
    assert ring_buffer_oldest_event_ts(ring) == written[0][0]


@given(st.lists(st.one_of(st.integers(8, 600), st.just("read")), min_size=1, max_size=300), st.integers(2, 5))
@settings(max_examples=80, deadline=None)
def test_lost_and_taken_make_all(todo: list[int | str], pages: int) -> None:
    """However a reader takes pages while the writer overwrites: what was read, lost and left is what was written."""
    ring = RingBufferPerCpu(0, 8, pages)
    written: list[Record] = []
    read: list[Record] = []
    lost = ts = 0
    for one in todo:
        if one == "read":
            records, missed = walk(ring_buffer_read_page(ring), 8)
            if records:
                assert missed[0][0] == (ring.overrun > lost)
                if missed[0][0]:
                    count = missed[0][1]
                    assert count in (None, ring.overrun - lost)
                    lost = ring.overrun
                    assert written.index(records[0]) == len(read) + lost
                read += records
            continue
        assert isinstance(one, int)
        ts += 1000
        data = len(written).to_bytes(4, "little") + bytes(one - 4)
        assert ring_buffer_write(ring, ts, data)
        written.append((ts, stored(data)))
    left, _ = walk(ring_buffer_pages(ring), 8)
    assert len(read) + ring.overrun + len(left) == len(written)
    assert ring_buffer_entries_cpu(ring) == len(left)
    assert ring.read_events == len(read)
    assert left == written[len(written) - len(left) :]
    assert read == [r for r in written if r in set(read)]


def test_full_takes_no_more() -> None:
    """Without the option overwrite a full ring keeps its oldest records and counts what it did not take."""
    ring = RingBufferPerCpu(0, 8, 2)
    ring.overwrite = False
    taken = sum(ring_buffer_write(ring, n, n.to_bytes(100, "little")) for n in range(200))
    read, _ = walk(ring_buffer_pages(ring), 8)
    assert 70 < taken < 90
    assert [int.from_bytes(data, "little") for _, data in read] == list(range(taken))
    assert ring.dropped_events == 200 - taken
    assert ring.overrun == 0


def test_missed_flag_without_room() -> None:
    """Where no room is left behind the records, a page says that events were lost and not how many."""
    ring = RingBufferPerCpu(0, 8, 2)
    for n in range(3 * 68):  # 68 records of 4 + 56 bytes fill 4,080 bytes to the last
        assert ring_buffer_write(ring, n, bytes(56))
    _, missed = walk(ring_buffer_pages(ring), 8)
    assert missed[0] == (True, None)


def test_off_takes_nothing() -> None:
    """A ring that is off takes nothing, and goes on behind what it has when it is on again."""
    ring = RingBufferPerCpu(0, 4, 4)
    ring_buffer_record(ring, False)
    assert not ring_buffer_write(ring, 1, bytes(16))
    ring_buffer_record(ring, True)
    assert ring_buffer_write(ring, 2, bytes(16))
    ring_buffer_record(ring, False)
    assert not ring_buffer_write(ring, 3, bytes(16))
    ring_buffer_record(ring, True)
    assert ring_buffer_write(ring, 4, bytes(16))
    assert [ts for ts, _ in walk(ring_buffer_pages(ring), 4)[0]] == [2, 4]
    assert ring_buffer_bytes_cpu(ring) == 40


def test_shrinking_drops_the_oldest() -> None:
    """A ring that becomes smaller gives up its oldest pages, and counts them as overwritten."""
    ring = RingBufferPerCpu(0, 8, 50)
    for n in range(1000):
        ring_buffer_write(ring, n, n.to_bytes(100, "little"))
    ring_buffer_resize(ring, 3)
    read, missed = walk(ring_buffer_pages(ring), 8)
    assert len(read) + ring.overrun == 1000
    assert missed[0][0]
    assert read[-1][0] == 999
