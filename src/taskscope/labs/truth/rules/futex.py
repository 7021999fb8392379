"""futex(2): who sleeps, who is woken, what moves, and every error.  kernel/futex/, futex(2).

Sleepers are processes that share the word's memory: on the model by CLONE_VM, on the host by a shared mapping, so that
no lock of the interpreter comes between.
"""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import differs, root
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, status, stop, wait, word

WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET = 0, 1, 3, 4, 5, 9, 10
PRIVATE, REALTIME = 128, 256
ANY: Final = 0xFFFF_FFFF
WAITERS, OWNER_DIED = 0x8000_0000, 0x4000_0000
SIGUSR1, SIGKILL, SIGCONT = 10, 9, 18
SA_RESTART: Final = 0x1000_0000
_CLONE_VM, _SIGCHLD = 0x100, 17


# ---- what the rules use ----------------------------------------------------------------------------------------

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


# ---- wait ------------------------------------------------------------------------------------------------------

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


# ---- wake ------------------------------------------------------------------------------------------------------

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


# ---- requeue ---------------------------------------------------------------------------------------------------

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


# ---- wake_op ---------------------------------------------------------------------------------------------------

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


# ---- signals ---------------------------------------------------------------------------------------------------

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
