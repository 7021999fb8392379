"""A wait4(2) that sleeps, and children that leave nothing to wait for.  kernel/exit.c, wait(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    comes_to,
    dead,
    ends,
    kill,
    sleeper,
    started,
    stop,
    wait,
)

WNOHANG, WUNTRACED, WCONTINUED = 1, 2, 8
WALL = 0x40000000
SIGKILL, SIGUSR1, SIGCHLD, SIGCONT = 9, 10, 17, 18
SA_NOCLDWAIT, SA_RESTART = 2, 0x10000000


# ---- sleeping -------------------------------------------------------------------------------------------

def sleeps_until_death(sys: Any, say: Any) -> None:
    """A wait sleeps until a child dies."""
    gate = Gate(sys)
    parent = sys.getpid()
    child = sys.clone(_dies_when_parent_sleeps, parent, 8)
    say(wait(sys, say, child))
    gate.close(sys)


def _dies_when_parent_sleeps(sys: Any, parent: int, code: int) -> None:
    asleep(sys, parent)
    sys.exit(code)


def interrupted(sys: Any, say: Any) -> None:
    """A handler without SA_RESTART ends a wait with EINTR, and nothing is reaped."""
    sys.sigaction(SIGUSR1, _nothing)
    child = sys.clone(_signals_when_parent_sleeps, sys.getpid())
    say(wait(sys, say, child))
    kill(sys, child)
    say(wait(sys, say, child))


def _nothing(sys: Any, signal: int, info: Any) -> None:
    del sys, signal, info


def _signals_when_parent_sleeps(sys: Any, parent: int) -> None:
    asleep(sys, parent)
    sys.kill(parent, SIGUSR1)
    sleeper(sys)


def restarted(sys: Any, say: Any) -> None:
    """With SA_RESTART a wait goes on after the handler."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal)
        gate.open(sys)

    gate = Gate(sys)
    sys.sigaction(SIGUSR1, handler, SA_RESTART)
    child = sys.clone(_signals_then_dies, sys.getpid(), gate)
    say(wait(sys, say, child))


def _signals_then_dies(sys: Any, parent: int, gate: Gate) -> None:
    asleep(sys, parent)
    sys.kill(parent, SIGUSR1)
    gate.wait(sys)
    sys.exit(2)


def ignored_signal_does_not_interrupt(sys: Any, say: Any) -> None:
    """A signal that is ignored does not end a wait."""
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    say(wait(sys, say, sys.clone(_signals_and_dies, sys.getpid())))


def _signals_and_dies(sys: Any, parent: int) -> None:
    asleep(sys, parent)
    sys.kill(parent, SIGUSR1)
    sys.exit(3)


def blocked_signal_does_not_interrupt(sys: Any, say: Any) -> None:
    """A blocked signal does not end a wait and is pending after it."""
    sys.sigaction(SIGUSR1, _nothing)
    sys.sigprocmask(0, 1 << SIGUSR1 - 1)
    say(wait(sys, say, sys.clone(_signals_and_dies, sys.getpid())), hex(sys.sigpending()))


def own_sigchld_does_not_interrupt(sys: Any, say: Any) -> None:
    """The SIGCHLD of the child that is waited for runs its handler, and the wait returns the child all the same."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, say.who(info.si_pid))

    sys.sigaction(SIGCHLD, handler)
    say(wait(sys, say, sys.clone(_dies_when_parent_sleeps, sys.getpid(), 4)))


def reaped_before_handler(sys: Any, say: Any) -> None:
    """A wait that sleeps reaps its child before the handler of that child's SIGCHLD runs."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal, wait(sys, say, -1, WNOHANG))

    sys.sigaction(SIGCHLD, handler, SA_RESTART)
    say(wait(sys, say, sys.clone(_dies_when_parent_sleeps, sys.getpid(), 4)))


# ---- children that nobody waits for ---------------------------------------------------------------------

def sigchld_ignored(sys: Any, say: Any) -> None:
    """Where SIGCHLD is ignored children leave no zombie, and a wait ends with ECHILD when the last is gone."""
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    pid = sys.clone(_dies_when_parent_sleeps, sys.getpid(), 4)
    say(wait(sys, say, pid))
    comes_to(sys, pid, "gone")


def sigchld_default_is_not_ignored(sys: Any, say: Any) -> None:
    """The default action of SIGCHLD ignores the signal but keeps zombies."""
    say(wait(sys, say, dead(sys, 6)))


def nocldwait(sys: Any, say: Any) -> None:
    """With SA_NOCLDWAIT children leave no zombie, and the handler runs all the same."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, info.si_code, info.si_status)

    sys.sigaction(SIGCHLD, handler, SA_NOCLDWAIT | SA_RESTART)
    say(wait(sys, say, sys.clone(_dies_when_parent_sleeps, sys.getpid(), 4)))


def nocldwait_with_default(sys: Any, say: Any) -> None:
    """SA_NOCLDWAIT with the default action leaves no zombie either."""
    sys.sigaction(SIGCHLD, sys.SIG_DFL, SA_NOCLDWAIT)
    say(wait(sys, say, sys.clone(ends, 4)))


def ignored_after_death(sys: Any, say: Any) -> None:
    """A zombie stays one when SIGCHLD is ignored after its death."""
    pid = dead(sys, 5)
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    say(wait(sys, say, pid))


def ignored_by_whom(sys: Any, say: Any) -> None:
    """It is the parent's disposition that counts, not the child's."""
    say(wait(sys, say, sys.clone(_ignores_and_ends)))


def _ignores_and_ends(sys: Any) -> None:
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    sys.exit(3)


def ignored_stop_is_told(sys: Any, say: Any) -> None:
    """Where SIGCHLD is ignored stops are told all the same."""
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    pid = started(sys)
    stop(sys, pid)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED))


def other_exit_signal_keeps_zombie(sys: Any, say: Any) -> None:
    """Ignoring SIGCHLD does not reap children whose exit signal is another."""
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    for flags in (SIGUSR1, 0):
        say(wait(sys, say, dead(sys, 7, flags=flags), WALL))


def some_left(sys: Any, say: Any) -> None:
    """Where SIGCHLD is ignored a wait for any goes on while another child lives."""
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    other = started(sys)
    sys.clone(_dies_when_parent_sleeps, sys.getpid(), 1)
    sys.clone(_kills_when_parent_sleeps, sys.getpid(), other)
    say(wait(sys, say), attempt(sys.kill, other, 0))


def _kills_when_parent_sleeps(sys: Any, parent: int, other: int) -> None:
    asleep(sys, parent)
    sys.kill(other, SIGKILL)
