"""Waiting on a queue, and waking it: kernel/sched/wait.c, v4.19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux.list import list_add, list_add_tail, list_del_init
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, signal_pending_state
from taskscope.model.include.linux.spinlock import raw_spin_lock_irqsave, raw_spin_unlock_irqrestore
from taskscope.model.include.linux.wait import WQ_FLAG_EXCLUSIVE, WaitQueueEntry, WaitQueueHead
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.sched.sched import WF_SYNC

ERESTARTSYS = 512


def add_wait_queue(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    """Wait with others: all are woken together."""
    wq_entry.flags &= ~WQ_FLAG_EXCLUSIVE
    flags = raw_spin_lock_irqsave(wq_head.lock)
    list_add(wq_entry.entry, wq_head.head)
    raw_spin_unlock_irqrestore(wq_head.lock, flags)


def add_wait_queue_exclusive(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    """Wait in turn: one is woken at a time."""
    wq_entry.flags |= WQ_FLAG_EXCLUSIVE
    flags = raw_spin_lock_irqsave(wq_head.lock)
    list_add_tail(wq_entry.entry, wq_head.head)
    raw_spin_unlock_irqrestore(wq_head.lock, flags)


def remove_wait_queue(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    """Wait no more."""
    flags = raw_spin_lock_irqsave(wq_head.lock)
    list_del_init(wq_entry.entry)
    raw_spin_unlock_irqrestore(wq_head.lock, flags)


def __wake_up_common(wq_head: WaitQueueHead, mode: int, nr_exclusive: int, wake_flags: int, key: Any) -> int:
    # Non-exclusive tasks are all woken; nr_exclusive says how many of the others.  A function may take its entry off.
    head = wq_head.head
    node = head.next
    while node is not head:
        after = node.next
        curr: WaitQueueEntry = node.owner
        flags = curr.flags
        ret = curr.func(curr, mode, wake_flags, key)
        if ret < 0:
            break
        if ret and flags & WQ_FLAG_EXCLUSIVE:
            nr_exclusive -= 1
            if not nr_exclusive:
                break
        node = after
    return nr_exclusive


def __wake_up_common_lock(wq_head: WaitQueueHead, mode: int, nr_exclusive: int, wake_flags: int, key: Any) -> None:
    # Not modelled: bookmarks, which let others at the lock of a long queue.
    flags = raw_spin_lock_irqsave(wq_head.lock)
    __wake_up_common(wq_head, mode, nr_exclusive, wake_flags, key)
    raw_spin_unlock_irqrestore(wq_head.lock, flags)


def __wake_up(wq_head: WaitQueueHead, mode: int, nr_exclusive: int, key: Any) -> None:
    """Wake the threads that wait on the queue in one of the states of `mode`; `nr_exclusive` 0 means all."""
    __wake_up_common_lock(wq_head, mode, nr_exclusive, 0, key)


def __wake_up_locked(wq_head: WaitQueueHead, mode: int, nr: int) -> None:
    """Wake as `__wake_up`.  Context: wq_head.lock held."""
    assert wq_head.lock.held, "wq_head.lock"
    __wake_up_common(wq_head, mode, nr, 0, None)


def __wake_up_sync_key(wq_head: WaitQueueHead, mode: int, nr_exclusive: int, key: Any) -> None:
    """Wake as `__wake_up`, telling the scheduler that the waker is about to sleep."""
    __wake_up_common_lock(wq_head, mode, nr_exclusive, WF_SYNC, key)


def prepare_to_wait(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry, state: int) -> None:
    """Get on the queue and set the state; what is waited for is tested afterwards, so that no wakeup is lost."""
    wq_entry.flags &= ~WQ_FLAG_EXCLUSIVE
    flags = raw_spin_lock_irqsave(wq_head.lock)
    entry = wq_entry.entry
    if entry.next is entry:
        list_add(entry, wq_head.head)
    machine.cur.cpu.curr.state = state
    raw_spin_unlock_irqrestore(wq_head.lock, flags)


def prepare_to_wait_exclusive(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry, state: int) -> None:
    """Get on the queue's end, to be woken in turn, and set the state."""
    wq_entry.flags |= WQ_FLAG_EXCLUSIVE
    flags = raw_spin_lock_irqsave(wq_head.lock)
    entry = wq_entry.entry
    if entry.next is entry:
        list_add_tail(entry, wq_head.head)
    machine.cur.cpu.curr.state = state
    raw_spin_unlock_irqrestore(wq_head.lock, flags)


def prepare_to_wait_event(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry, state: int) -> int:
    """Get on the queue and set the state, unless a signal is pending that ends the sleep.

    :return: 0 or -ERESTARTSYS
    """
    flags = raw_spin_lock_irqsave(wq_head.lock)
    ret = 0
    entry = wq_entry.entry
    if signal_pending_state(state, machine.cur.cpu.curr):
        # Exclusive waiter must not fail if it was selected by wakeup, it should "consume" the condition we were waiting
        # for: so it is taken off here, and the next is woken.
        list_del_init(entry)
        ret = -ERESTARTSYS
    else:
        if entry.next is entry:
            if wq_entry.flags & WQ_FLAG_EXCLUSIVE:
                list_add_tail(entry, wq_head.head)
            else:
                list_add(entry, wq_head.head)
        machine.cur.cpu.curr.state = state
    raw_spin_unlock_irqrestore(wq_head.lock, flags)
    return ret


def finish_wait(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    """Be running again, and off the queue."""
    machine.cur.cpu.curr.state = 0
    entry = wq_entry.entry
    # We can check for list emptiness outside the lock: a waker that took the entry off is done with it.
    if entry.next is not entry:
        flags = raw_spin_lock_irqsave(wq_head.lock)
        list_del_init(entry)
        raw_spin_unlock_irqrestore(wq_head.lock, flags)


def wait_event_interruptible_exclusive(wq_head: WaitQueueHead, condition: Callable[[Any], bool], arg: Any) -> int:
    """Sleep in turn until ``condition(arg)`` holds, or a signal comes: the macro of include/linux/wait.h.

    :return: 0 or -ERESTARTSYS
    """
    if condition(arg):
        return 0
    wq_entry = WaitQueueEntry(machine.cur.cpu.curr, autoremove_wake_function)
    wq_entry.flags |= WQ_FLAG_EXCLUSIVE
    while True:
        ret = prepare_to_wait_event(wq_head, wq_entry, TASK_INTERRUPTIBLE)
        if condition(arg):
            break
        if ret:
            return ret
        core.schedule()
    finish_wait(wq_head, wq_entry)
    return 0


def autoremove_wake_function(wq_entry: WaitQueueEntry, mode: int, sync: int, key: Any) -> int:
    """Wake the task and, if it was woken, take its entry off the queue."""
    ret = core.default_wake_function(wq_entry, mode, sync, key)
    if ret:
        list_del_init(wq_entry.entry)
    return ret
