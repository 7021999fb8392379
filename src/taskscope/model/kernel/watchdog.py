"""The soft-lockup detector: kernel/watchdog.c, v4.19 to v6.18.

A timer of each CPU has the CPU's stopper note the time every four seconds.  If the kernel does not let go of the CPU,
the stopper does not come to run, but the timer's interrupt does: after twenty seconds it reports who runs.

Debian's kernels have it on from boot, the Raspberry Pi's has it not built in.  Here it is built in and off, so that a
machine that idles costs nothing: ``echo 1 > /proc/sys/kernel/soft_watchdog``.
Not modelled: the hard-lockup detector, which needs a non-maskable interrupt.
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.stop_machine as stop_machine
import taskscope.model.kernel.sysctl as sysctl
import taskscope.model.kernel.time.hrtimer as hrtimer
from taskscope.model import machine
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_REL, HRTIMER_NORESTART, HRTIMER_RESTART, Hrtimer

CLOCK_MONOTONIC: Final = 1
NSEC_PER_SEC: Final = 1_000_000_000


class Watchdog:
    """The variables of this file."""

    __slots__ = ("cpus", "soft_watchdog", "softlockup_panic", "thresh")

    def __init__(self) -> None:
        self.soft_watchdog = 0                  # whether it is on
        self.thresh = 10                        # s (kernel.watchdog_thresh)
        self.softlockup_panic = 0
        self.cpus: dict[int, WatchdogCpu] = {}


class WatchdogCpu:
    """The per-cpu variables: watchdog_hrtimer, watchdog_touch_ts, watchdog_report_ts, …"""

    __slots__ = ("done", "hrtimer", "period_ts", "soft_watchdog_warn", "touch_ts")

    def __init__(self) -> None:
        self.hrtimer = Hrtimer(self)
        self.touch_ts = 0                       # when the stopper last ran (s)
        self.period_ts = 0                      # when it did, or when the last report was
        self.soft_watchdog_warn = False         # this lockup has been reported (until v5.13)
        self.done = True                        # softlockup_completion: the stopper has done its work


def lockup_detector_init() -> int:
    """Make the files of /proc/sys/kernel."""
    state = machine.cur.watchdog = Watchdog()
    sysctl.register_sysctl("kernel/soft_watchdog", state, "soft_watchdog", most=1, changed=lockup_detector_reconfigure)
    sysctl.register_sysctl("kernel/watchdog_thresh", state, "thresh", most=60, changed=lockup_detector_reconfigure)
    sysctl.register_sysctl("kernel/softlockup_panic", state, "softlockup_panic", most=1)
    return 0


def get_softlockup_thresh() -> int:
    """Return after how many seconds a CPU is stuck: twice that of hard lockups, so that those come first."""
    return int(machine.cur.watchdog.thresh) * 2


def get_timestamp() -> int:
    """Return the time in seconds, roughly: 2^30 ns each."""
    return machine.cur.now >> 30


def sample_period() -> int:
    """Return how often the timer fires (ns): five chances before the report."""
    return get_softlockup_thresh() * (NSEC_PER_SEC // 5)


def __touch_watchdog(this: WatchdogCpu) -> None:
    this.touch_ts = this.period_ts = get_timestamp()


def lockup_detector_reconfigure() -> None:
    """Start or stop the timers of all CPUs, each on its CPU."""
    for cpu in machine.cur.cpus:
        # smp_call_on_cpu() in C, by a worker of the CPU
        stop_machine.stop_one_cpu_nowait(cpu.id, softlockup_start_fn, None)


def softlockup_start_fn(data: Any) -> int:
    """Start the CPU's timer anew, or stop it.

    Context: the CPU's stopper.
    """
    del data
    m = machine.cur
    state: Watchdog = m.watchdog
    this = state.cpus.setdefault(m.cpu.id, WatchdogCpu())
    hrtimer.hrtimer_cancel(this.hrtimer)
    this.done = True
    if not state.soft_watchdog or not state.thresh:
        return 0
    # watchdog_enable(): start the timer first to prevent the hardlockup watchdog triggering before the timer has a
    # chance to fire.
    hrtimer.hrtimer_init(this.hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL)
    this.hrtimer.function = watchdog_timer_fn
    hrtimer.hrtimer_start(this.hrtimer, sample_period(), HRTIMER_MODE_REL)
    __touch_watchdog(this)
    return 0


def softlockup_fn(data: WatchdogCpu) -> int:
    """Note that the CPU lets others run.

    Context: the CPU's stopper.
    """
    __touch_watchdog(data)
    data.done = True
    return 0


def is_softlockup(this: WatchdogCpu, now: int) -> int:
    """Return for how many seconds the CPU is stuck, 0 if it is not."""
    # Warn about unreasonable delays.
    return now - this.touch_ts if now > this.period_ts + get_softlockup_thresh() else 0


def watchdog_timer_fn(timer: Hrtimer) -> int:
    """Have the stopper note the time, and look how long ago it last did.

    Context: hard interrupt.
    """
    m = machine.cur
    state: Watchdog = m.watchdog
    this: WatchdogCpu = timer.owner
    if not state.soft_watchdog:
        return HRTIMER_NORESTART
    # kick the softlockup detector
    if this.done:
        this.done = False
        stop_machine.stop_one_cpu_nowait(m.cpu.id, softlockup_fn, this)
    # .. and repeat
    hrtimer.hrtimer_forward(timer, m.now, sample_period())
    duration = is_softlockup(this, get_timestamp())
    if not duration:
        this.soft_watchdog_warn = False
        return HRTIMER_RESTART
    # only warn once, until v5.13: then every 20 s
    if not m.flavour.switches.softlockup_repeats:
        if this.soft_watchdog_warn:
            return HRTIMER_RESTART
        this.soft_watchdog_warn = True
    else:
        this.period_ts = get_timestamp()
    current = m.cpu.curr
    printk_.printk(
        f"<0>watchdog: BUG: soft lockup - CPU#{m.cpu.id} stuck for {duration}s! [{current.comm}:{current.pid}]\n"
    )
    panic_.print_modules()
    m.show_irq_regs()
    panic_.add_taint(panic_.TAINT_SOFTLOCKUP)
    if state.softlockup_panic:
        panic_.panic("softlockup: hung tasks")
    return HRTIMER_RESTART
