"""Machines for the tests of tracing: with tasks and clocks, but nothing that runs; their log as raw pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from taskscope.ftrace.open import open_source
from taskscope.model import machine
from taskscope.model.flavours import FLAVOURS
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.thread_info import ThreadInfo
from taskscope.model.kernel.trace import trace, tracefs
from taskscope.model.kernel.trace.extract import tracing_extract
from taskscope.trace.trace import Trace

DATA = Path(__file__).resolve().parent / "data"


@contextmanager
def running(flavour: str = "4.19-arm", cpus: int = 2) -> Iterator[machine.Machine]:
    """Give a machine that has set up tracing and is the one that runs."""
    m = machine.Machine(FLAVOURS[flavour], cpus, 100, 0, 1 << 30)
    before, machine.cur = machine.cur, m
    try:
        trace.trace_init()
        for cpu in m.cpus:
            cpu.curr = cpu.idle = task(m, 0, f"swapper/{cpu.id}", cpu.id)
            cpu.irqs_off = False
        yield m
    finally:
        machine.cur = before


def task(m: machine.Machine, pid: int, comm: str, cpu: int = 0) -> Task:
    """Make a task that tracing can look at."""
    t = Task()
    t.pid = t.tgid = pid
    t.comm, t.comm16 = comm, comm.encode()[:15].ljust(16, b"\0")
    t.prio, t.state, t.exit_state, t.flags = 120, 0, 0, 0
    t.thread_info = ThreadInfo(t)
    t.thread_info.cpu = cpu
    t.signal = SimpleNamespace(oom_score_adj=-17)  # type: ignore[assignment]
    return t


def enable(m: machine.Machine, *events: str) -> None:
    """Switch events on as ``echo 1 > events/…/enable`` does."""
    for event in events:
        assert tracefs.tracefs_write(m, f"events/{event}/enable", b"1\n") == 2, event


def save_raw(m: machine.Machine, folder: Path) -> Path:
    """Write what the machine has recorded as a folder of raw pages."""
    extract = tracing_extract(m)
    (folder / "header_page").write_bytes(extract.header_page)
    (folder / "header_event").write_bytes(extract.header_event)
    (folder / "formats").write_bytes(b"".join(b"system: %s\n%s" % (s.encode(), text) for s, text in extract.formats))
    (folder / "kallsyms").write_bytes(extract.kallsyms)
    (folder / "saved_cmdlines").write_bytes(extract.cmdlines)
    (folder / "saved_tgids").write_bytes(extract.tgids)
    for buffer in extract.buffers:
        place = folder if not buffer.name else folder / "instances" / buffer.name
        place.mkdir(parents=True, exist_ok=True)
        (place / "trace_clock").write_text(f"[{buffer.clock}]\n")
        for cpu, pages in buffer.pages.items():
            (place / f"cpu{cpu}.raw").write_bytes(pages)
            (place / f"cpu{cpu}.stats").write_bytes(buffer.stats[cpu])
    return folder


def read_back(m: machine.Machine, folder: Path) -> Trace:
    """Read what the machine has recorded with the reader of real recordings."""
    return Trace(open_source(str(save_raw(m, folder))))
