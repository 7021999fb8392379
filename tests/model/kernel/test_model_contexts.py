"""Contexts: the rules of interrupts in logs of the model, of recordings and of this host; the flags column."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import in_kernel

import taskscope
from bare import ALL, error, world
from interrupt_rules import Row, broken, rows_of
from taskscope.abi.preempt import split
from taskscope.abi.traceflags import flags_text
from taskscope.cli.main import cli
from taskscope.model import machine
from taskscope.model.include.linux import preempt
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.trace import trace as trace_mod
from taskscope.model.kernel.trace import trace_events, trace_output

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
            os.fsync(f.fileno())
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            sum(range(1000))

    hosttrace.need_tracefs()
    text = hosttrace.record(tmp_path / "t", ("irq", "sched/sched_switch", "sched/sched_waking"), busy, buffer_kb=8192)
    rows = rows_of(text)
    assert any(row.event == "softirq_entry" for row in rows)
    assert broken(rows) == []


def chains(rows: list[Row]) -> set[tuple[str, ...]]:
    """Return what happens from a handler that raises BLOCK to the end of that softirq: events with their contexts."""
    out = set()
    for i, row in enumerate(rows):
        if row.event != "irq_handler_entry":
            continue
        mine = [r for r in rows[i : i + 400] if r.cpu == row.cpu and r.event != "sched_waking"][:5]
        if [r.event for r in mine[:2]] == ["irq_handler_entry", "softirq_raise"] and "BLOCK" in mine[1].body:
            # Without the column of need-resched: that depends on what else goes on.
            out.add(tuple(f"{r.event} {r.flags[0]}{r.flags[2]}" for r in mine))
    return out


@pytest.mark.root
def test_a_disks_interrupt_goes_as_on_the_running_kernel(tmp_path: Path) -> None:
    """From a disk's handler to its softirq the same events come in the same order and contexts as on this host."""
    import hosttrace

    def work_on_disk() -> None:
        for _ in range(20):
            with tempfile.NamedTemporaryFile(dir=Path.cwd()) as f:
                f.write(b"x" * 100_000)
                f.flush()
                os.fsync(f.fileno())

    hosttrace.need_tracefs()
    text = hosttrace.record(tmp_path / "t", ("irq", "sched/sched_waking"), work_on_disk, buffer_kb=8192)
    host = chains(rows_of(text))
    if not host:
        pytest.skip("no disk of this host leaves its work to BLOCK_SOFTIRQ")
    with taskscope.boot(cpus=2, flavour="6.18-x86_64") as k:
        k.trace("irq:*")
        k.spawn(work, disk(k)).wait()
        model = chains(rows_of(k.read("/sys/kernel/tracing/trace")))
    handler = ("irq_handler_entry dh", "softirq_raise dh", "irq_handler_exit dh")
    expected = (*handler, "softirq_entry .s", "softirq_exit .s")
    assert model == {expected}
    assert expected in host


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


# ---- migration disabled ------------------------------------------------------------------------------------


def test_migration_disabled_keeps_a_task_where_it_is_and_shows() -> None:
    """migrate_disable() nests and shows in the last column; preemption goes on, moving waits for migrate_enable()."""

    def scenario(sys: Any) -> Any:
        tr = trace_mod.top_trace_array(machine.cur)
        trace_events.set_event(tr, "sched", "sched_waking", True)
        out = []
        for enter in (True, True, False, False):
            in_kernel(core.migrate_disable if enter else core.migrate_enable)
            sys.nanosleep(MS)
            out.append((machine.cur.cpu.id, machine.cur.cpu.curr.nr_cpus_allowed, sys.sched_getaffinity()))
        return out

    with world("6.18-x86_64", cpus=2) as w:
        out = w.run(scenario)
        assert [cpus for _, cpus, _ in out] == [1, 1, 1, 2]
        assert len({cpu for cpu, _, _ in out[:3]}) == 1
        assert all(mask == {0, 1} for _, _, mask in out)
        with w.current() as m:
            text = trace_output.trace_text(m, trace_mod.top_trace_array(m))
            assert not m.migration_disabled
            assert all(not f.flags & 64 for f in trace_mod.top_trace_array(m).events.values())
    # Woken by its timer, in the context of whoever runs: idle.  What it wakes itself carries its own depth.
    assert {row.flags[4] for row in rows_of(text.encode())} <= {".", "1", "2"}


def test_the_last_column_is_the_depth_of_the_running_task() -> None:
    """The fifth column counts migrate_disable() of the task that runs, and of no other."""

    def scenario(sys: Any) -> list[str]:
        out = []
        for n in range(4):
            if n:
                in_kernel(core.migrate_disable)
            context = trace_events.tracing_gen_ctx(machine.cur)
            out.append(flags_text(context >> 16 & 0xFF, context >> 24, machine.cur.flavour.version)[4])
        sys.clone(other, flags=17)
        for _ in range(3):
            in_kernel(core.migrate_enable)
        sys.wait()
        return out

    def other(sys: Any) -> None:
        context = trace_events.tracing_gen_ctx(machine.cur)
        child.append(flags_text(context >> 16 & 0xFF, context >> 24, machine.cur.flavour.version)[4])

    child: list[str] = []
    with world("6.1-x86_64") as w:
        assert w.run(scenario) == [".", "1", "2", "3"]
    assert child == ["."]


def test_an_affinity_that_must_wait() -> None:
    """sched_setaffinity() of a task with migration disabled returns when it has moved; it itself gets EBUSY."""

    def scenario(sys: Any) -> Any:
        sys.sched_setaffinity(0, [0])
        in_kernel(core.migrate_disable)
        sys.sched_setaffinity(0, [0, 1])
        own = error(sys.sched_setaffinity, 0, [1])
        sys.clone(mover, sys.getpid(), flags=17)
        sys.nanosleep(5 * MS)
        before = machine.cur.cpu.id, list(moved)
        enabled = machine.cur.now
        in_kernel(core.migrate_enable)
        after = machine.cur.cpu.id
        sys.wait()
        return own, before, after, moved[0] >= enabled

    def mover(sys: Any, parent: int) -> None:
        sys.sched_setaffinity(parent, [1])
        moved.append(machine.cur.now)

    moved: list[int] = []
    with world("6.18-x86_64", cpus=2, bare=False) as w:
        assert w.run(scenario) == ("EBUSY", (0, []), 1, True)
