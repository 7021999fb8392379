"""Pages: the buddy allocator, mm/page_alloc.c, v4.19.

Addresses are those of the direct mapping (page_offset + physical address).  Blocks of 2**order pages are split and,
when both halves are free, merged.  What stands at an address is in ``machine.cur.memory``.

Whoever would bring the zone below its low watermark goes the slow way: kswapd is woken, the caller reclaims pages
itself below the min watermark, and when nothing is reclaimed the OOM killer makes room.
"""

from __future__ import annotations

from math import isqrt
from typing import Final

import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.time.timer as timer
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.oom_kill as oom_kill
import taskscope.model.mm.vmscan as vmscan
from taskscope.model import machine
from taskscope.model.include.linux.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_USER_ZEROED, Gfp
from taskscope.model.include.linux.preempt import in_interrupt
from taskscope.model.include.linux.sched import PF_EXITING, PF_MEMALLOC, PF_WQ_WORKER
from taskscope.model.include.trace.events.oom import trace_reclaim_retry_zone

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
MAX_ORDER: Final = 11
#: what the kernel's image and its early allocations take at the start of memory
RESERVED: Final = 16 << 20
#: larger blocks may fail; smaller ones are tried for until somebody is killed
PAGE_ALLOC_COSTLY_ORDER: Final = 3
#: how many single pages are kept apart
PCP_HIGH: Final = 186
#: attempts without progress before reclaim is given up
MAX_RECLAIM_RETRIES: Final = 16

# What an allocation may go down to (mm/internal.h).
ALLOC_WMARK_MIN: Final = 0
ALLOC_WMARK_LOW: Final = 1
ALLOC_NO_WATERMARKS: Final = 4
ALLOC_OOM: Final = 8
ALLOC_HIGH: Final = 0x20


class Zone:
    """struct zone; there is one, of one node."""

    __slots__ = (
        "free_area", "managed_pages", "nr_anon", "nr_file", "nr_free", "nr_pagetable", "nr_shmem",
        "page_offset", "page_refs", "pcp", "totalreserve_pages", "watermark_high", "watermark_low", "watermark_min",
    )

    def __init__(self, page_offset: int) -> None:
        self.page_offset = page_offset
        self.managed_pages = 0
        # free_area[order] holds addresses; a dict keeps them in order of freeing and finds a buddy at once
        self.free_area: list[dict[int, None]] = [{} for _ in range(MAX_ORDER)]
        self.nr_free = 0
        # Single pages freed lately, the first to be given out: per_cpu_pages, one list here for all CPUs.  nr_free
        # counts them, NR_FREE_PAGES does not.
        self.pcp: list[int] = []
        # the last pages that an allocation may take: by __alloc_pages() at once, after reclaim; kswapd's aim
        self.watermark_low = self.watermark_min = self.watermark_high = 0
        self.totalreserve_pages = 0
        # struct page: _mapcount + 1 of anonymous pages that more than one page table maps
        self.page_refs: dict[int, int] = {}
        # vm_stat: NR_ANON_MAPPED, NR_FILE_PAGES, NR_SHMEM, NR_PAGETABLE
        self.nr_anon = self.nr_file = self.nr_shmem = self.nr_pagetable = 0


def mem_init() -> None:
    """Give all memory behind the kernel's image to the allocator; called by start_kernel()."""
    m = machine.cur
    zone = m.zone = Zone(m.flavour.page_offset)
    block = PAGE_SIZE << (MAX_ORDER - 1)
    # Handed out from the end of a list, so the lowest block is put there last.
    for start in range((m.mem // block - 1) * block, RESERVED - 1, -block):
        zone.free_area[MAX_ORDER - 1][m.flavour.page_offset + start] = None
        zone.managed_pages += 1 << (MAX_ORDER - 1)
    zone.nr_free = zone.managed_pages
    init_per_zone_wmark_min()


def init_per_zone_wmark_min() -> None:
    """Set min_free_kbytes: 4 times the root of the memory in KiB, within bounds (an initcall in C)."""
    m = machine.cur
    lowmem_kbytes = m.zone.managed_pages * (PAGE_SIZE >> 10)
    # The upper bound was raised in v5.8.
    most = 65536 if m.flavour.version < (5, 8) else 262144
    m.min_free_kbytes = min(max(isqrt(lowmem_kbytes * 16), 128), most)
    setup_per_zone_wmarks()


def setup_per_zone_wmarks() -> None:
    """Derive the zone's watermarks from min_free_kbytes."""
    m = machine.cur
    zone = m.zone
    least = m.min_free_kbytes >> (PAGE_SHIFT - 10)
    # watermark_scale_factor is 10: a thousandth of the zone at least between two watermarks
    step = max(least >> 2, zone.managed_pages * 10 // 10000)
    zone.watermark_min = least
    zone.watermark_low = least + step
    zone.watermark_high = least + 2 * step
    zone.totalreserve_pages = min(zone.watermark_high, zone.managed_pages)


def __get_free_pages(order: int, gfp: Gfp = GFP_KERNEL) -> int:
    """Allocate 2**order pages; their address, or 0.

    Context: process context without locks, as GFP_KERNEL may sleep; elsewhere the reserve is all there is.
    """
    if gfp.fails and fault_inject.should_fail("__get_free_pages"):
        return 0
    zone = machine.cur.zone
    if zone.nr_free - (1 << order) > zone.watermark_low:
        if not order and zone.pcp:
            zone.nr_free -= 1
            return zone.pcp.pop()
        address = rmqueue(zone, order)
        if address:
            return address
    return __alloc_pages_slowpath(gfp, order)


def rmqueue(zone: Zone, order: int) -> int:
    """Take a block off the free lists, a larger one is split; its address, or 0."""
    areas = zone.free_area
    current = order
    while not areas[current]:
        current += 1
        if current == MAX_ORDER:
            return 0
    address, _ = areas[current].popitem()
    while current > order:
        # expand(): the upper half becomes free
        current -= 1
        areas[current][address + (PAGE_SIZE << current)] = None
    zone.nr_free -= 1 << order
    return address


def alloc_pages_bulk(count: int) -> list[int] | None:
    """Allocate single pages, in blocks where they are to be had at once; None where memory is short.

    Context: as `__get_free_pages`.
    """
    m = machine.cur
    zone = m.zone
    pcp = zone.pcp
    if count <= len(pcp) and zone.nr_free - count > zone.watermark_low:
        taken = pcp[len(pcp) - count:]
        del pcp[len(pcp) - count:]
        zone.nr_free -= count
        return taken
    pages: list[int] = []
    while count:
        order = min(count.bit_length() - 1, MAX_ORDER - 1)
        address = 0
        if order and zone.nr_free - (1 << order) > zone.watermark_low:
            # Not modelled: that the pages of a program come one by one.
            address = rmqueue(zone, order)
        if not address:
            order = 0
            address = __get_free_pages(0, GFP_USER_ZEROED)
        if not address:
            free_unref_page_list(pages)
            return None
        pages.extend(range(address, address + (PAGE_SIZE << order), PAGE_SIZE))
        count -= 1 << order
    return pages


def alloc_page_tables(count: int) -> list[int] | None:
    """Allocate pages for page tables; None where memory is short."""
    pages = alloc_pages_bulk(count)
    if pages is not None:
        machine.cur.zone.nr_pagetable += count
    return pages


def free_page_tables(pages: list[int]) -> None:
    """Give pages of page tables back."""
    machine.cur.zone.nr_pagetable -= len(pages)
    free_unref_page_list(pages)


def free_unref_page_list(pages: list[int]) -> None:
    """Give single pages back: to be given out again soon, if there are not too many of them."""
    zone = machine.cur.zone
    if len(zone.pcp) + len(pages) <= PCP_HIGH:
        zone.pcp += pages
        zone.nr_free += len(pages)
    else:
        free_pages_bulk(pages)


def drain_all_pages() -> None:
    """Put the single pages back where blocks are made of them."""
    zone = machine.cur.zone
    pages, zone.pcp = zone.pcp, []
    zone.nr_free -= len(pages)
    free_pages_bulk(pages)


def free_pages_bulk(pages: list[int]) -> None:
    """Give single pages back; neighbours go together."""
    if not pages:
        return
    pages.sort()
    base = machine.cur.zone.page_offset
    at, end = 0, len(pages)
    while at < end:
        address = pages[at]
        order = 0
        # as large a block as the address is aligned to and as follows without a gap
        while order < MAX_ORDER - 1:
            more = 2 << order
            if (address - base) & ((PAGE_SIZE << order + 1) - 1) or at + more > end or (
                    pages[at + more - 1] != address + (more - 1) * PAGE_SIZE):
                break
            order += 1
        free_pages(address, order)
        at += 1 << order


# ---- the slow way -----------------------------------------------------------------------------------------

def zone_watermark_ok(zone: Zone, order: int, mark: int, alloc_flags: int) -> bool:
    """Tell whether 2**order pages may be taken: the zone stays above the mark, and there is a block."""
    if alloc_flags & ALLOC_HIGH:
        mark -= mark // 2
    if alloc_flags & ALLOC_OOM:
        # OOM victims can try even harder than others, as they are definitely about to exit.
        mark -= mark // 2
    if zone.nr_free - (1 << order) < mark:
        return False
    return any(zone.free_area[order:])


def get_page_from_freelist(order: int, alloc_flags: int) -> int:
    """Take a block if the watermark allows it; its address, or 0."""
    zone = machine.cur.zone
    if zone.pcp:
        drain_all_pages()
    if not alloc_flags & ALLOC_NO_WATERMARKS:
        mark = zone.watermark_low if alloc_flags & ALLOC_WMARK_LOW else zone.watermark_min
        if not zone_watermark_ok(zone, order, mark, alloc_flags):
            return 0
    return rmqueue(zone, order)


def gfp_to_alloc_flags(gfp: Gfp) -> int:
    """Return how deep the caller may go."""
    return ALLOC_WMARK_MIN | (ALLOC_HIGH if gfp.high else 0)


def __gfp_pfmemalloc_flags() -> int:
    """Return what the running task may take of the reserve: all if it reclaims, half if it is an OOM victim."""
    m = machine.cur
    current = m.cpu.curr
    if in_interrupt():
        return 0
    if current.flags & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    return ALLOC_OOM if oom_kill.tsk_is_oom_victim(current) else 0


def may_sleep() -> bool:
    """Tell whether the caller stands where GFP_KERNEL is allowed: what callers of C decide by their gfp mask."""
    m = machine.cur
    return m.system_state >= 1 and not m.cpu.preempt_count and not m.cpu.irqs_off and bool(m.cpu.curr.pid)


def __alloc_pages_slowpath(gfp: Gfp, order: int) -> int:
    """Wake kswapd, reclaim, let somebody be killed, until there is a page; 0 if the caller must do without.

    Context: may sleep if ``gfp.direct_reclaim``.
    """
    m = machine.cur
    if gfp.direct_reclaim and not may_sleep():
        gfp = GFP_ATOMIC
    no_progress_loops = 0
    alloc_flags = gfp_to_alloc_flags(gfp)
    vmscan.wakeup_kswapd(m.zone, order)
    page = get_page_from_freelist(order, alloc_flags)
    if page:
        return page
    while True:
        # Ensure kswapd doesn't accidentally go to sleep as long as we loop
        vmscan.wakeup_kswapd(m.zone, order)
        reserve_flags = __gfp_pfmemalloc_flags()
        if reserve_flags:
            alloc_flags = reserve_flags
        page = get_page_from_freelist(order, alloc_flags)
        if page:
            return page
        # Caller is not willing to reclaim, we can't balance anything
        if not gfp.direct_reclaim or m.cpu.curr.flags & PF_MEMALLOC:
            return 0
        did_some_progress = __alloc_pages_direct_reclaim(gfp, order)
        page = get_page_from_freelist(order, alloc_flags)
        if page:
            return page
        # Not modelled: compaction.  Do not retry costly high order allocations.
        if order > PAGE_ALLOC_COSTLY_ORDER:
            return 0
        no_progress_loops = 0 if did_some_progress and order <= PAGE_ALLOC_COSTLY_ORDER else no_progress_loops + 1
        if should_reclaim_retry(order, no_progress_loops, did_some_progress > 0):
            continue
        # Reclaim has failed us, start killing things
        page, progress = __alloc_pages_may_oom(gfp, order)
        if page:
            return page
        # Avoid allocations with no watermarks from looping endlessly
        if oom_kill.tsk_is_oom_victim(m.cpu.curr) and alloc_flags & ALLOC_OOM:
            return 0
        # Retry as long as the OOM killer is making progress
        if progress:
            no_progress_loops = 0
            continue
        return 0


def __alloc_pages_direct_reclaim(gfp: Gfp, order: int) -> int:
    """Reclaim in the caller's own context; how many pages that brought."""
    m = machine.cur
    # cond_resched() and memalloc_noreclaim_save() in __perform_reclaim()
    sched_core._cond_resched()
    m.cpu.curr.flags |= PF_MEMALLOC
    progress = vmscan.try_to_free_pages(gfp, order)
    m.cpu.curr.flags &= ~PF_MEMALLOC
    sched_core._cond_resched()
    return progress


def should_reclaim_retry(order: int, no_progress_loops: int, did_some_progress: bool) -> bool:
    """Tell whether another round of reclaim makes sense."""
    del did_some_progress
    m = machine.cur
    if no_progress_loops > MAX_RECLAIM_RETRIES:
        return False
    zone = m.zone
    reclaimable = vmscan.zone_reclaimable_pages(zone)
    available = reclaimable + zone.nr_free
    # Would the allocation succeed if we reclaimed all reclaimable pages?
    wmark = available - (1 << order) >= zone.watermark_min and any(zone.free_area[order:])
    trace_reclaim_retry_zone(order, reclaimable, available, zone.watermark_min, no_progress_loops, wmark)
    if not wmark:
        return False
    if m.cpu.curr.flags & PF_WQ_WORKER:
        timer.schedule_timeout_uninterruptible(1)
    else:
        sched_core._cond_resched()
    return True


def __alloc_pages_may_oom(gfp: Gfp, order: int) -> tuple[int, bool]:
    """Let the OOM killer choose; a page if there is one meanwhile, and whether to try again."""
    m = machine.cur
    # Not modelled: the mutex oom_lock; nothing in here sleeps, so that nobody finds it taken.
    # Go through the zonelist yet one more time, keep very high watermark here, this is only to catch a parallel oom
    # killing, we must fail if we're still under heavy pressure.
    zone = m.zone
    if zone_watermark_ok(zone, order, zone.watermark_high, 0):
        page = rmqueue(zone, order)
        if page:
            return page, True
    # Coredumps can quickly deplete all memory reserves; the OOM killer will not help higher order allocs.
    if order > PAGE_ALLOC_COSTLY_ORDER or (m.cpu.curr.flags & PF_EXITING and not m.cpu.curr.mm):
        return 0, False
    return 0, oom_kill.out_of_memory(oom_kill.OomControl(gfp, order))


def free_pages(address: int, order: int) -> None:
    """Give 2**order pages back."""
    zone = machine.cur.zone
    areas = zone.free_area
    zone.nr_free += 1 << order
    relative = address - zone.page_offset
    assert relative & ((PAGE_SIZE << order) - 1) == 0, f"{address:#x} is not aligned to order {order}"
    assert address not in areas[order], f"{address:#x} is free already"
    while order < MAX_ORDER - 1:
        buddy = zone.page_offset + (relative ^ (PAGE_SIZE << order))
        if buddy not in areas[order]:
            break
        del areas[order][buddy]
        relative &= ~(PAGE_SIZE << order)
        order += 1
    areas[order][zone.page_offset + relative] = None


def nr_free_pages() -> int:
    """Return how many pages are free."""
    return machine.cur.zone.nr_free


def totalram_pages() -> int:
    """Return how many pages the allocator has had from the start."""
    return machine.cur.zone.managed_pages
