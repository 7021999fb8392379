"""How the process keeps its memory: a command that reads a large recording allocates and frees large columns.

The C library gives such blocks back to the kernel at once, which then clears fresh pages for the next column: on
recordings of a gigabyte that took a third of the time.  Keeping the heap avoids it.
"""

from __future__ import annotations

from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8

#: inputs smaller than this are not worth it
_LARGE = 8 << 20


def keep_heap(path: str) -> None:
    """Tell malloc (glibc's mallopt(3)) to keep freed memory, if the recording at `path` is large; else do nothing."""
    try:
        if Path(path).stat().st_size < _LARGE:
            return
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # no such file (somebody else says so), or another C library
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    mallopt(_M_TOP_PAD, 64 << 20)
