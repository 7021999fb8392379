"""Sleeping on a word and waking who sleeps there: kernel/futex.c, v4.19; kernel/futex/waitwake.c since v5.16."""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINVAL, ENOSYS, ETIMEDOUT
from typing import Any, Final

import taskscope.model.kernel.futex.core as futex
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.core.wake_q as wake_q_
import taskscope.model.kernel.time.hrtimer as hrtimer
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTART_RESTARTBLOCK, ERESTARTSYS
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_ABS
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task
from taskscope.model.include.linux.spinlock import spin_lock, spin_unlock
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import Word, put_user
from taskscope.model.include.uapi.linux.futex import (
    FUTEX_OP_ADD,
    FUTEX_OP_ANDN,
    FUTEX_OP_CMP_EQ,
    FUTEX_OP_CMP_GE,
    FUTEX_OP_CMP_GT,
    FUTEX_OP_CMP_LE,
    FUTEX_OP_CMP_LT,
    FUTEX_OP_CMP_NE,
    FUTEX_OP_OPARG_SHIFT,
    FUTEX_OP_OR,
    FUTEX_OP_SET,
    FUTEX_OP_XOR,
)
from taskscope.model.kernel.futex.futex import FLAGS_HAS_TIMEOUT, FLAGS_SHARED, FutexHashBucket, FutexKey, FutexQ

_U32: Final = 0xFFFF_FFFF


# ---- wake -----------------------------------------------------------------------------------------------

def mark_wake_futex(wake_q: list[Task], q: FutexQ) -> None:
    """Take a sleeper out and note it for wake_up_q(), which runs when the bucket's lock is free.

    Context: its bucket's lock held.
    """
    p = q.task
    futex.__unqueue_futex(q)
    wake_q_.wake_q_add(wake_q, p)


def futex_wake(uaddr: Any, flags: int, nr_wake: int, bitset: int) -> int:
    """Wake at most `nr_wake` sleepers of a word whose bitset has a bit of `bitset`; how many were woken.

    As the count is looked at after a wakeup, one is woken even for a `nr_wake` of 0 or less.
    """
    if not bitset:
        return -EINVAL
    key = futex.get_futex_key(uaddr, bool(flags & FLAGS_SHARED))
    if isinstance(key, int):
        return key
    hb = futex.hash_futex(key)
    # Make sure we really have tasks to wakeup
    if not hb.chain:
        return 0
    wake_q: list[Task] = []
    ret = 0
    spin_lock(hb.lock)
    for this in list(hb.chain):
        if this.key == key:
            if this.pi_state is not None:
                ret = -EINVAL
                break
            # Check if one of the bits is set in both bitsets
            if not this.bitset & bitset:
                continue
            mark_wake_futex(wake_q, this)
            ret += 1
            if ret >= nr_wake:
                break
    spin_unlock(hb.lock)
    wake_q_.wake_up_q(wake_q)
    return ret


def sign_extend32(value: int, index: int) -> int:
    """Return a two's complement number whose sign is bit `index` (include/linux/bitops.h)."""
    return value - (1 << index + 1) if value >> index & 1 else value


def futex_atomic_op_inuser(encoded_op: int, uaddr: Any) -> int:
    """Change a word and compare its old value: 1 or 0, or a negative errno.

    :param encoded_op: FUTEX_OP() of uapi/linux/futex.h: operation, comparison, their two arguments
    """
    op = encoded_op >> 28 & 7
    cmp = encoded_op >> 24 & 15
    oparg = sign_extend32(encoded_op >> 12 & 0xFFF, 11)
    cmparg = sign_extend32(encoded_op & 0xFFF, 11)
    if encoded_op & FUTEX_OP_OPARG_SHIFT << 28:
        # An argument outside of 0…31 is a program's mistake; kill this print and return -EINVAL when userspace is sane
        # again, says the C.
        oparg = 1 << (oparg & 31)
    if not isinstance(uaddr, Word):
        return -EFAULT
    # arch_futex_atomic_op_inuser(): one instruction, or a loop around a pair of them
    oldval = int(uaddr.get()) & _U32
    if op == FUTEX_OP_SET:
        new = oparg
    elif op == FUTEX_OP_ADD:
        new = oldval + oparg
    elif op == FUTEX_OP_OR:
        new = oldval | oparg
    elif op == FUTEX_OP_ANDN:
        new = oldval & ~oparg
    elif op == FUTEX_OP_XOR:
        new = oldval ^ oparg
    else:
        return -ENOSYS
    put_user(new & _U32, uaddr)
    signed = sign_extend32(oldval, 31)
    if cmp == FUTEX_OP_CMP_EQ:
        return int(signed == cmparg)
    if cmp == FUTEX_OP_CMP_NE:
        return int(signed != cmparg)
    if cmp == FUTEX_OP_CMP_LT:
        return int(signed < cmparg)
    if cmp == FUTEX_OP_CMP_GE:
        return int(signed >= cmparg)
    if cmp == FUTEX_OP_CMP_LE:
        return int(signed <= cmparg)
    if cmp == FUTEX_OP_CMP_GT:
        return int(signed > cmparg)
    return -ENOSYS


def _wake_some(hb: FutexHashBucket, key: FutexKey, nr_wake: int, wake_q: list[Task]) -> int:
    """Note sleepers of a word for wake_up_q(), or -EINVAL; the loop that stands twice in futex_wake_op().

    Context: hb.lock held.
    """
    ret = 0
    for this in list(hb.chain):
        if this.key == key:
            if this.pi_state is not None:
                return -EINVAL
            mark_wake_futex(wake_q, this)
            ret += 1
            if ret >= nr_wake:
                break
    return ret


def futex_wake_op(uaddr1: Any, flags: int, uaddr2: Any, nr_wake: int, nr_wake2: int, op: int) -> int:
    """Change the second word, wake sleepers of the first, and those of the second if its old value compares so."""
    key1 = futex.get_futex_key(uaddr1, bool(flags & FLAGS_SHARED))
    if isinstance(key1, int):
        return key1
    key2 = futex.get_futex_key(uaddr2, bool(flags & FLAGS_SHARED))
    if isinstance(key2, int):
        return key2
    hb1 = futex.hash_futex(key1)
    hb2 = futex.hash_futex(key2)
    wake_q: list[Task] = []
    futex.double_lock_hb(hb1, hb2)
    op_ret = futex_atomic_op_inuser(op, uaddr2)
    if op_ret < 0:
        futex.double_unlock_hb(hb1, hb2)
        return op_ret
    ret = _wake_some(hb1, key1, nr_wake, wake_q)
    if op_ret > 0 and ret >= 0:
        more = _wake_some(hb2, key2, nr_wake2, wake_q)
        ret = more if more < 0 else ret + more
    futex.double_unlock_hb(hb1, hb2)
    wake_q_.wake_up_q(wake_q)
    return ret


# ---- wait -----------------------------------------------------------------------------------------------

class FutexRestart:
    """struct restart_block of a futex_wait() with a timeout."""

    __slots__ = ("bitset", "flags", "fn", "rmtp", "time", "uaddr", "val")

    def __init__(self, uaddr: Any, val: int, time: int, bitset: int, flags: int) -> None:
        self.fn: Any = futex_wait_restart
        self.uaddr = uaddr
        self.val = val
        self.time = time
        self.bitset = bitset
        self.flags = flags
        self.rmtp = None


def futex_wait_setup(uaddr: Any, val: int, flags: int, q: FutexQ) -> FutexHashBucket | int:
    """Check that the word still has the value that the caller saw: its bucket with the lock held.

    :return: -EAGAIN (EWOULDBLOCK) if it has another, or another negative errno, without the lock
    """
    # Access the page AFTER the hash-bucket is locked.  Order is important: userspace waiter: val = var; if (cond(val))
    # futex_wait(&var, val); userspace waker: if (cond(var)) { var = new; futex_wake(&var); }
    key = futex.get_futex_key(uaddr, bool(flags & FLAGS_SHARED))
    if isinstance(key, int):
        return key
    q.key = key
    hb = futex.hash_futex(key)              # queue_lock()
    spin_lock(hb.lock)
    uval = futex.get_futex_value_locked(uaddr)
    if uval < 0:
        spin_unlock(hb.lock)
        return uval
    if uval != val:
        spin_unlock(hb.lock)
        return -EAGAIN
    return hb


def futex_wait_queue_me(hb: FutexHashBucket, q: FutexQ, timeout: hrtimer.HrtimerSleeper | None) -> None:
    """Queue up and sleep until woken, timed out or signalled.

    futex_wait_queue() since v5.16, futex_do_wait() since v6.16: what WCHAN shows of who waits for a futex.

    Context: hb.lock held; released.
    """
    current = machine.cur.cpu.curr
    # The task state is guaranteed to be set before another task can wake it.
    current.state = TASK_INTERRUPTIBLE
    futex.queue_me(q, hb)
    # Arm the timer
    if timeout is not None:
        hrtimer.hrtimer_start_expires(timeout.timer, HRTIMER_MODE_ABS)
    # If we have been removed from the hash list, then another task has tried to wake us, and we can skip the call to
    # schedule().  If the timer has already expired, current will already be flagged for rescheduling.
    if q.hb is not None and (timeout is None or timeout.task is not None):
        sched_core.schedule()
    current.state = TASK_RUNNING


def futex_wait(uaddr: Any, flags: int, val: int, abs_time: int | None, bitset: int) -> int:
    """Sleep on a word as long as it has a value: 0 when woken.

    :param abs_time: when to give up (ns), None: never
    :return: -EAGAIN: another value; -ETIMEDOUT; -ERESTART*: a signal
    """
    if not bitset:
        return -EINVAL
    current = machine.cur.cpu.curr
    to = futex.futex_setup_timer(abs_time, flags)
    while True:
        # Prepare to wait on uaddr.
        q = FutexQ(bitset)
        hb = futex_wait_setup(uaddr, val, flags, q)
        if isinstance(hb, int):
            ret = hb
            break
        # queue_me and wait for wakeup, timeout, or a signal.
        futex_wait_queue_me(hb, q, to)
        # If we were woken (and unqueued), we succeeded, whatever.
        if not futex.unqueue_me(q):
            ret = 0
            break
        if to is not None and to.task is None:
            ret = -ETIMEDOUT
            break
        # We expect signal_pending(current), but we might be the victim of a spurious wakeup as well.
        if not signal_pending(current):
            continue
        if abs_time is None:
            ret = -ERESTARTSYS
            break
        current.restart_block = FutexRestart(uaddr, val, abs_time, bitset, flags | FLAGS_HAS_TIMEOUT)
        ret = -ERESTART_RESTARTBLOCK
        break
    if to is not None:
        hrtimer.hrtimer_cancel(to.timer)
    return ret


def futex_wait_restart(restart: FutexRestart) -> int:
    """Go on with a wait that a signal without a handler interrupted, up to the same end."""
    # Not modelled: do_no_restart_syscall(), which a second restart_syscall() by a program's own hand would get.
    time = restart.time if restart.flags & FLAGS_HAS_TIMEOUT else None
    return futex_wait(restart.uaddr, restart.flags, restart.val, time, restart.bitset)
