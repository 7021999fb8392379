"""The tables of lives, kills, forks, sched: right values, and lines that fit 80 columns and survive awk."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from test_story import killed

from taskscope.recording import Recording
from taskscope.views.forks import forks_json, forks_table
from taskscope.views.kills import kills, kills_json, kills_table
from taskscope.views.lives_table import lives_table
from taskscope.views.sched import SchedStats, order_by, sched_json, sched_table, worst_table
from taskscope.views.text import width
from world import FORK, IDLE1, THREAD, VFORK, World

Make = Callable[..., World]
SH, PROG = ("bash", 911), ("prog", 2042)


def table(lines: object) -> list[dict[str, str]]:
    """Split the lines of a table by its header, the last column taking the rest."""
    rows = list(lines)  # type: ignore[call-overload]
    names = rows[0].split()
    return [dict(zip(names, row.split(None, len(names) - 1), strict=False)) for row in rows[1:]]


def test_lives(world: Make) -> None:
    """One line a task: identity, kind, parent, birth, times, name and end."""
    trace = killed(world()).open()
    rows = {r["PID"]: r for r in table(lives_table(trace.lives, trace.lives)) if r["PID"] != "0"}
    prog = rows["2042"]
    assert (prog["GEN"], prog["K"], prog["PPID"], prog["BORN"]) == ("0", "p", "911", "100.000010")
    assert (prog["LIVED"], prog["RUN"], prog["SLEEP"]) == ("13.4ms", "697us", "12.5ms")
    assert (prog["COMM"], prog["END"]) == ("prog", "SIGKILL by 911")
    shell = rows["911"]
    assert (shell["PPID"], shell["BORN"], shell["END"]) == ("-", "-", "alive")
    assert shell["LIVED"].startswith(">")


def test_wide_lives_say_more(world: Make) -> None:
    """-v adds waits, blocks, wakeups, switches and migrations."""
    trace = killed(world()).open()
    life = trace.life(2042)
    row = next(r for r in table(lives_table(trace.lives, [life], wide=True)))
    assert (row["WAKE"], row["VOL"], row["INVOL"], row["MIGR"]) == (str(life.wakeups), "6", "0", "0")


def test_kinds(world: Make) -> None:
    """Processes, threads, kernel threads and idle tasks have a letter each."""
    w = world()
    w.switch(0, 0, "R", SH)
    w.fork(10, 0, ("bash", 2042))
    w.fork(20, 0, ("bash", 2043), THREAD)
    w.switch(100, 0, "S", ("kthreadd", 2))
    w.fork(110, 0, ("kthreadd", 3000), 0x800F00)
    trace = w.open()
    letters = {r["PID"] + "." + r["GEN"]: r["K"] for r in table(lives_table(trace.lives, trace.lives))}
    assert letters["2042.0"] == "p"
    assert letters["2043.0"] == "t"
    assert letters["3000.0"] == "k"
    assert letters["0.0"] == "i"


def test_kills(world: Make) -> None:
    """Signals between tasks and deaths are listed; SIGCHLD of a child that ended only with --all."""
    trace = killed(world()).open()
    found = kills(trace.lives)
    rows = table(kills_table(trace.lives, found))
    assert rows == [
        {
            "TIME": "100.013402", "CPU": "0", "PID": "911", "COMM": "bash", "SIGNAL": "SIGKILL", "TPID": "2042",
            "TCOMM": "prog", "RESULT": "killed",
        }
    ]  # fmt: skip
    assert [k.sig for k in kills(trace.lives, every=True)] == [9, 17]
    assert [k.deadly for k in kills(trace.lives, deaths=True)] == [True]
    data = [json.loads(x) for x in b"".join(kills_json(found)).splitlines()]
    assert data == [
        {
            "at": World.ns(13402), "cpu": 0, "sig": 9, "code": 0, "from": {"pid": 911, "generation": 0},
            "to": {"pid": 2042, "generation": 0}, "comm": "prog", "result": 0, "delivered_at": World.ns(13425),
            "deadly": True,
        }
    ]  # fmt: skip


def test_a_handled_signal_is_no_death(world: Make) -> None:
    """A handler, a default action, an ignored and a pending signal each say so."""
    w = world()
    w.switch(0, 0, "R", SH)
    w.switch(1, 1, "R", PROG, prev=IDLE1)
    w.generate(10, 0, 15, PROG)
    w.deliver(20, 1, 15, handler=0x4000)
    w.generate(30, 0, 20, PROG)
    w.deliver(40, 1, 20)
    w.generate(50, 0, 28, PROG, result=1)
    w.generate(60, 0, 10, PROG, result=2)
    w.generate(70, 0, 12, PROG)
    w.switch(90, 1, "S", IDLE1)
    trace = w.open()
    rows = {r["SIGNAL"]: r["RESULT"] for r in table(kills_table(trace.lives, kills(trace.lives, every=True)))}
    assert rows == {
        "SIGTERM": "handler", "SIGTSTP": "default", "SIGWINCH": "ignored", "SIGUSR1": "already pending",
        "SIGUSR2": "not delivered",
    }  # fmt: skip
    assert "SIGWINCH" not in {r["SIGNAL"] for r in table(kills_table(trace.lives, kills(trace.lives)))}


def test_kills_of_a_real_recording(data: Path) -> None:
    """Every death by a signal that the workload reports is listed once, with its signal and killer."""
    trace = Recording.open(data / "d08-signals.dat")
    facts = (data / "d08-signals.facts.txt").read_text()
    reported = {int(p): int(s) for p, s in re.findall(r"reaped pid=(\d+) by=\d+ signal=(\d+)", facts)}
    sent = {(int(t), int(s), int(b)) for t, s, b in re.findall(r"kill target=(\d+) sig=(\d+) by=(\d+)", facts)}
    assert len(reported) >= 6
    deaths = kills(trace.lives, deaths=True)
    assert {k.target.pid: k.sig for k in deaths if k.target.pid in reported} == reported
    assert len({k.target.ref for k in deaths}) == len(deaths)
    shown = {(k.target.pid, k.sig, k.sender.pid) for k in kills(trace.lives) if k.sender is not None}
    assert sent <= shown


def test_forks(world: Make) -> None:
    """One line a creation: when, where, by whom under its name of then, how, with which flags."""
    w = world()
    w.switch(0, 0, "R", SH)
    w.fork(10, 0, ("bash", 2042), FORK)
    w.fork(20, 0, ("bash", 2043), VFORK)
    w.exec(30, 0, "/bin/zsh", "zsh")
    w.fork(40, 0, ("zsh", 2044), THREAD)
    trace = w.open()
    rows = table(forks_table(trace.lives, trace.lives))
    assert [(r["TIME"], r["PID"], r["COMM"], r["CHILD"], r["HOW"]) for r in rows] == [
        ("100.000010", "911", "bash", "2042", "fork"),
        ("100.000020", "911", "bash", "2043", "vfork"),
        ("100.000040", "911", "zsh", "2044", "thread"),
    ]
    assert [r["FLAGS"] for r in rows] == ["0x01200000", "0x00004100", "0x003d0f00"]
    words = [r["FLAGS"] for r in table(forks_table(trace.lives, trace.lives, wide=True))]
    assert words[:2] == ["CHILD_CLEARTID|CHILD_SETTID", "VM|VFORK"]
    data = [json.loads(x) for x in b"".join(forks_json(trace.lives)).splitlines()]
    assert [x["clone_flags"] for x in data] == [FORK, VFORK, THREAD]
    assert data[0]["by"] == {"pid": 911, "generation": 0}


def test_latencies(world: Make) -> None:
    """Average, 99th percentile and worst wakeup latency are those of the wakeups, worst first with their wakers."""
    w = world()
    waits = [5, 10, 20, 40, 1000]
    w.switch(0, 0, "R", SH)
    w.switch(1, 1, "S", IDLE1, prev=PROG)
    for k, wait in enumerate(waits):
        at = 100 + 3000 * k
        flags = "d.h2." if k == 2 else "d..2."
        w.waking(at, 0, PROG, flags=flags, target=1)
        w.wakeup(at + 1, 0, PROG, flags=flags, target=1)
        w.switch(at + 1 + wait, 1, "R", PROG)
        w.switch(at + 2000, 1, "S", IDLE1)
    trace = w.open()
    stats = SchedStats(trace.lives)
    life = trace.life(2042)
    latency = stats.latency(life)
    assert (latency.count, latency.mean, latency.p99, latency.worst) == (5, 215_000, 1_000_000, 1_000_000)
    worst = stats.worst([life], 3)
    assert [x.latency // 1000 for x in worst] == [1000, 40, 20]
    rows = table(worst_table(stats, worst))
    assert [(r["LATENCY"], r["TIME"], r["CPU"], r["WAKER"]) for r in rows] == [
        ("1.00ms", "100.012101", "1", "bash 911"),
        ("40.0us", "100.009101", "1", "bash 911"),
        ("20.0us", "100.006101", "1", "(interrupt)"),
    ]
    assert stats.latency(trace.life(911)).worst is None
    late = SchedStats(trace.lives, after=w.ns(12000))
    assert late.latency(life).count == 1
    early = SchedStats(trace.lives, before=w.ns(200))
    assert early.latency(life).worst == 5_000


def test_sched_table(world: Make) -> None:
    """Times, latencies and switch counts of a life stand in its line; the order is the one asked for."""
    trace = killed(world()).open()
    stats = SchedStats(trace.lives)
    chosen = [x for x in trace.lives if x.pid]
    rows = {r["PID"]: r for r in table(sched_table(stats, chosen))}
    assert rows["2042"]["COMM"] == "prog"
    assert (rows["2042"]["SLEEP"], rows["2042"]["VOL"], rows["2042"]["INV"]) == ("12.5ms", "6", "0")
    assert rows["911"]["MAX"] == "-"
    wide = next(r for r in table(sched_table(stats, chosen, wide=True)) if r["PID"] == "2042")
    assert (wide["WAKE"], wide["AVG"]) == ("5", "43.0us")
    assert [x.pid for x in order_by(stats, chosen, "run")] == [911, 2042]
    assert [x.pid for x in order_by(stats, chosen, "max")] == [2042, 911]
    assert [x.pid for x in order_by(stats, chosen, "sleep")] == [2042, 911]
    assert [x.pid for x in order_by(stats, chosen, "pid")] == [911, 2042]
    row = json.loads(next(iter(sched_json(stats, [trace.life(2042)]))))
    assert row["latency"]["count"] == 5
    assert row["time"]["sleeping"] == 12_505_000


@pytest.mark.parametrize(
    "name", ["d06-threads.dat", "d08-signals.dat", "d12-overrun.dat", "d19-storm.dat", "d11-oom.dat"]
)
def test_tables_fit_80_columns(data: Path, name: str) -> None:
    """The default tables of real recordings fit 80 columns, one line a record."""
    trace = Recording.open(data / name)
    lives = trace.lives
    stats = SchedStats(lives)
    for lines in (
        lives_table(lives, lives),
        kills_table(lives, kills(lives, every=True)),
        forks_table(lives, lives),
        sched_table(stats, list(lives)),
        worst_table(stats, stats.worst(list(lives), 10)),
    ):
        shown = list(lines)
        assert max(map(width, shown)) <= 80
        assert all(line.strip() for line in shown)
    assert len(list(lives_table(lives, lives))) == len(lives) + 1
