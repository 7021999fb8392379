"""<signal.h> and the interval timers: what a program does about signals."""

from __future__ import annotations

from typing import Any, Final

from taskscope.model.include.linux.sched_signal import SA_RESTART, SA_RESTORER, SI_QUEUE, Sigevent, Siginfo
from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.user.python import UserContext, UserFunction

SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2


class Signals(UserContext):
    """The calls of <signal.h>, alarm() and setitimer()."""

    __slots__ = ()

    SIG_DFL = SIG_DFL
    SIG_IGN = SIG_IGN
    SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK

    def kill(self, pid: int, sig: int) -> None:
        """Send a signal to a process, a process group or all."""
        self._call("kill", pid, sig)

    def killpg(self, pgid: int, sig: int) -> None:
        """Send a signal to a process group."""
        self._call("kill", -pgid, sig)

    def tgkill(self, tgid: int, tid: int, sig: int) -> None:
        """Send a signal to a thread."""
        self._call("tgkill", tgid, tid, sig)

    def tkill(self, tid: int, sig: int) -> None:
        """Send a signal to a thread, whatever process it belongs to."""
        self._call("tkill", tid, sig)

    def raise_(self, sig: int) -> None:
        """Send a signal to the calling thread."""
        self.tgkill(int(self._call("getpid")), int(self._call("gettid")), sig)

    def sigaction(self, sig: int, handler: Any = None, flags: int = 0, mask: int = 0) -> tuple[Any, int, int]:
        """Set what a signal does, unless `handler` is None; return the (handler, flags, mask) before.

        :param handler: SIG_DFL, SIG_IGN or ``fn(sys, sig, info)``
        """
        before = self.handlers.get(sig)
        act = None
        if handler is not None:
            if callable(handler):
                self.handlers[sig] = handler
                # The program's text has the functions in a row, one a signal.
                handler = UserFunction(0x8000 + 0x40 * sig)
            # The C library brings the code that a handler returns to (on ARM since the vDSO has none).
            act = (handler, flags | SA_RESTORER, mask)
        try:
            _, old = self._call("rt_sigaction", sig, act, (cell := Cell()), 8, out=cell)
        except OSError:
            if before is not None:
                self.handlers[sig] = before
            raise
        was = old.sa_handler
        return (before if isinstance(was, UserFunction) else was), old.sa_flags & ~SA_RESTORER, old.sa_mask

    def siginterrupt(self, sig: int, flag: bool = True) -> None:
        """Let a signal's handler interrupt calls, or have them made again."""
        handler, flags, mask = self.sigaction(sig)
        self.sigaction(sig, handler, flags & ~SA_RESTART if flag else flags | SA_RESTART, mask)

    def signal(self, sig: int, handler: Any) -> Any:
        """Set what a signal does, restarting the calls it interrupts (as glibc); return the handler before."""
        return self.sigaction(sig, handler, SA_RESTART)[0]

    def sigprocmask(self, how: int, mask: int | None) -> int:
        """Change the set of blocked signals (bit n-1 is signal n); return the set before."""
        _, old = self._call("rt_sigprocmask", how, mask, (cell := Cell(0)), 8, out=cell)
        return int(old)

    def sigpending(self) -> int:
        """Return the set of signals that are blocked and pending."""
        _, pending = self._call("rt_sigpending", (cell := Cell(0)), 8, out=cell)
        return int(pending)

    def sigsuspend(self, mask: int) -> None:
        """Wait for a signal with another set of blocked ones; always raises OSError(EINTR)."""
        self._call("rt_sigsuspend", mask, 8)

    def pause(self) -> None:
        """Wait for a signal; raises OSError(EINTR) when a handler has run."""
        self._call("pause")

    def sigtimedwait(self, mask: int, ns: int | None = None) -> Siginfo:
        """Take a blocked signal of a set, waiting for it at most `ns`; OSError(EAGAIN) if none came."""
        timeout = None if ns is None else divmod(ns, 1_000_000_000)
        return self._call("rt_sigtimedwait", mask, (cell := Cell(None)), timeout, 8, out=cell)[1]  # type: ignore[no-any-return]

    def sigwaitinfo(self, mask: int) -> Siginfo:
        """Wait for a blocked signal of a set, and take it."""
        return self.sigtimedwait(mask)

    def sigwait(self, mask: int) -> int:
        """Wait for a blocked signal of a set, and take it; return its number."""
        while True:
            try:
                return self.sigtimedwait(mask).si_signo
            except OSError as error:
                if error.errno != 4:
                    raise

    def sigqueue(self, pid: int, sig: int, value: int = 0) -> None:
        """Send a signal with a value to a process."""
        self.rt_sigqueueinfo(pid, sig, SI_QUEUE, value)

    def pthread_sigqueue(self, tid: int, sig: int, value: int = 0) -> None:
        """Send a signal with a value to a thread of the own process."""
        me = int(self._call("getpid"))
        self.rt_tgsigqueueinfo(me, tid, sig, SI_QUEUE, value)

    def rt_sigqueueinfo(self, pid: int, sig: int, code: int, value: int = 0) -> None:
        """Send a signal with a siginfo of one's own to a process: the system call itself."""
        self._call("rt_sigqueueinfo", pid, sig, self._siginfo(sig, code, value))

    def rt_tgsigqueueinfo(self, tgid: int, tid: int, sig: int, code: int, value: int = 0) -> None:
        """Send a signal with a siginfo of one's own to a thread: the system call itself."""
        self._call("rt_tgsigqueueinfo", tgid, tid, sig, self._siginfo(sig, code, value))

    def _siginfo(self, sig: int, code: int, value: int) -> Siginfo:
        info = Siginfo(sig, code, int(self._call("getpid")), int(self._call("getuid")))
        info.si_value = value
        return info

    def pidfd_send_signal(self, pidfd: int, sig: int, flags: int = 0) -> None:
        """Send a signal to the process behind a descriptor."""
        self._call("pidfd_send_signal", pidfd, sig, 0, flags)

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        """Open a descriptor that stands for a process."""
        return int(self._call("pidfd_open", pid, flags))

    def sigaltstack(self, ss: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
        """Set the stack of handlers with SA_ONSTACK as (sp, flags, size), unless None; return the one before."""
        _, old = self._call("sigaltstack", ss, (cell := Cell((0, 2, 0))), out=cell)
        sp, flags, size = old
        return sp, flags, size

    def alarm(self, seconds: int) -> int:
        """Let SIGALRM come in so many seconds; return how many the last one had left."""
        if "alarm" in self._nr:
            return int(self._call("alarm", seconds))
        # 32-bit ARM (EABI) has no such call: as glibc does it there.
        (_, _), (sec, usec) = self.setitimer(0, seconds)
        return int(sec) + bool(usec)

    def setitimer(self, which: int, seconds: float, interval: float = 0.0) -> tuple[Any, Any]:
        """Let SIGALRM come in so many seconds, then at each interval; return the ((s, us), (s, us)) before."""
        new = tuple(divmod(round(value * 1_000_000), 1_000_000) for value in (interval, seconds))
        _, old = self._call("setitimer", which, new, (cell := Cell(((0, 0), (0, 0)))), out=cell)
        return old  # type: ignore[no-any-return]

    def getitimer(self, which: int) -> tuple[Any, Any]:
        """Return ((s, us) interval, (s, us) until the next signal) of an interval timer."""
        return self._call("getitimer", which, (cell := Cell(((0, 0), (0, 0)))), out=cell)[1]  # type: ignore[no-any-return]

    # ---- <time.h>: timers that send signals --------------------------------------------------------------

    def timer_create(
        self, clock: int = 1, notify: int = 0, sig: int = 14, value: int | None = None, tid: int = 0
    ) -> int:
        """Make a timer; return its id.

        :param clock: CLOCK_*
        :param notify: SIGEV_*; with SIGEV_THREAD_ID (4) the signal is for the thread `tid`
        :param value: si_value of its signals; None for a timer without a sigevent: SIGALRM, and its id as value
        """
        event = None if value is None else Sigevent(notify, sig, value, tid)
        return int(self._call("timer_create", clock, event, (cell := Cell(0)), out=cell)[1])

    def timer_settime(self, timer: int, ns: int, interval: int = 0, flags: int = 0) -> tuple[int, int]:
        """Let a timer expire in `ns` (with flags 1, TIMER_ABSTIME: at), then every `interval` ns; 0 stops it.

        :return: (ns, interval) before
        """
        new = (divmod(interval, 1_000_000_000), divmod(ns, 1_000_000_000))
        _, old = self._call("timer_settime", timer, flags, new, (cell := Cell(((0, 0), (0, 0)))), out=cell)
        return _setting(old)

    def timer_gettime(self, timer: int) -> tuple[int, int]:
        """Return (ns until a timer expires, interval)."""
        return _setting(self._call("timer_gettime", timer, (cell := Cell(((0, 0), (0, 0)))), out=cell)[1])

    def timer_getoverrun(self, timer: int) -> int:
        """Return how often a timer has expired without a signal, before the signal that came last."""
        return int(self._call("timer_getoverrun", timer))

    def timer_delete(self, timer: int) -> None:
        """Stop a timer and forget it."""
        self._call("timer_delete", timer)


def _setting(value: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, int]:
    interval, first = (sec * 1_000_000_000 + nsec for sec, nsec in value)
    return first, interval
