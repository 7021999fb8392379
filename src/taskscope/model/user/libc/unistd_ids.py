"""The ids of <unistd.h>, <grp.h>, <sys/fsuid.h>, <sys/capability.h>, and namespaces of <sched.h>."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext

_CAPABILITY_VERSION_3: Final = 0x20080522


class Ids(UserContext):
    """Who a task is: the calls that tell and change it; -1 leaves an id where several are set."""

    __slots__ = ()

    def getpid(self) -> int:
        """Return the process id (the thread group's)."""
        return int(self._call("getpid"))

    def getppid(self) -> int:
        """Return the parent's process id; 0 if it is outside of the pid namespace."""
        return int(self._call("getppid"))

    def gettid(self) -> int:
        """Return the task's own id."""
        return int(self._call("gettid"))

    def getpgid(self, pid: int = 0) -> int:
        """Return the process group of a process."""
        return int(self._call("getpgid", pid))

    def getpgrp(self) -> int:
        """Return the caller's process group."""
        return self.getpgid(0)

    def setpgid(self, pid: int, pgid: int) -> None:
        """Move a process to a process group."""
        self._call("setpgid", pid, pgid)

    def getsid(self, pid: int = 0) -> int:
        """Return the session of a process."""
        return int(self._call("getsid", pid))

    def setsid(self) -> int:
        """Begin a session; return its id."""
        return int(self._call("setsid"))

    def getuid(self) -> int:
        """Return the real user id."""
        return int(self._call("getuid"))

    def geteuid(self) -> int:
        """Return the effective user id."""
        return int(self._call("geteuid"))

    def getgid(self) -> int:
        """Return the real group id."""
        return int(self._call("getgid"))

    def getegid(self) -> int:
        """Return the effective group id."""
        return int(self._call("getegid"))

    def getresuid(self) -> tuple[int, int, int]:
        """Return the real, effective and saved user id."""
        return self._three("getresuid")

    def getresgid(self) -> tuple[int, int, int]:
        """Return the real, effective and saved group id."""
        return self._three("getresgid")

    def setuid(self, uid: int) -> None:
        """Set the user ids: all with CAP_SETUID, else the effective one."""
        self._call("setuid", uid)

    def setgid(self, gid: int) -> None:
        """Set the group ids: all with CAP_SETGID, else the effective one."""
        self._call("setgid", gid)

    def setreuid(self, ruid: int, euid: int) -> None:
        """Set the real and the effective user id."""
        self._call("setreuid", ruid, euid)

    def setregid(self, rgid: int, egid: int) -> None:
        """Set the real and the effective group id."""
        self._call("setregid", rgid, egid)

    def setresuid(self, ruid: int, euid: int, suid: int) -> None:
        """Set the real, the effective and the saved user id."""
        self._call("setresuid", ruid, euid, suid)

    def setresgid(self, rgid: int, egid: int, sgid: int) -> None:
        """Set the real, the effective and the saved group id."""
        self._call("setresgid", rgid, egid, sgid)

    def seteuid(self, uid: int) -> None:
        """Set the effective user id, as glibc does it."""
        self.setresuid(-1, uid, -1)

    def setegid(self, gid: int) -> None:
        """Set the effective group id, as glibc does it."""
        self.setresgid(-1, gid, -1)

    def setfsuid(self, uid: int) -> int:
        """Set the user id that files are opened with; return the one before, also when it is refused."""
        return int(self._call("setfsuid", uid))

    def setfsgid(self, gid: int) -> int:
        """Set the group id that files are opened with; return the one before, also when it is refused."""
        return int(self._call("setfsgid", gid))

    def getgroups(self) -> list[int]:
        """Return the supplementary groups."""
        return list(self._call("getgroups", 65536, (cell := Cell(())), out=cell)[1] or ())

    def setgroups(self, groups: Iterable[int]) -> None:
        """Set the supplementary groups."""
        groups = list(groups)
        self._call("setgroups", len(groups), groups)

    def capget(self, pid: int = 0) -> tuple[int, int, int]:
        """Return a thread's (effective, permitted, inheritable) capabilities: bit n is capability n."""
        header = (_CAPABILITY_VERSION_3, pid)
        return self._call("capget", header, (cell := Cell((0, 0, 0))), out=cell)[1]  # type: ignore[no-any-return]

    def capset(self, effective: int, permitted: int, inheritable: int, pid: int = 0) -> None:
        """Set the calling thread's capabilities."""
        self._call("capset", (_CAPABILITY_VERSION_3, pid), (effective, permitted, inheritable))

    def prlimit(self, pid: int, resource: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
        """Set a limit (soft, hard) of a process, unless `limits` is None; return what it was."""
        old = Cell((0, 0))
        return self._call("prlimit64", pid, resource, limits or 0, old, out=old)[1]  # type: ignore[no-any-return]

    def unshare(self, flags: int) -> None:
        """Stop sharing what CLONE_* flags name."""
        self._call("unshare", flags)

    def setns(self, fd: int, flags: int = 0) -> None:
        """Go into the namespace that a descriptor stands for."""
        self._call("setns", fd, flags)

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        """Return a descriptor that stands for a process."""
        return int(self._call("pidfd_open", pid, flags))

    def _three(self, name: str) -> tuple[int, int, int]:
        found: Any = self._call(name, *(cells := _Three()).cells, out=cells)[1]
        return found  # type: ignore[no-any-return]


class _Three:
    """Three cells as one result."""

    def __init__(self) -> None:
        self.cells = (Cell(0), Cell(0), Cell(0))

    @property
    def value(self) -> tuple[Any, ...]:
        return tuple(cell.value for cell in self.cells)
