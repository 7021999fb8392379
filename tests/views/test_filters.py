"""Which events a report shows: names, expressions in the kernel's filter grammar, pids, cpus, times."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.errors import UsageError
from taskscope.recording import Recording
from taskscope.views.filters import parse_expression, parse_filter, select
from taskscope.views.report import report_json, with_stacks, without_stacks
from world import IDLE1, World

Make = Callable[..., World]
SH, LS, DB = ("bash", 911), ("ls", 2042), ("데이터베이스", 77)


@pytest.fixture
def trace(world: Make) -> Recording:
    """A shell that forks a child, which execs, and a database that preempts it."""
    w = world()
    w.switch(0, 0, "R", SH)
    w.fork(10, 0, ("bash", 2042))
    w.switch(50, 1, "R", ("bash", 2042), prev=IDLE1)
    w.exec(60, 1, "/bin/ls", "ls")
    w.switch(90, 1, "R+", DB)
    w.switch(120, 1, "D", LS)
    w.generate(130, 0, 15, LS, code=0)
    w.deliver(140, 1, 15)
    w.die(150, 1, SH, code=2)
    w.free(400, 0, LS)
    return w.open()


def lines(trace: Recording, *filters: str, **conditions: Any) -> list[dict[str, Any]]:
    """Return the chosen events as JSON objects."""
    rows = select(trace, [parse_filter(f) for f in filters], **conditions)
    return [json.loads(x) for x in b"".join(report_json(trace, rows)).splitlines()]


def names(found: list[dict[str, Any]]) -> list[str]:
    """Return the events' names."""
    return [x["event"] for x in found]


def test_everything_in_order(trace: Recording) -> None:
    """Without conditions all events come, in order of time."""
    found = lines(trace)
    assert len(found) == len(trace)
    assert [x["ts"] for x in found] == sorted(x["ts"] for x in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sched_switch", {"sched_switch"}),
        ("signal_*", {"signal_generate", "signal_deliver"}),
        ("sched_process_?xec", {"sched_process_exec"}),
        ("task_[nr]*", {"task_newtask", "task_rename"}),
    ],
)
def test_event_names(trace: Recording, text: str, expected: set[str]) -> None:
    """A filter without an expression chooses event types by name and wildcard."""
    assert set(names(lines(trace, text))) == expected


def test_systems(data: Path) -> None:
    """A system's name chooses all its events; ``system:event`` and ``system/event`` one of them."""
    trace = Recording.open(data / "d05-zombie.dat")
    assert set(names(lines(trace, "signal"))) == {"signal_generate", "signal_deliver"}
    one = lines(trace, "signal:signal_deliver")
    assert one
    assert one == lines(trace, "signal/signal_deliver") == lines(trace, "signal_deliver")
    assert lines(trace, "signal:signal_generate:sig==9") == lines(trace, "signal_generate:sig==9") != []


def test_several_filters_are_joined_by_or(trace: Recording) -> None:
    """What any of the filters chooses is shown once."""
    found = names(lines(trace, "task_newtask", "signal_generate:sig==15", "task_*"))
    assert sorted(found) == ["signal_generate", "task_newtask", "task_rename"]


# Each expression and the same condition in Python, over the fields of a sched_switch record.
CONDITIONS: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
    ("prev_pid==2042", lambda f: f["prev_pid"] == 2042),
    ("prev_pid != 0", lambda f: f["prev_pid"] != 0),
    ("next_pid>=911", lambda f: f["next_pid"] >= 911),
    ("next_pid < 0x400", lambda f: f["next_pid"] < 1024),
    ("next_pid & 1", lambda f: bool(f["next_pid"] & 1)),
    ("next_pid > -1", lambda _: True),
    ("next_pid > 99999999999999999999", lambda _: False),
    ('prev_comm == "bash"', lambda f: f["prev_comm"] == "bash"),
    ("prev_comm != bash", lambda f: f["prev_comm"] != "bash"),
    ('next_comm ~ "*베*"', lambda f: "베" in f["next_comm"]),
    ("prev_comm ~ 'swap*' || next_comm ~ 'swap*'", lambda f: f["prev_pid"] == 0 or f["next_pid"] == 0),
    ("prev_pid==2042 && next_pid==77", lambda f: f["prev_pid"] == 2042 and f["next_pid"] == 77),
    ("!(prev_pid==2042)", lambda f: f["prev_pid"] != 2042),
    (
        "!prev_pid==2042 && (next_pid==0 || next_pid==911)",
        lambda f: f["prev_pid"] != 2042 and f["next_pid"] in (0, 911),
    ),
    ("prev_pid==0 || prev_pid==77 && next_pid==2042", lambda f: f["prev_pid"] in (0, 77)),
]


@pytest.mark.parametrize(("text", "holds"), CONDITIONS, ids=[t for t, _ in CONDITIONS])
def test_expressions(trace: Recording, text: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    """An expression chooses exactly the records that fulfil it; && binds tighter than ||, ! tightest."""
    every = lines(trace, "sched_switch")
    assert lines(trace, f"sched_switch:{text}") == [x for x in every if holds(x["fields"])]


def test_common_fields(trace: Recording) -> None:
    """``common_pid``, ``CPU`` and ``COMM`` can be compared in every event; comm is the one of that time."""
    assert {x["pid"] for x in lines(trace, "*:common_pid==911")} == {911}
    assert {x["cpu"] for x in lines(trace, "sched_switch:CPU==1")} == {1}
    assert names(lines(trace, "signal*:COMM==ls")) == ["signal_deliver", "signal_generate"]


@pytest.mark.parametrize(
    "text",
    [
        "sched_switch:",
        "sched_switch:prev_pid==",
        "sched_switch:==5",
        "sched_switch:(prev_pid==5",
        "sched_switch:prev_pid==5)",
        "sched_switch:prev_pid==5 &&",
        "sched_switch:prev_pid==5 next_pid==6",
        "sched_switch:prev_comm<bash",
        'sched_switch:prev_comm=="bash',
        "sched_switch:" + "(" * 100 + "prev_pid==1" + ")" * 100,
        "sched_switch:" + "!" * 100 + "prev_pid==1",
        "",
        ":",
        "a b",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """A syntax error is a usage error that names the option, whatever is wrong with it."""
    with pytest.raises(UsageError, match="-F"):
        parse_filter(text)


@given(st.text(max_size=60))
def test_the_parser_survives_anything(text: str) -> None:
    """No text makes the parser fail otherwise than with a usage error."""
    with contextlib.suppress(UsageError):
        assert callable(parse_expression(text))


def test_unknown_names_are_said(trace: Recording) -> None:
    """An event that is not declared, or a field that the event lacks, is said with what there is."""
    with pytest.raises(UsageError, match=r"sched_swich.*did you mean sched_switch"):
        lines(trace, "sched_swich")
    with pytest.raises(UsageError, match=r"no field 'pid_prev'.*prev_pid"):
        lines(trace, "sched_switch:pid_prev==1")
    with pytest.raises(UsageError, match="declares no event"):
        lines(trace, "sched_switch:prev_pid")
    with pytest.raises(UsageError, match="string"):
        lines(trace, "sched_switch:prev_comm>5")


def test_pids_are_those_who_wrote_or_are_named(trace: Recording) -> None:
    """-p shows what a task wrote and what others recorded about it: its birth, the signal, its freeing."""
    found = lines(trace, pids=[2042])
    every = lines(trace)
    expected = [
        x
        for x in every
        if x["pid"] == 2042 or any(v == 2042 for k, v in x["fields"].items() if k == "pid" or k.endswith("_pid"))
    ]
    assert found == expected
    assert {"task_newtask", "signal_generate", "sched_process_free"} <= set(names(found))


@settings(max_examples=50, deadline=None)
@given(st.integers(-10, 500), st.integers(-10, 500))
def test_windows(first: int, last: int) -> None:
    """--from and --to are inclusive and need no event at their edges."""
    trace = _window_world()
    found = lines(trace, after=World.ns(first), before=World.ns(last))
    assert found == [x for x in lines(trace) if World.ns(first) <= x["ts"] <= World.ns(last)]


_worlds: list[Recording] = []


def _window_world() -> Recording:
    if not _worlds:
        import tempfile

        w = World(Path(tempfile.mkdtemp()))
        for us in (0, 5, 5, 40, 41, 300):
            w.switch(us, us % 2, "S", SH if w.on[us % 2][1] == 0 else (f"swapper/{us % 2}", 0))
        _worlds.append(w.open())
    return _worlds[0]


def test_cpus(trace: Recording) -> None:
    """-C shows the events of these cpus."""
    assert lines(trace, cpus=[0]) == [x for x in lines(trace) if x["cpu"] == 0]
    assert lines(trace, cpus=[7]) == []


def test_stacks_stand_behind_their_event(data: Path) -> None:
    """A chosen event brings its call stack along; without stacks, none is left."""
    trace = Recording.open(data / "d31-shellexec-612.dat")
    events = select(trace, [parse_filter("sched_process_exec")])
    rows = with_stacks(trace, events)
    assert set(events.tolist()) <= set(rows.tolist())
    added = sorted(set(rows.tolist()) - set(events.tolist()))
    assert added == sorted(r for e in events.tolist() if (r := trace.stacks.row(e)) is not None)
    everything = without_stacks(trace, trace.order)
    kinds = {trace.types[int(k)].name for k in np.unique(trace.source.index.type[everything])}
    assert "kernel_stack" not in kinds
