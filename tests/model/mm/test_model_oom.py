"""Memory runs out: reclaim, the low-memory killer, the OOM killer and its reaper."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys as host
from pathlib import Path
from typing import Any

import pytest

import taskscope
from bare import ALL, error, play, world
from taskscope.model import machine
from taskscope.model.include.linux.gfp import GFP_KERNEL
from taskscope.model.include.linux.sched import PF_KTHREAD
from taskscope.model.mm import oom_kill, page_alloc, vmscan
from taskscope.system import System

PAGE = 4096
MEM = 64 << 20


def hog(sys: Any, argv: list[str]) -> int:
    """Take so many pages, some at a time, and keep them."""
    pages, adj = int(argv[1]), argv[2] if len(argv) > 2 else ""
    if adj:
        fd = sys.open("/proc/self/oom_score_adj", os.O_WRONLY)
        sys.write_all(fd, adj.encode())
        sys.close(fd)
    for at in range(0, pages, 50):
        sys.touch(sys.mmap(min(50, pages - at) * PAGE), min(50, pages - at) * PAGE)
        sys.run_for(100_000)
    sys.puts("full")
    while True:
        sys.pause()


def fill(k: System, pages: int, name: str, adj: str = "") -> Any:
    """Start a hog and let it take its pages."""
    process = k.spawn(hog, str(pages), adj, name=name)
    k.run(s=0.3)
    return process


def events(k: System, *names: str) -> list[tuple[str, Any]]:
    """Return which events were recorded, in order, with their pid."""
    recording = k.recording()
    found: list[tuple[int, str, Any]] = []
    for name in names:
        if recording.type(name) is not None:
            found += [(row["ts"], name.partition(":")[2], row["fields.pid"])
                      for row in recording.events(name).iter_rows(named=True)]
    return [(name, pid) for _, name, pid in sorted(found, key=lambda one: one[0])]


@pytest.mark.parametrize("flavour", ALL)
def test_the_largest_dies(flavour: str) -> None:
    """With equal oom_score_adj the process with most memory is killed, by SIGKILL, and what it had is free again."""
    with taskscope.boot(flavour=flavour, mem=MEM) as k:
        small = fill(k, 1500, "small")
        large = fill(k, 7500, "large")
        third = k.spawn(hog, "4000", name="third")
        k.run(until=third, s=3)
        assert large.status == 9
        assert small.status is None
        assert third.status is None
        assert "full" in third.text
        assert k.machine.zone.nr_free > 3000
        assert k.machine.oom.oom_victims == 0
        log = k.dmesg()
        assert "third invoked oom-killer: gfp_mask=" in log
        killed = f"Killed process {large.pid} (large) total-vm:"
        assert killed in log
        assert ("or sacrifice child" in log) == (flavour == "4.19-arm")
        assert ("oom-kill:constraint=CONSTRAINT_NONE" in log) == (flavour != "4.19-arm")
        assert re.search(r"\[ +\d+\] +0 +\d+ .* large$", log, re.M)


@pytest.mark.parametrize("flavour", ALL)
def test_oom_score_adj_decides(flavour: str) -> None:
    """A small process with a high adjustment goes first; one with -1000 never, however much it has."""
    with taskscope.boot(flavour=flavour, mem=MEM) as k:
        safe = fill(k, 6000, "safe", "-1000")
        small = fill(k, 700, "small", "900")
        third = k.spawn(hog, "6000", name="third")
        k.run(s=1)
        assert small.status == 9
        assert third.status == 9, "it is the only one that is left to be chosen"
        assert safe.status is None


def test_badness_is_the_formula() -> None:
    """Badness is rss, swap and page tables in pages, and the adjustment in thousandths of all pages."""
    for flavour in ALL:
        with taskscope.boot(flavour=flavour, mem=MEM) as k:
            process = fill(k, 1000, "one", "37")
            task = k.find(process.pid)
            assert task is not None
            with k.current() as m:
                total = m.zone.managed_pages
                expected = task.mm.rss + len(task.mm.tables) * (2048 if flavour == "4.19-arm" else 4096) // PAGE
                assert oom_kill.oom_badness(task, total) == expected + 37 * (total // 1000)
                init = k.find(1)
                assert init is not None
                never = 0 if flavour == "4.19-arm" else oom_kill.LONG_MIN
                assert oom_kill.oom_badness(init, total) == never


def test_oom_score_like_the_host() -> None:
    """The score that /proc shows is computed from size and adjustment as the host does it."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (5, 9):
        pytest.skip("the host counts as kernels before 5.9 did")
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = (int(info["MemTotal"].split()[0]) + int(info["SwapTotal"].split()[0])) // 4
    code = "b=bytearray(200<<20)\nprint(flush=True)\ninput()"
    with subprocess.Popen([host.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        for adj in (0, 1, 250, 999, 1000, *((-1000, -500, -3) if os.geteuid() == 0 else ())):
            folder = Path(f"/proc/{child.pid}")
            with contextlib.suppress(PermissionError):
                (folder / "oom_score_adj").write_text(str(adj))
            if int((folder / "oom_score_adj").read_text()) != adj:
                continue
            status = dict(line.split(":\t") for line in (folder / "status").read_text().splitlines())
            pages = [int(status[name].split()[0]) // 4 for name in ("VmRSS", "VmSwap", "VmPTE")]
            expected = oom_kill.oom_score_of(sum(pages), adj, total, clamped=False)
            shown = int((folder / "oom_score").read_text())
            # The counters of each cpu are added up now and then.
            assert abs(shown - expected) <= 1, (adj, pages, total)
        child.communicate(b"\n")


def test_kernel_threads_and_init_are_never_chosen() -> None:
    """When nobody can be killed the machine panics; kernel threads and init live until then."""
    for flavour in ALL:
        with taskscope.boot(flavour=flavour, mem=MEM) as k:
            threads = [t.pid for t in k.machine_tasks() if t.flags & PF_KTHREAD]
            k.spawn(hog, "20000", "-1000", name="safe")
            with contextlib.suppress(taskscope.errors.UsageError):
                k.run(s=3)
            assert k.machine.panicked == "System is deadlocked on memory"
            assert "Out of memory and no killable processes..." in k.dmesg()
            assert [t.pid for t in k.machine_tasks() if t.flags & PF_KTHREAD] == threads


def test_panic_on_oom() -> None:
    """With vm.panic_on_oom nobody is killed: the machine panics."""
    with taskscope.boot(mem=MEM) as k:
        k.write("/proc/sys/vm/panic_on_oom", "1")
        k.spawn(hog, "20000", name="one")
        k.run(s=3)
        assert k.machine.panicked == "Out of memory: system-wide panic_on_oom is enabled"


def test_oom_kill_allocating_task() -> None:
    """With vm.oom_kill_allocating_task who asks for memory is killed, not the largest."""
    with taskscope.boot(mem=MEM) as k:
        k.write("/proc/sys/vm/oom_kill_allocating_task", "1")
        k.write("/proc/sys/vm/oom_dump_tasks", "0")
        large = fill(k, 8000, "large")
        third = k.spawn(hog, "5000", name="third")
        k.run(until=third, s=3)
        assert third.status == 9
        assert large.status is None
        assert "Tasks state" not in k.dmesg()


def test_children_are_sacrificed_until_51() -> None:
    """4.19 kills the child of the chosen process that has memory of its own; later kernels the process itself."""

    def family(sys: Any, argv: list[str]) -> int:
        if sys.fork() == 0:
            sys.prctl(15, "kid")
            sys.touch(sys.mmap(700 * PAGE), 700 * PAGE)
            while True:
                sys.pause()
        sys.touch(sys.mmap(6000 * PAGE), 6000 * PAGE)
        while True:
            sys.pause()

    for flavour in ALL:
        with taskscope.boot(flavour=flavour, mem=MEM) as k:
            parent = k.spawn(family, name="family")
            k.run(s=0.5)
            k.spawn(hog, "5000", name="third")
            k.run(s=1)
            log = k.dmesg()
            assert "(kid)" in log if flavour == "4.19-arm" else f"Killed process {parent.pid} (family)" in log
            assert (parent.status is None) == (flavour == "4.19-arm")


def test_all_who_share_the_memory_die() -> None:
    """Another process in the victim's address space (CLONE_VM) is killed with it."""

    def pair(sys: Any, argv: list[str]) -> int:
        def other(sys: Any) -> None:
            while True:
                sys.pause()

        sys.touch(sys.mmap(4000 * PAGE), 4000 * PAGE)
        sys.clone(other, flags=0x100 | 17)
        sys.touch(sys.mmap(4000 * PAGE), 4000 * PAGE)
        while True:
            sys.pause()

    with taskscope.boot(mem=MEM) as k:
        k.trace("signal:signal_generate")
        k.spawn(pair, name="pair")
        k.run(s=0.5)
        k.spawn(hog, "6000", name="third")
        k.run(s=1)
        assert k.pids("pair") == []


def test_a_victim_that_cannot_die_is_reaped() -> None:
    """A victim in uninterruptible sleep keeps its task_struct, but oom_reaper takes its memory."""

    def stuck(sys: Any, argv: list[str]) -> int:
        sys.touch(sys.mmap(6000 * PAGE), 6000 * PAGE)
        fd = sys.open("/sys/kernel/debug/provoke-crash/DIRECT", os.O_WRONLY)
        sys.write(fd, b"HUNG_TASK")
        return 0

    for flavour in ALL:
        with taskscope.boot(flavour=flavour, mem=MEM) as k:
            with k.current():
                from taskscope.model.drivers.misc.lkdtm import core

                core.lkdtm_module_init()
            k.trace("oom:*")
            victim = k.spawn(stuck, name="stuck")
            k.run(s=0.5)
            third = k.spawn(hog, "7000", name="third")
            k.run(s=4)
            assert "full" in third.text
            assert k.task(victim.pid).row.state == "D"
            task = k.find(victim.pid)
            assert task is not None
            assert task.mm.rss_stat[1] == 0
            names = [name for name, pid in events(k, "oom:mark_victim", "oom:wake_reaper", "oom:start_task_reaping",
                                                  "oom:finish_task_reaping") if pid == victim.pid]
            assert names == ["mark_victim", "wake_reaper", "start_task_reaping", "finish_task_reaping"]
            assert re.search(r"oom_reaper: reaped process \d+ \(stuck\), now anon-rss:0kB", k.dmesg())


def test_mark_victim_carries_what_the_victim_had() -> None:
    """Since 6.1's stable releases and 6.9 the event has the victim's sizes; in 4.19 its pid alone."""
    for flavour in ALL:
        with taskscope.boot(flavour=flavour, mem=MEM) as k:
            k.trace("oom:mark_victim", "oom:reclaim_retry_zone")
            large = fill(k, 8000, "large", "5")
            k.spawn(hog, "4000", name="third")
            k.run(s=1)
            recording = k.recording()
            row = recording.events("oom:mark_victim").to_dicts()[0]
            fields = {name.removeprefix("fields."): value for name, value in row.items()}
            assert fields["pid"] == large.pid
            if flavour != "4.19-arm":
                assert fields["anon_rss"] == (8000 + 13) * 4
                assert fields["oom_score_adj"] == 5
                assert fields["pgtables"] > 0
            retry = recording.events("oom:reclaim_retry_zone").to_dicts()[0]
            assert retry["wmark_check"] == 0
            assert retry["min_wmark"] == k.machine.zone.watermark_min


def test_sysrq_f_asks_for_a_kill() -> None:
    """`echo f > /proc/sysrq-trigger` kills one although there is memory."""
    with taskscope.boot(mem=MEM) as k:
        large = fill(k, 2000, "large")
        terminal = k.terminal()
        terminal.type("echo f > /proc/sysrq-trigger", s=0.5)
        assert large.status == 9


# ---- /proc ------------------------------------------------------------------------------------------------


def test_oom_adj_files() -> None:
    """Without root oom_adj may only be raised, oom_score_adj lowered as far as root has set it; oom_adj warns."""

    def scenario(sys: Any) -> Any:
        def put(name: str, text: str) -> str:
            fd = sys.open(f"/proc/self/{name}", os.O_WRONLY)
            result = error(sys.write, fd, text.encode())
            sys.close(fd)
            return result

        def get(name: str) -> int:
            return int(sys.slurp(f"/proc/self/{name}"))

        seen: list[Any] = [put("oom_score_adj", "500"), get("oom_adj"), put("oom_adj", "-17"), get("oom_score_adj")]
        seen += [put("oom_adj", "15"), get("oom_score_adj"), put("oom_adj", "16"), put("oom_score_adj", "1001")]
        seen += [put("oom_score_adj", "100")]
        sys.setuid(1000)
        seen += [put("oom_score_adj", adj) for adj in ("200", "99", "100")] + [put("oom_adj", "0")]
        return seen

    with world(bare=False) as one:
        root = ["3", 8, "3", -1000, "2", 1000, "EINVAL", "EINVAL", "3"]
        assert one.run(scenario) == [*root, "3", "EACCES", "3", "EACCES"]
        from taskscope.model.kernel import printk

        with one.current():
            assert "oom_adj is deprecated" in printk.dmesg()


def test_oom_adj_in_old_units_like_the_host() -> None:
    """What oom_adj shows for an oom_score_adj, and sets for its own numbers, is what the host's does."""
    from taskscope.model.fs.proc import base

    code = "input()"
    with subprocess.Popen([host.executable, "-c", code], stdin=subprocess.PIPE) as child, world() as one:
        one.run(lambda sys: 0)
        folder = Path(f"/proc/{child.pid}")
        with one.current() as m:
            task = m.init_task.tasks.next.owner
            for adj in (-1000, -999, -59, -58, 0, 58, 59, 500, 999, 1000):
                try:
                    (folder / "oom_score_adj").write_text(str(adj))
                except PermissionError:
                    continue                # root without CAP_SYS_RESOURCE
                task.signal.oom_score_adj = adj
                assert base.oom_adj_read(task) == (folder / "oom_adj").read_text()
            compared = 0
            for old in range(-17, 16):
                try:
                    (folder / "oom_adj").write_text(str(old))
                except PermissionError:
                    continue
                compared += 1
                base.oom_adj_write(task, str(old).encode())
                assert task.signal.oom_score_adj == int((folder / "oom_score_adj").read_text())
            assert compared
        child.communicate(b"\n")


# ---- reclaim ----------------------------------------------------------------------------------------------


def test_watermarks() -> None:
    """The min is 4 times the root of the KiB, low and high stand a quarter of it apart, as on the host's zones."""
    with world(mem=MEM) as one:
        one.run(lambda sys: 0)
        zone = one.m.zone
        assert one.m.min_free_kbytes == int((zone.managed_pages * 4 * 16) ** 0.5)
        assert zone.watermark_min == one.m.min_free_kbytes // 4
        assert zone.watermark_low - zone.watermark_min == zone.watermark_high - zone.watermark_low
        assert zone.watermark_low - zone.watermark_min == max(zone.watermark_min // 4, zone.managed_pages // 1000)


def test_kswapd_wakes_at_low_and_sleeps_at_high() -> None:
    """Kswapd asks the shrinkers when the zone falls below low, and goes back to sleep at high."""
    kept: list[int] = []
    asked: list[tuple[str, int]] = []

    def count(s: vmscan.Shrinker, sc: vmscan.ShrinkControl) -> int:
        return len(kept)

    def scan(s: vmscan.Shrinker, sc: vmscan.ShrinkControl) -> int:
        zone = machine.cur.zone
        asked.append((machine.cur.cpu.curr.comm, zone.nr_free))
        n = min(sc.nr_to_scan, len(kept))
        for _ in range(n):
            page_alloc.free_pages(kept.pop(), 0)
        return n

    with taskscope.boot(mem=MEM) as k:
        zone = k.machine.zone
        with k.current():
            kept.extend(page_alloc.__get_free_pages(0) for _ in range(3000))
            vmscan.register_shrinker(vmscan.Shrinker("cache", count, scan))
        process = k.spawn(hog, "9500", name="hog")
        k.run(s=2)
        assert process.status is None
        assert "full" in process.text
        assert asked[0][0] == "kswapd0"
        assert asked[0][1] <= zone.watermark_low
        assert zone.nr_free >= zone.watermark_low
        kswapd = k.machine.vm.kswapd
        assert kswapd.state == 1
        assert len(kept) > 0
        with k.current():
            for page in kept:
                page_alloc.free_pages(page, 0)


def test_direct_reclaim() -> None:
    """Where kswapd is too slow, or absent, who needs a page asks the shrinkers by itself."""

    def scenario(sys: Any) -> Any:
        kept: list[int] = []
        asked: list[str] = []

        def count(s: vmscan.Shrinker, sc: vmscan.ShrinkControl) -> int:
            return len(kept)

        def scan(s: vmscan.Shrinker, sc: vmscan.ShrinkControl) -> int:
            asked.append(machine.cur.cpu.curr.comm)
            n = min(sc.nr_to_scan, len(kept))
            for _ in range(n):
                page_alloc.free_pages(kept.pop(), 0)
            return n

        m = machine.cur
        p = sys.mmap(600 * PAGE)
        free = m.zone.nr_free
        while m.zone.nr_free > m.zone.watermark_low + 100:
            kept.append(page_alloc.rmqueue(m.zone, 0))
        vmscan.register_shrinker(vmscan.Shrinker("cache", count, scan))
        sys.touch(p, 600 * PAGE)
        assert set(asked) == {"init"}
        return free - m.zone.nr_free - len(kept)

    assert 600 <= play(scenario, mem=MEM) <= 603


def test_a_shrinker_is_asked_for_its_share() -> None:
    """Its delta is the cache's size >> priority, times 4 over seeks; what is too little is kept for the next time."""
    seen: list[int] = []

    def scan(s: vmscan.Shrinker, sc: vmscan.ShrinkControl) -> int:
        seen.append(sc.nr_to_scan)
        return sc.nr_to_scan

    with world() as one:
        one.run(lambda sys: 0)
        with one.current():
            shrinker = vmscan.Shrinker("cache", lambda s, sc: 100_000, scan)
            sc = vmscan.ShrinkControl(GFP_KERNEL)
            assert vmscan.do_shrink_slab(sc, shrinker, 12) == 0
            assert shrinker.nr_deferred == (100_000 >> 12) * 4 // 2
            freed = vmscan.do_shrink_slab(sc, shrinker, 8)
            assert freed == 768
            assert set(seen) == {vmscan.SHRINK_BATCH}


# ---- the host ---------------------------------------------------------------------------------------------


@pytest.mark.root
def test_report_like_the_host() -> None:
    """A real OOM kill, in a memory cgroup, is reported in the words and columns of the model's report."""
    if os.geteuid():
        pytest.skip("making a memory cgroup needs root")
    v1 = Path("/sys/fs/cgroup/memory")
    if not (v1 / "memory.limit_in_bytes").exists():
        pytest.skip("no memory cgroup (v1) is mounted at /sys/fs/cgroup/memory")
    if not os.uname().release.startswith("6.18"):
        pytest.skip("the host runs another kernel than the flavour 6.18-x86_64")
    group = v1 / f"taskscope-test-{os.getpid()}-oom"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text("12M")
        code = (f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\nb = bytearray()\n"
                "while True: b += bytes(1 << 20)")
        assert subprocess.run([host.executable, "-c", code], check=False).returncode == -9
    finally:
        group.rmdir()
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout.splitlines()
    at = max(n for n, line in enumerate(log) if "invoked oom-killer" in line)
    theirs = [line.partition("] ")[2] for line in log[at:]]
    with taskscope.boot(flavour="6.18-x86_64", mem=MEM) as k:
        k.spawn(hog, "20000", name=Path(host.executable).name)
        k.run(s=3)
        ours = [line.partition("] ")[2] for line in k.dmesg().splitlines()]
    ours = ours[next(n for n, line in enumerate(ours) if "invoked oom-killer" in line):]

    def shape(line: str) -> str:
        # numbers and what names the machine and the cgroup aside
        line = re.sub(r"gfp_mask=\S+, ", "gfp_mask=, ", line.removeprefix("Memory cgroup o").removeprefix("O"))
        line = re.sub(r"(6\.18\S*)|(PREEMPT\(\w+\))", "", line)
        line = re.sub(r"CONSTRAINT_\w+|oom_memcg=\S*?,|global_oom,|task_memcg=\S*?,|UID: \d+", "", line)
        return re.sub(r" +", " ", re.sub(r"\d+", "0", line))

    for pattern in ("invoked oom-killer", "CPU: ", "Tasks state", "total_vm", r"^\[ *\d+\] +0 ", "oom-kill:constraint",
                    "Killed process"):
        mine = next(line for line in ours if re.search(pattern, line))
        real = next(line for line in theirs if re.search(pattern, line))
        assert shape(mine) == shape(real)
    head = next(line for line in theirs if "total_vm" in line)
    assert head in ours


@pytest.mark.parametrize("flavour", ALL)
def test_the_life_tells_it(flavour: str) -> None:
    """The recording of an OOM kill is read as one: the cause is oom, the killer who asked for memory."""
    with taskscope.boot(flavour=flavour, mem=MEM) as k:
        k.trace()
        k.trace("oom:mark_victim")
        large = fill(k, 8000, "large")
        third = k.spawn(hog, "4000", name="third")
        k.run(s=1)
        life = next(life for life in k.recording().lives if life.pid == large.pid)
        assert life.exit is not None
        assert (life.exit.cause, life.exit.signal) == ("oom", 9)
        assert life.exit.killer is not None
        assert life.exit.killer.pid == third.pid


def test_a_victim_marked_by_a_driver_is_an_oops_of_the_reaper() -> None:
    """Who has TIF_MEMDIE from the low-memory killer has no oom_mm: 4.19's oom_reaper follows the null pointer."""

    def stuck(sys: Any, argv: list[str]) -> int:
        sys.touch(sys.mmap(3000 * PAGE), 3000 * PAGE)
        fd = sys.open("/sys/kernel/debug/provoke-crash/DIRECT", os.O_WRONLY)
        sys.write(fd, b"HUNG_TASK")
        return 0

    with taskscope.boot(flavour="4.19-arm", mem=MEM) as k:
        with k.current() as m:
            from taskscope.model.drivers.misc.lkdtm import core

            core.lkdtm_module_init()
        victim = k.spawn(stuck, name="stuck")
        k.run(s=0.5)
        task = k.find(victim.pid)
        assert task is not None
        task.thread_info.flags |= m.tif.MEMDIE
        k.write("/proc/sysrq-trigger", "f")
        k.run(s=0.5)
        assert "Comm: oom_reaper" in k.dmesg()
        assert k.machine.panicked is None
        assert k.pids("oom_reaper") == []
