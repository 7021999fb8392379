"""The pages of all cpus of a trace.dat as one flat array: the mapped file, or what its chunks inflate to.

A plain file is not copied.  Compressed cpus are inflated straight into their slices of one array by a few
threads; zlib and zstd release the interpreter lock.  A place in the file that two cpus claim, a cpu that
reaches beyond the end of the file and a damaged chunk each cost what they concern, with a note.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from taskscope.errors import TraceError
from taskscope.ftrace.blob import Blob
from taskscope.ftrace.compress import Codec, InflateError, limit_for
from taskscope.ftrace.reader import Cursor, DamageError, Notes
from taskscope.ftrace.recorded import Buffer, CpuPages

PAGE_MIN, PAGE_MAX = 64, 64 << 20
#: bytes within which pages may lie: places of records are counted in words of 4 bytes, with 32 bits
DATA_MAX = 1 << 34
#: bytes to inflate from which on threads pay
_THREADS_FROM = 4 << 20
_BATCH = 64


@dataclass(slots=True)
class CpuPlace:
    """Where the data of one cpu lie in the file, as its container says."""

    cpu: int
    offset: int
    size: int


@dataclass(slots=True)
class BufferPlace:
    """One ring buffer before its data are looked at."""

    name: str
    page_size: int
    compressed: bool
    cpus: list[CpuPlace]
    clock: str | None = None


@dataclass(slots=True)
class _Piece:
    """A run of bytes of the file that becomes, inflated or not, a run of the array."""

    source: int
    source_size: int
    size: int
    target: int = 0
    inflate: bool = True
    failed: str | None = None


@dataclass(slots=True)
class _Job:
    buffer: int
    pages: CpuPages
    page_size: int
    pieces: list[_Piece] = field(default_factory=list)


def gather(blob: Blob, big_endian: bool, places: list[BufferPlace], make_codec: Callable[[], Codec | None],
           mark_missed: Callable[[npt.NDArray[np.uint8], int], None],
           notes: Notes) -> tuple[npt.NDArray[np.uint8], list[Buffer]]:
    """Bring the data of all cpus of all buffers into one array.

    :param make_codec: makes the codec of the file; called once per thread
    :param mark_missed: called with the array and the byte offset of a page before which pages could not be
        inflated, to set the flag by which a page says that events before it are lost
    :return: the array, and the buffers with their cpus' places in it
    :raises TraceError: what the chunks claim is implausibly large, or memory does not hold it
    """
    buffers = [Buffer(p.name, p.page_size, [], p.clock) for p in places]
    jobs: list[_Job] = []
    for b, place in enumerate(places):
        for cpu, size, missing in _sane_cpus(blob, place, notes):
            pages = CpuPages(cpu.cpu, cpu.offset if size else 0, size, missing=missing)
            buffers[b].cpus.append(pages)
            if size:
                jobs.append(_Job(b, pages, place.page_size))
    _drop_overlaps(jobs, buffers, notes)
    for job in jobs:
        name = _cpu_name(buffers[job.buffer], job.pages)
        if places[job.buffer].compressed:
            _list_chunks(blob, big_endian, job, name, notes)
        else:
            _trim_hole(blob, job, name, notes)
            job.pieces.append(_Piece(job.pages.offset, job.pages.size, job.pages.size, inflate=False))
    plain = not any(p.compressed for p in places) and all(j.pages.offset % 4 == 0 for j in jobs)
    if plain and all(j.pages.offset + j.pages.size <= DATA_MAX for j in jobs):
        return blob.bytes, buffers
    return _inflate(blob, jobs, buffers, make_codec, mark_missed, notes), buffers


def refuse_too_large(size: int, path: str) -> None:
    """Raise the error for more pages than one recording may have.

    :raises TraceError: `size` is beyond `DATA_MAX`
    """
    if size > DATA_MAX:
        raise TraceError(f"has {size:,} bytes of pages, more than the {DATA_MAX >> 30} GiB that can be read at once; "
                         "take a part of it with `trace-cmd split`", path)


def _cpu_name(buffer: Buffer, pages: CpuPages) -> str:
    return f"cpu {pages.cpu}" + (f" of the buffer {buffer.name!r}" if buffer.name else "")


def _sane_cpus(blob: Blob, place: BufferPlace, notes: Notes) -> list[tuple[CpuPlace, int, int]]:
    """Cut the cpus of a buffer to what the file holds: place, bytes there, bytes missing."""
    sane: list[tuple[CpuPlace, int, int]] = []
    seen: set[int] = set()
    whole = len(blob.bytes)
    of = f" of the buffer {place.name!r}" if place.name else ""
    for c in place.cpus:
        if c.cpu >= 0xFFFF or c.cpu in seen:
            why = "is listed twice" if c.cpu in seen else "cannot be"
            notes.add(f"cpu {c.cpu}{of} {why}: these data are left out")
            continue
        seen.add(c.cpu)
        there = max(0, min(c.size, whole - c.offset))
        missing = c.size - there
        if missing:
            notes.add(f"cpu {c.cpu}{of} is cut short: {missing:,} of its {c.size:,} bytes"
                      f"{' (compressed)' if place.compressed else ''} are missing at the end of the file")
        sane.append((c, there, missing))
    return sane


def _drop_overlaps(jobs: list[_Job], buffers: list[Buffer], notes: Notes) -> None:
    """Empty every cpu whose data begin inside those of another: each byte of the file is read once."""
    end = 0
    for job in sorted(jobs, key=lambda j: j.pages.offset):
        pages = job.pages
        if pages.offset < end:
            notes.add(f"{_cpu_name(buffers[job.buffer], pages)} claims bytes at {pages.offset:,} that "
                      "another cpu claims too: its data are left out")
            pages.missing += pages.size
            pages.offset = pages.size = 0
        else:
            end = pages.offset + pages.size
    jobs[:] = [j for j in jobs if j.pages.size]


def _trim_hole(blob: Blob, job: _Job, name: str, notes: Notes) -> None:
    """Cut off pages that were never written; a page that ends in a hole is whole, for zeros end it anyhow."""
    pages = job.pages
    used = blob.data_end(pages.offset, pages.offset + pages.size) - pages.offset
    hole = pages.size - -(-used // job.page_size) * job.page_size
    if hole > 0:
        notes.add(f"{name} is cut short: the last {hole:,} of its {pages.size:,} bytes were never written (a hole in "
                  "the file)")
        pages.size -= hole
        pages.missing += hole


def _list_chunks(blob: Blob, big_endian: bool, job: _Job, name: str, notes: Notes) -> None:
    """Read the sizes of a cpu's chunks: a count, then two sizes and the data of each."""
    pages = job.pages
    # trace-cmd before 3.2 left the 4 bytes of the count out of the size of a cpu.
    end = pages.offset + pages.size + 4
    cursor = Cursor(blob.view[pages.offset:end], blob.path, big_endian, base=pages.offset)
    try:
        count = cursor.u32("the number of chunks")
        sizes = struct.Struct(">II" if big_endian else "<II")
        for k in range(count):
            if cursor.left < 8:
                raise cursor.fail(f"the sizes of chunk {k + 1:,} of {count:,} are not there")
            size, inflated = sizes.unpack_from(cursor.view, cursor.at)
            at = cursor.at + 8
            if not size or not inflated or inflated > limit_for(size):
                raise cursor.fail(f"chunk {k + 1:,} of {count:,} claims to inflate from {size:,} to "
                                  f"{inflated:,} bytes")
            if size > cursor.end - at:
                raise cursor.fail(f"chunk {k + 1:,} of {count:,} has {size:,} bytes, {cursor.end - at:,} are "
                                  "left", at)
            job.pieces.append(_Piece(pages.offset + at, size, inflated))
            cursor.at = at + size
    except DamageError as e:
        notes.damage(f"the compressed data of {name}", e,
                     f"{len(job.pieces):,} chunks before that are used, events behind it are missing")
        pages.missing = max(pages.missing, 1)


def _inflate(blob: Blob, jobs: list[_Job], buffers: list[Buffer], make_codec: Callable[[], Codec | None],
             mark_missed: Callable[[npt.NDArray[np.uint8], int], None],
             notes: Notes) -> npt.NDArray[np.uint8]:
    total = 0
    for job in jobs:
        total = -(-total // 8) * 8
        job.pages.offset = total
        for piece in job.pieces:
            piece.target = total
            total += piece.size
        job.pages.size = total - job.pages.offset
    refuse_too_large(total, blob.path)
    pieces = [p for job in jobs for p in job.pieces]
    packed = sum(p.source_size for p in pieces)
    if total > limit_for(packed):
        raise TraceError(f"{packed:,} compressed bytes claim to be {total:,} bytes of pages, which no "
                         "recording is; if it is one, convert it with `trace-cmd convert --compression "
                         "none`", blob.path)
    try:
        data = np.empty(total, np.uint8)
        _fill(blob, pieces, data, make_codec)
    except MemoryError:
        raise TraceError(f"its pages are {total:,} bytes, which do not fit into memory; record less, or read "
                         "it on a machine with more", blob.path) from None
    for job in jobs:
        _settle(job, data, _cpu_name(buffers[job.buffer], job.pages), mark_missed, notes)
    return data


def _fill(blob: Blob, pieces: list[_Piece], data: npt.NDArray[np.uint8],
          make_codec: Callable[[], Codec | None]) -> None:
    source, target = blob.view, data.data

    def work(batch: list[_Piece]) -> None:
        codec = make_codec()
        for p in batch:
            into = target[p.target:p.target + p.size]
            out_of = source[p.source:p.source + p.source_size]
            if not p.inflate:
                into[:] = out_of
            elif codec is None:
                p.failed = "is compressed by an algorithm that the file does not name"
            else:
                try:
                    codec.inflate_into(out_of, into)
                except InflateError as e:
                    p.failed = str(e)

    threads = min(4, os.cpu_count() or 1)
    if threads > 1 and len(data) >= _THREADS_FROM:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, [pieces[k:k + _BATCH] for k in range(0, len(pieces), _BATCH)]))
    else:
        work(pieces)


def _settle(job: _Job, data: npt.NDArray[np.uint8], name: str,
            mark_missed: Callable[[npt.NDArray[np.uint8], int], None], notes: Notes) -> None:
    """Deal with damaged chunks: cut them off at the end, mark them as lost events elsewhere."""
    failed = [p for p in job.pieces if p.failed]
    if not failed:
        return
    notes.add(f"{len(failed):,} of the {len(job.pieces):,} compressed chunks of {name} are damaged (the "
              f"first at byte {failed[0].source:,}: {failed[0].failed}): their "
              f"{sum(p.size for p in failed):,} bytes of events are missing")
    while job.pieces and job.pieces[-1].failed:
        cut = job.pieces.pop()
        job.pages.size -= cut.size
        job.pages.missing += cut.size
    lost = False
    for p in job.pieces:
        if p.failed:
            data[p.target:p.target + p.size] = 0
            lost = True
        elif lost:
            # Only where pages begin is a flag a flag; a chunk of another size leaves no place for one.
            if (p.target - job.pages.offset) % job.page_size == 0 and p.size >= job.page_size:
                mark_missed(data, p.target)
            lost = False
