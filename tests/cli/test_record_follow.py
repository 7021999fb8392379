"""``taskscope record --follow`` on the running kernel: nothing missed, nothing mixed up, nothing held up."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lives_json import lives_of
from recording import finish, needs_recording, run, start

pytestmark = needs_recording

#: the folder of a recording, what was told, and the pids of its storm
Stormy = tuple[Path, list[dict[str, Any]], list[int]]

#: makes N processes one after the other: every second one by fork, and an exit of its own; the others run a program
STORM = textwrap.dedent("""
    import os, sys
    for k in range(int(sys.argv[1])):
        if k % 2:
            pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        else:
            pid = os.fork()
            if pid == 0:
                os._exit(k % 256)
        os.waitpid(pid, 0)
        print(pid)
    """)


def storm(count: int) -> list[int]:
    """Run that many short processes; return their pids."""
    done = subprocess.run([sys.executable, "-c", STORM, str(count)], check=True, capture_output=True, text=True,
                          timeout=60)
    return [int(word) for word in done.stdout.split()]


class Reader:
    """Reads the lines of a recorder as they come, in a thread of its own."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        self.stream = child.stdout
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        # The recorder's end is looked for elsewhere: nobody else may read its output.
        child.stdout = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self.stream:
            for line in self.stream:
                self.lines.put(line)

    def wait_for(self, word: str, seconds: float = 20) -> str:
        """Return the next line that holds a word."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left)
            except queue.Empty:
                break
            if word in line:
                return line
        pytest.fail(f"no line with {word!r} within {seconds} s")


@pytest.fixture(scope="module")
def stormy(tmp_path_factory: pytest.TempPathFactory) -> Stormy:
    """Follow 2,000 short processes; give the recording, what was told, and their pids."""
    folder = tmp_path_factory.mktemp("storm")
    child = start("record", "-a", "--follow-to", "lines", "--json", cwd=folder)
    # Recording has begun once something is told: births happen until then.
    end = time.monotonic() + 20
    lines = folder / "lines"
    while not (lines.exists() and lines.stat().st_size) and time.monotonic() < end:
        storm(2)
        time.sleep(0.05)
    pids = storm(2000)
    child.send_signal(signal.SIGINT)
    told = finish(child)
    assert told.out == ""
    assert told.code == 130, told.err
    assert " 0 lost" in told.err
    return folder, [json.loads(line) for line in lines.read_text().splitlines()], pids


@pytest.mark.slow
def test_no_short_process_is_missed(stormy: Stormy) -> None:
    """Of 2,000 short processes every birth, exec and death is told, each once and with its code."""
    _, rows, pids = stormy
    assert len(pids) == 2000
    wanted = set(pids)
    by_event = {event: [r for r in rows if r["event"] == event and r["pid"] in wanted]
                for event in ("fork", "exec", "exit")}
    # A pid may have been used before the storm began.
    born = [r["pid"] for r in by_event["fork"]][-2000:]
    assert sorted(born) == sorted(pids)
    codes = {r["pid"]: r["exit"]["code"] for r in by_event["exit"]}
    assert [codes[pid] for pid in pids] == [0 if k % 2 else k % 256 for k in range(2000)]
    assert {r["pid"] for r in by_event["exec"]} >= {pid for k, pid in enumerate(pids) if k % 2}
    parents = {r["parent"]["pid"] for r in by_event["exit"] if r["pid"] in pids[5:]}
    assert len(parents) == 1


@pytest.mark.slow
def test_what_is_told_is_what_the_recording_tells(stormy: Stormy) -> None:
    """The lives of the recording have the same births and deaths as were told while it was made."""
    folder, rows, _ = stormy
    lives = lives_of(folder / "trace.dat")
    processes = [x for x in lives if x["kind"] != "thread"]
    assert sorted((r["at"], r["pid"]) for r in rows if r["event"] == "fork") == sorted(
        (x["born"]["at"], x["pid"]) for x in processes if x["born"])
    ends = {(x["exit"]["at"], x["pid"]): x["exit"] for x in processes if x["exit"]}
    told = {(r["at"], r["pid"]): r["exit"] for r in rows if r["event"] == "exit"}
    alike = [key for key in ends if key in told]
    # Processes of several threads end with the last of them.
    assert len(alike) > 0.9 * len(ends)
    for key in alike:
        assert (told[key]["code"], told[key]["signal"]) == (ends[key]["code"], ends[key]["signal"])


@pytest.mark.slow
def test_lines_come_in_order_of_time(stormy: Stormy) -> None:
    """No line stands behind a later one unless it says so."""
    _, rows, _ = stormy
    times = [r["at"] for r in rows if not r["late"]]
    assert times == sorted(times)
    assert sum(r["late"] for r in rows) <= len(rows) // 100


def test_the_command_keeps_its_output(tmp_path: Path) -> None:
    """Of a recorded command stdout is its own; the lines go to stderr, and its exit status is passed through."""
    script = "echo hello; sleep 9 & p=$!; sleep 0.2; kill -9 $p; wait $p; exit 7"
    told = run("record", "--follow", "--", "sh", "-c", script, cwd=tmp_path)
    assert told.code == 7
    assert told.out == "hello\n"
    # The shell has its say on stderr too.
    lines = [words for line in told.err.splitlines() for words in [line.split(maxsplit=4)]
             if len(words) == 5 and words[0] != "taskscope:"]
    assert lines[0] == ["TIME", "PID", "PPID", "COMM", "WHAT"]
    shell = next(words[1] for words in lines if words[4].startswith("exec") and words[3] == "sh")
    assert any(words[3:] == ["sleep", f"SIGKILL from sh {shell}"] for words in lines)
    assert any(words[2:4] == [shell, "sleep"] and words[4].startswith(f"killed: SIGKILL by sh {shell} after ")
               for words in lines)
    assert lines[-1][1:] == [shell, "-", "sh", "exit 7"]


def test_lines_are_told_while_it_happens(tmp_path: Path) -> None:
    """A birth is told within a second or so, not at the end."""
    child = start("record", "-a", "--follow", cwd=tmp_path)
    lines = Reader(child)
    lines.wait_for("WHAT")
    # The header comes somewhat before the first event can.
    time.sleep(0.5)
    storm(1)
    lines.wait_for(" fork")
    began = time.monotonic()
    other = subprocess.Popen(["sleep", "30"])
    try:
        line = lines.wait_for(f" {other.pid} ")
        assert time.monotonic() - began < 5
        assert line.split(maxsplit=4)[2] == str(os.getpid())
        other.terminate()
        me = f"{Path('/proc/self/comm').read_text().strip()} {os.getpid()}"
        assert lines.wait_for(f"SIGTERM from {me}").split()[1] == str(other.pid)
        assert f"killed: SIGTERM by {me} after " in lines.wait_for(f" {other.pid} ")
    finally:
        other.kill()
        other.wait()
        child.send_signal(signal.SIGINT)
        finish(child)


def test_a_reader_that_has_enough_ends_it(tmp_path: Path) -> None:
    """Like ``| head``: when the reader goes away a recording of everything ends, whole and without a complaint."""
    child = start("record", "-a", "--follow", cwd=tmp_path)
    assert child.stdout is not None
    assert "WHAT" in child.stdout.readline()
    child.stdout.close()
    child.stdout = None
    end = time.monotonic() + 15
    while child.poll() is None and time.monotonic() < end:
        storm(2)
    told = finish(child)
    assert told.code == 0
    assert "Traceback" not in told.err
    assert "trace.dat: " in told.err
    assert lives_of(tmp_path / "trace.dat")


def test_a_reader_that_sleeps_costs_no_events(tmp_path: Path) -> None:
    """While nobody reads the lines the recording goes on and is written; the lines are there when somebody does."""
    child = start("record", "-a", "-d", "2", "--follow", "--json", cwd=tmp_path)
    assert child.stdout is not None
    end = time.monotonic() + 30
    while not (tmp_path / "trace.dat").exists() and time.monotonic() < end:
        storm(100)
    assert (tmp_path / "trace.dat").exists()
    told = finish(child)
    assert told.code == 0
    assert " 0 lost" in told.err
    rows = [json.loads(line) for line in told.out.splitlines()]
    # More than a pipe holds.
    assert len(told.out) > 1 << 16
    assert sum(r["event"] == "exit" for r in rows) > 100


def test_threads_are_told_when_they_are_asked_for(tmp_path: Path) -> None:
    """Without -t only processes are born and die; with it threads too."""
    program = "import threading as t\nfor _ in range(3): x = t.Thread(target=print); x.start(); x.join()"
    for options, expected in (([], 0), (["-t"], 3)):
        told = run("record", "-q", *options, "--follow-to", "lines", "--json", "--", sys.executable, "-c", program,
                   cwd=tmp_path)
        assert told.code == 0, told.err
        rows = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
        for event in ("fork", "exit"):
            assert sum(r["event"] == event and r["kind"] == "thread" for r in rows) == expected
        assert sum(r["event"] == "exit" and r["kind"] == "process" for r in rows) == 1


def test_a_full_disk_under_the_lines_does_not_end_the_recording(tmp_path: Path) -> None:
    """When their file takes no more, that is said, and the recording goes on."""
    told = run("record", "--follow-to", "/dev/full", "--", "true", cwd=tmp_path)
    assert told.code == 0
    assert "following was ended: /dev/full takes no more" in told.err
    assert lives_of(tmp_path / "trace.dat")


def test_what_is_not_recorded_is_said(tmp_path: Path) -> None:
    """With other events than the default ones, what cannot be told is said once."""
    told = run("record", "-e", "sched_process_exec", "--follow", "--", "true", cwd=tmp_path)
    assert told.code == 0
    assert "--follow does not tell births, deaths, exit codes, signals: their events are not recorded" in told.err
    # Nor are names, so the one after the exec is not known.
    assert " -               exec /" in told.err


@pytest.mark.parametrize("option", ["-t", "--json"])
def test_options_of_following_need_it(tmp_path: Path, option: str) -> None:
    """-t and --json without --follow are a mistake that is told."""
    told = run("record", option, "--", "true", cwd=tmp_path)
    assert told.code == 2
    assert "--follow" in told.err
