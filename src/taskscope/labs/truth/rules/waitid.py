"""waitid(2): what siginfo says, WNOWAIT, the kinds of ids, errors.  kernel/exit.c, waitid(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import differs, root
from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    dead,
    ends,
    kill,
    raw,
    sleeper,
    started,
    stop,
    wait,
    waitid,
)

WNOHANG, WSTOPPED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x01000000
WALL, WCLONE = 0x40000000, -0x80000000
P_ALL, P_PID, P_PGID, P_PIDFD = range(4)
SIGKILL, SIGUSR1, SIGTERM, SIGCONT, SIGSTOP = 9, 10, 15, 18, 19
NOBODY = 0x3FFFFFFF
ANY = WEXITED | WSTOPPED | WCONTINUED
PIDFD = 'P_PIDFD came with v5.4 (3695eae5fee0, "pidfd: add P_PIDFD to waitid()")'


# ---- what it says ---------------------------------------------------------------------------------------

def exited(sys: Any, say: Any) -> None:
    """A child that exited is told with CLD_EXITED and the low eight bits of its code."""
    for code in (0, 42, 255, 256, -1):
        say(code, waitid(sys, say, P_PID, sys.clone(ends, code), WEXITED))


def killed(sys: Any, say: Any) -> None:
    """A child that was killed is told with CLD_KILLED and the signal's number."""
    for signal in (1, SIGKILL, SIGTERM, 34, 64):
        pid = started(sys)
        kill(sys, pid, signal)
        say(signal, waitid(sys, say, P_PID, pid, WEXITED))


def killed_without_core(sys: Any, say: Any) -> None:
    """A child that a core-dumping signal killed without a core is told with CLD_KILLED."""
    sys.setrlimit(4, (1, 1))
    pid = started(sys)
    kill(sys, pid, 6)
    say(waitid(sys, say, P_PID, pid, WEXITED))


def stopped(sys: Any, say: Any) -> None:
    """A stop is told once, with CLD_STOPPED and the stop signal's number."""
    for signal in (19, 20, 21, 22):
        pid = started(sys)
        sys.setpgid(pid, 0)
        sys.kill(pid, signal)
        say(signal, waitid(sys, say, P_PID, pid, WSTOPPED), waitid(sys, say, P_PID, pid, WSTOPPED | WNOHANG))


def continued(sys: Any, say: Any) -> None:
    """A continuation is told once, with CLD_CONTINUED and SIGCONT."""
    pid = started(sys)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    say(waitid(sys, say, P_PID, pid, WCONTINUED), waitid(sys, say, P_PID, pid, WCONTINUED | WNOHANG))


@root
def uid_of_the_child(sys: Any, say: Any) -> None:
    """si_uid is the child's real user id, as it was when it died."""
    gate = Gate(sys)
    pid = sys.clone(_becomes, gate)
    gate.wait(sys)
    say(waitid(sys, say, P_PID, pid, WEXITED))


def _becomes(sys: Any, gate: Gate) -> None:
    sys._call("setresuid", 1000, 1001, 1001)
    gate.open(sys)


def null_info(sys: Any, say: Any) -> None:
    """A caller that gives no place for siginfo waits all the same; the result is 0."""
    dead(sys, 3)
    say(raw(sys, "waitid", P_ALL, 0, 0, WEXITED, 0), wait(sys, say))


def bad_info(sys: Any, say: Any) -> None:
    """A bad pointer for siginfo gives EFAULT when the child has been reaped already."""
    dead(sys, 3)
    say(raw(sys, "waitid", P_ALL, 0, 8, WEXITED, 0), wait(sys, say))


# ---- options --------------------------------------------------------------------------------------------

def nowait_keeps_zombie(sys: Any, say: Any) -> None:
    """WNOWAIT tells of a zombie as often as one asks, and leaves it to be reaped."""
    pid = dead(sys, 8)
    for _ in range(2):
        say(waitid(sys, say, P_PID, pid, WEXITED | WNOWAIT))
    say(waitid(sys, say, P_PID, pid, WEXITED), waitid(sys, say, P_PID, pid, WEXITED))


def nowait_keeps_stop(sys: Any, say: Any) -> None:
    """WNOWAIT leaves a stop to be told again."""
    pid = started(sys)
    stop(sys, pid)
    for options in (WNOWAIT, WNOWAIT, 0, WNOHANG):
        say(waitid(sys, say, P_PID, pid, WSTOPPED | options))


def nowait_keeps_continue(sys: Any, say: Any) -> None:
    """WNOWAIT leaves a continuation to be told again."""
    pid = started(sys)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    for options in (WNOWAIT, WNOWAIT, 0, WNOHANG):
        say(waitid(sys, say, P_PID, pid, WCONTINUED | options))


def nowait_then_wait4(sys: Any, say: Any) -> None:
    """What WNOWAIT left, wait4() reaps."""
    pid = dead(sys, 8)
    say(waitid(sys, say, P_ALL, 0, WEXITED | WNOWAIT), wait(sys, say, pid), waitid(sys, say, P_ALL, 0, WEXITED))


def nothing_asked(sys: Any, say: Any) -> None:
    """Without WEXITED, WSTOPPED or WCONTINUED, or with options that are none, waitid() fails with EINVAL."""
    dead(sys)
    for options in (0, WNOHANG, WNOWAIT, WNOHANG | WNOWAIT | WALL, WEXITED | 0x10, WEXITED | 0x40, WEXITED | 0x1000):
        say(hex(options), waitid(sys, say, P_ALL, 0, options))


def bad_ids(sys: Any, say: Any) -> None:
    """A kind of id that is none, a pid that is not positive, a group or descriptor below 0 give EINVAL."""
    dead(sys)
    for kind, ident in ((4, 1), (-1, 1), (P_PID, 0), (P_PID, -1), (P_PGID, -1), (P_PIDFD, -1)):
        say(kind, ident, waitid(sys, say, kind, ident, WEXITED))


def zombie_without_wexited(sys: Any, say: Any) -> None:
    """A zombie is no child to wait for where WEXITED is not asked: ECHILD."""
    pid = dead(sys)
    for options in (WSTOPPED, WCONTINUED, WSTOPPED | WCONTINUED | WNOHANG):
        say(waitid(sys, say, P_PID, pid, options))
    say(waitid(sys, say, P_PID, pid, WEXITED))


def stop_without_wstopped(sys: Any, say: Any) -> None:
    """A stop is not told where WSTOPPED is not asked."""
    pid = started(sys)
    stop(sys, pid)
    say(waitid(sys, say, P_PID, pid, WEXITED | WCONTINUED | WNOHANG), waitid(sys, say, P_PID, pid, ANY))


def nohang(sys: Any, say: Any) -> None:
    """With WNOHANG and no news waitid() returns 0 with an empty siginfo."""
    started(sys)
    say(waitid(sys, say, P_ALL, 0, ANY | WNOHANG))


def a_whole_life(sys: Any, say: Any) -> None:
    """Stop, continuation and death of a child are told in turn when one asks for all."""
    pid = started(sys)
    stop(sys, pid)
    say(waitid(sys, say, P_PID, pid, ANY))
    sys.kill(pid, SIGCONT)
    say(waitid(sys, say, P_PID, pid, ANY))
    sys.kill(pid, SIGKILL)
    say(waitid(sys, say, P_PID, pid, ANY), waitid(sys, say, P_PID, pid, ANY))


def clone_children(sys: Any, say: Any) -> None:
    """__WCLONE and __WALL choose by exit signal for waitid() as for wait4()."""
    one, two = dead(sys, 1, flags=0), dead(sys, 2)
    for options in (0, WCLONE, WALL):
        say(waitid(sys, say, P_PID, one, WEXITED | WNOWAIT | options),
            waitid(sys, say, P_PID, two, WEXITED | WNOWAIT | options))


def signo_is_sigchld(sys: Any, say: Any) -> None:
    """si_signo is SIGCHLD, whatever signal the child's end has sent."""
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    say(waitid(sys, say, P_PID, dead(sys, 1, flags=SIGUSR1), WEXITED | WALL))


# ---- who ------------------------------------------------------------------------------------------------

def all_ignores_id(sys: Any, say: Any) -> None:
    """P_ALL does not look at the id."""
    for ident in (0, -5, NOBODY):
        pid = dead(sys, 1)
        say(say.who(pid), waitid(sys, say, P_ALL, ident, WEXITED))


def of_a_group(sys: Any, say: Any) -> None:
    """P_PGID finds children of a group, wherever the caller is."""
    one, two = started(sys), started(sys)
    sys.setpgid(one, 0)
    sys.setpgid(two, one)
    kill(sys, two)
    say(waitid(sys, say, P_PGID, one, WEXITED), waitid(sys, say, P_PGID, one, WEXITED | WNOHANG),
        waitid(sys, say, P_PGID, two, WEXITED), waitid(sys, say, P_PGID, NOBODY, WEXITED))


@differs('v5.4: 821cc7b0b205, "waitid: Add support for waiting for the current process group"', "4.19-arm")
def own_group(sys: Any, say: Any) -> None:
    """P_PGID with 0 is the caller's own group."""
    other = started(sys)
    sys.setpgid(other, 0)
    say(waitid(sys, say, P_PGID, 0, WEXITED))
    mine = dead(sys, 1)
    say(say.who(mine), waitid(sys, say, P_PGID, 0, WEXITED))


def nobody(sys: Any, say: Any) -> None:
    """Without such a child waitid() fails with ECHILD, with WNOHANG too."""
    for kind, ident in ((P_ALL, 0), (P_PID, 1), (P_PID, sys.getpid()), (P_PID, NOBODY), (P_PGID, NOBODY)):
        say(kind, waitid(sys, say, kind, ident, WEXITED), waitid(sys, say, kind, ident, WEXITED | WNOHANG))


def not_a_thread(sys: Any, say: Any) -> None:
    """The id of a thread other than the first is not a child's."""
    told = Gate(sys)
    child = sys.clone(_has_thread, told.write)
    tid = int(sys.read(told.read, 16))
    say(waitid(sys, say, P_PID, tid, WEXITED | WNOHANG), waitid(sys, say, P_PID, child, WEXITED | WNOHANG),
        wait(sys, say, tid, WNOHANG | WALL))


def _has_thread(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.pthread_create(sleeper)).encode())
    sleeper(sys)


@differs(PIDFD, "4.19-arm")
def by_pidfd(sys: Any, say: Any) -> None:
    """P_PIDFD waits for the process behind a descriptor."""
    one, two = started(sys), dead(sys, 2)
    fds = [sys._call("pidfd_open", pid, 0) for pid in (one, two)]
    say(waitid(sys, say, P_PIDFD, fds[0], WEXITED | WNOHANG), waitid(sys, say, P_PIDFD, fds[1], WEXITED))
    kill(sys, one)
    say(waitid(sys, say, P_PIDFD, fds[0], WEXITED | WNOWAIT), waitid(sys, say, P_PIDFD, fds[0], WEXITED),
        waitid(sys, say, P_PIDFD, fds[0], WEXITED))


@differs(PIDFD, "4.19-arm")
def bad_pidfd(sys: Any, say: Any) -> None:
    """P_PIDFD with a descriptor that is none or of something else gives EBADF, of a stranger ECHILD."""
    dead(sys)
    for fd in (500, 0, sys._call("pidfd_open", sys.getpid(), 0), sys._call("pidfd_open", 1, 0)):
        say(waitid(sys, say, P_PIDFD, fd, WEXITED))


# ---- sleeping -------------------------------------------------------------------------------------------

def interrupted(sys: Any, say: Any) -> None:
    """A handler without SA_RESTART ends waitid() with EINTR."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, say.who(info.si_pid))

    sys.sigaction(SIGUSR1, handler)
    pid = sys.clone(_interrupts, sys.getpid())
    say(waitid(sys, say, P_PID, pid, WEXITED))
    kill(sys, pid)
    say(waitid(sys, say, P_PID, pid, WEXITED))


def _interrupts(sys: Any, parent: int) -> None:
    asleep(sys, parent)
    sys.kill(parent, SIGUSR1)
    sleeper(sys)


def wakes_for_its_own(sys: Any, say: Any) -> None:
    """A waiter for one child sleeps on when another dies."""
    gate = Gate(sys)
    one = sys.clone(_passes, gate)
    two = sys.clone(_opens_when_asleep, sys.getpid(), gate)
    say(say.who(one), say.who(two), waitid(sys, say, P_PID, one, WEXITED), waitid(sys, say, P_PID, two, WEXITED))


def _passes(sys: Any, gate: Gate) -> None:
    gate.wait(sys)
    sys.nanosleep(1_000_000)
    sys.exit(1)


def _opens_when_asleep(sys: Any, parent: int, gate: Gate) -> None:
    asleep(sys, parent)
    gate.open(sys)
    sys.exit(2)


def stop_wakes(sys: Any, say: Any) -> None:
    """A waiter for a stop sleeps until it comes, and wakes for a continuation where it asked for one."""
    pid = sys.clone(_stops_itself)
    say(waitid(sys, say, P_PID, pid, WSTOPPED))
    sys.clone(_continues_when_asleep, sys.getpid(), pid)
    say(waitid(sys, say, P_PID, pid, WCONTINUED))


def _stops_itself(sys: Any) -> None:
    sys.kill(sys.getpid(), SIGSTOP)
    sleeper(sys)


def _continues_when_asleep(sys: Any, parent: int, pid: int) -> None:
    asleep(sys, parent)
    sys.kill(pid, SIGCONT)
