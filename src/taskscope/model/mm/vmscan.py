"""Freeing pages when few are left: shrinkers, direct reclaim, kswapd: mm/vmscan.c, v4.19.

Without swap and with all files in memory, no page of a program or of the page cache can be reclaimed; what gives way
are caches of the kernel and of drivers, each with a shrinker.  Those are asked harder and harder (`priority` 12 down to
0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model import costs, machine
from taskscope.model.include.linux.gfp import GFP_KERNEL, Gfp
from taskscope.model.include.linux.sched import PF_KSWAPD, PF_MEMALLOC, TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, waitqueue_active, wake_up_interruptible

DEF_PRIORITY: Final = 12
DEFAULT_SEEKS: Final = 2
SHRINK_BATCH: Final = 128
SHRINK_STOP: Final = -1
SWAP_CLUSTER_MAX: Final = 32
MAX_RECLAIM_RETRIES: Final = 16


class ShrinkControl:
    """struct shrink_control: what a shrinker is asked for."""

    __slots__ = ("gfp_mask", "nr_scanned", "nr_to_scan")

    def __init__(self, gfp_mask: Gfp) -> None:
        self.gfp_mask = gfp_mask
        self.nr_to_scan = 0
        self.nr_scanned = 0


class Shrinker:
    """struct shrinker: a cache that gives objects back when memory is short.

    ``count_objects`` says how many it could, ``scan_objects`` frees some and says how many, or SHRINK_STOP.
    """

    __slots__ = ("batch", "count_objects", "name", "nr_deferred", "scan_objects", "seeks")

    def __init__(self, name: str, count_objects: Callable[[Shrinker, ShrinkControl], int],
                 scan_objects: Callable[[Shrinker, ShrinkControl], int], seeks: int = DEFAULT_SEEKS,
                 batch: int = 0) -> None:
        self.name = name
        self.count_objects = count_objects
        self.scan_objects = scan_objects
        self.seeks = seeks                      # what an object costs to make again
        self.batch = batch                      # 0: SHRINK_BATCH
        self.nr_deferred = 0                    # asked for and not yet scanned


class Pgdat:
    """struct pglist_data: the node, its kswapd, and the list of shrinkers (a global in C)."""

    __slots__ = ("kswapd", "kswapd_failures", "kswapd_order", "kswapd_wait", "shrinker_list")

    def __init__(self) -> None:
        self.kswapd: Task | None = None
        self.kswapd_wait = WaitQueueHead("kswapd_wait")
        self.kswapd_order = 0
        self.kswapd_failures = 0                # runs in a row that have freed nothing
        self.shrinker_list: list[Shrinker] = []


class ScanControl:
    """struct scan_control: one run of reclaim."""

    __slots__ = ("gfp_mask", "nr_reclaimed", "nr_to_reclaim", "order", "priority")

    def __init__(self, gfp_mask: Gfp, order: int, nr_to_reclaim: int) -> None:
        self.gfp_mask = gfp_mask
        self.order = order
        self.nr_to_reclaim = nr_to_reclaim
        self.priority = DEF_PRIORITY
        self.nr_reclaimed = 0


def pgdat() -> Pgdat:
    """Return the node; made at the first call."""
    cur = machine.cur
    found: Pgdat | None = cur.__dict__.get("vm")
    if found is None:
        found = cur.vm = Pgdat()
    return found


# ---- shrinkers --------------------------------------------------------------------------------------------

def register_shrinker(shrinker: Shrinker) -> int:
    """Add a shrinker; 0."""
    assert shrinker not in pgdat().shrinker_list, f"{shrinker.name} is registered twice"
    pgdat().shrinker_list.append(shrinker)
    return 0


def unregister_shrinker(shrinker: Shrinker) -> None:
    """Take a shrinker off."""
    pgdat().shrinker_list.remove(shrinker)


def do_shrink_slab(shrinkctl: ShrinkControl, shrinker: Shrinker, priority: int) -> int:
    """Ask one shrinker for its share; how many objects it has freed."""
    freeable = shrinker.count_objects(shrinker, shrinkctl)
    if freeable <= 0:
        return 0
    batch_size = shrinker.batch or SHRINK_BATCH
    # copy the current shrinker scan count into a local variable and zero it so that other concurrent shrinker
    # invocations don't also do this scanning work.
    nr, shrinker.nr_deferred = shrinker.nr_deferred, 0
    delta = (freeable >> priority) * 4 // shrinker.seeks if shrinker.seeks else freeable // 2
    total_scan = nr + delta
    next_deferred = nr
    # We need to avoid excessive windup on filesystem shrinkers due to large numbers of GFP_NOFS allocations.
    if delta < freeable // 4:
        total_scan = min(total_scan, freeable // 2)
    total_scan = min(total_scan, freeable * 2)
    freed = scanned = 0
    while total_scan >= batch_size or total_scan >= freeable:
        nr_to_scan = min(batch_size, total_scan)
        shrinkctl.nr_to_scan = shrinkctl.nr_scanned = nr_to_scan
        ret = shrinker.scan_objects(shrinker, shrinkctl)
        if ret == SHRINK_STOP:
            break
        freed += ret
        total_scan -= shrinkctl.nr_scanned
        scanned += shrinkctl.nr_scanned
        sched_core._cond_resched()
        if total_scan <= 0:
            break
    next_deferred = next_deferred - scanned if next_deferred >= scanned else 0
    # move the unused scan count back into the shrinker in a manner that handles concurrent updates.
    shrinker.nr_deferred += max(total_scan, 0) if not scanned else next_deferred
    return freed


def shrink_slab(gfp_mask: Gfp, priority: int) -> int:
    """Ask all shrinkers; how many objects they have freed."""
    freed = 0
    for shrinker in list(pgdat().shrinker_list):
        freed += do_shrink_slab(ShrinkControl(gfp_mask), shrinker, priority)
        sched_core._cond_resched()
    return freed


# ---- reclaim ----------------------------------------------------------------------------------------------

def zone_reclaimable_pages(zone: Any) -> int:
    """Return how many pages of the LRU lists could be freed."""
    del zone
    # Not modelled: swap, and files that are not in memory for good; no page on these lists has another place.
    return 0


def shrink_node(sc: ScanControl) -> bool:
    """Look through the node once with the run's priority; whether anything was freed.

    Context: process context; other CPUs go on meanwhile.
    """
    m = machine.cur
    # Walking the lists takes a while, whether or not something is found.
    m.run_for(costs.RECLAIM)
    before = m.zone.nr_free
    # Not modelled: shrink_lruvec(): nothing on the lists can be freed, see zone_reclaimable_pages().
    shrink_slab(sc.gfp_mask, sc.priority)
    # current->reclaim_state->reclaimed_slab counts pages, not objects
    reclaimed = max(machine.cur.zone.nr_free - before, 0)
    sc.nr_reclaimed += reclaimed
    if reclaimed:
        # Kswapd gives up on pgdat balancing when reclaim has failed many times; this is the sign to try again.
        pgdat().kswapd_failures = 0
    return reclaimed > 0


def try_to_free_pages(gfp_mask: Gfp, order: int) -> int:
    """Reclaim in the context of who needs a page: direct reclaim; how many pages were freed."""
    sc = ScanControl(gfp_mask, order, SWAP_CLUSTER_MAX)
    while sc.priority >= 0:
        shrink_node(sc)
        if sc.nr_reclaimed >= sc.nr_to_reclaim:
            break
        sc.priority -= 1
    return sc.nr_reclaimed


# ---- kswapd -----------------------------------------------------------------------------------------------

def pgdat_balanced(order: int) -> bool:
    """Tell whether the zone is at its high watermark: kswapd's work is done."""
    zone = machine.cur.zone
    return zone.nr_free >= zone.watermark_high and any(zone.free_area[order:])


def wakeup_kswapd(zone: Any, order: int) -> None:
    """Wake kswapd: an allocation has found the zone below its low watermark."""
    del zone
    node = pgdat()
    if node.kswapd is None:
        return
    node.kswapd_order = max(node.kswapd_order, order)
    if not waitqueue_active(node.kswapd_wait):
        return
    # Hopeless node, leave it to direct reclaim if possible
    if node.kswapd_failures >= MAX_RECLAIM_RETRIES or pgdat_balanced(order):
        return
    wake_up_interruptible(node.kswapd_wait)


def balance_pgdat(order: int) -> None:
    """Reclaim until the zone is at its high watermark, or nothing more is to be had."""
    node = pgdat()
    sc = ScanControl(GFP_KERNEL, order, 0)
    while sc.priority >= 1:
        # If there's no allocation that would fail, we are done.
        if pgdat_balanced(order):
            return
        before = sc.nr_reclaimed
        shrink_node(sc)
        if kthread.kthread_should_stop():
            return
        # If we're getting trouble reclaiming, start doing harder work.
        if sc.nr_reclaimed == before:
            sc.priority -= 1
    if not sc.nr_reclaimed:
        node.kswapd_failures += 1


def kswapd_try_to_sleep(order: int) -> None:
    """Sleep until an allocation finds the zone below its low watermark again."""
    node = pgdat()
    wait = DEFINE_WAIT()
    wait_.prepare_to_wait(node.kswapd_wait, wait, TASK_INTERRUPTIBLE)
    # Not modelled: the short sleep of a tenth of a second before, in which a premature sleep is found out.
    # A node of which nothing can be had is balanced, too, and left to direct reclaim.
    if (pgdat_balanced(order) or node.kswapd_failures >= MAX_RECLAIM_RETRIES) and not kthread.kthread_should_stop():
        sched_core.schedule()
    wait_.finish_wait(node.kswapd_wait, wait)


def kswapd_init() -> int:
    """Start kswapd0: 0 or a negative errno."""
    t = kthread.kthread_run(kswapd, pgdat(), "kswapd0")
    if not isinstance(t, Task):
        return t
    pgdat().kswapd = t
    return 0


def kswapd(p: Pgdat) -> int:
    """Be kswapd0: woken at the low watermark, asleep at the high one."""
    # Tell the memory management that we're a "memory allocator", and that if we need more memory we should get access
    # to it regardless (see "__alloc_pages()").
    machine.cur.cpu.curr.flags |= PF_MEMALLOC | PF_KSWAPD
    order = 0
    while True:
        kswapd_try_to_sleep(order)
        if kthread.kthread_should_stop():
            return 0
        order, p.kswapd_order = p.kswapd_order, 0
        balance_pgdat(order)
