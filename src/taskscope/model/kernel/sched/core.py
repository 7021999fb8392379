"""The scheduler's core: kernel/sched/core.c, v4.19: sleeping, waking, switching, the tick.

A task goes to sleep by setting its state and calling `schedule`; `try_to_wake_up` makes it runnable again on some CPU;
`__schedule` picks by class (stop, rt, fair, idle) and `context_switch` leaves the old stack for the new one.
`schedule` returns when the task runs again, which may be on another CPU.  The system calls are in syscalls.py, as in
later kernels.

Not modelled: SCHED_DEADLINE, group scheduling, bandwidth control, uclamp, core scheduling, CPU hotplug after the boot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model import costs, machine
from taskscope.model.costs import CONTEXT_SWITCH
from taskscope.model.include.linux import preempt, sched_task, uaccess
from taskscope.model.include.linux.sched import (
    DEFAULT_PRIO,
    MAX_RT_PRIO,
    PF_IDLE,
    PF_KTHREAD,
    PF_NO_SETAFFINITY,
    PF_NOFREEZE,
    SCHED_NORMAL,
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_NEW,
    TASK_NOLOAD,
    TASK_NORMAL,
    TASK_ON_RQ_MIGRATING,
    TASK_ON_RQ_QUEUED,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    TASK_WAKEKILL,
    TASK_WAKING,
    SchedEntity,
    SchedInfo,
    SchedRtEntity,
    Task,
    signal_pending_state,
)
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock,
    raw_spin_lock_irqsave,
    raw_spin_unlock,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.include.trace.events import sched as trace
from taskscope.model.kernel import exit as exit_
from taskscope.model.kernel import fork, pid, smp, softirq, stop_machine
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import fair, fair_balance, idle, loadavg, rt, stats, stop_task
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_NOCLOCK,
    DEQUEUE_SAVE,
    DEQUEUE_SLEEP,
    ENQUEUE_MIGRATED,
    ENQUEUE_NOCLOCK,
    ENQUEUE_RESTORE,
    ENQUEUE_WAKEUP,
    SD_BALANCE_EXEC,
    SD_BALANCE_FORK,
    SD_BALANCE_WAKE,
    WEIGHT_IDLEPRIO,
    WF_FORK,
    WF_MIGRATED,
    Rq,
    idle_policy,
    rq_lock,
    rq_unlock,
    rt_policy,
    sched_prio_to_weight,
)
from taskscope.model.kernel.time import timer

if TYPE_CHECKING:
    from taskscope.model.include.linux.wait import WaitQueueEntry

#: a class asks that the pick begins anew: a task of a higher class came while it balanced
RETRY_TASK: Final = -1


def update_rq_clock(rq: Rq) -> None:
    """Let the runqueue's clock show the time.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    if not rq.skip_clock_update:
        rq.clock = machine.cur.now


# ---- runnable or not ---------------------------------------------------------------------------------------


def set_load_weight(p: Task) -> None:
    """Set the weight that the fair class gives the task's nice value."""
    load = p.se.load
    if idle_policy(p.policy):
        load.weight = WEIGHT_IDLEPRIO
    else:
        load.weight = sched_prio_to_weight[p.static_prio - MAX_RT_PRIO]
    load.inv_weight = 0


def enqueue_task(rq: Rq, p: Task, flags: int) -> None:
    """Put the task on the queue of its class.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    if not flags & ENQUEUE_NOCLOCK:
        update_rq_clock(rq)
    if not flags & ENQUEUE_RESTORE:
        stats.sched_info_queued(rq, p)
    p.sched_class.enqueue_task(rq, p, flags)


def dequeue_task(rq: Rq, p: Task, flags: int) -> None:
    """Take the task off the queue of its class.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    if not flags & DEQUEUE_NOCLOCK:
        update_rq_clock(rq)
    if not flags & DEQUEUE_SAVE:
        stats.sched_info_dequeued(rq, p)
    p.sched_class.dequeue_task(rq, p, flags)


def task_contributes_to_load(p: Task) -> bool:
    """Tell whether the sleep counts in the load average."""
    return bool(p.state & TASK_UNINTERRUPTIBLE) and not p.state & TASK_NOLOAD


def activate_task(rq: Rq, p: Task, flags: int) -> None:
    """Make the task runnable on this runqueue."""
    if task_contributes_to_load(p):
        rq.nr_uninterruptible -= 1
    enqueue_task(rq, p, flags)


def deactivate_task(rq: Rq, p: Task, flags: int) -> None:
    """Take the task off this runqueue."""
    if task_contributes_to_load(p):
        rq.nr_uninterruptible += 1
    dequeue_task(rq, p, flags)


def __normal_prio(p: Task) -> int:
    return p.static_prio


def normal_prio(p: Task) -> int:
    """Return the priority without boosting: by policy, realtime priority and nice value."""
    if rt_policy(p.policy):
        return MAX_RT_PRIO - 1 - p.rt_priority
    return __normal_prio(p)


def effective_prio(p: Task) -> int:
    """Return the priority that the scheduler uses; a boosted one stays.  Not modelled: priority inheritance."""
    p.normal_prio = normal_prio(p)
    if p.prio >= MAX_RT_PRIO:
        return p.normal_prio
    return p.prio


def task_curr(p: Task) -> bool:
    """Tell whether the task is the one that its CPU runs."""
    return machine.cur.cpus[p.thread_info.cpu].rq.curr is p


def check_class_changed(rq: Rq, p: Task, prev_class: Any, oldprio: int) -> None:
    """Tell the classes that the task's class or priority has changed.  Context: rq.lock held."""
    if prev_class is not p.sched_class:
        if prev_class.switched_from:
            prev_class.switched_from(rq, p)
        p.sched_class.switched_to(rq, p)
    elif oldprio != p.prio:
        p.sched_class.prio_changed(rq, p, oldprio)


def check_preempt_curr(rq: Rq, p: Task, flags: int) -> None:
    """Ask the running task to give way if the one that became runnable should run instead.  Context: rq.lock held."""
    curr = rq.curr
    if p.sched_class is curr.sched_class:
        curr.sched_class.check_preempt_curr(rq, p, flags)
    elif p.sched_class.rank < curr.sched_class.rank:
        resched_curr(rq)
    # A queue event has occurred, and we're going to schedule: the clock of __schedule() is the one of now.
    if curr.on_rq and curr.thread_info.flags & machine.cur.tif_need_resched:
        rq.skip_clock_update = True


def resched_curr(rq: Rq) -> None:
    """Mark the CPU's running task "to be rescheduled now"; another CPU is told by an interrupt.

    Context: rq.lock held.
    """
    m = machine.cur
    assert rq.lock.owner is m.cpu, "rq.lock"
    info = rq.curr.thread_info
    if info.flags & m.tif_need_resched:
        return
    info.flags |= m.tif_need_resched
    if rq.cpu is not m.cpu:
        # Not modelled: idle loops that poll TIF_NEED_RESCHED (_TIF_POLLING_NRFLAG) and need no interrupt.
        smp.smp_send_reschedule(rq.cpu_id)


def resched_cpu(cpu: int) -> None:
    """Mark the task that runs on the CPU to be rescheduled."""
    rq = machine.cur.cpus[cpu].rq
    flags = raw_spin_lock_irqsave(rq.lock)
    resched_curr(rq)
    raw_spin_unlock_irqrestore(rq.lock, flags)


# ---- where a task runs -------------------------------------------------------------------------------------


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


def select_task_rq(p: Task, cpu: int, sd_flags: int, wake_flags: int) -> int:
    """Choose the CPU for a task that becomes runnable.  Context: p.pi_lock held."""
    if p.nr_cpus_allowed > 1:
        cpu = p.sched_class.select_task_rq(p, cpu, sd_flags, wake_flags)
    else:
        cpu = p.cpus_allowed.bit_length() - 1
    # In order not to call set_task_cpu() on a blocking task we need to rely on ttwu() to place it on a valid CPU.
    if not is_cpu_allowed(p, cpu):
        cpu = select_fallback_rq(p.thread_info.cpu, p)
    return cpu


def __set_task_cpu(p: Task, cpu: int) -> None:
    p.thread_info.cpu = cpu
    p.wake_cpu = cpu


def set_task_cpu(p: Task, new_cpu: int) -> None:
    """Move a task that is on no queue to another CPU.  Context: p.pi_lock or the old rq.lock held."""
    assert p.state in (TASK_RUNNING, TASK_WAKING) or p.on_rq == TASK_ON_RQ_MIGRATING, "a sleeping task is not moved"
    assert not p.on_cpu, "a running task is not moved"
    trace.trace_sched_migrate_task(p, new_cpu)
    if p.thread_info.cpu != new_cpu:
        if p.sched_class.migrate_task_rq:
            p.sched_class.migrate_task_rq(p, new_cpu)
        p.se.nr_migrations += 1
    __set_task_cpu(p, new_cpu)


def set_cpus_allowed_common(p: Task, new_mask: int) -> None:
    """Set the mask and its count."""
    p.cpus_allowed = new_mask
    p.nr_cpus_allowed = new_mask.bit_count()


def do_set_cpus_allowed(p: Task, new_mask: int) -> None:
    """Set the mask of a task; one that waits or runs is put back on its queue afterwards."""
    set_cpus_allowed_common(p, new_mask)


# ---- waking ------------------------------------------------------------------------------------------------


def ttwu_stat(p: Task, cpu: int, wake_flags: int) -> None:
    """Count the wakeup."""
    del p, wake_flags
    this = machine.cur.cpu
    rq = this.rq
    rq.ttwu_count += 1
    if cpu == this.id:
        rq.ttwu_local += 1


def ttwu_activate(rq: Rq, p: Task, en_flags: int) -> None:
    """Put the woken task on the runqueue."""
    activate_task(rq, p, en_flags)
    p.on_rq = TASK_ON_RQ_QUEUED
    # Not modelled: wq_worker_waking_up(); the pools of the model's workqueues count their running workers by
    # themselves.


def ttwu_do_wakeup(rq: Rq, p: Task, wake_flags: int) -> None:
    """Mark the task runnable and see whether it preempts.  Context: rq.lock held."""
    check_preempt_curr(rq, p, wake_flags)
    p.state = TASK_RUNNING
    trace.trace_sched_wakeup(p)
    if rq.idle_stamp:
        rq.idle_stamp = 0


def ttwu_do_activate(rq: Rq, p: Task, wake_flags: int) -> None:
    """Put the woken task on the runqueue and mark it runnable.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    en_flags = ENQUEUE_WAKEUP | ENQUEUE_NOCLOCK
    if p.sched_contributes_to_load:
        rq.nr_uninterruptible -= 1
    if wake_flags & WF_MIGRATED:
        en_flags |= ENQUEUE_MIGRATED
    ttwu_activate(rq, p, en_flags)
    ttwu_do_wakeup(rq, p, wake_flags)


def ttwu_remote(p: Task, wake_flags: int) -> bool:
    """Wake a task that is still on its runqueue: it set its state but has not called schedule() yet.

    Context: p.pi_lock held.
    """
    rq = __task_rq_lock(p)
    ret = False
    if p.on_rq == TASK_ON_RQ_QUEUED:
        update_rq_clock(rq)
        ttwu_do_wakeup(rq, p, wake_flags)
        ret = True
    rq_unlock(rq)
    return ret


def sched_ttwu_pending() -> None:
    """Activate the tasks that other CPUs have queued for this one.  Context: irqs off."""
    rq = machine.cur.cpu.rq
    if not rq.wake_list:
        return
    rq_lock(rq)
    update_rq_clock(rq)
    # llist_del_all() gives the newest first, llist_reverse_order() turns them.
    tasks = rq.wake_list
    rq.wake_list = []
    for p in tasks:
        ttwu_do_activate(rq, p, WF_MIGRATED if p.wake_entry else 0)
    rq_unlock(rq)


def scheduler_ipi() -> None:
    """Handle the reschedule interrupt: tasks queued by other CPUs, a request to balance.

    Context: hard interrupt entry of the architecture; the way out of the interrupt looks at TIF_NEED_RESCHED.
    """
    cpu = machine.cur.cpu
    if not cpu.rq.wake_list and not got_nohz_idle_kick():
        return
    softirq.irq_enter()
    sched_ttwu_pending()
    if got_nohz_idle_kick():
        cpu.rq.idle_balance = True
        softirq.raise_softirq_irqoff(softirq.SCHED_SOFTIRQ)
    softirq.irq_exit()


def got_nohz_idle_kick() -> bool:
    """Tell whether this idle CPU was asked to balance for the others that idle without a tick."""
    cpu = machine.cur.cpu
    return bool(cpu.pcpu.get("nohz_kick")) and cpu.rq.curr is cpu.rq.idle


def ttwu_queue_remote(p: Task, cpu: int, wake_flags: int) -> None:
    """Leave the wakeup to the task's CPU, and interrupt it."""
    rq = machine.cur.cpus[cpu].rq
    p.wake_entry = bool(wake_flags & WF_MIGRATED)           # sched_remote_wakeup
    first = not rq.wake_list
    rq.wake_list.append(p)
    if first:
        # Not modelled: set_nr_if_polling().
        smp.smp_send_reschedule(cpu)


def cpus_share_cache(this_cpu: int, that_cpu: int) -> bool:
    """Tell whether two CPUs share a last level cache."""
    cpus = machine.cur.cpus
    return cpus[this_cpu].llc_id == cpus[that_cpu].llc_id


def ttwu_queue(p: Task, cpu: int, wake_flags: int) -> None:
    """Put the woken task on the runqueue of the CPU, or let that CPU do it if it shares no cache with us."""
    m = machine.cur
    if m.cpus[cpu].llc_id != m.cpu.llc_id:
        ttwu_queue_remote(p, cpu, wake_flags)
        return
    rq = m.cpus[cpu].rq
    rq_lock(rq)
    update_rq_clock(rq)
    ttwu_do_activate(rq, p, wake_flags)
    rq_unlock(rq)


def try_to_wake_up(p: Task, state: int, wake_flags: int) -> int:
    """Wake the task if its state is one of `state`.

    :return: 1 if it was woken, 0 if there was nothing to wake
    """
    m = machine.cur
    flags = raw_spin_lock_irqsave(p.pi_lock)
    if not p.state & state:
        raw_spin_unlock_irqrestore(p.pi_lock, flags)
        return 0
    trace.trace_sched_waking(p)
    m.now += costs.WAKEUP
    cpu = p.thread_info.cpu
    if not (p.on_rq and ttwu_remote(p, wake_flags)):
        # A CPU that is descheduling the task would be waited for here; one step of the machine has no such moment.
        assert not p.on_cpu, "a task off its runqueue has left its CPU"
        p.sched_contributes_to_load = task_contributes_to_load(p)
        p.state = TASK_WAKING
        if p.in_iowait:
            m.cpus[cpu].rq.nr_iowait -= 1
        cpu = select_task_rq(p, p.wake_cpu, SD_BALANCE_WAKE, wake_flags)
        if p.thread_info.cpu != cpu:
            wake_flags |= WF_MIGRATED
            set_task_cpu(p, cpu)
        ttwu_queue(p, cpu, wake_flags)
    ttwu_stat(p, cpu, wake_flags)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)
    return 1


def wake_up_process(p: Task) -> int:
    """Wake a task that sleeps in TASK_INTERRUPTIBLE or TASK_UNINTERRUPTIBLE."""
    return try_to_wake_up(p, TASK_NORMAL, 0)


def wake_up_state(p: Task, state: int) -> int:
    """Wake a task that sleeps in one of the states."""
    return try_to_wake_up(p, state, 0)


def wait_task_inactive(p: Task, match_state: int) -> int:
    """Wait until the task is off its CPU and runqueue; 0 if its state became another than `match_state`.

    The kernel spins while the task runs elsewhere; here the caller sleeps for a tick each time.
    """
    m = machine.cur
    while p.on_cpu or p.on_rq:
        if match_state and p.state != match_state and not (p.on_cpu or p.on_rq):
            return 0
        m.cpu.curr.state = TASK_UNINTERRUPTIBLE
        timer.schedule_timeout(1)
    if match_state and p.state != match_state:
        return 0
    return p.nvcsw | 1 << 63                                # sets MSB


def kick_process(p: Task) -> None:
    """Bring a task that runs in user mode on another CPU into the kernel, so that it notices its signals."""
    m = machine.cur
    cpu = p.thread_info.cpu
    if cpu != m.cpu.id and m.cpus[cpu].rq.curr is p:
        smp.smp_send_reschedule(cpu)


def default_wake_function(curr: WaitQueueEntry, mode: int, wake_flags: int, key: Any) -> int:
    """Wake the task of a wait queue entry."""
    del key
    assert curr.private is not None, "the entry has a task"
    return try_to_wake_up(curr.private, mode, wake_flags)


# ---- a new task --------------------------------------------------------------------------------------------


def __sched_fork(clone_flags: int, p: Task) -> None:
    """Set up the scheduler's part of a new task, which is so far a copy of its parent's."""
    del clone_flags
    load = p.se.load
    p.on_rq = 0
    # Embedded structures in C: the copy of task_struct has its own already.
    p.se = SchedEntity(p)
    p.se.load.weight = load.weight
    p.se.load.inv_weight = load.inv_weight
    p.rt = SchedRtEntity(p)
    # Not modelled: p->dl, preempt notifiers, NUMA balancing.


def sched_fork(clone_flags: int, p: Task) -> int:
    """Prepare the scheduler's part of a new task.

    :return: 0 or a negative errno
    """
    m = machine.cur
    current = m.cpu.curr
    parent = current.se
    __sched_fork(clone_flags, p)
    # TASK_NEW guarantees that nothing wakes it, and that it is on no runqueue yet.
    p.state = TASK_NEW
    # Make sure we do not leak priority boosting of the parent to the child.
    p.prio = current.normal_prio
    if p.sched_reset_on_fork:
        if rt_policy(p.policy):
            p.policy = SCHED_NORMAL
            p.static_prio = DEFAULT_PRIO
            p.rt_priority = 0
        elif p.static_prio < DEFAULT_PRIO:
            p.static_prio = DEFAULT_PRIO
        p.prio = p.normal_prio = __normal_prio(p)
        set_load_weight(p)
        p.sched_reset_on_fork = False
    if p.prio < MAX_RT_PRIO:
        p.sched_class = rt.rt_sched_class
        p.rt.time_slice = rt.RR_TIMESLICE * m.hz // 1000
    else:
        p.sched_class = fair.fair_sched_class
    p.se.vruntime = parent.vruntime
    flags = raw_spin_lock_irqsave(p.pi_lock)
    # We're setting the CPU for the first time, we don't migrate, so use __set_task_cpu().
    __set_task_cpu(p, m.cpu.id)
    if p.sched_class.task_fork:
        p.sched_class.task_fork(p)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)
    p.sched_info = SchedInfo()
    p.on_cpu = 0
    # init_task_preempt_count(): a task that does not run has PREEMPT_SWITCHED, as FORK_PREEMPT_COUNT is.
    return 0


def wake_up_new_task(p: Task) -> None:
    """Put a task that was just created on a runqueue: its first wakeup."""
    m = machine.cur
    flags = raw_spin_lock_irqsave(p.pi_lock)
    p.state = TASK_RUNNING
    # Fork balancing, do it here and not earlier because cpus_allowed can change in the fork path, and any previously
    # selected CPU might disappear through hotplug.
    m.now += costs.WAKEUP
    __set_task_cpu(p, select_task_rq(p, p.thread_info.cpu, SD_BALANCE_FORK, 0))
    rq = __task_rq_lock(p)
    update_rq_clock(rq)
    # Not modelled: post_init_entity_util_avg().
    activate_task(rq, p, ENQUEUE_NOCLOCK)
    p.on_rq = TASK_ON_RQ_QUEUED
    trace.trace_sched_wakeup_new(p)
    check_preempt_curr(rq, p, WF_FORK)
    rq_unlock(rq)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)


# ---- locks of a task's runqueue ----------------------------------------------------------------------------


def __task_rq_lock(p: Task) -> Rq:
    """Lock the runqueue that the task is on.  Context: p.pi_lock held."""
    assert p.pi_lock.owner is machine.cur.cpu, "p.pi_lock"
    rq = machine.cur.cpus[p.thread_info.cpu].rq
    rq_lock(rq)
    return rq


def task_rq_lock(p: Task) -> tuple[Rq, bool]:
    """Lock p.pi_lock and the runqueue that the task is on; return what `task_rq_unlock` needs."""
    flags = raw_spin_lock_irqsave(p.pi_lock)
    rq = machine.cur.cpus[p.thread_info.cpu].rq
    rq_lock(rq)
    return rq, flags


def task_rq_unlock(rq: Rq, p: Task, flags: bool) -> None:
    """Undo `task_rq_lock`."""
    rq_unlock(rq)
    raw_spin_unlock_irqrestore(p.pi_lock, flags)


# ---- switching ---------------------------------------------------------------------------------------------


def finish_task_switch(prev: Task) -> Rq:
    """Clean up after a switch, on the stack of the task that was switched to.

    :param prev: the task that ran before on this CPU; if it is dead its last references go here
    """
    m = machine.cur
    cpu = m.cpu
    rq = cpu.rq
    assert cpu.preempt_count == 2, "preempt_count of a switch"
    # A task that dies sets TASK_DEAD and schedules one last time; we must read its state before we let others have it:
    # as soon as on_cpu is 0 it can be woken elsewhere, run there and die.
    prev_state = prev.state
    prev.on_cpu = 0                                         # finish_task()
    # finish_lock_switch(): the lock was taken by prev, on this CPU
    if __debug__:
        rq.lock.owner = None
    cpu.preempt_count = 1
    cpu.irqs_off = False
    if rq.prev_mm is not None:
        mm, rq.prev_mm = rq.prev_mm, None
        fork.mmdrop(mm)
    if prev_state == TASK_DEAD:
        # Not modelled: sched_class->task_dead(), kprobe_flush_task().
        stack = prev.stack_greenlet
        prev.stack_greenlet = None
        if stack is not None:
            m.drop_stack(stack)
        fork.put_task_stack(prev)
        if m.flavour.switches.rcu_user_reference:
            # Since v5.4 this and release_task() share one reference.
            exit_.put_task_struct_rcu_user(prev)
        else:
            sched_task.put_task_struct(prev)
    return rq


def schedule_tail(prev: Task) -> None:
    """Finish the switch to a task that runs for the first time.

    :param prev: the task that ran before on this CPU
    """
    rq = finish_task_switch(prev)
    balance_callback(rq)
    # preempt_enable() would do too much here: the count of a new task is FORK_PREEMPT_COUNT, whose last bit this is.
    preempt.preempt_enable()
    tsk = machine.cur.cpu.curr
    if tsk.set_child_tid is not None:
        uaccess.put_user(pid.task_pid_vnr(tsk), tsk.set_child_tid)


def balance_callback(rq: Rq) -> None:
    """Let the realtime class push tasks away that it could not while rq.lock was held."""
    if rq.rt.rt_nr_running > 1:
        rt.push_rt_tasks(rq)


def context_switch(rq: Rq, prev: Task, next: Task) -> Rq:
    """Switch to the new memory and the new stack; return on this stack when prev runs again.

    Context: rq.lock held, irqs off.
    """
    m = machine.cur
    # prepare_task_switch(): sched_info_switch(); prev or next might be the idle task, whose waits nobody counts.
    # Not modelled: perf_event_task_sched_out(), rseq_preempt(), preempt notifiers.
    idle = rq.idle
    if prev is not idle:
        stats.sched_info_depart(rq, prev)
    if next is not idle:
        stats.sched_info_arrive(rq, next)
    next.on_cpu = 1                                         # prepare_task()
    if next.mm is None:
        # A kernel thread borrows the address space of the task before it, lazily.
        next.active_mm = oldmm = prev.active_mm
        if oldmm is not None:
            oldmm.mm_count += 1                             # mmgrab()
    # else: switch_mm_irqs_off().  Not modelled: what the MMU does.
    if prev.mm is None:
        rq.prev_mm = prev.active_mm
        prev.active_mm = None
    rq.skip_clock_update = False
    m.now += CONTEXT_SWITCH
    rq.cpu.prev = prev
    m.switch_to(prev, next)
    # Here we are another time: prev is who ran on this CPU (perhaps not the one that we left) before us.
    return finish_task_switch(m.cpu.prev)                   # type: ignore[arg-type]


def schedule_debug(prev: Task) -> None:
    """Check what must hold when a task calls schedule().  Context: preemption disabled by schedule() alone."""
    m = machine.cur
    assert prev is m.cpu.rq.curr, "current is who the runqueue thinks"
    assert m.cpu.preempt_count == 1, f"BUG: scheduling while atomic: {prev.comm}/{prev.pid}/0x{m.cpu.preempt_count:08x}"
    rcu_tree.rcu_sleep_check()
    assert prev.stack == 0 or prev.state == TASK_DEAD or prev.stack_greenlet is not None, "stack end"


def pick_next_task(rq: Rq, prev: Task) -> Task:
    """Pick the task of the highest class, and there the first.  Context: rq.lock held."""
    while True:
        p: Task | int | None = stop_task.pick_next_task_stop(rq, prev)
        if p is None:
            p = rt.pick_next_task_rt(rq, prev)
        if p is None:
            p = fair.pick_next_task_fair(rq, prev)
        if p is None:
            p = idle.pick_next_task_idle(rq, prev)
        if not isinstance(p, int):                          # RETRY_TASK
            return p


def __schedule(preempt: bool) -> None:
    """Switch to the task that should run now.

    :param preempt: the running task is preempted: it stays runnable, whatever its state is
    Context: preemption disabled, once.
    """
    m = machine.cur
    cpu = m.cpu
    rq = cpu.rq
    prev = cpu.curr
    if __debug__:
        schedule_debug(prev)
    cpu.irqs_off = True
    cpu.rcu_data.no_qs = False                              # rcu_note_context_switch()
    cpu.preempt_count = 2                                   # rq_lock(): it was 1, see schedule_debug()
    if __debug__:
        assert rq.lock.owner is None, "rq.lock"
        rq.lock.owner = cpu
    if not rq.skip_clock_update:
        rq.clock = m.now                                    # update_rq_clock()
    state = prev.state
    voluntary = state and not preempt
    if voluntary:
        if state & (TASK_INTERRUPTIBLE | TASK_WAKEKILL) and signal_pending_state(state, prev):
            prev.state = TASK_RUNNING
        else:
            deactivate_task(rq, prev, DEQUEUE_SLEEP | DEQUEUE_NOCLOCK)
            prev.on_rq = 0
            if prev.in_iowait:
                rq.nr_iowait += 1
            # Not modelled: wq_worker_sleeping(), see ttwu_activate().
    # pick_next_task(), its optimisation: if all tasks are in the fair class we can call that function directly, but
    # only if prev was not of a higher class: otherwise those lose the opportunity to pull in work from other CPUs.
    next: Any
    if rq.nr_running == rq.cfs.nr_running and prev.sched_class.rank >= 3:
        next = fair.pick_next_task_fair(rq, prev)
        if next is None:
            next = idle.pick_next_task_idle(rq, prev)
        elif next is RETRY_TASK:
            next = pick_next_task(rq, prev)
    else:
        next = pick_next_task(rq, prev)
    prev.thread_info.flags &= ~m.tif_need_resched           # clear_tsk_need_resched()
    if prev is not next:
        rq.nr_switches += 1
        rq.curr = next
        if voluntary:
            prev.nvcsw += 1
        else:
            prev.nivcsw += 1
        for probe, data in m.tp.sched_switch:               # trace_sched_switch()
            probe(data, preempt, prev, next)
        rq = context_switch(rq, prev, next)
        if rq.rt.rt_nr_running > 1:
            balance_callback(rq)
    else:
        rq.skip_clock_update = False
        m.now += costs.SCHEDULE
        if __debug__:
            rq.lock.owner = None                            # rq_unlock_irq()
        cpu.preempt_count = 1
        cpu.irqs_off = False


def schedule() -> None:
    """Let another task run; return when this one runs again.

    Sleeps if the task's state is not TASK_RUNNING and nobody woke it since.
    Context: preemption enabled, interrupts on.
    """
    m = machine.cur
    cpu = m.cpu
    # Not modelled: sched_submit_work(): there is no block layer whose plugged requests could deadlock.
    while True:
        assert not cpu.preempt_count, f"BUG: scheduling while atomic: {cpu.curr} {cpu.preempt_count:#x}"
        cpu.preempt_count = 1
        __schedule(False)
        cpu = m.cpu                                         # may be another one now
        cpu.preempt_count = 0
        if not cpu.curr.thread_info.flags & m.tif_need_resched:
            return


def schedule_idle() -> None:
    """Call __schedule() from the idle loop, which has preemption disabled."""
    m = machine.cur
    assert not m.cpu.curr.state, "the idle task never sleeps"
    while True:
        __schedule(False)
        if not m.cpu.curr.thread_info.flags & m.tif_need_resched:
            return


def schedule_preempt_disabled() -> None:
    """Call schedule() with preemption disabled; returns so."""
    machine.cur.cpu.preempt_count -= 1
    schedule()
    machine.cur.cpu.preempt_count += 1


def preempt_schedule() -> None:
    """Preempt the running task inside the kernel (CONFIG_PREEMPT): called where preemption becomes enabled."""
    m = machine.cur
    if m.cpu.preempt_count or m.cpu.irqs_off:
        return
    while True:                                             # preempt_schedule_common()
        m.cpu.preempt_count += 1
        __schedule(True)
        m.cpu.preempt_count -= 1
        if not m.cpu.curr.thread_info.flags & m.tif_need_resched:
            return


def preempt_schedule_irq() -> None:
    """Preempt the running task on the way out of an interrupt that came while it was in the kernel.

    Context: irqs off; returns so.
    """
    m = machine.cur
    assert not m.cpu.preempt_count, "preemption is allowed"
    assert m.cpu.irqs_off, "irqs off"
    while True:
        m.cpu.preempt_count += 1
        m.cpu.irqs_off = False
        __schedule(True)
        m.cpu.irqs_off = True
        m.cpu.preempt_count -= 1
        if not m.cpu.curr.thread_info.flags & m.tif_need_resched:
            return


def _cond_resched() -> int:
    """Let others run if they should; return whether they did (CONFIG_PREEMPT kernels need no such place)."""
    m = machine.cur
    if not m.cpu.preempt_count and m.cpu.curr.thread_info.flags & m.tif_need_resched:
        m.cpu.preempt_count += 1                            # preempt_schedule_common()
        __schedule(True)
        m.cpu.preempt_count -= 1
        return 1
    return 0


def do_task_dead() -> None:
    """Leave the CPU for good: the next task drops what is left of this one.  Never returns."""
    m = machine.cur
    tsk = m.cpu.curr
    # Causes final put_task_struct() in finish_task_switch().
    tsk.state = TASK_DEAD
    tsk.flags |= PF_NOFREEZE                                # tell freezer to ignore us
    __schedule(False)
    raise AssertionError("a dead task runs")


# ---- the tick ----------------------------------------------------------------------------------------------


def scheduler_tick() -> None:
    """Charge the running task for the tick, and see whether others should run.  Context: hard interrupt, irqs off."""
    m = machine.cur
    rq = m.cpu.rq
    curr = rq.curr
    rq_lock(rq)
    update_rq_clock(rq)
    curr.sched_class.task_tick(rq, curr, 0)
    loadavg.calc_global_load_tick(rq)
    rq_unlock(rq)
    rq.idle_balance = curr is rq.idle and not rq.nr_running
    fair_balance.trigger_load_balance(rq)


def task_sched_runtime(p: Task) -> int:
    """Return the time that the task has run (ns), up to now."""
    rq, flags = task_rq_lock(p)
    if rq.curr is p and p.on_rq == TASK_ON_RQ_QUEUED:
        update_rq_clock(rq)
        p.sched_class.update_curr(rq)
    ns = p.se.sum_exec_runtime
    task_rq_unlock(rq, p, flags)
    return ns


def idle_cpu(cpu: int) -> int:
    """Tell whether the CPU idles and nothing waits for it."""
    rq = machine.cur.cpus[cpu].rq
    if rq.curr is not rq.idle or rq.nr_running or rq.wake_list:
        return 0
    return 1


def idle_task(cpu: int) -> Task:
    """Return the idle task of a CPU."""
    return machine.cur.cpus[cpu].rq.idle


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


# ---- migration ---------------------------------------------------------------------------------------------


def move_queued_task(rq: Rq, p: Task, new_cpu: int) -> Rq:
    """Move a task that waits to another CPU's queue; returns with that one locked.  Context: rq.lock held."""
    assert rq.lock.owner is machine.cur.cpu, "rq.lock"
    p.on_rq = TASK_ON_RQ_MIGRATING
    dequeue_task(rq, p, DEQUEUE_NOCLOCK)
    set_task_cpu(p, new_cpu)
    rq_unlock(rq)
    rq = machine.cur.cpus[new_cpu].rq
    rq_lock(rq)
    update_rq_clock(rq)
    assert p.thread_info.cpu == new_cpu, "nobody else moved it"
    enqueue_task(rq, p, ENQUEUE_NOCLOCK)
    p.on_rq = TASK_ON_RQ_QUEUED
    check_preempt_curr(rq, p, 0)
    return rq


def __migrate_task(rq: Rq, p: Task, dest_cpu: int) -> Rq:
    """Move a waiting task off a CPU that it may not use; returns with its runqueue locked."""
    if not is_cpu_allowed(p, dest_cpu):
        return rq
    update_rq_clock(rq)
    return move_queued_task(rq, p, dest_cpu)


def migration_cpu_stop(arg: Any) -> int:
    """Move a task away from this CPU; runs in migration/N, which took the CPU from it."""
    p, dest_cpu = arg
    cpu = machine.cur.cpu
    rq = cpu.rq
    preempt.local_irq_disable()
    # A task that was queued by another CPU meanwhile is on the wake list, where set_cpus_allowed() did not find it.
    sched_ttwu_pending()
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
    :return: 0 or -EINVAL
    """
    m = machine.cur
    rq, flags = task_rq_lock(p)
    update_rq_clock(rq)
    # Kernel threads are allowed on online && !active CPUs.
    valid = m.cpu_online_mask if p.flags & PF_KTHREAD else m.cpu_active_mask
    ret = 0
    if check and p.flags & PF_NO_SETAFFINITY:
        ret = -22
    elif p.cpus_allowed == new_mask:
        pass
    elif not new_mask & valid:
        ret = -22
    else:
        __do_set_cpus_allowed(rq, p, new_mask)
        # Can the task run on the task's current CPU?  If so, we're done.
        if not new_mask >> p.thread_info.cpu & 1:
            allowed = new_mask & valid
            dest_cpu = (allowed & -allowed).bit_length() - 1
            if p.on_cpu or p.state == TASK_WAKING:
                # Need help from migration thread: drop lock and wait.
                task_rq_unlock(rq, p, flags)
                if stop_machine.stop_one_cpu(rq.cpu_id, migration_cpu_stop, (p, dest_cpu)) == -2 and p is m.cpu.curr:
                    # A bare machine has no migration/N: a task moves when it wakes next, and this one sees to that.
                    timer.schedule_timeout_uninterruptible(1)
                return 0
            if p.on_rq == TASK_ON_RQ_QUEUED:
                rq = move_queued_task(rq, p, dest_cpu)
    task_rq_unlock(rq, p, flags)
    return ret


def __do_set_cpus_allowed(rq: Rq, p: Task, new_mask: int) -> None:
    # A class may keep the mask in its own order of things: the task is taken off and put back around the change.
    queued = p.on_rq == TASK_ON_RQ_QUEUED
    running = rq.curr is p
    if queued:
        dequeue_task(rq, p, DEQUEUE_SAVE | DEQUEUE_NOCLOCK)
    if running:
        p.sched_class.put_prev_task(rq, p)
    set_cpus_allowed_common(p, new_mask)
    if queued:
        enqueue_task(rq, p, ENQUEUE_RESTORE | ENQUEUE_NOCLOCK)
    if running:
        p.sched_class.set_curr_task(rq)


def set_cpus_allowed_ptr(p: Task, new_mask: int) -> int:
    """Change a task's affinity (bit mask).

    :return: 0 or -EINVAL: the mask has no CPU that is there
    """
    return __set_cpus_allowed_ptr(p, new_mask, False)


# ---- boot --------------------------------------------------------------------------------------------------


def init_idle(tsk: Task, cpu: int) -> None:
    """Make the task the idle task of a CPU.

    After this the CPU can be started: its first schedule() leaves the idle task.
    """
    m = machine.cur
    this = m.cpus[cpu]
    rq = this.rq
    flags = raw_spin_lock_irqsave(tsk.pi_lock)
    raw_spin_lock(rq.lock)
    __sched_fork(0, tsk)
    tsk.state = TASK_RUNNING
    tsk.se.exec_start = m.now
    tsk.flags |= PF_IDLE
    set_cpus_allowed_common(tsk, 1 << cpu)
    __set_task_cpu(tsk, cpu)
    rq.curr = rq.idle = tsk
    this.idle = tsk
    this.curr = tsk
    tsk.on_rq = TASK_ON_RQ_QUEUED
    tsk.on_cpu = 1
    raw_spin_unlock(rq.lock)
    raw_spin_unlock_irqrestore(tsk.pi_lock, flags)
    # The idle tasks have their own, simple scheduling class.
    tsk.sched_class = idle.idle_sched_class
    tsk.sched_info = SchedInfo()
    tsk.comm = f"swapper/{cpu}"
    tsk.comm16 = tsk.comm.encode().ljust(16, b"\0")


def sched_init() -> None:
    """Make the runqueues, and the boot task the idle task of this CPU.  Called once, by start_kernel()."""
    m = machine.cur
    m.preempt_schedule = preempt_schedule
    m.cpu_online_mask = 1
    m.cpu_active_mask = 1
    m.sched_domains = False
    loadavg.loadavg_init()
    fair.sched_init_granularity()
    for cpu in m.cpus:
        cpu.rq = Rq(cpu)
        cpu.rq.calc_load_update = m.jiffies + loadavg.LOAD_FREQ * m.hz
    init_task = m.cpu.curr
    if init_task.se is None or not init_task.se.load.weight:
        init_task.se = SchedEntity(init_task)
        init_task.se.load.weight = 1024
    init_idle(init_task, m.cpu.id)
    m.cpu.rq.online = True
    softirq.open_softirq(softirq.SCHED_SOFTIRQ, fair_balance.run_rebalance_domains)


def sched_init_smp() -> None:
    """Let the CPUs that are up by now balance with each other."""
    m = machine.cur
    m.sched_domains = m.cpu_active_mask.bit_count() > 1
    fair.sched_init_granularity()


def set_cpu_online(cpu: int, online: bool) -> None:
    """Let the CPU be online: kernel threads may run on it."""
    m = machine.cur
    if online:
        m.cpu_online_mask |= 1 << cpu
        m.cpus[cpu].rq.online = True
    else:
        m.cpu_online_mask &= ~(1 << cpu)
        m.cpus[cpu].rq.online = False


def set_cpu_active(cpu: int, active: bool) -> None:
    """Let the CPU be active: any task may run on it."""
    m = machine.cur
    if active:
        m.cpu_active_mask |= 1 << cpu
    else:
        m.cpu_active_mask &= ~(1 << cpu)
