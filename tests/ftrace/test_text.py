"""Recordings that are text, read as `Source`: the real files."""

from __future__ import annotations

import itertools
import lzma
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from taskscope.abi.traceflags import flags_text
from taskscope.ftrace.text import looks_like_text, open_text
from taskscope.trace.source import Gap, is_stack
from taskscope.trace.trace import Trace

TRACEFS = ("d15-text-stack.trace.txt", "d16-text-tgid.trace.txt", "d36-text-612.trace.txt", "d52-text-be64.trace.txt",
           "d18-raw4k/trace.txt", "d37-raw16k-612/trace.txt", "d53-raw-be64/trace.txt", "d62-raw-32/trace.txt",
           "d70-host618-kill9-stack/trace.txt", "d71-host618-orphan/trace.txt")

REPORTS = ("d02-exit0-v6", "d03-shellexec", "d04-orphan-v6", "d05-zombie", "d06-threads", "d07-vfork-v6", "d08-signals",
           "d09-sched", "d10-subreaper", "d11-oom", "d12-overrun", "d13-clones", "d14-instances", "d19-storm",
           "d31-shellexec-612", "d32-execthread-612", "d33-zombie-612-v6", "d34-tsc-612", "d35-sched-612",
           "d50-signals-be64", "d51-threads-be64-v6", "d60-signals-32", "d61-orphan-32-v6")

#: the names that the workload of the t01 files gave itself
COMMS = {16725: b"-12 [000] d..2.", 16797: b"pid=1 prio=2 : ", 16798: b"\xff\x1b[31m\n\nq"}
FIRST_COMM = b"a\nb - [0] ==> x"


def content(path: Path) -> bytes:
    """Return the text of a file, inflated if it is compressed."""
    raw = path.read_bytes()
    return lzma.decompress(raw) if path.suffix == ".xz" else raw


def read(path: Path) -> Trace:
    """Open a text."""
    return Trace(open_text(str(path), content(path)))


def columns(trace: Trace, skip: frozenset[str] = frozenset()) -> Iterator[tuple[str, str, list[object]]]:
    """Yield every field of every event as (event, field, values)."""
    for name in trace.counts:
        type_ = trace.type(name)
        assert type_ is not None
        for field in type_.fields:
            if f"{type_.name}.{field.name}" not in skip:
                values = trace.column(name, field.name, trace.rows(name))
                yield name, field.name, [v.tolist() if isinstance(v, np.ndarray) else v for v in values.tolist()]


def bodies(text: bytes) -> list[bytes]:
    """Return the lines of a tracefs text that are no comments, the TGID column cut out."""
    lines = [x for x in text.splitlines(keepends=True) if not x.startswith(b"#")]
    return [re.sub(rb"^(.{24}) \( *[\d-]+\) \[", rb"\1 [", x) for x in lines]


def without_stacks(lines: list[bytes]) -> list[bytes]:
    """Leave the call stacks out."""
    return [x for x in lines if not x.startswith(b" => ") and b": <stack trace>" not in x]


@pytest.mark.parametrize("name", TRACEFS)
def test_report_is_the_text_that_was_read(data: Path, name: str) -> None:
    """The report of a tracefs text, in order of time, is that text line by line."""
    text = content(data / name)
    trace = Trace(open_text(name, text))
    assert b"".join(trace.report()) == b"".join(bodies(text))
    assert trace.notes == ()


@pytest.mark.parametrize("name", TRACEFS)
def test_flags_are_the_inverse_of_the_kernel_s_columns(data: Path, name: str) -> None:
    """common_flags and common_preempt_count print as the columns that they were read from."""
    trace = read(data / name)
    shown = [flags_text(v & 0xFF, v >> 8) for v in trace.source.flags(trace.order).tolist()]
    lines = (re.match(rb".{16}-.{7} (?:\( *[\d-]+\) )?\[\d{3}\] (\S+) ", x) for x in content(data / name).splitlines())
    assert shown == [m[1].decode() for m in lines if m]


@pytest.mark.parametrize("name", TRACEFS)
def test_every_stack_stands_behind_its_record(data: Path, name: str) -> None:
    """A call stack is the row behind the record it belongs to, and has the text's frames."""
    trace = read(data / name)
    rows = trace.rows("kernel_stack")
    stacks = content(data / name).count(b"<stack trace>")
    assert len(rows) == stacks
    # The oldest records are overwritten: a stack at the beginning may have lost its event.
    assert 0 <= stacks - len(trace.stacks) <= (2 if trace.lost else 0)
    for event in np.flatnonzero(np.isin(np.arange(len(trace)), rows - 1)).tolist():
        if trace.stacks.row(event) is not None:
            assert trace.stacks.row(event) == event + 1
    frames = [f for row in rows.tolist() for f in trace.source.frames(row)]
    lines = re.findall(rb"^ => (.*)", content(data / name), re.MULTILINE)
    assert Counter(frames) == Counter(x.decode() for x in lines)


def test_head_of_a_tracefs_text(data: Path) -> None:
    """Losses, cpus and thread groups come from the head and the columns."""
    d15 = read(data / "d15-text-stack.trace.txt")
    assert d15.lost == (Gap(None, None, d15.start, 468 - 226),)
    assert d15.cpus == (0, 1)
    assert (d15.clock.unit, d15.clock.resolution) == ("ns", 1000)
    d36 = read(data / "d36-text-612.trace.txt")
    assert d36.cpus == (0, 1, 2, 3)
    assert d36.lost == ()
    d16 = read(data / "d16-text-tgid.trace.txt").source
    # As the workload itself says: 300 has the threads 301 to 307.  The idle task's group is not known.
    assert {t: d16.tgids[t] for t in (299, 300, 301, 307)} == {299: 299, 300: 300, 301: 300, 307: 300}
    assert 0 not in d16.tgids
    assert d16.cmdlines[299] == b"wl"
    assert d16.cmdlines[0] == b"<idle>"


def test_latency_format(data: Path) -> None:
    """The latency format has a release, microseconds from the tracer's start, and comms of 8 bytes."""
    trace = read(data / "d17-text-latency.trace.txt")
    assert trace.kernel.release == "6.1.0-56-cloud-amd64"
    assert len(trace) == 205
    assert trace.start == 34_765_000
    assert int(trace.source.flags(np.array([0]))[0]) == 0x2 << 8 | 0x01
    assert trace.source.cmdlines[15] == b"rcu_preempt"      # its column says rcu_pree
    assert any("time 0 is that start" in n for n in trace.notes)
    assert any("8 bytes" in n for n in trace.notes)


@pytest.mark.parametrize("name", REPORTS)
def test_report_and_raw_report_of_trace_cmd_agree(data: Path, name: str) -> None:
    """trace-cmd's readable bodies yield the fields that its raw ones show."""
    shown, raw = read(data / f"{name}.report.txt.xz"), read(data / f"{name}.report-R.txt.xz")
    assert shown.counts == raw.counts
    a, b = shown.source, raw.source
    for column in ("cpu", "buffer"):
        assert np.array_equal(getattr(a.index, column), getattr(b.index, column))
    everything = np.arange(len(shown))
    assert np.array_equal(a.pids(everything), b.pids(everything))
    assert np.abs(a.index.ts - b.index.ts).max() <= (500 if shown.clock.unit == "ns" else 0)
    assert (a.cmdlines, a.cpus, a.buffers) == (b.cmdlines, b.cpus, b.buffers)
    # What trace-cmd prints by another name, or raw bytes: symbols, letters of states and flags.
    other = frozenset({"sched_switch.prev_state", "timer_start.flags", "tick_stop.dependency", "hrtimer_init.clockid",
                       "hrtimer_start.function", "hrtimer_expire_entry.function", "sys_enter.args"})
    raws = {(event, field): values for event, field, values in columns(raw, other)}
    compared = 0
    for event, field, values in columns(shown, other):
        if (event, field) in raws:
            assert values == raws[event, field], f"{event} {field}"
            compared += len(values)
    assert compared > 500


def test_raw_arguments_of_system_calls(data: Path) -> None:
    """The arguments of sys_enter are the six words that the raw report shows as bytes."""
    shown, raw = (read(data / f"d03-shellexec.{x}.txt.xz") for x in ("report", "report-R"))
    rows = shown.rows("sys_enter")
    assert len(rows) > 100
    words = [a.tolist() for a in shown.column("sys_enter", "args", rows)]
    for have, text in zip(words, raw.column("sys_enter", "args", rows).tolist(), strict=True):
        found = bytes(int(x, 16) for x in re.findall(r"[0-9a-f]{2}\b", text.decode().removeprefix("ARRAY")))
        assert have == np.frombuffer(found, "<u8").tolist()


def test_states_as_trace_cmd_writes_them(data: Path) -> None:
    """prev_state keeps the letters of the text; raw numbers stay numbers, and notes say what that costs.

    trace-cmd's letters are those of kernels before 4.14, when X and Z were the other way round.
    """
    shown, raw = (read(data / f"d05-zombie.{x}.txt.xz") for x in ("report", "report-R"))
    rows = shown.rows("sched_switch")
    letters, numbers = shown.column("sched_switch", "prev_state", rows), raw.column("sched_switch", "prev_state", rows)
    assert {(a, b) for a, b in zip(letters.tolist(), numbers.tolist(), strict=True)} <= {
        (b"R", 0), (b"R", 256), (b"S", 1), (b"D", 2), (b"Z", 16), (b"X", 32), (b"W", 128)}
    assert any("prev_state" in n for n in raw.notes)
    assert any("X and Z" in n for n in shown.notes)


def test_stacks_of_trace_cmd(data: Path) -> None:
    """Frames of trace-cmd are names without their addresses; one without a name is its address."""
    trace = read(data / "d03-shellexec.report.txt.xz")
    event = int(trace.rows("function")[0])
    assert trace.source.report(np.array([event])).endswith(b": begin_new_exec\n")
    assert trace.stacks.raw(event) == (
        "0xffffffffc05f6083", "begin_new_exec", "load_elf_binary", "bprm_execve", "do_execveat_common.isra.0",
        "__x64_sys_execve", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")


def test_lost_events_of_trace_cmd(data: Path) -> None:
    """A DROPPED line is a gap between two records of its cpu; its count may be missing."""
    trace = read(data / "d12-overrun.report.txt.xz")
    assert [(g.cpu, g.count) for g in trace.lost] == [(1, 165), (1, None)]
    ts = trace.ts(np.flatnonzero(trace.source.index.cpu == 1))
    for gap in trace.lost:
        assert gap.start is not None
        k = int(np.searchsorted(ts, gap.start, side="right"))
        assert int(ts[k]) == gap.end


def test_buffers_of_trace_cmd(data: Path) -> None:
    """The name of an instance before a line is its buffer, not a part of the comm."""
    trace = read(data / "d14-instances.report.txt.xz")
    assert trace.source.buffers == ("", "irqs", "tasks")
    systems = {"irqs": {"irq", "timer"}, "tasks": {"task", "signal"}, "": {"sched"}}
    for type_, buffer in set(zip(trace.source.index.type.tolist(), trace.source.index.buffer.tolist(), strict=True)):
        assert trace.types[type_].system in systems[trace.source.buffers[buffer]]
    assert set(trace.source.cmdlines.values()) >= {b"<idle>", b"sh", b"wl"}
    assert not any(b":" in c and b"kworker" not in c for c in trace.source.cmdlines.values())


def test_cycles_of_trace_cmd(data: Path) -> None:
    """Stamps without a point count cycles."""
    trace = read(data / "d34-tsc-612.report.txt.xz")
    assert (trace.clock.unit, trace.clock.resolution) == ("cycles", 1)
    assert trace.start == 170_793_274_859
    assert b" 170793274859: sched_stat_runtime: " in trace.source.report(np.array([0]))


def test_latency_report_of_trace_cmd(data: Path) -> None:
    """The report -l has the flags, a cut comm, and the prefix of the buffer."""
    trace, plain = read(data / "t08-report-latency.txt"), read(data / "d14-instances.report.txt.xz")
    n = len(trace)
    assert n == 59
    assert trace.source.buffers[1] == "irqs"
    first = np.arange(n)
    assert np.array_equal(trace.source.pids(first), plain.source.pids(first))
    assert np.array_equal(trace.source.index.ts, plain.source.index.ts[:n])
    bits = int(trace.source.flags(first)[0])
    assert flags_text(bits & 0xFF, bits >> 8) == "d..3."
    assert trace.source.cmdlines[20] == b"migration/1"


def test_perf_script(data: Path) -> None:
    """A sample of perf names the system of an event, and has the kernel's bodies."""
    trace = read(data / "d80-perf-script-signals.txt")
    assert len(trace) == 212
    assert trace.counts["signal:signal_generate"] == len(
        re.findall(rb"signal:signal_generate:", content(data / "d80-perf-script-signals.txt")))
    table = trace.events("signal_generate")
    assert table["sig"][0] == 11
    assert table["group"].to_list().count(0) > 0
    assert trace.events("sched_process_exit")["group_dead"].to_list()[0] == 1
    assert trace.column("sched_switch", "prev_state", trace.rows("sched_switch")).tolist()[0] == b"S"
    assert trace.notes == ()


def test_call_chains_of_perf(data: Path) -> None:
    """A call chain below a sample is a stack record of the kernel, and one of user space where there are frames."""
    trace = read(data / "t05-perf-callchains.txt")
    switch = int(trace.rows("sched_switch")[0])
    stack = trace.stacks.raw(switch)
    assert stack is not None
    assert stack[:3] == ("__schedule", "schedule", "io_schedule")
    assert stack[-1] == "entry_SYSCALL_64_after_hwframe"
    user = trace.rows("user_stack")
    assert trace.source.frames(int(user[0])) == ("0x7f554eaf2ad7",)
    enter = int(trace.rows("sys_enter")[0])
    assert [trace.types[int(trace.source.index.type[enter + k])].name for k in range(3)] == [
        "sys_enter", "kernel_stack", "user_stack"]
    assert trace.source.frames(enter + 2) == ("brk", "_dl_start_user")
    assert trace.ts(np.array([enter, enter + 1])).tolist() == [2096_681_899_000] * 2
    arguments = trace.column("sys_enter", "args", trace.rows("sys_enter")[:1])[0].tolist()
    assert arguments == [0, 0x7ffd974193ec, 0, 0x37f, 0, 0]


def test_perf_with_header_and_nanoseconds(data: Path) -> None:
    """The header of perf tells the machine; pid/tid tells the thread group; nine decimals are nanoseconds."""
    trace = read(data / "t06-perf-ns.txt")
    assert (trace.kernel.release, trace.kernel.machine, trace.kernel.hostname) == ("6.18.44-fc-v669", "x86_64", "vm")
    assert trace.cpus == (0, 1)
    assert trace.clock.resolution == 1
    assert trace.start == 2_096_678_296_868
    assert trace.source.tgids[21311] == 21311
    assert trace.column("sys_enter_openat", "dfd", trace.rows("sys_enter_openat")).tolist()[0] == 0xffffff9c
    assert trace.column("sys_exit_openat", "ret", trace.rows("sys_exit_openat")).tolist()[0] == 3


def test_names_with_newlines_and_all_that(data: Path) -> None:
    """A comm that holds newlines, brackets, colons or keys is recovered in the column and in the body."""
    trace = read(data / "t01-comms.trace.txt")
    assert trace.notes == ()
    for pid, comm in COMMS.items():
        assert trace.source.cmdlines[pid].lstrip(b" ") == comm.lstrip(b" ")
    rows = trace.rows("task_rename")
    assert trace.column("task_rename", "oldcomm", rows).tolist() == [b"python3", FIRST_COMM]
    assert trace.column("task_rename", "newcomm", rows).tolist() == [FIRST_COMM, COMMS[16797]]
    children = trace.column("sched_process_fork", "child_comm", trace.rows("sched_process_fork")).tolist()
    assert set(children) == {FIRST_COMM}
    report = b"".join(trace.report())
    assert b"prev_comm=a\\nb - [0] ==> x prev_pid=16798" in report
    assert b"\\xff\\x1b[31m\\n\\nq-16798 " in report
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f-\xff]", report)


@pytest.mark.parametrize("name", ["symbols", "noirq", "latency", "verbose"])
def test_all_layouts_of_tracefs_say_the_same(data: Path, name: str) -> None:
    """Symbol offsets, no flags, the latency format and its verbose form hold the same records."""
    plain, other = read(data / "t01-comms.trace.txt"), read(data / f"t01-comms-{name}.trace.txt")
    assert list(columns(other)) == list(columns(plain))
    a, b = plain.source, other.source
    assert np.array_equal(a.index.ts, b.index.ts)
    assert np.array_equal(a.index.cpu, b.index.cpu)
    rows = np.arange(len(plain))
    assert np.array_equal(a.pids(rows), b.pids(rows))
    flags = a.flags(rows)
    assert np.array_equal(flags if name != "noirq" else flags * 0, b.flags(rows))
    stacks = np.flatnonzero([is_stack(plain.types[t]) for t in a.index.type.tolist()]).tolist()
    assert [a.frames(r) for r in stacks] == [b.frames(r) for r in stacks]
    assert len(stacks) == 1
    for pid, comm in a.cmdlines.items():
        # The verbose form pads at both ends of a comm; the latency format cuts it.
        assert b.cmdlines[pid] in ({comm, comm.rstrip()} if name != "latency" else {comm, comm[:8], b" %s" % comm[:7]})


def test_marks(data: Path) -> None:
    """What is written to trace_marker becomes a print record, its name is none of an event."""
    trace = read(data / "t07-marks.trace.txt")
    rows = trace.rows("ftrace:print")
    assert trace.column("print", "buf", rows).tolist() == [b"line one", b"line two", b"a mark"]
    assert trace.column("print", "ip", rows).tolist() == [b"tracing_mark_write"] * 3
    assert trace.source.report(rows[:1]).endswith(b": tracing_mark_write: line one\n")
    assert trace.column("sys_enter_openat", "flags", trace.rows("sys_enter_openat")).tolist() == [0x241] * 4
    assert trace.column("sys_exit_openat", "ret", trace.rows("sys_exit_openat")).tolist() == [3] * 4


def test_lost_events_of_trace_pipe(data: Path) -> None:
    """LOST lines of trace_pipe are gaps of their cpus, before the first record of each."""
    trace = read(data / "t02-pipe.txt")
    first = {c: int(trace.source.index.ts[trace.source.index.cpu == c][0]) for c in (0, 1)}
    assert trace.lost == (Gap(0, None, first[0], 3211), Gap(1, None, first[1], 12621))
    assert trace.lost_count == 3211 + 12621


def test_overwritten_buffer(data: Path) -> None:
    """The head counts what was overwritten; a line that says where a cpu's buffer begins is no loss of its own."""
    trace = read(data / "t03-overrun.trace.txt")
    assert [(g.cpu, g.start, g.end) for g in trace.lost] == [(None, None, trace.start)]
    without = open_text("x", re.sub(rb"# entries.*\n", b"", content(data / "t03-overrun.trace.txt")))
    assert without.gaps == (Gap(1, None, 4105_867_709_000, None),)


def test_clocks_that_count(data: Path) -> None:
    """The counter clock has no unit of time, in both layouts."""
    plain, latency = read(data / "t04-counter.trace.txt"), read(data / "t04-counter-latency.trace.txt")
    assert plain.clock.unit == latency.clock.unit == "cycles"
    assert plain.ts(np.arange(4)).tolist() == [2, 3, 4, 5]
    # The latency format counts from the start of the tracer.
    assert np.array_equal(plain.source.index.ts - 1, latency.source.index.ts)


def test_every_text_is_recognised_by_its_head(data: Path) -> None:
    """The first 4 KiB of every text recording look like text; those of binary ones and of other texts do not."""
    texts = [*data.glob("*.trace.txt"), *data.glob("*/trace.txt"), *data.glob("t0*.txt"), *data.glob("d80*signals.txt"),
             *data.glob("*.report*.txt.xz")]
    assert len(texts) > 40
    for path in texts:
        assert looks_like_text(content(path)[:4096]), path.name
    others = [*data.glob("*.dat"), *data.glob("*.xz"), *data.glob("*/*.raw"), *data.glob("*.facts.txt"),
              *data.glob("*/formats"), *data.glob("*.stat.txt"), Path(__file__)]
    for path in others:
        assert not looks_like_text(path.read_bytes()[:4096]), path.name


def test_all_of_the_larger_collection(sweep: Path) -> None:
    """Every text of the larger collection is read without a line left over."""
    paths = [*sweep.glob("*.trace.txt"), *sweep.glob("*/trace.txt"), *sweep.glob("*.report*.txt.xz"),
             *sweep.glob("*signals.txt")]
    assert len(paths) > 50
    for path in paths:
        trace = read(path)
        assert not any("understood" in n for n in trace.notes), path.name
        assert "" not in {t.system for t in trace.types}, path.name


@pytest.mark.root
def test_this_host_s_trace(tmp_path: Path) -> None:
    """What this kernel prints now is read whole, in every layout, and printed again as it was."""
    tracefs = Path("/sys/kernel/tracing")
    if os.geteuid() != 0 or not (tracefs / "instances").is_dir():
        pytest.skip("needs root and a tracefs")
    instance = tracefs / "instances" / f"test-text-{os.getpid()}"
    try:
        instance.mkdir()
    except OSError as e:
        pytest.skip(f"no instance can be made: {e}")
    try:
        for event in ("sched/sched_switch", "sched/sched_wakeup", "sched/sched_process_fork",
                      "sched/sched_process_exec", "sched/sched_process_exit", "task", "signal"):
            (instance / "events" / event / "enable").write_text("1")
        (instance / "events/sched/sched_process_exit/trigger").write_text("stacktrace")
        for _ in range(20):
            subprocess.run(["/bin/sh", "-c", "true; :"], check=True)
        (instance / "tracing_on").write_text("0")
        text = (instance / "trace").read_bytes()
        (instance / "options/latency-format").write_text("1")
        latency = (instance / "trace").read_bytes()
        (instance / "options/latency-format").write_text("0")
        (instance / "options/record-tgid").write_text("1")
        with_tgid = (instance / "trace").read_bytes()
    finally:
        (instance / "events/enable").write_text("0")
        instance.rmdir()
    trace = Trace(open_text("trace", text))
    assert trace.notes == ()
    assert len(trace.rows("sched_process_exit")) >= 20
    shown, lines = b"".join(trace.report()).splitlines(keepends=True), bodies(text)
    assert Counter(shown) == Counter(lines)
    # A stack stands behind its record also where another cpu wrote something in the same microsecond.
    assert without_stacks(shown) == without_stacks(lines)
    assert len(trace.stacks) >= 20
    other = Trace(open_text("latency", latency))
    assert list(columns(other)) == list(columns(trace))
    assert other.kernel.release == os.uname().release
    assert list(columns(Trace(open_text("tgid", with_tgid)))) == list(columns(trace))


@pytest.mark.tracecmd
def test_trace_cmd_of_this_host(data: Path) -> None:
    """What the installed trace-cmd prints, in its three forms, holds the same records."""
    if shutil.which("trace-cmd") is None:
        pytest.skip("needs trace-cmd")
    for name in ("d02-exit0-v6", "d14-instances"):
        traces = []
        for options in ([], ["-t"], ["-l"], ["-R", "-t"]):
            ran = subprocess.run(["trace-cmd", "report", *options, "-i", str(data / f"{name}.dat")],
                                 capture_output=True, check=True)
            traces.append(Trace(open_text("report", ran.stdout)))
        for other in traces[1:]:
            assert other.counts == traces[0].counts
            assert np.array_equal(other.source.index.buffer, traces[0].source.index.buffer)
            rows = np.arange(len(other))
            assert np.array_equal(other.source.pids(rows), traces[0].source.pids(rows))


def test_text_is_read_at_a_steady_rate(data: Path) -> None:
    """Twice the text takes about twice the time, and memory stays within a few times the text."""
    import tracemalloc

    text = content(data / "d16-text-tgid.trace.txt")
    seconds = []
    for copies in (40, 160):
        began = time.process_time()
        source = open_text("x", text * copies)
        seconds.append(time.process_time() - began)
        assert len(source.index) == 331 * copies
    assert seconds[1] < 4 * seconds[0] * 2.5
    big = text * 300
    tracemalloc.start()
    source = open_text("x", big)
    list(itertools.islice(columns(Trace(source)), 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(big)
