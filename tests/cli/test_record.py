"""``taskscope record`` on the kernel of this machine: the command's status, what is recorded, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import taskscope
from recording import environment, finish, gone, interrupt, lives, needs_recording, record, recording, run, start, until

pytestmark = [*needs_recording, pytest.mark.limit(90)]

ISSUE = "whoami; sleep 5 & p=$!; sleep 0.3; kill -9 $p; wait $p; exit 7"


def tids_of(pid: int) -> set[int]:
    """Return the threads of a process."""
    return {int(p.name) for p in Path(f"/proc/{pid}/task").iterdir()}


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the workload of the notes; return the folder of its trace.dat."""
    folder = tmp_path_factory.mktemp("issue")
    told = record("--", "sh", "-c", ISSUE, cwd=folder)
    assert (told.code, told.out) == (7, "root\n"), told.err
    (folder / "err").write_text(told.err)
    return folder


def test_the_command_ends_as_it_would_alone(issue: Path) -> None:
    """The command's output and status are its own; one line on stderr says what was recorded; only the file is left."""
    last = (issue / "err").read_text().splitlines()[-1]
    assert last.startswith("taskscope: trace.dat: ")
    assert " events, 0 lost, " in last
    assert last.endswith("(taskscope life sh)")
    assert sorted(p.name for p in issue.iterdir()) == ["err", "trace.dat"]


def test_the_killing_shell_is_named(issue: Path) -> None:
    """The sleep that was killed, its killer, its reaper and the shell's own exit code are those that happened."""
    t = taskscope.open(issue / "trace.dat")
    shell = next(x for x in t.lives if x.comm == "sh" and x.exit and x.exit.code == 7)
    killed = [x for x in t.lives if x.comm == "sleep" and x.exit and x.exit.signal]
    assert len(killed) == 1
    sleep = killed[0]
    assert sleep.born is not None
    assert sleep.exit is not None
    assert sleep.reaped is not None
    assert (sleep.born.by.pid, sleep.exit.signal, sleep.exit.killer.pid, sleep.reaped.by.pid) == (
        shell.pid, 9, shell.pid, shell.pid)
    text = run("life", f"{sleep.pid}", cwd=issue).out
    assert f"SIGKILL from sh {shell.pid}" in text
    assert "kernel_clone" in text


def test_stacks_are_on_the_rare_events_only(issue: Path) -> None:
    """Births, execs, ends and signals have call stacks; switches have none, and no stack stands alone."""
    rows = [json.loads(x) for x in run("report", "--json", cwd=issue).out.splitlines()]
    by_event: dict[str, set[bool]] = {}
    for row in rows:
        by_event.setdefault(row["event"].split(":")[-1], set()).add(bool(row["stack"]))
    for event in ("sched_process_fork", "task_newtask", "sched_process_exec", "sched_process_exit", "signal_generate"):
        assert by_event[event] == {True}, event
    for event in ("sched_switch", "sched_waking", "sys_enter_exit_group"):
        assert by_event[event] == {False}, event
    assert "kernel_stack" not in by_event


@pytest.mark.tracecmd
@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize("options", [[], ["--compression", "none"], ["--file-version", "6"]])
def test_trace_cmd_opens_it(tmp_path: Path, options: list[str]) -> None:
    """trace-cmd report prints as many events as record counted, in each version of the file."""
    told = record(*options, "--no-stacks", "--", "sh", "-c", "true; exit 3", cwd=tmp_path)
    assert told.code == 3
    count = int(told.err.splitlines()[-1].split(": ")[2].split(" ")[0].replace(",", ""))
    command = ["trace-cmd", "report", tmp_path / "trace.dat"]
    report = subprocess.run(command, capture_output=True, timeout=60, check=True)
    lines = [x for x in report.stdout.splitlines() if b"]" in x and not x.startswith(b"cpus=")]
    assert len(lines) == count
    assert any(b"sched_process_exec" in x for x in lines)


@pytest.mark.parametrize(("script", "code"), [
    ("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -SEGV $$", 139), ("kill -KILL $$", 137),
])
def test_the_exit_status_is_passed_through(tmp_path: Path, script: str, code: int) -> None:
    """The exit status of the command is that of record: 128 and the signal for one that was killed."""
    assert record("-q", "--", "sh", "-c", script, cwd=tmp_path).code == code


@pytest.mark.parametrize(("command", "code", "said"), [
    ("no-such-command", 127, "is not found"), ("/etc/passwd", 126, "Permission denied"),
    ("/", 126, "Permission denied"), ("./empty", 126, "is no program"),
])
def test_a_command_that_cannot_run(tmp_path: Path, command: str, code: int, said: str) -> None:
    """127 for a command that is not there, 126 for one that cannot be run; nothing is left behind."""
    (tmp_path / "empty").write_text("")
    (tmp_path / "empty").chmod(0o755)
    told = record("--", command, cwd=tmp_path)
    assert told.code == code
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_no_shell_sees_the_command(tmp_path: Path) -> None:
    """Blanks, quotes, newlines and $ in the command and in file names arrive as they are."""
    words = ["a b", "$HOME", "'q\"", "new\nline", "`x`", "--", ""]
    output = tmp_path / "o'ut $x\n.dat"
    told = record("-o", output, "--", "printf", "%s|", *words, cwd=tmp_path)
    assert (told.code, told.out) == (0, "|".join(words) + "|")
    assert [p.name for p in tmp_path.iterdir()] == [output.name]
    assert len(told.err.splitlines()) == 1
    assert lives(output)


def test_a_name_with_control_characters_is_escaped(tmp_path: Path) -> None:
    """A command whose name holds escape sequences does not reach the terminal with them."""
    script = tmp_path / "e\x1b[31m\nx"
    script.write_text("#!/bin/sh\nexit 4\n")
    script.chmod(0o755)
    told = record("--", script, cwd=tmp_path)
    assert told.code == 4
    assert "\x1b" not in told.err
    assert len(told.err.splitlines()) == 1
    rows = lives(tmp_path / "trace.dat")
    assert any(row["exit"] and row["exit"]["code"] == 4 for row in rows)
    assert "\x1b" not in run("lives", cwd=tmp_path).out


def test_given_processes_and_only_those(tmp_path: Path) -> None:
    """-p records the process with all its threads until it ends, and not what it creates."""
    code = ("import threading, subprocess\n"
            "end = threading.Event(); t = threading.Thread(target=end.wait); t.start()\n"
            "input(); subprocess.run(['true']); end.set(); t.join()\n")
    child = subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE)
    assert child.stdin is not None
    try:
        until(lambda: len(tids_of(child.pid)) == 2)
        tids = tids_of(child.pid)
        recorder = start("record", "-p", str(child.pid), cwd=tmp_path)
        recording(recorder, tmp_path / "trace.dat.spool")
        child.stdin.write(b"\n")
        child.stdin.close()
        assert child.wait(20) == 0
        told = finish(recorder)
    finally:
        child.kill()
        child.wait()
    assert told.code == 0, told.err
    rows = lives(tmp_path / "trace.dat")
    assert tids <= {row["pid"] for row in rows if row["exit"]}
    assert "sched_process_exec" not in run("report", cwd=tmp_path).out


def test_children_of_a_given_process(tmp_path: Path) -> None:
    """-p with -c records what the process creates too."""
    child = subprocess.Popen(["sh", "-c", "read x; /bin/true; exit 5"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    try:
        recorder = start("record", "-p", str(child.pid), "-c", cwd=tmp_path)
        recording(recorder, tmp_path / "trace.dat.spool")
        child.stdin.write(b"\n")
        child.stdin.close()
        assert child.wait(20) == 5
        assert finish(recorder).code == 0
    finally:
        child.kill()
        child.wait()
    rows = lives(tmp_path / "trace.dat")
    assert [row["exit"]["code"] for row in rows if row["comm"] == "true" and row["exit"]] == [0]
    assert [row["exit"]["code"] for row in rows if row["pid"] == child.pid] == [5]


def test_everything_for_a_while(tmp_path: Path) -> None:
    """-a -d records tasks that nobody named, and ends by itself with exit code 0."""
    recorder = start("record", "-a", "-d", "2500ms", cwd=tmp_path)
    recording(recorder, tmp_path / "trace.dat.spool")
    subprocess.run(["sh", "-c", "exit 9"], check=False)
    told = finish(recorder)
    assert told.code == 0
    assert told.err.splitlines()[-1].endswith("(taskscope lives)")
    assert any(row["exit"] and row["exit"]["code"] == 9 for row in lives(tmp_path / "trace.dat")), told.err


def test_without_an_order_everything_is_recorded(tmp_path: Path) -> None:
    """Without an order record says that it records everything, and Ctrl-C ends it with 130 and a file."""
    recorder = start("record", cwd=tmp_path, start_new_session=True)
    recording(recorder, tmp_path / "trace.dat.spool")
    interrupt(recorder)
    told = finish(recorder)
    assert told.code == 130
    assert told.err.startswith("taskscope: recording everything until Ctrl-C\n")
    assert lives(tmp_path / "trace.dat")


def test_time_ends_the_command_too(tmp_path: Path) -> None:
    """-d with a command ends the recording and then the command, exit code 0."""
    began = time.monotonic()
    told = record("-d", "0.5", "--", "sh", "-c", "echo $$; exec sleep 60", cwd=tmp_path)
    assert told.code == 0
    assert time.monotonic() - began < 20
    assert gone(int(told.out))
    seconds = re.search(r" events, 0 lost, ([\d.]+) s, ", told.err)
    assert seconds is not None, told.err
    assert 0.5 <= float(seconds[1]) < 10


def test_ctrl_c_keeps_what_was_recorded(tmp_path: Path) -> None:
    """Ctrl-C reaches command and recorder; the command's status is passed on, and the file is there."""
    recorder = start("record", "--", "sh", "-c", "trap 'exit 5' INT; sleep 60 & echo $!; wait", cwd=tmp_path,
                     start_new_session=True)
    recording(recorder, tmp_path / "trace.dat.spool")
    assert recorder.stdout is not None
    sleep = int(recorder.stdout.readline())
    interrupt(recorder)
    recorder.wait(20)
    os.kill(sleep, signal.SIGKILL)          # a shell starts background commands with SIGINT ignored
    told = finish(recorder)
    assert told.code == 5, told.err
    assert any(row["exit"] and row["exit"]["code"] == 5 for row in lives(tmp_path / "trace.dat"))


def test_ctrl_c_with_a_command_that_does_not_care(tmp_path: Path) -> None:
    """A command that ignores Ctrl-C is waited for briefly, then left alone, and named; exit code 130."""
    recorder = start("record", "--", "sh", "-c", "trap '' INT; echo $$; exec sleep 60", cwd=tmp_path,
                     start_new_session=True)
    recording(recorder, tmp_path / "trace.dat.spool")
    assert recorder.stdout is not None
    pid = int(recorder.stdout.readline())
    interrupt(recorder)
    try:
        recorder.wait(20)
        assert not gone(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
    told = finish(recorder)
    assert told.code == 130
    assert f"the command runs on: pid {pid}" in told.err
    assert lives(tmp_path / "trace.dat")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_file(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGHUP are passed to the command, the file is written, and the recorder dies of them."""
    recorder = start("record", "--", "sleep", "60", cwd=tmp_path)
    recording(recorder, tmp_path / "trace.dat.spool")
    recorder.send_signal(number)
    told = finish(recorder)
    assert told.code == -number
    ended = [row for row in lives(tmp_path / "trace.dat") if row["comm"] == "sleep" and row["exit"]]
    assert [row["exit"]["signal"] for row in ended] == [number]
    assert [p.name for p in tmp_path.iterdir()] == ["trace.dat"]


def test_a_growing_recording_is_read(tmp_path: Path) -> None:
    """report, lives and life read the spool while it is recorded, and say once that it runs."""
    script = "echo $$; i=0; while [ ! -e stop ] && [ $i -lt 400 ]; do sleep 0.2; i=$((i+1)); done; exit 6"
    recorder = start("record", "--", "sh", "-c", script, cwd=tmp_path)
    spool = tmp_path / "trace.dat.spool"
    try:
        recording(recorder, spool)
        assert recorder.stdout is not None
        shell = recorder.stdout.readline().strip()
        until(lambda: any(row["comm"] == "sleep" and row["exit"] for row in lives(spool)))
        for words in (["report", "-F", "sched_process_exit"], ["lives"], ["life", shell]):
            told = run(*words, "-i", "trace.dat.spool", cwd=tmp_path)
            assert told.code == 0, told.err
            assert "sleep" in told.out
            assert told.err.count("is running") == 1
        refused = run("lives", cwd=tmp_path)
        assert refused.code == 2
        assert "-i trace.dat.spool" in refused.err
    finally:
        (tmp_path / "stop").touch()
        told = finish(recorder)
    assert told.code == 6
    assert any(row["exit"] and row["exit"]["code"] == 6 for row in lives(tmp_path / "trace.dat"))


def test_two_recordings_at_once(tmp_path: Path) -> None:
    """Recorders do not disturb each other: each has its own command's life."""
    recorders = [start("record", "-o", f"{k}.dat", "--", "sh", "-c", f"sleep 0.5; exit {k}", cwd=tmp_path)
                 for k in (3, 4)]
    assert [finish(r).code for r in recorders] == [3, 4]
    for k in (3, 4):
        codes = {row["exit"]["code"] for row in lives(tmp_path / f"{k}.dat") if row["exit"] and row["comm"] == "sh"}
        assert codes == {k}


def test_a_signal_from_outside_names_its_sender(tmp_path: Path) -> None:
    """Who kills a recorded process from outside is named, its release is there, and nobody else's signals are."""
    recorder = start("record", "--", "sh", "-c", "echo $$; sleep 60; exit 3", cwd=tmp_path)
    assert recorder.stdout is not None
    shell = int(recorder.stdout.readline())
    until(lambda: Path(f"/proc/{shell}/task/{shell}/children").read_text())
    sleep = int(Path(f"/proc/{shell}/task/{shell}/children").read_text())
    until(lambda: Path(f"/proc/{sleep}/comm").read_text() == "sleep\n")
    other = subprocess.Popen(["sleep", "60"])
    killer = subprocess.Popen(["bash", "-c", f"kill -TERM {other.pid}; kill -USR1 {sleep}"])
    killer.wait()
    other.wait()
    assert finish(recorder).code == 3
    rows = [json.loads(x) for x in run("report", "--json", cwd=tmp_path).out.splitlines()]
    sent = [(r["pid"], r["fields"]["sig"], r["fields"]["pid"]) for r in rows if r["event"].endswith("signal_generate")]
    assert (killer.pid, signal.SIGUSR1, sleep) in sent
    assert not any(target == other.pid for _, _, target in sent)
    assert len(sent) == len(set(sent))
    assert [r["fields"]["pid"] for r in rows if r["event"].endswith("sched_process_free")].count(sleep) <= 1
    assert [r["ts"] for r in rows] == sorted(r["ts"] for r in rows)
    life = next(row for row in lives(tmp_path / "trace.dat") if row["pid"] == sleep)
    assert (life["exit"]["signal"], life["exit"]["killer"]["pid"]) == (signal.SIGUSR1, killer.pid)


def test_from_python(tmp_path: Path) -> None:
    """taskscope.record runs a command and opens its recording; what cannot be is an error of taskscope."""
    script = ("import taskscope, sys\n"
              "t = taskscope.record(['sh', '-c', '/bin/true; exit 9'], 'x.dat', events=['default'])\n"
              "print(sorted(x.exit.code for x in t.lives if x.exit and x.comm in ('sh', 'true') and x.exit.code))\n"
              "for more in ({}, {'command': 'true'}, {'command': ['no-such']}, {'seconds': 1, 'stacks': 'x'}):\n"
              "    try: taskscope.record(**{'output': 'y.dat', **more})\n"
              "    except taskscope.errors.TaskscopeError as e: print(type(e).__name__, e)\n")
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, check=False, env=environment())
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "[9]"
    assert [line.split(" ")[0] for line in lines[1:]] == ["UsageError", "UsageError", "CommandError", "UsageError"]
    assert [p.name for p in tmp_path.iterdir()] == ["x.dat"]


def test_the_command_inherits_nothing(tmp_path: Path) -> None:
    """The command has the descriptors and signal dispositions that it would have alone."""
    script = "ls /proc/self/fd | wc -l; grep -E '^Sig(Ign|Blk)' /proc/self/status"
    alone = subprocess.run(["sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert record("--", "sh", "-c", script, cwd=tmp_path).out == alone.stdout
