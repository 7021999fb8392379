"""The queue entries of signals: kernel/signal.c, v4.19.

Each is charged to the user whom the signal is sent to; RLIMIT_SIGPENDING bounds how many there are.  A POSIX timer has
one of its own, which is queued again and again.
"""

from __future__ import annotations

import taskscope.model.lib.fault_inject as fault_inject
from taskscope.model import machine
from taskscope.model.include.linux.list import list_del_init, list_for_each_entry
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.sched_signal import (
    RLIMIT_SIGPENDING,
    SI_TIMER,
    SigPending,
    Sigqueue,
    SigqueuePrealloc,
    rlimit,
)
from taskscope.model.include.linux.spinlock import spin_lock_irqsave, spin_unlock_irqrestore


def __sigqueue_alloc(t: Task, override_rlimit: bool) -> Sigqueue | None:
    """Allocate a queue entry, charged to the user of the target; None if that has too many."""
    user = t.cred.user
    user.sigpending += 1
    if (override_rlimit or user.sigpending <= rlimit(t, RLIMIT_SIGPENDING)) and not fault_inject.should_fail(
        "sigqueue"
    ):
        return Sigqueue(user)
    user.sigpending -= 1
    return None


def __sigqueue_free(q: Sigqueue) -> None:
    if q.preallocated:
        return
    q.user.sigpending -= 1


def sigqueue_alloc() -> SigqueuePrealloc | None:
    """Allocate the queue entry of a POSIX timer of the caller; None beyond RLIMIT_SIGPENDING."""
    q = __sigqueue_alloc(machine.cur.cpu.curr, False)
    return None if q is None else SigqueuePrealloc(q.user)


def sigqueue_free(q: SigqueuePrealloc) -> None:
    """Let go of a timer's queue entry; one that is queued still is freed when the signal is taken."""
    assert q.preallocated, "sigqueue_free() of what is no timer's"
    q.preallocated = False
    if q.list.next is q.list:
        __sigqueue_free(q)


def flush_sigqueue(queue: SigPending) -> None:
    """Throw all pending signals away."""
    queue.signal = 0
    for q in list_for_each_entry(queue.list):
        list_del_init(q.list)
        __sigqueue_free(q)


def flush_sigqueue_mask(mask: int, s: SigPending) -> None:
    """Throw the pending signals of a set away."""
    if not s.signal & mask:
        return
    s.signal &= ~mask
    for q in list_for_each_entry(s.list):
        if mask >> (q.info.si_signo - 1) & 1:
            list_del_init(q.list)
            __sigqueue_free(q)


def flush_itimer_signals() -> None:
    """Throw away what POSIX timers have sent the caller's process: its timers go with its program."""
    tsk = machine.cur.cpu.curr
    assert tsk.sighand is not None
    flags = spin_lock_irqsave(tsk.sighand.siglock)
    __flush_itimer_signals(tsk.pending)
    __flush_itimer_signals(tsk.signal.shared_pending)
    spin_unlock_irqrestore(tsk.sighand.siglock, flags)


def __flush_itimer_signals(pending: SigPending) -> None:
    signal = pending.signal
    retain = 0
    for q in list_for_each_entry(pending.list):
        bit = 1 << (q.info.si_signo - 1)
        if q.info.si_code != SI_TIMER:
            retain |= bit
        else:
            signal &= ~bit
            list_del_init(q.list)
            __sigqueue_free(q)
    pending.signal = signal | retain
