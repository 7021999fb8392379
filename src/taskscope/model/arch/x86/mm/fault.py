"""Page faults on x86-64: arch/x86/mm/fault.c, v6.1 and v6.18.

A program's access to a page that is not there yet is brought in by handle_mm_fault(); one outside of its map is a
SIGSEGV.  An access of the kernel itself to an address that nothing maps is an oops.
"""

from __future__ import annotations

import sys
from typing import Final

import taskscope.model.arch.x86.entry.common as common
import taskscope.model.arch.x86.kernel.traps as traps
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.mm.memory as memory
import taskscope.model.mm.oom_kill as oom_kill
from taskscope.model import costs, machine
from taskscope.model.include.linux.mm_types import MmStruct
from taskscope.model.include.linux.sched_signal import SIG_DFL, SIG_IGN

SIGSEGV: Final = 11
SIGKILL: Final = 9
SEGV_MAPERR: Final = 1
SEGV_ACCERR: Final = 2
X86_PF_PROT: Final = 1
X86_PF_WRITE: Final = 2
X86_PF_USER: Final = 4
#: what an entry that points to a lower table has beside the address: _KERNPG_TABLE | _PAGE_USER
_TABLE: Final = 0x67


def exc_page_fault(address: int, write: bool) -> None:
    """Take a page fault of a program: on return the access is made again.

    Context: user mode.
    """
    m = machine.cur
    cpu = m.cpu
    assert cpu.user_mode, "a page fault of a program from inside the kernel"
    cpu.user_mode = False
    cpu.sp = cpu.curr.stack + m.entry_sp
    m.now += costs.PAGE_FAULT
    do_user_addr_fault(address, X86_PF_USER | (X86_PF_WRITE if write else 0))
    common.prepare_exit_to_usermode()


def exc_page_fault_kernel(address: int, write: bool) -> None:
    """Take a page fault of the kernel: one that nothing mends."""
    m = machine.cur
    # from the function that made the access on; READ_ONCE() and WRITE_ONCE() are inlined
    regs = traps.PtRegs(m, sys._getframe(2), address)
    # Not modelled: faults of the kernel in a program's memory: copy_from_user() and copy_to_user() have their fixups.
    page_fault_oops(regs, X86_PF_WRITE if write else 0, address)


def do_user_addr_fault(address: int, error_code: int) -> None:
    """Bring a page in for the running program, or send it a SIGSEGV.

    Context: a program's fault, interrupts on.
    """
    m = machine.cur
    tsk = m.cpu.curr
    mm: MmStruct = tsk.mm
    write = bool(error_code & X86_PF_WRITE)
    area = memory.find_vma(mm, address)
    if area is None or address < area.vm_start:
        bad_area_nosemaphore(error_code, address, SEGV_MAPERR)
        return
    if area.flags[write] == "-":
        bad_area_nosemaphore(error_code, address, SEGV_ACCERR)
        return
    fault = memory.handle_mm_fault(mm, address, write)
    if fault & memory.VM_FAULT_OOM:
        # We ran out of memory, call the OOM killer, and return the userspace (which will retry the fault, or kill us if
        # we got oom-killed):
        oom_kill.pagefault_out_of_memory()
        return
    if fault & memory.VM_FAULT_SIGBUS:
        signal_send.force_sig_fault(7, 2, address)
        return
    # mm_account_fault()
    tsk.min_flt += 1


def bad_area_nosemaphore(error_code: int, address: int, si_code: int) -> None:
    """Send the program a SIGSEGV."""
    show_signal_msg(error_code, address)
    signal_send.force_sig_fault(SIGSEGV, si_code, address)


def show_signal_msg(error_code: int, address: int) -> None:
    """Print a program's bad access, if it has no handler for it."""
    tsk = machine.cur.cpu.curr
    assert tsk.sighand is not None
    # unhandled_signal()
    if tsk.sighand.action[SIGSEGV - 1].sa_handler not in (SIG_IGN, SIG_DFL):
        return
    # Not modelled: printk_ratelimit().  Where a program in Python stands, and its stack, are no addresses.
    printk_.printk(
        f"<6>{tsk.comm}[{tsk.pid}]: segfault at {address:x} ip ???????????????? sp ???????????????? error "
        f"{error_code:x} likely on CPU {machine.cur.cpu.id} (core {machine.cur.cpu.id}, socket 0)\n"
    )


def dump_pagetable(address: int) -> None:
    """Print the entries that lead to an address, down to the one that is empty."""
    m = machine.cur
    mm = m.cpu.curr.active_mm
    tables = {} if mm is None else mm.tables
    line = ""
    for key, names in zip(memory.table_keys(address, address + 1), (("PGD", "P4D"), ("PUD",), ("PMD",)), strict=True):
        page = tables.get(key)
        entry = 0 if page is None else (page - m.flavour.page_offset) | _TABLE
        line += "".join(f"{name} {entry:x} " for name in names)
        if not entry:
            printk_.printk(f"<6>{line}\n")
            return
    printk_.printk(f"<6>{line}PTE 0\n")


def show_fault_oops(error_code: int, address: int) -> None:
    """Print what was accessed, and how."""
    if address < 4096:
        printk_.printk(f"<1>BUG: kernel NULL pointer dereference, address: {address:016x}\n")
    else:
        printk_.printk(f"<1>BUG: unable to handle page fault for address: {address:016x}\n")
    how = "write access" if error_code & X86_PF_WRITE else "read access"
    printk_.printk(f"<1>#PF: supervisor {how} in kernel mode\n")
    why = "permissions violation" if error_code & X86_PF_PROT else "not-present page"
    printk_.printk(f"<1>#PF: error_code(0x{error_code:04x}) - {why}\n")
    dump_pagetable(address)


def page_fault_oops(regs: traps.PtRegs, error_code: int, address: int) -> None:
    """Oops. The kernel tried to access some bad page. We'll have to terminate things with extreme prejudice."""
    # Not modelled: is_prefetch(), stack overflow, efi_crash_gracefully_on_page_fault(), KFENCE.
    flags = traps.oops_begin()
    show_fault_oops(error_code, address)
    # task_stack_end_corrupted() is looked at by schedule()
    sig = SIGKILL
    if traps.__die("Oops", regs, error_code):
        sig = 0
    # Executive summary in case the body of the oops scrolled away
    printk_.printk(f"CR2: {address:016x}\n")
    traps.oops_end(flags, regs, sig)
