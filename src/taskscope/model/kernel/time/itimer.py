"""Interval timers and alarm(): kernel/time/itimer.c, v4.19.

ITIMER_REAL is an hrtimer of the process that sends SIGALRM.  ITIMER_VIRTUAL and ITIMER_PROF run on its CPU time
(posix_cpu_timers).
"""

from __future__ import annotations

from errno import EFAULT, EINVAL
from typing import Any, Final

import taskscope.model.kernel.signal.kill as signal_kill
from taskscope.model import machine
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_REL, HRTIMER_NORESTART, Hrtimer
from taskscope.model.include.linux.sched_signal import SignalStruct
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.trace.events import timer as trace
from taskscope.model.kernel.time import hrtimer, posix_cpu_timers

ITIMER_REAL: Final = 0
ITIMER_VIRTUAL: Final = 1
ITIMER_PROF: Final = 2
SIGALRM: Final = 14
SEND_SIG_PRIV: Final = 1
NSEC_PER_SEC: Final = 1_000_000_000
#: CPUCLOCK_VIRT, CPUCLOCK_PROF
_CPU_CLOCKS: Final = {ITIMER_VIRTUAL: 1, ITIMER_PROF: 0}


class RealTimer:
    """signal_struct.real_timer and it_real_incr."""

    __slots__ = ("incr", "signal", "timer")

    def __init__(self, signal: SignalStruct) -> None:
        self.signal = signal
        self.timer = Hrtimer(self)
        self.timer.function = it_real_fn
        self.incr = 0                           # ns between two signals, 0 for one only


def itimer_get_remtime(timer: Hrtimer) -> int:
    """Return the ns until the timer fires, 0 if it is not started; at least a microsecond if it is."""
    if not hrtimer.hrtimer_active(timer):
        return 0
    return max(hrtimer.hrtimer_get_remaining(timer), 1_000)


def it_real_fn(timer: Hrtimer) -> int:
    """Send SIGALRM: the timer is restarted when the signal is dequeued.  Context: hard interrupt."""
    real: RealTimer = timer.owner
    leader_pid = real.signal.pids[1]            # PIDTYPE_TGID
    trace.trace_itimer_expire(ITIMER_REAL, leader_pid, machine.cur.now)
    signal_kill.kill_pid_info(SIGALRM, SEND_SIG_PRIV, leader_pid)
    return HRTIMER_NORESTART


def restart_real_timer(signal: SignalStruct) -> None:
    """Start the timer again when its SIGALRM is dequeued, so that a program that is slow gets no storm of them."""
    real: RealTimer | None = signal.real_timer
    if real is not None and not hrtimer.hrtimer_active(real.timer) and real.incr:
        hrtimer.hrtimer_forward(real.timer, machine.cur.now, real.incr)
        hrtimer.hrtimer_start(real.timer, real.timer.expires, 0)


def hrtimer_cancel_real_timer(signal: SignalStruct) -> None:
    """Stop the timer of a process that exits."""
    real: RealTimer | None = signal.real_timer
    if real is not None:
        hrtimer.hrtimer_cancel(real.timer)


def do_setitimer(which: int, value: tuple[int, int], ovalue: list[int] | None) -> int:
    """Set a timer.

    :param value: (ns between signals, ns until the first); 0 stops it
    :param ovalue: filled with what it was before
    :return: 0 or -EINVAL
    """
    m = machine.cur
    signal = m.cpu.curr.signal
    if which in _CPU_CLOCKS:
        posix_cpu_timers.set_cpu_itimer(m.cpu.curr, _CPU_CLOCKS[which], value, ovalue)
        return 0
    if which != ITIMER_REAL:
        return -EINVAL
    real: RealTimer | None = signal.real_timer
    if real is None:                            # made by copy_signal() in C
        real = signal.real_timer = RealTimer(signal)
    incr, first = value
    if ovalue is not None:
        ovalue[:] = [real.incr, itimer_get_remtime(real.timer)]
    hrtimer.hrtimer_cancel(real.timer)
    real.incr = incr if first else 0
    if first:
        hrtimer.hrtimer_start(real.timer, first, HRTIMER_MODE_REL)
    trace.trace_itimer_state(ITIMER_REAL, (*divmod(first, NSEC_PER_SEC), *divmod(incr, NSEC_PER_SEC)), 0)
    return 0


def sys_alarm(seconds: int) -> int:
    """Let SIGALRM come in `seconds`; return the seconds that were left of the last one: alarm(2)."""
    old: list[int] = []
    do_setitimer(ITIMER_REAL, (0, seconds * NSEC_PER_SEC), old)
    left = old[1]
    # We can't return 0 if we have an alarm pending ... and we'd better return too much than too little anyway.
    sec, nsec = divmod(left, NSEC_PER_SEC)
    return sec + 1 if (not sec and nsec) or nsec >= NSEC_PER_SEC // 2 else sec


def _timeval(ns: int) -> tuple[int, int]:
    sec, nsec = divmod(ns, NSEC_PER_SEC)
    return sec, nsec // 1000


def _ns(value: tuple[int, int]) -> int | None:
    sec, usec = value
    return None if sec < 0 or not 0 <= usec < 1_000_000 else sec * NSEC_PER_SEC + usec * 1000


def sys_setitimer(which: int, value: Any, ovalue: Any) -> int:
    """Set an interval timer: setitimer(2); values are ((s, us) interval, (s, us) until the first signal)."""
    incr, first = (_ns(value[0]), _ns(value[1])) if value else (0, 0)
    if incr is None or first is None:
        return -EINVAL
    old: list[int] = []
    error = do_setitimer(which, (incr, first), old)
    if error or not ovalue:
        return error
    return -EFAULT if put_user((_timeval(old[0]), _timeval(old[1])), ovalue) else 0


def sys_getitimer(which: int, value: Any) -> int:
    """Store an interval timer: getitimer(2)."""
    current = machine.cur.cpu.curr
    real: RealTimer | None = current.signal.real_timer
    if which in _CPU_CLOCKS:
        now = posix_cpu_timers.get_cpu_itimer(current, _CPU_CLOCKS[which])
    elif which != ITIMER_REAL:
        return -EINVAL
    else:
        now = (0, 0) if real is None else (real.incr, itimer_get_remtime(real.timer))
    return -EFAULT if put_user((_timeval(now[0]), _timeval(now[1])), value) else 0
