"""Interrupt handlers, softirqs and tasklets: include/linux/interrupt.h, irqreturn.h, v4.19.

What the kernel knows of the line itself is in include/linux/irqdesc.py; the code is in kernel/irq/ and
kernel/softirq.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

#: irq_handler_t: ``handler(irq, dev_id)`` returns IRQ_NONE, IRQ_HANDLED or IRQ_WAKE_THREAD
IrqHandler = Callable[[int, Any], int]

# irqreturn_t
IRQ_NONE: Final = 0                     # not from this device, or not handled
IRQ_HANDLED: Final = 1 << 0
IRQ_WAKE_THREAD: Final = 1 << 1         # the handler's thread is to do the rest

# Flags of request_irq().
IRQF_TRIGGER_RISING: Final = 0x0000_0001
IRQF_TRIGGER_HIGH: Final = 0x0000_0004
IRQF_TRIGGER_MASK: Final = 0x0000_000F
IRQF_SHARED: Final = 0x0000_0080        # several devices may have the line
IRQF_PERCPU: Final = 0x0000_0400
IRQF_ONESHOT: Final = 0x0000_2000       # the line stays masked until the thread is done
IRQF_NO_THREAD: Final = 0x0001_0000     # not even with threadirqs

# What a thread_flags word holds.
IRQTF_RUNTHREAD: Final = 1 << 0         # the handler wants the thread to run
IRQTF_WARNED: Final = 1 << 1
IRQTF_AFFINITY: Final = 1 << 2          # the thread is to follow the line's affinity
IRQTF_FORCED_THREAD: Final = 1 << 3     # threadirqs made it a thread

HI_SOFTIRQ: Final = 0
TIMER_SOFTIRQ: Final = 1
NET_TX_SOFTIRQ: Final = 2
NET_RX_SOFTIRQ: Final = 3
BLOCK_SOFTIRQ: Final = 4
IRQ_POLL_SOFTIRQ: Final = 5
TASKLET_SOFTIRQ: Final = 6
SCHED_SOFTIRQ: Final = 7
HRTIMER_SOFTIRQ: Final = 8
RCU_SOFTIRQ: Final = 9
NR_SOFTIRQS: Final = 10
SOFTIRQ_NAMES: Final = (
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
)

TASKLET_STATE_SCHED: Final = 1 << 0     # on a list, to be run
TASKLET_STATE_RUN: Final = 1 << 1       # a CPU runs it


class IrqAction:
    """struct irqaction: one handler of a line, with its thread if it has one."""

    __slots__ = (
        "dev_id", "flags", "handler", "irq", "name", "next", "secondary", "thread", "thread_flags", "thread_fn",
        "thread_mask",
    )

    def __init__(
        self, handler: IrqHandler, thread_fn: IrqHandler | None, flags: int, name: str, dev_id: Any,
    ) -> None:
        self.irq = 0
        self.handler = handler
        self.thread_fn = thread_fn
        self.flags = flags
        self.name = name
        self.dev_id = dev_id
        self.next: IrqAction | None = None              # the next handler of a shared line
        self.thread: Task | None = None
        self.thread_flags = 0
        self.thread_mask = 0                            # its bit in desc.threads_oneshot
        self.secondary: IrqAction | None = None         # the thread half of what threadirqs made a thread

    def __repr__(self) -> str:
        return f"<irqaction {self.irq} {self.name}>"


class TaskletStruct:
    """struct tasklet_struct: a function to be called once in softirq context, on one CPU at a time.

    ``use_callback`` (v5.9) says that the function gets the tasklet itself and not ``data``.
    """

    __slots__ = ("address", "count", "data", "func", "state", "use_callback")

    def __init__(self, func: Callable[[Any], None], data: Any, use_callback: bool = False) -> None:
        self.func = func
        self.data = data
        self.use_callback = use_callback
        self.state = 0
        self.count = 0                                  # of tasklet_disable()
        self.address = 0                                # where it stands, if its owner knows

    def __repr__(self) -> str:
        return f"<tasklet {self.func.__name__}>"
