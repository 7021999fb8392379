"""<sys/ptrace.h>: tracing another task."""

from __future__ import annotations

from typing import Any

from taskscope.model.include.linux import ptrace as uapi
from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext


class Ptrace(UserContext):
    """ptrace(2): the request by its number, or by a method of its name."""

    __slots__ = ()

    def ptrace(self, request: int, pid: int = 0, addr: Any = 0, data: Any = 0) -> int:
        """Make a request that stores nothing; return what the system call does."""
        return int(self._call("ptrace", request, pid, addr, data))

    def ptrace_get(self, request: int, pid: int, addr: Any = 0) -> Any:
        """Make a request that stores something through its last argument; return that."""
        return self._call("ptrace", request, pid, addr, (cell := Cell(None)), out=cell)[1]

    def ptrace_traceme(self) -> None:
        """Let the parent trace the caller."""
        self.ptrace(uapi.PTRACE_TRACEME)

    def ptrace_attach(self, pid: int) -> None:
        """Trace a task, and stop it by SIGSTOP."""
        self.ptrace(uapi.PTRACE_ATTACH, pid)

    def ptrace_seize(self, pid: int, options: int = 0) -> None:
        """Trace a task without stopping it."""
        self.ptrace(uapi.PTRACE_SEIZE, pid, 0, options)

    def ptrace_interrupt(self, pid: int) -> None:
        """Stop a task that was seized."""
        self.ptrace(uapi.PTRACE_INTERRUPT, pid)

    def ptrace_listen(self, pid: int) -> None:
        """Leave a seized task in the stop of its group, and hear of what becomes of that."""
        self.ptrace(uapi.PTRACE_LISTEN, pid)

    def ptrace_cont(self, pid: int, sig: int = 0) -> None:
        """Let a stopped task go on, with a signal."""
        self.ptrace(uapi.PTRACE_CONT, pid, 0, sig)

    def ptrace_syscall(self, pid: int, sig: int = 0) -> None:
        """Let a stopped task go on until it enters or leaves a system call."""
        self.ptrace(uapi.PTRACE_SYSCALL, pid, 0, sig)

    def ptrace_detach(self, pid: int, sig: int = 0) -> None:
        """Trace a stopped task no more."""
        self.ptrace(uapi.PTRACE_DETACH, pid, 0, sig)

    def ptrace_kill(self, pid: int) -> None:
        """Kill a traced task."""
        self.ptrace(uapi.PTRACE_KILL, pid)

    def ptrace_setoptions(self, pid: int, options: int) -> None:
        """Set PTRACE_O_*."""
        self.ptrace(uapi.PTRACE_SETOPTIONS, pid, 0, options)

    def ptrace_geteventmsg(self, pid: int) -> int:
        """Return what the last event was about: a pid, an exit status."""
        return int(self.ptrace_get(uapi.PTRACE_GETEVENTMSG, pid))

    def ptrace_getsiginfo(self, pid: int) -> Any:
        """Return the siginfo of the stop."""
        return self.ptrace_get(uapi.PTRACE_GETSIGINFO, pid)

    def ptrace_peekuser(self, pid: int, offset: int) -> int:
        """Return a register of a task that stopped at a system call, by its place in struct user in bytes."""
        return int(self.ptrace_get(uapi.PTRACE_PEEKUSR, pid, offset))

    def ptrace_peekdata(self, pid: int, address: int) -> Any:
        """Return a word of a stopped task's memory."""
        return self.ptrace_get(uapi.PTRACE_PEEKDATA, pid, address)

    def ptrace_get_syscall_info(self, pid: int) -> Any:
        """Return at which system call a task is stopped, as a struct ptrace_syscall_info (v5.3)."""
        return self.ptrace_get(uapi.PTRACE_GET_SYSCALL_INFO, pid, 88)
