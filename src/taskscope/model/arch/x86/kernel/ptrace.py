"""System calls under a tracer, and its requests for registers on x86-64.

arch/x86/kernel/ptrace.c and kernel/entry/common.c, v6.1.  A program in Python has the registers that a system call
takes and gives: rdi, rsi, rdx, r10, r8 and r9, orig_rax with its number, and rax with the result.  The others, and
those of a task that is stopped elsewhere, are not there to be looked at (-EIO).
"""

from __future__ import annotations

from errno import EIO, ENOSYS
from typing import Any, Final

import taskscope.model.kernel.ptrace as ptrace
import taskscope.model.kernel.trace.trace_events as trace_events
from taskscope.model import machine
from taskscope.model.include.linux.ptrace import PTRACE_PEEKUSR, PTRACE_POKEUSR, task_pt_regs
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.trace.events.syscalls import trace_sys_enter, trace_sys_exit

AUDIT_ARCH: Final = 0xC000_003E         # AUDIT_ARCH_X86_64
#: places in struct user_regs_struct, in words: of the arguments, of rax, of orig_rax
_ARGS: Final = (14, 13, 12, 7, 9, 8)
_RAX: Final = 10
_ORIG_RAX: Final = 15
_SIZEOF_USER: Final = 928
_WORD: Final = (1 << 64) - 1


class PtRegs:
    """struct pt_regs of a system call that a tracer looks at."""

    __slots__ = ("args", "nr", "ret")

    def __init__(self, nr: int, args: tuple[Any, ...], ret: int) -> None:
        self.nr = nr                    # orig_rax
        self.args = list(args)          # what the program gave, rdi and following
        self.ret = ret                  # rax

    def of_child(self) -> PtRegs:
        """Return what a child that this call makes begins with: the same, and 0 as result."""
        return PtRegs(self.nr, tuple(self.args), 0)

    def words(self) -> tuple[int, ...]:
        """Return the arguments as numbers."""
        return trace_events.syscall_get_arguments(machine.cur, self.args)


def syscall_trace_enter(nr: int, args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...], PtRegs]:
    """Tell who watches that a system call begins; the call and the arguments that they leave.

    :return: number, -1: make no call; arguments; the registers
    """
    m = machine.cur
    info = m.cpu.curr.thread_info
    bits = m.syscall_work_bits
    work = info.syscall_work
    regs = PtRegs(nr, args, -ENOSYS)
    # Handle ptrace
    if work & (bits.SYSCALL_TRACE | bits.SYSCALL_EMU):
        info.regs = regs
        stop = ptrace.tracehook_report_syscall_entry()
        if stop or work & bits.SYSCALL_EMU:
            return -1, args, regs
        # The tracer might have changed the syscall number
        nr = regs.nr
        args = tuple(regs.args)
    if work & bits.SYSCALL_TRACEPOINT:
        trace_sys_enter(args, nr)
    return nr, args, regs


def syscall_exit_work(nr: int, args: tuple[Any, ...], ret: int) -> int:
    """Tell who watches that a system call ends; the result that they leave."""
    m = machine.cur
    info = m.cpu.curr.thread_info
    work = info.syscall_work
    if work & m.syscall_work_bits.SYSCALL_TRACEPOINT:
        trace_sys_exit(args, ret, nr)
    if work & m.syscall_work_bits.SYSCALL_TRACE:
        info.regs = regs = PtRegs(nr, args, ret)
        ptrace.tracehook_report_syscall_exit()
        ret = regs.ret
    info.regs = None
    return ret


def arch_ptrace(child: Task, request: int, addr: Any, data: Any) -> int:
    """Serve the requests that are about registers."""
    if request == PTRACE_PEEKUSR:
        return getreg(child, addr, data)
    if request == PTRACE_POKEUSR:
        return putreg(child, addr, data)
    return ptrace.ptrace_request(child, request, addr, data)


def getreg(child: Task, off: int, data: Any) -> int:
    """PTRACE_PEEKUSR: a register by its place in struct user_regs_struct, in bytes."""
    regs: PtRegs | None = task_pt_regs(child)
    if off & 7 or not 0 <= off < _SIZEOF_USER or regs is None:
        return -EIO
    n = off >> 3
    if n in _ARGS:
        return put_user(regs.words()[_ARGS.index(n)], data)
    if n == _ORIG_RAX:
        return put_user(regs.nr & _WORD, data)
    return put_user(regs.ret & _WORD, data) if n == _RAX else -EIO


def putreg(child: Task, off: int, value: int) -> int:
    """PTRACE_POKEUSR: change the call, what it gets, or what it gives."""
    regs: PtRegs | None = task_pt_regs(child)
    if off & 7 or not 0 <= off < _SIZEOF_USER or regs is None:
        return -EIO
    n = off >> 3
    signed = value - (1 << 64) if value >> 63 == 1 else value
    if n in _ARGS:
        at = _ARGS.index(n)
        regs.args += [0] * (at + 1 - len(regs.args))
        regs.args[at] = value
    elif n == _ORIG_RAX:
        regs.nr = signed
    elif n == _RAX:
        regs.ret = signed
    else:
        return -EIO
    return 0
