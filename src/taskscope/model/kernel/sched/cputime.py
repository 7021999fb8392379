"""User and system time of tasks: kernel/sched/cputime.c, v4.19, CONFIG_TICK_CPU_ACCOUNTING.

The tick charges a whole tick to whatever it interrupts; what is reported scales these samples to the exact run time.
"""

from __future__ import annotations

from typing import NamedTuple

from taskscope.abi.preempt import HARDIRQ_OFFSET, SOFTIRQ_MASK, SOFTIRQ_OFFSET
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import Task
from taskscope.model.kernel.sched import core


class TaskCputime(NamedTuple):
    """struct task_cputime: ns."""

    utime: int
    stime: int
    sum_exec_runtime: int


#: kcpustat.cpustat of a CPU, by the names of /proc/stat's columns
CPUTIME = ("user", "nice", "system", "softirq", "irq", "idle", "iowait")


def kcpustat(cpu: machine.Cpu) -> dict[str, int]:
    """Return the CPU's times (ns) by kind."""
    stat: dict[str, int] | None = cpu.pcpu.get("kcpustat")
    if stat is None:
        stat = cpu.pcpu["kcpustat"] = dict.fromkeys(CPUTIME, 0)
    return stat


def account_user_time(p: Task, cputime: int) -> None:
    """Charge user time to a task."""
    p.utime += cputime
    index = "nice" if p.static_prio > 120 else "user"
    kcpustat(machine.cur.cpu)[index] += cputime


def account_system_index_time(p: Task, cputime: int, index: str) -> None:
    """Charge system time to a task, and to the given kind of the CPU's times."""
    p.stime += cputime
    kcpustat(machine.cur.cpu)[index] += cputime


def account_system_time(p: Task, hardirq_offset: int, cputime: int) -> None:
    """Charge system time: to interrupts or softirqs if the tick interrupted one."""
    count = machine.cur.cpu.preempt_count
    if (count & 0xF0000) - hardirq_offset:
        index = "irq"
    elif count & SOFTIRQ_MASK & SOFTIRQ_OFFSET:
        index = "softirq"
    else:
        index = "system"
    account_system_index_time(p, cputime, index)


def account_idle_time(cputime: int) -> None:
    """Charge idle time to the CPU."""
    cpu = machine.cur.cpu
    kcpustat(cpu)["iowait" if cpu.rq.nr_iowait > 0 else "idle"] += cputime


def account_process_tick(p: Task, user_tick: bool) -> None:
    """Charge one tick to what it interrupted."""
    m = machine.cur
    cputime = m.tick_nsec
    if user_tick:
        account_user_time(p, cputime)
    elif p is not m.cpu.rq.idle or m.cpu.preempt_count & 0xFFF00 != HARDIRQ_OFFSET:
        account_system_time(p, HARDIRQ_OFFSET, cputime)
    else:
        account_idle_time(cputime)


def cputime_adjust(stime: int, utime: int, rtime: int) -> tuple[int, int]:
    """Scale sampled times to the exact run time; return (utime, stime).

    Not modelled: struct prev_cputime, which keeps what was once reported from going down.
    """
    if stime == 0:
        return rtime, 0
    if utime == 0:
        return 0, rtime
    stime = stime * rtime // (stime + utime)
    return rtime - stime, stime


def task_cputime_adjusted(p: Task) -> tuple[int, int]:
    """Return a task's (utime, stime), scaled to its run time."""
    return cputime_adjust(p.stime, p.utime, core.task_sched_runtime(p))


def thread_group_cputime(tsk: Task) -> TaskCputime:
    """Sum the times of all threads of the process, dead ones too."""
    sig = tsk.signal
    utime, stime, runtime = sig.utime, sig.stime, sig.sum_sched_runtime
    for t in list_for_each_entry(sig.thread_head):
        utime += t.utime
        stime += t.stime
        runtime += core.task_sched_runtime(t)
    return TaskCputime(utime, stime, runtime)


def thread_group_cputime_adjusted(p: Task) -> tuple[int, int]:
    """Return a process's (utime, stime), scaled to its run time."""
    times = thread_group_cputime(p)
    return cputime_adjust(times.stime, times.utime, times.sum_exec_runtime)
