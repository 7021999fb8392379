"""The shape of `taskscope lives --json`: keys, types, references, times in the order of a life."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conftest import DATA, sweep_folder
from lives_json import Row, cached_lives, readable, recordings, run_inside

_folder = sweep_folder()
ALL = recordings(DATA) + ([p for p in recordings(_folder) if not (DATA / p.name).exists()] if _folder else [])

TASK = {"pid": int, "generation": int}
LIFE: dict[str, Any] = {
    "pid": int,
    "generation": int,
    "tgid": (int, None),
    "kind": (str, None),
    "comm": str,
    "comms": [{"at": int, "comm": str}],
    "parent": (TASK, None),
    "born": (
        {
            "at": int,
            "by": (TASK, None),
            "how": (str, None),
            "clone_flags": (int, None),
            "exit_signal": (int, None),
            "stack": ([str], None),
        },
        None,
    ),
    "execs": [{"at": int, "filename": str, "old_pid": int}],
    "signals": [
        {"at": int, "sig": int, "code": int, "from": (TASK, None), "result": int, "delivered_at": (int, None)}
    ],
    "exit": (
        {
            "at": int,
            "code": (int, None),
            "signal": (int, None),
            "core": (bool, None),
            "cause": (str, None),
            "killer": (TASK, None),
            "stack": ([str], None),
            "inferred": [str],
        },
        None,
    ),
    "reaped": ({"at": (int, None), "by": (TASK, None)}, None),
    "freed": ({"at": int}, None),
    "adopted": [{"at": (int, None), "by": (TASK, None)}],
    "time": dict.fromkeys(
        (
            "running",
            "runnable",
            "sleeping",
            "blocked",
            "stopped",
            "traced",
            "parked",
            "idle",
            "zombie",
            "unknown",
        ),
        int,
    ),
    "switches": {"voluntary": int, "involuntary": int},
    "wakeups": int,
    "migrations": int,
    "cpus": [int],
    "gaps": int,
}
KINDS = {"process", "thread", "kthread", "idle"}
HOWS = {"fork", "vfork", "clone", "thread", "kthread", None}
CAUSES = {"exit", "signal", "group_exit", "exec", "oom", None}


def misfits(value: Any, shape: Any, where: str) -> Iterator[str]:
    """Yield every place where a value differs from its shape."""
    if isinstance(shape, tuple):
        if value is not None:
            yield from misfits(value, shape[0], where)
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        keys = set(value) - {"inferred"} | ({"inferred"} & set(shape))
        if keys != set(shape):
            yield f"{where}: keys {sorted(keys ^ set(shape))}"
        for key in set(shape) & set(value):
            yield from misfits(value[key], shape[key], f"{where}.{key}")
        if not isinstance(value.get("inferred", []), list):
            yield f"{where}.inferred is no list"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for k, item in enumerate(value):
            yield from misfits(item, shape[0], f"{where}[{k}]")
    elif type(value) is not shape:
        yield f"{where}: {value!r} is no {shape.__name__}"


def references(value: Any) -> Iterator[dict[str, int]]:
    """Yield every {pid, generation} inside a value."""
    if isinstance(value, dict):
        if set(value) == {"pid", "generation"}:
            yield value
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def each(recording: Path) -> Iterator[tuple[str, Row]]:
    """Yield name and row of each life."""
    for row in cached_lives(recording):
        yield f"{row['pid']}.{row['generation']} ({row['comm']})", row


def stem(recording: Path) -> str:
    """Return the recording's name."""
    return recording.name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_every_line_has_the_keys_and_types_of_the_contract(recording: Path) -> None:
    """A line has exactly the keys of the contract (and ``inferred``), each of its type; unknown is null."""
    wrong = [w for name, row in each(recording) for w in misfits(row, LIFE, name)]
    assert wrong == []
    for name, row in each(recording):
        assert row["kind"] in KINDS | {None}, name
        assert row["born"] is None or row["born"]["how"] in HOWS, name
        assert row["exit"] is None or row["exit"]["cause"] in CAUSES, name
        assert all(ns >= 0 for ns in row["time"].values()), name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_a_pid_and_generation_name_one_life(recording: Path) -> None:
    """No two lives share pid and generation, and the generations of a pid count from 0 without a hole."""
    pids: dict[int, list[int]] = {}
    for _, row in each(recording):
        pids.setdefault(row["pid"], []).append(row["generation"])
    for pid, generations in pids.items():
        if pid:
            assert sorted(generations) == list(range(len(generations))), pid
        assert len(set(generations)) == len(generations), pid


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_references_lead_to_lives(recording: Path) -> None:
    """Whoever is named as parent, creator, sender, killer or reaper is a life of the same file."""
    known = {(row["pid"], row["generation"]) for _, row in each(recording)}
    lost = [
        (name, ref)
        for name, row in each(recording)
        for ref in references(row)
        if (ref["pid"], ref["generation"]) not in known
    ]
    assert lost == []


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_a_life_goes_forward(recording: Path) -> None:
    """Birth, execs, exit, reaping and release of a life follow one another; so do names and signals."""
    for name, row in each(recording):
        born, ended, reaped, freed = row["born"], row["exit"], row["reaped"], row["freed"]
        steps = [born and born["at"], ended and ended["at"], reaped and reaped["at"], freed and freed["at"]]
        known = [at for at in steps if at is not None]
        assert known == sorted(known), name
        for what in ("comms", "execs", "signals"):
            times = [x["at"] for x in row[what]]
            assert times == sorted(times), (name, what)
        if ended:
            assert all(e["at"] <= ended["at"] for e in row["execs"]), name
        if born:
            assert all(e["at"] >= born["at"] for e in row["execs"] + row["signals"]), name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_parents_come_first(recording: Path) -> None:
    """Whoever created a life, and its parent, was there before it, and had not been released."""
    rows = {(r["pid"], r["generation"]): r for _, r in each(recording)}
    for name, row in each(recording):
        for ref in (row["parent"], row["born"] and row["born"]["by"]):
            if ref is None or row["born"] is None:
                continue
            other = rows[ref["pid"], ref["generation"]]
            assert other["born"] is None or other["born"]["at"] <= row["born"]["at"], name
            assert other["freed"] is None or other["freed"]["at"] >= row["born"]["at"], name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_an_exit_is_by_code_or_by_signal(recording: Path) -> None:
    """A code is 0…255 and excludes a signal; a killer sent the signal that ended the life."""
    for name, row in each(recording):
        ended = row["exit"]
        if not ended:
            continue
        assert ended["code"] is None or 0 <= ended["code"] <= 255, name
        assert ended["code"] is None or ended["signal"] is None, name
        if ended["cause"] in ("exit", "group_exit", "exec"):
            assert ended["signal"] is None or ended["cause"] == "group_exit", name
            assert not ended["core"], name
        if ended["killer"]:
            assert any(
                s["from"] == ended["killer"] and s["sig"] == ended["signal"] for s in row["signals"]
            ) or (row["kind"] == "thread"), name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_kinds_fit_pids(recording: Path) -> None:
    """A process leads its own group, a thread another's; only pid 0 is an idle task."""
    for name, row in each(recording):
        assert (row["kind"] == "idle") == (row["pid"] == 0), name
        if row["kind"] == "process":
            assert row["tgid"] in (row["pid"], None), name
        if row["kind"] == "thread":
            assert row["tgid"] != row["pid"], name
        if row["born"] and row["born"]["clone_flags"] is not None:
            is_thread = bool(row["born"]["clone_flags"] & 0x10000)  # CLONE_THREAD
            assert (row["kind"] == "thread") == is_thread, name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_comms_are_what_a_task_struct_can_hold(recording: Path) -> None:
    """A comm has at most 15 bytes, and the last of the history is the name of the life."""
    for name, row in each(recording):
        for comm in row["comms"]:
            plain = comm["comm"].encode("utf-8", "surrogateescape")
            assert len(plain) <= 15 or "\\" in comm["comm"], name
        if row["comms"]:
            assert row["comms"][-1]["comm"] == row["comm"], name


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_spans_are_the_times(recording: Path) -> None:
    """The spans of a life lie end to end, and their sums are its times."""
    import taskscope

    trace = taskscope.open(readable(recording))
    rows = {(r["pid"], r["generation"]): r for _, r in each(recording)}
    for life in trace.lives:
        spans = trace.lives.spans(life.ref)
        assert all(a.end == b.at for a, b in pairwise(spans)), life.ref
        sums = dict.fromkeys(life.time, 0)
        for span in spans:
            assert span.end >= span.at, life.ref
            if span.state.name.lower() in sums:
                sums[span.state.name.lower()] += span.dur
        assert sums == life.time == rows[life.pid, life.generation]["time"], life.ref


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_one_task_runs_on_a_cpu_at_a_time(recording: Path) -> None:
    """Running spans on one cpu never overlap: also where a filter or a loss hid a switch."""
    import taskscope

    trace = taskscope.open(readable(recording))
    by_cpu: dict[int, list[tuple[int, int, Any]]] = {}
    for life in trace.lives:
        for span in trace.lives.spans(life.ref):
            if span.state.name == "RUNNING" and span.end > span.at:
                assert span.cpu is not None, life.ref
                by_cpu.setdefault(span.cpu, []).append((span.at, span.end, life.ref))
    for cpu, spans in by_cpu.items():
        spans.sort(key=lambda s: s[:2])
        for a, b in pairwise(spans):
            assert a[1] <= b[0], (cpu, a, b)


def test_lines_are_compact_json_in_utf8(data: Path) -> None:
    """Each line is one JSON object in UTF-8 and holds no raw control character."""
    code, out, err = run_inside("lives", "--json", "-i", str(data / "d08-signals.dat"))
    assert (code, err) == (0, "")
    lines = out.decode("utf-8").splitlines()
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict)
        assert all(ch >= " " for ch in line)


@pytest.mark.parametrize("recording", ALL, ids=stem)
def test_the_schema_describes_every_line(recording: Path) -> None:
    """The schema that the manual shows accepts each line."""
    import jsonschema

    from taskscope.cli.schemas import schema

    validator = jsonschema.Draft202012Validator(schema("lives"))
    for name, row in each(recording):
        problems = [
            f"{name}: {'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(row)
        ]
        assert problems == []
