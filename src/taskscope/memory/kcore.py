"""The memory of the kernel that runs here out of /proc/kcore (fs/proc/kcore.c), read by drgn: `KcoreImage`."""

from __future__ import annotations

from os import PathLike
from typing import Final

from taskscope.errors import TraceError
from taskscope.memory.live import RunningImage
from taskscope.memory.program import new_program, read_memory, why

KCORE: Final = "/proc/kcore"


class KcoreImage(RunningImage):
    """See `taskscope.memory.live.open_live`.

    :param vmlinux: types out of its DWARF instead of the kernel's own
    :raises TraceError: it cannot be opened, or its memory is not that of the symbols
    :raises UsageError: drgn is not installed
    """

    def __init__(self, vmlinux: str | PathLike[str] | None = None) -> None:
        super().__init__(vmlinux)
        self.source = f"this kernel's memory ({KCORE})"
        self._program = new_program()
        try:
            self._program.set_core_dump(KCORE)
        except Exception as error:
            raise TraceError(f"cannot be opened ({why(error)})", KCORE) from None
        comm = self.types.member("task_struct", "comm")
        init_task = self.symbol("init_task")
        if comm is None or init_task is None or self.read(init_task + comm.offset, 7) != b"swapper":
            raise TraceError("the symbols do not lead to init_task in it (CONFIG_KALLSYMS_ALL?)", KCORE)

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`."""
        return read_memory(self._program, address, count)
