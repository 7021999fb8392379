"""Lines against the running kernel: what tracefs prints of records, and what is read of their raw pages."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import hosttrace
import numpy as np
import pytest

from taskscope.ftrace.open import open_source
from taskscope.ftrace.ring import RingSource

pytestmark = pytest.mark.root


def workload() -> None:
    """Do a little of everything that processes do."""
    script = "ls / >/dev/null; sort /etc/passwd | head -3 >/dev/null; sleep 0.02 & wait; sh -c 'kill -9 $$'; kill -0 $$"
    subprocess.run(["sh", "-c", script], check=False, stderr=subprocess.DEVNULL)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as peer:
            client.sendall(b"hello")
            peer.recv(10)
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"x" * 50_000)
        f.flush()
        with mmap.mmap(f.fileno(), 4096) as m:
            assert m[0] == 120
        Path(f.name).rename(f.name + ".moved").rename(f.name)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    os.kill(os.getpid(), signal.SIGCONT)
    time.sleep(0.01)


def read_back(folder: Path) -> tuple[RingSource, bytes]:
    """Read a recorded folder: the source, and its report."""
    source = open_source(str(folder))
    assert isinstance(source, RingSource)
    return source, source.report(np.argsort(source.index.ts, kind="stable"))


def plain(text: bytes) -> bytes:
    """Return the lines of a `trace` file that are records."""
    return b"".join(x for x in text.splitlines(keepends=True) if not x.startswith(b"#"))


def available(*events: str) -> list[str]:
    """Return those events that the running kernel has; skip if it has none."""
    hosttrace.need_tracefs()
    found = [e for e in events if (hosttrace.TRACEFS / "events" / e).is_dir()]
    if not found:
        pytest.skip(f"this kernel has none of the events {', '.join(events)}")
    return found


@pytest.mark.parametrize(
    "events",
    [
        ("sched", "task", "signal", "irq", "timer", "workqueue", "oom"),
        ("raw_syscalls", "sched/sched_switch"),
        ("syscalls",),
    ],
    ids=["sched-task-signal-irq-timer-workqueue-oom", "raw_syscalls", "syscalls"],
)
def test_report_is_what_tracefs_prints(tmp_path: Path, events: tuple[str, ...]) -> None:
    """The report of the raw pages is byte for byte what `trace` showed of them, for all events of the systems."""
    text = hosttrace.record(tmp_path / "t", available(*events), workload, buffer_kb=8192)
    source, report = read_back(tmp_path / "t")
    assert report == plain(text)
    assert source._lines.unparsed == {}
    assert len(source.index) > 100


def test_discarded_records_are_not_shown(tmp_path: Path) -> None:
    """Records that a filter discarded after they had been reserved leave no trace in the report."""
    events = available("sched/sched_switch", "sched/sched_waking", "signal")
    text = hosttrace.record(
        tmp_path / "t",
        events,
        workload,
        filters={"sched/sched_switch": "prev_state & 0x30 || next_pid == 0", "sched/sched_waking": 'comm ~ "k*"'},
    )
    _, report = read_back(tmp_path / "t")
    assert report == plain(text)
    assert b"sched_switch" in report


def test_stacks_and_markers(tmp_path: Path) -> None:
    """Kernel and user stacks, text markers and raw markers are printed as tracefs prints them."""
    events = available("sched/sched_switch", "sched/sched_process_fork", "signal/signal_generate")

    def mark() -> None:
        (instance,) = (hosttrace.TRACEFS / "instances").glob(f"taskscope-test-{os.getpid()}-*")
        for text in (b"hello", b"with a newline\n", b"tab\there", "문서".encode(), b"x" * 700):
            (instance / "trace_marker").write_bytes(text)
        with (instance / "trace_marker_raw").open("wb", buffering=0) as raw:
            raw.write(b"\x1f\0\0\0\x00\x01\xfe")
        workload()

    text = hosttrace.record(tmp_path / "t", events, mark, options={"stacktrace": "1", "userstacktrace": "1"})
    source, report = read_back(tmp_path / "t")
    assert report == plain(text)
    names = {t.name for t in source.types if t.index in set(source.index.type.tolist())}
    assert {"kernel_stack", "user_stack", "print", "raw_data"} <= names


def test_uprobes(tmp_path: Path) -> None:
    """The events of uprobes, entry and return, are printed as tracefs prints them."""
    available("sched")
    where = hosttrace.TRACEFS / "uprobe_events"
    if not where.exists():
        pytest.skip("this kernel has no uprobes")
    shell = Path("/bin/bash")
    symbols = (
        subprocess.run(["nm", "-D", str(shell)], capture_output=True, text=True, check=False).stdout
        if shell.exists()
        else ""
    )
    address = next((x.split()[0] for x in symbols.splitlines() if x.endswith(" T execute_command")), None)
    if address is None:
        pytest.skip("no bash whose execute_command a probe could be set on")
    group = f"taskscope_{os.getpid()}"
    place = f"{shell}:0x{int(address, 16):x}"

    def write(line: str) -> None:
        # Not open(…, "a"), which seeks to an end that the file does not have; never truncated: others may have probes.
        fd = os.open(where, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    write(f"p:{group}/enter {place} a=%di:x64 b=%si:s32 c=$comm")
    write(f"r:{group}/leave {place} r=$retval:s32")
    try:
        text = hosttrace.record(
            tmp_path / "t", [group], lambda: subprocess.run([str(shell), "-c", "true; :; true"], check=True) and None
        )
        _, report = read_back(tmp_path / "t")
        assert report == plain(text)
        assert report.count(b"enter: (0x") >= 1
        assert report.count(b" <- 0x") >= 1
    finally:
        write(f"-:{group}/enter")
        write(f"-:{group}/leave")


def test_many_other_systems(tmp_path: Path) -> None:
    """Events of other systems, with addresses, arrays, masks and device numbers, are printed as tracefs does."""
    events = available(
        "block",
        "ext4",
        "filemap",
        "filelock",
        "net",
        "tcp",
        "sock",
        "skb",
        "napi",
        "mmap",
        "power",
        "cgroup",
        "rcu",
        "ipi",
        "csd",
        "tlb",
        "task",
        "percpu",
        "kmem",
        "vmscan",
        "exceptions",
        "irq_vectors",
        "fib",
    )
    text = hosttrace.record(tmp_path / "t", events, workload, buffer_kb=16384)
    source, report = read_back(tmp_path / "t")
    # What no recording can tell: names that the kernel left unresolved, the addresses of its tables, its own clock.
    here = set(source.index.type.tolist())
    unknown = {
        t.name
        for t in source.types
        if t.index in here
        and (
            f"{t.system}:{t.name}" in source._lines.unparsed
            or any(name in (t.print_fmt or "") for name in ("{I_", "{ I_", "FAULT_FLAG_", "VM_FAULT_", "EXTENT_"))
        )
    }
    assert all(n.startswith(("mm_page", "ext4", "writeback", "jbd2", "mm_vmscan")) for n in unknown), unknown
    compared = 0
    for ours, theirs in zip(report.split(b"\n"), plain(text).split(b"\n"), strict=True):
        if not any(b": " + n.encode() + b": " in theirs for n in unknown):
            assert ours == theirs
            compared += 1
    assert compared > 500
