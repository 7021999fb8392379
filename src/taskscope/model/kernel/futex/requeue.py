"""Moving sleepers from one word to another: kernel/futex.c, v4.19; kernel/futex/requeue.c since v5.16."""

from __future__ import annotations

from errno import EAGAIN, EINVAL
from typing import Any

import taskscope.model.kernel.futex.core as futex
import taskscope.model.kernel.futex.waitwake as waitwake
import taskscope.model.kernel.sched.core.wake_q as wake_q_
import taskscope.model.lib.plist as plist
from taskscope.model.include.linux.sched import Task
from taskscope.model.kernel.futex.futex import FLAGS_SHARED, FutexHashBucket, FutexKey, FutexQ


def requeue_futex(q: FutexQ, hb1: FutexHashBucket, hb2: FutexHashBucket, key2: FutexKey) -> None:
    """Let a sleeper sleep on another word.

    Context: the locks of both buckets held.
    """
    # If key1 and key2 hash to the same bucket, no need to requeue.
    if hb1 is not hb2:
        plist.plist_del(q, hb1.chain)
        plist.plist_add(q, hb2.chain)
        q.hb = hb2
    q.key = key2


def futex_requeue(uaddr1: Any, flags: int, uaddr2: Any, nr_wake: int, nr_requeue: int, cmpval: int | None) -> int:
    """Wake some sleepers of one word and move more of them to another; how many both were.

    :param cmpval: FUTEX_CMP_REQUEUE: what the first word must have, else -EAGAIN; None: FUTEX_REQUEUE
    """
    if nr_wake < 0 or nr_requeue < 0:
        return -EINVAL
    # Not modelled: requeue_pi.
    key1 = futex.get_futex_key(uaddr1, bool(flags & FLAGS_SHARED))
    if isinstance(key1, int):
        return key1
    key2 = futex.get_futex_key(uaddr2, bool(flags & FLAGS_SHARED))
    if isinstance(key2, int):
        return key2
    hb1 = futex.hash_futex(key1)
    hb2 = futex.hash_futex(key2)
    wake_q: list[Task] = []
    task_count = 0
    futex.double_lock_hb(hb1, hb2)
    if cmpval is not None:
        curval = futex.get_futex_value_locked(uaddr1)
        if curval != cmpval:
            futex.double_unlock_hb(hb1, hb2)
            return curval if curval < 0 else -EAGAIN
    for this in list(hb1.chain):
        if task_count - nr_wake >= nr_requeue:
            break
        if this.key != key1:
            continue
        # FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI should always be paired with each other and no other futex ops.
        if this.pi_state is not None:
            task_count = -EINVAL
            break
        # Wake nr_wake waiters.  For requeue_pi, if we acquired the lock already, wake the waiter.
        task_count += 1
        if task_count <= nr_wake:
            waitwake.mark_wake_futex(wake_q, this)
        else:
            requeue_futex(this, hb1, hb2, key2)
    futex.double_unlock_hb(hb1, hb2)
    wake_q_.wake_up_q(wake_q)
    return task_count
