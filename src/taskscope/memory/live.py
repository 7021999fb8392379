"""The kernel that runs here as an `Image`: out of /proc/kcore (kcore.py), else through BPF (bpf/image.py).

    with open_live() as image:
        tasks = KernelMemory(image).snapshot().tasks

It is only read.  While a task is looked at it may go; see `taskscope.memory.kernel.KernelMemory.snapshot`.
"""

from __future__ import annotations

import os
import re
import struct
import time
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Final

from taskscope.errors import PermissionRefusedError, TraceError, UsageError
from taskscope.memory.btf import Btf
from taskscope.memory.dwarf import Dwarf, load_vmlinux
from taskscope.memory.image import Clock, Image, Symbol
from taskscope.memory.symbols import SystemMap
from taskscope.memory.types import Types

SOURCE: Final = "this kernel's memory"
_BTF: Final = "/sys/kernel/btf/vmlinux"
#: elf.h
_NT_GNU_BUILD_ID: Final = 3


class RunningImage(Image):
    """What all ways to the kernel that runs here have in common.

    :param vmlinux: types out of its DWARF instead of the kernel's own
    """

    def __init__(self, vmlinux: str | PathLike[str] | None) -> None:
        uname = os.uname()
        self.arch, self.release = uname.machine, uname.release
        self.types: Types = self.btf if vmlinux is None else \
            Dwarf(load_vmlinux(None, vmlinux, _build_id(), SOURCE), os.fspath(vmlinux))

    @cached_property
    def btf(self) -> Btf:
        """The kernel's own types."""
        return _types()

    @property
    def moving(self) -> bool:
        """See `Image.moving`."""
        return True

    def clock(self) -> Clock:
        """See `Image.clock`."""
        now = time.monotonic_ns()
        slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() > 1
        return Clock(now, None if slept else (time.time_ns() - now) // 1_000_000_000)

    def cpus(self) -> list[int]:
        """See `Image.cpus`."""
        found: list[int] = []
        for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
        return found

    @cached_property
    def _symbols(self) -> SystemMap:
        # Lines of modules have a fourth word; their functions can be on stacks too.
        text = Path("/proc/kallsyms").read_bytes()
        # Up to v6.14 per-cpu variables of x86-64 come first, and begin at 0 indeed.
        if re.search(rb"^0*[1-9a-f]", text, re.MULTILINE) is None:
            raise PermissionRefusedError("its symbols are hidden (kernel.kptr_restrict): sysctl kernel.kptr_restrict=1",
                                         "/proc/kallsyms")
        return SystemMap(text, "/proc/kallsyms", ordered=True)

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self._symbols.symbol(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        return self._symbols.symbol_at(address)


def open_live(*, vmlinux: str | PathLike[str] | None = None) -> RunningImage:
    """Open the memory of the kernel that runs here: /proc/kcore where it can be read, else through BPF.

    :param vmlinux: types out of its DWARF instead of the kernel's own
    :raises PermissionRefusedError: this user may not, or the kernel is locked down
    :raises TraceError: the kernel cannot do it, or `vmlinux` is of another one
    """
    from taskscope.memory.bpf.image import BpfImage
    from taskscope.memory.kcore import KCORE, KcoreImage

    refused = ""
    if os.access(KCORE, os.R_OK):
        # What it cannot give, BPF may: a kernel that is locked down, a taskscope without drgn.
        try:
            return KcoreImage(vmlinux)
        except (TraceError, UsageError) as error:
            refused = str(error)
    try:
        image = BpfImage(vmlinux)
    except TraceError as error:
        if not refused or refused == str(error):
            raise
        raise type(error)(f"{error}; and {refused}") from None
    try:
        if image.symbol("init_task") is None:
            raise TraceError("init_task is not found: the iterator shows no kthreadd (a PID namespace of its own?); "
                             "look at the host itself", SOURCE)
    except TraceError:
        image.close()
        raise
    return image


def _build_id() -> bytes | None:
    """Return the build ID of this kernel out of /sys/kernel/notes: struct elf32_note, name and descriptor in turns."""
    try:
        data = Path("/sys/kernel/notes").read_bytes()
    except OSError:
        return None
    at = 0
    while at + 12 <= len(data):
        name, size, kind = struct.unpack_from("<III", data, at)
        begin = at + 12 + (name + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and data[at + 12 : at + 12 + name] == b"GNU\0":
            return data[begin : begin + size]
        at = begin + (size + 3 & ~3)
    return None


def _types() -> Btf:
    try:
        return Btf(Path(_BTF).read_bytes(), _BTF)
    except FileNotFoundError:
        raise TraceError("is not there: this kernel carries no types (CONFIG_DEBUG_INFO_BTF)", _BTF) from None
    except PermissionError:
        raise PermissionRefusedError("may not be read; run it as root: sudo taskscope …", _BTF) from None
