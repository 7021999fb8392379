"""Kernel memory of a running guest: what QEMU's memory holds is what the guest's own /proc says."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.guest import Guest
from taskscope.labs.guest.image import find_busybox
from taskscope.labs.guest.kernel import Kernel, find_kernel
from taskscope.labs.guest.qemu import Settings
from taskscope.labs.programs import build
from taskscope.memory import guest as guest_module
from taskscope.memory.core import open_core
from taskscope.memory.guest import open_guest
from taskscope.memory.kernel import KernelMemory
from taskscope.memory.qmp import Monitor
from taskscope.snapshot.snapshot import Snapshot, TaskRow

pytestmark = pytest.mark.real

TICK = 10_000_000
#: those that sleep, are stopped, dead, renamed, nice, leaders of sessions, and have threads
CAST = """
mkfifo /tmp/never
sleep 1001 &
nice -n 10 sleep 1002 &
setsid sleep 1003 &
sleep 1004 & kill -STOP $!
sh -c '(exit 3) & exec sleep 1005' &
sh -c 'printf "a) R 1 (b" > /proc/self/comm; read forever < /tmp/never' &
/tmp/resting &
sleep 0.5
"""


class Told(NamedTuple):
    """What /proc/PID/task/TID/stat says of a task."""

    comm: str
    state: str
    ppid: int
    pgid: int
    sid: int
    flags: int
    nice: int
    threads: int
    start: int       # ticks


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """Return Debian's 6.1, which is fetched if it is not in the cache; skip where it cannot be had."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    try:
        found = find_kernel("6.1")
        find_busybox(found.machine)
    except GuestError as error:
        pytest.skip(f"no kernel for guests: {error}")
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guest") / "qmp"


@pytest.fixture(scope="module")
def guest(kernel: Kernel, place: Path) -> Iterator[Guest]:
    """Give a guest in which the cast waits."""
    try:
        resting = build("resting", kernel.machine)
    except GuestError as error:
        pytest.skip(f"no program for the guest: {error}")
    with Guest.boot(kernel, Settings(mem=256, qmp=place)) as booted:
        booted.put("/tmp/resting", resting, 0o755)
        booted.sh(CAST)
        yield booted


def look(guest: Guest) -> dict[int, Told]:
    """Return what the guest's /proc says of each task."""
    found = {}
    for line in guest.run("cat /proc/[0-9]*/task/[0-9]*/stat").text.splitlines():
        if not line[:1].isdigit():
            continue                    # somebody ended meanwhile
        head, _, tail = line.rpartition(") ")
        pid, _, comm = head.partition(" (")
        f = tail.split()
        found[int(pid)] = Told(comm, f[0], int(f[1]), int(f[2]), int(f[3]), int(f[6]), int(f[16]), int(f[17]),
                               int(f[19]))
    return found


def answer(place: Path, command: str) -> dict[str, object]:
    """Ask QEMU something."""
    monitor = Monitor(str(place))
    try:
        monitor.negotiate()
        found: dict[str, object] = monitor.execute(command)
    finally:
        monitor.close()
    return found


def runs(place: Path, seconds: float = 5.0) -> bool:
    """Wait until QEMU says that the guest runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(TraceError):
            if answer(place, "query-status")["running"]:
                return True
        time.sleep(0.1)
    return False


def compare(guest: Guest, before: dict[int, Told], found: Snapshot) -> dict[int, TaskRow]:
    """Check that what was found is what /proc said before and says afterwards."""
    after = look(guest)
    rows = {row.pid: row for row in found.tasks if row.pid}
    assert found.wounds == ()
    assert len(rows) + guest.settings.cpus == len(found.tasks)
    stayed = {pid: told for pid, told in before.items() if after.get(pid) == told}
    assert len(stayed) > 50
    for pid, told in stayed.items():
        row = rows[pid]
        kernel_thread = row.kind == "kthread"
        # A kworker's name in /proc has its workqueue behind it.
        assert row.comm == told.comm or (told.comm.startswith(row.comm) and kernel_thread)
        assert (row.ppid, row.pgid, row.sid, row.nice) == (told.ppid, told.pgid, told.sid, told.nice), told
        assert row.start_time is not None
        assert (row.start_time // TICK, row.flags) == (told.start, told.flags), told
        assert row.threads == told.threads or told.state == "Z"
        # Those that work while somebody looks: kernel threads, and pid 1, which does the looking.
        restless = (kernel_thread or pid == 1) and "R" in (row.state, told.state)
        assert row.state == told.state or restless, told
    return rows


# ---- what is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [False, True], ids=["running", "paused"])
def test_rows_are_what_proc_says(guest: Guest, place: Path, pause: bool) -> None:
    """Every task of a guest, kernel threads and threads too, is as the guest's own /proc has it."""
    before = look(guest)
    since = float(guest.sh("cat /proc/uptime").split()[0])
    with open_guest(place, pause=pause) as image:
        assert (image.release, image.arch, image.source) == (guest.release, "x86_64", str(place))
        found = KernelMemory(image).snapshot(stacks=True)
    rows = compare(guest, before, found)
    by_comm = {row.comm: row for row in rows.values()}
    assert by_comm["kthreadd"].kind == "kthread"
    assert by_comm["a) R 1 (b"].kernel_stack is not None
    assert sorted(row.kind for row in rows.values() if row.comm == "resting") == ["process", "thread"]
    told = guest.sh("cat /proc/uptime; grep btime /proc/stat").split()
    assert found.at is not None
    assert found.boot is not None
    # /proc/uptime counts in hundredths.
    assert since <= found.at / 1e9 <= float(told[0]) + 0.01
    assert abs(int(told[-1]) - found.boot) <= 1
    assert {"T", "Z", "S", "I"} <= {row.state for row in rows.values()}
    assert next(row.exit_code for row in rows.values() if row.state == "Z") == 3 << 8


def test_blocks_are_what_single_reads_give(guest: Guest, place: Path) -> None:
    """A read that lies in a block, or across two, gives what a read of just these bytes gives."""
    with open_guest(place) as image:
        start, stop = image.symbol("__start_BTF"), image.symbol("__stop_BTF")
        assert start is not None
        assert stop is not None
        whole = image.read(start, stop - start)
        for at in range(0, 1 << 18, 4093):
            for count in (1, 8, 4096, 20_000, 32_768):
                assert image.read(start + at, count) == whole[at : at + count]
        for address in (0, 8, 1 << 63, (1 << 64) - 4, 1 << 64):
            with pytest.raises(TraceError, match="cannot read"):
                image.read(address, 8)


def test_stacks_between_guard_pages_are_read(guest: Guest, place: Path) -> None:
    """Stacks lie between pages that are not there: each is read whole and in part, also where a block was not whole."""
    with open_guest(place, pause=True) as image:
        stacks = [row.stack for row in KernelMemory(image).snapshot().tasks if row.stack]
        assert len(stacks) > 50
        for _ in range(2):
            for stack in stacks:
                whole = image.read(stack, 16384)
                assert image.read(stack + 16000, 384) == whole[16000:]
                assert image.read(stack, 8) == whole[:8]
            image.forget()


def test_a_paused_guest_stands_and_goes_on(guest: Guest, place: Path) -> None:
    """While it is paused its clock stands; when the image is closed, also by an error, it goes on."""
    def ticks(image: guest_module.GuestImage) -> int:
        image.forget()
        return int.from_bytes(image.read(image.symbol("jiffies_64") or 0, 8), "little")

    # Where all sleep, the clock does, too.
    busy = guest.sh("(while :; do :; done) & echo $!").strip()
    with open_guest(place) as image:
        first = ticks(image)
        time.sleep(0.2)
        assert ticks(image) > first
    with pytest.raises(KeyError), open_guest(place, pause=True) as image:
        first = ticks(image)
        time.sleep(0.2)
        assert ticks(image) == first
        raise KeyError
    guest.sh(f"kill {busy}")
    assert answer(place, "query-status")["running"] is True
    assert guest.sh("echo alive") == "alive\n"
    with pytest.raises(TraceError, match="has been let go"):
        image.read(image.symbol("init_task") or 0, 8)


def test_a_paused_guest_is_of_one_moment(guest: Guest, place: Path) -> None:
    """While a guest is paused no list of it changes, however many come and go when it runs."""
    busy = guest.sh("for i in 1 2 3; do (while :; do true | true; busybox true; done) & echo $!; done").split()
    try:
        for _ in range(5):
            with open_guest(place, pause=True) as image:
                found = [KernelMemory(image).snapshot() for _ in range(3)]
            assert found[0].wounds == ()
            assert found[0] == found[1] == found[2]
    finally:
        guest.sh(f"kill {' '.join(busy)}")


def test_a_guest_that_was_stopped_by_others_stays_stopped(guest: Guest, place: Path) -> None:
    """Who stopped the guest lets it go on: reading it, paused or not, does neither."""
    monitor = Monitor(str(place))
    monitor.negotiate()
    monitor.execute("stop")
    monitor.close()
    try:
        for pause in (True, False):
            with open_guest(place, pause=pause) as image:
                assert len(KernelMemory(image).snapshot().tasks) > 50
            assert answer(place, "query-status")["running"] is False
    finally:
        answer(place, "cont")
    assert guest.sh("echo alive") == "alive\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_paused_guest_goes_on_if_we_are_killed(guest: Guest, place: Path, how: signal.Signals) -> None:
    """However we end while the guest is paused, it goes on."""
    program = textwrap.dedent(f"""
        import signal, time
        from taskscope.memory.guest import open_guest
        signal.signal(signal.SIGINT, signal.default_int_handler)    # a job in the background may ignore it
        with open_guest({str(place)!r}, pause=True) as image:
            print(image._monitor.execute("query-status")["status"], flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"paused\n"
        process.send_signal(how)
        process.wait(10)
    assert runs(place)
    assert guest.sh("echo alive") == "alive\n"


# ---- dumps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "more"), [
    ("elf", {"paging": False}), ("elf", {"paging": True}), ("kdump-zlib", {"paging": False, "format": "kdump-zlib"}),
], ids=["elf", "elf-paging", "kdump-zlib"])
def test_dumps_that_qemu_makes(guest: Guest, place: Path, tmp_path: Path, form: str, more: dict[str, object]) -> None:
    """A dump by dump-guest-memory is read as it is, and not changed: ELF with its odd header, kdump without a name."""
    dump = tmp_path / "dump"
    before = look(guest)
    monitor = Monitor(str(place))
    try:
        monitor.negotiate()
        if form not in monitor.execute("query-dump-guest-memory-capability")["formats"]:
            pytest.skip(f"this QEMU makes no dumps of the form {form}")
        monitor.execute("dump-guest-memory", seconds=60, protocol=f"file:{dump}", **more)
    finally:
        monitor.close()
    try:
        head, size, changed = dump.read_bytes()[:64], dump.stat().st_size, dump.stat().st_mtime_ns
        compare(guest, before, KernelMemory(open_core(dump)).snapshot())
        assert (dump.read_bytes()[:64], dump.stat().st_size, dump.stat().st_mtime_ns) == (head, size, changed)
    finally:
        dump.unlink()


# ---- what goes wrong -----------------------------------------------------------------------------------------


def test_a_monitor_that_is_taken(guest: Guest, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another client has the monitor, also several, the wait is bounded and the error says so."""
    monkeypatch.setattr(Monitor.__init__, "__defaults__", (1.0,))
    with open_guest(place), contextlib.ExitStack() as stack:
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises(TraceError, match="says nothing: it is taken"):
                open_guest(place)
            assert time.monotonic() - began < 5
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(place))
    assert runs(place)


def test_a_guest_without_vmcoreinfo(kernel: Kernel, tmp_path: Path) -> None:
    """A guest that does not say where its kernel is: the error says what QEMU and the guest need."""
    place = tmp_path / "qmp"
    del kernel                          # without a QEMU there is no test
    with subprocess.Popen(["qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-S",
                           "-qmp", f"unix:{place},server=on,wait=off"], stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 10
            while not place.exists() and time.monotonic() < end:
                time.sleep(0.05)
            with pytest.raises(TraceError, match=r"-device vmcoreinfo and load the module qemu_fw_cfg"):
                open_guest(place)
            # The monitor is free again.
            assert answer(place, "query-status")["running"] is False
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_memory_that_may_not_be_read(guest: Guest, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who may connect but not read QEMU's memory is told so at once, and the monitor is let go."""
    # From within its folder, those above it need not be open to all.
    monkeypatch.chdir(place.parent)
    place.parent.chmod(0o711)
    place.chmod(0o777)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionRefusedError, match=r"the memory of its QEMU \(pid \d+\)"):
            open_guest(place.name)
    finally:
        os.seteuid(0)
    assert runs(place)
    assert guest.sh("echo alive") == "alive\n"


def test_a_guest_that_ends_while_it_is_read(kernel: Kernel, tmp_path: Path) -> None:
    """A guest that is killed in the middle of a walk is an error, not a wound and no wait, paused or not."""
    for pause in (False, True):
        place = tmp_path / f"qmp{pause}"
        with Guest.boot(kernel, Settings(mem=256, qmp=place)) as doomed:
            began = 0.0
            with pytest.raises(TraceError, match="the guest has ended"), open_guest(place, pause=pause) as image:
                walk = KernelMemory(image).tasks()
                for _ in range(10):
                    next(walk)
                os.kill(doomed.qemu.process.pid, signal.SIGKILL)
                doomed.qemu.process.wait(10)
                image.forget()
                began = time.monotonic()
                list(walk)
            assert time.monotonic() - began < 5
            with pytest.raises(TraceError, match="nobody listens"):
                open_guest(place)
