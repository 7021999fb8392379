"""ptrace(2) on this host, with the results of `taskscope.model.user.libc.ptrace`."""

from __future__ import annotations

import ctypes
import struct
from typing import Any, Final

from taskscope.abi.ptrace import PtraceRequest, SyscallStop

#: how much room each of the requests that store something wants; others store a word
_ROOM: Final = {
    PtraceRequest.PTRACE_GETSIGINFO: 128, PtraceRequest.PTRACE_GET_SYSCALL_INFO: 128,
    PtraceRequest.PTRACE_PEEKSIGINFO: 128 * 16,
}


class SyscallInfo:
    """struct ptrace_syscall_info."""

    def __init__(self, data: bytes) -> None:
        self.op = data[0]
        self.arch, self.instruction_pointer, self.stack_pointer = struct.unpack_from("<IQQ", data, 4)
        self.nr = self.rval = self.is_error = 0
        self.args: tuple[int, ...] = ()
        if self.op == SyscallStop.PTRACE_SYSCALL_INFO_ENTRY:
            self.nr, *args = struct.unpack_from("<7Q", data, 24)
            self.args = tuple(args)
        elif self.op == SyscallStop.PTRACE_SYSCALL_INFO_EXIT:
            self.rval, self.is_error = struct.unpack_from("<qB", data, 24)


class Ptrace:
    """The calls of <sys/ptrace.h>."""

    _call: Any
    Info: Any

    def ptrace(self, request: int, pid: int = 0, addr: Any = 0, data: Any = 0) -> int:
        """Make a request that stores nothing."""
        return int(self._call("ptrace", request, pid, addr, data))

    def ptrace_get(self, request: int, pid: int, addr: Any = 0) -> Any:
        """Make a request that stores something through its last argument; return that."""
        room = _ROOM.get(request, 8)  # type: ignore[call-overload]
        data = ctypes.create_string_buffer(room)
        if request == PtraceRequest.PTRACE_PEEKSIGINFO:
            addr = struct.pack("<QIi", *addr)
        got = self._call("ptrace", request, pid, addr, data)
        if request == PtraceRequest.PTRACE_PEEKSIGINFO:
            return [self.Info(data.raw[n * 128 : n * 128 + 128]) for n in range(got)]
        if request == PtraceRequest.PTRACE_GETSIGINFO:
            return self.Info(data.raw)
        if request == PtraceRequest.PTRACE_GET_SYSCALL_INFO:
            return SyscallInfo(data.raw)
        return int.from_bytes(data.raw, "little")

    def ptrace_setsiginfo(self, pid: int, signo: int, code: int, sender: int, value: int) -> None:
        """Replace the siginfo of the stop."""
        data = struct.pack("<iii4xiiQ", signo, 0, code, sender, 0, value).ljust(128, b"\0")
        self.ptrace(PtraceRequest.PTRACE_SETSIGINFO, pid, 0, data)

    def ptrace_setsigmask(self, pid: int, mask: int) -> None:
        """Set which signals a stopped task blocks."""
        self.ptrace(PtraceRequest.PTRACE_SETSIGMASK, pid, 8, struct.pack("<Q", mask))
