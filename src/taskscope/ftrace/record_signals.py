"""Signals to the recorder, seen by its loop instead of interrupting it anywhere.

While `Signals` is entered, SIGINT, SIGTERM, SIGHUP and SIGQUIT are only remembered, and a descriptor becomes readable;
so no clean-up is ever cut short.  One that was ignored before (nohup) stays so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, Self

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Signals:
    """A context in which signals are collected."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._before: dict[int, Any] = {}
        self._read = self._write = -1

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Only the main thread may set handlers; recorded from another, signals keep their meaning.
        if threading.current_thread() is threading.main_thread():
            for number in _CAUGHT:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN and before is not None:
                    self._before[number] = before
                    signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()
        for fd in (self._read, self._write):
            os.close(fd)
        self._read = self._write = -1

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        self.seen.append(number)
        self.wake()

    def wake(self) -> None:
        """Make the descriptor readable."""
        with contextlib.suppress(OSError):
            os.write(self._write, b"s")

    def fileno(self) -> int:
        """Return a descriptor that can be read once a signal came."""
        return self._read

    def take(self) -> int:
        """Return the first signal that was not taken yet, and forget it."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 1)
        return self.seen.pop(0)
