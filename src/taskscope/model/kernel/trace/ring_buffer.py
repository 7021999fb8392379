"""The ring buffer: pages of records per CPU, in the kernel's own binary form (kernel/trace/ring_buffer.c, v4.19).

A page is a header (time stamp, bytes used) and records: a word with 5 bits of length and 27 bits of time since the
record before, then the data.  A full ring gives up its oldest page (option overwrite) or takes no more.  What
`ring_buffer_read_page` hands out is what ``trace_pipe_raw`` gives: unused bytes are zero, the events lost before a page
are counted behind its records.

The writer's place (``page``, ``pos``, ``limit``) stands in the open: the probes of frequent events write there
themselves and call `rb_move_tail` where a record does not fit, or its time does not.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Final

PAGE_SIZE: Final = 4096
RINGBUF_TYPE_DATA_TYPE_LEN_MAX: Final = 28
RINGBUF_TYPE_PADDING: Final = 29
RINGBUF_TYPE_TIME_EXTEND: Final = 30
TS_SHIFT: Final = 27
MAX_DELTA: Final = 1 << TS_SHIFT
RB_MISSED_EVENTS: Final = 1 << 31
RB_MISSED_STORED: Final = 1 << 30
RB_MAX_SMALL_DATA: Final = 4 * RINGBUF_TYPE_DATA_TYPE_LEN_MAX

#: events/header_event
HEADER_EVENT: Final = (
    b"# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n"
    b"\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\tdata max type_len  == 28\n"
)

_WORD: Final = struct.Struct("<I")
_WORDS: Final = struct.Struct("<II")
_STAMP: Final = struct.Struct("<Q")


def header_page(long_size: int, char_signed: bool) -> bytes:
    """Return the text of events/header_page."""
    data = 8 + long_size
    return (
        f"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
        f"\tfield: local_t commit;\toffset:8;\tsize:{long_size};\tsigned:1;\n"
        f"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
        f"\tfield: char data;\toffset:{data};\tsize:{PAGE_SIZE - data};\tsigned:{int(char_signed)};\n"
    ).encode()


class BufferPage:
    """struct buffer_page: a page that the writer has left."""

    __slots__ = ("data", "end", "entries", "read", "stamp")

    def __init__(self, data: bytearray, end: int, entries: int, read: int, stamp: int) -> None:
        self.data = data
        self.end = end  # where its records end
        self.entries = entries  # records that no reader has taken
        self.read = read  # where those begin
        self.stamp = stamp  # the time that the first of them counts from


class RingBufferPerCpu:
    """struct ring_buffer_per_cpu."""

    __slots__ = (
        "bytes_read",
        "commit_size",
        "cpu",
        "dropped_events",
        "entries",
        "header",
        "last_overrun",
        "limit",
        "mark",
        "mark_entries",
        "mark_stamp",
        "nr_pages",
        "overrun",
        "overwrite",
        "page",
        "pages",
        "pos",
        "read_events",
        "recording",
        "write_stamp",
    )

    pages: deque[BufferPage]  # full ones, oldest first
    page: bytearray  # the writer's; made at its first record
    pos: int  # where the next record goes
    limit: int  # where the page ends; -1: rb_move_tail() is to look
    write_stamp: int  # time of the last record
    mark: int  # how far a reader has read the writer's page,
    mark_stamp: int  # the time there,
    mark_entries: int  # and the records written by then
    entries: int  # records ever written
    overrun: int  # of those, overwritten before they were read
    last_overrun: int  # of those, told to the reader
    dropped_events: int  # not written, as the ring was full
    read_events: int
    bytes_read: int

    def __init__(self, cpu: int, long_size: int, nr_pages: int) -> None:
        self.cpu = cpu
        self.commit_size = long_size
        self.header = 8 + long_size
        self.nr_pages = nr_pages
        self.overwrite = True
        self.recording = True
        rb_reset_cpu(self)


def rb_reset_cpu(cpu_buffer: RingBufferPerCpu) -> None:
    """Forget all records and counts."""
    cpu_buffer.pages = deque()
    cpu_buffer.page = bytearray(0)
    cpu_buffer.pos = cpu_buffer.mark = cpu_buffer.mark_stamp = cpu_buffer.mark_entries = 0
    cpu_buffer.limit = -1
    cpu_buffer.write_stamp = 0
    cpu_buffer.entries = cpu_buffer.overrun = cpu_buffer.last_overrun = cpu_buffer.dropped_events = 0
    cpu_buffer.read_events = cpu_buffer.bytes_read = 0


def rb_move_tail(cpu_buffer: RingBufferPerCpu, ts: int, length: int) -> int:
    """Make room for a record of `length` bytes, its header word included; return where it goes, -1 for nowhere.

    The delta of that record is 0: what it needs of the time stands in a time extend, or in the header of a new page.
    """
    if not cpu_buffer.recording:
        return -1
    pos = cpu_buffer.pos
    if pos:
        delta = ts - cpu_buffer.write_stamp
        if pos + length + 8 <= PAGE_SIZE:
            _WORDS.pack_into(
                cpu_buffer.page, pos, ((delta & (MAX_DELTA - 1)) << 5) | RINGBUF_TYPE_TIME_EXTEND, delta >> TS_SHIFT
            )
            cpu_buffer.pos = pos + 8
            cpu_buffer.write_stamp = ts
            cpu_buffer.limit = PAGE_SIZE
            return pos + 8
        pages = cpu_buffer.pages
        if len(pages) + 1 >= cpu_buffer.nr_pages:
            if not cpu_buffer.overwrite:
                cpu_buffer.dropped_events += 1
                return -1
            cpu_buffer.overrun += pages.popleft().entries
        _leave_page(cpu_buffer)
    page = bytearray(PAGE_SIZE)
    _STAMP.pack_into(page, 0, ts)
    cpu_buffer.page = page
    cpu_buffer.mark = cpu_buffer.pos = cpu_buffer.header
    cpu_buffer.mark_stamp = cpu_buffer.write_stamp = ts
    cpu_buffer.mark_entries = cpu_buffer.entries
    cpu_buffer.limit = PAGE_SIZE
    return cpu_buffer.header


def _leave_page(cpu_buffer: RingBufferPerCpu) -> None:
    """Put the writer's page on the ring, unless a reader has had all of it."""
    if cpu_buffer.pos > cpu_buffer.mark:
        cpu_buffer.pages.append(
            BufferPage(
                cpu_buffer.page,
                cpu_buffer.pos,
                cpu_buffer.entries - cpu_buffer.mark_entries,
                cpu_buffer.mark,
                cpu_buffer.mark_stamp,
            )
        )
    cpu_buffer.page = bytearray(0)
    cpu_buffer.pos = cpu_buffer.mark = 0
    cpu_buffer.limit = -1


def ring_buffer_write(cpu_buffer: RingBufferPerCpu, ts: int, data: bytes) -> bool:
    """Write a record of any length.

    :param data: the record without its header word, common fields first
    :return: whether it was written
    """
    length = -(-len(data) // 4) * 4
    if length <= RB_MAX_SMALL_DATA:
        # rb_calculate_event_length(): the place of a record must do for a time extend and the smallest record.
        length = 12 if length == 8 else length
        head = 4
        type_len = length // 4
    else:
        head = 8
        type_len = 0
    pos = cpu_buffer.pos
    delta = ts - cpu_buffer.write_stamp
    if delta >= MAX_DELTA or pos + head + length > cpu_buffer.limit:
        if head + length > PAGE_SIZE - cpu_buffer.header:
            return False  # BUF_MAX_DATA_SIZE
        pos = rb_move_tail(cpu_buffer, ts, head + length)
        if pos < 0:
            return False
        delta = 0
    page = cpu_buffer.page
    _WORD.pack_into(page, pos, (delta << 5) | type_len)
    if head == 8:
        _WORD.pack_into(page, pos + 4, length + 4)
    page[pos + head : pos + head + len(data)] = data
    cpu_buffer.pos = pos + head + length
    cpu_buffer.write_stamp = ts
    cpu_buffer.entries += 1
    return True


def ring_buffer_record(cpu_buffer: RingBufferPerCpu, on: bool) -> None:
    """Take records, or none (ring_buffer_record_on(), ring_buffer_record_off())."""
    cpu_buffer.recording = on
    cpu_buffer.limit = PAGE_SIZE if on and cpu_buffer.pos else -1


def ring_buffer_resize(cpu_buffer: RingBufferPerCpu, nr_pages: int) -> None:
    """Give the ring another number of pages (2 at least); the oldest records go where it shrinks."""
    cpu_buffer.nr_pages = max(nr_pages, 2)
    while len(cpu_buffer.pages) >= cpu_buffer.nr_pages:
        cpu_buffer.overrun += cpu_buffer.pages.popleft().entries


def ring_buffer_entries_cpu(cpu_buffer: RingBufferPerCpu) -> int:
    """Return how many records can be read."""
    return cpu_buffer.entries - cpu_buffer.overrun - cpu_buffer.read_events


def ring_buffer_bytes_cpu(cpu_buffer: RingBufferPerCpu) -> int:
    """Return how many bytes can be read."""
    return sum(p.end - p.read for p in cpu_buffer.pages) + cpu_buffer.pos - cpu_buffer.mark


def ring_buffer_oldest_event_ts(cpu_buffer: RingBufferPerCpu) -> int:
    """Return the time of the oldest record, 0 if there is none."""
    return next((ts for ts, _, _, _ in rb_records(cpu_buffer)), 0)


def ring_buffer_read_page(cpu_buffer: RingBufferPerCpu) -> bytes:
    """Take the oldest page and return it as ``trace_pipe_raw`` gives it; b"" if there is nothing."""
    return b"".join(_read_pages(cpu_buffer, 1, True))


def ring_buffer_pages(cpu_buffer: RingBufferPerCpu) -> bytes:
    """Return all pages, oldest first, and leave them: what a recording of this moment holds."""
    return b"".join(_read_pages(cpu_buffer, 1 << 30, False))


def _read_pages(cpu_buffer: RingBufferPerCpu, most: int, consume: bool) -> Iterator[bytes]:
    missed = cpu_buffer.overrun - cpu_buffer.last_overrun
    todo = list(cpu_buffer.pages)[:most]
    if len(todo) < most and cpu_buffer.pos > cpu_buffer.mark:
        todo.append(
            BufferPage(
                cpu_buffer.page,
                cpu_buffer.pos,
                cpu_buffer.entries - cpu_buffer.mark_entries,
                cpu_buffer.mark,
                cpu_buffer.mark_stamp,
            )
        )
    for page in todo:
        yield _copy_page(cpu_buffer, page, missed)
        missed = 0
        if not consume:
            continue
        cpu_buffer.last_overrun = cpu_buffer.overrun
        cpu_buffer.read_events += page.entries
        cpu_buffer.bytes_read += page.end - page.read
        if cpu_buffer.pages and cpu_buffer.pages[0] is page:
            cpu_buffer.pages.popleft()
        else:
            cpu_buffer.mark = cpu_buffer.pos
            cpu_buffer.mark_stamp = cpu_buffer.write_stamp
            cpu_buffer.mark_entries = cpu_buffer.entries


def _copy_page(cpu_buffer: RingBufferPerCpu, page: BufferPage, missed: int) -> bytes:
    """Make the page that user space gets; its commit word tells what was missed before it."""
    header, size = cpu_buffer.header, cpu_buffer.commit_size
    out = bytearray(PAGE_SIZE)
    commit = page.end - page.read
    out[header : header + commit] = page.data[page.read : page.end]
    word = commit
    if missed:
        word |= RB_MISSED_EVENTS
        if header + commit + size <= PAGE_SIZE:
            out[header + commit : header + commit + size] = missed.to_bytes(size, "little")
            word |= RB_MISSED_STORED
    _STAMP.pack_into(out, 0, page.stamp)
    out[8 : 8 + size] = word.to_bytes(size, "little")
    return bytes(out)


def rb_records(cpu_buffer: RingBufferPerCpu) -> Iterator[tuple[int, bytes | bytearray, int, int]]:
    """Iterate over the records that can be read, oldest first, and leave them.

    :return: time, page, offset and length of the data
    """
    for page in list(cpu_buffer.pages):
        yield from _records(page.data, page.read, page.end, page.stamp)
    yield from _records(cpu_buffer.page, cpu_buffer.mark, cpu_buffer.pos, cpu_buffer.mark_stamp)


def _records(data: bytearray, at: int, end: int, ts: int) -> Iterator[tuple[int, bytearray, int, int]]:
    while at < end:
        (word,) = _WORD.unpack_from(data, at)
        kind = word & 31
        ts += word >> 5
        if kind == RINGBUF_TYPE_TIME_EXTEND:
            ts += _WORD.unpack_from(data, at + 4)[0] << TS_SHIFT
            at += 8
            continue
        if kind:
            length, start = kind * 4, at + 4
        else:
            length, start = _WORD.unpack_from(data, at + 4)[0] - 4, at + 8
        yield ts, data, start, length
        at = start + length
