"""The command line's manners: help, exit codes, errors, choices, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, Ran
from lives_json import run_inside
from taskscope import __version__
from taskscope.cli.main import VERBS
from world import World

Cli = Callable[..., Ran]
Make = Callable[..., World]

# These look at any recording.
OTHER = ("run", "record", "decode", "check", "lab", "compare", "task", "stack", "diff", "timeline", "man")
OWN = [v for v in VERBS if v not in OTHER]
ENV = dict(os.environ, PYTHONPATH=str(ROOT / "src"), TERM="xterm", PYTHONDONTWRITEBYTECODE="1")


@pytest.fixture
def small(data: Path) -> Path:
    """A small real recording."""
    return data / "d05-zombie.dat"


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_in_three_examples(verb: str) -> None:
    """Every command's help fits 80 columns and ends in three examples, each a command and what it is for."""
    code, out, err = run_inside(verb, "--help")
    assert (code, err) == (0, "")
    lines = out.decode().rstrip("\n").splitlines()
    assert max(map(len, lines)) <= 80
    at = lines.index("Examples:")
    examples = [x for x in lines[at + 1 :] if x.strip().startswith(f"taskscope {verb}")]
    assert len(examples) == 3
    assert len(lines) - at - 1 == 6


def test_overview_is_quick_and_imports_nothing_heavy() -> None:
    """``taskscope --help`` lists all commands in under 0.1 s of cpu time beyond Python's own, without numpy."""
    script = (
        "import sys, time; t = time.process_time(); from taskscope.cli.main import run; code = run(['--help']); "
        "assert code == 0; assert not {'numpy', 'polars', 'rich', 'taskscope.recording'} & set(sys.modules); "
        "print(time.process_time() - t, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], env=ENV, capture_output=True, text=True, check=True)
    for verb, (_, what) in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(what)}$", ran.stdout, re.MULTILINE)
    assert float(ran.stderr) < 0.1


def test_every_verb_is_there() -> None:
    """The overview's table names modules that have the command of that name."""
    import importlib

    for verb, (module, _) in VERBS.items():
        assert importlib.import_module(module).command.name == verb


def test_version() -> None:
    """--version says the version."""
    assert run_inside("--version") == (0, f"taskscope {__version__}\n".encode(), "")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["liev"], "there is no command 'liev'; did you mean life"),
        (["zzzz"], "it is one of run, record, report"),
        (["lives", "--kind", "dog"], "dog"),
        (["lives", "--nonsense"], "--nonsense"),
        (["lives", "a", "-i", "b"], "two recordings were named: b and a"),
        (["report", "-p", "x"], "'x' is no list of numbers"),
        (["report", "-C", "5-1"], "'5-1' is no list of numbers"),
        (["report", "-F", "a==1 b"], "-F: 'a==1 b' is no filter"),
        (["life"], "TASK"),
        (["ps", "--at", "+1"], "name it with -i FILE"),
        (["tree", "--btf", "x"], "name it with --core"),
        (["ps", "-i", "x", "axq"], "-ely, -ejH, -eLf, axjf"),
        (["ps", "-ely", "axjf"], "two formats"),
        (["ps", "-ey"], "-y changes the long format"),
        (["ps", "-o", "pid,nmae"], "no column 'nmae'"),
        (["ps", "-o", "pid:x"], "no width of pid"),
        (["kills", "--all", "--deaths"], "exclude each other"),
        (["export", "--to", "csv"], "-o"),
        (["export", "--to", "xml", "-o", "x"], "xml"),
    ],
)
def test_usage_errors(args: list[str], said: str) -> None:
    """A wrong call is exit code 2, said on stderr in a line that begins with the program's name; stdout is empty."""
    code, out, err = run_inside(*args)
    assert (code, out) == (2, b"")
    assert err.startswith("taskscope: ")
    assert said in err
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", "x"], "--from: 'x' is no time"),
        (["--from", "+2", "--to", "+1"], "--to +1 is before --from +2"),
        (["-p", "99999"], "no task has pid 99999"),
    ],
)
def test_wrong_choices(small: Path, args: list[str], said: str) -> None:
    """What cannot be chosen is a usage error that says why."""
    code, out, err = run_inside("lives", "-i", str(small), *args)
    assert (code, out) == (2, b"")
    assert said in err


@pytest.mark.parametrize("at", ["0", "+99999", "99999999"])
def test_moments_outside(small: Path, at: str) -> None:
    """--at outside the recording is refused, and the error says what it covers."""
    code, out, err = run_inside("ps", "-i", str(small), "--at", at)
    assert (code, out) == (2, b"")
    assert "the recording covers 64.6" in err


def test_stamps_can_be_copied_from_a_report(small: Path) -> None:
    """A time as report shows it finds its records: as --from and --to, and as --at after them, the last one too."""
    shown = run_inside("report", "-i", str(small), "-q")[1].decode().splitlines()
    for line in (shown[0], shown[57], shown[-1]):
        stamp = line.split(": ")[0].split()[-1]
        found = run_inside("report", "-i", str(small), "--from", stamp, "--to", stamp)[1].decode().splitlines()
        assert line in found
        assert {x.split(": ")[0].split()[-1] for x in found} == {stamp}
        assert run_inside("ps", "-i", str(small), "--at", stamp)[0] == 0
    exit_line = next(x for x in shown if "sched_switch: prev_comm=wl prev_pid=159" in x and "prev_state=Z" in x)
    _, out, _ = run_inside("ps", "-i", str(small), "-p", "159", "--at", exit_line.split(": ")[0].split()[-1])
    assert out.decode().splitlines()[1].startswith("Z ")


def test_no_recording_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without -i it is trace.dat here; without that, the error says what to do."""
    monkeypatch.chdir(tmp_path)
    code, out, err = run_inside("lives")
    assert (code, out) == (2, b"")
    assert "-i FILE" in err


def test_the_default_recording(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """trace.dat in the current folder is read when none is named; the hints do not name it then."""
    shutil.copy(small, tmp_path / "trace.dat")
    monkeypatch.chdir(tmp_path)
    named = run_inside("lives", "trace.dat")
    assert run_inside("lives") == named
    assert named[0] == 0
    assert b"Next: taskscope report -p 159" in run_inside("life", "159")[1]


def test_stdin(cli: Cli, small: Path) -> None:
    """``-i -`` reads the recording from a pipe and gives the same answer."""
    ran = cli("lives", "--json", "-i", "-", stdin=small.read_bytes())
    assert ran.code == 0
    assert ran.out == cli("lives", "--json", "-i", small).out
    bad = cli("lives", "-i", "-", stdin=b"nothing")
    assert bad.code == 3
    assert b"<stdin>" in bad.err
    assert b"/tmp" not in bad.err


def test_a_name_of_a_few_lives_tells_each(small: Path) -> None:
    """`life` tells the few lives of one name one after the other, in order of their births."""
    code, out, _ = run_inside("life", "-i", str(small), "wl")
    assert code == 0
    heads = [x for x in out.decode().splitlines() if x.startswith("wl ")]
    assert [x.split()[1] for x in heads] == ["157", "158", "159"]
    code, out, _ = run_inside("life", "--json", "-i", str(small), "wl")
    assert [json.loads(x)["pid"] for x in out.splitlines()] == [157, 158, 159]


def test_an_ambiguous_name_lists_the_candidates(data: Path, small: Path) -> None:
    """A name that fits too many lives is exit code 2, and the candidates are listed with what tells them apart."""
    code, out, err = run_inside("life", "-q", "-i", str(data / "d19-storm.dat"), "wl")
    assert (code, out) == (2, b"")
    lines = err.splitlines()
    assert "'wl' fits " in lines[0]
    assert "lives; name one as PID.GEN" in lines[0]
    assert lines[1].split()[:3] == ["PID", "GEN", "K"]
    assert len(lines) > 6
    assert run_inside("life", "-i", str(small), "159.0")[0] == 0
    assert run_inside("tree", "-i", str(small), "wl")[0] == 2


def test_notes_go_to_stderr(data: Path) -> None:
    """What a recording lacks is said on stderr, and not with -q; stdout is the answer alone."""
    code, out, err = run_inside("lives", "-i", str(data / "d12-overrun.dat"))
    assert code == 0
    assert re.fullmatch(r"taskscope: note: the kernel lost .* events in 2 places; .*\n", err)
    quiet = run_inside("lives", "-q", "-i", str(data / "d12-overrun.dat"))
    assert quiet == (0, out, "")


def test_a_bug_is_one_line_unless_asked(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is one line and exit code 70; -vv or TASKSCOPE_DEBUG shows the traceback."""
    from taskscope.recording import Recording

    def broken(*_args: object, **_named: object) -> Recording:
        raise ZeroDivisionError("oops\x1b[2J")

    monkeypatch.setattr(Recording, "open", broken)
    monkeypatch.delenv("TASKSCOPE_DEBUG", raising=False)
    code, out, err = run_inside("lives", "-i", str(small))
    assert (code, out) == (70, b"")
    assert len(err.splitlines()) == 1
    assert "ZeroDivisionError" in err
    assert "\x1b" not in err
    assert "Traceback" in run_inside("lives", "-vv", "-i", str(small))[2]
    monkeypatch.setenv("TASKSCOPE_DEBUG", "1")
    assert "Traceback" in run_inside("lives", "-i", str(small))[2]


@pytest.mark.parametrize("verb", OWN)
def test_json_is_lines_of_objects(small: Path, verb: str) -> None:
    """--json prints one object a line, in pure ASCII."""
    args = {"life": ["159", "--json"], "export": ["--to", "jsonl", "-o", "-"]}.get(verb, ["--json"])
    code, out, err = run_inside(verb, "-i", str(small), *args)
    assert (code, err) == (0, "")
    lines = out.decode("ascii").splitlines()
    assert lines
    assert all(isinstance(json.loads(x), dict) for x in lines)


def test_report_json_keys(small: Path) -> None:
    """An event is ts, cpu, comm, pid, flags, event, fields, stack, in this order."""
    _, out, _ = run_inside("report", "-i", str(small), "--json")
    rows = [json.loads(x) for x in out.splitlines()]
    assert {tuple(r) for r in rows} == {("ts", "cpu", "comm", "pid", "flags", "event", "fields", "stack")}
    switch = next(r for r in rows if r["event"] == "sched_switch")
    assert isinstance(switch["fields"]["prev_pid"], int)
    assert isinstance(switch["fields"]["prev_comm"], str)


def test_report_names_tasks_as_of_then(data: Path) -> None:
    """The name column has the last name known of a pid, as the kernel's; --comm then the one that it bore then."""
    path = str(data / "d31-shellexec-612.dat")
    name = re.compile(r"^ *(.+?)-(\d+) +\[")

    def names(*args: str) -> list[tuple[str, int]]:
        out = run_inside("report", "-i", path, "--no-stacks", *args)[1].decode()
        return [(m[1], int(m[2])) for m in map(name.match, out.splitlines()) if m]

    then, last = names("--comm", "then"), names()
    rows = [json.loads(x) for x in run_inside("report", "-i", path, "--no-stacks", "--json")[1].splitlines()]
    assert then == [(r["comm"], r["pid"]) for r in rows]
    assert [pid for _, pid in last] == [pid for _, pid in then]
    assert last != then
    assert all(len({n for n, p in last if p == pid}) == 1 for _, pid in last)


def test_lives_window_and_kind(small: Path) -> None:
    """--from and --to leave the tasks that lived then, --kind those of a kind."""

    def pids(*args: str) -> list[int]:
        return [json.loads(x)["pid"] for x in run_inside("lives", "-i", str(small), "--json", *args)[1].splitlines()]

    everybody = pids()
    assert {158, 159} <= set(everybody)
    assert 158 not in pids("--from", "+2.55", "--to", "+2.6") or 159 in pids("--from", "+2.55", "--to", "+2.6")
    assert 159 not in pids("--to", "+1")
    assert set(pids("--kind", "kthread")) < set(everybody)
    assert 157 not in pids("--kind", "kthread")
    assert pids("-p", "158,159") == [158, 159]


def test_export_files(small: Path, tmp_path: Path) -> None:
    """Export says on stderr what it wrote; it makes a folder that ends in a slash, and replaces nothing unasked."""
    folder = f"{tmp_path}/out/"
    code, out, err = run_inside("export", "-i", str(small), "--to", "csv", "-o", folder)
    assert (code, out) == (0, b"")
    assert [x.split()[2] for x in err.splitlines()] == ["lives", "spans"]
    assert sorted(p.name for p in Path(folder).iterdir()) == ["lives.csv", "spans.csv"]
    code, _, err = run_inside("export", "-i", str(small), "--to", "csv", "-o", folder)
    assert code == 2
    assert "--force" in err
    assert run_inside("export", "-q", "-i", str(small), "--to", "csv", "-o", folder, "--force") == (0, b"", "")
    code, _, err = run_inside("export", "-i", str(small), "--to", "csv", "-o", f"{tmp_path}/absent/x.csv")
    assert code == 2
    assert "no folder" in err


def test_korean_on_the_command_line(world: Make) -> None:
    """A Korean name can be asked for, and is shown as it is."""
    w = world()
    w.switch(0, 0, "R", ("데몬", 77))
    w.fork(10, 0, ("데몬", 2042))
    w.switch(500, 0, "S", ("swapper/0", 0))
    path = str(w.write())
    code, out, _ = run_inside("life", "-i", path, "데몬", "-q")
    assert (code, out.decode().count("데몬 77   "), out.decode().count("데몬 2042   ")) == (0, 1, 1)
    code, out, _ = run_inside("life", "-i", path, "77:데몬", "-q")
    assert code == 0
    assert out.decode().startswith("데몬 77   seen for")
    _, out, _ = run_inside("report", "-i", path, "-F", 'sched_switch:prev_comm=="데몬"')
    assert len(out.splitlines()) == 1
