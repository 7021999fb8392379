"""Signals inside, into and out of pid namespaces.  kernel/signal.c, pid_namespaces(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    comes_to,
    ends,
    field,
    sleeper,
    started,
    state,
    status,
    wait,
    waitid,
)
from taskscope.labs.truth.rules.namespaces import NEWPID, _init, _init_sleeper

SIGHUP, SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 1, 9, 10, 15, 17, 18, 19
WUNTRACED, WNOHANG, WEXITED = 2, 1, 4


def _notes(sys: Any, sig: int, info: Any) -> None:
    """Be a handler that tells who sent, through descriptor 500."""
    sys.write(500, f"{sig} {info.si_code} {info.si_pid};".encode())


def _told(sys: Any, fd: int, count: int) -> str:
    text = b""
    while text.count(b";") < count:
        part = attempt(sys.read, fd, 256)
        text += part if isinstance(part, bytes) else b""
    return str(text.decode())


def deaf_inside(sys: Any, say: Any) -> None:
    """From inside, init gets no signal that it has no handler for: neither SIGTERM nor SIGKILL nor SIGSTOP."""
    say(wait(sys, say, _init(sys, _is_deaf, say)))


def _is_deaf(sys: Any, say: Any) -> int:
    for sig in (SIGTERM, SIGKILL, SIGSTOP, SIGHUP):
        pid = sys.clone(_sends, say, 1, sig)
        say(sig, status(sys.waitpid(pid)[1]))
        say(attempt(sys.kill, 1, sig))
    return 7


def _sends(sys: Any, say: Any, pid: int, sig: int) -> None:
    say(attempt(sys.kill, pid, sig))


def deaf_outside(sys: Any, say: Any) -> None:
    """From outside, too, init gets no signal that it has no handler for, but SIGSTOP and SIGKILL."""
    pid = _init_sleeper(sys)
    for sig in (SIGTERM, SIGHUP, SIGUSR1, 6, 11):
        sys.kill(pid, sig)
    say(wait(sys, say, pid, WNOHANG), field(sys, pid, "ShdPnd"))
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED), state(sys, pid))
    sys.kill(pid, SIGCONT)
    comes_to(sys, pid, "S")
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def blocked_for_init(sys: Any, say: Any) -> None:
    """A blocked signal is pending for init as for everybody, and ignored when it is unblocked."""
    gate = Gate(sys)
    pid = _init(sys, _blocks, say, gate)
    asleep(sys, pid)
    sys.kill(pid, SIGTERM)
    say(field(sys, pid, "ShdPnd"))
    gate.open(sys)
    say(wait(sys, say, pid))


def _blocks(sys: Any, say: Any, gate: Gate) -> int:
    sys.sigprocmask(0, 1 << SIGTERM - 1)
    gate.wait(sys)
    say(sys.sigpending())
    sys.sigprocmask(1, 1 << SIGTERM - 1)
    return 7


def sender_outside_is_nobody(sys: Any, say: Any) -> None:
    """A sender outside has number 0 inside; one inside has its number of the inside."""
    read, write = sys.pipe()
    sys.dup2(write, 500)
    pid = _init(sys, _handles, say)
    asleep(sys, pid)
    sys.kill(pid, SIGUSR1)
    say(_told(sys, read, 2), wait(sys, say, pid))


def _handles(sys: Any, say: Any) -> int:
    sys.sigaction(SIGUSR1, _notes)
    attempt(sys.pause)
    pid = sys.clone(_sends, say, 1, SIGUSR1)
    while (found := attempt(sys.waitpid, pid)) == "EINTR":
        pass
    say(status(found[1]))
    return 4


def child_inside(sys: Any, say: Any) -> None:
    """SIGCHLD and waitid() name a child that is inside by its number outside."""
    read, write = sys.pipe()
    sys.dup2(write, 500)
    sys.sigaction(SIGCHLD, _notes)
    pid = _init(sys, ends, 3)
    text = _told(sys, read, 1)
    say(text.replace(f" {pid};", " child;"), waitid(sys, say, 1, pid, WEXITED))


def kill_all_inside(sys: Any, say: Any) -> None:
    """kill(-1) inside reaches everybody inside but init and the caller, and nobody outside."""
    outside = started(sys)
    say(wait(sys, say, _init(sys, _kills_all, say)), state(sys, outside))


def _kills_all(sys: Any, say: Any) -> int:
    gate = Gate(sys)
    pids = [sys.clone(sleeper) for _ in range(2)]
    killer = sys.clone(_kills_everybody, say, gate)
    gate.open(sys)
    say([status(sys.waitpid(pid)[1]) for pid in (*pids, killer)])
    say(attempt(sys.kill, -1, SIGKILL))
    return 6


def _kills_everybody(sys: Any, say: Any, gate: Gate) -> int:
    gate.wait(sys)
    say(attempt(sys.kill, -1, SIGKILL))
    return 5


def init_of_init(sys: Any, say: Any) -> None:
    """To the namespace above, the init of one below is a process like any other: SIGKILL ends it, SIGTERM does not."""
    say(wait(sys, say, _init(sys, _has_namespace, say)))


def _has_namespace(sys: Any, say: Any) -> None:
    inner = sys.clone(sleeper, flags=NEWPID | SIGCHLD)
    sys.nanosleep(1_000_000)
    sys.kill(inner, SIGTERM)
    say(attempt(sys.waitpid, inner, WNOHANG))
    sys.kill(inner, SIGKILL)
    say(status(sys.waitpid(inner)[1]))
