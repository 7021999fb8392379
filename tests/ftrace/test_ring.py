"""The index of a recording's records, whatever their size."""

from __future__ import annotations

import numpy as np

from ftrace.pagewriter import Page
from taskscope.ftrace.recorded import Buffer, CpuPages, Recorded
from taskscope.ftrace.ring import RingSource

_FORMAT = b"""name: tiny
ID: 7
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

print fmt: "tiny"
"""


def recorded(pages: list[Page], missing: int = 0) -> Recorded:
    data = np.frombuffer(b"".join(p.bytes() for p in pages), np.uint8)
    cpu = CpuPages(0, 0, len(data), missing=missing)
    return Recorded("tiny.dat", "pages", data, False, 8, b"", b"", [("x", _FORMAT)], [Buffer("", 4096, [cpu])])


def test_more_and_smaller_records_than_commonly_fit():
    """Records of 12 bytes, twice as many as room was made for at first, are all found in order."""
    pages = []
    for k in range(40):
        page = Page(k * 100_000)
        while page.room >= 12:
            page.event(3, b"\7\0\0\0\5\0\0\0")
        pages.append(page)
    source = RingSource(recorded(pages))
    assert len(source.index) == 40 * 340
    assert source.index.ts.tolist() == [t for p in pages for t, _ in p.expected]
    assert source.notes == ()


def test_a_record_shorter_than_its_format_is_told():
    """A record that cannot hold its fields is not decoded, and counted in the notes."""
    page = Page(1).event(1, b"\7\0\0\0\5\0\0\0").event(1, b"\7\0\0\0")
    source = RingSource(recorded([page]))
    assert source.index.type.tolist() == [0, 0xFFFF]
    assert "1 records are shorter" in source.notes[0]


def test_a_file_that_is_cut_lost_the_end_of_its_cpus():
    """Bytes that are missing behind a cpu's pages are a gap from its last record to the end."""
    source = RingSource(recorded([Page(1).event(1, b"\7\0\0\0\5\0\0\0")], missing=4096))
    assert [(g.cpu, g.start, g.end) for g in source.gaps] == [(0, 2, None)]
