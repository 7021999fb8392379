"""Completions: wait until somebody is done: kernel/sched/completion.c, v4.19."""

from __future__ import annotations

import sys
from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.list import list_add_tail, list_del_init
from taskscope.model.include.linux.sched import (
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_NORMAL,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    signal_pending_state,
)
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock_irq,
    raw_spin_lock_irqsave,
    raw_spin_unlock_irq,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.include.linux.wait import DECLARE_WAITQUEUE, WQ_FLAG_EXCLUSIVE
from taskscope.model.kernel.sched import wait as sched_wait
from taskscope.model.kernel.time import timer

UINT_MAX: Final = 0xFFFF_FFFF
MAX_SCHEDULE_TIMEOUT: Final = sys.maxsize
ERESTARTSYS: Final = 512


def complete(x: Completion) -> None:
    """Wake one task that waits, in the order in which they were queued; if none waits, the next will not."""
    flags = raw_spin_lock_irqsave(x.wait.lock)
    if x.done != UINT_MAX:
        x.done += 1
    sched_wait.__wake_up_locked(x.wait, TASK_NORMAL, 1)
    raw_spin_unlock_irqrestore(x.wait.lock, flags)


def complete_all(x: Completion) -> None:
    """Wake all that wait and let everybody through from now on."""
    flags = raw_spin_lock_irqsave(x.wait.lock)
    x.done = UINT_MAX
    sched_wait.__wake_up_locked(x.wait, TASK_NORMAL, 0)
    raw_spin_unlock_irqrestore(x.wait.lock, flags)


def do_wait_for_common(x: Completion, timeout: int, state: int) -> int:
    """Sleep until it is done, the time is over, or a signal comes.  Context: x.wait.lock held, irqs off."""
    m = machine.cur
    current = m.cpu.curr
    if not x.done:
        wait = DECLARE_WAITQUEUE(current)
        wait.flags |= WQ_FLAG_EXCLUSIVE
        list_add_tail(wait.entry, x.wait.head)
        while True:
            if signal_pending_state(state, current):
                timeout = -ERESTARTSYS
                break
            current.state = state
            raw_spin_unlock_irq(x.wait.lock)
            timeout = timer.schedule_timeout(timeout)
            raw_spin_lock_irq(x.wait.lock)
            if x.done or not timeout:
                break
        list_del_init(wait.entry)
        current.state = TASK_RUNNING
        if not x.done:
            return timeout
    if x.done != UINT_MAX:
        x.done -= 1
    return timeout if timeout else 1


def wait_for_common(x: Completion, timeout: int, state: int) -> int:
    """Wait for a completion; return what is left of `timeout` (jiffies), 0 or -ERESTARTSYS."""
    raw_spin_lock_irq(x.wait.lock)
    timeout = do_wait_for_common(x, timeout, state)
    raw_spin_unlock_irq(x.wait.lock)
    return timeout


def wait_for_completion(x: Completion) -> None:
    """Wait, whatever signals come."""
    wait_for_common(x, MAX_SCHEDULE_TIMEOUT, TASK_UNINTERRUPTIBLE)


def wait_for_completion_timeout(x: Completion, timeout: int) -> int:
    """Wait for at most `timeout` jiffies; return 0 if that was not enough."""
    return wait_for_common(x, timeout, TASK_UNINTERRUPTIBLE)


def wait_for_completion_interruptible(x: Completion) -> int:
    """Wait; return 0, or -ERESTARTSYS if a signal came."""
    t = wait_for_common(x, MAX_SCHEDULE_TIMEOUT, TASK_INTERRUPTIBLE)
    return t if t == -ERESTARTSYS else 0


def wait_for_completion_killable(x: Completion) -> int:
    """Wait; return 0, or -ERESTARTSYS if a fatal signal came."""
    t = wait_for_common(x, MAX_SCHEDULE_TIMEOUT, TASK_KILLABLE)
    return t if t == -ERESTARTSYS else 0


def try_wait_for_completion(x: Completion) -> bool:
    """Take the completion if it is there, without sleeping."""
    if not x.done:
        return False
    flags = raw_spin_lock_irqsave(x.wait.lock)
    ret = x.done > 0
    if ret and x.done != UINT_MAX:
        x.done -= 1
    raw_spin_unlock_irqrestore(x.wait.lock, flags)
    return ret


def completion_done(x: Completion) -> bool:
    """Tell whether nobody would have to wait."""
    return x.done > 0
