"""<signal.h> and the interval timers: what a program does about signals."""

from __future__ import annotations

from typing import Any, Final

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
            act = (handler, flags, mask)
        try:
            _, old = self._call("rt_sigaction", sig, act, (cell := Cell()), 8, out=cell)
        except OSError:
            if before is not None:
                self.handlers[sig] = before
            raise
        was = old.sa_handler
        return (before if isinstance(was, UserFunction) else was), old.sa_flags, old.sa_mask

    def signal(self, sig: int, handler: Any) -> Any:
        """Set what a signal does, restarting the calls it interrupts (as glibc); return the handler before."""
        return self.sigaction(sig, handler, 0x10000000)[0]

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
