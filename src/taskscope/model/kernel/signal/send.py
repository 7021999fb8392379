"""Sending signals: the first half of kernel/signal.c, v4.19.

__send_signal() decides whether the signal is ignored, queues it, and lets complete_signal() choose the thread that is
to take it: that thread is woken, and finds TIF_SIGPENDING on its way to user space (`deliver`).  A signal that is
fatal for the whole process becomes a SIGKILL for each thread here already.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EINVAL, ESRCH
from typing import Any, Final

import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait_bit as wait_bit
import taskscope.model.kernel.signal.sigqueue as sigqueue
import taskscope.model.kernel.signal.trap as trap
from taskscope.model import costs, machine
from taskscope.model.include.linux.list import ListHead, list_add_tail, list_for_each_entry
from taskscope.model.include.linux.pid import PIDTYPE_PID, PIDTYPE_TGID, Pid
from taskscope.model.include.linux.ptrace import PT_SEIZED
from taskscope.model.include.linux.sched import (
    __TASK_STOPPED,
    __TASK_TRACED,
    PF_EXITING,
    PF_KTHREAD,
    TASK_INTERRUPTIBLE,
    TASK_WAKEKILL,
    Task,
)
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_PENDING_MASK,
    JOBCTL_PTRACE_FROZEN,
    JOBCTL_STOP_CONSUME,
    JOBCTL_STOP_DEQUEUED,
    JOBCTL_STOP_PENDING,
    JOBCTL_STOP_SIGMASK,
    JOBCTL_STOPPED,
    JOBCTL_TRACED,
    JOBCTL_TRAPPING,
    SEND_SIG_FORCED,
    SEND_SIG_NOINFO,
    SEND_SIG_PRIV,
    SI_KERNEL,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIG_KERNEL_STOP_MASK,
    SIG_KTHREAD_KERNEL,
    SIGNAL_CLD_CONTINUED,
    SIGNAL_CLD_STOPPED,
    SIGNAL_GROUP_COREDUMP,
    SIGNAL_GROUP_EXIT,
    SIGNAL_STOP_CONTINUED,
    SIGNAL_STOP_MASK,
    SIGNAL_STOP_STOPPED,
    SIGNAL_UNKILLABLE,
    SIGRTMIN,
    KSigaction,
    Siginfo,
    SignalStruct,
    SigPending,
    SigqueuePrealloc,
    TimerSiginfo,
    sig_fatal,
    sig_kernel_coredump,
    sig_kernel_ignore,
    sig_kernel_only,
    sig_kernel_stop,
    thread_group_empty,
)
from taskscope.model.include.linux.spinlock import (
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.trace.events.signal import (
    TRACE_SIGNAL_ALREADY_PENDING,
    TRACE_SIGNAL_DELIVERED,
    TRACE_SIGNAL_IGNORED,
    TRACE_SIGNAL_LOSE_INFO,
    TRACE_SIGNAL_OVERFLOW_FAIL,
    trace_signal_generate,
)

SIGKILL: Final = 9
SIGSEGV: Final = 11
SIGCHLD: Final = 17
SIGCONT: Final = 18
_NSIG: Final = 64
_SIGKILL_BIT: Final = 1 << (SIGKILL - 1)
_SIGCONT_BIT: Final = 1 << (SIGCONT - 1)


class MultiprocessSignals:
    """struct multiprocess_signals: signals to many processes that come while a fork is in progress."""

    __slots__ = ("node", "signal")

    def __init__(self) -> None:
        self.signal = 0
        self.node = ListHead(self)


# ---- threads of a process (include/linux/sched/signal.h) ------------------------------------------------

def for_each_thread(p: Task) -> Iterator[Task]:
    """Iterate over the threads of a process in the order of their creation."""
    return list_for_each_entry(p.signal.thread_head)


def next_thread(p: Task) -> Task:
    """Return the thread behind `p` in its group, which is a circle."""
    return p.thread_group.next.owner  # type: ignore[no-any-return]


def while_each_thread(p: Task) -> Iterator[Task]:
    """Iterate over the threads of a process, `p` first."""
    yield p
    t = p.thread_group.next.owner
    while t is not p:
        after = t.thread_group.next.owner
        yield t
        t = after


def task_rlimit(tsk: Task, limit: int) -> int:
    """Return a soft resource limit."""
    return tsk.signal.rlim[limit].rlim_cur


# ---- what is pending ------------------------------------------------------------------------------------

def __fatal_signal_pending(p: Task) -> bool:
    return bool(p.pending.signal & _SIGKILL_BIT)


def fatal_signal_pending(p: Task) -> bool:
    """Tell whether the task has to die."""
    return signal_pending(p) and __fatal_signal_pending(p)


def sig_handler_ignored(handler: Any, sig: int) -> bool:
    """Tell whether the handler is SIG_IGN, or SIG_DFL of a signal that is ignored by default."""
    return handler == SIG_IGN or (handler == SIG_DFL and sig_kernel_ignore(sig))


def sig_task_ignored(t: Task, sig: int, force: bool) -> bool:
    """Tell whether the task ignores the signal; init ignores all that it has no handler for."""
    assert t.sighand is not None
    handler = t.sighand.action[sig - 1].sa_handler
    if t.signal.flags & SIGNAL_UNKILLABLE and handler == SIG_DFL and not (force and sig_kernel_only(sig)):
        return True
    # Only allow kernel generated signals to this kthread
    if t.flags & PF_KTHREAD and handler == SIG_KTHREAD_KERNEL and not force:
        return True
    return sig_handler_ignored(handler, sig)


def sig_ignored(t: Task, sig: int, force: bool) -> bool:
    """Tell whether the signal need not be queued."""
    # Blocked signals are never ignored, since the signal handler may change by the time it is unblocked.
    if (t.blocked | t.real_blocked) >> (sig - 1) & 1:
        return False
    # Tracers may want to know about even ignored signal unless it is SIGKILL which can't be reported anyway.
    if t.ptrace and sig != SIGKILL:
        return False
    return sig_task_ignored(t, sig, force)


def recalc_sigpending_tsk(t: Task) -> bool:
    """Set TIF_SIGPENDING if the task has something to look at; never clears it."""
    if t.jobctl & JOBCTL_PENDING_MASK or (t.pending.signal | t.signal.shared_pending.signal) & ~t.blocked:
        t.thread_info.flags |= machine.cur.tif_sigpending
        return True
    return False


def recalc_sigpending_and_wake(t: Task) -> None:
    """After recalculating TIF_SIGPENDING, make sure the task wakes up."""
    if recalc_sigpending_tsk(t):
        signal_wake_up(t, 0)


def recalc_sigpending() -> None:
    """Set or clear TIF_SIGPENDING of the running task.

    Context: siglock held.
    """
    m = machine.cur
    current = m.cpu.curr
    if not recalc_sigpending_tsk(current):
        current.thread_info.flags &= ~m.tif_sigpending


def calculate_sigpending() -> None:
    """Set TIF_SIGPENDING of a task that runs for the first time, if something came for it before.  Since v4.19."""
    m = machine.cur
    current = m.cpu.curr
    assert current.sighand is not None
    spin_lock_irq(current.sighand.siglock)
    current.thread_info.flags |= m.tif_sigpending
    recalc_sigpending()
    spin_unlock_irq(current.sighand.siglock)


# ---- job control ----------------------------------------------------------------------------------------

def task_set_jobctl_pending(task: Task, mask: int) -> bool:
    """Ask a task to stop; False if it is dying."""
    if fatal_signal_pending(task) or task.flags & PF_EXITING:
        return False
    if mask & JOBCTL_STOP_SIGMASK:
        task.jobctl &= ~JOBCTL_STOP_SIGMASK
    task.jobctl |= mask
    return True


def task_clear_jobctl_pending(task: Task, mask: int) -> None:
    """Take the request to stop back."""
    if mask & JOBCTL_STOP_PENDING:
        mask |= JOBCTL_STOP_CONSUME | JOBCTL_STOP_DEQUEUED
    task.jobctl &= ~mask
    if task.jobctl & (JOBCTL_TRAPPING | JOBCTL_PENDING_MASK) == JOBCTL_TRAPPING:
        task_clear_jobctl_trapping(task)


def task_clear_jobctl_trapping(task: Task) -> None:
    """Let a tracer go on that waits until the task it attached to has stopped for it."""
    if task.jobctl & JOBCTL_TRAPPING:
        task.jobctl &= ~JOBCTL_TRAPPING
        wait_bit.wake_up_bit(task, "jobctl", JOBCTL_TRAPPING)


def task_participate_group_stop(task: Task) -> bool:
    """Count the task as stopped; True if it is the last one, whose parent is to be told."""
    sig = task.signal
    consume = task.jobctl & JOBCTL_STOP_CONSUME
    task_clear_jobctl_pending(task, JOBCTL_STOP_PENDING)
    if not consume:
        return False
    assert sig.group_stop_count > 0, "group_stop_count"
    sig.group_stop_count -= 1
    if not sig.group_stop_count and not sig.flags & SIGNAL_STOP_STOPPED:
        signal_set_stop_flags(sig, SIGNAL_STOP_STOPPED)
        return True
    return False


def task_join_group_stop(task: Task) -> None:
    """Let a new thread take part in a stop that is under way."""
    current = machine.cur.cpu.curr
    jobctl = current.jobctl
    if jobctl & JOBCTL_STOP_PENDING:
        signr = jobctl & JOBCTL_STOP_SIGMASK
        if task_set_jobctl_pending(task, signr | JOBCTL_STOP_PENDING | JOBCTL_STOP_CONSUME):
            current.signal.group_stop_count += 1


def signal_set_stop_flags(sig: SignalStruct, flags: int) -> None:
    """Replace the flags of job control."""
    assert not sig.flags & (SIGNAL_GROUP_EXIT | SIGNAL_GROUP_COREDUMP), "a dying process stops"
    sig.flags = sig.flags & ~SIGNAL_STOP_MASK | flags


# ---- sending --------------------------------------------------------------------------------------------

def signal_wake_up_state(t: Task, state: int) -> None:
    """Tell a task that a signal is pending, and wake it from a sleep that signals interrupt.

    Context: siglock held.
    """
    t.thread_info.flags |= machine.cur.tif_sigpending
    # TASK_WAKEKILL also means wake it up in the stopped/traced/killable case.
    if not sched_core.wake_up_state(t, state | TASK_INTERRUPTIBLE):
        sched_core.kick_process(t)


def signal_wake_up(t: Task, resume: int) -> None:
    """Wake a task for a signal; also one that is stopped if `resume`."""
    state = TASK_WAKEKILL if resume else 0
    if resume and machine.cur.flavour.switches.traced_in_jobctl:
        state = 0
        if not t.jobctl & JOBCTL_PTRACE_FROZEN:
            t.jobctl &= ~(JOBCTL_STOPPED | JOBCTL_TRACED)
            state = TASK_WAKEKILL | __TASK_TRACED
    signal_wake_up_state(t, state)


def prepare_signal(sig: int, p: Task, force: bool) -> bool:
    """Let stop signals and SIGCONT cancel each other, also blocked or ignored ones; tell whether to send the signal.

    Context: siglock held.
    """
    signal = p.signal
    if signal.flags & (SIGNAL_GROUP_EXIT | SIGNAL_GROUP_COREDUMP):
        switches = machine.cur.flavour.switches
        if signal.coredump is not None and (switches.coredump_is_group_exit or not signal.flags & SIGNAL_GROUP_EXIT):
            return sig == SIGKILL
        # The process is in the middle of dying, nothing to do; later kernels drop the signal.
        if switches.dying_drops_signals:
            return False
    elif sig_kernel_stop(sig):
        # This is a stop signal.  Remove SIGCONT from all queues.
        sigqueue.flush_sigqueue_mask(_SIGCONT_BIT, signal.shared_pending)
        for t in for_each_thread(p):
            sigqueue.flush_sigqueue_mask(_SIGCONT_BIT, t.pending)
    elif sig == SIGCONT:
        # Remove all stop signals from all queues, wake all threads.
        sigqueue.flush_sigqueue_mask(SIG_KERNEL_STOP_MASK, signal.shared_pending)
        for t in for_each_thread(p):
            sigqueue.flush_sigqueue_mask(SIG_KERNEL_STOP_MASK, t.pending)
            task_clear_jobctl_pending(t, JOBCTL_STOP_PENDING)
            if not t.ptrace & PT_SEIZED:
                t.jobctl &= ~JOBCTL_STOPPED
                sched_core.wake_up_state(t, __TASK_STOPPED)
            else:
                trap.ptrace_trap_notify(t)
        # Notify the parent with CLD_CONTINUED if we were stopped.  If we were in the middle of a group stop, we pretend
        # it was already finished, and then continued.
        why = 0
        if signal.flags & SIGNAL_STOP_STOPPED:
            why = SIGNAL_CLD_CONTINUED
        elif signal.group_stop_count:
            why = SIGNAL_CLD_STOPPED
        if why:
            # The first thread which returns from do_signal_stop() will take ->siglock, notice SIGNAL_CLD_MASK, and
            # notify its parent.  See get_signal().
            signal_set_stop_flags(signal, why | SIGNAL_STOP_CONTINUED)
            signal.group_stop_count = 0
            signal.group_exit_code = 0
    return not sig_ignored(p, sig, force)


def wants_signal(sig: int, p: Task) -> bool:
    """Tell whether the thread can take the signal now."""
    if p.blocked >> (sig - 1) & 1:
        return False
    if p.flags & PF_EXITING:
        return False
    if sig == SIGKILL:
        return True
    if p.state & (__TASK_STOPPED | __TASK_TRACED):
        return False
    return bool(p.on_cpu) or not signal_pending(p)


def complete_signal(sig: int, p: Task, type: int) -> None:
    """Find the thread that takes the signal and wake it; if the signal is fatal, kill all threads.

    Context: siglock held.
    """
    signal = p.signal
    # Now find a thread we can wake up to take the signal off the queue.  If the main thread wants the signal, it gets
    # first crack.  Probably the least surprising to the average bear.
    if wants_signal(sig, p):
        t = p
    elif type == PIDTYPE_PID or thread_group_empty(p):
        # There is just one thread and it does not need to be woken.  It will dequeue unblocked signals before it runs
        # again.
        return
    else:
        # Otherwise try to find a suitable thread.
        assert signal.curr_target is not None
        t = signal.curr_target
        while not wants_signal(sig, t):
            t = next_thread(t)
            if t is signal.curr_target:
                # No thread needs to be woken.  Any eligible threads will see the signal in the queue soon.
                return
        signal.curr_target = t
    # Found a killable thread.  If the signal will be fatal, then start taking the whole group down immediately.
    if (
        sig_fatal(p, sig)
        and (signal.coredump is not None or not signal.flags & SIGNAL_GROUP_EXIT)
        and not t.real_blocked >> (sig - 1) & 1
        and (sig == SIGKILL or not p.ptrace)
        and not sig_kernel_coredump(sig)
    ):
        # Start a group exit and wake everybody up.  This way we don't have other threads running and doing things
        # after a slower thread has the fatal signal pending.
        signal.flags = SIGNAL_GROUP_EXIT
        signal.group_exit_code = sig
        signal.group_stop_count = 0
        for t in while_each_thread(p):
            task_clear_jobctl_pending(t, JOBCTL_PENDING_MASK)
            t.pending.signal |= _SIGKILL_BIT
            signal_wake_up(t, 1)
        return
    # The signal is already in the shared-pending queue.  Tell the chosen thread to wake up and dequeue it.
    signal_wake_up(t, sig == SIGKILL)


def legacy_queue(signals: SigPending, sig: int) -> bool:
    """Tell whether a standard signal is pending already: it is not queued twice."""
    return sig < SIGRTMIN and bool(signals.signal >> (sig - 1) & 1)


def __send_signal(sig: int, info: Any, t: Task, type: int, from_ancestor_ns: bool) -> int:
    """Queue a signal for a thread or a process and wake who takes it.  __send_signal_locked() since v5.19.

    Context: siglock held.
    """
    assert t.sighand is not None
    assert t.sighand.siglock.held, "siglock"
    machine.cur.cost(costs.SIGNAL)
    ret = 0
    result = TRACE_SIGNAL_IGNORED
    force = from_ancestor_ns or info in (SEND_SIG_PRIV, SEND_SIG_FORCED)
    if prepare_signal(sig, t, force):
        pending = t.signal.shared_pending if type != PIDTYPE_PID else t.pending
        # Short-circuit ignored signals and support queuing exactly one non-rt signal, so that we can get more
        # detailed information about the cause of the signal.
        if legacy_queue(pending, sig):
            result = TRACE_SIGNAL_ALREADY_PENDING
        else:
            result = queue_signal(sig, info, t, pending, from_ancestor_ns)
            if result == TRACE_SIGNAL_OVERFLOW_FAIL:
                # Queue overflow, abort.  We may abort if the signal was rt and sent by user using something other
                # than kill().
                ret = -EAGAIN
            else:
                pending.signal |= 1 << (sig - 1)
                # Let multiprocess signals appear after on-going forks
                if type > PIDTYPE_TGID:
                    for delayed in list_for_each_entry(t.signal.multiprocess):
                        # Can't queue both a stop and a continue signal
                        if sig == SIGCONT:
                            delayed.signal &= ~SIG_KERNEL_STOP_MASK
                        elif sig_kernel_stop(sig):
                            delayed.signal &= ~_SIGCONT_BIT
                        delayed.signal |= 1 << (sig - 1)
                complete_signal(sig, t, type)
    trace_signal_generate(sig, info, t, type != PIDTYPE_PID, result)
    return ret


def queue_signal(sig: int, info: Any, t: Task, pending: SigPending, from_ancestor_ns: bool) -> int:
    """Put the siginfo on the queue; how it went, as TRACE_SIGNAL_*; the middle of __send_signal()."""
    current = machine.cur.cpu.curr
    special = info.__class__ is int
    # fast-pathed signals for kernel-internal things like SIGSTOP or SIGKILL.  Since v4.20 (a692933a8769, "signal:
    # Always attempt to allocate siginfo for SIGSTOP") it is SIGKILL, whoever sends it, and what kernel threads get.
    if machine.cur.flavour.switches.sigkill_is_special:
        if sig == SIGKILL or t.flags & PF_KTHREAD:
            return TRACE_SIGNAL_DELIVERED
    elif info == SEND_SIG_FORCED and special:
        return TRACE_SIGNAL_DELIVERED
    override_rlimit = sig < SIGRTMIN and (special or info.si_code >= 0)
    q = sigqueue.__sigqueue_alloc(t, override_rlimit)
    if q is None:
        if not special:
            if sig >= SIGRTMIN and info.si_code != SI_USER:
                return TRACE_SIGNAL_OVERFLOW_FAIL
            # This is a silent loss of information.  We still send the signal, but the *info bits are lost.
            return TRACE_SIGNAL_LOSE_INFO
        return TRACE_SIGNAL_DELIVERED
    list_add_tail(q.list, pending.list)
    if special:
        if info == SEND_SIG_NOINFO:
            q.info = Siginfo(sig, SI_USER, _sender_in_ns_of(t, current), current.cred.uid)
        else:
            q.info = Siginfo(sig, SI_KERNEL)
    else:
        q.info = info
        if from_ancestor_ns:
            # copy_siginfo(): the others of a group may be in the sender's namespace
            q.info = info.copy()
            q.info.si_pid = 0
    return TRACE_SIGNAL_DELIVERED


def _sender_in_ns_of(t: Task, current: Task) -> int:
    """Return the sender's process number as the target sees it: 0 from an ancestor of its pid namespace."""
    if t.thread_pid is None or not t.thread_pid.level:
        return current.tgid
    return pid_.task_tgid_nr_ns(current, pid_.task_active_pid_ns(t))


def si_fromuser(info: Any) -> bool:
    """Tell whether a program sends (include/linux/sched/signal.h): SI_USER or below, in C's words."""
    return info == SEND_SIG_NOINFO if info.__class__ is int else info.si_code <= 0


def send_signal(sig: int, info: Any, t: Task, type: int) -> int:
    """Send a signal.  send_signal_locked() since v5.19.

    Context: siglock held.
    """
    # si_fromuser() and not seen by the target: the sender is in an ancestor pid namespace
    from_ancestor_ns = (
        t.thread_pid is not None and t.thread_pid.level > 0 and si_fromuser(info)
        and not pid_.task_pid_nr_ns(machine.cur.cpu.curr, pid_.task_active_pid_ns(t)))
    return __send_signal(sig, info, t, type, from_ancestor_ns)


def send_sigqueue(q: SigqueuePrealloc, pid: Pid | None, type: int) -> int:
    """Send a POSIX timer's signal: 0; 1 if it is ignored, -1 if there is nobody to send it to.

    Context: hard interrupt.
    """
    t = pid_.pid_task(pid, type)
    if t is None or t.sighand is None:
        return -1
    info = q.info
    assert isinstance(info, TimerSiginfo), "a timer sends"
    sig = info.si_signo
    flags = spin_lock_irqsave(t.sighand.siglock)
    ret = 1                             # the signal is ignored
    result = TRACE_SIGNAL_IGNORED
    if prepare_signal(sig, t, False):
        ret = 0
        if q.list.next is not q.list:
            # If an SI_TIMER entry is already queue just increment the overrun count.
            if not machine.cur.flavour.switches.timer_signals_checked:
                info.si_overrun += 1
            result = TRACE_SIGNAL_ALREADY_PENDING
        else:
            info.si_overrun = 0
            pending = t.signal.shared_pending if type != PIDTYPE_PID else t.pending
            list_add_tail(q.list, pending.list)
            pending.signal |= 1 << (sig - 1)
            complete_signal(sig, t, type)
            result = TRACE_SIGNAL_DELIVERED
    trace_signal_generate(sig, info, t, type != PIDTYPE_PID, result)
    spin_unlock_irqrestore(t.sighand.siglock, flags)
    return ret


def specific_send_sig_info(sig: int, info: Any, t: Task) -> int:
    """Send to one thread.

    Context: siglock held.
    """
    return send_signal(sig, info, t, PIDTYPE_PID)


def do_send_sig_info(sig: int, info: Any, p: Task, type: int) -> int:
    """Take siglock and send; -ESRCH if the task has been released."""
    # lock_task_sighand()
    sighand = p.sighand
    if sighand is None:
        return -ESRCH
    flags = spin_lock_irqsave(sighand.siglock)
    ret = send_signal(sig, info, p, type)
    spin_unlock_irqrestore(sighand.siglock, flags)
    return ret


def send_sig_info(sig: int, info: Any, p: Task) -> int:
    """Send to one thread, from inside the kernel."""
    if not 0 <= sig <= _NSIG:
        return -EINVAL
    return do_send_sig_info(sig, info, p, PIDTYPE_PID)


def send_sig(sig: int, p: Task, priv: bool) -> int:
    """Send to one thread, as the kernel if `priv`."""
    return send_sig_info(sig, SEND_SIG_PRIV if priv else SEND_SIG_NOINFO, p)


def force_sig(sig: int, p: Task) -> None:
    """Send a signal that the task cannot block or ignore: a fault."""
    force_sig_info(sig, SEND_SIG_PRIV, p)


def force_sig_fault(sig: int, code: int, addr: int) -> int:
    """Send the running task the signal of a fault at an address."""
    info = Siginfo(sig, code)
    info.si_addr = addr
    return force_sig_info(sig, info, machine.cur.cpu.curr)


def force_sig_info(sig: int, info: Any, t: Task) -> int:
    """Send a signal and make sure that it arrives: a blocked or ignored one gets its default action."""
    assert t.sighand is not None
    flags = spin_lock_irqsave(t.sighand.siglock)
    action = t.sighand.action[sig - 1]
    ignored = action.sa_handler == SIG_IGN
    blocked = bool(t.blocked >> (sig - 1) & 1)
    if blocked or ignored:
        t.sighand.action[sig - 1] = KSigaction(SIG_DFL, action.sa_flags, action.sa_mask)
        if blocked:
            t.blocked &= ~(1 << (sig - 1))
            recalc_sigpending_and_wake(t)
    # Don't clear SIGNAL_UNKILLABLE for traced tasks, users won't expect debugging to leave init killable.
    if t.sighand.action[sig - 1].sa_handler == SIG_DFL and not t.ptrace:
        t.signal.flags &= ~SIGNAL_UNKILLABLE
    ret = send_signal(sig, info, t, PIDTYPE_PID)
    spin_unlock_irqrestore(t.sighand.siglock, flags)
    return ret


def force_sigsegv(sig: int, p: Task) -> int:
    """Kill a task whose handler's frame could not be made; if it was SIGSEGV's own, it has no handler any more."""
    if sig == SIGSEGV:
        assert p.sighand is not None
        flags = spin_lock_irqsave(p.sighand.siglock)
        action = p.sighand.action[sig - 1]
        p.sighand.action[sig - 1] = KSigaction(SIG_DFL, action.sa_flags, action.sa_mask)
        spin_unlock_irqrestore(p.sighand.siglock, flags)
    force_sig(SIGSEGV, p)
    return 0


def zap_other_threads(p: Task) -> int:
    """Nuke all other threads in the group; how many there are.

    Context: siglock held.
    """
    count = 0
    p.signal.group_stop_count = 0
    for t in while_each_thread(p):
        if t is p:
            continue
        task_clear_jobctl_pending(t, JOBCTL_PENDING_MASK)
        count += 1
        # Don't bother with already dead threads
        if t.exit_state:
            continue
        t.pending.signal |= _SIGKILL_BIT
        signal_wake_up(t, 1)
    return count
