"""Limits: getrlimit(2), setrlimit(2).  kernel/sys.c: do_prlimit()."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, attempt, execute, wait

RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_STACK = 4, 7, 3


def resources(sys: Any, say: Any) -> None:
    """There are sixteen resources; another number is EINVAL."""
    for resource in range(18):
        say(resource, attempt(lambda number: bool(sys.getrlimit(number)), resource))
    say(attempt(sys.setrlimit, 16, (1, 1)), attempt(sys.getrlimit, -1))


def soft_above_hard(sys: Any, say: Any) -> None:
    """A soft limit above the hard one is EINVAL and changes nothing."""
    sys.setrlimit(RLIMIT_NOFILE, (100, 200))
    say(attempt(sys.setrlimit, RLIMIT_NOFILE, (201, 200)), sys.getrlimit(RLIMIT_NOFILE))


def soft_can_be_raised(sys: Any, say: Any) -> None:
    """The soft limit goes up and down below the hard one."""
    sys.setrlimit(RLIMIT_NOFILE, (100, 200))
    for soft in (50, 200, 1, 100):
        say(attempt(sys.setrlimit, RLIMIT_NOFILE, (soft, 200)), sys.getrlimit(RLIMIT_NOFILE))


def _lowers(sys: Any, say: Any) -> None:
    say("child", sys.getrlimit(RLIMIT_NOFILE))
    sys.setrlimit(RLIMIT_NOFILE, (10, 20))


def child_has_its_own(sys: Any, say: Any) -> None:
    """A child begins with its parent's limits; what it changes is its own."""
    sys.setrlimit(RLIMIT_NOFILE, (100, 200))
    say(wait(sys, say, sys.clone(_lowers, say)), sys.getrlimit(RLIMIT_NOFILE))


def _lowers_for_all(sys: Any, gate: Gate) -> None:
    sys.setrlimit(RLIMIT_NOFILE, (30, 40))
    gate.open(sys)


def limits_are_of_the_process(sys: Any, say: Any) -> None:
    """Limits are those of the process: a thread changes them for all."""
    gate = Gate(sys)
    sys.pthread_create(_lowers_for_all, gate)
    gate.wait(sys)
    say(sys.getrlimit(RLIMIT_NOFILE))


def _tells_limits(sys: Any, say: Any) -> None:
    say(sys.getrlimit(RLIMIT_NOFILE), sys.getrlimit(RLIMIT_CORE))


def _executes_limited(sys: Any) -> None:
    sys.setrlimit(RLIMIT_NOFILE, (1000, 2000))
    sys.setrlimit(RLIMIT_CORE, (0, 4096))
    execute(sys, _tells_limits)


def exec_keeps_limits(sys: Any, say: Any) -> None:
    """execve() keeps the limits."""
    say(wait(sys, say, sys.clone(_executes_limited)))


def open_files(sys: Any, say: Any) -> None:
    """RLIMIT_NOFILE is one more than the highest number that a new descriptor may have: EMFILE; dup2 beyond: EBADF."""
    first = sys.dup(0)
    sys.setrlimit(RLIMIT_NOFILE, (first + 3, 4000))
    say([attempt(lambda: sys.dup(0) - first) for _ in range(4)])
    say(attempt(sys.pipe), attempt(sys.dup2, 0, first + 3), attempt(lambda: sys.dup2(0, first + 2) - first))


def open_files_above_the_limit(sys: Any, say: Any) -> None:
    """Descriptors above a lowered limit stay open."""
    high = sys.dup2(0, 50)
    sys.setrlimit(RLIMIT_NOFILE, (20, 4000))
    say(high, attempt(sys.fcntl, 50, 1), attempt(sys.dup2, 0, 50), attempt(sys.fcntl, 50, 0))
