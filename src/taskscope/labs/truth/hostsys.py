"""The system calls of this host as programs of `taskscope.labs.truth` make them: `HostSys`, by the C library.

Imported by `taskscope.labs.truth.worker`, which starts without the site's packages: of the standard library alone.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
from typing import Any, NoReturn

PR_GET_NAME = 16
MACHINE = os.uname().machine

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
exit_group = libc["_exit"]


def check(result: int) -> int:
    """Return what a call of the C library gave.

    :raises OSError: it failed
    """
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class Waited:
    """What waitid() tells."""

    def __init__(self, si_pid: int, si_uid: int, si_signo: int, si_status: int, si_code: int) -> None:
        self.si_pid, self.si_uid, self.si_signo = si_pid, si_uid, si_signo
        self.si_status, self.si_code = si_status, si_code


class Sigaction(ctypes.Structure):
    """struct sigaction of the C library."""

    _fields_ = (("handler", ctypes.c_void_p), ("mask", ctypes.c_uint64 * 16), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p))


class Notes:
    """A page of memory that a handler notes its arguments and the process in, and the handler.

    On x86-64 the handler is a few instructions, as it may come between any two of the interpreter's; elsewhere it is
    Python, which only programs stand whose signals come inside of system calls.
    """

    ROOM = 120
    CODE = (
        b"\x48\xb8%s"                            # mov    $page, %%rax
        b"\xb9\x01\x00\x00\x00"                  # mov    $1, %%ecx
        b"\xf0\x48\x0f\xc1\x08"                  # lock xadd %%rcx, (%%rax): how many there are
        b"\x48\x83\xf9\x78\x73\x29"              # cmp    $120, %%rcx; jae the end
        b"\x48\xc1\xe1\x05"                      # shl    $5, %%rcx
        b"\x48\x8d\x44\x08\x40"                  # lea    64(%%rax, %%rcx), %%rax
        b"\x89\x38"                              # mov    %%edi, (%%rax): the signal
        b"\x8b\x4e\x08\x89\x48\x04"              # si_code
        b"\x8b\x4e\x10\x89\x48\x08"              # si_pid
        b"\x8b\x4e\x18\x89\x48\x0c"              # si_value or si_status
        b"\x48\x89\xc2\xb8\x27\x00\x00\x00"      # mov    %%rax, %%rdx; mov $39, %%eax
        b"\x0f\x05\x89\x42\x10\xc3"              # syscall: getpid(); mov %%eax, 16(%%rdx); ret
    )

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                              mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        if MACHINE == "x86_64":
            code = self.CODE % struct.pack("<Q", base)
            self.page[4096 : 4096 + len(code)] = code
            self.handler = base + 4096
        else:
            self.python = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self._note)
            self.handler = ctypes.cast(self.python, ctypes.c_void_p).value or 0

    def _note(self, sig: int, info: int, context: int) -> None:
        del context
        count = int.from_bytes(self.page[:8], "little")
        told = (ctypes.c_int * 8).from_address(info)
        struct.pack_into("<5i", self.page, 64 + 32 * count, sig, told[2], told[4], told[6], os.getpid())
        self.page[:8] = (count + 1).to_bytes(8, "little")

    def take(self) -> tuple[int, ...]:
        """Return what this process has noted, and forget it; a child's copy has what its parent noted, too."""
        count = min(int.from_bytes(self.page[:8], "little"), self.ROOM)
        found = [struct.unpack_from("<5i", self.page, 64 + 32 * at) for at in range(count)]
        self.page[:8] = bytes(8)
        return tuple(n for entry in found if entry[4] == os.getpid() for n in entry[:4])


class HostSys:
    """The C library of this host with the names that programs use."""

    getpid = staticmethod(os.getpid)
    getppid = staticmethod(os.getppid)
    getpgid = staticmethod(os.getpgid)
    getsid = staticmethod(os.getsid)
    setpgid = staticmethod(os.setpgid)
    kill = staticmethod(os.kill)
    umask = staticmethod(os.umask)
    open = staticmethod(os.open)
    execve = staticmethod(os.execve)
    setuid = staticmethod(os.setuid)
    close = staticmethod(os.close)
    write = staticmethod(os.write)
    signal = staticmethod(signal.signal)

    # Calls that signals interrupt are made without what Python adds: it would make them again.

    def read(self, fd: int, size: int) -> bytes:
        """Read."""
        buffer = ctypes.create_string_buffer(size)
        count = check(libc.read(fd, buffer, ctypes.c_size_t(size)))
        return buffer.raw[:count]

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        """Wait for a child."""
        status = ctypes.c_int(0)
        return check(libc.waitpid(pid, ctypes.byref(status), options)), status.value

    def waitid(self, kind: int, ident: int, options: int) -> Waited | None:
        """Wait for a child, and tell more."""
        info = (ctypes.c_int * 32)()
        check(libc.waitid(kind, ident, info, options))
        return Waited(info[4], info[5], info[0], info[6], info[2]) if info[4] else None

    def sigaction(self, sig: int, handler: int, flags: int, mask: int) -> None:
        """Set what a signal does; `handler` is an address."""
        action = Sigaction(handler, (ctypes.c_uint64 * 16)(mask), flags, None)
        check(libc.sigaction(sig, ctypes.byref(action), None))

    def sigprocmask(self, how: int, mask: int) -> int:
        """Change the set of blocked signals; return the set before."""
        new, old = (ctypes.c_uint64 * 16)(mask), (ctypes.c_uint64 * 16)()
        check(libc.sigprocmask(how, new, old))
        return int(old[0])

    def sigpending(self) -> int:
        """Return the blocked signals that are pending."""
        found = (ctypes.c_uint64 * 16)()
        check(libc.sigpending(found))
        return int(found[0])

    def sigsuspend(self, mask: int) -> None:
        """Wait for a signal with another set of blocked ones."""
        check(libc.sigsuspend((ctypes.c_uint64 * 16)(mask)))

    def tgkill(self, tgid: int, tid: int, sig: int) -> None:
        """Send a signal to a thread."""
        number = {"x86_64": 234, "aarch64": 131, "armv7l": 268, "i686": 270}[MACHINE]
        check(libc.syscall(ctypes.c_long(number), tgid, tid, sig))

    def gettid(self) -> int:
        """Return the id of the task."""
        return int(check(libc.syscall(ctypes.c_long({"x86_64": 186, "aarch64": 178}.get(MACHINE, 224)))))

    def setsid(self) -> int:
        """Begin a session."""
        return int(check(libc.setsid()))

    def dup2(self, old: int, new: int) -> int:
        """Copy a descriptor."""
        return os.dup2(old, new)

    def fcntl(self, fd: int, command: int) -> int:
        """Ask about a descriptor."""
        return int(check(libc.fcntl(fd, command, 0)))

    def prctl(self, option: int, value: int | str) -> int:
        """Change what is the caller's."""
        arg: Any = ctypes.c_ulong(value) if isinstance(value, int) else ctypes.c_char_p(value.encode("latin-1"))
        zero = ctypes.c_ulong(0)
        return int(check(libc.prctl(option, arg, zero, zero, zero)))

    def prctl_get(self, option: int) -> int | bytes:
        """Return a number or a name that the kernel writes."""
        zero = ctypes.c_ulong(0)
        if option == PR_GET_NAME:
            name = ctypes.create_string_buffer(16)
            check(libc.prctl(option, name, zero, zero, zero))
            return name.value
        number = ctypes.c_int(-1)
        check(libc.prctl(option, ctypes.byref(number), zero, zero, zero))
        return number.value

    def exit(self, code: int) -> NoReturn:
        """End the process at once."""
        exit_group(code)
        raise AssertionError("exit_group() returned")
