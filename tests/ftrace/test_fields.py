"""Fields are gathered by the offsets, sizes and signs that a format declares, in either byte order."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrace.pagewriter import Page
from taskscope.ftrace.fields import FieldReader, cut_at_nul
from taskscope.ftrace.format import RawField
from taskscope.ftrace.pages import PageLayout, PageWalker


def read(field: RawField, records: list[bytes], big_endian: bool = False) -> list:
    page = Page(1, big_endian)
    for r in records:
        page.event(1, r.ljust((len(r) + 3) // 4 * 4, b"\0"))
    data = np.frombuffer(page.bytes(), np.uint8)
    walker = PageWalker(data, big_endian, PageLayout(8, 8, 16), 4096)
    offsets = np.array([0])
    head = walker.walk(offsets, walker.lengths(offsets, np.array([4096]))).head
    column = FieldReader(walker, data, big_endian, 8).column(field, head)
    return [x.tolist() if isinstance(x, np.ndarray) else x for x in column.tolist()]


def integer(offset: int, size: int, signed: bool) -> RawField:
    return RawField("x", "int", offset, size, signed, "fixed", False, size, 1)


@settings(deadline=None, max_examples=120)
@given(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.booleans(), st.integers(0, 21), st.data())
def test_integers_of_any_size_offset_sign_and_order(size, signed, big_endian, offset, data):
    """An integer reads as C would read it, also where it is not aligned."""
    bits = 8 * size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=20))
    records = [b"\xa5" * offset + v.to_bytes(size, "big" if big_endian else "little", signed=signed) + b"\x5a\x5a"
               for v in values]
    assert read(integer(offset, size, signed), records, big_endian) == values


@pytest.mark.parametrize("offset", [4, 5])
def test_text_ends_at_its_first_nul(offset):
    """What the kernel left behind the NUL of a char array is not part of the text."""
    field = RawField("comm", "char[16]", offset, 16, False, "fixed", True, 1, 16)
    texts = [b"sh\0leftover-junk", b"\0" * 16, b"sixteen-bytes-ok", b"kworker/0:1\0\0\0\0\0"]
    assert read(field, [b"\1" * offset + t for t in texts]) == [b"sh", b"", b"sixteen-bytes-ok", b"kworker/0:1"]


def _dynamic(location: str, is_string: bool, element: int = 1) -> RawField:
    return RawField("name", "__data_loc char[]", 4, 4, False, location, is_string, element, 0)


@pytest.mark.parametrize("big_endian", [False, True])
def test_data_loc_counts_from_the_record_and_rel_loc_from_the_field(big_endian):
    """A __data_loc offset counts from the record's beginning, a __rel_loc offset from behind the field."""
    e = ">" if big_endian else "<"
    text = b"/usr/bin/whoami\0"
    data_loc = struct.pack(e + "II", 0, len(text) << 16 | 8) + text
    rel_loc = struct.pack(e + "II", 0, len(text) << 16 | 0) + text
    assert read(_dynamic("data_loc", True), [data_loc], big_endian) == [b"/usr/bin/whoami"]
    assert read(_dynamic("rel_loc", True), [rel_loc], big_endian) == [b"/usr/bin/whoami"]


def test_dynamic_array_outside_its_record_is_empty():
    """A corrupt length or offset never reads beyond the record."""
    records = [struct.pack("<II", 0, 4000 << 16 | 8) + b"abcd", struct.pack("<II", 0, 4 << 16 | 60000) + b"abcd"]
    assert read(_dynamic("data_loc", True), records) == [b"", b""]
    assert read(_dynamic("data_loc", False, 4), records) == [[], []]


def test_array_of_open_length_runs_to_the_end_of_the_record():
    """A flexible array (caller[]) has as many elements as its record holds."""
    field = RawField("caller", "unsigned long[]", 8, 0, False, "fixed", False, 8, 0)
    one = struct.pack("<II2Q", 3, 2, 1 << 63, 7)
    two = struct.pack("<II1Q", 3, 1, 9)
    assert read(field, [one, two]) == [[1 << 63, 7], [9]]


@settings(deadline=None)
@given(st.lists(st.binary(min_size=9, max_size=9), min_size=1, max_size=30))
def test_cut_at_nul_equals_the_plain_definition(rows):
    """Vectorised cutting gives what bytes.split gives."""
    matrix = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 9).copy()
    assert cut_at_nul(matrix).tolist() == [r.split(b"\0")[0] for r in rows]
