"""What goes wrong with a guest."""

from __future__ import annotations

from taskscope.errors import TaskscopeError


class GuestError(TaskscopeError):
    """A guest cannot be had here, or did not do what it should.

    :param console: the last lines that its kernel printed
    """

    exit_code = 3

    def __init__(self, message: str, console: str = "") -> None:
        lines = [line.rstrip() for line in console.splitlines() if line.strip()][-12:]
        if lines:
            message += "\nthe guest's last words:\n" + "\n".join(f"  {line}" for line in lines)
        super().__init__(message)
        self.console = console
