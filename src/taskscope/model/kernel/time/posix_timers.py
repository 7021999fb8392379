"""Clocks: clock_gettime() and its relatives: kernel/time/posix-timers.c, time.c, timekeeping.c, v4.19.

Not modelled: setting the clock, timer_create().
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, EOPNOTSUPP
from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_ABS, HRTIMER_MODE_REL
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.kernel.sched import core, cputime
from taskscope.model.kernel.time import hrtimer

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
TIMER_ABSTIME: Final = 1
NSEC_PER_SEC: Final = 1_000_000_000
#: what the wall clock shows at power-on: 2019-09-26 00:24:00 UTC
BOOT_EPOCH: Final = 1_569_457_440 * NSEC_PER_SEC


def clock_get(which: int) -> int | None:
    """Return what a clock shows (ns), None if there is no such clock."""
    m = machine.cur
    now = m.now
    if which in (CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE):
        now = m.jiffies * m.tick_nsec
    if which in (CLOCK_REALTIME, CLOCK_REALTIME_COARSE):
        return now + BOOT_EPOCH
    if which in (CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME):
        return now
    if which == CLOCK_THREAD_CPUTIME_ID:
        return core.task_sched_runtime(m.cpu.curr)
    if which == CLOCK_PROCESS_CPUTIME_ID:
        return cputime.thread_group_cputime(m.cpu.curr).sum_exec_runtime
    return None


def sys_clock_gettime(which_clock: int, tp: Any) -> int:
    """Store what a clock shows as (s, ns): clock_gettime(2)."""
    now = clock_get(which_clock)
    if now is None:
        return -EINVAL
    return -EFAULT if put_user(divmod(now, NSEC_PER_SEC), tp) else 0


def sys_clock_getres(which_clock: int, tp: Any) -> int:
    """Store the resolution of a clock: clock_getres(2)."""
    if clock_get(which_clock) is None:
        return -EINVAL
    res = machine.cur.tick_nsec if which_clock in (CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE) else 1
    return -EFAULT if tp and put_user((0, res), tp) else 0


def sys_gettimeofday(tv: Any, tz: Any) -> int:
    """Store the wall clock as (s, us): gettimeofday(2)."""
    now = machine.cur.now + BOOT_EPOCH
    if tv and put_user((now // NSEC_PER_SEC, now % NSEC_PER_SEC // 1000), tv):
        return -EFAULT
    return -EFAULT if tz and put_user((0, 0), tz) else 0


def sys_clock_nanosleep(which_clock: int, flags: int, rqtp: tuple[int, int], rmtp: Any) -> int:
    """Sleep for, or with TIMER_ABSTIME until, a time of a clock: clock_nanosleep(2)."""
    if which_clock in (CLOCK_THREAD_CPUTIME_ID, CLOCK_PROCESS_CPUTIME_ID):
        return -EINVAL if which_clock == CLOCK_THREAD_CPUTIME_ID else -EOPNOTSUPP
    if which_clock not in (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME):
        return -EINVAL if clock_get(which_clock) is None else -EOPNOTSUPP
    ns = hrtimer.timespec_ns(rqtp)
    if ns is None:
        return -EINVAL
    if flags & TIMER_ABSTIME:
        base = BOOT_EPOCH if which_clock == CLOCK_REALTIME else 0
        return hrtimer.hrtimer_nanosleep(ns - base, HRTIMER_MODE_ABS, which_clock, None)
    return hrtimer.hrtimer_nanosleep(ns, HRTIMER_MODE_REL, which_clock, rmtp)
