"""Nice values, policies and CPUs of tasks.  kernel/sched/syscalls.c, kernel/sys.c, sched(7), setpriority(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import asleep, attempt, dead, raw, sleeper, started, stat, wait

PROCESS, PGRP, USER = 0, 1, 2
NORMAL, FIFO, RR, BATCH, IDLE = 0, 1, 2, 3, 5
RESET_ON_FORK = 0x40000000
NOBODY = 0x3FFFFFFF


@root
def nice_is_clamped(sys: Any, say: Any) -> None:
    """Nice values go from -20 to 19; what is beyond is taken as the end."""
    for nice in (0, 5, 19, 20, 100, -20, -21, -100, 0):
        say(nice, attempt(sys.setpriority, PROCESS, 0, nice), sys.getpriority(PROCESS, 0))


def nice_of_a_child(sys: Any, say: Any) -> None:
    """The nice value of another process can be set and asked for."""
    pid = started(sys)
    say(sys.getpriority(PROCESS, pid), attempt(sys.setpriority, PROCESS, pid, 7), sys.getpriority(PROCESS, pid),
        sys.getpriority(PROCESS, 0), stat(sys, pid)[18])


@root
def nice_of_a_group(sys: Any, say: Any) -> None:
    """That of a group is set for all members, and asked for it is the lowest of them."""
    one, two = started(sys), started(sys)
    sys.setpgid(one, 0)
    sys.setpgid(two, one)
    sys.setpriority(PROCESS, one, 9)
    sys.setpriority(PROCESS, two, 4)
    say(sys.getpriority(PGRP, one), attempt(sys.setpriority, PGRP, one, 6))
    say([sys.getpriority(PROCESS, pid) for pid in (one, two)], sys.getpriority(PGRP, 0))


def nice_of_nobody(sys: Any, say: Any) -> None:
    """Nobody has no nice value, ESRCH, and a kind that is none gives EINVAL."""
    for which, who in ((PROCESS, NOBODY), (PGRP, NOBODY), (USER, NOBODY), (3, 0), (-1, 0)):
        say(which, attempt(sys.getpriority, which, who), attempt(sys.setpriority, which, who, 1))


@root
def nice_without_root(sys: Any, say: Any) -> None:
    """Who is not root may raise its own nice value, not lower it, EACCES, nor touch that of others, EPERM."""
    say(wait(sys, say, sys.clone(_nice_as_user, say)))


def _nice_as_user(sys: Any, say: Any) -> None:
    sys.setrlimit(13, (0, 0))
    sys.setuid(1000)
    say(attempt(sys.setpriority, PROCESS, 0, 5), attempt(sys.setpriority, PROCESS, 0, 4), sys.getpriority(PROCESS, 0))
    say(attempt(sys.setpriority, PROCESS, 1, 10), attempt(sys.setpriority, PROCESS, sys.getppid(), 10))


def nice_of_a_zombie(sys: Any, say: Any) -> None:
    """A zombie still has a nice value."""
    say(sys.getpriority(PROCESS, dead(sys)))


@root
def policies(sys: Any, say: Any) -> None:
    """The policies that need no priority take 0 only, realtime ones 1 to 99."""
    for policy in (NORMAL, BATCH, IDLE, FIFO, RR):
        say(policy, [attempt(sys.sched_setscheduler, 0, policy, priority) for priority in (0, 1, 99, 100, -1)],
            sys.sched_getscheduler(0))
        attempt(sys.sched_setscheduler, 0, NORMAL, 0)


def no_such_policy(sys: Any, say: Any) -> None:
    """A policy that is none gives EINVAL, a negative pid too, and nobody ESRCH."""
    for pid, policy in ((0, 4), (0, 99), (0, -1), (-1, NORMAL), (NOBODY, NORMAL)):
        say(pid, policy, attempt(sys.sched_setscheduler, pid, policy, 0))
    say(attempt(sys.sched_getscheduler, -1), attempt(sys.sched_getscheduler, NOBODY))


def priorities_of_policies(sys: Any, say: Any) -> None:
    """Realtime policies have priorities 1 to 99, the others 0, and what is no policy gives EINVAL."""
    for policy in (NORMAL, FIFO, RR, BATCH, IDLE, 4, 99, -1):
        say(policy, raw(sys, "sched_get_priority_min", policy), raw(sys, "sched_get_priority_max", policy))


@root
def policy_is_inherited(sys: Any, say: Any) -> None:
    """A child has its parent's policy and priority, and keeps its own when the parent's changes."""
    sys.sched_setscheduler(0, FIFO, 7)
    pid = sys.clone(sleeper)
    sys.sched_setscheduler(0, NORMAL, 0)
    asleep(sys, pid)
    say(sys.sched_getscheduler(pid), stat(sys, pid)[39], stat(sys, pid)[40], sys.sched_getscheduler(0))


@root
def reset_on_fork(sys: Any, say: Any) -> None:
    """With SCHED_RESET_ON_FORK a child begins as an ordinary task without the flag, with nice 0 if it was below."""
    sys.setpriority(PROCESS, 0, -5)
    sys.sched_setscheduler(0, RR | RESET_ON_FORK, 3)
    pid = sys.clone(sleeper)
    say(hex(sys.sched_getscheduler(0)), sys.sched_getscheduler(pid), sys.getpriority(PROCESS, pid))
    sys.sched_setscheduler(0, NORMAL | RESET_ON_FORK, 0)
    pid = sys.clone(sleeper)
    say(hex(sys.sched_getscheduler(0)), sys.sched_getscheduler(pid), sys.getpriority(PROCESS, 0),
        sys.getpriority(PROCESS, pid))


@root
def policy_without_root(sys: Any, say: Any) -> None:
    """Who is not root may not become a realtime task: EPERM; SCHED_BATCH and SCHED_IDLE are free."""
    say(wait(sys, say, sys.clone(_policy_as_user, say)))


def _policy_as_user(sys: Any, say: Any) -> None:
    sys.setrlimit(14, (0, 0))
    sys.setuid(1000)
    for policy, priority in ((FIFO, 1), (RR, 1), (BATCH, 0), (IDLE, 0), (NORMAL, 0)):
        say(policy, attempt(sys.sched_setscheduler, 0, policy, priority), sys.sched_getscheduler(0))
    say(attempt(sys.sched_setscheduler, sys.getppid(), BATCH, 0))


@root
def nice_stays_under_realtime(sys: Any, say: Any) -> None:
    """A nice value that is set while a task is realtime counts when it is ordinary again."""
    sys.sched_setscheduler(0, FIFO, 5)
    sys.setpriority(PROCESS, 0, 8)
    say(sys.getpriority(PROCESS, 0), stat(sys, sys.getpid())[17])
    sys.sched_setscheduler(0, NORMAL, 0)
    say(sys.getpriority(PROCESS, 0), stat(sys, sys.getpid())[17])


def affinity(sys: Any, say: Any) -> None:
    """A task runs on the CPUs that it is allowed, a child too; none of those that there are gives EINVAL."""
    say(attempt(sys.sched_setaffinity, 0, [0]), sorted(sys.sched_getaffinity(0)), sys.getcpu())
    pid = started(sys)
    say(sorted(sys.sched_getaffinity(pid)), attempt(sys.sched_setaffinity, 0, []),
        attempt(sys.sched_setaffinity, 0, [63]), sorted(sys.sched_getaffinity(0)))


def affinity_of_nobody(sys: Any, say: Any) -> None:
    """Nobody has no affinity: ESRCH."""
    say(attempt(sys.sched_getaffinity, NOBODY), attempt(sys.sched_setaffinity, NOBODY, [0]))


def yielding(sys: Any, say: Any) -> None:
    """sched_yield() comes back."""
    say([attempt(sys.sched_yield) for _ in range(3)])
