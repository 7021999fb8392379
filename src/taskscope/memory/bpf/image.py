"""The memory of the kernel that runs here, read through BPF: `BpfImage`.

Neither /proc/kcore nor the names of data in /proc/kallsyms are needed: init_task is found as the parent of kthreadd,
which the kernel's iterator over tasks shows.
"""

from __future__ import annotations

import mmap
import os
import struct
from functools import cached_property
from importlib import resources
from os import PathLike
from typing import Final

from taskscope.errors import TraceError
from taskscope.memory.bpf import syscall
from taskscope.memory.bpf.object import BpfObject
from taskscope.memory.image import FaultError
from taskscope.memory.live import SOURCE, RunningImage

#: BLOCK of read.bpf.c
_BLOCK: Final = 1 << 16
_ORDER: Final = struct.Struct("<QIi")
#: pid of kthreadd, whose parent is init_task
_KTHREADD: Final = 2


class BpfImage(RunningImage):
    """The memory of the kernel that runs here, read through BPF; made by `open_live`.

    :param vmlinux: types out of its DWARF instead of the kernel's own
    :raises PermissionRefusedError: this user may not, or the kernel is locked down
    :raises TraceError: the kernel cannot do it
    """

    def __init__(self, vmlinux: str | PathLike[str] | None = None) -> None:
        super().__init__(vmlinux)
        self.source = SOURCE
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

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        found = super().symbol(name)
        return self.init_task if name == "init_task" and found is None else found

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

    def close(self) -> None:
        """See `Image.close`: the program and the map are given back."""
        if not self._closed:
            self._closed = True
            self._block.close()
            os.close(self._program)
            os.close(self._array)


def _object(name: str) -> bytes:
    return resources.files("taskscope.memory.bpf").joinpath(f"{name}.bpf.o").read_bytes()
