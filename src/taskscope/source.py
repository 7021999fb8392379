"""Where tasks are looked at: `Source` names /proc or a crash dump, and opens it.

Stands at the front door because it joins rooms that may not know each other: procfs, memory and the decoder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory
    from taskscope.snapshot.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """A crash dump, and what its own memory may lack; or /proc, if none is named."""

    core: str | PathLike[str] | None = None
    btf: str | PathLike[str] | None = None        # types
    symbols: str | PathLike[str] | None = None    # a System.map
    proc: str | PathLike[str] = "/proc"

    @property
    def name(self) -> str:
        """What it is, for people."""
        return str(self.proc if self.core is None else self.core)

    @property
    def is_memory(self) -> bool:
        """Whether kernel memory is looked at."""
        return self.core is not None

    def memory(self) -> KernelMemory:
        """Open the kernel's memory.

        :raises TraceError: it cannot be read
        :raises UsageError: drgn is not installed
        """
        from taskscope.memory.core import open_core
        from taskscope.memory.kernel import KernelMemory

        assert self.core is not None, "/proc is no memory"
        return KernelMemory(open_core(self.core, btf=self.btf, symbols=self.symbols))

    def snapshot(
        self, *, stacks: bool = False, fields: Collection[str] | None = None, threads: bool = True,
        pids: Iterable[int] = (), names: bool = False,
    ) -> Snapshot:
        """Read all tasks, threads and idle ones too.

        :param stacks: fill `TaskRow.kernel_stack`
        :param fields: of /proc: the fields of `TaskRow` that are wanted; all but the dear ones by default
        :param threads: of /proc: threads that lead no group too
        :param pids: of /proc: these processes only
        :param names: of /proc: names of users and groups
        :raises TraceError: it cannot be read
        """
        if self.is_memory:
            return self.memory().snapshot(stacks=stacks)
        from taskscope.procfs.snapshot import EVERYTHING, snapshot

        wanted = EVERYTHING if fields is None else frozenset(fields)
        return snapshot(self.proc, fields=wanted | ({"kernel_stack"} if stacks else frozenset()), threads=threads,
                        pids=pids, names=names)
