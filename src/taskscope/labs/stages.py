"""What the raspbian labs share: the four stages of the notes, told from a recording."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from taskscope.labs.lab import Run

if TYPE_CHECKING:
    from taskscope.lives.life import Life
    from taskscope.recording import Recording
    from taskscope.system import System

SIGKILL, SIGCHLD = 9, 17
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


__all__ = ["SIGCHLD", "SIGKILL", "record_function_stacks", "stage_one", "stage_two"]
