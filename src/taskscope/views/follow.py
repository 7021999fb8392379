"""What ``taskscope record --follow`` prints: one happening a line, as text or as JSON Lines.

The text has the columns of a table, but no line waits for the next one: widths are fixed, a longer word pushes the rest
of its line to the right.  WHAT comes last and may hold blanks.
"""

from __future__ import annotations

from collections.abc import Callable

from taskscope.lives.happenings import Execed, Exited, Forked, Happening, Killed, Lost, OfTask, Who
from taskscope.views.json import dumps
from taskscope.views.names import signal_name
from taskscope.views.signals import RESULTS, SI_KERNEL, SIGCONT
from taskscope.views.text import Paint, escape, pad
from taskscope.views.times import Times


def header(paint: Paint | None = None) -> str:
    """Return the line above the columns."""
    line = _columns("TIME", "PID", "PPID", "COMM", "WHAT")
    return paint(line, "head") if paint else line


def _columns(time: str, pid: str, ppid: str, comm: str, what: str) -> str:
    return f"{time:>11} {pid:>6} {ppid:>6} {pad(comm, 15)} {what}"


def line(happening: Happening, times: Times, paint: Paint | None = None) -> str:
    r"""Return a happening as a line of text, without newline.

    >>> line(Forked(at=9_902_129_000, cpu=0, pid=157, tgid=157, kind="process", comm="bash", parent=Who(156, "bash"),
    ...             by=Who(156, "bash"), how="fork", clone_flags=0x1200000), Times())
    '   9.902129    157    156 bash            fork'
    """
    what, style = _what(happening, times)
    if happening.late:
        what += "  (late: it happened before what stands above)"
    if paint is not None:
        what = paint(what, style)
    if not isinstance(happening, OfTask):
        return _columns(times.stamp(happening.at), "-", "-", "-", what)
    # A shell's awk counts columns: a name without any character must not vanish.
    comm = escape(happening.comm).replace(" ", "\\x20") or "''" if happening.comm is not None else "-"
    parent = "-" if happening.parent is None else str(happening.parent.pid)
    return _columns(times.stamp(happening.at), str(happening.pid), parent, comm, what)


def _what(happening: Happening, times: Times) -> tuple[str, str | None]:
    match happening:
        case Forked():
            return _forked(happening), "born"
        case Execed():
            by = f"  (by its thread {happening.old_pid})" if happening.old_pid != happening.pid else ""
            return f"exec {escape(happening.filename)}{by}", None
        case Killed():
            result = f", {RESULTS.get(happening.result, f'result {happening.result}')}" if happening.result else ""
            if (happening.sig, happening.result) == (SIGCONT, 1):
                result = ""            # it continues a stopped task even where that ignores it
            return f"{signal_name(happening.sig)} from {_who(happening.sender, happening.pid)}{result}", "wake"
        case Exited():
            return _exited(happening, times), "kill" if happening.signal is not None else None
        case Lost():
            count = "some" if happening.count is None else f"{happening.count:,}"
            return f"LOST {count} events of cpu {happening.cpu}", "lost"
    raise TypeError(f"no happening: {happening!r}")


def _forked(happening: Forked) -> str:
    parent = happening.parent.pid if happening.parent is not None else None
    # A thread, or a child of CLONE_PARENT: the parent did not make it.
    by = happening.by
    whose = f" by {_who(by, None)}" if by is not None and by.pid not in (parent, happening.tgid) else ""
    return (happening.how or "created") + whose


def _who(who: Who | None, itself: int | None) -> str:
    """Name a task; an interrupt, which may come upon anybody, is None."""
    if who is None:
        return "an interrupt"
    if who.pid == itself:
        return "itself"
    return f"{escape(who.comm)} {who.pid}" if who.comm is not None else f"pid {who.pid}"


def _exited(end: Exited, times: Times) -> str:
    lived = f" after {times.short(end.lived)}" if end.lived is not None else ""
    if end.cause == "exec":
        return f"ended by execve of its group{lived}"
    if end.signal is None:
        code = "?" if end.code is None else str(end.code)
        group = "group " if end.cause == "group_exit" and end.kind == "thread" else ""
        return (f"{group}exit {code}" if end.cause != "signal" else "killed: by which signal is unknown") + lived
    text = f"killed: {signal_name(end.signal)}"
    if end.cause == "oom":
        text += " by the OOM killer"
    elif end.si_code is not None and end.si_code > 0:
        # Raised by the kernel: at a fault of the task, or for a terminal, a timer and so on.
        own = end.killer is not None and end.killer.pid == end.pid and end.si_code != SI_KERNEL
        text += "" if own else " by the kernel"
    elif end.killer is not None:
        text += f" by {_who(end.killer, end.pid)}"
    return text + (", core dumped" if end.core else "") + lived


def json_line(happening: Happening) -> str:
    """Return a happening as one object of JSON, without newline; see docs/json.md."""
    row: dict[str, object] = {"event": happening.event, "at": happening.at, "cpu": happening.cpu,
                              "late": happening.late}
    if isinstance(happening, OfTask):
        row |= {"pid": happening.pid, "tgid": happening.tgid, "kind": happening.kind, "comm": happening.comm,
                "parent": _ref(happening.parent)}
    row |= _OWN[type(happening)](happening)
    return dumps(row)


def _ref(who: Who | None) -> dict[str, object] | None:
    return None if who is None else {"pid": who.pid, "comm": who.comm}


def _lost(h: Lost) -> dict[str, object]:
    return {"count": h.count}


def _fork(h: Forked) -> dict[str, object]:
    return {"by": _ref(h.by), "how": h.how, "clone_flags": h.clone_flags}


def _exec(h: Execed) -> dict[str, object]:
    return {"filename": h.filename, "old_pid": h.old_pid, "old_comm": h.old_comm}


def _kill(h: Killed) -> dict[str, object]:
    return {"sig": h.sig, "code": h.code, "from": _ref(h.sender), "group": h.group, "result": h.result}


def _exit(h: Exited) -> dict[str, object]:
    return {"exit": {"code": h.code, "signal": h.signal, "core": h.core, "cause": h.cause, "killer": _ref(h.killer),
                     "si_code": h.si_code, "inferred": list(h.inferred)}, "lived": h.lived}


_OWN: dict[type[Happening], Callable[..., dict[str, object]]] = {
    Lost: _lost, Forked: _fork, Execed: _exec, Killed: _kill, Exited: _exit}
