"""Task descriptors in a kernel's memory, as labs look at them: `Look`, `looking`.

On a real kernel the program ``cast`` is up meanwhile, whose processes hold still in all the states that there are; in a
dump is who was there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.labs.real import Real
    from taskscope.memory.kernel import KernelMemory
    from taskscope.snapshot.detail import TaskDetail
    from taskscope.snapshot.snapshot import Snapshot, TaskRow


@dataclass(slots=True)
class Look:
    """The memory of one kernel.

    :param found: its tasks, with stacks
    :param cast: the pids of ``cast``, by name; none in a dump
    :param told: what /proc said at the same time; None of a dump
    """

    memory: KernelMemory
    found: Snapshot
    cast: dict[str, int]
    told: Snapshot | None

    @property
    def arch(self) -> str:
        """The architecture, as uname -m says it."""
        return self.memory.image.arch

    @property
    def rows(self) -> list[TaskRow]:
        """All tasks but the idle ones."""
        return [row for row in self.found.tasks if row.kind != "idle"]

    def row(self, pid: int) -> TaskRow:
        """Return the row of a task.

        :raises LookupError: there is none
        """
        for row in self.rows:
            if row.pid == pid:
                return row
        raise LookupError(pid)

    def of(self, name: str) -> TaskRow | None:
        """Return the row of one of the cast; None in a dump."""
        return self.row(self.cast[name]) if name in self.cast else None

    def proc(self, name: str) -> TaskRow | None:
        """Return what /proc said of one of the cast; None in a dump."""
        if self.told is None or name not in self.cast:
            return None
        return next((row for row in self.told.tasks if row.pid == self.cast[name]), None)

    def detail(self, pid: int) -> TaskDetail:
        """Return a task descriptor, member by member.

        :raises LookupError: there is no such task
        """
        from taskscope.snapshot.detail import detail_of

        for task in self.memory.tasks():
            if self.memory.number(task, "pid") == pid:
                return detail_of(self.memory, task)
        raise LookupError(pid)

    def again(self) -> None:
        """Look anew."""
        self.memory.forget()
        self.found = self.memory.snapshot(stacks=True)


@contextlib.contextmanager
def looking(machine: Real) -> Iterator[Look]:
    """Look at the memory of a real kernel, or of a dump.

    :raises UsageError: it cannot be read there
    """
    if machine.place == "dump":
        with machine.memory() as memory:
            yield Look(memory, memory.snapshot(stacks=True), {}, None)
        return
    # The memory first: where it cannot be read, nothing needs to be started.
    with machine.memory() as memory, machine.hold(machine.program("cast")) as text:
        words = [line.split() for line in text.splitlines()]
        cast = {word[0]: int(word[1]) for word in words if len(word) == 2 and word[1].isdigit()}
        memory.forget()
        found = memory.snapshot(stacks=True)
        yield Look(memory, found, cast, machine.proc())
