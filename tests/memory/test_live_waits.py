"""What tasks of the running kernel wait for: the holder of a lock, a vfork child; and what kernel threads run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_live import WHY

from conftest import run_cli
from taskscope.memory.kernel import KernelMemory
from taskscope.procfs.snapshot import snapshot as proc_snapshot

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(WHY), reason=WHY)]
#: one task writes a file from memory that a userfaultfd leaves missing: it stands still with the inode's lock held
HOLDER = r"""
import ctypes, fcntl, mmap, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
name = sys.argv[1]
def hold():
    fault = libc.syscall(323, 0)
    if fault < 0:
        os._exit(9)
    fcntl.ioctl(fault, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
    memory = mmap.mmap(-1, 8192)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(fault, 0xC020AA00, bytearray(struct.pack("QQQQ", address, 8192, 1, 0)))
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    libc.prctl(15, b"lock-holder", 0, 0, 0)
    libc.write(fd, ctypes.c_void_p(address), 4096)
    os._exit(0)
def wait(label):
    libc.prctl(15, label, 0, 0, 0)
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x", 0)
    os._exit(0)
children = []
for step in (hold, lambda: wait(b"lock-waiter1"), lambda: wait(b"lock-waiter2")):
    pid = os.fork()
    if not pid:
        step()
    children.append(pid)
    time.sleep(0.3)
print(*children, flush=True)
sys.stdin.readline()
os.kill(children[0], 9)
for pid in children:
    os.waitpid(pid, 0)
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[list[int]]:
    """The pids of who holds the lock of a file, and of two who wait for it."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "file")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        line = process.stdout.readline()
        try:
            yield [int(word) for word in line.split()]
        finally:
            process.stdin.write("\n")
            process.stdin.close()
            process.wait(20)


def test_who_holds_a_lock(held: list[int]) -> None:
    """Of a task that waits for a rw_semaphore `blocked` tells who holds it: found by the waiter on its stack."""
    if "lock-holder" not in {task.comm for task in proc_snapshot(fields=(), pids=held).tasks}:
        pytest.skip("this kernel has no userfaultfd")
    rows = [json.loads(line) for line in run_cli("blocked", "--live", "--json").out.splitlines()]
    waiters = {row["comm"]: row for row in rows if row["comm"].startswith("lock-waiter")}
    assert sorted(waiters) == ["lock-waiter1", "lock-waiter2"]
    for row in waiters.values():
        assert (row["state"], row["waits"], row["waits_for"]) == ("D", "rwsem", held[0])
        assert "rwsem_down_write_slowpath" in row["kernel_stack"]
    table = run_cli("blocked", "--live").out.decode()
    assert f"{held[0]}(lock-holder)" in table
    # /proc leaves out the functions of locks: it knows where they wait, and not for whom.
    told = [json.loads(line) for line in run_cli("blocked", "--json").out.splitlines()]
    waiting = [row for row in told if row["comm"].startswith("lock-waiter")]
    assert [row["waits_for"] for row in waiting] == [None, None]
    assert all(row["wchan"] for row in waiting)


def test_who_waits_in_vfork() -> None:
    """The parent of a vfork child waits for that child."""
    source = ("import ctypes, os, sys\n"
              "libc = ctypes.CDLL(None)\n"
              "libc.prctl(15, b'vfork-parent', 0, 0, 0)\n"
              "CHILD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)\n"
              "libc.clone.restype = ctypes.c_int\n"
              "stack = ctypes.create_string_buffer(1 << 16)\n"
              "sleep = ctypes.cast(libc.pause, CHILD)\n"
              "print('up', flush=True)\n"
              "libc.clone(sleep, ctypes.c_void_p(ctypes.addressof(stack) + 65536 - 64), 0x4000 | 0x100 | 17, None)\n")
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            subprocess.run(["sleep", "0.3"], check=True)
            rows = [json.loads(line) for line in run_cli("ps", "--live", "--json").out.splitlines()]
            (parent,) = (row for row in rows if row["pid"] == process.pid)
            (child,) = (row for row in rows if row["ppid"] == process.pid)
            assert (parent["state"], parent["waits"], parent["waits_for"]) == ("D", "vfork child", child["pid"])
        finally:
            for task in proc_snapshot(fields=()).tasks:
                if task.ppid == process.pid:
                    subprocess.run(["kill", "-9", str(task.pid)], check=False)
            process.kill()


def test_what_kernel_threads_run() -> None:
    """What a kernel thread is for is told by its function, and agrees with what its name says."""
    from taskscope.memory.live import open_live

    with open_live() as image:
        rows = KernelMemory(image).snapshot().tasks
    roles = {task.comm: task for task in rows if task.kind == "kthread"}
    assert roles["kthreadd"].role == "kthreadd"
    for name, role in (("ksoftirqd/0", "ksoftirqd"), ("migration/0", "migration"), ("cpuhp/0", "cpuhp")):
        assert roles[name].role == role
    for name, task in roles.items():
        assert task.thread_fn, name
        if name.startswith("kworker/") and "R-" not in name:
            assert task.role == "kworker", name
        if name.startswith("irq/"):
            assert task.role == "irq"
            assert task.about is not None
            assert task.about.startswith(f"irq {name.removeprefix('irq/').partition('-')[0]} of ")
    # /proc tells the same of those whose stack shows it.
    told = {task.pid: task for task in proc_snapshot(fields=("kernel_stack",)).tasks if task.kind == "kthread"}
    by_pid = {task.pid: task for task in rows}
    for pid, task in told.items():
        if task.thread_fn is not None and pid in by_pid and task.thread_fn != "smpboot_thread_fn":
            assert by_pid[pid].thread_fn == task.thread_fn, task.comm
