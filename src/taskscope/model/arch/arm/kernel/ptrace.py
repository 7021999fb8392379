"""System calls under a tracer, and its requests for registers on 32-bit ARM: arch/arm/kernel/ptrace.c, v4.19.

A program in Python has the registers that a system call takes and gives: r0 to r6, r7 with its number, and r0 with the
result.  The others, and those of a task that is stopped elsewhere, are not there to be looked at (-EIO).
"""

from __future__ import annotations

from errno import EIO
from typing import Any, Final

import taskscope.model.kernel.ptrace as ptrace
import taskscope.model.kernel.trace.trace_events as trace_events
from taskscope.model import machine
from taskscope.model.include.linux.ptrace import (
    PTRACE_PEEKUSR,
    PTRACE_POKEUSR,
    PTRACE_SET_SYSCALL,
    task_pt_regs,
)
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.trace.events.syscalls import trace_sys_enter, trace_sys_exit

AUDIT_ARCH: Final = 0x4000_0028         # AUDIT_ARCH_ARM
_R7: Final = 7
_ORIG_R0: Final = 17
_SIZEOF_USER: Final = 296


class PtRegs:
    """struct pt_regs of a system call that a tracer looks at."""

    __slots__ = ("args", "exit", "nr", "r0")

    def __init__(self, nr: int, args: tuple[Any, ...]) -> None:
        self.nr = nr                    # thread_info.syscall
        self.args = list(args)          # what the program gave, r0 and following
        self.r0: Any = args[0] if args else 0
        self.exit = False               # r0 is the result

    @property
    def ret(self) -> int:
        """The result."""
        return int(self.r0)

    def of_child(self) -> PtRegs:
        """Return what a child that this call makes begins with: the same, and 0 as result."""
        child = PtRegs(self.nr, tuple(self.args))
        child.r0, child.exit = 0, True
        return child

    def words(self) -> tuple[int, ...]:
        """Return the arguments as numbers."""
        return trace_events.syscall_get_arguments(machine.cur, self.args)


def syscall_trace_enter(scno: int, args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...], PtRegs]:
    """Tell who watches that a system call begins (__sys_trace); the call and the arguments that they leave.

    :return: number, -1: make no call; arguments; the registers
    """
    m = machine.cur
    info = m.cpu.curr.thread_info
    info.syscall = scno
    regs = PtRegs(scno, args)
    if info.flags & m.syscall_work_bits.SYSCALL_TRACE:
        # IP is used to denote syscall entry/exit
        info.regs = regs
        if ptrace.tracehook_report_syscall_entry():
            regs.nr = -1
        # Tracer may have changed syscall.
        info.syscall = scno = regs.nr
        args = tuple(regs.args)
    if info.flags & m.syscall_work_bits.SYSCALL_TRACEPOINT:
        trace_sys_enter(args, scno)
    return scno, args, regs


def syscall_trace_exit(scno: int, args: tuple[Any, ...], ret: int) -> int:
    """Tell who watches that a system call ends (__sys_trace_return); the result that they leave."""
    m = machine.cur
    info = m.cpu.curr.thread_info
    if info.flags & m.syscall_work_bits.SYSCALL_TRACEPOINT:
        trace_sys_exit(args, ret, scno)
    if info.flags & m.syscall_work_bits.SYSCALL_TRACE:
        regs = PtRegs(scno, args)
        regs.r0 = ret
        regs.exit = True
        info.regs = regs
        ptrace.tracehook_report_syscall_exit()
        ret = regs.ret
    info.regs = None
    return ret


def arch_ptrace(child: Task, request: int, addr: Any, data: Any) -> int:
    """Serve the requests that are about registers."""
    if request == PTRACE_PEEKUSR:
        return ptrace_read_user(child, addr, data)
    if request == PTRACE_POKEUSR:
        return ptrace_write_user(child, addr, data)
    if request == PTRACE_SET_SYSCALL:
        regs = task_pt_regs(child)
        child.thread_info.syscall = data
        if regs is not None:
            regs.nr = data
        return 0
    return ptrace.ptrace_request(child, request, addr, data)


def ptrace_read_user(child: Task, off: int, data: Any) -> int:
    """PTRACE_PEEKUSR: a register by its place in struct pt_regs, in bytes."""
    regs: PtRegs | None = task_pt_regs(child)
    if off & 3 or not 0 <= off < _SIZEOF_USER or regs is None:
        return -EIO
    n = off >> 2
    words = regs.words()
    if n == 0 and regs.exit:
        return put_user(regs.ret & 0xFFFF_FFFF, data)
    if n < 6:
        return put_user(words[n], data)
    if n == _R7:
        return put_user(regs.nr & 0xFFFF_FFFF, data)
    return put_user(words[0], data) if n == _ORIG_R0 else -EIO


def ptrace_write_user(child: Task, off: int, data: int) -> int:
    """PTRACE_POKEUSR: change what the call gets, or gives.  (Its number has a request of its own.)"""
    regs: PtRegs | None = task_pt_regs(child)
    if off & 3 or not 0 <= off < _SIZEOF_USER or regs is None:
        return -EIO
    n = off >> 2
    if n == 0 and (regs.exit or regs.nr == -1):
        regs.r0 = data - (1 << 32) if data >> 31 == 1 else data
        return 0
    if n >= 6 or regs.exit:
        return -EIO
    regs.args += [0] * (n + 1 - len(regs.args))
    regs.args[n] = data
    if n == 0:
        regs.r0 = data
    return 0
