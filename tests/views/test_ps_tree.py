"""The process table as ps(1) prints it, the forest, and the creation tree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taskscope.recording import Recording
from taskscope.snapshot.snapshot import Snapshot, TaskRow
from taskscope.views.descriptors import ps_json
from taskscope.views.ps import FORMS, forest, ps_table
from taskscope.views.ps_cells import clock_time
from taskscope.views.text import Paint, width
from taskscope.views.tree import life_nodes, link, pick, tree_json, tree_table, walk
from world import IDLE1, THREAD, World

Make = Callable[..., World]
SH, PROG = ("bash", 911), ("prog", 2042)
S = 1_000_000_000


def task(pid: int, **known: object) -> TaskRow:
    """Return a row of which only `known` is known."""
    empty = dict.fromkeys(f.name for f in dataclasses.fields(TaskRow))
    usual = {"unavailable": {}, "pid": pid, "comm": f"task{pid}", "state": "S", "kind": "process", "tgid": pid}
    return TaskRow(**(empty | usual | known))  # type: ignore[arg-type]


def snapshot(*tasks: TaskRow, at: int = 100 * S) -> Snapshot:
    """Return a moment with some tasks."""
    return Snapshot(tasks, at, "by hand", {"uid": "not recorded", "start_time": "born before"})


KNOWN = task(
    2042, ppid=911, generation=0, state="R", prio=130, nice=10, pgid=2042, sid=911, tty="pts/0", tpgid=2042, uid=1000,
    rss_kib=480, size_kib=840, wchan="hrtimer_nanosleep", start_time=0, cputime=83 * S + 5, policy=0, comm="prog",
)  # fmt: skip


def test_ely() -> None:
    """-ely has the columns of ps -ely, each value in its own; PRI is the kernel's priority less 40."""
    lines = list(ps_table(snapshot(KNOWN, task(1, comm="init"))))
    assert lines == [
        "S   UID   PID  PPID  C PRI  NI   RSS    SZ WCHAN  TTY          TIME CMD",
        "R  1000  2042   911 83  90  10   480   210 hrtime pts/0    00:01:23 prog",
        "S     -     1     -  -   -   -     -     - -      -               - init",
    ]


def test_ejh() -> None:
    """-ejH indents a child below its parent."""
    lines = list(ps_table(snapshot(task(1, comm="init", ppid=0), task(911, ppid=1, comm="bash"), KNOWN), FORMS["ejH"]))
    assert lines == [
        "  PID  PGID   SID TTY          TIME CMD",
        "    1     -     - -               - init",
        "  911     -     - -               -   bash",
        " 2042  2042   911 pts/0    00:01:23     prog",
    ]


def test_axjf() -> None:
    """Axjf draws the forest, init's children at the margin; STAT has N and < for nice, l for threads, + in front."""
    tasks = (
        task(1, comm="init", ppid=0),
        task(50, ppid=1, comm="a", nice=-5, prio=115),
        KNOWN,
        task(911, ppid=1, comm="bash"),
        task(2043, tgid=911, kind="thread", comm="bash"),
        task(60, ppid=50, comm="b"),
        task(61, ppid=50, comm="c", state="Z"),
    )
    lines = list(ps_table(snapshot(*tasks), FORMS["axjf"]))
    assert lines == [
        " PPID   PID  PGID   SID TTY      TPGID STAT   UID   TIME COMMAND",
        "    0     1     -     - -            - S        -      - init",
        "    1    50     -     - -            - S<       -      - a",
        "   50    60     -     - -            - S        -      -  \\_ b",
        "   50    61     -     - -            - Z        -      -  \\_ c <defunct>",
        "    1   911     -     - -            - Sl       -      - bash",
        "  911  2042  2042   911 pts/0     2042 RN+   1000   1:23  \\_ prog",
    ]


def test_cpu_time() -> None:
    """Cpu time is hh:mm:ss with days before it; of a task older than the records it is unknown."""
    assert [clock_time(x) for x in (0, 59, 3661, 90061)] == ["00:00:00", "00:00:59", "01:01:01", "1-01:01:01"]
    old = task(5, sum_exec_runtime=7 * S)
    assert list(ps_table(snapshot(old)))[1].split()[-2] == "-"


def test_unknown_is_never_a_number() -> None:
    """What is unknown is a dash in every column of every format, and null with its reason in JSON."""
    bare = task(7, state="?", comm="x")
    for style in ("ely", "ejH", "axjf"):
        words = list(ps_table(snapshot(bare), FORMS[style]))[1].split()
        assert [w for w in words if w != "-"] == ["7", "x"]
    row = json.loads(next(iter(ps_json(snapshot(bare)))))
    assert row["state"] is None
    assert row["uid"] is None
    assert row["unavailable"] == {"uid": "not recorded", "start_time": "born before"}
    known = json.loads(next(iter(ps_json(snapshot(KNOWN)))))
    assert known["unavailable"] == {}
    assert known["at"] == 100 * S


def test_kernel_threads_and_hostile_names() -> None:
    """Kernel threads stand below kthreadd, in brackets where command lines do; names are escaped, wide ones line up."""
    tasks = (task(2, kind="kthread", comm="kthreadd", ppid=0), task(14, kind="kthread", comm="한글\x1b[2J"))
    lines = list(ps_table(snapshot(*tasks), FORMS["ejH"]))
    assert lines[1].endswith("- kthreadd")
    assert lines[2].endswith("-   한글\\x1b[2J")
    lines = list(ps_table(snapshot(*tasks), FORMS["axjf"]))
    assert lines[2].endswith("-  \\_ [한글\\x1b[2J]")
    painted = list(ps_table(snapshot(*tasks), FORMS["ejH"], paint=Paint(True)))
    assert "[2J" in painted[2]
    assert "\x1b[2J" not in painted[2]


def test_a_circle_of_parents_swallows_nobody() -> None:
    """Whatever the parents, every task is shown exactly once."""
    tasks = [task(1, ppid=2), task(2, ppid=1), task(3, ppid=3), task(4, ppid=99)]
    assert sorted(t.pid for t, *_ in forest(tasks)) == [1, 2, 3, 4]


def family(w: World) -> World:
    """A shell with a child that has a thread and an orphan; kernel threads; the child dies first."""
    w.switch(0, 0, "R", ("kthreadd", 2))
    w.fork(1, 0, ("kthreadd", 40), 0x800F00)
    w.switch(5, 0, "S", SH)
    w.fork(10, 0, ("bash", 2042))
    w.switch(20, 1, "R", ("bash", 2042), prev=IDLE1)
    w.exec(30, 1, "/bin/prog", "prog")
    w.fork(40, 1, ("prog", 2043), THREAD)
    w.fork(50, 1, ("prog", 2044))
    w.die(5000, 1, SH, code=1)
    w.switch(6000, 1, "R", ("prog", 2044))
    w.switch(9000, 1, "S", IDLE1)
    return w


def test_tree_of_a_recording(world: Make) -> None:
    """Over a recording the dead are there, marked and under their creator; threads and kernel threads are marked."""
    trace = family(world()).open()
    lines = list(tree_table(link(life_nodes(trace.lives))))
    shown = [line[8:] for line in lines[1:]]
    assert lines[0].split() == ["PID", "S", "TASK"]
    assert "[kthreadd]" in shown
    assert shown[shown.index("[kthreadd]") + 1] == "└─ [kthreadd]"
    at = shown.index("bash")
    assert shown[at + 1].startswith("└─ prog  ")
    assert shown[at + 2] == "   ├─ {prog}"
    assert shown[at + 3].startswith("   └─ prog")
    letters = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert letters["2042"] in "ZX"
    assert letters["2044"] == "S"
    assert len(lines) == len(trace.lives) + 1


def test_tree_at_a_moment(world: Make) -> None:
    """At a moment only those stand in the tree who existed then, under the name of then."""
    w = family(world())
    trace = w.open()
    lives = trace.lives

    def at(us: int) -> dict[str, str]:
        nodes = life_nodes(lives, w.ns(us), lives.at(w.ns(us)))
        return {x.split()[0]: x[8:] for x in list(tree_table(link(nodes)))[1:]}

    assert "2042" not in at(8)
    assert at(15)["2042"] == "└─ bash"
    assert at(35)["2042"] == "└─ prog"
    assert "2044" not in at(35)
    assert at(4000)["2044"] == "   └─ prog"


def test_tree_as_data(world: Make) -> None:
    """JSON has a line for each task, parents before children, with depth and parent."""
    trace = family(world()).open()
    rows = [json.loads(x) for x in tree_json(link(life_nodes(trace.lives)), trace.lives)]
    seen: set[tuple[int, int]] = set()
    for row in rows:
        parent = row["parent"]
        assert parent is None or (parent["pid"], parent["generation"]) in seen
        assert (row["depth"] == 0) == (parent is None)
        seen.add((row["pid"], row["generation"]))
    assert len(seen) == len(trace.lives)


def test_one_subtree(world: Make) -> None:
    """A task's own tree is the task and what came from it."""
    trace = family(world()).open()
    nodes = life_nodes(trace.lives)
    link(nodes)
    roots = pick(nodes, {trace.life(2042).ref})
    assert [n.ref.pid for n, *_ in walk(roots)] == [2042, 2043, 2044]


def test_a_deep_tree(world: Make) -> None:
    """A chain of thousands of children is drawn: no recursion."""
    w = world()
    w.switch(0, 0, "R", ("chain", 1000))
    for k in range(2000):
        w.fork(10 * k + 1, 0, ("chain", 1001 + k))
        w.switch(10 * k + 5, 0, "S", ("chain", 1001 + k))
    trace = w.open()
    nodes = link(life_nodes(trace.lives))
    assert max(depth for _, depth, _ in walk(nodes)) == 2000


@pytest.mark.parametrize("name", ["d10-subreaper.dat", "d06-threads.dat", "d08-signals.dat", "d51-threads-be64-v6.dat"])
def test_real_moments(data: Path, name: str) -> None:
    """At any moment of a recording the formats show the same processes, one line each, in 80 columns."""
    trace = Recording.open(data / name)
    for k in range(5):
        at = trace.start + (trace.end - trace.start) * k // 4
        moment = trace.lives.at(at)
        expected = sorted(str(t.pid) for t in moment.tasks if t.kind != "thread" and t.pid)
        for style, column in (("ely", 2), ("ejH", 0), ("axjf", 1)):
            lines = list(ps_table(moment, FORMS[style]))
            assert sorted(line.split()[column] for line in lines[1:]) == expected
            cut = list(ps_table(moment, FORMS[style], limit=80))
            assert max(map(width, cut)) <= 80
            assert [x.rstrip("…") for x in cut] == [y[: len(x.rstrip("…"))] for x, y in zip(cut, lines, strict=True)]
