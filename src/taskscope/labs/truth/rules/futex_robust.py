"""The robust list: what becomes of the locks of a task that dies.  kernel/futex/core.c, get_robust_list(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.futex import (
    ANY,
    OWNER_DIED,
    SIGKILL,
    WAIT,
    WAITERS,
    WAKE,
    _poke,
    _share,
    _sleeps,
    _value,
    _word,
)
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, wait


def _registers(sys: Any, lock: Any, entry: bool, pending: bool) -> None:
    """Make a robust list that holds a lock, or is about to."""
    long = sys.get_robust_list(0)[1] // 3
    head, node = _word(sys, 100), _word(sys, 110)
    _poke(sys, head.addr, node.addr if entry else head.addr)
    _poke(sys, head.addr + long, lock.addr - node.addr)
    _poke(sys, head.addr + 2 * long, node.addr if pending else 0)
    _poke(sys, node.addr, head.addr)
    sys.set_robust_list(head, 3 * long)


def _dies_with(sys: Any, lock: Any, entry: bool, pending: bool, bits: int, mine: bool, gate: Gate, sig: int) -> int:
    _registers(sys, lock, entry, pending)
    lock.put((sys.gettid() if mine else 0x1234) | bits)
    gate.wait(sys)
    if sig:
        sys.kill(sys.getpid(), sig)
    return 0


def _robust(sys: Any, say: Any, sig: int, entry: bool, pending: bool, bits: int, mine: bool = True) -> None:
    lock = _word(sys, 2)
    gate = Gate(sys)
    sleeper = _share(sys, _sleeps, lock, 5, ANY, WAIT)
    asleep(sys, sleeper)
    pid = _share(sys, _dies_with, lock, entry, pending, bits, mine, gate, sig)
    gate.open(sys)
    ended = wait(sys, say, pid)
    left = _value(lock)
    say(ended, f"{left & (WAITERS | OWNER_DIED):#x}", "free" if not left & 0x3FFF_FFFF else "owned")
    say(sys.futex(lock, WAKE, 9), wait(sys, say, sleeper))


def owner_died(sys: Any, say: Any) -> None:
    """The locks of a task that ends are marked FUTEX_OWNER_DIED, and one sleeper is woken if FUTEX_WAITERS was set."""
    for sig in (0, SIGKILL):
        for bits in (WAITERS, 0):
            _robust(sys, say, sig, True, False, bits)


def about_to_lock(sys: Any, say: Any) -> None:
    """A lock that is about to be taken or released counts as one of the list."""
    _robust(sys, say, 0, False, True, WAITERS)
    _robust(sys, say, 0, True, True, WAITERS)


def of_somebody_else(sys: Any, say: Any) -> None:
    """A lock on the list whose word names another task stays as it is."""
    _robust(sys, say, 0, True, False, WAITERS, False)


def no_list(sys: Any, say: Any) -> None:
    """A task that is on no robust list leaves its locks as they are."""
    _robust(sys, say, 0, False, False, WAITERS)


def list_of_wrong_size(sys: Any, say: Any) -> None:
    """set_robust_list() takes one size only; get_robust_list() says which, and ESRCH for nobody."""
    head = _word(sys, 100)
    size = sys.get_robust_list(0)[1]
    say([attempt(sys.set_robust_list, head, wrong) for wrong in (0, size - 1, size + 1)])
    say(attempt(sys.set_robust_list, head, size), attempt(sys.get_robust_list, 0x3FFF_FFFF))


@root
def list_of_another_user(sys: Any, say: Any) -> None:
    """get_robust_list() of a task that the caller may not look into is EPERM."""
    pid = _share(sys, _tries_parent, say, sys.getpid())
    say(wait(sys, say, pid))


def _tries_parent(sys: Any, say: Any, parent: int) -> int:
    sys.setuid(4242)
    say(attempt(sys.get_robust_list, parent))
    return 0
