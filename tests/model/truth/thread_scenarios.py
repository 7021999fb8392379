"""Small programs with threads whose results are the same under every schedule, for the host and the model alike.

Each is ``name(sys) -> list``; `sys` has the C library's names.  Who must come first is said by pipes, waits and polls,
and results are statuses, errnos and comparisons, never pids.  Imports nothing heavy: the host runs it in a small
process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

WNOHANG, WUNTRACED, WEXITED, WNOWAIT, WNOTHREAD = 1, 2, 4, 0x01000000, 0x20000000
P_PID = 1
PR_SET_PDEATHSIG = 1
Scenario = Callable[[Any], list[Any]]


def attempt(call: Callable[..., Any], *args: Any) -> Any:
    """Return a call's result, or its errno as a name."""
    try:
        return call(*args)
    except OSError as error:
        return {3: "ESRCH", 10: "ECHILD", 22: "EINVAL", 1: "EPERM"}.get(error.errno or 0, error.errno)


def gone(sys: Any, tgid: int, tid: int) -> str:
    """Wait until a thread is no more."""
    while attempt(sys.tgkill, tgid, tid, 0) is None:
        sys.nanosleep(200_000)
    return "gone"


def state(sys: Any, pid: int, wanted: bytes) -> str:
    """Wait until /proc shows a process in a state."""
    while True:
        fd = sys.open(f"/proc/{pid}/stat", os.O_RDONLY)
        text = sys.read(fd, 4096)
        sys.close(fd)
        if text[text.rindex(b")") + 2 :][:1] == wanted:
            return wanted.decode()
        sys.nanosleep(200_000)


def park(sys: Any) -> None:
    """Sleep until killed."""
    while True:
        sys.nanosleep(3_600_000_000_000)


# ---- what the threads of the scenarios do --------------------------------------------------------------------


def exits(sys: Any, code: int) -> int:
    """End the whole process."""
    sys.exit(code)
    return 0


def exits_on(sys: Any, fd: int, code: int) -> int:
    """End the whole process when a token comes."""
    sys.read(fd, 1)
    sys.exit(code)
    return 0


def parks(sys: Any) -> int:
    """Sleep for ever."""
    park(sys)
    return 0


def reads(sys: Any, fd: int) -> int:
    """End this thread when a token comes."""
    sys.read(fd, 1)
    return 0


def two_threads(sys: Any, code: int) -> int:
    """Be a process of which a second thread ends all."""
    sys.pthread_create(exits, code)
    park(sys)
    return 0


def thread_outlives(sys: Any, go: int, code: int, leader: int) -> int:
    """Be a process whose first thread ends before the second; its code is `leader`."""
    sys.pthread_create(exits_on, go, code) if code >= 0 else sys.pthread_create(reads, go)
    sys.pthread_exit(leader)
    return 0


def many(sys: Any, count: int, ready: int) -> int:
    """Be a process of many threads that sleep."""
    for _ in range(count):
        sys.pthread_create(parks)
    sys.write(ready, b"r")
    park(sys)
    return 0


def orphan_of_thread(sys: Any, go: int, sig: int, ready: int) -> int:
    """Be a child that its parent thread's end may kill."""
    if sig:
        sys.prctl(PR_SET_PDEATHSIG, sig)
    sys.write(ready, b"r")
    sys.read(go, 1)
    return 5


def forks(sys: Any, told: int, go: int, sig: int, until: int, ready: int) -> int:
    """Be a thread that has a child, tells its pid, and ends when a token comes."""
    pid = sys.clone(orphan_of_thread, go, sig, ready)
    sys.write(told, str(pid).encode())
    sys.read(until, 1)
    return 0


def whoami(sys: Any, told: int, parent: int, tgid: int) -> int:
    """Tell what a thread says of its ids."""
    same = (sys.getpid() == tgid, sys.gettid() != tgid, sys.getppid() == parent, sys.getpgid(0) == sys.getpgid(tgid),
            attempt(sys.setpgid, sys.gettid(), 0))
    sys.write(told, repr(same).encode())
    return 0


def family(sys: Any, go: int, sig: int, no_thread: bool) -> list[Any]:
    """Let a thread have a child and end; the other thread waits for the child."""
    told, tell = sys.pipe()
    wait, until = sys.pipe()
    hear, ready = sys.pipe()
    tid = sys.pthread_create(forks, tell, go, sig, wait, ready)
    pid = int(sys.read(told, 16))
    sys.read(hear, 1)
    before = attempt(sys.waitpid, pid, WNOHANG | WNOTHREAD)
    shared = attempt(sys.waitpid, pid, WNOHANG)
    sys.write(until, b"u")
    seen = [gone(sys, sys.getpid(), tid)]
    if sig == 0:
        alive = attempt(sys.waitpid, pid, WNOHANG | (WNOTHREAD if no_thread else 0))
        seen.append(alive)
    return [before, shared, *seen, pid]


# ---- the scenarios -------------------------------------------------------------------------------------------


def exit_group_by_thread(sys: Any) -> list[Any]:
    """A thread that is not the first ends the process with its code."""
    pid = sys.clone(two_threads, 7)
    return [sys.waitpid(pid, 0) == (pid, 0x700), attempt(sys.waitpid, pid, 0)]


def leader_exits_first(sys: Any) -> list[Any]:
    """A process whose first thread has ended is a zombie that nobody can reap before the last thread ends."""
    go, send = sys.pipe()
    results: list[Any] = []
    for code in (9, -1):
        pid = sys.clone(thread_outlives, go, code, 5)
        results.append(state(sys, pid, b"Z"))
        results.append(sys.waitpid(pid, WNOHANG))
        results.append(attempt(sys.waitid, P_PID, pid, WEXITED | WNOHANG | WNOWAIT) is None)
        results.append(attempt(sys.kill, pid, 0))
        sys.write(send, b"g")
        results.append(sys.waitpid(pid, 0)[1])
    return results


def kill_many(sys: Any) -> list[Any]:
    """A SIGKILL to one is the end of all threads; a SIGTERM too."""
    results: list[Any] = []
    hear, ready = sys.pipe()
    for sig in (signal.SIGKILL, signal.SIGTERM):
        pid = sys.clone(many, 4, ready)
        sys.read(hear, 1)
        sys.kill(pid, int(sig))
        results.append(sys.waitpid(pid, 0)[1])
    return results


def stop_many(sys: Any) -> list[Any]:
    """A process of many threads stops once, continues once, and dies once."""
    hear, ready = sys.pipe()
    pid = sys.clone(many, 3, ready)
    sys.read(hear, 1)
    results: list[Any] = []
    for _ in range(2):
        sys.kill(pid, int(signal.SIGSTOP))
        results.append(sys.waitpid(pid, WUNTRACED)[1])
        results.append(sys.waitpid(pid, WUNTRACED | WNOHANG))
        sys.kill(pid, int(signal.SIGCONT))
        results.append(sys.waitpid(pid, 8)[1])
        results.append(sys.waitpid(pid, 8 | WNOHANG))
    sys.kill(pid, int(signal.SIGKILL))
    return [*results, sys.waitpid(pid, 0)[1]]


def kill_one_thread(sys: Any) -> list[Any]:
    """tgkill() of a thread with a signal that kills ends the process; unknown threads are ESRCH."""
    hear, ready = sys.pipe()
    pid = sys.clone(many, 2, ready)
    sys.read(hear, 1)
    wrong = [attempt(sys.tgkill, *args) for args in ((sys.getpid(), pid, 0), (pid, pid, 65), (0, pid, 9))]
    sys.tgkill(pid, pid, int(signal.SIGKILL))
    return [*wrong, sys.waitpid(pid, 0)[1]]


def ids_of_threads(sys: Any) -> list[Any]:
    """Threads have one pid, one parent and one group, and tids of their own."""
    told, tell = sys.pipe()
    tid = sys.pthread_create(whoami, tell, sys.getppid(), sys.getpid())
    answer = sys.read(told, 200)
    return [answer, gone(sys, sys.getpid(), tid)]


def child_of_a_thread(sys: Any) -> list[Any]:
    """A child of a thread is all threads' to wait for, but not with __WNOTHREAD; when it ends another has it."""
    results: list[Any] = []
    for no_thread in (False, True):
        go, send = sys.pipe()
        *found, pid = family(sys, go, 0, no_thread)
        sys.write(send, b"g")
        results += [*found, sys.waitpid(pid, WNOTHREAD)[1]]
    return results


def death_of_the_parent_thread(sys: Any) -> list[Any]:
    """PR_SET_PDEATHSIG is about the parent thread, not the parent process."""
    go, _ = sys.pipe()
    *found, pid = family(sys, go, int(signal.SIGKILL), False)
    return [*found, sys.waitpid(pid, 0)[1]]


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario for scenario in (
        exit_group_by_thread, leader_exits_first, kill_many, stop_many, kill_one_thread, ids_of_threads,
        child_of_a_thread, death_of_the_parent_thread,
    )
}


def on_host(name: str) -> None:
    """Run a scenario on this host and print what it found; called in a process of its own."""
    import _thread
    import ctypes
    import time

    from taskscope.labs.truth.hostsys import HostSys, libc

    class ThreadSys(HostSys):
        """The C library with threads."""

        pipe = staticmethod(os.pipe)

        def clone(self, fn: Callable[..., Any], *args: Any) -> int:
            pid = os.fork()
            if pid == 0:
                os._exit(fn(self, *args) or 0)
            return pid

        def pthread_create(self, fn: Callable[..., Any], *args: Any) -> int:
            told, tell = os.pipe()

            def body() -> None:
                os.write(tell, str(self.gettid()).encode())
                fn(self, *args)

            _thread.start_new_thread(body, ())
            return int(os.read(told, 16))

        def pthread_exit(self, code: int) -> None:
            number = {"x86_64": 60, "aarch64": 93}.get(os.uname().machine, 1)
            libc.syscall(ctypes.c_long(number), ctypes.c_long(code))

        def tgkill(self, tgid: int, tid: int, sig: int) -> None:
            number = {"x86_64": 234, "aarch64": 131}.get(os.uname().machine, 268)
            if libc.syscall(ctypes.c_long(number), ctypes.c_long(tgid), ctypes.c_long(tid), ctypes.c_long(sig)) < 0:
                raise OSError(ctypes.get_errno(), "tgkill")

        def nanosleep(self, ns: int) -> None:
            time.sleep(ns / 1e9)

    print(SCENARIOS[name](ThreadSys()))  # noqa: T201
