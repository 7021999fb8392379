"""Choosing whom to kill when no memory is left, and freeing what it had: mm/oom_kill.c, v4.19 to v6.18.

out_of_memory() is called by an allocation that reclaim could not help.  The process with the highest badness is killed;
it may take from the reserve (TIF_MEMDIE, ``signal.oom_mm``), so that it can die.  If it cannot, oom_reaper takes its
memory away.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.sysctl as sysctl
import taskscope.model.kernel.time.timer as timer
import taskscope.model.lib.dump_stack as dump_stack_
import taskscope.model.mm.memory as memory
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.mm.show_mem as show_mem_
from taskscope.model import machine
from taskscope.model.include.linux.compiler import READ_ONCE
from taskscope.model.include.linux.gfp import GFP_NONE, Gfp
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.mm_types import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    MMF_OOM_SKIP,
    VM_LOCKED,
    MmStruct,
)
from taskscope.model.include.linux.pid import PIDTYPE_TGID
from taskscope.model.include.linux.preempt import preempt_disable, preempt_enable
from taskscope.model.include.linux.sched import (
    PF_EXITING,
    PF_KTHREAD,
    TASK_IDLE,
    TASK_INTERRUPTIBLE,
    Task,
    is_global_init,
    same_thread_group,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import SEND_SIG_PRIV, SIGNAL_GROUP_EXIT, thread_group_empty
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, wake_up_interruptible
from taskscope.model.include.trace.events import oom as trace

SIGKILL: Final = 9
OOM_SCORE_ADJ_MIN: Final = -1000
OOM_SCORE_ADJ_MAX: Final = 1000
MAX_OOM_REAP_RETRIES: Final = 10
LONG_MIN: Final = -(1 << 63)


class OomControl:
    """struct oom_control: one call of the OOM killer."""

    __slots__ = ("chosen", "chosen_points", "gfp_mask", "order", "totalpages", "waits")

    def __init__(self, gfp_mask: Gfp, order: int) -> None:
        self.gfp_mask = gfp_mask
        self.order = order                      # -1: asked for by sysrq
        self.totalpages = 0
        self.chosen: Task | None = None
        self.chosen_points = 0
        self.waits = False                      # chosen is -1 in C: an earlier victim is dying, wait for it


class OomState:
    """The variables of this file."""

    __slots__ = (
        "last_dump", "oom_reaper_list", "oom_reaper_th", "oom_reaper_wait", "oom_victims", "suppressed",
        "sysctl_oom_dump_tasks", "sysctl_oom_kill_allocating_task", "sysctl_panic_on_oom",
    )

    def __init__(self) -> None:
        self.sysctl_panic_on_oom = 0
        self.sysctl_oom_kill_allocating_task = 0
        self.sysctl_oom_dump_tasks = 1
        self.oom_victims = 0                    # tasks with TIF_MEMDIE
        self.oom_reaper_th: Task | None = None
        self.oom_reaper_wait = WaitQueueHead("oom_reaper_wait")
        self.oom_reaper_list: list[Task] = []   # the last one first, as oom_reaper_list is chained
        self.last_dump: list[int] = []          # jiffies of the reports in this interval: oom_rs
        self.suppressed = 0


def oom_state() -> OomState:
    """Return the variables; made at the first call."""
    cur = machine.cur
    found: OomState | None = cur.__dict__.get("oom")
    if found is None:
        found = cur.oom = OomState()
    return found


# ---- who counts -------------------------------------------------------------------------------------------

def tsk_is_oom_victim(tsk: Task) -> bool:
    """Tell whether the task was chosen, and may take from the reserve (include/linux/oom.h)."""
    return tsk.signal.oom_mm is not None


def find_lock_task_mm(p: Task) -> Task | None:
    """Return a thread of the process that still has the mm: the leader may have detached its own.

    In C it comes back with task_lock() held; a step of the model is atomic.
    """
    for t in signal_send.for_each_thread(p):
        if t.mm is not None:
            return t
    return None


def oom_unkillable_task(p: Task) -> bool:
    """Tell whether the task is out of the question: init and kernel threads."""
    # Not modelled: cpusets and memory policies, whose tasks may not use the node.
    return is_global_init(p) or bool(p.flags & PF_KTHREAD)


def oom_badness(p: Task, totalpages: int) -> int:
    """Return how much would be gained: pages of memory, page tables included, with oom_score_adj in thousandths of all.

    Until v5.9 (`Switches.oom_signed_badness`) 0 said that the task must not be killed, and all others had 1 at least;
    since then that is LONG_MIN, and the number may be negative.
    """
    clamped = not machine.cur.flavour.switches.oom_signed_badness
    never = 0 if clamped else LONG_MIN
    if oom_unkillable_task(p):
        return never
    t = find_lock_task_mm(p)
    if t is None:
        return never
    # Do not even consider tasks which are explicitly marked oom unkillable or have been already oom reaped or the are
    # in the middle of vfork
    adj = t.signal.oom_score_adj
    mm: MmStruct = t.mm
    if adj == OOM_SCORE_ADJ_MIN or mm.flags & MMF_OOM_SKIP or in_vfork(t):
        return never
    # The baseline for the badness score is the proportion of RAM that each task's rss, pagetable and swap space use.
    points = mm.rss + mm.rss_stat[MM_SWAPENTS] + memory.mm_pgtables_bytes(mm) // 4096
    return badness_of(points, adj, totalpages, clamped)


def in_vfork(tsk: Task) -> bool:
    """Tell whether the task runs in its parent's mm after a vfork()."""
    return tsk.vfork_done is not None and tsk.real_parent.mm is tsk.mm


def oom_score(task: Task) -> int:
    """Return what /proc/PID/oom_score shows: 0 to 1000 and more, since v5.9 in thirds of 2000 (fs/proc/base.c)."""
    totalpages = machine.cur.zone.managed_pages
    clamped = not machine.cur.flavour.switches.oom_signed_badness
    return score_of_badness(oom_badness(task, totalpages), totalpages, clamped)


def score_of_badness(badness: int, totalpages: int, clamped: bool) -> int:
    """Return the score for a badness.

    :param clamped: as until v5.9
    """
    if clamped:
        return badness * 1000 // totalpages
    # Special case OOM_SCORE_ADJ_MIN for all others scale the badness value into [0, 2000] range which we have been
    # exporting for a long time so userspace might depend on it.
    if badness == LONG_MIN:
        return 0
    return _divided(2 * (1000 + _divided(badness * 1000, totalpages)), 3)


def oom_score_of(pages: int, adj: int, totalpages: int, clamped: bool) -> int:
    """Return the score of a process that has so many pages, page tables included, and an adjustment."""
    if adj == OOM_SCORE_ADJ_MIN:
        return score_of_badness(0 if clamped else LONG_MIN, totalpages, clamped)
    return score_of_badness(badness_of(pages, adj, totalpages, clamped), totalpages, clamped)


def badness_of(pages: int, adj: int, totalpages: int, clamped: bool) -> int:
    """Return the badness of so many pages with an adjustment: the end of oom_badness()."""
    # Normalize to oom_score_adj units
    points = pages + adj * (totalpages // 1000)
    return max(points, 1) if clamped else points


def _divided(a: int, b: int) -> int:
    # C rounds to zero.
    return a // b if a >= 0 else -(-a // b)


def oom_evaluate_task(task: Task, oc: OomControl) -> bool:
    """Compare a process with the one chosen so far; False ends the search, as a victim is dying already."""
    if oom_unkillable_task(task):
        return True
    # This task already has access to memory reserves and is being killed.  Don't allow any other task to have access to
    # the reserves unless the task has MMF_OOM_SKIP because chances that it would release any memory is quite low.
    if oc.order != -1 and tsk_is_oom_victim(task):
        if task.signal.oom_mm.flags & MMF_OOM_SKIP:
            return True
        oc.chosen = None
        oc.waits = True
        return False
    points = oom_badness(task, oc.totalpages)
    if not machine.cur.flavour.switches.oom_signed_badness:
        if not points or points < oc.chosen_points:
            return True
        # Prefer thread group leaders for display purposes
        if points == oc.chosen_points and oc.chosen is not None and thread_group_leader(oc.chosen):
            return True
    elif points == LONG_MIN or points < oc.chosen_points:
        return True
    oc.chosen = task
    oc.chosen_points = points
    return True


def select_bad_process(oc: OomControl) -> None:
    """Choose the process with the most badness."""
    clamped = not machine.cur.flavour.switches.oom_signed_badness
    oc.chosen_points = 0 if clamped else LONG_MIN
    for p in list_for_each_entry(machine.cur.init_task.tasks):
        if not oom_evaluate_task(p, oc):
            break
    if clamped:
        oc.chosen_points = oc.chosen_points * 1000 // oc.totalpages


# ---- the report -------------------------------------------------------------------------------------------

def dump_tasks() -> None:
    """Print the process table as far as it uses memory."""
    version = machine.cur.flavour.version
    # The three kinds apart: since v6.9
    kinds = version >= (6, 9)
    printk_.printk("<6>Tasks state (memory values in pages):\n")
    columns = " rss_anon rss_file rss_shmem" if kinds else ""
    printk_.printk(f"<6>[  pid  ]   uid  tgid total_vm      rss{columns} pgtables_bytes swapents oom_score_adj name\n")
    for p in list_for_each_entry(machine.cur.init_task.tasks):
        if oom_unkillable_task(p):
            continue
        task = find_lock_task_mm(p)
        if task is None:
            # All of p's threads have already detached their mm's.  There's no need to report them; they can't be oom
            # killed anyway.
            continue
        mm: MmStruct = task.mm
        stat = mm.rss_stat
        shown = f" {stat[MM_ANONPAGES]:8d} {stat[MM_FILEPAGES]:8d} {stat[MM_SHMEMPAGES]:9d}" if kinds else ""
        printk_.printk(
            f"<6>[{task.pid:7d}] {task.cred.uid:5d} {task.tgid:5d} {mm.total_vm:8d} {mm.rss:8d}{shown} "
            f"{memory.mm_pgtables_bytes(mm):8d} {stat[MM_SWAPENTS]:8d}         {task.signal.oom_score_adj:5d} "
            f"{task.comm}\n"
        )


def dump_header(oc: OomControl, p: Task | None) -> None:
    """Print who asked for memory, from where, what there is, and who has it."""
    m = machine.cur
    current = m.cpu.curr
    version = m.flavour.version
    nodemask = " nodemask=(null)," if version < (5, 0) else ""
    printk_.printk(
        f"<4>{current.comm} invoked oom-killer: gfp_mask={oc.gfp_mask.text(version)},{nodemask} order={oc.order}, "
        f"oom_score_adj={current.signal.oom_score_adj}\n"
    )
    if version < (5, 0):
        # cpuset_print_current_mems_allowed()
        printk_.printk(f"<6>{current.comm} cpuset=/ mems_allowed=0\n")
    dump_stack_.dump_stack()
    show_mem_.show_mem()
    if oom_state().sysctl_oom_dump_tasks:
        dump_tasks()
    if version >= (5, 0) and p is not None:
        # dump_oom_summary(): one line message of the eligible tasks (v5.0)
        printk_.printk(
            f"<6>oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,"
            f"task={p.comm},pid={p.pid},uid={p.cred.uid}\n"
        )


def oom_ratelimit() -> bool:
    """Tell whether another report may be printed: 10 in 5 s (DEFINE_RATELIMIT_STATE(oom_rs))."""
    m = machine.cur
    state = oom_state()
    state.last_dump = [then for then in state.last_dump if m.jiffies - then <= 5 * m.hz]
    if len(state.last_dump) >= 10:
        state.suppressed += 1
        return False
    state.last_dump.append(m.jiffies)
    return True


# ---- killing ----------------------------------------------------------------------------------------------

def mark_oom_victim(tsk: Task) -> None:
    """Give a task access to the reserve, so that it can die.

    Context: tsk.mm is there.
    """
    m = machine.cur
    # OOM killer might race with memcg OOM
    if tsk.thread_info.flags & m.tif.MEMDIE:
        return
    tsk.thread_info.flags |= m.tif.MEMDIE
    mm: MmStruct = tsk.mm
    assert mm is not None, "a victim without memory"
    # oom_mm is bound to the signal struct life time.
    if tsk.signal.oom_mm is None:
        tsk.signal.oom_mm = mm
        fork.mmgrab(mm)
    # Not modelled: __thaw_task(): nothing is frozen.
    oom_state().oom_victims += 1
    trace.trace_mark_victim(tsk)


def exit_oom_victim() -> None:
    """Take a victim's access to the reserve away: it has let go of its memory.

    Context: the victim itself, in exit_mm().
    """
    m = machine.cur
    m.cpu.curr.thread_info.flags &= ~m.tif.MEMDIE
    # Below 0 where a driver has set TIF_MEMDIE by itself, as the low-memory killer does.
    oom_state().oom_victims -= 1


def __task_will_free_mem(task: Task) -> bool:
    sig = task.signal
    # Not modelled: a process that dumps core is not considered dying.
    return bool(sig.flags & SIGNAL_GROUP_EXIT) or (thread_group_empty(task) and bool(task.flags & PF_EXITING))


def process_shares_mm(p: Task, mm: MmStruct) -> bool:
    """Tell whether a process runs in an mm."""
    t = find_lock_task_mm(p)
    return t is not None and t.mm is mm


def task_will_free_mem(task: Task) -> bool:
    """Tell whether the task, and everybody who shares its mm, is on the way out."""
    mm: MmStruct | None = task.mm
    # Skip tasks without mm because it might have passed its exit_mm and exit_oom_victim.
    if mm is None or not __task_will_free_mem(task):
        return False
    # This task has already been drained by the oom reaper so there are only small chances it will free some more
    if mm.flags & MMF_OOM_SKIP:
        return False
    if mm.mm_users <= 1:
        return True
    # Make sure that all tasks which share the mm with the given tasks are dying as well to make sure that a) nobody
    # pins its mm and b) the task is also reapable by the oom reaper.
    return all(
        __task_will_free_mem(p) for p in list_for_each_entry(machine.cur.init_task.tasks)
        if not same_thread_group(task, p) and process_shares_mm(p, mm)
    )


def oom_kill_process(oc: OomControl, message: str) -> None:
    """Kill the chosen process; until v5.1 one of its children that has memory of its own, if it has one."""
    victim = oc.chosen
    assert victim is not None, "somebody was chosen"
    old = not machine.cur.flavour.switches.oom_spares_children
    # If the task is already exiting, don't alarm the sysadmin or kill its children or threads, just give it access to
    # memory reserves so it can die quickly
    if task_will_free_mem(victim):
        mark_oom_victim(victim)
        queue_oom_reaper(victim)
        return
    if oom_ratelimit():
        dump_header(oc, victim)
    if old:
        printk_.printk(
            f"<3>{message}: Kill process {victim.pid} ({victim.comm}) score {oc.chosen_points} or sacrifice child\n"
        )
        victim = sacrifice_child(oc, victim)
    __oom_kill_process(victim, message)


def sacrifice_child(oc: OomControl, p: Task) -> Task:
    """Return the child with the highest badness that does not share the mm; the parent itself if it has none."""
    victim = p
    victim_points = 0
    for t in signal_send.for_each_thread(p):
        for child in list_for_each_entry(t.children):
            if process_shares_mm(child, p.mm):
                continue
            # oom_badness() returns 0 if the thread is unkillable
            child_points = oom_badness(child, oc.totalpages)
            if child_points > victim_points:
                victim = child
                victim_points = child_points
    return victim


def __oom_kill_process(victim: Task, message: str) -> None:
    """Send SIGKILL to a process and to all others that run in its mm, init and kernel threads aside."""
    m = machine.cur
    p = find_lock_task_mm(victim)
    if p is None:
        if m.flavour.version >= (5, 8):
            printk_.printk(
                f"<6>{message}: OOM victim {victim.pid} ({victim.comm}) is already exiting. Skip killing the task\n"
            )
        return
    victim = p
    mm: MmStruct = victim.mm
    fork.mmgrab(mm)
    # task_lock(victim), which find_lock_task_mm() has taken: the victim is woken, and must not preempt us before we are
    # done with its mm.
    preempt_disable()
    # We should send SIGKILL before granting access to memory reserves in order to prevent the OOM victim from depleting
    # the memory reserves from the user space under its control.
    signal_send.do_send_sig_info(SIGKILL, SEND_SIG_PRIV, victim, PIDTYPE_TGID)
    mark_oom_victim(victim)
    stat = mm.rss_stat
    sizes = (f"total-vm:{mm.total_vm << 2}kB, anon-rss:{stat[MM_ANONPAGES] << 2}kB, "
             f"file-rss:{stat[MM_FILEPAGES] << 2}kB, shmem-rss:{stat[MM_SHMEMPAGES] << 2}kB")
    if not m.flavour.switches.oom_spares_children:
        printk_.printk(f"<3>Killed process {victim.pid} ({victim.comm}) {sizes}\n")
    else:
        printk_.printk(
            f"<3>{message}: Killed process {victim.pid} ({victim.comm}) {sizes}, UID:{victim.cred.uid} "
            f"pgtables:{memory.mm_pgtables_bytes(mm) >> 10}kB oom_score_adj:{victim.signal.oom_score_adj}\n"
        )
    preempt_enable()
    # Kill all user processes sharing victim->mm in other thread groups, if any.  They don't get access to memory
    # reserves, though, to avoid depletion of all memory.
    can_oom_reap = True
    for p in list_for_each_entry(m.init_task.tasks):
        if not process_shares_mm(p, mm) or same_thread_group(p, victim):
            continue
        if is_global_init(p):
            can_oom_reap = False
            mm.flags |= MMF_OOM_SKIP
            printk_.printk(f"<6>oom killer {victim.pid} ({victim.comm}) has mm pinned by {p.pid} ({p.comm})\n")
            continue
        # No kthread_use_mm() user needs to read from the userspace so we are ok to reap it.
        if p.flags & PF_KTHREAD:
            continue
        signal_send.do_send_sig_info(SIGKILL, SEND_SIG_PRIV, p, PIDTYPE_TGID)
    if can_oom_reap:
        queue_oom_reaper(victim)
    fork.mmdrop(mm)


def check_panic_on_oom(oc: OomControl) -> None:
    """Panic instead, if that is wanted (vm.panic_on_oom)."""
    state = oom_state()
    if not state.sysctl_panic_on_oom or oc.order == -1:
        return
    dump_header(oc, None)
    kind = "compulsory" if state.sysctl_panic_on_oom == 2 else "system-wide"
    panic_.panic(f"Out of memory: {kind} panic_on_oom is enabled\n")


def out_of_memory(oc: OomControl) -> bool:
    """Make room: kill the process with the highest badness; False if nothing can be done.

    Context: process context, no locks.
    """
    m = machine.cur
    current = m.cpu.curr
    # Not modelled: oom_notify_list, memory cgroups.
    # If current has a pending SIGKILL or is exiting, then automatically select it.  The goal is to allow it to allocate
    # so that it may quickly exit and free its memory.
    if task_will_free_mem(current):
        mark_oom_victim(current)
        queue_oom_reaper(current)
        return True
    oc.totalpages = m.zone.managed_pages
    check_panic_on_oom(oc)
    if (oom_state().sysctl_oom_kill_allocating_task and current.mm is not None and not oom_unkillable_task(current)
            and current.signal.oom_score_adj != OOM_SCORE_ADJ_MIN):
        oc.chosen = current
        oom_kill_process(oc, "Out of memory (oom_kill_allocating_task)")
        return True
    select_bad_process(oc)
    # Found nothing?!?!
    if oc.chosen is None and not oc.waits:
        dump_header(oc, None)
        printk_.printk("<4>Out of memory and no killable processes...\n")
        # If we got here due to an actual allocation at the system level, we cannot survive this and will enter an
        # endless loop in the allocator.  Bail out now.
        if oc.order != -1:
            panic_.panic("System is deadlocked on memory\n")
        return False
    if oc.chosen is not None:
        oom_kill_process(oc, "Out of memory")
    return True


def pagefault_out_of_memory() -> None:
    """Deal with a page fault that found no memory: the access is tried again afterwards.

    Since v5.16 nobody is killed for it.
    """
    m = machine.cur
    current = m.cpu.curr
    if m.flavour.switches.pagefault_spares:
        if not signal_send.fatal_signal_pending(current):
            printk_.printk("<4>Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF\n")
        return
    out_of_memory(OomControl(GFP_NONE, 0))
    # Give the victim a chance to free its memory.
    timer.schedule_timeout_killable(1)


# ---- the reaper -------------------------------------------------------------------------------------------

def queue_oom_reaper(tsk: Task) -> None:
    """Have a victim's memory taken away.

    wake_oom_reaper() at once until v5.18, two seconds later since then.
    """
    m = machine.cur
    # mm is already queued?
    if tsk.signal.oom_mm in [t.signal.oom_mm for t in oom_state().oom_reaper_list]:
        return
    get_task_struct(tsk)
    if not m.flavour.switches.oom_reaper_waits:
        wake_oom_reaper(tsk)
        return
    reaper_timer = TimerList(wake_oom_reaper_timer, tsk)
    reaper_timer.expires = m.jiffies + 2 * m.hz
    timer.add_timer(reaper_timer)


def wake_oom_reaper_timer(reaper_timer: TimerList) -> None:
    """Wake oom_reaper, unless the victim has gone.

    Context: TIMER_SOFTIRQ.
    """
    tsk: Task = reaper_timer.owner
    # The victim managed to terminate on its own - see exit_mmap
    if tsk.signal.oom_mm.flags & MMF_OOM_SKIP:
        put_task_struct(tsk)
        return
    wake_oom_reaper(tsk)


def wake_oom_reaper(tsk: Task) -> None:
    """Put a victim on the reaper's list and wake it."""
    state = oom_state()
    state.oom_reaper_list.insert(0, tsk)
    trace.trace_wake_reaper(tsk.pid)
    wake_up_interruptible(state.oom_reaper_wait)


def __oom_reap_task_mm(mm: MmStruct) -> None:
    """Take all private pages of an mm away: whoever touches one afterwards finds zeros, and is dying."""
    # Not modelled: MMF_UNSTABLE, for those who read another's memory; VM_LOCKED areas, which are left alone.
    assert VM_LOCKED, "no area is locked here"
    for area in list(mm.mmap):
        # Only anonymous pages have a good chance to be dropped without additional steps which we cannot afford as we
        # are OOM already.
        if area.table.kind == MM_ANONPAGES or not area.flags.endswith("s"):
            memory.zap_range(mm, area, area.vm_start, area.vm_end)


def oom_reap_task_mm(tsk: Task, mm: MmStruct) -> bool:
    """Reap a victim's mm; False if it has to be tried again.

    Not modelled: mmap_sem, whose holder makes it try again.
    """
    if mm.flags & MMF_OOM_SKIP:
        trace.trace_skip_task_reaping(tsk.pid)
        return True
    trace.trace_start_task_reaping(tsk.pid)
    # failed to reap part of the address space.  Try again later
    mm.hiwater_rss = max(mm.hiwater_rss, mm.rss)
    __oom_reap_task_mm(mm)
    stat = mm.rss_stat
    printk_.printk(
        f"<6>oom_reaper: reaped process {tsk.pid} ({tsk.comm}), now anon-rss:{stat[MM_ANONPAGES] << 2}kB, "
        f"file-rss:{stat[MM_FILEPAGES] << 2}kB, shmem-rss:{stat[MM_SHMEMPAGES] << 2}kB\n"
    )
    trace.trace_finish_task_reaping(tsk.pid)
    return True


def oom_reap_task(tsk: Task) -> None:
    """Reap a victim, and let the OOM killer choose another if that does not help."""
    m = machine.cur
    mm: MmStruct | None = tsk.signal.oom_mm
    if mm is None:
        # A driver has set TIF_MEMDIE by itself, as the low-memory killer does, and mark_oom_victim() has found its work
        # done: C follows the null pointer.
        READ_ONCE(0)
        return
    attempts = 0
    # Retry the mmap_read_trylock(mm) a few times
    while attempts < MAX_OOM_REAP_RETRIES and not oom_reap_task_mm(tsk, mm):
        attempts += 1
        m.cpu.curr.state = TASK_IDLE
        timer.schedule_timeout(m.hz // 10)
    # Hide this mm from OOM killer because it has been either reaped or somebody can't call mmap_write_unlock(mm).
    mm.flags |= MMF_OOM_SKIP
    # Drop a reference taken by queue_oom_reaper()
    put_task_struct(tsk)


def oom_sysctls_init() -> int:
    """Make the files of /proc/sys/vm."""
    state = oom_state()
    sysctl.register_sysctl("vm/panic_on_oom", state, "sysctl_panic_on_oom", most=2)
    sysctl.register_sysctl("vm/oom_kill_allocating_task", state, "sysctl_oom_kill_allocating_task")
    sysctl.register_sysctl("vm/oom_dump_tasks", state, "sysctl_oom_dump_tasks")
    sysctl.register_sysctl("vm/min_free_kbytes", machine.cur, "min_free_kbytes",
                           changed=page_alloc.setup_per_zone_wmarks)
    return 0


def oom_init() -> int:
    """Start oom_reaper: 0 or a negative errno."""
    t = kthread.kthread_run(oom_reaper, None, "oom_reaper")
    if not isinstance(t, Task):
        return t
    oom_state().oom_reaper_th = t
    return 0


def oom_reaper(unused: object) -> int:
    """Be oom_reaper: wait for a victim."""
    del unused
    state = oom_state()
    wait = DEFINE_WAIT()
    while True:
        # wait_event_freezable(oom_reaper_wait, oom_reaper_list != NULL)
        wait_.prepare_to_wait(state.oom_reaper_wait, wait, TASK_INTERRUPTIBLE)
        if not state.oom_reaper_list:
            if kthread.kthread_should_stop():
                wait_.finish_wait(state.oom_reaper_wait, wait)
                return 0
            sched_core.schedule()
        wait_.finish_wait(state.oom_reaper_wait, wait)
        if state.oom_reaper_list:
            oom_reap_task(state.oom_reaper_list.pop(0))
