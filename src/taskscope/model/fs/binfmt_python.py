"""The format of programs in Python: what fs/binfmt_elf.c is to ELF, v4.19.

A file is such a program if its inode names the function to run (``i_program``).  Its address space is
that of a small static program: text from the page cache, data, heap and stack in pages of its own.
"""

from __future__ import annotations

from errno import ENOEXEC, ENOMEM
from typing import TYPE_CHECKING, Final

import taskscope.model.fs.exec as exec_
import taskscope.model.mm.memory as memory
import taskscope.model.mm.mmap as mmap
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.user.python as python
from taskscope.model import machine
from taskscope.model.include.linux.mm_types import MM_ANONPAGES, MM_FILEPAGES, PageTable, VmArea
from taskscope.model.include.linux.sched import PF_RANDOMIZE

if TYPE_CHECKING:
    from taskscope.model.fs.exec import LinuxBinprm

PAGE_SIZE: Final = 4096
TEXT: Final = {4: 0x0001_0000, 8: 0x0040_0000}          # where a static program is linked to
STACK_TOP: Final = {4: 0x7F00_0000, 8: 0x7FFF_FFFF_F000}
# pages: of the program, of the heap, of the stack (mapped, present)
TEXT_PAGES: Final = (180, 96)
DATA_PAGES: Final = (6, 6)
HEAP_PAGES: Final = (33, 4)
STACK_PAGES: Final = (33, 3)
#: do_fault_around() maps 64 KiB of what is in the page cache
FAULT_AROUND_PAGES: Final = 16
ANON_PAGES: Final = DATA_PAGES[1] + HEAP_PAGES[1] + STACK_PAGES[1]
TOTAL_PAGES: Final = TEXT_PAGES[0] + DATA_PAGES[0] + HEAP_PAGES[0] + STACK_PAGES[0]


def present(start: int, pages: list[int]) -> PageTable:
    """Return the entries of an area whose pages are there from an address on."""
    table = PageTable(MM_ANONPAGES)
    table.pages = dict(zip(range(start // PAGE_SIZE, start // PAGE_SIZE + len(pages)), pages, strict=True))
    return table


def load_python_binary(bprm: LinuxBinprm) -> int:
    """Load a program in Python: 0, or -ENOEXEC: it is none."""
    m = machine.cur
    program = bprm.file.f_inode.i_program
    if program is None:
        return -ENOEXEC
    # Flush all traces of the currently running executable
    retval = exec_.flush_old_exec(bprm)
    if retval:
        return retval
    m.cpu.curr.flags |= PF_RANDOMIZE        # load_elf_binary(): randomize_va_space is 2 by default
    exec_.setup_new_exec(bprm)
    exec_.install_exec_creds(bprm)
    mm = m.cpu.curr.mm
    size = m.flavour.long_size
    at = TEXT[size]
    top = STACK_TOP[size]
    name = bprm.interp
    text = mmap.page_cache_of(bprm.file.f_inode, at // PAGE_SIZE, TEXT_PAGES[1])
    anonymous = page_alloc.alloc_pages_bulk(ANON_PAGES)
    data = at + TEXT_PAGES[0] * PAGE_SIZE
    heap = data + DATA_PAGES[0] * PAGE_SIZE
    if text is None or anonymous is None or not memory.pte_alloc_range(mm, ((at, heap + 1), (top - 1, top))):
        page_alloc.free_unref_page_list(anonymous or [])
        return -ENOMEM
    text.users += 1
    end = heap + HEAP_PAGES[0] * PAGE_SIZE
    stack = top - STACK_PAGES[0] * PAGE_SIZE
    mm.mmap = [
        VmArea(at, data, "r-xp", name, text),
        VmArea(data, heap, "rw-p", name, present(data, anonymous[: DATA_PAGES[1]])),
        VmArea(heap, end, "rw-p", "[heap]", present(heap, anonymous[DATA_PAGES[1] : -STACK_PAGES[1]])),
        # of the stack the uppermost pages are in use
        VmArea(stack, top, "rw-p", "[stack]", present(top - STACK_PAGES[1] * PAGE_SIZE, anonymous[-STACK_PAGES[1] :])),
    ]
    mm.start_brk, mm.brk = heap, end
    mmap.arch_pick_mmap_layout(mm)
    mm.total_vm = mm.hiwater_vm = TOTAL_PAGES
    m.zone.nr_anon += ANON_PAGES
    mm.rss_stat[MM_FILEPAGES] = TEXT_PAGES[1]
    mm.rss_stat[MM_ANONPAGES] = ANON_PAGES
    mm.hiwater_rss = TEXT_PAGES[1] + ANON_PAGES
    # Each of them has come by a fault; those of the file are mapped around the one that is asked for.
    m.cpu.curr.min_flt += ANON_PAGES + TEXT_PAGES[1] // FAULT_AROUND_PAGES
    mm.argv = bprm.argv
    mm.envp = bprm.envp
    mm.owner = m.cpu.curr
    # finalize_exec(), start_thread()
    python.start_thread(program, bprm.argv, bprm.envp)
    return 0
