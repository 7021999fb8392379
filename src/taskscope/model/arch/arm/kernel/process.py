"""Stacks and registers of a task on 32-bit ARM: arch/arm/kernel/process.c, entry-armv.S (__switch_to), v4.19.

thread_info stands at the lowest address of the 8 KiB stack, and the stack pointer finds it.  What __switch_to saves in
``thread_info.cpu_context`` is read off the suspended stack when somebody looks (`cpu_context`): a stack that
does not run does not change.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import Any, Final

import taskscope.model.arch.arm.kernel.entry_common as entry_common
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.user.python as python
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_KTHREAD, Task

SIZEOF_PT_REGS: Final = 72              # r0-r15, cpsr, orig_r0
#: bytes of thread_info: the word behind it is the last that the stack may use
SIZEOF_THREAD_INFO: Final = 0x210
#: what a call takes on the stack, on average
FRAME: Final = 40
THREAD_START_SP: Final = 8


class CpuContextSave:
    """struct cpu_context_save as copy_thread() fills it: where a new task begins."""

    __slots__ = ("arg", "fn", "pc", "sp")

    def __init__(self, fn: Any, arg: Any, sp: int, pc: Any) -> None:
        self.arg = arg                  # r4
        self.fn = fn                    # r5
        self.sp = sp
        self.pc = pc


def setup_processor() -> None:
    """Tell the machine how this architecture lays out stacks, switches, and takes interrupts; called by setup_arch()."""
    m = machine.cur
    m.sizeof_thread_info = SIZEOF_THREAD_INFO
    # pt_regs of a task's entry from user mode stand at the top of its stack, less 8 bytes of padding.
    m.entry_sp = m.flavour.thread_size - THREAD_START_SP - SIZEOF_PT_REGS
    m.frame_size = FRAME
    m.switch_to = __switch_to
    m.do_irq = entry_common.do_irq


def copy_thread(clone_flags: int, stack_start: Any, stk_sz: Any, p: Task, tls: Any) -> int:
    """Give the new task registers: the caller's with 0 as result, or a kernel thread's function and argument; 0."""
    m = machine.cur
    if fault_inject.should_fail("copy_thread"):
        return -ENOMEM
    sp = p.stack + m.entry_sp
    if p.flags & PF_KTHREAD:
        # childregs are zero; r4 and r5 hold what ret_from_fork() calls
        context = CpuContextSave(stack_start, stk_sz, sp, entry_common.ret_from_fork)
        p.journal = None
    else:
        context = CpuContextSave(None, None, sp, entry_common.ret_from_fork)
        python.copy_user(p, stack_start)
    p.thread_info.cpu_context = context
    if clone_flags & 0x0008_0000:           # CLONE_SETTLS
        p.thread_info.tp_value = (tls, 0)
    p.stack_greenlet = m.new_stack(entry_common.ret_from_fork)
    return 0


def exit_thread(tsk: Task) -> None:
    """Let go of what the architecture keeps for a task."""
    # Not modelled: thread_notify(THREAD_NOTIFY_EXIT), VFP state.


def __switch_to(prev: Task, next: Task) -> None:  # noqa: A002
    """Save the registers of `prev`, load those of `next`: returns on prev's stack when it is switched to again.

    Context: rq.lock held, interrupts off.
    """
    m = machine.cur
    cpu = m.cpu
    cpu.curr = next
    # ldr sp, [r2, #TI_CPU_SAVE]: somewhere on next's stack; sampled exactly by sample_sp()
    cpu.sp = next.stack + m.entry_sp
    stack = next.stack_greenlet
    assert stack is not None, f"{next} has no stack"
    if stack:
        stack.switch()
    else:
        m.switch_stack(stack)


def flush_thread() -> None:
    """Forget the old program's registers: debug registers, VFP, TLS."""
    machine.cur.cpu.curr.thread_info.tp_value = (0, 0)
