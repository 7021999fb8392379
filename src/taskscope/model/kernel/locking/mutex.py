"""Mutexes: kernel/locking/mutex.c, v4.19, without spinning on an owner that runs: one step of the machine is atomic.

A mutex is held over sleeps and, where the kernel is preemptible, over preemption: that is when somebody else finds it
taken and sleeps uninterruptibly.
"""

from __future__ import annotations

import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE, set_current_state
from taskscope.model.include.linux.spinlock import raw_spin_lock, raw_spin_unlock


def mutex_lock(lock: Mutex) -> None:
    """Take the mutex; sleep while another task has it.

    Context: process context, may sleep.
    """
    current = machine.cur.cpu.curr
    if lock.owner is None:
        lock.owner = current
        return
    __mutex_lock(lock)


def __mutex_lock(lock: Mutex) -> None:
    """Wait in turn for the mutex: the slow path of `mutex_lock`."""
    current = machine.cur.cpu.curr
    assert lock.owner is not current, "a mutex is taken twice by one task"
    raw_spin_lock(lock.wait_lock)
    lock.wait_list.append(current)
    while True:
        # Once we hold wait_lock, we're serialized against mutex_unlock() handing the lock off to us.
        if lock.owner is None:
            break
        set_current_state(TASK_UNINTERRUPTIBLE)
        raw_spin_unlock(lock.wait_lock)
        sched_core.schedule()
        raw_spin_lock(lock.wait_lock)
    lock.owner = current
    set_current_state(TASK_RUNNING)
    lock.wait_list.remove(current)
    raw_spin_unlock(lock.wait_lock)


def mutex_unlock(lock: Mutex) -> None:
    """Release the mutex and wake who waits longest.

    Context: the task that took it.
    """
    assert lock.owner is machine.cur.cpu.curr, "a mutex is released by another task than took it"
    lock.owner = None
    if not lock.wait_list:
        return
    raw_spin_lock(lock.wait_lock)
    # get the first entry from the wait-list; Not modelled: MUTEX_FLAG_HANDOFF
    first = lock.wait_list[0] if lock.wait_list else None
    raw_spin_unlock(lock.wait_lock)
    if first is not None:
        sched_core.wake_up_process(first)
