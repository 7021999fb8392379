"""The end of processes: what is left of them, their descriptors, threads and groups.  kernel/exit.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    comes_to,
    dead,
    ends,
    field,
    kill,
    sig,
    sleeper,
    started,
    stat,
    state,
    stop,
    thread_ends,
    wait,
)

SIGHUP, SIGTERM = 1, 15
SIGCONT, SIGSTOP = 18, 19
WNOHANG, WALL = 1, 0x40000000
PR_SET_CHILD_SUBREAPER = 36


# ---- what is left ---------------------------------------------------------------------------------------

def zombie_in_proc(sys: Any, say: Any) -> None:
    """A zombie is in /proc with state Z, its name, its parent and its group, and without a command line."""
    sys.prctl(15, b"a zombie")
    pid = dead(sys, 3)
    seen = stat(sys, pid)
    say(seen[1], seen[2], int(seen[3]) == sys.getpid(), int(seen[4]) == sys.getpgid(0), seen[37])
    say(field(sys, pid, "State"), sys.slurp(f"/proc/{pid}/cmdline"))
    sys.waitpid(pid)
    say(attempt(sys.slurp, f"/proc/{pid}/stat"))


def descriptors_are_closed(sys: Any, say: Any) -> None:
    """The end of a process closes its descriptors: a reader of its pipe sees the end."""
    read, write = sys.pipe()
    pid = sys.clone(_writes_and_ends, write)
    sys.close(write)
    say(sys.read(read, 10), sys.read(read, 10), wait(sys, say, pid))


def _writes_and_ends(sys: Any, fd: int) -> None:
    sys.write(fd, b"last")


def zombie_has_no_descriptors(sys: Any, say: Any) -> None:
    """A killed process has closed its descriptors before it can be reaped."""
    read, write = sys.pipe()
    pid = sys.clone(sleeper)
    sys.close(write)
    kill(sys, pid)
    say(sys.read(read, 10), wait(sys, say, pid))


def killing_a_stopped_one(sys: Any, say: Any) -> None:
    """SIGKILL ends a stopped process, another deadly signal waits until it is continued."""
    one, two = started(sys), started(sys)
    for pid in (one, two):
        stop(sys, pid)
    sys.kill(one, SIGTERM)
    kill(sys, two)
    say(wait(sys, say, two), state(sys, one), wait(sys, say, one, WNOHANG))
    sys.kill(one, SIGCONT)
    say(wait(sys, say, one))


def orphaned_group_is_woken(sys: Any, say: Any) -> None:
    """Stopped members of a group that a death orphans get SIGHUP and SIGCONT."""
    told, done = Gate(sys), Gate(sys)
    child = sys.clone(_parent_of_a_job, say, told.write, done)
    job = int(sys.read(told.read, 16))
    asleep(sys, job)
    stop(sys, job)
    kill(sys, child)
    done.wait(sys)


def _parent_of_a_job(sys: Any, say: Any, fd: int, done: Gate) -> None:
    pid = sys.clone(_says_signals, say, done)
    sys.setpgid(pid, 0)
    sys.write(fd, str(pid).encode().ljust(16))
    sleeper(sys)


def _says_signals(sys: Any, say: Any, done: Gate) -> None:
    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, info.si_code)

    for signal in (SIGHUP, SIGCONT):
        sys.sigaction(signal, handler, 0, sig(SIGHUP, SIGCONT))
    attempt(sys.pause)
    done.open(sys)


def orphaned_group_that_runs(sys: Any, say: Any) -> None:
    """A group without stopped members gets nothing when it is orphaned."""
    told = Gate(sys)
    child = sys.clone(_parent_of_a_sleeper, told.write)
    job = int(sys.read(told.read, 16))
    asleep(sys, job)
    kill(sys, child)
    say(wait(sys, say, child), state(sys, job))


def _parent_of_a_sleeper(sys: Any, fd: int) -> None:
    pid = sys.clone(sleeper)
    sys.setpgid(pid, 0)
    sys.write(fd, str(pid).encode().ljust(16))
    sleeper(sys)


def stopped_orphan_is_killed(sys: Any, say: Any) -> None:
    """A stopped member of a newly orphaned group dies of SIGHUP where it does not handle it."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    told = Gate(sys)
    outer = sys.clone(_session_with_job, told.write)
    job = int(sys.read(told.read, 16))
    asleep(sys, job)
    sys.kill(job, SIGSTOP)
    comes_to(sys, job, "T")
    kill(sys, outer)
    say(wait(sys, say, outer), wait(sys, say, job))


def _session_with_job(sys: Any, fd: int) -> None:
    sys.setsid()
    _parent_of_a_sleeper(sys, fd)


# ---- threads --------------------------------------------------------------------------------------------

def exit_group_ends_threads(sys: Any, say: Any) -> None:
    """The exit of a process ends its threads, and the code is that of who called it."""
    say(wait(sys, say, sys.clone(_thread_exits_all)), wait(sys, say, sys.clone(_exits_with_threads)))


def _thread_exits_all(sys: Any) -> None:
    sys.pthread_create(ends, 5)
    sleeper(sys)


def _exits_with_threads(sys: Any) -> None:
    for _ in range(3):
        sys.pthread_create(sleeper)
    sys.exit(6)


def thread_leaves_no_zombie(sys: Any, say: Any) -> None:
    """A thread that ends is nobody to wait for, and its process goes on."""
    gate = Gate(sys)
    tid = sys.pthread_create(_opens, gate)
    gate.wait(sys)
    thread_ends(sys, tid)
    say(wait(sys, say, tid, WALL), field(sys, sys.getpid(), "Threads"))


def _opens(sys: Any, gate: Gate) -> None:
    gate.open(sys)


def leader_leaves_first(sys: Any, say: Any) -> None:
    """A first thread that ends before the others is a zombie that is not reaped until they have ended."""
    gate = Gate(sys)
    pid = sys.clone(_leader_leaves, gate)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid, WNOHANG), field(sys, pid, "Threads"))
    gate.open(sys)
    say(wait(sys, say, pid))


def _leader_leaves(sys: Any, gate: Gate) -> None:
    sys.pthread_create(_passes, gate)
    sys.pthread_exit(0)


def _passes(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


@differs("synchronize_group_exit() of v5.16 makes it the last thread's code (d80f7b5ec3e8 and after)", "4.19-arm")
def last_thread_decides(sys: Any, say: Any) -> None:
    """The code of a process whose threads end one by one is that of the last one."""
    gate = Gate(sys)
    pid = sys.clone(_threads_with_codes, gate)
    comes_to(sys, pid, "Z")
    gate.open(sys)
    say(wait(sys, say, pid))


def _threads_with_codes(sys: Any, gate: Gate) -> None:
    sys.pthread_create(_exits_with, gate, 7)
    sys.pthread_exit(5)


def _exits_with(sys: Any, gate: Gate, code: int) -> None:
    gate.wait(sys)
    sys.pthread_exit(code)


def kill_reaches_every_thread(sys: Any, say: Any) -> None:
    """A deadly signal to one thread ends the process with that signal."""
    told = Gate(sys)
    pid = sys.clone(_tells_thread, told.write)
    tid = int(sys.read(told.read, 16))
    say(attempt(sys.tgkill, pid, tid, SIGTERM), wait(sys, say, pid))


def _tells_thread(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.pthread_create(sleeper)).encode().ljust(16))
    sleeper(sys)
