"""Switching tasks: kernel/sched/core.c, v4.19: schedule() and what it calls, preemption, the tick.

`__schedule` picks by class (stop, rt, fair, idle) and `context_switch` leaves the old stack for the new one; `schedule`
returns when the task runs again, which may be on another CPU.
"""

from __future__ import annotations

from typing import Any, Final

from taskscope.model import costs, machine
from taskscope.model.costs import CONTEXT_SWITCH
from taskscope.model.include.linux import preempt, sched_task, uaccess
from taskscope.model.include.linux.sched import (
    PF_NOFREEZE,
    PF_WQ_WORKER,
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_WAKEKILL,
    Task,
    signal_pending_state,
)
from taskscope.model.kernel import exit as exit_
from taskscope.model.kernel import fork, pid, workqueue
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import fair, fair_balance, idle, loadavg, rt, stats, stop_task
from taskscope.model.kernel.sched.core import runqueue, wakeup
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_NOCLOCK,
    DEQUEUE_SLEEP,
    Rq,
    rq_lock,
    rq_unlock,
)
from taskscope.model.kernel.signal import send as signal_send

#: a class asks that the pick begins anew: a task of a higher class came while it balanced
RETRY_TASK: Final = -1


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
    # Signals that were delayed until after the fork, and stops that it inherited.
    if tsk.jobctl or tsk.pending.signal or tsk.signal.shared_pending.signal:
        signal_send.calculate_sigpending()


def balance_callback(rq: Rq) -> None:
    """Let the realtime class push tasks away that it could not while rq.lock was held."""
    if rq.rt.rt_nr_running > 1:
        rt.push_rt_tasks(rq)


def prepare_task_switch(rq: Rq, prev: Task, next: Task) -> None:
    """Account the switch and mark the next task as running, before its stack is taken.

    Context: rq.lock held, irqs off.
    """
    stats.sched_info_switch(rq, prev, next)
    # Not modelled: perf_event_task_sched_out(), rseq_preempt(), preempt notifiers.
    next.on_cpu = 1                                         # prepare_task()


def context_switch(rq: Rq, prev: Task, next: Task) -> Rq:
    """Switch to the new memory and the new stack; return on this stack when prev runs again.

    Context: rq.lock held, irqs off.
    """
    m = machine.cur
    prepare_task_switch(rq, prev, next)
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
            runqueue.deactivate_task(rq, prev, DEQUEUE_SLEEP | DEQUEUE_NOCLOCK)
            prev.on_rq = 0
            if prev.in_iowait:
                rq.nr_iowait += 1
            # If a worker went to sleep, notify and ask workqueue whether it wants to wake up a task to maintain
            # concurrency.
            if prev.flags & PF_WQ_WORKER and not m.flavour.switches.wq_worker_running:
                to_wakeup = workqueue.wq_worker_sleeping(prev)
                if to_wakeup is not None:
                    wakeup.try_to_wake_up_local(to_wakeup)
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


def sched_submit_work(tsk: Task) -> None:
    """Tell the workqueues that a worker is about to sleep; since v5.2, until then __schedule() does.

    Not modelled: plugged requests of the block layer, which are submitted here.
    """
    if tsk.state and machine.cur.flavour.switches.wq_worker_running:
        workqueue.wq_worker_sleeping(tsk)


def sched_update_worker(tsk: Task) -> None:
    """Tell the workqueues that a worker runs again (v5.2)."""
    if machine.cur.flavour.switches.wq_worker_running:
        workqueue.wq_worker_running(tsk)


def schedule() -> None:
    """Let another task run; return when this one runs again.

    Sleeps if the task's state is not TASK_RUNNING and nobody woke it since.
    Context: preemption enabled, interrupts on.
    """
    m = machine.cur
    cpu = m.cpu
    tsk = cpu.curr
    worker = tsk.flags & PF_WQ_WORKER
    if worker:
        sched_submit_work(tsk)
    while True:
        assert not cpu.preempt_count, f"BUG: scheduling while atomic: {cpu.curr} {cpu.preempt_count:#x}"
        cpu.preempt_count = 1
        __schedule(False)
        cpu = m.cpu                                         # may be another one now
        cpu.preempt_count = 0
        if not tsk.thread_info.flags & m.tif_need_resched:
            if worker:
                sched_update_worker(tsk)
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
    if m.kernel_preempt:
        return 0
    if not m.cpu.preempt_count and m.cpu.curr.thread_info.flags & m.tif_need_resched:
        m.cpu.preempt_count += 1                            # preempt_schedule_common()
        __schedule(True)
        m.cpu.preempt_count -= 1
        return 1
    return 0


def might_resched() -> None:
    """Let others run where the kernel might sleep anyway: what CONFIG_PREEMPT_VOLUNTARY, preempt=voluntary, adds."""
    if machine.cur.preempt == "voluntary":
        _cond_resched()


def io_schedule() -> None:
    """Sleep as schedule() does, waiting for a device: the CPU's idle time is iowait meanwhile."""
    current = machine.cur.cpu.curr
    token = current.in_iowait                               # io_schedule_prepare()
    current.in_iowait = True
    # Not modelled: blk_schedule_flush_plug(): requests are not plugged.
    schedule()
    current.in_iowait = token                               # io_schedule_finish()


def do_task_dead() -> None:
    """Leave the CPU for good: the next task drops what is left of this one.  Never returns."""
    m = machine.cur
    tsk = m.cpu.curr
    # Causes final put_task_struct() in finish_task_switch().
    tsk.state = TASK_DEAD
    tsk.flags |= PF_NOFREEZE                                # tell freezer to ignore us
    __schedule(False)
    raise AssertionError("a dead task runs")


def scheduler_tick() -> None:
    """Charge the running task for the tick, and see whether others should run.  Context: hard interrupt, irqs off."""
    m = machine.cur
    rq = m.cpu.rq
    curr = rq.curr
    rq_lock(rq)
    runqueue.update_rq_clock(rq)
    curr.sched_class.task_tick(rq, curr, 0)
    loadavg.calc_global_load_tick(rq)
    rq_unlock(rq)
    if curr.flags & PF_WQ_WORKER and m.flavour.switches.wq_worker_tick:
        workqueue.wq_worker_tick(curr)
    rq.idle_balance = curr is rq.idle and not rq.nr_running
    fair_balance.trigger_load_balance(rq)
