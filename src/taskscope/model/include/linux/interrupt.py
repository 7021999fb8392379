"""Softirq numbers and interrupt descriptions: include/linux/interrupt.h, irqdesc.h, v4.19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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


class IrqDesc:
    """struct irq_desc with its one irqaction, or an inter-processor interrupt (``ipi`` True).

    ``label`` is the first column of /proc/interrupts, ``name`` the last.
    """

    __slots__ = ("chip", "handler", "ipi", "irq", "kstat_irqs", "label", "name")

    def __init__(
        self, irq: int, label: str, name: str, handler: Callable[[], None], cpus: int, *, ipi: bool, chip: str = "",
    ) -> None:
        self.irq = irq
        self.label = label
        self.name = name
        self.chip = chip
        self.handler = handler
        self.ipi = ipi
        self.kstat_irqs = [0] * cpus

    def __repr__(self) -> str:
        return f"<irq {self.irq} {self.name}>"
