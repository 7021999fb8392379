"""Threaded interrupts: kernel/irq/manage.c, v4.19.

request_threaded_irq() gives an interrupt a thread ``irq/NUMBER-NAME``, which does the second half of its work: the
handler, in hard interrupt context, looks at the device and wakes it (`__irq_wake_thread`; in C it returns
IRQ_WAKE_THREAD). Shared interrupts, affinity and free_irq() are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
from taskscope.model import machine
from taskscope.model.include.linux.interrupt import IrqDesc
from taskscope.model.include.linux.sched import SCHED_FIFO, TASK_INTERRUPTIBLE, TASK_RUNNING, Task, set_current_state

MAX_USER_RT_PRIO: Final = 100


class IrqAction:
    """struct irqaction: one handler with its thread."""

    __slots__ = ("handled", "irq", "name", "pending", "thread", "thread_fn")

    def __init__(self, irq: int, name: str, thread_fn: Callable[[int], None]) -> None:
        self.irq = irq
        self.name = name
        self.thread_fn = thread_fn
        self.thread: Task | None = None
        self.pending = False                # IRQTF_RUNTHREAD
        self.handled = 0                    # how often thread_fn has run


def __irq_wake_thread(action: IrqAction) -> None:
    """Let the thread do its half.

    Context: hard interrupt.
    """
    assert action.thread is not None, f"{action.name}: no thread"
    action.pending = True
    sched_core.wake_up_process(action.thread)


def irq_wait_for_interrupt(action: IrqAction) -> int:
    """Sleep until the handler wants the thread: 0; -1 when it is to end."""
    while True:
        set_current_state(TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            set_current_state(TASK_RUNNING)
            return -1
        if action.pending:
            action.pending = False
            set_current_state(TASK_RUNNING)
            return 0
        sched_core.schedule()


def irq_thread(data: Any) -> int:
    """Be the thread of an interrupt."""
    action: IrqAction = data
    while not irq_wait_for_interrupt(action):
        action.thread_fn(action.irq)
        action.handled += 1
    return 0


def setup_irq_thread(new: IrqAction, irq: int) -> int:
    """Make the thread: SCHED_FIFO, priority 50.

    Context: process context; sleeps.
    """
    t = kthread.kthread_create(irq_thread, new, f"irq/{irq}-{new.name}")
    if isinstance(t, int):
        return t
    sched_syscalls.sched_setscheduler_nocheck(t, SCHED_FIFO, MAX_USER_RT_PRIO // 2)
    new.thread = t
    return 0


def request_threaded_irq(
    irq: int, handler: Callable[[], None], thread_fn: Callable[[int], None], name: str, chip: str,
) -> IrqAction | int:
    """Give an interrupt a handler and a thread; a negative errno if the thread cannot be made.

    Context: process context; sleeps.
    """
    m = machine.cur
    action = IrqAction(irq, name, thread_fn)
    error = setup_irq_thread(action, irq)
    if error:
        return error
    assert action.thread is not None
    m.irq_descs.append(IrqDesc(irq, f"{irq}:", name, handler, m.nr_cpus, ipi=False, chip=chip))
    # The thread waits to be woken for its first interrupt: until then it has not begun.
    sched_core.wake_up_process(action.thread)
    return action
