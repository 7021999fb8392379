"""Resource limits: getrlimit(2), setrlimit(2), prlimit(2).  kernel/sys.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import Gate, attempt, kill, sleeper, started, wait

CORE, NPROC, NOFILE = 4, 6, 7
INFINITY = (1 << 64) - 1


def infinity(sys: Any, say: Any) -> None:
    """A limit that is none reads as RLIM_INFINITY."""
    sys.setrlimit(CORE, (INFINITY, INFINITY))
    say(sys.getrlimit(CORE) == (INFINITY, INFINITY), sys.getrlimit(CORE))


def soft_and_hard(sys: Any, say: Any) -> None:
    """A soft limit goes up to the hard one, and one above it gives EINVAL and changes nothing."""
    for limits in ((10, 20), (20, 20), (0, 20), (21, 20), (15, 20)):
        say(limits, attempt(sys.setrlimit, NOFILE, limits), sys.getrlimit(NOFILE))


def no_such_limit(sys: Any, say: Any) -> None:
    """A limit that there is not gives EINVAL."""
    for resource in (16, 17, -1, 1000):
        say(resource, attempt(sys.getrlimit, resource), attempt(sys.setrlimit, resource, (1, 1)))


@root
def hard_goes_down(sys: Any, say: Any) -> None:
    """Everybody may lower a hard limit, nobody but root (CAP_SYS_RESOURCE) raises one: EPERM."""
    sys.setrlimit(NOFILE, (100, 200))
    say(wait(sys, say, sys.clone(_lowers, say)))


def _lowers(sys: Any, say: Any) -> None:
    sys.setuid(1000)
    for limits in ((150, 150), (100, 150), (150, 150), (150, 151)):
        say(limits, attempt(sys.setrlimit, NOFILE, limits), sys.getrlimit(NOFILE))


def of_all_threads(sys: Any, say: Any) -> None:
    """Limits are the process's: a thread that sets one sets it for all."""
    gate = Gate(sys)
    sys.pthread_create(_sets, gate)
    gate.wait(sys)
    say(sys.getrlimit(CORE))


def _sets(sys: Any, gate: Gate) -> None:
    sys.setrlimit(CORE, (7, 8))
    gate.open(sys)


def descriptors_beyond(sys: Any, say: Any) -> None:
    """A lower limit closes no descriptor above it; these work, and no new one is had."""
    sys.dup2(0, 50)
    sys.setrlimit(NOFILE, (10, 10))
    say(sys.fcntl(50, 1), attempt(sys.dup2, 0, 50), attempt(sys.dup, 50), attempt(sys.fcntl, 50, 0, 9),
        attempt(sys.fcntl, 50, 0, 10))


def too_many_descriptors(sys: Any, say: Any) -> None:
    """open() and dup() beyond the limit give EMFILE, and work again when one is closed."""
    sys.setrlimit(NOFILE, (5, 5))
    say(attempt(sys.dup, 0), attempt(sys.open, "/dev/null"), attempt(sys.dup, 0), attempt(sys.open, "/dev/null"))
    sys.close(3)
    say(attempt(sys.open, "/dev/null"))


@root
def processes_of_a_user(sys: Any, say: Any) -> None:
    """RLIMIT_NPROC counts all processes of the user, and lets a process go on when others have ended."""
    say(wait(sys, say, sys.clone(_forks_to_the_limit, say)))


def _forks_to_the_limit(sys: Any, say: Any) -> None:
    sys.setrlimit(NPROC, (3, 3))
    sys.setuid(54322)
    pids = [started(sys) for _ in range(2)]
    say(attempt(sys.clone, sleeper))
    kill(sys, pids[0])
    say(attempt(sys.clone, sleeper))
    sys.waitpid(pids[0])
    say(isinstance(attempt(sys.clone, sleeper), int), attempt(sys.clone, sleeper))
