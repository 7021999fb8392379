"""How long a kdump-compressed file must be, so that one that was cut short is noticed before it is read.

What reads these files maps them, and a process that touches a map beyond the file's end is killed.  Layout as
makedumpfile writes it (its diskdump_mod.h, 1.7): header, sub-header, two bitmaps of pages, a descriptor for each page,
the pages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskscope.errors import TraceError

_BLOCKS: Final = (4096, 8192, 16384, 65536)
#: where block_size stands: behind a struct timeval of 64 or of 32 bits
_PLACES: Final = (428, 416)
_DESCRIPTOR: Final = struct.Struct("<qIIQ")
#: no dump has so many pages of descriptors that more would be meant
_MOST: Final = 1 << 32


def needed(name: str) -> int:
    """Return how many bytes the whole file has.

    :raises TraceError: it is cut short before its last descriptor, or its header makes no sense
    """
    with Path(name).open("rb") as file:
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

    Of one that is cut short a copy that has zeros for what is missing: what is there can be read.
    """
    end, size = needed(name), Path(name).stat().st_size
    if end <= size:
        yield name, ""
        return
    if end > size + _MOST:
        raise TraceError("has a damaged list of its pages; copy it again from where it was made", name)
    with tempfile.NamedTemporaryFile(prefix="taskscope-") as copy:
        with Path(name).open("rb") as file:
            shutil.copyfileobj(file, copy, 1 << 20)
        copy.truncate(end)
        copy.flush()
        yield copy.name, (f"is cut short: {end - size:,} of {end:,} bytes are missing; copy it again from where it "
                          "was made")
