"""<signal.h> on this host, for rules: handlers run as the kernel calls them, by a callback of ctypes.

That is sound when a signal comes while the process is inside a system call, which is where the fences of a rule put it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from taskscope.labs.truth.rules.native_call import libc, syscall

_SA_SIGINFO, _SA_RESTORER = 4, 0x0400_0000
_SET: Final = ctypes.c_uint64
_Handler: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Sigaction(ctypes.Structure):
    """struct sigaction of the C library."""

    _fields_ = (
        ("handler", ctypes.c_void_p), ("mask", ctypes.c_uint64 * 16), ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Info:
    """siginfo_t, with the names of its unions; which of them mean something the signal and si_code say."""

    def __init__(self, data: bytes) -> None:
        at = partial(_int, data)
        self.si_signo, self.si_errno, self.si_code = at(0), at(4), at(8)
        self.si_pid = self.si_tid = self.si_band = at(16)
        self.si_uid = self.si_overrun = self.si_fd = at(20)
        self.si_status = self.si_value = at(24)
        self.si_addr = int.from_bytes(data[16:24], "little")


def _int(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)


class Signals:
    """The calls of <signal.h>."""

    SIG_DFL, SIG_IGN = 0, 1

    def __init__(self) -> None:
        #: what each signal calls; callbacks are kept for ever, as a handler may be running
        self._handlers: dict[int, Callable[..., Any]] = {}
        self._callbacks: dict[int, Any] = {}
        self._flags: dict[int, int] = {}

    def killpg(self, group: int, sig: int) -> None:
        """Send a signal to a process group."""
        syscall("kill", -group, sig)

    def raise_(self, sig: int) -> None:
        """Send a signal to the calling thread."""
        syscall("tgkill", os.getpid(), syscall("gettid"), sig)

    def sigaction(self, sig: int, handler: Any = None, flags: int = 0, mask: int = 0) -> tuple[Any, int, int]:
        """Set what a signal does, unless `handler` is None; return the (handler, flags, mask) before.

        :param handler: SIG_DFL, SIG_IGN or ``fn(sys, sig, info)``
        """
        new, old = _Sigaction(), _Sigaction()
        before, had = self._handlers.get(sig), self._flags.get(sig, 0)
        if handler is not None:
            new.mask[0] = mask
            new.flags = flags
            if callable(handler):
                new.flags |= _SA_SIGINFO
                new.handler = ctypes.cast(self._callback(sig), ctypes.c_void_p).value
            else:
                new.handler = handler
        if libc.sigaction(sig, ctypes.byref(new) if handler is not None else None, ctypes.byref(old)):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        if handler is not None:
            self._flags[sig] = flags
            if callable(handler):
                self._handlers[sig] = handler
        was = old.handler or 0
        flagged = (old.flags & 0xFFFF_FFFF) & ~_SA_RESTORER
        if not had & _SA_SIGINFO:
            flagged &= ~_SA_SIGINFO
        return (before if was > 1 else was), flagged, int(old.mask[0])

    def _callback(self, sig: int) -> Any:
        found = self._callbacks.get(sig)
        if found is None:

            def call(number: int, info: int, context: int) -> None:
                del context
                told = Info(ctypes.string_at(info, 128))
                # The interrupted call's errno is its own.
                error = ctypes.get_errno()
                self._handlers[number](self, number, told)
                ctypes.set_errno(error)

            found = self._callbacks[sig] = _Handler(call)
        return found

    def signal(self, sig: int, handler: Any) -> Any:
        """Set what a signal does, restarting calls; return the handler before."""
        return self.sigaction(sig, handler, 0x10000000)[0]

    def sigprocmask(self, how: int, mask: int | None) -> int:
        """Change the set of blocked signals; return the set before."""
        old = _SET(0)
        syscall("rt_sigprocmask", how, None if mask is None else ctypes.byref(_SET(mask)), ctypes.byref(old), 8)
        return old.value

    def sigpending(self) -> int:
        """Return the set of signals that are blocked and pending."""
        found = _SET(0)
        syscall("rt_sigpending", ctypes.byref(found), 8)
        return found.value

    def sigsuspend(self, mask: int) -> None:
        """Wait for a signal with another set of blocked ones."""
        syscall("rt_sigsuspend", ctypes.byref(_SET(mask)), 8)
