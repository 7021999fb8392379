"""<sys/ptrace.h>: tracing another task."""

from __future__ import annotations

from typing import Any

from taskscope.abi.ptrace import PtraceRequest
from taskscope.model.include.linux.sched_signal import Siginfo
from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext


class Ptrace(UserContext):
    """ptrace(2); the requests are `taskscope.abi.ptrace.PtraceRequest`."""

    __slots__ = ()

    def ptrace(self, request: int, pid: int = 0, addr: Any = 0, data: Any = 0) -> int:
        """Make a request that stores nothing; return what the system call does."""
        return int(self._call("ptrace", request, pid, addr, data))

    def ptrace_get(self, request: int, pid: int, addr: Any = 0) -> Any:
        """Make a request that stores something through its last argument; return that."""
        return self._call("ptrace", request, pid, addr, (cell := Cell(None)), out=cell)[1]

    def ptrace_setsiginfo(self, pid: int, signo: int, code: int, sender: int, value: int) -> None:
        """Replace the siginfo of the stop."""
        info = Siginfo(signo, code, sender)
        info.si_value = value
        self.ptrace(PtraceRequest.PTRACE_SETSIGINFO, pid, 0, info)

    def ptrace_setsigmask(self, pid: int, mask: int) -> None:
        """Set which signals a stopped task blocks."""
        self.ptrace(PtraceRequest.PTRACE_SETSIGMASK, pid, 8, mask)
