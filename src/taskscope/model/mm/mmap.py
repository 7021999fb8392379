"""The map of an address space: mm/mmap.c, v4.19: mmap(2), munmap(2), brk(2).

Anonymous memory only, private or shared; descriptors give -ENODEV.  Not modelled: stacks that grow, mremap(), huge
pages, mmap_sem (an area that goes while a fault sleeps is noticed there).
"""

from __future__ import annotations

from errno import EBADF, EEXIST, EINVAL, ENODEV, ENOMEM
from typing import Final

import taskscope.model.mm.memory as memory
import taskscope.model.mm.page_alloc as page_alloc
from taskscope.model import machine
from taskscope.model.include.linux.mm_types import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    Backing,
    MmStruct,
    PageTable,
    VmArea,
)
from taskscope.model.include.linux.sched_signal import rlimit

PAGE_SIZE: Final = 4096
PROT_READ, PROT_WRITE, PROT_EXEC = 0x1, 0x2, 0x4
MAP_SHARED, MAP_PRIVATE, MAP_TYPE = 0x1, 0x2, 0xF
MAP_FIXED, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE = 0x10, 0x20, 0x100000
RLIMIT_DATA: Final = 2
RLIMIT_AS: Final = 9
#: the lowest address that may be mapped (vm.mmap_min_addr)
MMAP_MIN_ADDR: Final = {4: 0x1000, 8: 0x10000}
TASK_SIZE: Final = {4: 0x7F00_0000, 8: 0x7FFF_FFFF_F000}
#: between the stack and what is mapped: a stack may grow to its limit, 128 MiB at least are kept
MIN_GAP: Final = 128 << 20


def page_align(length: int) -> int:
    """Round up to whole pages."""
    return (length + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)


def arch_pick_mmap_layout(mm: MmStruct) -> None:
    """Decide from where mappings go down: called by exec.  Not modelled: the random part."""
    mm.mmap_base = TASK_SIZE[machine.cur.flavour.long_size] - MIN_GAP


def insert_vm_struct(mm: MmStruct, area: VmArea) -> None:
    """Put an area in its place."""
    at = 0
    while at < len(mm.mmap) and mm.mmap[at].vm_start < area.vm_start:
        at += 1
    mm.mmap.insert(at, area)
    mm.total_vm += area.nr_pages
    mm.hiwater_vm = max(mm.hiwater_vm, mm.total_vm)


def may_expand_vm(mm: MmStruct, npages: int) -> bool:
    """Tell whether RLIMIT_AS allows so many more pages."""
    return mm.total_vm + npages <= rlimit(machine.cur.cpu.curr, RLIMIT_AS) >> 12


def __vm_enough_memory(pages: int) -> int:
    """Refuse obvious overcommits of address space: 0 or -ENOMEM (mm/util.c, OVERCOMMIT_GUESS)."""
    m = machine.cur
    zone = m.zone
    if m.flavour.switches.overcommit_by_total:
        return -ENOMEM if pages > zone.managed_pages else 0
    free = zone.nr_free + zone.nr_file - zone.nr_shmem
    # Leave reserved pages: they are not for anonymous pages.
    if free <= zone.totalreserve_pages:
        return -ENOMEM
    free -= zone.totalreserve_pages
    # Reserve some for root: sysctl_admin_reserve_kbytes, 8 MiB or 3 % of what is free
    if m.cpu.curr.cred.euid:
        free -= min(zone.nr_free // 32, 2048)
    return 0 if free > pages else -ENOMEM


def get_unmapped_area(mm: MmStruct, length: int) -> int:
    """Return where a mapping fits, as far up below mmap_base as possible; -ENOMEM if nowhere."""
    high = mm.mmap_base
    for area in reversed(mm.mmap):
        if area.vm_start >= mm.mmap_base:
            continue
        if high - area.vm_end >= length:
            break
        high = min(high, area.vm_start)
    low = max((area.vm_end for area in mm.mmap if area.vm_end <= high), default=0)
    low = max(low, MMAP_MIN_ADDR[machine.cur.flavour.long_size])
    return high - length if high - length >= low else -ENOMEM


def do_mmap(addr: int, length: int, prot: int, flags: int, fd: int) -> int:
    """Map anonymous memory; its address or a negative errno."""
    m = machine.cur
    current = m.cpu.curr
    mm: MmStruct = current.mm
    size = page_align(length)
    if not length or flags & MAP_TYPE not in (MAP_SHARED, MAP_PRIVATE):
        return -EINVAL
    if not size or size > TASK_SIZE[m.flavour.long_size]:
        return -ENOMEM
    if not flags & MAP_ANONYMOUS:
        files = current.files.fd if current.files is not None else []
        return -ENODEV if 0 <= fd < len(files) and files[fd] is not None else -EBADF
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        if addr & (PAGE_SIZE - 1):
            return -EINVAL
        if addr < MMAP_MIN_ADDR[m.flavour.long_size] or addr + size > TASK_SIZE[m.flavour.long_size]:
            return -ENOMEM if addr + size > TASK_SIZE[m.flavour.long_size] else -1
        if flags & MAP_FIXED_NOREPLACE and any(a.vm_start < addr + size and addr < a.vm_end for a in mm.mmap):
            return -EEXIST
        if flags & MAP_FIXED:
            do_munmap(mm, addr, size)
    else:
        addr &= ~(PAGE_SIZE - 1)
        if not addr or addr + size > mm.mmap_base or any(a.vm_start < addr + size and addr < a.vm_end for a in mm.mmap):
            addr = get_unmapped_area(mm, size)
            if addr < 0:
                return addr
    return mmap_region(mm, addr, size, prot, flags)


def mmap_region(mm: MmStruct, addr: int, size: int, prot: int, flags: int) -> int:
    """Make the area of a mapping."""
    if not may_expand_vm(mm, size >> 12):
        return -ENOMEM
    shared = bool(flags & MAP_SHARED)
    if prot & PROT_WRITE or shared:
        error = __vm_enough_memory(size >> 12)
        if error:
            return error
    shown = "".join(letter if prot & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
    table = PageTable(MM_SHMEMPAGES if shared else MM_ANONPAGES)
    if shared:
        table.backing = Backing()
    insert_vm_struct(mm, VmArea(addr, addr + size, shown + ("s" if shared else "p"), "/dev/zero" if shared else "",
                                table))
    return addr


def do_munmap(mm: MmStruct, start: int, length: int) -> int:
    """Unmap a range: areas that stick out of it are split."""
    if start & (PAGE_SIZE - 1) or start + length > TASK_SIZE[machine.cur.flavour.long_size] or start < 0:
        return -EINVAL
    end = start + page_align(length)
    if end == start:
        return -EINVAL
    for area in list(mm.mmap):
        if area.vm_end <= start or end <= area.vm_start:
            continue
        unmap_region(mm, area, max(start, area.vm_start), min(end, area.vm_end))
    memory.free_pgtables(mm, start, end)
    return 0


def unmap_region(mm: MmStruct, area: VmArea, start: int, end: int) -> None:
    """Take a part out of an area: what is left on either side becomes an area of its own."""
    area = memory.own_table(mm, area)
    memory.zap_range(mm, area, start, end)
    at = mm.mmap.index(area)
    del mm.mmap[at]
    mm.total_vm -= end - start >> 12
    left = []
    for part_start, part_end in ((area.vm_start, start), (end, area.vm_end)):
        if part_start < part_end:
            left.append(VmArea(part_start, part_end, area.flags, area.name, split_table(area.table, part_start,
                                                                                       part_end)))
    mm.mmap[at:at] = left
    memory.put_table(area.table)


def split_table(table: PageTable, start: int, end: int) -> PageTable:
    """Return the entries of a part of an area.

    The page cache's own table stays whole, with one user more.
    """
    if table.kind == MM_FILEPAGES:
        table.users += 1
        return table
    part = PageTable(table.kind) if table.backing is None else memory.shared_table(table.backing)
    first, behind = start >> 12, end >> 12
    moved = [vpn for vpn in table.pages if first <= vpn < behind]
    part.pages = {vpn: table.pages.pop(vpn) for vpn in moved}
    part.protected = {vpn for vpn in moved if vpn in table.protected}
    return part


def do_brk(mm: MmStruct, brk: int) -> int:
    """Move the end of the heap; return where it is then: where it was, if that cannot be."""
    old, new = page_align(mm.brk), page_align(brk)
    if brk < mm.start_brk or brk - mm.start_brk > rlimit(machine.cur.cpu.curr, RLIMIT_DATA):
        return mm.brk
    if new < old:
        do_munmap(mm, new, old - new)
    elif new > old:
        if any(a.vm_start < new and old < a.vm_end for a in mm.mmap) or not may_expand_vm(mm, new - old >> 12) or (
                __vm_enough_memory(new - old >> 12)):
            return mm.brk
        heap = next((a for a in mm.mmap if a.vm_end == old and a.name == "[heap]"), None)
        if heap is None:
            insert_vm_struct(mm, VmArea(old, new, "rw-p", "[heap]", PageTable(MM_ANONPAGES)))
        else:
            heap = memory.own_table(mm, heap)
            mm.mmap[mm.mmap.index(heap)] = VmArea(heap.vm_start, new, heap.flags, heap.name, heap.table)
            mm.total_vm += new - old >> 12
            mm.hiwater_vm = max(mm.hiwater_vm, mm.total_vm)
    mm.brk = brk
    return brk


def update_hiwater_rss(mm: MmStruct) -> None:
    """Remember how many pages were present, before some go."""
    mm.hiwater_rss = max(mm.hiwater_rss, mm.rss)


def sys_brk(brk: int) -> int:
    """brk(2)."""
    mm: MmStruct = machine.cur.cpu.curr.mm
    update_hiwater_rss(mm)
    return do_brk(mm, brk)


def sys_mmap(addr: int, length: int, prot: int, flags: int, fd: int, off: int) -> int:
    """mmap(2): `off` in bytes."""
    return -EINVAL if off & (PAGE_SIZE - 1) else do_mmap(addr, length, prot, flags, fd)


def sys_mmap2(addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    """mmap2(2) of 32-bit ARM: `pgoff` in pages."""
    del pgoff
    return do_mmap(addr, length, prot, flags, fd)


def sys_munmap(addr: int, length: int) -> int:
    """munmap(2)."""
    mm: MmStruct = machine.cur.cpu.curr.mm
    update_hiwater_rss(mm)
    return do_munmap(mm, addr, length)


def page_cache_of(inode: object, first: int, count: int) -> PageTable | None:
    """Return the pages of a program's file, read in at its first exec; None where memory is short (mm/filemap.c).

    All mappings of a file are at one place here, so that one table serves them all.
    """
    table: PageTable | None = inode.i_pages  # type: ignore[attr-defined]
    if table is None:
        pages = page_alloc.alloc_pages_bulk(count)
        if pages is None:
            return None
        table = PageTable(MM_FILEPAGES)
        table.pages = dict(zip(range(first, first + count), pages, strict=True))
        inode.i_pages = table  # type: ignore[attr-defined]
        machine.cur.zone.nr_file += count
    return table
