"""What programs ask of signals: the system calls of kernel/signal.c, v4.19."""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINTR, EINVAL, ENOMEM, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.deliver as deliver
import taskscope.model.kernel.signal.kill as signal_kill
import taskscope.model.kernel.signal.send as send
import taskscope.model.kernel.signal.sigqueue as sigqueue
import taskscope.model.kernel.time.hrtimer as hrtimer
import taskscope.model.kernel.time.posix_timers as posix_timers
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTARTNOHAND
from taskscope.model.include.linux.hrtimer import HRTIMER_MODE_REL
from taskscope.model.include.linux.pid import PIDTYPE_PID
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task, set_current_state
from taskscope.model.include.linux.sched_signal import (
    MINSIGSTKSZ,
    SI_TKILL,
    SI_USER,
    SS_DISABLE,
    SS_FLAG_BITS,
    SS_ONSTACK,
    UAPI_SA_FLAGS,
    KSigaction,
    Siginfo,
    SignalStack,
    sig_kernel_only,
    thread_group_empty,
)
from taskscope.model.include.linux.spinlock import spin_lock_irq, spin_unlock_irq
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import get_user, put_user

SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2
SIGSEGV: Final = 11
_NSIG: Final = 64
_UNBLOCKABLE: Final = 1 << 8 | 1 << 18          # SIGKILL, SIGSTOP
_ALL: Final = (1 << 64) - 1


# ---- the mask -------------------------------------------------------------------------------------------

def __set_task_blocked(tsk: Task, newset: int) -> None:
    if signal_pending(tsk) and not thread_group_empty(tsk):
        # A set of now blocked but previously unblocked signals.
        deliver.retarget_shared_pending(tsk, newset & ~tsk.blocked)
    tsk.blocked = newset
    send.recalc_sigpending()


def set_current_blocked(newset: int) -> None:
    """Change which signals the running thread blocks; SIGKILL and SIGSTOP never are."""
    __set_current_blocked(newset & ~_UNBLOCKABLE)


def __set_current_blocked(newset: int) -> None:
    tsk = machine.cur.cpu.curr
    # In case the signal mask hasn't changed, there is nothing we need to do.
    if tsk.blocked == newset:
        return
    assert tsk.sighand is not None
    spin_lock_irq(tsk.sighand.siglock)
    __set_task_blocked(tsk, newset)
    spin_unlock_irq(tsk.sighand.siglock)


def sigprocmask(how: int, new: int) -> int:
    """Block, unblock or set signals."""
    tsk = machine.cur.cpu.curr
    if how == SIG_BLOCK:
        newset = tsk.blocked | new
    elif how == SIG_UNBLOCK:
        newset = tsk.blocked & ~new
    elif how == SIG_SETMASK:
        newset = new
    else:
        return -EINVAL
    __set_current_blocked(newset)
    return 0


def set_restore_sigmask(on: bool) -> None:
    """Note whether ``saved_sigmask`` is to come back: a thread flag, or a member where there is none of it (x86)."""
    m = machine.cur
    current = m.cpu.curr
    bit = m.tif.RESTORE_SIGMASK
    current.restore_sigmask = on and not bit
    current.thread_info.flags = current.thread_info.flags | bit if on else current.thread_info.flags & ~bit


def test_restore_sigmask() -> bool:
    """Tell whether ``saved_sigmask`` is to come back."""
    m = machine.cur
    current = m.cpu.curr
    return current.restore_sigmask or bool(current.thread_info.flags & m.tif.RESTORE_SIGMASK)


def sigmask_to_save() -> int:
    """Return the mask that a handler's end is to restore."""
    current = machine.cur.cpu.curr
    return current.saved_sigmask if test_restore_sigmask() else current.blocked


def restore_saved_sigmask() -> None:
    """Put the mask back that a call like sigsuspend() had replaced, as no handler ran."""
    if test_restore_sigmask():
        set_restore_sigmask(False)
        __set_current_blocked(machine.cur.cpu.curr.saved_sigmask)


def sys_rt_sigprocmask(how: int, nset: Any, oset: Any = None, sigsetsize: int = 8) -> int:
    """rt_sigprocmask(2); `nset` is a set (an integer), None to ask only."""
    if sigsetsize != 8:
        return -EINVAL
    old_set = machine.cur.cpu.curr.blocked
    if nset is not None:
        new_set = nset if isinstance(nset, int) else get_user(nset)
        if new_set < 0:
            return -EFAULT
        error = sigprocmask(how, new_set & _ALL & ~_UNBLOCKABLE)
        if error:
            return error
    if oset and put_user(old_set, oset):
        return -EFAULT
    return 0


def sys_rt_sigpending(uset: Any, sigsetsize: int = 8) -> int:
    """rt_sigpending(2): blocked signals that are pending for the thread or its process."""
    if sigsetsize > 8:
        return -EINVAL
    current = machine.cur.cpu.curr
    pending = (current.pending.signal | current.signal.shared_pending.signal) & current.blocked
    return -EFAULT if put_user(pending, uset) else 0


# ---- sigaction ------------------------------------------------------------------------------------------

def do_sigaction(sig: int, act: KSigaction | None) -> KSigaction | int:
    """Change what a signal does; the old action, or -EINVAL."""
    p = machine.cur.cpu.curr
    if not 1 <= sig <= _NSIG or (act is not None and sig_kernel_only(sig)):
        return -EINVAL
    assert p.sighand is not None
    spin_lock_irq(p.sighand.siglock)
    old = p.sighand.action[sig - 1]
    if act is not None:
        act.sa_mask &= ~_UNBLOCKABLE
        p.sighand.action[sig - 1] = act
        if machine.cur.flavour.switches.timer_signals_checked:
            posix_timers.posixtimer_sig_unignore(sig)
        # POSIX 3.3.1.3: Setting a signal action to SIG_IGN for a signal that is pending shall cause the pending signal
        # to be discarded, whether or not it is blocked.
        if send.sig_handler_ignored(act.sa_handler, sig):
            mask = 1 << (sig - 1)
            sigqueue.flush_sigqueue_mask(mask, p.signal.shared_pending)
            for t in send.for_each_thread(p):
                sigqueue.flush_sigqueue_mask(mask, t.pending)
            if machine.cur.flavour.switches.timer_signals_checked:
                posix_timers.posixtimer_sig_ignore(sig)
    spin_unlock_irq(p.sighand.siglock)
    return old


def sys_rt_sigaction(sig: int, act: Any, oact: Any = None, sigsetsize: int = 8) -> int:
    """rt_sigaction(2); `act` is a `KSigaction` or (handler, flags, mask), None to ask only."""
    if sigsetsize != 8:
        return -EINVAL
    new = None
    if act is not None:
        if isinstance(act, int):
            return -EFAULT
        new = KSigaction(act.sa_handler, act.sa_flags, act.sa_mask) if isinstance(act, KSigaction) else KSigaction(*act)
        if machine.cur.flavour.switches.sa_flags_cleared:
            new.sa_flags &= UAPI_SA_FLAGS
    old = do_sigaction(sig, new)
    if isinstance(old, int):
        return old
    return -EFAULT if oact and put_user(old, oact) else 0


def sys_rt_sigreturn(*frame: Any) -> int:
    """rt_sigreturn(2): the end of a handler puts the mask back; the registers are the program's own affair here."""
    del frame
    current = machine.cur.cpu.curr
    if not current.sigframes:
        # badframe:
        send.force_sig(SIGSEGV, current)
        return 0
    # Always make any pending restarted system calls return -EINTR
    current.restart_block = None
    frame = current.sigframes[-1]
    current.sigframes = current.sigframes[:-1]
    set_current_blocked(frame.oldset)
    # restore_altstack(): as it was when the handler began, unless we are on it still
    do_sigaltstack(current, SignalStack(*frame.uc_stack))
    return 0


def do_sigaltstack(t: Task, ss: SignalStack) -> int:
    """Set the alternate stack of the running thread: 0, -EPERM while it is on it, -EINVAL, -ENOMEM."""
    if deliver.on_sig_stack(t):
        return -EPERM
    ss_mode = ss.ss_flags & ~SS_FLAG_BITS
    if ss_mode not in (SS_DISABLE, SS_ONSTACK, 0):
        return -EINVAL
    sp, size = ss.ss_sp, ss.ss_size
    if ss_mode == SS_DISABLE:
        sp = size = 0
    elif size < MINSIGSTKSZ:
        return -ENOMEM
    t.sas_ss_sp = (sp, ss.ss_flags, size)
    return 0


def sys_sigaltstack(uss: Any, uoss: Any = None) -> int:
    """sigaltstack(2): set and get the stack that handlers with SA_ONSTACK run on, as `SignalStack`."""
    current = machine.cur.cpu.curr
    sp, flags, size = current.sas_ss_sp
    old = SignalStack(sp, deliver.sas_ss_flags(current) | flags & SS_FLAG_BITS, size)
    if uss is not None and uss != 0:
        if not isinstance(uss, tuple):
            return -EFAULT
        error = do_sigaltstack(current, SignalStack(*uss))
        if error:
            return error
    return -EFAULT if uoss and put_user(old, uoss) else 0


# ---- sending --------------------------------------------------------------------------------------------

def sys_kill(pid: int, sig: int) -> int:
    """kill(2)."""
    current = machine.cur.cpu.curr
    info = Siginfo(sig, SI_USER, pid_.task_tgid_vnr(current), current.cred.uid)
    return signal_kill.kill_something_info(sig, info, pid)


def do_send_specific(tgid: int, pid: int, sig: int, info: Siginfo) -> int:
    """Send to one thread; `tgid` 0 asks for no check of its process."""
    p = pid_.find_task_by_vpid(pid)
    if p is None or (tgid > 0 and pid_.task_tgid_vnr(p) != tgid):
        return -ESRCH
    error = signal_kill.check_kill_permission(sig, info, p)
    # The null signal is a permissions and process existence probe.  No signal is actually delivered.
    if not error and sig:
        error = send.do_send_sig_info(sig, info, p, PIDTYPE_PID)
        # If lock_task_sighand() failed we pretend the task dies after receiving the signal.
        if error == -ESRCH:
            error = 0
    return error


def do_tkill(tgid: int, pid: int, sig: int) -> int:
    """Send as tkill(2) and tgkill(2) do."""
    current = machine.cur.cpu.curr
    return do_send_specific(tgid, pid, sig, Siginfo(sig, SI_TKILL, pid_.task_tgid_vnr(current), current.cred.uid))


def sys_tgkill(tgid: int, pid: int, sig: int) -> int:
    """tgkill(2)."""
    # This is only valid for single tasks
    if pid <= 0 or tgid <= 0:
        return -EINVAL
    return do_tkill(tgid, pid, sig)


def sys_tkill(pid: int, sig: int) -> int:
    """tkill(2)."""
    if pid <= 0:
        return -EINVAL
    return do_tkill(0, pid, sig)


def sys_rt_sigqueueinfo(pid: int, sig: int, uinfo: Any) -> int:
    """rt_sigqueueinfo(2): send with a value; `uinfo` is a `Siginfo`."""
    if not isinstance(uinfo, Siginfo):
        return -EFAULT
    # Not even root can pretend to send signals from the kernel.  Nor can they impersonate a kill()/tgkill().
    if (uinfo.si_code >= 0 or uinfo.si_code == SI_TKILL) and pid_.task_pid_vnr(machine.cur.cpu.curr) != pid:
        return -EPERM
    # __copy_siginfo_from_user(): the number is the call's
    info = uinfo.copy()
    info.si_signo = sig
    # POSIX.1b doesn't mention process groups.
    return signal_kill.kill_pid_info(sig, info, pid_.find_vpid(pid))


def sys_rt_tgsigqueueinfo(tgid: int, pid: int, sig: int, uinfo: Any) -> int:
    """rt_tgsigqueueinfo(2): send to a thread with a value."""
    if not isinstance(uinfo, Siginfo):
        return -EFAULT
    # This is only valid for single tasks
    if pid <= 0 or tgid <= 0:
        return -EINVAL
    # Not even root can pretend to send signals from the kernel.  Nor can they impersonate a kill()/tgkill().
    if (uinfo.si_code >= 0 or uinfo.si_code == SI_TKILL) and pid_.task_pid_vnr(machine.cur.cpu.curr) != pid:
        return -EPERM
    info = uinfo.copy()
    info.si_signo = sig
    return do_send_specific(tgid, pid, sig, info)


# ---- waiting for signals --------------------------------------------------------------------------------

def sys_pause() -> int:
    """pause(2)."""
    current = machine.cur.cpu.curr
    while not signal_pending(current):
        set_current_state(TASK_INTERRUPTIBLE)
        sched_core.schedule()
    return -ERESTARTNOHAND


def sigsuspend(set_: int) -> int:
    """Wait for a signal with another mask."""
    current = machine.cur.cpu.curr
    current.saved_sigmask = current.blocked
    set_current_blocked(set_)
    while not signal_pending(current):
        set_current_state(TASK_INTERRUPTIBLE)
        sched_core.schedule()
    set_restore_sigmask(True)
    return -ERESTARTNOHAND


def sys_rt_sigsuspend(unewset: int, sigsetsize: int = 8) -> int:
    """rt_sigsuspend(2)."""
    if sigsetsize != 8:
        return -EINVAL
    return sigsuspend(unewset)


def sys_rt_sigtimedwait(
    uthese: int, uinfo: Any = None, uts: tuple[int, int] | None = None, sigsetsize: int = 8
) -> int:
    """rt_sigtimedwait(2): take a signal of a set; its number, -EAGAIN after `uts` (s, ns), -EINTR."""
    if sigsetsize != 8:
        return -EINVAL
    timeout = None
    if uts:
        timeout = hrtimer.timespec_ns(uts)
        if timeout is None:
            return -EINVAL
    info = do_sigtimedwait(uthese, timeout)
    if isinstance(info, int):
        return info
    return -EFAULT if uinfo and put_user(info, uinfo) else info.si_signo


def do_sigtimedwait(which: int, timeout: int | None) -> Siginfo | int:
    """Take a signal of a set, waiting for it at most `timeout` ns; -EAGAIN if none came, -EINTR if another did."""
    tsk = machine.cur.cpu.curr
    # Invert the set of allowed signals to get those we want to block.
    mask = ~(which & ~_UNBLOCKABLE) & _ALL
    assert tsk.sighand is not None
    siglock = tsk.sighand.siglock
    spin_lock_irq(siglock)
    info = deliver.dequeue_signal(tsk, mask)
    ret = 0
    if info is None and timeout != 0:
        # None ready, temporarily unblock those we're interested while we are sleeping in so that we'll be awakened.
        tsk.real_blocked = tsk.blocked
        tsk.blocked &= mask
        send.recalc_sigpending()
        spin_unlock_irq(siglock)
        set_current_state(TASK_INTERRUPTIBLE)
        ret = hrtimer.schedule_hrtimeout_range(timeout, hrtimer.TIMER_SLACK, HRTIMER_MODE_REL)
        spin_lock_irq(siglock)
        __set_task_blocked(tsk, tsk.real_blocked)
        tsk.real_blocked = 0
        info = deliver.dequeue_signal(tsk, mask)
    spin_unlock_irq(siglock)
    if info is not None:
        return info
    return -EINTR if ret else -EAGAIN


def sys_restart_syscall() -> int:
    """restart_syscall(2): go on with the call that a stop interrupted."""
    current = machine.cur.cpu.curr
    restart = current.restart_block
    if restart is None:
        return -EINTR
    return int(restart.fn(restart))
