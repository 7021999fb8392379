"""Into the kernel and out of it on x86-64: arch/x86/entry/common.c, kernel/signal.c, irq.c, v4.19 to v6.18.

A program executes ``syscall``: `do_syscall_64` calls through sys_call_table and leaves by prepare_exit_to_usermode(),
where everything that is due for the task happens: rescheduling, signals.  Since v5.9 this way out is in
kernel/entry/common.c, under other names and in the same order.  Interrupts enter by `do_irq` on the stack of the task
they interrupt.
"""

from __future__ import annotations

from errno import EINTR, ENOSYS
from typing import Any, Final

import taskscope.model.arch.x86.kernel.ptrace as ptrace
import taskscope.model.kernel.irq.irqdesc as irqdesc
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.action as signal_action
import taskscope.model.kernel.signal.deliver as signal_deliver
import taskscope.model.kernel.softirq as softirq
import taskscope.model.kernel.task_work as task_work
import taskscope.model.user.python as python
from taskscope.model import costs, machine
from taskscope.model.include.linux.errno import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS
from taskscope.model.include.linux.irqdesc import IrqDesc
from taskscope.model.include.linux.sched_signal import SA_RESTART

__NR_restart_syscall: Final = 219


class PtRegs:
    """struct pt_regs, what do_signal() looks at: the call that is being left."""

    __slots__ = ("ax", "orig_ax")

    def __init__(self, orig_ax: int, ax: int) -> None:
        self.orig_ax = orig_ax          # number of the system call, -1 for an interrupt or a call that is dealt with
        self.ax = ax                    # its result; the number again when it is to be restarted


def do_syscall_64(nr: int, args: tuple[Any, ...]) -> int:
    """Serve a system call of the running task.

    :param nr: its number (rax)
    :param args: what the program put into rdi, rsi, rdx, r10, r8, r9
    :return: what the program finds in rax; -ERESTART* says that its instruction pointer stands on the call again
    """
    m = machine.cur
    cpu = m.cpu
    assert cpu.user_mode, "a system call from inside the kernel"
    current = cpu.curr
    cpu.user_mode = False
    cpu.sp = current.stack + m.entry_sp
    m.now += costs.SYSCALL
    info = current.thread_info
    while True:
        if info.syscall_work:
            nr, args, trace_regs = ptrace.syscall_trace_enter(nr, args)
        function = m.sys_call_table.get(nr)
        if function is not None:
            ret = function(*args)
        else:
            # -1: a tracer wants no call, and may have put a result into rax
            ret = -ENOSYS if nr != -1 else trace_regs.ret
        if info.syscall_work:
            ret = ptrace.syscall_exit_work(nr, args, ret)
        elif info.regs is not None:
            info.regs = None            # a tracer looked at the entry only
        m.catch_up()
        m.cpu.irqs_off = True
        if info.flags & m.work_mask:
            regs = PtRegs(nr, ret)
            restart = exit_to_usermode_loop(regs)
            ret = regs.ax
            if restart:
                # The instruction pointer stands on the syscall instruction, and no handler comes before it.
                if restart < 0:
                    nr, args = __NR_restart_syscall, ()
                m.cpu.irqs_off = False
                continue
        cpu = m.cpu
        assert cpu.preempt_count == 0, f"preempt_count {cpu.preempt_count:#x} on the way to user space"
        cpu.irqs_off = False
        cpu.user_mode = True
        return ret


def exit_to_usermode_loop(regs: PtRegs) -> int:
    """Do what TIF_* ask for until nothing is left; not 0 if the system call is to be made again.

    Context: irqs off; returns so.
    """
    m = machine.cur
    info = m.cpu.curr.thread_info
    mask = m.work_mask
    restart = 0
    while True:
        flags = info.flags
        # We have work to do.
        m.cpu.irqs_off = False
        if flags & m.tif_need_resched:
            sched_core.schedule()
        # deal with pending signal delivery
        if flags & m.tif_sigpending:
            restart = do_signal(regs) or restart
        if flags & m.tif.NOTIFY_RESUME:
            info.flags &= ~m.tif.NOTIFY_RESUME
            task_work.tracehook_notify_resume()
        m.catch_up()
        # Disable IRQs and retry
        m.cpu.irqs_off = True
        if not info.flags & mask:
            if restart and m.cpu.curr.journal.frames:
                # A handler came after it was decided to make the call again: that happens when it has returned.  To
                # make restart_syscall() has no effect then, as sigreturn lets it fail.
                if restart < 0:
                    regs.ax = -EINTR
                return 0
            return restart


def do_signal(regs: PtRegs) -> int:
    """Take the signals that are due: a handler's frame goes on the user stack, or the call is to be restarted.

    :return: 1: make the call again; -1: make restart_syscall()
    """
    ksig = signal_deliver.Ksignal()
    if signal_deliver.get_signal(ksig):
        # Whee! Actually deliver the signal.
        handle_signal(ksig, regs)
        return 0
    restart = 0
    # Did we come from a system call?
    if regs.orig_ax != -1:
        # Restart the system call - no handlers present
        if regs.ax in (-ERESTARTNOHAND, -ERESTARTSYS, -ERESTARTNOINTR):
            restart = 1
        elif regs.ax == -ERESTART_RESTARTBLOCK:
            restart = -1
        regs.orig_ax = -1
    # If there's no signal to deliver, we just put the saved sigmask back.
    signal_action.restore_saved_sigmask()
    return restart


def handle_signal(ksig: signal_deliver.Ksignal, regs: PtRegs) -> None:
    """Decide what becomes of an interrupted call, and put a frame for the handler on the user stack."""
    # Are we from a system call?
    if regs.orig_ax != -1:
        if regs.ax in (-ERESTART_RESTARTBLOCK, -ERESTARTNOHAND) or (
                regs.ax == -ERESTARTSYS and not ksig.ka.sa_flags & SA_RESTART):
            regs.ax = -EINTR
        regs.orig_ax = -1
    # setup_rt_frame()
    oldset = signal_action.sigmask_to_save()
    signal_deliver.setup_rt_frame(ksig, oldset)
    signal_deliver.signal_setup_done(False, ksig, False)


def ret_from_fork() -> None:
    """Begin a task's life: a kernel thread calls its function, a process returns to user mode."""
    m = machine.cur
    prev = m.cpu.prev
    assert prev is not None, "somebody switched here"
    sched_core.schedule_tail(prev)
    start = machine.cur.cpu.curr.thread_info.start
    if start is not None:
        # rbx(r12): returns only when it has become a process: kernel_init() after its execve()
        arg, fn = start
        fn(arg)
    prepare_exit_to_usermode()
    machine.cur.cpu.curr.thread_info.regs = None
    python.user_mode()


def prepare_exit_to_usermode() -> None:
    """Leave the kernel otherwise than by a system call's end."""
    m = machine.cur
    m.catch_up()
    m.cpu.irqs_off = True
    if m.cpu.curr.thread_info.flags & m.work_mask:
        exit_to_usermode_loop(PtRegs(-1, 0))
    cpu = m.cpu
    assert cpu.preempt_count == 0, f"preempt_count {cpu.preempt_count:#x} on the way to user space"
    cpu.irqs_off = False
    cpu.user_mode = True


def do_irq(desc: IrqDesc) -> None:
    """Take an interrupt: common_interrupt, or the vector of the local APIC's timer or of an IPI.

    Context: irqs off, as the hardware enters; returns so, perhaps on another CPU.
    """
    m = machine.cur
    user = m.cpu.irq_regs_user
    if desc is m.irq_timer:
        smp_apic_timer_interrupt(desc)
    elif desc is m.ipi_reschedule:
        smp_reschedule_interrupt(desc)
    elif desc.ipi:
        smp_call_function_single_interrupt(desc)
    else:
        do_IRQ(desc)
    irqentry_exit(user)


def irqentry_exit(user: bool) -> None:
    """Leave an interrupt: towards user mode all that is due for the task is done, in the kernel it may be preempted."""
    m = machine.cur
    cpu = m.cpu
    if user:
        if cpu.curr.thread_info.flags & m.work_mask:
            exit_to_usermode_loop(PtRegs(-1, 0))
        assert m.cpu.preempt_count == 0, f"preempt_count {m.cpu.preempt_count:#x} on the way to user space"
    elif m.kernel_preempt and not cpu.preempt_count:
        irqentry_exit_cond_resched()


def irqentry_exit_cond_resched() -> None:
    """Let others run before the interrupted kernel code goes on, if they should (preempt=full)."""
    m = machine.cur
    if m.cpu.curr.thread_info.flags & m.tif_need_resched:
        sched_core.preempt_schedule_irq()


def do_IRQ(desc: IrqDesc) -> None:
    """Handle a device's interrupt."""
    softirq.irq_enter()
    irqdesc.generic_handle_irq(desc)
    softirq.irq_exit()


def smp_apic_timer_interrupt(desc: IrqDesc) -> None:
    """Handle the local APIC's timer."""
    softirq.irq_enter()
    irqdesc.generic_handle_irq(desc)
    softirq.irq_exit()


def smp_reschedule_interrupt(desc: IrqDesc) -> None:
    """Handle the reschedule IPI: scheduler_ipi() enters the interrupt context itself when it has something to do."""
    irqdesc.generic_handle_irq(desc)


def smp_call_function_single_interrupt(desc: IrqDesc) -> None:
    """Handle the IPI that calls functions."""
    softirq.irq_enter()
    irqdesc.generic_handle_irq(desc)
    softirq.irq_exit()
