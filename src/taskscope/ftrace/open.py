"""From a path to a `Source`: what an input is, told by its content and never by its name.

A folder is raw pages; a file is a trace.dat, text, or one of these in xz.  Anything else is refused with
the command that turns it into something to read, where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from taskscope.errors import TraceError, UsageError
from taskscope.ftrace.blob import Blob
from taskscope.ftrace.compress import inflate_xz
from taskscope.ftrace.recorded import Recorded
from taskscope.trace.source import Source

_XZ = b"\xfd7zXZ\0"

#: magic numbers of what people try: what it is, and what to do
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"PERFILE2", "a perf.data", "run `perf script -i {path} > trace.txt` and give trace.txt"),
    (b"2ELIFREP", "a perf.data", "run `perf script -i {path} > trace.txt` and give trace.txt"),
    (b"\x7fELF", "an ELF file (a program or a core)", "give a recording: trace.dat, raw pages or text"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it: `gunzip -k {path}`"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it: `unzstd {path}`"),
    (b"BZh", "compressed by bzip2", "unpack it: `bunzip2 -k {path}`"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it: `unlz4 {path}`"),
    (b"PK\x03\x04", "a zip archive", "unpack it: `unzip {path}`"),
    (b"KDUMP   ", "a crash dump", "give a recording: trace.dat, raw pages or text"),
    (b"\xc1\x1f\xfc\xc1", "a CTF stream", "give a recording of ftrace, not of LTTng"),
    (b"\xc1\xfc\x1f\xc1", "a CTF stream", "give a recording of ftrace, not of LTTng"),
)


def open_source(path: str, buffer: str | None = None) -> Source:
    """Read a recording of any kind.

    :param path: file or folder; ``-`` is the standard input
    :param buffer: read only the ring buffer (instance) of that name; "" is the top-level one
    :raises TraceError: the input is no recording, or nothing can be read of it
    :raises PermissionRefusedError: the system refuses to open it
    :raises UsageError: the recording has no buffer of that name
    """
    with Blob.open(path) as blob:
        if blob.is_folder:
            if path == "-":
                raise TraceError("standard input is a folder; name the folder itself", path)
            from taskscope.ftrace.rawdir import read_rawdir

            return _ring(read_rawdir(path), buffer)
        return _open_bytes(blob, buffer)


def _open_bytes(blob: Blob, buffer: str | None) -> Source:
    from taskscope.ftrace.dat import MAGIC

    notes: list[str] = []
    inside = ""
    if blob.head.startswith(_XZ):
        blob.load()
        content, problem = inflate_xz(blob.view, blob.path)
        blob.replace(content)
        inside = "xz"
        if problem:
            notes.append(f"{problem}: what is there is read")
    head = blob.head
    if head.startswith(MAGIC):
        from taskscope.ftrace.dat import read_dat

        blob.load()
        recorded = read_dat(blob.path, blob)
        recorded.notes[:0] = notes
        if inside:
            recorded.container += f" in {inside}"
        if recorded.texts and not recorded.buffers:
            return _text_of(recorded, buffer)
        recorded.notes += [f"the buffer {name!r} was recorded as text: it is left "
                           "out" for name in recorded.texts]
        return _ring(recorded, buffer)
    _refuse_others(head, blob.path, inside)
    if buffer:
        raise _no_buffer(blob.path, buffer, [""])
    if blob.in_memory:
        blob.load()
        return _open_text(blob.path, blob.bytes.tobytes(), notes)
    return _open_text(blob.path, None, notes)


def _refuse_others(head: bytes, path: str, inside: str) -> None:
    """Raise the error for everything that is neither trace.dat nor text."""
    from taskscope.ftrace.dat import MAGIC

    if not head:
        raise TraceError("is empty; record again, or check that the recorder could write its file", path)
    if MAGIC.startswith(head[:len(MAGIC)]):
        raise TraceError(f"is cut short: a trace.dat begins like this, but there are only {len(head)} bytes; "
                         "copy the file again from where it was recorded", path, len(head))
    if head.startswith(_XZ):
        raise TraceError("is compressed by xz twice; unpack it: `unxz`", path)
    shown = path if path != "-" else "FILE"
    for magic, what, remedy in _OTHERS:
        if head.startswith(magic) and not inside:
            raise TraceError(f"is {what}, not a recording of ftrace; {remedy.format(path=shown)}", path)
    # Text has no NUL; a comm cannot hold one.
    if b"\0" in head:
        begins = "zeros" if not any(head) else f"the bytes {head[:8].hex(' ')}"
        raise TraceError(f"is no recording: it begins with {begins}, as neither a trace.dat nor text does; give a "
                         "recording (raw pages of a cpu, trace_pipe_raw, as a folder together with their header_page "
                         "and formats)", path, 0)


def _ring(recorded: Recorded, buffer: str | None) -> Source:
    from taskscope.ftrace.ring import RingSource

    if buffer is not None and buffer not in (names := [b.name for b in recorded.buffers]):
        raise _no_buffer(recorded.path, buffer, names)
    return RingSource(recorded, buffer)


def _text_of(recorded: Recorded, buffer: str | None) -> Source:
    """Open a trace.dat that a latency tracer wrote: it holds the text of ``trace`` instead of pages."""
    if buffer is not None and buffer not in recorded.texts:
        raise _no_buffer(recorded.path, buffer, recorded.texts)
    name = buffer if buffer is not None else next(iter(recorded.texts))
    notes = [*recorded.notes, *(f"the buffer {n!r} is not read" for n in recorded.texts if n != name)]
    source = _open_text(recorded.path, recorded.texts[name], notes)
    source.container = f"{recorded.container}, text"
    return source


def _open_text(path: str, content: bytes | None, notes: list[str]) -> Source:
    from taskscope.ftrace.text import open_text

    source = open_text(path) if content is None else open_text(path, content)
    if notes:
        source.notes = (*notes, *source.notes)
    return source


def _no_buffer(path: str, buffer: str, names: Iterable[str]) -> UsageError:
    shown = ", ".join(repr(n) for n in names) or "none"
    return UsageError(f"{os.fspath(path)} has no buffer {buffer!r}; it has {shown}")
