"""The Pi's interrupt controller: drivers/irqchip/irq-bcm2835.c, rpi-4.19.y.

A line that is not masked interrupts CPU 0 as long as it is active.  Linux numbers the lines of the two banks from 24
on: 86 is line 94.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import irqline
from taskscope.model.include.linux.irqdesc import IrqChip, IrqData, IrqDesc
from taskscope.model.kernel.irq import chip, irqdesc


def armctrl_mask_irq(d: IrqData) -> None:
    """Hold a line back."""
    assert d.line is not None, f"irq {d.irq} has no line"
    irqline.mask(d.line)


def armctrl_unmask_irq(d: IrqData) -> None:
    """Let a line through."""
    assert d.line is not None, f"irq {d.irq} has no line"
    irqline.unmask(d.line)


def irq_create_mapping(hwirq: int) -> IrqDesc:
    """Describe a line of the controller; in C all of them are, at boot."""
    return irqdesc.irq_set_chip_and_handler(hwirq - 8, hwirq, armctrl_chip, chip.handle_level_irq)


armctrl_chip: Final = IrqChip("ARMCTRL-level", armctrl_mask_irq, armctrl_unmask_irq)
