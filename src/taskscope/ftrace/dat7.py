"""trace.dat version 7: sections anywhere in the file, found through a chain of options sections.

Follows trace-cmd.dat.v7(5).  Where the chain is broken, options sections are also looked for one section
after the other, which is how trace-cmd writes them.  Descriptions of sections (the strings sections) carry
no meaning and are not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np

from taskscope.errors import TraceError
from taskscope.ftrace.blob import Blob
from taskscope.ftrace.compress import Codec, InflateError, codec, limit_for
from taskscope.ftrace.cpudata import BufferPlace, CpuPlace
from taskscope.ftrace.datcontents import Contents, Head
from taskscope.ftrace.options import RECORDER, TGIDS_SECTION, BufferEntry, Option, Options
from taskscope.ftrace.reader import Cursor, DamageError, Notes, show
from taskscope.ftrace.sections import (
    TRACE_TEXT_MAX,
    read_event_formats,
    read_ftrace_formats,
    read_header_info,
    read_text4,
    read_text8,
)

_HEADER = 16
_COMPRESSED = 1
_SECTIONS_MAX = 4096


def read_contents(blob: Blob, cursor: Cursor, head: Head, notes: Notes) -> Contents:
    """Read the metadata; `cursor` stands behind the page size.

    :raises TraceError: no options can be read, so nothing can be found
    """
    name = cursor.cstring(64, "the name of the compression").decode("ascii", "replace")
    cursor.cstring(64, "the version of the compression")
    first = cursor.u64("where the options begin")
    contents = Contents(Options(7, notes), notes)
    if codec(name, blob.path) is not None:
        contents.compression = name
        contents.make_codec = partial(codec, name, blob.path)
    _File(blob, head, contents).read(first, cursor.at)
    return contents


class _File:
    def __init__(self, blob: Blob, head: Head, contents: Contents) -> None:
        self.blob = blob
        self.head = head
        self.contents = contents
        self.notes = contents.notes
        self.options = contents.options
        self.codec: Codec | None = contents.make_codec()

    def read(self, first: int, scan_from: int) -> None:
        """Read all options, then the sections that they name."""
        self._read_options(first, scan_from)
        contents = self.contents
        parts: list[tuple[Option, str, Callable[[Cursor], None], str]] = [
            (Option.HEADER_INFO, "the page header information", self._header_info,
             "the usual layout of pages is taken"),
            (Option.FTRACE_EVENTS, "the formats of ftrace's own events",
             lambda c: read_ftrace_formats(c, contents.formats), "records of those missing are not decoded"),
            (Option.EVENT_FORMATS, "the event formats",
             lambda c: read_event_formats(c, contents.formats), "records of those missing are not decoded"),
            (Option.KALLSYMS, "kallsyms", self._kallsyms, "addresses have no names"),
            (Option.PRINTK, "the printk formats", self._printk, "trace_printk() texts are missing"),
            (Option.CMDLINES, "the saved command lines", self._cmdlines, "names of tasks are missing"),
        ]
        for id, what, part, consequence in parts:  # noqa: A001
            if id not in self.options.sections:
                continue
            try:
                part(self._section(id, self.options.sections[id], what))
            except DamageError as e:
                self.notes.damage(what, e, consequence)
        if (self.options.recorder or "").startswith(RECORDER):
            self._tgids(scan_from)
        for entry in self.options.buffers:
            try:
                self._buffer(entry)
            except DamageError as e:
                self.notes.damage(f"the buffer {show(entry.name)!r}", e, "it is left out")

    # ---- sections ----------------------------------------------------------------------------------------

    def _header(self, offset: int, what: str) -> tuple[int, int, int]:
        """Read a section header: id, flags, size of what follows."""
        cursor = Cursor(self.blob.view, self.blob.path, self.head.big_endian)
        cursor.seek(offset, what)
        id, flags = cursor.u16(f"the section of {what}"), cursor.u16(f"the section of {what}")  # noqa: A001
        cursor.u32(f"the section of {what}")
        return id, flags, cursor.u64(f"the section of {what}")

    def _section(self, id: int, offset: int, what: str) -> Cursor:
        """Open the body of a section, inflated if it is compressed.

        :raises DamageError: it is not there, is another section, or cannot be inflated
        """
        found, flags, size = self._header(offset, what)
        start = offset + _HEADER
        body = Cursor(self.blob.view[start:start + size], self.blob.path, self.head.big_endian, base=start)
        if found != id:
            raise Cursor(self.blob.view, self.blob.path, self.head.big_endian).fail(
                f"section {found} stands where {what} should", offset)
        return self._inflated(body, what) if flags & _COMPRESSED else body

    def _inflated(self, body: Cursor, what: str) -> Cursor:
        packed, size = body.u32(f"the compressed size of {what}"), body.u32(f"the size of {what}")
        if size > limit_for(packed):
            raise body.fail(f"{what} claims to inflate from {packed:,} to {size:,} bytes", 4)
        if self.codec is None:
            raise body.fail(f"{what} is compressed in a file that names no compression", 0)
        offset = body.offset
        source = body.take(packed, what)
        try:
            # np.empty: memory that damaged data never reach is never touched.
            target = np.empty(size, np.uint8).data
            self.codec.inflate_into(source, target)
        except InflateError as e:
            raise body.fail(f"{what} {e}", 8) from None
        except MemoryError:
            raise body.fail(f"{what} of {size:,} bytes does not fit into memory", 8) from None
        return Cursor(target, self.blob.path, self.head.big_endian, base=offset, inflated=True)

    def _header_info(self, cursor: Cursor) -> None:
        self.contents.header_page, self.contents.header_event = read_header_info(cursor)

    def _kallsyms(self, cursor: Cursor) -> None:
        self.contents.kallsyms = read_text4(cursor, "kallsyms")

    def _printk(self, cursor: Cursor) -> None:
        self.contents.printk_formats = read_text4(cursor, "the printk formats")

    def _cmdlines(self, cursor: Cursor) -> None:
        self.contents.cmdlines = read_text8(cursor, "the saved command lines")

    def _tgids(self, scan_from: int) -> None:
        for at in self._scan(scan_from, TGIDS_SECTION):
            try:
                text = read_text8(self._section(TGIDS_SECTION, at, "the thread groups"), "the thread groups")
            except DamageError as e:
                self.notes.damage("the list of thread groups", e,
                                  "those of tasks older than the recording are missing")
                return
            self.contents.tgids = text

    # ---- options -----------------------------------------------------------------------------------------

    def _read_options(self, first: int, scan_from: int) -> None:
        seen: set[int] = set()
        error: DamageError
        offset = first
        try:
            while offset:
                if offset in seen or len(seen) >= _SECTIONS_MAX:
                    raise Cursor(self.blob.view, self.blob.path, False).fail(
                        "the chain of options comes back to where it was", min(offset, len(self.blob.bytes)))
                seen.add(offset)
                offset = self._options_at(offset)
            return
        except DamageError as e:
            error = e
        before = len(self.options.buffers)
        for at in self._scan(scan_from):
            if at not in seen:
                seen.add(at)
                with contextlib.suppress(DamageError):
                    self._options_at(at)
        if not self.options.sections and not self.options.buffers:
            raise error
        if not self.options.buffers:
            raise TraceError(f"its list of buffers, which is written last, is not there ({error.reason}; the file "
                             f"has {len(self.blob.bytes):,} bytes), so its events cannot be told apart by cpu; "
                             "copy the whole file from where it was recorded, or record again",
                             self.blob.path, error.offset)
        found = len(self.options.buffers) - before
        self.notes.damage("the chain of options", error, f"{found} buffers were found behind the break" if found
                          else "options and buffers behind that are missing")

    def _options_at(self, offset: int) -> int:
        """Read one options section; return where the next is, 0 for none."""
        return self.options.read_list(self._section(Option.DONE, offset, "options"))

    def _scan(self, at: int, wanted: int = Option.DONE) -> list[int]:
        """List the sections of one kind, options by default, that are found by going from one section to the next."""
        found: list[int] = []
        try:
            for _ in range(_SECTIONS_MAX):
                id, _, size = self._header(at, "a section")  # noqa: A001
                if id == wanted and size:
                    found.append(at)
                at += _HEADER + size
        except DamageError:
            pass
        return found

    # ---- buffers -----------------------------------------------------------------------------------------

    def _buffer(self, entry: BufferEntry) -> None:
        name = show(entry.name)
        contents = self.contents
        if name in contents.texts or any(p.name == name for p in contents.places):
            raise Cursor(self.blob.view, self.blob.path, False).fail("another buffer has that name", 0)
        if entry.is_text:
            contents.texts[name] = self._text(entry)
            return
        compressed = contents.compression is not None
        if any(size for _, _, size in entry.rows):
            try:
                id, flags, _ = self._header(entry.offset, f"the buffer {name!r}")  # noqa: A001
                if id == Option.BUFFER:
                    compressed = bool(flags & _COMPRESSED)
                else:
                    self.notes.add(f"section {id} stands at byte {entry.offset:,}, where that of the buffer "
                                   f"{name!r} should: its cpus are read all the same")
            except DamageError as e:
                self.notes.damage(f"the section of the buffer {name!r}", e, "its cpus are read all the same")
        contents.places.append(BufferPlace(name, entry.page_size or 0, compressed,
                                           [CpuPlace(*row) for row in entry.rows], entry.clock))

    def _text(self, entry: BufferEntry) -> bytes:
        """Read the text of a latency tracer: chunks like those of pages if it is compressed."""
        what = f"the text of the buffer {show(entry.name)!r}"
        id, flags, size = self._header(entry.offset, what)  # noqa: A001
        start = entry.offset + _HEADER
        cursor = Cursor(self.blob.view[start:start + size], self.blob.path, self.head.big_endian, base=start)
        if id != Option.BUFFER_TEXT:
            raise cursor.fail(f"section {id} stands where {what} should", 0)
        if not flags & _COMPRESSED:
            size = self.blob.data_end(start, start + cursor.left) - start
            return bytes(cursor.take(min(size, TRACE_TEXT_MAX), what))
        text = bytearray()
        try:
            for _ in range(cursor.u32("the number of chunks")):
                if len(text) > limit_for(cursor.at):
                    raise cursor.fail(f"{what} inflates to more than {len(text):,} bytes")
                # A chunk has the two sizes of a compressed section in front.
                text += self._inflated(cursor, what).view
        except DamageError as e:
            if not text:
                raise
            self.notes.damage(what, e, "lines behind that are missing")
        return bytes(text)
