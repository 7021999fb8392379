"""How fast the tasks of a moment are read: /proc beside procps' ps, a crash dump, this kernel's memory.

    python bench/tasks.py [TASKS]
    CRASH=/usr/bin/crash VMLINUX=/usr/lib/debug/boot/vmlinux-6.1.0-56-cloud-amd64 python bench/tasks.py

Starts so many processes that sleep (2,000 by default), then times whole commands, the fastest of seven runs of each,
ours and the peer's in turns.  Memory is the most that a command ever had (ru_maxrss).  As root also this kernel's.
The peer for the dump is crash (CRASH; its `ps` needs the vmlinux of the kernel's debug package, VMLINUX): it runs where
both are named.  crash 8.0.2, of Debian 12, lists 3 of the 81 tasks; 8.0.6, of Debian 13, all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = [sys.executable, "-m", "taskscope.cli.main"]
sys.path.insert(0, str(ROOT / "src"))
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
DUMP = ROOT / "tests/data/vmcore/debian12-amd64.kdump"


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command; return its s and MiB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def compare(form: list[str], rounds: int = 7) -> None:
    """Time a form of ps, ours and procps', in turns."""
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(timed(["ps", *form])[0])
        ours.append(timed([*OURS, "ps", "-q", *form])[0])
    ratio = min(ours) / min(theirs)
    print(f"{' '.join(form):<28} ps {min(theirs):.3f} s   taskscope {min(ours):.3f} s   ratio {ratio:.2f}")


def started(form: list[str], rounds: int = 7) -> None:
    """Time reading and the table of a form in a Python that runs already: what is left without its start."""
    from taskscope.source import Source
    from taskscope.views.ps import ps_table, sysv
    from taskscope.views.ps_columns import COLUMNS

    shape = sysv(form[0].lstrip("-"))
    fields = {name for column in shape.columns for name in COLUMNS[column.name].fields}
    took = []
    for cpus in (1, 2):
        runs = []
        for _ in range(rounds):
            began = time.perf_counter()
            found = Source().snapshot(fields=fields, threads=False, names=True, cpus=cpus)
            "\n".join(ps_table(found, shape))
            runs.append(time.perf_counter() - began)
        took.append(min(runs))
    print(f"{' '.join(form)}, without the start of Python: {took[0]:.3f} s; by two processes {took[1]:.3f} s")


def dump(rounds: int = 5) -> None:
    """Time the table of a dump, beside crash where it can run."""
    crash, vmlinux = os.environ.get("CRASH"), os.environ.get("VMLINUX")
    if not crash or not vmlinux:
        alone("ps --core, 81 tasks", ["ps", "--core", str(DUMP), "-ely"], rounds)
        return
    ours, theirs = [], []
    with tempfile.NamedTemporaryFile("w", suffix=".crash") as commands:
        commands.write("ps\nquit\n")
        commands.flush()
        for _ in range(rounds):
            theirs.append(timed([crash, "-s", "-i", commands.name, vmlinux, str(DUMP)]))
            ours.append(timed([*OURS, "ps", "-q", "--core", str(DUMP), "-L", "-ely"]))
    seconds, memory = ([min(run[n] for run in runs) for runs in (theirs, ours)] for n in (0, 1))
    print(f"{'dump of 81 tasks':<28} crash {seconds[0]:.2f} s {memory[0]:.0f} MiB   taskscope {seconds[1]:.2f} s "
          f"{memory[1]:.0f} MiB   ratios {seconds[1] / seconds[0]:.2f} {memory[1] / memory[0]:.2f}")


def alone(name: str, words: list[str], rounds: int = 5) -> None:
    """Time a command of ours that has no peer here."""
    runs = [timed([*OURS, *words]) for _ in range(rounds)]
    print(f"{name:<28} {min(run[0] for run in runs):.3f} s   {min(run[1] for run in runs):.0f} MiB")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    children = []
    try:
        for _ in range(count):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            children.append(pid)
        print(f"{count:,} processes that sleep")
        for form in (["-ely"], ["-ef"], ["axjf"], ["-eo", "pid,ppid,stat,comm"]):
            compare(form)
        started(["-ely"])
        print()
        dump()
        if os.geteuid() == 0:
            alone("ps --live", ["ps", "--live", "-ely"])
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
