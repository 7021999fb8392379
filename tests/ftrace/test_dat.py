"""Reading trace.dat: real recordings, and files of our own writer in every combination that the format allows."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import datwriter as w
import numpy as np
import pytest

from taskscope.errors import TraceError
from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.options import parse_number
from taskscope.ftrace.recorded import CpuPages, Recorded

COMBINATIONS = [(version, compression, big, long_size, page_size)
                for version in (6, 7) for compression in ("none", "zlib", "zstd")
                for big in (False, True) for long_size in (4, 8) for page_size in (4096, 16384, 512)
                if version == 7 or compression == "none"]


def dat(**changes: object) -> w.Dat:
    """Return a small file of three cpus, of which one is empty."""
    d = replace(w.Dat(), **changes)  # type: ignore[arg-type]
    if not d.buffers:
        shape = {"big_endian": d.big_endian, "long_size": d.long_size, "size": d.page_size}
        d.buffers = [w.Buf("", {0: w.pages(23, **shape), 1: b"", 2: w.pages(2, cpu=2, **shape)})]  # type: ignore
    return d


def read(tmp_path: Path, content: bytes) -> Recorded:
    """Write a file and read it."""
    path = tmp_path / "x.dat"
    path.write_bytes(content)
    return read_dat(str(path))


def content(r: Recorded, cpu: int, buffer: int = 0) -> bytes:
    """Return the pages of a cpu."""
    c = cpu_of(r, cpu, buffer)
    return r.data[c.offset:c.offset + c.size].tobytes()


def cpu_of(r: Recorded, cpu: int, buffer: int = 0) -> CpuPages:
    """Return the place of a cpu."""
    return next(c for c in r.buffers[buffer].cpus if c.cpu == cpu)


@pytest.mark.parametrize(("version", "compression", "big", "long_size", "page_size"), COMBINATIONS)
def test_every_shape_of_file_gives_its_pages(tmp_path: Path, version: int, compression: str, big: bool,
                                             long_size: int, page_size: int) -> None:
    """Byte order, long size, page size, version and compression change nothing of what a file holds."""
    d = dat(version=version, compression=compression, big_endian=big, long_size=long_size, page_size=page_size)
    r = read(tmp_path, d.build())
    for cpu, pages in d.buffers[0].cpus.items():
        assert content(r, cpu) == pages
        assert cpu_of(r, cpu).offset % 4 == 0
        assert cpu_of(r, cpu).missing == 0
    assert (r.big_endian, r.long_size, r.buffers[0].page_size) == (big, long_size, page_size)
    assert r.formats == [("ftrace", w.FTRACE[0]), ("sched", w.EVENTS["sched"][0]),
                         ("sched", w.EVENTS["sched"][1]), ("task", w.EVENTS["task"][0])]
    assert r.kallsyms == d.kallsyms
    assert r.printk_formats == d.printk
    assert r.cmdlines == {1: b"init", 42: b"a b"}
    assert r.header_page == w.header_page(long_size, page_size)
    assert r.container == f"trace.dat v{version}" + (f" ({compression})" if compression != "none" else "")
    assert r.notes == []


def test_plain_pages_are_not_copied(tmp_path: Path) -> None:
    """The array of an uncompressed file is the mapped file itself."""
    raw = dat().build()
    r = read(tmp_path, raw)
    assert len(r.data) == len(raw)
    assert not r.data.flags.owndata
    assert not r.data.flags.writeable


@pytest.mark.parametrize("count_in_size", [True, False])
def test_the_size_of_a_compressed_cpu_with_and_without_its_count(tmp_path: Path, count_in_size: bool) -> None:
    """trace-cmd before 3.2 left the 4 bytes of the chunk count out of a cpu's size; both are read whole."""
    d = dat(compression="zstd", count_in_size=count_in_size, chunk_pages=3)
    r = read(tmp_path, d.build())
    assert content(r, 0) == d.buffers[0].cpus[0]
    assert r.notes == []


def test_many_chunks_are_inflated_by_threads(tmp_path: Path) -> None:
    """A cpu of more chunks and bytes than one thread takes comes out in order."""
    pages = w.pages(2000)
    d = dat(compression="zlib", buffers=[w.Buf("", {0: pages, 1: pages[:4096]})], chunk_pages=7)
    r = read(tmp_path, d.build())
    assert content(r, 0) == pages
    assert content(r, 1) == pages[:4096]


@pytest.mark.parametrize("version", [6, 7])
def test_instances_are_buffers_of_their_own(tmp_path: Path, version: int) -> None:
    """Each BUFFER option becomes a buffer with its name, its cpus and its clock."""
    bufs = [w.Buf("", {0: w.pages(3)}, "local"), w.Buf("irqs", {0: w.pages(1, start=5), 1: w.pages(2)}, "mono"),
            w.Buf("ta sks", {1: w.pages(4)}, "local")]
    r = read(tmp_path, dat(version=version, buffers=bufs, options=[(w.TRACECLOCK, b"")]).build())
    assert [(b.name, b.clock) for b in r.buffers] == [("", "local"), ("irqs", "mono"), ("ta sks", "local")]
    assert content(r, 0, 0) == w.pages(3)
    assert content(r, 1, 1) == w.pages(2)
    assert content(r, 1, 2) == w.pages(4)
    assert r.clock == "local"
    assert ["clocks" in n for n in r.notes] == [True]


def test_a_recording_of_instances_alone_has_no_empty_top_level_buffer(tmp_path: Path) -> None:
    """The empty table of version 6 that stands for no top-level buffer is no buffer."""
    r = read(tmp_path, dat(version=6, buffers=[w.Buf("only", {0: w.pages(3)})]).build())
    assert [b.name for b in r.buffers] == ["only"]


def test_an_instance_may_have_other_cpus_and_pages(tmp_path: Path) -> None:
    """Version 7 gives each buffer its page size and lists only the cpus that it has."""
    bufs = [w.Buf("", {0: w.pages(3)}), w.Buf("big", {5: w.pages(2, size=8192)}, page_size=8192)]
    r = read(tmp_path, dat(compression="zstd", buffers=bufs).build())
    assert [(b.page_size, [c.cpu for c in b.cpus]) for b in r.buffers] == [(4096, [0]), (8192, [5])]
    assert content(r, 5, 1) == w.pages(2, size=8192)


def test_cpucount_behind_a_version_6_buffer_is_that_of_the_buffer(tmp_path: Path) -> None:
    """An instance with another number of cpus says so in an option behind its own."""
    # Append a table of two cpus and let the BUFFER option, now followed by CPUCOUNT, point to it.
    d = dat(version=6, cpu_count=1, buffers=[w.Buf("", {0: w.pages(1)})],
            options=[(w.BUFFER, struct.pack("<Q", 0) + b"i\0"), (w.CPUCOUNT, struct.pack("<I", 2))])
    raw = bytearray(d.build())
    at = raw.index(struct.pack("<HIQ", w.BUFFER, 10, 0) + b"i\0") + 6
    table = len(raw)
    pages = [table + 42, table + 42 + 4096]
    pad = bytes(-(table + 42) % 4)
    pages = [p + len(pad) for p in pages]
    raw += b"flyrecord\0" + struct.pack("<QQQQ", pages[0], 4096, pages[1], 8192) + pad + w.pages(1) + w.pages(2)
    raw[at:at + 8] = struct.pack("<Q", table)
    r = read(tmp_path, bytes(raw))
    assert content(r, 0, 0) == w.pages(1)
    assert content(r, 0, 1) == w.pages(1)
    assert content(r, 1, 1) == w.pages(2)


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("big", [False, True])
def test_options_are_read_and_unknown_ones_skipped(tmp_path: Path, version: int, big: bool) -> None:
    """Options of every kind give what they say, whatever stands between them."""
    d = dat(version=version, big_endian=big)
    d.options = [
        (999, b"whatever"),
        (w.DATE, b"0x10\0"), (w.OFFSET, b"-7\0"),
        (w.CPUSTAT, b"CPU: 0\nentries: 1\noverrun: 12\ndropped events: 3\n\0"),
        (w.CPUSTAT, b"CPU: 2\nentries: 1\noverrun: 5\n\0"),
        (w.CPUSTAT, b"\nBuffer: other\n\n\0"), (w.CPUSTAT, b"CPU: 0\noverrun: 99\n\0"),
        (w.TRACECLOCK, b"local global [mono] boot\n\0"),
        (w.UNAME, b"Linux my-host 6.1.0-56 x86_64\0"),
        (w.HOOK, b"a,b/c,d\0"), (w.PROCMAPS, b"7b 1 x\n"), (w.GUEST, b"g\0" + bytes(12)),
        (w.VERSION, b"3.2 dev\0"), (w.TRACEID, d.n(8, 0xFEED_0000_0000_0001)),
        (w.TIME_SHIFT, d.n(8, 0xBEEF) + bytes(12)),
        (w.TSC2NSEC, d.n(4, 0x1234567) + d.n(4, 22) + d.n(8, 0)),
        (0x7FFF, b""),
    ]
    d.buffers[0].clock = "mono"
    if version == 7:
        d.options.append((w.CPUCOUNT, d.n(4, 3)))
    r = read(tmp_path, d.build())
    assert r.ts_offset == 0x10 * 1000 - 7
    assert {c.cpu: (c.overrun, c.dropped) for c in r.buffers[0].cpus} == {0: (12, 3), 1: (None, None),
                                                                         2: (5, None)}
    assert (r.clock, r.uname, r.release, r.machine) == ("mono", "Linux my-host 6.1.0-56 x86_64", "6.1.0-56",
                                                       "x86_64")
    assert r.trace_id == 0xFEED_0000_0000_0001
    assert r.cpu_count == 3
    assert r.tsc is not None
    assert (r.tsc.mult, r.tsc.shift, r.tsc.offset) == (0x1234567, 22, 0)
    assert len(r.notes) == 1
    assert "guest" in r.notes[0]
    assert "0xbeef" in r.notes[0]


@pytest.mark.parametrize("version", [6, 7])
def test_a_bad_option_costs_only_itself(tmp_path: Path, version: int) -> None:
    """An option that is too short or makes no sense is noted, and all others are read."""
    d = dat(version=version, options=[(w.DATE, b"yesterday\0"), (w.TRACEID, b"123"),
                                      (w.TSC2NSEC, bytes(16)), (w.UNAME, b"Linux h 6.1 i686\0")])
    r = read(tmp_path, d.build())
    assert r.machine == "i686"
    assert r.trace_id is None
    assert r.tsc is None
    assert [n.split(" cannot")[0] for n in r.notes] == ["option DATE", "option TRACEID", "option TSC2NSEC"]
    assert content(r, 0) == d.buffers[0].cpus[0]


@pytest.mark.parametrize(("text", "number"), [
    (b"123", 123), (b" -5\n", -5), (b"0x1F", 31), (b"-0xa", -10), (b"010", 8), (b"0", 0), (b"", None),
    (b"x", None), (b"+7 rest", 7),
])
def test_numbers_of_options_are_read_as_strtoll_does(text: bytes, number: int | None) -> None:
    """Decimal, hexadecimal and octal, with a sign, up to the first byte that is no digit."""
    assert parse_number(text) == number


@pytest.mark.parametrize(("version", "compression"), [(6, "none"), (7, "none"), (7, "zstd")])
def test_a_latency_tracers_file_holds_text(tmp_path: Path, version: int, compression: str) -> None:
    """A file that a latency tracer wrote gives the text of `trace` and no pages."""
    text = b"# tracer: wakeup\n#\n" + b"  <idle>-0  0d..3 1us : x\n" * 4000
    d = dat(version=version, compression=compression, buffers=[w.Buf("", text=text)], cpu_count=1)
    r = read(tmp_path, d.build())
    assert r.texts == {"": text}
    assert r.buffers == []


def test_the_kernels_long_is_that_of_the_page_header(tmp_path: Path) -> None:
    """A 32-bit trace-cmd on a 64-bit kernel writes 4 into the file's head, but the commit word has 8 bytes."""
    d = dat(long_size=4, header=(w.header_page(8, 4096), b""), buffers=[w.Buf("", {0: w.pages(2)})])
    assert read(tmp_path, d.build()).long_size == 8


def test_pages_at_odd_places_are_copied(tmp_path: Path) -> None:
    """Pages that do not begin at a multiple of 4 are brought to one."""
    d = dat()
    raw = d.build()
    at, last = d.places["cpu 0"], d.places["last options"]
    shifted = raw[:at] + b"\0" + raw[at:]
    shifted = bytearray(shifted)
    link = next(k for k in range(d.places["options"], at) if raw[k:k + 8] == d.n(8, last))
    shifted[link:link + 8] = d.n(8, last + 1)
    row = shifted.index(d.n(4, 0) + d.n(8, at), last)
    for k, cpu in enumerate((0, 1, 2)):
        shifted[row + 20 * k + 4:row + 20 * k + 12] = d.n(8, d.places[f"cpu {cpu}"] + 1)
    r = read(tmp_path, bytes(shifted))
    assert content(r, 0) == d.buffers[0].cpus[0]
    assert content(r, 2) == d.buffers[0].cpus[2]
    assert all(c.offset % 4 == 0 for c in r.buffers[0].cpus)


@pytest.mark.parametrize(("change", "message"), [
    (lambda b: b"\x17\x08\x44tracinG" + b[10:], "is no trace.dat"),
    (lambda b: b[:10] + b"5\0" + b[12:], "version '5'"),
    (lambda b: b[:10] + b"77777777777777777777" + b[12:], "the version has no end"),
    (lambda b: b[:12] + b"\2" + b[13:], "byte order 2"),
    (lambda b: b[:13] + b"\7" + b[14:], "a long of 7 bytes"),
    (lambda b: b.replace(b"none\0", b"lzo4\0", 1), "compressed with 'lzo4'"),
])
def test_a_head_that_cannot_be_is_an_error_with_a_remedy(tmp_path: Path, change: object, message: str) -> None:
    """What stands in the first bytes decides; a wrong one is named with its place."""
    with pytest.raises(TraceError, match=message) as e:
        read(tmp_path, change(dat().build()))  # type: ignore[operator]
    assert e.value.path == str(tmp_path / "x.dat")
    assert str(e.value).startswith(e.value.path)


# ---- recordings of real kernels ------------------------------------------------------------------------------

REAL = {
    "d05-zombie.dat": ("trace.dat v7 (zstd)", False, 8, {"": [8192, 8192]}, "local", "6.1.0-56-cloud-amd64"),
    "d02-exit0-v6.dat": ("trace.dat v6", False, 8, {"": [8192, 8192]}, "local", "6.1.0-56-cloud-amd64"),
    "d33-zombie-612-v6.dat": ("trace.dat v6", False, 8, {"": [4096, 4096, 4096, 8192]}, "local",
                              "6.12.117+deb12-cloud-amd64"),
    "d34-tsc-612.dat": ("trace.dat v7 (zstd)", False, 8, {"": [8192, 4096, 4096, 4096]}, "x86-tsc",
                        "6.12.117+deb12-cloud-amd64"),
    "d35-sched-612.dat": ("trace.dat v7", False, 8, {"": [16384, 12288, 12288, 4096]}, "local",
                          "6.12.117+deb12-cloud-amd64"),
    "d50-signals-be64.dat": ("trace.dat v7 (zstd)", True, 8, {"": [28672, 24576]}, "local", "6.1.0-50-s390x"),
    "d51-threads-be64-v6.dat": ("trace.dat v6", True, 8, {"": [12288, 12288]}, "local", "6.1.0-50-s390x"),
    "d60-signals-32.dat": ("trace.dat v7 (zstd)", False, 4, {"": [28672, 20480]}, "global", "6.1.0-50-686-pae"),
    "d61-orphan-32-v6.dat": ("trace.dat v6", False, 4, {"": [4096, 8192]}, "local", "6.1.0-50-686-pae"),
    "d14-instances.dat": ("trace.dat v7 (zstd)", False, 8,
                          {"": [4096, 8192], "tasks": [4096, 4096], "irqs": [8192, 12288]}, "local",
                          "6.1.0-56-cloud-amd64"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_give_their_pages(data: Path, name: str) -> None:
    """Each container of each architecture is read whole: sizes as `trace-cmd dump` and `report --stat` say."""
    r = read_dat(str(data / name))
    container, big, long_size, sizes, clock, release = REAL[name]
    assert (r.container, r.big_endian, r.long_size, r.clock) == (container, big, long_size, clock)
    assert {b.name: [c.size for c in b.cpus] for b in r.buffers} == sizes
    assert r.release == release
    assert r.uname == f"Linux (none) {release} {r.machine}"
    assert r.cpu_count == len(r.buffers[0].cpus)
    assert r.notes == []
    assert r.kallsyms
    assert r.printk_formats.startswith(b"0x")
    systems = {s for s, _ in r.formats}
    assert "ftrace" in systems
    assert len(systems) > 1
    for b in r.buffers:
        for c in b.cpus:
            assert c.overrun == 0
            assert lengths_make_sense(r, c, b.page_size)


def lengths_make_sense(r: Recorded, c: CpuPages, page_size: int) -> bool:
    """Tell whether every page header has a length that fits, and time stamps never go back."""
    order, size = (">" if r.big_endian else "<"), r.long_size
    at = c.offset + np.arange(0, c.size, page_size)
    heads = [struct.unpack_from(order + ("QQ" if size == 8 else "QI"), r.data, k) for k in at.tolist()]
    room = page_size - 8 - size
    return (all(0 < (commit & 0x3FFFFFFF) <= room for _, commit in heads)
            and all(a[0] <= b[0] for a, b in pairwise(heads)))


def test_overrun_comes_from_the_statistics(data: Path) -> None:
    """The overrun of each cpu is what CPUSTAT says of it."""
    r = read_dat(str(data / "d12-overrun.dat"))
    assert [c.overrun for c in r.buffers[0].cpus] == [0, 248]
    assert all(lengths_make_sense(r, c, 4096) for c in r.buffers[0].cpus)


@pytest.mark.slow
def test_every_recording_of_the_larger_collection_is_read_whole(sweep: Path) -> None:
    """No trace.dat of the collection leaves a note, and all pages make sense."""
    files = sorted(sweep.glob("*.dat"))
    assert files
    for path in files:
        r = read_dat(str(path))
        assert r.notes == [], path.name
        assert all(lengths_make_sense(r, c, b.page_size) for b in r.buffers for c in b.cpus), path.name
        assert r.formats
        assert r.kallsyms
        assert r.cmdlines
