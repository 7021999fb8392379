"""The tick: kernel/time/tick-sched.c, v4.19, CONFIG_NO_HZ_IDLE and high-resolution timers.

Each CPU has a timer that fires 1/HZ apart and calls update_process_times(); one of them (tick_do_timer_cpu) advances
jiffies. An idle CPU stops its tick until its next timer.
"""

from __future__ import annotations

from taskscope.model import costs, machine
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_ABS, HRTIMER_NORESTART, HRTIMER_RESTART, Hrtimer
from taskscope.model.kernel.rcu import tree as rcu_tree
from taskscope.model.kernel.sched import cputime
from taskscope.model.kernel.time import hrtimer, timer

TICK_DO_TIMER_NONE = -1


class TickSched:
    """struct tick_sched."""

    __slots__ = (
        "idle_calls", "idle_entrytime", "idle_jiffies", "idle_sleeps", "idle_sleeptime", "inidle", "sched_timer",
        "tick_stopped",
    )

    def __init__(self) -> None:
        self.sched_timer = Hrtimer()
        self.inidle = False
        self.tick_stopped = False
        self.idle_calls = 0
        self.idle_sleeps = 0
        self.idle_entrytime = 0
        self.idle_sleeptime = 0                             # ns
        self.idle_jiffies = 0


def tick_do_update_jiffies64(now: int) -> None:
    """Advance jiffies to what the clock says."""
    m = machine.cur
    ticks = now // m.tick_nsec - m.jiffies
    if ticks > 0:
        timer.do_timer(ticks)


def tick_sched_do_timer(now: int) -> None:
    """Advance jiffies if this CPU's tick is the one that does."""
    m = machine.cur
    # A CPU that went idle gave the duty back: whoever ticks next takes it.
    if m.tick_do_timer_cpu == TICK_DO_TIMER_NONE:
        m.tick_do_timer_cpu = m.cpu.id
    if m.tick_do_timer_cpu == m.cpu.id:
        tick_do_update_jiffies64(now)


def tick_sched_handle(ts: TickSched, user_tick: bool) -> None:
    """Do the tick's work."""
    del ts
    timer.update_process_times(user_tick)
    # Not modelled: profile_tick().


def tick_sched_timer(t: Hrtimer) -> int:
    """Be the tick.  Context: hard interrupt, irqs off."""
    m = machine.cur
    ts: TickSched = m.cpu.tick_cpu_sched
    now = m.now
    m.now += costs.TICK
    tick_sched_do_timer(now)
    # Do not call, when we are not in irq context and have no valid regs pointer.
    tick_sched_handle(ts, m.cpu.irq_regs_user)
    # No need to reprogram if we are in idle or full dynticks mode.
    if ts.tick_stopped:
        return HRTIMER_NORESTART
    hrtimer.hrtimer_forward(t, now, m.tick_nsec)
    return HRTIMER_RESTART


def tick_setup_sched_timer() -> None:
    """Start the tick of this CPU; all CPUs tick at the same times (skew_tick is off).  Context: irqs off."""
    m = machine.cur
    ts = m.cpu.tick_cpu_sched = TickSched()
    hrtimer.hrtimer_init(ts.sched_timer, 1, HRTIMER_MODE_ABS)
    ts.sched_timer.function = tick_sched_timer
    expires = (m.now // m.tick_nsec + 1) * m.tick_nsec
    hrtimer.hrtimer_start(ts.sched_timer, expires, HRTIMER_MODE_ABS)


def tick_init() -> None:
    """Let the boot CPU advance jiffies.  Called by start_kernel()."""
    machine.cur.tick_do_timer_cpu = machine.cur.cpu.id


# ---- idle --------------------------------------------------------------------------------------------------


def tick_nohz_idle_enter() -> None:
    """Note that the CPU begins to idle."""
    m = machine.cur
    ts: TickSched = m.cpu.tick_cpu_sched
    ts.inidle = True
    ts.idle_entrytime = m.now                               # tick_nohz_start_idle()


def can_stop_idle_tick(cpu: machine.Cpu) -> bool:
    """Tell whether nothing needs the tick of this CPU while it idles."""
    return not cpu.softirq_pending and not rcu_tree.rcu_needs_cpu(cpu)


def tick_nohz_idle_stop_tick() -> None:
    """Stop the tick of an idle CPU until its next timer in jiffies.  Context: irqs off."""
    m = machine.cur
    cpu = m.cpu
    ts: TickSched = cpu.tick_cpu_sched
    ts.idle_calls += 1
    if not can_stop_idle_tick(cpu):
        if ts.tick_stopped:
            tick_nohz_restart(ts, m.now)
        return
    due = timer.next_timer_interrupt()
    # Not modelled: the limit of how long timekeeping can be left alone (timekeeping_max_deferment()).
    expires = hrtimer.KTIME_MAX if due is None else due * m.tick_nsec
    next_tick = (m.now // m.tick_nsec + 1) * m.tick_nsec
    if expires <= next_tick:
        if ts.tick_stopped:
            tick_nohz_restart(ts, m.now)
        return
    # If this CPU is the one which updates jiffies, then give up the assignment and let it be taken by the CPU which
    # runs the tick timer next.  Its tick may be stopped already: the one that fired meanwhile has taken it.
    if m.tick_do_timer_cpu == cpu.id:
        m.tick_do_timer_cpu = TICK_DO_TIMER_NONE
    if not ts.tick_stopped:
        ts.tick_stopped = True
        ts.idle_sleeps += 1
        ts.idle_jiffies = m.jiffies
    if expires == hrtimer.KTIME_MAX:
        if ts.sched_timer.node is not None:
            hrtimer.hrtimer_cancel(ts.sched_timer)
        hrtimer.hrtimer_force_reprogram(cpu)
    elif ts.sched_timer.node is None or ts.sched_timer.expires != expires:
        ts.sched_timer.node = None
        hrtimer.hrtimer_start(ts.sched_timer, expires, HRTIMER_MODE_ABS)
        hrtimer.hrtimer_force_reprogram(cpu)


def tick_nohz_restart(ts: TickSched, now: int) -> None:
    """Let the tick go on."""
    m = machine.cur
    ts.tick_stopped = False
    ts.sched_timer.node = None
    hrtimer.hrtimer_start(ts.sched_timer, (now // m.tick_nsec + 1) * m.tick_nsec, HRTIMER_MODE_ABS)


def tick_irq_enter() -> None:
    """Bring jiffies up to date: an interrupt came to an idle CPU, and its handler may look at them."""
    m = machine.cur
    ts: TickSched | None = m.cpu.tick_cpu_sched
    if ts is not None and ts.tick_stopped:
        tick_do_update_jiffies64(m.now)


def tick_nohz_idle_exit() -> None:
    """Restart the tick: the CPU has something to run."""
    m = machine.cur
    cpu = m.cpu
    ts: TickSched = cpu.tick_cpu_sched
    cpu.irqs_off = True
    ts.inidle = False
    ts.idle_sleeptime += m.now - ts.idle_entrytime          # tick_nohz_stop_idle()
    if ts.tick_stopped:
        tick_do_update_jiffies64(m.now)
        tick_nohz_restart(ts, m.now)
        # tick_nohz_account_idle_ticks(): the ticks that did not happen were idle.
        cputime.kcpustat(cpu)["idle"] += (m.jiffies - ts.idle_jiffies) * m.tick_nsec
    cpu.irqs_off = False
