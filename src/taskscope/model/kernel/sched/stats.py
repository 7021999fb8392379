"""sched_info: how often and how late tasks get their CPU: kernel/sched/stats.h, v4.19.

``run_delay`` is the time on a runqueue without running, ``pcount`` the number of arrivals on a CPU: /proc/PID/schedstat.
Not modelled: schedstats (sched_stat_wait and so on), which kernels have off unless they are asked.
"""

from __future__ import annotations

from taskscope.model.include.linux.sched import Task
from taskscope.model.kernel.sched.sched import Rq


def sched_info_dequeued(rq: Rq, t: Task) -> None:
    """Account the wait of a task that leaves the runqueue without having run."""
    info = t.sched_info
    if info.last_queued:
        delta = rq.clock - info.last_queued
        info.last_queued = 0                                # sched_info_reset_dequeued()
        info.run_delay += delta
        rq.rq_sched_info_run_delay += delta


def sched_info_arrive(rq: Rq, t: Task) -> None:
    """Account that the task arrives on the CPU: its wait is over."""
    now = rq.clock
    info = t.sched_info
    if info.last_queued:
        delta = now - info.last_queued
        info.last_queued = 0
        info.run_delay += delta
        rq.rq_sched_info_run_delay += delta
    info.last_arrival = now
    info.pcount += 1
    rq.rq_sched_info_pcount += 1


def sched_info_queued(rq: Rq, t: Task) -> None:
    """Note when the task began to wait for the CPU; one that only moves goes on waiting."""
    if not t.sched_info.last_queued:
        t.sched_info.last_queued = rq.clock


def sched_info_depart(rq: Rq, t: Task) -> None:
    """Account that the task leaves the CPU; if it is still runnable its wait begins."""
    info = t.sched_info
    rq.rq_cpu_time += rq.clock - info.last_arrival
    if not t.state and not info.last_queued:                # sched_info_queued()
        info.last_queued = rq.clock


def sched_info_switch(rq: Rq, prev: Task, next: Task) -> None:
    """Account a switch (__sched_info_switch())."""
    # prev might be the idle task, whose waits nobody counts.
    idle = rq.idle
    if prev is not idle:
        sched_info_depart(rq, prev)
    if next is not idle:
        sched_info_arrive(rq, next)
