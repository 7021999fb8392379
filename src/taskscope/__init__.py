"""taskscope, a scope for Linux tasks.

The front door: `open` reads a recording.  Everything is imported on first use, so that ``import taskscope`` is cheap.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.recording import Recording

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(path: str | PathLike[str], *, buffer: str | None = None) -> Recording:  # noqa: A001
    """Read a recording: trace.dat, a folder of raw ring-buffer pages, or ftrace / perf script text.

    :param path: the file or folder
    :param buffer: read only the ring buffer (instance) of that name; "" is the top-level one
    :raises TraceError: the input is no recording, or too damaged to give any event
    """
    from taskscope.recording import Recording

    return Recording.open(path, buffer=buffer)
