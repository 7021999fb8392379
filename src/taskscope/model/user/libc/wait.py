"""<sys/wait.h>: the ends of children."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from taskscope.abi import wait
from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext


class WaitResult(NamedTuple):
    """What waitid() tells about a child (siginfo_t)."""

    si_pid: int
    si_uid: int
    si_signo: int
    si_status: int
    si_code: int


class Wait(UserContext):
    """The wait calls, and the macros on a status."""

    __slots__ = ()

    def wait(self) -> tuple[int, int]:
        """Wait for any child to die; return (pid, status)."""
        return self.waitpid(-1, 0)

    def waitpid(self, pid: int, options: int = 0) -> tuple[int, int]:
        """Wait for a child; return (pid, status), (0, 0) if WNOHANG was given and none is ready."""
        got, status = self._call("wait4", pid, (stat := Cell(0)), options, 0, out=stat)
        return got, status

    def wait4(self, pid: int, options: int = 0) -> tuple[int, int, Any]:
        """Wait for a child; return (pid, status, rusage)."""
        both = _Both()
        got, (status, usage) = self._call("wait4", pid, both.first, options, both.second, out=both)
        return got, status, usage

    def waitid(self, idtype: int, ident: int, options: int) -> WaitResult | None:
        """Wait for a child to change state; None if WNOHANG was given and none has."""
        _, info = self._call("waitid", idtype, ident, (cell := Cell(None)), options, 0, out=cell)
        if info is None or not info.si_pid:
            return None
        return WaitResult(info.si_pid, info.si_uid, info.si_signo, info.si_status, info.si_code)

    WIFEXITED = staticmethod(os.WIFEXITED)
    WEXITSTATUS = staticmethod(os.WEXITSTATUS)
    WIFSIGNALED = staticmethod(os.WIFSIGNALED)
    WTERMSIG = staticmethod(os.WTERMSIG)
    WCOREDUMP = staticmethod(os.WCOREDUMP)
    WIFSTOPPED = staticmethod(os.WIFSTOPPED)
    WSTOPSIG = staticmethod(os.WSTOPSIG)
    WIFCONTINUED = staticmethod(os.WIFCONTINUED)

    def system_status(self, status: int) -> int:
        """Return what a shell makes of a wait status: the exit code, or 128 + the signal."""
        shown = wait.shell_status(wait.split(status))
        return 0 if shown is None else shown


class _Both:
    """Two cells as one result."""

    def __init__(self) -> None:
        self.first = Cell(0)
        self.second = Cell(None)

    @property
    def value(self) -> tuple[Any, Any]:
        return self.first.value, self.second.value
