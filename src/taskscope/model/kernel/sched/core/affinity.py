"""Which CPUs a task may use, and moving it: kernel/sched/core.c, v4.19: set_cpus_allowed_ptr(), migration/N's work."""

from __future__ import annotations

from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.sched import (
    PF_KTHREAD,
    PF_NO_SETAFFINITY,
    TASK_ON_RQ_MIGRATING,
    TASK_ON_RQ_QUEUED,
    TASK_WAKING,
    Task,
)
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock,
    raw_spin_lock_irqsave,
    raw_spin_unlock,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.kernel import stop_machine
from taskscope.model.kernel.sched import completion
from taskscope.model.kernel.sched.core import runqueue, wakeup
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_NOCLOCK,
    DEQUEUE_SAVE,
    ENQUEUE_NOCLOCK,
    ENQUEUE_RESTORE,
    SD_BALANCE_EXEC,
    Rq,
    rq_lock,
    rq_unlock,
)
from taskscope.model.kernel.time import timer
from taskscope.model.kernel.trace import trace_events


def is_cpu_allowed(p: Task, cpu: int) -> bool:
    """Tell whether the task may run on the CPU: its mask has it and the CPU is there."""
    if not p.cpus_allowed >> cpu & 1:
        return False
    m = machine.cur
    if p.flags & PF_KTHREAD and p.nr_cpus_allowed == 1:     # is_per_cpu_kthread()
        return bool(m.cpu_online_mask >> cpu & 1)
    return bool(m.cpu_active_mask >> cpu & 1)


def select_fallback_rq(cpu: int, p: Task) -> int:
    """Find a CPU for a task that may not run where it was to run."""
    m = machine.cur
    del cpu                                                 # Not modelled: NUMA nodes
    for dest in range(m.nr_cpus):
        if is_cpu_allowed(p, dest):
            return dest
    # cpuset_cpus_allowed_fallback(): an affinity that only names CPUs that are not there is given up.
    do_set_cpus_allowed(p, (1 << m.nr_cpus) - 1)
    for dest in range(m.nr_cpus):
        if is_cpu_allowed(p, dest):
            return dest
    raise AssertionError("no CPU is online")


def set_cpus_allowed_common(p: Task, new_mask: int) -> None:
    """Set the mask and its count."""
    p.cpus_allowed = new_mask
    p.nr_cpus_allowed = new_mask.bit_count()


class Pinned:
    """What task_struct keeps of a task that has called migrate_disable()."""

    __slots__ = ("count", "cpus_mask", "done")

    def __init__(self, cpus_mask: int) -> None:
        self.count = 1                          # migration_disabled
        self.cpus_mask = cpus_mask              # where it may go afterwards
        self.done: Completion | None = None     # who wants to move it waits for this (set_affinity_pending)


def task_cpus_mask(p: Task) -> int:
    """Return the CPUs that a task was allowed to use (cpus_mask), also while it is kept on one (cpus_ptr)."""
    pinned = machine.cur.migration_disabled.get(p)
    return p.cpus_allowed if pinned is None else pinned.cpus_mask


def migrate_disable() -> None:
    """Keep the running task on its CPU, though it can be preempted and may sleep; calls nest.

    The kernel has this since v5.11.  It narrows the task's mask at its next switch (migrate_disable_switch()), here at
    once.
    """
    m = machine.cur
    p = m.cpu.curr
    pinned = m.migration_disabled.get(p)
    if pinned is not None:
        pinned.count += 1
        return
    if not m.migration_disabled:
        trace_events.trace_migration(m, True)
    m.migration_disabled[p] = Pinned(p.cpus_allowed)
    rq, flags = runqueue.task_rq_lock(p)
    __do_set_cpus_allowed(rq, p, 1 << m.cpu.id)
    runqueue.task_rq_unlock(rq, p, flags)


def migrate_enable() -> None:
    """Let the running task move again; if its affinity was changed meanwhile, it goes where it is to be.

    Context: process context; may sleep.
    """
    m = machine.cur
    p = m.cpu.curr
    pinned: Pinned | None = m.migration_disabled.get(p)
    assert pinned is not None, "migrate_enable() without migrate_disable()"
    if pinned.count > 1:
        pinned.count -= 1
        return
    del m.migration_disabled[p]
    if not m.migration_disabled:
        trace_events.trace_migration(m, False)
    __set_cpus_allowed_ptr(p, pinned.cpus_mask, False)
    if pinned.done is not None:
        completion.complete_all(pinned.done)


def do_set_cpus_allowed(p: Task, new_mask: int) -> None:
    """Set the mask of a task; one that waits or runs is put back on its queue afterwards."""
    set_cpus_allowed_common(p, new_mask)


def sched_exec() -> None:
    """Move the running task to the least loaded CPU: execve() is the best time, it has the least memory there."""
    m = machine.cur
    p = m.cpu.curr
    flags = raw_spin_lock_irqsave(p.pi_lock)
    dest_cpu = p.sched_class.select_task_rq(p, p.thread_info.cpu, SD_BALANCE_EXEC, 0)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)
    if dest_cpu == m.cpu.id or not m.cpu_active_mask >> dest_cpu & 1:
        return
    stop_machine.stop_one_cpu(p.thread_info.cpu, migration_cpu_stop, (p, dest_cpu))


def move_queued_task(rq: Rq, p: Task, new_cpu: int) -> Rq:
    """Move a task that waits to another CPU's queue; returns with that one locked.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    p.on_rq = TASK_ON_RQ_MIGRATING
    runqueue.dequeue_task(rq, p, DEQUEUE_NOCLOCK)
    wakeup.set_task_cpu(p, new_cpu)
    rq_unlock(rq)
    rq = machine.cur.cpus[new_cpu].rq
    rq_lock(rq)
    runqueue.update_rq_clock(rq)
    assert p.thread_info.cpu == new_cpu, "nobody else moved it"
    runqueue.enqueue_task(rq, p, ENQUEUE_NOCLOCK)
    p.on_rq = TASK_ON_RQ_QUEUED
    runqueue.check_preempt_curr(rq, p, 0)
    return rq


def __migrate_task(rq: Rq, p: Task, dest_cpu: int) -> Rq:
    """Move a waiting task off a CPU that it may not use; returns with its runqueue locked."""
    if not is_cpu_allowed(p, dest_cpu):
        return rq
    runqueue.update_rq_clock(rq)
    return move_queued_task(rq, p, dest_cpu)


def migration_cpu_stop(arg: Any) -> int:
    """Move a task away from this CPU; runs in migration/N, which took the CPU from it."""
    p, dest_cpu = arg
    cpu = machine.cur.cpu
    rq = cpu.rq
    preempt.local_irq_disable()
    # A task that was queued by another CPU meanwhile is on the wake list, where set_cpus_allowed() did not find it.
    wakeup.sched_ttwu_pending()
    raw_spin_lock(p.pi_lock)
    rq_lock(rq)
    if machine.cur.cpus[p.thread_info.cpu].rq is rq:
        if p.on_rq == TASK_ON_RQ_QUEUED:
            rq = __migrate_task(rq, p, dest_cpu)
        else:
            p.wake_cpu = dest_cpu
    rq_unlock(rq)
    raw_spin_unlock(p.pi_lock)
    preempt.local_irq_enable()
    return 0


def __set_cpus_allowed_ptr(p: Task, new_mask: int, check: bool) -> int:
    """Change a task's affinity, and move it if it may not stay where it is.

    :param check: refuse tasks whose affinity user space may not change
    :return: 0, -EINVAL, or -EBUSY: the running task has migration disabled
    """
    m = machine.cur
    rq, flags = runqueue.task_rq_lock(p)
    runqueue.update_rq_clock(rq)
    pinned: Pinned | None = m.migration_disabled.get(p) if m.migration_disabled else None
    # Kernel threads are allowed on online && !active CPUs.
    valid = m.cpu_online_mask if p.flags & PF_KTHREAD else m.cpu_active_mask
    ret = 0
    if check and p.flags & PF_NO_SETAFFINITY:
        ret = -22
    elif p.cpus_allowed == new_mask and pinned is None:
        pass
    elif not new_mask & valid:
        ret = -22
    elif pinned is not None:
        # It stays where it is; whoever wants it elsewhere waits until it may go.
        if p is m.cpu.curr and not new_mask >> p.thread_info.cpu & 1:
            ret = -16
        else:
            pinned.cpus_mask = new_mask
            if not new_mask >> p.thread_info.cpu & 1:
                if pinned.done is None:
                    pinned.done = Completion()
                runqueue.task_rq_unlock(rq, p, flags)
                completion.wait_for_completion(pinned.done)
                return 0
    else:
        __do_set_cpus_allowed(rq, p, new_mask)
        # Can the task run on the task's current CPU?  If so, we're done.
        if not new_mask >> p.thread_info.cpu & 1:
            allowed = new_mask & valid
            dest_cpu = (allowed & -allowed).bit_length() - 1
            if p.on_cpu or p.state == TASK_WAKING:
                # Need help from migration thread: drop lock and wait.
                runqueue.task_rq_unlock(rq, p, flags)
                if stop_machine.stop_one_cpu(rq.cpu_id, migration_cpu_stop, (p, dest_cpu)) == -2 and p is m.cpu.curr:
                    # A bare machine has no migration/N: a task moves when it wakes next, and this one sees to that.
                    timer.schedule_timeout_uninterruptible(1)
                return 0
            if p.on_rq == TASK_ON_RQ_QUEUED:
                rq = move_queued_task(rq, p, dest_cpu)
    runqueue.task_rq_unlock(rq, p, flags)
    return ret


def __do_set_cpus_allowed(rq: Rq, p: Task, new_mask: int) -> None:
    # A class may keep the mask in its own order of things: the task is taken off and put back around the change.
    queued = p.on_rq == TASK_ON_RQ_QUEUED
    running = rq.curr is p
    if queued:
        runqueue.dequeue_task(rq, p, DEQUEUE_SAVE | DEQUEUE_NOCLOCK)
    if running:
        p.sched_class.put_prev_task(rq, p)
    set_cpus_allowed_common(p, new_mask)
    if queued:
        runqueue.enqueue_task(rq, p, ENQUEUE_RESTORE | ENQUEUE_NOCLOCK)
    if running:
        p.sched_class.set_curr_task(rq)


def set_cpus_allowed_ptr(p: Task, new_mask: int) -> int:
    """Change a task's affinity (bit mask).

    :return: 0 or -EINVAL: the mask has no CPU that is there
    """
    return __set_cpus_allowed_ptr(p, new_mask, False)
