"""futex(2) and the robust list: who sleeps, who is woken, and every error.  kernel/futex/, futex(2).

Sleepers are processes that share the word's memory: on the model by CLONE_VM, on the host by a shared mapping, so that
no lock of the interpreter comes between.
"""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import differs, root
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, stat, status, stop, wait, word

WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET = 0, 1, 3, 4, 5, 9, 10
LOCK_PI, UNLOCK_PI, TRYLOCK_PI = 6, 7, 8
PRIVATE, REALTIME = 128, 256
ANY: Final = 0xFFFF_FFFF
WAITERS, OWNER_DIED = 0x8000_0000, 0x4000_0000
SIGUSR1, SIGKILL, SIGCONT = 10, 9, 18
SA_RESTART: Final = 0x1000_0000
_CLONE_VM, _SIGCHLD = 0x100, 17


# ---- what the rules use --------------------------------------------------------------------------------------


def _word(sys: Any, n: int = 0, value: int = 0) -> Any:
    """Return a word that the processes of `_share` see alike."""
    make = getattr(sys, "shared_word", None)
    found = word(sys, n) if make is None else make(n)
    found.put(value)
    return found


def _share(sys: Any, fn: Any, *args: Any) -> int:
    """Make a child that sees the words."""
    make = getattr(sys, "sharer", None)
    return int(sys.clone(fn, *args, flags=_CLONE_VM | _SIGCHLD) if make is None else make(fn, *args))


def _poke(sys: Any, address: int, value: int) -> None:
    """Write a long to an address."""
    make = getattr(sys, "poke", None)
    if make is not None:
        make(address, value)
        return
    from taskscope.model.include.linux.uaccess import Word

    Word(address).put(value)


def _value(at: Any) -> int:
    return int(at.get()) & ANY


def _sleeps(sys: Any, at: Any, code: int, bits: int = ANY, op: int = WAIT_BITSET) -> int:
    """Be a process that sleeps on a word of value 0 and ends with a code when it is woken."""
    found = attempt(sys.futex, at, op, 0, None, None, bits)
    return code if found == 0 else 99


def _sleepers(sys: Any, at: Any, count: int) -> list[int]:
    """Make processes that sleep on a word, one after the other; their codes are 1, 2, …"""
    pids = []
    for n in range(count):
        pids.append(_share(sys, _sleeps, at, n + 1))
        asleep(sys, pids[-1])
    return pids


def _codes(sys: Any, count: int) -> list[int]:
    """Wait for sleepers that were woken together; return their codes in order."""
    return sorted(sys.waitpid(-1)[1] >> 8 for _ in range(count))


# ---- wait ----------------------------------------------------------------------------------------------------


def another_value(sys: Any, say: Any) -> None:
    """FUTEX_WAIT fails with EAGAIN at once if the word has another value, whatever the timeout."""
    at = _word(sys, 0, 5)
    say(attempt(sys.futex, at, WAIT, 4), attempt(sys.futex, at, WAIT, 6, (9, 0)))
    say(attempt(sys.futex, at, WAIT | PRIVATE, 4), attempt(sys.futex, at, WAIT_BITSET, 4, None, None, ANY))
    say(_value(at))


def only_32_bits(sys: Any, say: Any) -> None:
    """The value is compared as 32 bits."""
    at = _word(sys, 0, 5)
    say(attempt(sys.futex, at, WAIT, 5 | 1 << 32, (0, 1)), attempt(sys.futex, at, WAIT, 1 << 32, (0, 1)))


def time_is_over(sys: Any, say: Any) -> None:
    """A wait with a timeout that is over, or past, fails with ETIMEDOUT."""
    at = _word(sys)
    say(attempt(sys.futex, at, WAIT, 0, (0, 1_000_000)), attempt(sys.futex, at, WAIT, 0, (0, 0)))
    say(attempt(sys.futex, at, WAIT_BITSET, 0, (0, 1), None, ANY))
    say(attempt(sys.futex, at, WAIT_BITSET | REALTIME, 0, (0, 1), None, ANY))
    say(attempt(sys.futex, at, WAIT_BITSET | REALTIME | PRIVATE, 0, (1000, 0), None, ANY))


def bad_time(sys: Any, say: Any) -> None:
    """A timeout that is no time is EINVAL, one that is nowhere EFAULT, and both come before the look at the word."""
    at = _word(sys, 0, 5)
    for timeout in ((0, 1_000_000_000), (0, -1), (-1, 0), 8):
        say(attempt(sys.futex, at, WAIT, 0, timeout), attempt(sys.futex, at, WAIT_BITSET, 0, timeout, None, 0))


def time_is_ignored(sys: Any, say: Any) -> None:
    """FUTEX_WAKE does not look at the timeout."""
    at = _word(sys)
    say(attempt(sys.futex, at, WAKE, 1, (0, -1)), attempt(sys.futex, at, WAKE_BITSET, 1, 8, None, ANY))


@differs("4fbf5d6837bf, v5.13: FUTEX_WAIT lost the flag that it had had since v4.5 (337f13046ff0)", "4.19-arm")
def realtime_wait(sys: Any, say: Any) -> None:
    """FUTEX_CLOCK_REALTIME is ENOSYS for FUTEX_WAIT, whose time is relative."""
    say(attempt(sys.futex, _word(sys), WAIT | REALTIME, 0, (0, 1000)))


def realtime_elsewhere(sys: Any, say: Any) -> None:
    """FUTEX_CLOCK_REALTIME is ENOSYS for an operation that does not wait."""
    at = _word(sys)
    for op in (WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAKE_BITSET):
        say(op, attempt(sys.futex, at, op | REALTIME, 1, None, at, ANY))


def no_such_operation(sys: Any, say: Any) -> None:
    """An operation that is not there is ENOSYS; FUTEX_FD is none any more."""
    at = _word(sys)
    say([attempt(sys.futex, at, op, 0) for op in (2, 14, 15, 64, 127)])


def no_bits(sys: Any, say: Any) -> None:
    """An empty bitset is EINVAL, for who waits and for who wakes, before the word is looked at."""
    at = _word(sys, 0, 5)
    say(attempt(sys.futex, at, WAIT_BITSET, 0, None, None, 0), attempt(sys.futex, at, WAKE_BITSET, 1, None, None, 0))
    say(attempt(sys.futex, 1, WAIT_BITSET, 0, None, None, 0), attempt(sys.futex, 1, WAKE_BITSET, 1, None, None, 0))


def not_aligned(sys: Any, say: Any) -> None:
    """A word that is not aligned to four bytes is EINVAL, be there memory or not."""
    for address in (1, 2, 3, 0x10001):
        say(attempt(sys.futex, address, WAIT, 0), attempt(sys.futex, address, WAKE, 1),
            attempt(sys.futex, address, WAKE | PRIVATE, 1))
    at = _word(sys)
    say(attempt(sys.futex, at, REQUEUE, 1, 1, 2), attempt(sys.futex, at, WAKE_OP, 1, 1, 2))


def nothing_there(sys: Any, say: Any) -> None:
    """Waiting where no memory is fails with EFAULT; waking there does, too, unless the word is private."""
    for address in (0, 8):
        say(attempt(sys.futex, address, WAIT, 0), attempt(sys.futex, address, WAIT | PRIVATE, 0))
        say(attempt(sys.futex, address, WAKE, 1), attempt(sys.futex, address, WAKE | PRIVATE, 1))
    at = _word(sys)
    say(attempt(sys.futex, 8, CMP_REQUEUE | PRIVATE, 1, 1, at, 0))
    say(attempt(sys.futex, at, WAKE_OP | PRIVATE, 1, 1, 8, 0))


# ---- wake ----------------------------------------------------------------------------------------------------


def nobody_sleeps(sys: Any, say: Any) -> None:
    """Waking nobody is 0, and changes nothing."""
    at = _word(sys, 0, 7)
    say(attempt(sys.futex, at, WAKE, 1), attempt(sys.futex, at, WAKE, 0x7FFF_FFFF), _value(at))


def so_many(sys: Any, say: Any) -> None:
    """FUTEX_WAKE wakes as many as it is told and says how many were there."""
    at = _word(sys)
    _sleepers(sys, at, 4)
    say(sys.futex(at, WAKE, 1), wait(sys, say))
    say(sys.futex(at, WAKE, 2), _codes(sys, 2))
    say(sys.futex(at, WAKE, 9), wait(sys, say))
    say(sys.futex(at, WAKE, 9))


def at_least_one(sys: Any, say: Any) -> None:
    """FUTEX_WAKE wakes one even if it is told 0, or less than that."""
    at = _word(sys)
    _sleepers(sys, at, 3)
    for count in (0, -1, -5):
        say(sys.futex(at, WAKE, count), wait(sys, say))
    say(sys.futex(at, WAKE, 0))


def first_come(sys: Any, say: Any) -> None:
    """Sleepers are woken in the order in which they came."""
    at = _word(sys)
    _sleepers(sys, at, 4)
    for _ in range(4):
        sys.futex(at, WAKE, 1)
        say(wait(sys, say))


@root
def priority_first(sys: Any, say: Any) -> None:
    """A realtime task is woken before those who came earlier, the highest priority first; nice values count nothing."""
    at = _word(sys)
    gates = []
    pids = []
    for policy, priority, nice in ((0, 0, 0), (1, 5, 0), (0, 0, -20), (1, 9, 0), (2, 5, 0)):
        gates.append(Gate(sys))
        pids.append(_share(sys, _schedules_and_sleeps, at, gates[-1], policy, priority, nice))
        gates[-1].wait(sys)
        asleep(sys, pids[-1])
    for _ in pids:
        sys.futex(at, WAKE, 1)
        say(wait(sys, say))


def _schedules_and_sleeps(sys: Any, at: Any, gate: Gate, policy: int, priority: int, nice: int) -> int:
    if policy:
        sys.sched_setscheduler(0, policy, priority)
    elif nice:
        sys.setpriority(0, 0, nice)
    gate.open(sys)
    return _sleeps(sys, at, 7)


def bits_that_meet(sys: Any, say: Any) -> None:
    """FUTEX_WAKE_BITSET wakes those that have one of its bits; FUTEX_WAKE has all bits."""
    at = _word(sys)
    pids = []
    for code, bits in ((1, 1), (2, 6), (3, 4), (4, ANY)):
        pids.append(_share(sys, _sleeps, at, code, bits))
        asleep(sys, pids[-1])
    say(sys.futex(at, WAKE_BITSET, 9, None, None, 0x10), wait(sys, say))
    say(sys.futex(at, WAKE_BITSET, 9, None, None, 0x10))
    say(sys.futex(at, WAKE_BITSET, 1, None, None, 3), wait(sys, say))
    say(sys.futex(at, WAKE_BITSET, 9, None, None, 8))
    say(sys.futex(at, WAKE, 9), [status(sys.waitpid(pid)[1]) for pid in pids[1:3]])


def another_word(sys: Any, say: Any) -> None:
    """Who sleeps on one word is not woken through its neighbour."""
    one, two = _word(sys, 0), _word(sys, 1)
    _sleepers(sys, one, 1)
    say(sys.futex(two, WAKE, 9), sys.futex(one, WAKE, 9), wait(sys, say))


def private_and_not(sys: Any, say: Any) -> None:
    """Who sleeps without FUTEX_PRIVATE_FLAG is not found by who wakes with it."""
    at = _word(sys)
    _sleepers(sys, at, 1)
    say(sys.futex(at, WAKE | PRIVATE, 9), sys.futex(at, WAKE, 9), wait(sys, say))


def value_may_change(sys: Any, say: Any) -> None:
    """The value is looked at before the sleep only: a sleeper sleeps on when the word changes, and is woken as ever."""
    at = _word(sys)
    _sleepers(sys, at, 1)
    at.put(3)
    say(attempt(sys.futex, at, WAIT, 0), sys.futex(at, WAKE, 1), wait(sys, say))


def killed_sleeper(sys: Any, say: Any) -> None:
    """A sleeper that is killed sleeps no more, and nobody wakes it."""
    at = _word(sys)
    pid, other = _sleepers(sys, at, 2)
    sys.kill(pid, SIGKILL)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid), sys.futex(at, WAKE, 9), wait(sys, say, other))


# ---- requeue -------------------------------------------------------------------------------------------------


def moves(sys: Any, say: Any) -> None:
    """FUTEX_REQUEUE wakes some, moves some, leaves the rest, and says how many were woken or moved."""
    one, two = _word(sys, 0), _word(sys, 1)
    _sleepers(sys, one, 4)
    say(sys.futex(one, REQUEUE, 1, 2, two), wait(sys, say))
    say(sys.futex(two, WAKE, 9), _codes(sys, 2))
    say(sys.futex(one, WAKE, 9), wait(sys, say))


def moves_in_order(sys: Any, say: Any) -> None:
    """Who is moved keeps its place among the moved, behind who slept there."""
    one, two = _word(sys, 0), _word(sys, 1)
    _sleepers(sys, two, 1)
    _sleepers(sys, one, 3)
    say(sys.futex(one, REQUEUE, 0, 9, two), sys.futex(one, WAKE, 9))
    for _ in range(4):
        say(sys.futex(two, WAKE, 1), wait(sys, say))


def moves_to_itself(sys: Any, say: Any) -> None:
    """Moving to the same word counts sleepers and leaves them where they are."""
    at = _word(sys)
    _sleepers(sys, at, 2)
    say(sys.futex(at, REQUEUE, 0, 9, at), sys.futex(at, WAKE, 9))


def compares_first(sys: Any, say: Any) -> None:
    """FUTEX_CMP_REQUEUE does nothing but fail with EAGAIN if the word has another value."""
    one, two = _word(sys, 0), _word(sys, 1)
    _sleepers(sys, one, 2)
    one.put(5)
    say(attempt(sys.futex, one, CMP_REQUEUE, 1, 9, two, 4), sys.futex(two, WAKE, 9))
    say(attempt(sys.futex, one, CMP_REQUEUE, 1, 9, two, 5), wait(sys, say), sys.futex(two, WAKE, 9))


def negative_counts(sys: Any, say: Any) -> None:
    """Requeueing fewer than none is EINVAL, before anything else is looked at."""
    at = _word(sys)
    say(attempt(sys.futex, at, REQUEUE, -1, 1, at), attempt(sys.futex, at, REQUEUE, 1, -1, at))
    say(attempt(sys.futex, 1, CMP_REQUEUE, -1, 1, 1, 9))


# ---- wake_op -------------------------------------------------------------------------------------------------


def changes(sys: Any, say: Any) -> None:
    """FUTEX_WAKE_OP sets, adds to, or's, andn's or xor's the second word; bit 31 makes the argument a shift."""
    one, two = _word(sys, 0), _word(sys, 1)
    for op, arg in ((0, 9), (1, 3), (1, 0xFFF), (2, 0x30), (3, 0x0F), (4, 0xFFF), (8, 4), (9, 5), (12, 31)):
        two.put(0x55)
        say(op, attempt(sys.futex, one, WAKE_OP, 1, 1, two, op << 28 | arg << 12), f"{_value(two):#x}")


def compares(sys: Any, say: Any) -> None:
    """FUTEX_WAKE_OP wakes sleepers of the second word, too, if its old value compares so; it is compared as signed."""
    one, two = _word(sys, 0), _word(sys, 1)
    for cmp in range(6):
        found = []
        for old in (-2, 4, 9):
            two.put(0)
            _sleepers(sys, two, 1)
            two.put(old)
            found.append(sys.futex(one, WAKE_OP, 1, 1, two, 1 << 28 | cmp << 24 | 4))
            sys.futex(two, WAKE, 9)
            sys.waitpid(-1)
        say(cmp, found)


def both_words(sys: Any, say: Any) -> None:
    """FUTEX_WAKE_OP wakes so many of the first word and so many of the second, and says how many both were."""
    one, two = _word(sys, 0), _word(sys, 1)
    _sleepers(sys, one, 2)
    _sleepers(sys, two, 3)
    say(sys.futex(one, WAKE_OP, 1, 2, two, 0 << 28 | 0 << 24 | 1 << 12 | 0), _value(two))
    say(_codes(sys, 3))
    say(sys.futex(one, WAKE, 9), sys.futex(two, WAKE, 9))


def no_such_change(sys: Any, say: Any) -> None:
    """An operation or a comparison that is not there is ENOSYS; the comparison is looked at after the change."""
    one, two = _word(sys, 0), _word(sys, 1)
    say(attempt(sys.futex, one, WAKE_OP, 1, 1, two, 5 << 28 | 1 << 12), _value(two))
    say(attempt(sys.futex, one, WAKE_OP, 1, 1, two, 6 << 24 | 1 << 12), _value(two))


# ---- signals -------------------------------------------------------------------------------------------------


def _notes(sys: Any, sig: int, info: Any) -> None:
    del sys, sig, info


def _handles_and_sleeps(sys: Any, say: Any, at: Any, flags: int, timeout: Any) -> int:
    sys.sigaction(SIGUSR1, _notes, flags)
    say(attempt(sys.futex, at, WAIT, 0, timeout))
    return 3


def handler_ends_it(sys: Any, say: Any) -> None:
    """A handler ends a wait with EINTR."""
    at = _word(sys)
    pid = _share(sys, _handles_and_sleeps, say, at, 0, None)
    asleep(sys, pid)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid), sys.futex(at, WAKE, 1))


def restarted(sys: Any, say: Any) -> None:
    """After a handler with SA_RESTART a wait without a timeout is made again, and looks at the word again."""
    at = _word(sys)
    pid = _share(sys, _handles_and_sleeps, say, at, SA_RESTART, None)
    asleep(sys, pid)
    at.put(1)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))


def not_restarted(sys: Any, say: Any) -> None:
    """A wait with a timeout is not made again after a handler, SA_RESTART or not."""
    at = _word(sys)
    for flags in (0, SA_RESTART):
        pid = _share(sys, _handles_and_sleeps, say, at, flags, (60, 0))
        asleep(sys, pid)
        sys.kill(pid, SIGUSR1)
        say(wait(sys, say, pid))


def stopped(sys: Any, say: Any) -> None:
    """A sleeper that is stopped and goes on sleeps on, with or without a timeout, and is woken."""
    at = _word(sys)
    for timeout in (None, (60, 0)):
        pid = _share(sys, _handles_and_sleeps, say, at, 0, timeout)
        asleep(sys, pid)
        stop(sys, pid)
        sys.kill(pid, SIGCONT)
        asleep(sys, pid)
        say(sys.futex(at, WAKE, 1), wait(sys, say, pid))


def gone_while_stopped(sys: Any, say: Any) -> None:
    """A sleeper that is stopped sleeps on nothing: the word is looked at again when it goes on."""
    at = _word(sys)
    pid = _share(sys, _handles_and_sleeps, say, at, 0, None)
    asleep(sys, pid)
    stop(sys, pid)
    say(sys.futex(at, WAKE, 9))
    at.put(1)
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))


# ---- priority inheritance ------------------------------------------------------------------------------------


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
    pid = _share(sys, _takes_both, say, two, one, told)
    told.wait(sys)
    asleep(sys, pid)
    found = attempt(sys.futex, two, LOCK_PI, 0), sys.futex(one, UNLOCK_PI, 0)
    say(wait(sys, say, pid), found, _bits(one), _bits(two))


def _takes_both(sys: Any, say: Any, first: Any, second: Any, told: Gate) -> None:
    sys.futex(first, LOCK_PI, 0)
    told.open(sys)
    say(sys.futex(second, LOCK_PI, 0), sys.futex(second, UNLOCK_PI, 0), sys.futex(first, UNLOCK_PI, 0))


@root
def pi_lends(sys: Any, say: Any) -> None:
    """The owner has the priority of the first who waits, along a chain of locks, until it releases."""
    one, two = _word(sys, 0), _word(sys, 1)
    owner, go = _owner(sys, one)
    told = Gate(sys)
    middle = _share(sys, _takes_both, say, two, one, told)
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


# ---- the robust list -----------------------------------------------------------------------------------------


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
