"""Tracepoints: include/linux/tracepoint.h, kernel/tracepoint.c, v4.19.

A slot for each tracepoint of the modelled kernel code holds the probes that are called there: () costs the kernel
one test.  A probe is (function, data), called as ``function(data, *args)`` in the order of registration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskscope.model.machine import Machine

Probes = tuple[tuple[Callable[..., Any], Any], ...]


class _Of:
    """Whose tracepoints they are."""

    __slots__ = ("machine",)

    machine: Machine | None


class Tracepoints(_Of):
    """The tracepoints of one kernel; all are silent at first."""

    __slots__ = (
        "console",
        "finish_task_reaping",
        "hrtimer_cancel",
        "hrtimer_expire_entry",
        "hrtimer_expire_exit",
        "hrtimer_init",
        "hrtimer_start",
        "ipi_send_cpu",
        "irq_handler_entry",
        "irq_handler_exit",
        "itimer_expire",
        "itimer_state",
        "mark_victim",
        "oom_score_adj_update",
        "reclaim_retry_zone",
        "sched_kthread_stop",
        "sched_kthread_stop_ret",
        "sched_kthread_work_execute_end",
        "sched_kthread_work_execute_start",
        "sched_kthread_work_queue_work",
        "sched_migrate_task",
        "sched_pi_setprio",
        "sched_prepare_exec",
        "sched_process_exec",
        "sched_process_exit",
        "sched_process_fork",
        "sched_process_free",
        "sched_process_hang",
        "sched_process_wait",
        "sched_stat_blocked",
        "sched_stat_iowait",
        "sched_stat_runtime",
        "sched_stat_sleep",
        "sched_stat_wait",
        "sched_switch",
        "sched_wait_task",
        "sched_wake_idle_without_ipi",
        "sched_wakeup",
        "sched_wakeup_new",
        "sched_waking",
        "signal_deliver",
        "signal_generate",
        "skip_task_reaping",
        "softirq_entry",
        "softirq_exit",
        "softirq_raise",
        "start_task_reaping",
        "sys_enter",
        "sys_exit",
        "task_newtask",
        "task_rename",
        "tasklet_entry",
        "tasklet_exit",
        "tick_stop",
        "timer_cancel",
        "timer_expire_entry",
        "timer_expire_exit",
        "timer_init",
        "timer_start",
        "wake_reaper",
        "workqueue_activate_work",
        "workqueue_execute_end",
        "workqueue_execute_start",
        "workqueue_queue_work",
    )

    console: Probes
    finish_task_reaping: Probes
    hrtimer_cancel: Probes
    hrtimer_expire_entry: Probes
    hrtimer_expire_exit: Probes
    hrtimer_init: Probes
    hrtimer_start: Probes
    ipi_send_cpu: Probes
    irq_handler_entry: Probes
    irq_handler_exit: Probes
    itimer_expire: Probes
    itimer_state: Probes
    mark_victim: Probes
    oom_score_adj_update: Probes
    reclaim_retry_zone: Probes
    sched_kthread_stop: Probes
    sched_kthread_stop_ret: Probes
    sched_kthread_work_execute_end: Probes
    sched_kthread_work_execute_start: Probes
    sched_kthread_work_queue_work: Probes
    sched_migrate_task: Probes
    sched_pi_setprio: Probes
    sched_prepare_exec: Probes
    sched_process_exec: Probes
    sched_process_exit: Probes
    sched_process_fork: Probes
    sched_process_free: Probes
    sched_process_hang: Probes
    sched_process_wait: Probes
    sched_stat_blocked: Probes
    sched_stat_iowait: Probes
    sched_stat_runtime: Probes
    sched_stat_sleep: Probes
    sched_stat_wait: Probes
    sched_switch: Probes
    sched_wait_task: Probes
    sched_wake_idle_without_ipi: Probes
    sched_wakeup: Probes
    sched_wakeup_new: Probes
    sched_waking: Probes
    signal_deliver: Probes
    signal_generate: Probes
    skip_task_reaping: Probes
    softirq_entry: Probes
    softirq_exit: Probes
    softirq_raise: Probes
    start_task_reaping: Probes
    sys_enter: Probes
    sys_exit: Probes
    task_newtask: Probes
    task_rename: Probes
    tasklet_entry: Probes
    tasklet_exit: Probes
    tick_stop: Probes
    timer_cancel: Probes
    timer_expire_entry: Probes
    timer_expire_exit: Probes
    timer_init: Probes
    timer_start: Probes
    workqueue_activate_work: Probes
    workqueue_execute_end: Probes
    workqueue_execute_start: Probes
    workqueue_queue_work: Probes
    wake_reaper: Probes

    def __init__(self, machine: Machine | None = None) -> None:
        for name in self.__slots__:
            setattr(self, name, ())
        self.machine = machine


def tracepoint_probe_register(tp: Tracepoints, name: str, probe: Callable[..., Any], data: Any) -> None:
    """Call ``probe(data, *args)`` at the tracepoint from now on; -EEXIST of the kernel is an assertion here."""
    probes: Probes = getattr(tp, name)
    assert (probe, data) not in probes, f"{name}: the probe is there already"
    setattr(tp, name, (*probes, (probe, data)))
    if name in ("sys_enter", "sys_exit") and not probes:
        syscall_regfunc(tp)


def tracepoint_probe_unregister(tp: Tracepoints, name: str, probe: Callable[..., Any], data: Any) -> None:
    """Take a probe off a tracepoint."""
    probes: Probes = getattr(tp, name)
    left = tuple(p for p in probes if p[0] is not probe or p[1] is not data)
    setattr(tp, name, left)
    if name in ("sys_enter", "sys_exit") and probes and not left:
        syscall_unregfunc(tp)


def syscall_regfunc(tp: Tracepoints) -> None:
    """Send the system calls of every task the long way, where their tracepoints are (kernel/tracepoint.c).

    A new task has the flag of its creator (syscall_tracepoint_update()).
    """
    _syscall_tracepoints(tp, True)


def syscall_unregfunc(tp: Tracepoints) -> None:
    """Let them take the short way again, when neither of the two tracepoints has a probe."""
    if not tp.sys_enter and not tp.sys_exit:
        _syscall_tracepoints(tp, False)


def _syscall_tracepoints(tp: Tracepoints, wanted: bool) -> None:
    m = tp.machine
    init_task = m.__dict__.get("init_task") if m is not None else None
    if m is None or init_task is None:
        return
    bit = m.syscall_work_bits.SYSCALL_TRACEPOINT
    word = "syscall_work" if m.flavour.switches.syscall_work else "flags"
    # for_each_process_thread()
    process = init_task.tasks.next
    while process is not init_task.tasks:
        thread = process.owner.signal.thread_head.next
        while thread is not process.owner.signal.thread_head:
            info = thread.owner.thread_info
            setattr(info, word, getattr(info, word) | bit if wanted else getattr(info, word) & ~bit)
            thread = thread.next
        process = process.next
