"""The systrace text: each line in the form that Catapult and Perfetto read, the same events, and they read it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from browser import catapult, perfetto_ui
from lives_json import readable
from taskscope.errors import UsageError
from taskscope.recording import Recording
from taskscope.views.filters import select
from taskscope.views.systrace import systrace

#: lineREWithTGID of Catapult's ftrace_importer.html
CATAPULT = re.compile(
    r"^\s*(.+)-(\d+)\s+\(\s*(\d+|-+)\)\s\[(\d+)\]\s+[dX.][Nnp.][Hhs.][0-9a-f.]\s+(\d+\.\d+):\s+(\S+):\s(.*)$"
)

RECORDINGS = ("d06-threads.dat", "d08-signals.dat", "d12-overrun.dat", "d31-shellexec-612.dat", "d50-signals-be64.dat",
              "d60-signals-32.dat", "d15-text-stack.trace.txt", "d80-perf-script-signals.txt", "d18-raw4k")


def text_of(trace: Recording) -> str:
    """Return the whole text."""
    return b"".join(systrace(trace.lives, trace.order)).decode()


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_line_is_read_by_catapult(data: Path, name: str) -> None:
    """Each line but the comments fits Catapult's expression; time, cpu, pid and event are those of the records."""
    trace = Recording.open(readable(data / name))
    text = text_of(trace)
    assert text.startswith("# tracer: nop\n")
    lines = [m.groups() for m in map(CATAPULT.match, (x for x in text.splitlines() if x[:1] != "#")) if m is not None]
    assert len(lines) == sum(x[:1] != "#" for x in text.splitlines())
    types = {t.index: t for t in trace.types if t.system != "ftrace" or t.name == "print"}
    rows = [r for r in trace.order.tolist() if int(trace.source.index.type[r]) in types]
    assert len(lines) == len(rows)
    pids = trace.source.pids(trace.order).tolist()
    pid_of = dict(zip(trace.order.tolist(), pids, strict=True))
    for row, (_, pid, _, cpu, at, event, _) in zip(rows, lines, strict=True):
        ts = int(trace.source.index.ts[row])
        expected = types[int(trace.source.index.type[row])].name
        assert (int(pid), int(cpu)) == (pid_of[row], int(trace.source.index.cpu[row]))
        assert at == f"{(ts + 500) // 1000 / 1e6:.6f}"
        assert event == expected or expected == "print"


def test_thread_groups_are_those_of_the_lives(data: Path) -> None:
    """The column of thread groups puts threads under their process, and a reused pid under its own."""
    trace = Recording.open(data / "d06-threads.dat")
    groups = {life.pid: life.tgid for life in trace.lives}
    shown = {(int(m[2]), m[3].strip()) for m in map(CATAPULT.match, text_of(trace).splitlines()) if m}
    assert shown == {(pid, str(groups[pid])) for pid, _ in shown}
    assert {(169, "168"), (168, "168")} <= shown


def test_losses_are_told(data: Path) -> None:
    """A loss is a comment, with its number where that is known, before the cpu's first record behind it."""
    trace = Recording.open(data / "d12-overrun.dat")
    lines = text_of(trace).splitlines()
    at = lines.index("# CPU:1 [LOST 165 EVENTS]")
    behind = next(m for m in map(CATAPULT.match, lines[at + 1:]) if m and int(m[4]) == 1)
    assert behind[5] == f"{(trace.lost[0].end or 0) / 1e9:.6f}"
    assert "# CPU:1 [LOST EVENTS]" in lines


def test_a_name_cannot_forge_a_line(data: Path, tmp_path: Path) -> None:
    """A task that calls itself like the columns of a line does not change what is read."""
    evil = b"-1 [0] 1.1: x: "
    whole = (data / "d15-text-stack.trace.txt").read_bytes()
    line = next(x for x in whole.splitlines() if b"sched_wakeup:" in x)
    file = tmp_path / "x.txt"
    file.write_bytes(whole.replace(line, line.replace(line.split(b"-")[0].strip(), evil[:15], 1), 1))
    trace = Recording.open(file)
    found = [m for m in map(CATAPULT.match, text_of(trace).splitlines()) if m]
    assert Counter(m[6] for m in found)["x"] == 0


def test_cycles_are_refused(data: Path) -> None:
    """A clock that counts cycles has no seconds, which the format wants."""
    trace = Recording.open(data / "t04-counter.trace.txt")
    with pytest.raises(UsageError, match="counts cycles"):
        text_of(trace)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["d06-threads.dat", "d60-signals-32.dat"])
def test_the_perfetto_ui_reads_it(data: Path, tmp_path: Path, name: str) -> None:
    """Perfetto's own reader takes every line, and finds every switch and every thread's process."""
    trace = Recording.open(data / name)
    file = tmp_path / "x.txt"
    file.write_text(text_of(trace))
    with perfetto_ui(file) as ui:
        assert ui.errors() == {}
        assert ui.query("select count(*) n from sched")[0]["n"] == len(trace.rows("sched_switch"))
        groups = {r["tid"]: r["pid"] for r in ui.query("select tid, pid from thread join process using(upid)")}
        assert groups == groups | {x.pid: x.tgid for x in trace.lives if x.kind == "thread"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["d06-threads.dat", "d08-signals.dat"])
def test_catapult_reads_it(data: Path, name: str) -> None:
    """Catapult's own importer takes every line, makes a slice of each run and puts each thread under its process."""
    trace = Recording.open(data / name)
    with catapult() as page:
        model = page.run(f"""(() => {{
            const m = new tr.Model();
            new tr.importer.Import(m).importTraces([{json.dumps(text_of(trace))}]);
            return {{
                warnings: m.importWarnings.map(w => w.message),
                runs: Object.values(m.kernel.cpus).map(c => [c.cpuNumber, c.slices.length]),
                tasks: Object.values(m.processes).flatMap(p => Object.values(p.threads).map(t => [t.tid, p.pid])),
            }};
        }})()""")
    # It has no lanes for some events, and is older than the letter of an idle kernel thread (v4.14).
    assert {re.sub(r"event .*", "event", w, flags=re.DOTALL) for w in model["warnings"]} <= {
        "Unknown event", "Unrecognized sleep state: I"}
    rows = trace.rows("sched_switch")
    for cpu, runs in model["runs"]:
        switches = rows[trace.cpu(rows) == cpu]
        # The last one of a cpu has no end.
        expected = trace.column("sched_switch", "next_pid", switches)[:-1]
        assert abs(runs - int((expected != 0).sum())) <= 1
    groups = dict(model["tasks"])
    assert {x.pid: x.tgid for x in trace.lives if x.kind == "thread"}.items() <= groups.items()


def test_a_part(data: Path) -> None:
    """What was selected is written, and nothing else."""
    trace = Recording.open(data / "d08-signals.dat")
    rows = select(trace, pids=[201], after=trace.time("97.2"), before=trace.time("97.31"))
    found = [m for m in map(CATAPULT.match, b"".join(systrace(trace.lives, rows)).decode().splitlines()) if m]
    assert found
    # The argument of kill(2) is shown in hexadecimal.
    assert all(re.search(r"\b(201|pid: c9)\b", m[0]) and 97.2 <= float(m[5]) <= 97.31 for m in found)
