"""<time.h> and <sys/resource.h>: clocks, sleeping, limits, usage."""

from __future__ import annotations

from typing import Any

from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext


class Time(UserContext):
    """The calls of <time.h>, <sys/times.h>, <sys/resource.h> and uname()."""

    __slots__ = ()

    def nanosleep(self, ns: int) -> None:
        """Sleep so many ns; raises OSError(EINTR) if a handler ran."""
        self._call("nanosleep", divmod(ns, 1_000_000_000), 0)

    def sleep(self, seconds: float) -> int:
        """Sleep; return the whole seconds that were left when a signal handler ended it."""
        try:
            self._call("nanosleep", divmod(round(seconds * 1e9), 1_000_000_000), (rem := Cell((0, 0))), out=rem)
        except OSError as error:
            if error.errno != 4:
                raise
            return self._interrupted("nanosleep")[0]
        return 0

    def clock_nanosleep(self, clock: int, ns: int, flags: int = 0) -> int:
        """Sleep for, or with TIMER_ABSTIME (1) until, a time of a clock.

        :return: the ns that were left when a handler ended a relative sleep, 0 for an absolute one; -1 if none did
        """
        time = divmod(ns, 1_000_000_000)
        try:
            self._call("clock_nanosleep", clock, flags, time, rem := Cell((0, 0)), out=rem)
        except OSError as error:
            if error.errno != 4:
                raise
            sec, nsec = self._interrupted("clock_nanosleep")
            return sec * 1_000_000_000 + nsec
        return -1

    def _interrupted(self, name: str) -> tuple[int, int]:
        """Return what the last call of a name that a handler ended has written: behind it stand the handler's calls."""
        at = self._at if self._at < self._end else len(self._log)
        for called, ret, value in reversed(self._log[:at]):
            if called == name and ret == -4:
                sec, nsec = value
                return int(sec), int(nsec)
        return 0, 0

    def usleep(self, us: int) -> None:
        """Sleep so many microseconds."""
        self.nanosleep(us * 1000)

    def clock_gettime_ns(self, clock: int = 1) -> int:
        """Return a clock in ns: 0 CLOCK_REALTIME, 1 CLOCK_MONOTONIC."""
        _, (sec, nsec) = self._call("clock_gettime", clock, (cell := Cell((0, 0))), out=cell)
        return int(sec) * 1_000_000_000 + int(nsec)

    def times(self) -> Any:
        """Return (utime, stime, cutime, cstime) in clock ticks of 1/100 s."""
        return self._call("times", (cell := Cell(None)), out=cell)[1]

    def getrusage(self, who: int = 0) -> Any:
        """Return the resource usage of the process (0), its children (-1) or the thread (1)."""
        return self._call("getrusage", who, (cell := Cell(None)), out=cell)[1]

    def getrlimit(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard)."""
        return self._call("getrlimit", resource, (cell := Cell((0, 0))), out=cell)[1]  # type: ignore[no-any-return]

    def setrlimit(self, resource: int, limits: tuple[int, int]) -> None:
        """Set (soft, hard)."""
        self._call("setrlimit", resource, limits)

    def uname(self) -> Any:
        """Return (sysname, nodename, release, version, machine)."""
        return self._call("uname", (cell := Cell(None)), out=cell)[1]
