"""What becomes of a blocking call when a signal comes: EINTR, made again, or gone on with; signal(7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, sig, wait

SIGUSR1, SIGCONT, SIGSTOP = 10, 18, 19
RESTART = 0x1000_0000
MS = 1_000_000
LONG = 10_000 * MS


def _pokes(sys: Any, pid: int, ran: Gate, ends: Callable[..., Any] | None, *args: Any) -> int:
    """Interrupt a process that sleeps; when its handler has run and it sleeps again, let its call end."""
    asleep(sys, pid)
    sys.kill(pid, SIGUSR1)
    ran.wait(sys)
    if ends is not None:
        asleep(sys, pid)
        ends(sys, *args)
    return 7


def _interrupted(sys: Any, say: Any, call: Callable[..., Any], ends: Callable[..., Any], *args: Any) -> None:
    """Say what a call returns when a handler runs while it sleeps, without SA_RESTART and with it."""
    ran = Gate(sys)

    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler")
        ran.open(sys)

    for flags in (0, RESTART):
        sys.sigaction(SIGUSR1, handler, flags)
        pid = sys.clone(_pokes, sys.getpid(), ran, ends if flags else None, *args)
        say("restart" if flags else "plain", attempt(call))
        say(wait(sys, say, pid))


def _never_restarted(sys: Any, say: Any, call: Callable[..., Any]) -> None:
    """Say what a call returns that a handler ends, SA_RESTART or not."""
    ran = Gate(sys)

    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler")
        ran.open(sys)

    for flags in (0, RESTART):
        sys.sigaction(SIGUSR1, handler, flags)
        pid = sys.clone(_pokes, sys.getpid(), ran, None)
        say("restart" if flags else "plain", attempt(call))
        say(wait(sys, say, pid))


def _writes(sys: Any, fd: int) -> None:
    sys.write(fd, b"x")


def _drains(sys: Any, fd: int) -> None:
    sys.read(fd, 65536)


def read_of_a_pipe(sys: Any, say: Any) -> None:
    """read() of an empty pipe is EINTR, and made again with SA_RESTART."""
    read, write = sys.pipe()
    _interrupted(sys, say, lambda: sys.read(read, 1), _writes, write)


def write_to_a_full_pipe(sys: Any, say: Any) -> None:
    """write() to a full pipe that has taken nothing is EINTR, and made again with SA_RESTART."""
    read, write = sys.pipe()
    sys.write(write, bytes(65536))
    _interrupted(sys, say, lambda: sys.write(write, bytes(4096)), _drains, read)


def write_that_has_begun(sys: Any, say: Any) -> None:
    """write() to a pipe that has taken a part returns what it took, SA_RESTART or not."""
    ran = Gate(sys)
    sys.sigaction(SIGUSR1, lambda sys, sig, info: ran.open(sys), RESTART)
    _, write = sys.pipe()
    pid = sys.clone(_pokes, sys.getpid(), ran, None)
    say(sys.write(write, bytes(100_000)))
    say(wait(sys, say, pid))


def _nothing(sys: Any) -> None:
    """Return, and so end."""


def _sleeps(sys: Any) -> None:
    sys.nanosleep(LONG)


def waitid_for_a_child(sys: Any, say: Any) -> None:
    """waitid() is EINTR, and made again with SA_RESTART."""
    ran = Gate(sys)
    for flags in (0, RESTART):
        sys.sigaction(SIGUSR1, lambda sys, sig, info: ran.open(sys), flags)
        pid = sys.clone(_pokes, sys.getpid(), ran, _nothing if flags else _sleeps)
        found = attempt(sys.waitid, 1, pid, 4)
        say(found if isinstance(found, str) else (say.who(found.si_pid), found.si_status, found.si_code))
        if not flags:
            sys.kill(pid, 9)
            say(wait(sys, say, pid))


def sigsuspend_is_never_restarted(sys: Any, say: Any) -> None:
    """sigsuspend() is EINTR, SA_RESTART or not."""
    _never_restarted(sys, say, lambda: sys.sigsuspend(0))


def sigtimedwait_is_never_restarted(sys: Any, say: Any) -> None:
    """sigtimedwait() and sigwaitinfo() are EINTR, SA_RESTART or not."""
    _never_restarted(sys, say, lambda: sys.sigtimedwait(sig(12), LONG))
    _never_restarted(sys, say, lambda: sys.sigwaitinfo(sig(12)))


def nanosleep_is_never_restarted(sys: Any, say: Any) -> None:
    """nanosleep() is EINTR, SA_RESTART or not."""
    _never_restarted(sys, say, lambda: sys.nanosleep(LONG))


def clock_nanosleep_tells_what_is_left(sys: Any, say: Any) -> None:
    """clock_nanosleep() for a time is EINTR and tells what is left; until a time it is EINTR and tells nothing."""
    ran = Gate(sys)
    sys.sigaction(SIGUSR1, lambda sys, sig, info: ran.open(sys), RESTART)
    for flags in (0, 1):
        pid = sys.clone(_pokes, sys.getpid(), ran, None)
        left = sys.clock_nanosleep(1, LONG + flags * sys.clock_gettime_ns(1), flags)
        say("some" if 0 < left < LONG + MS else left)
        say(wait(sys, say, pid))


def _stops(sys: Any, pid: int, ends: Callable[..., Any] | None, *args: Any) -> None:
    asleep(sys, pid)
    for _ in range(2):
        sys.kill(pid, SIGSTOP)
        comes_to(sys, pid, "T")
        sys.kill(pid, SIGCONT)
        asleep(sys, pid)
    if ends is not None:
        ends(sys, *args)


def _stopped(sys: Any, say: Any, call: Callable[..., Any], ends: Callable[..., Any], *args: Any) -> None:
    pid = sys.clone(_stops, sys.getpid(), ends, *args)
    say(attempt(call))
    say(wait(sys, say, pid))


def a_stop_does_not_end_pause(sys: Any, say: Any) -> None:
    """pause() and sigsuspend() go on after a stop; a handler ends them."""
    sys.sigaction(SIGUSR1, lambda sys, sig, info: say("handler"))
    _stopped(sys, say, sys.pause, _signals, sys.getpid())
    sys.sigprocmask(0, sig(SIGUSR1, 15))
    _stopped(sys, say, lambda: sys.sigsuspend(0), _signals, sys.getpid())
    say(f"{sys.sigprocmask(0, 0):#x}")


def _signals(sys: Any, pid: int) -> None:
    sys.kill(pid, SIGUSR1)


def a_stop_does_not_end_wait(sys: Any, say: Any) -> None:
    """wait4() goes on after a stop."""
    pid = sys.clone(_stops, sys.getpid(), None)
    say(wait(sys, say, pid))


def a_stop_does_not_end_sleep(sys: Any, say: Any) -> None:
    """nanosleep() goes on after a stop, up to the same end; so does clock_nanosleep() until a time."""
    pid = sys.clone(_stops, sys.getpid(), None)
    before = sys.clock_gettime_ns(1)
    say(attempt(sys.nanosleep, 60 * MS), 60 * MS <= sys.clock_gettime_ns(1) - before < 1000 * MS)
    say(wait(sys, say, pid))
    pid = sys.clone(_stops, sys.getpid(), None)
    before = sys.clock_gettime_ns(1)
    say(sys.clock_nanosleep(1, before + 60 * MS, 1), 60 * MS <= sys.clock_gettime_ns(1) - before < 1000 * MS)
    say(wait(sys, say, pid))


def a_stop_ends_sigtimedwait(sys: Any, say: Any) -> None:
    """sigtimedwait() ends with EINTR after a stop, though no handler ran; so does sigwaitinfo()."""
    for timeout in (LONG, None):
        pid = sys.clone(_stops_once, sys.getpid())
        say(attempt(sys.sigtimedwait, sig(SIGUSR1), timeout))
        say(wait(sys, say, pid))


def _stops_once(sys: Any, pid: int) -> None:
    asleep(sys, pid)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.kill(pid, SIGCONT)


def ignored_signals_do_not_end_calls(sys: Any, say: Any) -> None:
    """A signal that is ignored, or blocked, does not end a call."""
    sys.sigaction(12, 1)
    sys.sigprocmask(0, sig(SIGUSR1))
    read, write = sys.pipe()
    pid = sys.clone(_ignored, sys.getpid(), write)
    say(attempt(sys.read, read, 1), f"{sys.sigpending():#x}")
    say(wait(sys, say, pid))


def _ignored(sys: Any, pid: int, fd: int) -> None:
    asleep(sys, pid)
    for number in (12, 17, 23, 28, SIGUSR1, SIGCONT):
        sys.kill(pid, number)
    asleep(sys, pid)
    sys.write(fd, b"x")


def restart_syscall_by_itself(sys: Any, say: Any) -> None:
    """restart_syscall() without something to restart is EINTR."""
    say(attempt(sys._call, "restart_syscall"))


def a_handler_before_a_restart(sys: Any, say: Any) -> None:
    """Of two handlers that run at once it is the first signal taken, the lower number, whose SA_RESTART counts."""
    ran = Gate(sys)
    read, write = sys.pipe()
    for low, high in ((RESTART, 0), (0, RESTART)):
        sys.sigaction(SIGUSR1, lambda sys, sig, info: ran.open(sys), low)
        sys.sigaction(12, lambda sys, sig, info: None, high)
        sys.sigprocmask(2, 0)
        pid = sys.clone(_stops_and_sends_two, sys.getpid(), ran, write if low else -1)
        say(attempt(sys.read, read, 1))
        say(wait(sys, say, pid))


def _stops_and_sends_two(sys: Any, pid: int, ran: Gate, fd: int) -> None:
    asleep(sys, pid)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.kill(pid, 12)
    sys.kill(pid, SIGUSR1)
    sys.kill(pid, SIGCONT)
    ran.wait(sys)
    if fd >= 0:
        asleep(sys, pid)
        sys.write(fd, b"x")
