"""A kernel of arm64 without CONFIG_KALLSYMS_ALL: types, tasks and stacks are found in its memory alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.errors import TraceError
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.guest import Guest
from taskscope.labs.guest.image import find_busybox
from taskscope.labs.guest.kernel import find_kernel
from taskscope.labs.guest.qemu import Settings
from taskscope.memory.core import open_core
from taskscope.memory.guest import GuestImage, open_guest
from taskscope.memory.image import Image
from taskscope.memory.kernel import KernelMemory
from taskscope.memory.qmp import Monitor

pytestmark = [pytest.mark.real, pytest.mark.limit(240)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guest") / "qmp"


@pytest.fixture(scope="module")
def guest(place: Path) -> Iterator[Guest]:
    """Give a guest of Debian's arm64 kernel, in which some sleep; skip where it cannot be had."""
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("qemu-system-aarch64 is not installed")
    try:
        kernel = find_kernel("arm64")
        find_busybox(kernel.machine)
    except GuestError as error:
        pytest.skip(f"no kernel for guests: {error}")
    with Guest.boot(kernel, Settings(mem=256, qmp=place)) as booted:
        booted.sh("sleep 1001 &\nsleep 1002 &\nsh -c '(exit 3) & exec sleep 1005' &\nsleep 0.5")
        yield booted


def stacks(guest: Guest) -> dict[int, list[str]]:
    """Return what /proc/PID/stack says of each process."""
    found: dict[int, list[str]] = {}
    text = guest.sh("for p in /proc/[0-9]*; do echo == $p; cat $p/stack 2>/dev/null; done; true")
    for part in text.split("== /proc/"):
        pid, _, lines = part.partition("\n")
        if lines:
            found[int(pid)] = [line.split()[1] for line in lines.splitlines()]
    return found


def check(guest: Guest, before: dict[int, list[str]], image: Image) -> None:
    """Check tasks and stacks against /proc before and afterwards."""
    assert (image.arch, image.release) == ("aarch64", guest.release)
    found = KernelMemory(image).snapshot(stacks=True)
    assert found.wounds == ()
    rows = {row.pid: row for row in found.tasks}
    after = stacks(guest)
    stayed = [pid for pid, stack in before.items() if pid > 1 and after.get(pid) == stack]
    assert len(stayed) > 30
    differ = []
    for pid in stayed:
        told = guest.run(f"cat /proc/{pid}/comm /proc/{pid}/stat").text
        row = rows[pid]
        assert told.startswith(row.comm)
        assert int(told.rpartition(") ")[2].split()[1]) == row.ppid
        stack = list(row.kernel_stack or ())
        if stack[len(stack) - len(before[pid]):] != before[pid]:
            differ.append((pid, row.comm, stack))
        assert row.thread_info is not None
        assert row.thread_info["preempt_count"] in (0, 1, 2), row
    # Kernel threads wake up now and then between the looks.
    assert len(differ) <= 3, differ
    sleeping = [row for row in rows.values() if row.comm == "sleep"]
    assert [row.wchan for row in sleeping] == ["hrtimer_nanosleep"] * 3
    assert next(row.exit_code for row in rows.values() if row.state == "Z") == 3 << 8


def test_a_guest_of_arm64(guest: Guest, place: Path) -> None:
    """BTF and init_task are found without symbols, each task is as /proc has it, and stacks end as /proc's do."""
    before = stacks(guest)
    with open_guest(place, pause=True) as image:
        assert "init_task" not in guest_symbols(image)
        KernelMemory(image).snapshot()
    with open_guest(place) as image:
        check(guest, before, image)


def guest_symbols(image: GuestImage) -> dict[str, int]:
    """Return the symbols that the guest's kernel has of itself."""
    return image._symbols._address  # type: ignore[union-attr]


@pytest.mark.parametrize("paging", [False, True])
def test_a_dump_of_arm64(guest: Guest, place: Path, tmp_path: Path, paging: bool) -> None:
    """A dump that QEMU makes of it is read as the guest is, without a debug package."""
    before = stacks(guest)
    monitor = Monitor(str(place))
    try:
        monitor.negotiate()
        monitor.execute("dump-guest-memory", seconds=60, protocol=f"file:{tmp_path / 'dump'}", paging=paging)
    except TraceError as error:
        if not paging:
            raise
        pytest.skip(str(error))
    finally:
        monitor.close()
    try:
        began = time.monotonic()
        image = open_core(tmp_path / "dump")
        assert time.monotonic() - began < 20
        check(guest, before, image)
    finally:
        (tmp_path / "dump").unlink()
