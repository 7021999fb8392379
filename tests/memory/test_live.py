"""The running kernel's memory through BPF, beside what /proc says of the same tasks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, run_cli
from taskscope.errors import TraceError
from taskscope.memory.bpf.object import BpfObject
from taskscope.memory.kernel import KernelMemory
from taskscope.procfs.snapshot import snapshot as proc_snapshot
from taskscope.snapshot.snapshot import Snapshot

BPF = ROOT / "src/taskscope/memory/bpf"
CAST = r"""
import ctypes, os, signal, sys, threading, time
libc = ctypes.CDLL(None)
def child(name, then=signal.pause):
    pid = os.fork()
    if pid:
        return pid
    libc.prctl(15, name, 0, 0, 0)
    then()
    os._exit(0)
def threads():
    for _ in range(3):
        threading.Thread(target=signal.pause, daemon=True).start()
    signal.pause()
def tracer():
    tracee = child(b"live-tracee")
    time.sleep(0.1)
    libc.ptrace(16, tracee, 0, 0)
    signal.pause()
def other():
    os.setpgid(0, 0); os.nice(5); os.setresgid(7, 7, 7); os.setresuid(65534, 65534, 65534)
    signal.pause()
child(b"live-sleeper"); child(b"live-threads", threads); child(b"live-other", other)
child(b"live-zombie", lambda: os._exit(42)); child(b"live-tracer", tracer)
child(b"live-fifo", lambda: (os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(9)), signal.pause()))
child(b"a) R 1 (b")
stopped = child(b"live-stopped")
time.sleep(0.3)
os.kill(stopped, signal.SIGSTOP)
print("ready", flush=True)
signal.pause()
"""
#: what holds still of a task that does
STABLE = ("pid", "tgid", "ppid", "kind", "comm", "state", "flags", "prio", "static_prio", "rt_priority", "policy",
          "pgid", "sid", "tty", "tpgid", "uid", "threads", "exit_state", "exit_code", "real_parent", "parent", "tracer",
          "group_leader", "children", "pcount", "run_delay", "sum_exec_runtime", "size_kib", "forked",
          "ruid", "suid", "fsuid", "gid", "rgid", "sgid", "fsgid", "locked_kib", "min_flt", "maj_flt", "nvcsw",
          "nivcsw", "pending", "shared_pending", "blocked")


def reason() -> str:
    """Return why this kernel's memory cannot be read here; "" if it can."""
    if os.geteuid() != 0:
        return "reading this kernel's memory needs root"
    from taskscope.memory.live import open_live

    try:
        open_live().close()
    except TraceError as error:
        return str(error)
    return ""


WHY = reason()
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(WHY), reason=WHY)]


@pytest.fixture(scope="module")
def cast() -> Iterator[int]:
    """The pid of a process whose children hold still in all the ways that there are."""
    with subprocess.Popen([sys.executable, "-c", CAST], stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        yield process.pid
        for pid in (task.pid for task in proc_snapshot(fields=()).tasks if task.sid == process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()


def both() -> tuple[Snapshot, Snapshot]:
    """Return the same tasks out of memory and out of /proc."""
    from taskscope.memory.live import open_live

    with open_live() as image:
        memory = KernelMemory(image).snapshot(stacks=True)
    return memory, proc_snapshot()


def compared(found: Snapshot, told: Snapshot, ours: set[int]) -> list[str]:
    """Return in what the two differ about some tasks."""
    assert found.boot is not None
    assert told.boot is not None
    assert abs(found.boot - told.boot) <= 1
    rows = {task.pid: task for task in found.tasks if task.pid}
    different = []
    for task in told.tasks:
        if task.pid not in ours:
            continue
        row = rows.get(task.pid)
        if row is None:
            different.append(f"{task.pid} {task.comm} is only in /proc")
            continue
        for name in STABLE:
            a, b = getattr(row, name), getattr(task, name)
            if name == "comm" and task.kind == "kthread":
                # /proc has the whole name of a kernel thread, and what a kworker works on.
                a, b = a[:15], b[:15]
            if name == "exit_code" and task.state == "T":
                continue        # /proc shows what stopped it (signal.group_exit_code)
            if a != b:
                different.append(f"{task.pid} {task.comm}: {name} is {a!r} in memory and {b!r} in /proc")
        assert row.start_time is not None
        if row.start_time // 10_000_000 != task.start_time // 10_000_000:
            different.append(f"{task.pid}: start_time")
        if row.wchan != task.wchan and row.state == task.state == "S":
            different.append(f"{task.pid} {task.comm}: wchan is {row.wchan} in memory and {task.wchan} in /proc")
    return different


def test_tasks_that_hold_still(cast: int) -> None:
    """Of tasks that hold still memory says what /proc says, field by field, and more."""
    for _ in range(3):
        found, told = both()
        ours = {task.pid for task in told.tasks if task.ppid == cast or task.pid == cast or task.comm == "live-tracee"}
        different = compared(found, told, ours)
        if not different:
            break
    assert len(ours) > 9
    assert different == []
    assert found.wounds == ()
    by_name = {task.comm: task for task in found.tasks}
    assert by_name["live-zombie"].exit_code == 42 << 8
    tracee = by_name["live-tracee"]
    assert (tracee.parent, tracee.tracer) == (by_name["live-tracer"].pid, by_name["live-tracer"].pid)
    for name in ("live-sleeper", "live-fifo"):
        assert by_name[name].last_arrival is not None
        assert by_name[name].address is not None
        assert by_name[name].thread_info is not None


def test_kernel_threads_and_idle_tasks(cast: int) -> None:
    """The kernel threads of this host are those of /proc, and every CPU has its idle task."""
    for _ in range(4):
        found, told = both()
        quiet = {task.pid for task in told.tasks
                 if task.kind == "kthread" and not task.comm.startswith(("rcu", "kworker"))}
        different = compared(found, told, quiet)
        if not different:
            break
    assert different == []
    assert len(quiet) > 5
    idle = [task for task in found.tasks if task.kind == "idle"]
    assert [task.comm for task in idle] == [f"swapper/{cpu}" for cpu in sorted(os.sched_getaffinity(1) | {0})]


def test_kernel_stacks(cast: int) -> None:
    """A sleeping task's stack has all functions that /proc/PID/stack shows, below the scheduler's own."""
    for _ in range(3):
        found, _told = both()
        checked, wrong = 0, []
        for task in found.tasks:
            if task.kind in ("thread", "idle") or task.state != "S" or task.kernel_stack is None:
                continue
            try:
                text = Path(f"/proc/{task.pid}/stack").read_text()
            except OSError:
                continue
            functions = [line.split()[-1].partition("/")[0] for line in text.splitlines()]
            if functions:
                checked += 1
                mine = [entry.partition("/")[0] for entry in task.kernel_stack]
                if mine[-len(functions) :] != functions:
                    wrong.append((task.comm, mine, functions))
        if not wrong:
            break
    assert checked > 10
    assert wrong == []
    odd = [(task.comm, task.kernel_stack[:2]) for task in found.tasks
           if task.kernel_stack and task.state == "S" and not task.kernel_stack[0].startswith("__schedule+")]
    assert odd == []


def test_tasks_that_come_and_go(cast: int) -> None:
    """Forks and deaths meanwhile are no damage: nothing is said, nobody is missing who stays."""
    script = "import os\nwhile True:\n p = os.fork()\n if not p: os._exit(0)\n os.waitpid(p, 0)\n"
    busy = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    try:
        for _ in range(15):
            found, _told = both()
            assert found.wounds == ()
            assert {os.getpid(), cast, 2} <= {task.pid for task in found.tasks}
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_the_commands() -> None:
    """Ps, tree, task and stack take --live; who may not is told so, with exit code 77."""
    rows = [json.loads(line) for line in run_cli("ps", "--live", "-L", "--json", "--stacks").out.splitlines()]
    (kthreadd,) = (row for row in rows if row["pid"] == 2)
    assert kthreadd["comm"] == "kthreadd"
    assert kthreadd["kernel_stack"][:2] == ["__schedule", "schedule"]
    assert kthreadd["address"].startswith("0xffff")
    assert b"thread_info at 0x" in run_cli("task", "--live", "2").out
    assert b"kthreadd+0x" in run_cli("stack", "--live", "2").out
    assert b"[kthreadd]" in run_cli("tree", "--live").out
    if shutil.which("setpriv"):
        nobody = run_cli("ps", "--live", prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
        assert nobody.code == 77
        assert b"root" in nobody.err


def test_objects_that_are_damaged() -> None:
    """What is no BPF object, or is cut short anywhere, is one clear error."""
    data = (BPF / "read.bpf.o").read_bytes()
    assert BpfObject.read(data, "syscall").maps
    for size in range(0, len(data), 7):
        with pytest.raises(TraceError, match="install taskscope again"):
            BpfObject.read(data[:size], "syscall")
    with pytest.raises(TraceError, match="no program"):
        BpfObject.read(data, "iter/task")


@pytest.mark.skipif(shutil.which("clang") is None or shutil.which("llvm-strip") is None
                    or not Path("/usr/include/bpf/bpf_helpers.h").exists(), reason="no clang, llvm and libbpf-dev here")
def test_objects_are_made_of_their_sources(tmp_path: Path) -> None:
    """The objects that are shipped hold the instructions that clang makes of the sources."""
    subprocess.run(["sh", str(ROOT / "tools/bpf.sh"), str(tmp_path)], check=True, timeout=60)
    for name, section in (("read", "syscall"), ("tasks", "iter/task")):
        made, kept = ((folder / f"{name}.bpf.o").read_bytes() for folder in (tmp_path, BPF))
        assert BpfObject.read(made, section) == BpfObject.read(kept, section)


