"""The stop class: migration/N preempts everything: kernel/sched/stop_task.c, v4.19."""

from __future__ import annotations

from typing import Final

from taskscope.model.include.linux.sched import SchedEntity, Task
from taskscope.model.kernel.sched.sched import Rq, SchedClass


def select_task_rq_stop(p: Task, cpu: int, sd_flag: int, flags: int) -> int:
    """Stay: stop tasks as never migrate."""
    del cpu, sd_flag, flags
    return p.thread_info.cpu


def check_preempt_curr_stop(rq: Rq, p: Task, flags: int) -> None:
    """Do nothing: we're never preempted."""


def pick_next_task_stop(rq: Rq, prev: Task) -> Task | None:
    """Pick the stopper if it has work."""
    stop = rq.stop
    if stop is None or stop.on_rq != 1:
        return None
    prev.sched_class.put_prev_task(rq, prev)
    stop.se.exec_start = rq.clock
    return stop


def enqueue_task_stop(rq: Rq, p: Task, flags: int) -> None:
    """Count the stopper as runnable."""
    del p, flags
    rq.nr_running += 1


def dequeue_task_stop(rq: Rq, p: Task, flags: int) -> None:
    """Count the stopper as runnable no more."""
    del p, flags
    rq.nr_running -= 1


def yield_task_stop(rq: Rq) -> None:
    """Fail: the stop task should never yield, its pointless."""
    raise AssertionError(f"the stopper of cpu {rq.cpu_id} yields")


def put_prev_task_stop(rq: Rq, prev: Task) -> None:
    """Charge the stopper."""
    del prev
    update_curr_stop(rq)


def task_tick_stop(rq: Rq, curr: Task, queued: int) -> None:
    """Do nothing: the stopper has no slice."""


def set_curr_task_stop(rq: Rq) -> None:
    """Let the stopper be the running task."""
    rq.curr.se.exec_start = rq.clock


def switched_to_stop(rq: Rq, p: Task) -> None:
    """Fail: how'd it get here?"""
    raise AssertionError(f"{p} of cpu {rq.cpu_id} becomes a stop task")


def prio_changed_stop(rq: Rq, p: Task, oldprio: int) -> None:
    """Fail: how'd it get here?"""
    raise AssertionError(f"{p} of cpu {rq.cpu_id} had priority {oldprio}")


def get_rr_interval_stop(rq: Rq, task: Task) -> int:
    """Return 0: no slices."""
    del rq, task
    return 0


def update_curr_stop(rq: Rq) -> None:
    """Charge the running stopper for its time."""
    se: SchedEntity = rq.curr.se
    delta_exec = rq.clock - se.exec_start
    if delta_exec > 0:
        se.sum_exec_runtime += delta_exec
        se.exec_start = rq.clock


stop_sched_class: Final = SchedClass(
    name="stop",
    rank=0,
    enqueue_task=enqueue_task_stop,
    dequeue_task=dequeue_task_stop,
    yield_task=yield_task_stop,
    check_preempt_curr=check_preempt_curr_stop,
    pick_next_task=pick_next_task_stop,
    put_prev_task=put_prev_task_stop,
    select_task_rq=select_task_rq_stop,
    migrate_task_rq=None,
    set_curr_task=set_curr_task_stop,
    task_tick=task_tick_stop,
    task_fork=None,
    prio_changed=prio_changed_stop,
    switched_from=None,
    switched_to=switched_to_stop,
    get_rr_interval=get_rr_interval_stop,
    update_curr=update_curr_stop,
)
