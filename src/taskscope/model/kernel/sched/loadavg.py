"""The load average, of running and uninterruptible tasks: kernel/sched/loadavg.c, v4.19.

Not modelled: the nohz delta lists; an idle CPU's share is folded by whoever folds the others'.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.kernel.sched.sched import Rq

FSHIFT: Final = 11
FIXED_1: Final = 1 << FSHIFT
LOAD_FREQ: Final = 5            # s
EXP_1: Final = 1884
EXP_5: Final = 2014
EXP_15: Final = 2037


def loadavg_init() -> None:
    """Start from an idle machine."""
    m = machine.cur
    m.avenrun = [0, 0, 0]
    m.calc_load_tasks = 0
    m.calc_load_update = m.jiffies + LOAD_FREQ * m.hz


def calc_load_fold_active(rq: Rq) -> int:
    """Return by how much the CPU's number of active tasks has changed since it was last asked."""
    nr_active = rq.nr_running + rq.nr_uninterruptible
    delta = nr_active - rq.calc_load_active
    rq.calc_load_active = nr_active
    return delta


def calc_global_load_tick(rq: Rq) -> None:
    """Fold the CPU's active tasks into the global number every five seconds.  Context: rq.lock held."""
    m = machine.cur
    if m.jiffies < rq.calc_load_update:
        return
    m.calc_load_tasks += calc_load_fold_active(rq)
    rq.calc_load_update += LOAD_FREQ * m.hz


def calc_load(load: int, exp: int, active: int) -> int:
    """Return the next value of an average."""
    newload = load * exp + active * (FIXED_1 - exp)
    if active >= load:
        newload += FIXED_1 - 1
    return newload // FIXED_1


def calc_global_load(ticks: int) -> None:
    """Update the averages, ten ticks after the CPUs have folded theirs."""
    del ticks
    m = machine.cur
    while m.jiffies >= m.calc_load_update + 10:
        for cpu in m.cpus:                                  # calc_load_nohz_fold(): those without a tick
            if cpu.rq.online and m.jiffies >= cpu.rq.calc_load_update:
                m.calc_load_tasks += calc_load_fold_active(cpu.rq)
                cpu.rq.calc_load_update += LOAD_FREQ * m.hz
        active = max(m.calc_load_tasks, 0) * FIXED_1
        m.avenrun[0] = calc_load(m.avenrun[0], EXP_1, active)
        m.avenrun[1] = calc_load(m.avenrun[1], EXP_5, active)
        m.avenrun[2] = calc_load(m.avenrun[2], EXP_15, active)
        m.calc_load_update += LOAD_FREQ * m.hz
