"""What there is of memory, as the kernel prints it: lib/show_mem.c and mm/page_alloc.c (show_free_areas()), v4.19."""

from __future__ import annotations

import taskscope.model.kernel.printk as printk_
import taskscope.model.mm.page_alloc as page_alloc
from taskscope.model import machine


def slab_pages() -> int:
    """Return how many pages slabs take (NR_SLAB_UNRECLAIMABLE: no cache here says that it is reclaimable)."""
    total = 0
    for cache in machine.cur.slab_caches:
        total += (len(cache.slabs) + len(cache.whole)) << cache.order
    return total


def stack_kib() -> int:
    """Return how many KiB kernel stacks take (NR_KERNEL_STACK_KB)."""
    m = machine.cur
    # one for each thread, and those of the idle tasks that were forked
    return (m.nr_threads + m.nr_cpus - 1) * m.flavour.thread_size >> 10


def show_mem() -> None:
    """Print what memory is used for.

    Not modelled: what the kernel counts and the model has not: dirty pages, writeback, bounce buffers, per-cpu lists.
    """
    m = machine.cur
    zone = m.zone
    printk_.printk(
        "<4>Mem-Info:\n"
        f"<4>active_anon:{zone.nr_anon} inactive_anon:{zone.nr_shmem} isolated_anon:0\n"
        " active_file:0 inactive_file:0 isolated_file:0\n"
        f" unevictable:{zone.nr_file - zone.nr_shmem}\n"
        f" slab_reclaimable:0 slab_unreclaimable:{slab_pages()}\n"
        f" shmem:{zone.nr_shmem} pagetables:{zone.nr_pagetable}\n"
        f" free:{zone.nr_free}\n"
    )
    name = "Normal"
    printk_.printk(
        f"<4>Node 0 {name} free:{zone.nr_free << 2}kB min:{zone.watermark_min << 2}kB low:{zone.watermark_low << 2}kB "
        f"high:{zone.watermark_high << 2}kB present:{m.mem >> 10}kB managed:{zone.managed_pages << 2}kB "
        f"kernel_stack:{stack_kib()}kB pagetables:{zone.nr_pagetable << 2}kB\n"
    )
    blocks = " ".join(f"{len(area)}*{4 << order}kB" for order, area in enumerate(zone.free_area))
    printk_.printk(f"<4>Node 0 {name}: {blocks} = {zone.nr_free << 2}kB\n")
    printk_.printk(f"<4>{zone.nr_file} total pagecache pages\n")
    printk_.printk("<4>0 pages in swap cache\n<4>Free swap  = 0kB\n<4>Total swap = 0kB\n")
    pages = m.mem // page_alloc.PAGE_SIZE
    printk_.printk(f"<4>{pages} pages RAM\n<4>0 pages HighMem/MovableOnly\n")
    printk_.printk(f"<4>{pages - zone.managed_pages} pages reserved\n")
