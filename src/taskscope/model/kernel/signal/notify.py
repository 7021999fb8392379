"""Telling the parent that a child has died, stopped or continued: kernel/signal.c, v4.19.

do_notify_parent() is called by a dying task, do_notify_parent_cldstop() by one that stops or goes on; both send SIGCHLD
unless the parent does not want it, and wake a parent that waits in any case.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.send as send
from taskscope.model.include.linux.pid import PIDTYPE_TGID
from taskscope.model.include.linux.sched import (
    __TASK_STOPPED,
    __TASK_TRACED,
    Task,
)
from taskscope.model.include.linux.sched_signal import (
    _NSIG,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SIG_IGN,
    Siginfo,
    thread_group_empty,
)
from taskscope.model.include.linux.spinlock import (
    spin_lock_irqsave,
    spin_unlock_irqrestore,
)
from taskscope.model.include.linux.wait import wake_up_all

SIGCHLD: Final = 17
SIGCONT: Final = 18
_NSEC_PER_CLOCK_T: Final = 10_000_000


def nsec_to_clock_t(ns: int) -> int:
    """Convert to clock ticks of user space."""
    return ns // _NSEC_PER_CLOCK_T


def do_notify_parent(tsk: Task, sig: int) -> bool:
    """Send the parent the exit signal of a child and wake it if it waits; True if nobody will reap the child.

    Context: tasklist_lock held for writing.
    """
    assert sig != -1, "a thread that is not the leader has no exit signal"
    assert not tsk.state & (__TASK_STOPPED | __TASK_TRACED), "a stopped task dies"
    assert tsk.ptrace or (tsk.group_leader is tsk and thread_group_empty(tsk)), "threads are left"
    if tsk.thread_pid is not None and tsk.thread_pid.wait_pidfd is not None:
        do_notify_pidfd(tsk)
    if sig != SIGCHLD and tsk.parent_exec_id != tsk.parent.self_exec_id:
        # This is only possible if parent == real_parent.  Check if it has changed security domain.
        sig = SIGCHLD
    # We are under tasklist_lock here so our parent is tied to us and cannot change: the pid as it sees it.
    info = Siginfo(sig, 0, pid_.task_pid_nr_ns(tsk, pid_.task_active_pid_ns(tsk.parent)), tsk.cred.uid)
    utime, stime = tsk.utime, tsk.stime
    info.si_utime = nsec_to_clock_t(utime + tsk.signal.utime)
    info.si_stime = nsec_to_clock_t(stime + tsk.signal.stime)
    info.si_status = tsk.exit_code & 0x7F
    if tsk.exit_code & 0x80:
        info.si_code = exit_.CLD_DUMPED
    elif tsk.exit_code & 0x7F:
        info.si_code = exit_.CLD_KILLED
    else:
        info.si_code = exit_.CLD_EXITED
        info.si_status = tsk.exit_code >> 8
    autoreap = False
    psig = tsk.parent.sighand
    assert psig is not None, "the parent has been released before its child"
    flags = spin_lock_irqsave(psig.siglock)
    action = psig.action[SIGCHLD - 1]
    if not tsk.ptrace and sig == SIGCHLD and (action.sa_handler == SIG_IGN or action.sa_flags & SA_NOCLDWAIT):
        # We are exiting and our parent doesn't care.  POSIX.1 defines special semantics for setting SIGCHLD to SIG_IGN
        # or setting the SA_NOCLDWAIT flag: we should be reaped automatically and not left for our parent's wait4 call.
        # Rather than having the parent do it as a magic kind of signal handler, we just set this to tell do_exit that
        # we can be cleaned up without becoming a zombie.
        autoreap = True
        if action.sa_handler == SIG_IGN:
            sig = 0
    # The low byte of clone()'s flags may be no signal: valid_signal().
    if 0 < sig <= _NSIG:
        send.send_signal(sig, info, tsk.parent, PIDTYPE_TGID)
    exit_.__wake_up_parent(tsk, tsk.parent)
    spin_unlock_irqrestore(psig.siglock, flags)
    return autoreap


def do_notify_pidfd(task: Task) -> None:
    """Wake those who poll a pidfd (v5.2)."""
    assert task.thread_pid is not None
    wake_up_all(task.thread_pid.wait_pidfd)


def do_notify_parent_cldstop(tsk: Task, for_ptracer: bool, why: int) -> None:
    """Tell the parent that the process has stopped or continued.

    Context: tasklist_lock held for reading.
    """
    if for_ptracer:
        parent = tsk.parent
    else:
        tsk = tsk.group_leader
        parent = tsk.real_parent
    info = Siginfo(SIGCHLD, why, pid_.task_pid_nr_ns(tsk, pid_.task_active_pid_ns(parent)), tsk.cred.uid)
    utime, stime = tsk.utime, tsk.stime
    info.si_utime = nsec_to_clock_t(utime)
    info.si_stime = nsec_to_clock_t(stime)
    if why == exit_.CLD_CONTINUED:
        info.si_status = SIGCONT
    elif why == exit_.CLD_STOPPED:
        info.si_status = tsk.signal.group_exit_code & 0x7F
    else:
        info.si_status = tsk.exit_code & 0x7F
    sighand = parent.sighand
    assert sighand is not None
    flags = spin_lock_irqsave(sighand.siglock)
    action = sighand.action[SIGCHLD - 1]
    if action.sa_handler != SIG_IGN and not action.sa_flags & SA_NOCLDSTOP:
        send.send_signal(SIGCHLD, info, parent, PIDTYPE_TGID)
    # Even if SIGCHLD is not generated, we must wake up wait4 calls.
    exit_.__wake_up_parent(tsk, parent)
    spin_unlock_irqrestore(sighand.siglock, flags)
