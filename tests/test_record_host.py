"""The kernel of this machine, recorded while a workload runs, and read back as text and as raw pages.

Needs root and a tracefs; records into a tracing instance of its own, which is removed again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import TESTS
from facts import Evidence, disagreements, parse
from lives_json import Row, lives_of
from oracle import Oracle, read

TRACEFS = (
    next(
        (
            p
            for p in (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
            if (p / "instances").is_dir()
        ),
        None,
    )
    if os.geteuid() == 0
    else None
)
SYSTEMS = ("sched", "signal", "task")

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.limit(120),
    pytest.mark.skipif(
        TRACEFS is None or not os.access(TRACEFS / "instances", os.W_OK),
        reason="needs root and a tracefs that is mounted and writable",
    ),
]


@contextlib.contextmanager
def instance(name: str) -> Iterator[Path]:
    """Make a tracing instance and take it away again."""
    assert TRACEFS is not None
    folder = TRACEFS / "instances" / f"taskscope-{name}-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a tracing instance: {error}")
    try:
        (folder / "tracing_on").write_text("0")
        (folder / "buffer_size_kb").write_text("16384")
        yield folder
    finally:
        (folder / "tracing_on").write_text("0")
        for system in SYSTEMS:
            (folder / "events" / system / "enable").write_text("0")
        folder.rmdir()


def enable(folder: Path) -> None:
    """Enable the events of tasks, without the statistics of the scheduler."""
    for system in SYSTEMS:
        (folder / "events" / system / "enable").write_text("1")
    for event in (folder / "events" / "sched").glob("sched_stat_*"):
        (event / "enable").write_text("0")


def keep(folder: Path, target: Path) -> None:
    """Copy what an instance recorded into a folder of raw pages, with the text of the same records."""
    assert TRACEFS is not None
    target.mkdir()
    (target / "trace.txt").write_bytes((folder / "trace").read_bytes())
    for cpu in sorted((folder / "per_cpu").glob("cpu*")):
        (target / f"{cpu.name}.stats").write_bytes((cpu / "stats").read_bytes())
        pages = b""
        fd = os.open(cpu / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
        try:
            with contextlib.suppress(BlockingIOError):
                while page := os.read(fd, os.sysconf("SC_PAGESIZE")):
                    pages += page
        finally:
            os.close(fd)
        if pages:
            (target / f"{cpu.name}.raw").write_bytes(pages)
    events = TRACEFS / "events"
    for name in ("header_page", "header_event"):
        (target / name).write_bytes((events / name).read_bytes())
    formats = [
        p.read_bytes() for system in ("ftrace", *SYSTEMS) for p in sorted((events / system).glob("*/format"))
    ]
    (target / "formats").write_bytes(b"".join(formats))
    (target / "saved_cmdlines").write_bytes((TRACEFS / "saved_cmdlines").read_bytes())
    (target / "trace_clock").write_bytes((folder / "trace_clock").read_bytes())
    (target / "subbuf_size").write_text(f"{os.sysconf('SC_PAGESIZE')}\n")


@dataclass
class Recorded:
    """A recording of this machine: the folder of raw pages and text, and what the workload wrote down."""

    folder: Path
    facts: str

    @property
    def text(self) -> Path:
        """Return the text of the same records."""
        return self.folder / "trace.txt"


def record(tmp: Path, *, filtered: bool) -> Recorded:
    """Record the workload: its own tree only, or everything that runs here meanwhile."""
    facts = tmp / "facts.txt"
    workload = subprocess.Popen(
        [sys.executable, str(TESTS / "workload.py"), str(facts)], stdin=subprocess.PIPE
    )
    assert workload.stdin is not None
    with instance("filtered" if filtered else "all") as folder:
        if filtered:
            (folder / "options" / "event-fork").write_text("1")
            (folder / "set_event_pid").write_text(str(workload.pid))
        time.sleep(0.3)  # the interpreter has started and waits for its line
        enable(folder)
        (folder / "tracing_on").write_text("1")
        workload.stdin.write(b"go\n")
        workload.stdin.close()
        code = workload.wait(60)
        time.sleep(0.1)  # releases come a grace period later
        (folder / "tracing_on").write_text("0")
        assert code == 0
        keep(folder, tmp / "raw")
    return Recorded(tmp / "raw", facts.read_text())


@pytest.fixture(scope="module", params=["filtered", "all"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record the workload on this machine, once a module and way."""
    run = record(tmp_path_factory.mktemp(request.param), filtered=request.param == "filtered")
    fork = next(f for f in parse(run.facts) if f.verb == "fork")
    if f"child_pid={fork.num('child')}" not in run.text.read_text(errors="surrogateescape"):
        pytest.skip("this is a pid namespace of its own: the trace has other pids than the workload")
    return run


@pytest.mark.parametrize("container", ["folder", "text"])
def test_what_the_workload_wrote_is_what_lives_says(recorded: Recorded, container: str) -> None:
    """Creators, signals, statuses, adopters of a workload on this kernel are those it saw itself."""
    facts = parse(recorded.facts)
    assert len(facts) > 25
    assert disagreements(facts, lives_of(getattr(recorded, container)), Evidence()) == []


def tree(rows: list[Row], facts: str) -> set[int]:
    """Return the pids of the workload's tree."""
    pids = {int(f.words[k]) for f in parse(facts) for k in ("pid", "child", "tid") if f.has(k)}
    return {r["pid"] for r in rows if r["pid"] in pids}


def test_the_second_opinion_agrees_on_this_kernel(recorded: Recorded) -> None:
    """Times, switches, wakeups, migrations of the workload's tasks are what the text tells line by line."""
    with recorded.text.open(encoding="utf-8", errors="surrogateescape") as lines:
        oracle = Oracle(read(lines))
    rows = lives_of(recorded.text)
    wrong = []
    for row in rows:
        if row["pid"] not in tree(rows, recorded.facts):
            continue
        told = oracle.lives[row["pid"], row["generation"]]
        time_told = told.time
        reaped = row["reaped"] and row["reaped"]["at"]
        if reaped is not None and told.final is not None and time_told["zombie"]:
            time_told["zombie"] = max(reaped - told.final, 0)
        mine = (row["time"], row["switches"], row["wakeups"], row["migrations"], row["cpus"])
        other = (
            time_told,
            {"voluntary": told.voluntary, "involuntary": told.involuntary},
            told.wakeups,
            told.migrations,
            sorted(told.cpus),
        )
        wrong += [
            f"{row['pid']} ({row['comm']}): {a}, not {b}" for a, b in zip(mine, other, strict=True) if a != b
        ]
    assert wrong == []


def test_text_and_pages_agree_on_this_kernel(recorded: Recorded) -> None:
    """The raw pages and the text of the same records tell the same lives."""
    raw = {(r["pid"], r["generation"]): r for r in lives_of(recorded.folder)}
    text = {(r["pid"], r["generation"]): r for r in lives_of(recorded.text)}
    mine = tree(list(raw.values()), recorded.facts)
    assert mine
    for key in (k for k in raw if k[0] in mine):
        a, b = raw[key], text[key]
        for what in ("kind", "comm", "parent", "switches", "wakeups", "migrations", "cpus"):
            assert a[what] == b[what], (key, what)
        for part, whats in (
            ("born", ("by", "how", "clone_flags")),
            ("exit", ("code", "signal", "cause", "killer")),
        ):
            assert (a[part] is None) == (b[part] is None), (key, part)
            if a[part]:
                assert [a[part][w] for w in whats] == [b[part][w] for w in whats], (key, part)
        spans = sum(a["switches"].values()) * 2 + a["wakeups"] + 3
        assert all(abs(a["time"][s] - b["time"][s]) <= 1000 * spans for s in a["time"]), key
