"""taskscope, a scope for Linux tasks.

The front door: `open` reads a recording, `record` makes one.  Everything is imported on first use, so that
``import taskscope`` is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.recording import Recording

__version__ = "0.1.0"
__all__ = ["__version__", "open", "record"]


def open(path: str | PathLike[str], *, buffer: str | None = None) -> Recording:  # noqa: A001
    """Read a recording: trace.dat, a folder of raw ring-buffer pages, or ftrace / perf script text.

    :param path: the file or folder
    :param buffer: read only the ring buffer (instance) of that name; "" is the top-level one
    :raises TraceError: the input is no recording, or too damaged to give any event
    """
    from taskscope.recording import Recording

    return Recording.open(path, buffer=buffer)


def record(
    command: Sequence[str] = (),
    output: str | PathLike[str] = "trace.dat",
    *,
    pids: Sequence[int] = (),
    children: bool = False,
    everything: bool = False,
    seconds: float | None = None,
    events: Sequence[str] = (),
    irq: bool = False,
    stacks: str = "rare",
    triggers: Sequence[str] = (),
    clock: str = "mono",
    buffer_kb: int | None = None,
) -> Recording:
    """Record a command and its descendants, processes, or everything on this machine, and open the recording.

    Returns when the command or the processes have ended, or `seconds` are over.  The command's exit status is in its
    life.  An output that is there is replaced if it is a recording.

    :param command: program and arguments; no shell is involved
    :param output: the trace.dat
    :param pids: processes to record, with their threads
    :param children: what these create too
    :param everything: all tasks; the default where there is neither command nor pids, which needs `seconds`
    :param seconds: end after so long
    :param events: instead of the default ones, as `taskscope record -e` takes them
    :param irq: interrupts and softirqs too
    :param stacks: call stacks of the ``rare`` events, of ``all`` or of ``none``
    :param triggers: as `taskscope record --trigger` takes them
    :param clock: the kernel's clock for the stamps
    :param buffer_kb: KiB of ring buffer a cpu
    :raises PermissionRefusedError: recording needs root
    :raises UsageError: the kernel has no such event, or the output is in the way
    :raises TaskscopeError: the command cannot be run, or the disk is full
    """
    from taskscope.recording import Recording

    return Recording.record(
        command, output, pids=pids, children=children, everything=everything, seconds=seconds, events=events, irq=irq,
        stacks=stacks, triggers=triggers, clock=clock, buffer_kb=buffer_kb)
