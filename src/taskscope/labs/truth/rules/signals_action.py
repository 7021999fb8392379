"""sigaction(2): handlers, flags, masks.  kernel/signal.c, sigaction(2)."""

from __future__ import annotations

from typing import Any

SIGUSR1 = 10


def handler_sees_sender(sys: Any, say: Any) -> None:
    """A handler is told the signal, that kill(2) sent it, and by whom."""

    def handler(sys: Any, sig: int, info: Any) -> None:
        say("handler", sig, info.si_signo, info.si_code, say.who(info.si_pid), info.si_uid, sys.sigprocmask(0, 0))

    sys.sigaction(SIGUSR1, handler, 4)
    sys.kill(sys.getpid(), SIGUSR1)
    say("after", sys.sigprocmask(0, 0))
