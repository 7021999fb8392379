"""Kdump-compressed files as drgn (libkdumpfile) can read them: in one piece, in order, with a header that is filled in.

What reads these files maps them, and a process that touches a map beyond the file's end is killed: one that was cut
short must be noticed before.  Layout as makedumpfile writes it (its diskdump_mod.h, 1.7): header, sub-header, two
bitmaps of pages, a descriptor for each page, the pages.  A flattened file is a list of pieces with their places in one.

QEMU's dump-guest-memory (kdump-zlib; seen in 7.2) writes flattened files that name no kernel in struct new_utsname, by
which they would be known.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from taskscope.errors import TraceError

#: a flattened file: what it begins with, how long its header is, and a piece's place and length (at the end -1, -1)
FLAT: Final = b"makedumpfile"
_FLAT_HEADER: Final = 4096
_PIECE: Final = struct.Struct(">qq")
#: struct new_utsname in the header, and the length of each of its six strings
_UTSNAME: Final = 12
_UTS: Final = 65
_BLOCKS: Final = (4096, 8192, 16384, 65536)
#: where block_size stands: behind a struct timeval of 64 or of 32 bits
_PLACES: Final = (428, 416)
_DESCRIPTOR: Final = struct.Struct("<qIIQ")
#: no dump has so many pages of descriptors that more would be meant
_MOST: Final = 1 << 32
#: no file is so long
_FAR: Final = 1 << 46


def needed(path: str, name: str) -> int:
    """Return how many bytes the whole file has.

    :param path: where it is
    :param name: what it is called in messages
    :raises TraceError: it is cut short before its last descriptor, or its header makes no sense
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(4096)
        for at in _PLACES:
            if len(head) < at + 16:
                raise TraceError("is cut short in its header; copy the dump again from where it was made", name, size)
            block, sub, bitmaps, pages = struct.unpack_from("<iiII", head, at)
            if block in _BLOCKS:
                break
        else:
            raise TraceError("has a damaged header (no size of its blocks); copy it again from where it was made",
                             name, _PLACES[0])
        start = block * (1 + sub)
        length = block * bitmaps
        if sub < 0 or not 0 < length < _MOST or pages > length * 8:
            raise TraceError("has a damaged header (its bitmaps); copy it again from where it was made", name, at)
        if start + length > size:
            raise TraceError("is cut short in its bitmaps; copy the dump again from where it was made", name, size)
        file.seek(start + length // 2)
        count = int.from_bytes(file.read(length // 2), "little").bit_count()
        file.seek(start + length)
        raw = file.read(count * _DESCRIPTOR.size)
        if len(raw) < count * _DESCRIPTOR.size:
            raise TraceError("is cut short in the list of its pages; copy the dump again from where it was made",
                             name, size)
        return max((offset + length for offset, length, _, _ in _DESCRIPTOR.iter_unpack(raw)), default=0)


@contextlib.contextmanager
def whole(name: str) -> Iterator[tuple[str, str]]:
    """Give a path at which a dump can be read without danger, and what is wrong with it, "" if nothing is.

    Of one that is cut short, flattened or unnamed it is that of a copy, with zeros for what is missing: what is there
    can be read.

    :param name: a kdump-compressed file, or anything that is flattened
    """
    with contextlib.ExitStack() as stack:
        path, wrong = name, ""
        with Path(name).open("rb") as file:
            head = file.read(4096)
        if head.startswith(FLAT):
            path, wrong = stack.enter_context(_copied(name, _arrange))
            with Path(path).open("rb") as file:
                head = file.read(4096)
        if head.startswith(b"\x7fELF"):
            yield path, wrong
            return
        try:
            end, size = needed(path, name), Path(path).stat().st_size
        except TraceError:
            if wrong:
                raise TraceError(wrong, name) from None
            raise
        if end > size + _MOST:
            raise TraceError("has a damaged list of its pages; copy it again from where it was made", name)
        unnamed = not any(head[_UTSNAME : _UTSNAME + _UTS])
        if path == name and (end > size or unnamed):
            path, _ = stack.enter_context(_copied(name, _copy))
        if end > size:
            os.truncate(path, end)
            wrong = (f"is cut short: {end - size:,} of {end:,} bytes are missing; copy it again from where it was "
                     "made")
        if unnamed:
            _name(path)
        yield path, wrong


@contextlib.contextmanager
def _copied(name: str, how: Callable[[str, str], str]) -> Iterator[tuple[str, str]]:
    """Give the path of a copy, and what is wrong with it."""
    with tempfile.NamedTemporaryFile(prefix="taskscope-") as copy:
        try:
            wrong = how(name, copy.name)
        except OSError as error:
            raise TraceError(f"is read by way of a copy, for which {tempfile.gettempdir()} has no room "
                             f"({error.strerror}); name another folder, TMPDIR=…, or let QEMU make an ELF dump",
                             name) from None
        yield copy.name, wrong


def _copy(name: str, path: str) -> str:
    shutil.copyfile(name, path)
    return ""


def _arrange(name: str, path: str) -> str:
    """Write the pieces of a flattened file to their places."""
    with Path(name).open("rb") as file, Path(path).open("wb") as copy:
        file.seek(_FLAT_HEADER)
        while len(raw := file.read(_PIECE.size)) == _PIECE.size:
            at, size = _PIECE.unpack(raw)
            if (at, size) == (-1, -1):
                return ""
            if not 0 <= at < _FAR or not 0 <= size < _FAR:
                raise TraceError("has a damaged list of its pieces; copy it again from where it was made", name,
                                 file.tell() - _PIECE.size)
            copy.seek(at)
            while size and (data := file.read(min(size, 1 << 20))):
                copy.write(data)
                size -= len(data)
            if size:
                break
    return "is cut short: its last pieces are missing; copy it again from where it was made"


def _name(path: str) -> None:
    """Fill in struct new_utsname of a copy's header with what VMCOREINFO says."""
    with Path(path).open("r+b") as file:
        found = re.search(rb"\nOSRELEASE=([!-~]{1,64})\n", file.read(1 << 16))
        for n, text in enumerate((b"Linux", b"guest", found[1] if found else b"0.0.0", b"#1")):
            file.seek(_UTSNAME + n * _UTS)
            file.write(text)
