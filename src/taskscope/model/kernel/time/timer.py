"""Timers in jiffies and sleeping with a timeout: kernel/time/timer.c, v4.19.

The wheel's levels round far timers up, so that they can fire together: that rounding is kept, the wheel itself is an
ordered queue per CPU.  Expired timers run in TIMER_SOFTIRQ.

Not modelled: the base for deferrable timers, moving timers away from idle CPUs.
"""

from __future__ import annotations

import heapq
import sys
from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.interrupt import TIMER_SOFTIRQ
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_KILLABLE, TASK_UNINTERRUPTIBLE, Task
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.trace.events import timer as trace
from taskscope.model.kernel import softirq
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import core, cputime, loadavg
from taskscope.model.kernel.time import posix_cpu_timers

MAX_SCHEDULE_TIMEOUT: Final = sys.maxsize
LVL_CLK_SHIFT: Final = 3
LVL_BITS: Final = 6
LVL_DEPTH: Final = 9


class TimerBase:
    """struct timer_base of a CPU."""

    __slots__ = ("queue", "running", "seq")

    def __init__(self) -> None:
        self.queue: list[tuple[int, int, TimerList]] = []   # (jiffy in which it fires, order, timer)
        self.seq = 0
        self.running: TimerList | None = None


def init_timers() -> None:
    """Make the CPUs' bases.  Called by start_kernel()."""
    for cpu in machine.cur.cpus:
        cpu.timer_base = TimerBase()
    softirq.open_softirq(TIMER_SOFTIRQ, run_timer_softirq)


def calc_index(expires: int, now: int) -> int:
    """Return the jiffy in which a timer fires: the wheel rounds up to the granularity of the level that it is on."""
    delta = expires - now
    for lvl in range(LVL_DEPTH):
        if lvl == LVL_DEPTH - 1 or delta < 63 << LVL_CLK_SHIFT * lvl:
            shift = LVL_CLK_SHIFT * lvl
            return (expires + (1 << shift)) >> shift << shift
    raise AssertionError("a level is always found")


def __mod_timer(timer: TimerList, expires: int, cpu: machine.Cpu | None = None) -> int:
    m = machine.cur
    ret = 1 if timer.node is not None else 0
    cpu = cpu or m.cpu
    base: TimerBase = cpu.timer_base
    timer.base = cpu
    timer.expires = expires
    base.seq += 1
    timer.node = (max(calc_index(expires, m.jiffies), m.jiffies + 1), base.seq, timer)
    heapq.heappush(base.queue, timer.node)
    trace.trace_timer_start(timer, expires, 0)
    return ret


def mod_timer(timer: TimerList, expires: int) -> int:
    """Let the timer fire at `expires` (jiffies), whether it was pending (returns 1) or not (0)."""
    return __mod_timer(timer, expires)


def add_timer(timer: TimerList) -> None:
    """Start a timer that is not pending, for ``timer.expires``."""
    assert timer.node is None, "add_timer() of a pending timer"
    __mod_timer(timer, timer.expires)


def add_timer_on(timer: TimerList, cpu: int) -> None:
    """Start a timer that is not pending, for ``timer.expires``, on some CPU."""
    m = machine.cur
    assert timer.node is None, "add_timer_on() of a pending timer"
    __mod_timer(timer, timer.expires, m.cpus[cpu])
    if cpu != m.cpu.id:
        core.wake_up_nohz_cpu(cpu)                          # trigger_dyntick_cpu(): it looks at its timers anew


def del_timer(timer: TimerList) -> int:
    """Stop a timer; return whether it was pending."""
    if timer.node is None:
        return 0
    timer.node = None                                       # its entry in the queue is found to be stale later
    trace.trace_timer_cancel(timer)
    return 1


del_timer_sync = del_timer                                  # a handler is one step: it never runs while we look


def next_timer_interrupt() -> int | None:
    """Return the jiffy in which the next timer of this CPU fires, None if there is none."""
    base: TimerBase = machine.cur.cpu.timer_base
    queue = base.queue
    while queue:
        if queue[0][2].node is queue[0]:
            return queue[0][0]
        heapq.heappop(queue)
    return None


def call_timer_fn(timer: TimerList) -> None:
    """Call the timer's function."""
    trace.trace_timer_expire_entry(timer, machine.cur.jiffies)
    timer.function(timer)
    trace.trace_timer_expire_exit(timer)


def __run_timers(base: TimerBase) -> None:
    m = machine.cur
    queue = base.queue
    while queue and queue[0][0] <= m.jiffies:
        node = heapq.heappop(queue)
        timer = node[2]
        if timer.node is not node:
            continue
        base.running = timer
        timer.node = None                                   # detach_timer()
        call_timer_fn(timer)
        base.running = None


def run_timer_softirq() -> None:
    """Handle TIMER_SOFTIRQ: fire the timers that are due."""
    __run_timers(machine.cur.cpu.timer_base)


def run_local_timers() -> None:
    """Raise TIMER_SOFTIRQ if timers are due.  Context: hard interrupt."""
    due = next_timer_interrupt()
    if due is not None and due <= machine.cur.jiffies:
        softirq.raise_softirq_irqoff(TIMER_SOFTIRQ)


def update_process_times(user_tick: bool) -> None:
    """Charge the tick to the process that it interrupted, and run what the tick runs.  Context: hard interrupt."""
    p = machine.cur.cpu.curr
    # Note: this timer irq context must be accounted for as well.
    cputime.account_process_tick(p, user_tick)
    run_local_timers()
    rcu_tree.rcu_check_callbacks(user_tick)
    core.scheduler_tick()
    if p.signal.it is not None:
        posix_cpu_timers.run_posix_cpu_timers(p)


def do_timer(ticks: int) -> None:
    """Advance jiffies.  Context: jiffies_lock, which one CPU's tick holds."""
    machine.cur.jiffies += ticks
    loadavg.calc_global_load(ticks)


def process_timeout(t: TimerList) -> None:
    """Wake the task whose timeout is over."""
    task: Task = t.owner
    core.wake_up_process(task)


def schedule_timeout(timeout: int) -> int:
    """Sleep until somebody wakes us or `timeout` jiffies are over; the caller has set the task's state.

    :return: what is left (jiffies), 0 if the time is over; MAX_SCHEDULE_TIMEOUT sleeps without a limit
    """
    if timeout == MAX_SCHEDULE_TIMEOUT:
        core.schedule()
        return timeout
    m = machine.cur
    assert timeout >= 0, f"schedule_timeout: wrong timeout value {timeout:x}"
    expire = timeout + m.jiffies
    timer = TimerList(process_timeout, m.cpu.curr)
    trace.trace_timer_init(timer)
    __mod_timer(timer, expire)
    core.schedule()
    del_timer(timer)                                        # del_singleshot_timer_sync()
    timeout = expire - m.jiffies
    return 0 if timeout < 0 else timeout


def schedule_timeout_interruptible(timeout: int) -> int:
    """Sleep in TASK_INTERRUPTIBLE for at most `timeout` jiffies."""
    machine.cur.cpu.curr.state = TASK_INTERRUPTIBLE
    return schedule_timeout(timeout)


def schedule_timeout_killable(timeout: int) -> int:
    """Sleep in TASK_KILLABLE for at most `timeout` jiffies."""
    machine.cur.cpu.curr.state = TASK_KILLABLE
    return schedule_timeout(timeout)


def schedule_timeout_uninterruptible(timeout: int) -> int:
    """Sleep in TASK_UNINTERRUPTIBLE for `timeout` jiffies."""
    machine.cur.cpu.curr.state = TASK_UNINTERRUPTIBLE
    return schedule_timeout(timeout)


def msecs_to_jiffies(ms: int) -> int:
    """Return the jiffies that last at least `ms`."""
    return -(-ms * machine.cur.hz // 1000)


def msleep(msecs: int) -> None:
    """Sleep for at least `msecs`, whatever signals come."""
    timeout = msecs_to_jiffies(msecs) + 1
    while timeout:
        timeout = schedule_timeout_uninterruptible(timeout)


def msleep_interruptible(msecs: int) -> int:
    """Sleep for `msecs` or until a signal comes; return the ms that are left."""
    timeout = msecs_to_jiffies(msecs) + 1
    while timeout and not signal_pending(machine.cur.cpu.curr):
        timeout = schedule_timeout_interruptible(timeout)
    return timeout * 1000 // machine.cur.hz


