"""What a parent is told of its children, and children of their parent.  kernel/signal.c: do_notify_parent()."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    dead,
    family,
    kill,
    sig,
    sleeper,
    started,
    state,
    stop,
    wait,
)

SIGKILL, SIGUSR1, SIGTERM = 9, 10, 15
SIGCHLD, SIGCONT, SIGSTOP = 17, 18, 19
SA_NOCLDSTOP, SA_RESTART = 1, 0x10000000
WUNTRACED = 2
PR_SET_PDEATHSIG = 1


# ---- the parent is told ---------------------------------------------------------------------------------

def sigchld_says_exit(sys: Any, say: Any) -> None:
    """SIGCHLD of an exit carries the child's pid, uid, CLD_EXITED and its code."""
    _with_handler(sys, say)
    for code in (0, 7, 255):
        pid = dead(sys, code)
        say(wait(sys, say, pid))


def _with_handler(sys: Any, say: Any, flags: int = SA_RESTART) -> None:
    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, info.si_signo, "code", info.si_code, say.who(info.si_pid), "uid", info.si_uid, "status",
            info.si_status)

    sys.sigaction(SIGCHLD, handler, flags)


def sigchld_says_death(sys: Any, say: Any) -> None:
    """SIGCHLD of a death by signal carries CLD_KILLED and the signal's number."""
    _with_handler(sys, say)
    for signal in (SIGTERM, SIGKILL, 34):
        pid = started(sys)
        kill(sys, pid, signal)
        say(wait(sys, say, pid))


def sigchld_says_stop(sys: Any, say: Any) -> None:
    """SIGCHLD of a stop carries CLD_STOPPED and the stop signal, that of a continuation CLD_CONTINUED and SIGCONT."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        say("handler", signal, info.si_signo, "code", info.si_code, say.who(info.si_pid), "status", info.si_status)
        gate.open(sys)

    gate = Gate(sys)
    sys.sigaction(SIGCHLD, handler)
    pid = started(sys)
    for signal in (SIGSTOP, SIGCONT):
        sys.kill(pid, signal)
        gate.wait(sys)


def nocldstop(sys: Any, say: Any) -> None:
    """With SA_NOCLDSTOP stops and continuations send no SIGCHLD, the death does, and a wait is told of all."""
    _with_handler(sys, say, SA_RESTART | SA_NOCLDSTOP)
    pid = started(sys)
    stop(sys, pid)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, 8))
    asleep(sys, pid)
    kill(sys, pid)
    say(wait(sys, say, pid))


def sigchld_is_one(sys: Any, say: Any) -> None:
    """Of two children that die while SIGCHLD is blocked one SIGCHLD is left, with the first one's data."""
    _with_handler(sys, say)
    sys.sigprocmask(0, sig(SIGCHLD))
    one, two = dead(sys, 1), dead(sys, 2)
    say(say.who(one), say.who(two), hex(sys.sigpending()))
    sys.sigprocmask(2, 0)
    say([wait(sys, say) for _ in range(3)])


def sigchld_is_pending(sys: Any, say: Any) -> None:
    """A SIGCHLD that is pending stays so when the child has been reaped."""
    sys.sigprocmask(0, sig(SIGCHLD))
    _with_handler(sys, say)
    pid = dead(sys, 1)
    say(wait(sys, say, pid), hex(sys.sigpending()))
    sys.sigprocmask(2, 0)


def no_sigchld_by_default(sys: Any, say: Any) -> None:
    """A SIGCHLD whose action is the default is thrown away unless it is blocked."""
    pid = dead(sys, 1)
    sys.sigprocmask(0, sig(SIGCHLD))
    say(wait(sys, say, pid), hex(sys.sigpending()))
    pid = dead(sys, 2)
    say(wait(sys, say, pid), hex(sys.sigpending()))


def parents_death_signal(sys: Any, say: Any) -> None:
    """A process gets its parent-death signal when its parent dies."""
    gate, done = Gate(sys), Gate(sys)
    child = sys.clone(_makes_faithful, say, gate, done)
    gate.wait(sys)
    kill(sys, child)
    done.wait(sys)


def _makes_faithful(sys: Any, say: Any, gate: Gate, done: Gate) -> None:
    sys.clone(_waits_for_signal, say, gate, done, sys.getpid())
    sleeper(sys)


def _waits_for_signal(sys: Any, say: Any, gate: Gate, done: Gate, parent: int) -> None:
    def handler(sys: Any, signal: int, info: Any) -> None:
        say("handler", signal, info.si_code, say.who(info.si_pid), say.who(sys.getppid()))

    sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    sys.sigaction(SIGUSR1, handler)
    say("parent", sys.getppid() == parent)
    sys.sigprocmask(0, sig(SIGUSR1))
    gate.open(sys)
    attempt(sys.sigsuspend, 0)
    done.open(sys)


def no_death_signal_for_children(sys: Any, say: Any) -> None:
    """A parent's death does nothing to children without a parent-death signal."""
    child, grandchild = family(sys)
    kill(sys, child)
    say(wait(sys, say, child), state(sys, grandchild))
