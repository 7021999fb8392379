"""The flags column of ftrace: ``common_flags`` and ``common_preempt_count`` as ``dNh2.``.

Follows trace_print_lat_fmt() of kernel/trace/trace_output.c and tracing_gen_ctx_irq_test() of kernel/trace/trace.c.
The column has five characters in 5.15 and later, where the upper half of the count is the migrate-disable depth; in
5.10 and before it has four.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from taskscope.abi.era import DEFAULT, KERNELS, Names, Version, checked, row


class TraceFlag(IntFlag):
    """``enum trace_flag_type`` of Linux 6.18 (include/linux/trace_events.h)."""

    TRACE_FLAG_IRQS_OFF = 0x01
    TRACE_FLAG_NEED_RESCHED_LAZY = 0x02     # TRACE_FLAG_IRQS_NOSUPPORT up to v6.12
    TRACE_FLAG_NEED_RESCHED = 0x04
    TRACE_FLAG_HARDIRQ = 0x08
    TRACE_FLAG_SOFTIRQ = 0x10
    TRACE_FLAG_PREEMPT_RESCHED = 0x20
    TRACE_FLAG_NMI = 0x40
    TRACE_FLAG_BH_OFF = 0x80


TRACE_FLAGS: Final = Names("TRACE_FLAG_", [
    row("TRACE_FLAG_IRQS_OFF", 0x01, "", "interrupts off"),
    row("TRACE_FLAG_IRQS_NOSUPPORT", 0x02, "4.9-6.12", "the architecture cannot tell whether interrupts are off"),
    row("TRACE_FLAG_NEED_RESCHED_LAZY", 0x02, "6.18", "TIF_NEED_RESCHED_LAZY is set"),
    row("TRACE_FLAG_NEED_RESCHED", 0x04, "", "TIF_NEED_RESCHED is set"),
    row("TRACE_FLAG_HARDIRQ", 0x08, "", "in a hard interrupt"),
    row("TRACE_FLAG_SOFTIRQ", 0x10, "", "in a softirq"),
    row("TRACE_FLAG_PREEMPT_RESCHED", 0x20, "", "preempt_count says reschedule"),
    row("TRACE_FLAG_NMI", 0x40, "", "in an NMI"),
    row("TRACE_FLAG_BH_OFF", 0x80, "6.1-", "softirqs disabled (local_bh_disable)"),
])

# v6.13 gave bit 1 its new meaning; 6.12 and 6.18 were read.
_LAZY_SINCE: Final = (6, 13)

# Which need-resched bits make which letter: NEED_RESCHED 4, LAZY 2, PREEMPT_RESCHED 0x20.
_RESCHED: Final = {0: ".", 0x26: "B", 0x24: "N", 0x22: "L", 0x06: "b", 0x04: "n", 0x20: "p", 0x02: "l"}
_HEX: Final = "0123456789abcdef"
_CONTEXT: Final = {"Z": 0x48, "z": 0x40, "H": 0x18, "h": 0x08, "s": 0x10, ".": 0}

#: what each letter says, column by column
COLUMNS: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("irqs-off", {".": "interrupts and softirqs on", "d": "interrupts off", "b": "softirqs disabled",
                  "D": "interrupts off, softirqs disabled", "X": "not known whether interrupts are off"}),
    ("need-resched", {".": "no reschedule is due", "N": "TIF_NEED_RESCHED and preempt_count say reschedule",
                      "n": "only TIF_NEED_RESCHED is set", "p": "only preempt_count says reschedule",
                      "L": "TIF_NEED_RESCHED_LAZY and preempt_count say reschedule",
                      "l": "only TIF_NEED_RESCHED_LAZY is set",
                      "b": "TIF_NEED_RESCHED and TIF_NEED_RESCHED_LAZY are set",
                      "B": "TIF_NEED_RESCHED, TIF_NEED_RESCHED_LAZY and preempt_count say reschedule"}),
    ("hardirq/softirq", {".": "in a task's own context", "h": "in a hard interrupt", "s": "in a softirq",
                         "H": "in a hard interrupt that came during a softirq", "z": "in an NMI",
                         "Z": "in an NMI that came during a hard interrupt"}),
    ("preempt-depth", {}),
    ("migrate-disable", {}),
)


def four_columns(kernel: Version) -> bool:
    """Tell whether the kernel prints four columns, the last being all of the count in hexadecimal."""
    return checked(kernel) < (5, 15)


def flags_text(common_flags: int, preempt_count: int, kernel: Version | None = None) -> str:
    """Return the column as the kernel prints it: ``d..2.``.

    Without `kernel` the text is that of the newest; kernels up to 6.12 print the same, save for bit 1, which meant
    "cannot tell whether interrupts are off" (``X``), and those up to 5.10 have four columns.

    :param common_flags: low byte of the record's context
    :param preempt_count: the record's ``common_preempt_count``
    """
    series = checked(kernel) if kernel else KERNELS[-1]
    old = kernel is not None and kernel < _LAZY_SINCE
    bh_off = common_flags & 0x80 if series >= (6, 1) else 0
    if common_flags & 0x01:
        irqs = "D" if bh_off else "d"
    elif bh_off:
        irqs = "b"
    else:
        irqs = "X" if old and common_flags & 0x02 else "."
    resched = _RESCHED[common_flags & (0x24 if old else 0x26)]
    nmi, hardirq, softirq = common_flags & 0x40, common_flags & 0x08, common_flags & 0x10
    if nmi:
        context = "Z" if hardirq else "z"
    elif hardirq:
        context = "H" if softirq else "h"
    else:
        context = "s" if softirq else "."
    if four_columns(series):
        return f"{irqs}{resched}{context}{preempt_count:x}" if preempt_count else f"{irqs}{resched}{context}."
    depth, migrate = preempt_count & 0xF, preempt_count >> 4
    return f"{irqs}{resched}{context}{f'{depth:x}' if depth else '.'}{f'{migrate:x}' if migrate else '.'}"


def flags_of_text(text: str, kernel: Version = DEFAULT) -> tuple[int, int] | None:
    """Return (common_flags, preempt_count) of a flags column; None if it is none.

    What the column hides is left out: that a softirq runs below an NMI, that interrupts cannot be told while softirqs
    are disabled.

    :param kernel: decides what the letters of need-resched and ``X`` may be
    """
    irqs = {".": 0, "d": 0x01, "b": 0x80, "D": 0x81, "X": 0x02}.get(text[:1])
    resched = {letter: bits for bits, letter in _RESCHED.items()}.get(text[1:2])
    context = _CONTEXT.get(text[2:3])
    digits = text[3:].replace(".", "0")
    if irqs is None or resched is None or context is None or len(text) not in (4, 5) or set(digits) - set(_HEX):
        return None
    count = int(digits if four_columns(kernel) else digits[::-1], 16)
    flags = irqs | resched | context
    # Whatever else is wrong (a letter that this kernel does not print, a 0 for a dot) shows on the way back.
    return (flags, count) if flags_text(flags, count, kernel) == text else None
