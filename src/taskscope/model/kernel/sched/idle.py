"""The idle task's loop and class: kernel/sched/idle.c, v4.19."""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.sched import Task
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.sched.sched import Rq, SchedClass
from taskscope.model.kernel.time import tick_sched


def default_idle_call() -> None:
    """Wait for an interrupt.  Context: irqs off; returns with interrupts on."""
    m = machine.cur
    if m.cpu.curr.thread_info.flags & m.tif_need_resched:
        m.cpu.irqs_off = False
        return
    # arch_cpu_idle(): wfi, or sti; hlt.  An interrupt that is pending ends it at once.
    m.idle_wait()


def cpuidle_idle_call() -> None:
    """Enter an idle state.  Not modelled: cpuidle drivers and governors; the tick stops each time."""
    tick_sched.tick_nohz_idle_stop_tick()
    rcu_tree.rcu_idle_enter()
    default_idle_call()
    rcu_tree.rcu_idle_exit()


def do_idle() -> None:
    """Idle until there is something to run, then run it.

    Context: preemption disabled.
    """
    m = machine.cur
    cpu = m.cpu                                             # the idle task never leaves its CPU
    tick_sched.tick_nohz_idle_enter()
    while not cpu.curr.thread_info.flags & m.tif_need_resched:
        cpu.irqs_off = True
        cpuidle_idle_call()
    tick_sched.tick_nohz_idle_exit()
    cpu.irqs_off = True
    core.sched_ttwu_pending()
    cpu.irqs_off = False
    core.schedule_idle()


def cpu_startup_entry(state: int) -> None:
    """Be the idle task of this CPU, for ever.

    Context: preemption disabled, interrupts on.
    """
    del state
    while True:
        do_idle()


# ---- the class ---------------------------------------------------------------------------------------------


def select_task_rq_idle(p: Task, cpu: int, sd_flag: int, flags: int) -> int:
    """Stay: an idle task never leaves its CPU."""
    del cpu, sd_flag, flags
    return p.thread_info.cpu


def check_preempt_curr_idle(rq: Rq, p: Task, flags: int) -> None:
    """Give way: idle tasks are unconditionally rescheduled."""
    del p, flags
    core.resched_curr(rq)


def pick_next_task_idle(rq: Rq, prev: Task) -> Task:
    """Pick the idle task: there is nothing else."""
    prev.sched_class.put_prev_task(rq, prev)
    rq.sched_goidle += 1
    return rq.idle


def enqueue_task_idle(rq: Rq, p: Task, flags: int) -> None:
    """Fail: the idle task is on no queue."""
    raise AssertionError(f"the idle task {p} of cpu {rq.cpu_id} is enqueued, flags {flags}")


def dequeue_task_idle(rq: Rq, p: Task, flags: int) -> None:
    """Fail: it is not legal to sleep in the idle task."""
    raise AssertionError(f"bad: scheduling from the idle thread {p} of cpu {rq.cpu_id}, flags {flags}")


def yield_task_idle(rq: Rq) -> None:
    """Do nothing."""


def put_prev_task_idle(rq: Rq, prev: Task) -> None:
    """Do nothing."""


def task_tick_idle(rq: Rq, curr: Task, queued: int) -> None:
    """Do nothing: idle time is not charged."""


def set_curr_task_idle(rq: Rq) -> None:
    """Do nothing."""


def switched_to_idle(rq: Rq, p: Task) -> None:
    """Fail: no task becomes an idle task later."""
    raise AssertionError(f"{p} of cpu {rq.cpu_id} becomes an idle task")


def prio_changed_idle(rq: Rq, p: Task, oldprio: int) -> None:
    """Fail: idle tasks have one priority."""
    raise AssertionError(f"{p} of cpu {rq.cpu_id} had priority {oldprio}")


def get_rr_interval_idle(rq: Rq, task: Task) -> int:
    """Return 0: no slices."""
    del rq, task
    return 0


def update_curr_idle(rq: Rq) -> None:
    """Do nothing."""


idle_sched_class: Final = SchedClass(
    name="idle",
    rank=4,
    enqueue_task=enqueue_task_idle,
    dequeue_task=dequeue_task_idle,
    yield_task=yield_task_idle,
    check_preempt_curr=check_preempt_curr_idle,
    pick_next_task=pick_next_task_idle,
    put_prev_task=put_prev_task_idle,
    select_task_rq=select_task_rq_idle,
    migrate_task_rq=None,
    set_curr_task=set_curr_task_idle,
    task_tick=task_tick_idle,
    task_fork=None,
    prio_changed=prio_changed_idle,
    switched_from=None,
    switched_to=switched_to_idle,
    get_rr_interval=get_rr_interval_idle,
    update_curr=update_curr_idle,
)
