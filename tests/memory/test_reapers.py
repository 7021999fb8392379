"""Who would adopt a task's children: in a stored dump, and on this kernel, where it is then tried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_live import WHY

from conftest import DATA, run_cli

pytest.importorskip("drgn", reason="drgn is not installed")

DUMP = DATA / "vmcore/debian12-amd64.kdump"
#: a subreaper, its child with two threads and a child of its own, and that one's child
FAMILY = r"""
import ctypes, os, signal, sys, threading, time
libc = ctypes.CDLL(None)
def name(text): libc.prctl(15, text, 0, 0, 0)
def tell(*words): print(*words, flush=True)
name(b"r-subreaper"); libc.prctl(36, 1, 0, 0, 0)
if not os.fork():
    name(b"r-threads")
    threading.Thread(target=signal.pause, daemon=True).start()
    if not os.fork():
        name(b"r-parent")
        if not os.fork():
            name(b"r-child"); tell("up"); signal.pause()
        signal.pause()
    signal.pause()
signal.pause()
"""


def adopter(words: tuple[str | Path, ...], task: str) -> tuple[str, str, int]:
    """Return who would adopt a task's children: how, name, pid."""
    told = json.loads(run_cli("task", *words, task, "--json").out.splitlines()[0])["reaper"]
    return told["how"], told["comm"], told["pid"]


def test_in_a_dump() -> None:
    """A subreaper above, another thread, or the init of the PID namespace: as find_new_reaper() looks for one."""
    words = ("--core", DUMP)
    assert adopter(words, "sub-orphan")[:2] == ("subreaper", "subreaper")
    assert adopter(words, "threads4")[0] == "thread"
    assert adopter(words, "orphan") == ("init", "init", 1)
    assert adopter(words, "ns-child")[:2] == ("init", "ns-init")
    assert json.loads(run_cli("task", *words, "zombie42", "--json").out)["reaper"] is None


@pytest.mark.real
@pytest.mark.skipif(bool(WHY), reason=WHY)
def test_what_is_foretold_happens() -> None:
    """The task that is said to be the adopter adopts the child when its parent is killed."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            time.sleep(0.2)
            rows = [json.loads(line) for line in run_cli("ps", "--json").out.splitlines()]
            pids = {row["comm"]: row["pid"] for row in rows if row["sid"] == process.pid}
            how, comm, pid = adopter(("--live",), str(pids["r-parent"]))
            assert (how, comm, pid) == ("subreaper", "r-subreaper", pids["r-subreaper"])
            assert adopter(("--live",), str(pids["r-threads"]))[0] == "thread"
            os.kill(pids["r-parent"], signal.SIGKILL)
            time.sleep(0.3)
            status = Path(f"/proc/{pids['r-child']}/status").read_text()
            assert f"PPid:\t{pid}\n" in status
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_all_of_a_descriptor() -> None:
    """`task -v` shows every member of task_struct, and the stack's bounds, use and end."""
    text = run_cli("task", "-v", "--core", DUMP, "sleeper").out.decode()
    for word in ("STACK_END_MAGIC stands", "bytes used so far", "se.vlag" if "se.vlag" in text else "se.vruntime",
                 "sched_info.last_arrival", "thread.sp", "uts ", "cred.cap_effective"):
        assert word in text
    assert len(text.splitlines()) > 300
    assert max(map(len, text.splitlines())) <= 110
