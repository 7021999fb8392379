"""What a recorder settles before it begins: clock, buffers, pages, symbols, and whether it may begin at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from taskscope.errors import PermissionRefusedError, TaskscopeError, UsageError
from taskscope.ftrace.record_end import quoted
from taskscope.ftrace.spool import is_running, read_info
from taskscope.ftrace.tracefs import Instance, KernelRefusedError


def in_the_way(folder: Path) -> TaskscopeError:
    """Return the error of a spool's folder that is there already, with what to do about it."""
    name = quoted(folder)
    info = read_info(folder) if folder.is_dir() else None
    if info is None:
        return UsageError(f"{folder} is in the way of the recording; move it, or record to another file: -o FILE")
    if is_running(folder, info):
        return UsageError(f"{folder}: a recording into it is running (pid {info.pid}); record to another file: -o FILE")
    return UsageError(f"{folder} holds a recording that was never finished; make the file of it first: "
                      f"taskscope record --recover {name} (or remove it: rm -r {name})")


def refuse_foreign_pids() -> None:
    """Refuse to filter by pid where pids are not those that the kernel records.

    :raises PermissionRefusedError: this process is in a pid namespace of its own
    """
    try:
        here = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  a text, not a path
    except OSError:
        return
    # PROC_PID_INIT_INO (include/linux/proc_ns.h): the namespace that the kernel's own pids are of.
    if here != "pid:[4026531836]":
        raise PermissionRefusedError("this is a pid namespace of its own (a container), and the kernel records other "
                                     "pids than those seen here; record everything with -a, or record on the host")


def set_clock(instance: Instance, clock: str) -> None:
    """Set the clock.

    :raises UsageError: the kernel has none of that name
    """
    try:
        instance.write("trace_clock", clock)
    except KernelRefusedError:
        has = instance.read("trace_clock").decode("ascii", "replace").replace("[", "").replace("]", "").split()
        raise UsageError(f"--clock {clock!r}: this kernel has the clocks {', '.join(has)}") from None


def set_buffer(instance: Instance, asked: int | None) -> None:
    """Set the size of the ring buffers.

    :param asked: KiB a cpu; None for 8 MiB, or less where memory is short
    :raises UsageError: it is more than this machine should give
    """
    cpus = max(len(instance.cpus()), 1)
    free = _available_kb()
    if asked is None:
        size = max(min(8192, free // 8 // cpus), 64)
    else:
        size = asked
        if size * cpus > free // 2:
            raise UsageError(f"--buffer: {size:,} KiB for each of {cpus} cpus are more than half of the {free:,} KiB "
                             f"of memory that are free; at most --buffer {max(free // 2 // cpus, 64)}K")
    try:
        instance.write("buffer_size_kb", str(size))
    except KernelRefusedError as e:
        raise UsageError(f"the kernel cannot make ring buffers of {size:,} KiB a cpu; ask for less: "
                         "--buffer 1M") from e


def _available_kb() -> int:
    try:
        m = re.search(rb"^MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_bytes(), re.MULTILINE)
    except OSError:
        m = None
    return int(m[1]) if m else 1 << 20


def page_size(instance: Instance, header: bytes) -> int:
    """Return the bytes of a sub-buffer, its header included (buffer_subbuf_size_kb since v6.8, else header_page)."""
    words = instance.read("buffer_subbuf_size_kb").split()
    if words and words[0].isdigit() and int(words[0]):
        return int(words[0]) * 1024
    m = re.search(rb"\bdata;\s*offset:(\d+);\s*size:(\d+);", header)
    return int(m[1]) + int(m[2]) if m else os.sysconf("SC_PAGESIZE")


def kallsyms(say: Callable[[str], None]) -> bytes:
    """Return /proc/kallsyms; b"" where it hides the addresses, which is said."""
    try:
        text = Path("/proc/kallsyms").read_bytes()
    except OSError:
        text = b""
    if not re.search(rb"^0*[1-9a-f]", text[:1 << 16], re.MULTILINE):
        say("the kernel hides the addresses of its functions (kptr_restrict): call stacks will show numbers, not "
            "names; sysctl kernel.kptr_restrict=1 shows them to root")
        return b""
    return text


def with_later_modules(before: bytes) -> bytes:
    """Return a table of symbols with those of modules that have been loaded since it was read.

    :param before: /proc/kallsyms as it was
    """
    try:
        loaded = {line.split(b" ")[0] for line in Path("/proc/modules").read_bytes().splitlines()}
    except OSError:
        return before
    known = modules_of(before)
    return before + symbols_of(Path("/proc/kallsyms").read_bytes(), loaded - known) if loaded - known else before


def modules_of(symbols: bytes) -> set[bytes]:
    """Return the modules that a table of symbols has."""
    return set(re.findall(rb"\t\[(\S+)\]$", symbols, re.MULTILINE))


def symbols_of(symbols: bytes, modules: set[bytes]) -> bytes:
    """Return the lines of a table of symbols that belong to some modules."""
    return b"".join(line for line in symbols.splitlines(keepends=True)
                    if line.rstrip().endswith(b"]") and line.rpartition(b"[")[2].rstrip()[:-1] in modules)
