"""The bodies of trace.dat's metadata, which both versions share: headers, formats, symbols, command lines.

Follows trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5).  Each function reads one body from a cursor; sizes and
counts are held against what a kernel can have, so that a damaged one is an error at once and never a long
loop.
"""

from __future__ import annotations

from taskscope.ftrace.reader import Cursor, show

#: a format file of the kernel has at most a few KiB; print formats with long tables of names reach 20
FORMAT_MAX = 1 << 20
#: kallsyms of a large kernel with all its modules has 20 MB
TEXT_MAX = 64 << 20
#: the text of a latency tracer's whole buffer
TRACE_TEXT_MAX = 1 << 30
SYSTEMS_MAX = 10_000
EVENTS_MAX = 200_000

Formats = list[tuple[str, bytes]]


def read_header_info(cursor: Cursor) -> tuple[bytes, bytes]:
    """Read the texts of ``events/header_page`` and ``events/header_event``.

    :raises DamageError: the section is cut short or is something else
    """
    texts = []
    for tag in (b"header_page", b"header_event"):
        at = cursor.at
        if cursor.take(len(tag) + 1, "the page header information") != tag + b"\0":
            raise cursor.fail(f"the name {tag.decode()} does not stand here", at)
        texts.append(_text(cursor, cursor.u64(f"the size of {tag.decode()}"), FORMAT_MAX, tag.decode()))
    return texts[0], texts[1]


def read_ftrace_formats(cursor: Cursor, formats: Formats) -> None:
    """Append the format files of the ftrace system to `formats`.

    :raises DamageError: they cannot all be read; those before the damage are appended
    """
    count = _count(cursor, EVENTS_MAX, "the number of ftrace events")
    _read_system(cursor, "ftrace", count, formats)


def read_event_formats(cursor: Cursor, formats: Formats) -> None:
    """Append the format files of all other systems to `formats`.

    :raises DamageError: they cannot all be read; those before the damage are appended
    """
    for _ in range(_count(cursor, SYSTEMS_MAX, "the number of event systems")):
        system = show(cursor.cstring(256, "the name of an event system"))
        count = _count(cursor, EVENTS_MAX, f"the number of events of {system}")
        _read_system(cursor, system, count, formats)


def _read_system(cursor: Cursor, system: str, count: int, formats: Formats) -> None:
    for k in range(count):
        what = f"format {k + 1} of {count} of the system {system}"
        size = cursor.u64(f"the size of {what}")
        formats.append((system, _text(cursor, size, FORMAT_MAX, what)))
        if len(formats) > EVENTS_MAX:
            raise cursor.fail(f"more than {EVENTS_MAX:,} event formats")


def read_text4(cursor: Cursor, what: str) -> bytes:
    """Read a text with 4 bytes of size in front (kallsyms, printk formats).

    :raises DamageError: it is cut short
    """
    return _text(cursor, cursor.u32(f"the size of {what}"), TEXT_MAX, what)


def read_text8(cursor: Cursor, what: str) -> bytes:
    """Read a text with 8 bytes of size in front (saved command lines).

    :raises DamageError: it is cut short
    """
    return _text(cursor, cursor.u64(f"the size of {what}"), TEXT_MAX, what)


def _count(cursor: Cursor, limit: int, what: str) -> int:
    at = cursor.at
    count = cursor.u32(what)
    if count > limit:
        raise cursor.fail(f"{what} is {count:,}", at)
    return count


def _text(cursor: Cursor, size: int, limit: int, what: str) -> bytes:
    if size > limit:
        raise cursor.fail(f"{what} claims {size:,} bytes")
    return bytes(cursor.take(size, what))
