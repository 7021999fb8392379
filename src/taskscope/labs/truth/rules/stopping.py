"""Stopping and going on: SIGSTOP and its kin, SIGCONT, what the parent is told.  kernel/signal.c, kernel/exit.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    comes_to,
    execute,
    field,
    sig,
    sleeper,
    state,
    wait,
    waitid,
)

SIGHUP, SIGUSR1, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU = 1, 10, 18, 19, 20, 21, 22
WNOHANG, WUNTRACED, WCONTINUED, WNOWAIT, P_PID, WSTOPPED, WEXITED = 1, 2, 8, 0x01000000, 1, 2, 4


def _child(sys: Any) -> int:
    """Make a child in a group of its own, whose stops are told to us; it sleeps."""
    pid = sys.clone(sleeper)
    sys.setpgid(pid, pid)
    asleep(sys, pid)
    return int(pid)


def stop_status(sys: Any, say: Any) -> None:
    """A stop is told with 0x7f and the signal above it, once; going on with 0xffff, once."""
    for number in (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU):
        pid = _child(sys)
        sys.kill(pid, number)
        say(number, wait(sys, say, pid, WUNTRACED), wait(sys, say, pid, WUNTRACED | WNOHANG), state(sys, pid))
        sys.kill(pid, SIGCONT)
        say(wait(sys, say, pid, WCONTINUED), wait(sys, say, pid, WCONTINUED | WNOHANG))
        comes_to(sys, pid, "S")


def stop_needs_an_option(sys: Any, say: Any) -> None:
    """Without WUNTRACED a stopped child is not told of, without WCONTINUED one that goes on is not."""
    pid = _child(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    say(wait(sys, say, pid, WNOHANG), wait(sys, say, pid, WNOHANG | WCONTINUED))
    sys.kill(pid, SIGCONT)
    comes_to(sys, pid, "S")
    say(wait(sys, say, pid, WNOHANG), wait(sys, say, pid, WNOHANG | WUNTRACED), wait(sys, say, pid, WCONTINUED))


def a_stop_that_is_over_is_not_told(sys: Any, say: Any) -> None:
    """A stop that nobody has waited for is forgotten when the child goes on, and going on when it stops again."""
    pid = _child(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.kill(pid, SIGCONT)
    comes_to(sys, pid, "S")
    say(wait(sys, say, pid, WUNTRACED | WCONTINUED))
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.kill(pid, SIGCONT)
    comes_to(sys, pid, "S")
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    say(wait(sys, say, pid, WUNTRACED | WCONTINUED), wait(sys, say, pid, WUNTRACED | WCONTINUED | WNOHANG))


def nowait_leaves_the_stop(sys: Any, say: Any) -> None:
    """With WNOWAIT a stop can be asked for again."""
    pid = _child(sys)
    sys.kill(pid, SIGSTOP)
    for options in (WSTOPPED | WNOWAIT, WSTOPPED | WNOWAIT, WSTOPPED, WSTOPPED | WNOHANG):
        say(waitid(sys, say, P_PID, pid, options))
    sys.kill(pid, SIGCONT)
    for options in (WCONTINUED | WNOWAIT, WCONTINUED, WCONTINUED | WNOHANG):
        say(waitid(sys, say, P_PID, pid, options))


def stopping_the_stopped(sys: Any, say: Any) -> None:
    """A second stop signal does nothing to who is stopped; it is thrown away by SIGCONT."""
    pid = _child(sys)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGTSTP)
    say(wait(sys, say, pid, WUNTRACED | WNOHANG), field(sys, pid, "ShdPnd"))
    sys.kill(pid, SIGCONT)
    comes_to(sys, pid, "S")
    say(field(sys, pid, "ShdPnd"), wait(sys, say, pid, WUNTRACED | WNOHANG))


def continuing_who_is_not_stopped(sys: Any, say: Any) -> None:
    """SIGCONT to who is not stopped tells the parent nothing."""
    pid = _child(sys)
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED | WNOHANG))


def _handles(sys: Any, say: Any, gate: Gate) -> None:
    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler", number)
        gate.open(sys)

    for number in (SIGCONT, SIGUSR1):
        sys.sigaction(number, handler, 0, (1 << 64) - 1)
    sleeper(sys)


def handlers_run_after_the_stop(sys: Any, say: Any) -> None:
    """What comes for a stopped process waits until it goes on; then handlers run, SIGCONT's too."""
    gate = Gate(sys)
    pid = sys.clone(_handles, say, gate)
    asleep(sys, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGUSR1)
    say(field(sys, pid, "ShdPnd"))
    sys.kill(pid, SIGCONT)
    gate.wait(sys)
    gate.wait(sys)
    say(wait(sys, say, pid, WCONTINUED))


def fatal_signal_waits_for_continue(sys: Any, say: Any) -> None:
    """A fatal signal for a stopped process waits until it goes on; SIGKILL does not wait."""
    for number in (15, 9, 1):
        pid = _child(sys)
        sys.kill(pid, SIGSTOP)
        say(number, wait(sys, say, pid, WUNTRACED))
        sys.kill(pid, number)
        if number != 9:
            say(wait(sys, say, pid, WNOHANG), state(sys, pid), field(sys, pid, "ShdPnd"))
            sys.kill(pid, SIGCONT)
        say(wait(sys, say, pid))


def stop_signals_can_be_handled(sys: Any, say: Any) -> None:
    """The stop signals of the terminal can be handled, ignored and blocked; SIGSTOP stops always."""
    for number, action in ((SIGTSTP, 1), (SIGTTIN, 1), (SIGTTOU, lambda sys, sig, info: say("handler", sig))):
        sys.sigaction(number, action)
        sys.raise_(number)
    sys.sigprocmask(0, sig(SIGTSTP, SIGSTOP))
    sys.sigaction(SIGTSTP, 0)
    sys.raise_(SIGTSTP)
    say(f"{sys.sigpending():#x}")
    pid = sys.clone(_stops_itself, say)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))


def _stops_itself(sys: Any, say: Any) -> None:
    sys.sigprocmask(0, (1 << 64) - 1)
    sys.raise_(SIGSTOP)
    say("goes on")


def _middle(sys: Any, say: Any, gate: Gate, go: Gate) -> None:
    """Be a parent in another group of the session, whose child stops; then die."""
    pid = sys.clone(_says_signals, say, go)
    sys.setpgid(pid, pid)
    asleep(sys, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED))
    gate.open(sys)


def _says_signals(sys: Any, say: Any, go: Gate) -> None:
    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler", number, info.si_code)
        go.open(sys)

    for number in (SIGHUP, SIGCONT):
        sys.sigaction(number, handler, 4, (1 << 64) - 1)
    sleeper(sys)


def a_newly_orphaned_group(sys: Any, say: Any) -> None:
    """A group with a stopped member that becomes orphaned is sent SIGHUP and SIGCONT by the kernel."""
    gate, go = Gate(sys), Gate(sys)
    sys.prctl(36, 1)
    pid = sys.clone(_outer, say, gate, go)
    gate.wait(sys)
    go.wait(sys)
    go.wait(sys)
    say(wait(sys, say, pid))


def _outer(sys: Any, say: Any, gate: Gate, go: Gate) -> None:
    sys.setsid()
    wait(sys, say, sys.clone(_middle, say, gate, go))


def a_group_without_stopped_is_left_alone(sys: Any, say: Any) -> None:
    """A group that becomes orphaned with nobody stopped is sent nothing."""
    sys.prctl(36, 1)
    gate, go = Gate(sys), Gate(sys)
    pid = sys.clone(_leaves_group, say, gate, go)
    say(wait(sys, say, pid))
    left = int(sys.read(gate.read, 16))
    say(state(sys, left), field(sys, left, "ShdPnd"), say.who(left))


def _leaves_group(sys: Any, say: Any, gate: Gate, go: Gate) -> None:
    sys.setsid()
    pid = sys.clone(_says_signals, say, go)
    sys.setpgid(pid, pid)
    asleep(sys, pid)
    sys.write(gate.write, str(pid).encode())


def a_stopped_child_keeps_its_pending(sys: Any, say: Any) -> None:
    """A SIGCONT that is pending, as it is blocked and has a handler, is taken away by the next stop."""
    pid = sys.clone(_blocks_continue)
    asleep(sys, pid)
    for number in (SIGSTOP, SIGCONT, SIGSTOP):
        sys.kill(pid, number)
        comes_to(sys, pid, "S" if number == SIGCONT else "T")
        say(number, field(sys, pid, "ShdPnd"))


def _blocks_continue(sys: Any) -> None:
    sys.sigaction(SIGCONT, lambda sys, sig, info: None)
    sys.sigprocmask(0, sig(SIGCONT))
    sleeper(sys)


def stopped_before_exec(sys: Any, say: Any) -> None:
    """A process that stops itself and then executes is told of as any other."""
    pid = sys.clone(_stops_and_execs)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))


def _stops_and_execs(sys: Any) -> None:
    sys.raise_(SIGSTOP)
    execute(sys, _after_exec)


def _after_exec(sys: Any, say: Any) -> int:
    sys.raise_(SIGSTOP)
    return 4


def dying_while_stopped_is_told(sys: Any, say: Any) -> None:
    """Who is killed while stopped has its death told, and the stop no more."""
    pid = _child(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.kill(pid, 9)
    comes_to(sys, pid, "Z")
    say(waitid(sys, say, P_PID, pid, WSTOPPED | WEXITED | WNOWAIT), attempt(sys.kill, pid, SIGCONT))
    say(wait(sys, say, pid, WUNTRACED))
