"""Waiting for signals: pause(2), sigsuspend(2), sigtimedwait(2).  kernel/signal.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, dead, ends, sig, wait

SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGSTOP, RT = 10, 12, 17, 18, 19, 34
RESTART = 0x1000_0000
MS = 1_000_000


def _nothing(sys: Any, number: int, info: Any) -> None:
    """Be a handler that interrupts."""


def _sends(sys: Any, pid: int, *numbers: int) -> None:
    asleep(sys, pid)
    for number in numbers:
        sys.kill(pid, number)


def pause_ends_with_a_handler(sys: Any, say: Any) -> None:
    """pause() ends with EINTR when a handler has run, SA_RESTART or not; not for an ignored signal."""
    sys.sigaction(SIGUSR2, 1)
    for flags in (0, RESTART):
        sys.sigaction(SIGUSR1, lambda sys, sig, info: say("handler"), flags)
        pid = sys.clone(_sends, sys.getpid(), SIGUSR2, 23, SIGUSR1)
        say(attempt(sys.pause))
        say(wait(sys, say, pid))


def mask_set_after_sigsuspend_stays(sys: Any, say: Any) -> None:
    """A mask that is set after a sigsuspend() is not undone by a later signal."""
    sys.sigaction(SIGUSR1, _nothing)
    sys.sigprocmask(2, sig(SIGUSR1))
    sys.kill(sys.getpid(), SIGUSR1)
    attempt(sys.sigsuspend, 0)
    sys.sigprocmask(2, sig(SIGUSR2))
    for number in (SIGUSR1, 23, SIGCONT):
        sys.kill(sys.getpid(), number)
        say(f"{sys.sigprocmask(0, 0):#x}")


def timedwait_takes_at_once(sys: Any, say: Any) -> None:
    """sigtimedwait() takes what is pending without waiting; with nothing pending and no time it is EAGAIN."""
    sys.sigprocmask(0, sig(SIGUSR1, RT))
    say(attempt(sys.sigtimedwait, sig(SIGUSR1, RT), 0), attempt(sys.sigtimedwait, sig(SIGUSR1, RT), 2 * MS))
    sys.kill(sys.getpid(), RT)
    say(sys.sigtimedwait(sig(SIGUSR1, RT), 0).si_signo, sys.sigpending())
    sys.kill(sys.getpid(), SIGUSR1)
    say(sys.sigtimedwait(sig(SIGUSR1, RT)).si_signo, sys.sigpending())


def timedwait_bad_times(sys: Any, say: Any) -> None:
    """A negative time is EINVAL, also if a signal is pending."""
    sys.sigprocmask(0, sig(SIGUSR1))
    sys.kill(sys.getpid(), SIGUSR1)
    say(attempt(sys.sigtimedwait, sig(SIGUSR1), -1), attempt(sys.sigtimedwait, sig(SIGUSR1), -(10**9)))
    say(f"{sys.sigpending():#x}")


def timedwait_is_woken(sys: Any, say: Any) -> None:
    """sigtimedwait() sleeps until one of its signals comes, and tells who sent it."""
    sys.sigprocmask(0, sig(SIGUSR1, RT))
    for number in (SIGUSR1, RT):
        pid = sys.clone(_sends, sys.getpid(), number)
        info = sys.sigtimedwait(sig(SIGUSR1, RT), 10**10)
        say(info.si_signo, info.si_code, say.who(info.si_pid), wait(sys, say, pid))


def timedwait_of_unblocked(sys: Any, say: Any) -> None:
    """sigwaitinfo() takes a signal that is not blocked, too, when it comes while it sleeps: no handler runs."""
    sys.sigaction(SIGUSR1, lambda sys, sig, info: say("handler"))
    pid = sys.clone(_sends, sys.getpid(), SIGUSR1)
    say(sys.sigwaitinfo(sig(SIGUSR1)).si_signo, wait(sys, say, pid))


def timedwait_of_a_fatal_signal(sys: Any, say: Any) -> None:
    """A signal that would be fatal is taken by who waits for it."""
    pid = sys.clone(_sends, sys.getpid(), 15)
    say(sys.sigwaitinfo(sig(15)).si_signo, wait(sys, say, pid))


def timedwait_is_interrupted(sys: Any, say: Any) -> None:
    """A handler of another signal ends sigtimedwait() with EINTR, SA_RESTART or not."""
    sys.sigprocmask(0, sig(RT))
    for flags in (0, RESTART):
        sys.sigaction(SIGUSR1, lambda sys, sig, info: say("handler"), flags)
        pid = sys.clone(_sends, sys.getpid(), SIGUSR1)
        say(attempt(sys.sigtimedwait, sig(RT), 10**10), attempt(sys.sigprocmask, 0, 0))
        say(wait(sys, say, pid))


def timedwait_cannot_take_kill(sys: Any, say: Any) -> None:
    """SIGKILL and SIGSTOP in the set of sigtimedwait() mean nothing."""
    pid = sys.clone(_waits_for_kill)
    asleep(sys, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, 2))
    sys.kill(pid, 9)
    say(wait(sys, say, pid))


def _waits_for_kill(sys: Any) -> None:
    sys.sigwaitinfo(sig(9, SIGSTOP))


def timedwait_of_a_child(sys: Any, say: Any) -> None:
    """SIGCHLD can be waited for while it is blocked, though it is ignored by default."""
    sys.sigprocmask(0, sig(SIGCHLD))
    pid = dead(sys, 5)
    info = sys.sigtimedwait(sig(SIGCHLD), 0)
    say(info.si_code, say.who(info.si_pid), info.si_status, wait(sys, say, pid))


def wait_before_the_signal(sys: Any, say: Any) -> None:
    """A child that has died is found by wait() before SIGCHLD's handler runs; both happen once."""
    sys.sigaction(SIGCHLD, lambda sys, sig, info: say("handler", info.si_code), 4 | RESTART)
    gate = Gate(sys)
    sys.sigprocmask(0, sig(SIGCHLD))
    pid = sys.clone(ends, 1)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid))
    say(f"{sys.sigpending():#x}")
    sys.sigprocmask(1, sig(SIGCHLD))
    gate.close(sys)
