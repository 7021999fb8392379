"""Mutexes whose owner has the priority of the first who waits: kernel/locking/rtmutex.c, v4.19, as futexes use them.

A waiter stands on the list of its mutex; the first one of each mutex stands on its owner's list, too, whose first lends
the owner its priority.  An owner that waits itself passes that on, and so on along the chain.

Not modelled: mutexes of the kernel itself (rt_mutex_lock()), the fast paths, spinning on an owner that runs.
"""

from __future__ import annotations

from errno import EDEADLK, EINTR, ETIMEDOUT
from typing import TYPE_CHECKING, Final

import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.core.pi as sched_pi
import taskscope.model.kernel.sched.core.wake_q as wake_q_
import taskscope.model.lib.plist as plist
from taskscope.model import machine
from taskscope.model.include.linux.rtmutex import RtMutex, RtMutexWaiter, pi_of
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task
from taskscope.model.include.linux.spinlock import raw_spin_lock_irq, raw_spin_unlock_irq
from taskscope.model.include.linux.thread_info import signal_pending

if TYPE_CHECKING:
    from taskscope.model.kernel.time.hrtimer import HrtimerSleeper

#: max_lock_depth: how long a chain may be
MAX_LOCK_DEPTH: Final = 1024


# ---- who lends to whom ----------------------------------------------------------------------------------

def rt_mutex_adjust_prio(p: Task) -> None:
    """Give a task the priority of the first who waits for a mutex of it, if that is better than its own."""
    waiters = pi_of(p).pi_waiters
    sched_pi.rt_mutex_setprio(p, waiters[0].task if waiters else None)


def rt_mutex_enqueue(lock: RtMutex, waiter: RtMutexWaiter) -> None:
    """Put a waiter on its mutex's list, and in front of the owner if it is the first now.

    Context: wait_lock held.
    """
    before = lock.waiters[0] if lock.waiters else None
    plist.plist_add(waiter, lock.waiters)
    _first_changed(lock, before)


def rt_mutex_dequeue(lock: RtMutex, waiter: RtMutexWaiter) -> None:
    """Take a waiter off its mutex's list, and off the owner's.

    Context: wait_lock held.
    """
    before = lock.waiters[0]
    plist.plist_del(waiter, lock.waiters)
    _first_changed(lock, before)


def _first_changed(lock: RtMutex, before: RtMutexWaiter | None) -> None:
    """Let the owner's list have the first waiter in place of the one before (rt_mutex_dequeue_pi(), _enqueue_pi())."""
    now = lock.waiters[0] if lock.waiters else None
    if lock.owner is None or now is before:
        return
    owners = pi_of(lock.owner).pi_waiters
    if before is not None and before in owners:
        plist.plist_del(before, owners)
    if now is not None:
        plist.plist_add(now, owners)


def rt_mutex_adjust_prio_chain(task: Task | None, orig_lock: RtMutex | None, top_task: Task) -> int:
    """Pass a changed priority on along the chain of those who wait for each other.

    :param task: the first whose waiter may have to move
    :param orig_lock: the mutex that `top_task` is about to wait for: the chain must not come back there
    :return: 0, or -EDEADLK: it does
    """
    depth = 0
    while task is not None:
        depth += 1
        if depth > MAX_LOCK_DEPTH:
            return -EDEADLK
        rt_mutex_adjust_prio(task)
        waiter = pi_of(task).pi_blocked_on
        # Check whether the end of the boosting chain has been reached or the state of the chain has changed.
        if waiter is None:
            return 0
        lock = waiter.lock
        # Deadlock detection.  If the lock is the same as the original lock which caused us to walk the lock chain or if
        # the current lock is owned by the task which initiated the chain walk, we detected a deadlock.
        if orig_lock is not None and (lock is orig_lock or lock.owner is top_task):
            return -EDEADLK
        if waiter.prio != task.prio:
            # Requeue the waiter in the lock waiter tree.
            rt_mutex_dequeue(lock, waiter)
            waiter.prio = task.prio
            rt_mutex_enqueue(lock, waiter)
            # The lock has no owner: if the requeue made us the first waiter, we need to wake it to take the lock.
            if lock.owner is None and lock.waiters[0] is waiter:
                sched_core.wake_up_process(task)
        task = lock.owner
    return 0


def rt_mutex_adjust_pi(task: Task) -> None:
    """Pass a priority on that sched_setscheduler() has changed."""
    if task.pi is not None and task.pi.pi_blocked_on is not None:
        rt_mutex_adjust_prio_chain(task, None, task)


# ---- taking and waiting ---------------------------------------------------------------------------------

def try_to_take_rt_mutex(lock: RtMutex, task: Task, waiter: RtMutexWaiter | None) -> bool:
    """Take the mutex if it has no owner and nobody waits who comes first.

    :param waiter: of a task that waits; None: it does not yet

    Context: wait_lock held.
    """
    if lock.owner is not None:
        return False
    if waiter is not None:
        # If waiter is not the highest priority waiter of lock, give up.
        if waiter is not lock.waiters[0]:
            return False
        # We can acquire the lock.  Remove the waiter from the lock waiters tree.
        rt_mutex_dequeue(lock, waiter)
    elif lock.waiters and task.prio >= lock.waiters[0].prio:
        # If the lock has waiters already we check whether @task is eligible to take over the lock.
        return False
    # takeit: clear pi_blocked_on, and insert the new top waiter into @task's list of those who lend to it.
    pi_of(task).pi_blocked_on = None
    lock.owner = task
    if lock.waiters:
        plist.plist_add(lock.waiters[0], pi_of(task).pi_waiters)
    return True


def task_blocks_on_rt_mutex(lock: RtMutex, waiter: RtMutexWaiter, task: Task) -> int:
    """Queue a waiter and lend its priority along the chain: 0, or -EDEADLK.

    Context: wait_lock held.
    """
    owner = lock.owner
    # Early deadlock detection: two that take the same lock twice.
    if owner is task:
        return -EDEADLK
    waiter.task = task
    waiter.lock = lock
    waiter.prio = task.prio
    rt_mutex_enqueue(lock, waiter)
    pi_of(task).pi_blocked_on = waiter
    # Futexes ask for full deadlock detection (RT_MUTEX_FULL_CHAINWALK).
    return 0 if owner is None else rt_mutex_adjust_prio_chain(owner, lock, task)


def remove_waiter(lock: RtMutex, waiter: RtMutexWaiter) -> None:
    """Stop waiting, and take back what was lent.

    Context: wait_lock held; `waiter` is the running task's.
    """
    first = lock.waiters[0] is waiter
    rt_mutex_dequeue(lock, waiter)
    pi_of(waiter.task).pi_blocked_on = None
    # Only update priority if the waiter was the highest priority waiter of the lock and there is an owner to update.
    if first and lock.owner is not None:
        rt_mutex_adjust_prio_chain(lock.owner, None, waiter.task)


def rt_mutex_schedule() -> None:
    """Sleep until somebody hands the mutex over (v6.7)."""
    sched_core.schedule()


def __rt_mutex_slowlock(lock: RtMutex, state: int, timeout: HrtimerSleeper | None, waiter: RtMutexWaiter) -> int:
    """Try and sleep in turn until the mutex is ours: 0, -EINTR or -ETIMEDOUT.

    Context: wait_lock held; released while it sleeps.
    """
    m = machine.cur
    current = m.cpu.curr
    while True:
        # Try to acquire the lock:
        if try_to_take_rt_mutex(lock, current, waiter):
            return 0
        # TASK_INTERRUPTIBLE checks for signals and timeout.
        if signal_pending(current):
            return -EINTR
        if timeout is not None and timeout.task is None:
            return -ETIMEDOUT
        raw_spin_unlock_irq(lock.wait_lock)
        if m.flavour.version >= (6, 7):
            rt_mutex_schedule()
        else:
            sched_core.schedule()
        raw_spin_lock_irq(lock.wait_lock)
        current.state = state


# ---- for futexes ----------------------------------------------------------------------------------------

def rt_mutex_init_proxy_locked(lock: RtMutex, proxy_owner: Task) -> None:
    """Let a task own a mutex that it has not taken itself: it owns the futex."""
    lock.owner = proxy_owner


def __rt_mutex_start_proxy_lock(lock: RtMutex, waiter: RtMutexWaiter, task: Task) -> int:
    """Take the mutex (1), or queue up (0); -EDEADLK.

    Context: wait_lock held.
    """
    if try_to_take_rt_mutex(lock, task, None):
        return 1
    ret = task_blocks_on_rt_mutex(lock, waiter, task)
    if ret and lock.owner is None:
        # Reset the return value.  We might have returned with -EDEADLK and the owner released the lock meanwhile.
        return 0
    return ret


def rt_mutex_wait_proxy_lock(lock: RtMutex, to: HrtimerSleeper | None, waiter: RtMutexWaiter) -> int:
    """Sleep until the mutex is ours: 0, -EINTR or -ETIMEDOUT."""
    raw_spin_lock_irq(lock.wait_lock)
    # sleep on the mutex
    current = machine.cur.cpu.curr
    current.state = TASK_INTERRUPTIBLE
    ret = __rt_mutex_slowlock(lock, TASK_INTERRUPTIBLE, to, waiter)
    current.state = TASK_RUNNING
    # try_to_take_rt_mutex() has lent us what those behind us have.
    rt_mutex_adjust_prio(current)
    raw_spin_unlock_irq(lock.wait_lock)
    return ret


def rt_mutex_cleanup_proxy_lock(lock: RtMutex, waiter: RtMutexWaiter) -> bool:
    """Stop waiting after a failure: False if the mutex has become ours meanwhile."""
    cleanup = False
    raw_spin_lock_irq(lock.wait_lock)
    current = machine.cur.cpu.curr
    # Do an unconditional try-lock, this deals with the lock stealing state where __rt_mutex_futex_unlock() has given it
    # to nobody yet: it may be ours.
    if waiter.lock is lock and waiter in lock.waiters:
        try_to_take_rt_mutex(lock, current, waiter)
    # Unless we're the owner; we're still enqueued on the wait_list.  So check if we became owner, if not, take us off.
    if lock.owner is not current:
        if waiter in lock.waiters:
            remove_waiter(lock, waiter)
        cleanup = True
    rt_mutex_adjust_prio(current)
    raw_spin_unlock_irq(lock.wait_lock)
    return cleanup


def rt_mutex_futex_trylock(lock: RtMutex) -> bool:
    """Take the mutex if it is free."""
    raw_spin_lock_irq(lock.wait_lock)
    ret = try_to_take_rt_mutex(lock, machine.cur.cpu.curr, None)
    raw_spin_unlock_irq(lock.wait_lock)
    return ret


def rt_mutex_next_owner(lock: RtMutex) -> Task | None:
    """Return who will have the mutex next."""
    return lock.waiters[0].task if lock.waiters else None


def __rt_mutex_futex_unlock(lock: RtMutex, owner: Task, wake_q: list[Task]) -> None:
    """Release the mutex and note the first waiter for wake_up_q(): the owner has its own priority again.

    Context: wait_lock held.
    """
    if not lock.waiters:
        lock.owner = None
        return
    # mark_wakeup_next_waiter(): the waiter takes the lock itself when it runs; until then nobody owns it.
    waiter = lock.waiters[0]
    owners = pi_of(owner).pi_waiters
    if waiter in owners:
        plist.plist_del(waiter, owners)
    lock.owner = None
    rt_mutex_adjust_prio(owner)
    wake_q_.wake_q_add(wake_q, waiter.task)
