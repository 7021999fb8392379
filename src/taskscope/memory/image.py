"""The memory of one kernel: `Image`; `taskscope.memory.core` makes them of crash dumps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from taskscope.errors import TraceError
from taskscope.memory.types import Types


class FaultError(TraceError):
    """There is nothing to read at an address: not mapped, or not in the dump."""

    def __init__(self, address: int, count: int, why: str = "not mapped, or not in the dump") -> None:
        super().__init__(f"cannot read {count} bytes at {address:#x}: {why}")
        self.address = address
        self.count = count


class Symbol(NamedTuple):
    """A symbol that covers an address."""

    name: str
    offset: int          # of the address in it
    size: int | None


class Image(Protocol):
    """Kernel memory that can be read, and what is known of what lies in it."""

    arch: str            # as uname -m says it: x86_64, aarch64, armv7l
    release: str         # as uname -r says it; "" if it is not known
    source: str          # for people
    wrong: str           # what is damaged as a whole, "" if nothing is
    types: Types

    def read(self, address: int, count: int) -> bytes:
        """Read kernel memory by virtual address.

        :raises FaultError: some of it is not there
        """

    def symbol(self, name: str) -> int | None:
        """Return the address of a function or variable; None if the symbols have no such name."""

    def symbol_at(self, address: int) -> Symbol | None:
        """Return the symbol that covers an address; None if none does."""
