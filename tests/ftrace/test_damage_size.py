"""Files that claim to be more than they are: decompression bombs, sparse files, pages beyond the memory there is.

Reading them costs memory and time by what they are, never by what they claim.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import datwriter as w
import pytest
import zstandard
from test_damage import QUICK, SHAPES, small
from test_dat import content, cpu_of, dat

from taskscope.errors import TraceError
from taskscope.ftrace.cpudata import DATA_MAX
from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.recorded import Recorded

SRC = Path(__file__).resolve().parents[2] / "src"


def peak_of(work: Callable[[], object]) -> int:
    """Return the most bytes that Python and NumPy held at once while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(compression: str, claim: int | None = None) -> bytes:
    """Return a file of one cpu whose one chunk inflates to 256 MiB of zeros, or claims another size."""
    real = 256 << 20
    if compression == "zstd":
        packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    else:
        packer = zlib.compressobj(9)  # type: ignore[assignment]
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(real >> 20)) + packer.flush()
    d = dat(compression=compression, buffers=[w.Buf("", {0: w.pages(1)})])
    d.chunk_list = d.n(4, 1) + d.n(4, len(packed)) + d.n(4, real if claim is None else claim) + packed
    return d.build()


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("claim", [None, 4096, 1 << 20, 0xFFFFFFFF])
def test_decompression_bombs(tmp_path: Path, compression: str, claim: int | None) -> None:
    """A chunk that inflates to thousands of times its size, or to more than it says, costs no memory."""
    path = tmp_path / "bomb.dat"
    path.write_bytes(bomb(compression, claim))

    def work() -> None:
        with pytest.raises(TraceError, match="has no events left"):
            read_dat(str(path))

    assert peak_of(work) < 24 << 20


def test_a_section_that_is_a_bomb_is_left_out(tmp_path: Path) -> None:
    """A kallsyms section that inflates to 256 MiB is a note; the pages are read."""
    d = dat(compression="zstd")
    d.kallsyms = bytes(256 << 20)
    raw = d.build()
    assert len(raw) < 1 << 20
    path = tmp_path / "bomb.dat"
    path.write_bytes(raw)
    seen: list[Recorded] = []
    peak = peak_of(lambda: seen.append(read_dat(str(path))))
    assert peak < 16 << 20
    assert content(seen[0], 0) == d.buffers[0].cpus[0]
    assert "kallsyms" in seen[0].notes[0]


def test_many_chunks_that_together_are_a_bomb(tmp_path: Path) -> None:
    """What all chunks claim together is bounded too."""
    d = dat(compression="zstd")
    one = d.squeeze(bytes(60 << 20))
    chunk = d.n(4, len(one)) + d.n(4, 60 << 20) + one
    d.chunk_list = d.n(4, 100) + chunk * 100
    path = tmp_path / "bomb.dat"
    path.write_bytes(d.build())

    def work() -> None:
        with pytest.raises(TraceError, match="compressed bytes claim to be"):
            read_dat(str(path))

    assert peak_of(work) < 4 << 20


def test_a_sparse_file_of_5_gb_is_not_read_whole(tmp_path: Path) -> None:
    """A cpu that claims a hole of 5 GB holds the pages in front of the hole, in no time and no memory."""
    d = dat(version=6, buffers=[w.Buf("", {0: w.pages(1), 1: w.pages(3)})])
    raw = bytearray(d.build())
    row = d.places["flyrecord "] + 10 + 16
    raw[row + 8:row + 16] = d.n(8, 5 << 30)
    path = tmp_path / "sparse.dat"
    path.write_bytes(raw)
    with path.open("r+b") as f:
        f.truncate(d.places["cpu 1"] + (5 << 30))
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system of the temporary folder has no sparse files")
    start = time.process_time()
    r = read_dat(str(path))
    assert time.process_time() - start < QUICK
    assert content(r, 0) == w.pages(1)
    assert cpu_of(r, 1).size < 1 << 20
    assert cpu_of(r, 1).missing > 4 << 30
    assert "never written" in r.notes[0]
    assert content(r, 1)[:3 * 4096] == w.pages(3)


def test_pages_behind_16_gib_are_copied_to_where_they_can_be_counted(tmp_path: Path) -> None:
    """Places of records are 32-bit numbers of words; pages of a sparse file beyond them are moved."""
    d = dat(version=6, buffers=[w.Buf("", {0: w.pages(1), 1: b""})])
    raw = bytearray(d.build())
    row = d.places["flyrecord "] + 10 + 16
    raw[row:row + 16] = d.n(8, DATA_MAX + 4096) + d.n(8, 8192)
    path = tmp_path / "far.dat"
    path.write_bytes(raw)
    with path.open("r+b") as f:
        f.seek(DATA_MAX + 4096)
        f.write(w.pages(2))
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system of the temporary folder has no sparse files")
    r = read_dat(str(path))
    assert content(r, 0) == w.pages(1)
    assert content(r, 1) == w.pages(2)
    assert len(r.data) == 3 * 4096
    assert r.notes == []


@pytest.mark.parametrize("place", ["header_info", "ftrace", "events", "kallsyms", "cmdlines", "cpus", "flyrecord ",
                                   "options"])
@pytest.mark.parametrize("version", [6, 7])
def test_a_sparse_file_that_ends_in_metadata(tmp_path: Path, version: int, place: str) -> None:
    """A file whose metadata give way to a hole of 5 GB is an error within seconds and a few MB."""
    d = dat(version=version, options=[(w.TRACECLOCK, b"")])
    raw = d.build()
    path = tmp_path / "sparse.dat"
    cut = d.places.get(place, d.places["options"]) + 20
    path.write_bytes(raw[:cut])
    with path.open("r+b") as f:
        f.truncate(5 << 30)
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system of the temporary folder has no sparse files")
    start = time.process_time()

    def work() -> None:
        with contextlib.suppress(TraceError):
            r = read_dat(str(path))
            assert r.notes
            assert sum(c.size for b in r.buffers for c in b.cpus) < 1 << 20

    assert peak_of(work) < 80 << 20
    assert time.process_time() - start < QUICK


_LIMITED = """
import resource, sys
from taskscope.errors import TraceError
from taskscope.ftrace.dat import read_dat
import zlib, zstandard, numpy
def size(): return int(open('/proc/self/statm').read().split()[0]) * 4096
limit = size() + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    try:
        r = read_dat(path)
        print('read', sum(c.size for b in r.buffers for c in b.cpus), len(r.notes))
    except TraceError as e:
        print('error', e)
"""


def test_a_recording_that_does_not_fit_into_memory_is_an_error(tmp_path: Path) -> None:
    """Where the pages of a real, honest file are more than the address space allows, the error says so."""
    path = tmp_path / "large.dat"
    pages = w.pages(64 << 8)
    path.write_bytes(dat(compression="zstd", buffers=[w.Buf("", {0: pages})]).build())
    done = subprocess.run([sys.executable, "-c", _LIMITED, "32", str(path)], capture_output=True, text=True,
                          env={"PYTHONPATH": str(SRC), "OPENBLAS_NUM_THREADS": "1"}, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("error ")
    assert "do not fit into memory" in done.stdout


def test_address_space_stays_small_for_small_damaged_files(tmp_path: Path) -> None:
    """Files of a few KiB, damaged in many ways, are read within 160 MiB of address space."""
    paths = []
    for k, (version, compression) in enumerate(SHAPES):
        raw = bytearray(small(version, compression)[0])
        for at in range(16, len(raw) - 8, max(1, len(raw) // 60)):
            bad = raw.copy()
            bad[at:at + 8] = b"\xff\xff\xff\x3f" * 2
            path = tmp_path / f"{k}-{at}.dat"
            path.write_bytes(bad)
            paths.append(str(path))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", _LIMITED, "160", *paths], capture_output=True, text=True,
                          env={"PYTHONPATH": str(SRC), "OPENBLAS_NUM_THREADS": "1"}, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(paths)
    assert "do not fit" not in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20
