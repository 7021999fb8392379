"""ps, tree, task and stack of a crash dump: what is shown, and what is said of damage and of wrong options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DATA, run_cli

pytest.importorskip("drgn", reason="drgn is not installed")

DUMP = DATA / "vmcore/debian12-amd64.kdump"
INSIDE = json.loads((DATA / "vmcore/debian12-amd64.inside.json").read_text())


def test_ps_is_what_the_guest_said() -> None:
    """``ps --core -ely`` prints for each process what /proc said of it in the guest, threads left out."""
    ran = run_cli("ps", "--core", DUMP, "-ely")
    assert (ran.code, ran.err) == (0, b"")
    shown = {int(row[2]): row for line in ran.out.decode().splitlines()[1:] if (row := line.split(None, 12))}
    processes = [task for task in INSIDE["tasks"] if task["pid"] == task["tgid"]]
    assert set(shown) == {task["pid"] for task in processes} | {937}
    for task in processes:
        row = shown[task["pid"]]
        assert row[1:4] == ["0", str(task["pid"]), str(task["ppid"])]
        assert row[5:7] == [str(task["priority"] + 60), str(task["nice"]) if task["rt_priority"] == 0 else "-"]
        if task["comm"] not in ("init", "rcu_preempt"):
            assert row[0] == task["state"], task["comm"]
            assert row[9] == ("-" if task["wchan"] == "0" else task["wchan"].lstrip("_")[:6]), task["comm"]
        if task["comm"] not in ("init", "zoo-main"):
            assert row[8] == str(task["vsize"] // 4096), task["comm"]
        assert row[12].startswith(task["comm"].split("-")[0][:15])


def test_each_task_as_data() -> None:
    """``ps --core -L --stacks --json`` gives each task with all that its descriptor says, and why what is not known."""
    rows = [json.loads(line) for line in run_cli("ps", "--core", DUMP, "-L", "--stacks", "--json").out.splitlines()]
    by_name = {row["comm"]: row for row in rows}
    assert len(rows) == 83
    told = {task["pid"]: task for task in INSIDE["tasks"]}
    for row in rows:
        if row["pid"] in told and row["pid"] > 2 and row["comm"] not in ("zoo-main", "rcu_preempt", "spinner"):
            assert row["children"] == told[row["pid"]]["children"], row["comm"]
            assert row["address"].startswith("0xffff")
    assert by_name["zombie42"]["exit_code"] == 42 << 8
    assert by_name["zombie-kill9"]["exit_code"] == 9
    assert by_name["zombie-segv"]["exit_code"] & 0x7F == 11
    assert by_name["zombie42"]["stack"] is None
    assert "given back" in by_name["zombie42"]["unavailable"]["stack"]
    tracee, tracer, parent = by_name["tracee"], by_name["tracer"], by_name["zoo-main"]
    assert (tracee["real_parent"], tracee["parent"], tracee["tracer"]) == (parent["pid"], tracer["pid"], tracer["pid"])
    assert by_name["sub-orphan"]["real_parent"] == by_name["subreaper"]["pid"]
    assert by_name["orphan"]["real_parent"] == 1
    assert by_name["vfork-parent"]["kernel_stack"][:2] == ["__schedule", "schedule"]
    assert "kernel_clone" in by_name["vfork-parent"]["kernel_stack"]
    assert by_name["spinner"]["kernel_stack"] is None
    assert "runs" in by_name["spinner"]["unavailable"]["kernel_stack"]
    assert by_name["fifo50"]["policy"] == 1
    assert by_name["worker-1"]["group_leader"] == by_name["threads4"]["pid"]
    assert by_name["sleeper"]["thread_info"]["preempt_count"] is None
    assert by_name["sleeper"]["unavailable"]["preempt_count"] == "kept per cpu on x86-64"
    fewer = run_cli("ps", "--core", DUMP, "--json").out.splitlines()
    assert len(fewer) == len(rows) - sum(row["kind"] == "thread" for row in rows)


def test_tree_task_and_stack() -> None:
    """The tree hangs tasks under their parents, a task shows every member with its bits, a stack its functions."""
    tree = run_cli("tree", "--core", DUMP, "subreaper").out.decode()
    assert [line.split()[-1] for line in tree.splitlines()[1:]] == ["subreaper", "sub-orphan"]
    data = run_cli("tree", "--core", DUMP, "subreaper", "--json").out.splitlines()
    assert [json.loads(line)["comm"] for line in data] == ["subreaper", "sub-orphan"]
    task = run_cli("task", "--core", DUMP, "tracee").out.decode()
    for text in ("__TASK_TRACED", "PF_FORKNOEXEC|PF_RANDOMIZE", "real_parent.pid", "kernel stack:", "thread_info at"):
        assert text in task
    stack = run_cli("stack", "--core", DUMP, "vfork-parent").out.decode()
    assert "wait_for_completion_state+" in stack
    assert max(map(len, tree.splitlines() + stack.splitlines())) <= 80


@pytest.mark.parametrize(("words", "said"), [
    (("ps", "--core", DUMP, "-i", "x.dat"), "two sources"),
    (("ps", "--btf", "x"), "--btf is for a crash dump"),
    (("ps", "--core", DUMP, "--stacks"), "--json"),
    (("stack", "--core", DUMP, "nobody"), "no task 'nobody'"),
    (("tree", "--core", DUMP, "nobody"), "no task 'nobody'"),
    (("ps", "-i", DATA / "d05-zombie.dat", "--stacks", "--json"), "no stacks of all its tasks"),
])
def test_wrong_options(words: tuple[str | Path, ...], said: str) -> None:
    """What cannot be is one line that says why, and exit code 2."""
    ran = run_cli(*words)
    assert ran.code == 2
    assert said in ran.err.decode()


def test_a_dump_that_is_none(tmp_path: Path) -> None:
    """A file that is no dump is one line that names it, and exit code 3."""
    path = tmp_path / "vmcore"
    path.write_bytes(DUMP.read_bytes()[:5000])
    ran = run_cli("ps", "--core", path)
    assert ran.code == 3
    assert len(ran.err.decode().splitlines()) == 1
    assert str(path) in ran.err.decode()


def test_damage_is_shown_after_all_that_could_be_reached(tmp_path: Path) -> None:
    """A dump that lacks the memory of some tasks shows the others, then a line for each wound, and exits with 3."""
    script = (
        "import sys; from taskscope.memory import kernel; from taskscope.memory.image import FaultError\n"
        "from taskscope.cli.main import main\n"
        "read = kernel.KernelMemory._read\n"
        "def damaged(self, name, address):\n"
        "    found = read(self, name, address)\n"
        "    if name == 'task_struct' and found and b'sub-orphan' in found.data:\n"
        "        self._wound('struct task_struct cannot be read'); return None\n"
        "    return found\n"
        "kernel.KernelMemory._read = damaged\n"
        f"main(['ps', '--core', {str(DUMP)!r}])\n")
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 3
    assert "subreaper" in ran.stdout
    assert "what follows it is missing" in ran.stderr
