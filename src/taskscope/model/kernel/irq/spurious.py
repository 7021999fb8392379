"""Interrupts that nobody wants: kernel/irq/spurious.c, v4.19.

A line of whose last 100,000 interrupts 99,900 were handled by nobody is switched off; from then on a timer looks after
it ten times a second.  Not modelled: irqfixup, irqpoll, noirqdebug.
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.kernel.irq.chip as chip
import taskscope.model.kernel.irq.handle as handle
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.time.timer as timer
from taskscope.model import machine
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE, IRQ_WAKE_THREAD, IRQF_SHARED
from taskscope.model.include.linux.irqdesc import (
    IRQD_IRQ_INPROGRESS,
    IRQS_PENDING,
    IRQS_POLL_INPROGRESS,
    IRQS_SPURIOUS_DISABLED,
    IrqDesc,
    actions_of,
)
from taskscope.model.include.linux.preempt import local_irq_disable, local_irq_enable
from taskscope.model.include.linux.spinlock import raw_spin_lock, raw_spin_unlock
from taskscope.model.include.linux.timer import TimerList

SPURIOUS_DEFERRED: Final = 0x8000_0000
_MOST: Final = 100_000
_UNHANDLED: Final = 99_900


def bad_action_ret(action_ret: int) -> bool:
    """Tell whether handlers have returned what is no irqreturn_t."""
    return action_ret & ~(IRQ_HANDLED | IRQ_WAKE_THREAD) != 0


def __report_bad_irq(desc: IrqDesc, action_ret: int) -> None:
    """Say in the log whose line it is that nobody handles."""
    if bad_action_ret(action_ret):
        printk_.printk(f"<3>irq event {desc.irq}: bogus return value {action_ret:x}\n")
    else:
        printk_.printk(f'<3>irq {desc.irq}: nobody cared (try booting with the "irqpoll" option)\n')
    # Not modelled: dump_stack() of what the interrupt has interrupted.
    printk_.printk("<3>handlers:\n")
    for action in actions_of(desc):
        threaded = f" threaded {action.thread_fn.__name__}" if action.thread_fn is not None else ""
        printk_.printk(f"<3> {action.handler.__name__}{threaded}\n")


def note_interrupt(desc: IrqDesc, action_ret: int) -> None:
    """Note whether somebody handled an interrupt, and switch the line off when nobody ever does.

    Context: hard interrupt.
    """
    if desc.istate & IRQS_POLL_INPROGRESS:
        return
    if bad_action_ret(action_ret):
        __report_bad_irq(desc, action_ret)
        return
    # Whether a thread handles it shows later: its count is looked at when the next interrupt comes.
    if action_ret & IRQ_WAKE_THREAD:
        if action_ret == IRQ_WAKE_THREAD:
            if not desc.threads_handled_last & SPURIOUS_DEFERRED:
                desc.threads_handled_last |= SPURIOUS_DEFERRED
                return
            handled = desc.threads_handled | SPURIOUS_DEFERRED
            if handled != desc.threads_handled_last:
                action_ret = IRQ_HANDLED
                desc.threads_handled_last = handled
            else:
                # None of the threaded handlers felt responsible for the last interrupt
                action_ret = IRQ_NONE
        else:
            # One of the primary handlers returned IRQ_HANDLED.  So we don't care about the threaded handlers.
            desc.threads_handled_last &= ~SPURIOUS_DEFERRED
    m = machine.cur
    if action_ret == IRQ_NONE:
        # If we are seeing only the odd spurious IRQ caused by bus asynchronicity then don't eventually trigger an error
        if m.jiffies > desc.last_unhandled + m.hz // 10:
            desc.irqs_unhandled = 1
        else:
            desc.irqs_unhandled += 1
        desc.last_unhandled = m.jiffies
    desc.irq_count += 1
    if desc.irq_count < _MOST:
        return
    desc.irq_count = 0
    if desc.irqs_unhandled > _UNHANDLED:
        # The interrupt is stuck
        __report_bad_irq(desc, action_ret)
        # Now kill the IRQ
        printk_.printk(f"<0>Disabling IRQ #{desc.irq}\n")
        desc.istate |= IRQS_SPURIOUS_DISABLED
        desc.depth += 1
        chip.irq_disable(desc)
        if m.poll_spurious_irq_timer is None:
            m.poll_spurious_irq_timer = TimerList(poll_spurious_irqs, None)
        timer.mod_timer(m.poll_spurious_irq_timer, m.jiffies + m.hz // 10)
    desc.irqs_unhandled = 0


def try_one_irq(desc: IrqDesc) -> bool:
    """Call the handlers of a line that is switched off, in case that its device wants something.

    Only if it is shared: handlers of other lines may rely on being called for their device alone.
    """
    raw_spin_lock(desc.lock)
    action = desc.action
    ok = False
    if action is not None and action.flags & IRQF_SHARED and not desc.irq_data.state & IRQD_IRQ_INPROGRESS:
        # Mark it poll in progress
        desc.istate |= IRQS_POLL_INPROGRESS
        while True:
            if handle.handle_irq_event(desc) == IRQ_HANDLED:
                ok = True
            if not desc.istate & IRQS_PENDING or desc.action is None:
                break
        desc.istate &= ~IRQS_POLL_INPROGRESS
    raw_spin_unlock(desc.lock)
    return ok


def poll_spurious_irqs(unused: Any) -> None:
    """Look after the lines that are switched off.

    Context: softirq (a timer).
    """
    del unused
    m = machine.cur
    for desc in list(m.irq_descs):
        if desc.istate & IRQS_SPURIOUS_DISABLED:
            local_irq_disable()
            try_one_irq(desc)
            local_irq_enable()
    timer.mod_timer(m.poll_spurious_irq_timer, m.jiffies + m.hz // 10)
