"""taskscope, a scope for Linux tasks.

The front door: `open` reads a recording, `record` makes one, `boot` boots a machine of the executable kernel, and
`snapshot` reads the tasks of this machine or of a crash dump.
Everything is imported on first use, so that ``import taskscope`` is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

# The first import of a package binds its name here: `snapshot` below must come after it, once and for all.
import taskscope.snapshot  # noqa: F401

if TYPE_CHECKING:
    from taskscope.recording import Recording
    from taskscope.snapshot.snapshot import Snapshot
    from taskscope.system import System

__version__ = "0.1.0"
__all__ = ["__version__", "boot", "open", "record", "snapshot"]


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


def boot(
    cpus: int = 2,
    flavour: str = "4.19-arm",
    hz: int | None = None,
    seed: int = 0,
    mem: int = 1 << 30,
    bare: bool = False,
    preempt: str | None = None,
    threadirqs: bool = False,
    schedule: str = "",
) -> System:
    """Boot a machine of the executable kernel, up to the point where its init waits for something to do.

    :param cpus: number of virtual CPUs, 1 to 64
    :param flavour: which kernel: ``4.19-arm``, ``6.1-x86_64``, ``6.18-x86_64``
    :param hz: timer ticks a second; the flavour's own by default
    :param seed: 0 schedules in the usual way; another number draws where several ways are right.  Same seed, same run
    :param mem: bytes of memory
    :param bare: make no kernel threads but kthreadd and those that CPUs need
    :param preempt: the preemption model, ``none``, ``voluntary`` or ``full``, on kernels that can choose (since v5.12);
        4.19-arm is built with full
    :param threadirqs: let threads handle the interrupts of devices, and ksoftirqd softirqs
    :param schedule: ``seed:N`` (as `seed`), ``pct:DEPTH[:SEED]``, or ``file:PATH``: repeat the run of a recording
    :raises UsageError: no such flavour or schedule, or a number out of range
    :raises ScheduleError: the file has no choice log
    """
    from taskscope.machine_boot import boot as boot_

    return boot_(cpus, flavour, hz, seed, mem, bare, preempt, threadirqs, schedule)


def snapshot(
    core: str | PathLike[str] | None = None, *, guest: str | PathLike[str] | None = None, live: bool = False,
    btf: str | PathLike[str] | None = None, symbols: str | PathLike[str] | None = None,
    vmlinux: str | PathLike[str] | None = None, pause: bool = False,
    stacks: bool = False, names: bool = False,
) -> Snapshot:
    """Read the tasks of this machine out of /proc or out of its memory, or those of a crash dump or a QEMU guest.

    :param core: an ELF vmcore, or a kdump-compressed file; no debug package is needed where the kernel carries its
        types and symbols
    :param guest: the QMP socket of a QEMU on this host
    :param live: this kernel's memory, for root; it is only read
    :param btf: a file of raw BTF, where the kernel has none
    :param symbols: a System.map, where the kernel has no symbols of its data
    :param vmlinux: types and symbols out of its DWARF instead, of the kernel's debug package
    :param pause: stop the guest meanwhile
    :param stacks: kernel stacks too: of this machine for root; out of memory for anyone who may read that
    :param names: names of users and groups too, out of /proc
    :raises TraceError: it cannot be read, or needs `btf` or `symbols`, or `vmlinux` is of another kernel
    :raises UsageError: drgn is not installed
    """
    from taskscope.source import Source

    source = Source(core=core, guest=guest, live=live, btf=btf, symbols=symbols, vmlinux=vmlinux, pause=pause)
    return source.snapshot(stacks=stacks, names=names)
