"""What the kernel knows of an interrupt line: include/linux/irq.h, irqdesc.h, kernel/irq/settings.h, v4.19."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskscope.model.include.linux.spinlock import Spinlock
from taskscope.model.include.linux.wait import WaitQueueHead

if TYPE_CHECKING:
    from taskscope.model.include.linux.interrupt import IrqAction
    from taskscope.model.irqline import IrqLine

# irq_data.state
IRQD_LEVEL: Final = 1 << 13             # the line is active as long as the device wants something
IRQD_IRQ_DISABLED: Final = 1 << 16
IRQD_IRQ_MASKED: Final = 1 << 17        # at the controller
IRQD_IRQ_INPROGRESS: Final = 1 << 18
IRQD_IRQ_STARTED: Final = 1 << 22

# irq_desc.istate
IRQS_SPURIOUS_DISABLED: Final = 0x02    # nobody has cared for too long
IRQS_POLL_INPROGRESS: Final = 0x08
IRQS_ONESHOT: Final = 0x20
IRQS_REPLAY: Final = 0x40               # is being sent again
IRQS_PENDING: Final = 0x200             # came while it was disabled or in progress

# irq_chip.flags
IRQCHIP_ONESHOT_SAFE: Final = 1 << 5    # a message: nothing that could stay active

ChipFunction = Callable[["IrqData"], None]


class IrqChip:
    """struct irq_chip: how the kernel talks to an interrupt controller."""

    __slots__ = ("flags", "irq_ack", "irq_mask", "irq_retrigger", "irq_set_affinity", "irq_unmask", "name")

    def __init__(
        self, name: str, irq_mask: ChipFunction, irq_unmask: ChipFunction, irq_ack: ChipFunction | None = None,
        irq_retrigger: ChipFunction | None = None, irq_set_affinity: Callable[[IrqData, int], int] | None = None,
        flags: int = 0,
    ) -> None:
        self.name = name
        self.irq_mask = irq_mask
        self.irq_unmask = irq_unmask
        self.irq_ack = irq_ack
        self.irq_retrigger = irq_retrigger
        self.irq_set_affinity = irq_set_affinity
        self.flags = flags


class IrqData:
    """struct irq_data: the line as its controller has it; ``line`` is the wire."""

    __slots__ = ("chip", "hwirq", "irq", "line", "state")

    def __init__(self, irq: int, hwirq: int, chip: IrqChip | None, line: IrqLine | None) -> None:
        self.irq = irq
        self.hwirq = hwirq
        self.chip = chip
        self.line = line
        self.state = IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED


class IrqDesc:
    """struct irq_desc: an interrupt line; also what the architecture counts beside them: IPIs, x86's local timer.

    Those have no irq_desc in C: they are told by ``vector`` and call ``handler()`` directly, as does ARM's timer, a
    line that each CPU has for itself.
    """

    __slots__ = (
        "action", "affinity", "depth", "handle_irq", "handler", "ipi", "irq", "irq_count", "irq_data", "irqs_unhandled",
        "istate", "kstat_irqs", "last_unhandled", "lock", "name", "threads_active", "threads_handled",
        "threads_handled_last", "threads_oneshot", "vector", "wait_for_threads",
    )

    def __init__(
        self, irq: int, name: str, cpus: int, data: IrqData, *,
        handler: Callable[[], None] | None = None, handle_irq: Callable[[IrqDesc], None] | None = None,
        ipi: bool = False, vector: bool = False,
    ) -> None:
        self.irq = irq
        self.name = name
        self.irq_data = data
        self.handler = handler
        self.handle_irq = handle_irq
        self.ipi = ipi
        self.vector = vector
        self.kstat_irqs = [0] * cpus
        self.affinity = (1 << cpus) - 1         # irq_common_data.affinity: CPUs that it may go to
        self.lock = Spinlock("irq_desc.lock")
        # lock:
        self.action: IrqAction | None = None
        self.istate = 0
        self.depth = 1                          # how often it is disabled
        self.irq_count = 0                      # for detecting broken lines
        self.irqs_unhandled = 0
        self.last_unhandled = 0                 # jiffies
        self.threads_handled = 0
        self.threads_handled_last = 0
        self.threads_oneshot = 0                # threads that must be done before the line is unmasked
        self.threads_active = 0
        self.wait_for_threads = WaitQueueHead("irq_desc.wait_for_threads")

    def __repr__(self) -> str:
        return f"<irq {self.irq} {self.name}>"


def actions_of(desc: IrqDesc) -> list[Any]:
    """Return the handlers of a line, first to last (for_each_action_of_desc())."""
    out = []
    action = desc.action
    while action is not None:
        out.append(action)
        action = action.next
    return out
