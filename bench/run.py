"""Measure taskscope's speed and memory beside trace-cmd's, on one recording and parts of it, in the same run.

    bench/record_large.sh /tmp/large.dat 84
    python bench/run.py /tmp/large.dat --write docs/benchmarks-figures.md

The recording must be a plain (uncompressed) trace.dat; parts of a quarter and a half of its pages and a
zstd-compressed copy are made with trace-cmd.  Peer and subject take turns, so that a machine that gets slower
slows both; of N runs the best counts.  Peak memory is the kernel's own figure for each process (wait4).  Events
are counted in what trace-cmd prints, and must be as many as taskscope reads.  The exit code is 1 if a limit that the
project sets itself is exceeded: lives in a fifth of trace-cmd's time, report in no more, memory of 3 times the
pages, --help in 0.1 s.
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
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

TASKSCOPE = [str(Path(sys.executable).parent / "taskscope")]
PEER = "trace-cmd report"
LIVES = "taskscope lives --json"
REPORT = "taskscope report"
COMMANDS = {
    PEER: ["trace-cmd", "report", "-i"],
    LIVES: [*TASKSCOPE, "lives", "--json", "-i"],
    REPORT: [*TASKSCOPE, "report", "-i"],
}
EVENT_LINE = r"^.*-[0-9]+ +\[[0-9]{3,}\] "


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one command: seconds, seconds of cpu time, and peak resident bytes."""

    seconds: float
    cpu: float
    rss: int


@dataclass(slots=True)
class Case:
    """One recording and what was measured on it."""

    name: str
    file: Path
    pages: int                       # uncompressed bytes of ring-buffer pages
    events: int
    runs: dict[str, list[Run]]

    def best(self, command: str) -> float:
        """Return the seconds of the fastest run."""
        return min(r.seconds for r in self.runs[command])

    def cpu(self, command: str) -> float:
        """Return the least cpu time of any run: on a busy machine it says more than the time on the wall."""
        return min(r.cpu for r in self.runs[command])

    def peak(self, command: str) -> int:
        """Return the largest peak memory of any run."""
        return max(r.rss for r in self.runs[command])


def measure(command: list[str]) -> Run:
    """Run a command with its output thrown away.

    :raises SystemExit: it failed: figures of a failed run mean nothing
    """
    start = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit code {child.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def output(*command: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout


def summarise(file: Path) -> str:
    """Return what trace-cmd says of a file's contents."""
    return output("trace-cmd", "dump", "--summary", "-i", str(file))


def page_bytes(file: Path) -> int:
    """Return how many bytes of ring-buffer pages a plain trace.dat holds, as trace-cmd says."""
    summary = summarise(file)
    if "none\t[Compression" not in summary:
        sys.exit(f"{file} is compressed; give a plain one (trace-cmd convert --compression none)")
    return sum(int(n) for n in re.findall(r"(\d+) bytes flyrecord data", summary))


def count_events(file: Path) -> int:
    """Count the events: the lines that trace-cmd prints for them, which must be what taskscope reads.

    :raises SystemExit: the two differ
    """
    report = subprocess.Popen([*COMMANDS[PEER], str(file)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    grep = subprocess.run(["grep", "-cE", EVENT_LINE], stdin=report.stdout, stdout=subprocess.PIPE,
                          check=True, env=dict(os.environ, LC_ALL="C"))
    report.wait()
    events = int(grep.stdout)
    code = "import sys, taskscope; print(len(taskscope.open(sys.argv[1])))"
    read = int(output(sys.executable, "-c", code, str(file)))
    if read != events:
        sys.exit(f"{file}: trace-cmd prints {events} events, taskscope reads {read}")
    return events


def make_cases(recording: Path, folder: Path) -> list[Case]:
    """Cut the recording into parts and compress it."""
    whole = page_bytes(recording)
    buffers = re.findall(r"\[buffer .*?(\d+) page size, (\d+) cpus", summarise(recording))
    if len(buffers) != 1:
        sys.exit(f"{recording}: expected one ring buffer, found {len(buffers)}")
    page, cpus = map(int, buffers[0])
    cases = []
    for part in (4, 2):
        # `split -c -p N` takes the first N pages of every cpu into FILE.1.
        cut = folder / f"part{part}.dat"
        pages = whole // page // cpus // part
        output("trace-cmd", "split", "-i", str(recording), "-o", str(cut), "-c", "-p", str(pages))
        cut = cut.with_name(f"{cut.name}.1")
        cases.append(Case(f"1/{part}", cut, page_bytes(cut), count_events(cut), {}))
    events = count_events(recording)
    packed = folder / "zstd.dat"
    output("trace-cmd", "convert", "--compression", "zstd", "-i", str(recording), "-o", str(packed))
    return [*cases, Case("whole", recording, whole, events, {}),
            Case("whole, zstd", packed, whole, events, {})]


def run_cases(cases: list[Case], repeat: int) -> None:
    """Run every command on every case, in turn, `repeat` times."""
    for case in cases:
        case.file.read_bytes()       # all runs find the file in the page cache
        for turn in range(repeat):
            for name, command in COMMANDS.items():
                run = measure([*command, str(case.file)])
                case.runs.setdefault(name, []).append(run)
                print(f"{case.name:<12} {turn + 1}/{repeat} {name:<24} {run.seconds:8.2f} s "
                      f"({run.cpu:.2f} s of cpu) {run.rss / 1e6:8.0f} MB", file=sys.stderr, flush=True)


def help_seconds(times: int = 21) -> float:
    """Return the median start time of ``taskscope --help``."""
    return statistics.median(measure([*TASKSCOPE, "--help"]).seconds for _ in range(times))


def machine() -> str:
    """Say what ran where."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    # trace-cmd has no option for it; whatever it does not know makes it show its version.
    shown = subprocess.run(["trace-cmd", "--version"], capture_output=True, text=True, check=False)
    peer_version = (re.search(r"version (\S+)", shown.stdout + shown.stderr) or ["", "?"])[1]
    return (f"{len(os.sched_getaffinity(0))} cpus ({cpu}), Linux {platform.release()}, trace-cmd "
            f"{peer_version}, taskscope {version('taskscope')}, Python {platform.python_version()}, "
            f"NumPy {version('numpy')}, Polars {version('polars')}")


def markdown(cases: list[Case], repeat: int, start: float) -> str:
    """Return the figures as the page shows them."""
    rows = [
        f"Measured with `bench/run.py` (best of {repeat}) on {machine()}.", "",
        "| recording | events | pages | `trace-cmd report` | `lives --json` | ratio | peak memory | `report` | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for c in cases:
        peer, lives, report = c.best(PEER), c.best(LIVES), c.best(REPORT)
        peak, cpu = c.peak(LIVES), c.cpu(PEER) / c.cpu(LIVES)
        rows.append(
            f"| {c.name} | {c.events:,} | {c.pages / 1e6:,.0f} MB | {peer:.2f} s "
            f"| {lives:.2f} s, {lives / c.events * 1e9:.0f} ns an event | 1/{peer / lives:.1f} (cpu 1/{cpu:.1f}) "
            f"| {peak / 1e6:,.0f} MB, {peak / c.pages:.2f} × pages | {report:.2f} s | {report / peer:.2f} |")
    rows += ["", f"`taskscope --help` takes {start * 1000:.0f} ms (median of 21).", ""]
    return "\n".join(rows)


def exceeded(cases: list[Case], start: float) -> list[str]:
    """Return the limits that the figures exceed, a sentence each."""
    found = []
    for c in cases:
        if not c.name.startswith("whole"):
            continue                 # in small files the constant costs of a start show
        peer = c.best(PEER)
        if c.best(LIVES) > peer / 5:
            found.append(f"{c.name}: lives --json takes more than a fifth of trace-cmd report")
        if c.best(REPORT) > peer:
            found.append(f"{c.name}: report takes longer than trace-cmd report")
        if c.peak(LIVES) > 3 * c.pages:
            found.append(f"{c.name}: lives --json takes more than 3 times the memory of the pages")
    if start > 0.1:
        found.append("--help takes more than 0.1 s")
    return found


def main() -> int:
    """Measure, print the table, write it where asked; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", type=Path, help="a plain trace.dat, from bench/record_large.sh")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each command (3)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the Markdown table there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run there")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the copies are made")
    given = parser.parse_args()
    if shutil.which("trace-cmd") is None:
        sys.exit("trace-cmd is not installed: sudo apt-get install trace-cmd")
    with tempfile.TemporaryDirectory(prefix="taskscope-bench-", dir=given.work) as folder:
        cases = make_cases(given.recording.resolve(), Path(folder))
        start = help_seconds()
        run_cases(cases, given.repeat)
    table = markdown(cases, given.repeat, start)
    print(table)
    if given.write:
        given.write.write_text(table)
    if given.json:
        figures = {"help": start, "cases": [asdict(c) for c in cases]}
        given.json.write_text(json.dumps(figures, indent=1, default=str))
    limits = exceeded(cases, start)
    print("\n".join(limits) or "all limits held", file=sys.stderr)
    return 1 if limits else 0


if __name__ == "__main__":
    sys.exit(main())
