"""The task_struct and its stack: the first part of kernel/fork.c, v4.19: fork_init(), dup_task_struct(), free_task().

A task_struct comes from its slab, a stack from the pages (32-bit ARM) or from vmalloc with a cache of two per CPU
(x86-64). put_task_struct() leads to free_task(), put_task_stack() to the end of the stack.
"""

from __future__ import annotations

import operator
from typing import Final

import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.mm.slab as slab
import taskscope.model.mm.vmalloc as vmalloc
from taskscope.model import machine
from taskscope.model.include.linux.sched import TASK_DEAD, Task
from taskscope.model.include.linux.sched_signal import RLIMIT_NPROC, RLIMIT_SIGPENDING, Rlimit
from taskscope.model.include.linux.thread_info import ThreadInfo

STACK_END_MAGIC: Final = 0x57AC_6E9D
NR_CACHED_STACKS: Final = 2
MIN_THREADS: Final = 20
MAX_THREADS: Final = 0x3FFF_FFFF            # FUTEX_TID_MASK
SLOTS: Final = tuple(
    slot for part in Task.__mro__ for slot in getattr(part, "__slots__", ()) if slot != "__weakref__"
)
# What dup_task_struct() copies: all but what it, or copy_process() up to the first step that can fail, sets in any
# case.
_COPIED: Final = tuple(slot for slot in SLOTS if slot not in {
    "address", "stack", "stack_vm_area", "stack_refcount", "stack_greenlet", "thread_info", "usage", "rcu_users",
    "fail_nth", "kthread", "set_child_tid", "clear_child_tid", "pi_lock",
})
_LOAD: Final = operator.attrgetter(*_COPIED)
_STORE: Final = tuple(getattr(Task, slot).__set__ for slot in _COPIED)

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
    for resource in (RLIMIT_NPROC, RLIMIT_SIGPENDING):
        m.init_task.signal.rlim[resource] = Rlimit(limit, limit)


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
    """Give the child a thread_info, a copy of the parent's: at its stack's lowest address, or in task_struct."""
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


def alloc_task_struct_node() -> int:
    """Take a task_struct from the slab; its address, or 0.  Not modelled: nodes of memory."""
    return slab.kmem_cache_alloc(machine.cur.task_struct_cachep)


def free_task_struct(address: int) -> None:
    """Give a task_struct back to the slab."""
    slab.kmem_cache_free(machine.cur.task_struct_cachep, address)


def dup_task_struct(orig: Task) -> Task | None:
    """Copy the task_struct and give it a stack; None where memory is short."""
    m = machine.cur
    address = alloc_task_struct_node()
    if not address:
        return None
    tsk = Task()
    # arch_dup_task_struct(): *dst = *src
    for store, value in zip(_STORE, _LOAD(orig), strict=True):
        store(tsk, value)
    tsk.address = address
    tsk.stack_vm_area = None
    stack = alloc_thread_stack_node(tsk)
    if not stack:
        free_task_struct(address)
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
    free_task_struct(tsk.address)


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
    fork.put_signal_struct(tsk.signal)
    # Not modelled: cgroup_free(), task_numa_free(), security_task_free(), delayacct_tsk_free(), profile_handoff_task().
    free_task(tsk)
