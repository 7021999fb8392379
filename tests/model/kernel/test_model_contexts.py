"""Contexts: the rules of interrupts in logs of the model, of recordings and of this host; the flags column; disks."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import taskscope
from bare import ALL, world
from interrupt_rules import broken, rows_of
from taskscope.abi.preempt import split
from taskscope.abi.traceflags import flags_text
from taskscope.cli.main import cli
from taskscope.model import irqline, machine
from taskscope.model.include.linux import preempt
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.trace import trace_events

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ftrace"))

DATA = Path(__file__).resolve().parents[2] / "data"
MS = 1_000_000


def disk(k: Any) -> str:
    """Return the machine's block device."""
    return "/dev/mmcblk1" if k.machine.flavour.arch == "arm" else "/dev/vda"


def work(sys: Any, argv: list[str]) -> None:
    """Read and write a disk, compute, sleep, fork."""
    fd = sys.open(argv[1], 2)
    for n in range(6):
        if sys.fork() == 0:
            sys.run_for(3 * MS)
            sys.exit(0)
        sys.lseek(fd, 8192 * n, 0)
        sys.write(fd, b"x" * 5000)
        sys.lseek(fd, 8192 * n, 0)
        assert sys.read(fd, 5000) == b"x" * 5000
        sys.nanosleep(2 * MS)
    for _ in range(6):
        sys.wait()


# ---- the rules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("flavour", ALL)
def test_the_models_log_keeps_to_the_rules(flavour: str, seed: int) -> None:
    """Handlers, softirqs and switches nest as in a real log, and the flags column says so, whatever the schedule."""
    with taskscope.boot(cpus=2, flavour=flavour, seed=seed) as k:
        k.trace("irq:*", "sched:*", "timer:*")
        k.spawn(work, disk(k)).wait()
        rows = rows_of(k.read("/sys/kernel/tracing/trace"))
        assert {"irq_handler_entry", "softirq_entry", "softirq_raise", "sched_switch"} <= {row.event for row in rows}
        assert broken(rows) == []


@pytest.mark.parametrize("threadirqs", [False, True])
@pytest.mark.parametrize("model", ["none", "voluntary", "full"])
def test_the_rules_hold_with_all_preemption_models(model: str, threadirqs: bool) -> None:
    """They hold with none, voluntary and full preemption, and with threads for handlers."""
    with taskscope.boot(cpus=2, flavour="6.18-x86_64", preempt=model, threadirqs=threadirqs, seed=1) as k:
        k.trace("irq:*", "sched:*")
        k.spawn(work, disk(k)).wait()
        rows = rows_of(k.read("/sys/kernel/tracing/trace"))
        assert any(row.event == "irq_handler_entry" for row in rows)
        assert broken(rows) == []


@pytest.mark.parametrize("name", ["d09-sched", "d14-instances", "d35-sched-612"])
def test_recordings_of_real_kernels_keep_to_the_rules(name: str) -> None:
    """The same rules hold in recordings of 6.x kernels."""
    result = CliRunner().invoke(cli, ["report", "-i", str(DATA / f"{name}.dat")])
    assert result.exit_code == 0, result.output
    rows = rows_of(result.output.encode())
    assert sum(row.event == "softirq_entry" for row in rows) > 5
    assert broken(rows) == []


@pytest.mark.root
def test_the_running_kernel_keeps_to_the_rules(tmp_path: Path) -> None:
    """The same rules hold in a recording of this host, made now."""
    import hosttrace

    def busy() -> None:
        with tempfile.NamedTemporaryFile(dir=Path.cwd()) as f:
            f.write(b"x" * 200_000)
            f.flush()
            import os

            os.fsync(f.fileno())
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            sum(range(1000))

    hosttrace.need_tracefs()
    text = hosttrace.record(tmp_path / "t", ("irq", "sched/sched_switch", "sched/sched_waking"), busy, buffer_kb=8192)
    rows = rows_of(text)
    assert any(row.event == "softirq_entry" for row in rows)
    assert broken(rows) == []


def test_broken_rules_are_found() -> None:
    """Each rule can fail: a log with one letter or line changed is told apart."""
    with taskscope.boot(cpus=1) as k:
        k.trace("irq:*", "sched:*")
        k.spawn(work, disk(k)).wait()
        text = k.read("/sys/kernel/tracing/trace").decode()
    lines = text.splitlines()
    assert broken(rows_of(text.encode())) == []
    for event, old, new in (
        ("irq_handler_entry", " d.h", " ..h"),
        ("irq_handler_entry", " d.h", " d.s"),
        ("irq_handler_exit", " irq=86", " irq=87"),
        ("softirq_entry", " ..s", " d.s"),
        ("softirq_entry", " ..s", " ..h"),
        ("softirq_raise", " d.h", " ..h"),
        ("sched_switch", " d..", " d.h"),
        ("sched_switch", " d..", " ..."),
    ):
        at = next(n for n, line in enumerate(lines) if n > 60 and f" {event}:" in line and old in line)
        wrong = [*lines[:at], lines[at].replace(old, new, 1), *lines[at + 1 :]]
        assert broken(rows_of("\n".join(wrong).encode())), (event, old, new)
    at = next(n for n, line in enumerate(lines) if n > 60 and " softirq_exit:" in line)
    assert broken(rows_of("\n".join(lines[:at] + lines[at + 1 :]).encode()))


# ---- preempt_count and the flags column --------------------------------------------------------------------


@given(
    depth=st.integers(0, 12),
    soft=st.integers(0, 7),
    hard=st.integers(0, 3),
    nmi=st.integers(0, 1),
    irqs_off=st.booleans(),
    need=st.booleans(),
    remote=st.booleans(),
    flavour=st.sampled_from(ALL),
)
@settings(max_examples=200, deadline=None)
def test_the_predicates_and_the_flags_say_what_the_count_says(
    depth: int, soft: int, hard: int, nmi: int, irqs_off: bool, need: bool, remote: bool, flavour: str
) -> None:
    """in_interrupt() and its like, and each letter of the flags column, follow from preempt_count's fields."""
    with world(flavour) as w, w.current() as m:
        m.cpu.curr = curr = _Task()  # type: ignore[assignment]
        m.cpu.preempt_count = count = depth | soft << 8 | hard << 16 | nmi << 20
        m.cpu.irqs_off = irqs_off
        curr.thread_info.flags = m.tif_need_resched if need else 0
        m.cpu.resched_by_ipi = curr if remote else None  # type: ignore[assignment]
        fields = split(count, m.flavour.version)
        assert preempt.in_nmi() == fields.in_nmi()
        assert preempt.in_irq() == fields.in_hardirq()
        assert preempt.in_softirq() == fields.in_softirq()
        assert preempt.in_serving_softirq() == fields.in_serving_softirq()
        assert preempt.in_interrupt() == fields.in_interrupt()
        assert preempt.in_task() == fields.in_task()
        assert preempt.irq_count() == count & 0xFF_FF00
        assert (preempt.hardirq_count(), preempt.softirq_count()) == (count & 0xF_0000, count & 0xFF00)
        assert preempt.in_atomic() == (count != 0)
        assert preempt.preemptible() == (count == 0 and not irqs_off)
        context = trace_events.tracing_gen_ctx(m)
        shown = flags_text(context >> 16 & 0xFF, context >> 24, m.flavour.version)
        bh = bool(soft >> 1) and m.flavour.version >= (5, 19)
        assert shown[0] == (("D" if bh else "d") if irqs_off else "b" if bh else ".")
        folded = m.flavour.arch == "x86_64" and not remote
        assert shown[1] == ("." if not need else "N" if folded else "n")
        if nmi:
            assert shown[2] == ("Z" if hard else "z")
        else:
            assert shown[2] == (("H" if soft & 1 else "h") if hard else "s" if soft & 1 else ".")
        assert shown[3] == (f"{depth:x}" if depth else ".")


class _Info:
    flags = 0


class _Task:
    def __init__(self) -> None:
        self.thread_info = _Info()


def test_nmi_enter_counts_both() -> None:
    """An NMI counts as an NMI and as a hard interrupt, nests, and leaves nothing."""
    with world() as w, w.current() as m:
        m.cpu.preempt_count = 0x101
        for depth in (1, 2):
            preempt.nmi_enter()
            assert m.cpu.preempt_count == 0x101 + depth * 0x11_0000
            assert preempt.in_nmi()
            assert preempt.in_irq()
            assert not preempt.in_task()
        preempt.nmi_exit()
        preempt.nmi_exit()
        assert m.cpu.preempt_count == 0x101


def test_who_marks_shows_on_x86() -> None:
    """TIF_NEED_RESCHED that another CPU has set is n until its interrupt has come, then N; ARM knows n only."""
    for flavour, letters in (("6.1-x86_64", ["n", "N", "N"]), ("4.19-arm", ["n", "n", "n"])):

        def scenario(sys: Any) -> list[str]:
            m = machine.cur
            other = m.cpus[1 - m.cpu.id]
            out = []

            def look() -> None:
                before, m.cpu = m.cpu, other
                context = trace_events.tracing_gen_ctx(m)
                m.cpu = before
                out.append(flags_text(context >> 16 & 0xFF, context >> 24, m.flavour.version)[1])

            def mark() -> None:
                core.resched_cpu(other.id)

            preempt.local_irq_disable()
            mark()
            look()
            before, m.cpu = m.cpu, other
            core.scheduler_ipi()
            m.cpu = before
            look()
            other.curr.thread_info.flags &= ~m.tif_need_resched
            preempt.local_irq_enable()
            m.cpu.irqs_off = True
            core.resched_cpu(m.cpu.id)
            context = trace_events.tracing_gen_ctx(m)
            out.append(flags_text(context >> 16 & 0xFF, context >> 24, m.flavour.version)[1])
            m.cpu.irqs_off = False
            return out

        with world(flavour, cpus=2) as w:
            assert w.run(scenario) == letters


# ---- block devices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_a_reader_sleeps_until_the_interrupt(flavour: str) -> None:
    """Whoever reads a disk is in state D in io_schedule() until the softirq wakes it; the idle time is iowait."""
    with taskscope.boot(cpus=1, flavour=flavour) as k:
        k.trace("sched:sched_switch", "sched:sched_waking")
        reader = k.spawn(lambda sys, argv: sys.puts(str(len(sys.read(sys.open(argv[1]), 4096)))), disk(k), name="r")
        seen: list[tuple[str, Any, int]] = []

        def look(*_: Any) -> None:
            task = next(t for t in k.machine_tasks() if t.comm == "r")
            seen.append((k.task(task.pid).row.state or "", k.task(task.pid).row.wchan, k.machine.cpu.rq.nr_iowait))

        with k.probe("blk_mq_complete_request", look):
            reader.wait()
        assert seen == [("D", "wait_on_page_bit_common", 1)]
        assert reader.text == "4096\n"


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_disk_holds_what_was_written(data: st.DataObject) -> None:
    """Reads and writes anywhere on the device give what a plain array gives, in either kind of disk."""
    flavour = data.draw(st.sampled_from(ALL))
    size = 8 << 20
    place = st.one_of(st.integers(0, 20_000), st.integers(size - 9000, size))
    steps = data.draw(st.lists(st.tuples(st.booleans(), place, st.integers(0, 9000)), max_size=8))

    def main(sys: Any, argv: list[str]) -> None:
        fd = sys.open(argv[1], 2)
        for n, (write, at, count) in enumerate(steps):
            sys.lseek(fd, at, 0)
            if not write:
                got.append(sys.read(fd, count))
            elif at < size or not count:
                got.append(sys.write(fd, bytes([n + 1]) * count))

    got: list[Any] = []
    expected: list[Any] = []
    model = bytearray(size)
    for n, (write, at, count) in enumerate(steps):
        count = min(count, size - at) if not write or at < size else count
        if not write:
            expected.append(bytes(model[at : at + count]))
        elif at < size or not count:
            model[at : at + count] = bytes([n + 1]) * count
            expected.append(count)
    with taskscope.boot(cpus=1, flavour=flavour) as k:
        assert k.spawn(main, disk(k)).wait() == 0
        assert got == expected


def test_two_readers_of_one_page_make_one_request() -> None:
    """A page that is being read is waited for, not read again; afterwards nobody waits at all."""
    with taskscope.boot(cpus=2) as k:
        requests: list[int] = []
        with k.probe("bcm2835_mmc_request", lambda *_: requests.append(1)):
            readers = [
                k.spawn(lambda sys, argv: sys.read(sys.open(argv[1]), 100), disk(k), name=f"r{n}") for n in range(3)
            ]
            for reader in readers:
                assert reader.wait() == 0
        assert len(requests) == 1


def test_requests_queue_for_the_controller() -> None:
    """The controller does one thing at a time: requests that come meanwhile follow in their order."""
    with taskscope.boot(cpus=2) as k:
        sectors: list[int] = []

        def main(sys: Any, argv: list[str]) -> None:
            fd = sys.open(argv[1])
            sys.lseek(fd, 4096 * int(argv[2]), 0)
            sys.read(fd, 10)

        with k.probe("bcm2835_mmc_request", lambda host, mrq: sectors.append(mrq.sector)):
            readers = [k.spawn(main, disk(k), str(n), name=f"r{n}") for n in range(5)]
            for reader in readers:
                assert reader.wait() == 0
        assert sorted(sectors) == [0, 8, 16, 24, 32]


def test_a_dead_controller_times_out() -> None:
    """A request that is not answered in 10 s fails with EIO, and the log says so; the next can succeed."""
    with taskscope.boot(cpus=1) as k:
        k.machine.mmc1.hw.dead = True

        def main(sys: Any, argv: list[str]) -> int:
            fd = sys.open(argv[1])
            try:
                sys.read(fd, 10)
            except OSError as error:
                return error.errno or 0
            return 0

        before = k.now
        assert k.spawn(main, disk(k)).wait() == 5
        # A timer so far away fires up to 0.64 s late, and begins with a jiffy (the wheel's granularity).
        assert 10e9 <= k.now - before < 10.7e9
        assert "mmc1: Timeout waiting for hardware interrupt" in k.dmesg()
        k.machine.mmc1.hw.dead = False
        assert k.spawn(main, disk(k)).wait() == 0


def test_a_fatal_signal_ends_the_wait() -> None:
    """SIGKILL ends a read that waits (TASK_KILLABLE); a signal with a handler does not."""

    def handler(sys: Any, sig: int, info: Any) -> None:
        """Do nothing."""

    def main(sys: Any, argv: list[str]) -> None:
        sys.signal(15, handler)
        sys.read(sys.open(argv[1]), 10)

    with taskscope.boot(cpus=1) as k:
        k.machine.mmc1.hw.dead = True
        reader = k.spawn(main, disk(k), name="r")
        k.run(s=0.1)
        pid = reader.pid
        terminal = k.terminal()
        terminal.type(f"kill -15 {pid}")
        k.run(s=0.1)
        assert reader.status is None
        assert k.task(pid).row.wchan == "wait_on_page_bit_common"
        terminal.type(f"kill -9 {pid}")
        k.run(s=0.1)
        assert reader.exitcode == -9


def test_a_spurious_interrupt_of_a_disk_is_nobodys() -> None:
    """An interrupt without anything that is done is IRQ_NONE, counted, and harmless."""
    for flavour in ALL:
        with taskscope.boot(cpus=1, flavour=flavour) as k:
            k.trace("irq:irq_handler_exit")
            irq = 86 if flavour == "4.19-arm" else 25
            desc = k.machine.irq_desc_tree[irq]
            k.interrupt(desc)
            k.run(s=0.01)
            assert f"irq={irq} ret=unhandled" in k.read("/sys/kernel/tracing/trace").decode()
            assert desc.irqs_unhandled == 1
            assert k.spawn(work, disk(k)).wait() == 0
            assert desc.irqs_unhandled == 1


def test_a_disk_is_not_read_from_outside() -> None:
    """A disk answers tasks of the machine: reading it without one is an error, not a hang."""
    with taskscope.boot(cpus=1) as k, pytest.raises(OSError, match="not supported"):
        k.read("/dev/mmcblk1")


def test_a_message_that_comes_while_masked_waits() -> None:
    """A masked line keeps one edge, however many there were, and lets it go when it is unmasked."""
    with world("6.1-x86_64") as w:
        line = irqline.IrqLine(w.m)
        got: list[Any] = []
        w.m.raise_irq = lambda cpu, irq: got.append(irq)  # type: ignore[method-assign]
        for _ in range(3):
            irqline.pulse(line)
        assert (line.latched, got) == (True, [])
        irqline.unmask(line)
        assert not line.latched
        assert line.queued
