"""Where tasks are looked at: `Source` names /proc, this kernel's memory, a crash dump or a QEMU guest, and opens it.

Stands at the front door because it joins rooms that may not know each other: procfs, memory and the decoder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from taskscope.memory.image import Image
    from taskscope.memory.kernel import KernelMemory
    from taskscope.snapshot.detail import TaskDetail
    from taskscope.snapshot.snapshot import Snapshot


#: fields that are read of every task anyway
_SHOWN: Final = frozenset({
    "ppid", "kind", "cpu", "prio", "nice", "pgid", "sid", "tty", "tpgid", "uid", "rss_kib", "size_kib", "wchan",
    "start_time", "sum_exec_runtime", "cputime", "forked", "args", "locked_kib"})


class Details(NamedTuple):
    """Task descriptors, member by member.

    :param arch: whose flags they bear, as uname -m says it
    :param wounds: what was damaged on the way to them
    """

    tasks: list[TaskDetail]
    arch: str
    wounds: list[str]


@dataclass(frozen=True, slots=True)
class Source:
    """One place where tasks are: what is named first here that is named; /proc if nothing is."""

    core: str | PathLike[str] | None = None       # a crash dump
    guest: str | PathLike[str] | None = None      # the QMP socket of a QEMU
    live: bool = False                            # this kernel's memory
    btf: str | PathLike[str] | None = None        # types, where the dump's or the guest's memory has none
    symbols: str | PathLike[str] | None = None    # a System.map, in the same way
    vmlinux: str | PathLike[str] | None = None    # types and symbols out of its DWARF instead
    pause: bool = False                           # stop the guest meanwhile
    proc: str | PathLike[str] = "/proc"

    @property
    def name(self) -> str:
        """What it is, for people."""
        named = self.core or self.guest or ("this kernel's memory" if self.live else self.proc)
        return fspath(named)

    @property
    def is_memory(self) -> bool:
        """Whether kernel memory is looked at."""
        return self.core is not None or self.guest is not None or self.live

    @contextmanager
    def memory(self) -> Iterator[KernelMemory]:
        """Open the kernel's memory; what was opened is closed again behind it.

        :raises TraceError: it cannot be read
        :raises PermissionRefusedError: this user may not
        :raises UsageError: drgn is not installed (dumps, guests)
        """
        from taskscope.memory.kernel import KernelMemory

        with self._image() as image:
            yield KernelMemory(image)

    def _image(self) -> Image:
        if self.core is not None:
            from taskscope.memory.core import open_core

            return open_core(self.core, btf=self.btf, symbols=self.symbols, vmlinux=self.vmlinux)
        if self.guest is not None:
            from taskscope.memory.guest import open_guest

            return open_guest(self.guest, btf=self.btf, symbols=self.symbols, vmlinux=self.vmlinux, pause=self.pause)
        assert self.live, "/proc is no memory"
        from taskscope.memory.live import open_live

        return open_live(vmlinux=self.vmlinux)

    def details(self, task: str, *, every: bool = False) -> Details:
        """Read the descriptors that a pid or a name means; none if there is no such task.

        :param every: with all members that there are, where kernel memory is looked at
        :raises TraceError: it cannot be read
        """
        if not self.is_memory:
            import os

            from taskscope.procfs.detail import details

            return Details(details(task, self.proc), os.uname().machine, [])
        from taskscope.snapshot.detail import detail_of

        with self.memory() as memory:
            number, text = memory.number, memory.text
            found = [detail_of(memory, one, every=every) for one in memory.tasks()
                     if task in (str(number(one, "pid")), text(one, "comm"))]
            return Details(found, memory.image.arch, memory.wounds)

    def snapshot(
        self, *, stacks: bool = False, fields: Collection[str] | None = None, threads: bool = True,
        pids: Iterable[int] = (), names: bool = False, cpus: int = 1,
    ) -> Snapshot:
        """Read all tasks, threads and idle ones too.

        :param stacks: fill `TaskRow.kernel_stack`
        :param fields: those of `TaskRow` that are wanted; by default all, of /proc all but the dear ones
        :param threads: of /proc: threads that lead no group too
        :param pids: of /proc: these processes only
        :param names: of /proc: names of users and groups
        :param cpus: of /proc: how many may be used
        :raises TraceError: it cannot be read
        """
        if self.is_memory:
            with self.memory() as memory:
                # What ps shows is a third of the work of all that there is.
                full = fields is None or bool(set(fields) - _SHOWN)
                return memory.snapshot(stacks=stacks, full=full, wchan=fields is None or "wchan" in fields)
        from taskscope.procfs.snapshot import EVERYTHING, snapshot

        wanted = EVERYTHING if fields is None else frozenset(fields)
        return snapshot(self.proc, fields=wanted | ({"kernel_stack"} if stacks else frozenset()), threads=threads,
                        pids=pids, names=names, cpus=cpus)
