"""Core dumps: who has one, what is in it, who waits for it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bare import ALL, play
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register

RLIMIT_CORE = 4
SIGSEGV, SIGABRT = 11, 6


def crash(sys: Any, limit: int, sig: int = SIGSEGV) -> None:
    sys.chdir("/tmp")
    sys.setrlimit(RLIMIT_CORE, (limit, limit))
    sys.raise_(sig)


def slurp(sys: Any, path: str) -> bytes:
    try:
        return bytes(sys.slurp(path))
    except OSError as error:
        return f"errno {error.errno}".encode()


@pytest.mark.parametrize("flavour", ALL)
def test_a_core_sets_the_bit(flavour: str) -> None:
    """A signal that dumps core leaves a core and 0x80 in the status if RLIMIT_CORE allows a page, else neither."""

    def scenario(sys: Any) -> Any:
        found = []
        for limit in (0, 4095, 4096, 1 << 30):
            _, status = sys.waitpid(sys.clone(crash, limit))
            found.append((status, slurp(sys, "/tmp/core")[:4]))
        return found

    assert play(scenario, flavour) == [
        (SIGSEGV, b"errn"), (SIGSEGV, b"errn"), (SIGSEGV | 0x80, b"\x7fELF"), (SIGSEGV | 0x80, b"\x7fELF")]


def test_the_status_is_that_of_this_host(tmp_path: Path) -> None:
    """With the same limits this host sets the same bits."""
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("cores go elsewhere on this host")
    found = []
    for limit in (0, 4095, 4096, 1 << 20):
        pid = os.fork()
        if not pid:
            os.chdir(tmp_path)
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
            os.kill(os.getpid(), signal.SIGQUIT)
        found.append(os.waitpid(pid, 0)[1])
    assert found == [3, 3, 3 | 0x80, 3 | 0x80]


def test_no_core_of_what_is_not_dumpable() -> None:
    """A process that has changed its user dumps no core."""

    def scenario(sys: Any) -> Any:
        def child(sys: Any) -> None:
            sys.setuid(1000)
            crash(sys, 1 << 30)

        return sys.waitpid(sys.clone(child))[1], slurp(sys, "/tmp/core")

    assert play(scenario) == (SIGSEGV, b"errno 2")


@pytest.mark.parametrize("flavour", ALL)
def test_readers_of_cores_know_it(flavour: str, tmp_path: Path) -> None:
    """The notes in it are found by readelf of the process in it: whose it is, and the signal."""
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("there is no readelf")

    def scenario(sys: Any) -> bytes:
        pid = sys.clone(crash, 1 << 30, SIGABRT)
        sys.waitpid(pid)
        return slurp(sys, "/tmp/core")

    core = tmp_path / "core"
    core.write_bytes(play(scenario, flavour))
    text = subprocess.run([readelf, "-hn", str(core)], capture_output=True, text=True, check=True).stdout
    assert "CORE (Core file)" in text
    assert "NT_PRPSINFO" in text
    assert "NT_SIGINFO" in text
    assert "init" in core.read_bytes().decode("latin-1")


def threads(sys: Any, limit: int) -> None:
    def sleeps(sys: Any) -> None:
        while True:
            sys.pause()

    sys.chdir("/tmp")
    sys.setrlimit(RLIMIT_CORE, (limit, limit))
    for _ in range(3):
        sys.pthread_create(sleeps)
    sys.nanosleep(1_000_000)
    sys.raise_(SIGSEGV)


@pytest.mark.parametrize("flavour", ALL)
@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_threads_die_before_the_dumper(flavour: str, limit: int) -> None:
    """All other threads are killed and wait until the core is written; the dumper is who had the signal."""

    def scenario(sys: Any) -> Any:
        order: list[tuple[str, int]] = []
        dumped: list[int] = []

        def deliver(data: Any, sig: int, info: Any, ka: Any) -> None:
            order.append((sig, machine.cur.cpu.curr.pid))

        def gone(data: Any, p: Any, *rest: Any) -> None:
            dumped.append(p.pid)

        tracepoint_probe_register(machine.cur.tp, "signal_deliver", deliver, None)
        tracepoint_probe_register(machine.cur.tp, "sched_process_exit", gone, None)
        pid = sys.clone(threads, limit)
        _, status = sys.waitpid(pid)
        return status, [sig for sig, _ in order], order[0][1] == pid, len(dumped)

    bit = 0x80 if limit else 0
    assert play(scenario, flavour, cpus=2) == (SIGSEGV | bit, [11, 9, 9, 9], True, 4)


def test_kill_during_a_dump_is_taken() -> None:
    """While a core is written the process takes SIGKILL and no other signal."""
    from taskscope.model.fs import coredump
    from taskscope.model.include.linux.sched_signal import SIGNAL_GROUP_COREDUMP
    from taskscope.model.kernel.signal import send

    def scenario(sys: Any) -> Any:
        pid = sys.clone(lambda sys: sys.pause())
        sys.nanosleep(1_000_000)
        task = machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner
        task.signal.coredump = coredump.CoreState(task)
        task.signal.flags = SIGNAL_GROUP_COREDUMP
        found = [send.prepare_signal(sig, task, False) for sig in (15, 18, 19, 9)]
        task.signal.coredump = None
        task.signal.flags = 0
        sys.kill(pid, 9)
        sys.waitpid(pid)
        return found

    for flavour in ALL:
        assert play(scenario, flavour) == [False, False, False, True]


