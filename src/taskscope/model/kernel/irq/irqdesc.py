"""The machine's interrupt lines: kernel/irq/irqdesc.c, v4.19.

The architecture's entry (`machine.Machine.do_irq`) calls `generic_handle_irq` between irq_enter() and irq_exit().  What
happens then is the line's own flow: handle_level_irq() or handle_edge_irq() in chip.py.
"""

from __future__ import annotations

from collections.abc import Callable

from taskscope.model import irqline, machine
from taskscope.model.include.linux.interrupt import IRQ_HANDLED
from taskscope.model.include.linux.irqdesc import IRQD_LEVEL, IrqChip, IrqData, IrqDesc
from taskscope.model.include.trace.events.irq import trace_irq_handler_entry, trace_irq_handler_exit
from taskscope.model.kernel import smp
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import hrtimer


def early_irq_init() -> None:
    """Describe the interrupts that every machine has: the CPUs' timer, the IPIs.  Called by start_kernel()."""
    m = machine.cur
    m.irq_descs = []
    m.irq_desc_tree = {}
    m.irqs_resend = None
    m.poll_spurious_irq_timer = None
    timer = hrtimer.hrtimer_interrupt
    if m.flavour.arch == "arm":
        m.irq_timer = _percpu(162, "arch_timer", timer, 1, "bcm2836-timer")
        m.ipi_reschedule = _percpu(2, "Rescheduling interrupts", core.scheduler_ipi, ipi=True)
        m.ipi_call_func = _percpu(
            3, "Function call interrupts", smp.generic_smp_call_function_interrupt, ipi=True)
    else:
        m.irq_timer = _percpu(0xEC, "Local timer interrupts", timer)
        m.ipi_reschedule = _percpu(0xFD, "Rescheduling interrupts", core.scheduler_ipi, ipi=True)
        m.ipi_call_func = _percpu(
            0xFB, "Function call interrupts", smp.generic_smp_call_function_interrupt, ipi=True)


def _percpu(
    irq: int, name: str, handler: Callable[[], None], hwirq: int = 0, chip: str = "", ipi: bool = False,
) -> IrqDesc:
    m = machine.cur
    controller = IrqChip(chip, _nothing, _nothing) if chip else None
    data = IrqData(irq, hwirq, controller, None)
    desc = IrqDesc(irq, name, m.nr_cpus, data, handler=handler, ipi=ipi, vector=not chip)
    m.irq_descs.append(desc)
    if chip:
        m.irq_desc_tree[irq] = desc
    return desc


def _nothing(data: IrqData) -> None:
    del data


def irq_set_chip_and_handler(
    irq: int, hwirq: int, chip: IrqChip, handle: Callable[[IrqDesc], None], level: bool = False,
) -> IrqDesc:
    """Describe a line of a controller, whose interrupts nobody handles yet.

    :param irq: the number that Linux gives it
    :param hwirq: its number at the controller
    :param handle: the flow of its interrupts
    :param level: /proc/interrupts calls it a level interrupt
    """
    m = machine.cur
    assert irq not in m.irq_desc_tree, f"irq {irq} is there already"
    line = irqline.IrqLine(m)
    data = IrqData(irq, hwirq, chip, line)
    if level:
        data.state |= IRQD_LEVEL
    desc = line.desc = IrqDesc(irq, "", m.nr_cpus, data, handle_irq=handle)
    m.irq_desc_tree[irq] = desc
    m.irq_descs.append(desc)
    return desc


def irq_free_desc(irq: int) -> None:
    """Forget a line.  Context: nobody handles it any more."""
    m = machine.cur
    desc = m.irq_desc_tree.pop(irq)
    assert desc.action is None, f"irq {irq} is in use"
    m.irq_descs.remove(desc)


def irq_to_desc(irq: int) -> IrqDesc | None:
    """Return the line of that number; None if there is none."""
    return machine.cur.irq_desc_tree.get(irq)


def generic_handle_irq(desc: IrqDesc) -> None:
    """Handle an interrupt of a line.  Context: hard interrupt, irqs off."""
    m = machine.cur
    handle = desc.handle_irq
    if handle is not None:
        line = desc.irq_data.line
        if line is not None:
            irqline.take(line)
        handle(desc)
        return
    handler = desc.handler
    assert handler is not None, f"{desc}: neither flow nor handler"
    desc.kstat_irqs[m.cpu.id] += 1                          # __kstat_incr_irqs_this_cpu(), inc_irq_stat()
    if (m.tp.irq_handler_entry or m.tp.irq_handler_exit) and not desc.vector:
        # handle_percpu_devid_irq().  IPIs and x86's local timer are vectors of their own.
        trace_irq_handler_entry(desc.irq, desc)
        handler()
        trace_irq_handler_exit(desc.irq, desc, IRQ_HANDLED)
        return
    handler()
