"""taskscope, a scope for Linux tasks.

The front door: `open` reads a recording, `boot` boots a machine of the executable kernel.  Everything is imported on first use, so that ``import taskscope`` is cheap.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.recording import Recording
    from taskscope.system import System

__version__ = "0.1.0"
__all__ = ["__version__", "boot", "open"]


def open(path: str | PathLike[str], *, buffer: str | None = None) -> Recording:  # noqa: A001
    """Read a recording: trace.dat, a folder of raw ring-buffer pages, or ftrace / perf script text.

    :param path: the file or folder
    :param buffer: read only the ring buffer (instance) of that name; "" is the top-level one
    :raises TraceError: the input is no recording, or too damaged to give any event
    """
    from taskscope.recording import Recording

    return Recording.open(path, buffer=buffer)


def boot(
    cpus: int = 2, flavour: str = "4.19-arm", hz: int | None = None, seed: int = 0, mem: int = 1 << 30, bare: bool = False,
) -> System:
    """Boot a machine of the executable kernel, up to the point where its init waits for something to do.

    :param cpus: number of virtual CPUs, 1 to 64
    :param flavour: which kernel: ``4.19-arm``, ``6.1-x86_64``, ``6.18-x86_64``
    :param hz: timer ticks a second; the flavour's own by default
    :param seed: 0 schedules in the usual way; another number draws where several ways are right.  Same seed, same run
    :param mem: bytes of memory
    :param bare: make no kernel threads but kthreadd and those that CPUs need
    :raises UsageError: no such flavour, or a number out of range
    """
    from taskscope.system import boot as boot_

    return boot_(cpus, flavour, hz, seed, mem, bare)
