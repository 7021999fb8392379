"""Where task descriptors are looked at: `Source` names a crash dump, and opens it.

Stands at the front door because it joins rooms that may not know each other: memory and the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory
    from taskscope.snapshot.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """A crash dump, and what its own memory may lack."""

    core: str | PathLike[str]
    btf: str | PathLike[str] | None = None        # types
    symbols: str | PathLike[str] | None = None    # a System.map

    def memory(self) -> KernelMemory:
        """Open the kernel's memory.

        :raises TraceError: it cannot be read
        :raises UsageError: drgn is not installed
        """
        from taskscope.memory.core import open_core
        from taskscope.memory.kernel import KernelMemory

        return KernelMemory(open_core(self.core, btf=self.btf, symbols=self.symbols))

    def snapshot(self, *, stacks: bool = False) -> Snapshot:
        """Read all tasks, threads and idle ones too.

        :param stacks: fill `TaskRow.kernel_stack`
        :raises TraceError: it cannot be read
        """
        return self.memory().snapshot(stacks=stacks)
