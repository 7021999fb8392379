"""Pids: allocation, the objects behind the numbers, and who is attached to them: kernel/pid.c, v4.19.

A `Pid` outlives its tasks while somebody holds a reference; its number is free as soon as nothing is attached to it as
process, thread, process group or session.  Numbers are given out in a circle, from RESERVED_PIDS on after the first
turn.  Called by fork, exit, setpgid, setsid and everybody who looks up a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EEXIST, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.pid_namespace as pid_namespace
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.mm.slab as slab
from taskscope.model import machine
from taskscope.model.include.linux.list import list_add, list_del_init
from taskscope.model.include.linux.pid import (
    PID_MAX_DEFAULT,
    PIDNS_ADDING,
    PIDS_PER_CPU_DEFAULT,
    PIDS_PER_CPU_MIN,
    PIDTYPE_PGID,
    PIDTYPE_PID,
    PIDTYPE_SID,
    PIDTYPE_TGID,
    RESERVED_PIDS,
    Pid,
    PidNamespace,
    Upid,
)
from taskscope.model.include.linux.sched_task import get_task_struct
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from taskscope.model.include.uapi.linux.capability import CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

def pid_idr_init() -> None:
    """Make the initial pid namespace; called by start_kernel()."""
    m = machine.cur
    limit = 4 * 1024 * 1024 if m.flavour.long_size > 4 else 0x8000
    m.pid_max_max = limit
    pid_max = min(limit, max(PID_MAX_DEFAULT, PIDS_PER_CPU_DEFAULT * len(m.cpus)))
    m.pid_max_min = max(RESERVED_PIDS + 1, PIDS_PER_CPU_MIN * len(m.cpus))
    m.pidmap_lock = Spinlock("pidmap_lock")
    m.init_pid_ns = PidNamespace(pid_max)
    pid_namespace.pid_namespaces_init()
    m.init_pid_ns.pid_cachep = pid_namespace.create_pid_cachep(0)
    m.init_pid_ns.inum = pid_namespace.PROC_PID_INIT_INO
    m.init_pid_ns.child_reaper = m.init_task
    m.init_task.nsproxy.pid_ns_for_children = m.init_pid_ns
    m.init_struct_pid.numbers = (Upid(0, m.init_pid_ns),)


def idr_alloc_cyclic(ns: PidNamespace, start: int, end: int) -> int:
    """Give out the next free number in [start, end), from where the last one was on.

    -1 (C: -ENOSPC) if none is free.
    """
    idr = ns.idr
    if len(idr) >= end - start and all(nr in idr for nr in range(start, end)):
        return -1
    nr = max(ns.idr_next, start)
    if nr >= end:
        nr = start
    while nr in idr:
        nr += 1
        if nr >= end:
            nr = start
    idr[nr] = None
    ns.idr_next = nr + 1
    return nr


def alloc_pid(ns: PidNamespace, set_tid: tuple[int, ...] = ()) -> Pid | int:
    """Allocate a struct pid with a number in `ns` and in each namespace above it.

    :param set_tid: the numbers that clone3() chooses (v5.5), that in `ns` first: -EINVAL if one is no number, or there
        are more than levels, or another than 1 is to be the first; -EPERM without the capability; -EEXIST if it is
        taken
    :return: the pid, which the numbers lead to from now on; -ENOMEM, also if the init of `ns` has died; -EAGAIN if all
        numbers are taken

    Context: process context, interrupts on.
    """
    # set_tid_size contains the size of the set_tid array.  If it is larger than the number of namespaces, fail.
    if len(set_tid) > ns.level + 1:
        return -EINVAL
    address = slab.kmem_cache_alloc(ns.pid_cachep)
    if not address:
        return -ENOMEM
    pid = Pid(address)
    pid.level = ns.level
    m = machine.cur
    lock = m.pidmap_lock
    retval = -ENOMEM
    numbers: list[Upid] = []
    tmp: PidNamespace | None = ns
    while tmp is not None:
        if len(numbers) < len(set_tid):
            nr = _alloc_chosen(tmp, set_tid[len(numbers)])
            if nr < 0:
                retval = nr
                break
            numbers.append(Upid(nr, tmp))
            tmp = tmp.parent
            continue
        spin_lock_irq(lock)
        # init really needs pid 1, but after reaching the maximum wrap back to RESERVED_PIDS
        pid_min = RESERVED_PIDS if tmp.idr_next > RESERVED_PIDS else 1
        nr = idr_alloc_cyclic(tmp, pid_min, pid_namespace.pid_max(tmp) if tmp.level else tmp.pid_max)
        spin_unlock_irq(lock)
        if nr < 0:
            retval = -EAGAIN
            break
        numbers.append(Upid(nr, tmp))
        tmp = tmp.parent
    if tmp is None:
        numbers.reverse()
        pid.numbers = tuple(numbers)
        pid.nr = numbers[0].nr
        if ns.level:
            # Not modelled: pid_ns_prepare_proc() of number 1.
            pid_namespace.get_pid_ns(ns)
        spin_lock_irq(lock)
        if ns.pid_allocated & PIDNS_ADDING:
            for upid in numbers:
                # Make the PID visible to find_pid_ns.
                upid.ns.idr[upid.nr] = pid
                upid.ns.pid_allocated += 1
            spin_unlock_irq(lock)
            return pid
        # out_unlock: ENOMEM is what user space has always seen when the namespace's init is dead
        spin_unlock_irq(lock)
        pid_namespace.put_pid_ns(ns)
    # out_free:
    spin_lock_irq(lock)
    for upid in numbers:
        del upid.ns.idr[upid.nr]
    # On failure to allocate the first pid, reset the state
    if ns.pid_allocated == PIDNS_ADDING:
        ns.idr_next = 0
    spin_unlock_irq(lock)
    slab.kmem_cache_free(ns.pid_cachep, address)
    return retval


def _alloc_chosen(ns: PidNamespace, tid: int) -> int:
    """Take a number that clone3() chooses; a negative errno: see `alloc_pid`."""
    if not 1 <= tid < pid_namespace.pid_max(ns):
        return -EINVAL
    # Also fail if a PID != 1 is requested and no PID 1 exists.
    if tid != 1 and ns.child_reaper is None:
        return -EINVAL
    # checkpoint_restore_ns_capable(): CAP_CHECKPOINT_RESTORE alone since v5.9
    if not cred.capable(CAP_SYS_ADMIN) and not (
            machine.cur.flavour.version >= (5, 9) and cred.capable(CAP_CHECKPOINT_RESTORE)):
        return -EPERM
    lock = machine.cur.pidmap_lock
    spin_lock_irq(lock)
    taken = tid in ns.idr
    if not taken:
        ns.idr[tid] = None
    spin_unlock_irq(lock)
    return -EEXIST if taken else tid


def get_pid(pid: Pid | None) -> Pid | None:
    """Take a reference."""
    if pid is not None:
        pid.count += 1
    return pid


def put_pid(pid: Pid | None) -> None:
    """Drop a reference; the last one frees the object."""
    if pid is None or pid is machine.cur.init_struct_pid:
        return
    assert pid.count > 0, f"{pid}: put_pid() of a free pid"
    pid.count -= 1
    if pid.count == 0:
        ns = pid.numbers[pid.level].ns
        slab.kmem_cache_free(ns.pid_cachep, pid.address)
        if pid.level:
            pid_namespace.put_pid_ns(ns)


def delayed_put_pid(pid: Pid) -> None:
    """Drop the table's reference after a grace period.

    Context: RCU callback.
    """
    put_pid(pid)


def free_pid(pid: Pid) -> None:
    """Give the numbers back; the object goes with its last reference.

    Context: tasklist_lock may be held for writing: interrupts stay as they are.
    """
    m = machine.cur
    flags = spin_lock_irqsave(m.pidmap_lock)
    for nr, ns in pid.numbers:
        ns.pid_allocated -= 1
        if ns.pid_allocated in (1, 2):
            # When all that is left in the pid namespace is the reaper wake up the reaper.  The reaper may be sleeping
            # in zap_pid_ns_processes().
            assert ns.child_reaper is not None, "a namespace that has numbers left has its init"
            sched_core.wake_up_process(ns.child_reaper)
        # Not modelled: proc_work of the last one, which unmounts the namespace's own /proc.
        del ns.idr[nr]
    spin_unlock_irqrestore(m.pidmap_lock, flags)
    rcu.call_rcu(pid, delayed_put_pid)


def disable_pid_allocation(ns: PidNamespace) -> None:
    """Give out no more numbers: init has died."""
    lock = machine.cur.pidmap_lock
    spin_lock_irq(lock)
    ns.pid_allocated &= ~PIDNS_ADDING
    spin_unlock_irq(lock)


def find_pid_ns(nr: int, ns: PidNamespace) -> Pid | None:
    """Return what a number stands for in a namespace."""
    return ns.idr.get(nr)


def find_vpid(nr: int) -> Pid | None:
    """Return what a number stands for to the running task."""
    return task_active_pid_ns(machine.cur.cpu.curr).idr.get(nr)


def ns_of_pid(pid: Pid) -> PidNamespace:
    """Return the namespace in which the pid was allocated (include/linux/pid.h)."""
    return pid.numbers[pid.level].ns


def task_active_pid_ns(tsk: Task) -> PidNamespace:
    """Return the namespace that the task lives in: that of its number, for ever."""
    pid = tsk.thread_pid
    assert pid is not None, f"{tsk} has been released"
    return pid.numbers[pid.level].ns


def task_pid_ptr(task: Task, type: int) -> Pid | None:
    """Return the struct pid of a task in one of its four roles."""
    return task.thread_pid if type == PIDTYPE_PID else task.signal.pids[type]


def attach_pid(task: Task, type: int) -> None:
    """Put the task on the list of those who have its pid of that type.

    Context: tasklist_lock held for writing.
    """
    pid = task_pid_ptr(task, type)
    assert pid is not None
    # hlist_add_head_rcu(): the youngest comes first
    list_add(task.pid_links[type], pid.tasks[type])


def __change_pid(task: Task, type: int, new: Pid | None) -> None:
    pid = task_pid_ptr(task, type)
    assert pid is not None, f"{task} has no pid of type {type}"
    list_del_init(task.pid_links[type])
    if type == PIDTYPE_PID:
        task.thread_pid = new
    else:
        task.signal.pids[type] = new  # type: ignore[assignment]  # None only while the task is released
    for head in pid.tasks:
        if head.next is not head:
            return
    free_pid(pid)


def detach_pid(task: Task, type: int) -> None:
    """Take the task off; the number is free when nobody is left in any role.

    Context: tasklist_lock held for writing.
    """
    __change_pid(task, type, None)


def change_pid(task: Task, type: int, pid: Pid) -> None:
    """Attach the task to another pid in one role.

    Context: tasklist_lock held for writing.
    """
    __change_pid(task, type, pid)
    attach_pid(task, type)


def exchange_tids(left: Task, right: Task) -> None:
    """Let two threads exchange their pids as threads; for de_thread() only (v5.7).

    Context: tasklist_lock held for writing.
    """
    pid1, pid2 = left.thread_pid, right.thread_pid
    assert pid1 is not None
    assert pid2 is not None
    list_del_init(left.pid_links[PIDTYPE_PID])
    list_del_init(right.pid_links[PIDTYPE_PID])
    left.thread_pid, right.thread_pid = pid2, pid1
    list_add(left.pid_links[PIDTYPE_PID], pid2.tasks[PIDTYPE_PID])
    list_add(right.pid_links[PIDTYPE_PID], pid1.tasks[PIDTYPE_PID])


def transfer_pid(old: Task, new: Task, type: int) -> None:
    """Let `new` take the place of `old` on a pid's list; for de_thread() only.

    Context: tasklist_lock held for writing.
    """
    if type == PIDTYPE_PID:
        new.thread_pid = old.thread_pid
    # hlist_replace_rcu()
    was, now = old.pid_links[type], new.pid_links[type]
    now.next, now.prev = was.next, was.prev
    now.next.prev = now
    now.prev.next = now
    was.next = was.prev = was


def pid_task(pid: Pid | None, type: int) -> Task | None:
    """Return the first task that has the pid in that role."""
    if pid is None:
        return None
    head = pid.tasks[type]
    first = head.next
    return None if first is head else first.owner


def do_each_pid_task(pid: Pid | None, type: int) -> Iterator[Task]:
    """Iterate over the tasks that have the pid in that role, youngest first.

    Context: tasklist_lock held.
    """
    if pid is None:
        return
    head = pid.tasks[type]
    node = head.next
    while node is not head:
        after = node.next
        yield node.owner
        node = after


def find_task_by_pid_ns(nr: int, ns: PidNamespace) -> Task | None:
    """Return the task (thread) of a number."""
    return pid_task(find_pid_ns(nr, ns), PIDTYPE_PID)


def find_task_by_vpid(vnr: int) -> Task | None:
    """Return the task (thread) of a number as the running task sees it."""
    return find_task_by_pid_ns(vnr, task_active_pid_ns(machine.cur.cpu.curr))


def find_get_task_by_vpid(nr: int) -> Task | None:
    """Return the task of a number with a reference taken."""
    task = find_task_by_vpid(nr)
    if task is not None:
        get_task_struct(task)
    return task


def get_task_pid(task: Task, type: int) -> Pid | None:
    """Return the task's pid in that role with a reference taken."""
    return get_pid(task_pid_ptr(task, type))


def pid_nr_ns(pid: Pid | None, ns: PidNamespace) -> int:
    """Return the number that a pid has in a namespace; 0 if it has none there, as from below or beside."""
    if pid is not None and ns.level <= pid.level:
        upid = pid.numbers[ns.level]
        if upid.ns is ns:
            return upid.nr
    return 0


def pid_vnr(pid: Pid | None) -> int:
    """Return the number that a pid has for the running task; 0 for none."""
    if pid is None:
        return 0
    mine = machine.cur.cpu.curr.thread_pid
    if mine is None or not mine.level:
        return pid.nr                       # pid_nr_ns() of the initial namespace
    return pid_nr_ns(pid, mine.numbers[mine.level].ns)


def pid_nr(pid: Pid | None) -> int:
    """Return the global number; 0 for none (include/linux/pid.h)."""
    return 0 if pid is None else pid.nr


def __task_pid_nr_ns(task: Task, type: int, ns: PidNamespace | None) -> int:
    """Return a task's number in one of its four roles, as a namespace (None: the running task's) sees it."""
    pid = task_pid_ptr(task, type)
    return pid_vnr(pid) if ns is None else pid_nr_ns(pid, ns)


def task_pid_nr_ns(task: Task, ns: PidNamespace) -> int:
    """Return the thread's number in a namespace."""
    return pid_nr_ns(task.thread_pid, ns)


def task_tgid_nr_ns(task: Task, ns: PidNamespace) -> int:
    """Return the process's number in a namespace."""
    return pid_nr_ns(task.signal.pids[PIDTYPE_TGID], ns)


def task_pid(task: Task) -> Pid | None:
    """Return the struct pid of the thread."""
    return task.thread_pid


def task_tgid(task: Task) -> Pid | None:
    """Return the struct pid of the process."""
    return task.signal.pids[PIDTYPE_TGID]


def task_pgrp(task: Task) -> Pid | None:
    """Return the process group.

    Context: tasklist_lock or RCU.
    """
    return task.signal.pids[PIDTYPE_PGID]


def task_session(task: Task) -> Pid | None:
    """Return the session.

    Context: tasklist_lock or RCU.
    """
    return task.signal.pids[PIDTYPE_SID]


def task_pid_vnr(task: Task) -> int:
    """Return the thread's number, 0 once it is released."""
    return pid_vnr(task.thread_pid)


def task_tgid_vnr(task: Task) -> int:
    """Return the process's number."""
    return pid_vnr(task.signal.pids[PIDTYPE_TGID])


def task_pgrp_vnr(task: Task) -> int:
    """Return the number of the process group."""
    return pid_vnr(task.signal.pids[PIDTYPE_PGID])


def task_session_vnr(task: Task) -> int:
    """Return the number of the session."""
    return pid_vnr(task.signal.pids[PIDTYPE_SID])


def is_child_reaper(pid: Pid) -> bool:
    """Tell whether the pid is number 1 of its namespace."""
    return pid.numbers[pid.level].nr == 1
