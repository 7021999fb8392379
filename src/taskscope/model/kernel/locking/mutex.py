"""Mutexes: kernel/locking/mutex.c, v4.19: who finds one held sleeps in D until it is released, first come first served.

Not modelled: spinning while the owner runs (MUTEX_SPIN_ON_OWNER), the hand-off to a waiter that was overtaken.
"""

from __future__ import annotations

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead, list_add_tail, list_del_init, list_empty, list_first_entry
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE, Task
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock_irqsave,
    raw_spin_unlock_irqrestore,
    spin_lock,
    spin_unlock,
)
from taskscope.model.kernel.sched import core


def mutex_lock(lock: Mutex) -> None:
    """Take the mutex, sleeping until it is free.

    Context: process context; may sleep.
    """
    current = machine.cur.cpu.curr
    assert lock.owner is not current, f"{lock.name}: taken twice by {current}"
    if lock.owner is None:                                  # __mutex_trylock_fast()
        lock.owner = current
        return
    __mutex_lock_slowpath(lock)


def __mutex_lock_slowpath(lock: Mutex) -> None:
    """Wait for the mutex in the order of arrival."""
    current = machine.cur.cpu.curr
    waiter = ListHead(current)
    spin_lock(lock.wait_lock)
    list_add_tail(waiter, lock.wait_list)
    while lock.owner is not None:
        current.state = TASK_UNINTERRUPTIBLE
        spin_unlock(lock.wait_lock)
        core.schedule()                                     # schedule_preempt_disabled()
        spin_lock(lock.wait_lock)
    current.state = TASK_RUNNING
    lock.owner = current
    list_del_init(waiter)
    spin_unlock(lock.wait_lock)


def mutex_trylock(lock: Mutex) -> bool:
    """Take the mutex if it is free."""
    if lock.owner is not None:
        return False
    lock.owner = machine.cur.cpu.curr
    return True


def mutex_unlock(lock: Mutex) -> None:
    """Release the mutex and wake who has waited longest.

    Context: its holder, in process context.
    """
    assert lock.owner is machine.cur.cpu.curr, f"{lock.name} is released by {machine.cur.cpu.curr}"
    lock.owner = None
    if not list_empty(lock.wait_list):                      # __mutex_unlock_slowpath()
        flags = raw_spin_lock_irqsave(lock.wait_lock)
        waiter: Task = list_first_entry(lock.wait_list)
        core.wake_up_process(waiter)
        raw_spin_unlock_irqrestore(lock.wait_lock, flags)
