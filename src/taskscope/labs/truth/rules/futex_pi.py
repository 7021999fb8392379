"""Locks with priority inheritance: owners, waiters by priority, lending, deadlocks.  kernel/futex/pi.c, futex(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.futex import (
    OWNER_DIED,
    REQUEUE,
    SIGKILL,
    SIGUSR1,
    WAITERS,
    WAKE,
    WAKE_OP,
    _notes,
    _share,
    _sleepers,
    _value,
    _word,
)
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, stat, status, wait

LOCK_PI, UNLOCK_PI, TRYLOCK_PI = 6, 7, 8


def _bits(at: Any) -> str:
    """Return what a lock's word says, without whom it names."""
    value = _value(at)
    return f"{'waiters ' if value & WAITERS else ''}{'died ' if value & OWNER_DIED else ''}" + (
        "owned" if value & 0x3FFF_FFFF else "free")


def _owns(sys: Any, at: Any, told: Gate, go: Gate) -> int:
    """Be a process that takes a lock, and gives it back when it may."""
    sys.futex(at, LOCK_PI, 0)
    told.open(sys)
    go.wait(sys)
    return 1 if attempt(sys.futex, at, UNLOCK_PI, 0) else 0


def _owner(sys: Any, at: Any) -> tuple[int, Gate]:
    told, go = Gate(sys), Gate(sys)
    pid = _share(sys, _owns, at, told, go)
    told.wait(sys)
    return pid, go


def _wants(sys: Any, say: Any, at: Any, timeout: Any = None, priority: int = 0) -> int:
    if priority:
        sys.sched_setscheduler(0, 1, priority)
    found = attempt(sys.futex, at, LOCK_PI, 0, timeout)
    say(priority, found, _bits(at), _value(at) & 0x3FFF_FFFF == sys.gettid())
    return attempt(sys.futex, at, UNLOCK_PI, 0) != 0 if found == 0 else 9


def pi_alone(sys: Any, say: Any) -> None:
    """FUTEX_LOCK_PI of a free word puts the caller's number in, FUTEX_UNLOCK_PI makes it 0."""
    at = _word(sys)
    say(sys.futex(at, LOCK_PI, 0), _value(at) == sys.gettid(), sys.futex(at, UNLOCK_PI, 0), _value(at))
    say(sys.futex(at, TRYLOCK_PI, 0), _value(at) == sys.gettid(), sys.futex(at, UNLOCK_PI, 0), _value(at))


def pi_errors(sys: Any, say: Any) -> None:
    """Taking it twice is EDEADLK, releasing what one has not EPERM, an owner that is not there ESRCH."""
    at = _word(sys)
    sys.futex(at, LOCK_PI, 0)
    say(attempt(sys.futex, at, LOCK_PI, 0), attempt(sys.futex, at, TRYLOCK_PI, 0))
    at.put(0)
    say(attempt(sys.futex, at, UNLOCK_PI, 0))
    at.put(0x3FFF_FFFF)
    say(attempt(sys.futex, at, LOCK_PI, 0), _bits(at), attempt(sys.futex, at, UNLOCK_PI, 0))
    at.put(1)
    say(attempt(sys.futex, at, UNLOCK_PI, 0), attempt(sys.futex, 1, LOCK_PI, 0), attempt(sys.futex, 8, LOCK_PI, 0),
        attempt(sys.futex, 8, UNLOCK_PI, 0))


def pi_handed_over(sys: Any, say: Any) -> None:
    """A lock that is released is the first waiter's at once, whose number is in the word, with FUTEX_WAITERS."""
    at = _word(sys)
    owner, go = _owner(sys, at)
    say(attempt(sys.futex, at, TRYLOCK_PI, 0), _bits(at))
    pids = []
    for _ in range(2):
        pids.append(_share(sys, _wants, say, at))
        asleep(sys, pids[-1])
    go.open(sys)
    say(wait(sys, say, owner), [status(sys.waitpid(pid)[1]) for pid in pids], _bits(at))


def pi_timeout(sys: Any, say: Any) -> None:
    """FUTEX_LOCK_PI gives up at a time of the wall clock; a time in the past is over."""
    at = _word(sys)
    owner, go = _owner(sys, at)
    say(wait(sys, say, _share(sys, _wants, say, at, (1000, 0))), attempt(sys.futex, at, LOCK_PI, 0, (0, -1)))
    go.open(sys)
    say(wait(sys, say, owner), _bits(at))


def pi_owner_died(sys: Any, say: Any) -> None:
    """Who waits for a lock whose owner ends gets it, with FUTEX_OWNER_DIED in the word."""
    at = _word(sys)
    owner, _ = _owner(sys, at)
    pid = _share(sys, _wants, say, at)
    asleep(sys, pid)
    sys.kill(owner, SIGKILL)
    say(wait(sys, say, owner), wait(sys, say, pid), _bits(at))


def pi_owner_gone(sys: Any, say: Any) -> None:
    """A lock whose owner ended while nobody waited stays its own: ESRCH, unless it was marked by the robust list."""
    at = _word(sys)
    owner, _ = _owner(sys, at)
    sys.kill(owner, SIGKILL)
    say(wait(sys, say, owner), _bits(at), attempt(sys.futex, at, LOCK_PI, 0), _bits(at))
    at.put(OWNER_DIED)
    say(attempt(sys.futex, at, LOCK_PI, 0), _bits(at), attempt(sys.futex, at, UNLOCK_PI, 0), _bits(at))


def pi_is_no_plain_futex(sys: Any, say: Any) -> None:
    """A word on which somebody waits with priority inheritance is EINVAL for wake and requeue, and the reverse."""
    one, two = _word(sys, 0), _word(sys, 1)
    owner, go = _owner(sys, one)
    pid = _share(sys, _wants, say, one)
    asleep(sys, pid)
    say(attempt(sys.futex, one, WAKE, 1), attempt(sys.futex, one, REQUEUE, 0, 1, two),
        attempt(sys.futex, two, WAKE_OP, 1, 1, one, 1 << 28), attempt(sys.futex, one, WAKE_OP, 1, 1, two, 0))
    go.open(sys)
    say(wait(sys, say, owner), wait(sys, say, pid))
    _sleepers(sys, two, 1)
    two.put(sys.getpid())
    say(attempt(sys.futex, two, UNLOCK_PI, 0))
    two.put(1)
    say(attempt(sys.futex, two, LOCK_PI, 0))


def pi_deadlock(sys: Any, say: Any) -> None:
    """Two that want what the other has: the second one is told EDEADLK."""
    one, two = _word(sys, 0), _word(sys, 1)
    sys.futex(one, LOCK_PI, 0)
    told = Gate(sys)
    pid = _share(sys, _takes_both, two, one, told)
    told.wait(sys)
    asleep(sys, pid)
    found = attempt(sys.futex, two, LOCK_PI, 0), sys.futex(one, UNLOCK_PI, 0)
    say(wait(sys, say, pid), found, _bits(one), _bits(two))


def _takes_both(sys: Any, first: Any, second: Any, told: Gate) -> int:
    sys.futex(first, LOCK_PI, 0)
    told.open(sys)
    # Who gets the first then says so: this one is not to say anything at the same time.
    found: list[int] = [sys.futex(second, LOCK_PI, 0), sys.futex(second, UNLOCK_PI, 0), sys.futex(first, UNLOCK_PI, 0)]
    return sum(map(abs, found))


@root
def pi_lends(sys: Any, say: Any) -> None:
    """The owner has the priority of the first who waits, along a chain of locks, until it releases."""
    one, two = _word(sys, 0), _word(sys, 1)
    owner, go = _owner(sys, one)
    told = Gate(sys)
    middle = _share(sys, _takes_both, two, one, told)
    told.wait(sys)
    asleep(sys, middle)
    say([stat(sys, pid)[17] for pid in (owner, middle)])
    pid = _share(sys, _wants, say, two, None, 30)
    asleep(sys, pid)
    say([stat(sys, one_)[17] for one_ in (owner, middle, pid)], stat(sys, owner)[18], stat(sys, owner)[40])
    go.open(sys)
    say([wait(sys, say, one_) for one_ in (owner, middle, pid)])


@root
def pi_by_priority(sys: Any, say: Any) -> None:
    """The waiter of the highest priority gets the lock, whenever it came; a priority that changes moves it."""
    at = _word(sys)
    owner, go = _owner(sys, at)
    pids = []
    for priority in (5, 9, 7):
        pids.append(_share(sys, _wants, say, at, None, priority))
        asleep(sys, pids[-1])
    say(stat(sys, owner)[17])
    sys.sched_setscheduler(pids[0], 1, 20)
    say(stat(sys, owner)[17])
    go.open(sys)
    say([wait(sys, say, pid) for pid in (owner, *pids)])


def pi_waits_on(sys: Any, say: Any) -> None:
    """A handler does not end a wait for a lock with priority inheritance, with SA_RESTART or without."""
    at = _word(sys)
    owner, go = _owner(sys, at)
    pid = _share(sys, _handles_and_wants, say, at)
    asleep(sys, pid)
    sys.kill(pid, SIGUSR1)
    asleep(sys, pid)
    go.open(sys)
    say(wait(sys, say, owner), wait(sys, say, pid))


def _handles_and_wants(sys: Any, say: Any, at: Any) -> int:
    sys.sigaction(SIGUSR1, _notes)
    return _wants(sys, say, at)
