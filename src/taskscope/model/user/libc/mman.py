"""<sys/mman.h> and the part of <unistd.h> that moves the heap: mapping memory, and touching it."""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.mm.memory import access_permitted
from taskscope.model.user.python import UserContext

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x10, 0x20
PAGE_SIZE: Final = 4096


class Memory(UserContext):
    """Memory of one's own.  What stands in it is not kept: a program's data is Python's."""

    __slots__ = ()

    def mmap(
        self, length: int, prot: int = PROT_READ | PROT_WRITE, flags: int = MAP_PRIVATE | MAP_ANONYMOUS, addr: int = 0,
        fd: int = -1, offset: int = 0,
    ) -> int:
        """Map memory; return its address.  Nothing is allocated before it is touched."""
        if machine.cur.flavour.arch == "arm":
            return self._address("mmap2", addr, length, prot, flags, fd, offset // PAGE_SIZE)
        return self._address("mmap", addr, length, prot, flags, fd, offset)

    def munmap(self, addr: int, length: int) -> None:
        """Unmap a range."""
        self._call("munmap", addr, length)

    def brk(self, addr: int) -> None:
        """Move the end of the heap to an address.

        :raises OSError: ENOMEM: the kernel has left it where it was
        """
        if self._address("brk", addr) != addr:
            raise OSError(12, "Cannot allocate memory")

    def sbrk(self, increment: int) -> int:
        """Move the end of the heap by so many bytes; return where it was."""
        now = self._address("brk", 0)
        if increment:
            self.brk(now + increment)
        return now

    def touch(self, addr: int, length: int = 1, write: bool = True) -> None:
        """Access every page of a range, as a program does that uses its memory: what is not there is brought in.

        Takes no time but that of the faults.  An access outside of the map ends in SIGSEGV.
        """
        if self._at < self._end:
            self._recall("touch")
            return
        cur = machine.cur
        for page in range(addr & -PAGE_SIZE, addr + length, PAGE_SIZE):
            # where in the page the first access goes is where it faults
            at = max(page, addr)
            while not access_permitted(cur.cpu.curr.mm, at, write):
                cur.user_abort(at, write)
                if self.frames:
                    self._handle()
        self._log.append(("touch", 0, None))

    def _address(self, name: str, *args: int) -> int:
        # Addresses of 32-bit ARM reach into what would be errors of 64-bit ones no more than there: all below -4095.
        return int(self._call(name, *args))
