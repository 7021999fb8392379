"""Measure what recording costs the recorded, with taskscope and, where it works, with trace-cmd, in the same run.

    python bench/record.py --write docs/benchmarks-record-figures.md     # as root, on this host
    bench/record_guest.sh /tmp/guest.md                                  # beside trace-cmd, in an emulated machine

Loads are those of `bench/record_load.c`: they measure themselves, so the start and the end of a recorder do not
count.  In every round all loads run bare and under each recorder, in an order that changes, each in slices; of all
slices the median counts.  Both recorders are given the same events, triggers and buffers, for the command and
its descendants; how many events the recordings hold, and how many were lost, is counted by one reader.  `cpu` is
what the recorder itself used, from the kernel's account of all processes (wait4) less the load's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKSCOPE = [sys.executable, "-m", "taskscope.cli.main"]
BARE = "nothing"
#: load -> what one of its rounds is, and rounds of the first try
LOADS = {"fork": ("fork, exit, wait", 100), "exec": ("fork, exec, exit, wait", 50),
         "pingpong1": ("round trip of a byte, on one cpu", 1000), "pingpong2": ("the same, between two cpus", 500)}
BUFFER_KB = 8192
SLICES = 10


@dataclass(slots=True)
class Run:
    """One run: ns a round of every slice by load, by the clock and in cpu time of the load; what the recorder did.

    ``cpu`` is None where the recorder does not wait for its processes, so that the kernel does not add theirs up.
    """

    each: dict[str, list[float]]
    each_cpu: dict[str, list[float]]
    cpu: float | None = None
    events: int = 0
    lost: int = 0
    bytes: int = 0


def execute(command: list[str], cwd: Path, limit: float) -> tuple[str, str, float]:
    """Run a command; return its output, its complaints, and the cpu seconds of all its processes."""
    with (cwd / "out").open("w+b") as out, (cwd / "err").open("w+b") as err:
        child = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        deadline = time.monotonic() + limit
        while True:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                child.kill()
                os.wait4(child.pid, 0)
                raise SystemExit(f"{' '.join(command)}: not done within {limit:.0f} s")
            time.sleep(0.01)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {child.returncode}\n{texts[0]}{texts[1]}")
    return texts[0], texts[1], used.ru_utime + used.ru_stime


def count(path: Path) -> tuple[int, int]:
    """Return the events of a recording, and those that were lost, by the pages and by the kernel's statistics."""
    from taskscope.ftrace.dat import read_dat
    from taskscope.ftrace.ring import RingSource

    recorded = read_dat(str(path))
    source = RingSource(recorded)
    by_pages = sum(gap.count or 1 for gap in source.gaps)
    by_kernel = sum((c.overrun or 0) + (c.dropped or 0) for b in recorded.buffers for c in b.cpus)
    return len(source.index), max(by_pages, by_kernel)


class Bench:
    """The loads and recorders of this machine."""

    def __init__(self, folder: Path, load: Path | None, seconds: float, limit: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.limit = limit
        self.load = load or self._compile()
        self.events: list[str] = []
        self.triggers: dict[str, str] = {}
        self._ask_defaults()

    def _compile(self) -> Path:
        target = self.folder / "record_load"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("record.py: no C compiler: sudo apt-get install gcc libc6-dev, or --load PROGRAM")
        subprocess.run([compiler, "-O1", "-static", "-o", target, HERE / "record_load.c"], check=True)
        return target

    def _ask_defaults(self) -> None:
        """Learn from the recorder's instances, which bear its pid, what it records unless it is told otherwise."""
        script = ("for i in /sys/kernel/tracing/instances/taskscope-$PPID-*; do cd $i && cat set_event && "
                  "grep -H '^[a-z]' events/*/*/trigger; done; :")
        out, _, _ = execute([*TASKSCOPE, "record", "-q", "-o", str(self.folder / "x.dat"), "--", "sh", "-c", script],
                            self.folder, self.limit)
        for line in out.splitlines():
            found = re.fullmatch(r"events/(\w+)/(\w+)/trigger:(\w+).*", line)
            if found:
                self.triggers[f"{found[1]}:{found[2]}"] = found[3]
            elif re.fullmatch(r"\w+:\w+", line.strip()):
                self.events.append(line.strip())
        if not self.events:
            raise SystemExit(f"record.py: the recorder's instance shows no events: {out!r}")

    def recorders(self, only: list[str] | None = None) -> dict[str, list[str]]:
        """Return what stands before the load: recorder -> command line."""
        out = str(self.folder / "bench.dat")
        plain = [word for event in self.events for word in ("-e", event)]
        ours = [*TASKSCOPE, "record", "-o", out, "-b", f"{BUFFER_KB}K"]
        found: dict[str, list[str]] = {
            BARE: [],
            "taskscope record": [*ours, "--"],
            "taskscope record --no-stacks": [*ours, "--no-stacks", "--"],
            "taskscope record --stacks": [*ours, "--stacks", "--"],
        }
        if trace_cmd_works(self.folder):
            triggers = []
            for event in self.events:
                triggers += ["-e", event]
                if event in self.triggers:
                    triggers += ["-R", self.triggers[event]]
            theirs = ["trace-cmd", "record", "-o", out, "-b", str(BUFFER_KB), "-C", "mono", "-F", "-c"]
            found["trace-cmd record, the same triggers"] = [*theirs, *triggers]
            found["trace-cmd record, no stacks"] = [*theirs, *plain]
            found["trace-cmd record -T"] = [*theirs, "-T", *plain]
        return {name: command for name, command in found.items() if only is None or name in only or name == BARE}

    def run(self, prefix: list[str], loads: list[list[str]]) -> Run:
        """Run loads one after the other under one recorder."""
        result = self.folder / "bench.dat"
        result.unlink(missing_ok=True)
        # Separate words, nothing for a shell to expand: the loads are those of this file.
        script = " && ".join(" ".join([str(self.load), *load]) for load in loads)
        out, _, cpu = execute([*prefix, "sh", "-c", script], self.folder, self.limit)
        lines = [line.split() for line in out.splitlines() if re.fullmatch(r"\d+ \d+ [\d.]+", line)]
        run = Run({}, {})
        for load, (took, rounds, own_cpu) in zip(loads, lines, strict=True):
            run.each.setdefault(load[0], []).append(int(took) / int(rounds))
            run.each_cpu.setdefault(load[0], []).append(1e9 * float(own_cpu) / int(rounds))
        if prefix:
            own = sum(float(cpu) for _, _, cpu in lines)
            run.cpu = cpu - own if cpu > own else None
            run.events, run.lost = count(result)
            run.bytes = result.stat().st_size
            result.unlink()
        return run

    def calibrate(self) -> dict[str, int]:
        """Return for each load how many rounds take about `seconds` bare."""
        tries = self.run([], [[load, str(first)] for load, (_, first) in LOADS.items()] * 5).each
        return {load: max(first, int(self.seconds * 1e9 / min(tries[load]))) for load, (_, first) in LOADS.items()}

    def compare(self, rounds: dict[str, int], repeat: int, only: list[str] | None) -> dict[str, list[Run]]:
        """Return recorder -> its runs."""
        recorders = self.recorders(only)
        table: dict[str, list[Run]] = {name: [] for name in recorders}
        # In slices, so that what disturbs the machine for a moment disturbs few of them.
        loads = [[load, str(max(1, n // SLICES))] for load, n in rounds.items()] * SLICES
        order = list(recorders)
        for k in range(repeat):
            for name in order:
                table[name].append(self.run(recorders[name], loads))
            order = order[1:] + order[:1]
            print(f"round {k + 1} of {repeat} done", file=sys.stderr, flush=True)
        return table

    def steady(self, seconds: int, rates: list[int]) -> list[tuple[str, Run, float]]:
        """Return what was recorded of loads that run for some seconds: name, run, seconds that the load took."""
        out = str(self.folder / "bench.dat")
        calls = [*TASKSCOPE, "record", "-o", out, "-e", "raw_syscalls", "--"]
        found = []
        for rate in rates:
            # Each call is an event when it begins and one when it ends.
            run = self.run(calls, [["paced", str(rate // 2), str(seconds)]])
            took = run.each["paced"][0] * (rate // 2) * seconds
            found.append((f"{rate:,} events/s asked for: system calls on one cpu", run, took))
        run = self.run([*TASKSCOPE, "record", "-o", out, "--"], [["switches", str(seconds)]])
        found.append(("as many switches as one cpu makes, all default events", run, seconds * 1e9))
        run = self.run(calls, [["calls", str(seconds)]])
        found.append(("as many system calls as all cpus make", run, seconds * 1e9))
        return found


def trace_cmd_works(folder: Path) -> bool:
    """Tell whether `trace-cmd record` records here."""
    if shutil.which("trace-cmd") is None:
        return False
    done = subprocess.run(["trace-cmd", "record", "-q", "-o", folder / "probe.dat", "-e", "sched:sched_switch", "true"],
                          cwd=folder, capture_output=True, check=False, timeout=60)
    return done.returncode == 0 and (folder / "probe.dat").exists()


# ---- what is shown ---------------------------------------------------------------------------------------

def machine() -> str:
    """Return one line on the machine."""
    model = "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    release = platform.release().split("-fc")[0]
    return f"Linux {release}, {os.cpu_count()} cpus ({model}), Python {platform.python_version()}"


def short(ns: float) -> str:
    """Return a time a person can read."""
    return f"{ns / 1e6:.2f} ms" if ns >= 1e6 else f"{ns / 1e3:.1f} µs"


def comparison(table: dict[str, list[Run]], rounds: dict[str, int]) -> list[str]:
    """Return the comparison as Markdown, by the clock and by cpu time."""
    lines = ["By the clock:", "", *ratios(table, list(rounds), "each"),
             "In cpu time of the load's own processes, which what else runs on the machine changes less:", "",
             *ratios(table, list(rounds), "each_cpu"),
             "| recorder | events | lost | its own cpu time |", "|---|---:|---:|---:|"]
    for name, runs in table.items():
        if name != BARE:
            cpu = [run.cpu for run in runs if run.cpu is not None]
            used = f"{statistics.median(cpu):.2f} s" if cpu else "not known"
            lines.append(f"| {name} | {statistics.median(r.events for r in runs):,.0f} | "
                         f"{sum(r.lost for r in runs):,} | {used} |")
    return [*lines, "", "; ".join(f"{load}: {LOADS[load][0]} ({n:,} rounds)" for load, n in rounds.items()) + ".", ""]


def ratios(table: dict[str, list[Run]], loads: list[str], what: str) -> list[str]:
    """Return a table: the median of all slices as a multiple of the bare one, and the quartiles."""
    def slices(name: str, load: str) -> list[float]:
        return [each for run in table[name] for each in getattr(run, what)[load]]

    bare = {load: statistics.median(slices(BARE, load)) for load in loads}
    lines = [f"| recorder | {' | '.join(loads)} |", "|---|" + "---:|" * len(loads),
             f"| {BARE} | {' | '.join(short(bare[load]) for load in loads)} |"]
    for name in table:
        cells = []
        for load in loads:
            low, middle, high = statistics.quantiles([each / bare[load] for each in slices(name, load)], n=4)
            cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        lines.append(f"| {'×' if name == BARE else name} | {' | '.join(cells)} |")
    return [*lines, ""]


def steady_table(found: list[tuple[str, Run, float]]) -> list[str]:
    """Return the runs of some seconds as Markdown."""
    lines = ["| load | events | events/s | lost | recorder's cpu | file |", "|---|---:|---:|---:|---:|---:|"]
    for name, run, took in found:
        seconds = took / 1e9
        lines.append(f"| {name} | {run.events:,} | {run.events / seconds:,.0f} | {run.lost:,} | "
                     f"{100 * (run.cpu or 0) / seconds:.0f} % of a cpu | {run.bytes / 2**20:.1f} MiB |")
    return [*lines, ""]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7, help="rounds (7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a bare load takes (0.5)")
    parser.add_argument("--steady", type=int, default=10, help="seconds of the loads that run for a time; 0: none (10)")
    parser.add_argument("--rates", default="200000,400000,800000", help="events a second that are tried")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a run is given up (300)")
    parser.add_argument("--load", type=Path, help="bench/record_load.c, compiled")
    parser.add_argument("--only", action="append", metavar="RECORDER", help="only these recorders")
    parser.add_argument("--folder", type=Path, help="where recordings are written; a temporary folder by default")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the figures as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run")
    given = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("record.py: recording needs root")
    with tempfile.TemporaryDirectory(prefix="taskscope-bench-", dir=given.folder) as folder:
        bench = Bench(Path(folder), given.load and given.load.resolve(), given.seconds, given.limit)
        rounds = bench.calibrate()
        table = bench.compare(rounds, given.repeat, given.only)
        lines = [f"{machine()}; taskscope {version('taskscope')}"
                 + (f", {trace_cmd_version()}" if any("trace-cmd" in name for name in table) else "")
                 + f"; median (and quartiles) of {SLICES} slices of each load in {given.repeat} rounds.", "",
                 *comparison(table, rounds)]
        steady: list[tuple[str, Run, float]] = []
        if given.steady:
            steady = bench.steady(given.steady, [int(rate) for rate in given.rates.split(",")])
            lines += [f"Loads that run for {given.steady} s:", "", *steady_table(steady)]
    text = "\n".join(lines)
    print(text)
    if given.write:
        given.write.write_text(text)
    if given.json:
        given.json.write_text(json.dumps({
            "rounds": rounds,
            "runs": {name: [[r.each, r.each_cpu, r.cpu, r.events, r.lost] for r in runs]
                     for name, runs in table.items()},
            "steady": [[name, r.events, r.lost, r.cpu, took] for name, r, took in steady]}))


def trace_cmd_version() -> str:
    """Return the version of trace-cmd."""
    done = subprocess.run(["trace-cmd", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\S+)", done.stdout + done.stderr)
    return f"trace-cmd {found[1] if found else '?'}"


if __name__ == "__main__":
    main()
