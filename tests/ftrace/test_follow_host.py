"""Following the running kernel with a reader of the test's own: raw pages as the kernel gives them, partly filled."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hosttrace import TRACEFS, need_tracefs

from taskscope.follow import Follower
from taskscope.ftrace.follow_running import running
from taskscope.lives.happenings import Execed, Exited, Forked, Happening, Lost

EVENTS = ("sched", "task", "signal", "syscalls/sys_enter_exit_group")

#: makes N processes and prints what it knows of each: pid, whether it ran a program, wait status
STORM = textwrap.dedent("""
    import os, signal, sys
    for k in range(int(sys.argv[1])):
        if k % 3 == 0:
            pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        else:
            pid = os.fork()
            if pid == 0:
                if k % 3 == 1:
                    os._exit(k % 256)
                signal.pause()
        if k % 3 == 2:
            os.kill(pid, signal.SIGTERM if k % 2 else signal.SIGKILL)
        print(pid, int(k % 3 == 0), os.waitpid(pid, 0)[1])
    """)


@contextmanager
def instance() -> Iterator[Path]:
    """Make an instance of tracefs that records `EVENTS`."""
    top = TRACEFS / "instances" / f"taskscope-test-{os.getpid()}-{os.urandom(3).hex()}"
    top.mkdir()
    try:
        (top / "tracing_on").write_text("0")
        (top / "buffer_size_kb").write_text("4096")
        (top / "trace_clock").write_text("mono")
        for event in EVENTS:
            (top / "events" / event / "enable").write_text("1")
        yield top
    finally:
        (top / "tracing_on").write_text("0")
        (top / "events" / "enable").write_text("0")
        top.rmdir()


def formats() -> list[tuple[str, bytes]]:
    """Return the formats of the events that are recorded, and of others."""
    return [(path.parent.parent.name, path.read_bytes()) for system in ("sched", "task", "signal", "syscalls", "oom")
            for path in sorted((TRACEFS / "events" / system).glob("*/format"))]


def read_all(fds: dict[int, int], follower: Follower, page_size: int) -> None:
    """Empty the buffers of all cpus into the follower."""
    for cpu, fd in fds.items():
        parts = []
        while True:
            try:
                part = os.read(fd, page_size)
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
        follower.feed(cpu, b"".join(parts))


@pytest.mark.root
@pytest.mark.slow
def test_two_thousand_short_processes() -> None:
    """Read every 50 ms while 2,000 processes live and die: each birth, exec and death is told, as wait() saw it."""
    need_tracefs()
    page_size = os.sysconf("SC_PAGE_SIZE")
    told: list[Happening] = []
    with instance() as top:
        header = (TRACEFS / "events/header_page").read_bytes()
        there = running()
        follower = Follower(header, formats(), cmdlines=there.cmdlines, tgids=there.tgids, parents=there.parents,
                            page_size=page_size)
        fds = {int(p.name[3:]): os.open(p / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
               for p in (top / "per_cpu").iterdir()}
        (top / "tracing_on").write_text("1")
        try:
            child = subprocess.Popen([sys.executable, "-c", STORM, "2000"], stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None
            os.set_blocking(child.stdout.fileno(), False)
            answer = ""
            end = time.monotonic() + 60
            while time.monotonic() < end:
                alive = child.poll() is None
                with suppress(BlockingIOError):
                    answer += os.read(child.stdout.fileno(), 1 << 20).decode()
                read_all(fds, follower, page_size)
                follower.tick()
                told += follower.take()
                if not alive:
                    break
                time.sleep(0.05)
            child.stdout.close()
            assert child.wait(timeout=10) == 0
            (top / "tracing_on").write_text("0")
            read_all(fds, follower, page_size)
        finally:
            for fd in fds.values():
                os.close(fd)
        told += follower.end()
    assert not [h for h in told if isinstance(h, Lost)]
    times = [h.at for h in told if not h.late]
    assert times == sorted(times)
    known = [tuple(map(int, line.split())) for line in answer.splitlines()]
    assert len(known) == 2000
    ours = [h for h in told if isinstance(h, Forked | Execed | Exited)
            and h.parent is not None and h.parent.pid == child.pid]
    assert not any(h.late for h in ours)
    # A pid may be used twice, so the order counts too.
    assert [h.pid for h in ours if isinstance(h, Forked)] == [pid for pid, _, _ in known]
    assert [h.pid for h in ours if isinstance(h, Execed)] == [pid for pid, program, _ in known if program]
    deaths = [h for h in ours if isinstance(h, Exited)]
    assert [h.pid for h in deaths] == [pid for pid, _, _ in known]
    for death, (_, _, status) in zip(deaths, known, strict=True):
        if os.WIFSIGNALED(status):
            assert (death.signal, death.core) == (os.WTERMSIG(status), os.WCOREDUMP(status))
            assert death.killer is not None
            assert death.killer.pid == child.pid
        else:
            assert (death.code, death.signal) == (os.WEXITSTATUS(status), None)
        assert death.lived is not None


def test_the_tasks_that_run_already() -> None:
    """/proc tells of this process its name, its parent and its threads."""
    found = running()
    if not found.comms:
        pytest.skip("pids here are not those that the kernel records (a pid namespace)")
    me = os.getpid()
    assert found.comms[me] == Path(f"/proc/{me}/comm").read_bytes().removesuffix(b"\n")
    assert found.parents[me] == os.getppid()
    threads = {int(p.name) for p in Path(f"/proc/{me}/task").iterdir()}
    assert {tid for tid, tgid in found.tgids.items() if tgid == me} == threads
    assert b"%d %s\n" % (me, found.comms[me]) in found.cmdlines
