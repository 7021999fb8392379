"""Fast user space mutexes: kernel/futex.c, v4.19; the directory kernel/futex/ since v5.16, whose files these are.

A futex is a word of user memory.  The kernel knows it only while somebody sleeps on it: the sleeper stands in the hash
bucket of the word's key (`core`), is woken (`waitwake`) or moved to another word (`requeue`).  `robust` goes over the
locks that a task holds when it ends.

`pi` has the locks whose owner is lent the priority of who waits.

Not modelled: FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI (-ENOSYS), futexes in memory that processes with different
address spaces share, as there is none, futex_waitv() and its relatives.
"""

from __future__ import annotations

from taskscope.model.kernel.futex.core import (
    futex_init,
    futex_setup_timer,
    get_futex_key,
    get_futex_value_locked,
    hash_futex,
    queue_me,
    unqueue_me,
)
from taskscope.model.kernel.futex.futex import (
    FLAGS_CLOCKRT,
    FLAGS_HAS_TIMEOUT,
    FLAGS_SHARED,
    FutexHashBucket,
    FutexKey,
    FutexQ,
)
from taskscope.model.kernel.futex.pi import exit_pi_state_list, futex_lock_pi, futex_unlock_pi
from taskscope.model.kernel.futex.requeue import futex_requeue
from taskscope.model.kernel.futex.robust import ROBUST_LIST_LIMIT, exit_robust_list, handle_futex_death
from taskscope.model.kernel.futex.syscalls import do_futex, sys_futex, sys_get_robust_list, sys_set_robust_list
from taskscope.model.kernel.futex.waitwake import (
    futex_wait,
    futex_wait_queue_me,
    futex_wait_restart,
    futex_wake,
    futex_wake_op,
    mark_wake_futex,
)

__all__ = [
    "FLAGS_CLOCKRT",
    "FLAGS_HAS_TIMEOUT",
    "FLAGS_SHARED",
    "ROBUST_LIST_LIMIT",
    "FutexHashBucket",
    "FutexKey",
    "FutexQ",
    "do_futex",
    "exit_pi_state_list",
    "exit_robust_list",
    "futex_init",
    "futex_lock_pi",
    "futex_requeue",
    "futex_setup_timer",
    "futex_unlock_pi",
    "futex_wait",
    "futex_wait_queue_me",
    "futex_wait_restart",
    "futex_wake",
    "futex_wake_op",
    "get_futex_key",
    "get_futex_value_locked",
    "handle_futex_death",
    "hash_futex",
    "mark_wake_futex",
    "queue_me",
    "sys_futex",
    "sys_get_robust_list",
    "sys_set_robust_list",
    "unqueue_me",
]
