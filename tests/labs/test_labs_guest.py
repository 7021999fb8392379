"""Guests: what they boot with, what they answer, and that nothing of them stays however they end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.errors import UsageError
from taskscope.labs.guest import kernel as kernel_module
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.guest import Guest, parse_place
from taskscope.labs.guest.image import archive, find_busybox, is_static
from taskscope.labs.guest.kernel import Kernel, find_kernel, release_of
from taskscope.labs.guest.qemu import Settings

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """Return Debian's 6.1, which is fetched if it is not in the cache; skip where it cannot be had."""
    try:
        found = find_kernel("6.1")
        find_busybox(found.machine)
    except GuestError as error:
        pytest.skip(f"no kernel for guests: {error}")
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    return found


@pytest.fixture(scope="module")
def guest(kernel: Kernel) -> Iterator[Guest]:
    """Give a guest that has booted."""
    with Guest.boot(kernel) as booted:
        yield booted


def guests_of(starter: int) -> set[int]:
    """Return the QEMUs that a process has started and that run now."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"taskscope-%d" % starter in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
    return found


def gone(starter: int, but: set[int] | None = None, seconds: float = 10) -> bool:
    """Wait until none of a process's QEMUs runs any more, but those that ran before."""
    end = time.monotonic() + seconds
    while guests_of(starter) - (but or set()):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# ---- without a guest -----------------------------------------------------------------------------------------


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True), st.binary(max_size=50), max_size=5))
def test_archive_is_what_cpio_reads(files: dict[str, bytes]) -> None:
    """An initramfs is a newc archive: names, sizes and contents come out as they went in, each part on 4 bytes."""
    data = archive(("bin",), {name: (0o755, content) for name, content in files.items()})
    found, at = {}, 0
    while True:
        assert data[at:at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * k:at + 14 + 8 * k], 16) for k in range(13)]
        name = data[at + 110:at + 110 + fields[11] - 1].decode()
        at += -(-(110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            break
        found[name] = data[at:at + fields[6]]
        at += -(-fields[6] // 4) * 4
    assert found == {"bin": b"", **files}


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_lists_the_archive() -> None:
    """Debian's cpio reads the archive, too."""
    data = archive(("bin", "etc"), {"etc/passwd": (0o644, b"root:x:0:0\n"), "init": (0o755, b"#!/bin/sh\n")})
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=data, capture_output=True, check=True).stdout
    assert listed.split() == [b"bin", b"etc", b"etc/passwd", b"init"]


def test_static_programs_are_told_apart() -> None:
    """A program that needs an interpreter is not static, nor is what is no program at all."""
    assert not is_static(Path(sys.executable).resolve().read_bytes())
    assert not is_static(b"\x7fELF")
    assert not is_static(b"#!/bin/sh\n")


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fall_over(data: bytes) -> None:
    """Neither damaged programs nor damaged kernels are an exception."""
    is_static(b"\x7fELF\x02\x01" + data)
    release_of(data)


def test_places() -> None:
    """A guest is named by --on guest or guest:KERNEL; 6.1 if nothing is said."""
    assert [parse_place(on) for on in ("guest", "guest:6.12", "guest:/boot/vmlinuz", "host", "model")] == [
        "6.1", "6.12", "/boot/vmlinuz", None, None]
    with pytest.raises(UsageError):
        parse_place("guest:")


def test_unknown_kernels_are_refused(tmp_path: Path) -> None:
    """A kernel that nobody knows, a file that is not there, and one that is no kernel are told apart."""
    with pytest.raises(UsageError, match=r"it is 6\.1, 6\.12"):
        find_kernel("7.0")
    with pytest.raises(UsageError, match="there is no kernel"):
        find_kernel(str(tmp_path / "vmlinuz"))
    (tmp_path / "vmlinuz").write_bytes(b"MZ" + bytes(1000))
    with pytest.raises(GuestError, match="no bzImage"):
        find_kernel(str(tmp_path / "vmlinuz"))


def test_without_a_mirror_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no Debian mirror is used, the message says so and what helps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernel_module.subprocess, "run",
                        lambda *a, **k: subprocess.CompletedProcess(a, 0, stdout="", stderr=""))
    with pytest.raises(GuestError, match="--on guest:/path/to/vmlinuz"):
        find_kernel("6.12")
    assert not list((tmp_path / "taskscope/guests").glob("linux-6.12*/release"))


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache folder that cannot be made is one clear error."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(GuestError, match="cannot be written: Not a directory"):
        find_kernel("6.1")


@pytest.mark.parametrize("name", ["release", "vmlinuz"])
def test_a_damaged_cache_is_fetched_anew(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel in the cache of which a file is empty is fetched again; a whole one is not."""
    fetched: list[str] = []

    def fetch(kernel: str, folder: Path, say: object) -> None:
        del say
        fetched.append(kernel)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "release").write_text("6.1.0-1-armmp")
        (folder / "vmlinuz").write_bytes(b"kernel")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernel_module, "_fetch", fetch)
    folder = find_kernel("armhf").image.parent
    find_kernel("armhf")
    assert fetched == ["armhf"]
    (folder / name).write_bytes(b"")
    assert find_kernel("armhf").release == "6.1.0-1-armmp"
    assert fetched == ["armhf", "armhf"]


def test_without_qemu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where QEMU is missing, the message names the package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("taskscope.labs.guest.guest.find_busybox", lambda *_: b"")
    none = Kernel("x", "1", "x86_64", tmp_path / "vmlinuz", tmp_path)
    with pytest.raises(GuestError, match="apt-get install --no-install-recommends qemu-system-x86"):
        Guest.boot(none, Settings(accel="tcg"))


# ---- with one ------------------------------------------------------------------------------------------------


def test_requests(guest: Guest) -> None:
    """A guest answers with the status and the output of what it was told to run, one after the other."""
    assert guest.release.startswith("6.1.")
    assert guest.sh("uname -r").strip() == guest.release
    assert guest.run("echo out; echo err >&2; exit 3") == guest.run("printf 'out\\nerr\\n'; exit 3")
    assert guest.run("cat /nowhere").status == 1
    with pytest.raises(GuestError, match="ended with status 5"):
        guest.sh("exit 5")


def test_files_go_in_and_come_out(guest: Guest) -> None:
    """Files of any content come out as they went in, empty ones and large ones too."""
    for size in (0, 1, 4096, 300_001):
        data = random.Random(size).randbytes(size)
        guest.put("/tmp/a file", data, 0o600)
        assert guest.get("/tmp/a file") == data
    guest.sh("mkdir -p /tmp/d/e; echo 1 > /tmp/d/one; echo 2 > /tmp/d/e/two")
    assert guest.get_folder("/tmp/d") == {"one": b"1\n", "e/two": b"2\n"}


def test_nothing_of_the_host_is_in_it(guest: Guest) -> None:
    """A guest has no network, no disk, and no file system of the host."""
    assert guest.sh("ls /sys/class/net").split() == ["lo"]
    assert guest.sh("ls /sys/block").split() == []
    assert {line.split()[2] for line in guest.sh("cat /proc/mounts").splitlines()} <= {
        "rootfs", "proc", "sysfs", "devtmpfs", "tmpfs", "devpts", "tracefs", "cgroup2", "debugfs"}


def test_a_script_that_takes_too_long(kernel: Kernel) -> None:
    """A request that does not end in time is an error with the script's first line, and the guest can be closed."""
    before = guests_of(os.getpid())
    with Guest.boot(kernel, Settings(cpus=1, accel="tcg")) as late:
        began = time.monotonic()
        with pytest.raises(GuestError, match="'sleep 100' did not end in time"):
            late.run("sleep 100", seconds=1)
        assert time.monotonic() - began < 5
        with pytest.raises(GuestError, match="the guest is busy: 'sleep 100' did not end"):
            late.run("true")
    assert gone(os.getpid(), before)


def test_a_kernel_that_panics_is_told(kernel: Kernel) -> None:
    """A guest that dies is an error with its last words."""
    said = pytest.raises(GuestError, match=r"(?s)last words:.*RIP: ")
    with Guest.boot(kernel, Settings(cpus=1, accel="tcg")) as doomed, said:
        doomed.run("echo 8 > /proc/sys/kernel/printk; echo c > /proc/sysrq-trigger", seconds=20)


@pytest.mark.parametrize("how", ["qemu is killed", "we are killed", "while it boots"])
def test_nothing_stays(kernel: Kernel, how: str, tmp_path: Path) -> None:
    """Whoever is killed at whatever moment: no QEMU and no file stays."""
    program = textwrap.dedent("""
        import os, sys, time
        from taskscope.labs.guest.guest import Guest
        from taskscope.labs.guest.kernel import find_kernel
        from taskscope.labs.guest.qemu import Settings
        kernel = find_kernel("6.1")
        print("now", flush=True)
        with Guest.boot(kernel, Settings(cpus=1, accel="tcg")) as guest:
            print("up", guest.qemu.process.pid, flush=True)
            guest.run("sleep 100", seconds=200)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"now\n"
        if how == "while it boots":
            time.sleep(random.Random().uniform(0.05, 1.5))
            process.kill()
        else:
            pid = int(process.stdout.readline().split()[1])
            assert pid in guests_of(process.pid)
            os.kill(pid if how == "qemu is killed" else process.pid, signal.SIGKILL)
        said = process.stderr.read()
    if how == "qemu is killed":
        assert process.returncode == 1
        assert b"GuestError: QEMU ended with status -9" in said
    assert gone(process.pid)
    assert list(tmp_path.iterdir()) == []


def test_its_memory_can_be_read_over_qmp(kernel: Kernel, tmp_path: Path) -> None:
    """A guest whose memory is to be read has a QMP socket, and tells QEMU where its kernel's notes are (vmcoreinfo)."""
    place = tmp_path / "qmp"
    with Guest.boot(kernel, Settings(cpus=1, accel="tcg", qmp=place)) as guest:
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(10)
            qmp.connect(str(place))
            lines = qmp.makefile("rw", encoding="utf-8")
            assert "QMP" in json.loads(lines.readline())
            answers = []
            for command in ("qmp_capabilities", "query-status", "query-dump-guest-memory-capability"):
                lines.write(json.dumps({"execute": command}) + "\n")
                lines.flush()
                answers.append(json.loads(lines.readline())["return"])
        assert answers[1]["running"] is True
        assert "elf" in answers[2]["formats"]
        assert "etc/vmcoreinfo" in guest.sh("cd /sys/firmware/qemu_fw_cfg/by_name; find . -name vmcoreinfo")
