"""Reading /proc: any name, tasks that end meanwhile, what privilege hides, folders that are no /proc."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run_cli
from taskscope.errors import TraceError
from taskscope.procfs.files import Proc
from taskscope.procfs.parse import Status, parse_stat
from taskscope.procfs.snapshot import EVERYTHING, snapshot
from taskscope.procfs.tty import Terminals

NUMBERS = [7, 5, 5, 0, -1, 4194560, 11, 0, 2, 0, 30, 12, 0, 0, 20, 0, 3, 0, 4242, 0, 100, *[0] * 14, 1, 50, 1,
           *[0] * 10, 9]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@given(st.binary(max_size=40))
def test_any_name_in_stat(name: bytes) -> None:
    """Whatever bytes a name has, brackets, blanks and line ends too, the fields behind it are found."""
    line = b"103 (" + name + b") S " + " ".join(map(str, NUMBERS)).encode() + b"\n"
    stat = parse_stat(line)
    assert stat is not None
    assert (stat.comm, stat.state, stat.ppid, stat.flags, stat.threads, stat.start) == (name, "S", 7, 4194560, 3, 4242)
    assert (stat.cpu, stat.rt_priority, stat.policy, stat.exit_code) == (1, 50, 1, 9)


@given(st.binary(max_size=200))
def test_what_is_no_stat(data: bytes) -> None:
    """What is no stat or status file gives nothing, and no exception."""
    assert parse_stat(data) is None or b"(" in data
    assert all(isinstance(value, int) for value in Status(EVERYTHING).fields(data).values())


def test_every_field_of_a_child_agrees_with_its_files() -> None:
    """A sleeping child is told as its files in /proc tell it; what only memory tells is None with the reason."""
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            time.sleep(0.1)
            found = snapshot(pids=[child.pid], fields=EVERYTHING | {"namespaces"}, names=True)
            (row,) = found.tasks
            stat = Path(f"/proc/{child.pid}/stat").read_text().split()
            assert (row.comm, row.state, row.kind, row.args) == ("sleep", "S", "process", "sleep 60")
            assert row.ppid == os.getpid()
            assert row.flags == int(stat[8])
            assert row.start_time == int(stat[21]) * 10_000_000
            assert (row.uid, row.gid) == (os.geteuid(), os.getegid())
            assert row.tracer is None
            assert row.parent == row.real_parent == os.getpid()
            assert row.children == ()
            assert row.pcount is not None
            assert row.pcount > 0
            assert row.namespaces is not None
            assert row.namespaces["pid"] == int(str(Path("/proc/self/ns/pid").readlink())[5:-1])
            assert row.last_arrival is None
            assert "memory" in found.unavailable["last_arrival"]
            assert found.at is not None
            assert found.at > row.start_time
            assert abs(found.boot + found.at / 1e9 - time.time()) < 3
            mine = snapshot(pids=[os.getpid()]).tasks
            leader = next(task for task in mine if task.pid == os.getpid())
            assert child.pid in leader.children
            assert leader.threads == len(mine)
        finally:
            child.kill()


def test_a_zombie_and_who_traces() -> None:
    """A zombie has state Z, exit_state 32, no memory, and for root its exit code."""
    pid = os.fork()
    if not pid:
        os._exit(5)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        (row,) = snapshot(pids=[pid]).tasks
        assert (row.state, row.exit_state, row.rss_kib, row.args, row.wchan) == ("Z", 32, 0, "", None)
        assert row.exit_code == (5 << 8 if os.geteuid() == 0 else None) or row.exit_code == 5 << 8
        assert row.unavailable["wchan"] == "it is dead"
    finally:
        os.waitpid(pid, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_what_privilege_hides() -> None:
    """Somebody without rights sees every task; what is hidden is null and says why."""
    ran = run_cli("ps", "-L", "--json", "-p", "1", prefix=NOBODY)
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert rows[0]["pid"] == 1
    assert rows[0]["exit_code"] is None
    assert "root" in rows[0]["unavailable"]["exit_code"]
    assert rows[0]["wchan"] is None
    assert rows[0]["unavailable"]["wchan"]
    table = run_cli("ps", "-ely", prefix=NOBODY)
    assert len(table.out.splitlines()) > 10


def test_tasks_that_end_meanwhile() -> None:
    """Tasks that come and go while /proc is read are in the table or not; nothing fails."""
    stop = time.monotonic() + 3
    script = "import os\nwhile True:\n p = os.fork()\n if not p: os._exit(0)\n os.waitpid(p, 0)\n"
    with subprocess.Popen([sys.executable, "-c", script]) as busy:
        try:
            while time.monotonic() < stop:
                found = snapshot(fields=EVERYTHING | {"kernel_stack", "namespaces"})
                assert os.getpid() in {task.pid for task in found.tasks}
        finally:
            busy.kill()


def test_a_copy_of_the_files(tmp_path: Path) -> None:
    """A copy of the files of /proc is read as /proc is: what is missing in it is not known."""
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            time.sleep(0.1)
            (tmp_path / "stat").write_text("cpu 0\nbtime 1700000000\n")
            (tmp_path / str(child.pid)).mkdir()
            for name in ("stat", "status", "cmdline"):
                shutil.copyfile(f"/proc/{child.pid}/{name}", tmp_path / str(child.pid) / name)
        finally:
            child.send_signal(signal.SIGKILL)
    found = snapshot(tmp_path, threads=False)
    (row,) = found.tasks
    assert (row.pid, row.comm, row.args) == (child.pid, "sleep", "sleep 60")
    assert (found.at, found.boot) == (None, 1_700_000_000)
    assert row.sum_exec_runtime is None
    assert "schedstat" in row.unavailable["run_delay"]
    with pytest.raises(TraceError, match="no proc file system"):
        snapshot(tmp_path / "none")


def test_names_of_terminals(tmp_path: Path) -> None:
    """A terminal is named by the driver of its number, else by its number; one without a device file has no name."""
    master, slave = os.openpty()
    try:
        number = os.fstat(slave).st_rdev
        device = os.major(number) << 8 | os.minor(number) & 0xFF | (os.minor(number) & 0xFFF00) << 12
        assert Terminals(Proc()).name(device, os.getpid()) == os.ttyname(slave).removeprefix("/dev/")
        (tmp_path / "stat").write_text("")
        assert Terminals(Proc(tmp_path)).name(device, 1) == os.ttyname(slave).removeprefix("/dev/")
    finally:
        os.close(master)
        os.close(slave)
    assert Terminals(Proc()).name(0, 1) is None
    assert Terminals(Proc()).name(250 << 8 | 3, 1) is None


def test_commands_on_this_machine() -> None:
    """Without a source the commands look at /proc; a task that is not there is an error."""
    me = str(os.getpid())
    assert me in run_cli("ps", "-p", me, "-o", "pid,comm").out.decode()
    assert me in run_cli("tree").out.decode()
    task = run_cli("task", me).out.decode()
    assert "PF_" in task
    assert "real_parent.pid" in task
    assert "only kernel memory tells" in task
    assert run_cli("ps", "-p", "4194999").code == 2
    assert b"no task" in run_cli("task", "4194999").err
    assert b"no column" in run_cli("ps", "-o", "pidd").err
    assert b"--at" in run_cli("ps", "--at", "1").err


def test_a_copy_made_by_a_shell(tmp_path: Path) -> None:
    """What a shell left in a copy where a process had gone (a file called *) is no thread."""
    (tmp_path / "stat").write_text("btime 1\n")
    (tmp_path / "7/task/*").mkdir(parents=True)
    (tmp_path / "7/task/7").mkdir()
    assert Proc(tmp_path).tids(7) == [7]
