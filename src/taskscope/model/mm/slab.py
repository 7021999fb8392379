"""Slabs: caches of equal objects cut from pages, mm/slub.c, v4.19, without its per-cpu fast path.

A cache gives out addresses; the object that a Python kernel keeps there is the caller's.  The last freed object of a
slab
is the first to be given out again.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.page_alloc as page_alloc
from taskscope.model import machine

PAGE_SIZE: Final = 4096
MIN_PARTIAL: Final = 5


class Slab:
    """The struct page of a slab: its free objects and how many are in use."""

    __slots__ = ("address", "freelist", "inuse")

    def __init__(self, address: int, freelist: list[int]) -> None:
        self.address = address
        self.freelist = freelist
        self.inuse = 0


class KmemCache:
    """struct kmem_cache."""

    __slots__ = ("active", "mask", "name", "objects", "order", "partial", "size", "slabs", "spare", "whole")

    def __init__(self, name: str, size: int, order: int) -> None:
        self.name = name
        self.size = size
        self.order = order
        self.objects = (PAGE_SIZE << order) // size         # in one slab
        self.mask = ~((PAGE_SIZE << order) - 1)
        self.slabs: dict[int, Slab] = {}                    # all, by address
        self.partial: dict[int, Slab] = {}                  # those with a free object
        self.active = 0                                 # in use
        self.whole: list[int] = []                          # slabs of objects without an address
        self.spare = 0                                      # how many more of those fit

    def __repr__(self) -> str:
        return f"<cache {self.name} {self.active}>"


def kmem_cache_create(name: str, size: int) -> KmemCache:
    """Make a cache of objects of `size` bytes; slabs waste at most an eighth, as calculate_order() has it."""
    size = -(-size // 8) * 8
    order = 0
    while order < 3 and ((PAGE_SIZE << order) < size or (PAGE_SIZE << order) % size > (PAGE_SIZE << order) // 8
                         or (PAGE_SIZE << order) // size < 4):
        order += 1
    cache = KmemCache(name, size, order)
    machine.cur.slab_caches.append(cache)
    return cache


def kmem_cache_alloc(s: KmemCache) -> int:
    """Allocate an object; its address, or 0 where there is no memory."""
    if fault_inject.should_fail(s.name):
        return 0
    partial = s.partial
    if partial:
        slab = next(reversed(partial.values()))
    else:
        base = page_alloc.__get_free_pages(s.order)
        if not base:
            return 0
        size = s.size
        slab = Slab(base, [base + n * size for n in range(s.objects - 1, -1, -1)])
        s.slabs[base] = partial[base] = slab
    address = slab.freelist.pop()
    slab.inuse += 1
    if not slab.freelist:
        del partial[slab.address]
    s.active += 1
    return address


def kmem_cache_free(s: KmemCache, address: int) -> None:
    """Give an object back."""
    # The direct mapping begins at a multiple of the largest block, so masking finds the slab.
    slab = s.slabs[address & s.mask]
    assert address not in slab.freelist, f"{s.name}: {address:#x} is free already"
    slab.freelist.append(address)
    slab.inuse -= 1
    s.active -= 1
    s.partial[slab.address] = slab
    if slab.inuse == 0 and len(s.partial) > MIN_PARTIAL:
        del s.partial[slab.address], s.slabs[slab.address]
        page_alloc.free_pages(slab.address, s.order)


def kmem_cache_alloc_object(s: KmemCache) -> bool:
    """Account for an object that Python keeps and whose address nobody asks for; False where there is no memory."""
    if fault_inject.should_fail(s.name):
        return False
    if s.spare == 0:
        base = page_alloc.__get_free_pages(s.order)
        if not base:
            return False
        s.whole.append(base)
        s.spare = s.objects
    s.spare -= 1
    s.active += 1
    return True


def kmem_cache_free_object(s: KmemCache) -> None:
    """Give such an object back; slabs beyond the first few go back to the page allocator."""
    s.spare += 1
    s.active -= 1
    assert s.active >= 0, f"{s.name}: more freed than allocated"
    if s.spare > s.objects * MIN_PARTIAL:
        page_alloc.free_pages(s.whole.pop(), s.order)
        s.spare -= s.objects
