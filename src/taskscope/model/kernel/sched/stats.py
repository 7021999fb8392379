"""sched_info: how often and how late tasks get their CPU: kernel/sched/stats.h, v4.19.

prepare_task_switch() calls `sched_info_switch`, and that `sched_info_depart` and `sched_info_arrive`.  ``run_delay``
is the time on a runqueue without running, ``pcount`` the number of arrivals on a CPU: /proc/PID/schedstat.

Not modelled: the runqueue's sums of these; schedstats (sched_stat_wait and so on), which kernels have off unless asked.
"""

from __future__ import annotations

from taskscope.model.include.linux.sched import Task
from taskscope.model.kernel.sched.sched import Rq


def sched_info_dequeued(rq: Rq, t: Task) -> None:
    """Account the wait of a task that leaves the runqueue without having run."""
    info = t.sched_info
    if info.last_queued:
        info.run_delay += rq.clock - info.last_queued
        info.last_queued = 0                                # sched_info_reset_dequeued()


def sched_info_arrive(rq: Rq, t: Task) -> None:
    """Account that the task arrives on the CPU: its wait is over."""
    now = rq.clock
    info = t.sched_info
    if info.last_queued:
        info.run_delay += now - info.last_queued
        info.last_queued = 0
    info.last_arrival = now
    info.pcount += 1


def sched_info_queued(rq: Rq, t: Task) -> None:
    """Note when the task began to wait for the CPU; one that only moves goes on waiting."""
    if not t.sched_info.last_queued:
        t.sched_info.last_queued = rq.clock


def sched_info_depart(rq: Rq, t: Task) -> None:
    """Account that the task leaves the CPU; if it is still runnable its wait begins."""
    if not t.state and not t.sched_info.last_queued:        # sched_info_queued()
        t.sched_info.last_queued = rq.clock


def __sched_info_switch(rq: Rq, prev: Task, next: Task) -> None:
    """Account a switch to both tasks; prev or next might be the idle task, whose waits nobody counts."""
    idle = rq.idle
    if prev is not idle:
        sched_info_depart(rq, prev)
    if next is not idle:
        sched_info_arrive(rq, next)


def sched_info_switch(rq: Rq, prev: Task, next: Task) -> None:
    """Account a switch.  Not modelled: sched_info_on(), that nobody may want the account."""
    __sched_info_switch(rq, prev, next)
