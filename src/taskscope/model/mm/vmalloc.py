"""Areas of virtual memory for kernel stacks: mm/vmalloc.c, v4.19; only on flavours with CONFIG_VMAP_STACK.

An area ends with a guard page that is not mapped.  The lowest free place is taken, as alloc_vmap_area() does.
"""

from __future__ import annotations

import heapq
from typing import Final

import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.page_alloc as page_alloc
from taskscope.model import machine

VMALLOC_START: Final = 0xFFFF_C900_0000_0000
PAGE_SIZE: Final = 4096


class VmStruct:
    """struct vm_struct: an area and its pages."""

    __slots__ = ("addr", "pages", "size")

    def __init__(self, addr: int, size: int, pages: list[int]) -> None:
        self.addr = addr
        self.size = size                # with the guard page
        self.pages = pages


def vmalloc_init() -> None:
    """Begin with an empty vmalloc space; called by start_kernel()."""
    m = machine.cur
    m.vmap_next = VMALLOC_START
    m.vmap_free = {}
    m.vmap_areas = {}


def __vmalloc_node_range(size: int, align: int) -> VmStruct | None:
    """Map `size` bytes of pages at a multiple of `align`; None where memory is short."""
    m = machine.cur
    if fault_inject.should_fail("__vmalloc_node_range"):
        return None
    pages: list[int] = []
    for _ in range(size // PAGE_SIZE):
        page = page_alloc.__get_free_pages(0)
        if not page:
            for taken in pages:
                page_alloc.free_pages(taken, 0)
            return None
        pages.append(page)
    free = m.vmap_free.setdefault((size, align), [])
    if free:
        addr = heapq.heappop(free)
    else:
        addr = -(-m.vmap_next // align) * align
        m.vmap_next = addr + size + PAGE_SIZE
    area = VmStruct(addr, size + PAGE_SIZE, pages)
    m.vmap_areas[addr] = area
    return area


def vfree(area: VmStruct, align: int) -> None:
    """Unmap an area and free its pages."""
    m = machine.cur
    del m.vmap_areas[area.addr]
    for page in area.pages:
        page_alloc.free_pages(page, 0)
    heapq.heappush(m.vmap_free[(area.size - PAGE_SIZE, align)], area.addr)
