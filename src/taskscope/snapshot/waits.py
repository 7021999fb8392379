"""What a task in the kernel waits for, told by the functions on its stack: `kind_of_wait`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple


class Kthread(NamedTuple):
    """What a kernel thread runs.

    :param function: that it was made with
    :param inner: that this one calls for its user, where it is one for many (smpboot_thread_fn)
    :param about: what it works on: a work and its workqueue, an interrupt
    """

    function: str
    inner: str | None = None
    about: str | None = None


#: kind -> which function, anywhere above the scheduler, says so; the first that fits
_KINDS: Final = (
    ("vfork child", re.compile(r"wait_for_vfork_done|kernel_clone|_do_fork")),
    ("mutex", re.compile(r"(__)?mutex_lock|__ww_mutex_lock")),
    ("rwsem", re.compile(r"rwsem_down_(read|write)|__?down_(read|write)|down_(read|write)")),
    ("semaphore", re.compile(r"__down(_common|_interruptible|_killable|_timeout)?$|down$")),
    ("I/O", re.compile(r"io_schedule|blk_mq|submit_bio_wait|folio_wait_bit|wait_on_page_bit|wait_on_buffer|jbd2_")),
    ("RCU", re.compile(r"synchronize_rcu|wait_rcu_gp|__wait_rcu_gp|rcu_barrier|synchronize_srcu")),
    ("core dump", re.compile(r"coredump_wait|exit_mm|coredump_task_exit")),
    ("page fault handler", re.compile(r"handle_userfault")),
    ("work", re.compile(r"__?flush_work|flush_workqueue|cancel_work")),
    ("freezer", re.compile(r"__refrigerator")),
    ("ptrace", re.compile(r"ptrace_stop")),
    ("signal stop", re.compile(r"do_signal_stop")),
)
LOCKS: Final = frozenset({"mutex", "rwsem"})


def kind_of_wait(stack: Sequence[str]) -> str | None:
    """Return a word for what a sleeping task waits for; None if its functions do not tell.

    :param stack: functions, innermost first, with or without +offset/size
    """
    names = [entry.partition("+")[0] for entry in stack]
    for name in names:
        for kind, pattern in _KINDS:
            if pattern.match(name):
                return kind
    return None
