"""What CPUs run, who is blocked, and what changed between two moments."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from conftest import DATA, run_cli
from taskscope.errors import TraceError
from taskscope.snapshot.detail import TaskDetail
from taskscope.snapshot.lines import read_lines
from taskscope.snapshot.snapshot import Snapshot, TaskRow
from taskscope.snapshot.waits import kind_of_wait
from taskscope.views.cpus import blocked_table, cpus_json, cpus_table
from taskscope.views.descriptors import ps_json
from taskscope.views.diff import diff, diff_lines
from taskscope.views.text import Lines

S = 1_000_000_000


def task(pid: int, **known: object) -> TaskRow:
    """Return a row of which only `known` is known."""
    empty = dict.fromkeys(f.name for f in dataclasses.fields(TaskRow))
    usual = {"unavailable": {}, "pid": pid, "comm": f"task{pid}", "state": "S", "kind": "process", "tgid": pid,
             "start_time": pid * S}
    return TaskRow(**(empty | usual | known))  # type: ignore[arg-type]


def moment(*tasks: TaskRow, at: int = 100 * S) -> Snapshot:
    """Return a moment with some tasks."""
    return Snapshot(tasks, at, "by hand", {})


IDLE = [task(0, comm=f"swapper/{cpu}", kind="idle", state="R", cpu=cpu, prio=120, on_cpu=cpu == 1) for cpu in (0, 1)]


def test_cpus() -> None:
    """Of each CPU the task that runs comes first, then who waits for it; a busy CPU does not show its idle task."""
    tasks = [*IDLE, task(5, state="R", cpu=0, prio=120, on_cpu=False), task(6, state="R", cpu=0, prio=120, on_cpu=True,
             thread_info={"preempt_count": 0x10001}), task(7, cpu=0)]
    lines = [line.split() for line in cpus_table(moment(*tasks), header=False)]
    assert lines[0][:4] == ["0", "*", "6", "120"]
    assert "HARDIRQ=1" in lines[0][4]
    assert lines[1] == ["0", "5", "120", "-", "task5"]
    assert lines[2] == ["1", "*", "0", "120", "-", "[swapper/1]"]
    first = json.loads(next(iter(cpus_json(moment(*tasks)))))
    assert first["current"]["pid"] == 6
    assert [one["pid"] for one in first["waiting"]] == [5]


def test_cpus_of_proc() -> None:
    """Where it is not known who runs, every task in R is shown as one that may; nothing is guessed."""
    lines = list(cpus_table(moment(task(5, state="R", cpu=0), task(6, state="R", cpu=0)), header=False))
    assert [line.split()[1] for line in lines] == ["?", "?"]
    told = json.loads(next(iter(cpus_json(moment(task(5, state="R", cpu=0))))))
    assert (told["current"], told["waiting"]) == (None, None)


def test_blocked() -> None:
    """The states are counted, and those in R and D are listed with what they wait for."""
    tasks = [task(1), task(2), task(3, state="D", waits="rwsem", waits_for=1), task(4, state="R", on_cpu=False, cpu=1)]
    lines = list(blocked_table(moment(*tasks)))
    assert lines[0] == "4 tasks: 2 S, 1 D, 1 R"
    assert lines[2].split()[:5] == ["D", "3", "-", "rwsem", "1(task1)"]
    assert lines[3].split()[:4] == ["R", "4", "1", "a-CPU"]


@pytest.mark.parametrize(("stack", "kind"), [
    (("__schedule", "schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0", "ext4_map"), "mutex"),
    (("__schedule", "schedule", "rwsem_down_write_slowpath+0x1e0/0x6c0", "down_write"), "rwsem"),
    (("__schedule", "schedule", "io_schedule", "folio_wait_bit_common"), "I/O"),
    (("__schedule", "schedule", "schedule_timeout", "__wait_for_common", "kernel_clone"), "vfork child"),
    (("__schedule", "schedule", "do_nanosleep"), None),
    ((), None),
])
def test_kinds_of_waits(stack: tuple[str, ...], kind: str | None) -> None:
    """What a task waits for is told by the innermost function that says so."""
    assert kind_of_wait(stack) == kind


def test_diff() -> None:
    """Who is new, who is gone, whose fields changed; a pid that is used again is two tasks."""
    before = moment(task(1, sum_exec_runtime=5, flags=0), task(2), task(3), task(4, state="?"))
    after = moment(task(1, sum_exec_runtime=2 * S + 5, flags=4, state="D"), task(3, start_time=90 * S), task(4),
                   task(5, ppid=1))
    changes = {(c.how, c.task.pid): c for c in diff(before, after)}
    assert sorted(changes) == [("changed", 1), ("gone", 2), ("gone", 3), ("new", 3), ("new", 5)]
    assert changes["changed", 1].changes == {"state": ("S", "D"), "flags": (0, 4)}
    assert changes["changed", 1].used == 2 * S
    text = "\n".join(diff_lines(diff(before, after)))
    assert "flags 0 → PF_EXITING" in text or "PF_EXITING" in text
    assert "ran 2.000000 s" in text
    assert "child of 1" in text


def test_the_name_of_a_kernel_thread_is_one_whether_cut_or_not() -> None:
    """/proc has more of a kernel thread's name than its descriptor: that is no change."""
    a = moment(task(9, kind="kthread", comm="kworker/u8:1-events_unbound"))
    assert diff(a, moment(task(9, kind="kthread", comm="kworker/u8:1"))) == []
    assert len(diff(a, moment(task(9, kind="kthread", comm="kworker/u8:2")))) == 1


def test_moments_that_were_printed(tmp_path: Path) -> None:
    """What ps -L --json printed is read back as it was; a line that is no task is an error with its number."""
    found = moment(task(1, children=(2, 3), address=0xFFFF_8000_0000_1000, tracer=7), task(2, state="?"))
    path = tmp_path / "moment.jsonl"
    path.write_bytes(b"".join(ps_json(found)))
    again = read_lines(path)
    assert again.tasks == found.tasks
    assert again.at == found.at
    path.write_text('{"pid": 1}\n')
    with pytest.raises(TraceError, match="line 1: is no task"):
        read_lines(path)


def test_the_command(tmp_path: Path) -> None:
    """Diff takes recordings at times, dumps, /proc and JSON; it exits with 1 where something changed, 0 where not."""
    recording = DATA / "d05-zombie.dat"
    ran = run_cli("diff", f"{recording}@+0.1", recording)
    assert ran.code == 1
    assert b"S \xe2\x86\x92 Z" in ran.out
    path = tmp_path / "moment.jsonl"
    path.write_bytes(b"".join(ps_json(moment(task(1)))))
    same = run_cli("diff", path, path)
    assert (same.code, same.out) == (0, b"")
    assert run_cli("diff", "nothing", "proc").code == 2
    assert [json.loads(line)["how"] for line in run_cli("diff", path, f"{path}", "--json").out.splitlines()] == []


def test_a_table_for_notebooks() -> None:
    """A snapshot shows as a table of HTML in which hostile names are text."""
    text = moment(task(7, comm="<b>\x1b[31m\u202e", wchan="do_wait"))._repr_html_()
    assert "&lt;b&gt;\\x1b[31m\\u202e" in text
    assert "<td>do_wait</td>" in text
    assert "<td>–</td>" in text


def test_what_notebooks_show_of_the_other_views() -> None:
    """A descriptor, a difference and the lines of any view show themselves; hostile names are text there."""
    evil = task(7, comm="<script>\x1b[2J", cpu=0, state="R", on_cpu=True)
    detail = TaskDetail(row=evil, version=(6, 1), address=None, members={"comm": evil.comm, "flags": 4194304},
                        thread_info={"cpu": 0}, thread_info_address=None, thread_size=0, children=(), threads=(7,),
                        stack=())
    changes = diff(moment(), moment(evil))
    for shown in (detail, changes, Lines(cpus_table(moment(evil)))):
        text = shown._repr_html_()
        assert "&lt;script&gt;" in text
        assert "<script>" not in text
        assert "\x1b" not in text
    assert "<td>thread_info.cpu</td><td>0</td>" in detail._repr_html_()
    assert str(changes) == "\n".join(diff_lines(changes))
