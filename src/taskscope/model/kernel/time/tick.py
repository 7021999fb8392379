"""Clock event devices, one per CPU, one shot: kernel/time/tick-oneshot.c, clockevents.c, v4.19.

The device is an event in the machine's queue; when it fires it raises the CPU's timer interrupt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskscope.model import machine, schedule

if TYPE_CHECKING:
    from taskscope.model.machine import Cpu

KTIME_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF


def clockevent_fire(cpu: Cpu) -> None:
    """Raise the CPU's timer interrupt: what the device does when its time has come.  Runs in the hub."""
    cpu.hrtimer_bases.event = None
    m = cpu.machine
    m.raise_irq(cpu, m.irq_timer)


def tick_program_event(cpu: Cpu, expires: int) -> None:
    """Program the CPU's device for `expires` (ns); KTIME_MAX stops it."""
    m = machine.cur
    base = cpu.hrtimer_bases
    if base.event is not None:
        m.cancel(base.event)
        base.event = None
    if expires != KTIME_MAX:
        if m.chooses:
            expires += schedule.TIMERS[m.choose(len(schedule.TIMERS), schedule.TIMER)]
        base.event = m.at(expires, clockevent_fire, cpu)
