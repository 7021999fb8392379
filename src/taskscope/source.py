"""Where the tasks of one moment are looked at: `Source` names one, `Source.snapshot` reads it.

Stands at the front door because it joins rooms that may not know each other: procfs, memory, lives and the decoder.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.snapshot.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """What to look at: the first that is set of `recording`, `core`, `guest`, `live`; else /proc."""

    recording: str | PathLike[str] | None = None
    at: int | None = None                         # ns of the recording's clock; its end by default
    core: str | PathLike[str] | None = None
    guest: str | PathLike[str] | None = None      # a QMP socket
    pause: bool = False                           # stop the guest while it is read
    live: bool = False
    btf: str | PathLike[str] | None = None        # types, where the memory has none
    symbols: str | PathLike[str] | None = None    # a System.map
    vmlinux: str | PathLike[str] | None = None    # DWARF

    @property
    def kind(self) -> str:
        """Return recording, core, guest, live or proc."""
        for name in ("recording", "core", "guest", "live"):
            if getattr(self, name):
                return name
        return "proc"

    def snapshot(
        self, *, columns: Collection[str] | None = None, threads: bool = True, stacks: bool = False
    ) -> Snapshot:
        """Read the tasks.

        :param columns: the fields of `TaskRow` that are wanted, where leaving some out is quicker; all by default
        :param threads: the threads that lead no group too
        :param stacks: fill `TaskRow.kernel_stack`
        :raises TraceError: the source cannot be read
        :raises PermissionRefusedError: it needs privileges
        """
        raise UsageError(f"{self.kind}: columns {columns}, threads {threads}, stacks {stacks}: cannot be read yet")
