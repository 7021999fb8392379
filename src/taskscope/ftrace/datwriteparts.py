"""What the writers of trace.dat's two versions share: the file to be, its numbers, its metadata, its pages.

Bodies as in trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5); which options are written, and in which order, as
trace-cmd's lib/trace-cmd/trace-output.c (3.4) has them.  Pages of a cpu are passed on in runs of a few pages,
never held as a whole, so that a recording larger than memory can be written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from taskscope.errors import TraceError, UsageError
from taskscope.ftrace.cpudata import PAGE_MAX, PAGE_MIN
from taskscope.ftrace.options import BUFFERS_MAX, CPUS_MAX, NAME_MAX, RECORDER, Option
from taskscope.ftrace.reader import show
from taskscope.ftrace.saved import parse_clock
from taskscope.ftrace.sections import FORMAT_MAX, TEXT_MAX

MAGIC = b"\x17\x08\x44tracing"
#: pages that are compressed as one chunk (trace-cmd's PAGES_IN_CHUNK)
CHUNK_PAGES = 10
#: bytes passed on at once where nothing is compressed
_STEP = 1 << 20

class PagePieces(Protocol):
    """Pages of one cpu that somebody puts together while they are written."""

    @property
    def size(self) -> int:
        """Bytes of whole pages."""

    def pieces(self, step: int) -> Iterator[memoryview]:
        """Yield them in pieces of `step` bytes, the last one shorter."""


#: the raw pages of one cpu: a file of them, their bytes, or who puts them together
Pages = Path | bytes | bytearray | memoryview | PagePieces
#: called with the bytes of pages written so far and their sum
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DatBuffer:
    """One ring buffer of a trace.dat to be.

    :param name: "" for the top-level buffer, which comes first; the instance's name otherwise
    :param clock: the name of its clock, or the text of its ``trace_clock``; None if it is not known
    :param page_size: bytes of a sub-buffer, its header included
    :param cpus: the pages of each cpu, oldest first; a page that is cut short at the end is left out
    :param stats: the text of ``per_cpu/cpuN/stats`` by cpu, as far as it is there
    """

    name: str
    clock: str | None
    page_size: int
    cpus: Mapping[int, Pages]
    stats: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatFile:
    """All that a trace.dat is made of; texts are those of tracefs, as they were read.

    :param formats: (system, text of one format file); those of the system ``ftrace`` go where trace-cmd has them
    :param long_size: bytes of the recorded kernel's long, 4 or 8
    :param cpu_count: cpus of the recorded machine; at least one more than the highest cpu with pages
    :param uname: sysname, nodename, release and machine of uname(2), with blanks between
    :param tgids: the text of ``saved_tgids``.  trace-cmd has no place for it: version 7 keeps it in a section
        that only taskscope looks for, version 6 does without
    :param recorder: what wrote the file; it begins with "taskscope"
    :param options: further options (id, data in the byte order of the file), such as DATE, OFFSET or TSC2NSEC
    """

    header_page: bytes
    header_event: bytes
    formats: Sequence[tuple[str, bytes]]
    kallsyms: bytes
    printk_formats: bytes
    cmdlines: bytes
    buffers: Sequence[DatBuffer]
    cpu_count: int
    long_size: int = 8
    big_endian: bool = False
    uname: str | None = None
    tgids: bytes = b""
    trace_id: int | None = None
    options: Sequence[tuple[int, bytes]] = ()
    recorder: str = RECORDER


class Out:
    """The file being written, with the numbers of its byte order."""

    def __init__(self, file: BinaryIO, big_endian: bool) -> None:
        self.file = file
        self.at = 0
        self._order = "big" if big_endian else "little"

    def n(self, size: int, value: int) -> bytes:
        """Return a number of `size` bytes."""
        return value.to_bytes(size, "big" if self._order == "big" else "little")

    def text4(self, text: bytes) -> bytes:
        """Return a text with 4 bytes of size in front."""
        return self.n(4, len(text)) + text

    def text8(self, text: bytes) -> bytes:
        """Return a text with 8 bytes of size in front."""
        return self.n(8, len(text)) + text

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self.file.write(data)
        self.at += len(data)

    def align(self, size: int) -> None:
        """Fill up with zeros to a multiple of `size`."""
        self.write(bytes(-self.at % size))

    def patch(self, at: int, data: bytes) -> None:
        """Write over what stands at `at`."""
        self.file.seek(at)
        self.file.write(data)
        self.file.seek(self.at)


class PageRun:
    """The whole pages of one cpu, given out in pieces."""

    def __init__(self, pages: Pages, page_size: int) -> None:
        self._pages = pages
        if not isinstance(pages, Path | bytes | bytearray | memoryview):
            size = pages.size
        elif isinstance(pages, Path):
            status = pages.stat()
            if not stat.S_ISREG(status.st_mode):
                raise TraceError("is no regular file, so its pages cannot be written; copy them into one", str(pages))
            size = status.st_size
        else:
            size = len(memoryview(pages).cast("B")) if len(pages) else 0
        #: bytes; what a page lacks at the end was being written when the recorder died
        self.size = size - size % page_size

    def pieces(self, step: int) -> Iterator[memoryview]:
        """Yield the pages in pieces of `step` bytes, the last one shorter.

        :raises TraceError: the file has become shorter since it was looked at
        """
        if not isinstance(self._pages, Path | bytes | bytearray | memoryview):
            yield from self._pages.pieces(step)
            return
        if not isinstance(self._pages, Path):
            view = memoryview(self._pages).cast("B") if self.size else memoryview(b"")
            for at in range(0, self.size, step):
                yield view[at:min(at + step, self.size)]
            return
        with self._pages.open("rb", buffering=0) as file:
            left = self.size
            room = memoryview(bytearray(min(step, left)))
            while left:
                want = room[:min(step, left)]
                got = 0
                while got < len(want):
                    n = file.readinto(want[got:])
                    if not n:
                        raise TraceError(f"has become shorter while it was read: {left - got:,} bytes are missing; "
                                         "let nobody write to it meanwhile", str(self._pages))
                    got += n
                yield want
                left -= got


class Meter:
    """Tells how many bytes of pages are written."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, size: int) -> None:
        """Count `size` more bytes."""
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)


def copy_plain(out: Out, run: PageRun, meter: Meter) -> None:
    """Append pages as they are."""
    for piece in run.pieces(_STEP):
        out.write(piece)
        meter.add(len(piece))


# ---- metadata --------------------------------------------------------------------------------------------

def head(out: Out, dat: DatFile, version: int) -> bytes:
    """Return the initial format: magic, version, byte order, size of long, size of pages."""
    return (MAGIC + str(version).encode() + b"\0" + bytes([dat.big_endian, dat.long_size])
            + out.n(4, dat.buffers[0].page_size))


def header_info(out: Out, dat: DatFile) -> bytes:
    """Return the texts of ``events/header_page`` and ``events/header_event``."""
    return b"header_page\0" + out.text8(dat.header_page) + b"header_event\0" + out.text8(dat.header_event)


def ftrace_formats(out: Out, dat: DatFile) -> bytes:
    """Return the formats of the system ``ftrace``."""
    texts = [text for system, text in dat.formats if system == "ftrace"]
    return out.n(4, len(texts)) + b"".join(map(out.text8, texts))


def event_formats(out: Out, dat: DatFile) -> bytes:
    """Return the formats of all other systems, each system once."""
    systems: dict[str, list[bytes]] = {}
    for system, text in dat.formats:
        if system != "ftrace":
            systems.setdefault(system, []).append(text)
    parts = [out.n(4, len(systems))]
    for system, texts in systems.items():
        parts += [os.fsencode(system), b"\0", out.n(4, len(texts)), *map(out.text8, texts)]
    return b"".join(parts)


def common_options(out: Out, dat: DatFile) -> list[tuple[int, bytes]]:
    """Return the options that both versions have, in trace-cmd's order."""
    options = []
    clock = dat.buffers[0].clock
    if clock is not None:
        options.append((Option.TRACECLOCK, clock_text(clock) + b"\0"))
    if dat.uname is not None:
        options.append((Option.UNAME, os.fsencode(dat.uname) + b"\0"))
    options.append((Option.VERSION, os.fsencode(dat.recorder) + b"\0"))
    if dat.trace_id is not None:
        options.append((Option.TRACEID, out.n(8, dat.trace_id)))
    for buffer in dat.buffers:
        if buffer.name and buffer.stats:
            options.append((Option.CPUSTAT, b"\nBuffer: " + os.fsencode(buffer.name) + b"\n\n\0"))
        options += [(Option.CPUSTAT, b"CPU: %d\n" % cpu + text.rstrip(b"\0") + b"\0")
                    for cpu, text in sorted(buffer.stats.items())]
    return [(int(number), data) for number, data in [*options, *dat.options]]


def option_list(out: Out, options: Sequence[tuple[int, bytes]]) -> bytes:
    """Return options one after the other, without the one that ends a list."""
    return b"".join(out.n(2, number) + out.n(4, len(data)) + data for number, data in options)


def clock_name(clock: str | None) -> str | None:
    """Return the name of a clock that is given by name or by the text of ``trace_clock``."""
    return None if clock is None else parse_clock(os.fsencode(clock))


def clock_text(clock: str) -> bytes:
    """Return a clock as the text of ``trace_clock`` has it, the one in use in brackets."""
    text = os.fsencode(clock).strip()
    return text if b"[" in text else b"[" + text + b"]"


# ---- what cannot be written ------------------------------------------------------------------------------

def check(dat: DatFile, path: str) -> None:
    """Refuse what no trace.dat can hold.

    :raises UsageError: naming what it is
    """
    def refuse(what: str) -> UsageError:
        return UsageError(f"{path}: {what}")

    if dat.long_size not in (4, 8):
        raise refuse(f"a kernel's long has 4 or 8 bytes, not {dat.long_size}")
    if not dat.buffers or dat.buffers[0].name:
        raise refuse('the first buffer of a trace.dat is the top-level one, whose name is ""')
    names = [b.name for b in dat.buffers]
    if len(set(names)) < len(names) or len(names) > BUFFERS_MAX:
        raise refuse(f"a trace.dat has at most {BUFFERS_MAX} buffers, each of another name")
    if not 0 < dat.cpu_count <= CPUS_MAX:
        raise refuse(f"a machine has 1 to {CPUS_MAX:,} cpus, not {dat.cpu_count:,}")
    for b in dat.buffers:
        if "\0" in b.name or len(os.fsencode(b.name)) >= NAME_MAX:
            raise refuse(f"{show(os.fsencode(b.name)[:64])!r} cannot be the name of a buffer")
        if not PAGE_MIN <= b.page_size <= PAGE_MAX or b.page_size % 8:
            raise refuse(f"pages of {b.page_size:,} bytes cannot be")
        if b.clock is not None and clock_name(b.clock) is None:
            raise refuse(f"{b.clock!r} names no clock")
        for cpu in b.cpus:
            if not 0 <= cpu < dat.cpu_count:
                raise refuse(f"there are pages of cpu {cpu}, but the number of cpus is said to be {dat.cpu_count}")
    for what, text, limit in (("header_page", dat.header_page, FORMAT_MAX),
                              ("header_event", dat.header_event, FORMAT_MAX), ("kallsyms", dat.kallsyms, TEXT_MAX),
                              ("the printk formats", dat.printk_formats, TEXT_MAX),
                              ("the saved command lines", dat.cmdlines, TEXT_MAX),
                              *(("a format", text, FORMAT_MAX) for _, text in dat.formats)):
        if len(text) > limit:
            raise refuse(f"{what} of {len(text):,} bytes cannot be; at most {limit:,} are read back")
