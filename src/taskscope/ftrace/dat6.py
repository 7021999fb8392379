"""trace.dat version 6: one fixed order, with the places of the cpus' pages at the end of the metadata.

Follows trace-cmd.dat.v6(5); buffers (instances) as init_data_v6() and tracecmd_buffer_instance_handle() in
trace-cmd's lib/trace-cmd/trace-input.c (3.4) read them.  Nothing in this order says where the next part
begins, so behind a damaged part the reader looks for the marks ``options``, ``latency`` and ``flyrecord``.
"""

from __future__ import annotations

from collections.abc import Callable

from taskscope.errors import TraceError
from taskscope.ftrace.blob import Blob
from taskscope.ftrace.cpudata import BufferPlace, CpuPlace
from taskscope.ftrace.datcontents import Contents, Head
from taskscope.ftrace.options import CPUS_MAX, BufferEntry, Options
from taskscope.ftrace.reader import Cursor, DamageError, Notes, show
from taskscope.ftrace.saved import parse_clock
from taskscope.ftrace.sections import (
    TRACE_TEXT_MAX,
    read_event_formats,
    read_ftrace_formats,
    read_header_info,
    read_text4,
    read_text8,
)

OPTIONS, LATENCY, FLYRECORD = b"options  \0", b"latency  \0", b"flyrecord\0"
#: metadata are searched this far for a mark
_SEARCH = 96 << 20


def read_contents(blob: Blob, cursor: Cursor, head: Head, notes: Notes) -> Contents:
    """Read the metadata; `cursor` stands behind the page size.

    :raises TraceError: neither pages nor text can be found
    """
    contents = Contents(Options(6, notes), notes)
    _read_metadata(cursor, contents)
    options = contents.options
    tag = bytes(cursor.take(10, "the kind of the data"))
    if tag == OPTIONS:
        try:
            options.read_list(cursor)
        except DamageError as e:
            notes.damage("the list of options", e, "options behind that are missing")
            _find_mark(cursor, (LATENCY, FLYRECORD), 0)
        tag = bytes(cursor.take(10, "the kind of the data"))
    if tag == LATENCY:
        # Text to the end of the file, as the kernel's `trace` showed it.
        size = blob.data_end(cursor.offset, cursor.offset + cursor.left) - cursor.offset
        contents.texts[""] = bytes(cursor.take(min(size, TRACE_TEXT_MAX), "the text of the trace"))
        return contents
    if tag != FLYRECORD:
        raise TraceError(f"holds neither pages nor text: {show(tag)!r} stands where their kind should; copy "
                         "the file again from where it was recorded", blob.path, cursor.offset - 10)
    count = options.cpu_count or contents.cpu_count or 0
    place, contents.clock = _read_table(cursor, count, options, head, "", notes)
    contents.places.append(place)
    for entry in options.buffers:
        try:
            _read_instance(blob, entry, contents, head)
        except DamageError as e:
            notes.damage(f"the buffer {show(entry.name)!r}", e, "it is left out")
    if not any(c.size for c in place.cpus) and len(contents.places) > 1:
        # A recording of instances alone keeps an empty table for the top-level buffer.
        contents.places.remove(place)
    return contents


def _read_metadata(cursor: Cursor, contents: Contents) -> None:
    notes = contents.notes

    def header_info() -> None:
        contents.header_page, contents.header_event = read_header_info(cursor)

    def kallsyms() -> None:
        contents.kallsyms = read_text4(cursor, "kallsyms")

    def printk() -> None:
        contents.printk_formats = read_text4(cursor, "the printk formats")

    def cmdlines() -> None:
        contents.cmdlines = read_text8(cursor, "the saved command lines")

    def cpus() -> None:
        contents.cpu_count = _checked_count(cursor)
        if bytes(cursor.view[cursor.at:cursor.at + 10]) not in (OPTIONS, LATENCY, FLYRECORD):
            raise cursor.fail("the kind of the data should stand here")

    parts: list[tuple[str, Callable[[], None]]] = [
        ("the page header information", header_info),
        ("the formats of ftrace's own events", lambda: read_ftrace_formats(cursor, contents.formats)),
        ("the event formats", lambda: read_event_formats(cursor, contents.formats)),
        ("kallsyms", kallsyms),
        ("the printk formats", printk),
        ("the saved command lines", cmdlines),
        ("the number of cpus", cpus),
    ]
    for name, part in parts:
        start = cursor.at
        try:
            part()
        except DamageError as e:
            try:
                _find_mark(cursor, (OPTIONS, LATENCY, FLYRECORD), start)
                cursor.seek(cursor.at - 4, "the number of cpus")
                contents.cpu_count = _checked_count(cursor)
            except DamageError:
                raise e from None
            notes.damage(name, e, "it and what the file holds between it and the list of cpus is missing")
            return


def _checked_count(cursor: Cursor) -> int:
    count = cursor.u32("the number of cpus")
    if not 0 < count <= CPUS_MAX:
        raise cursor.fail(f"the number of cpus is {count:,}", cursor.at - 4)
    return count


def _find_mark(cursor: Cursor, marks: tuple[bytes, ...], start: int) -> None:
    """Put the cursor onto the first of the marks from `start` on.

    :raises DamageError: there is none
    """
    end = min(cursor.end, start + _SEARCH)
    overlap = max(map(len, marks))
    for at in range(start, end, 1 << 20):
        window = bytes(cursor.view[at:min(at + (1 << 20) + overlap, end)])
        found = [window.find(m) for m in marks]
        if any(f >= 0 for f in found):
            cursor.seek(at + min(f for f in found if f >= 0), "the data")
            return
    raise cursor.fail("no data of cpus follow")


def _read_table(cursor: Cursor, count: int, options: Options, head: Head, name: str,
                notes: Notes) -> tuple[BufferPlace, str | None]:
    """Read where the pages of each cpu lie, and the clock behind, which a TRACECLOCK option announces."""
    place = BufferPlace(name, head.page_size, False, [])
    for cpu in range(count):
        # Their data follow, so a list that is cut short is one of cpus without data.
        place.cpus.append(CpuPlace(cpu, cursor.u64(f"the place of cpu {cpu}"),
                                   cursor.u64(f"the size of cpu {cpu}")))
    if options.has_clock:
        try:
            place.clock = parse_clock(read_text8(cursor, "the clock"))
        except DamageError as e:
            # trace-cmd takes "local" too where early versions of it left this damaged.
            notes.damage("the clock", e, "local is taken")
            place.clock = "local"
    return place, place.clock


def _read_instance(blob: Blob, entry: BufferEntry, contents: Contents, head: Head) -> None:
    options = contents.options
    name = show(entry.name)
    if not entry.offset or not name:
        return                         # the top-level buffer, or one that was never written
    cursor = Cursor(blob.view, blob.path, head.big_endian)
    cursor.seek(entry.offset, f"the buffer {name!r}")
    tag = bytes(cursor.take(10, "the kind of the data"))
    if tag == OPTIONS:
        Options(6, Notes()).read_list(cursor)
        tag = bytes(cursor.take(10, "the kind of the data"))
    if tag != FLYRECORD:
        raise cursor.fail("no list of cpus stands here", cursor.at - 10)
    count = entry.cpu_count or contents.cpu_count or 0
    place, _ = _read_table(cursor, count, options, head, name, contents.notes)
    if any(p.name == name for p in contents.places):
        raise cursor.fail("another buffer has that name")
    contents.places.append(place)
