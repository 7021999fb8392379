"""Oopses on 32-bit ARM: arch/arm/kernel/traps.c, process.c (__show_regs()), v4.19.

What a compiler keeps in registers the model does not know: those are printed as question marks, as are the
instructions.  Known are pc, lr, sp and fp, which are read off the task's stack.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final

import taskscope.model.include.linux.sched_task_stack as task_stack
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.stacktrace as stacktrace
import taskscope.model.lib.dump_stack as dump_stack_
from taskscope.model import machine
from taskscope.model.include.linux.preempt import in_interrupt

SIGSEGV: Final = 11
_UNKNOWN: Final = "????????"


class PtRegs:
    """struct pt_regs of an exception in the kernel, as far as it is known."""

    __slots__ = ("fp", "frame", "irqs_off", "lr", "pc", "sp")

    def __init__(self, m: machine.Machine, frame: FrameType) -> None:
        entries = stacktrace.save_stack_trace(m, frame, 2)
        depth = task_stack.kernel_depth(frame)
        self.frame = frame                      # where the exception came
        self.pc = entries[0] if entries else 0
        self.lr = entries[1] if len(entries) > 1 else 0
        self.sp = m.cpu.sp = task_stack.task_sp(m.cpu.curr, depth)
        self.fp = task_stack.task_sp(m.cpu.curr, depth - 1) - 4
        self.irqs_off = m.cpu.irqs_off


def __show_regs(regs: PtRegs) -> None:
    """Print the registers."""
    m = machine.cur
    sprint = kallsyms.sprint_symbol
    dump_stack_.dump_stack_print_info("")
    printk_.printk(f"PC is at {sprint(m, regs.pc)}\n")
    printk_.printk(f"LR is at {sprint(m, regs.lr)}\n")
    u = _UNKNOWN
    # SVC mode, and whether interrupts are masked; the flags of the last comparison are not known
    psr = 0x93 if regs.irqs_off else 0x13
    printk_.printk(f"pc : [<{regs.pc:08x}>]    lr : [<{regs.lr:08x}>]    psr: ??????{psr:02x}\n")
    printk_.printk(f"sp : {regs.sp:08x}  ip : {u}  fp : {regs.fp:08x}\n")
    printk_.printk(f"r10: {u}  r9 : {u}  r8 : {u}\n")
    printk_.printk(f"r7 : {u}  r6 : {u}  r5 : {u}  r4 : {u}\n")
    printk_.printk(f"r3 : {u}  r2 : {u}  r1 : {u}  r0 : {u}\n")
    segment = "none" if m.cpu.curr.mm is None else "user"
    printk_.printk(
        f"Flags: ????  IRQs o{'ff' if regs.irqs_off else 'n'}  FIQs on  Mode SVC_32  ISA ARM  Segment {segment}\n"
    )
    mm = m.cpu.curr.active_mm
    pgd = 0 if mm is None else mm.pgd - m.flavour.page_offset
    printk_.printk(f"Control: 10c5383d  Table: {pgd | 0x6A:08x}  DAC: 00000055\n")


def oops_begin() -> bool:
    """Begin an oops: one at a time; whether interrupts were off."""
    m = machine.cur
    panic_.oops_enter()
    flags = m.cpu.irqs_off
    m.cpu.irqs_off = True
    # Not modelled: die_lock; a step is atomic.
    return flags


def __die(text: str, err: int, regs: PtRegs) -> int:
    """Print an oops; 1 if somebody on the die chain takes it over."""
    m = machine.cur
    tsk = m.cpu.curr
    state = panic_.panic_state()
    state.die_counter += 1
    preempt = " PREEMPT" if m.kernel_preempt else ""
    printk_.printk(f"<0>Internal error: {text}: {err:x} [#{state.die_counter}]{preempt} SMP ARM\n")
    # Not modelled: notify_die(): nobody is on the chain.
    panic_.print_modules()
    __show_regs(regs)
    printk_.printk(f"<0>Process {tsk.comm} (pid: {tsk.pid}, stack limit = 0x(ptrval))\n")
    # dump_mem() and dump_instr(): the words themselves are not known
    printk_.printk(f"<0>Stack: (0x{regs.sp:08x} to 0x{tsk.stack + m.flavour.thread_size:08x})\n")
    dump_stack_.show_stack(None, regs.frame)
    printk_.printk(f"<0>Code: {' '.join([_UNKNOWN] * 4)} ({_UNKNOWN}) \n")
    return 0


def oops_end(flags: bool, signr: int) -> None:
    """End an oops: panic if it was in an interrupt or if that is wanted; else the task ends.

    Returns only with `signr` 0.
    """
    m = machine.cur
    panic_.add_taint(panic_.TAINT_DIE)
    m.cpu.irqs_off = flags
    panic_.oops_exit()
    if in_interrupt():
        panic_.panic("Fatal exception in interrupt")
    if panic_.panic_state().panic_on_oops:
        panic_.panic("Fatal exception")
    if signr:
        exit_.do_exit(signr)


def die(text: str, regs: PtRegs, err: int) -> None:
    """Print an oops and end the task."""
    flags = oops_begin()
    sig = SIGSEGV
    if __die(text, err, regs):
        sig = 0
    oops_end(flags, sig)


def do_undefinstr_bug(file: str, line: int) -> None:
    """Take the undefined instruction that BUG() is: report_bug(), then die()."""
    m = machine.cur
    regs = PtRegs(m, sys._getframe(2))
    printk_.printk("------------[ cut here ]------------\n")
    printk_.printk(f"<2>kernel BUG at {file}:{line}!\n")
    die("Oops - BUG", regs, 0)


def interrupted_frame(frame: FrameType | None) -> FrameType:
    """Return the kernel function that an interrupt at hand has interrupted, seen from inside its handler."""
    while frame is not None and frame.f_code.co_name != "take_irqs":
        frame = frame.f_back
    assert frame is not None, "no interrupt is being handled"
    while frame.f_back is not None and frame.f_code.co_filename == machine.__file__:
        frame = frame.f_back
    return frame


def show_irq_regs() -> None:
    """Print the registers of what the interrupt at hand has interrupted, and its stack (show_regs())."""
    m = machine.cur
    if m.cpu.irq_regs_user:
        dump_stack_.dump_stack()                # a program's registers are Python's
        return
    regs = PtRegs(m, interrupted_frame(sys._getframe(1)))
    regs.irqs_off = False                       # or it would not have come
    __show_regs(regs)
    dump_stack_.dump_stack()
