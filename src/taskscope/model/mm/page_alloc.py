"""Pages: the buddy allocator, mm/page_alloc.c, v4.19.

Addresses are those of the direct mapping (page_offset + physical address).  Blocks of 2**order pages are split and,
when both halves are free, merged.  What stands at an address is in ``machine.cur.memory``.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.lib.fault_inject as fault_inject
from taskscope.model import machine

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
MAX_ORDER: Final = 11
#: what the kernel's image and its early allocations take at the start of memory
RESERVED: Final = 16 << 20


class Zone:
    """struct zone; there is one, of one node."""

    __slots__ = ("free_area", "managed_pages", "nr_free", "page_offset")

    def __init__(self, page_offset: int) -> None:
        self.page_offset = page_offset
        self.managed_pages = 0
        # free_area[order] holds addresses; a dict keeps them in order of freeing and finds a buddy at once
        self.free_area: list[dict[int, None]] = [{} for _ in range(MAX_ORDER)]
        self.nr_free = 0


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


def __get_free_pages(order: int) -> int:
    """Allocate 2**order pages; their address, or 0."""
    if fault_inject.should_fail("__get_free_pages"):
        return 0
    zone = machine.cur.zone
    areas = zone.free_area
    current = order
    while current < MAX_ORDER and not areas[current]:
        current += 1
    if current == MAX_ORDER:
        # Not modelled: reclaim, compaction, and the OOM killer behind them.
        return 0
    address, _ = areas[current].popitem()
    while current > order:
        # expand(): the upper half becomes free
        current -= 1
        areas[current][address + (PAGE_SIZE << current)] = None
    zone.nr_free -= 1 << order
    return address


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
