"""Which events ``taskscope record`` records, with filters, triggers and probes, and what it says of those it cannot."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from recording import TRACEFS, lives, needs_recording, record, recording, run, start
from taskscope.ftrace.functions import function_tracer, kprobes

pytestmark = [*needs_recording, pytest.mark.limit(90)]


def events(folder: Path) -> list[dict[str, object]]:
    """Return the events of trace.dat, their name without the system."""
    rows = [json.loads(x) for x in run("report", "--json", cwd=folder).out.splitlines()]
    return [row | {"event": row["event"].split(":")[-1]} for row in rows]


def names(folder: Path) -> set[str]:
    """Return the names of the events of trace.dat."""
    return {str(row["event"]) for row in events(folder)}


@pytest.mark.parametrize(("asked", "expected"), [
    (["sched_process_exit"], {"sched_process_exit"}),
    (["sched:sched_process_e*"], {"sched_process_exec", "sched_process_exit"}),
    (["sched/sched_process_exec", "sched_process_exit"], {"sched_process_exec", "sched_process_exit"}),
    (["task"], {"task_newtask", "task_rename"}),
    (["sched_process_e?ec:filename ~ \"*/true\""], {"sched_process_exec"}),
])
def test_events_by_name(tmp_path: Path, asked: list[str], expected: set[str]) -> None:
    """-e takes systems, events, globs and filters, and replaces the default events."""
    told = record(*(x for e in asked for x in ("-e", e)), "--", "sh", "-c", "/bin/true; exit 0", cwd=tmp_path)
    assert told.code == 0, told.err
    assert names(tmp_path) == expected


def test_a_filter_chooses_records(tmp_path: Path) -> None:
    """Only records that fit the filter are there, with their stacks, and no stack of those that do not fit."""
    spec = "sched_process_exit:comm == \"true\""
    told = record("-e", spec, "--", "sh", "-c", "/bin/true; exec /bin/false", cwd=tmp_path)
    assert told.code == 1
    rows = events(tmp_path)
    assert [(row["event"], row["comm"], bool(row["stack"])) for row in rows] == [("sched_process_exit", "true", True)]


def test_default_can_be_added_to(tmp_path: Path) -> None:
    """-e default keeps the default events beside others."""
    assert record("-e", "default", "-e", "raw_syscalls:sys_enter", "--", "true", cwd=tmp_path).code == 0
    assert {"sched_switch", "sched_process_exec", "sys_enter"} <= names(tmp_path)


def test_interrupts_are_recorded_when_asked_for(tmp_path: Path) -> None:
    """--irq records interrupts and softirqs; without it there are none."""
    assert record("-q", "--irq", "-a", "-d", "0.5", cwd=tmp_path).code == 0
    seen = names(tmp_path)
    assert any(name.startswith("softirq_") for name in seen)
    assert "sched_switch" in seen


@pytest.mark.parametrize(("options", "said"), [
    (["-e", "sched_swich"], "did you mean sched:sched_switch"),
    (["-e", "schedd:sched_switch"], "did you mean sched:sched_switch"),
    (["-e", "zzzzzzzz"], "this kernel has no event 'zzzzzzzz'"),
    (["-e", "a b"], "is no event"),
    (["--trigger", "sched_waking"], "is none; it is EVENT:COMMAND"),
    (["--trigger", "nonono:stacktrace"], "this kernel has no event 'nonono'"),
    (["--trigger", "sched_waking:nonono"], "this kernel has: "),
    (["--clock", "sundial"], "this kernel has the clocks local, "),
    (["--buffer", "900G"], "more than half"),
    (["--buffer", "x"], "is no size of a buffer"),
    (["-d", "soon"], "is no length of time"),
    (["-p", "4194303"], "there is no process with that pid"),
    (["-p", "x"], "is no pid"),
    (["-c"], "-c goes with -p"),
    (["--file-version", "6", "--compression", "zstd"], "version 6"),
])
def test_what_is_not_there(tmp_path: Path, options: list[str], said: str) -> None:
    """What this kernel does not have is a usage error with what it has; the command does not run, nothing is left."""
    told = record(*options, "--", "touch", "ran", cwd=tmp_path)
    assert told.code == 2, told.err
    assert said in told.err
    assert list(tmp_path.iterdir()) == []


def test_the_kernels_own_words_about_a_filter(tmp_path: Path) -> None:
    """A filter that the kernel refuses is shown with the kernel's explanation and its mark under the place."""
    told = record("-e", "sched_waking:nonono == 3", "--", "true", cwd=tmp_path)
    assert told.code == 2
    lines = told.err.splitlines()
    assert "the kernel refuses the filter of sched:sched_waking: nonono == 3" in lines[0]
    assert "Field not found" in told.err
    at = next(k for k, line in enumerate(lines) if "Command: " in line)
    assert lines[at + 1].strip() == "^"
    assert lines[at].index("nonono") <= lines[at + 1].index("^") < len(lines[at])


def test_a_trigger_with_a_condition(tmp_path: Path) -> None:
    """The wakeups of kthreadd have the stack of whoever woke it, and no other wakeup has one."""
    trigger = "sched_waking:stacktrace if comm == \"kthreadd\""
    recorder = start("record", "-a", "--no-stacks", "--trigger", trigger, "-d", "2.5", cwd=tmp_path)
    recording(recorder, tmp_path / "trace.dat.spool")
    # A kernel thread is made for a mounted file system of its own.
    image = tmp_path / "image"
    made = _wake_kthreadd(image)
    _, err = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, err
    rows = [row for row in events(tmp_path) if row["event"] == "sched_waking"]
    with_stack = Counter(row["fields"]["comm"] == "kthreadd" for row in rows if row["stack"])  # type: ignore[index]
    assert with_stack[False] == 0
    woken = [row for row in rows if row["fields"]["comm"] == "kthreadd"]  # type: ignore[index]
    if not woken:
        pytest.skip(f"nothing woke kthreadd here ({made})")
    assert all(row["stack"] for row in woken)
    assert all("try_to_wake_up" in str(row["stack"]) or "wake_up" in str(row["stack"]) for row in woken)


def _wake_kthreadd(image: Path) -> str:
    """Have the kernel make a kernel thread; return how."""
    image.write_bytes(bytes(8 << 20))
    if subprocess.run(["mkfs.ext4", "-q", "-F", image], check=False, capture_output=True).returncode == 0:
        folder = image.with_name("mounted")
        folder.mkdir()
        if subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True).returncode == 0:
            time.sleep(0.2)
            subprocess.run(["umount", folder], check=True)
            return "a file system was mounted"
    # A new network namespace makes work queues and their threads.
    subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return "a network namespace was made"


def test_a_user_trigger_stays_with_its_event(tmp_path: Path) -> None:
    """A traceoff trigger ends what is recorded at its event."""
    trigger = "sched_process_exec:traceoff if filename ~ \"*/false\""
    told = record("--no-stacks", "-e", "sched_process_exec", "-e", "sched_process_exit", "--trigger", trigger,
                  "--", "sh", "-c", "/bin/true; /bin/false; /bin/true", cwd=tmp_path)
    assert told.code == 0, told.err
    rows = events(tmp_path)
    assert [str(row["fields"]["filename"]).rsplit("/", 1)[-1] for row in rows  # type: ignore[index]
            if row["event"] == "sched_process_exec"] in (["sh", "true"], ["sh", "true", "false"])


def test_stacks_for_all(tmp_path: Path) -> None:
    """--stacks gives every event its stack, --no-stacks none."""
    asked = ["-e", "sched_switch", "-e", "sched_process_exit"]
    assert record("-q", "--stacks", *asked, "--", "true", cwd=tmp_path).code == 0
    rows = events(tmp_path)
    assert rows
    assert all(row["stack"] for row in rows)
    assert record("-q", "--no-stacks", "--", "true", cwd=tmp_path).code == 0
    rows = events(tmp_path)
    assert rows
    assert not any(row["stack"] for row in rows)


@pytest.mark.skipif(function_tracer(TRACEFS).works, reason="functions can be traced here")
def test_functions_where_the_kernel_refuses(tmp_path: Path) -> None:
    """-l where functions cannot be traced: a sentence with the name here and what is recorded instead; it goes on."""
    told = record("-l", "_do_fork", "--", "sh", "-c", "/bin/true; exit 4", cwd=tmp_path)
    assert told.code == 4
    assert "_do_fork is called kernel_clone in this kernel (since v5.10)" in told.err
    assert "functions are not recorded: " in told.err
    assert "for kernel_clone look at task:task_newtask" in told.err
    assert any(row["exit"] and row["exit"]["code"] == 4 for row in lives(tmp_path / "trace.dat"))
    told = record("-l", "no_such_function_at_all", "--", "true", cwd=tmp_path)
    assert told.code == 2
    assert "no function 'no_such_function_at_all'" in told.err


@pytest.mark.skipif(not function_tracer(TRACEFS).works, reason="this kernel does not let functions be traced")
def test_functions_where_the_kernel_allows(tmp_path: Path) -> None:
    """-l records the calls of a function under the name that it has here."""
    told = record("-l", "_do_fork", "-l", "do_exi*", "--", "sh", "-c", "/bin/true; exit 4", cwd=tmp_path)
    assert told.code == 4
    text = run("report", "-F", "function", cwd=tmp_path).out
    assert "kernel_clone" in text
    assert "do_exit" in text


@pytest.mark.skipif(function_tracer(TRACEFS).works or kprobes(TRACEFS).works, reason="probes can be set here")
def test_a_probe_where_the_kernel_refuses(tmp_path: Path) -> None:
    """--probe where no probe can be set: exit code 77, why, and the event that tells the same; nothing is run."""
    told = record("--probe", "_do_fork:comm == \"sh\"", "--", "touch", "ran", cwd=tmp_path)
    assert told.code == 77
    assert "--trigger 'task:task_newtask:stacktrace'" in told.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not kprobes(TRACEFS).works, reason="this kernel has no kprobes")
def test_a_probe_has_a_stack(tmp_path: Path) -> None:
    """--probe records the calls that fit its condition, each with its stack, and is removed at the end."""
    told = record("--probe", "do_exit:comm == \"true\"", "--", "sh", "-c", "/bin/true; exit 4", cwd=tmp_path)
    assert told.code == 4
    rows = [row for row in events(tmp_path) if row["event"] == "do_exit"]
    assert [(row["comm"], bool(row["stack"])) for row in rows] == [("true", True)]
    assert f"taskscope_{told.pid}_" not in (TRACEFS / "kprobe_events").read_text()
