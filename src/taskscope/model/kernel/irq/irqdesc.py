"""The machine's interrupts, and the common part of handling one: kernel/irq/{irqdesc,chip,handle}.c, v4.19.

The architecture's entry (`machine.Machine.do_irq`) calls `generic_handle_irq` between irq_enter() and irq_exit(); an
inter-processor interrupt (``desc.ipi``) goes to the architecture's own handler first.
"""

from __future__ import annotations

from taskscope.model import machine
from taskscope.model.include.linux.interrupt import IrqDesc
from taskscope.model.include.trace.events.irq import IRQ_HANDLED, trace_irq_handler_entry, trace_irq_handler_exit
from taskscope.model.kernel import smp
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import hrtimer


def early_irq_init() -> None:
    """Describe the interrupts that every machine has: the CPUs' timer, the IPIs."""
    m = machine.cur
    n = m.nr_cpus
    call_func = smp.generic_smp_call_function_interrupt
    if m.flavour.arch == "arm":
        m.irq_timer = IrqDesc(
            17, "17:", "arch_timer", hrtimer.hrtimer_interrupt, n, ipi=False, chip="ARMCTRL-level   1 Edge")
        m.ipi_reschedule = IrqDesc(2, "IPI2:", "Rescheduling interrupts", core.scheduler_ipi, n, ipi=True)
        m.ipi_call_func = IrqDesc(3, "IPI3:", "Function call interrupts", call_func, n, ipi=True)
    else:
        m.irq_timer = IrqDesc(0xEC, "LOC:", "Local timer interrupts", hrtimer.hrtimer_interrupt, n, ipi=False)
        m.ipi_reschedule = IrqDesc(0xFD, "RES:", "Rescheduling interrupts", core.scheduler_ipi, n, ipi=True)
        m.ipi_call_func = IrqDesc(0xFB, "CAL:", "Function call interrupts", call_func, n, ipi=True)
    m.irq_descs = [m.irq_timer, m.ipi_reschedule, m.ipi_call_func]


def generic_handle_irq(desc: IrqDesc) -> None:
    """Count the interrupt and call its handler.  Context: hard interrupt, irqs off."""
    m = machine.cur
    desc.kstat_irqs[m.cpu.id] += 1                          # kstat_incr_irqs_this_cpu()
    # __handle_irq_event_percpu(), handle_percpu_devid_irq().  IPIs and x86's local timer are vectors of their own.
    if (m.tp.irq_handler_entry or m.tp.irq_handler_exit) and not desc.ipi and desc.label[0].isdigit():
        trace_irq_handler_entry(desc.irq, desc)
        desc.handler()
        trace_irq_handler_exit(desc.irq, desc, IRQ_HANDLED)
        return
    desc.handler()
