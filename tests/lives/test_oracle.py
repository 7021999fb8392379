"""`taskscope lives` against a second opinion: trace-cmd's reading, stepped through in plain Python.

The stored ``NAME.report-R.txt.xz`` beside the recordings are ``trace-cmd report -R -t`` of the same file.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from conftest import DATA, sweep_folder
from lives_json import Row, cached_lives, readable
from oracle import Oracle, Text, Told, ordered, read
from taskscope.lives.life import TaskRef

REPORT = ".report-R.txt.xz"
SHIPPED = sorted(DATA.glob("d[0-9]*" + REPORT))
_folder = sweep_folder()
SWEPT = [p for p in sorted(_folder.glob("*" + REPORT)) if not (DATA / p.name).exists()] if _folder else []
TRACEFS = sorted(p for p in [*DATA.glob("d[0-9]*.trace.txt"), *DATA.glob("d[0-9]*/trace.txt")])
#: Only the workload's own tree was recorded there: what other tasks did between is not in the text.
FILTERED = {"d70-host618-kill9-stack", "d71-host618-orphan"}
#: The text counts from 0 and names no stamps (latency format), or has lost its first half.
OTHER_TEXT = {"d17-text-latency", "d15-text-stack"}


def stem(path: Path) -> str:
    """Return the recording's name."""
    return path.parent.name if path.name == "trace.txt" else path.name.split(".")[0]


def recording_of(report: Path) -> Path:
    """Return the trace.dat (perhaps .xz) that a stored report was made from."""
    name = report.name.removesuffix(REPORT)
    return next(p for p in (report.with_name(f"{name}.dat"), report.with_name(f"{name}.dat.xz")) if p.exists())


@cache
def stored(report: Path) -> Text:
    """Read a stored report."""
    with lzma.open(report, "rt", encoding="utf-8", errors="surrogateescape") as lines:
        return ordered(read(lines))


def rows_of(lives: tuple[Row, ...]) -> dict[tuple[int, int], Row]:
    """Key the lives by (pid, generation); the idle task of cpu k by (0, k)."""
    rows = {}
    for row in lives:
        generation = int(row["comm"].split("/")[1]) if row["pid"] == 0 and "/" in row["comm"] else row["generation"]
        rows[row["pid"], generation] = row
    return rows


def expected_time(told: Told, row: Row, text: Text) -> dict[str, int]:
    """Return the oracle's sums, the zombie's cut where the life says that it was reaped.

    Which moment that is depends on what the recording shows of the reaper; here it must only be the time of a
    record between the last switch-out and the release.
    """
    time = told.time
    reaped = row["reaped"] and row["reaped"]["at"]
    if reaped is not None and told.final is not None and told.spans and told.spans[-1][2] == "zombie":
        last = told.freed if told.freed is not None else text.end
        assert reaped <= last, f"{told.pid}: reaped at {reaped}, after {last}"
        assert any(e.ts == reaped for e in text.events), f"{told.pid}: reaped at {reaped}, where nothing happened"
        time["zombie"] -= told.spans[-1][1] - max(reaped, told.final)
    return time


def compare(text: Text, lives: tuple[Row, ...], slack: int = 0) -> list[str]:
    """Return every difference between the oracle and the lives, one sentence each.

    :param slack: ns by which a sum may differ, per span (text has microseconds)
    """
    rows = rows_of(lives)
    taken = {
        pid: row["exit"]["at"]
        for (pid, _), row in rows.items()
        if row["exit"]
        and row["exit"]["cause"] == "exec"
        and any(e["old_pid"] == pid for r in lives for e in r["execs"])
    }
    oracle = Oracle(text, taken)
    wrong = [f"pid {p}.{g}: no such life" for p, g in oracle.lives if (p, g) not in rows]
    wrong += [
        f"pid {p}.{g}: only taskscope has it"
        for p, g in rows
        if (p, g) not in oracle.lives and not only_named(rows[p, g])
    ]
    for key, told in oracle.lives.items():
        row = rows.get(key)
        if row is None:
            continue
        name = f"pid {key[0]}.{key[1]} ({row['comm']})"
        time = expected_time(told, row, text)
        allowed = slack * (len(told.spans) + 1)
        wrong += [
            f"{name}: {state} {row['time'][state]}, not {ns}"
            for state, ns in time.items()
            if abs(row["time"][state] - ns) > allowed
        ]
        pairs = {
            "switches": (row["switches"], {"voluntary": told.voluntary, "involuntary": told.involuntary}),
            "wakeups": (row["wakeups"], told.wakeups),
            "migrations": (row["migrations"], told.migrations),
            "cpus": (row["cpus"], sorted(told.cpus)),
            "born": (row["born"] is not None, told.born),
            "execs": ([e["filename"] for e in row["execs"]], told.execs),
            "exit": (row["exit"] is not None, bool(told.exits) or told.ended is not None),
        }
        if told.ended is None and not any(e["old_pid"] != row["pid"] for e in row["execs"]):
            pairs["freed"] = (row["freed"] is not None, told.freed is not None)
            if row["freed"] and told.freed and abs(row["freed"]["at"] - told.freed) > slack:
                wrong.append(f"{name}: freed at {row['freed']['at']}, not {told.freed}")
        wrong += [f"{name}: {what} {a}, not {b}" for what, (a, b) in pairs.items() if a != b]
    return wrong


def only_named(row: Row) -> bool:
    """Tell whether a life is there only because an event names its pid: it has no time in any known state."""
    return not any(ns for state, ns in row["time"].items() if state != "unknown")


@pytest.mark.parametrize("report", SHIPPED + SWEPT, ids=stem)
def test_lives_equal_the_second_opinion(report: Path) -> None:
    """Times, switches, wakeups, migrations, cpus, births, execs and ends are exactly the oracle's."""
    assert compare(stored(report), cached_lives(recording_of(report))) == []


@pytest.mark.parametrize("report", SHIPPED + SWEPT, ids=stem)
def test_times_add_up_to_the_length_of_the_life(report: Path) -> None:
    """The states of a life leave no hole and no overlap between its beginning and its end."""
    text = stored(report)
    oracle = Oracle(text)
    wrong = []
    for key, row in rows_of(cached_lives(recording_of(report))).items():
        told = oracle.lives.get(key)
        if told is None or told.ended is not None:
            continue
        begin = row["born"]["at"] if row["born"] else text.start
        ends = [row["reaped"] and row["reaped"]["at"], row["freed"] and row["freed"]["at"], text.end]
        end = next(x for x in ends if x is not None)
        if told.state == "dead" and told.final is not None and not told.time["zombie"]:
            end = told.final
        if told.final is not None:
            end = max(end, told.final)
        if sum(row["time"].values()) != end - begin:
            wrong.append(f"pid {key}: {sum(row['time'].values())}, not {end - begin}")
    assert wrong == []


@pytest.mark.parametrize("path", [p for p in TRACEFS if stem(p) not in OTHER_TEXT | FILTERED], ids=stem)
def test_lives_of_a_text_equal_the_second_opinion(path: Path) -> None:
    """Tracefs' own text gives the lives that its lines tell, in the order of the lines."""
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        text = read(lines)
    recording = path if path.name != "trace.txt" else path.parent
    slack = 0 if recording == path else 1000
    assert compare_text(text, recording, slack) == []


def compare_text(text: Text, recording: Path, slack: int) -> list[str]:
    """Compare a text with the lives of itself, or, with `slack`, with those of the raw pages beside it."""
    if slack:
        # Zombies end where the raw pages say, to the ns: the text cannot name that moment.
        lives = tuple({**r, "reaped": None} if r["reaped"] else r for r in cached_lives(recording))
        return [w for w in compare(text, lives, slack) if ": zombie " not in w]
    return compare(text, cached_lives(recording))


@pytest.mark.parametrize("folder", [p.parent for p in TRACEFS if p.name == "trace.txt"], ids=lambda p: p.name)
def test_text_and_pages_of_one_run_tell_the_same_lives(folder: Path) -> None:
    """The raw pages and the kernel's own text of the same run give the same lives, to the microsecond."""
    raw, text = rows_of(cached_lives(folder)), rows_of(cached_lives(folder / "trace.txt"))
    assert set(raw) == set(text)
    for key, a in raw.items():
        b = text[key]
        for what in ("kind", "comm", "parent", "switches", "wakeups", "migrations", "cpus"):
            assert a[what] == b[what], (key, what)
        for what in ("exit", "born", "reaped", "freed"):
            assert (a[what] is None) == (b[what] is None), (key, what)
        if a["exit"]:
            for what in ("code", "signal", "core", "cause", "killer"):
                assert a["exit"][what] == b["exit"][what], (key, what)
        assert [(s["sig"], s["code"], s["from"], s["result"]) for s in a["signals"]] == [
            (s["sig"], s["code"], s["from"], s["result"]) for s in b["signals"]
        ], key
        spans = sum(a["switches"].values()) * 2 + a["wakeups"] + 3
        for state in a["time"]:
            assert abs(a["time"][state] - b["time"][state]) <= 1000 * spans, (key, state)


@pytest.mark.parametrize("path", [p for p in TRACEFS if stem(p) not in OTHER_TEXT | FILTERED], ids=stem)
def test_wakers_are_those_of_sched_waking(path: Path) -> None:
    """Who woke a task, and when, is told by sched_waking; one from an interrupt has no waker."""
    import taskscope

    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        oracle = Oracle(read(lines))
    lives = taskscope.open(path).lives
    compared = 0
    for (pid, generation), told in oracle.lives.items():
        if pid == 0:
            continue
        waits = {s.at: s for s in lives.spans(TaskRef(pid, generation)) if s.state.name == "RUNNABLE"}
        for at, (when, who) in told.woken.items():
            if at not in waits:  # of no length
                continue
            span = waits[at]
            assert span.woken_at == when, (pid, at)
            assert (span.waker and span.waker.pid) == who, (pid, at)
            assert span.irq_waker == (who is None), (pid, at)
            compared += 1
    assert compared > 10


@pytest.mark.tracecmd
@pytest.mark.parametrize("report", SHIPPED, ids=stem)
def test_the_stored_reports_are_what_trace_cmd_says(report: Path) -> None:
    """The stored text that the second opinion rests on is what trace-cmd prints of the file today."""
    if shutil.which("trace-cmd") is None:
        pytest.skip("trace-cmd is not installed")
    told = subprocess.run(
        ["trace-cmd", "report", "-R", "-t", "-i", readable(recording_of(report))],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    fresh = ordered(read(told.decode(errors="surrogateescape").splitlines()))
    assert [(*e[:3], e.name) for e in fresh.events] == [(*e[:3], e.name) for e in stored(report).events]


def test_the_oracle_accounts_for_every_cpu() -> None:
    """Running time over all tasks, idle ones too, is the whole time from a cpu's first record on."""
    for report in SHIPPED:
        text = stored(report)
        if text.gaps:
            continue
        first: dict[int, int] = {}
        for e in text.events:
            first.setdefault(e.cpu, e.ts)
        oracle = Oracle(text)
        running = sum(life.time["running"] for life in oracle.lives.values())
        whole = sum(text.end - ts for ts in first.values())
        # A thread that changes its pid by exec runs between under both.
        assert running == whole or any(life.ended for life in oracle.lives.values()), stem(report)
