"""The fair class, CFS: kernel/sched/fair.c, v4.19.  Balancing is in fair_balance.py.

Each runnable entity waits in a timeline ordered by vruntime: the time that it has run, divided by its weight.  The
leftmost is picked; a woken one preempts if it is behind by more than the wakeup granularity, and the tick ends a slice.

Not modelled: group scheduling, bandwidth control, PELT (load is weight), NUMA, EEVDF (v6.6), which 6.18 has instead.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from taskscope.model import machine, schedule
from taskscope.model.include.linux.sched import (
    SCHED_BATCH,
    SCHED_IDLE,
    SCHED_NORMAL,
    LoadWeight,
    SchedEntity,
    Task,
)
from taskscope.model.kernel.sched import core, fair_balance
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_MOVE,
    DEQUEUE_SAVE,
    DEQUEUE_SLEEP,
    ENQUEUE_MIGRATED,
    ENQUEUE_WAKEUP,
    NICE_0_LOAD,
    WF_FORK,
    CfsRq,
    Rq,
    SchedClass,
)

WMULT_CONST: Final = 0xFFFF_FFFF
SCHED_NR_LATENCY: Final = 8
NORMALIZED_LATENCY: Final = 6_000_000
NORMALIZED_MIN_GRANULARITY: Final = 750_000
NORMALIZED_WAKEUP_GRANULARITY: Final = 1_000_000
#: timeline entries before ``first`` that are kept until they are given back together
_ROOM: Final = 256


def sched_init_granularity() -> None:
    """Set the tunables: they grow with the number of CPUs (SCHED_TUNABLESCALING_LOG)."""
    m = machine.cur
    factor = 1 + min(m.cpu_online_mask.bit_count(), 8).bit_length() - 1
    m.sysctl_sched_latency = NORMALIZED_LATENCY * factor
    m.sysctl_sched_min_granularity = NORMALIZED_MIN_GRANULARITY * factor
    m.sysctl_sched_wakeup_granularity = NORMALIZED_WAKEUP_GRANULARITY * factor
    m.sysctl_sched_migration_cost = 500_000
    m.sysctl_sched_child_runs_first = False


# ---- arithmetic --------------------------------------------------------------------------------------------


def __calc_delta(delta_exec: int, weight: int, lw: LoadWeight) -> int:
    # delta_exec * weight / lw->weight in the kernel's fixed point, which rounds as it does.
    if not lw.inv_weight:
        lw.inv_weight = WMULT_CONST if lw.weight <= 1 else WMULT_CONST // lw.weight
    fact = weight * lw.inv_weight if weight >> 32 == 0 else (weight >> 32) * lw.inv_weight
    shift = 32
    while fact >> 32:
        fact >>= 1
        shift -= 1
    return delta_exec * fact >> shift


def calc_delta_fair(delta: int, se: SchedEntity) -> int:
    """Return delta / weight: the vruntime of that much time."""
    if se.load.weight != NICE_0_LOAD:
        delta = __calc_delta(delta, NICE_0_LOAD, se.load)
    return delta


def sched_slice(cfs_rq: CfsRq, se: SchedEntity) -> int:
    """Return the time that the entity may run: its share of a period in which each runs once."""
    m = machine.cur
    nr_running = cfs_rq.nr_running + (not se.on_rq)
    if nr_running > SCHED_NR_LATENCY:
        period = nr_running * m.sysctl_sched_min_granularity
    else:
        period = m.sysctl_sched_latency
    load = cfs_rq.load
    if not se.on_rq:
        load = LoadWeight(load.weight + se.load.weight)
    return __calc_delta(period, se.load.weight, load)


def sched_vslice(cfs_rq: CfsRq, se: SchedEntity) -> int:
    """Return the vruntime of the entity's slice."""
    return calc_delta_fair(sched_slice(cfs_rq, se), se)


# ---- the timeline ------------------------------------------------------------------------------------------


def __enqueue_entity(cfs_rq: CfsRq, se: SchedEntity) -> None:
    vruntime = se.vruntime
    timeline = cfs_rq.timeline
    keys = cfs_rq.keys
    if not timeline or keys[-1] <= vruntime:
        keys.append(vruntime)
        timeline.append(se)
    else:
        at = bisect_right(keys, vruntime, cfs_rq.first)
        keys.insert(at, vruntime)
        timeline.insert(at, se)


def __dequeue_entity(cfs_rq: CfsRq, se: SchedEntity) -> None:
    timeline = cfs_rq.timeline
    first = cfs_rq.first
    if timeline[first] is se:
        timeline[first] = None
        cfs_rq.first = first = first + 1
        if first == len(timeline) or (first > _ROOM and first * 2 > len(timeline)):
            del timeline[:first]
            del cfs_rq.keys[:first]
            cfs_rq.first = 0
    else:
        at = bisect_left(cfs_rq.keys, se.vruntime, first)
        while timeline[at] is not se:                       # among equals
            at += 1
        del timeline[at]
        del cfs_rq.keys[at]


def __pick_first_entity(cfs_rq: CfsRq) -> SchedEntity | None:
    timeline = cfs_rq.timeline
    return timeline[cfs_rq.first] if timeline else None


# ---- time --------------------------------------------------------------------------------------------------


def update_min_vruntime(cfs_rq: CfsRq) -> None:
    """Let min_vruntime follow the smallest vruntime; it never goes back."""
    curr = cfs_rq.curr
    timeline = cfs_rq.timeline
    first = cfs_rq.first
    if curr is not None and curr.on_rq:
        vruntime = curr.vruntime
        if timeline and cfs_rq.keys[first] < vruntime:
            vruntime = cfs_rq.keys[first]
    elif timeline:
        vruntime = cfs_rq.keys[first]
    else:
        return
    if vruntime > cfs_rq.min_vruntime:
        cfs_rq.min_vruntime = vruntime


def update_curr(rq: Rq) -> None:
    """Charge the running entity for the time since it was last charged.  Context: rq.lock held."""
    cfs_rq = rq.cfs
    curr = cfs_rq.curr
    if curr is None:
        return
    now = rq.clock
    delta_exec = now - curr.exec_start
    if delta_exec <= 0:
        return
    curr.exec_start = now
    curr.sum_exec_runtime += delta_exec
    vruntime = curr.vruntime
    vruntime += delta_exec if curr.load.weight == NICE_0_LOAD else __calc_delta(delta_exec, NICE_0_LOAD, curr.load)
    curr.vruntime = vruntime
    # update_min_vruntime(): the leftmost or the running one (which is on the queue), and never back
    timeline = cfs_rq.timeline
    if timeline and (left := cfs_rq.keys[cfs_rq.first]) < vruntime:
        if left > cfs_rq.min_vruntime:
            cfs_rq.min_vruntime = left
    elif vruntime > cfs_rq.min_vruntime:
        cfs_rq.min_vruntime = vruntime
    for probe, data in machine.cur.tp.sched_stat_runtime:   # trace_sched_stat_runtime()
        probe(data, curr.task, delta_exec, vruntime)
    # Not modelled: cgroup_account_cputime().  account_group_exec_runtime() is summed up when somebody asks.


# ---- on and off the queue ----------------------------------------------------------------------------------


def account_entity_enqueue(cfs_rq: CfsRq, se: SchedEntity) -> None:
    """Count the entity's weight."""
    cfs_rq.load.weight += se.load.weight
    cfs_rq.load.inv_weight = 0
    cfs_rq.nr_running += 1


def account_entity_dequeue(cfs_rq: CfsRq, se: SchedEntity) -> None:
    """Count the entity's weight no more."""
    cfs_rq.load.weight -= se.load.weight
    cfs_rq.load.inv_weight = 0
    cfs_rq.nr_running -= 1


def place_entity(cfs_rq: CfsRq, se: SchedEntity, initial: int) -> None:
    """Give an entity that comes (back) a vruntime near the others': a sleeper gains at most half a latency."""
    vruntime = cfs_rq.min_vruntime
    if initial:
        # The "current" period is already promised to the current tasks, however the extra weight of the new task
        # will slow them down a little: place it at the end of the period.
        vruntime += sched_vslice(cfs_rq, se)
    else:
        vruntime -= machine.cur.sysctl_sched_latency >> 1
    if vruntime > se.vruntime:
        se.vruntime = vruntime


def enqueue_entity(rq: Rq, se: SchedEntity, flags: int) -> None:
    """Put an entity on the queue."""
    cfs_rq = rq.cfs
    renorm = not flags & ENQUEUE_WAKEUP or flags & ENQUEUE_MIGRATED
    curr = cfs_rq.curr is se
    # If we're the current task, we must renormalise before calling update_curr().
    if renorm and curr:
        se.vruntime += cfs_rq.min_vruntime
    update_curr(rq)
    # Otherwise, renormalise after, such that we're placed at the current moment in time, instead of some random moment
    # in the past.
    if renorm and not curr:
        se.vruntime += cfs_rq.min_vruntime
    account_entity_enqueue(cfs_rq, se)
    if flags & ENQUEUE_WAKEUP:
        place_entity(cfs_rq, se, 0)
    if not curr:
        __enqueue_entity(cfs_rq, se)
    se.on_rq = 1


def clear_buddies(cfs_rq: CfsRq, se: SchedEntity) -> None:
    """Forget the entity as a buddy."""
    if cfs_rq.last is se:
        cfs_rq.last = None
    if cfs_rq.next is se:
        cfs_rq.next = None
    if cfs_rq.skip is se:
        cfs_rq.skip = None


def dequeue_entity(rq: Rq, se: SchedEntity, flags: int) -> None:
    """Take an entity off the queue."""
    cfs_rq = rq.cfs
    update_curr(rq)
    clear_buddies(cfs_rq, se)
    if se is not cfs_rq.curr:
        __dequeue_entity(cfs_rq, se)
    se.on_rq = 0
    account_entity_dequeue(cfs_rq, se)
    # Normalize after update_curr(); which will also move min_vruntime if @se is the one holding it back.
    if not flags & DEQUEUE_SLEEP:
        se.vruntime -= cfs_rq.min_vruntime
    if flags & (DEQUEUE_SAVE | DEQUEUE_MOVE) != DEQUEUE_SAVE:
        update_min_vruntime(cfs_rq)


def enqueue_task_fair(rq: Rq, p: Task, flags: int) -> None:
    """Put a task on the queue."""
    enqueue_entity(rq, p.se, flags)
    rq.nr_running += 1


def dequeue_task_fair(rq: Rq, p: Task, flags: int) -> None:
    """Take a task off the queue."""
    dequeue_entity(rq, p.se, flags)
    rq.nr_running -= 1
    assert rq.nr_running >= 0, "nr_running"


# ---- preemption --------------------------------------------------------------------------------------------


def check_preempt_tick(rq: Rq, curr: SchedEntity) -> None:
    """Preempt the current task with a newly woken task if needed, at the tick: its slice may be over."""
    cfs_rq = rq.cfs
    ideal_runtime = sched_slice(cfs_rq, curr)
    delta_exec = curr.sum_exec_runtime - curr.prev_sum_exec_runtime
    if delta_exec > ideal_runtime:
        core.resched_curr(rq)
        # The current task ran long enough, ensure it doesn't get re-elected due to buddy favours.
        clear_buddies(cfs_rq, curr)
        return
    # Ensure that a task that missed wakeup preemption by a narrow margin doesn't have to wait for a full slice.
    if delta_exec < machine.cur.sysctl_sched_min_granularity:
        return
    se = __pick_first_entity(cfs_rq)
    assert se is not None, "more than one is runnable"
    delta = curr.vruntime - se.vruntime
    if delta < 0:
        return
    if delta > ideal_runtime:
        core.resched_curr(rq)


def wakeup_preempt_entity(curr: SchedEntity, se: SchedEntity) -> int:
    """Tell whether `se` should preempt `curr`: 1 yes, 0 it is behind by less than the granularity, -1 it is ahead."""
    vdiff = curr.vruntime - se.vruntime
    if vdiff <= 0:
        return -1
    gran = machine.cur.sysctl_sched_wakeup_granularity
    if se.load.weight != NICE_0_LOAD:
        gran = calc_delta_fair(gran, se)                    # wakeup_gran()
    if vdiff > gran:
        return 1
    return 0


def pick_next_entity(cfs_rq: CfsRq, curr: SchedEntity | None) -> SchedEntity:
    """Pick the leftmost, unless it asked to be skipped or a buddy is not too far from it."""
    timeline = cfs_rq.timeline
    left: SchedEntity
    # If curr is set we have to see if its left of the leftmost entity still in the tree, provided there was anything
    # in the tree at all.
    if timeline:
        left = timeline[cfs_rq.first]
        if curr is not None and curr.vruntime < left.vruntime:
            left = curr
    else:
        assert curr is not None, "there is something to pick"
        left = curr
    se = left
    # Avoid running the skip buddy, if running something else can be done without getting too unfair.
    if cfs_rq.skip is se:
        first = cfs_rq.first
        if se is curr:
            second = timeline[first] if timeline else None
        else:
            second = timeline[first + 1] if len(timeline) > first + 1 else None
            if second is None or (curr is not None and curr.vruntime < second.vruntime):
                second = curr
        if second is not None and wakeup_preempt_entity(second, left) < 1:
            se = second
        else:
            cfs_rq.skip = None                              # clear_buddies()
    # Prefer last buddy, try to return the CPU to a preempted task.
    if cfs_rq.last is not None and wakeup_preempt_entity(cfs_rq.last, left) < 1:
        se = cfs_rq.last
    # Someone really wants this to run. If it's not unfair, run it.
    if cfs_rq.next is not None and wakeup_preempt_entity(cfs_rq.next, left) < 1:
        se = cfs_rq.next
    if timeline and machine.cur.chooses:
        se = schedule.choose_entity(cfs_rq, curr, se, left)
    if cfs_rq.last is se or cfs_rq.next is se:
        clear_buddies(cfs_rq, se)
    return se


def set_next_entity(rq: Rq, se: SchedEntity) -> None:
    """Make the entity the running one: it is not kept in the timeline while it runs."""
    cfs_rq = rq.cfs
    if se.on_rq:
        __dequeue_entity(cfs_rq, se)
    se.exec_start = rq.clock                                # update_stats_curr_start()
    cfs_rq.curr = se
    se.prev_sum_exec_runtime = se.sum_exec_runtime


def put_prev_entity(rq: Rq, prev: SchedEntity) -> None:
    """Let the entity be the running one no more; if it is still runnable it waits in the timeline."""
    cfs_rq = rq.cfs
    # If still on the runqueue then deactivate_task() was not called and update_curr() has to be done.
    if prev.on_rq:
        if rq.clock > prev.exec_start:
            update_curr(rq)
        __enqueue_entity(cfs_rq, prev)
    cfs_rq.curr = None


def pick_next_task_fair(rq: Rq, prev: Task) -> Task | int | None:
    """Pick the next task.

    :return: None if there is none, RETRY_TASK if a task of a higher class came meanwhile
    """
    cfs_rq = rq.cfs
    while not cfs_rq.nr_running:
        new_tasks = fair_balance.idle_balance(rq)
        # Because idle_balance() releases rq.lock, it is possible for any higher priority task to appear.
        if new_tasks < 0:
            return core.RETRY_TASK
        if not new_tasks:
            return None
    if prev.sched_class is not fair_sched_class:
        prev.sched_class.put_prev_task(rq, prev)
        se = pick_next_entity(cfs_rq, None)
        set_next_entity(rq, se)
        return se.task
    # Because of the set_next_buddy() in dequeue_task_fair() it is rather likely that prev is picked again: it is put
    # back on the timeline only if it is not.
    curr = cfs_rq.curr
    if curr is not None:
        if not curr.on_rq:
            curr = None
        elif rq.clock > curr.exec_start:
            update_curr(rq)
    se = pick_next_entity(cfs_rq, curr)
    if se is not prev.se:
        put_prev_entity(rq, prev.se)
        set_next_entity(rq, se)
    return se.task


def put_prev_task_fair(rq: Rq, prev: Task) -> None:
    """Account for a descheduled task."""
    put_prev_entity(rq, prev.se)


def yield_task_fair(rq: Rq) -> None:
    """Let sched_yield() skip the running task once, if that is not too unfair."""
    curr = rq.curr
    cfs_rq = rq.cfs
    se = curr.se
    # Are we the only task in the tree?
    if rq.nr_running == 1:
        return
    if cfs_rq.last is not None or cfs_rq.next is not None:
        clear_buddies(cfs_rq, se)
    if curr.policy != SCHED_BATCH:
        rq.clock = machine.cur.now                          # update_rq_clock()
        update_curr(rq)
        # Tell update_rq_clock() that we've just updated, so we don't do microscopic update in schedule().
        rq.skip_clock_update = True
    cfs_rq.skip = se                                        # set_skip_buddy()


def check_preempt_wakeup(rq: Rq, p: Task, wake_flags: int) -> None:
    """Preempt the current task with a newly woken task if needed."""
    curr = rq.curr
    se = curr.se
    pse = p.se
    if se is pse:
        return
    scale = rq.cfs.nr_running >= SCHED_NR_LATENCY
    # sched_feat(NEXT_BUDDY) is off.
    if curr.thread_info.flags & machine.cur.tif_need_resched:
        return
    # Idle tasks are by definition preempted by non-idle tasks.
    if curr.policy == SCHED_IDLE and p.policy != SCHED_IDLE:
        core.resched_curr(rq)
        return
    # Batch and idle tasks do not preempt non-idle tasks (their preemption is driven by the tick).
    if p.policy != SCHED_NORMAL:
        return
    update_curr(rq)
    preempts = wakeup_preempt_entity(se, pse) == 1
    m = machine.cur
    if m.chooses and abs(se.vruntime - pse.vruntime) <= m.sysctl_sched_latency:
        who = (p, curr) if preempts else (curr, p)
        preempts ^= m.choose(2, schedule.PREEMPTION, who) == 1
    if not preempts:
        return
    core.resched_curr(rq)
    # Only set the backward buddy when the current task is still on the rq. This can happen when a wakeup gets
    # interleaved with schedule on the ->pre_schedule() or idle_balance() point, either of which can drop the rq lock.
    if not se.on_rq or curr is rq.idle:
        return
    # sched_feat(LAST_BUDDY)
    if scale and not wake_flags & WF_FORK:
        rq.cfs.last = se


def task_tick_fair(rq: Rq, curr: Task, queued: int) -> None:
    """Charge the running task at the tick."""
    del queued
    update_curr(rq)
    if rq.cfs.nr_running > 1:
        check_preempt_tick(rq, curr.se)


def task_fork_fair(p: Task) -> None:
    """Place a new task beside its parent.  Context: p.pi_lock held."""
    rq = machine.cur.cpu.rq
    cfs_rq = rq.cfs
    se = p.se
    irqs_off = rq.cpu.irqs_off
    assert irqs_off, "irqs off"
    rq.lock.owner = rq.cpu
    core.update_rq_clock(rq)
    curr = cfs_rq.curr
    if curr is not None:
        update_curr(rq)
        se.vruntime = curr.vruntime
    place_entity(cfs_rq, se, 1)
    if machine.cur.sysctl_sched_child_runs_first and curr is not None and curr.vruntime < se.vruntime:
        # Upon rescheduling, sched_class::put_prev_task() will place 'current' within the tree based on its new key
        # value.
        curr.vruntime, se.vruntime = se.vruntime, curr.vruntime
        core.resched_curr(rq)
    se.vruntime -= cfs_rq.min_vruntime
    rq.lock.owner = None


def prio_changed_fair(rq: Rq, p: Task, oldprio: int) -> None:
    """Reschedule if the priority of a task that runs fell, or that of one that waits rose."""
    if p.on_rq != 1:
        return
    if rq.curr is p:
        if p.prio > oldprio:
            core.resched_curr(rq)
    else:
        core.check_preempt_curr(rq, p, 0)


def vruntime_normalized(p: Task) -> bool:
    """Tell whether the task's vruntime is relative already: it is off its queue, or about to be placed anew."""
    if p.on_rq:
        return True
    # When !on_rq, vruntime of the task has usually NOT been normalized, but a new task and one being woken have been.
    return not p.se.sum_exec_runtime or p.state == 0x200    # TASK_WAKING


def switched_from_fair(rq: Rq, p: Task) -> None:
    """Take the task's vruntime out of this queue when it leaves the class."""
    if not vruntime_normalized(p):
        place_entity(rq.cfs, p.se, 0)
        p.se.vruntime -= rq.cfs.min_vruntime


def switched_to_fair(rq: Rq, p: Task) -> None:
    """Put the task's vruntime into this queue when it comes to the class."""
    if not vruntime_normalized(p):
        p.se.vruntime += rq.cfs.min_vruntime                # attach_task_cfs_rq()
    if p.on_rq == 1:
        # We were most likely switched from sched_rt, so kick off the schedule if running, otherwise just see if we can
        # still preempt the current task.
        if rq.curr is p:
            core.resched_curr(rq)
        else:
            core.check_preempt_curr(rq, p, 0)


def set_curr_task_fair(rq: Rq) -> None:
    """Account for a task changing its policy or group: it runs on as the current one."""
    set_next_entity(rq, rq.curr.se)


def migrate_task_rq_fair(p: Task, new_cpu: int) -> None:
    """Make the vruntime of a waking task relative: the new CPU's queue has another zero."""
    del new_cpu
    if p.state == 0x200:                                    # TASK_WAKING
        p.se.vruntime -= machine.cur.cpus[p.thread_info.cpu].rq.cfs.min_vruntime
    # We have migrated, no longer consider this task hot.
    p.se.exec_start = 0


def get_rr_interval_fair(rq: Rq, task: Task) -> int:
    """Return the slice of the task (jiffies); 0 while it sleeps alone on its queue."""
    if not rq.cfs.load.weight:
        return 0
    return sched_slice(rq.cfs, task.se) // machine.cur.tick_nsec


def select_task_rq_fair(p: Task, prev_cpu: int, sd_flag: int, wake_flags: int) -> int:
    """Choose the CPU for a task that wakes, forks or execs."""
    return fair_balance.select_task_rq_fair(p, prev_cpu, sd_flag, wake_flags)


fair_sched_class: Final = SchedClass(
    name="fair",
    rank=3,
    enqueue_task=enqueue_task_fair,
    dequeue_task=dequeue_task_fair,
    yield_task=yield_task_fair,
    check_preempt_curr=check_preempt_wakeup,
    pick_next_task=pick_next_task_fair,                     # type: ignore[arg-type]
    put_prev_task=put_prev_task_fair,
    select_task_rq=select_task_rq_fair,
    migrate_task_rq=migrate_task_rq_fair,
    set_curr_task=set_curr_task_fair,
    task_tick=task_tick_fair,
    task_fork=task_fork_fair,
    prio_changed=prio_changed_fair,
    switched_from=switched_from_fair,
    switched_to=switched_to_fair,
    get_rr_interval=get_rr_interval_fair,
    update_curr=update_curr,
)
