"""The realtime class, SCHED_FIFO and SCHED_RR: kernel/sched/rt.c, v4.19.

A queue for each priority, the first task of the highest runs until it sleeps, yields, or (RR) its slice is over.  Tasks
that wait here while another CPU runs something less urgent are pushed there.

Not modelled: realtime throttling (sched_rt_runtime_us), group scheduling, RLIMIT_RTTIME; cpupri is a search.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead, list_add, list_add_tail, list_del_init
from taskscope.model.include.linux.sched import MAX_RT_PRIO, SCHED_RR, SchedRtEntity, Task
from taskscope.model.include.linux.thread_info import set_tsk_need_resched
from taskscope.model.include.trace.events import sched as trace
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.sched.sched import (
    ENQUEUE_HEAD,
    SD_BALANCE_FORK,
    SD_BALANCE_WAKE,
    Rq,
    RtRq,
    SchedClass,
    rq_lock,
    rq_unlock,
)

#: ms
RR_TIMESLICE: Final = 100


def _queue(rt_rq: RtRq, prio: int) -> ListHead:
    queue = rt_rq.queue[prio]
    if queue is None:
        queue = rt_rq.queue[prio] = ListHead()
    return queue


def update_curr_rt(rq: Rq) -> None:
    """Charge the running task for its time."""
    curr = rq.curr
    if curr.sched_class is not rt_sched_class:
        return
    se = curr.se
    delta_exec = rq.clock - se.exec_start
    if delta_exec <= 0:
        return
    se.sum_exec_runtime += delta_exec
    se.exec_start = rq.clock
    trace.trace_sched_stat_runtime(curr, delta_exec, 0)


def enqueue_rt_entity(rq: Rq, p: Task, head: bool) -> None:
    """Put the task at the end (or the front) of its priority's queue."""
    rt_rq = rq.rt
    queue = _queue(rt_rq, p.prio)
    if head:
        list_add(p.rt.run_list, queue)
    else:
        list_add_tail(p.rt.run_list, queue)
    rt_rq.bitmap |= 1 << p.prio
    rt_rq.rt_nr_running += 1
    p.rt.on_list = p.rt.on_rq = 1


def dequeue_rt_entity(rq: Rq, p: Task) -> None:
    """Take the task off its queue; it knows which by being on it, as its priority may have changed."""
    rt_rq = rq.rt
    rt_se: SchedRtEntity = p.rt
    after = rt_se.run_list.next
    list_del_init(rt_se.run_list)
    if after.next is after and after.owner is None:         # the head alone: the queue is empty now
        for prio in range(MAX_RT_PRIO):
            if rt_rq.queue[prio] is after:
                rt_rq.bitmap &= ~(1 << prio)
                break
    rt_rq.rt_nr_running -= 1
    rt_se.on_list = rt_se.on_rq = 0


def enqueue_task_rt(rq: Rq, p: Task, flags: int) -> None:
    """Put a task on the queue of its priority."""
    enqueue_rt_entity(rq, p, bool(flags & ENQUEUE_HEAD))
    rq.nr_running += 1


def dequeue_task_rt(rq: Rq, p: Task, flags: int) -> None:
    """Take a task off its queue."""
    del flags
    update_curr_rt(rq)
    dequeue_rt_entity(rq, p)
    rq.nr_running -= 1


def requeue_task_rt(rq: Rq, p: Task, head: bool) -> None:
    """Put the task at the end (or the front) of its queue without unqueueing it."""
    if p.rt.on_rq:
        list_del_init(p.rt.run_list)
        if head:
            list_add(p.rt.run_list, _queue(rq.rt, p.prio))
        else:
            list_add_tail(p.rt.run_list, _queue(rq.rt, p.prio))


def yield_task_rt(rq: Rq) -> None:
    """Let the others of the same priority run first."""
    requeue_task_rt(rq, rq.curr, False)


def _curr_prio(rq: Rq) -> int:
    return rq.curr.prio if rq.curr.sched_class.rank < 4 else 200    # the idle task is below all


def find_lowest_rq(p: Task) -> int:
    """Find a CPU that runs something less urgent than the task, the least urgent one; -1 if there is none."""
    m = machine.cur
    best, lowest = -1, p.prio
    order = [m.cpus[p.thread_info.cpu], m.cpu, *m.cpus]     # where it was is best, here next
    for cpu in order:
        if m.cpu_active_mask >> cpu.id & 1 and p.cpus_allowed >> cpu.id & 1:
            prio = _curr_prio(cpu.rq)
            if cpu.rq.rt.bitmap:
                prio = min(prio, (cpu.rq.rt.bitmap & -cpu.rq.rt.bitmap).bit_length() - 1)
            if prio > lowest:
                best, lowest = cpu.id, prio
    return best


def select_task_rq_rt(p: Task, cpu: int, sd_flag: int, flags: int) -> int:
    """Choose a CPU for a task that wakes or forks: another one if it would have to wait here."""
    del flags
    if sd_flag not in (SD_BALANCE_WAKE, SD_BALANCE_FORK):
        return cpu
    curr = machine.cur.cpus[cpu].rq.curr
    # If the current task on @p's runqueue is an RT task, then try to see if we can wake this RT task up on another
    # runqueue. Otherwise simply start this RT task on its current runqueue.
    if curr is not None and curr.prio < MAX_RT_PRIO and (curr.nr_cpus_allowed < 2 or curr.prio <= p.prio):
        target = find_lowest_rq(p)
        if target != -1 and p.prio < _curr_prio(machine.cur.cpus[target].rq):
            cpu = target
    return cpu


def check_preempt_curr_rt(rq: Rq, p: Task, flags: int) -> None:
    """Preempt the running task if the other is more urgent."""
    del flags
    if p.prio < rq.curr.prio:
        core.resched_curr(rq)


def pick_next_task_rt(rq: Rq, prev: Task) -> Task | None:
    """Pick the first task of the highest priority."""
    if pull_rt_task_needed(rq, prev):
        pull_rt_task(rq)
    rt_rq = rq.rt
    if prev.sched_class is rt_sched_class:
        update_curr_rt(rq)
    if not rt_rq.bitmap:
        return None
    prev.sched_class.put_prev_task(rq, prev)
    queue = rt_rq.queue[(rt_rq.bitmap & -rt_rq.bitmap).bit_length() - 1]
    assert queue is not None, "a queue with a bit has tasks"
    p: Task = queue.next.owner
    p.se.exec_start = rq.clock
    return p


def put_prev_task_rt(rq: Rq, p: Task) -> None:
    """Charge a task that is descheduled; it keeps its place in the queue."""
    del p
    update_curr_rt(rq)


def set_curr_task_rt(rq: Rq) -> None:
    """Let the running task run on in this class."""
    rq.curr.se.exec_start = rq.clock


def task_tick_rt(rq: Rq, p: Task, queued: int) -> None:
    """Charge the running task at the tick; end the slice of a SCHED_RR task."""
    del queued
    update_curr_rt(rq)
    # RR tasks need a special form of timeslice management. FIFO tasks have no timeslices.
    if p.policy != SCHED_RR:
        return
    p.rt.time_slice -= 1
    if p.rt.time_slice:
        return
    p.rt.time_slice = RR_TIMESLICE * machine.cur.hz // 1000
    # Requeue to the end of queue if we (and all of our ancestors) are not the only element on the queue.
    if p.rt.run_list.prev is not p.rt.run_list.next:
        requeue_task_rt(rq, p, False)
        set_tsk_need_resched(p)


def prio_changed_rt(rq: Rq, p: Task, oldprio: int) -> None:
    """Reschedule if the priority of a task that runs fell below another's, or that of one that waits rose."""
    if p.on_rq != 1:
        return
    if rq.curr is p:
        # If there's a higher prio task waiting to run on this queue, reschedule.
        if oldprio < p.prio and rq.rt.bitmap and (rq.rt.bitmap & -rq.rt.bitmap).bit_length() - 1 < p.prio:
            core.resched_curr(rq)
    elif p.prio < rq.curr.prio:
        core.resched_curr(rq)


def switched_from_rt(rq: Rq, p: Task) -> None:
    """Pull another task if this was the last one here."""
    if p.on_rq == 1 and not rq.rt.rt_nr_running and pull_rt_task_needed(rq, p):
        core.resched_curr(rq)


def switched_to_rt(rq: Rq, p: Task) -> None:
    """Preempt the running task if the one that comes to the class is more urgent."""
    if p.on_rq == 1 and rq.curr is not p and p.prio < rq.curr.prio:
        core.resched_curr(rq)


def get_rr_interval_rt(rq: Rq, task: Task) -> int:
    """Return the slice in jiffies, 0 for SCHED_FIFO."""
    del rq
    return RR_TIMESLICE * machine.cur.hz // 1000 if task.policy == SCHED_RR else 0


# ---- push and pull -----------------------------------------------------------------------------------------


def pick_next_pushable_task(rq: Rq) -> Task | None:
    """Return the most urgent task that waits here and may run elsewhere."""
    bitmap = rq.rt.bitmap
    while bitmap:
        low = bitmap & -bitmap
        bitmap &= ~low
        queue = rq.rt.queue[low.bit_length() - 1]
        assert queue is not None, "a queue with a bit has tasks"
        node = queue.next
        while node is not queue:
            p: Task = node.owner
            if p is not rq.curr and not p.on_cpu and p.nr_cpus_allowed > 1:
                return p
            node = node.next
    return None


def push_rt_task(rq: Rq) -> bool:
    """Move a task that waits here to a CPU that runs something less urgent; return whether it was done.

    Context: rq.lock held; it is held again on return.
    """
    p = pick_next_pushable_task(rq)
    if p is None or p.prio < rq.curr.prio:
        return False
    target = find_lowest_rq(p)
    if target in (-1, rq.cpu_id) or _curr_prio(machine.cur.cpus[target].rq) <= p.prio:
        return False
    core.update_rq_clock(rq)
    other = core.move_queued_task(rq, p, target)
    rq_unlock(other)
    rq_lock(rq)
    return True


def push_rt_tasks(rq: Rq) -> None:
    """Push until nothing more can be.  Context: preemption disabled, no rq.lock held; `rq` may be another CPU's."""
    cpu = machine.cur.cpu
    flags, cpu.irqs_off = cpu.irqs_off, True
    rq_lock(rq)
    while push_rt_task(rq):
        pass
    rq_unlock(rq)
    cpu.irqs_off = flags


def pull_rt_task_needed(rq: Rq, prev: Task) -> bool:
    """Tell whether this CPU is about to run something less urgent than what it ran."""
    if prev.prio >= MAX_RT_PRIO or not machine.cur.sched_domains:
        return False
    bitmap = rq.rt.bitmap
    return not bitmap or (bitmap & -bitmap).bit_length() - 1 > prev.prio


def pull_rt_task(this_rq: Rq) -> None:
    """Fetch tasks that wait elsewhere and are more urgent than all here.  Context: rq.lock held."""
    for cpu in machine.cur.cpus:
        src = cpu.rq
        if src is this_rq or src.rt.rt_nr_running <= 1:
            continue
        p = pick_next_pushable_task(src)
        here = this_rq.rt.bitmap
        best = (here & -here).bit_length() - 1 if here else MAX_RT_PRIO
        if p is None or p.prio >= best or not p.cpus_allowed >> this_rq.cpu_id & 1 or p.prio < src.curr.prio:
            continue
        rq_unlock(this_rq)
        rq_lock(src)
        core.update_rq_clock(src)
        core.move_queued_task(src, p, this_rq.cpu_id)       # leaves this_rq locked


rt_sched_class: Final = SchedClass(
    name="rt",
    rank=2,
    enqueue_task=enqueue_task_rt,
    dequeue_task=dequeue_task_rt,
    yield_task=yield_task_rt,
    check_preempt_curr=check_preempt_curr_rt,
    pick_next_task=pick_next_task_rt,
    put_prev_task=put_prev_task_rt,
    select_task_rq=select_task_rq_rt,
    migrate_task_rq=None,
    set_curr_task=set_curr_task_rt,
    task_tick=task_tick_rt,
    task_fork=None,
    prio_changed=prio_changed_rt,
    switched_from=switched_from_rt,
    switched_to=switched_to_rt,
    get_rr_interval=get_rr_interval_rt,
    update_curr=update_curr_rt,
)
