"""Measure the executable kernel: switches, forks, memory, boot; SimSo beside it where it is installed.

    python bench/model.py                        # all cases, asserts off and on, best of 3
    python bench/model.py --case switches-100 --runs 5
    python bench/model.py --write docs/benchmarks-model.md

Each run is a process of its own.  A switch is a sched_yield() of a program that lets another program run: user side,
system call, CFS, and all sched events in the ring buffer.  Seconds are those of the process (time.process_time), so
that other load on the machine counts as little as it can; of N runs the best counts.  The exit code is 1 if a figure
misses the limit that the project sets itself (asserts off).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from taskscope.model import flavours, machine
from taskscope.model.init import main as init_main
from taskscope.model.kernel.trace import trace, trace_events

SECOND: Final = 1_000_000_000
Figures = dict[str, float]


def power_on(
    program: Callable[..., Any], cpus: int, *, bare: bool = True, mem: int = 1 << 30, flavour_name: str = "4.19-arm",
) -> machine.Machine:
    """Switch a machine on whose init is `program`."""
    flavour = flavours.flavour(flavour_name)
    m = machine.Machine(flavour, cpus, flavour.hz, 0, mem)
    init_main.power_on(m, bare=bare, program=program)
    return m


def record(m: machine.Machine, *systems: str) -> None:
    """Record all events of these systems in the top-level instance's buffers."""
    before, machine.cur = machine.cur, m
    for system in systems:
        trace_events.set_event(trace.top_trace_array(m), system, None, True)
    machine.cur = before


# ---- cases -------------------------------------------------------------------------------------------------


def _yielder(sys_: Any, start: int, count: int) -> int:
    sys_.nanosleep(start - sys_.clock_gettime_ns())
    for _ in range(count):
        sys_.sched_yield()
    sys_.nanosleep(1_000_000 * SECOND)
    return 0


def switches(tasks: int, cpus: int, total: int) -> Figures:
    """Count switches of `tasks` programs that yield."""
    start = 3_000 * SECOND

    def init(sys_: Any, argv: list[str]) -> int:
        for _ in range(tasks):
            sys_.clone(_yielder, start, total // tasks)
        sys_.nanosleep(1_000_000 * SECOND)
        return 0

    m = power_on(init, cpus)
    m.run_until(start - SECOND)
    record(m, "sched")
    gc.collect()
    before = sum(cpu.rq.nr_switches for cpu in m.cpus)
    t = time.process_time()
    m.run_until(start + 500 * SECOND)
    t = time.process_time() - t
    done = sum(cpu.rq.nr_switches for cpu in m.cpus) - before
    m.close()
    # CFS lets a task go on that yields while it is far behind the others: a few yields are no switches.
    if done < total * 0.7:
        raise SystemExit(f"{done:,} switches of {total:,} yields")
    return {"switches/s": done / t}


def _child(sys_: Any) -> int:
    return 0


def forks(count: int) -> Figures:
    """Count fork + exit + wait of a Python task, with sched events recorded."""
    seconds = 0.0

    def init(sys_: Any, argv: list[str]) -> int:
        nonlocal seconds
        sys_.nanosleep(10 * SECOND)
        t = time.process_time()
        for _ in range(count):
            sys_.clone(_child)
            sys_.wait()
        seconds = time.process_time() - t
        sys_.nanosleep(1_000_000 * SECOND)
        return 0

    m = power_on(init, 1)
    m.run_until(5 * SECOND)
    record(m, "sched")
    m.run_until(1_000 * SECOND)
    m.close()
    if not seconds:
        raise SystemExit("the program has not ended")
    return {"forks/s": count / seconds}


def _sleeper(sys_: Any) -> int:
    sys_.nanosleep(1_000_000 * SECOND)
    return 0


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def parked(tasks: int) -> Figures:
    """Measure the memory of a task that sleeps in a system call."""

    def init(sys_: Any, argv: list[str]) -> int:
        sys_.nanosleep(SECOND)
        for _ in range(tasks):
            sys_.clone(_sleeper)
        sys_.nanosleep(1_000_000 * SECOND)
        return 0

    # 32-bit kernels have 32,768 pids at most.
    m = power_on(init, 1, mem=64 << 30, flavour_name="6.1-x86_64")
    m.run_until(SECOND // 2)
    m.init_pid_ns.pid_max = 4 << 20             # sysctl kernel.pid_max
    gc.collect()
    before = _rss()
    t = time.process_time()
    m.run_until(500 * SECOND)
    t = time.process_time() - t
    gc.collect()
    grown = _rss() - before
    if m.nr_threads < tasks:
        raise SystemExit(f"{m.nr_threads:,} tasks of {tasks:,}")
    figures = {"KB/task": grown / tasks / 1000, "tasks": float(m.nr_threads), "s": t}
    m.close()
    return figures


def boot(bare: bool) -> Figures:
    """Time a boot up to the first program, after one that has loaded the modules."""
    best = 1e9
    for _ in range(6):

        def init(sys_: Any, argv: list[str]) -> int:
            machine.cur.stop()
            sys_.nanosleep(1_000_000 * SECOND)
            return 0

        t = time.process_time()
        m = power_on(init, 2, bare=bare)
        m.run_until(100 * SECOND)
        best = min(best, time.process_time() - t)
        m.close()
    return {"ms": best * 1000}


def simso(tasks: int, seconds: float) -> Figures:
    """Count the scheduling events of SimSo's EDF with as many tasks on 1 CPU."""
    from simso.configuration import Configuration
    from simso.core import Model

    configuration = Configuration()
    configuration.duration = int(seconds * configuration.cycles_per_ms * 1000)
    for n in range(tasks):
        configuration.add_task(name=f"T{n}", identifier=n, period=tasks * 1.25, wcet=1, deadline=tasks * 1.25)
    configuration.add_processor(name="CPU 1", identifier=1)
    configuration.scheduler_info.clas = "simso.schedulers.EDF"
    configuration.check_all()
    model = Model(configuration)
    t = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):     # it prints each event
        model.run_model()
    t = time.process_time() - t
    events = sum(len(cpu.monitor) for cpu in model.processors)
    return {"switches/s": events / t}


#: case -> (function, arguments, figure, limit of the figure or None, whether more is better)
CASES: Final[dict[str, tuple[Callable[..., Figures], tuple[Any, ...], str, float | None, bool]]] = {
    "switches-100": (switches, (100, 1, 200_000), "switches/s", 120_000, True),
    "switches-10000": (switches, (10_000, 2, 1_000_000), "switches/s", 80_000, True),
    "forks": (forks, (3_000,), "forks/s", 4_000, True),
    "parked": (parked, (10_000,), "KB/task", 20, False),
    "parked-100000": (parked, (100_000,), "KB/task", 20, False),
    "boot-bare": (boot, (True,), "ms", 5, False),
    "boot-full": (boot, (False,), "ms", 300, False),
    "simso-100": (simso, (100, 20.0), "switches/s", None, True),
    "simso-1000": (simso, (1_000, 5.0), "switches/s", None, True),
}


# ---- running and reporting ---------------------------------------------------------------------------------


def run(case: str, optimise: bool, timeout: float) -> Figures | None:
    """Run one case once in a fresh interpreter; None if it does not finish."""
    command = [sys.executable, *(["-O"] if optimise else []), __file__, "--child", case]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        sys.stderr.write(done.stderr)
        return None
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(case: str, runs: int, timeout: float) -> dict[str, float | None]:
    """Return the best figure of a case, with asserts off and on."""
    _, _, figure, _, more = CASES[case]
    found: dict[str, float | None] = {}
    for name, optimise in (("off", True), ("on", False)):
        if case.startswith("simso") and not optimise:
            found[name] = None
            continue
        values = [f[figure] for f in (run(case, optimise, timeout) for _ in range(runs)) if f is not None]
        found[name] = (max(values) if more else min(values)) if values else None
    return found


def text(value: float | None) -> str:
    """Write a figure with as many digits as it is worth."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", action="append", choices=[*CASES], help="only this case (can be repeated)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one run")
    parser.add_argument("--write", type=Path, help="also write the table there, as Markdown")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        function, arguments, _, _, _ = CASES[options.child]
        print(json.dumps(function(*arguments)))
        return 0
    lines = ["| case | figure | asserts off | asserts on | limit |", "|---|---|--:|--:|--:|"]
    missed = False
    for case in options.case or CASES:
        _, _, figure, limit, more = CASES[case]
        best = measure(case, options.runs, options.timeout)
        off = best["off"]
        bound = "" if limit is None else f"{'≥' if more else '≤'} {limit:,.0f}"
        lines.append(f"| {case} | {figure} | {text(off)} | {text(best['on'])} | {bound} |")
        print(lines[-1], flush=True)
        missed |= limit is not None and (off is None or (off < limit if more else off > limit))
    if options.write:
        where = f"Python {platform.python_version()}, {platform.machine()}, best of {options.runs} runs."
        options.write.write_text("\n".join([where, "", *lines, ""]))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
