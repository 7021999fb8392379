"""Flows of interrupts, and masking: kernel/irq/chip.c, resend.c, v4.19.

A level line is masked while it is handled, as it stays active until the device has been served; an edge is acknowledged
first, so that the next one is not lost.  disable_irq() is lazy: it marks the line, and the line is masked at the
controller only if an interrupt comes all the same, which is then sent again by enable_irq().
"""

from __future__ import annotations

from typing import Any

import taskscope.model.kernel.irq.handle as handle
import taskscope.model.kernel.irq.irqdesc as irqdesc
import taskscope.model.kernel.softirq as softirq
from taskscope.model import machine
from taskscope.model.include.linux.interrupt import TaskletStruct
from taskscope.model.include.linux.irqdesc import (
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_IRQ_MASKED,
    IRQD_IRQ_STARTED,
    IRQD_LEVEL,
    IRQS_PENDING,
    IRQS_POLL_INPROGRESS,
    IRQS_REPLAY,
    IrqDesc,
    actions_of,
)
from taskscope.model.include.linux.preempt import local_irq_disable, local_irq_enable
from taskscope.model.include.linux.spinlock import raw_spin_lock, raw_spin_unlock

# ---- masking and starting ----------------------------------------------------------------------------------


def mask_irq(desc: IrqDesc) -> None:
    """Hold the line back at the controller."""
    d = desc.irq_data
    if not d.state & IRQD_IRQ_MASKED:
        assert d.chip is not None, f"{desc} has no chip"
        d.chip.irq_mask(d)
        d.state |= IRQD_IRQ_MASKED


def unmask_irq(desc: IrqDesc) -> None:
    """Let the line through at the controller."""
    d = desc.irq_data
    if d.state & IRQD_IRQ_MASKED:
        assert d.chip is not None, f"{desc} has no chip"
        d.chip.irq_unmask(d)
        d.state &= ~IRQD_IRQ_MASKED


def unmask_threaded_irq(desc: IrqDesc) -> None:
    """Let the line through again: its threads are done."""
    unmask_irq(desc)


def mask_ack_irq(desc: IrqDesc) -> None:
    """Hold the line back and acknowledge what has come."""
    mask_irq(desc)
    d = desc.irq_data
    if d.chip is not None and d.chip.irq_ack is not None:
        d.chip.irq_ack(d)


def irq_enable(desc: IrqDesc) -> None:
    """Allow a line's interrupts.  Context: desc.lock held."""
    desc.irq_data.state &= ~IRQD_IRQ_DISABLED
    unmask_irq(desc)


def irq_disable(desc: IrqDesc) -> None:
    """Mark a line's interrupts unwanted; it is masked when one comes.  Context: desc.lock held."""
    desc.irq_data.state |= IRQD_IRQ_DISABLED


def irq_startup(desc: IrqDesc, resend: bool) -> None:
    """Let a line's interrupts come for the first time, or again.  Context: desc.lock held."""
    desc.depth = 0
    irq_enable(desc)
    desc.irq_data.state |= IRQD_IRQ_STARTED
    if resend:
        check_irq_resend(desc)


def irq_shutdown(desc: IrqDesc) -> None:
    """Let no interrupt of the line come: nobody handles it any more.  Context: desc.lock held."""
    desc.depth = 1
    desc.irq_data.state |= IRQD_IRQ_DISABLED
    mask_irq(desc)
    desc.irq_data.state &= ~IRQD_IRQ_STARTED


# ---- resend.c ----------------------------------------------------------------------------------------------


def check_irq_resend(desc: IrqDesc) -> None:
    """Send an interrupt again that came while the line was disabled.

    By the controller, if it can (x86: the CPU sends the vector to itself), else in a tasklet.
    Context: desc.lock held, irqs off.
    """
    # We do not resend level type interrupts.  Level type interrupts are resent by hardware when they are still active.
    if desc.irq_data.state & IRQD_LEVEL:
        desc.istate &= ~IRQS_PENDING
        return
    if desc.istate & IRQS_REPLAY or not desc.istate & IRQS_PENDING:
        return
    desc.istate &= ~IRQS_PENDING
    desc.istate |= IRQS_REPLAY
    d = desc.irq_data
    if d.chip is not None and d.chip.irq_retrigger is not None:
        d.chip.irq_retrigger(d)
        return
    m = machine.cur
    if m.irqs_resend is None:
        m.irqs_resend = (TaskletStruct(resend_irqs, None), [])
    tasklet, numbers = m.irqs_resend
    if desc.irq not in numbers:
        numbers.append(desc.irq)
    softirq.tasklet_schedule(tasklet)


def resend_irqs(arg: Any) -> None:
    """Run the flow of each line whose interrupt is to be sent again.

    Context: softirq.
    """
    del arg
    m = machine.cur
    assert m.irqs_resend is not None, "its tasklet runs"
    numbers = m.irqs_resend[1]
    while numbers:
        desc = irqdesc.irq_to_desc(numbers.pop(0))
        if desc is None or desc.handle_irq is None:
            continue
        local_irq_disable()
        desc.handle_irq(desc)
        local_irq_enable()


# ---- flows -------------------------------------------------------------------------------------------------


def irq_may_run(desc: IrqDesc) -> bool:
    """Tell whether no other CPU handles the line already.  Context: desc.lock held."""
    # Not modelled: irq_wait_for_poll(), which spins until poll_spurious_irqs() on another CPU is done.
    return not (desc.irq_data.state & IRQD_IRQ_INPROGRESS or desc.istate & IRQS_POLL_INPROGRESS)


def cond_unmask_irq(desc: IrqDesc) -> None:
    """Unmask a level line after handling, unless it is disabled or waits for a thread (IRQF_ONESHOT)."""
    state = desc.irq_data.state
    if not state & IRQD_IRQ_DISABLED and state & IRQD_IRQ_MASKED and not desc.threads_oneshot:
        unmask_irq(desc)


def handle_level_irq(desc: IrqDesc) -> None:
    """Handle an interrupt of a line that stays active until the device has been served.

    Context: hard interrupt, irqs off.
    """
    raw_spin_lock(desc.lock)
    mask_ack_irq(desc)
    if irq_may_run(desc):
        desc.istate &= ~IRQS_REPLAY
        if desc.action is None or desc.irq_data.state & IRQD_IRQ_DISABLED:
            # If it is disabled or no action available keep it masked and get out of here
            desc.istate |= IRQS_PENDING
        else:
            desc.kstat_irqs[machine.cur.cpu.id] += 1        # kstat_incr_irqs_this_cpu()
            handle.handle_irq_event(desc)
            cond_unmask_irq(desc)
    raw_spin_unlock(desc.lock)


def handle_edge_irq(desc: IrqDesc) -> None:
    """Handle an interrupt that the controller has latched; one that comes meanwhile is handled in the same go.

    Context: hard interrupt, irqs off.
    """
    raw_spin_lock(desc.lock)
    desc.istate &= ~IRQS_REPLAY
    if not irq_may_run(desc) or desc.action is None or desc.irq_data.state & IRQD_IRQ_DISABLED:
        # Another CPU handles it, or it is disabled: mark it pending, mask it, and let whoever can take care of it.
        desc.istate |= IRQS_PENDING
        mask_ack_irq(desc)
        raw_spin_unlock(desc.lock)
        return
    desc.kstat_irqs[machine.cur.cpu.id] += 1
    # Start handling the irq
    d = desc.irq_data
    if d.chip is not None and d.chip.irq_ack is not None:
        d.chip.irq_ack(d)
    while True:
        if not actions_of(desc):                            # freed by another CPU meanwhile
            mask_irq(desc)
            break
        # When another irq arrived while we were handling one, we could have masked the irq.  Reenable it, if it was
        # not disabled in meantime.
        if desc.istate & IRQS_PENDING and not d.state & IRQD_IRQ_DISABLED and d.state & IRQD_IRQ_MASKED:
            unmask_irq(desc)
        handle.handle_irq_event(desc)
        if not desc.istate & IRQS_PENDING or d.state & IRQD_IRQ_DISABLED:
            break
    raw_spin_unlock(desc.lock)
