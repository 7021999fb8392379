"""Taking signals on the way to user space, and dying or stopping by them: the middle of kernel/signal.c, v4.19.

get_signal() is called by the architecture's do_signal() when TIF_SIGPENDING is set.  It returns a signal that has a
handler; everything else (ignore, stop, continue, die) happens in here.
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.fs.coredump as coredump
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.notify as notify_
import taskscope.model.kernel.signal.send as send
import taskscope.model.kernel.signal.sigqueue as sigqueue
import taskscope.model.kernel.signal.trap as trap
import taskscope.model.kernel.time.itimer as itimer
import taskscope.model.kernel.time.posix_timers as posix_timers
from taskscope.model import machine
from taskscope.model.include.linux.list import list_del_init, list_for_each_entry
from taskscope.model.include.linux.ptrace import PT_SEIZED, ptrace_reparented
from taskscope.model.include.linux.sched import __TASK_STOPPED, PF_EXITING, PF_SIGNALED, TASK_STOPPED, Task
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_STOP_CONSUME,
    JOBCTL_STOP_DEQUEUED,
    JOBCTL_STOP_PENDING,
    JOBCTL_STOPPED,
    JOBCTL_TRAP_MASK,
    JOBCTL_TRAP_STOP,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SEND_SIG_NOINFO,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIG_KTHREAD,
    SIG_KTHREAD_KERNEL,
    SIGNAL_CLD_CONTINUED,
    SIGNAL_CLD_MASK,
    SIGNAL_STOP_STOPPED,
    SIGNAL_UNKILLABLE,
    SS_AUTODISARM,
    SS_DISABLE,
    SS_ONSTACK,
    SYNCHRONOUS_MASK,
    KSigaction,
    Sigframe,
    Siginfo,
    SigPending,
    TimerSiginfo,
    sig_kernel_coredump,
    sig_kernel_ignore,
    sig_kernel_only,
    sig_kernel_stop,
    signal_group_exit,
    thread_group_empty,
)
from taskscope.model.include.linux.spinlock import read_lock, read_unlock, spin_lock_irq, spin_unlock_irq
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.trace.events.signal import trace_signal_deliver

SIGKILL: Final = 9
SIGSTOP: Final = 19
SIGALRM: Final = 14
_SIGKILL_BIT: Final = 1 << (SIGKILL - 1)


class Ksignal:
    """struct ksignal: a signal to be handled."""

    __slots__ = ("info", "ka", "sig")

    def __init__(self) -> None:
        self.ka: KSigaction = None  # type: ignore[assignment]  # filled by get_signal()
        self.info: Siginfo = None  # type: ignore[assignment]
        self.sig = 0


def next_signal(pending: SigPending, mask: int) -> int:
    """Return the pending signal that goes first: one of the synchronous ones, else the lowest; 0 for none."""
    x = pending.signal & ~mask
    if not x:
        return 0
    if x & SYNCHRONOUS_MASK:
        x &= SYNCHRONOUS_MASK
    return (x & -x).bit_length()


def collect_signal(sig: int, pending: SigPending) -> Siginfo:
    """Take the first entry of a signal off the queue; the signal stays pending if there is another.

    A timer's entry gives a copy of its siginfo: the timer goes on with its own (``si_sys_private`` says so).
    """
    first = None
    for q in list_for_each_entry(pending.list):
        if q.info.si_signo == sig:
            if first is not None:
                break                   # goto still_pending
            first = q
    else:
        pending.signal &= ~(1 << (sig - 1))
    if first is not None:
        list_del_init(first.list)
        sigqueue.__sigqueue_free(first)
        info: Siginfo = first.info
        return info.copy() if first.preallocated else info
    # Ok, it wasn't in the queue.  This must be a fast-pathed signal or we must have been out of queue space.
    return Siginfo(sig, SI_USER)


def dequeue_signal(tsk: Task, mask: int) -> Siginfo | None:
    """Take the next signal that `mask` does not block: the thread's own first, then the process's.

    Context: siglock held.
    """
    while True:
        pending = tsk.pending
        signr = next_signal(pending, mask)
        if not signr:
            pending = tsk.signal.shared_pending
            signr = next_signal(pending, mask)
        info = None
        if signr:
            info = collect_signal(signr, pending)
            if signr == SIGALRM and pending is tsk.signal.shared_pending:
                # itimer signal: interval timers are restarted here, so that a slow program is not drowned in signals
                itimer.restart_real_timer(tsk.signal)
        send.recalc_sigpending()
        if info is None:
            return None
        if sig_kernel_stop(signr):
            # Set a marker that we have dequeued a stop signal.  Our caller might release the siglock and then the
            # pending stop signal it is about to process is no longer in the pending bitmasks, but must still be cleared
            # by a SIGCONT.
            tsk.jobctl |= JOBCTL_STOP_DEQUEUED
        if isinstance(info, TimerSiginfo) and not posix_timers.posixtimer_rearm(info):
            continue                    # goto again: the timer was set anew, or deleted (v6.13)
        return info


def dequeue_synchronous_signal() -> Siginfo | None:
    """Take a signal that an instruction of the task caused.

    Context: siglock held.
    """
    tsk = machine.cur.cpu.curr
    pending = tsk.pending
    if not pending.signal & ~tsk.blocked & SYNCHRONOUS_MASK:
        return None
    # Return the first synchronous signal in the queue.  Synchronous signals have a positive si_code.
    for q in list_for_each_entry(pending.list):
        signr = q.info.si_signo
        if q.info.si_code > 0 and 1 << (signr - 1) & SYNCHRONOUS_MASK & ~tsk.blocked:
            info = collect_signal(signr, pending)
            send.recalc_sigpending()
            return info
    return None


def do_signal_stop(signr: int) -> bool:
    """Stop the process: all threads take part; False if the stop was cancelled meanwhile.

    Context: siglock held; released when it returns True.
    """
    m = machine.cur
    current = m.cpu.curr
    sig = current.signal
    sighand = current.sighand
    assert sighand is not None
    if not current.jobctl & JOBCTL_STOP_PENDING:
        gstop = JOBCTL_STOP_PENDING | JOBCTL_STOP_CONSUME
        if not current.jobctl & JOBCTL_STOP_DEQUEUED or signal_group_exit(sig):
            return False
        # There is no group stop already in progress.  We must initiate one now.  While ptraced, a task may be resumed
        # while group stop is still in effect and then receive a stop signal and initiate another group stop.
        if not sig.flags & SIGNAL_STOP_STOPPED:
            sig.group_exit_code = signr
        sig.group_stop_count = 0
        if send.task_set_jobctl_pending(current, signr | gstop):
            sig.group_stop_count += 1
        for t in send.while_each_thread(current):
            # Setting state to TASK_STOPPED for a group stop is always done with the siglock held.
            if t is not current and not t.state & __TASK_STOPPED and send.task_set_jobctl_pending(t, signr | gstop):
                sig.group_stop_count += 1
                if not t.ptrace & PT_SEIZED:
                    send.signal_wake_up(t, 0)
                else:
                    trap.ptrace_trap_notify(t)
    if current.ptrace:
        # While ptraced, group stop is handled by STOP trap.  Schedule it and let the caller deal with it.
        send.task_set_jobctl_pending(current, JOBCTL_TRAP_STOP)
        return False
    notify = 0
    # If there are no other threads in the group, or if there is a group stop in progress and we are the last to stop,
    # report to the parent.
    if send.task_participate_group_stop(current):
        notify = exit_.CLD_STOPPED
    if m.flavour.switches.traced_in_jobctl:
        current.jobctl |= JOBCTL_STOPPED
    # set_special_state()
    current.state = TASK_STOPPED
    spin_unlock_irq(sighand.siglock)
    if notify:
        read_lock(m.tasklist_lock)
        notify_.do_notify_parent_cldstop(current, False, notify)
        read_unlock(m.tasklist_lock)
    # Now we don't run again until woken by SIGCONT or SIGKILL
    sched_core.schedule()
    return True


def get_signal(ksig: Ksignal) -> bool:  # noqa: RET503  do_group_exit() never returns
    """Take signals until one has a handler: True, and the signal is in `ksig`; False when none is left.

    Context: on the way to user space, interrupts on.
    """
    m = machine.cur
    current = m.cpu.curr
    sighand = current.sighand
    assert sighand is not None
    signal = current.signal
    # Not modelled: task_work_run(), uprobe_deny_signal(), try_to_freeze().
    relock = True
    while True:
        if relock:
            relock = False
            spin_lock_irq(sighand.siglock)
            # Every stopped thread goes here after wakeup.  Check to see if we should notify the parent.
            if signal.flags & SIGNAL_CLD_MASK:
                why = exit_.CLD_CONTINUED if signal.flags & SIGNAL_CLD_CONTINUED else exit_.CLD_STOPPED
                signal.flags &= ~SIGNAL_CLD_MASK
                spin_unlock_irq(sighand.siglock)
                # Notify the parent that we're continuing.  This event is always per-process and doesn't make whole
                # lot of sense for ptracers, who shouldn't consume the state via wait(2) either.
                read_lock(m.tasklist_lock)
                notify_.do_notify_parent_cldstop(current, False, why)
                if ptrace_reparented(current.group_leader):
                    notify_.do_notify_parent_cldstop(current.group_leader, True, why)
                read_unlock(m.tasklist_lock)
                relock = True
                continue
            # Has this task already been marked for death?
            if signal_group_exit(signal):
                current.pending.signal &= ~_SIGKILL_BIT
                trace_signal_deliver(SIGKILL, SEND_SIG_NOINFO, sighand.action[SIGKILL - 1])
                send.recalc_sigpending()
                info = Siginfo(SIGKILL, SI_USER)
                break                       # goto fatal
        if current.jobctl & JOBCTL_STOP_PENDING and do_signal_stop(0):
            relock = True
            continue
        if current.jobctl & JOBCTL_TRAP_MASK:
            trap.do_jobctl_trap()
            spin_unlock_irq(sighand.siglock)
            relock = True
            continue
        # Signals generated by the execution of an instruction need to be delivered before any other pending signals
        # so that the instruction pointer in the signal stack frame points to the faulting instruction.
        dequeued = dequeue_synchronous_signal()
        if dequeued is None:
            dequeued = dequeue_signal(current, current.blocked)
        if dequeued is None:
            spin_unlock_irq(sighand.siglock)
            ksig.sig = 0
            return False
        info = dequeued
        signr = info.si_signo
        if current.ptrace and signr != SIGKILL:
            signr = trap.ptrace_signal(signr, info)
            if not signr:
                continue
        ka = sighand.action[signr - 1]
        # Trace actually delivered signals.
        trace_signal_deliver(signr, info, ka)
        if ka.sa_handler == SIG_IGN:        # Do nothing.
            continue
        if ka.sa_handler != SIG_DFL:        # Run the handler.
            ksig.ka = ka
            if ka.sa_flags & SA_RESETHAND:
                sighand.action[signr - 1] = KSigaction(SIG_DFL, ka.sa_flags, ka.sa_mask)
            spin_unlock_irq(sighand.siglock)
            ksig.info = info
            ksig.sig = signr
            return True
        # Now we are doing the default action for this signal.
        if sig_kernel_ignore(signr):        # Default is nothing.
            continue
        # Global init gets no signals it doesn't want.  Container-init gets no signals it doesn't want from same
        # container.
        if signal.flags & SIGNAL_UNKILLABLE and not sig_kernel_only(signr):
            continue
        if sig_kernel_stop(signr):
            # The default action is to stop all threads in the thread group.  The job control signals do nothing in an
            # orphaned pgrp, but SIGSTOP always works.
            if signr != SIGSTOP:
                spin_unlock_irq(sighand.siglock)
                # signals can be posted during this window
                if exit_.is_current_pgrp_orphaned():
                    relock = True
                    continue
                spin_lock_irq(sighand.siglock)
            if do_signal_stop(signr):
                # It released the siglock.
                relock = True
            # We didn't actually stop, due to a race with SIGCONT or something like that.
            continue
        break
    # fatal:
    spin_unlock_irq(sighand.siglock)
    # Anything else is fatal, maybe with a core dump.
    current.flags |= PF_SIGNALED
    if sig_kernel_coredump(info.si_signo):
        # If it was able to dump core, this kills all other threads in the group and synchronizes with their demise.  If
        # we lost the race with another thread getting here, it set group_exit_code first and our do_group_exit call
        # below will use that value and ignore the one we pass it.
        coredump.do_coredump(info)
    # Death signals, no core dump.
    exit_.do_group_exit(info.si_signo)


# ---- handlers -------------------------------------------------------------------------------------------

def on_sig_stack(current: Task) -> bool:
    """Tell whether the user stack pointer is on the alternate signal stack (include/linux/sched/signal.h).

    It is where the innermost handler's frame was put, as a program here has no other use for it.
    """
    sp, flags, size = current.sas_ss_sp
    # If the signal stack is SS_AUTODISARM then, by construction, we can't be on the signal stack unless user code
    # deliberately set SS_AUTODISARM when we were already on it.
    if flags & SS_AUTODISARM or not size or not current.sigframes:
        return False
    return current.sigframes[-1].stack == sp


def sas_ss_flags(current: Task) -> int:
    """Return what sigaltstack(2) says of the alternate stack: SS_DISABLE, SS_ONSTACK or 0."""
    if not current.sas_ss_sp[2]:
        return SS_DISABLE
    return SS_ONSTACK if on_sig_stack(current) else 0


def sigsp(current: Task, ksig: Ksignal) -> int:
    """Return the alternate stack that a handler's frame goes on, 0 for the stack that the program is on.

    Not modelled: how much room the frame takes there.
    """
    here: int = current.sigframes[-1].stack if current.sigframes else 0
    if ksig.ka.sa_flags & SA_ONSTACK and sas_ss_flags(current) == 0:
        return current.sas_ss_sp[0]
    return here


def setup_rt_frame(ksig: Ksignal, oldset: int) -> None:
    """Put the frame of a handler on the user stack: it runs before the program goes on.

    The architecture's signal.c has it; what it saves is the same on each.
    """
    current = machine.cur.cpu.curr
    current.sigframes = (*current.sigframes, Sigframe(oldset, current.sas_ss_sp, sigsp(current, ksig)))
    current.journal.frames.append((ksig.ka.sa_handler, ksig.sig, ksig.info))


def signal_setup_done(failed: bool, ksig: Ksignal, stepping: bool) -> None:
    """Block what the handler wants blocked while it runs (signal_delivered())."""
    import taskscope.model.kernel.signal.action as action

    del stepping
    current = machine.cur.cpu.curr
    if failed:
        send.force_sigsegv(ksig.sig, current)
        return
    # A signal was successfully delivered, and the saved sigmask was stored on the signal frame, and will be restored by
    # sigreturn.  So we can simply clear the restore sigmask flag.
    action.set_restore_sigmask(False)
    blocked = current.blocked | ksig.ka.sa_mask
    if not ksig.ka.sa_flags & SA_NODEFER:
        blocked |= 1 << (ksig.sig - 1)
    action.set_current_blocked(blocked)
    if current.sas_ss_sp[1] & SS_AUTODISARM:
        # sas_ss_reset()
        current.sas_ss_sp = (0, SS_DISABLE, 0)


def retarget_shared_pending(tsk: Task, which: int) -> None:
    """Let other threads take the process's pending signals that this one will not take any more.

    Context: siglock held.
    """
    retarget = tsk.signal.shared_pending.signal & which
    if not retarget:
        return
    for t in send.while_each_thread(tsk):
        if t is tsk or t.flags & PF_EXITING:
            continue
        if not retarget & ~t.blocked:
            continue
        # Remove the signals this thread can handle.
        retarget &= t.blocked
        if not signal_pending(t):
            send.signal_wake_up(t, 0)
        if not retarget:
            break


def exit_signals(tsk: Task) -> None:
    """Set PF_EXITING: from here on the task takes no signals, and others take those of the process."""
    if thread_group_empty(tsk) or signal_group_exit(tsk.signal):
        tsk.flags |= PF_EXITING
        return
    m = machine.cur
    sighand = tsk.sighand
    assert sighand is not None
    group_stop = 0
    spin_lock_irq(sighand.siglock)
    # From now this task is not visible for group-wide signals, see wants_signal(), do_signal_stop().
    tsk.flags |= PF_EXITING
    if signal_pending(tsk):
        retarget_shared_pending(tsk, ~tsk.blocked)
        if tsk.jobctl & JOBCTL_STOP_PENDING and send.task_participate_group_stop(tsk):
            group_stop = exit_.CLD_STOPPED
    spin_unlock_irq(sighand.siglock)
    # If group stop has completed, deliver the notification.
    if group_stop:
        read_lock(m.tasklist_lock)
        notify_.do_notify_parent_cldstop(tsk, False, group_stop)
        read_unlock(m.tasklist_lock)


def flush_signals(t: Task) -> None:
    """Throw away what is pending, of a kernel thread."""
    assert t.sighand is not None
    t.thread_info.flags &= ~machine.cur.tif_sigpending
    sigqueue.flush_sigqueue(t.pending)
    sigqueue.flush_sigqueue(t.signal.shared_pending)


def ignore_signals(t: Task) -> None:
    """Ignore every signal: kernel threads."""
    assert t.sighand is not None
    t.sighand.action = [machine.cur.ka_ignore] * 64
    flush_signals(t)


def kernel_sigaction(sig: int, action: int) -> None:
    """Set what a kernel thread does about a signal: allow_signal(), allow_kernel_signal(), disallow_signal()."""
    current = machine.cur.cpu.curr
    assert current.sighand is not None
    spin_lock_irq(current.sighand.siglock)
    current.sighand.action[sig - 1] = KSigaction(action)
    if action == SIG_IGN:
        mask = 1 << (sig - 1)
        sigqueue.flush_sigqueue_mask(mask, current.signal.shared_pending)
        sigqueue.flush_sigqueue_mask(mask, current.pending)
        send.recalc_sigpending()
    spin_unlock_irq(current.sighand.siglock)


def allow_signal(sig: int) -> None:
    """Let the running kernel thread be interrupted by a signal, whoever sends it."""
    # Kernel threads handle their own signals. Let the signal code know it'll be handled, so that they don't get
    # converted to SIGKILL or just silently dropped.
    kernel_sigaction(sig, SIG_KTHREAD)


def allow_kernel_signal(sig: int) -> None:
    """Let the running kernel thread be interrupted by a signal that the kernel sends (v5.5)."""
    kernel_sigaction(sig, SIG_KTHREAD_KERNEL)


def disallow_signal(sig: int) -> None:
    """Ignore a signal again."""
    kernel_sigaction(sig, SIG_IGN)


def flush_signal_handlers(t: Task, force_default: bool) -> None:
    """Reset handlers for an execve(): ignored signals stay ignored unless `force_default`."""
    assert t.sighand is not None
    default: Any = machine.cur.ka_default
    t.sighand.action = [
        KSigaction(SIG_IGN) if ka.sa_handler == SIG_IGN and not force_default else default for ka in t.sighand.action
    ]
