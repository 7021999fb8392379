"""The memory of one kernel: `Image`.

Dumps, guests and the running kernel make them (core.py, guest.py, kcore.py, live.py).  What only some can say has a
default here, which is that of a dump: it stands still, tells no time of its own, and holds nothing open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Self

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


class Clock(NamedTuple):
    """The clocks of a kernel."""

    monotonic: int       # ns
    boot: int | None     # s since the epoch when the monotonic clock was 0; None if it has stood still since (suspend)


class Image(ABC):
    """Kernel memory that can be read, and what is known of what lies in it; a context manager."""

    arch: str            # as uname -m says it: x86_64, aarch64, armv7l
    release: str         # as uname -r says it; "" if it is not known
    source: str          # for people
    wrong: str = ""      # what is damaged as a whole, "" if nothing is
    types: Types

    @property
    def moving(self) -> bool:
        """Whether the kernel runs while it is looked at."""
        return False

    def clock(self) -> Clock | None:
        """Return what time it is, where the kernel runs and is here; None if only the memory says it."""
        return None

    def cpus(self) -> list[int] | None:
        """Return the numbers of the CPUs that are online; None if only the memory says it."""
        return None

    def forget(self) -> None:  # noqa: B027
        """Look at memory anew from now on."""

    def close(self) -> None:  # noqa: B027
        """Let go of what is held open; the second time does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def read(self, address: int, count: int) -> bytes:
        """Read kernel memory by virtual address.

        :raises FaultError: some of it is not there
        """

    @abstractmethod
    def symbol(self, name: str) -> int | None:
        """Return the address of a function or variable; None if the symbols have no such name."""

    @abstractmethod
    def symbol_at(self, address: int) -> Symbol | None:
        """Return the symbol that covers an address; None if none does."""
