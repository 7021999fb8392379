"""Capabilities: what uids, exec, bounding and ambient sets make of them.  security/commoncap.c, capabilities(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.ids import A, B, _becomes, _becomes_and_sleeps, _child, _is, _kept, _program
from taskscope.labs.truth.rules.kit import asleep, attempt, execute

PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP = 7, 8, 23, 24
PR_GET_SECUREBITS, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 27, 28, 47
CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, SETPCAP, NICE = 0, 1, 5, 6, 7, 8, 23


@root
def leaving_root(sys: Any, say: Any) -> None:
    """The last id that is 0 takes the permitted and effective capabilities with it."""
    for ids in ((A, A, A), (0, A, A), (A, 0, A), (A, A, 0)):
        _child(sys, say, _becomes, *ids)


@root
def effective_follows(sys: Any, say: Any) -> None:
    """The effective capabilities go and come with the effective id 0."""
    _child(sys, say, _goes_and_comes)


def _goes_and_comes(sys: Any, say: Any) -> None:
    sys.setresuid(-1, A, -1)
    say(_kept(sys), attempt(sys.setgid, B))
    sys.setresuid(-1, 0, -1)
    say(_kept(sys), attempt(sys.setgid, B))


@root
def keepcaps(sys: Any, say: Any) -> None:
    """PR_SET_KEEPCAPS keeps the permitted capabilities when root is left; the effective ones go all the same."""
    _child(sys, say, _keeps)


def _keeps(sys: Any, say: Any) -> None:
    say(sys.prctl(PR_GET_KEEPCAPS), attempt(sys.prctl, PR_SET_KEEPCAPS, 2), attempt(sys.prctl, PR_SET_KEEPCAPS, 1))
    sys.setuid(A)
    say(_kept(sys), sys.prctl(PR_GET_KEEPCAPS), sys.prctl(PR_GET_SECUREBITS))
    effective, permitted, inheritable = sys.capget()
    sys.capset(permitted & 1 << KILL, permitted, inheritable)
    say(sys.capget()[0], effective, attempt(sys.kill, 1, 0), attempt(sys.setgid, B))


@root
def keepcaps_and_exec(sys: Any, say: Any) -> None:
    """A user's program begins without capabilities, whether PR_SET_KEEPCAPS had kept them or not."""
    _program(sys, say, _keeps_as, 0)
    _program(sys, say, _keeps_as, 1)


def _keeps_as(sys: Any, keep: int) -> None:
    sys.prctl(PR_SET_KEEPCAPS, keep)
    sys.setuid(A)


@root
def exec_of_half_root(sys: Any, say: Any) -> None:
    """execve() of who has a real id 0 and another effective one gives permitted capabilities and no effective ones."""
    for ids in ((0, A, A), (A, 0, 0), (A, A, 0), (0, 0, A)):
        _program(sys, say, _is, *ids)


@root
def fsuid_takes(sys: Any, say: Any) -> None:
    """setfsuid() away from 0 takes the capabilities of files from the effective set, and back to 0 gives them."""
    _child(sys, say, _changes_fsuid)


def _changes_fsuid(sys: Any, say: Any) -> None:
    for uid in (A, 0):
        sys.setfsuid(uid)
        effective, permitted, _ = sys.capget()
        say(uid, f"{permitted & ~effective:#x}", effective >> KILL & 1)


@root
def capset_down(sys: Any, say: Any) -> None:
    """capset() can take away, and what is gone from the permitted set is gone; effective must be permitted."""
    _child(sys, say, _takes_away)


def _takes_away(sys: Any, say: Any) -> None:
    _, permitted, inheritable = sys.capget()
    less = permitted & ~(1 << CHOWN)
    say(attempt(sys.capset, permitted, less, inheritable), attempt(sys.capset, less, less, inheritable))
    say(attempt(sys.capset, less, permitted, inheritable), attempt(sys.capset, permitted, permitted, inheritable))
    say(attempt(sys.capset, 0, less, inheritable), attempt(sys.setgid, A), attempt(sys.capset, less, less, 0, 1))
    say(attempt(sys.capset, less, less, 0, sys.getpid()), attempt(sys.capget, 0x3FFF_FFFF), attempt(sys.capget, -1))


@root
def capset_inheritable(sys: Any, say: Any) -> None:
    """Inheritable capabilities: without CAP_SETPCAP only those that are permitted can be added."""
    _child(sys, say, _adds_inheritable)


def _adds_inheritable(sys: Any, say: Any) -> None:
    _, permitted, _ = sys.capget()
    few = 1 << SETPCAP | 1 << KILL
    say(attempt(sys.capset, few, few, 1 << CHOWN), sys.capget()[2])
    say(attempt(sys.capset, 1 << KILL, few, 1 << CHOWN | 1 << KILL), sys.capget()[2])
    say(attempt(sys.capset, 1 << KILL, few, 1 << NICE), attempt(sys.capset, 1 << KILL, few, 1 << SETPCAP))
    say(permitted > few)


@root
def root_without(sys: Any, say: Any) -> None:
    """User id 0 without the capability may not: CAP_SETUID, CAP_SETGID, CAP_KILL are asked for, not the id."""
    for cap in (SETUID, SETGID, KILL):
        _child(sys, say, _loses, cap)


def _loses(sys: Any, say: Any, cap: int) -> None:
    other = sys.clone(_becomes_and_sleeps, A)
    asleep(sys, other)
    _, permitted, _ = sys.capget()
    sys.capset(permitted & ~(1 << cap), permitted & ~(1 << cap), 0)
    say(cap, attempt(sys.kill, other, 0), attempt(sys.setgroups, []), attempt(sys.setgid, B), attempt(sys.setuid, B))


@root
def bounding_set(sys: Any, say: Any) -> None:
    """What is dropped from the bounding set is gone from what execve() gives root; dropping needs CAP_SETPCAP."""
    _child(sys, say, _bounds)


def _bounds(sys: Any, say: Any) -> None:
    say(sys.prctl(PR_CAPBSET_READ, KILL), attempt(sys.prctl, PR_CAPBSET_DROP, KILL), sys.prctl(PR_CAPBSET_READ, KILL),
        attempt(sys.prctl, PR_CAPBSET_READ, 63), attempt(sys.prctl, PR_CAPBSET_DROP, 63))
    say(sys.capget()[1] >> KILL & 1)
    execute(sys, _says_bounds)


def _says_bounds(sys: Any, say: Any) -> None:
    effective, permitted, _ = sys.capget()
    say(effective >> KILL & 1, permitted >> KILL & 1, permitted >> CHOWN & 1)
    sys.setuid(A)
    say(attempt(sys.prctl, PR_CAPBSET_DROP, CHOWN), attempt(sys.prctl, PR_CAPBSET_READ, CHOWN))


@root
def ambient(sys: Any, say: Any) -> None:
    """Only what is permitted and inheritable can be made ambient."""
    _child(sys, say, _is_ambient)


def _is_ambient(sys: Any, say: Any) -> None:
    _, permitted, _ = sys.capget()
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 2, KILL, 0, 0))
    sys.capset(permitted, permitted, 1 << KILL)
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 2, CHOWN, 0, 0), attempt(sys.prctl, PR_CAP_AMBIENT, 5, KILL, 0, 0))
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 2, KILL, 0, 0), sys.prctl(PR_CAP_AMBIENT, 1, KILL, 0, 0),
        sys.prctl(PR_CAP_AMBIENT, 1, CHOWN, 0, 0))
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 4, 0, 0, 0), sys.prctl(PR_CAP_AMBIENT, 1, KILL, 0, 0))


@root
def ambient_and_exec(sys: Any, say: Any) -> None:
    """A user's program begins with the ambient capabilities; leaving root takes them, unless raised afterwards."""
    _program(sys, say, _raises, True)
    _program(sys, say, _raises, False)


def _raises(sys: Any, afterwards: bool) -> None:
    _, permitted, _ = sys.capget()
    sys.capset(permitted, permitted, 1 << KILL)
    sys.prctl(PR_SET_KEEPCAPS, 1)
    if not afterwards:
        sys.prctl(PR_CAP_AMBIENT, 2, KILL, 0, 0)
    sys.setuid(A)
    if afterwards:
        sys.prctl(PR_CAP_AMBIENT, 2, KILL, 0, 0)


@root
def no_fixup(sys: Any, say: Any) -> None:
    """With SECBIT_NO_SETUID_FIXUP capabilities stay whatever the ids become; bits that are locked stay, too."""
    _child(sys, say, _has_bits)


def _has_bits(sys: Any, say: Any) -> None:
    say(attempt(sys.prctl, PR_SET_SECUREBITS, 1 << 12), attempt(sys.prctl, PR_SET_SECUREBITS, 0x0C | 1))
    say(attempt(sys.prctl, PR_SET_SECUREBITS, 1), sys.prctl(PR_GET_SECUREBITS))
    sys.setresuid(A, A, A)
    say(_kept(sys))


@root
def root_is_nobody(sys: Any, say: Any) -> None:
    """With SECBIT_NOROOT execve() gives root nothing."""
    _program(sys, say, _has_no_root, 0)
    _program(sys, say, _has_no_root, A)


def _has_no_root(sys: Any, uid: int) -> None:
    sys.prctl(PR_SET_SECUREBITS, 1 | 1 << 2)
    sys.setuid(uid)
