"""Interrupt lines and messages on x86-64: arch/x86/kernel/apic/{io_apic,msi,vector}.c, v6.1.

An interrupt of a pin of the IO-APIC or a message (MSI-X) is latched by one CPU's local APIC, which can also be asked to
send it to itself again.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import irqline
from taskscope.model.include.linux.irqdesc import IRQCHIP_ONESHOT_SAFE, IrqChip, IrqData, IrqDesc
from taskscope.model.kernel.irq import chip, irqdesc


def mask_ioapic_irq(d: IrqData) -> None:
    """Hold a line back."""
    assert d.line is not None, f"irq {d.irq} has no line"
    irqline.mask(d.line)


def unmask_ioapic_irq(d: IrqData) -> None:
    """Let a line through."""
    assert d.line is not None, f"irq {d.irq} has no line"
    irqline.unmask(d.line)


def apic_ack_edge(d: IrqData) -> None:
    """Tell the local APIC that the next one may come; it is a write to a register."""
    del d


def apic_retrigger_irq(d: IrqData) -> None:
    """Let the CPU send the interrupt to itself."""
    assert d.line is not None, f"irq {d.irq} has no line"
    irqline.pulse(d.line)


def apic_set_affinity(d: IrqData, mask: int) -> int:
    """Route the line to one of the CPUs, the first: 0."""
    assert d.line is not None, f"irq {d.irq} has no line"
    d.line.cpu = (mask & -mask).bit_length() - 1
    return 0


def mp_map_pin_to_irq(pin: int) -> IrqDesc:
    """Describe a pin of the IO-APIC that has an edge interrupt."""
    desc = irqdesc.irq_set_chip_and_handler(pin, pin, ioapic_chip, chip.handle_edge_irq)
    desc.name = "edge"
    return desc


def msi_domain_alloc_irq(irq: int, entry: int) -> IrqDesc:
    """Describe a message of a PCI device (its MSI-X table's entry)."""
    desc = irqdesc.irq_set_chip_and_handler(irq, entry, pci_msi_controller, chip.handle_edge_irq)
    desc.name = "edge"
    return desc


ioapic_chip: Final = IrqChip(
    "IO-APIC", mask_ioapic_irq, unmask_ioapic_irq, apic_ack_edge, apic_retrigger_irq, apic_set_affinity)
pci_msi_controller: Final = IrqChip(
    "PCI-MSIX-0000:00:02.0", mask_ioapic_irq, unmask_ioapic_irq, apic_ack_edge, apic_retrigger_irq, apic_set_affinity,
    IRQCHIP_ONESHOT_SAFE)
