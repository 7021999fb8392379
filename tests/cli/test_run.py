"""``taskscope run``: programs on the executable kernel from the command line."""

from __future__ import annotations

import contextlib
import io

import pytest
from click.testing import CliRunner

import taskscope
from taskscope.cli.main import cli
from taskscope.cli.main import run as run_main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str):
        return CliRunner().invoke(cli, ["run", *args])

    return invoke


def test_shell_line(run, tmp_path):
    """A shell line runs, prints, and is recorded in trace.dat; its status is the exit code."""
    result = run("-c", "whoami; exit 4")
    assert result.exit_code == 4
    assert "root\n" in result.output
    lives = taskscope.open(tmp_path / "trace.dat").lives
    assert any(life.comm == "whoami" for life in lives)


def test_notes_line(run, tmp_path):
    """The line of the notes gives the life that they tell: killed by bash with SIGKILL."""
    result = run("-c", "raspbian_proc & sleep 5; kill -9 $!", "-o", "x.dat", "-q")
    assert result.exit_code == 0
    assert result.output == "raspbian tracing \nraspbian tracing \n"
    life = taskscope.open(tmp_path / "x.dat").life("raspbian_proc")
    assert life.exit.signal == 9


def test_python_file(run, tmp_path):
    """A Python file runs under its name, with its arguments."""
    (tmp_path / "prog.py").write_text(
        "def main(sys, argv):\n    sys.puts(f'{argv} {sys.slurp(\"/proc/self/comm\").decode().strip()}')\n    "
        "return 2\n"
    )
    result = run("prog.py", "a", "b", "-o", "")
    assert result.exit_code == 2
    assert "['prog', 'a', 'b'] prog\n" in result.output
    assert not (tmp_path / "trace.dat").exists()


def test_then(run):
    """--then looks at the machine when time is up."""
    result = run(
        "--for",
        "1",
        "raspbian_proc",
        "-o",
        "",
        "--then",
        "ps -axjf",
        "--then",
        "stack 2",
        "--then",
        "task 1",
        "--then",
        "tree",
    )
    assert result.exit_code == 0, result.output
    assert "raspbian_proc" in result.output
    assert "[kthreadd]" in result.output
    assert "kthreadd+0x" in result.output
    assert "TASK_INTERRUPTIBLE" in result.output


def test_killed(run):
    """A program that a signal killed gives 128 + its number, as in a shell."""
    assert run("-c", "kill -9 $$", "-o", "").exit_code == 137


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "run what?"),
        (("-c", "true", "ls"), "not both"),
        (("nosuch",), "has no program 'nosuch'"),
        (("nosuch.py",), "no such file"),
        (("ls", "--flavour", "9.9"), "no flavour '9.9'"),
        (("ls", "--then", "top"), "is none of"),
        (("bash",), "waits for ever"),
        (("ls", "--preempt", "none"), "4.19-arm is built with preempt=full"),
        (("ls", "-e", "sched:nosuch"), "no event sched:nosuch"),
    ],
)
def test_usage(args, said, tmp_path):
    """Each mistake gets one clear line and exit code 2."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = run_main(["run", "-o", str(tmp_path / "x.dat"), *args])
    assert code == 2
    assert said in err.getvalue()


def test_boot_arguments(run):
    """--preempt and --threadirqs go to the kernel's command line."""
    result = run("--flavour", "6.1-x86_64", "--preempt", "full", "--threadirqs", "-o", "", "-c", "cat /proc/cmdline")
    assert result.exit_code == 0, result.output
    assert "preempt=full threadirqs" in result.output


def test_same_seed_same_file(run, tmp_path):
    """The same seed gives the same recording, to the byte."""
    for name in ("a.dat", "b.dat"):
        run("--seed", "7", "--cpus", "2", "-c", "whoami | cat; sleep 1", "-o", name, "-q")
    assert (tmp_path / "a.dat").read_bytes() == (tmp_path / "b.dat").read_bytes()
