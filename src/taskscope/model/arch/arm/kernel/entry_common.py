"""Into the kernel and out of it on 32-bit ARM: entry-common.S, entry-armv.S, signal.c, irq.c in arch/arm/kernel, v4.19.

A program executes ``svc 0``: `vector_swi` calls through sys_call_table and leaves by ret_to_user, where everything that
is due for the task happens: rescheduling, signals.  Interrupts enter by `do_irq` on the stack of the task they
interrupt.
"""

from __future__ import annotations

from errno import EINTR, ENOSYS
from heapq import heapreplace
from typing import Any, Final

import taskscope.model.arch.arm.kernel.ptrace as ptrace
import taskscope.model.kernel.irq.irqdesc as irqdesc
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.action as signal_action
import taskscope.model.kernel.signal.deliver as signal_deliver
import taskscope.model.kernel.softirq as softirq
import taskscope.model.kernel.task_work as task_work
import taskscope.model.user.python as python
from taskscope.model import machine
from taskscope.model.costs import SYSCALL
from taskscope.model.include.linux.errno import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS
from taskscope.model.include.linux.irqdesc import IrqDesc
from taskscope.model.include.linux.sched_signal import SA_RESTART

__NR_restart_syscall: Final = 0


class PtRegs:
    """struct pt_regs, what do_signal() looks at: the call that is being left."""

    __slots__ = ("ret",)

    def __init__(self, ret: int) -> None:
        self.ret = ret                  # ARM_r0


def vector_swi(scno: int, args: tuple[Any, ...]) -> int:
    """Serve a system call of the running task.

    :param scno: its number (r7)
    :param args: what the program put into r0 and following
    :return: what the program finds in r0; -ERESTART* says that its program counter stands on the call again
    """
    m = machine.cur
    cpu = m.cpu
    assert cpu.user_mode, "a system call from inside the kernel"
    current = cpu.curr
    cpu.user_mode = False
    cpu.sp = current.stack + m.entry_sp
    m.now += SYSCALL
    info = current.thread_info
    while True:
        # are we tracing syscalls?
        if info.flags & m.tif_syscall_work:
            # __sys_trace
            scno, args, trace_regs = ptrace.syscall_trace_enter(scno, args)
        function = m.sys_call_table.get(scno)
        if function is None:
            # -1: a tracer wants no call, and has put a result into r0
            ret = -ENOSYS if scno != -1 else trace_regs.ret
        elif not args:
            ret = function()            # a call with *args costs the interpreter a frame on the C stack
        else:
            ret = function(*args)
        if info.flags & m.tif_syscall_work:
            # __sys_trace_return
            ret = ptrace.syscall_trace_exit(scno, args, ret)
        elif info.regs is not None:
            info.regs = None            # a tracer looked at the entry only
        # ret_fast_syscall
        cpu = m.cpu
        events = m._events
        if m.chooses or cpu.pending:
            m.catch_up()
            cpu = m.cpu
        elif events and events[0][0] <= m.now:
            # What is due is nearly always that another CPU goes on: catch_up() without its frame.
            time, seq, event = events[0]
            other = event.cpu
            limit = m._limit
            plain = other is not None and other is not cpu and event.seq == seq and not m._stop
            if not plain or (limit is not None and time > limit):
                m.catch_up()
                cpu = m.cpu
            else:
                wake = cpu.wake
                wake.seq = m._seq = seq = m._seq + 1
                heapreplace(events, (m.now, seq, wake))
                event.seq = 0
                assert other is not None
                m.cpu = other
                other.curr.stack_greenlet.switch()  # type: ignore[union-attr]
                if wake.seq:
                    m.cancel(wake)
                cpu = m.cpu
                if cpu.pending and not cpu.irqs_off:
                    m.take_irqs()
                    cpu = m.cpu
        if info.flags & m.work_mask:
            cpu.irqs_off = True         # disable_irq_notrace
            regs = PtRegs(ret)
            restart = do_work_pending(regs, 1)
            ret = regs.ret
            if restart:
                # local_restart: the call is made again without leaving the kernel
                if restart < 0:
                    scno, args = __NR_restart_syscall, ()
                m.cpu.irqs_off = False
                continue
            cpu = m.cpu
            cpu.irqs_off = False
        assert cpu.preempt_count == 0, f"preempt_count {cpu.preempt_count:#x} on the way to user space"
        assert not cpu.irqs_off, "interrupts off on the way to user space"
        cpu.user_mode = True
        return ret


def do_work_pending(regs: PtRegs, syscall: int) -> int:
    """Do what TIF_* ask for until nothing is left; not 0 if the system call is to be made again.

    Context: irqs off; returns so.
    """
    m = machine.cur
    info = m.cpu.curr.thread_info
    mask = m.work_mask
    while True:
        flags = info.flags
        m.cpu.irqs_off = False
        if flags & m.tif_need_resched:
            sched_core.schedule()
        elif flags & m.tif_sigpending:
            restart = do_signal(regs, syscall)
            if restart:
                # Restart without handlers.  Deal with it without leaving the kernel space.
                m.cpu.irqs_off = True
                return restart
            syscall = 0
        else:
            info.flags &= ~m.tif.NOTIFY_RESUME
            task_work.tracehook_notify_resume()
        m.catch_up()
        m.cpu.irqs_off = True
        if not info.flags & mask:
            return 0


def do_signal(regs: PtRegs, syscall: int) -> int:
    """Take the signals that are due: a handler's frame goes on the user stack, or the call is to be restarted."""
    retval = regs.ret
    restart = 0
    if syscall:
        # If we were from a system call, check for system call restarting...
        if retval == -ERESTART_RESTARTBLOCK:
            restart = -1
        elif retval in (-ERESTARTNOHAND, -ERESTARTSYS, -ERESTARTNOINTR):
            restart = 1
    # Get the signal to deliver.  When running under ptrace, at this point the debugger may change all our registers ...
    ksig = signal_deliver.Ksignal()
    if signal_deliver.get_signal(ksig):
        # handler
        if restart and (retval in (-ERESTARTNOHAND, -ERESTART_RESTARTBLOCK)
                        or (retval == -ERESTARTSYS and not ksig.ka.sa_flags & SA_RESTART)):
            regs.ret = -EINTR
        handle_signal(ksig)
        return 0
    # no handler
    signal_action.restore_saved_sigmask()
    return restart


def handle_signal(ksig: signal_deliver.Ksignal) -> None:
    """Put a frame for the handler on the user stack: it runs before the program goes on."""
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
        # r5(r4): returns only when it has become a process: kernel_init() after its execve()
        arg, fn = start
        fn(arg)
    ret_to_user()
    machine.cur.cpu.curr.thread_info.regs = None
    python.user_mode()


def ret_to_user() -> None:
    """Leave the kernel otherwise than by a system call's end (ret_slow_syscall)."""
    m = machine.cur
    m.catch_up()
    m.cpu.irqs_off = True
    if m.cpu.curr.thread_info.flags & m.work_mask:
        do_work_pending(PtRegs(0), 0)
    cpu = m.cpu
    assert cpu.preempt_count == 0, f"preempt_count {cpu.preempt_count:#x} on the way to user space"
    cpu.irqs_off = False
    cpu.user_mode = True


def do_irq(desc: IrqDesc) -> None:
    """Take an interrupt: __irq_usr if it came in user mode, __irq_svc if in the kernel.

    Context: irqs off, as the hardware enters; returns so, perhaps on another CPU.
    """
    if machine.cur.cpu.irq_regs_user:
        __irq_usr(desc)
    else:
        __irq_svc(desc)


def __irq_usr(desc: IrqDesc) -> None:
    """Take an interrupt that came in user mode; on the way back all that is due for the task is done."""
    m = machine.cur
    irq_handler(desc)
    # ret_to_user_from_irq
    if m.cpu.curr.thread_info.flags & m.work_mask:
        do_work_pending(PtRegs(0), 0)
    assert m.cpu.preempt_count == 0, f"preempt_count {m.cpu.preempt_count:#x} on the way to user space"


def __irq_svc(desc: IrqDesc) -> None:
    """Take an interrupt that came in the kernel, which goes on, or is preempted where its count is 0."""
    m = machine.cur
    cpu = m.cpu
    irq_handler(desc)
    # CONFIG_PREEMPT
    if m.kernel_preempt and not cpu.preempt_count and cpu.curr.thread_info.flags & m.tif_need_resched:
        svc_preempt()


def svc_preempt() -> None:
    """Let others run before the interrupted kernel code goes on."""
    sched_core.preempt_schedule_irq()


def irq_handler(desc: IrqDesc) -> None:
    """Tell interrupts of devices from those of other CPUs (handle_arch_irq)."""
    if desc.ipi:
        handle_IPI(desc)
    else:
        handle_IRQ(desc)


def handle_IRQ(desc: IrqDesc) -> None:
    """Handle a device's interrupt (handle_domain_irq())."""
    softirq.irq_enter()
    irqdesc.generic_handle_irq(desc)
    softirq.irq_exit()


def handle_IPI(desc: IrqDesc) -> None:
    """Handle an interrupt from another CPU."""
    m = machine.cur
    if desc is m.ipi_reschedule:
        # scheduler_ipi() enters the interrupt context itself when it has something to do
        irqdesc.generic_handle_irq(desc)
        return
    softirq.irq_enter()
    irqdesc.generic_handle_irq(desc)
    softirq.irq_exit()
