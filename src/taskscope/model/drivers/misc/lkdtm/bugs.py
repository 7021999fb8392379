"""Ways to crash that are mistakes of logic: drivers/misc/lkdtm/bugs.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.bug import BUG
from taskscope.model.include.linux.compiler import WRITE_ONCE
from taskscope.model.include.linux.preempt import preempt_disable
from taskscope.model.include.linux.sched import TASK_UNINTERRUPTIBLE, set_current_state


def lkdtm_PANIC() -> None:
    """Panic."""
    panic_.panic("dumptest")


def lkdtm_BUG() -> None:
    """Find oneself where one cannot be."""
    BUG()


def lkdtm_EXCEPTION() -> None:
    """Write to address 0."""
    WRITE_ONCE(0, 0)


def lkdtm_LOOP() -> None:
    """Turn in circles; preemption goes on."""
    while True:
        machine.cur.run_for(1_000_000)


def lkdtm_SOFTLOCKUP() -> None:
    """Turn in circles without letting anybody else run; interrupts go on."""
    preempt_disable()
    while True:
        machine.cur.run_for(1_000_000)          # cpu_relax()


def lkdtm_HUNG_TASK() -> None:
    """Sleep in D without having anybody to wake one."""
    set_current_state(TASK_UNINTERRUPTIBLE)
    sched_core.schedule()
