"""Resource limits, as far as process calls look at them.  kernel/sys.c, getrlimit(2)."""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import differs, root
from taskscope.labs.truth.rules.kit import PROGRAM, asleep, attempt, ends, refused, sleeper, wait

CPU, STACK, CORE, NPROC, NOFILE, SIGPENDING, NICE, RTPRIO = 0, 3, 4, 6, 7, 11, 13, 14
INFINITY: Final = (1 << 64) - 1
SIGCHLD, SCHED_FIFO, SCHED_RR, SCHED_BATCH = 17, 1, 2, 3
A, B = 4001, 4002
#: a user that nobody else is
LONELY: Final = 41_042


def _child(sys: Any, say: Any, fn: Any, *args: Any) -> None:
    say(wait(sys, say, sys.clone(fn, say, *args)))


def soft_and_hard(sys: Any, say: Any) -> None:
    """The soft limit may be anything up to the hard one; above it is EINVAL, and so is a resource that is not there."""
    _child(sys, say, _sets_limits)


def _sets_limits(sys: Any, say: Any) -> None:
    sys.setrlimit(NOFILE, (100, 200))
    say(sys.getrlimit(NOFILE), attempt(sys.setrlimit, NOFILE, (201, 200)), attempt(sys.setrlimit, NOFILE, (200, 200)))
    say(sys.getrlimit(NOFILE), attempt(sys.setrlimit, NOFILE, (0, 0)), sys.getrlimit(NOFILE))
    say(attempt(sys.setrlimit, 16, (0, 0)), attempt(sys.getrlimit, 16), attempt(sys.getrlimit, -1))


@root
def hard_goes_down(sys: Any, say: Any) -> None:
    """Without CAP_SYS_RESOURCE the hard limit only goes down."""
    _child(sys, say, _lowers_as_user)


def _lowers_as_user(sys: Any, say: Any) -> None:
    sys.setrlimit(CORE, (100, 200))
    sys.setuid(A)
    say(attempt(sys.setrlimit, CORE, (100, 201)), attempt(sys.setrlimit, CORE, (150, 150)))
    say(attempt(sys.setrlimit, CORE, (150, 200)), sys.getrlimit(CORE), attempt(sys.setrlimit, CORE, (0, INFINITY)))


def inherited(sys: Any, say: Any) -> None:
    """A child has its parent's limits, and its own from then on."""
    _child(sys, say, _has_limited_child)


def _has_limited_child(sys: Any, say: Any) -> None:
    sys.setrlimit(CORE, (100, 200))
    _child(sys, say, _changes_own)
    say(sys.getrlimit(CORE))


def _changes_own(sys: Any, say: Any) -> None:
    say(sys.getrlimit(CORE))
    sys.setrlimit(CORE, (50, 60))


def of_a_process(sys: Any, say: Any) -> None:
    """prlimit() reads and sets the limits of another process; ESRCH for nobody."""
    pid = sys.clone(sleeper)
    say(attempt(sys.prlimit, pid, CORE, (10, 20)) != "EPERM", sys.prlimit(pid, CORE), sys.prlimit(pid, CORE, (5, 20)))
    say(sys.prlimit(pid, CORE), attempt(sys.prlimit, 0x3FFF_FFFF, CORE), attempt(sys.prlimit, pid, 99))


@root
def of_another_user(sys: Any, say: Any) -> None:
    """prlimit() wants all ids of the target to be the caller's real ones, or CAP_SYS_RESOURCE."""
    pids = []
    for ids in ((A, A, A), (A, B, A), (A, A, B), (B, B, B)):
        pids.append(sys.clone(_becomes_and_sleeps, ids))
        asleep(sys, pids[-1])
    _child(sys, say, _looks_as, A, pids)


def _becomes_and_sleeps(sys: Any, ids: tuple[int, int, int]) -> None:
    sys.setresgid(A, A, A)
    sys.setresuid(*ids)
    sleeper(sys)


def _looks_as(sys: Any, say: Any, uid: int, pids: list[int]) -> None:
    sys.setresgid(A, A, A)
    sys.setuid(uid)
    say([attempt(sys.prlimit, pid, CORE) == "EPERM" for pid in pids], attempt(sys.prlimit, 0, 99))


def descriptors(sys: Any, say: Any) -> None:
    """RLIMIT_NOFILE is one more than the highest descriptor that can be made: EMFILE, EBADF for dup2()."""
    _child(sys, say, _has_few)


def _has_few(sys: Any, say: Any) -> None:
    sys.setrlimit(NOFILE, (5, 10))
    opened = [attempt(sys.open, "/dev/null") for _ in range(4)]
    say(opened[-1], attempt(sys.pipe), attempt(sys.dup, 0), attempt(sys.dup2, 0, 5), attempt(sys.dup2, 0, 4))
    say(attempt(sys.fcntl, 0, 0, 5), attempt(sys.fcntl, 0, 0, 4))


@root
def processes(sys: Any, say: Any) -> None:
    """RLIMIT_NPROC counts the processes of the real user: fork() is EAGAIN when there are as many."""
    for soft in (0, 1, 2):
        _child(sys, say, _forks_as, LONELY + soft, soft)


def _forks_as(sys: Any, say: Any, uid: int, soft: int) -> None:
    sys.setuid(uid)
    sys.setrlimit(NPROC, (soft, soft))
    found = attempt(sys.clone, ends, 0)
    say(soft, found if isinstance(found, str) else wait(sys, say, found))


def processes_of_root(sys: Any, say: Any) -> None:
    """RLIMIT_NPROC does not hold for user 0."""
    _child(sys, say, _forks_limited)


def _forks_limited(sys: Any, say: Any) -> None:
    sys.setrlimit(NPROC, (0, 0))
    say(wait(sys, say, sys.clone(ends, 3)))


@root
def too_many_for_exec(sys: Any, say: Any) -> None:
    """Who becomes a user with too many processes is stopped at execve(), with EAGAIN, and not before."""
    for _ in range(2):
        asleep(sys, sys.clone(_becomes_and_sleeps, (LONELY + 10,) * 3))
    for soft in (1, 5):
        _child(sys, say, _becomes_and_executes, LONELY + 10, soft)


def _becomes_and_executes(sys: Any, say: Any, uid: int, soft: int) -> None:
    sys.setrlimit(NPROC, (soft, soft))
    say(soft, attempt(sys.setuid, uid))
    say(attempt(sys.execve, "/bin/true", ["true"], {}))


@root
@differs("until v5.14 (21d1c5e386bc, ucounts) a limit that was reached, not only passed, stopped it", "4.19-arm")
def just_enough_for_exec(sys: Any, say: Any) -> None:
    """The first process of a user whose limit is 0 may execute a program: it has not passed it when it becomes that."""
    _child(sys, say, _becomes_and_executes, LONELY + 20, 0)


@root
def nice(sys: Any, say: Any) -> None:
    """Without CAP_SYS_NICE and with RLIMIT_NICE 0 the nice value only goes up: EACCES."""
    _child(sys, say, _nices_as_user)


def _nices_as_user(sys: Any, say: Any) -> None:
    sys.setpriority(0, 0, 5)
    sys.setrlimit(NICE, (0, 0))
    sys.setuid(A)
    say([attempt(sys.setpriority, 0, 0, value) for value in (6, 5, 0, -5, -6, -20)], sys.getpriority(0, 0))


@root
def others_nice(sys: Any, say: Any) -> None:
    """setpriority() of another user's process is EPERM, unless the effective id is one of its own."""
    pids = []
    for ids in ((A, A, A), (B, B, B), (A, B, B), (B, A, A)):
        pids.append(sys.clone(_becomes_and_sleeps, ids))
        asleep(sys, pids[-1])
    _child(sys, say, _nices_others, pids)


def _nices_others(sys: Any, say: Any, pids: list[int]) -> None:
    sys.setuid(A)
    say([attempt(sys.setpriority, 0, pid, 10) for pid in pids], [attempt(sys.getpriority, 0, pid) for pid in pids])
    say(attempt(sys.setpriority, 0, 0x3FFF_FFFF, 0), attempt(sys.setpriority, 3, 0, 0), attempt(sys.getpriority, -1, 0))


@root
def realtime(sys: Any, say: Any) -> None:
    """Without CAP_SYS_NICE and with RLIMIT_RTPRIO 0 nobody becomes realtime; who is may lower the priority."""
    for policy, priority in ((0, 0), (SCHED_FIFO, 6)):
        _child(sys, say, _is_realtime_as, policy, priority)


def _is_realtime_as(sys: Any, say: Any, had: int, was: int) -> None:
    sys.sched_setscheduler(0, had, was)
    sys.setrlimit(RTPRIO, (0, 0))
    sys.setuid(A)
    say(had, was, [attempt(sys.sched_setscheduler, 0, policy, priority)
               for policy, priority in ((SCHED_FIFO, 7), (SCHED_FIFO, 6), (SCHED_FIFO, 2), (SCHED_RR, 1), (0, 0))])


def arguments(sys: Any, say: Any) -> None:
    """Arguments and environment take a quarter of RLIMIT_STACK, 128 KiB at least; one of them 32 pages at most."""
    _child(sys, say, _executes_with_much)


def _executes_with_much(sys: Any, say: Any) -> None:
    sys.setrlimit(STACK, (1 << 20, INFINITY))
    piece = "x" * 100_000
    say([attempt(sys.execve, PROGRAM, ["p", *[piece] * n], {}) for n in (3, 4)], attempt(
        sys.execve, PROGRAM, ["p", "x" * 131_072], {}))
    sys.setrlimit(STACK, (100_000, INFINITY))
    say(attempt(sys.execve, PROGRAM, ["p", piece, "x" * 40_000], {}))
    sys.setrlimit(STACK, (8 << 20, INFINITY))
    sys.execve("/bin/true", ["true", *[piece] * 10], {})


def nobody_is_made(sys: Any, say: Any) -> None:
    """A fork that fails by a limit leaves nothing: the next one with a higher limit gets the next pid."""
    say(refused(sys, 0x1_0000 | SIGCHLD), refused(sys, 0x800 | SIGCHLD))
    first = sys.clone(ends, 0)
    say(wait(sys, say, first))
