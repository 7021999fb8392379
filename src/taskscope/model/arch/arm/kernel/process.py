"""Stacks and registers of a task on 32-bit ARM: arch/arm/kernel/process.c, entry-armv.S (__switch_to), v4.19.

thread_info stands at the lowest address of the 8 KiB stack, and the stack pointer finds it.  What __switch_to saves in
``thread_info.cpu_context`` is read off the suspended stack when somebody looks (`cpu_context`): a stack that
does not run does not change.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import Any, Final

import taskscope.model.arch.arm.kernel.entry_common as entry_common
import taskscope.model.arch.arm.kernel.traps as traps
import taskscope.model.arch.arm.mm.fault as fault
import taskscope.model.include.linux.sched_task_stack as task_stack
import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.user.python as python
from taskscope.model import machine
from taskscope.model.arch.arm.kernel.ptrace import AUDIT_ARCH as AUDIT_ARCH
from taskscope.model.arch.arm.kernel.ptrace import arch_ptrace as arch_ptrace
from taskscope.model.include.linux.ptrace import task_pt_regs
from taskscope.model.include.linux.sched import PF_KTHREAD, Task
from taskscope.model.include.uapi.linux.sched import CLONE_SETTLS

SIZEOF_PT_REGS: Final = 72              # r0-r15, cpsr, orig_r0
#: bytes of thread_info: the word behind it is the last that the stack may use
SIZEOF_THREAD_INFO: Final = 0x210
#: what a call takes on the stack, on average
FRAME: Final = 40
THREAD_START_SP: Final = 8


class CpuContextSave:
    """struct cpu_context_save: r4 to r10 (sl), fp, sp and pc.  What a compiler would keep in r4 to r10 is not known."""

    __slots__ = ("fp", "pc", "r4", "r5", "sp")

    def __init__(self, r4: Any, r5: Any, fp: int, sp: int, pc: int) -> None:
        self.r4 = r4                    # of a new kernel thread: its argument
        self.r5 = r5                    # and its function
        self.fp = fp
        self.sp = sp
        self.pc = pc


def cpu_context(tsk: Task) -> CpuContextSave:
    """Return the registers of a task that does not run: of a new one, where it begins.

    Else, where it was switched away.
    """
    m = machine.cur
    stack = tsk.stack_greenlet
    if stack is None or stack.gr_frame is None:
        r4, r5 = tsk.thread_info.start or (None, None)
        sp = task_stack.task_sp(tsk, 0)
        return CpuContextSave(r4, r5, 0, sp, kallsyms.kallsyms_address(m, entry_common.ret_from_fork))
    frame = stack.gr_frame
    # the innermost kernel function that is not part of the switch itself: __switch_to returns there
    while frame.f_back is not None and frame.f_code.co_name in ("switch", "switch_stack", "__switch_to"):
        frame = frame.f_back
    depth = task_stack.kernel_depth(frame)
    sp = task_stack.task_sp(tsk, depth)
    return CpuContextSave(None, None, task_stack.task_sp(tsk, depth - 1) - 4, sp, kallsyms.frame_address(m, frame) or 0)


def setup_processor() -> None:
    """Tell the machine how this architecture lays out stacks, switches, and takes interrupts.

    Called by setup_arch().
    """
    m = machine.cur
    m.sizeof_thread_info = SIZEOF_THREAD_INFO
    # pt_regs of a task's entry from user mode stand at the top of its stack, less 8 bytes of padding.
    m.entry_sp = m.flavour.thread_size - THREAD_START_SP - SIZEOF_PT_REGS
    m.frame_size = FRAME
    m.switch_to = __switch_to
    m.do_irq = entry_common.do_irq
    m.abort = fault.dabt_svc
    m.user_abort = fault.dabt_usr
    m.show_irq_regs = traps.show_irq_regs
    m.bug = traps.do_undefinstr_bug


def copy_thread(clone_flags: int, stack_start: Any, stk_sz: Any, p: Task, tls: Any) -> int:
    """Give the new task registers: the caller's with 0 as result, or a kernel thread's function and argument; 0."""
    m = machine.cur
    if fault_inject.should_fail("copy_thread"):
        return -ENOMEM
    if p.flags & PF_KTHREAD:
        # childregs are zero; r4 and r5 hold what ret_from_fork() calls
        p.thread_info.start = (stk_sz, stack_start)
        p.journal = None
    else:
        python.copy_user(p, stack_start)
        regs = task_pt_regs(m.cpu.curr)
        p.thread_info.regs = None if regs is None else regs.of_child()
    if clone_flags & CLONE_SETTLS:
        p.thread_info.tp_value = (tls, 0)
    p.stack_greenlet = m.new_stack(entry_common.ret_from_fork)
    return 0


def exit_thread(tsk: Task) -> None:
    """Let go of what the architecture keeps for a task."""
    # Not modelled: thread_notify(THREAD_NOTIFY_EXIT), VFP state.


def __switch_to(prev: Task, next: Task) -> None:
    """Save the registers of `prev`, load those of `next`: returns on prev's stack when it is switched to again.

    Context: rq.lock held, interrupts off.
    """
    del prev
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
