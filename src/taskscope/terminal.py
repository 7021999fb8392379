"""What was started on a machine from outside: a program, and a terminal with a shell on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.model.drivers.tty.tty_io import TtyStruct
    from taskscope.system import System

#: how long a run may take at most that ends by a condition, in seconds of the machine
LONGEST = 24 * 3600


class Process:
    """A program that was started from outside."""

    def __init__(self, system: System, number: int, name: str, tty: TtyStruct) -> None:
        self._system = system
        self._number = number
        self.name = name
        self.tty = tty
        self._from = len(tty.screen)

    @property
    def pid(self) -> int | None:
        """Its pid; None until init has forked it."""
        found: int | None = self._system.machine.hostctl.started.get(self._number)
        return found

    @property
    def status(self) -> int | None:
        """Its wait status; None until init has reaped it."""
        pid = self.pid
        return None if pid is None else self._system.machine.hostctl.ended.get(pid)

    @property
    def exitcode(self) -> int | None:
        """Its exit code, or the negative number of the signal that killed it."""
        status = self.status
        return None if status is None else os.waitstatus_to_exitcode(status)

    @property
    def text(self) -> str:
        """What its terminal has shown since it was started."""
        return b"".join(data for _, data in self.tty.screen[self._from :]).decode(errors="replace")

    def wait(self, s: float = LONGEST) -> int:
        """Run the machine until it has ended; return its exit code.

        :raises UsageError: it has not ended after `s` seconds
        """
        self._system.run(until=self, s=s)
        code = self.exitcode
        if code is None:
            raise UsageError(f"{self.name} has not ended after {s:g} s of the machine's time")
        return code

    def __repr__(self) -> str:
        return f"<process {self.pid} {self.name}>"


class Terminal:
    """A terminal with a shell on it: type, run, look."""

    def __init__(self, system: System, process: Process) -> None:
        self._system = system
        self.process = process
        self.tty = process.tty

    def type(self, text: str, s: float | None = None) -> str:
        """Type a line (Enter is added) and run the machine until the shell waits for the next one, or for `s` seconds.

        :return: what has appeared on the screen since
        """
        before = len(self.tty.text)
        self._system.type(self.tty, text + "\n")
        if s is None:
            self._system.run(until=self.idle)
        else:
            self._system.run(s=s)
        return self.tty.text[before:]

    def keys(self, text: str, s: float = 0.01) -> str:
        r"""Press keys without Enter (``\x03`` is ^C), and run for `s` seconds."""
        before = len(self.tty.text)
        self._system.type(self.tty, text)
        self._system.run(s=s)
        return self.tty.text[before:]

    def idle(self) -> bool:
        """Tell whether the shell waits for a line."""
        task = self._system.find(self.process.pid)
        return (
            not self._system.machine.uart_fifo
            and not self.tty.port.data
            and not self.tty.lines
            and task is not None
            and task.state == 1
            and self.tty.pgrp is not None
            and self.tty.pgrp.nr == task.tgid
            and self._system.waits_in(task) == "n_tty_read"
        )

    def close(self) -> None:
        """Close the terminal's window: its session hears SIGHUP."""
        self._system.machine.uart_fifo.append((self.tty, None))
        self._system.interrupt(self._system.machine.irq_uart)

    @property
    def text(self) -> str:
        """All that the terminal has shown."""
        return self.tty.text
