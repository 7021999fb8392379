"""Runs the recorder in a process of its own, and looks at what it leaves in the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

TRACEFS = Path("/sys/kernel/tracing")

#: seconds that a recorder may take beyond what it records
PATIENCE = 30.0


def can_record() -> str:
    """Return why nothing can be recorded here; "" if it can."""
    if os.geteuid() != 0:
        return "recording needs root"
    if not (TRACEFS / "instances").is_dir() or not (TRACEFS / "events/sched/sched_switch").is_dir():
        return "no tracefs with events is mounted at /sys/kernel/tracing"
    if str(Path("/proc/self/ns/pid").readlink()) != "pid:[4026531836]":
        return "this is a pid namespace of its own: the kernel records other pids"
    return ""


needs_recording = [
    pytest.mark.root,
    pytest.mark.real,
    pytest.mark.skipif(bool(can_record()), reason=can_record() or "-"),
]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a recorder: this checkout, and no caller of sudo."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SUDO_")}
    return env | {"PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}


@dataclass(frozen=True, slots=True)
class Told:
    """What a finished run said."""

    code: int
    out: str
    err: str
    pid: int


def start(*args: str | os.PathLike[str], cwd: Path, env: Mapping[str, str] | None = None, prefix: Sequence[str] = (),
          **more: Any) -> subprocess.Popen[str]:
    """Start ``taskscope ARGS``; stdout and stderr are pipes."""
    command = [*prefix, sys.executable, "-m", "taskscope.cli.main", *map(os.fspath, args)]
    return subprocess.Popen(command, cwd=cwd, env=dict(env or environment()), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="surrogateescape", **more)


def finish(child: subprocess.Popen[str], seconds: float = PATIENCE) -> Told:
    """Wait for a run, and check that it leaves nothing in the kernel."""
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
        child.kill()
        child.wait(10)
        pytest.fail(f"no end within {seconds:.0f} s")
    assert instances(child.pid) == []
    return Told(child.returncode, out, err, child.pid)


def run(*args: str | os.PathLike[str], cwd: Path, seconds: float = PATIENCE, **more: Any) -> Told:
    """Run ``taskscope ARGS`` to its end."""
    return finish(start(*args, cwd=cwd, **more), seconds)


def record(*args: str | os.PathLike[str], cwd: Path, **more: Any) -> Told:
    """Run ``taskscope record ARGS``."""
    return run("record", *args, cwd=cwd, **more)


def lives(path: Path) -> list[dict[str, Any]]:
    """Return what ``lives --json`` says of a recording now."""
    told = run("lives", "--json", "-q", "-i", path, cwd=path.parent)
    return [json.loads(line) for line in told.out.splitlines()]


def instances(pid: int | None = None) -> list[str]:
    """Return the instances of a recorder, of all recorders by default."""
    prefix = "taskscope-" if pid is None else f"taskscope-{pid}-"
    return [p.name for p in (TRACEFS / "instances").iterdir() if p.name.startswith(prefix)]


def until(what: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.02)


def recording(child: subprocess.Popen[str], spool: Path) -> None:
    """Wait until a recorder has begun to record."""
    def begun() -> bool:
        assert child.poll() is None, child.communicate()[1]
        text = spool / "spool.json"
        return text.exists() and '"recording"' in text.read_text()

    until(begun)


def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def interrupt(child: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
    """Send a signal to the whole process group of a run, as a terminal does."""
    os.killpg(child.pid, number)
