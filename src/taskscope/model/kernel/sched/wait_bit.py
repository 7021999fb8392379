"""Waiting for a bit of a word to be cleared: kernel/sched/wait_bit.c, v4.19.

The word is a member of a structure: an object and the name of its attribute.  The queues are hashed by address in the
kernel; here one stands for all, and who is woken in vain looks again, as two words with one hash value make it there.
"""

from __future__ import annotations

from typing import Any

import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as wait_
from taskscope.model import machine
from taskscope.model.include.linux.sched import TASK_RUNNING, set_current_state, signal_pending_state
from taskscope.model.include.linux.wait import DECLARE_WAITQUEUE, WaitQueueHead, waitqueue_active

EINTR = 4


def wait_bit_init() -> None:
    """Make the table of queues; called by sched_init()."""
    machine.cur.bit_wait_table = WaitQueueHead("bit_wait")


def wait_on_bit(owner: Any, word: str, bit: int, mode: int) -> int:
    """Sleep in state `mode` until the bits of ``owner.word`` are clear; -EINTR if a signal ends the sleep."""
    if not getattr(owner, word) & bit:
        return 0
    return out_of_line_wait_on_bit(owner, word, bit, mode)


def out_of_line_wait_on_bit(owner: Any, word: str, bit: int, mode: int) -> int:
    """Wait as `wait_on_bit`, when the bit was seen set."""
    m = machine.cur
    current = m.cpu.curr
    wq_entry = DECLARE_WAITQUEUE(current)
    wait_.add_wait_queue(m.bit_wait_table, wq_entry)
    ret = 0
    while True:
        set_current_state(mode)
        if not getattr(owner, word) & bit:
            break
        # bit_wait()
        if signal_pending_state(mode, current):
            ret = -EINTR
            break
        sched_core.schedule()
    current.state = TASK_RUNNING
    wait_.remove_wait_queue(m.bit_wait_table, wq_entry)
    return ret


def wake_up_bit(owner: Any, word: str, bit: int) -> None:
    """Wake those who wait for the bit."""
    del owner, word, bit
    queue = machine.cur.bit_wait_table
    if waitqueue_active(queue):
        # TASK_NORMAL, and killable sleepers among them
        wait_.__wake_up(queue, 3, 0, None)
