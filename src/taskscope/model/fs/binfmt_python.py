"""The format of programs in Python: what fs/binfmt_elf.c is to ELF, v4.19.

A file is such a program if its inode names the function to run (``i_program``).  The address space is accounted for as
that of a small static program.
"""

from __future__ import annotations

from errno import ENOEXEC
from typing import TYPE_CHECKING, Final

import taskscope.model.fs.exec as exec_
import taskscope.model.user.python as python
from taskscope.model import machine
from taskscope.model.include.linux.mm_types import VmArea
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
    mm.mmap = []
    for (pages, rss), flags, what in (
        (TEXT_PAGES, "r-xp", name),
        (DATA_PAGES, "rw-p", name),
        (HEAP_PAGES, "rw-p", "[heap]"),
    ):
        mm.mmap.append(VmArea(at, at + pages * PAGE_SIZE, flags, what, rss))
        at += pages * PAGE_SIZE
    mm.mmap.append(VmArea(top - STACK_PAGES[0] * PAGE_SIZE, top, "rw-p", "[stack]", STACK_PAGES[1]))
    mm.total_vm = sum((area.vm_end - area.vm_start) // PAGE_SIZE for area in mm.mmap)
    mm.rss = mm.hiwater_rss = sum(area.rss for area in mm.mmap)
    mm.argv = bprm.argv
    mm.envp = bprm.envp
    mm.owner = m.cpu.curr
    # finalize_exec(), start_thread()
    python.start_thread(program, bprm.argv, bprm.envp)
    return 0
