"""The address space at birth and death: the mm_struct part of kernel/fork.c, v4.19: dup_mm(), mmput(), mm_release()."""

from __future__ import annotations

from errno import ENOMEM
from typing import Any

import taskscope.model.fs.file_table as file_table
import taskscope.model.kernel.futex.core as futex
import taskscope.model.kernel.futex.syscalls as futex_syscalls
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.memory as memory
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.mm.slab as slab
from taskscope.model import machine, schedule
from taskscope.model.include.linux.fs import allow_write_access, deny_write_access
from taskscope.model.include.linux.mm_types import MMF_OOM_SKIP, MmStruct
from taskscope.model.include.linux.sched import (
    Task,
)
from taskscope.model.include.linux.sched_task import put_task_struct
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.uapi.linux.futex import FUTEX_WAKE
from taskscope.model.include.uapi.linux.sched import CLONE_VM

# ---- mm_struct ------------------------------------------------------------------------------------------

def mm_init() -> MmStruct | None:
    """Allocate an mm_struct and its top-level page table; None where memory is short."""
    m = machine.cur
    address = slab.kmem_cache_alloc(m.mm_cachep)
    if not address:
        return None
    # The first-level table of 32-bit ARM has 4,096 words; that of x86 is one page (two with page table isolation).
    order = 2 if m.flavour.arch == "arm" else 1
    pgd = page_alloc.__get_free_pages(order)
    if not pgd:
        slab.kmem_cache_free(m.mm_cachep, address)
        return None
    return MmStruct(address, pgd, order)


mm_alloc = mm_init


def __mmdrop(mm: MmStruct) -> None:
    """Free the mm_struct itself."""
    m = machine.cur
    assert mm is not m.init_mm, "init_mm is never freed"
    assert mm.mm_users == 0, "an mm in use is freed"
    page_alloc.free_pages(mm.pgd, mm.pgd_order)
    slab.kmem_cache_free(m.mm_cachep, mm.address)


def mmdrop(mm: MmStruct) -> None:
    """Drop a reference to the structure."""
    mm.mm_count -= 1
    assert mm.mm_count >= 0, "mmdrop() of a freed mm"
    if mm.mm_count == 0:
        __mmdrop(mm)


def mmgrab(mm: MmStruct) -> None:
    """Take a reference to the structure."""
    mm.mm_count += 1


def mmput(mm: MmStruct) -> None:
    """Drop a user of the address space; the last one unmaps it.

    Context: process context; may sleep.
    """
    mm.mm_users -= 1
    assert mm.mm_users >= 0, "mmput() of an mm without users"
    if mm.mm_users == 0:
        exit_mmap(mm)
        set_mm_exe_file(mm, None)
        mmdrop(mm)


def exit_mmap(mm: MmStruct) -> None:
    """Unmap everything (mm/mmap.c)."""
    m = machine.cur
    if m.chooses:
        m.interrupt_here(schedule.EXIT)                     # unmap_vmas() takes long
    memory.unmap_vmas(mm)
    mm.words = {}
    mm.total_vm = 0
    # The OOM killer finds nothing here any more.
    mm.flags |= MMF_OOM_SKIP


def set_mm_exe_file(mm: MmStruct, new_exe_file: Any) -> None:
    """Change which file /proc/PID/exe shows, and is not to be written while it runs.

    Until v5.14 the file's mappings (MAP_DENYWRITE) kept it from being written, with the same effect (fe69d560b5bd,
    "kernel/fork: always deny write access to current MM exe_file").
    """
    old, mm.exe_file = mm.exe_file, new_exe_file
    if new_exe_file is not None:
        error = deny_write_access(new_exe_file)
        assert not error, "a program that is loaded is open for writing"
    if old is not None:
        allow_write_access(old)
        file_table.fput(old)


def dup_mm(tsk: Task, oldmm: MmStruct) -> MmStruct | None:
    """Copy an address space: areas and page tables; the pages are shared until somebody writes."""
    mm = mm_init()
    if mm is None:
        return None
    # dup_mmap()
    if fault_inject.should_fail("dup_mmap"):
        mm.mm_users = 0
        mmdrop(mm)
        return None
    if not memory.copy_page_range(mm, oldmm):
        memory.unmap_vmas(mm)
        mm.mm_users = 0
        mmdrop(mm)
        return None
    mm.total_vm = mm.hiwater_vm = oldmm.total_vm
    mm.hiwater_rss = oldmm.rss
    mm.start_brk, mm.brk, mm.mmap_base = oldmm.start_brk, oldmm.brk, oldmm.mmap_base
    mm.words = dict(oldmm.words)
    mm.argv = oldmm.argv
    mm.envp = oldmm.envp
    mm.exe_name = oldmm.exe_name
    mm.dumpable = oldmm.dumpable
    mm.owner = tsk
    if oldmm.exe_file is not None:
        set_mm_exe_file(mm, file_table.get_file(oldmm.exe_file))
    return mm


def copy_mm(clone_flags: int, tsk: Task) -> int:
    """Share or copy the address space; a kernel thread has none."""
    tsk.min_flt = tsk.maj_flt = 0
    tsk.nvcsw = tsk.nivcsw = 0
    tsk.mm = None
    tsk.active_mm = None
    oldmm = machine.cur.cpu.curr.mm
    if oldmm is None:
        return 0
    if clone_flags & CLONE_VM:
        oldmm.mm_users += 1
        mm = oldmm
    else:
        mm = dup_mm(tsk, oldmm)
        if mm is None:
            return -ENOMEM
    tsk.mm = mm
    tsk.active_mm = mm
    return 0


def complete_vfork_done(tsk: Task) -> None:
    """Let the parent of a vfork() go on."""
    # task_lock(tsk)
    vfork = tsk.vfork_done
    if vfork is not None:
        tsk.vfork_done = None
        completion.complete(vfork)


def wait_for_vfork_done(child: Task, vfork: Any) -> int:
    """Sleep until the child has another address space or is dead; -ERESTARTSYS if a fatal signal comes first."""
    # Not modelled: freezer_do_not_count().
    killed = completion.wait_for_completion_killable(vfork)
    if killed:
        child.vfork_done = None
    put_task_struct(child)
    return killed


def mm_release(tsk: Task, mm: MmStruct | None) -> None:
    """Let go of an address space: clear the tid that CLONE_CHILD_CLEARTID asked for, wake the parent of a vfork().

    Called when a task exits or executes another program.
    """
    # Get rid of any futexes when releasing the mm
    futex.futex_cleanup(tsk)
    # Not modelled: uprobe_free_utask(), deactivate_mm().
    if tsk.clear_child_tid is not None:
        # The program may still be there to see it only if it has another user.
        if not tsk.signal.flags & 0x8 and mm is not None and mm.mm_users > 1:
            put_user(0, tsk.clear_child_tid)
            futex_syscalls.do_futex(tsk.clear_child_tid, FUTEX_WAKE, 1, None, None, 0, 0)
        tsk.clear_child_tid = None
    # All done, finally we can wake up the parent that borrows its memory.
    if tsk.vfork_done is not None:
        complete_vfork_done(tsk)
