"""preempt_count and interrupts of the executing CPU: include/linux/preempt.h, irqflags.h, hardirq.h, v4.19."""

from __future__ import annotations

from typing import Final

from taskscope.abi.preempt import (
    HARDIRQ_MASK,
    HARDIRQ_OFFSET,
    NMI_MASK,
    NMI_OFFSET,
    PREEMPT_MASK,
    SOFTIRQ_MASK,
    SOFTIRQ_OFFSET,
)
from taskscope.model import machine

__all__ = ["HARDIRQ_OFFSET", "PREEMPT_MASK", "SOFTIRQ_OFFSET"]

SOFTIRQ_DISABLE_OFFSET: Final = 2 * SOFTIRQ_OFFSET
#: the count of a task that runs for the first time; schedule_tail() drops it
FORK_PREEMPT_COUNT: Final = 2
_INTERRUPT: Final = HARDIRQ_MASK | SOFTIRQ_MASK | NMI_MASK


def preempt_count() -> int:
    """Return the word that counts what the CPU is in the middle of."""
    return machine.cur.cpu.preempt_count


def preempt_count_add(val: int) -> None:
    """Add to the count."""
    machine.cur.cpu.preempt_count += val


def preempt_count_sub(val: int) -> None:
    """Subtract from the count."""
    cpu = machine.cur.cpu
    assert cpu.preempt_count >= val, "preempt_count underflow"
    cpu.preempt_count -= val


def preempt_disable() -> None:
    """Forbid preemption of the running task."""
    machine.cur.cpu.preempt_count += 1


def preempt_enable_no_resched() -> None:
    """Allow preemption again; whoever calls this schedules by itself."""
    cpu = machine.cur.cpu
    assert cpu.preempt_count & PREEMPT_MASK, "preempt_enable() without preempt_disable()"
    cpu.preempt_count -= 1


def preempt_enable() -> None:
    """Allow preemption again, and let it happen if it became due (CONFIG_PREEMPT)."""
    m = machine.cur
    cpu = m.cpu
    assert cpu.preempt_count & PREEMPT_MASK, "preempt_enable() without preempt_disable()"
    cpu.preempt_count -= 1
    need = cpu.curr.thread_info.flags & m.tif_need_resched
    if need and m.kernel_preempt and not cpu.preempt_count and not cpu.irqs_off:
        m.preempt_schedule()


def preemptible() -> bool:
    """Tell whether the running task could be preempted here."""
    cpu = machine.cur.cpu
    return not cpu.preempt_count and not cpu.irqs_off


def irq_count() -> int:
    """Return the fields of the count that are about interrupts: NMI, hard interrupt, softirq."""
    return machine.cur.cpu.preempt_count & _INTERRUPT


def hardirq_count() -> int:
    """Return the field of the count that counts hard interrupts."""
    return machine.cur.cpu.preempt_count & HARDIRQ_MASK


def softirq_count() -> int:
    """Return the field of the count that is about softirqs: those that run, and how often they are disabled."""
    return machine.cur.cpu.preempt_count & SOFTIRQ_MASK


def in_interrupt() -> bool:
    """Tell whether a hard interrupt, a softirq or an NMI is being handled, or softirqs are disabled."""
    return bool(machine.cur.cpu.preempt_count & _INTERRUPT)


def in_irq() -> bool:
    """Tell whether a hard interrupt is being handled (in_hardirq() since v5.11)."""
    return bool(machine.cur.cpu.preempt_count & HARDIRQ_MASK)


def in_nmi() -> bool:
    """Tell whether an NMI is being handled."""
    return bool(machine.cur.cpu.preempt_count & NMI_MASK)


def in_task() -> bool:
    """Tell whether a task's own code runs; softirqs may be disabled."""
    return not machine.cur.cpu.preempt_count & (NMI_MASK | HARDIRQ_MASK | SOFTIRQ_OFFSET)


def in_softirq() -> bool:
    """Tell whether a softirq is being handled or softirqs are disabled."""
    return bool(machine.cur.cpu.preempt_count & SOFTIRQ_MASK)


def in_serving_softirq() -> bool:
    """Tell whether a softirq is being handled."""
    return bool(machine.cur.cpu.preempt_count & SOFTIRQ_OFFSET)


def in_atomic() -> bool:
    """Tell whether the running code must not sleep: a spinlock is held, or an interrupt is being handled."""
    return machine.cur.cpu.preempt_count != 0


def nmi_enter() -> None:
    """Enter the context of an interrupt that cannot be masked.  It may have come anywhere, in another one too."""
    machine.cur.cpu.preempt_count += NMI_OFFSET + HARDIRQ_OFFSET


def nmi_exit() -> None:
    """Leave it.  No softirqs run and nobody is preempted here: what it has interrupted may not allow that."""
    cpu = machine.cur.cpu
    assert cpu.preempt_count & NMI_MASK, "nmi_exit() without nmi_enter()"
    cpu.preempt_count -= NMI_OFFSET + HARDIRQ_OFFSET


def irqs_disabled() -> bool:
    """Tell whether the CPU takes no interrupts."""
    return machine.cur.cpu.irqs_off


def local_irq_disable() -> None:
    """Take no interrupts on this CPU."""
    machine.cur.cpu.irqs_off = True


def local_irq_enable() -> None:
    """Take interrupts again; what is pending is taken at the next place where the CPU can."""
    machine.cur.cpu.irqs_off = False


def local_irq_save() -> bool:
    """Disable interrupts; return what `local_irq_restore` needs."""
    cpu = machine.cur.cpu
    flags = cpu.irqs_off
    cpu.irqs_off = True
    return flags


def local_irq_restore(flags: bool) -> None:
    """Put the interrupt flag back."""
    machine.cur.cpu.irqs_off = flags
