"""/proc/interrupts and /proc/irq: kernel/irq/proc.c, v4.19.

What is no line is listed by the architecture: arch/arm/kernel/smp.c, arch/x86/kernel/irq.c.
"""

from __future__ import annotations

from errno import EINVAL, EIO, ENOENT
from typing import Any, Final

import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.irq.irqdesc as irqdesc
import taskscope.model.kernel.irq.manage as manage
from taskscope.model import machine
from taskscope.model.include.linux.irqdesc import IRQD_LEVEL, IrqDesc, actions_of

#: the width of the first column, with fewer than 1000 lines
PREC: Final = 3
#: what arch_show_interrupts() lists beside what is modelled: these have never happened here
_ARM_IPIS: Final = (
    "CPU wakeup interrupts", "Timer broadcast interrupts", "Rescheduling interrupts", "Function call interrupts",
    "CPU stop interrupts", "IRQ work interrupts", "completion interrupts",
)


def _counts(counts: list[int]) -> str:
    return "".join(f"{count:10d} " for count in counts)


def show_interrupt(desc: IrqDesc) -> str:
    """Return the row of one line."""
    chip = desc.irq_data.chip
    text = f"{desc.irq:{PREC}d}: {_counts(desc.kstat_irqs)}"
    text += f" {chip.name if chip is not None else 'None':>8} {desc.irq_data.hwirq:{PREC}d}"
    if machine.cur.flavour.arch == "arm":
        # CONFIG_GENERIC_IRQ_SHOW_LEVEL
        text += f" {'Level' if desc.irq_data.state & IRQD_LEVEL else 'Edge':<8}"
    elif desc.name:
        text += f"-{desc.name:<8}"
    names = [action.name for action in actions_of(desc)] or ([desc.name] if desc.handler is not None else [])
    return text + ("  " + ", ".join(names) if names else "")


def arch_show_interrupts() -> list[str]:
    """Return the rows of what is no line: interrupts between CPUs, x86's local timer."""
    m = machine.cur
    none = [0] * m.nr_cpus
    if m.flavour.arch == "arm":
        counts = {2: m.ipi_reschedule.kstat_irqs, 3: m.ipi_call_func.kstat_irqs}
        rows = [f"IPI{n}: {_counts(counts.get(n, none))} {name}" for n, name in enumerate(_ARM_IPIS)]
        return [*rows, f"Err: {0:10d}"]
    rows = []
    for name, each, text in (
        ("NMI", none, "Non-maskable interrupts"),
        ("LOC", m.irq_timer.kstat_irqs, "Local timer interrupts"),
        ("SPU", none, "Spurious interrupts"),
        # Not modelled: PMI, IWI, RTR, TLB, TRM, THR, DFR, MCE, MCP, HYP, PIN, NPI, PIW.
        ("RES", m.ipi_reschedule.kstat_irqs, "Rescheduling interrupts"),
        ("CAL", m.ipi_call_func.kstat_irqs, "Function call interrupts"),
    ):
        rows.append(f"{name}: {_counts(each)}  {text}")
    return [*rows, f"ERR: {0:10d}", f"MIS: {0:10d}"]


def show_interrupts(private: Any) -> str:
    """/proc/interrupts: how often each CPU took each interrupt."""
    del private
    m = machine.cur
    rows = [" " * (PREC + 8) + "".join(f"CPU{cpu.id:<8d}" for cpu in m.cpus)]
    for irq in sorted(m.irq_desc_tree):
        desc = m.irq_desc_tree[irq]
        if desc.action is not None or desc.handler is not None or any(desc.kstat_irqs):
            rows.append(show_interrupt(desc))
    return "\n".join([*rows, *arch_show_interrupts()]) + "\n"


# ---- /proc/irq ---------------------------------------------------------------------------------------------


def register_irq_proc(desc: IrqDesc) -> None:
    """Make /proc/irq/N of a line."""
    folder = f"irq/{desc.irq}"
    for name, mode, show, store in (
        ("smp_affinity", 0o644, show_affinity, store_affinity),
        ("smp_affinity_list", 0o644, show_affinity_list, None),
        ("spurious", 0o444, show_spurious, None),
    ):
        proc_inode.proc_create(f"{folder}/{name}", mode, show, store, desc.irq)


def unregister_irq_proc(irq: int) -> None:
    """Take /proc/irq/N away."""
    children = super_.kern_mkdir("/proc/irq").i_children
    assert children is not None, "a folder"
    children.pop(str(irq), None)


def show_affinity(private: Any) -> str | int:
    """/proc/irq/N/smp_affinity: the CPUs, as a mask in hexadecimal."""
    desc = irqdesc.irq_to_desc(private)
    return -ENOENT if desc is None else f"{desc.affinity:x}\n"


def show_affinity_list(private: Any) -> str | int:
    """/proc/irq/N/smp_affinity_list: the CPUs by number."""
    desc = irqdesc.irq_to_desc(private)
    if desc is None:
        return -ENOENT
    cpus = [n for n in range(machine.cur.nr_cpus) if desc.affinity >> n & 1]
    if len(cpus) > 1 and cpus == list(range(cpus[0], cpus[-1] + 1)):
        return f"{cpus[0]}-{cpus[-1]}\n"
    return ",".join(map(str, cpus)) + "\n"


def store_affinity(private: Any, data: bytes) -> int:
    """Route a line to other CPUs."""
    try:
        mask = int(data.replace(b",", b""), 16)
    except ValueError:
        return -EINVAL
    # Do not allow disabling IRQs completely - it's a too easy way to make the system unusable accidentally.
    ret = manage.irq_set_affinity(private, mask)
    return -EIO if ret == -EIO else ret or len(data)


def show_spurious(private: Any) -> str | int:
    """/proc/irq/N/spurious: what the detection of broken lines has counted."""
    desc = irqdesc.irq_to_desc(private)
    if desc is None:
        return -ENOENT
    ms = desc.last_unhandled * 1000 // machine.cur.hz
    return f"count {desc.irq_count}\nunhandled {desc.irqs_unhandled}\nlast_unhandled {ms} ms\n"


def init_irq_proc() -> None:
    """Make /proc/irq for the lines that there are."""
    m = machine.cur
    super_.kern_mkdir("/proc/irq", 0o555)
    for desc in m.irq_descs:
        if desc.irq in m.irq_desc_tree and desc.handle_irq is not None:
            register_irq_proc(desc)
