"""Wait queues: include/linux/wait.h, v4.19.  What works on them is in kernel/sched/wait.py.

``wait_event*()`` are macros in C; here the caller writes the loop that they expand to: `prepare_to_wait`, the test, the
sleep, `finish_wait`.  (Files in include/ import kernel/ inside functions only: kernel/ imports names from here.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead, list_add, list_add_tail, list_del_init
from taskscope.model.include.linux.spinlock import Spinlock

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

WQ_FLAG_EXCLUSIVE: Final = 0x01
WQ_FLAG_WOKEN: Final = 0x02
WQ_FLAG_BOOKMARK: Final = 0x04


class WaitQueueHead:
    """struct wait_queue_head."""

    __slots__ = ("head", "lock")

    def __init__(self, name: str = "wait_queue_head") -> None:
        self.lock = Spinlock(name)
        self.head = ListHead()


class WaitQueueEntry:
    """struct wait_queue_entry; ``owner`` is what container_of() would find."""

    __slots__ = ("entry", "flags", "func", "owner", "private")

    def __init__(
        self,
        private: Task | None,
        func: Callable[[WaitQueueEntry, int, int, Any], int],
        owner: Any = None,
    ) -> None:
        self.flags = 0
        self.private = private
        self.func = func
        self.owner = owner
        self.entry = ListHead(self)


def init_waitqueue_head(wq_head: WaitQueueHead) -> None:
    """Make the queue empty."""
    wq_head.__init__(wq_head.lock.name)  # type: ignore[misc]


def init_waitqueue_entry(wq_entry: WaitQueueEntry, p: Task) -> None:
    """Prepare an entry that wakes the task."""
    from taskscope.model.kernel.sched import core as sched_core

    wq_entry.flags = 0
    wq_entry.private = p
    wq_entry.func = sched_core.default_wake_function


def init_waitqueue_func_entry(wq_entry: WaitQueueEntry, func: Callable[[WaitQueueEntry, int, int, Any], int]) -> None:
    """Prepare an entry that calls the function."""
    wq_entry.flags = 0
    wq_entry.private = None
    wq_entry.func = func


def DEFINE_WAIT() -> WaitQueueEntry:
    """Return an entry for the running task that leaves the queue when it is woken."""
    from taskscope.model.kernel.sched import wait as sched_wait

    return WaitQueueEntry(machine.cur.cpu.curr, sched_wait.autoremove_wake_function)


def DECLARE_WAITQUEUE(tsk: Task) -> WaitQueueEntry:
    """Return an entry for the task that stays on the queue until remove_wait_queue()."""
    from taskscope.model.kernel.sched import core as sched_core

    return WaitQueueEntry(tsk, sched_core.default_wake_function)


def waitqueue_active(wq_head: WaitQueueHead) -> bool:
    """Tell whether somebody waits."""
    return wq_head.head.next is not wq_head.head


def __add_wait_queue(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    list_add(wq_entry.entry, wq_head.head)


def __add_wait_queue_entry_tail(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    list_add_tail(wq_entry.entry, wq_head.head)


def __remove_wait_queue(wq_head: WaitQueueHead, wq_entry: WaitQueueEntry) -> None:
    del wq_head
    list_del_init(wq_entry.entry)


def wake_up(x: WaitQueueHead) -> None:
    """Wake the waiters in TASK_NORMAL: all that are not exclusive, and one that is."""
    from taskscope.model.kernel.sched import wait as sched_wait

    sched_wait.__wake_up(x, 3, 1, None)


def wake_up_nr(x: WaitQueueHead, nr: int) -> None:
    """Wake as `wake_up`, but `nr` exclusive ones."""
    from taskscope.model.kernel.sched import wait as sched_wait

    sched_wait.__wake_up(x, 3, nr, None)


def wake_up_all(x: WaitQueueHead) -> None:
    """Wake all waiters in TASK_NORMAL."""
    from taskscope.model.kernel.sched import wait as sched_wait

    sched_wait.__wake_up(x, 3, 0, None)


def wake_up_interruptible(x: WaitQueueHead) -> None:
    """Wake the waiters in TASK_INTERRUPTIBLE, one exclusive."""
    from taskscope.model.kernel.sched import wait as sched_wait

    sched_wait.__wake_up(x, 1, 1, None)


def wake_up_interruptible_all(x: WaitQueueHead) -> None:
    """Wake all waiters in TASK_INTERRUPTIBLE."""
    from taskscope.model.kernel.sched import wait as sched_wait

    sched_wait.__wake_up(x, 1, 0, None)


def wake_up_interruptible_sync_poll(x: WaitQueueHead, key: Any) -> None:
    """Wake as `wake_up_interruptible`, telling that the waker is about to sleep."""
    from taskscope.model.kernel.sched import wait as sched_wait

    sched_wait.__wake_up_sync_key(x, 1, 1, key)
