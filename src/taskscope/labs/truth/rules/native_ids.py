"""Ids, capabilities, limits, namespaces, futexes and shared words of this host, for `native.Native`."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from taskscope.labs.truth.rules.native_call import Word, syscall

_CAPABILITY_VERSION_3: Final = 0x20080522
_SIGCHLD: Final = 17


class SharedWord(Word):
    """A word at an address that the children of `Ids.sharer` have in common."""

    def __init__(self, page: mmap.mmap, at: int) -> None:
        self.number = ctypes.c_int.from_buffer(page, at)

    @property
    def addr(self) -> int:
        """The address."""
        return ctypes.addressof(self.number)


class Ids:
    """Who a task is, what it may have, and words that processes share."""

    #: made when the first shared word is wanted, before the children that shall have it
    _page: ClassVar[mmap.mmap | None] = None

    def _three(self, name: str) -> tuple[int, ...]:
        cells = [ctypes.c_uint32(0) for _ in range(3)]
        syscall(name, *(ctypes.byref(cell) for cell in cells))
        return tuple(cell.value for cell in cells)

    def getresuid(self) -> tuple[int, ...]:
        """Return the real, effective and saved user id."""
        return self._three("getresuid")

    def getresgid(self) -> tuple[int, ...]:
        """Return the real, effective and saved group id."""
        return self._three("getresgid")

    def getgroups(self) -> list[int]:
        """Return the supplementary groups."""
        room = (ctypes.c_uint32 * 65536)()
        return list(room[: syscall("getgroups", 65536, room)])

    def setgroups(self, groups: Iterable[int]) -> None:
        """Set the supplementary groups."""
        groups = list(groups)
        syscall("setgroups", len(groups), (ctypes.c_uint32 * (len(groups) or 1))(*groups))

    def capget(self, pid: int = 0) -> tuple[int, int, int]:
        """Return a thread's (effective, permitted, inheritable) capabilities."""
        header, data = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, pid), (ctypes.c_uint32 * 6)()
        syscall("capget", header, data)
        return (data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32)

    def capset(self, effective: int, permitted: int, inheritable: int, pid: int = 0) -> None:
        """Set the calling thread's capabilities."""
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, pid)
        sets = (effective, permitted, inheritable)
        data = (ctypes.c_uint32 * 6)(*(one & 0xFFFF_FFFF for one in sets), *(one >> 32 for one in sets))
        syscall("capset", header, data)

    def prlimit(self, pid: int, resource: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
        """Set a limit (soft, hard) of a process, unless `limits` is None; return what it was."""
        old = (ctypes.c_uint64 * 2)()
        new = None if limits is None else (ctypes.c_uint64 * 2)(*(one & (1 << 64) - 1 for one in limits))
        syscall("prlimit64", pid, resource, new, old)
        return old[0], old[1]

    def getrlimit(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard)."""
        return self.prlimit(0, resource)

    def setrlimit(self, resource: int, limits: tuple[int, int]) -> None:
        """Set (soft, hard)."""
        self.prlimit(0, resource, limits)

    def setns(self, fd: int, flags: int = 0) -> None:
        """Go into the namespace that a descriptor stands for."""
        syscall("setns", fd, flags)

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        """Return a descriptor that stands for a process."""
        return syscall("pidfd_open", pid, flags)

    def sched_setscheduler(self, pid: int, policy: int, priority: int) -> None:
        """Set policy and realtime priority."""
        syscall("sched_setscheduler", pid, policy, ctypes.byref(ctypes.c_int(priority)))

    def clone3(self, fn: Callable[..., Any], *args: Any, exit_signal: int = _SIGCHLD, flags: int = 0,
               set_tid: Iterable[int] = ()) -> int:
        """Create a child that runs ``fn(sys, *args)``, with numbers of one's choice; return its pid."""
        tids = list(set_tid)
        chosen = (ctypes.c_int * (len(tids) or 1))(*tids)
        fields = (flags, 0, 0, 0, exit_signal, 0, 0, 0, ctypes.addressof(chosen) if tids else 0, len(tids), 0)
        pid = syscall("clone3", (ctypes.c_uint64 * 11)(*fields), 88, held=True)
        if pid == 0:
            self.run(fn, args)
        return pid

    run: Callable[..., Any]

    # ---- words that several tasks see ------------------------------------------------------------------

    def shared_word(self, n: int) -> SharedWord:
        """Return the n-th of the words that the children of `sharer` have in common with this process."""
        if Ids._page is None:
            Ids._page = mmap.mmap(-1, 4096)
        return SharedWord(Ids._page, 8 * n)

    def sharer(self, fn: Callable[..., Any], *args: Any) -> int:
        """Create a child that runs ``fn(sys, *args)`` and shares the shared words; return its pid."""
        return self.clone(fn, *args, flags=_SIGCHLD)

    clone: Callable[..., int]

    def poke(self, address: int, value: int) -> None:
        """Write a long to an address."""
        ctypes.c_long.from_address(address).value = value

    def futex(self, uaddr: Any, op: int, val: int, timeout: Any = None, uaddr2: Any = None, val3: int = 0) -> int:
        """Ask the kernel to sleep or to wake; a timeout is (s, ns), or a number for who takes one there."""
        if isinstance(timeout, tuple):
            timeout = ctypes.byref((ctypes.c_long * 2)(*timeout))
        return syscall("futex", uaddr, op, val, timeout, uaddr2, val3)

    def set_robust_list(self, head: Any, size: int) -> None:
        """Tell the kernel where the locks stand that this thread holds."""
        syscall("set_robust_list", head, size)

    def get_robust_list(self, pid: int = 0) -> tuple[int, int]:
        """Return where a thread's robust list is, and how long its head."""
        head, size = ctypes.c_void_p(0), ctypes.c_size_t(0)
        syscall("get_robust_list", pid, ctypes.byref(head), ctypes.byref(size))
        return head.value or 0, size.value
