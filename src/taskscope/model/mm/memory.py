"""Pages of programs: faults, copy on write, and giving back: mm/memory.c, v4.19.

What a program touches and has not yet is brought in by a fault, one page each time; `handle_mm_fault` decides what kind
of page.  Which pages are there is in the areas' page tables (`PageTable`), how many in ``mm.rss_stat``, and how many
hold a page of memory together in ``zone.page_refs``.
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.mm.page_alloc as page_alloc
from taskscope.model import machine
from taskscope.model.include.linux.gfp import GFP_PGTABLE_USER, GFP_USER_ZEROED
from taskscope.model.include.linux.mm_types import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    ZERO_PAGE,
    Backing,
    MmStruct,
    PageTable,
    VmArea,
)

PAGE_SHIFT: Final = 12
VM_FAULT_OOM: Final = 0x1
VM_FAULT_SIGBUS: Final = 0x2

# The lower levels of page tables: (level, address bits below an entry of the level above, bytes that are accounted).
# 32-bit ARM's hardware tables of 1 KiB are kept in pairs, with Linux's own beside them: a page for 2 MiB.
_LEVELS: Final = {
    "arm": ((1, 21, 2048),),
    "x86_64": ((3, 39, 4096), (2, 30, 4096), (1, 21, 4096)),
}
_LEVEL_SHIFT: Final = 56


# ---- page tables ------------------------------------------------------------------------------------------

def table_keys(start: int, end: int) -> list[int]:
    """Return which lower page tables a range of addresses needs, the upper levels first."""
    return [
        level << _LEVEL_SHIFT | index
        for level, shift, _ in _LEVELS[machine.cur.flavour.arch]
        for index in range(start >> shift, (end - 1 >> shift) + 1)
    ]


def pte_alloc(mm: MmStruct, address: int) -> bool:
    """Make the page tables down to an address, where they are missing; False where memory is short.

    Context: may sleep.
    """
    tables = mm.tables
    for level, shift, _ in _LEVELS[machine.cur.flavour.arch]:
        key = level << _LEVEL_SHIFT | address >> shift
        if key not in tables:
            page = page_alloc.__get_free_pages(0, GFP_PGTABLE_USER)
            if not page:
                return False
            if key in tables:       # somebody else has made it meanwhile
                page_alloc.free_pages(page, 0)
                continue
            tables[key] = page
            machine.cur.zone.nr_pagetable += 1
    return True


def pte_alloc_range(mm: MmStruct, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Make the page tables of a new mm for some ranges at once; False where memory is short.

    Context: may sleep.
    """
    cache: dict[Any, list[int]] = machine.cur.__dict__.setdefault("exec_tables", {})
    keys = cache.get(ranges)
    if keys is None:
        # the same for every program
        keys = cache[ranges] = list(dict.fromkeys(key for start, end in ranges for key in table_keys(start, end)))
    pages = page_alloc.alloc_page_tables(len(keys))
    if pages is None:
        return False
    mm.tables = dict(zip(keys, pages, strict=True))
    return True


def mm_pgtables_bytes(mm: MmStruct) -> int:
    """Return what the page tables below the top-level one take."""
    size = {level: bytes_ for level, _, bytes_ in _LEVELS[machine.cur.flavour.arch]}
    return sum(size[key >> _LEVEL_SHIFT] for key in mm.tables)


def free_pgtables(mm: MmStruct, start: int, end: int) -> None:
    """Give back the page tables that stand for a range and for no area that is left."""
    needed: set[int] = set()
    for area in mm.mmap:
        needed.update(table_keys(area.vm_start, area.vm_end))
    page_alloc.free_page_tables(
        [mm.tables.pop(key) for key in table_keys(start, end) if key in mm.tables and key not in needed]
    )


def copy_page_range(dst_mm: MmStruct, src_mm: MmStruct) -> bool:
    """Give a new mm the areas and pages of another; False where memory is short.

    Anonymous pages become read-only on both sides and are copied by whoever writes first.  Not modelled: that a child
    has no entries for pages of files before it touches them.
    """
    areas = src_mm.mmap
    dst_mm.mmap = areas.copy()
    dst_mm.rss_stat = src_mm.rss_stat.copy()
    for area in areas:
        table = area.table
        if table.backing is not None:
            # Don't copy ptes where a page fault will fill them correctly.
            dst_mm.mmap[areas.index(area)] = VmArea(
                area.vm_start, area.vm_end, area.flags, area.name, shared_table(table.backing)
            )
            dst_mm.rss_stat[MM_SHMEMPAGES] -= len(table.pages)
            continue
        table.users += 1
        table.forked = True
    pages = page_alloc.alloc_page_tables(len(src_mm.tables))
    if pages is None:
        return False
    dst_mm.tables = dict(zip(src_mm.tables, pages, strict=True))
    return True


def unmap_vmas(mm: MmStruct) -> None:
    """Let go of all areas with their pages and page tables: exit, or an exec."""
    areas, mm.mmap = mm.mmap, []
    for area in areas:
        table = area.table
        table.users -= 1
        if not table.users:
            free_table(table)
    mm.rss_stat = [0, 0, 0, 0]
    if mm.tables:
        page_alloc.free_page_tables(list(mm.tables.values()))
        mm.tables = {}


def put_table(table: PageTable) -> None:
    """Let go of an area's entries; the last user's pages go."""
    table.users -= 1
    if not table.users:
        free_table(table)


def free_table(table: PageTable) -> None:
    """Let go of the pages of entries that nobody uses any more."""
    pages, table.pages = list(table.pages.values()), {}
    if table.kind == MM_ANONPAGES:
        put_anon_pages(pages)
    elif table.backing is None:
        machine.cur.zone.nr_file -= len(pages)
        page_alloc.free_unref_page_list(pages)
    else:
        put_backing(table.backing)


def put_backing(backing: Backing) -> None:
    """Let go of shared memory; it goes with its last mapping, as nobody can name it otherwise."""
    backing.users -= 1
    if backing.users == 0:
        zone = machine.cur.zone
        zone.nr_file -= len(backing.pages)
        zone.nr_shmem -= len(backing.pages)
        page_alloc.free_unref_page_list(list(backing.pages.values()))


def shared_table(backing: Backing) -> PageTable:
    """Return empty entries for one more mapping of shared memory."""
    backing.users += 1
    table = PageTable(MM_SHMEMPAGES)
    table.backing = backing
    return table


def put_anon_pages(pages: list[int]) -> int:
    """Drop a reference to each page, which has been taken out of its table; return how many were counted in rss."""
    zone = machine.cur.zone
    refs = zone.page_refs
    mapped = pages if ZERO_PAGE not in pages else [page for page in pages if page != ZERO_PAGE]
    free = mapped
    if refs:
        free = []
        for page in mapped:
            count = refs.get(page)
            if count is None:
                free.append(page)
            elif count == 2:
                del refs[page]
            else:
                refs[page] = count - 1
    zone.nr_anon -= len(free)
    count = len(mapped)
    page_alloc.free_unref_page_list(free)
    return count


def own_table(mm: MmStruct, area: VmArea) -> VmArea:
    """Give an mm entries of its own for an area that a fork left shared; return the area that is in the mm then."""
    table = area.table
    if table.kind != MM_ANONPAGES:
        return area
    if table.users > 1:
        table.users -= 1
        own = PageTable(table.kind)
        own.pages = table.pages.copy()
        own.protected = set(own.pages)
        refs = machine.cur.zone.page_refs
        for page in own.pages.values():
            if page != ZERO_PAGE:
                refs[page] = refs.get(page, 1) + 1
        mine = VmArea(area.vm_start, area.vm_end, area.flags, area.name, own)
        mm.mmap[mm.mmap.index(area)] = mine
        return mine
    if table.forked:
        table.forked = False
        table.protected = set(table.pages)
    return area


# ---- faults -----------------------------------------------------------------------------------------------

def find_vma(mm: MmStruct, address: int) -> VmArea | None:
    """Return the first area that ends behind an address; it need not begin before it (mm/mmap.c)."""
    for area in mm.mmap:
        if address < area.vm_end:
            return area
    return None


def access_permitted(mm: MmStruct, address: int, write: bool) -> bool:
    """Tell whether an access goes through without a fault: what the MMU does."""
    area = find_vma(mm, address)
    if area is None or address < area.vm_start or area.flags[write] == "-":
        return False
    table = area.table
    page = table.pages.get(address >> PAGE_SHIFT)
    if page is None:
        return False
    if not write or table.kind == MM_SHMEMPAGES:
        return True
    return page != ZERO_PAGE and not table.forked and (address >> PAGE_SHIFT) not in table.protected


def handle_mm_fault(mm: MmStruct, address: int, write: bool) -> int:
    """Bring in the page at an address; 0 or VM_FAULT_*.

    The caller has checked that an area allows the access.  After 0 the access is made again, and may fault again.

    Context: may sleep.
    """
    if not pte_alloc(mm, address):
        return VM_FAULT_OOM
    area = find_vma(mm, address)
    if area is None or address < area.vm_start:
        return 0                            # unmapped while we slept
    page = area.table.pages.get(address >> PAGE_SHIFT)
    if area.table.kind == MM_FILEPAGES:
        # A program's pages are in the page cache since its exec: none is missing that has a place in the file.
        return VM_FAULT_SIGBUS if page is None else 0
    if page is None:
        backing = area.table.backing
        if backing is not None:
            return shmem_fault(mm, backing, address)
        return do_anonymous_page(mm, area, address, write)
    return do_wp_page(mm, area, address) if write else 0


def do_anonymous_page(mm: MmStruct, area: VmArea, address: int, write: bool) -> int:
    """Map a page of zeros; for a read, the one that all share."""
    vpn = address >> PAGE_SHIFT
    zone = machine.cur.zone
    if not write:
        # Use the zero-page for reads
        own_table(mm, area).table.pages[vpn] = ZERO_PAGE
        return 0
    page = page_alloc.__get_free_pages(0, GFP_USER_ZEROED)
    if not page:
        return VM_FAULT_OOM
    found = find_vma(mm, address)
    if found is None or address < found.vm_start or vpn in found.table.pages:
        page_alloc.free_pages(page, 0)      # it came meanwhile, or its place has gone
        return 0
    table = own_table(mm, found).table
    table.pages[vpn] = page
    mm.rss_stat[MM_ANONPAGES] += 1
    zone.nr_anon += 1
    return 0


def shmem_fault(mm: MmStruct, backing: Backing, address: int) -> int:
    """Map a page of shared memory, a new one if nobody has touched it yet (mm/shmem.c)."""
    vpn = address >> PAGE_SHIFT
    zone = machine.cur.zone
    if vpn not in backing.pages:
        page = page_alloc.__get_free_pages(0, GFP_USER_ZEROED)
        if not page:
            return VM_FAULT_OOM
        if vpn in backing.pages or not backing.users:
            page_alloc.free_pages(page, 0)      # somebody was faster, or all mappings have gone
            return 0
        backing.pages[vpn] = page
        zone.nr_shmem += 1
        zone.nr_file += 1
    found = find_vma(mm, address)
    if found is not None and address >= found.vm_start and found.table.backing is backing:
        found.table.pages[vpn] = backing.pages[vpn]
        mm.rss_stat[MM_SHMEMPAGES] += 1
    return 0


def do_wp_page(mm: MmStruct, area: VmArea, address: int) -> int:
    """Write to a page that is there and may not be written: reuse it if nobody shares it, copy it otherwise."""
    vpn = address >> PAGE_SHIFT
    zone = machine.cur.zone
    area = own_table(mm, area)
    table = area.table
    page = table.pages[vpn]
    if page != ZERO_PAGE and page not in zone.page_refs:
        table.protected.discard(vpn)        # wp_page_reuse()
        return 0
    # wp_page_copy()
    new = page_alloc.__get_free_pages(0, GFP_USER_ZEROED)
    if not new:
        return VM_FAULT_OOM
    found = find_vma(mm, address)
    if found is None or address < found.vm_start or found.table.pages.get(vpn) != page:
        page_alloc.free_pages(new, 0)
        return 0
    table = own_table(mm, found).table
    table.pages[vpn] = new
    table.protected.discard(vpn)
    zone.nr_anon += 1
    if page == ZERO_PAGE:
        mm.rss_stat[MM_ANONPAGES] += 1
    else:
        put_anon_pages([page])
    return 0


def zap_range(mm: MmStruct, area: VmArea, start: int, end: int) -> None:
    """Take the pages of a part of an area out of an mm (unmap_page_range())."""
    first, behind = start >> PAGE_SHIFT, end >> PAGE_SHIFT
    table = own_table(mm, area).table
    gone = [vpn for vpn in table.pages if first <= vpn < behind]
    if table.kind == MM_FILEPAGES:
        # the page cache's own table stays as it is
        mm.rss_stat[MM_FILEPAGES] -= len(gone)
        return
    pages = [table.pages.pop(vpn) for vpn in gone]
    table.protected.difference_update(gone)
    if table.kind == MM_ANONPAGES:
        mm.rss_stat[MM_ANONPAGES] -= put_anon_pages(pages)
    else:
        mm.rss_stat[MM_SHMEMPAGES] -= len(pages)
