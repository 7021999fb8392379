"""Stops for a tracer: the ptrace part of kernel/signal.c, v4.19.

A task stops itself, in ptrace_stop(): before it takes a signal (ptrace_signal()), for an event or a system call
(ptrace_notify()), and for a stop of job control or at its tracer's wish (do_jobctl_trap()).  It tells its tracer as a
child tells its parent, and sleeps until that resumes it: kernel/ptrace.py.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.notify as notify_
import taskscope.model.kernel.signal.send as send
import taskscope.model.kernel.task_work as task_work
from taskscope.model import machine
from taskscope.model.include.linux.preempt import preempt_disable, preempt_enable_no_resched
from taskscope.model.include.linux.ptrace import PT_SEIZED, PTRACE_EVENT_STOP, ptrace_reparented
from taskscope.model.include.linux.sched import __TASK_TRACED, TASK_RUNNING, TASK_TRACED, Task
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_LISTENING,
    JOBCTL_PTRACE_FROZEN,
    JOBCTL_STOP_DEQUEUED,
    JOBCTL_STOP_PENDING,
    JOBCTL_STOP_SIGMASK,
    JOBCTL_TRACED,
    JOBCTL_TRAP_NOTIFY,
    JOBCTL_TRAP_STOP,
    SI_USER,
    SIGNAL_STOP_STOPPED,
    Siginfo,
)
from taskscope.model.include.linux.spinlock import read_lock, read_unlock, spin_lock_irq, spin_unlock_irq

SIGTRAP: Final = 5


def ptrace_signal_wake_up(t: Task, resume: bool) -> None:
    """Let a traced task look at what is pending; `resume`: also out of a stop (include/linux/sched/signal.h).

    Context: siglock held.
    """
    if resume:
        t.jobctl &= ~JOBCTL_TRACED
    send.signal_wake_up_state(t, __TASK_TRACED if resume else 0)


def ptrace_trap_notify(t: Task) -> None:
    """Have a seized task stop once more, so that its tracer learns of a change of the group's stop.

    Context: siglock held.
    """
    assert t.ptrace & PT_SEIZED, f"{t} is not seized"
    assert t.sighand is not None
    assert t.sighand.siglock.held, "siglock"
    send.task_set_jobctl_pending(t, JOBCTL_TRAP_NOTIFY)
    ptrace_signal_wake_up(t, bool(t.jobctl & JOBCTL_LISTENING))


def may_ptrace_stop() -> bool:
    """Tell whether there still is a tracer to stop for.

    Context: tasklist_lock held.
    """
    # Not modelled: a tracer that dumps core in the same address space.
    return bool(machine.cur.cpu.curr.ptrace)


def ptrace_stop(exit_code: int, why: int, clear_code: bool, info: Siginfo | None, message: int | None = None) -> int:
    """Stop for the tracer; return what that resumes the task with: a signal, 0 for none.

    :param exit_code: what wait4() tells the tracer
    :param why: CLD_TRAPPED, or CLD_STOPPED to take part in a stop of the group
    :param clear_code: whether nothing is left of `exit_code` if the tracer has gone meanwhile
    :param message: for PTRACE_GETEVENTMSG; None leaves the one before, as kernels before v5.18 do
    Context: siglock held; released while the task sleeps.
    """
    m = machine.cur
    current = m.cpu.curr
    sighand = current.sighand
    assert sighand is not None
    assert sighand.siglock.held, "siglock"
    fresh = m.flavour.switches.ptrace_fresh_message
    # Since v5.19 a task that is being killed, or has no tracer any more, does not get as far as to sleep.
    if fresh and (not current.ptrace or send.__fatal_signal_pending(current)):
        return exit_code
    # Not modelled: arch_ptrace_stop().
    # set_special_state()
    if m.flavour.switches.traced_in_jobctl:
        current.state = __TASK_TRACED
        current.jobctl |= JOBCTL_TRACED
    else:
        current.state = TASK_TRACED
    if fresh:
        current.ptrace_message = message or 0
    elif message is not None:
        current.ptrace_message = message
    current.last_siginfo = info
    current.exit_code = exit_code
    # If why is CLD_STOPPED, we're trapping to participate in a group stop.  If SIGCONT was delivered since, PENDING is
    # clear now: act as if it came after the stop, and ignore it.
    gstop_done = False
    if why == exit_.CLD_STOPPED and current.jobctl & JOBCTL_STOP_PENDING:
        gstop_done = send.task_participate_group_stop(current)
    # any trap clears pending STOP trap, STOP trap clears NOTIFY
    send.task_clear_jobctl_pending(current, JOBCTL_TRAP_STOP)
    if info is not None and info.si_code >> 8 == PTRACE_EVENT_STOP:
        send.task_clear_jobctl_pending(current, JOBCTL_TRAP_NOTIFY)
    # entering a trap, clear TRAPPING
    send.task_clear_jobctl_trapping(current)
    spin_unlock_irq(sighand.siglock)
    read_lock(m.tasklist_lock)
    if may_ptrace_stop():
        # While ptraced, there are two parents: the tracer, who should know about every stop, and the real_parent of
        # the leader, who is interested in the completion of a group stop only.  Two notices, unless they are one.
        notify_.do_notify_parent_cldstop(current, True, why)
        if gstop_done and ptrace_reparented(current):
            notify_.do_notify_parent_cldstop(current, False, why)
        # Don't be preempted between the notice and the sleep: the tracer would find a task that is not quite stopped.
        preempt_disable()
        read_unlock(m.tasklist_lock)
        preempt_enable_no_resched()
        sched_core.schedule()
    else:
        # By the time we got the lock, our tracer went away.  If it went between the completion of the group stop and
        # here, JOBCTL_STOP_PENDING is set again and do_signal_stop() follows: telling the real parent is enough.
        if gstop_done:
            notify_.do_notify_parent_cldstop(current, False, why)
        # tasklist_lock protects us from ptrace_freeze_traced()
        current.state = TASK_RUNNING
        current.jobctl &= ~JOBCTL_TRACED
        if clear_code:
            current.exit_code = 0
        read_unlock(m.tasklist_lock)
    # We are back.  Take the siglock before touching last_siginfo, so that whoever examines it is done.
    spin_lock_irq(sighand.siglock)
    exit_code = current.exit_code
    current.last_siginfo = None
    if fresh:
        current.ptrace_message = 0
        current.exit_code = 0
    # LISTENING can be set only during STOP traps, clear it
    current.jobctl &= ~(JOBCTL_LISTENING | JOBCTL_PTRACE_FROZEN)
    # Queued signals ignored us while we were stopped for tracing.  This sets TIF_SIGPENDING, but never clears it.
    send.recalc_sigpending_tsk(current)
    return exit_code


def ptrace_do_notify(signr: int, exit_code: int, why: int, message: int | None = None) -> int:
    """Stop with a siginfo that says which event it is.

    Context: as `ptrace_stop`.
    """
    current = machine.cur.cpu.curr
    info = Siginfo(signr, exit_code, pid_.task_pid_vnr(current), current.cred.uid)
    # Let the debugger run.
    return ptrace_stop(exit_code, why, True, info, message)


def ptrace_notify(exit_code: int, message: int | None = None) -> int:
    """Stop for an event or a system call; the signal that the tracer resumes it with stays in ``exit_code``.

    :param exit_code: SIGTRAP in the low byte (0x80 beside it: PTRACE_O_TRACESYSGOOD), PTRACE_EVENT_* in the next
    """
    current = machine.cur.cpu.curr
    assert exit_code & (0x7F | ~0xFFFF) == SIGTRAP, f"ptrace_notify({exit_code:#x})"
    assert current.sighand is not None
    if current.task_works is not None:
        task_work.task_work_run()
    spin_lock_irq(current.sighand.siglock)
    signr = ptrace_do_notify(SIGTRAP, exit_code, exit_.CLD_TRAPPED, message)
    spin_unlock_irq(current.sighand.siglock)
    return signr


def do_jobctl_trap() -> None:
    """Take the trap that a stop of the group, PTRACE_INTERRUPT or an attaching tracer asks for.

    Context: siglock held.
    """
    current = machine.cur.cpu.curr
    signal = current.signal
    signr = current.jobctl & JOBCTL_STOP_SIGMASK
    if current.ptrace & PT_SEIZED:
        if not signal.group_stop_count and not signal.flags & SIGNAL_STOP_STOPPED:
            signr = SIGTRAP
        assert signr, "a stop without a signal"
        ptrace_do_notify(signr, signr | PTRACE_EVENT_STOP << 8, exit_.CLD_STOPPED)
    else:
        assert signr, "a stop without a signal"
        ptrace_stop(signr, exit_.CLD_STOPPED, False, None)
        # The tracer's answer to such a stop means nothing.
        current.exit_code = 0


def ptrace_signal(signr: int, info: Siginfo) -> int:
    """Show a signal to the tracer before it is taken; return the one to take, 0 for none.

    `info` becomes that of the signal which the tracer put in its place.

    Context: siglock held.
    """
    current = machine.cur.cpu.curr
    # Set unconditionally: the tracer may change signr into a stop signal.  The flag has no meaning unless we are going
    # to stop after return from ptrace_stop(); a SIGCONT meanwhile clears it.
    current.jobctl |= JOBCTL_STOP_DEQUEUED
    # Did the debugger cancel the sig?
    signr = ptrace_stop(signr, exit_.CLD_TRAPPED, False, info)
    if signr == 0:
        return 0
    current.exit_code = 0
    # Update the siginfo if the signal has changed.  If the debugger wanted something specific in it then it should have
    # used PTRACE_SETSIGINFO.
    if signr != info.si_signo:
        parent = current.parent
        info.si_signo = signr
        info.si_errno = 0
        info.si_code = SI_USER
        info.si_pid = pid_.task_pid_vnr(parent)
        info.si_uid = parent.cred.uid
        info.si_status = info.si_utime = info.si_stime = 0
        info.si_value = 0
    # If the (new) signal is now blocked, requeue it.
    if current.blocked >> (signr - 1) & 1:
        send.specific_send_sig_info(signr, info, current)
        signr = 0
    return signr
