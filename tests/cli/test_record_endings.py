"""How ``taskscope record`` ends when things go wrong: killed, no room, no permission, an output in the way."""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recording import (
    TRACEFS,
    environment,
    finish,
    gone,
    instances,
    interrupt,
    lives,
    needs_recording,
    record,
    recording,
    run,
    start,
    until,
)

pytestmark = [*needs_recording, pytest.mark.limit(120)]

#: ends when it is told to, and after some minutes in any case
LOAD = "i=0; while [ ! -e stop ] && [ $i -lt 50000 ]; do /bin/true; i=$((i+1)); done"


def nobody() -> pwd.struct_passwd:
    """Return an account that is not root."""
    return pwd.getpwnam("nobody")


def clear(pid: int) -> None:
    """Remove what a killed recorder left in the kernel, as the next recording does."""
    from taskscope.ftrace.tracefs import Tracefs, remove_stale

    remove_stale(Tracefs(TRACEFS))
    assert instances(pid) == []


@pytest.mark.parametrize("moment", range(10))
def test_killed_at_any_moment(tmp_path: Path, moment: int) -> None:
    """After kill -9 the spool is read or says that it is empty, --recover makes the file, and nothing is left."""
    wait = random.Random(moment).uniform(0, 0.25) if moment < 5 else (0.3, 0.8, 1.1, 1.4, 1.9)[moment - 5]
    recorder = start("record", "-b", "512", "--", "sh", "-c", f"echo $$; {LOAD}", cwd=tmp_path)
    spool = tmp_path / "trace.dat.spool"
    if moment >= 5:
        recording(recorder, spool)
    time.sleep(wait)
    recorder.kill()
    recorder.wait(10)
    (tmp_path / "stop").touch()
    assert recorder.stdout is not None
    assert recorder.stderr is not None
    shell = recorder.stdout.read().strip()
    recorder.stdout.close()
    recorder.stderr.close()
    if shell:
        until(lambda: gone(int(shell)))
    if (spool / "header_page").exists():
        seen = run("lives", "-i", spool, cwd=tmp_path)
        if seen.code != 0:
            assert seen.code == 3
            assert "nothing was recorded" in seen.err
        else:
            assert "the recorder was killed" in seen.err
    if (spool / "spool.json").exists():
        told = run("record", "--recover", "trace.dat.spool", cwd=tmp_path)
        if told.code == 0:
            assert not spool.exists()
            assert instances(recorder.pid) == []
            rows = lives(tmp_path / "trace.dat")
            # It had been read by then.  (What the kernel still holds is in it too, unless another recording began.)
            assert wait < 1.3 or any(row["pid"] == int(shell) for row in rows)
        else:
            assert "there is nothing in it" in told.err
    clear(recorder.pid)


def test_the_next_recording_removes_the_stale_instance(tmp_path: Path) -> None:
    """A killed recorder's instances are removed by the next recording, and its spool is not touched."""
    recorder = start("record", "--", "sh", "-c", LOAD, cwd=tmp_path)
    recording(recorder, tmp_path / "trace.dat.spool")
    until(lambda: any(any(p.read_bytes()[:64]) for p in (tmp_path / "trace.dat.spool").glob("cpu*.raw")))
    recorder.kill()
    recorder.wait(10)
    (tmp_path / "stop").touch()
    recorder.communicate(timeout=10)
    assert instances(recorder.pid)
    told = record("-o", "other.dat", "--", "true", cwd=tmp_path)
    assert told.code == 0
    assert instances(recorder.pid) == []
    assert (tmp_path / "trace.dat.spool/header_page").exists()
    refused = record("--", "true", cwd=tmp_path)
    assert refused.code == 2
    assert "taskscope record --recover trace.dat.spool" in refused.err
    assert run("record", "--recover", "trace.dat.spool", cwd=tmp_path).code == 0
    assert lives(tmp_path / "trace.dat")


def test_a_running_recording_is_left_alone(tmp_path: Path) -> None:
    """Its spool is neither recovered nor recorded into, and its instance not removed by others."""
    recorder = start("record", "--", "sh", "-c", LOAD + "; exit 2", cwd=tmp_path)
    try:
        recording(recorder, tmp_path / "trace.dat.spool")
        for words in (["record", "--recover", "trace.dat.spool"], ["record", "--", "true"]):
            told = run(*words, cwd=tmp_path)
            assert told.code == 2
            assert f"(pid {recorder.pid})" in told.err
        assert record("-q", "-o", "other.dat", "--", "true", cwd=tmp_path).code == 0
        assert instances(recorder.pid)
    finally:
        (tmp_path / "stop").touch()
    assert finish(recorder).code == 2


@pytest.mark.parametrize(("content", "code", "said"), [
    (b"#!/bin/sh\n", 2, "is no recording: it is not overwritten"), (b"", 0, " events"),
    (b"\x17\x08\x44tracing6\0", 0, "it is replaced when the new recording is complete"),
])
def test_what_is_overwritten(tmp_path: Path, content: bytes, code: int, said: str) -> None:
    """A recording is replaced after saying so; a file that is none is not; the command does not run then."""
    output = tmp_path / "trace.dat"
    output.write_bytes(content)
    told = record("--", "touch", "ran", cwd=tmp_path)
    assert told.code == code
    assert said in told.err
    assert (tmp_path / "ran").exists() == (code == 0)
    if code:
        assert output.read_bytes() == content
    else:
        assert lives(output)


@pytest.mark.parametrize(("output", "said"), [
    ("none/trace.dat", "there is no folder none"), (".", "is no regular file"), ("link", "link to nothing"),
])
def test_an_output_that_cannot_be(tmp_path: Path, output: str, said: str) -> None:
    """An output that cannot be written is refused before anything is recorded."""
    (tmp_path / "link").symlink_to("nowhere")
    told = record("-o", output, "--", "touch", "ran", cwd=tmp_path)
    assert told.code == 2
    assert said in told.err
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_failed_recording_keeps_the_old_file(tmp_path: Path) -> None:
    """The old file stays as it was until the new one is complete."""
    assert record("-q", "--", "sh", "-c", "exit 3", cwd=tmp_path).code == 3
    before = (tmp_path / "trace.dat").read_bytes()
    assert record("--", "no-such-command", cwd=tmp_path).code == 127
    recorder = start("record", "--", "sleep", "60", cwd=tmp_path)
    recording(recorder, tmp_path / "trace.dat.spool")
    recorder.kill()
    recorder.wait(10)
    for pid in _children_named("sleep", recorder.pid):
        os.kill(pid, signal.SIGKILL)
    for stream in (recorder.stdout, recorder.stderr):
        assert stream is not None
        stream.close()
    assert (tmp_path / "trace.dat").read_bytes() == before
    clear(recorder.pid)


def _children_named(name: str, recorder: int) -> list[int]:
    """Return the orphans of a recorder: their session and group are still its own."""
    found = []
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                comm, rest = (p / "stat").read_text().rsplit(")", 1)
            except OSError:
                continue
            if comm.endswith(f"({name}") and int(rest.split()[2]) in (os.getpgid(0), recorder):
                found.append(int(p.name))
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing_that_was_written(small_disk: Path, tmp_path: Path) -> None:
    """Where the disk fills up the recorder stops and says so, exit code 1; what it wrote can be recovered elsewhere."""
    load = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000"]
    told = record("-e", "default", "-e", "raw_syscalls", "--", *load, cwd=small_disk)
    assert told.code == 1
    assert "disk is full" in told.err
    spool = small_disk / "trace.dat.spool"
    if spool.exists():
        assert "record --recover trace.dat.spool" in told.err
        size = sum(p.stat().st_size for p in spool.glob("cpu*.raw"))
        assert size > 4 << 20
        assert lives(spool)
        assert run("record", "--recover", spool, "-o", tmp_path / "elsewhere.dat", cwd=small_disk).code == 0
        assert not spool.exists()
        output = tmp_path / "elsewhere.dat"
    else:
        output = small_disk / "trace.dat"
    assert any(row["comm"] == "dd" for row in lives(output))
    count = run("report", "-i", output, "-F", "raw_syscalls:sys_enter", cwd=tmp_path).out.count("sys_enter")
    assert count > 20_000


def test_no_room_at_all(small_disk: Path) -> None:
    """Where the disk is full from the beginning nothing is run and nothing is left."""
    (small_disk / "big").write_bytes(bytes(11 << 20))
    told = record("--", "touch", "ran", cwd=small_disk)
    assert told.code == 1
    assert "No space left" in told.err
    assert [p.name for p in small_disk.iterdir()] == ["big"]


def test_who_called_sudo_runs_the_command(tmp_path: Path) -> None:
    """Under sudo the command runs as the caller, with his groups and home, and the file is his."""
    who = nobody()
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.owner() == "root" and folder != Path("/") and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    env = environment(SUDO_UID=str(who.pw_uid), SUDO_GID=str(who.pw_gid), SUDO_USER=who.pw_name,
                      SUDO_COMMAND="/usr/bin/taskscope", HOME="/root", USER="root", LOGNAME="root")
    script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME ${SUDO_UID-none} ${SUDO_COMMAND-none}; exit 3"
    told = record("--", "sh", "-c", script, cwd=tmp_path, env=env)
    assert told.code == 3, told.err
    uid, gid, groups, names = told.out.splitlines()
    assert (uid, gid) == (str(who.pw_uid), str(who.pw_gid))
    assert "0" not in groups.split()
    assert names == f"{who.pw_dir} {who.pw_name} {who.pw_name} none none"
    status = (tmp_path / "trace.dat").stat()
    assert (status.st_uid, status.st_gid) == (who.pw_uid, who.pw_gid)


def test_the_spool_of_a_sudo_recording_is_the_callers(tmp_path: Path) -> None:
    """While it grows the spool belongs to who called sudo, and nobody else may read it."""
    who = nobody()
    env = environment(SUDO_UID=str(who.pw_uid), SUDO_GID=str(who.pw_gid), SUDO_USER=who.pw_name)
    recorder = start("record", "-a", "-d", "1", cwd=tmp_path, env=env)
    spool = tmp_path / "trace.dat.spool"
    recording(recorder, spool)
    for path in (spool, *spool.rglob("*")):
        status = path.stat()
        assert (status.st_uid, status.st_mode & 0o077) == (who.pw_uid, 0), path
    assert finish(recorder).code == 0


def test_another_user_by_name(tmp_path: Path) -> None:
    """--user runs the command as that user; one that does not exist is refused."""
    told = record("--user", "nobody", "--", "id", "-un", cwd=tmp_path)
    assert (told.code, told.out) == (0, "nobody\n")
    told = record("--user", "no-such-user", "--", "true", cwd=tmp_path)
    assert told.code == 2
    assert "there is no such user" in told.err


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_without_root(tmp_path: Path) -> None:
    """A user gets exit code 77 and the sentence that helps; nothing is run or left."""
    who = nobody()
    tmp_path.chmod(0o777)
    prefix = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
    probe = subprocess.run([*prefix, sys.executable, "-c", "import taskscope.cli.main"], env=environment(), cwd="/",
                           check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("this checkout cannot be read by other users")
    told = record("-o", tmp_path / "trace.dat", "--", "touch", tmp_path / "ran", cwd=Path("/"), prefix=prefix)
    assert told.code == 77
    assert "sudo taskscope record" in told.err
    assert len(told.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")
@pytest.mark.alone
def test_a_missing_tracefs_is_mounted_and_unmounted(tmp_path: Path) -> None:
    """Where no tracefs is mounted root mounts it for the recording, and unmounts it at the end."""
    script = ("umount /sys/kernel/tracing && ! grep -q ' tracefs ' /proc/self/mounts || exit 90; "
              '"$@"; code=$?; if grep -q " tracefs " /proc/self/mounts; then exit 91; fi; exit $code')
    told = record("--", "sh", "-c", "grep -c ' /sys/kernel/tracing tracefs ' /proc/self/mounts; exit 6",
                  cwd=tmp_path, prefix=["unshare", "--mount", "sh", "-c", script, "sh"])
    if told.code in (1, 90):
        pytest.skip(f"tracefs cannot be unmounted in a mount namespace here: {told.err.strip()}")
    assert (told.code, told.out) == (6, "1\n"), told.err
    assert lives(tmp_path / "trace.dat")


def test_a_second_ctrl_c_keeps_the_spool(tmp_path: Path) -> None:
    """Ctrl-C while the file is written ends that; the spool is kept, and said to be."""
    load = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000"]
    recorder = start("record", "-e", "raw_syscalls", "--", *load, cwd=tmp_path, start_new_session=True)
    spool = tmp_path / "trace.dat.spool"
    recording(recorder, spool)
    until(lambda: any(p.name.startswith(".trace.dat.tmp-") for p in tmp_path.iterdir()) or recorder.poll() is not None,
          60)
    interrupt(recorder)
    told = finish(recorder)
    if (tmp_path / "trace.dat").exists():
        pytest.skip("the file was written before Ctrl-C came")
    assert told.code in (1, 130)
    assert "taskscope record --recover trace.dat.spool" in told.err
    assert json.loads((spool / "spool.json").read_text())["state"] == "writing"
    assert run("record", "--recover", "trace.dat.spool", cwd=tmp_path).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["trace.dat"]


@pytest.mark.parametrize(("make", "said"), [
    (Path.exists, "is no spool of a recording; give the folder"),
    (lambda p: p.mkdir(), "it has no spool.json"),
    (lambda p: (p.mkdir(), (p / "spool.json").write_text("{")), "is damaged"),
    (lambda p: (p.mkdir(), (p / "spool.json").write_text('{"format": 99}')), "is of format 99"),
    (lambda p: (p.mkdir(), (p / "spool.json").write_text('{"format": 1, "page_size": 0}')), "page_size is 0"),
    (lambda p: (p.mkdir(), (p / "spool.json").write_text('{"format": 1}')), "there is nothing in it"),
])
def test_what_cannot_be_recovered(tmp_path: Path, make: object, said: str) -> None:
    """--recover says what is wrong with a folder that is no spool, or an empty or damaged one, and removes nothing."""
    make(tmp_path / "x.spool")  # type: ignore[operator]
    before = sorted(tmp_path.rglob("*"))
    told = run("record", "--recover", "x.spool", cwd=tmp_path)
    assert told.code in (1, 2, 3)
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
