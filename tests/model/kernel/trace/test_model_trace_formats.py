"""Event formats against the ``format`` files of real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskscope.ftrace.format import parse_format
from taskscope.ftrace.open import open_source
from taskscope.model.include.linux.trace_events import Abi, TraceEventCall
from taskscope.model.kernel.trace import trace, trace_events
from taskscope.model.kernel.trace.syscalls_metadata import syscalls_metadata
from taskscope.model.kernel.trace.trace_syscalls import _enter_declaration, _exit_declaration
from watched import DATA, running

SYSTEMS = frozenset(
    {"ftrace", "sched", "task", "signal", "raw_syscalls", "syscalls", "printk", "timer", "irq", "workqueue", "oom"}
)
LIVE = Path("/sys/kernel/tracing/events")


def formats_of(recording: str) -> dict[tuple[str, str], bytes]:
    """Return the format files that a real recording carries."""
    source = open_source(str(DATA / recording))
    named = {}
    for system, text in source.recorded.formats:  # type: ignore[attr-defined]
        named[system, text.split(b"\n", 1)[0][6:].decode()] = text
    return {key: text for key, text in named.items() if key[0] in SYSTEMS}


def without_id(text: bytes) -> bytes:
    """Return a format without its id, which every build gives out anew."""
    return b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"ID: "))


@pytest.mark.parametrize(
    ("recording", "flavour"),
    [
        ("d03-shellexec.dat", "6.1-x86_64"),
        ("d08-signals.dat", "6.1-x86_64"),
        ("d09-sched.dat", "6.1-x86_64"),
        ("d11-oom.dat", "6.1-x86_64"),
        ("d14-instances.dat", "6.1-x86_64"),
        ("d70-host618-kill9-stack", "6.18-x86_64"),
    ],
)
def test_equal_to_recorded(recording: str, flavour: str) -> None:
    """The formats of a flavour are, byte for byte and id for id, those that recordings of this kernel carry."""
    real = formats_of(recording)
    with running(flavour) as m:
        trace.top_trace_array(m)
        ours = {(c.system, c.name): c.format_text for c in m.trace_events}
    assert len(real) > 30
    for key, text in real.items():
        assert ours[key] == text, key


@pytest.mark.root
@pytest.mark.skipif(not LIVE.is_dir(), reason="no tracefs is mounted at /sys/kernel/tracing")
def test_equal_to_running_kernel() -> None:
    """On a host that runs the 6.18 of the flavour, every event of the model has the format file of the host."""
    if "6.18.44" not in Path("/proc/sys/kernel/osrelease").read_text():
        pytest.skip("the host runs another kernel than the flavour 6.18-x86_64")
    with running("6.18-x86_64") as m:
        trace.top_trace_array(m)
        compared = 0
        for call in m.trace_events:
            assert call.format_text == (LIVE / call.system / call.name / "format").read_bytes(), call
            compared += 1
    assert compared > 400


@pytest.mark.parametrize(
    ("recording", "abi"),
    [
        ("d60-signals-32.dat", Abi(4, True, 4)),
        ("d62-raw-32", Abi(4, True, 4)),
        ("d53-raw-be64", Abi(8, False)),
        ("d31-shellexec-612.dat", Abi(8, False)),
        ("d35-sched-612.dat", Abi(8, False)),
    ],
)
def test_layout_on_other_machines(recording: str, abi: Abi) -> None:
    """Fields are laid out as compilers of 32-bit machines and of machines with unsigned char do it."""
    version = (6, 12) if "612" in recording else (6, 1)
    real = formats_of(recording)
    compared = 0
    declared = [d for d in trace_events.declarations() if d.since <= version < d.before]
    declared += [d for s in syscalls_metadata() for d in (_enter_declaration(s, abi), _exit_declaration(s))]
    for d in declared:
        text = real.get((d.system, d.name))
        # 6.12 stands between two shapes of these: v6.11 took vruntime away, v6.14 made strings of the names.
        if text is not None and (version, d.name) != ((6, 12), "sched_stat_runtime") and d.system != "ftrace":
            assert without_id(TraceEventCall(d, 1, abi).format_text) == without_id(text), d.name
            compared += 1
    assert compared > 10


def test_arm_419_layout() -> None:
    """4.19-arm's records have 32-bit longs, unsigned char, and 64-bit numbers on even words."""
    with running("4.19-arm") as m:
        trace.top_trace_array(m)
        calls = {c.name: c for c in m.trace_events}
    switch = {f.name: (f.offset, f.size, f.signed) for f in calls["sched_switch"].fields}
    assert switch["prev_state"] == (32, 4, 1)
    assert switch["next_comm"] == (36, 16, 0)
    assert switch["next_prio"] == (56, 4, 1)
    assert calls["sched_switch"].size == 60
    # As kernels from 4.14 to 4.19 print it.
    assert (
        '"|", { 0x01, "S" }, { 0x02, "D" }, { 0x04, "T" }, { 0x08, "t" }, { 0x10, "X" }, { 0x20, "Z" }, { 0x40, "P" }, '
        '{ 0x80, "I" }) : "R", REC->prev_state & (((0x0000 | 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | '
        '0x0040) + 1) << 1) ? "+" : "", REC->next_comm, REC->next_pid, REC->next_prio'
    ) in calls["sched_switch"].print_fmt
    assert [f.name for f in calls["sched_wakeup"].fields] == ["comm", "pid", "prio", "success", "target_cpu"]
    assert {f.name: f.offset for f in calls["sched_stat_runtime"].fields}["runtime"] == 32


@pytest.mark.parametrize("flavour", ["4.19-arm", "6.1-x86_64", "6.18-x86_64"])
def test_understood_by_reader(flavour: str) -> None:
    """Our reader parses every format into the fields that the record is packed from; no id is used twice."""
    with running(flavour) as m:
        trace.top_trace_array(m)
        assert len({c.id for c in m.trace_events}) == len(m.trace_events)
        for call in m.trace_events:
            parsed = parse_format(call.format_text, call.system)
            assert parsed.id == call.id
            assert [(f.name, f.offset, f.size) for f in parsed.fields] == [
                (f.name, f.offset, f.size) for f in call.fields
            ]
