"""``--py``: the program that a command prints gives, when it is run, the answer of the command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from lives_json import run_inside
from taskscope.cli.main import VERBS
from taskscope.cli.python import PROGRAMS

#: command lines, run in tests/data; every option that changes the answer is in one of them
COMMANDS = (
    "lives -i d05-zombie.dat",
    "lives d06-threads.dat -v --kind thread --kind kthread",
    "lives -i d08-signals.dat -p 200,201 --from 97 --to +1 --json",
    "lives -i d14-instances.dat -B tasks",
    "life -i d05-zombie.dat 159",
    "life -i d08-signals.dat 201 --json",
    "life -i d13-clones.dat 274.0 -v",
    "life -i d32-execthread-612.dat 208 --color always",
    "sched d09-sched.dat",
    "sched -i d09-sched.dat --sort max --worst 3 --from +0.1 --to +0.4 -v",
    "sched -i d09-sched.dat -p 0,220 --json --worst 0",
    "kills d08-signals.dat",
    "kills -i d11-oom.dat --all --color always",
    "kills -i d08-signals.dat --deaths -p 200,201 --from 97.1 --to 97.31 --json",
    "forks d13-clones.dat -v",
    "forks -i d06-threads.dat -p 168 --to +0.1",
    "forks -i d13-clones.dat --json --from +0.01",
    "tree -i d10-subreaper.dat",
    "tree -i d10-subreaper.dat --at +0.1 --color always",
    "tree -i d06-threads.dat 168 --json",
    "tree --core vmcore/debian12-amd64.kdump zoo-main",
    "tree --core vmcore/debian12-amd64.kdump --json tracee",
    "ps -i d10-subreaper.dat",
    "ps -i d10-subreaper.dat --at +0.1 -ejH -p 1,228,229,230,231,232,233",
    "ps -i d10-subreaper.dat --at 126.25 axjf",
    "ps -i d10-subreaper.dat --json",
    "ps -i d06-threads.dat -eLf --sort -pid --no-headers",
    "ps -i d06-threads.dat --at +0.05 -o pid,tid=THREAD -o comm -L -H",
    "ps --columns",
    "ps -p 1 -o pid,user,comm",
    "ps --core vmcore/debian12-amd64.kdump",
    "ps --core vmcore/debian12-amd64.kdump --json -L -p 1,2",
    "ps --core vmcore/debian12-amd64.kdump --json --stacks -p 2",
    "cpus -i d09-sched.dat --at +0.1",
    "cpus --core vmcore/debian12-amd64.kdump --json",
    "blocked -i d09-sched.dat --at +0.1 --json",
    "blocked --core vmcore/debian12-amd64.kdump",
    "task --core vmcore/debian12-amd64.kdump tracee",
    "task --core vmcore/debian12-amd64.kdump sleeper -v",
    "task --core vmcore/debian12-amd64.kdump kthreadd --json",
    "stack --core vmcore/debian12-amd64.kdump vfork-parent",
    "stack --core vmcore/debian12-amd64.kdump spinner --json",
    "report d05-zombie.dat",
    "report -i d05-zombie.dat -F signal -F 'sched_switch:prev_pid==159' --comm then",
    "report -i d06-threads.dat -p 168 -C 0 --from +0.02 --to +0.1 --json",
    "report -i d15-text-stack.trace.txt --no-stacks",
    "report -i d15-text-stack.trace.txt --no-stacks --json -F sched_process_exit",
    "export -i d06-threads.dat --to jsonl -o -",
    "export -i d06-threads.dat --to csv --table sched_switch -o -",
    "export -i d08-signals.dat --to systrace --from 97.2 --to 97.31 -p 201 -o -",
    "export -i d10-subreaper.dat --to dot -o -",
    "export -i d08-signals.dat --to story -p 200,201 -v -o -",
    "export -i d12-overrun.dat --to perfetto --from 159 --to 159.4 -o -",
    "timeline -i d05-zombie.dat -o -",
    "timeline d05-zombie.dat --beside d06-threads.dat -o -",
    "diff d10-subreaper.dat@+0.1 d10-subreaper.dat",
    "diff d10-subreaper.dat d10-subreaper.dat --json",
    "diff d10-subreaper.dat@126.2 d10-subreaper.dat --color always",
    "diff vmcore/debian12-amd64.kdump vmcore/debian12-amd64.kdump",
    "compare d05-zombie.dat d05-zombie.dat",
    "compare d05-zombie.dat d06-threads.dat --json",
    "compare --lab zombie model model",
    "lab list",
    "lab list --json",
    "lab zombie --answer",
    "lab zombie --flavour all --json",
    "lab pid --mutant -q --seed 3 --schedule pct:2:1",
    "check --need tracefs",
    "check --json --need function-tracer --need unlocked",
    "check",
    "decode clone 0x01200011",
    "decode syscall arm 120 --json",
    "decode state 0x402 --kernel 4.19",
    "decode errno -11",
    "man",
    "man ps",
    "man lives --schema",
    "man --completion zsh",
    "run -q -o '' -c 'echo a; exit 3'",
    "run -q -o '' --cpus 1 --flavour 6.1-x86_64 --preempt full --for 1 raspbian_fork --then 'ps -ejH' --dmesg",
    "run -q -o '' --seed 7 --color always -c 'sleep 9 & kill -9 $!' --then 'task 2' --then 'stack 2' --then ps",
    "run -q -o '' --schedule pct:3:5 -c 'ls | wc'",
)
#: what a run on this host makes: its program is tried where this user may record
RECORDED = ("record",)


def printed(line: str) -> str:
    """Return the program that a command prints."""
    verb, *rest = shlex.split(line)
    code, out, err = run_inside(verb, "--py", *rest)
    assert (code, err) == (0, "")
    return out.decode()


def run(program: str, status: int = 0) -> bytes:
    """Run a program inside this process and return what it writes to stdout; check what it exits with."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    code: object = 0
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            code = end.code or 0
    out.flush()
    assert code == status
    return raw.getvalue()


@pytest.mark.parametrize("line", COMMANDS)
def test_the_program_gives_the_answer(line: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the printed program writes is what the command writes, byte for byte."""
    if "vmcore" in line:
        pytest.importorskip("drgn", reason="drgn is not installed")
    if "perfetto" in line:
        pytest.importorskip("perfetto", reason="perfetto is not installed")
    monkeypatch.chdir(data)
    monkeypatch.setenv("NO_COLOR", "1")
    code, expected, _ = run_inside(*shlex.split(line))
    assert code in (0, 1, 3)
    assert expected or line.startswith("diff")
    program = printed(line)
    assert run(program, code) == expected
    # man is about the command line.
    assert "taskscope.cli" not in program or line.startswith("man")
    assert max(map(len, program.splitlines())) <= 200


@pytest.mark.parametrize("line", ["ps -l", "ps --json -L", "cpus", "blocked", "tree", "ps --at +0.01", "task init",
                                  "stack kthreadd", "task kthreadd --json"])
def test_of_a_machine(line: str, tmp_path: Path) -> None:
    """A machine's recording keeps its task descriptors, and a program shows those where the command does."""
    import taskscope

    file = tmp_path / "m.dat"
    with taskscope.boot(cpus=1) as machine:
        machine.trace()
        machine.spawn("sleep", "0.1").wait()
        machine.save(file)
    whole = f"{line} -i {shlex.quote(str(file))}"
    code, expected, _ = run_inside(*shlex.split(whole))
    assert code == 0
    assert run(printed(whole)) == expected


def test_every_command_has_its_program_tried() -> None:
    """Each command that has a program is among those that are run here."""
    assert {line.split()[0] for line in COMMANDS} | set(RECORDED) == set(PROGRAMS)
    assert set(PROGRAMS) == set(VERBS)


def test_a_program_stands_alone(data: Path, tmp_path: Path) -> None:
    """Saved to a file, a program runs by itself."""
    file = tmp_path / "program.py"
    file.write_text(printed("sched -i d09-sched.dat --worst 2"))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, file], cwd=data, env=env, capture_output=True, check=True, timeout=60)
    assert done.stdout == run_inside("sched", "-i", str(data / "d09-sched.dat"), "--worst", "2")[1]


@pytest.mark.real
@pytest.mark.parametrize("options", ["sh -c 'exit 7'", "-a -d 0.2 -e sched_process_exit -b 512K --file-version 6"])
def test_a_program_records_as_the_command_does(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program of record records the same command, and ends with its status."""
    from taskscope.host.probes import look

    if not all(answer.works for answer in look(names=["tracefs", "events", "root"])):
        pytest.skip("this user may not record here")
    import taskscope

    monkeypatch.chdir(tmp_path)
    commanded = not options.startswith("-a")
    assert run(printed(f"record -o here.dat {options}"), 7 if commanded else 0) == b""
    recording = taskscope.open("here.dat")
    assert recording.path == "here.dat"
    if commanded:
        assert [life.exit.code for life in recording.lives if life.comm == "sh" and life.exit is not None] == [7]


def test_no_program_of_what_cannot_run() -> None:
    """A command line that is wrong has no program: this is said."""
    code, out, err = run_inside("run", "--py")
    assert (code, out) == (2, b"")
    assert err


@pytest.mark.real
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_a_program_follows_as_the_command_does(as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of record --follow tells what happens while it records, in the command's words."""
    from taskscope.host.probes import look

    if not all(answer.works for answer in look(names=["tracefs", "events", "root"])):
        pytest.skip("this user may not record here")
    monkeypatch.chdir(tmp_path)
    option = "--json" if as_json else ""
    program = printed(f"record -q {option} --follow-to told sh -c 'exit 7'")
    assert run(program, 7) == b""
    told = Path("told").read_text().splitlines()
    assert run_inside(*shlex.split(f"record -q {option} --follow-to other sh -c 'exit 7'"))[0] == 7
    other = Path("other").read_text().splitlines()
    if as_json:
        rows, others = ([json.loads(line) for line in lines] for lines in (told, other))
        assert [list(row) for row in rows] == [list(row) for row in others]
        assert [(row["event"], row["exit"]["code"]) for row in rows if row["event"] == "exit"] == [("exit", 7)]
    else:
        assert told[0] == other[0]
        assert len(told) == len(other)
        assert "exit 7" in told[-1]


def test_a_program_serves_the_timeline(data: Path, tmp_path: Path) -> None:
    """The program of timeline --serve serves the recording until it is interrupted."""
    file = tmp_path / "program.py"
    file.write_text(printed("timeline -i d05-zombie.dat --serve"))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    with subprocess.Popen([sys.executable, file], cwd=data, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
            assert found is not None
            with urllib.request.urlopen(found[0], timeout=20) as answer:
                assert b"d05-zombie.dat" in answer.read()
        finally:
            process.kill()


def test_a_program_writes_the_manual(tmp_path: Path) -> None:
    """The program of man --folder writes the pages that the command writes."""
    assert run(printed(f"man --folder {tmp_path / 'one'}")) == b""
    assert run_inside("man", "--folder", str(tmp_path / "two"))[0] == 0
    pages = sorted((tmp_path / "two").iterdir())
    assert len(pages) == len(VERBS) + 1
    assert all((tmp_path / "one" / page.name).read_text() == page.read_text() for page in pages)


@pytest.mark.parametrize("form", ["trace.dat", "parquet"])
def test_a_program_writes_the_same_files(
    form: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export's program writes what the command writes, a folder too."""
    monkeypatch.chdir(tmp_path)
    line = f"export -i {shlex.quote(str(data / 'd08-signals.dat'))} --to {form} -q -o "
    line += "one/" if form == "parquet" else "one -p 201 --to +1"
    assert run_inside(*shlex.split(line))[0] == 0
    Path("one").rename("kept")
    assert run(printed(line)) == b""
    pairs = [(Path("kept"), Path("one"))]
    if form == "parquet":
        pairs = [(p, Path("one") / p.name) for p in Path("kept").iterdir()]
        assert len(pairs) == 2
    assert all(a.read_bytes() == b.read_bytes() for a, b in pairs)


def test_what_a_person_typed_is_only_text(data: Path) -> None:
    """Names and files become literals: nothing of them is run."""
    evil = "'); raise SystemExit(9) #\"\n\\"
    for line in (["lives", "-i", evil], ["life", "-i", "x", evil], ["tree", "-i", "x", evil], ["tree", "--core", evil],
                 ["lives", "-B", evil], ["report", "-i", "x", "-F", evil], ["lives", "--from", evil, "-i", "x"],
                 ["export", "-i", "x", "--to", "csv", "--table", evil, "-o", evil]):
        code, out, _ = run_inside(*line, "--py")
        if code == 0:
            compile(out, "program.py", "exec")
            assert repr(evil) in out.decode()
        else:
            assert code == 2


def test_there_is_no_program_of_stdin() -> None:
    """What came through a pipe cannot be read again, which is said."""
    code, out, err = run_inside("lives", "-i", "-", "--py")
    assert (code, out) == (2, b"")
    assert "--py" in err
    assert "-i FILE" in err
