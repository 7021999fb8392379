"""Data aborts on 32-bit ARM: arch/arm/mm/fault.c, v4.19.

A program's access to a page that is not there yet is brought in by handle_mm_fault(); one outside of its map is a
SIGSEGV.  An access of the kernel itself to an address that nothing maps is an oops.
"""

from __future__ import annotations

import sys
from typing import Final

import taskscope.model.arch.arm.kernel.entry_common as entry_common
import taskscope.model.arch.arm.kernel.traps as traps
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.mm.memory as memory
import taskscope.model.mm.oom_kill as oom_kill
from taskscope.model import costs, machine
from taskscope.model.include.linux.mm_types import MmStruct
from taskscope.model.include.linux.preempt import in_atomic

SIGKILL: Final = 9
SIGSEGV: Final = 11
SEGV_MAPERR: Final = 1
SEGV_ACCERR: Final = 2
# the fault status register: translation fault of a section or of a page (domain 1), and whether it was a write
FSR_SECTION: Final = 0x5
FSR_PAGE: Final = 0x17
FSR_WRITE: Final = 1 << 11
#: what an entry of the first-level table has beside the address of the second-level table: _PAGE_USER_TABLE
_USER_TABLE: Final = 0x835


def fsr_of(mm: MmStruct | None, addr: int, write: bool) -> int:
    """Return the fault status that the MMU reports."""
    has_table = mm is not None and all(key in mm.tables for key in memory.table_keys(addr, addr + 1))
    return (FSR_PAGE if has_table else FSR_SECTION) | (FSR_WRITE if write else 0)


def dabt_usr(addr: int, write: bool) -> None:
    """Take a data abort of a program (__dabt_usr): on return the access is made again.

    Context: user mode.
    """
    m = machine.cur
    cpu = m.cpu
    assert cpu.user_mode, "a data abort of a program from inside the kernel"
    cpu.user_mode = False
    cpu.sp = cpu.curr.stack + m.entry_sp
    m.now += costs.PAGE_FAULT
    do_page_fault(addr, fsr_of(cpu.curr.mm, addr, write))
    entry_common.ret_to_user()


def dabt_svc(addr: int, write: bool) -> None:
    """Take a data abort of the kernel (__dabt_svc); returns only if the fault was mended, which it never is here."""
    m = machine.cur
    # from the function that made the access on; READ_ONCE() and WRITE_ONCE() are inlined
    frame = sys._getframe(2)
    regs = traps.PtRegs(m, frame)
    mm = m.cpu.curr.mm
    # Not modelled: faults of the kernel in a program's memory: copy_from_user() and copy_to_user() have their fixups.
    __do_kernel_fault(None if in_atomic() else mm, addr, fsr_of(mm, addr, write), regs)


def do_page_fault(addr: int, fsr: int) -> None:
    """Bring a page in for the running program, or send it a SIGSEGV.

    Context: a program's fault, interrupts on.
    """
    m = machine.cur
    tsk = m.cpu.curr
    mm: MmStruct = tsk.mm
    write = bool(fsr & FSR_WRITE)
    area = memory.find_vma(mm, addr)
    code = 0
    if area is None or addr < area.vm_start:
        code = SEGV_MAPERR
    elif area.flags[write] == "-":
        code = SEGV_ACCERR
    if code:
        __do_user_fault(addr, fsr, code)
        return
    fault = memory.handle_mm_fault(mm, addr, write)
    if fault & memory.VM_FAULT_OOM:
        # We ran out of memory, call the OOM killer, and return to userspace (which will retry the fault, or kill us if
        # we got oom-killed)
        oom_kill.pagefault_out_of_memory()
        return
    if fault & memory.VM_FAULT_SIGBUS:
        signal_send.force_sig_fault(7, 2, addr)
        return
    tsk.min_flt += 1


def __do_user_fault(addr: int, fsr: int, code: int) -> None:
    """Send the program a SIGSEGV."""
    # Not modelled: the line that user_debug prints.
    del fsr
    signal_send.force_sig_fault(SIGSEGV, code, addr)


def show_pte(mm: MmStruct | None, addr: int) -> None:
    """Print what the page tables have for an address; of the kernel's own tables if there is no other."""
    m = machine.cur
    tables = {} if mm is None else mm.tables
    # %p prints no address before there is entropy to hash it with
    printk_.printk("<1>pgd = (ptrval)\n")
    page = next((tables[key] for key in memory.table_keys(addr, addr + 1) if key in tables), None)
    if page is None:
        printk_.printk(f"<1>[{addr:08x}] *pgd=00000000\n")
        return
    entry = (page - m.flavour.page_offset) | _USER_TABLE
    printk_.printk(f"<1>[{addr:08x}] *pgd={entry:08x}, *pte=00000000, *ppte=00000000\n")


def __do_kernel_fault(mm: MmStruct | None, addr: int, fsr: int, regs: traps.PtRegs) -> None:
    """Oops. The kernel tried to access some page that wasn't present.

    die() ends the task by itself, with SIGSEGV (oops_end()); the call behind it is reached only where somebody on the
    die chain has taken the oops over.
    """
    # Are we prepared to handle this kernel fault?  fixup_exception(): no code of the model has a fixup.
    # No handler, we'll have to terminate things with extreme prejudice.
    what = "NULL pointer dereference" if addr < 4096 else "paging request"
    printk_.printk(f"<1>Unable to handle kernel {what} at virtual address {addr:08x}\n")
    show_pte(mm, addr)
    traps.die("Oops", regs, fsr)
    exit_.do_exit(SIGKILL)
