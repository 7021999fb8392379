"""kdump-compressed files of each compression that makedumpfile knows give the same tasks."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest
import zstandard

from conftest import DATA

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.memory.core import open_core
from taskscope.memory.kernel import KernelMemory
from taskscope.snapshot.snapshot import Snapshot

DUMP = DATA / "vmcore/debian12-amd64.kdump"
#: diskdump_mod.h of makedumpfile: flags of a struct page_desc
ZLIB, SNAPPY, ZSTD = 1, 4, 0x20
#: struct page_desc: offset, size, flags, page_flags
DESCRIPTOR = struct.Struct("<qIIQ")


def snappy(data: bytes) -> bytes:
    """Compress as snappy's format has it, with literals only: its length, then pieces of up to 60 bytes."""
    length, head = len(data), b""
    while length >= 0x80:
        head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
    pieces = (data[at : at + 60] for at in range(0, len(data), 60))
    return head + bytes([length]) + b"".join(bytes([len(piece) - 1 << 2]) + piece for piece in pieces)


def recompressed(compress: Callable[[bytes], bytes], flag: int) -> bytes:
    """Return the stored dump with its pages compressed in another way."""
    data = DUMP.read_bytes()
    block, sub_header, bitmap_blocks = struct.unpack_from("<iiI", data, 428)
    bitmap = (1 + sub_header) * block
    # The second half of the bitmap says which pages are in the file.
    half = bitmap_blocks * block // 2
    first = bitmap + 2 * half
    count = int.from_bytes(data[bitmap + half : first], "little").bit_count()
    descriptors, pages = bytearray(), bytearray()
    start = first + count * DESCRIPTOR.size
    for n in range(count):
        offset, size, flags, page_flags = DESCRIPTOR.unpack_from(data, first + n * DESCRIPTOR.size)
        page = data[offset : offset + size]
        page = compress(zlib.decompress(page) if flags & ZLIB else page)
        descriptors += DESCRIPTOR.pack(start + len(pages), len(page), flag, page_flags)
        pages += page
    assert count > 1000
    return data[:first] + descriptors + pages


@pytest.fixture(scope="module")
def told() -> Snapshot:
    """Return what the dump as it is stored tells."""
    return KernelMemory(open_core(DUMP)).snapshot(stacks=True)


@pytest.mark.parametrize(("compress", "flag"), [
    (bytes, 0), (zlib.compress, ZLIB), (snappy, SNAPPY), (zstandard.ZstdCompressor(level=1).compress, ZSTD),
], ids=["plain", "zlib", "snappy", "zstd"])
def test_pages_compressed_in_each_way(
    compress: Callable[[bytes], bytes], flag: int, told: Snapshot, tmp_path: Path
) -> None:
    """Plain pages, and those compressed by zlib, snappy or zstd, hold the same tasks with the same stacks."""
    path = tmp_path / "vmcore"
    path.write_bytes(recompressed(compress, flag))
    assert KernelMemory(open_core(path)).snapshot(stacks=True).tasks == told.tasks


def test_pages_compressed_by_makedumpfile_with_lzo(told: Snapshot, tmp_path: Path) -> None:
    """What makedumpfile has compressed with lzo holds the same tasks."""
    program = which("makedumpfile")
    if program is None:
        pytest.skip("makedumpfile is not installed")
    path = tmp_path / "vmcore"
    subprocess.run([program, "-l", "-d", "0", DUMP, path], check=True, capture_output=True, timeout=100)
    assert path.read_bytes() != DUMP.read_bytes()
    assert KernelMemory(open_core(path)).snapshot(stacks=True).tasks == told.tasks
