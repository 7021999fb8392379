"""Tasks as words: ``bash 911``, ``{worker-1}``, ``[kthreadd]``, and how a life ended in a few words."""

from __future__ import annotations

from bisect import bisect_right

from taskscope.lives.life import Life, TaskRef
from taskscope.lives.lives import Lives
from taskscope.views.names import signal_name
from taskscope.views.text import escape


def comm_at(life: Life, at: int | None = None) -> str:
    """Return the escaped name that the task bore at a time; its last one if `at` is None or before the first."""
    if at is None or not life.comms:
        return escape(life.comm)
    k = bisect_right(life.comms, at, key=lambda c: c.at)
    return escape(life.comms[max(k - 1, 0)].comm)


def pid_text(ref: TaskRef | tuple[int, int]) -> str:
    """Return ``911``, or ``911.1`` for the second life that bore the pid: what ``taskscope life`` takes."""
    return f"{ref[0]}.{ref[1]}" if ref[1] else str(ref[0])


def who(lives: Lives, ref: TaskRef | None, at: int | None = None) -> str:
    """Name a task as people do, ``bash 911``, with the name it bore at that time; ``unknown`` for None."""
    if ref is None:
        return "unknown"
    try:
        life = lives[ref]
    except KeyError:
        return f"pid {pid_text(ref)}"
    return f"{comm_at(life, at)} {pid_text(ref)}"


def decorated(kind: str | None, comm: str) -> str:
    """Return an escaped name as ps(1) and pstree(1) mark it: ``[kthread]``, ``{thread}``; processes plain."""
    if kind in ("kthread", "idle"):
        return f"[{comm}]"
    return f"{{{comm}}}" if kind == "thread" else comm


def end_text(life: Life) -> str:
    """Say how a life ended: ``exit 0``, ``SIGKILL by 911``, ``alive``; ``exit ?`` if the status is unknown."""
    end = life.exit
    if end is None:
        return "alive" if life.reaped is None and life.freed is None else "ended ?"
    if end.signal is None:
        if end.code is not None:
            return f"exit {end.code}"
        return {"group_exit": "group exit", "exec": "exec of group"}.get(end.cause or "", "exit ?")
    text = signal_name(end.signal)
    if end.core:
        text += " core"
    if end.cause == "oom":
        return f"{text} oom"
    if end.cause == "group_exit":
        return f"{text} group"
    if end.killer is not None and end.killer != life.ref:
        text += f" by {pid_text(end.killer)}"
    return text
