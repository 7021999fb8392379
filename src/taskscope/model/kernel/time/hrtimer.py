"""High-resolution timers and nanosleep(): kernel/time/hrtimer.c, v4.19.

A CPU's queue is ordered by expiry (a red-black tree in C); its clock event device is programmed for the first, and
`hrtimer_interrupt` runs what is due in hard interrupt context.  The tick is one of these timers.
"""

from __future__ import annotations

import heapq
from errno import EFAULT, EINTR, EINVAL
from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTART_RESTARTBLOCK, ERESTARTNOHAND
from taskscope.model.include.linux.hrtimer import (
    CLOCK_MONOTONIC,
    HRTIMER_MODE_ABS,
    HRTIMER_MODE_REL,
    HRTIMER_NORESTART,
    Hrtimer,
)
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task, rt_task
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.trace.events import timer as trace
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import tick

if TYPE_CHECKING:
    from taskscope.model.machine import Cpu

KTIME_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF
NSEC_PER_SEC: Final = 1_000_000_000
#: default of task_struct.timer_slack_ns
TIMER_SLACK: Final = 50_000


class HrtimerCpuBase:
    """struct hrtimer_cpu_base."""

    __slots__ = ("event", "expires_next", "in_hrtirq", "queue", "seq")

    def __init__(self) -> None:
        self.queue: list[tuple[int, int, Hrtimer]] = []     # (expires, order, timer); stale where timer.node is another
        self.seq = 0
        self.expires_next = KTIME_MAX                       # what the clock event device is programmed for
        self.in_hrtirq = False
        self.event: machine.Event | None = None


def hrtimers_init() -> None:
    """Make the CPUs' queues.  Called by start_kernel()."""
    for cpu in machine.cur.cpus:
        cpu.hrtimer_bases = HrtimerCpuBase()


def hrtimer_init(timer: Hrtimer, clock_id: int, mode: int) -> None:
    """Prepare a timer."""
    timer.clockid = clock_id
    timer.mode = mode
    timer.node = None
    trace.trace_hrtimer_init(timer, clock_id, mode)


def enqueue_hrtimer(timer: Hrtimer, cpu: Cpu) -> bool:
    """Put the timer on a CPU's queue; tell whether it is the first there."""
    base: HrtimerCpuBase = cpu.hrtimer_bases
    base.seq += 1
    timer.base = cpu
    timer.node = (timer.expires, base.seq, timer)
    trace.trace_hrtimer_start(timer, timer.mode)
    heapq.heappush(base.queue, timer.node)
    return base.queue[0] is timer.node


def __hrtimer_get_next_event(base: HrtimerCpuBase) -> int:
    queue = base.queue
    while queue:
        if queue[0][2].node is queue[0]:
            return queue[0][0]
        heapq.heappop(queue)
    return KTIME_MAX


def hrtimer_force_reprogram(cpu: Cpu) -> None:
    """Program the CPU's clock event device for its first timer."""
    base: HrtimerCpuBase = cpu.hrtimer_bases
    expires_next = __hrtimer_get_next_event(base)
    if expires_next == base.expires_next:
        return
    base.expires_next = expires_next
    tick.tick_program_event(cpu, expires_next)


def hrtimer_start_range_ns(timer: Hrtimer, tim: int, delta_ns: int, mode: int) -> None:
    """Start (or restart) a timer on this CPU.

    :param tim: expiry (ns), relative to now with HRTIMER_MODE_REL
    :param delta_ns: how much later it may fire
    """
    m = machine.cur
    if mode & HRTIMER_MODE_REL:
        tim += m.now
    timer.softexpires = tim
    timer.expires = min(tim + delta_ns, KTIME_MAX)
    timer.mode = mode
    timer.node = None                                       # remove_hrtimer()
    base: HrtimerCpuBase = m.cpu.hrtimer_bases
    # hrtimer_reprogram(): the interrupt handler programs the device by itself when it is done.
    if enqueue_hrtimer(timer, m.cpu) and not base.in_hrtirq and timer.expires < base.expires_next:
        base.expires_next = timer.expires
        tick.tick_program_event(m.cpu, timer.expires)


def hrtimer_start(timer: Hrtimer, tim: int, mode: int) -> None:
    """Start a timer exactly."""
    hrtimer_start_range_ns(timer, tim, 0, mode)


def hrtimer_start_expires(timer: Hrtimer, mode: int) -> None:
    """Start a timer for the expiry that it has."""
    hrtimer_start_range_ns(timer, timer.softexpires, timer.expires - timer.softexpires, mode)


def hrtimer_try_to_cancel(timer: Hrtimer) -> int:
    """Stop a timer; return whether it was active."""
    if timer.node is None:
        return 0
    timer.node = None
    trace.trace_hrtimer_cancel(timer)
    # The device is left programmed: the interrupt finds nothing to do, as in C it would be for a later timer.
    return 1


def hrtimer_cancel(timer: Hrtimer) -> int:
    """Stop a timer; return whether it was active."""
    return hrtimer_try_to_cancel(timer)


def hrtimer_active(timer: Hrtimer) -> bool:
    """Tell whether the timer is on a queue."""
    return timer.node is not None


def hrtimer_get_remaining(timer: Hrtimer) -> int:
    """Return the ns until it fires; negative if that is past."""
    return timer.expires - machine.cur.now


def hrtimer_forward(timer: Hrtimer, now: int, interval: int) -> int:
    """Move the expiry past `now` by multiples of `interval`; return how many."""
    delta = now - timer.expires
    if delta < 0:
        return 0
    overrun = delta // interval + 1
    timer.softexpires += overrun * interval
    timer.expires += overrun * interval
    return overrun


def __run_hrtimer(timer: Hrtimer, now: int) -> None:
    timer.node = None                                       # __remove_hrtimer()
    trace.trace_hrtimer_expire_entry(timer, now)
    assert timer.function is not None, "a timer that runs has a function"
    restart = timer.function(timer)
    trace.trace_hrtimer_expire_exit(timer)
    if restart != HRTIMER_NORESTART and timer.node is None:
        enqueue_hrtimer(timer, machine.cur.cpu)


def __hrtimer_run_queues(base: HrtimerCpuBase, now: int) -> None:
    queue = base.queue
    while queue:
        node = queue[0]
        timer = node[2]
        if timer.node is not node:
            heapq.heappop(queue)
            continue
        # The immediate goal for using the softexpires is minimizing wakeups, not running timers at the earliest
        # interrupt after their soft expiration: those that are not first stay even if they may fire.
        if timer.softexpires > now:
            break
        heapq.heappop(queue)
        __run_hrtimer(timer, now)


def hrtimer_interrupt() -> None:
    """Handle the clock event device's interrupt.  Context: hard interrupt, irqs off."""
    m = machine.cur
    cpu = m.cpu
    base: HrtimerCpuBase = cpu.hrtimer_bases
    base.in_hrtirq = True
    # Set the expiry to the maximum: a timer that is started meanwhile does not program the device.
    base.expires_next = KTIME_MAX
    __hrtimer_run_queues(base, m.now)
    base.in_hrtirq = False
    hrtimer_force_reprogram(cpu)


# ---- sleeping ----------------------------------------------------------------------------------------------


class HrtimerSleeper:
    """struct hrtimer_sleeper."""

    __slots__ = ("task", "timer")

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task
        self.timer = Hrtimer(self)


def hrtimer_wakeup(timer: Hrtimer) -> int:
    """Wake the sleeper whose time is over."""
    t: HrtimerSleeper = timer.owner
    task = t.task
    t.task = None
    if task is not None:
        core.wake_up_process(task)
    return HRTIMER_NORESTART


def hrtimer_init_sleeper(sl: HrtimerSleeper, task: Task) -> None:
    """Let the timer wake the task."""
    sl.timer.function = hrtimer_wakeup
    sl.task = task


def do_nanosleep(t: HrtimerSleeper, mode: int) -> int:
    """Sleep until the timer fires or a signal comes; return 0 or the negative errno of the restart."""
    m = machine.cur
    current = m.cpu.curr
    hrtimer_init_sleeper(t, current)
    while True:
        current.state = TASK_INTERRUPTIBLE
        hrtimer_start_expires(t.timer, mode)
        if t.task is not None:
            core.schedule()
        hrtimer_cancel(t.timer)
        mode = HRTIMER_MODE_ABS
        if t.task is None or signal_pending(current):
            break
    current.state = TASK_RUNNING
    if t.task is None:
        return 0
    restart = current.restart_block
    if isinstance(restart, RestartBlock) and restart.rmtp:
        rem = hrtimer_get_remaining(t.timer)
        if rem <= 0:
            return 0
        if put_user(divmod(rem, NSEC_PER_SEC), restart.rmtp):  # nanosleep_copyout()
            return -EFAULT
    return -ERESTART_RESTARTBLOCK


def schedule_hrtimeout_range(expires: int | None, delta: int, mode: int) -> int:
    """Sleep until somebody wakes us or a time is over; the caller has set the task's state.

    :param expires: ns, relative or absolute as `mode` says; None for no limit
    :param delta: how many ns later is late enough
    :return: 0 if the time is over, else -EINTR
    """
    current = machine.cur.cpu.curr
    # Optimize when a zero timeout value is given.  It does not matter whether this is an absolute or a relative time.
    if expires == 0:
        current.state = TASK_RUNNING
        return 0
    # A NULL parameter means "infinite"
    if expires is None:
        core.schedule()
        return -EINTR
    t = HrtimerSleeper(current)
    hrtimer_init(t.timer, CLOCK_MONOTONIC, mode)
    hrtimer_init_sleeper(t, current)
    hrtimer_start_range_ns(t.timer, expires, delta, mode)
    if t.task is not None:
        core.schedule()
    hrtimer_cancel(t.timer)
    current.state = TASK_RUNNING
    return 0 if t.task is None else -EINTR


class RestartBlock:
    """struct restart_block of a nanosleep."""

    __slots__ = ("clockid", "expires", "fn", "rmtp")

    def __init__(self, fn: Any, clockid: int, expires: int, rmtp: Any) -> None:
        self.fn = fn
        self.clockid = clockid
        self.expires = expires
        self.rmtp = rmtp


def do_no_restart_syscall(restart: RestartBlock) -> int:
    """Refuse restart_syscall(), as there is nothing to go on with (kernel/signal.c)."""
    del restart
    return -EINTR


def hrtimer_nanosleep_restart(restart: RestartBlock) -> int:
    """Go on with a nanosleep that a signal without a handler interrupted, up to the same end."""
    t = HrtimerSleeper(machine.cur.cpu.curr)
    hrtimer_init(t.timer, restart.clockid, HRTIMER_MODE_ABS)
    t.timer.softexpires = t.timer.expires = restart.expires
    return do_nanosleep(t, HRTIMER_MODE_ABS)


def hrtimer_nanosleep(rqtp: int, mode: int, clockid: int, rmtp: Any = None) -> int:
    """Sleep for (or, with HRTIMER_MODE_ABS, until) `rqtp` ns.

    :param rmtp: user pointer for what is left of a relative sleep that a signal ends, or None
    :return: 0 or a negative errno
    """
    m = machine.cur
    current = m.cpu.curr
    slack = 0 if rt_task(current) else TIMER_SLACK
    t = HrtimerSleeper(current)
    hrtimer_init(t.timer, clockid, mode)
    t.timer.softexpires = rqtp + (m.now if mode == HRTIMER_MODE_REL else 0)
    t.timer.expires = t.timer.softexpires + slack
    current.restart_block = RestartBlock(do_no_restart_syscall, clockid, t.timer.expires, None)
    if mode == HRTIMER_MODE_REL:
        current.restart_block.rmtp = rmtp
    ret = do_nanosleep(t, HRTIMER_MODE_ABS)
    if ret != -ERESTART_RESTARTBLOCK:
        return ret
    # Absolute timers do not update the rmtp value and restart: they just sleep again, with the same arguments.
    if mode == HRTIMER_MODE_ABS:
        return -ERESTARTNOHAND
    current.restart_block.fn = hrtimer_nanosleep_restart
    current.restart_block.expires = t.timer.expires
    return ret


def timespec_ns(value: tuple[int, int]) -> int | None:
    """Return a timespec (s, ns) in ns, None if it is not valid."""
    sec, nsec = value
    if sec < 0 or not 0 <= nsec < NSEC_PER_SEC:
        return None
    return min(sec * NSEC_PER_SEC + nsec, KTIME_MAX)


def sys_nanosleep(rqtp: tuple[int, int], rmtp: Any = None) -> int:
    """Sleep for a timespec: nanosleep(2)."""
    ns = timespec_ns(rqtp)
    if ns is None:
        return -EINVAL
    return hrtimer_nanosleep(ns, HRTIMER_MODE_REL, 1, rmtp)
