"""The locks that a task holds when it ends: the robust list, kernel/futex.c, v4.19; kernel/futex/core.c since v5.16.

The list is in user memory: each entry is a pointer to the next, the lock's word stands `futex_offset` bytes beside it,
and bit 0 of a pointer marks a priority inheritance lock.  The head has three words: the first entry, the offset, and
the entry that is about to be taken or released.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.futex.waitwake as waitwake
import taskscope.model.kernel.pid as pid_
from taskscope.model import machine
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.uaccess import Word, get_user, put_user
from taskscope.model.include.uapi.linux.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_OWNER_DIED,
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
)
from taskscope.model.kernel.futex.futex import FLAGS_SHARED

#: so that a list that runs in a circle ends
ROBUST_LIST_LIMIT: Final = 2048


def handle_futex_death(address: int, curr: Task, pi: int, pending_op: bool) -> int:
    """Mark a lock as left by a dead owner, and wake one who waits for it; -1 if it cannot be reached."""
    if address % 4:
        return -1
    uaddr = Word(address)
    uval = int(get_user(uaddr)) & 0xFFFF_FFFF
    # Special case for regular (non PI) futexes.  The unlock path in user space has two race scenarios: the task was
    # killed before it had woken the others, whose lock is 0 already (v5.5: ca16d5bee598, "futex: Prevent robust futex
    # exit race").
    if pending_op and not pi and not uval and machine.cur.flavour.version >= (5, 5):
        waitwake.futex_wake(uaddr, FLAGS_SHARED, 1, FUTEX_BITSET_MATCH_ANY)
        return 0
    if uval & FUTEX_TID_MASK != pid_.task_pid_vnr(curr):
        return 0
    # Ok, this dying thread is truly holding a futex of interest.  Set the OWNER_DIED bit atomically via cmpxchg, and if
    # the value had FUTEX_WAITERS set, wake up a waiter (if any).  (We have to do a futex_wake() even if OWNER_DIED is
    # already set - to handle the rare but possible case of recursive thread-death.)
    put_user(uval & FUTEX_WAITERS | FUTEX_OWNER_DIED, uaddr)
    # Wake robust non-PI futexes here.  The wakeup of PI futexes happens in exit_pi_state().
    if not pi and uval & FUTEX_WAITERS:
        waitwake.futex_wake(uaddr, FLAGS_SHARED, 1, FUTEX_BITSET_MATCH_ANY)
    return 0


def fetch_robust_entry(address: int) -> tuple[int, int]:
    """Read a pointer of the list: the entry, and whether it is marked as priority inheritance."""
    uentry = get_user(Word(address))
    if not isinstance(uentry, int):
        return 0, 0
    return uentry & ~1, uentry & 1


def exit_robust_list(curr: Task) -> None:
    """Walk curr's list and mark the locks that it holds: called while its memory is still there.

    We silently return on any sign of list-walking problem.
    """
    head = curr.robust_list
    assert isinstance(head, Word), "set_robust_list() takes addresses"
    word = machine.cur.flavour.long_size
    # Fetch the list head (which was registered earlier, via sys_set_robust_list()), the relative futex offset, and any
    # possibly pending lock-add first and handle it if it exists.
    entry, pi = fetch_robust_entry(head.addr)
    futex_offset = int(get_user(Word(head.addr + word)))
    pending, pip = fetch_robust_entry(head.addr + 2 * word)
    limit = ROBUST_LIST_LIMIT
    while entry != head.addr:
        if not entry:
            return                          # a fault
        # Fetch the next entry in the list before calling handle_futex_death().
        next_entry, next_pi = fetch_robust_entry(entry)
        # A pending lock might already be on the list, so don't process it twice.
        if entry != pending and handle_futex_death(entry + futex_offset, curr, pi, False):
            return
        entry, pi = next_entry, next_pi
        # Avoid excessively long or circular lists.
        limit -= 1
        if not limit:
            break
    if pending:
        handle_futex_death(pending + futex_offset, curr, pip, True)
