"""Damaged trace.dat files: cut at any byte, flipped bits, absurd counts and sizes, decompression bombs.

The rule for all of them: a `TraceError` that names the file, or a `Recorded` that says what is missing; never another
exception, a long run, or memory beyond a few times the input.
"""

from __future__ import annotations

import struct
import time
from functools import lru_cache
from pathlib import Path

import datwriter as w
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_dat import content, cpu_of, dat, read

from taskscope.errors import TraceError
from taskscope.ftrace.compress import FLOOR
from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.recorded import Recorded

DATA = Path(__file__).resolve().parents[1] / "data"
REAL = ("d05-zombie.dat", "d33-zombie-612-v6.dat", "d50-signals-be64.dat", "d51-threads-be64-v6.dat",
        "d60-signals-32.dat", "d14-instances.dat", "d35-sched-612.dat")
#: seconds of CPU for one damaged file of these sizes; a whole one takes a few ms
QUICK = 3.0
_PROFILE = settings(deadline=None, max_examples=150,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def read_damaged(path: Path, raw: bytes) -> Recorded | None:
    """Read what was damaged, hold it to the rule of this file, return what came out of it."""
    path.unlink(missing_ok=True)        # writing over a file makes ext4 flush it, which takes longer than reading
    path.write_bytes(raw)
    start = time.process_time()
    r: Recorded | None = None
    error = ""
    try:
        r = read_dat(str(path))
    except TraceError as e:
        error = str(e)
    assert time.process_time() - start < QUICK
    if r is None:
        assert str(path) in error
        assert ";" in error, "an error ends in what to do"
        return None
    for b in r.buffers:
        for c in b.cpus:
            assert 0 <= c.offset <= c.offset + c.size <= len(r.data)
            assert c.offset % 4 == 0
    assert len(r.data) <= max(len(raw), FLOOR)
    return r


@lru_cache
def small(version: int, compression: str) -> tuple[bytes, tuple[tuple[str, int, bytes], ...]]:
    """Return a small file of two buffers, and the pages of each cpu."""
    size = 512
    bufs = [w.Buf("", {0: w.pages(5, size=size), 1: w.pages(3, size=size, cpu=1)}),
            w.Buf("inst", {0: w.pages(2, size=size)})]
    d = dat(version=version, compression=compression, page_size=size, buffers=bufs, chunk_pages=2,
            options=[(w.TRACECLOCK, b"[local]\0"), (w.UNAME, b"Linux h 6.1 x86_64\0")])
    whole = tuple((b.name, cpu, pages) for b in bufs for cpu, pages in b.cpus.items())
    return d.build(), whole


SHAPES = [(6, "none"), (7, "none"), (7, "zlib"), (7, "zstd")]


@pytest.mark.parametrize(("version", "compression"), SHAPES)
def test_a_file_cut_at_any_byte_is_an_error_or_says_what_is_missing(tmp_path: Path, version: int,
                                                                    compression: str) -> None:
    """Whatever is read of a cut file is a beginning of what the whole file holds; what is not is noted."""
    raw, whole = small(version, compression)
    outcomes = {"error": 0, "part": 0, "whole": 0}
    # Plain version 7 differs from the compressed one only in its data, so every third byte will do there.
    for cut in range(0, len(raw), 3 if (version, compression) == (7, "none") else 1):
        r = read_damaged(tmp_path / "cut.dat", raw[:cut])
        if r is None:
            outcomes["error"] += 1
            continue
        complete = True
        for name, cpu, pages in whole:
            b = next((k for k, b in enumerate(r.buffers) if b.name == name), None)
            assert b is not None or name, "the top-level buffer is there, or it is an error"
            got = content(r, cpu, b) if b is not None else b""
            assert pages.startswith(got)
            if got != pages:
                complete = False
                assert b is None or cpu_of(r, cpu, b).missing
        assert complete or r.notes, f"cut at {cut}: pages are missing without a word"
        outcomes["whole" if complete and not r.notes else "part"] += 1
    # Version 7 lists its buffers behind their data, so only a cut behind that leaves events to read.
    assert outcomes["error"] > 1000
    assert outcomes["part"] > (2000 if version == 6 else 10)


@pytest.mark.parametrize("name", REAL)
@_PROFILE
@given(where=st.floats(0, 1, exclude_max=True))
@example(where=0.0)
@example(where=0.9999999)
def test_real_recordings_cut_anywhere(tmp_path: Path, name: str, where: float) -> None:
    """A real recording that was not copied whole is an error, or is read with a note."""
    raw = (DATA / name).read_bytes()
    cut = int(len(raw) * where)
    whole = read_dat(str(DATA / name))
    r = read_damaged(tmp_path / "cut.dat", raw[:cut])
    if r is None:
        return
    for k, b in enumerate(r.buffers):
        original = next(i for i, o in enumerate(whole.buffers) if o.name == b.name)
        for c in b.cpus:
            assert content(whole, c.cpu, original).startswith(content(r, c.cpu, k))
            if c.size < cpu_of(whole, c.cpu, original).size:
                assert c.missing
                assert r.notes


@pytest.mark.parametrize("name", REAL)
@_PROFILE
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=30),
       head=st.booleans())
def test_real_recordings_with_flipped_bits(tmp_path: Path, name: str, flips: list[tuple[float, int]],
                                           head: bool) -> None:
    """Flipped bits, anywhere or in the first KiB and behind the metadata, never do more than the rule allows."""
    raw = bytearray((DATA / name).read_bytes())
    reach = 1024 if head else len(raw)
    for where, bit in flips:
        raw[int(where * reach)] ^= 1 << bit
    read_damaged(tmp_path / "flip.dat", bytes(raw))


@pytest.mark.parametrize(("version", "compression"), SHAPES)
@_PROFILE
@given(patches=st.lists(st.tuples(st.floats(0, 1, exclude_max=True),
                                  st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\0" * 8,
                                                   b"\x7f" + b"\xff" * 3, b"\xff\xff\xff\x7f", b"\1\0\0\0",
                                                   b"\0\0\0\1", b"\0\0\0\x80"])),
                        min_size=1, max_size=4))
def test_absurd_numbers_anywhere(tmp_path: Path, version: int, compression: str,
                                 patches: list[tuple[float, bytes]]) -> None:
    """Zero, all ones and the largest numbers in the place of any count, size or offset keep to the rule."""
    raw = bytearray(small(version, compression)[0])
    for where, patch in patches:
        at = int(where * (len(raw) - 8))
        raw[at:at + len(patch)] = patch
    read_damaged(tmp_path / "absurd.dat", bytes(raw))


@pytest.mark.parametrize(("version", "compression"), SHAPES)
def test_a_damaged_section_costs_only_itself(tmp_path: Path, version: int, compression: str) -> None:
    """With any one section overwritten the pages are still read, and a note names the section."""
    d = dat(version=version, compression=compression)
    raw = d.build()
    words = {"header_info": "page header", "ftrace": "formats of ftrace", "events": "event formats",
             "kallsyms": "kallsyms", "printk": "printk", "cmdlines": "command lines"}
    for name, word in words.items():
        bad = bytearray(raw)
        at = d.places[name]
        at += 0 if version == 6 else 16
        bad[at:at + 12] = b"\xff" * 12
        r = read(tmp_path, bytes(bad))
        assert content(r, 0) == d.buffers[0].cpus[0], name
        assert content(r, 2) == d.buffers[0].cpus[2], name
        assert any(word in n for n in r.notes), (name, r.notes)
        assert len(r.notes) <= 2, r.notes


def test_formats_before_a_damaged_one_are_kept(tmp_path: Path) -> None:
    """A format whose size makes no sense ends the list; the formats before it are there."""
    d = dat()
    raw = bytearray(d.build())
    at = raw.index(b"name: sched_waking", d.places["events"]) - 8
    raw[at:at + 8] = b"\xff" * 8
    r = read(tmp_path, bytes(raw))
    assert [t.split(b"\n")[0] for _, t in r.formats] == [b"name: function", b"name: sched_switch"]
    assert "format 2 of 2 of the system sched" in r.notes[0]


def test_the_options_behind_a_broken_chain_are_found(tmp_path: Path) -> None:
    """A link of version 7 that leads nowhere is noted; sections lie one behind the other and are found so."""
    d = dat(buffers=[w.Buf("", {0: w.pages(2)}), w.Buf("i", {1: w.pages(3)})])
    raw = bytearray(d.build())
    raw[d.places["first options"]:d.places["first options"] + 8] = d.n(8, len(raw) * 7)
    r = read(tmp_path, bytes(raw))
    assert [b.name for b in r.buffers] == ["", "i"]
    assert content(r, 1, 1) == w.pages(3)
    assert "the chain of options cannot be read" in r.notes[0]


def test_a_chain_of_options_that_comes_back_ends(tmp_path: Path) -> None:
    """A link to a section that was read already is a circle: noted, not followed."""
    d = dat()
    raw = bytearray(d.build())
    raw[d.places["strings"] - 8:d.places["strings"]] = d.n(8, d.places["options"])
    r = read(tmp_path, bytes(raw))
    assert content(r, 0) == d.buffers[0].cpus[0]
    assert "comes back" in r.notes[0]


def test_version_7_cut_before_its_list_of_buffers_says_so(tmp_path: Path) -> None:
    """The list of cpus is written last; without it events cannot be told apart by cpu."""
    d = dat()
    raw = d.build()
    with pytest.raises(TraceError, match="list of buffers, which is written last, is not there"):
        read(tmp_path, raw[:d.places["cpu 2"] + 100])


def test_two_cpus_that_claim_the_same_bytes(tmp_path: Path) -> None:
    """Bytes are read once: a cpu that begins inside the data of another is left out with a note."""
    d = dat(version=6)
    raw = bytearray(d.build())
    row = d.places["flyrecord "] + 10 + 16
    raw[row:row + 16] = d.n(8, d.places["cpu 0"] + 4096) + d.n(8, 8192)
    r = read(tmp_path, bytes(raw))
    assert [c.size for c in r.buffers[0].cpus] == [23 * 4096, 0, 2 * 4096]
    assert "claims bytes" in r.notes[0]
    assert cpu_of(r, 1).missing == 8192


def test_cpu_numbers_that_are_listed_twice_or_cannot_be(tmp_path: Path) -> None:
    """A second row of a cpu and a cpu beyond what a kernel has are left out with a note."""
    d = dat()
    raw = bytearray(d.build())
    row = raw.index(d.n(4, 0) + d.n(8, d.places["cpu 0"]), d.places["last options"])
    raw[row + 20:row + 24] = d.n(4, 0)
    raw[row + 40:row + 44] = d.n(4, 0xFFFFFFFF)
    r = read(tmp_path, bytes(raw))
    assert [c.cpu for c in r.buffers[0].cpus] == [0]
    assert "listed twice" in r.notes[0]
    assert "cpu 4294967295" in r.notes[1]


@pytest.mark.parametrize(("size", "taken"), [(0, 4096), (3, 4096), (1 << 31, 4096)])
def test_a_page_size_that_cannot_be(tmp_path: Path, size: int, taken: int) -> None:
    """The file's own page size stands in for an impossible one of a buffer."""
    r = read(tmp_path, dat(buffers=[w.Buf("", {0: w.pages(2)}, page_size=4096)]).build().replace(
        b"local\0" + struct.pack("<I", 4096), b"local\0" + struct.pack("<I", size)))
    assert r.buffers[0].page_size == taken
    assert "cannot be" in r.notes[0]


def test_a_damaged_chunk_is_a_loss_between_the_pages_around_it(tmp_path: Path) -> None:
    """Pages behind a chunk that cannot be inflated are read; the first of them is marked as after lost events."""
    for big in (False, True):
        pages = w.pages(10, big_endian=big)
        d = dat(compression="zstd", big_endian=big, buffers=[w.Buf("", {0: pages})], chunk_pages=2)
        raw = bytearray(d.build())
        second = d.places["cpu 0"] + 4
        second += 8 + int.from_bytes(raw[second:second + 4], "big" if big else "little")
        raw[second + 8:second + 12] = b"\xff" * 4              # the magic number of its zstd frame
        r = read(tmp_path, bytes(raw))
        got = content(r, 0)
        assert got[:8192] == pages[:8192]
        assert got[8192:16384] == bytes(8192)
        commit = struct.unpack_from(">Q" if big else "<Q", got, 16384 + 8)[0]
        assert commit == struct.unpack_from(">Q" if big else "<Q", pages, 16384 + 8)[0] | 1 << 31
        assert got[16384 + 16:] == pages[16384 + 16:]
        assert "1 of the 5 compressed chunks of cpu 0 are damaged" in r.notes[0]
        assert "8,192 bytes" in r.notes[0]


def test_damaged_chunks_at_the_end_are_missing(tmp_path: Path) -> None:
    """A cpu whose last chunk cannot be inflated ends before it and says how much is missing."""
    d = dat(compression="zlib", buffers=[w.Buf("", {0: w.pages(4)})], chunk_pages=3)
    raw = bytearray(d.build())
    end = d.places["last options"]
    raw[end - 20:end] = bytes(20)
    r = read(tmp_path, bytes(raw))
    assert content(r, 0) == w.pages(4)[:3 * 4096]
    assert cpu_of(r, 0).missing == 4096
