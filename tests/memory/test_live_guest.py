"""`--live` inside of a guest: Debian's kernel has /proc/kcore, which this host may not have, and BPF."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.guest import Guest
from taskscope.labs.guest.image import find_busybox
from taskscope.labs.guest.kernel import find_kernel
from taskscope.labs.guest.qemu import Settings

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]
#: what the guest is to say: how memory is read, all tasks by it and by /proc
LOOK = """
sleep 1000 & setsid sleep 1001 &
$PYTHON -c 'import taskscope.memory.live as l; print(l.open_live().source)'
$PYTHON -m taskscope.cli.main ps --live -L --stacks --json || echo status $?
echo ----
$PYTHON -m taskscope.cli.main ps -L --stacks --json
"""
STABLE = ("tgid", "comm", "state", "flags", "ppid", "real_parent", "parent", "kind", "pgid", "sid", "nice", "policy",
          "static_prio", "uid", "exit_code", "threads", "forked", "wchan")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Give a guest with the Python that runs this; skip where it cannot be had."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    try:
        kernel = find_kernel("6.1")
        find_busybox(kernel.machine)
    except GuestError as error:
        pytest.skip(f"no kernel for guests: {error}")
    folder = tmp_path_factory.mktemp("python")
    laid = subprocess.run([sys.executable, ROOT / "bench/guest_python.py", folder / "root", "click", "drgn"],
                          capture_output=True, text=True, check=True, timeout=120)
    shutil.rmtree(folder / "root/bench/site/taskscope/model")
    with tarfile.open(folder / "python.tgz", "w:gz", compresslevel=1) as tar:
        tar.add(folder / "root", "/")
    with Guest.boot(kernel, Settings(mem=1024)) as booted:
        booted.put("/tmp/python.tgz", (folder / "python.tgz").read_bytes())
        booted.sh("tar xzf /tmp/python.tgz -C / && rm /tmp/python.tgz", seconds=120)
        booted.put("/tmp/env", laid.stdout.encode())
        yield booted


def look(guest: Guest, before: str, behind: str) -> tuple[str, dict[int, Any], dict[int, Any]]:
    """Return what memory is called, and the tasks by their pids: in memory, in /proc."""
    told = guest.run(f". /tmp/env\n{before}{LOOK}{behind}", seconds=200).text
    source, _, rest = told.partition("\n")
    tables = []
    for text in rest.split("----\n"):
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        tables.append({row["pid"]: row for row in rows if row["kind"] != "idle"})
    assert "status" not in rest
    return source, tables[0], tables[1]


@pytest.mark.parametrize(("before", "behind", "named"), [
    ("", "", "this kernel's memory (/proc/kcore)"),
    # Without drgn there is nothing that reads kcore.
    ("mv /bench/site/drgn /tmp/drgn\n", "mv /tmp/drgn /bench/site/drgn\n", "this kernel's memory"),
], ids=["kcore", "bpf"])
def test_memory_and_proc_of_a_guest_agree(guest: Guest, before: str, behind: str, named: str) -> None:
    """Out of /proc/kcore and through BPF, every task that holds still is as /proc tells it, stacks too."""
    source, memory, proc = look(guest, before, behind)
    assert source == named
    same = memory.keys() & proc.keys()
    assert len(same) > 50
    still = 0
    for pid in same:
        ours, theirs = memory[pid], proc[pid]
        if ours["kind"] == "kthread" and theirs["comm"].startswith(ours["comm"]):
            # /proc has the whole name of a kernel thread, and what a kworker works on.
            theirs = theirs | {"comm": ours["comm"]}
        if "R" in (ours["state"], theirs["state"]) or ours["sum_exec_runtime"] != theirs["sum_exec_runtime"]:
            continue        # it has run meanwhile
        still += 1
        assert {name: ours[name] for name in STABLE} == {name: theirs[name] for name in STABLE}, ours["comm"]
        if ours["kernel_stack"]:
            # /proc leaves the scheduler's functions out.
            told = [entry.partition("+")[0] for entry in theirs["kernel_stack"]]
            assert ours["kernel_stack"][-len(told):] == told, ours["comm"]
    assert still > 30
    sleepers = [row for row in memory.values() if row["comm"] == "sleep"]
    assert any(row["sid"] == row["pid"] for row in sleepers)
