"""Calling the handlers of a line: kernel/irq/handle.c, v4.19."""

from __future__ import annotations

import taskscope.model.kernel.irq.spurious as spurious
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.interrupt import (
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQTF_RUNTHREAD,
    IRQTF_WARNED,
    IrqAction,
)
from taskscope.model.include.linux.irqdesc import IRQD_IRQ_INPROGRESS, IRQS_PENDING, IrqDesc
from taskscope.model.include.linux.sched import PF_EXITING
from taskscope.model.include.linux.spinlock import raw_spin_lock, raw_spin_unlock
from taskscope.model.include.trace.events.irq import trace_irq_handler_entry, trace_irq_handler_exit


def warn_no_thread(irq: int, action: IrqAction) -> None:
    """Complain, once, of a handler that wants a thread and has none."""
    if action.thread_flags & IRQTF_WARNED:
        return
    action.thread_flags |= IRQTF_WARNED
    printk_.printk(
        f"<4>IRQ {irq} device {action.name} returned IRQ_WAKE_THREAD but no thread function available.")


def __irq_wake_thread(desc: IrqDesc, action: IrqAction) -> None:
    """Let a handler's thread do its half.

    Context: hard interrupt, or desc.lock held.
    """
    assert action.thread is not None, f"{action.name}: no thread"
    # In case the thread crashed and was killed we just pretend that we handled the interrupt.
    if action.thread.flags & PF_EXITING:
        return
    # If the RUNTHREAD bit is already set, nothing to do.
    if action.thread_flags & IRQTF_RUNTHREAD:
        return
    action.thread_flags |= IRQTF_RUNTHREAD
    # The line stays masked until all threads that are named here are done: irq_finalize_oneshot().
    desc.threads_oneshot |= action.thread_mask
    # synchronize_irq() waits for these.
    desc.threads_active += 1
    sched_core.wake_up_process(action.thread)


def __handle_irq_event_percpu(desc: IrqDesc) -> int:
    """Call all handlers of the line, and wake the threads that they ask for; what they returned, or-ed together."""
    m = machine.cur
    retval = IRQ_NONE
    irq = desc.irq
    action = desc.action
    while action is not None:                               # for_each_action_of_desc()
        trace_irq_handler_entry(irq, action)
        res = action.handler(irq, action.dev_id)
        trace_irq_handler_exit(irq, action, res)
        if not m.cpu.irqs_off:
            printk_.printk(f"<4>irq {irq} handler {action.handler.__name__} enabled interrupts\n")
            m.cpu.irqs_off = True
        if res == IRQ_WAKE_THREAD:
            # Catch drivers which return WAKE_THREAD but did not set up a thread function
            if action.thread_fn is None:
                warn_no_thread(irq, action)
            else:
                __irq_wake_thread(desc, action)
        retval |= res
        action = action.next
    return retval


def handle_irq_event_percpu(desc: IrqDesc) -> int:
    """Call all handlers, and note whether somebody felt responsible."""
    retval = __handle_irq_event_percpu(desc)
    # Not modelled: add_interrupt_randomness().
    spurious.note_interrupt(desc, retval)
    return retval


def handle_irq_event(desc: IrqDesc) -> int:
    """Handle one interrupt of the line, with its lock released meanwhile.

    Context: desc.lock held, irqs off; returns so.
    """
    assert desc.lock.held, "desc.lock"
    desc.istate &= ~IRQS_PENDING
    desc.irq_data.state |= IRQD_IRQ_INPROGRESS
    raw_spin_unlock(desc.lock)
    ret = handle_irq_event_percpu(desc)
    raw_spin_lock(desc.lock)
    desc.irq_data.state &= ~IRQD_IRQ_INPROGRESS
    return ret
