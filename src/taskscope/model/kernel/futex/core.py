"""Who sleeps on which word: keys, hash buckets, queueing, and what an exit lets go of.

kernel/futex.c, v4.19; kernel/futex/core.c since v5.16.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL
from typing import Any, Final

import taskscope.model.kernel.futex.pi as pi
import taskscope.model.kernel.futex.robust as robust
import taskscope.model.kernel.locking.mutex as mutex_
import taskscope.model.kernel.time.hrtimer as hrtimer
import taskscope.model.kernel.time.posix_timers as posix_timers
import taskscope.model.lib.plist as plist
from taskscope.model import machine
from taskscope.model.include.linux.futex import FUTEX_STATE_DEAD, FUTEX_STATE_EXITING, FUTEX_STATE_OK
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_ABS
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.sched import MAX_RT_PRIO, PF_EXITING, Task
from taskscope.model.include.linux.spinlock import spin_lock, spin_unlock
from taskscope.model.include.linux.uaccess import Word
from taskscope.model.kernel.futex.futex import FLAGS_CLOCKRT, FutexHashBucket, FutexKey, FutexQ

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
_U32: Final = 0xFFFF_FFFF


def futex_init() -> None:
    """Make the hash table: 256 buckets a CPU, rounded up to a power of two; an initcall.

    Since v6.16 a process with threads has a table of its own; which bucket a word falls into shows nowhere.
    """
    m = machine.cur
    m.futex_hashsize = 1 << (256 * m.nr_cpus - 1).bit_length()
    m.futex_queues = {}                     # buckets by number, each made when it is first wanted


def hash_futex(key: FutexKey) -> FutexHashBucket:
    """Return the bucket of a key."""
    m = machine.cur
    # jhash2() in C
    number = ((key.address >> 2) * 0x9E37_79B1 + key.mm.address + key.shared) & _U32
    number = (number ^ number >> 15) & m.futex_hashsize - 1
    hb = m.futex_queues.get(number)
    if hb is None:
        hb = m.futex_queues[number] = FutexHashBucket()
    return hb


def get_futex_key(uaddr: Any, fshared: bool) -> FutexKey | int:
    """Return the key of a word; -EINVAL if it is not aligned, -EFAULT if nothing is there.

    A private key needs no look at the memory: there the -EFAULT is that of who reads the word.
    """
    mapped = isinstance(uaddr, Word)
    address = uaddr.addr if mapped else uaddr or 0
    if not isinstance(address, int):
        return -EFAULT
    if address % 4:
        return -EINVAL
    # access_ok()
    if not 0 <= address < machine.cur.flavour.page_offset:
        return -EFAULT
    if fshared and not mapped:
        return -EFAULT
    mm = machine.cur.cpu.curr.mm
    # Not modelled: files and shared memory, whose key is an inode and an offset.
    return FutexKey(mm, address, fshared)


def get_futex_value_locked(uaddr: Any) -> int:
    """Read the word: its value, or -EFAULT."""
    if not isinstance(uaddr, Word):
        return -EFAULT
    return int(uaddr.get()) & _U32


def futex_setup_timer(time: int | None, flags: int) -> hrtimer.HrtimerSleeper | None:
    """Prepare the timer of a wait.

    :param time: when it ends (ns of CLOCK_MONOTONIC, of CLOCK_REALTIME with FLAGS_CLOCKRT); None: never
    """
    if time is None:
        return None
    current = machine.cur.cpu.curr
    to = hrtimer.HrtimerSleeper(current)
    realtime = bool(flags & FLAGS_CLOCKRT)
    hrtimer.hrtimer_init(to.timer, CLOCK_REALTIME if realtime else CLOCK_MONOTONIC, HRTIMER_MODE_ABS)
    hrtimer.hrtimer_init_sleeper(to, current)
    # The timers of the model are all of the one clock that they are programmed in.
    expires = max(time - posix_timers.BOOT_EPOCH, 0) if realtime else time
    to.timer.softexpires = expires
    to.timer.expires = min(expires + hrtimer.TIMER_SLACK, hrtimer.KTIME_MAX)
    return to


def queue_me(q: FutexQ, hb: FutexHashBucket) -> None:
    """Get into the bucket, ahead of those of lower priority, and release its lock.

    Realtime tasks are ordered by priority; all others are equal and woken in the order in which they came.

    Context: hb.lock held; released.
    """
    current = machine.cur.cpu.curr
    q.prio = min(current.normal_prio, MAX_RT_PRIO)
    q.task = current
    q.hb = hb
    plist.plist_add(q, hb.chain)
    spin_unlock(hb.lock)


def unqueue_me(q: FutexQ) -> bool:
    """Get out of the bucket after the sleep: False if somebody has woken us, which took us out."""
    hb = q.hb
    if hb is None:
        return False
    spin_lock(hb.lock)
    # Between two steps the bucket may change by a requeue, never between the look at lock_ptr and here.
    assert q.hb is hb, "a sleeper changed its bucket inside a step"
    __unqueue_futex(q)
    spin_unlock(hb.lock)
    return True


def __unqueue_futex(q: FutexQ) -> None:
    """Take a sleeper out of its bucket.

    Context: its lock held.
    """
    assert q.hb is not None, "a futex_q is taken out twice"
    assert q.hb.lock.held, "hb.lock"
    plist.plist_del(q, q.hb.chain)
    q.hb = None


def double_lock_hb(hb1: FutexHashBucket, hb2: FutexHashBucket) -> None:
    """Take the locks of two buckets, which may be one."""
    # The one with the lower address first, in C.
    spin_lock(hb1.lock)
    if hb1 is not hb2:
        spin_lock(hb2.lock)


def double_unlock_hb(hb1: FutexHashBucket, hb2: FutexHashBucket) -> None:
    """Release what double_lock_hb() took."""
    spin_unlock(hb1.lock)
    if hb1 is not hb2:
        spin_unlock(hb2.lock)


def futex_cleanup(tsk: Task) -> None:
    """Let go of all futexes of a task that exits or executes: futex_exit_release(), futex_exec_release(), v5.5.

    Who wants one of them meanwhile waits for the end of it (3ef240eaff36, "futex: Prevent exit livelock").  Before, he
    tried again and again: for ever, if he is more urgent than who exits and both have one CPU.
    """
    work = tsk.robust_list is not None or (tsk.pi is not None and bool(tsk.pi.pi_state_list))
    marks = not machine.cur.flavour.switches.pf_exitpidone
    if work and marks:
        # futex_cleanup_begin()
        if tsk.futex_exit_mutex is None:
            tsk.futex_exit_mutex = Mutex("futex_exit_mutex")
        mutex_.mutex_lock(tsk.futex_exit_mutex)
        tsk.futex_state = FUTEX_STATE_EXITING
    if tsk.robust_list is not None:
        robust.exit_robust_list(tsk)
        tsk.robust_list = None
    if tsk.pi is not None and tsk.pi.pi_state_list:
        pi.exit_pi_state_list(tsk)
    if marks:
        # futex_cleanup_end()
        tsk.futex_state = FUTEX_STATE_DEAD if tsk.flags & PF_EXITING else FUTEX_STATE_OK
        if work:
            mutex_.mutex_unlock(tsk.futex_exit_mutex)


def wait_for_owner_exiting(exiting: Task) -> None:
    """Sleep until a task has cleaned its futexes up."""
    mutex_.mutex_lock(exiting.futex_exit_mutex)
    # No point in doing state checking here.  If the waiter got here while the task was in exec()->exec_futex_release()
    # then it can have any FUTEX_STATE_* value when the waiter has acquired the mutex.
    mutex_.mutex_unlock(exiting.futex_exit_mutex)
