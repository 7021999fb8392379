"""What the raspbian labs share: the four stages of the notes, told from a recording."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from taskscope.labs.lab import Run

if TYPE_CHECKING:
    from taskscope.lives.life import Life
    from taskscope.recording import Recording
    from taskscope.system import System

SIGKILL, SIGCHLD = 9, 17
_CALL = re.compile(r"-(\d+) .*: ([\w.]+) <-([\w.]+)$")
SECONDS = 1_000_000_000


def record_function_stacks(run: Run, k: System, extra: str = "") -> None:
    """Trace as the notes' set_ftrace.sh does: the function tracer with stacks, and the events."""
    d = "/sys/kernel/debug/tracing"
    k.write(f"{d}/tracing_on", "0")
    k.write(f"{d}/current_tracer", "function")
    clone, fork = run.name("sys_clone"), run.name("_do_fork")
    k.write(f"{d}/set_ftrace_filter", f"{clone} do_exit")
    k.write(f"{d}/set_ftrace_filter", f"{fork} copy_process* {extra}".rstrip(), append=True)
    for event in (
        "sched/sched_switch",
        "sched/sched_waking",
        "sched/sched_wakeup",
        "sched/sched_wakeup_new",
        "sched/sched_process_fork",
        "sched/sched_process_exec",
        "sched/sched_process_exit",
        "sched/sched_process_wait",
        "sched/sched_process_free",
        "task/task_newtask",
        "task/task_rename",
        "signal/signal_generate",
        "signal/signal_deliver",
    ):
        k.write(f"{d}/events/{event}/enable", "1")
    k.write(f"{d}/options/func_stack_trace", "1")
    k.write(f"{d}/buffer_size_kb", "8192")
    k.write(f"{d}/tracing_on", "1")


def log_of(recording: Recording, words: tuple[str, ...], most: int = 12) -> list[str]:
    """Return lines of the log that contain one of some texts."""
    found = []
    for block in recording.report():
        found += [line for line in block.decode(errors="replace").splitlines() if any(word in line for word in words)]
    return found[:most]


def stage_one(run: Run, life: Life, shell: int) -> None:
    """Stage 1: the shell creates it, under the shell's name."""
    assert life.born is not None
    run.check("stage 1: the shell creates it", life.born.by is not None and life.born.by.pid == shell, life.born.by)
    name = "bash" if run.machine is None else run.machine.shell
    run.equal(
        f"stage 1: under the name {name}; its own comes with exec", [c.comm for c in life.comms], [name, life.comm]
    )


def stage_two(run: Run, recording: Recording, life: Life, period: int) -> list[int]:
    """Stage 2: it runs and sleeps periodically; return when it was woken."""
    wakes = [
        row["ts"]
        for row in run.events(recording, "sched_waking", pid=life.pid)
        if life.execs and row["ts"] > life.execs[-1].at
    ]
    # The last wakeup may be a signal's.
    wakes = [at for at in wakes if not any(s.sig == SIGKILL and s.at <= at + run.slack(1) // 4 for s in life.signals)]
    steps = [b - a for a, b in pairwise(wakes)]
    run.check(
        f"stage 2: it is woken every {period} s",
        len(steps) >= 1 and all(abs(step - period * SECONDS) < run.slack(20) for step in steps),
        steps,
    )
    sleeping = life.time.get("sleeping", 0)
    run.check("stage 2: it sleeps nearly all of its life", sleeping > 0.95 * (life.last - life.first), life.time)
    return wakes


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


def ordered(stack: list[str], names: list[str]) -> bool:
    """Tell whether functions stand on a stack in this order, innermost first."""
    at = 0
    plain = [plain_name(frame) for frame in stack]
    for name in map(plain_name, names):
        if name not in plain[at:]:
            return False
        at = plain.index(name, at) + 1
    return True


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


def calls(recording: Recording) -> list[tuple[str, int, str]]:
    """Return what the function tracer recorded, oldest first: (function, pid of who called it, its caller)."""
    found = []
    for block in recording.report():
        for line in block.decode(errors="replace").splitlines():
            match = _CALL.search(line)
            if match is not None:
                found.append((plain_name(match[2]), int(match[1]), plain_name(match[3])))
    return found


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


def plain_name(function: str) -> str:
    """Return a function's name without what a build adds to it: an offset, ``.isra.0``, a system call's wrappers."""
    name = function.partition("+")[0].partition(".")[0]
    for prefix in ("__x64_sys_", "__do_sys_", "__se_sys_", "__arm64_sys_", "__sys_"):
        if name.startswith(prefix):
            return f"sys_{name.removeprefix(prefix)}"
    return name


__all__ = [
    "SIGCHLD",
    "SIGKILL",
    "calls",
    "family",
    "function_stack",
    "log_of",
    "ordered",
    "plain_name",
    "record_function_stacks",
    "stage_one",
    "stage_two",
    "stat_rows",
    "table",
]
