"""Signals, timers and terminals of this host with the names and results of `taskscope.model.user.libc.Sys`."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any, Final

from taskscope.labs.truth.rules.native_call import syscall
from taskscope.labs.truth.rules.native_sigaction import Info

_SET: Final = ctypes.c_uint64
_TIMESPEC: Final = ctypes.c_long * 2
_ITIMERSPEC: Final = ctypes.c_long * 4
SI_QUEUE: Final = -1
NSEC: Final = 1_000_000_000
TCGETS, TCSETS, TCSBRK, TCFLSH = 0x5401, 0x5402, 0x5409, 0x540B
TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, TIOCSWINSZ, TIOCGSID = 0x540F, 0x5410, 0x5413, 0x5414, 0x5429
#: what a handler of Python needs of a stack
STACK: Final = 1 << 20


class Stack(ctypes.Structure):
    """stack_t."""

    _fields_ = (("sp", ctypes.c_size_t), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


class Siginfo(ctypes.Structure):
    """siginfo_t as rt_sigqueueinfo(2) takes it."""

    _fields_ = (
        ("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("pad", ctypes.c_int),
        ("pid", ctypes.c_int), ("uid", ctypes.c_int), ("value", ctypes.c_long), ("rest", ctypes.c_char * 96),
    )


class Sigevent(ctypes.Structure):
    """struct sigevent."""

    _fields_ = (
        ("value", ctypes.c_long), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("tid", ctypes.c_int),
        ("pad", ctypes.c_char * 44),
    )


class Termios(ctypes.Structure):
    """struct termios of the kernel."""

    _fields_ = (
        ("c_iflag", ctypes.c_uint), ("c_oflag", ctypes.c_uint), ("c_cflag", ctypes.c_uint), ("c_lflag", ctypes.c_uint),
        ("c_line", ctypes.c_ubyte), ("c_cc", ctypes.c_ubyte * 19),
    )

    def _replace(self, c_lflag: int) -> Termios:
        """Return a copy with other local modes, as a named tuple would."""
        new = Termios.from_buffer_copy(self)
        new.c_lflag = c_lflag
        return new


class NativeSignals:
    """What `native.Native` has of <signal.h>, <time.h> and <termios.h>."""

    # ---- waiting and sending ---------------------------------------------------------------------------

    def sigtimedwait(self, mask: int, ns: int | None = None) -> Any:
        """Take a blocked signal of a set."""
        data = ctypes.create_string_buffer(128)
        timeout = None if ns is None else ctypes.byref(_TIMESPEC(*divmod(ns, NSEC)))
        syscall("rt_sigtimedwait", ctypes.byref(_SET(mask)), data, timeout, 8)
        return Info(data.raw)

    sigwaitinfo = sigtimedwait

    def sigqueue(self, pid: int, sig: int, value: int = 0) -> None:
        """Send a signal with a value to a process."""
        self.rt_sigqueueinfo(pid, sig, SI_QUEUE, value)

    def rt_sigqueueinfo(self, pid: int, sig: int, code: int, value: int = 0) -> None:
        """Send a signal with a siginfo of one's own to a process."""
        syscall("rt_sigqueueinfo", pid, sig, ctypes.byref(_siginfo(sig, code, value)))

    def rt_tgsigqueueinfo(self, tgid: int, tid: int, sig: int, code: int, value: int = 0) -> None:
        """Send a signal with a siginfo of one's own to a thread."""
        syscall("rt_tgsigqueueinfo", tgid, tid, sig, ctypes.byref(_siginfo(sig, code, value)))

    def pidfd_send_signal(self, pidfd: int, sig: int, flags: int = 0) -> None:
        """Send a signal to the process behind a descriptor."""
        syscall("pidfd_send_signal", pidfd, sig, None, flags)

    def sigaltstack(self, ss: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
        """Set the stack of handlers; what stands at the address that the rule gave is a mapping of ours."""
        stacks = self.__dict__.setdefault("_stacks", {})
        old = Stack()
        new = None
        if ss is not None:
            sp, flags, size = ss
            if sp and sp not in stacks:
                stacks[sp] = mmap.mmap(-1, STACK)
            new = ctypes.byref(Stack(_address(stacks[sp]) if sp else 0, ctypes.c_int(flags).value, size))
        syscall("sigaltstack", new, ctypes.byref(old))
        names = {_address(stack): sp for sp, stack in stacks.items()}
        return names.get(old.sp, old.sp), old.flags & 0xFFFF_FFFF, old.size

    # ---- limits ----------------------------------------------------------------------------------------

    def getrlimit(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard)."""
        both = (ctypes.c_uint64 * 2)()
        syscall("prlimit64", 0, resource, None, both)
        return both[0], both[1]

    def setrlimit(self, resource: int, limits: tuple[int, int]) -> None:
        """Set (soft, hard)."""
        syscall("prlimit64", 0, resource, (ctypes.c_uint64 * 2)(*limits), None)

    # ---- timers ----------------------------------------------------------------------------------------

    def setitimer(self, which: int, seconds: float, interval: float = 0.0) -> tuple[Any, Any]:
        """Set an interval timer; return the ((s, us), (s, us)) before."""
        old = _ITIMERSPEC()
        new = [part for value in (interval, seconds) for part in divmod(round(value * 1_000_000), 1_000_000)]
        syscall("setitimer", which, ctypes.byref(_ITIMERSPEC(*new)), ctypes.byref(old))
        return (old[0], old[1]), (old[2], old[3])

    def getitimer(self, which: int) -> tuple[Any, Any]:
        """Return ((s, us) interval, (s, us) left)."""
        now = _ITIMERSPEC()
        syscall("getitimer", which, ctypes.byref(now))
        return (now[0], now[1]), (now[2], now[3])

    def timer_create(
        self, clock: int = 1, notify: int = 0, sig: int = 14, value: int | None = None, tid: int = 0
    ) -> int:
        """Make a timer; return its id."""
        event = None if value is None else ctypes.byref(Sigevent(value, sig, notify, tid))
        number = ctypes.c_int(-1)
        syscall("timer_create", clock, event, ctypes.byref(number))
        return number.value

    def timer_settime(self, timer: int, ns: int, interval: int = 0, flags: int = 0) -> tuple[int, int]:
        """Set a timer; return (ns, interval) before."""
        old = _ITIMERSPEC()
        new = _ITIMERSPEC(*divmod(interval, NSEC), *divmod(ns, NSEC))
        syscall("timer_settime", timer, flags, ctypes.byref(new), ctypes.byref(old))
        return old[2] * NSEC + old[3], old[0] * NSEC + old[1]

    def timer_gettime(self, timer: int) -> tuple[int, int]:
        """Return (ns left, interval)."""
        now = _ITIMERSPEC()
        syscall("timer_gettime", timer, ctypes.byref(now))
        return now[2] * NSEC + now[3], now[0] * NSEC + now[1]

    def clock_nanosleep(self, clock: int, ns: int, flags: int = 0) -> int:
        """Sleep; return the ns that were left when a handler ended it, -1 if none did."""
        left = _TIMESPEC()
        try:
            syscall("clock_nanosleep", clock, flags, ctypes.byref(_TIMESPEC(*divmod(ns, NSEC))), ctypes.byref(left))
        except OSError as error:
            if error.errno != 4:
                raise
            return left[0] * NSEC + left[1]
        return -1

    def clock_gettime_ns(self, clock: int = 1) -> int:
        """Return a clock in ns."""
        now = _TIMESPEC()
        syscall("clock_gettime", clock, ctypes.byref(now))
        return now[0] * NSEC + now[1]

    # ---- terminals -------------------------------------------------------------------------------------

    def tcgetpgrp(self, fd: int) -> int:
        """Return the foreground group of a terminal."""
        return self._ask(fd, TIOCGPGRP)

    def tcsetpgrp(self, fd: int, pgrp: int) -> None:
        """Set the foreground group of a terminal."""
        syscall("ioctl", fd, TIOCSPGRP, ctypes.byref(ctypes.c_int(pgrp)))

    def tcgetsid(self, fd: int) -> int:
        """Return the session of the controlling terminal."""
        return self._ask(fd, TIOCGSID)

    def _ask(self, fd: int, request: int) -> int:
        number = ctypes.c_int(-1)
        syscall("ioctl", fd, request, ctypes.byref(number))
        return number.value

    def tcgetattr(self, fd: int) -> Termios:
        """Return a terminal's settings."""
        syscall("ioctl", fd, TCGETS, ctypes.byref(found := Termios()))
        return found

    def tcsetattr(self, fd: int, termios: Termios, when: int = 0) -> None:
        """Set a terminal's settings."""
        syscall("ioctl", fd, TCSETS + when, ctypes.byref(termios))

    def tcflush(self, fd: int, queue: int = 0) -> None:
        """Forget what was typed."""
        syscall("ioctl", fd, TCFLSH, queue)

    def tcdrain(self, fd: int) -> None:
        """Wait until all is shown."""
        syscall("ioctl", fd, TCSBRK, 1)

    def tcgetwinsize(self, fd: int) -> tuple[int, int]:
        """Return a window's rows and columns."""
        size = (ctypes.c_ushort * 4)()
        syscall("ioctl", fd, TIOCGWINSZ, size)
        return size[0], size[1]

    def tcsetwinsize(self, fd: int, size: tuple[int, int]) -> None:
        """Set a window's rows and columns."""
        syscall("ioctl", fd, TIOCSWINSZ, (ctypes.c_ushort * 4)(*size, 0, 0))

    def terminal(self) -> NativeTerminal:
        """See `terminals.terminal`."""
        return NativeTerminal()


class NativeTerminal:
    """A pseudo terminal: the side of its window is this process's."""

    def __init__(self) -> None:
        self.master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        _unlock(self.master)
        self.path = f"/dev/pts/{_index(self.master)}"

    def type(self, data: bytes) -> None:
        """Type."""
        os.write(self.master, data)

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self.master)

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeTerminal:
        """A child has the very descriptor."""
        return self


def _unlock(master: int) -> None:
    import fcntl

    fcntl.ioctl(master, 0x40045431, b"\0\0\0\0")


def _index(master: int) -> int:
    import fcntl

    return int.from_bytes(fcntl.ioctl(master, 0x80045430, b"\0\0\0\0"), "little")


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _siginfo(sig: int, code: int, value: int) -> Siginfo:
    return Siginfo(sig, 0, code, 0, os.getpid(), os.getuid(), value, b"")
