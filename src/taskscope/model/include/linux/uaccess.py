"""Memory of user space, as far as a system call needs it: include/linux/uaccess.h, v4.19.

A user pointer is an object with ``put`` and ``get``; 0 (or None) is NULL, and any other integer is an address where
nothing is mapped.  `Cell` is a variable on the caller's stack, for results of one call.  `Word` is an address in the
memory that ``mm`` describes: tasks with one mm see one value, and a copied mm has its own from then on.  Buffers of
read() and write() are bytes.
"""

from __future__ import annotations

from errno import EFAULT
from typing import Any

from taskscope.model import machine


class Cell:
    """A variable of the calling function: one system call writes it."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def put(self, value: Any) -> int:
        """Store; return 0."""
        self.value = value
        return 0

    def get(self) -> Any:
        """Load."""
        return self.value


class Word:
    """A variable at an address of the address space; which one is decided by the mm of the task that asks."""

    __slots__ = ("addr",)

    def __init__(self, addr: int) -> None:
        self.addr = addr

    @property
    def address(self) -> int:
        """The address, as tracepoints show it."""
        return self.addr

    def put(self, value: Any) -> int:
        """Store into the current task's memory; return 0, or -EFAULT if it has none."""
        mm = machine.cur.cpu.curr.mm
        if mm is None:
            return -EFAULT
        mm.words[self.addr] = value
        return 0

    def get(self) -> Any:
        """Load from the current task's memory; 0 where nothing was stored."""
        mm = machine.cur.cpu.curr.mm
        return 0 if mm is None else mm.words.get(self.addr, 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Word) and other.addr == self.addr

    def __hash__(self) -> int:
        return hash(self.addr)

    def __repr__(self) -> str:
        return f"<user {self.addr:#x}>"


def put_user(value: Any, ptr: Any) -> int:
    """Store a value through a user pointer; return 0 or -EFAULT."""
    if isinstance(ptr, (Cell, Word)):
        return ptr.put(value)
    return -EFAULT


def get_user(ptr: Any) -> Any:
    """Load a value through a user pointer; -EFAULT if it points nowhere."""
    if isinstance(ptr, (Cell, Word)):
        return ptr.get()
    return -EFAULT


copy_to_user = put_user


def access_ok(ptr: Any) -> bool:
    """Tell whether a user pointer points somewhere."""
    return isinstance(ptr, (Cell, Word, bytes, str, list, tuple))
