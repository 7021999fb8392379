"""The kernel that runs here as an `Image`: its memory is read through BPF, its types are those of /sys/kernel/btf.

    with open_live() as image:
        tasks = KernelMemory(image).snapshot().tasks

It is only read.  /proc/kcore is not needed, nor the names of data in /proc/kallsyms: init_task is found as the parent
of kthreadd, which the kernel's iterator over tasks shows.  While a task is looked at it may go; see
`taskscope.memory.kernel.KernelMemory.snapshot`.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Final, Self

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.memory.bpf import syscall
from taskscope.memory.bpf.object import BpfObject
from taskscope.memory.btf import Btf
from taskscope.memory.image import FaultError, Symbol
from taskscope.memory.symbols import SystemMap
from taskscope.memory.types import Types

SOURCE: Final = "this kernel's memory"
_BTF: Final = "/sys/kernel/btf/vmlinux"
#: BLOCK of read.bpf.c
_BLOCK: Final = 1 << 16
_ORDER: Final = struct.Struct("<QIi")
#: pid of kthreadd, whose parent is init_task
_KTHREADD: Final = 2


class LiveImage:
    """The memory of the kernel that runs here; a context manager; made by `open_live`."""

    moving = True

    def __init__(self) -> None:
        uname = os.uname()
        self.arch, self.release = uname.machine, uname.release
        self.source = SOURCE
        self.wrong = ""
        self.btf = _types()
        self.types: Types = self.btf
        self._array = syscall.create_array(_BLOCK)
        try:
            program = BpfObject.read(_object("read"), "syscall", "read.bpf.o").linked(self._array)
            self._program = syscall.load(syscall.SYSCALL, program, b"taskscope_read")
        except TraceError:
            os.close(self._array)
            raise
        self._run = syscall.Run(self._program, _ORDER.size)
        self._block = mmap.mmap(self._array, _BLOCK, mmap.MAP_SHARED, mmap.PROT_READ)
        self._closed = False

    @property
    def now(self) -> int:
        """The ns of the kernel's monotonic clock."""
        return time.monotonic_ns()

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`."""
        if self._closed:
            raise TraceError("has been closed; open it again", SOURCE)
        parts = []
        left = count
        while left > 0:
            size = min(left, _BLOCK)
            try:
                _ORDER.pack_into(self._run.context, 0, address, size, 0)
            except struct.error:
                raise FaultError(address, count, "no address") from None
            self._run()
            if _ORDER.unpack_from(self._run.context)[2]:
                raise FaultError(address, size, "not mapped")
            parts.append(self._block[:size])
            address, left = address + size, left - size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @cached_property
    def _symbols(self) -> SystemMap:
        # Lines of modules have a fourth word; their functions can be on stacks too.
        text = Path("/proc/kallsyms").read_bytes()
        if not text.strip(b"0 \n").strip() or text.startswith(b"0" * 16 + b" "):
            raise PermissionRefusedError("its symbols are hidden (kernel.kptr_restrict): sysctl kernel.kptr_restrict=1",
                                         "/proc/kallsyms")
        return SystemMap(text, "/proc/kallsyms")

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        found = self._symbols.symbol(name)
        return self.init_task if name == "init_task" and found is None else found

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        return self._symbols.symbol_at(address)

    @cached_property
    def init_task(self) -> int | None:
        """The address of init_task, which is the parent of kthreadd; None if that is not found."""
        pid, parent = self.types.member("task_struct", "pid"), self.types.member("task_struct", "real_parent")
        if pid is None or parent is None:
            return None
        for task in self.tasks():
            try:
                if int.from_bytes(self.read(task + pid.offset, pid.size), "little") == _KTHREADD:
                    return int.from_bytes(self.read(task + parent.offset, parent.size), "little")
            except FaultError:
                continue
        return None

    def tasks(self) -> list[int]:
        """Return the addresses of the tasks, threads too, that the kernel's iterator shows.

        :raises TraceError: the kernel has no such iterator, or refuses it
        """
        of = self.btf.function("bpf_iter_task")
        if of is None:
            raise TraceError("this kernel has no iterator over tasks: it needs Linux 5.8", SOURCE)
        code = BpfObject.read(_object("tasks"), "iter/task", "tasks.bpf.o").linked()
        program = syscall.load(syscall.TRACING, code, b"taskscope_tasks", of=of)
        try:
            data = syscall.iterate(program)
        finally:
            os.close(program)
        return list(struct.unpack(f"<{len(data) // 8}Q", data))

    def cpus(self) -> list[int]:
        """Return the numbers of the CPUs that are online."""
        found: list[int] = []
        for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
        return found

    def close(self) -> None:
        """Give the program and the map back; the second time does nothing."""
        if not self._closed:
            self._closed = True
            self._block.close()
            os.close(self._program)
            os.close(self._array)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_live() -> LiveImage:
    """Open the memory of the kernel that runs here.

    :raises PermissionRefusedError: this user may not, or the kernel is locked down
    :raises TraceError: the kernel cannot do it
    """
    image = LiveImage()
    try:
        if image.symbol("init_task") is None:
            raise TraceError("init_task is not found: the iterator shows no kthreadd (a PID namespace of its own?); "
                             "look at the host itself", SOURCE)
    except TraceError:
        image.close()
        raise
    return image


def _types() -> Btf:
    try:
        return Btf(Path(_BTF).read_bytes(), _BTF)
    except FileNotFoundError:
        raise TraceError("is not there: this kernel carries no types (CONFIG_DEBUG_INFO_BTF)", _BTF) from None
    except PermissionError:
        raise PermissionRefusedError("may not be read; run it as root: sudo taskscope …", _BTF) from None


def _object(name: str) -> bytes:
    return resources.files("taskscope.memory.bpf").joinpath(f"{name}.bpf.o").read_bytes()
