"""The memory of programs: what is mapped, present and counted, and that all of it comes back."""

from __future__ import annotations

import mmap
import os
import resource
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bare import ALL, error, play, world
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.mm_types import MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES
from taskscope.model.mm import memory, show_mem
from taskscope.model.user.libc.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ

PAGE = 4096


def mms(m: machine.Machine) -> dict[int, Any]:
    """Return all address spaces that somebody lives in."""
    return {id(p.mm): p.mm for p in list_for_each_entry(m.init_task.tasks) if p.mm is not None}


def balanced(m: machine.Machine) -> None:
    """Check that the counters of all processes agree with their page tables, and the zone with what all have."""
    zone = m.zone
    mapped: Counter[int] = Counter()
    anon: set[int] = set()
    shared: dict[int, Any] = {}
    tables: dict[int, Any] = {}
    for mm in mms(m).values():
        counted = [0, 0, 0, 0]
        for area in mm.mmap:
            tables[id(area.table)] = area.table
            if area.table.backing is not None:
                shared[id(area.table.backing)] = area.table.backing
            first, behind = area.vm_start >> 12, area.vm_end >> 12
            counted[area.table.kind] += sum(
                1 for vpn, page in area.table.pages.items() if page and first <= vpn < behind
            )
        assert mm.rss_stat == counted, f"{mm}: rss_stat {mm.rss_stat}, page tables {counted}"
        assert mm.total_vm == sum(area.nr_pages for area in mm.mmap)
        needed: set[int] = set()
        for area in mm.mmap:
            for vpn in area.table.pages:
                if area.vm_start >> 12 <= vpn < area.vm_end >> 12:
                    needed.update(memory.table_keys(vpn << 12, (vpn << 12) + 1))
        assert needed <= set(mm.tables), "a page stands in no page table"
    for table in tables.values():
        if table.kind == MM_ANONPAGES:
            mapped.update(page for page in table.pages.values() if page)
            anon.update(page for page in table.pages.values() if page)
    assert zone.page_refs == {page: count for page, count in mapped.items() if count > 1}
    assert zone.nr_anon == len(anon)
    assert zone.nr_shmem == sum(len(backing.pages) for backing in shared.values())
    assert zone.nr_pagetable == sum(len(mm.tables) for mm in mms(m).values())
    lowest = len(zone.pcp) + sum(len(area) << order for order, area in enumerate(zone.free_area))
    assert zone.nr_free == lowest
    pgds = m.mm_cachep.active * (4 if m.flavour.arch == "arm" else 2)
    if m.flavour.switches.vmap_stack:
        stacks = len(m.vmap_areas) * (m.flavour.thread_size // PAGE)
    else:
        stacks = m.task_struct_cachep.active * (m.flavour.thread_size // PAGE)
    used = zone.nr_anon + zone.nr_file + zone.nr_pagetable + show_mem.slab_pages() + pgds + stacks
    assert zone.managed_pages - zone.nr_free == used, "a page is neither free nor anybody's"


@pytest.mark.parametrize("flavour", ALL)
def test_touching_counts(flavour: str) -> None:
    """A page that is written for the first time is a minor fault and a page of rss; a mapped one is neither."""

    def scenario(sys: Any) -> Any:
        mm = machine.cur.cpu.curr.mm
        before = mm.rss_stat[MM_ANONPAGES], mm.total_vm, sys.getrusage(0).ru_minflt
        p = sys.mmap(40 * PAGE)
        assert mm.rss_stat[MM_ANONPAGES] == before[0]
        sys.touch(p, 30 * PAGE)
        sys.touch(p, 30 * PAGE)
        return (mm.rss_stat[MM_ANONPAGES] - before[0], mm.total_vm - before[1],
                sys.getrusage(0).ru_minflt - before[2])

    assert play(scenario, flavour) == (30, 40, 30)


def test_reading_maps_the_page_of_zeros() -> None:
    """A page that is only read is a fault and no page of rss; writing it then is another fault, and one."""

    def scenario(sys: Any) -> Any:
        mm = machine.cur.cpu.curr.mm
        p = sys.mmap(PAGE)
        seen = []
        for write in (False, False, True, True):
            sys.touch(p, 1, write)
            seen.append((mm.rss_stat[MM_ANONPAGES], sys.getrusage(0).ru_minflt))
        return [(rss - seen[0][0], flt - seen[0][1]) for rss, flt in seen]

    assert play(scenario) == [(0, 0), (0, 0), (1, 1), (1, 1)]


@pytest.mark.parametrize("flavour", ALL)
def test_fork_shares_until_somebody_writes(flavour: str) -> None:
    """After a fork both count the pages, memory has them once; the first write copies, the last owner's does not."""
    seen: dict[str, tuple[int, int]] = {}

    def scenario(sys: Any) -> None:
        zone = machine.cur.zone
        mm = machine.cur.cpu.curr.mm
        p = sys.mmap(20 * PAGE)
        sys.touch(p, 20 * PAGE)
        # the child runs this again, and must not see its own numbers
        anon, rss = seen.setdefault("parent", (zone.nr_anon, mm.rss))
        pid = sys.fork()
        if pid == 0:
            me = machine.cur.cpu.curr.mm
            assert (me.rss, zone.nr_anon) == (rss, anon)
            sys.touch(p, 5 * PAGE)
            assert (me.rss, zone.nr_anon) == (rss, anon + 5)
            balanced(machine.cur)
            sys.exit(0)
        assert sys.waitpid(pid)[1] == 0
        assert zone.nr_anon == anon
        before = sys.getrusage(0).ru_minflt
        sys.touch(p, 20 * PAGE)
        # Every entry was made read-only by the fork: each write faults once more, and finds the page to be its own.
        assert sys.getrusage(0).ru_minflt - before == 20
        assert zone.nr_anon == anon
        balanced(machine.cur)

    play(scenario, flavour)


def test_shared_memory_is_there_once() -> None:
    """Shared memory is one set of pages for parent and child, counted as shmem by each that has touched it."""

    def scenario(sys: Any) -> None:
        zone = machine.cur.zone
        p = sys.mmap(10 * PAGE, flags=MAP_SHARED | MAP_ANONYMOUS)
        sys.touch(p, 4 * PAGE)
        pid = sys.fork()
        if pid == 0:
            mm = machine.cur.cpu.curr.mm
            assert mm.rss_stat[MM_SHMEMPAGES] == 0
            sys.touch(p, 6 * PAGE)
            assert mm.rss_stat[MM_SHMEMPAGES] == 6
            balanced(machine.cur)
            sys.exit(0)
        sys.waitpid(pid)
        assert (zone.nr_shmem, machine.cur.cpu.curr.mm.rss_stat[MM_SHMEMPAGES]) == (6, 4)
        sys.munmap(p, 10 * PAGE)
        assert zone.nr_shmem == 0
        balanced(machine.cur)

    play(scenario)


@pytest.mark.parametrize("flavour", ALL)
def test_outside_of_the_map_is_sigsegv(flavour: str) -> None:
    """An access where nothing is mapped, or a write where only reading is allowed, is a SIGSEGV."""

    def scenario(sys: Any) -> Any:
        statuses = []
        for at in range(3):
            pid = sys.fork()
            if pid == 0:
                if at == 0:
                    sys.touch(8)
                elif at == 1:
                    sys.touch(sys.mmap(PAGE, PROT_READ))
                else:
                    sys.touch(sys.mmap(PAGE, PROT_READ), 1, False)
                sys.exit(0)
            statuses.append(sys.waitpid(pid)[1])
        return statuses

    assert play(scenario, flavour) == [11, 11, 0]


def test_handler_of_sigsegv_runs_and_the_access_is_made_again() -> None:
    """A handler that maps what was missing lets the access go through."""

    def scenario(sys: Any) -> Any:
        seen = []

        def handler(sys: Any, sig: int, info: Any) -> None:
            seen.append((sig, info.si_code, info.si_addr))
            sys.mmap(PAGE, flags=MAP_PRIVATE | MAP_ANONYMOUS | 0x10, addr=0x5000_0000)

        sys.sigaction(11, handler)
        sys.touch(0x5000_0010)
        return seen

    assert play(scenario) == [(11, 1, 0x5000_0010)]


def test_brk_grows_and_shrinks() -> None:
    """The heap's pages go when it shrinks; a heap that meets a mapping does not grow."""

    def scenario(sys: Any) -> Any:
        mm = machine.cur.cpu.curr.mm
        free, rss = machine.cur.zone.nr_free, mm.rss
        end = sys.sbrk(100 * PAGE)
        sys.touch(end, 60 * PAGE)
        assert mm.rss == rss + 60
        sys.sbrk(-100 * PAGE)
        assert (machine.cur.zone.nr_free, mm.rss) == (free, rss)
        sys.mmap(PAGE, flags=MAP_PRIVATE | MAP_ANONYMOUS | 0x10, addr=end + 4 * PAGE)
        return error(sys.sbrk, 10 * PAGE), error(sys.sbrk, 2 * PAGE) != "ENOMEM"

    assert play(scenario) == ("ENOMEM", True)


def test_errors_of_mmap() -> None:
    """Length 0, no type, too much, a descriptor that cannot be mapped, an address that is not a page's."""

    def scenario(sys: Any) -> Any:
        return [
            error(sys.mmap, 0),
            error(sys.mmap, PAGE, 3, MAP_ANONYMOUS),
            error(sys.mmap, 1 << 40),
            error(sys.mmap, PAGE, 3, MAP_PRIVATE, 0, 77),
            error(sys.mmap, PAGE, 3, MAP_PRIVATE, 0, 0),
            error(sys.munmap, 5, PAGE),
            error(sys.munmap, 0x5000_0000, 0),
        ]

    assert play(scenario) == ["EINVAL", "EINVAL", "ENOMEM", "EBADF", "ENODEV", "EINVAL", "EINVAL"]


@pytest.mark.parametrize("flavour", ALL)
def test_exec_and_exit_give_back(flavour: str) -> None:
    """What a process has mapped goes with its exec and with its exit, page tables too."""

    def scenario(sys: Any) -> None:
        def child(sys: Any) -> None:
            p = sys.mmap(500 * PAGE)
            sys.touch(p, 500 * PAGE)
            sys.execve("/bin/true", ["true"])

        left = []
        for _ in range(3):
            sys.waitpid(sys.clone(child))
            sys.nanosleep(100_000_000)
            left.append((machine.cur.zone.nr_free, machine.cur.zone.nr_pagetable))
            balanced(machine.cur)
        # The first exec of a program reads its text into the page cache.
        assert left[1] == left[2]

    play(scenario, flavour)


def test_proc_files_agree() -> None:
    """statm, status, stat and meminfo tell the same of one process."""

    def scenario(sys: Any) -> None:
        p = sys.mmap(64 * PAGE)
        sys.touch(p, 50 * PAGE)
        mm = machine.cur.cpu.curr.mm
        statm = sys.slurp("/proc/self/statm").split()
        status = dict(line.split(b":\t") for line in sys.slurp("/proc/self/status").splitlines())
        kib = {name: int(value.split()[0]) for name, value in status.items() if value.endswith(b"kB")}
        stat = sys.slurp("/proc/self/stat").rpartition(b")")[2].split()
        assert int(statm[0]) * 4 == kib[b"VmSize"] == int(stat[20]) // 1024
        assert int(statm[1]) * 4 == kib[b"VmRSS"] == int(stat[21]) * 4
        assert kib[b"RssAnon"] == mm.rss_stat[MM_ANONPAGES] * 4
        assert kib[b"RssFile"] == int(statm[2]) * 4 == mm.rss_stat[MM_FILEPAGES] * 4
        assert kib[b"VmRSS"] == kib[b"RssAnon"] + kib[b"RssFile"] + kib[b"RssShmem"]
        assert kib[b"VmPTE"] == memory.mm_pgtables_bytes(mm) >> 10
        assert kib[b"VmHWM"] >= kib[b"VmRSS"]
        assert kib[b"VmData"] + kib[b"VmStk"] == int(statm[5]) * 4
        info = {line.split(b":")[0]: int(line.split()[1]) for line in sys.slurp("/proc/meminfo").splitlines()}
        zone = machine.cur.zone
        assert info[b"MemTotal"] == zone.managed_pages * 4
        assert info[b"MemFree"] == zone.nr_free * 4
        assert info[b"AnonPages"] == zone.nr_anon * 4

    play(scenario)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mmap"), st.integers(1, 20), st.booleans()),
        st.tuples(st.just("touch"), st.integers(0, 400), st.booleans()),
        st.tuples(st.just("munmap"), st.integers(0, 400), st.integers(1, 12)),
        st.tuples(st.just("brk"), st.integers(-8, 12), st.just(0)),
        st.tuples(st.just("fork"), st.integers(0, 3), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.sampled_from(ALL))
def test_nothing_is_lost(steps: list[tuple[str, Any, Any]], flavour: str) -> None:
    """Whatever processes map, touch, unmap and inherit: counters agree with page tables, and no page is lost."""

    def run(sys: Any, steps: list[tuple[str, Any, Any]]) -> None:
        areas: list[tuple[int, int]] = []
        # what is mapped, as the program itself knows it: the child of a fork runs this again
        there: set[int] = set()
        for at, (what, a, b) in enumerate(steps):
            if what == "mmap":
                flags = (MAP_SHARED if b else MAP_PRIVATE) | MAP_ANONYMOUS
                areas.append((sys.mmap(a * PAGE, flags=flags), a))
                there.update(range(areas[-1][0], areas[-1][0] + a * PAGE, PAGE))
            elif what == "touch" and areas:
                start, n = areas[a % len(areas)]
                if start + a % n * PAGE in there:
                    sys.touch(start + a % n * PAGE, 1, b)
            elif what == "munmap" and areas:
                start, n = areas[a % len(areas)]
                sys.munmap(start + a % n * PAGE, b * PAGE)
                there.difference_update(range(start + a % n * PAGE, start + (a % n + b) * PAGE, PAGE))
            elif what == "brk":
                try:
                    end = sys.sbrk(a * PAGE)
                except OSError:
                    continue
                if a > 0:
                    sys.touch(end, a * PAGE)
            elif what == "fork":
                pid = sys.fork()
                if pid == 0:
                    run(sys, [step for step in steps[at + 1 : at + 1 + 4 * a] if step[0] != "fork"])
                    sys.exit(0)
                balanced(machine.cur)
                if a % 2:
                    assert sys.waitpid(pid)[1] == 0
            balanced(machine.cur)

    def scenario(sys: Any) -> None:
        pid = sys.fork()
        if pid == 0:
            run(sys, steps)
            sys.exit(0)
        assert sys.waitpid(pid)[1] == 0

    with world(flavour) as one:
        one.run(scenario)
        one.settle()
        with one.current() as m:
            balanced(m)


def test_threads_share_memory() -> None:
    """A page that one thread touches is there for the others, without another fault."""

    def scenario(sys: Any) -> None:
        p = sys.mmap(10 * PAGE)

        def other(sys: Any) -> None:
            sys.touch(p, 10 * PAGE)
            sys.pthread_exit()

        sys.pthread_create(other)
        sys.nanosleep(50_000_000)
        before = sys.getrusage(1).ru_minflt
        sys.touch(p, 10 * PAGE)
        assert sys.getrusage(1).ru_minflt == before

    play(scenario)


def test_as_the_host_counts() -> None:
    """The host has a fault for each page that is written first, and after a fork one for each that is written again."""
    n = 2000
    area = mmap.mmap(-1, n * PAGE)
    area.madvise(mmap.MADV_NOHUGEPAGE)

    def touch() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for at in range(0, n * PAGE, PAGE):
            area[at] = 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    first, again = touch(), touch()
    # private memory, of which a fork makes all entries read-only
    private = mmap.mmap(-1, n * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    private.madvise(mmap.MADV_NOHUGEPAGE)
    area = private
    first_private = touch()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    after_fork = touch()

    def scenario(sys: Any) -> list[int]:
        p = sys.mmap(n * PAGE)
        counts = []

        def faults() -> None:
            before = sys.getrusage(0).ru_minflt
            sys.touch(p, n * PAGE)
            counts.append(sys.getrusage(0).ru_minflt - before)

        faults()
        faults()
        pid = sys.fork()
        if pid == 0:
            sys.exit(0)
        sys.waitpid(pid)
        faults()
        return counts

    ours = play(scenario)
    assert ours == [n, 0, n]
    # The interpreter has a few faults of its own.
    assert n <= first <= n + 50
    assert again <= 50
    assert n <= first_private <= n + 50
    assert n <= after_fork <= n + 100


def test_bare_world_is_balanced() -> None:
    """After a boot with all threads every page is somebody's."""
    with world(bare=False) as one:
        one.run(lambda sys: sys.getpid())
        with one.current() as m:
            balanced(m)


def test_page_cache_goes_with_the_file() -> None:
    """The text of a program is in the page cache once, from its first exec until its file is unlinked and unmapped."""

    def scenario(sys: Any) -> Any:
        zone = machine.cur.zone
        fd = sys.open("/tmp/copy", 0o101, 0o755)
        sys.write_all(fd, b"#!/bin/true\n")
        sys.close(fd)
        seen = [zone.nr_file]

        def child(sys: Any) -> None:
            sys.execve("/bin/sleep", ["sleep", "1"])

        for _ in range(2):
            sys.clone(child)
        sys.nanosleep(100_000_000)
        seen.append(zone.nr_file)
        sys.unlink("/bin/sleep")
        seen.append(zone.nr_file)
        sys.waitpid(-1)
        sys.waitpid(-1)
        sys.nanosleep(100_000_000)
        seen.append(zone.nr_file)
        balanced(machine.cur)
        return [count - seen[0] for count in seen]

    assert play(scenario) == [0, 96, 96, 0]
