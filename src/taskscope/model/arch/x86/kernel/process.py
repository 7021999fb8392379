"""Stacks and registers of a task on x86-64: arch/x86/kernel/process{,_64}.c, entry_64.S, v4.19 to v6.18.

thread_info is the first member of task_struct (CONFIG_THREAD_INFO_IN_TASK); ``current`` is a per-cpu variable.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import Any, Final

import taskscope.model.arch.x86.entry.common as common
import taskscope.model.arch.x86.kernel.traps as traps
import taskscope.model.arch.x86.mm.fault as fault
import taskscope.model.include.linux.sched_task_stack as task_stack
import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.user.python as python
from taskscope.model import machine
from taskscope.model.arch.x86.kernel.ptrace import AUDIT_ARCH as AUDIT_ARCH
from taskscope.model.arch.x86.kernel.ptrace import arch_ptrace as arch_ptrace
from taskscope.model.include.linux.ptrace import task_pt_regs
from taskscope.model.include.linux.sched import PF_KTHREAD, Task
from taskscope.model.include.uapi.linux.sched import CLONE_SETTLS

SIZEOF_PT_REGS: Final = 168
SIZEOF_THREAD_INFO: Final = 24
#: what a call takes on the stack, on average
FRAME: Final = 64


class InactiveTaskFrame:
    """struct inactive_task_frame and thread.sp: where a task that does not run stands; rbx to r15 are not known."""

    __slots__ = ("pc", "sp")

    def __init__(self, sp: int, pc: int) -> None:
        self.sp = sp
        self.pc = pc


def cpu_context(tsk: Task) -> InactiveTaskFrame:
    """Return where a task that does not run stands: a new one at ret_from_fork(), else where it was switched away."""
    m = machine.cur
    stack = tsk.stack_greenlet
    if stack is None or stack.gr_frame is None:
        return InactiveTaskFrame(task_stack.task_sp(tsk, 0), kallsyms.kallsyms_address(m, common.ret_from_fork))
    frame = stack.gr_frame
    while frame.f_back is not None and frame.f_code.co_name in ("switch", "switch_stack", "__switch_to"):
        frame = frame.f_back
    return InactiveTaskFrame(
        task_stack.task_sp(tsk, task_stack.kernel_depth(frame)), kallsyms.frame_address(m, frame) or 0
    )


def setup_processor() -> None:
    """Tell the machine how this architecture lays out stacks, switches, and takes interrupts.

    Called by setup_arch().
    """
    m = machine.cur
    m.sizeof_thread_info = SIZEOF_THREAD_INFO
    # pt_regs of a task's entry from user mode stand at the very top of its stack.
    m.entry_sp = m.flavour.thread_size - SIZEOF_PT_REGS
    m.frame_size = FRAME
    m.switch_to = __switch_to
    m.do_irq = common.do_irq
    m.abort = fault.exc_page_fault_kernel
    m.user_abort = fault.exc_page_fault
    m.show_irq_regs = traps.show_irq_regs
    m.bug = traps.exc_invalid_op


def copy_thread(clone_flags: int, sp: Any, arg: Any, p: Task, tls: Any) -> int:
    """Give the new task registers: the caller's with 0 as result, or a kernel thread's function and argument; 0."""
    if fault_inject.should_fail("copy_thread"):
        return -ENOMEM
    m = machine.cur
    if p.flags & PF_KTHREAD:
        # kernel thread
        p.thread_info.start = (arg, sp)
        p.journal = None
    else:
        python.copy_user(p, sp)
        regs = task_pt_regs(m.cpu.curr)
        p.thread_info.regs = None if regs is None else regs.of_child()
    if clone_flags & CLONE_SETTLS:      # do_arch_prctl_64(ARCH_SET_FS)
        p.thread_info.tp_value = (tls, 0)
    p.stack_greenlet = m.new_stack(common.ret_from_fork)
    return 0


def exit_thread(tsk: Task) -> None:
    """Let go of what the architecture keeps for a task."""
    # Not modelled: I/O permission bitmaps, the state of the FPU.


def __switch_to(prev: Task, next: Task) -> None:
    """Save the registers of `prev`, load those of `next`: returns on prev's stack when it is switched to again.

    Context: rq.lock held, interrupts off.
    """
    del prev
    m = machine.cur
    cpu = m.cpu
    cpu.curr = next                     # this_cpu_write(current_task, next_p)
    # movq TASK_threadsp(%rsi), %rsp: somewhere on next's stack; sampled exactly by sample_sp()
    cpu.sp = next.stack + m.entry_sp
    stack = next.stack_greenlet
    assert stack is not None, f"{next} has no stack"
    if stack:
        stack.switch()
    else:
        m.switch_stack(stack)


def flush_thread() -> None:
    """Forget the old program's registers: hardware breakpoints, TLS, FPU."""
    machine.cur.cpu.curr.thread_info.tp_value = (0, 0)
