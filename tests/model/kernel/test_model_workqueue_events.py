"""Workqueue events: a terminal's way through a worker, on the model and on this host."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

RECORD = re.compile(r"\s*(\S.*?)-\d+\s+\[\d+\]\s+\S+\s+[\d.]+: workqueue_(\w+): work struct[ =](\w+):? ?(.*)")


def story(lines: list[str], comm: str) -> list[str]:
    """Return the events of one flush_to_ldisc() as text, with the names that differ made one."""
    out = []
    work = None
    for line in lines:
        match = RECORD.match(line)
        if match is None:
            continue
        who, event, address, rest = match.groups()
        if work is None and event == "queue_work" and "function=flush_to_ldisc" in rest:
            work = address
        if address == work:
            by = "worker" if re.match(r"kworker/u\d+:\d+\Z", who) else "waker"
            text = re.sub(r"req_cpu=\d+", "req_cpu=N", rest).strip()
            out.append(f"{by}: {event}: {text}")
    assert work is not None, f"{comm} queued no work"
    return out[:4]


TTY_STORY = [
    "waker: queue_work: function=flush_to_ldisc workqueue=events_unbound req_cpu=N cpu=-1",
    "waker: activate_work: function=flush_to_ldisc",
    "worker: execute_start: function flush_to_ldisc",
    "worker: execute_end: function flush_to_ldisc",
]


def typed_on_the_model(flavour: str) -> list[str]:
    """Type a line on a terminal of a machine and return the text of its trace."""
    import taskscope

    with taskscope.boot(cpus=2, flavour=flavour) as k:
        terminal = k.terminal()
        k.write("/sys/kernel/tracing/events/workqueue/enable", "1")
        terminal.type("true")
        return k.read("/sys/kernel/tracing/trace").decode().splitlines()


def test_what_is_typed_goes_through_a_worker() -> None:
    """A terminal's interrupt queues flush_to_ldisc() on system_unbound_wq; the text of the trace is that of 6.18."""
    assert story(typed_on_the_model("6.18-x86_64"), "uart") == TTY_STORY


def test_events_of_4_19() -> None:
    """On 4.19 the workqueue is an address, CPUs are unsigned, and not all events name the function."""
    lines = [line.partition(": ")[2] for line in typed_on_the_model("4.19-arm") if "workqueue_" in line]
    patterns = [
        r"workqueue_queue_work: work struct=[0-9a-f]{8} function=flush_to_ldisc workqueue=0+ req_cpu=4 cpu=4294967295$",
        r"workqueue_activate_work: work struct [0-9a-f]{8}\Z",
        r"workqueue_execute_start: work struct [0-9a-f]{8}: function flush_to_ldisc\Z",
        r"workqueue_execute_end: work struct [0-9a-f]{8}\Z",
    ]
    assert len(lines) == 4
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.match(pattern, line), line


@pytest.mark.root
@pytest.mark.skipif(not Path("/sys/kernel/tracing/instances").is_dir(), reason="no tracefs is mounted")
@pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")
def test_host_takes_the_same_way() -> None:
    """On this host, too, what is written to a pty's master is flushed to the line discipline by an unbound worker."""
    if "6.18.44" not in Path("/proc/sys/kernel/osrelease").read_text():
        pytest.skip("the host runs another kernel than the flavour 6.18-x86_64")
    folder = Path(f"/sys/kernel/tracing/instances/taskscope-test-{os.getpid()}-workqueue")
    folder.mkdir()
    try:
        (folder / "events/workqueue/enable").write_text("1")
        master, slave = os.openpty()
        os.write(master, b"hello\n")
        assert os.read(slave, 100) == b"hello\n"
        # The reader is woken inside of the work: it has ended when a second line has come through.
        os.write(master, b"more\n")
        assert os.read(slave, 100) == b"more\n"
        (folder / "tracing_on").write_text("0")
        lines = (folder / "trace").read_text().splitlines()
        os.close(master)
        os.close(slave)
    finally:
        (folder / "events/enable").write_text("0")
        folder.rmdir()
    own = [line for line in lines if re.match(rf"\s*\S.*-{os.getpid()}\s", line) or "kworker/u" in line]
    assert story(own, "this test") == TTY_STORY
