"""Oopses on x86-64: arch/x86/kernel/{dumpstack,traps,process_64}.c, v6.1 and v6.18.

What a compiler keeps in registers the model does not know: those are printed as question marks, as are the
instructions.  Known are rip and rsp, which are read off the task's stack, and the control registers.
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
_UNKNOWN: Final = "????????????????"


class PtRegs:
    """struct pt_regs of an exception in the kernel, as far as it is known, with cr2."""

    __slots__ = ("cr2", "frame", "ip", "irqs_off", "sp")

    def __init__(self, m: machine.Machine, frame: FrameType, cr2: int = 0) -> None:
        entries = stacktrace.save_stack_trace(m, frame, 1)
        self.frame = frame                      # where the exception came
        self.ip = entries[0] if entries else 0
        self.sp = m.cpu.sp = task_stack.task_sp(m.cpu.curr, task_stack.kernel_depth(frame))
        self.cr2 = cr2
        self.irqs_off = m.cpu.irqs_off


def show_iret_regs(regs: PtRegs) -> None:
    """Print where it was."""
    m = machine.cur
    printk_.printk(f"RIP: 0010:{kallsyms.sprint_symbol(m, regs.ip)}\n")
    printk_.printk(f"Code: {' '.join(['??'] * 42)} <??> {' '.join(['??'] * 21)}\n")
    # IF is the one flag that is known
    printk_.printk(f"RSP: 0018:{regs.sp:016x} EFLAGS: ?????{0 if regs.irqs_off else 2}??\n")


def __show_regs(regs: PtRegs) -> None:
    """Print the registers."""
    m = machine.cur
    show_iret_regs(regs)
    u = _UNKNOWN
    printk_.printk(f"RAX: {u} RBX: {u} RCX: {u}\n")
    printk_.printk(f"RDX: {u} RSI: {u} RDI: {u}\n")
    printk_.printk(f"RBP: {u} R08: {u} R09: {u}\n")
    printk_.printk(f"R10: {u} R11: {u} R12: {u}\n")
    printk_.printk(f"R13: {u} R14: {u} R15: {u}\n")
    printk_.printk(f"FS:  {u}(0000) GS:{u}(0000) knlGS:{u}\n")
    printk_.printk("CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033\n")
    mm = m.cpu.curr.active_mm
    pgd = 0 if mm is None else mm.pgd - m.flavour.page_offset
    printk_.printk(f"CR2: {regs.cr2:016x} CR3: {pgd:016x} CR4: {u}\n")


def show_regs(regs: PtRegs) -> None:
    """Print who runs, the registers, and the stack."""
    dump_stack_.dump_stack_print_info("")
    __show_regs(regs)
    # RIP is not shown again: the trace begins with its caller.
    dump_stack_.show_stack(None, regs.frame, skip=1)


def oops_begin() -> bool:
    """Begin an oops: one at a time; whether interrupts were off."""
    m = machine.cur
    panic_.oops_enter()
    flags = m.cpu.irqs_off
    m.cpu.irqs_off = True
    # Not modelled: die_lock; a step is atomic.
    return flags


def __die_header(text: str, err: int) -> None:
    m = machine.cur
    state = panic_.panic_state()
    state.die_counter += 1
    new = m.flavour.version >= (6, 10)
    # PREEMPT_DYNAMIC kernels are built with CONFIG_PREEMPTION; since v6.16 the model of preemption stands in the line
    # of the task.
    preempt = "" if m.flavour.version >= (6, 16) else " PREEMPT"
    printk_.printk(f"{'Oops: ' if new else ''}{text}: {err & 0xFFFF:04x} [#{state.die_counter}]{preempt} SMP NOPTI\n")


def __die(text: str, regs: PtRegs, err: int) -> int:
    """Print an oops; 1 if somebody on the die chain takes it over."""
    __die_header(text, err)
    show_regs(regs)
    panic_.print_modules()
    # Not modelled: notify_die(): nobody is on the chain.
    return 0


def oops_end(flags: bool, regs: PtRegs, signr: int) -> None:
    """End an oops: panic if it was in an interrupt or if that is wanted; else the task ends.

    Returns only with `signr` 0.
    """
    m = machine.cur
    panic_.add_taint(panic_.TAINT_DIE)
    m.cpu.irqs_off = flags
    panic_.oops_exit()
    # Executive summary in case the oops scrolled away
    __show_regs(regs)
    if not signr:
        return
    if in_interrupt():
        panic_.panic("Fatal exception in interrupt")
    if panic_.panic_state().panic_on_oops:
        panic_.panic("Fatal exception")
    # We're not going to return, but we might be on an IST stack or have very little stack space left.  Rewind the stack
    # and kill the task: rewind_stack_and_make_dead().
    exit_.make_task_dead(signr)


def die(text: str, regs: PtRegs, err: int) -> None:
    """Print an oops and end the task."""
    flags = oops_begin()
    sig = SIGSEGV
    if __die(text, regs, err):
        sig = 0
    oops_end(flags, regs, sig)


def exc_invalid_op(file: str, line: int) -> None:
    """Take the undefined instruction that BUG() is: handle_bug() finds it in the table, do_error_trap() dies."""
    m = machine.cur
    regs = PtRegs(m, sys._getframe(2))
    printk_.printk("------------[ cut here ]------------\n")
    printk_.printk(f"<2>kernel BUG at {file}:{line}!\n")
    die("invalid opcode", regs, 0)


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
    show_regs(regs)
