"""Who holds what a task waits for: `Owners`.

A task that waits for a mutex or a rw_semaphore has a waiter on its own stack, which is linked into the lock's list; the
lock says who has it.  Follows kernel/locking/mutex.c and rwsem.c, Linux 5.3 to 6.18; what does not fit is None.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

from taskscope.memory.image import FaultError
from taskscope.memory.structs import Struct
from taskscope.memory.walks import Walks

#: kind -> the waiter, the lock
_STRUCTS: Final = {"mutex": ("mutex_waiter", "mutex"), "rwsem": ("rwsem_waiter", "rw_semaphore")}
#: the lowest bits of an owner are flags: of a mutex three, of a rw_semaphore two
_FLAGS: Final = {"mutex": 7, "rwsem": 3}
#: RWSEM_READER_OWNED: the owner is just one of several readers
_READERS: Final = 1
#: no lock has so many waiters that more would be meant
_MOST: Final = 1 << 16


class Owners:
    """Looks for the holders of locks, and for vfork children."""

    def __init__(self, memory: Walks, thread_size: int) -> None:
        self._memory = memory
        self._size = thread_size

    def of(self, task: Struct, kind: str) -> int | None:
        """Return the pid of who a task waits for; None if it is not found.

        :param kind: as `taskscope.snapshot.waits.kind_of_wait` has it
        """
        if kind == "vfork child":
            return self._vforked(task)
        if kind in _STRUCTS:
            return self._holder(task, kind)
        return None

    def _vforked(self, task: Struct) -> int | None:
        """Return the child whose vfork_done is on the task's stack."""
        stack = self._memory.number(task, "stack") or 0
        for child in self._memory.children(task):
            done = self._memory.number(child, "vfork_done") or 0
            if stack <= done < stack + self._size:
                return self._memory.number(child, "pid")
        return None

    def _holder(self, task: Struct, kind: str) -> int | None:
        memory = self._memory
        waiter, lock = _STRUCTS[kind]
        owned, listed = memory.types.member(waiter, "task"), memory.types.member(waiter, "list")
        waiting, owner = memory.types.member(lock, "wait_list"), memory.types.member(lock, "owner")
        stack = memory.number(task, "stack")
        if owned is None or listed is None or waiting is None or owner is None or not stack:
            return None
        word = memory.types.word
        try:
            data = memory.image.read(stack, self._size)
        except FaultError:
            return None
        mine = task.address.to_bytes(word, "little")
        at = data.find(mine)
        while at >= 0:
            node = stack + at - owned.offset + listed.offset
            head = self._head(node) if at % word == 0 else None
            found = None if head is None else self._owner(head - waiting.offset + owner.offset, kind)
            if found is not None:
                return found
            at = data.find(mine, at + 1)
        return None

    def _head(self, node: int) -> int | None:
        """Go along a list from a waiter to its head: the one node that is on no task's stack."""
        memory, word = self._memory, self._memory.types.word
        at = node
        for _ in range(_MOST):
            try:
                following = memory.word(at)
                if following == node or memory.word(following + word) != at:
                    return None
            except FaultError:
                return None
            at = following
            # Stacks are aligned to their size.
            if at & -self._size not in self._stacks:
                return at
        return None

    def _owner(self, at: int, kind: str) -> int | None:
        try:
            value = self._memory.word(at)
        except FaultError:
            return None
        if kind == "rwsem" and value & _READERS:
            return None
        return self._pids.get(value & ~_FLAGS[kind])

    @cached_property
    def _stacks(self) -> set[int]:
        return {self._memory.number(task, "stack") or 0 for task in self._memory.numbered()}

    @cached_property
    def _pids(self) -> dict[int, int]:
        return {task.address: self._memory.number(task, "pid") or 0 for task in self._memory.numbered()}
