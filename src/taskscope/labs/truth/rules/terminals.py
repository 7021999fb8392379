"""Pseudo terminals for rules: a process opens ``path``, and what is typed in the window comes from the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.labs.truth.rules.kit import Gate


def terminal(sys: Any) -> Any:
    """Make a terminal: with ``path``, ``type(data)`` and ``hang_up()``."""
    make = getattr(sys, "terminal", None)
    return make() if make is not None else ModelTerminal()


class ModelTerminal:
    """A pseudo terminal of the model, whose window is outside of the machine."""

    def __init__(self) -> None:
        from taskscope.model.drivers.tty import tty_io

        self.tty = tty_io.pty_open()
        self.path = f"/dev/{self.tty.name}"

    def type(self, data: bytes) -> None:
        """Type: it arrives by interrupt."""
        self._send(data)

    def hang_up(self) -> None:
        """Close the window."""
        self._send(None)

    def _send(self, data: bytes | None) -> None:
        from taskscope.model import machine

        m = machine.cur
        m.uart_fifo.append((self.tty, data))
        m.at(m.now, _interrupt, m)

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelTerminal:
        """It is not part of a process."""
        return self


def _interrupt(m: Any) -> None:
    m.raise_irq(m.cpus[0], m.irq_uart)


def job(sys: Any, fn: Callable[..., Any], *args: Any) -> int:
    """Make a child in a group of its own, in the background: it begins when it is there."""
    gate = Gate(sys)
    pid = sys.clone(begins, gate, fn, *args)
    sys.setpgid(pid, pid)
    gate.open(sys)
    return int(pid)


def begins(sys: Any, gate: Gate, fn: Callable[..., Any], *args: Any) -> Any:
    """Be a job: begin when the gate is open."""
    gate.wait(sys)
    return fn(sys, *args)


def set_line(sys: Any, lflag: int, fd: int, on: bool) -> None:
    """Set or clear a local mode of a terminal."""
    now = sys.tcgetattr(fd)
    sys.tcsetattr(fd, now._replace(c_lflag=now.c_lflag | lflag if on else now.c_lflag & ~lflag))
