"""Making a task: kernel/fork.c, v4.19, with clone3() and pidfds of v5.3 where the flavour has them.

_do_fork() copies the caller with copy_process(), which shares or copies each part of it by the clone flags, and puts the
child on a runqueue with wake_up_new_task().  A step that fails undoes those before it, in reverse order.  The end of a
task_struct is here too: put_task_struct() leads to free_task(), put_task_stack() to the page or vmap area of the stack.
"""

from __future__ import annotations

from errno import E2BIG, EAGAIN, EFAULT, EINTR, EINVAL, ENOMEM, EPERM
from typing import Any, Final

import taskscope.model.fs.file as fs_file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.nsproxy as nsproxy
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.mm.slab as slab
import taskscope.model.mm.vmalloc as vmalloc
from taskscope.model import costs, machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.errno import ERESTARTNOINTR
from taskscope.model.include.linux.list import ListHead, list_add, list_add_tail, list_add_tail_rcu, list_del_init
from taskscope.model.include.linux.mm_types import MmStruct
from taskscope.model.include.linux.sched import (
    PF_FORKNOEXEC, PF_IDLE, PF_NPROC_EXCEEDED, PF_SUPERPRIV, PF_WQ_WORKER, TASK_DEAD, Task, thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    RLIM_INFINITY, RLIM_NLIMITS, RLIMIT_NPROC, SIG_DFL, SIG_IGN, SIGNAL_UNKILLABLE, KSigaction, Rlimit, SighandStruct,
    SignalStruct, SigPending,
)
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct
from taskscope.model.include.linux.spinlock import (
    Spinlock, spin_lock, spin_lock_irq, spin_unlock, spin_unlock_irq, write_lock_irq, write_unlock_irq,
)
from taskscope.model.include.linux.thread_info import ThreadInfo, signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import WaitQueueHead
from taskscope.model.include.trace.events.sched import trace_sched_process_fork
from taskscope.model.include.trace.events.task import trace_task_newtask
from taskscope.model.include.uapi.linux.sched import (
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_CLEAR_SIGHAND, CLONE_DETACHED, CLONE_FILES, CLONE_FS, CLONE_INTO_CGROUP,
    CLONE_LEGACY_FLAGS, CLONE_NAMESPACES, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_PIDFD,
    CLONE_PTRACE, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM, CSIGNAL,
)
from taskscope.model.kernel.pid import PIDNS_ADDING, PIDTYPE_MAX, PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_SID, PIDTYPE_TGID, Pid

STACK_END_MAGIC: Final = 0x57AC_6E9D
NR_CACHED_STACKS: Final = 2
MIN_THREADS: Final = 20
MAX_THREADS: Final = 0x3FFF_FFFF            # FUTEX_TID_MASK
SIGCHLD: Final = 17
_SLOTS: Final = tuple(slot for slot in Task.__slots__ if slot != "__weakref__")

#: bytes of the objects that fork allocates, as typical builds of the flavours have them: 32-bit, 64-bit
_SIZES: Final = {
    "task_struct": (1792, 4288), "mm_struct": (448, 1600), "sighand_cache": (1320, 2112), "signal_cache": (640, 1152),
}


# ---- set-up ---------------------------------------------------------------------------------------------

def fork_init() -> None:
    """Make the slab of task_structs and compute how many tasks fit into memory; called by start_kernel()."""
    m = machine.cur
    m.task_struct_cachep = _cache("task_struct")
    m.nr_threads = 0                        # init_task is not counted
    m.total_forks = 0
    m.process_counts = [0] * len(m.cpus)
    m.cached_stacks = [[None] * NR_CACHED_STACKS for _ in m.cpus]
    set_max_threads(MAX_THREADS)
    limit = m.max_threads // 2
    for rlim in (m.init_task.signal.rlim[RLIMIT_NPROC], m.init_task.signal.rlim[11]):
        rlim.rlim_cur = rlim.rlim_max = limit


def proc_caches_init() -> None:
    """Make the slabs of what hangs on a task_struct; called by start_kernel()."""
    m = machine.cur
    m.sighand_cachep = _cache("sighand_cache")
    m.signal_cachep = _cache("signal_cache")
    m.mm_cachep = _cache("mm_struct")


def _cache(name: str) -> slab.KmemCache:
    return slab.kmem_cache_create(name, _SIZES[name][machine.cur.flavour.long_size == 8])


def set_max_threads(max_threads_suggested: int) -> None:
    """Let thread stacks take at most an eighth of memory."""
    m = machine.cur
    threads = page_alloc.totalram_pages() * page_alloc.PAGE_SIZE // (m.flavour.thread_size * 8)
    m.max_threads = min(max(min(threads, max_threads_suggested), MIN_THREADS), MAX_THREADS)


# ---- the stack and the task_struct ----------------------------------------------------------------------

def alloc_thread_stack_node(tsk: Task) -> int:
    """Allocate a kernel stack; its lowest address, or 0.

    With CONFIG_VMAP_STACK the CPU keeps two freed stacks, which are taken first.
    """
    m = machine.cur
    size = m.flavour.thread_size
    if m.flavour.switches.vmap_stack:
        cached = m.cached_stacks[m.cpu.id]
        for i in range(NR_CACHED_STACKS):
            area = cached[i]
            if area is None:
                continue
            cached[i] = None
            tsk.stack_vm_area = area
            return area.addr  # type: ignore[no-any-return]
        area = vmalloc.__vmalloc_node_range(size, size)
        if area is None:
            return 0
        tsk.stack_vm_area = area
        return area.addr
    return page_alloc.__get_free_pages((size // page_alloc.PAGE_SIZE).bit_length() - 1)


def free_thread_stack(tsk: Task) -> None:
    """Give the kernel stack back: to the CPU's cache, or to where it came from."""
    m = machine.cur
    # Whoever looked there by address must find nothing any more.
    m.memory.pop(tsk.stack, None)
    m.memory.pop(end_of_stack(tsk), None)
    if not m.flavour.switches.vmap_stack:
        page_alloc.free_pages(tsk.stack, (m.flavour.thread_size // page_alloc.PAGE_SIZE).bit_length() - 1)
        return
    area, tsk.stack_vm_area = tsk.stack_vm_area, None
    if try_release_thread_stack_to_cache(area):
        return
    # thread_stack_delayed_free(): vfree() must not run where the last reference may be dropped
    rcu.call_rcu(area, thread_stack_free_rcu)


def try_release_thread_stack_to_cache(area: vmalloc.VmStruct) -> bool:
    """Keep a stack for the next fork on this CPU, if there is room."""
    m = machine.cur
    cached = m.cached_stacks[m.cpu.id]
    for i in range(NR_CACHED_STACKS):
        if cached[i] is None:
            cached[i] = area
            return True
    return False


def thread_stack_free_rcu(area: vmalloc.VmStruct) -> None:
    """Try the cache again, or unmap.

    Context: RCU callback.
    """
    if not try_release_thread_stack_to_cache(area):
        vmalloc.vfree(area, machine.cur.flavour.thread_size)


def end_of_stack(tsk: Task) -> int:
    """Return the address of the last word a stack may grow to: it must hold STACK_END_MAGIC."""
    m = machine.cur
    if m.flavour.switches.thread_info_in_task:
        return tsk.stack
    return tsk.stack + m.sizeof_thread_info


def set_task_stack_end_magic(tsk: Task) -> None:
    """Put the magic number where an overflow would overwrite it."""
    machine.cur.memory[end_of_stack(tsk)] = STACK_END_MAGIC


def setup_thread_stack(p: Task, org: Task) -> None:
    """Give the child a thread_info: at the lowest address of its stack a copy of the parent's, or its own in task_struct."""
    m = machine.cur
    ti = ThreadInfo(p)
    was = org.thread_info
    ti.flags = was.flags
    ti.cpu = was.cpu
    ti.addr_limit = was.addr_limit
    ti.cpu_domain = was.cpu_domain
    ti.tp_value = was.tp_value
    ti.syscall_work = was.syscall_work
    p.thread_info = ti
    if not m.flavour.switches.thread_info_in_task:
        m.memory[p.stack] = ti


def dup_task_struct(orig: Task) -> Task | None:
    """Copy the task_struct and give it a stack; None where memory is short."""
    m = machine.cur
    address = slab.kmem_cache_alloc(m.task_struct_cachep)
    if not address:
        return None
    tsk = Task()
    # arch_dup_task_struct(): *dst = *src
    for slot in _SLOTS:
        setattr(tsk, slot, getattr(orig, slot))
    tsk.address = address
    tsk.stack_vm_area = None
    stack = alloc_thread_stack_node(tsk)
    if not stack:
        slab.kmem_cache_free(m.task_struct_cachep, address)
        return None
    tsk.stack = stack
    tsk.stack_refcount = 1
    tsk.stack_greenlet = None
    tsk.kthread = None
    setup_thread_stack(tsk, orig)
    # clear_user_return_notifier(), clear_tsk_need_resched()
    tsk.thread_info.flags &= ~m.tif.NEED_RESCHED
    set_task_stack_end_magic(tsk)
    # One for us, one for whoever does release_task() (usually the parent).  Since v5.4 the two are counted apart, and
    # together hold one reference.
    tsk.usage = 1 if m.flavour.switches.rcu_user_reference else 2
    tsk.rcu_users = 2
    tsk.fail_nth = 0
    m.memory[address] = tsk
    # Not modelled: stack_canary, splice_pipe, task_frag, kcov, seccomp filters.
    return tsk


def free_task(tsk: Task) -> None:
    """Give back the task_struct's memory.

    Context: nothing refers to the task any more.
    """
    m = machine.cur
    if m.flavour.switches.thread_info_in_task:
        # The stack is freed by finish_task_switch(), or here when the task never ran.
        assert tsk.stack_refcount == 0, f"{tsk}: free_task() with its stack in use"
    else:
        free_thread_stack(tsk)
        tsk.stack = 0
    # Not modelled: rt_mutex_debug_task_free(), ftrace_graph_exit_task(), arch_release_task_struct().
    del m.memory[tsk.address]
    slab.kmem_cache_free(m.task_struct_cachep, tsk.address)


def put_task_stack(tsk: Task) -> None:
    """Drop a reference to the stack.

    Without CONFIG_THREAD_INFO_IN_TASK this does nothing: the stack holds thread_info and stays as long as task_struct.
    """
    if not machine.cur.flavour.switches.thread_info_in_task:
        return
    tsk.stack_refcount -= 1
    assert tsk.stack_refcount >= 0, f"{tsk}: put_task_stack() of a freed stack"
    if tsk.stack_refcount == 0:
        release_task_stack(tsk)


def release_task_stack(tsk: Task) -> None:
    """Free the stack of a dead task.

    Context: the task is TASK_DEAD and runs nowhere.
    """
    assert tsk.state == TASK_DEAD, "release_task_stack() of a task that is not dead"
    free_thread_stack(tsk)
    tsk.stack = 0


def __put_task_struct(tsk: Task) -> None:
    """Free what only the task_struct held.

    Context: the last reference is gone; the task has been released.
    """
    assert tsk.exit_state, f"{tsk}: __put_task_struct() of a living task"
    assert tsk.usage == 0, "a reference is left"
    assert tsk is not machine.cur.cpu.curr, "a task frees itself"
    cred.exit_creds(tsk)
    put_signal_struct(tsk.signal)
    # Not modelled: cgroup_free(), task_numa_free(), security_task_free(), delayacct_tsk_free(), profile_handoff_task().
    free_task(tsk)


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
    mm.mmap = []
    mm.words = {}
    mm.total_vm = mm.rss = 0


def set_mm_exe_file(mm: MmStruct, new_exe_file: Any) -> None:
    """Change which file /proc/PID/exe shows."""
    old, mm.exe_file = mm.exe_file, new_exe_file
    if old is not None:
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
    mm.mmap = list(oldmm.mmap)
    mm.total_vm = oldmm.total_vm
    mm.rss = mm.hiwater_rss = oldmm.rss
    mm.words = dict(oldmm.words)
    mm.argv = oldmm.argv
    mm.envp = oldmm.envp
    mm.exe_name = oldmm.exe_name
    mm.dumpable = oldmm.dumpable
    mm.owner = tsk
    if oldmm.exe_file is not None:
        mm.exe_file = file_table.get_file(oldmm.exe_file)
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
    # Not modelled: robust futex lists, uprobe_free_utask(), deactivate_mm().
    if tsk.clear_child_tid is not None:
        # The program may still be there to see it only if it has another user.
        if not tsk.signal.flags & 0x8 and mm is not None and mm.mm_users > 1:
            put_user(0, tsk.clear_child_tid)
            # Not modelled: do_futex(FUTEX_WAKE); there is no futex yet.
        tsk.clear_child_tid = None
    # All done, finally we can wake up the parent that borrows its memory.
    if tsk.vfork_done is not None:
        complete_vfork_done(tsk)


# ---- what is shared or copied ---------------------------------------------------------------------------

def copy_files(clone_flags: int, tsk: Task) -> int:
    """Share or copy the table of open files."""
    oldf = machine.cur.cpu.curr.files
    if oldf is None:                        # a background process may not have any files
        return 0
    if clone_flags & CLONE_FILES:
        oldf.count += 1
        return 0
    if fault_inject.should_fail("files_cache"):
        return -ENOMEM
    newf = fs_file.dup_fd(oldf)
    if isinstance(newf, int):
        return newf
    tsk.files = newf
    return 0


def copy_fs(clone_flags: int, tsk: Task) -> int:
    """Share or copy root, working directory and umask."""
    fs = machine.cur.cpu.curr.fs
    if clone_flags & CLONE_FS:
        # -EAGAIN while an execve() is between its check for sharing and its end
        if fs.in_exec:
            return -EAGAIN
        fs.users += 1
        return 0
    if fault_inject.should_fail("fs_cache"):
        return -ENOMEM
    tsk.fs = fs_struct.copy_fs_struct(fs)
    return 0


def copy_sighand(clone_flags: int, tsk: Task) -> int:
    """Share or copy the table of signal actions."""
    m = machine.cur
    current = m.cpu.curr
    assert current.sighand is not None
    if clone_flags & CLONE_SIGHAND:
        current.sighand.count += 1
        return 0
    if not slab.kmem_cache_alloc_object(m.sighand_cachep):
        return -ENOMEM
    action = list(current.sighand.action)
    if clone_flags & CLONE_CLEAR_SIGHAND:
        # Reset all signal handlers not set to SIG_IGN to SIG_DFL (v5.5).
        action = [old if old.sa_handler == SIG_IGN else m.ka_default for old in action]
    tsk.sighand = SighandStruct(action)
    return 0


def __cleanup_sighand(sighand: SighandStruct) -> None:
    """Drop a reference to the table of signal actions."""
    sighand.count -= 1
    assert sighand.count >= 0, "a freed sighand_struct is dropped"
    if sighand.count == 0:
        slab.kmem_cache_free_object(machine.cur.sighand_cachep)


def copy_signal(clone_flags: int, tsk: Task) -> int:
    """Make what the threads of a process share; a thread has that of its leader."""
    if clone_flags & CLONE_THREAD:
        return 0
    m = machine.cur
    current = m.cpu.curr
    if not slab.kmem_cache_alloc_object(m.signal_cachep):
        return -ENOMEM
    sig = SignalStruct()
    was = current.signal
    tsk.signal = sig
    sig.nr_threads = 1
    sig.live = 1
    sig.sigcnt = 1
    # list_add(&sig->thread_head, &tsk->thread_node) without using it
    sig.thread_head = ListHead()
    tsk.thread_node = ListHead(tsk)
    list_add(tsk.thread_node, sig.thread_head)
    sig.wait_chldexit = WaitQueueHead("wait_chldexit")
    sig.curr_target = tsk
    sig.shared_pending = SigPending()
    sig.multiprocess = ListHead()
    sig.posix_timers = []
    sig.real_timer = None
    sig.it = None
    sig.rlim = [Rlimit(limit.rlim_cur, limit.rlim_max) for limit in was.rlim]
    # Not modelled: posix_cpu_timers_init_group(), tty_audit_fork(), sched_autogroup_fork().
    sig.oom_score_adj = was.oom_score_adj
    sig.oom_score_adj_min = was.oom_score_adj_min
    sig.cred_guard_mutex = None
    zero_signal_struct(sig)
    return 0


def zero_signal_struct(sig: SignalStruct) -> None:
    """Set what kmem_cache_zalloc() leaves as 0."""
    sig.group_exit_code = sig.notify_count = sig.group_stop_count = sig.flags = 0
    sig.group_exit_task = None
    sig.is_child_subreaper = sig.has_child_subreaper = sig.leader = False
    sig.pids = [None] * PIDTYPE_MAX  # type: ignore[list-item]
    sig.tty = sig.tty_old_pgrp = None
    sig.utime = sig.stime = sig.cutime = sig.cstime = 0
    sig.nvcsw = sig.nivcsw = sig.cnvcsw = sig.cnivcsw = 0
    sig.min_flt = sig.maj_flt = sig.cmin_flt = sig.cmaj_flt = 0
    sig.sum_sched_runtime = 0


def free_signal_struct(sig: SignalStruct) -> None:
    """Free the signal_struct of a process."""
    # Not modelled: taskstats_tgid_free(), sched_autogroup_exit(), sig->oom_mm.
    slab.kmem_cache_free_object(machine.cur.signal_cachep)


def put_signal_struct(sig: SignalStruct) -> None:
    """Drop a thread's reference."""
    sig.sigcnt -= 1
    assert sig.sigcnt >= 0, "a freed signal_struct is dropped"
    if sig.sigcnt == 0:
        free_signal_struct(sig)


def copy_io(clone_flags: int, tsk: Task) -> int:
    """Share or copy the I/O context: nobody here has one."""
    # Not modelled: block I/O.
    return 0


# ---- copy_process() -------------------------------------------------------------------------------------

def copy_process(
    clone_flags: int, stack_start: Any, stack_size: Any, child_tidptr: Any, pid: Pid | None, trace: int, tls: Any,
    node: int = -1, *, exit_signal: int = 0, pidfd: Any = None,
) -> Task | int:
    """Make a new task as a copy of the caller, without starting it; a negative errno if that fails.

    :param pid: init_struct_pid for an idle task, which takes no number; None for everybody else
    :param stack_start: of a kernel thread: its function, and `stack_size` its argument
    :param exit_signal: the low byte of clone()'s flags, which clone3() has as a field
    """
    m = machine.cur
    current = m.cpu.curr
    clone3 = m.flavour.switches.clone3

    # Don't allow sharing the root directory with processes in a different namespace.
    if clone_flags & (CLONE_NEWNS | CLONE_FS) == CLONE_NEWNS | CLONE_FS:
        return -EINVAL
    if clone_flags & (CLONE_NEWUSER | CLONE_FS) == CLONE_NEWUSER | CLONE_FS:
        return -EINVAL
    # Thread groups must share signals as well, and detached threads can only be started up within the thread group.
    if clone_flags & CLONE_THREAD and not clone_flags & CLONE_SIGHAND:
        return -EINVAL
    # Shared signal handlers imply shared VM.
    if clone_flags & CLONE_SIGHAND and not clone_flags & CLONE_VM:
        return -EINVAL
    # Siblings of global init remain zombies on exit since they are not reaped by their parent (swapper).
    if clone_flags & CLONE_PARENT and current.signal.flags & SIGNAL_UNKILLABLE:
        return -EINVAL
    # If the new process will be in a different pid or user namespace do not allow it to share a thread group.
    if clone_flags & CLONE_THREAD and clone_flags & (CLONE_NEWUSER | CLONE_NEWPID):
        return -EINVAL
    # CLONE_DETACHED is blocked so that it can be reused; there are no pidfds of threads (until v6.9).
    if clone3 and clone_flags & CLONE_PIDFD and clone_flags & (CLONE_DETACHED | (
            CLONE_THREAD if m.flavour.version < (6, 9) else 0)):
        return -EINVAL

    # Force any signals received before this point to be delivered before the fork happens.  Collect up signals sent
    # to multiple processes during the fork and delay them so that they appear to happen after the fork.
    assert current.sighand is not None
    siglock = current.sighand.siglock
    delayed = signal_send.MultiprocessSignals()
    spin_lock_irq(siglock)
    if not clone_flags & CLONE_THREAD:
        list_add(delayed.node, current.signal.multiprocess)
    signal_send.recalc_sigpending()
    spin_unlock_irq(siglock)
    if signal_pending(current):
        return fork_out(delayed, -ERESTARTNOINTR)

    p = dup_task_struct(current)
    if p is None:
        return fork_out(delayed, -ENOMEM)
    m.cost(costs.FORK_THREAD if clone_flags & CLONE_VM else costs.FORK)
    p.set_child_tid = child_tidptr if clone_flags & CLONE_CHILD_SETTID else None
    p.clear_child_tid = child_tidptr if clone_flags & CLONE_CHILD_CLEARTID else None
    p.pi_lock = Spinlock("pi_lock")
    if (current.cred.user.processes >= signal_send.task_rlimit(p, RLIMIT_NPROC) and current.cred.user is not m.root_user
            and not cred.capable(cred.CAP_SYS_RESOURCE) and not cred.capable(cred.CAP_SYS_ADMIN)):
        return bad_fork_free(p, delayed, -EAGAIN)
    current.flags &= ~PF_NPROC_EXCEEDED

    retval = cred.copy_creds(p, clone_flags)
    if retval < 0:
        return bad_fork_free(p, delayed, retval)
    # If multiple threads are within copy_process(), then this check triggers too late.  This doesn't hurt.
    if m.nr_threads >= m.max_threads:
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, -EAGAIN)
    p.flags &= ~(PF_SUPERPRIV | PF_WQ_WORKER | PF_IDLE)
    p.flags |= PF_FORKNOEXEC
    p.children = ListHead()
    p.sibling = ListHead(p)
    p.vfork_done = None
    p.pending = SigPending()
    p.utime = p.stime = 0
    p.last_siginfo = None
    p.in_iowait = False
    p.in_execve = False
    p.jobctl = 0
    p.wake_entry = None
    # Not modelled: delayacct_tsk_init(), task_io_accounting_init(), posix_cpu_timers_init(), cgroup_fork(), mpol_dup(),
    # lockdep.

    # Perform scheduler related setup.  Assign this task to a CPU.
    retval = sched_core.sched_fork(clone_flags, p)
    if not retval and fault_inject.should_fail("sched_fork"):
        retval = -EAGAIN
    if retval:
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, retval)
    # Not modelled: perf_event_init_task(), audit_alloc(), shm_init_task(), copy_semundo().
    if fault_inject.should_fail("security_task_alloc"):
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, -ENOMEM)
    retval = copy_files(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, retval)
    retval = copy_fs(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 1, None, delayed, retval)
    retval = copy_sighand(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 2, None, delayed, retval)
    retval = copy_signal(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 3, None, delayed, retval)
    retval = copy_mm(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 4, None, delayed, retval)
    retval = nsproxy.copy_namespaces(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 5, None, delayed, retval)
    retval = copy_io(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 6, None, delayed, retval)
    retval = m.arch.copy_thread(clone_flags, stack_start, stack_size, p, tls)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 6, None, delayed, retval)

    if pid is not m.init_struct_pid:
        new = pid_.alloc_pid(m.init_pid_ns)
        if isinstance(new, int):
            return bad_fork_cleanup(p, clone_flags, 7, None, delayed, new)
        pid = new
    assert pid is not None

    fd, pidfile = -1, None
    if clone3 and clone_flags & CLONE_PIDFD:
        fd, pidfile = pidfd_prepare(pid)
        if fd < 0:
            return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, fd)
        if put_user(fd, pidfd):
            pidfd_cancel(fd, pidfile)
            return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, -EFAULT)

    # sigaltstack should be cleared when sharing the same VM.
    if clone_flags & (CLONE_VM | CLONE_VFORK) == CLONE_VM:
        p.sas_ss_sp = (0, 0, 0)
    # Syscall tracing and stepping should be turned off in the child regardless of CLONE_PTRACE.
    p.thread_info.flags &= ~m.tif.SYSCALL_TRACE

    # ok, now we should be set up..
    p.pid = pid.nr
    if clone_flags & CLONE_THREAD:
        p.exit_signal = -1
        p.group_leader = current.group_leader
        p.tgid = current.tgid
    else:
        # CLONE_PARENT re-uses the exit_signal of the caller's leader.
        p.exit_signal = current.group_leader.exit_signal if clone_flags & CLONE_PARENT else exit_signal
        p.group_leader = p
        p.tgid = p.pid
    p.pdeath_signal = 0
    p.thread_group = ListHead(p)
    p.task_works = None
    if clone_flags & CLONE_THREAD:
        p.thread_node = ListHead(p)

    # cgroup_can_fork(): the pids controller's limit
    if fault_inject.should_fail("cgroup_can_fork"):
        pidfd_cancel(fd, pidfile)
        return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, -EAGAIN)

    p.start_time = m.now
    p.start_boottime = m.now

    # Make it visible to the rest of the system, but don't wake it up yet.
    write_lock_irq(m.tasklist_lock)
    # CLONE_PARENT re-uses the old parent.
    if clone_flags & (CLONE_PARENT | CLONE_THREAD):
        p.real_parent = current.real_parent
        p.parent_exec_id = current.parent_exec_id
        if clone3 and clone_flags & CLONE_THREAD:
            p.exit_signal = -1
    else:
        p.real_parent = current
        p.parent_exec_id = current.self_exec_id
    spin_lock(siglock)
    # Not modelled: copy_seccomp(), rseq_fork().
    # Don't start children in a dying pid namespace; let kill terminate clone/fork in the middle.
    retval = 0
    if not m.init_pid_ns.pid_allocated & PIDNS_ADDING:
        retval = -ENOMEM
    elif signal_send.fatal_signal_pending(current):
        retval = -EINTR
    if retval:
        # bad_fork_cancel_cgroup:
        spin_unlock(siglock)
        write_unlock_irq(m.tasklist_lock)
        pidfd_cancel(fd, pidfile)
        return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, retval)
    # past the last point of failure
    if pidfile is not None:
        fs_file.fd_install(fd, pidfile)

    init_task_pid_links(p)
    if p.pid:
        ptrace_init_task(p, bool(clone_flags & CLONE_PTRACE) or bool(trace))
        p.thread_pid = pid
        if thread_group_leader(p):
            pids = p.signal.pids
            pids[PIDTYPE_TGID] = pid
            pids[PIDTYPE_PGID] = current.signal.pids[PIDTYPE_PGID]
            pids[PIDTYPE_SID] = current.signal.pids[PIDTYPE_SID]
            if pid_.is_child_reaper(pid):
                m.init_pid_ns.child_reaper = p
                p.signal.flags |= SIGNAL_UNKILLABLE
            p.signal.shared_pending.signal = delayed.signal
            p.signal.tty = current.signal.tty
            # Inherit has_child_subreaper flag under the same tasklist_lock with adding child to the process tree.
            above = p.real_parent.signal
            p.signal.has_child_subreaper = above.has_child_subreaper or above.is_child_subreaper
            list_add_tail(p.sibling, p.real_parent.children)
            p.tasks = ListHead(p)
            list_add_tail_rcu(p.tasks, m.init_task.tasks)
            pid_.attach_pid(p, PIDTYPE_TGID)
            pid_.attach_pid(p, PIDTYPE_PGID)
            pid_.attach_pid(p, PIDTYPE_SID)
            m.process_counts[m.cpu.id] += 1
        else:
            p.tasks = ListHead(p)
            current.signal.nr_threads += 1
            current.signal.live += 1
            current.signal.sigcnt += 1
            signal_send.task_join_group_stop(p)
            list_add_tail_rcu(p.thread_group, p.group_leader.thread_group)
            list_add_tail_rcu(p.thread_node, p.signal.thread_head)
        pid_.attach_pid(p, PIDTYPE_PID)
        m.nr_threads += 1
    else:
        # An idle task belongs to the group of the one that made it: init has no business in its lists.
        p.tasks = ListHead(p)
    m.total_forks += 1
    list_del_init(delayed.node)
    spin_unlock(siglock)
    write_unlock_irq(m.tasklist_lock)
    # Not modelled: syscall_tracepoint_update(), proc_fork_connector(), cgroup_post_fork(), perf_event_fork(),
    # uprobe_copy_process().
    trace_task_newtask(p, clone_flags if clone3 else clone_flags | exit_signal)
    return p


def bad_fork_cleanup(
    p: Task, clone_flags: int, done: int, pid: Pid | None, delayed: signal_send.MultiprocessSignals, retval: int,
) -> int:
    """Undo copy_process(): the labels bad_fork_free_pid: … bad_fork_cleanup_count: of the C, entered where `done` says.

    :param done: the steps that succeeded: 1 files, 2 fs, 3 sighand, 4 signal, 5 mm, 6 namespaces and io, 7 thread, 8 pid
    """
    m = machine.cur
    if done >= 8 and pid is not m.init_struct_pid:
        assert pid is not None
        pid_.free_pid(pid)
    if done >= 7:
        m.arch.exit_thread(p)
    if done >= 6:
        nsproxy.exit_task_namespaces(p)
    if done >= 5 and p.mm is not None:
        mmput(p.mm)
    if done >= 4 and not clone_flags & CLONE_THREAD:
        free_signal_struct(p.signal)
    if done >= 3:
        assert p.sighand is not None
        __cleanup_sighand(p.sighand)
    if done >= 2:
        fs_struct.exit_fs(p)
    if done >= 1:
        fs_file.exit_files(p)
    # bad_fork_cleanup_count:
    p.cred.user.processes -= 1
    cred.exit_creds(p)
    return bad_fork_free(p, delayed, retval)


def bad_fork_free(p: Task, delayed: signal_send.MultiprocessSignals, retval: int) -> int:
    """Free the task_struct of a fork that failed."""
    p.state = TASK_DEAD
    p.stack_greenlet = None
    put_task_stack(p)
    p.usage = 0
    free_task(p)
    return fork_out(delayed, retval)


def fork_out(delayed: signal_send.MultiprocessSignals, retval: int) -> int:
    """Stop collecting signals for a child that will not be."""
    sighand = machine.cur.cpu.curr.sighand
    assert sighand is not None
    spin_lock_irq(sighand.siglock)
    list_del_init(delayed.node)
    spin_unlock_irq(sighand.siglock)
    return retval


def init_task_pid_links(task: Task) -> None:
    """Make the nodes with which a task stands on the lists of its pids."""
    if task.exit_signal < 0:
        task.pid_links = {PIDTYPE_PID: ListHead(task)}
    else:
        task.pid_links = {PIDTYPE_PID: ListHead(task), PIDTYPE_TGID: ListHead(task), PIDTYPE_PGID: ListHead(task),
                          PIDTYPE_SID: ListHead(task)}


def ptrace_init_task(child: Task, ptrace: bool) -> None:
    """Start untraced (include/linux/ptrace.h)."""
    # Not modelled: a tracer that follows forks.
    child.jobctl = 0
    child.ptrace = 0
    child.parent = child.real_parent
    child.ptraced = ListHead()
    child.ptrace_entry = ListHead(child)


def fork_idle(cpu: int) -> Task:
    """Make the idle task of another CPU; called by idle_threads_init()."""
    m = machine.cur
    task = copy_process(CLONE_VM, 0, 0, None, m.init_struct_pid, 0, None)
    assert isinstance(task, Task), f"fork_idle({cpu}): {task}"
    # init_idle_pids(): the idle tasks share init_struct_pid
    task.thread_pid = m.init_struct_pid
    task.signal.pids = [m.init_struct_pid] * PIDTYPE_MAX
    task.ptraced = ListHead()
    task.ptrace_entry = ListHead(task)
    task.parent = task.real_parent
    sched_core.init_idle(task, cpu)
    return task


# ---- pidfds (v5.2) --------------------------------------------------------------------------------------

def pidfd_prepare(pid: Pid) -> tuple[int, Any]:
    """Reserve a descriptor and make the file that stands for a process; (errno, None) if that fails."""
    import taskscope.model.fs.pidfs as pidfs

    return pidfs.pidfd_prepare(pid)


def pidfd_cancel(fd: int, file: Any) -> None:
    """Take back what `pidfd_prepare` made."""
    if file is not None:
        fs_file.put_unused_fd(fd)
        file_table.fput(file)


# ---- entries --------------------------------------------------------------------------------------------

def _do_fork(
    clone_flags: int, stack_start: Any, stack_size: Any, parent_tidptr: Any, child_tidptr: Any, tls: Any, *,
    exit_signal: int | None = None, pidfd: Any = None,
) -> int:
    """Make a child and start it; its pid or a negative errno.  kernel_clone() since v5.10.

    :param exit_signal: None: the low byte of `clone_flags`
    """
    m = machine.cur
    current = m.cpu.curr
    if exit_signal is None:
        exit_signal = clone_flags & CSIGNAL
        clone_flags &= ~CSIGNAL
    # Not modelled: PTRACE_EVENT_FORK, VFORK, CLONE.
    p = copy_process(clone_flags, stack_start, stack_size, child_tidptr, None, 0, tls, exit_signal=exit_signal, pidfd=pidfd)
    if isinstance(p, int):
        return p

    # Do this prior waking up the new thread - the thread pointer might get invalid after that point.
    trace_sched_process_fork(current, p)
    pid = pid_.get_task_pid(p, PIDTYPE_PID)
    assert pid is not None
    nr = pid.nr
    if clone_flags & CLONE_PARENT_SETTID:
        put_user(nr, parent_tidptr)
    vfork = None
    if clone_flags & CLONE_VFORK:
        vfork = Completion()
        p.vfork_done = vfork
        get_task_struct(p)

    sched_core.wake_up_new_task(p)

    if vfork is not None:
        wait_for_vfork_done(p, vfork)
    pid_.put_pid(pid)
    return nr


def kernel_thread(fn: Any, arg: Any, flags: int) -> int:
    """Make a kernel thread that runs ``fn(arg)``: a child of the caller without an address space of its own."""
    return _do_fork(flags | CLONE_VM | CLONE_UNTRACED, fn, arg, None, None, 0)


def sys_fork() -> int:
    """fork(2): copy everything, SIGCHLD at the end."""
    return _do_fork(SIGCHLD, 0, 0, None, None, 0)


def sys_vfork() -> int:
    """vfork(2): borrow the address space, wait until the child has another."""
    return _do_fork(CLONE_VFORK | CLONE_VM | SIGCHLD, 0, 0, None, None, 0)


def sys_clone(clone_flags: int, newsp: Any = 0, parent_tidptr: Any = None, *rest: Any) -> int:
    """clone(2); the last two arguments are (child_tidptr, tls) on x86-64, (tls, child_tidptr) on ARM (CLONE_BACKWARDS)."""
    first = rest[0] if rest else None
    second = rest[1] if len(rest) > 1 else None
    child_tidptr, tls = (second, first) if machine.cur.flavour.arch == "arm" else (first, second)
    clone_flags &= CLONE_LEGACY_FLAGS
    # For legacy clone() calls, CLONE_PIDFD uses the parent_tid argument to return the pidfd.
    if (machine.cur.flavour.switches.clone3 and clone_flags & CLONE_PIDFD and clone_flags & CLONE_PARENT_SETTID):
        return -EINVAL
    return _do_fork(clone_flags, newsp, 0, parent_tidptr, child_tidptr, tls, pidfd=parent_tidptr)


class CloneArgs:
    """struct clone_args, what clone3(2) takes."""

    __slots__ = ("cgroup", "child_tid", "exit_signal", "flags", "parent_tid", "pidfd", "set_tid", "size", "stack", "tls")

    def __init__(
        self, flags: int = 0, *, pidfd: Any = None, child_tid: Any = None, parent_tid: Any = None, exit_signal: int = 0,
        stack: Any = 0, tls: Any = None, set_tid: tuple[int, ...] = (), cgroup: int = 0, size: int = 88,
    ) -> None:
        self.flags = flags
        self.pidfd = pidfd
        self.child_tid = child_tid
        self.parent_tid = parent_tid
        self.exit_signal = exit_signal
        self.stack = stack
        self.tls = tls
        self.set_tid = set_tid
        self.cgroup = cgroup
        self.size = size


def clone3_args_valid(kargs: CloneArgs) -> bool:
    """Tell whether the flags and fields of clone3() go together."""
    # Verify that no unknown flags are passed along.
    if kargs.flags & ~(CLONE_LEGACY_FLAGS | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP):
        return False
    # - make the CLONE_DETACHED bit reusable for clone3 - make the CSIGNAL bits reusable for clone3
    if kargs.flags & (CLONE_DETACHED | (CSIGNAL & ~0x80)):
        return False
    if kargs.flags & (CLONE_SIGHAND | CLONE_CLEAR_SIGHAND) == CLONE_SIGHAND | CLONE_CLEAR_SIGHAND:
        return False
    return not (kargs.flags & (CLONE_THREAD | CLONE_PARENT) and kargs.exit_signal)


def sys_clone3(uargs: Any, size: int = 88) -> int:
    """clone3(2), v5.3: as clone(), with everything in a structure."""
    if size < 64:
        return -EINVAL
    if isinstance(uargs, dict):
        if not uargs.keys() <= set(CloneArgs.__slots__) | {"stack_size", "set_tid_size"}:
            return -E2BIG
        uargs = CloneArgs(**{name: value for name, value in uargs.items() if not name.endswith("_size")})
    if not isinstance(uargs, CloneArgs):
        return -EFAULT
    if uargs.exit_signal & ~CSIGNAL or not 0 <= uargs.exit_signal <= 64:
        return -EINVAL
    if uargs.flags & CLONE_INTO_CGROUP or uargs.set_tid:
        # Not modelled: cgroups; choosing the pid.
        return -EINVAL
    if not clone3_args_valid(uargs):
        return -EINVAL
    return _do_fork(uargs.flags, uargs.stack, 0, uargs.parent_tid, uargs.child_tid, uargs.tls,
                    exit_signal=uargs.exit_signal, pidfd=uargs.pidfd)


def sys_set_tid_address(tidptr: Any) -> int:
    """set_tid_address(2): where to clear the tid at the end."""
    current = machine.cur.cpu.curr
    current.clear_child_tid = tidptr or None
    return pid_.task_pid_vnr(current)


def unshare_files() -> Any:
    """Give the caller a table of open files of its own; the old one if it was shared, None if not, or a negative errno."""
    task = machine.cur.cpu.curr
    displaced = task.files
    if displaced.count == 1:
        return None
    if fault_inject.should_fail("files_cache"):
        return -ENOMEM
    copy = fs_file.dup_fd(displaced)
    if isinstance(copy, int):
        return copy
    task.files = copy
    return displaced


def sys_unshare(unshare_flags: int) -> int:
    """unshare(2): stop sharing the table of files, or root and working directory."""
    # If unsharing vm or signal handlers, the thread group must be empty (check_unshare_flags()).
    if unshare_flags & ~(CLONE_FS | CLONE_FILES | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_NAMESPACES):
        return -EINVAL
    current = machine.cur.cpu.curr
    if unshare_flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) and not signal_send.thread_group_empty(current):
        return -EINVAL
    if unshare_flags & (CLONE_SIGHAND | CLONE_VM):
        assert current.sighand is not None
        if current.sighand.count > 1 or (unshare_flags & CLONE_VM and current.mm.mm_users > 1):
            return -EINVAL
    if unshare_flags & CLONE_NAMESPACES:
        # Not modelled: namespaces.
        return -EINVAL if cred.capable(cred.CAP_SYS_ADMIN) else -EPERM
    if unshare_flags & CLONE_FS and current.fs.users > 1:
        fs_struct.unshare_fs_struct()
    if unshare_flags & CLONE_FILES:
        old = unshare_files()
        if isinstance(old, int):
            return old
        if old is not None:
            fs_file.put_files_struct(old)
    return 0


def walk_process_tree(top: Task, visitor: Any, data: Any) -> None:
    """Visit the descendants of a process: ``visitor(task, data)`` < 0 ends the walk, 0 skips the task's children.

    Context: takes tasklist_lock for reading.
    """
    stack = [top]
    while stack:
        parent = stack.pop()
        for thread in signal_send.for_each_thread(parent):
            node = thread.children.next
            while node is not thread.children:
                child = node.owner
                res = visitor(child, data)
                if res < 0:
                    return
                if res:
                    stack.append(child)
                node = node.next
