"""preempt_count: what a CPU is in the middle of, in one word (include/linux/preempt.h).

Bits 0-7 count preempt_disable(), 8-15 softirqs (0x100 while one runs, 0x200 for each local_bh_disable()), 16-19 hard
interrupts, from bit 20 NMIs.  x86 and s390 keep "no reschedule needed" in bit 31, inverted, so that one test for zero
tells whether to preempt; arm64 keeps it in bit 32 of the 64-bit word; 32-bit ARM has no such bit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from taskscope.abi.era import DEFAULT, Version, checked

PREEMPT_SHIFT: Final = 0
SOFTIRQ_SHIFT: Final = 8
HARDIRQ_SHIFT: Final = 16
NMI_SHIFT: Final = 20

PREEMPT_MASK: Final = 0x0000_00FF
SOFTIRQ_MASK: Final = 0x0000_FF00
HARDIRQ_MASK: Final = 0x000F_0000
NMI_MASK: Final = 0x00F0_0000           # one bit, 0x00100000, before v5.8

PREEMPT_OFFSET: Final = 1 << PREEMPT_SHIFT
SOFTIRQ_OFFSET: Final = 1 << SOFTIRQ_SHIFT
HARDIRQ_OFFSET: Final = 1 << HARDIRQ_SHIFT
NMI_OFFSET: Final = 1 << NMI_SHIFT
SOFTIRQ_DISABLE_OFFSET: Final = 2 * SOFTIRQ_OFFSET

#: architecture -> the bit that is set while *no* reschedule is needed
NEED_RESCHED_BIT: Final = {"x86": 0x8000_0000, "s390": 0x8000_0000, "arm64": 1 << 32}


def nmi_mask(kernel: Version = DEFAULT) -> int:
    """Return NMI_MASK: four bits since nested NMIs are counted (Linux 5.10 here), one bit before."""
    return NMI_MASK if checked(kernel) >= (5, 10) else NMI_OFFSET


class PreemptCount(NamedTuple):
    """A preempt_count taken apart; methods are named as the kernel's macros."""

    preempt: int
    softirq: int                    # in units of SOFTIRQ_OFFSET: odd while a softirq runs
    hardirq: int
    nmi: int
    need_resched: bool | None       # None: the architecture keeps it elsewhere, or is not known
    rest: int                       # bits that have no meaning

    def in_nmi(self) -> bool:
        """Tell whether an NMI is being handled."""
        return self.nmi > 0

    def in_hardirq(self) -> bool:
        """Tell whether a hard interrupt is being handled."""
        return self.hardirq > 0

    def in_serving_softirq(self) -> bool:
        """Tell whether a softirq is being handled."""
        return bool(self.softirq & 1)

    def in_softirq(self) -> bool:
        """Tell whether softirqs are being handled or disabled."""
        return self.softirq > 0

    def in_interrupt(self) -> bool:
        """Tell whether an NMI, an interrupt or a softirq is being handled, or softirqs are disabled."""
        return self.in_nmi() or self.in_hardirq() or self.in_softirq()

    def in_task(self) -> bool:
        """Tell whether a task's own code runs (softirqs may be disabled)."""
        return not (self.in_nmi() or self.in_hardirq() or self.in_serving_softirq())


def split(value: int, kernel: Version = DEFAULT, arch: str | None = None) -> PreemptCount:
    """Take a preempt_count apart.

    :param value: the word as the kernel keeps it
    :param arch: ``x86``, ``s390``, ``arm64`` or ``arm``; None if unknown
    """
    bit = NEED_RESCHED_BIT.get(arch or "", 0)
    nmi = nmi_mask(kernel)
    known = PREEMPT_MASK | SOFTIRQ_MASK | HARDIRQ_MASK | nmi | bit
    return PreemptCount(
        value & PREEMPT_MASK,
        (value & SOFTIRQ_MASK) >> SOFTIRQ_SHIFT,
        (value & HARDIRQ_MASK) >> HARDIRQ_SHIFT,
        (value & nmi) >> NMI_SHIFT,
        not value & bit if bit else None,
        value & ~known,
    )
