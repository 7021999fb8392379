"""Evidence, as labs read it: stacks, traced calls, lines of a log, families, /proc, what programs print."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.recording import Recording

_CALL = re.compile(r"-(\d+) .*: ([\w.]+) <-([\w.]+)$")


def plain(stack: Iterable[str]) -> list[str]:
    """Return the functions of a stack, without offsets."""
    return [entry.partition("+")[0] for entry in stack]


def plain_name(function: str) -> str:
    """Return a function's name without what a build adds to it: an offset, ``.isra.0``, a system call's wrappers."""
    name = function.partition("+")[0].partition(".")[0]
    for prefix in ("__x64_sys_", "__do_sys_", "__se_sys_", "__arm64_sys_", "__sys_"):
        if name.startswith(prefix):
            return f"sys_{name.removeprefix(prefix)}"
    return name


def ordered(stack: list[str], names: list[str]) -> bool:
    """Tell whether functions stand on a stack in this order, innermost first."""
    at = 0
    plain = [plain_name(frame) for frame in stack]
    for name in map(plain_name, names):
        if name not in plain[at:]:
            return False
        at = plain.index(name, at) + 1
    return True


def function_stack(recording: Recording, pid: int, name: str) -> list[str]:
    """Return the stack that the function tracer recorded at the last call of a function by a task."""
    lines = [line for block in recording.report() for line in block.decode(errors="replace").splitlines()]
    found: list[str] = []
    for n, line in enumerate(lines):
        if f"-{pid} " in line and f"{name} <-" in line.replace("function:", "").replace("             ", " "):
            found = []
            for below in lines[n + 1 : n + 40]:
                if "=>" not in below:
                    if found:
                        break
                    if "stack" not in below:
                        break
                    continue
                found.append(below.split("=>")[1].strip().split(" ")[0])
    return found


def calls(recording: Recording) -> list[tuple[str, int, str]]:
    """Return what the function tracer recorded, oldest first: (function, pid of who called it, its caller)."""
    found = []
    for block in recording.report():
        for line in block.decode(errors="replace").splitlines():
            match = _CALL.search(line)
            if match is not None:
                found.append((plain_name(match[2]), int(match[1]), plain_name(match[3])))
    return found


def log_of(recording: Recording, words: tuple[str, ...], most: int = 12) -> list[str]:
    """Return lines of the log that contain one of some texts."""
    found = []
    for block in recording.report():
        found += [line for line in block.decode(errors="replace").splitlines() if any(word in line for word in words)]
    return found[:most]


def family(recording: Recording, root: int, name: str) -> dict[str, int]:
    """Return roles for a task and all that it created, by the order of their births: name, name.1, name.1.1, name.2.

    :param root: its pid
    """
    roles = {name: root}
    born = [life for life in recording.lives if life.born is not None]
    children = sorted((life for life in born if life.born is not None and life.born.by is not None
                       and life.born.by.pid == root), key=lambda life: life.first)
    for number, life in enumerate(children, 1):
        roles |= family(recording, life.pid, f"{name}.{number}")
    return roles


def stat_rows(text: str) -> dict[int, list[str]]:
    """Return the lines of /proc/PID/stat by pid: [pid, comm, state, ppid, pgrp, session, tty_nr, tpgid, flags, …].

    See proc_pid_stat(5).
    """
    rows = {}
    for line in text.splitlines():
        before, found, after = line.rpartition(") ")
        pid, opened, comm = before.partition(" (")
        if found and opened and pid.isdigit():
            rows[int(pid)] = [pid, comm, *after.split()]
    return rows


def table(text: str) -> dict[str, str]:
    """Return the lines ``name: value`` of a program's output."""
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
