"""Timers on CPU time: kernel/time/posix-cpu-timers.c, v4.19.

ITIMER_VIRTUAL and ITIMER_PROF, RLIMIT_CPU, and POSIX timers on the CPU time of the own process or thread.  The tick
looks whether one has expired (run_posix_cpu_timers()), so they are as exact as it: utime and stime are its samples.

``signal.it`` holds all of a process; a process that never had one has None there, and costs the tick nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import taskscope.model.kernel.signal.send as send
from taskscope.model import machine
from taskscope.model.include.linux.pid import PIDTYPE_PID, PIDTYPE_TGID
from taskscope.model.include.linux.sched import PF_EXITING, Task
from taskscope.model.include.linux.sched_signal import (
    RLIM_INFINITY,
    RLIMIT_CPU,
    SEND_SIG_PRIV,
    SIGEV_NONE,
    Rlimit,
    SignalStruct,
)
from taskscope.model.include.linux.spinlock import (
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from taskscope.model.include.trace.events import timer as trace
from taskscope.model.kernel.sched import core, cputime

if TYPE_CHECKING:
    from taskscope.model.kernel.time.posix_timers import KItimer

CPUCLOCK_PROF: Final = 0                # utime + stime
CPUCLOCK_VIRT: Final = 1                # utime
ITIMER_VIRTUAL: Final = 1
ITIMER_PROF: Final = 2
SIGKILL, SIGXCPU, SIGVTALRM, SIGPROF = 9, 24, 26, 27
NSEC_PER_SEC: Final = 1_000_000_000


class CpuItimer:
    """struct cpu_itimer: ns of CPU time."""

    __slots__ = ("expires", "incr")

    def __init__(self) -> None:
        self.expires = 0
        self.incr = 0


class CpuTimers:
    """What runs on a process's CPU time: signal_struct.it, cputimer, cpu_timers.  Guarded by siglock."""

    __slots__ = ("prof", "timers", "virt")

    def __init__(self) -> None:
        self.prof = CpuItimer()
        self.virt = CpuItimer()
        self.timers: list[KItimer] = []         # armed POSIX timers, of the process and of its threads


def cpu_timers(signal: SignalStruct) -> CpuTimers:
    """Return the process's timers; makes them when they are first used."""
    it: CpuTimers | None = signal.it
    if it is None:
        it = signal.it = CpuTimers()
    return it


def posix_cpu_timers_init_group(sig: SignalStruct, was: SignalStruct) -> CpuTimers | None:
    """Return what a new process has: no timers, but RLIMIT_CPU is to be watched."""
    del was
    return None if sig.rlim[RLIMIT_CPU].rlim_cur == RLIM_INFINITY else CpuTimers()


def update_rlimit_cpu(task: Task) -> None:
    """Watch RLIMIT_CPU, which has been set; called by setrlimit(2)."""
    cpu_timers(task.signal)


# ---- clocks ---------------------------------------------------------------------------------------------

def thread_group_cputimer(tsk: Task) -> tuple[int, int]:
    """Return the process's (utime + stime, utime) as the tick has counted them."""
    sig = tsk.signal
    utime, stime = sig.utime, sig.stime
    for t in send.for_each_thread(tsk):
        utime += t.utime
        stime += t.stime
    return utime + stime, utime


def cpu_clock_sample(timer: KItimer) -> int:
    """Return the clock of a POSIX timer (CPUCLOCK_SCHED): what its process, or thread, has run (ns)."""
    p = timer.it_task
    assert p is not None
    if timer.it_thread:
        return core.task_sched_runtime(p)
    return cputime.thread_group_cputime(p).sum_exec_runtime


# ---- setitimer(ITIMER_VIRTUAL, ITIMER_PROF) -------------------------------------------------------------

def get_cpu_itimer(tsk: Task, clock_id: int) -> tuple[int, int]:
    """Return (interval, ns until the next expiry) of an interval timer on CPU time."""
    if tsk.signal.it is None:
        return 0, 0
    assert tsk.sighand is not None
    it: CpuItimer = tsk.signal.it.prof if clock_id == CPUCLOCK_PROF else tsk.signal.it.virt
    spin_lock_irq(tsk.sighand.siglock)
    cval, cinterval = it.expires, it.incr
    if cval:
        now = thread_group_cputimer(tsk)[clock_id]
        # about to fire
        cval = machine.cur.tick_nsec if cval < now else cval - now
    spin_unlock_irq(tsk.sighand.siglock)
    return cinterval, cval


def set_cpu_itimer(tsk: Task, clock_id: int, value: tuple[int, int], ovalue: list[int] | None) -> None:
    """Set an interval timer on CPU time.

    :param value: (interval, ns of CPU time until the first signal), 0 to stop it
    :param ovalue: filled with what it was
    """
    m = machine.cur
    assert tsk.sighand is not None
    timers = cpu_timers(tsk.signal)
    it = timers.prof if clock_id == CPUCLOCK_PROF else timers.virt
    ninterval, nval = value
    spin_lock_irq(tsk.sighand.siglock)
    oval, ointerval = it.expires, it.incr
    if oval or nval:
        # A tick more: the time that has been counted may be a tick behind.
        if nval > 0:
            nval += m.tick_nsec
        now = thread_group_cputimer(tsk)[clock_id]
        if oval:
            # Just about to fire.
            oval = m.tick_nsec if oval <= now else oval - now
        if nval:
            nval += now
    it.expires, it.incr = nval, ninterval
    trace.trace_itimer_state(
        ITIMER_VIRTUAL if clock_id == CPUCLOCK_VIRT else ITIMER_PROF,
        (*divmod(value[1], NSEC_PER_SEC), *divmod(ninterval, NSEC_PER_SEC)), nval,
    )
    spin_unlock_irq(tsk.sighand.siglock)
    if ovalue is not None:
        ovalue[:] = [ointerval, oval]


# ---- the tick -------------------------------------------------------------------------------------------

def check_cpu_itimer(tsk: Task, it: CpuItimer, cur_time: int, signo: int) -> None:
    """Send an interval timer's signal if its time is over.

    Context: siglock held.
    """
    if not it.expires or cur_time < it.expires:
        return
    it.expires = it.expires + it.incr if it.incr else 0
    which = ITIMER_PROF if signo == SIGPROF else ITIMER_VIRTUAL
    trace.trace_itimer_expire(which, tsk.signal.pids[PIDTYPE_TGID], cur_time)
    send.send_signal(signo, SEND_SIG_PRIV, tsk, PIDTYPE_TGID)


def check_rlimit_cpu(tsk: Task, ptime: int) -> None:
    """Send SIGXCPU once a second beyond the soft limit of CPU time, SIGKILL at the hard one.

    Context: siglock held.
    """
    sig = tsk.signal
    soft, hard = sig.rlim[RLIMIT_CPU]
    if soft == RLIM_INFINITY:
        return
    psecs = ptime // NSEC_PER_SEC
    if psecs >= hard:
        # At the hard limit, we just die.  No need to calculate anything else now.
        send.send_signal(SIGKILL, SEND_SIG_PRIV, tsk, PIDTYPE_TGID)
        return
    if psecs >= soft:
        # At the soft limit, send a SIGXCPU every second.
        send.send_signal(SIGXCPU, SEND_SIG_PRIV, tsk, PIDTYPE_TGID)
        if soft < hard:
            sig.rlim[RLIMIT_CPU] = Rlimit(soft + 1, hard)


def run_posix_cpu_timers(tsk: Task) -> None:
    """Look whether CPU time has run out for something; called by the tick for a process that has ``signal.it``.

    Context: hard interrupt.  Since v5.11 it is put off to the way to user space (CONFIG_POSIX_CPU_TIMERS_TASK_WORK).
    """
    timers: CpuTimers = tsk.signal.it
    if tsk.sighand is None or tsk.flags & PF_EXITING:
        return
    flags = spin_lock_irqsave(tsk.sighand.siglock)
    prof, virt = thread_group_cputimer(tsk)
    check_cpu_itimer(tsk, timers.prof, prof, SIGPROF)
    check_cpu_itimer(tsk, timers.virt, virt, SIGVTALRM)
    check_rlimit_cpu(tsk, prof)
    firing = [timer for timer in timers.timers if cpu_clock_sample(timer) >= timer.it_expires]
    for timer in firing:
        timers.timers.remove(timer)
    spin_unlock_irqrestore(tsk.sighand.siglock, flags)
    for timer in firing:
        cpu_timer_fire(timer)


# ---- timer_create(CLOCK_PROCESS_CPUTIME_ID) --------------------------------------------------------------

def cpu_timer_fire(timer: KItimer) -> None:
    """Let a POSIX timer on CPU time expire.

    Context: hard interrupt.
    """
    import taskscope.model.kernel.time.posix_timers as posix_timers

    if timer.it_sigev_notify & 3 == SIGEV_NONE:
        # User don't want any signal.
        timer.it_expires = 0
    elif not timer.it_interval:
        # One-shot timer.  Clear it as soon as it's fired.
        posix_timers.posix_timer_event(timer, 0)
        timer.it_expires = 0
    else:
        timer.it_requeue_pending += 1
        if posix_timers.posix_timer_event(timer, timer.it_requeue_pending):
            # The signal did not get queued because the signal was ignored, so we won't get any callback to reload the
            # timer.  But we need to keep it ticking in case the signal is deliverable next time.
            posix_cpu_timer_rearm(timer)
            timer.it_requeue_pending += 1


def arm_timer(timer: KItimer) -> None:
    """Put a timer where the tick looks."""
    task = timer.it_task
    assert task is not None
    armed = cpu_timers(task.signal).timers
    if timer not in armed:
        armed.append(timer)


def disarm_timer(timer: KItimer) -> None:
    """Take a timer away."""
    task = timer.it_task
    if task is not None and task.signal.it is not None and timer in task.signal.it.timers:
        task.signal.it.timers.remove(timer)


def bump_cpu_timer(timer: KItimer, now: int) -> None:
    """Move the expiry past `now` by intervals, and count them."""
    if not timer.it_interval or now < timer.it_expires:
        return
    overrun = (now - timer.it_expires) // timer.it_interval + 1
    timer.it_expires += overrun * timer.it_interval
    timer.it_overrun += overrun


def posix_cpu_timer_create(timer: KItimer) -> int:
    """Begin a timer on the CPU time of the caller's process or thread."""
    current = machine.cur.cpu.curr
    timer.it_task = current if timer.it_thread else current.group_leader
    return 0


def posix_cpu_timer_set(timer: KItimer, abstime: bool, interval: int, value: int) -> int:
    """Set a timer to expire after, or with `abstime` at, `value` ns of CPU time; 0 stops it."""
    disarm_timer(timer)
    now = cpu_clock_sample(timer)
    timer.it_interval = interval if value else 0
    timer.it_expires = value if abstime or not value else now + value
    timer.it_requeue_pending = timer.it_requeue_pending + 2 & ~1
    timer.it_overrun_last = 0
    timer.it_overrun = -1
    timer.it_signal_seq += 1
    if value:
        if now < timer.it_expires:
            arm_timer(timer)
        else:
            # The timer already passed, so just fire it.
            cpu_timer_fire(timer)
    return 0


def posix_cpu_timer_get(timer: KItimer) -> tuple[int, int]:
    """Return (interval, ns of CPU time until it expires)."""
    if not timer.it_expires:
        return timer.it_interval, 0
    now = cpu_clock_sample(timer)
    if timer.it_interval and (timer.it_requeue_pending & 1 or timer.it_sigev_notify == SIGEV_NONE):
        bump_cpu_timer(timer, now)
    # The timer should have expired already, but the firing hasn't taken place yet.  Say it's just about to expire.
    return timer.it_interval, timer.it_expires - now if now < timer.it_expires else 1


def posix_cpu_timer_rearm(timer: KItimer) -> None:
    """Start a timer for its next interval, its signal having been taken."""
    bump_cpu_timer(timer, cpu_clock_sample(timer))
    arm_timer(timer)


def posix_cpu_timer_del(timer: KItimer) -> None:
    """Stop a timer that is deleted."""
    disarm_timer(timer)


def pid_type(timer: Any) -> int:
    """Return whom a timer's signal is for: PIDTYPE_PID for a thread, PIDTYPE_TGID."""
    return PIDTYPE_PID if timer.it_sigev_notify & 4 else PIDTYPE_TGID
