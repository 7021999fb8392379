"""<sched.h>: policies, CPUs, nice values."""

from __future__ import annotations

from collections.abc import Iterable

from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext


class Sched(UserContext):
    """The calls of <sched.h> and setpriority()."""

    __slots__ = ()

    def sched_yield(self) -> None:
        """Let others run."""
        self._call("sched_yield")

    def sched_setscheduler(self, pid: int, policy: int, priority: int) -> None:
        """Set policy and realtime priority."""
        self._call("sched_setscheduler", pid, policy, priority)

    def sched_getscheduler(self, pid: int = 0) -> int:
        """Return the policy."""
        return int(self._call("sched_getscheduler", pid))

    def sched_get_priority_min(self, policy: int) -> int:
        """Return the lowest realtime priority of a policy."""
        return int(self._call("sched_get_priority_min", policy))

    def sched_get_priority_max(self, policy: int) -> int:
        """Return the highest realtime priority of a policy."""
        return int(self._call("sched_get_priority_max", policy))

    def sched_setaffinity(self, pid: int, cpus: Iterable[int]) -> None:
        """Set on which CPUs a task may run."""
        self._call("sched_setaffinity", pid, 8, sum(1 << cpu for cpu in set(cpus)))

    def sched_getaffinity(self, pid: int = 0) -> set[int]:
        """Return the CPUs on which a task may run."""
        _, mask = self._call("sched_getaffinity", pid, 8, (cell := Cell(0)), out=cell)
        return {cpu for cpu in range(int(mask).bit_length()) if mask >> cpu & 1}

    def getcpu(self) -> int:
        """Return the number of the CPU that runs the caller."""
        return int(self._call("getcpu", (cell := Cell(0)), 0, 0, out=cell)[1])

    def nice(self, inc: int) -> int:
        """Change the nice value; return the new one."""
        now = self.getpriority(0, 0)
        self.setpriority(0, 0, max(-20, min(19, now + inc)))
        return self.getpriority(0, 0)

    def getpriority(self, which: int, who: int) -> int:
        """Return a nice value."""
        return 20 - int(self._call("getpriority", which, who))

    def setpriority(self, which: int, who: int, nice: int) -> None:
        """Set a nice value."""
        self._call("setpriority", which, who, nice)
