"""Who may send a signal to whom, by ids and sessions.  kernel/signal.c, kill(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.ids import A, B, C, D, _becomes, _becomes_and_sleeps, _child
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, wait, waitid

SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 9, 10, 15, 17, 18, 19


def _target(sys: Any, *ids: int) -> int:
    pid = int(sys.clone(_becomes_and_sleeps, *ids))
    asleep(sys, pid)
    return pid


def _sends_as(sys: Any, say: Any, ids: tuple[int, int, int], pids: tuple[int, ...], sig: int) -> None:
    sys.setresuid(*ids)
    say("/".join(map(str, ids)), [attempt(sys.kill, pid, sig) for pid in pids])


@root
def who_may(sys: Any, say: Any) -> None:
    """A signal may be sent if the sender's real or effective id is the target's real or saved one."""
    pids = (_target(sys, A, B, C), _target(sys, B, B, B), _target(sys, 0, 0, 0))
    for ids in ((A, D, D), (D, A, D), (B, D, D), (D, B, D), (C, D, D), (D, C, D), (D, D, A), (D, D, C)):
        _child(sys, say, _sends_as, ids, pids, 0)


@root
def may_not(sys: Any, say: Any) -> None:
    """Where it may not be sent it is EPERM for signal 0, too, and the target does not get it."""
    pid = _target(sys, A, A, A)
    _child(sys, say, _sends_as, (B, B, B), (pid,), SIGKILL)
    _child(sys, say, _sends_as, (B, B, B), (pid, 1), 0)
    _child(sys, say, _sends_as, (A, A, A), (pid,), SIGTERM)
    say(wait(sys, say, pid))


@root
def sigcont_in_session(sys: Any, say: Any) -> None:
    """SIGCONT may be sent to everybody of the own session, whoever it is; not to another session."""
    pid = _target(sys, A, A, A)
    other = sys.clone(_begins_session, A)
    asleep(sys, other)
    _child(sys, say, _sends_as, (B, B, B), (pid, other), SIGCONT)
    _child(sys, say, _sends_as, (B, B, B), (pid, other), SIGSTOP)


def _begins_session(sys: Any, uid: int) -> None:
    sys.setsid()
    _becomes_and_sleeps(sys, uid)


@root
def group_of_many(sys: Any, say: Any) -> None:
    """A signal to a group succeeds if one member gets it, and is EPERM if none may."""
    for uids, sender in (((A, B), A), ((A, B), B), ((A, B), C), ((0, A), A)):
        _child(sys, say, _has_group, uids, sender)


def _has_group(sys: Any, say: Any, uids: tuple[int, ...], sender: int) -> None:
    pids: list[int] = []
    for uid in uids:
        gate = Gate(sys)
        pid = sys.clone(_waits_and_becomes, gate, uid)
        sys.setpgid(pid, pids[0] if pids else pid)
        gate.open(sys)
        comes_to(sys, pid, "S")
        pids.append(pid)
    for pid in pids:
        _until_becomes(sys, pid)
    _child(sys, say, _sends_as, (sender, sender, sender), (-pids[0],), SIGTERM)
    for pid in pids:
        sys.kill(pid, SIGKILL)
        say(wait(sys, say, pid))


def _waits_and_becomes(sys: Any, gate: Gate, uid: int) -> None:
    gate.wait(sys)
    sys.prctl(15, b"became" if hasattr(sys, "launch") else "became")
    _becomes_and_sleeps(sys, uid)


def _named(sys: Any, pid: int) -> bool:
    return bool(sys.slurp(f"/proc/{pid}/comm") == b"became\n")


def _until_becomes(sys: Any, pid: int) -> None:
    from taskscope.labs.truth.rules.kit import until

    until(sys, _named, pid)
    asleep(sys, pid)


@root
def everybody_one_may(sys: Any, say: Any) -> None:
    """kill(-1) of a user reaches the processes of that user and no others."""
    mine, others = _target(sys, A, A, A), _target(sys, B, B, B)
    _child(sys, say, _kills_all_as, A)
    say(wait(sys, say, mine), attempt(sys.waitpid, others, 1))


def _kills_all_as(sys: Any, say: Any, uid: int) -> None:
    sys.setuid(uid)
    say(attempt(sys.kill, -1, SIGTERM))


@root
def uid_in_siginfo(sys: Any, say: Any) -> None:
    """waitid() tells the child's real id."""
    pid = sys.clone(_becomes, say, A, B, C)
    say(waitid(sys, say, 1, pid, 4))


@root
def thread_of_another(sys: Any, say: Any) -> None:
    """Within a process every signal may be sent, whoever its threads are."""
    _child(sys, say, _has_foreign_thread)


def _has_foreign_thread(sys: Any, say: Any) -> None:
    told, go = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_is_foreign, told, go)
    told.wait(sys)
    sys.setuid(A)
    say(attempt(sys.tgkill, sys.getpid(), tid, 0), attempt(sys.tkill, tid, 0))
    go.open(sys)


def _is_foreign(sys: Any, told: Gate, go: Gate) -> None:
    sys.setuid(B)
    told.open(sys)
    go.wait(sys)
