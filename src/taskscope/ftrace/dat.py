"""trace.dat, the file of trace-cmd: what versions 6 and 7 share, and the way from a file to a `Recorded`.

Follows trace-cmd.dat.v6(5), trace-cmd.dat.v7(5) and trace-cmd's lib/trace-cmd/trace-input.c (3.4).  The
parts of a version are in `dat6` and `dat7`.  A file that is cut or damaged gives what can be read of it and
a note on the rest; only a file from which no event can be had is an error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taskscope.errors import TraceError
from taskscope.ftrace import dat6, dat7
from taskscope.ftrace.blob import Blob
from taskscope.ftrace.cpudata import PAGE_MAX, PAGE_MIN, BufferPlace, gather
from taskscope.ftrace.datcontents import Contents, Head
from taskscope.ftrace.pages import MISSED_EVENTS, MISSED_STORED, PageLayout, parse_header_page
from taskscope.ftrace.reader import Cursor, Notes, show
from taskscope.ftrace.recorded import Buffer, Recorded
from taskscope.ftrace.saved import parse_cmdlines, parse_cpustat, parse_tgids

MAGIC = b"\x17\x08\x44tracing"


def read_dat(path: str, blob: Blob | None = None) -> Recorded:
    """Read a trace.dat.

    :param path: the file, ``-`` for the standard input
    :param blob: its bytes if they are at hand; `path` then only names them
    :raises TraceError: it is no trace.dat, or so damaged that no event can be had from it
    """
    if blob is None:
        with Blob.open(path) as opened:
            opened.load()
            return _read(opened)
    return _read(blob)


def _read(blob: Blob) -> Recorded:
    notes = Notes()
    cursor, head = read_head(blob)
    contents = (dat6 if head.version < 7 else dat7).read_contents(blob, cursor, head, notes)
    layout, long_size = _page_layout(contents, head)
    for place in contents.places:
        _check_page_size(place, head, layout, notes)
    # A recording of instances alone keeps an entry without cpus for the top-level buffer.
    contents.places = [p for p in contents.places if p.page_size and (p.cpus or len(contents.places) == 1)]
    if not contents.places and not contents.texts:
        raise TraceError("names no buffer that could be read, so there are no events (cut short, or damaged); "
                         "copy the file again from where it was recorded, or record again", blob.path)

    def mark_missed(data: npt.NDArray[np.uint8], page: int) -> None:
        _mark_missed(data, page, layout, head.big_endian)

    data, buffers = gather(blob, head.big_endian, contents.places, contents.make_codec, mark_missed, notes)
    cpus = [c for b in buffers for c in b.cpus]
    if any(c.missing for c in cpus) and not any(c.size for c in cpus) and not contents.texts:
        raise TraceError(f"has no events left ({notes[-1]}); copy the file again from where it was "
                         "recorded, or record again", blob.path)
    _add_stats(buffers, contents.options.cpustat)
    return _recorded(blob, head, contents, long_size, data, buffers)


def read_head(blob: Blob) -> tuple[Cursor, Head]:
    """Read the initial format; the cursor returned stands behind the page size.

    :raises TraceError: the file is no trace.dat, is cut short here, or has a version that is not known
    """
    view, path = blob.view, blob.path
    if view[:len(MAGIC)] != MAGIC[:len(view)]:
        raise TraceError("is no trace.dat, which begins with 17 08 44 and tracing; give a file that "
                         "`trace-cmd record` wrote", path, 0)
    probe = Cursor(view, path, False)
    probe.take(len(MAGIC), "the magic number")
    text = probe.cstring(16, "the version")
    if text not in (b"6", b"7"):
        raise TraceError(f"is a trace.dat of version {show(text)!r}; versions 6 and 7 can be read: convert "
                         "it with `trace-cmd convert --file-version 7`", path, len(MAGIC))
    endian = probe.u8("the byte order")
    long_size = probe.u8("the size of long")
    if endian > 1 or long_size not in (4, 8):
        raise probe.fail(f"byte order {endian} and a long of {long_size} bytes cannot be", probe.at - 2)
    cursor = Cursor(view, path, bool(endian))
    cursor.seek(probe.at, "the page size")
    return cursor, Head(int(text), bool(endian), long_size, cursor.u32("the page size"))


def _page_layout(contents: Contents, head: Head) -> tuple[PageLayout, int]:
    """Return the layout of the pages and the size of the kernel's long, which the commit word has.

    The size in the initial format is that of the recorder's own long, 4 for a 32-bit trace-cmd on a 64-bit
    kernel.
    """
    try:
        layout = parse_header_page(contents.header_page, head.long_size)
    except ValueError as e:
        contents.notes.add(f"header_page cannot be understood ({e}): the usual layout of pages is taken")
        contents.header_page = b""
        layout = parse_header_page(b"", head.long_size)
    return layout, layout.commit_size


def _check_page_size(place: BufferPlace, head: Head, layout: PageLayout, notes: Notes) -> None:
    """Set ``page_size`` to 0 where neither the buffer nor the file names a possible one."""
    def possible(size: int) -> bool:
        return PAGE_MIN <= size <= PAGE_MAX and size % 8 == 0 and size > layout.data

    if possible(place.page_size):
        return
    which = f"the buffer {place.name!r}" if place.name else "the buffer"
    if possible(head.page_size):
        notes.add(f"{which} claims pages of {place.page_size:,} bytes, which cannot be: those of the file, "
                  f"{head.page_size:,} bytes, are taken")
        place.page_size = head.page_size
    else:
        notes.add(f"{which} claims pages of {place.page_size:,} bytes, which cannot be: it is left out")
        place.page_size = 0


def _mark_missed(data: npt.NDArray[np.uint8], page: int, layout: PageLayout, big_endian: bool) -> None:
    """Set RB_MISSED_EVENTS in the commit word of a page; how many are missed is not known, so no count is."""
    at = page + layout.commit + (layout.commit_size - 4 if big_endian else 0)
    word = data[at:at + 4].view(">u4" if big_endian else "<u4")
    word[0] = (int(word[0]) | MISSED_EVENTS) & ~MISSED_STORED


def _add_stats(buffers: list[Buffer], cpustat: bytes) -> None:
    stats = {show(s.name): s.cpus for s in parse_cpustat(cpustat)}
    for buffer in buffers:
        for pages in buffer.cpus:
            s = stats.get(buffer.name, {}).get(pages.cpu)
            if s is not None:
                pages.overrun, pages.dropped = s.overrun, s.dropped


def note_clocks(buffers: list[Buffer], clock: str | None, notes: Notes) -> None:
    """Note that buffers have another clock than the recording as a whole."""
    others = sorted({b.clock for b in buffers if b.clock and b.clock != clock})
    if others:
        notes.add(f"its buffers have different clocks ({clock}, {', '.join(others)}): time stamps of different "
                  "buffers cannot be compared")


def _recorded(blob: Blob, head: Head, contents: Contents, long_size: int, data: npt.NDArray[np.uint8],
              buffers: list[Buffer]) -> Recorded:
    options, notes = contents.options, contents.notes
    comms, bad = parse_cmdlines(contents.cmdlines)
    if bad:
        notes.add(f"{bad:,} lines of the saved command lines are none: they are left out")
    if not contents.formats:
        notes.add("no event formats could be read: events have neither names nor fields")
    # As trace-cmd writes it: sysname, nodename, release and machine of uname(2).
    words = (options.uname or "").split(" ")
    release, machine = (words[-2], words[-1]) if len(words) >= 4 else (None, None)
    top = next((b.clock for b in buffers if b.name == "" and b.clock), None)
    clock = top or contents.clock or options.clock or next((b.clock for b in buffers if b.clock), None)
    note_clocks(buffers, clock, notes)
    compression = f" ({contents.compression})" if contents.compression else ""
    return Recorded(
        path=blob.path, container=f"trace.dat v{head.version}{compression}", data=data,
        big_endian=head.big_endian, long_size=long_size,
        header_page=contents.header_page, header_event=contents.header_event, formats=contents.formats,
        buffers=buffers, kallsyms=contents.kallsyms, printk_formats=contents.printk_formats, cmdlines=comms,
        tgids=parse_tgids(contents.tgids)[0], clock=clock, uname=options.uname, release=release, machine=machine,
        cpu_count=contents.cpu_count or options.cpu_count, trace_id=options.trace_id,
        ts_offset=options.ts_offset, tsc=options.tsc, texts=contents.texts, notes=list(notes))
