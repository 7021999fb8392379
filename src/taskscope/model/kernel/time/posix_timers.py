"""Clocks and the timers on them: kernel/time/posix-timers.c, time.c, v4.19.

A timer has a queue entry of its own, and its signal is pending once: expiries meanwhile are counted as its overrun.  A
timer with an interval is started again when its signal is taken (posixtimer_rearm()), so that nobody is drowned in
signals.  v6.13 checks, when a signal is taken, that its timer is still set as it was (``timer_signals_checked``).

Not modelled: setting clocks, CLOCK_TAI, the alarm clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EAGAIN, EFAULT, EINVAL, EOPNOTSUPP
from typing import Any, Final, NamedTuple

from taskscope.model import machine
from taskscope.model.include.linux.hrtimer import (
    HRTIMER_MODE_ABS,
    HRTIMER_MODE_REL,
    HRTIMER_NORESTART,
    HRTIMER_RESTART,
    Hrtimer,
)
from taskscope.model.include.linux.list import list_add_tail
from taskscope.model.include.linux.pid import PIDTYPE_PID, PIDTYPE_TGID, Pid
from taskscope.model.include.linux.sched import Task, same_thread_group
from taskscope.model.include.linux.sched_signal import (
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    SIGEV_THREAD_ID,
    Sigevent,
    SignalStruct,
    SigqueuePrealloc,
    TimerSiginfo,
)
from taskscope.model.include.linux.spinlock import spin_lock_irq, spin_unlock_irq
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.kernel import pid as pid_
from taskscope.model.kernel.sched import core, cputime
from taskscope.model.kernel.signal import send, sigqueue
from taskscope.model.kernel.time import hrtimer, posix_cpu_timers

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
TIMER_ABSTIME: Final = 1
SIGALRM: Final = 14
INT_MAX: Final = 0x7FFF_FFFF
REQUEUE_PENDING: Final = 1
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
        # Not modelled: sleeping until the own process has run for a time (posix_cpu_nsleep()).
        return -EOPNOTSUPP
    if which_clock not in (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME):
        return -EINVAL if clock_get(which_clock) is None else -EOPNOTSUPP
    ns = hrtimer.timespec_ns(rqtp)
    if ns is None:
        return -EINVAL
    if flags & TIMER_ABSTIME:
        base = BOOT_EPOCH if which_clock == CLOCK_REALTIME else 0
        return hrtimer.hrtimer_nanosleep(ns - base, HRTIMER_MODE_ABS, which_clock, None)
    return hrtimer.hrtimer_nanosleep(ns, HRTIMER_MODE_REL, which_clock, rmtp)


# ---- timers ---------------------------------------------------------------------------------------------

class KItimer:
    """struct k_itimer."""

    __slots__ = (
        "it_active",
        "it_clock",
        "it_expires",
        "it_id",
        "it_interval",
        "it_overrun",
        "it_overrun_last",
        "it_pid",
        "it_requeue_pending",
        "it_sigev_notify",
        "it_signal",
        "it_signal_seq",
        "it_sigqueue_seq",
        "it_task",
        "it_thread",
        "kclock",
        "sigq",
        "timer",
    )

    def __init__(self, it_id: int, it_clock: int, kclock: KClock, it_signal: SignalStruct) -> None:
        self.it_id = it_id
        self.it_clock = it_clock
        self.kclock = kclock
        self.it_signal: SignalStruct | None = it_signal     # None: deleted
        self.it_pid: Pid | None = None                      # whom the signal is for
        self.it_sigev_notify = SIGEV_SIGNAL
        self.sigq: SigqueuePrealloc = None  # type: ignore[assignment]  # set by do_timer_create()
        self.it_interval = 0                                # ns, 0: it expires once
        self.it_active = False
        self.it_overrun = -1                                # expiries since the last signal, less the one it tells
        self.it_overrun_last = 0                            # of the signal that was taken last
        self.it_requeue_pending = 0                         # odd: the signal has been sent and not yet taken
        self.it_signal_seq = 0                              # changes whenever the timer is set (v6.13)
        self.it_sigqueue_seq = 0                            # what it was when the signal was sent
        self.timer = Hrtimer(self)                          # it.real.timer
        # it.cpu:
        self.it_thread = False                              # the clock is that of a thread
        self.it_task: Task | None = None
        self.it_expires = 0


class PosixTimers:
    """signal_struct.posix_timers, posix_timer_id, ignored_posix_timers.  Guarded by siglock."""

    __slots__ = ("by_id", "ignored", "next_id")

    def __init__(self) -> None:
        self.by_id: dict[int, KItimer] = {}
        self.next_id = 0
        self.ignored: list[KItimer] = []                    # that rest until their signal is not ignored (v6.13)


class KClock(NamedTuple):
    """struct k_clock: what a clock does for its timers."""

    timer_create: Callable[[KItimer], int]
    timer_set: Callable[[KItimer, bool, int, int], int]     # (timer, absolute?, interval, first)
    timer_get: Callable[[KItimer], tuple[int, int]]         # (interval, what is left)
    timer_rearm: Callable[[KItimer], None]
    timer_del: Callable[[KItimer], None]


def timer_overrun_to_int(timr: KItimer, baseval: int) -> int:
    """Return the overrun as siginfo and timer_getoverrun(2) have it."""
    return min(timr.it_overrun_last + baseval, INT_MAX)


def common_hrtimer_rearm(timr: KItimer) -> None:
    """Start a timer for its next interval, and count those that are over."""
    timr.it_overrun += hrtimer.hrtimer_forward(timr.timer, machine.cur.now, timr.it_interval)
    hrtimer.hrtimer_start(timr.timer, timr.timer.expires, HRTIMER_MODE_ABS)


def posixtimer_rearm(info: TimerSiginfo) -> bool:
    """Start a timer again as its signal is taken; False if there is no signal (v6.13: the timer was set since).

    posixtimer_deliver_signal() since v6.13.

    Context: siglock held.
    """
    signal = machine.cur.cpu.curr.signal
    checked = machine.cur.flavour.switches.timer_signals_checked
    timers: PosixTimers | None = signal.posix_timers
    timr = None if timers is None else timers.by_id.get(info.si_tid)
    if timr is None or (checked and timr.it_signal_seq != timr.it_sigqueue_seq):
        info.si_sys_private = 0
        return not checked
    if timr.it_interval and (checked or timr.it_requeue_pending == info.si_sys_private):
        timr.kclock.timer_rearm(timr)
        timr.it_active = True
        timr.it_overrun_last = timr.it_overrun
        timr.it_overrun = -1
        timr.it_requeue_pending += 1
        timr.it_signal_seq += 1
        info.si_overrun = timer_overrun_to_int(timr, info.si_overrun)
    info.si_sys_private = 0
    return True


def posix_timer_event(timr: KItimer, si_private: int) -> bool:
    """Send a timer's signal; True if it was not sent, as it is ignored."""
    assert isinstance(timr.sigq.info, TimerSiginfo)
    timr.sigq.info.si_sys_private = si_private
    timr.it_sigqueue_seq = timr.it_signal_seq
    type_ = PIDTYPE_PID if timr.it_sigev_notify & SIGEV_THREAD_ID else PIDTYPE_TGID
    # If we failed to send the signal the timer stops.
    ignored = send.send_sigqueue(timr.sigq, timr.it_pid, type_) > 0
    if ignored and timr.it_interval and machine.cur.flavour.switches.timer_signals_checked:
        signal = timr.it_signal
        assert signal is not None
        if timr not in signal.posix_timers.ignored:
            signal.posix_timers.ignored.append(timr)
        return False
    return ignored


def posix_timer_fn(timer: Hrtimer) -> int:
    """Let a timer expire.

    Context: hard interrupt.
    """
    m = machine.cur
    timr: KItimer = timer.owner
    ret = HRTIMER_NORESTART
    si_private = 0
    timr.it_active = False
    if timr.it_interval:
        timr.it_requeue_pending += 1
        si_private = timr.it_requeue_pending
    if posix_timer_event(timr, si_private) and timr.it_interval:
        # signal was not sent because of sig_ignor; we will not get a call back to restart it AND it should be
        # restarted.  An interval of less than a jiffy is made one, so that nobody is kept busy by it.
        now = m.now + (m.tick_nsec if timr.it_interval < m.tick_nsec else 0)
        timr.it_overrun += hrtimer.hrtimer_forward(timer, now, timr.it_interval)
        ret = HRTIMER_RESTART
        timr.it_requeue_pending += 1
        timr.it_active = True
    return ret


def posixtimer_sig_ignore(sig: int) -> None:
    """Let timers with an interval rest whose signals have been thrown away, as they are ignored now (v6.13).

    Context: siglock held.
    """
    timers: PosixTimers | None = machine.cur.cpu.curr.signal.posix_timers
    if timers is None:
        return
    for timr in timers.by_id.values():
        waits = timr.it_interval and not timr.it_active and timr.it_sigqueue_seq == timr.it_signal_seq
        if waits and timr.sigq.info.si_signo == sig and timr.it_requeue_pending & REQUEUE_PENDING:
            timers.ignored.append(timr)


def posixtimer_sig_unignore(sig: int) -> None:
    """Send what timers would have sent while the signal was ignored: it has a new action (v6.13).

    Context: siglock held.
    """
    current = machine.cur.cpu.curr
    timers: PosixTimers | None = current.signal.posix_timers
    if timers is None or not timers.ignored:
        return
    assert current.sighand is not None
    if send.sig_handler_ignored(current.sighand.action[sig - 1].sa_handler, sig):
        return
    for timr in [timr for timr in timers.ignored if timr.sigq.info.si_signo == sig]:
        timers.ignored.remove(timr)
        t = pid_.pid_task(timr.it_pid, PIDTYPE_PID if timr.it_sigev_notify & SIGEV_THREAD_ID else PIDTYPE_TGID)
        if t is not None and t.sighand is not None and timr.it_sigqueue_seq == timr.it_signal_seq:
            thread = bool(timr.it_sigev_notify & SIGEV_THREAD_ID)
            pending = t.pending if thread else t.signal.shared_pending
            list_add_tail(timr.sigq.list, pending.list)
            pending.signal |= 1 << (sig - 1)
            send.complete_signal(sig, t, PIDTYPE_PID if thread else PIDTYPE_TGID)


def good_sigevent(event: Sigevent) -> Pid | None:
    """Return whom a sigevent asks to be told, None if it makes no sense."""
    current = machine.cur.cpu.curr
    pid = current.signal.pids[PIDTYPE_TGID]
    if event.sigev_notify == SIGEV_SIGNAL | SIGEV_THREAD_ID:
        found = pid_.find_vpid(event.sigev_notify_thread_id)
        rtn = pid_.pid_task(found, PIDTYPE_PID)
        if found is None or rtn is None or not same_thread_group(rtn, current):
            return None
        pid = found
    elif event.sigev_notify == SIGEV_NONE:
        return pid
    elif event.sigev_notify not in (SIGEV_SIGNAL, SIGEV_THREAD):
        return None
    return pid if 0 < event.sigev_signo <= 64 else None


def release_posix_timer(tmr: KItimer) -> None:
    """Free a timer."""
    pid_.put_pid(tmr.it_pid)
    if machine.cur.flavour.switches.timer_signals_checked and tmr.sigq.list.next is not tmr.sigq.list:
        # Its signal is thrown away when it is taken.
        tmr.it_signal_seq += 1
    sigqueue.sigqueue_free(tmr.sigq)


def do_timer_create(which_clock: int, event: Sigevent | None, created_timer_id: Any) -> int:
    """Make a timer that is not set: 0 or a negative errno."""
    current = machine.cur.cpu.curr
    kc = clockid_to_kclock(which_clock)
    if kc is None:
        return -EINVAL if clock_get(which_clock) is None else -EOPNOTSUPP
    sigq = sigqueue.sigqueue_alloc()
    if sigq is None:
        return -EAGAIN
    signal = current.signal
    if signal.posix_timers is None:
        signal.posix_timers = PosixTimers()
    timers: PosixTimers = signal.posix_timers
    # posix_timer_add(): the next number that is free
    while timers.next_id in timers.by_id:
        timers.next_id = timers.next_id + 1 & INT_MAX
    tmr = KItimer(timers.next_id, which_clock, kc, signal)
    timers.next_id = timers.next_id + 1 & INT_MAX
    tmr.sigq = sigq
    tmr.it_thread = which_clock == CLOCK_THREAD_CPUTIME_ID
    if event is None:
        event = Sigevent(SIGEV_SIGNAL, SIGALRM, tmr.it_id)
    pid = good_sigevent(event)
    if pid is None:
        sigqueue.sigqueue_free(sigq)
        return -EINVAL
    tmr.it_pid = pid_.get_pid(pid)
    tmr.it_sigev_notify = event.sigev_notify
    sigq.info = TimerSiginfo(event.sigev_signo, tmr.it_id)
    sigq.info.si_value = event.sigev_value
    error = -EFAULT if put_user(tmr.it_id, created_timer_id) else kc.timer_create(tmr)
    if error:
        release_posix_timer(tmr)
        return error
    assert current.sighand is not None
    spin_lock_irq(current.sighand.siglock)
    timers.by_id[tmr.it_id] = tmr
    spin_unlock_irq(current.sighand.siglock)
    return 0


def sys_timer_create(which_clock: int, timer_event_spec: Any, created_timer_id: Any) -> int:
    """timer_create(2); the event is a `Sigevent`."""
    if timer_event_spec and not isinstance(timer_event_spec, Sigevent):
        return -EFAULT
    return do_timer_create(which_clock, timer_event_spec or None, created_timer_id)


def lock_timer(timer_id: int) -> KItimer | None:
    """Return a timer of the caller's process."""
    timers: PosixTimers | None = machine.cur.cpu.curr.signal.posix_timers
    return None if timers is None else timers.by_id.get(timer_id)


def _timespec(ns: int) -> tuple[int, int]:
    return divmod(ns, NSEC_PER_SEC)


def sys_timer_gettime(timer_id: int, setting: Any) -> int:
    """timer_gettime(2): ((s, ns) interval, (s, ns) until it expires)."""
    timr = lock_timer(timer_id)
    if timr is None:
        return -EINVAL
    interval, left = timr.kclock.timer_get(timr)
    return -EFAULT if put_user((_timespec(interval), _timespec(left)), setting) else 0


def sys_timer_getoverrun(timer_id: int) -> int:
    """timer_getoverrun(2): expiries for which there was no signal, before the one that was taken last."""
    timr = lock_timer(timer_id)
    return -EINVAL if timr is None else timer_overrun_to_int(timr, 0)


def common_timer_create(new_timer: KItimer) -> int:
    """Prepare a timer on the time that passes."""
    hrtimer.hrtimer_init(new_timer.timer, new_timer.it_clock, HRTIMER_MODE_ABS)
    new_timer.timer.function = posix_timer_fn
    return 0


def common_timer_get(timr: KItimer) -> tuple[int, int]:
    """Return (interval, ns until it expires); 0 only when the timer is expired and not pending."""
    sig_none = timr.it_sigev_notify & ~SIGEV_THREAD_ID == SIGEV_NONE
    interval = timr.it_interval
    # SIGEV_NONE oneshot timers are never queued: they are looked at below.
    if not interval and not timr.it_active and not sig_none:
        return 0, 0
    # When a requeue is pending or this is a SIGEV_NONE timer move the expiry time forward by intervals, so expiry is >
    # now.
    if interval and (timr.it_requeue_pending & REQUEUE_PENDING or sig_none):
        timr.it_overrun += hrtimer.hrtimer_forward(timr.timer, machine.cur.now, interval)
    remaining = hrtimer.hrtimer_get_remaining(timr.timer)
    if remaining <= 0:
        # A single shot SIGEV_NONE timer must return 0, when it is expired!
        return interval, 0 if sig_none else 1
    return interval, remaining


def common_timer_set(timr: KItimer, abstime: bool, interval: int, value: int) -> int:
    """Set a timer on the time that passes; 0 stops it."""
    # Prevent rearming by clearing the interval
    timr.it_interval = 0
    hrtimer.hrtimer_cancel(timr.timer)
    timr.it_active = False
    timr.it_requeue_pending = timr.it_requeue_pending + 2 & ~REQUEUE_PENDING
    timr.it_overrun_last = 0
    timr.it_overrun = -1
    timr.it_signal_seq += 1
    # Switch off the timer when it_value is zero
    if not value:
        return 0
    timr.it_interval = interval
    # common_hrtimer_arm()
    if abstime:
        value -= BOOT_EPOCH if timr.it_clock == CLOCK_REALTIME else 0
    else:
        value = min(value + machine.cur.now, hrtimer.KTIME_MAX)
    timr.timer.softexpires = timr.timer.expires = value
    if timr.it_sigev_notify & ~SIGEV_THREAD_ID != SIGEV_NONE:
        hrtimer.hrtimer_start(timr.timer, value, HRTIMER_MODE_ABS)
        timr.it_active = True
    return 0


def common_timer_del(timer: KItimer) -> None:
    """Stop a timer that is deleted."""
    timer.it_interval = 0
    hrtimer.hrtimer_cancel(timer.timer)
    timer.it_active = False


def sys_timer_settime(timer_id: int, flags: int, new_setting: Any, old_setting: Any = None) -> int:
    """timer_settime(2): ((s, ns) interval, (s, ns) until the first expiry)."""
    if not new_setting:
        return -EINVAL
    if not isinstance(new_setting, tuple):
        return -EFAULT
    interval, value = (hrtimer.timespec_ns(part) for part in new_setting)
    if interval is None or value is None:
        return -EINVAL
    timr = lock_timer(timer_id)
    if timr is None:
        return -EINVAL
    ignored = timr.it_signal.posix_timers.ignored if timr.it_signal is not None else []
    old = timr.kclock.timer_get(timr)
    error = timr.kclock.timer_set(timr, bool(flags & TIMER_ABSTIME), interval, value)
    if timr in ignored:
        ignored.remove(timr)
    if not error and old_setting and put_user((_timespec(old[0]), _timespec(old[1])), old_setting):
        return -EFAULT
    return error


def timer_delete(timer: KItimer) -> None:
    """Stop and free a timer."""
    signal = timer.it_signal
    assert signal is not None
    timer.kclock.timer_del(timer)
    del signal.posix_timers.by_id[timer.it_id]
    if timer in signal.posix_timers.ignored:
        signal.posix_timers.ignored.remove(timer)
    timer.it_signal = None
    release_posix_timer(timer)


def sys_timer_delete(timer_id: int) -> int:
    """timer_delete(2)."""
    timer = lock_timer(timer_id)
    if timer is None:
        return -EINVAL
    timer_delete(timer)
    return 0


def exit_itimers(signal: SignalStruct) -> None:
    """Delete the timers of a process that ends or gets a new program."""
    timers: PosixTimers | None = signal.posix_timers
    if timers is not None:
        for timer in list(timers.by_id.values()):
            timer_delete(timer)


def clockid_to_kclock(which: int) -> KClock | None:
    """Return what a clock does for timers, None if it has none."""
    if which in (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME):
        return KClock(common_timer_create, common_timer_set, common_timer_get, common_hrtimer_rearm, common_timer_del)
    if which in (CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID):
        return KClock(
            posix_cpu_timers.posix_cpu_timer_create, posix_cpu_timers.posix_cpu_timer_set,
            posix_cpu_timers.posix_cpu_timer_get, posix_cpu_timers.posix_cpu_timer_rearm,
            posix_cpu_timers.posix_cpu_timer_del,
        )
    return None
