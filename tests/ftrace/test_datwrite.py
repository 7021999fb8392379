"""The writer of trace.dat: read back by our reader, held against the tests' own writer, safe on disk."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datwriter as w
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_dat import REAL, content, read

from taskscope.errors import TraceError, UsageError
from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.datwrite import DatBuffer, DatFile, dat_of, write_dat
from taskscope.ftrace.options import Option
from taskscope.ftrace.recorded import Recorded
from taskscope.ftrace.ring import RingSource

CONTAINERS = [(7, "zstd"), (7, "none"), (6, "none")]


def everything(r: Recorded) -> dict[str, object]:
    """Return all that a recording holds and that does not depend on its container."""
    return {
        "pages": {(b.name, c.cpu): content(r, c.cpu, k) for k, b in enumerate(r.buffers) for c in b.cpus if c.size},
        "buffers": [(b.name, b.page_size, b.clock) for b in r.buffers],
        "lost": {(b.name, c.cpu): (c.overrun, c.dropped) for b in r.buffers for c in b.cpus if c.size},
        "formats": r.formats, "kallsyms": r.kallsyms, "printk": r.printk_formats, "cmdlines": r.cmdlines,
        "header": (r.header_page, r.header_event), "clock": r.clock, "uname": r.uname, "id": r.trace_id,
        "cpus": r.cpu_count, "order": r.big_endian, "long": r.long_size, "offset": r.ts_offset, "tsc": r.tsc}


def dat_file(**changes: object) -> DatFile:
    """Return a small file of three cpus, of which one is empty."""
    shape = {"big_endian": changes.get("big_endian", False), "long_size": changes.get("long_size", 8)}
    d = DatFile(
        header_page=w.header_page(shape["long_size"]),  # type: ignore[arg-type]
        header_event=b"# compressed entry header\n",
        formats=[("ftrace", w.FTRACE[0]), *(("sched", f) for f in w.EVENTS["sched"]), ("task", w.EVENTS["task"][0])],
        kallsyms=b"ffffffff81000000 T _text\n", printk_formats=b'0xffffffff82000000 : "hello\\n"\n',
        cmdlines=b"1 init\n42 a b\n", cpu_count=3, uname="Linux h 6.1 x86_64", trace_id=5, tgids=b"42 1\n",
        buffers=[DatBuffer("", "mono", 4096, {0: w.pages(23, **shape), 1: b"", 2: w.pages(2, cpu=2, **shape)},  # type: ignore
                           {0: b"entries: 1\noverrun: 7\ndropped events: 3\n"})])
    return replace(d, **changes)  # type: ignore[arg-type]


def independent(d: DatFile, version: int, compression: str) -> bytes:
    """Return what the tests' own writer makes of the same content."""
    order = "big" if d.big_endian else "little"
    options = [(w.TRACECLOCK, f"[{d.buffers[0].clock}]\0".encode()), (w.UNAME, (d.uname or "").encode() + b"\0"),
               (w.TRACEID, (d.trace_id or 0).to_bytes(8, order))]  # type: ignore[arg-type]
    options += [(w.CPUSTAT, b"CPU: %d\n" % c + text + b"\0") for c, text in d.buffers[0].stats.items()]
    if version == 7:
        options.append((w.CPUCOUNT, d.cpu_count.to_bytes(4, order)))  # type: ignore[arg-type]
    events: dict[str, list[bytes]] = {}
    for system, text in d.formats:
        events.setdefault(system, []).append(text)
    return w.Dat(version, d.big_endian, d.long_size, d.buffers[0].page_size, compression,
                 [w.Buf(b.name, dict(b.cpus), b.clock or "", b.page_size) for b in d.buffers],  # type: ignore[arg-type]
                 (d.header_page, d.header_event), events.pop("ftrace"), events, d.kallsyms, d.printk_formats,
                 d.cmdlines, options, d.cpu_count).build()


@pytest.mark.parametrize(("version", "compression"), CONTAINERS)
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("long_size", [4, 8])
def test_a_file_is_read_back_as_one_of_an_independent_writer(tmp_path: Path, version: int, compression: str, big: bool,
                                                             long_size: int) -> None:
    """What is written means the same as what a second writer, written apart, makes of the same content."""
    d = dat_file(big_endian=big, long_size=long_size)
    write_dat(tmp_path / "a.dat", d, version, compression)
    ours = read_dat(str(tmp_path / "a.dat"))
    theirs = read(tmp_path, independent(d, version, compression))
    assert ours.notes == theirs.notes == []
    assert everything(ours) == everything(theirs)
    assert everything(ours)["lost"] == {("", 0): (7, 3), ("", 2): (None, None)}
    assert ours.tgids == ({42: 1} if version == 7 else {})


@pytest.mark.parametrize("name", [*REAL, "d12-overrun.dat", "d14-instances.dat", "d34-tsc-612.dat"])
@pytest.mark.parametrize(("version", "compression"), CONTAINERS)
def test_a_real_recording_is_the_same_in_another_container(tmp_path: Path, data: Path, name: str, version: int,
                                                           compression: str) -> None:
    """A recording that is read, written and read again has lost nothing: pages, formats, names, options."""
    before = read_dat(str(data / name))
    write_dat(tmp_path / "again.dat", dat_of(before), version, compression)
    after = read_dat(str(tmp_path / "again.dat"))
    assert after.notes == []
    got, expected = everything(after), everything(before)
    if version == 6:
        # One clock in brackets stands for all; a top-level buffer without cpus is not told from one that is empty.
        expected["buffers"] = [b for b in expected["buffers"] if b[0] in {x[0] for x in got["buffers"]}]  # type: ignore
    assert got == expected
    if compression == "zstd" and before.container.endswith("(zstd)"):
        # The same parameters as trace-cmd's: no larger than its file, apart from what pages are aligned to.
        assert (tmp_path / "again.dat").stat().st_size <= (data / name).stat().st_size + 4096


@pytest.mark.parametrize("name", ["d53-raw-be64", "d62-raw-32", "d37-raw16k-612", "d71-host618-orphan"])
def test_a_folder_of_raw_pages_becomes_a_file(tmp_path: Path, data: Path, name: str) -> None:
    """Pages of 4 and 16 KiB, big-endian and 32-bit ones, give the same events from a file as from their folder."""
    from taskscope.ftrace.rawdir import read_rawdir

    before = read_rawdir(str(data / name))
    write_dat(tmp_path / "x.dat", dat_of(before))
    after = read_dat(str(tmp_path / "x.dat"))
    assert after.tgids == before.tgids
    assert everything(after)["pages"] == everything(before)["pages"]
    one, two = RingSource(before), RingSource(after)
    assert (one.index.ts == two.index.ts).all()
    assert (one.index.type == two.index.type).all()


def test_pages_from_files_bytes_and_views_are_the_same(tmp_path: Path) -> None:
    """Pages are taken from a file, from bytes and from a view alike, without the torn page at a file's end."""
    pages = w.pages(700)
    spool = tmp_path / "cpu0.raw"
    spool.write_bytes(pages + b"\x11" * 1000)
    written = []
    for kind in (spool, pages, memoryview(pages), bytearray(pages)):
        for version, compression in CONTAINERS:
            d = dat_file(buffers=[DatBuffer("", "mono", 4096, {0: kind})])
            write_dat(tmp_path / "x.dat", d, version, compression)
            written.append((version, compression, (tmp_path / "x.dat").read_bytes()))
            assert content(read_dat(str(tmp_path / "x.dat")), 0) == pages
    assert len(set(written)) == len(CONTAINERS)


def test_progress_counts_the_bytes_of_pages(tmp_path: Path) -> None:
    """Progress grows, and ends at the sum of all pages."""
    seen: list[tuple[int, int]] = []
    write_dat(tmp_path / "x.dat", dat_file(), progress=lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen)
    assert seen[-1] == (25 * 4096, 25 * 4096)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Writing half a GB of pages takes no more memory than writing one page."""
    pages = tmp_path / "cpu0.raw"
    code = ("import sys; from pathlib import Path; from test_datwrite import DatBuffer, dat_file, write_dat\n"
            "write_dat(sys.argv[1], dat_file(buffers=[DatBuffer('', 'mono', 4096, {0: Path(sys.argv[2])})]))\n"
            "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])")
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])

    def peak(size: int) -> int:
        with pages.open("wb") as file:
            file.truncate(size)
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.dat"), str(pages)], check=True,
                              capture_output=True, env={**os.environ, "PYTHONPATH": paths}, timeout=60)
        return int(done.stdout)

    small, large = peak(4096), peak(512 << 20)
    assert large < small + 16 * 1024


SHAPES = st.tuples(st.sampled_from(CONTAINERS), st.booleans(), st.sampled_from([4, 8]),
                   st.sampled_from([512, 4096, 16384]))
NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=SHAPES, names=st.lists(NAMES, unique=True, max_size=3), data=st.data())
def test_any_pages_cpus_and_buffers_come_back(tmp_path: Path, shape: tuple[tuple[int, str], bool, int, int],
                                              names: list[str], data: st.DataObject) -> None:
    """Whatever the pages, cpus and buffers, what is read back are the bytes that were given."""
    (version, compression), big, long_size, page = shape
    buffers = []
    for name in ["", *names]:
        counts = data.draw(st.dictionaries(st.integers(0, 8), st.integers(0, 25), min_size=1, max_size=4))
        seed = data.draw(st.binary(min_size=1, max_size=64))
        cpus = {c: w.pages(n, cpu=c, start=1 + len(seed), big_endian=big, long_size=long_size, size=page)
                for c, n in counts.items()}
        buffers.append(DatBuffer(name, "global", page, cpus, {c: b"overrun: %d\n" % c for c in cpus}))
    d = dat_file(buffers=buffers, cpu_count=9, big_endian=big, long_size=long_size,
                 header_page=w.header_page(long_size, page))
    write_dat(tmp_path / "x.dat", d, version, compression)
    r = read_dat(str(tmp_path / "x.dat"))
    assert r.notes == []
    got = {(k, c.cpu): content(r, c.cpu, k) for k, b in enumerate(r.buffers) for c in b.cpus if c.size}
    # In version 6 a top-level buffer without a page beside instances is taken for none.
    kept = buffers[len(buffers) - len(r.buffers):]
    assert len(kept) == len(buffers) or (version == 6 and not any(buffers[0].cpus.values()))
    assert got == {(k, c): p for k, b in enumerate(kept) for c, p in b.cpus.items() if p}


# ---- refusals --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "said"), [
    ({"buffers": []}, "the first buffer"),
    ({"buffers": [DatBuffer("a", "local", 4096, {})]}, "the first buffer"),
    ({"buffers": [DatBuffer("", "local", 4096, {}), DatBuffer("a", "local", 4096, {}),
                  DatBuffer("a", "local", 4096, {})]}, "each of another name"),
    ({"buffers": [DatBuffer("", "local", 4096, {7: b""})]}, "pages of cpu 7"),
    ({"buffers": [DatBuffer("", "local", 100, {})]}, "pages of 100 bytes"),
    ({"buffers": [DatBuffer("", "lo\0cal x", 4096, {})]}, "names no clock"),
    ({"long_size": 2}, "4 or 8 bytes"),
    ({"cpu_count": 0}, "1 to 65,535 cpus"),
])
def test_what_no_file_can_hold_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    """Content that could not be read back is a UsageError that names it, and no file is made."""
    with pytest.raises(UsageError, match=said):
        write_dat(tmp_path / "x.dat", replace(dat_file(), **change))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("version", "compression", "said"), [
    (5, None, "versions 6 and 7"), (6, "zstd", "has no compression"),
    (7, "zlib", "no compression that can be written")])
def test_a_container_that_cannot_be_is_refused(tmp_path: Path, version: int, compression: str | None,
                                               said: str) -> None:
    """A version or a compression that cannot be written is a UsageError."""
    with pytest.raises(UsageError, match=said):
        write_dat(tmp_path / "x.dat", dat_file(), version, compression)


def test_version_6_refuses_pages_of_two_sizes(tmp_path: Path) -> None:
    """Version 6 names the size of pages once, so buffers with other sizes are refused, and the temporary is removed."""
    d = dat_file(buffers=[DatBuffer("", "local", 4096, {0: b""}), DatBuffer("i", "local", 8192, {0: b""})])
    with pytest.raises(UsageError, match="one size of pages"):
        write_dat(tmp_path / "x.dat", d, 6)
    assert not list(tmp_path.iterdir())
    write_dat(tmp_path / "x.dat", d, 7)
    assert [b.page_size for b in read_dat(str(tmp_path / "x.dat")).buffers] == [4096, 8192]


# ---- on disk ---------------------------------------------------------------------------------------------

def test_a_link_is_followed_and_a_device_is_not_replaced(tmp_path: Path) -> None:
    """Through a symbolic link its target is written; a device or pipe under the name is refused, and stays."""
    (tmp_path / "link.dat").symlink_to("there.dat")
    write_dat(tmp_path / "link.dat", dat_file())
    assert (tmp_path / "link.dat").is_symlink()
    assert read_dat(str(tmp_path / "there.dat")).notes == []
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceError, match="no regular file"):
        write_dat(tmp_path / "pipe", dat_file())
    assert (tmp_path / "pipe").is_fifo()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Where the writing fails half-way, what was there under the name stays, and the temporary goes."""
    path = tmp_path / "x.dat"
    path.write_bytes(b"the old one")

    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dat(path, dat_file(), progress=interrupt)
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["x.dat"]


def test_a_full_disk_is_an_oserror_that_names_the_file(tmp_path: Path) -> None:
    """When no more can be written, OSError comes with the file's name, and the temporary is removed."""
    path = tmp_path / "x.dat"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError) as failed:
            write_dat(path, dat_file(), compression="none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert failed.value.errno == errno.EFBIG
    assert failed.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder that does not exist gives an OSError with the name that was asked for, not that of the temporary."""
    with pytest.raises(FileNotFoundError) as failed:
        write_dat(tmp_path / "no" / "x.dat", dat_file())
    assert failed.value.filename == str(tmp_path / "no" / "x.dat")


def test_the_temporary_of_a_killed_writer_is_removed_by_the_next(tmp_path: Path) -> None:
    """A writer killed half-way leaves a temporary, which the next one removes; that of a living one stays."""
    path = tmp_path / "x.dat"
    code = ("import sys, time; sys.path.insert(0, sys.argv[2]); from test_datwrite import dat_file, write_dat\n"
            "def stop(done, of): print('in the middle', flush=True); time.sleep(60)\n"
            "write_dat(sys.argv[1], dat_file(), progress=stop)")
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    child = subprocess.Popen([sys.executable, "-c", code, str(path), str(Path(__file__).parent)],
                             stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths})
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"in the middle\n"
        write_dat(path, dat_file())
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    write_dat(path, dat_file())
    assert [p.name for p in tmp_path.iterdir()] == ["x.dat"]


def test_further_options_are_written(tmp_path: Path) -> None:
    """An OFFSET option that is given is in the file."""
    for version in (6, 7):
        write_dat(tmp_path / "x.dat", dat_file(options=[(Option.OFFSET, b"-1234\0")]), version)
        assert read_dat(str(tmp_path / "x.dat")).ts_offset == -1234
