"""execve(2): what a process keeps and what it loses.  fs/exec.c, execve(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import execute, wait


def _tells(sys: Any, say: Any, pid: str) -> int:
    say("same pid", sys.getpid() == int(pid))
    return 7


def _executes(sys: Any) -> None:
    execute(sys, _tells, str(sys.getpid()))


def keeps_pid(sys: Any, say: Any) -> None:
    """A process that executes a program keeps its pid, and its parent waits for it as before."""
    pid = sys.clone(_executes)
    say(wait(sys, say, pid))
