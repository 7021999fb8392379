"""Futexes with priority inheritance: kernel/futex.c, v4.19; kernel/futex/pi.c since v5.16.

The word has the owner's number, or 0.  Who finds it taken enters the kernel, which makes a mutex for it that its owner
owns without knowing (`FutexPiState`), and waits for that.

Not modelled: FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI (-ENOSYS).
"""

from __future__ import annotations

from errno import EAGAIN, EBUSY, EDEADLK, EFAULT, EINTR, EINVAL, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.kernel.futex.core as futex
import taskscope.model.kernel.locking.rtmutex as rtmutex
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core.wake_q as wake_q_
import taskscope.model.kernel.time.hrtimer as hrtimer
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTARTNOINTR
from taskscope.model.include.linux.futex import FUTEX_STATE_DEAD, FUTEX_STATE_EXITING
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_ABS
from taskscope.model.include.linux.rtmutex import RtMutexWaiter, pi_of
from taskscope.model.include.linux.sched import MAX_RT_PRIO, PF_EXITING, PF_EXITPIDONE, PF_KTHREAD, Task
from taskscope.model.include.linux.spinlock import raw_spin_lock_irq, raw_spin_unlock_irq, spin_lock, spin_unlock
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.uapi.linux.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS
from taskscope.model.kernel.futex.futex import FLAGS_SHARED, FutexHashBucket, FutexKey, FutexPiState, FutexQ
from taskscope.model.lib import plist

#: how long a try takes that is made again because the owner is about to be gone (ns)
_RETRY: Final = 2_000


def futex_top_waiter(hb: FutexHashBucket, key: FutexKey) -> FutexQ | None:
    """Return the first who sleeps on a word.

    Context: hb.lock held.
    """
    return next((this for this in hb.chain if this.key == key), None)


def pi_state_update_owner(pi_state: FutexPiState, owner: Task | None) -> None:
    """Note who owns the futex, and what its owner will have to give up when it ends."""
    if pi_state.owner is not None:
        pi_of(pi_state.owner).pi_state_list.remove(pi_state)
    pi_state.owner = owner
    if owner is not None:
        pi_of(owner).pi_state_list.append(pi_state)


def put_pi_state(pi_state: FutexPiState) -> None:
    """Drop a reference; the last one lets go of the mutex.

    Context: hb.lock held.
    """
    pi_state.refcount -= 1
    if pi_state.refcount:
        return
    # If pi_state->owner is NULL, the owner is most probably dying and has cleaned up the pi_state already.
    if pi_state.owner is not None:
        pi_state_update_owner(pi_state, None)
        pi_state.pi_mutex.owner = None          # rt_mutex_proxy_unlock()


def attach_to_pi_state(uval: int, pi_state: FutexPiState | None) -> FutexPiState | int:
    """Join those who wait already, if the word agrees with what they wait for; else -EINVAL."""
    # Userspace might have messed up non-PI and PI futexes
    if pi_state is None:
        return -EINVAL
    pid = uval & FUTEX_TID_MASK
    if uval & FUTEX_OWNER_DIED:
        # sanity check the pi_state->owner: [3], [4], [5] of the table of states in the C
        if pi_state.owner is None:
            if pid:
                return -EINVAL
        elif pid and pid != pid_.task_pid_vnr(pi_state.owner):
            return -EINVAL
    elif pi_state.owner is None or pid != pid_.task_pid_vnr(pi_state.owner):
        # If the owner died bit is not set, then the pi_state must have an owner, and it must be the one of the word.
        return -EINVAL
    pi_state.refcount += 1
    return pi_state


def attach_to_pi_owner(uval: int, key: FutexKey, exiting: list[Task]) -> FutexPiState | int:
    """Make the state of a futex on which nobody waits yet.

    :param exiting: gets the owner where -EBUSY is returned
    :return: it; -ESRCH: its owner is gone; -EBUSY: it cleans up; -EAGAIN: it will, before v5.5
    """
    p = pid_.find_task_by_vpid(uval & FUTEX_TID_MASK)
    if p is None:
        return -ESRCH
    if p.flags & PF_KTHREAD:
        return -EPERM
    # handle_exit_race(): until the exit has cleaned up its futexes, wait for that; afterwards nobody owns it.
    if machine.cur.flavour.switches.pf_exitpidone:
        if p.flags & PF_EXITING:
            return -ESRCH if p.flags & PF_EXITPIDONE else -EAGAIN
    elif p.futex_state == FUTEX_STATE_EXITING:
        exiting.append(p)
        return -EBUSY
    elif p.futex_state == FUTEX_STATE_DEAD:
        return -ESRCH
    pi_state = FutexPiState(key)
    # Initialize the pi_mutex in locked state and make @p the owner of it:
    rtmutex.rt_mutex_init_proxy_locked(pi_state.pi_mutex, p)
    pi_state_update_owner(pi_state, p)
    return pi_state


def futex_lock_pi_atomic(
    uaddr: Any, hb: FutexHashBucket, q: FutexQ, task: Task, exiting: list[Task]
) -> int:
    """Take the futex in user memory if it is free: 1; else find or make its state: 0, and ``q.pi_state`` is set.

    :param exiting: see `attach_to_pi_owner`
    Context: hb.lock held.
    """
    uval = futex.get_futex_value_locked(uaddr)
    if uval < 0:
        return uval
    vpid = pid_.task_pid_vnr(task)
    # Detect deadlocks.
    if uval & FUTEX_TID_MASK == vpid:
        return -EDEADLK
    # Lookup existing state first.  If it exists, try to attach to its pi_state.
    top_waiter = futex_top_waiter(hb, q.key)
    if top_waiter is not None:
        found = attach_to_pi_state(uval, top_waiter.pi_state)
    elif not uval & FUTEX_TID_MASK:
        # No waiter and user TID is 0.  We take over the futex, and preserve the owner died bit.
        put_user(uval & FUTEX_OWNER_DIED | vpid, uaddr)
        return 1
    else:
        # First waiter.  Set the waiters bit before attaching ourself to the owner.  If owner tries to unlock, it will
        # be forced into the kernel and blocked on hb->lock.
        put_user(uval | FUTEX_WAITERS, uaddr)
        found = attach_to_pi_owner(uval, q.key, exiting)
    if isinstance(found, int):
        return found
    q.pi_state = found
    return 0


def fixup_owner(uaddr: Any, q: FutexQ, hb: FutexHashBucket, locked: bool) -> bool:
    """Let word and state say that we own the futex, if we do, or who does that took it from us; True: it is ours.

    Context: hb.lock held; it may be released in between.
    """
    current = machine.cur.cpu.curr
    pi_state = q.pi_state
    assert pi_state is not None
    if locked:
        # Got the lock.  We might not be the anticipated owner if we did a lock-steal - fix up the PI-state then.
        if pi_state.owner is not current:
            fixup_pi_state_owner(uaddr, pi_state, current)
        return True
    # If we didn't get the lock; check if anybody stole it from us.  In that case, we need to fix up the uval to point
    # to them instead of us, otherwise bad things happen.
    while pi_state.owner is current:
        if rtmutex.rt_mutex_futex_trylock(pi_state.pi_mutex):
            # We got the lock.
            return True
        newowner = pi_state.pi_mutex.owner
        if newowner is not None:
            fixup_pi_state_owner(uaddr, pi_state, newowner)
            break
        # The higher priority waiter has not yet taken over: drop the lock and try again.
        spin_unlock(hb.lock)
        machine.cur.run_for(_RETRY)
        spin_lock(hb.lock)
    return False


def fixup_pi_state_owner(uaddr: Any, pi_state: FutexPiState, newowner: Task) -> None:
    """Write a new owner into word and state.  Context: hb.lock held."""
    newtid = pid_.task_pid_vnr(newowner) | FUTEX_WAITERS
    # Owner died?
    if pi_state.owner is None:
        newtid |= FUTEX_OWNER_DIED
    uval = futex.get_futex_value_locked(uaddr)
    put_user(uval & FUTEX_OWNER_DIED | newtid, uaddr)
    pi_state_update_owner(pi_state, newowner)


def futex_lock_pi(uaddr: Any, flags: int, time: int | None, trylock: bool) -> int:
    """Take the futex, sleeping until it is ours: 0, -EWOULDBLOCK with `trylock`, -ETIMEDOUT, -EDEADLK, -ESRCH …

    :param time: when to give up (ns), None: never
    """
    m = machine.cur
    current = m.cpu.curr
    to = futex.futex_setup_timer(time, flags)
    while True:
        key = futex.get_futex_key(uaddr, bool(flags & FLAGS_SHARED))
        if isinstance(key, int):
            return key
        q = FutexQ()
        q.key = key
        hb = futex.hash_futex(key)
        spin_lock(hb.lock)
        exiting: list[Task] = []
        ret = futex_lock_pi_atomic(uaddr, hb, q, current, exiting)
        if ret not in (-EAGAIN, -EBUSY):
            break
        # Two reasons for this: EAGAIN: The user space value changed.  EBUSY: The owner is exiting and we just wait for
        # the exit to complete.
        spin_unlock(hb.lock)
        if exiting:
            futex.wait_for_owner_exiting(exiting[0])
        m.run_for(_RETRY)                       # cond_resched(), and the way back to here
    if ret:
        spin_unlock(hb.lock)
        return 0 if ret == 1 else ret
    pi_state = q.pi_state
    assert pi_state is not None
    # Only actually queue now that the atomic ops are done:
    q.prio = min(current.normal_prio, MAX_RT_PRIO)
    q.task = current
    q.hb = hb
    plist.plist_add(q, hb.chain)
    if trylock:
        ret = 0 if rtmutex.rt_mutex_futex_trylock(pi_state.pi_mutex) else -EAGAIN
    else:
        ret = _wait_for_pi_mutex(pi_state, hb, to)
    # Fixup the pi_state owner and possibly acquire the lock if we haven't already.
    if fixup_owner(uaddr, q, hb, not ret):
        ret = 0
    # unqueue_me_pi()
    futex.__unqueue_futex(q)
    put_pi_state(pi_state)
    spin_unlock(hb.lock)
    if to is not None:
        hrtimer.hrtimer_cancel(to.timer)
    return ret if ret != -EINTR else -ERESTARTNOINTR


def _wait_for_pi_mutex(pi_state: FutexPiState, hb: FutexHashBucket, to: hrtimer.HrtimerSleeper | None) -> int:
    """Wait for the mutex of a futex: the middle of futex_lock_pi().

    Context: hb.lock held; released while it sleeps.
    """
    rt_waiter = RtMutexWaiter()
    mutex = pi_state.pi_mutex
    raw_spin_lock_irq(mutex.wait_lock)
    spin_unlock(hb.lock)
    ret = rtmutex.__rt_mutex_start_proxy_lock(mutex, rt_waiter, machine.cur.cpu.curr)
    raw_spin_unlock_irq(mutex.wait_lock)
    if ret == 1:
        ret = 0
    elif not ret:
        if to is not None:
            hrtimer.hrtimer_start_expires(to.timer, HRTIMER_MODE_ABS)
        ret = rtmutex.rt_mutex_wait_proxy_lock(mutex, to, rt_waiter)
    spin_lock(hb.lock)
    # If we failed to acquire the lock (deadlock/signal/timeout), we must first acquire the hb->lock before removing the
    # lock from the rt_mutex waitqueue, such that we can keep the hb and rt_mutex wait lists coherent.
    if ret and not rtmutex.rt_mutex_cleanup_proxy_lock(mutex, rt_waiter):
        ret = 0
    return ret


def futex_unlock_pi(uaddr: Any, flags: int) -> int:
    """Release the futex and hand it to the first who waits: 0, -EPERM if it is not ours."""
    uval = futex.get_futex_value_locked(uaddr)
    if uval < 0:
        return -EFAULT
    current = machine.cur.cpu.curr
    # We release only a lock we actually own:
    if uval & FUTEX_TID_MASK != pid_.task_pid_vnr(current):
        return -EPERM
    key = futex.get_futex_key(uaddr, bool(flags & FLAGS_SHARED))
    if isinstance(key, int):
        return key
    hb = futex.hash_futex(key)
    spin_lock(hb.lock)
    # Check waiters first.  We do not trust user space values at all and we at least want to know if user space fiddled
    # with the futex value instead of blindly unlocking.
    top_waiter = futex_top_waiter(hb, key)
    if top_waiter is None:
        # We have no kernel internal state, i.e. no waiters in the kernel.  We do neither preserve the WAITERS bit not
        # the OWNER_DIED one.
        put_user(0, uaddr)
        spin_unlock(hb.lock)
        return 0
    pi_state = top_waiter.pi_state
    # If current does not own the pi_state then the futex is inconsistent and user space fiddled with the futex value.
    if pi_state is None or pi_state.owner is not current:
        spin_unlock(hb.lock)
        return -EINVAL
    return wake_futex_pi(uaddr, hb, pi_state)


def wake_futex_pi(uaddr: Any, hb: FutexHashBucket, pi_state: FutexPiState) -> int:
    """Make the first waiter the owner, in user memory, too, and wake it.

    Context: hb.lock held; released.
    """
    current = machine.cur.cpu.curr
    mutex = pi_state.pi_mutex
    wake_q: list[Task] = []
    raw_spin_lock_irq(mutex.wait_lock)
    new_owner = rtmutex.rt_mutex_next_owner(mutex)
    # When we interleave with futex_lock_pi() where it does rt_mutex_timed_futex_lock(), we might observe @this futex_q
    # waiter, but the rt_mutex's wait_list can be empty.
    if new_owner is None:
        raw_spin_unlock_irq(mutex.wait_lock)
        spin_unlock(hb.lock)
        return -EAGAIN
    # We pass it to the next owner.  The WAITERS bit is always kept enabled while there is PI state around.
    put_user(FUTEX_WAITERS | pid_.task_pid_vnr(new_owner), uaddr)
    pi_state_update_owner(pi_state, new_owner)
    rtmutex.__rt_mutex_futex_unlock(mutex, current, wake_q)
    raw_spin_unlock_irq(mutex.wait_lock)
    spin_unlock(hb.lock)
    wake_q_.wake_up_q(wake_q)                   # rt_mutex_postunlock()
    return 0


def exit_pi_state_list(curr: Task) -> None:
    """Let go of the futexes that a task owns as it ends: who waits gets them, and finds FUTEX_OWNER_DIED."""
    for pi_state in list(curr.pi.pi_state_list):
        hb = futex.hash_futex(pi_state.key)
        wake_q: list[Task] = []
        spin_lock(hb.lock)
        raw_spin_lock_irq(pi_state.pi_mutex.wait_lock)
        pi_state_update_owner(pi_state, None)
        rtmutex.__rt_mutex_futex_unlock(pi_state.pi_mutex, curr, wake_q)
        raw_spin_unlock_irq(pi_state.pi_mutex.wait_lock)
        spin_unlock(hb.lock)
        wake_q_.wake_up_q(wake_q)
