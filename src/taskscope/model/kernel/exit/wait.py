"""The parent's wait4() and waitid(), which reap: the second half of kernel/exit.c, v4.19."""

from __future__ import annotations

from errno import ECHILD, EFAULT, EINVAL, ESRCH
from typing import Any, Final

import taskscope.model.fs.pidfs as pidfs
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace as ptrace_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.cputime as cputime
import taskscope.model.kernel.sched.wait as wait_
import taskscope.model.kernel.signal.notify as signal_notify
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.sys as sys_
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTARTSYS
from taskscope.model.include.linux.pid import PIDTYPE_MAX, PIDTYPE_PGID, PIDTYPE_PID, Pid
from taskscope.model.include.linux.ptrace import ptrace_reparented, task_is_traced
from taskscope.model.include.linux.sched import (
    EXIT_DEAD,
    EXIT_TRACE,
    EXIT_ZOMBIE,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    Task,
    set_current_state,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_LISTENING,
    SIGNAL_GROUP_EXIT,
    SIGNAL_STOP_CONTINUED,
    SIGNAL_STOP_STOPPED,
    delay_group_leader,
    thread_group_empty,
)
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct
from taskscope.model.include.linux.spinlock import (
    read_lock,
    read_unlock,
    spin_lock_irq,
    spin_unlock_irq,
    write_lock_irq,
    write_unlock_irq,
)
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import WaitQueueEntry
from taskscope.model.include.trace.events.sched import (
    trace_sched_process_wait,
)

SIGCHLD: Final = 17
SIGCONT: Final = 18

WNOHANG: Final = 0x00000001
WUNTRACED: Final = 0x00000002
WSTOPPED: Final = WUNTRACED
WEXITED: Final = 0x00000004
WCONTINUED: Final = 0x00000008
WNOWAIT: Final = 0x01000000
__WNOTHREAD: Final = 0x20000000         # Don't wait on children of other threads in this group
__WALL: Final = 0x40000000              # Wait on all children, regardless of type
__WCLONE: Final = 0x80000000            # Wait only on non-SIGCHLD children

P_ALL: Final = 0
P_PID: Final = 1
P_PGID: Final = 2
P_PIDFD: Final = 3

CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_TRAPPED: Final = 4
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6


# ---- wait -----------------------------------------------------------------------------------------------

class WaitidInfo:
    """struct waitid_info: what waitid() reports."""

    __slots__ = ("cause", "pid", "status", "uid")

    def __init__(self) -> None:
        self.pid = 0
        self.uid = 0
        self.status = 0
        self.cause = 0


class WaitOpts:
    """struct wait_opts: one wait4() or waitid() in progress."""

    __slots__ = ("child_wait", "notask_error", "wo_flags", "wo_info", "wo_pid", "wo_rusage", "wo_stat", "wo_type")

    def __init__(
        self, wo_type: int, wo_pid: Pid | None, wo_flags: int, wo_info: WaitidInfo | None, wo_rusage: Any
    ) -> None:
        self.wo_type = wo_type
        self.wo_flags = wo_flags
        self.wo_pid = wo_pid
        self.wo_info = wo_info
        self.wo_stat = 0
        self.wo_rusage = wo_rusage
        self.child_wait: WaitQueueEntry = None  # type: ignore[assignment]  # set by do_wait()
        self.notask_error = 0


def eligible_pid(wo: WaitOpts, p: Task) -> bool:
    """Tell whether the pid argument asks for this child."""
    return wo.wo_type == PIDTYPE_MAX or pid_.task_pid_ptr(p, wo.wo_type) is wo.wo_pid


def eligible_child(wo: WaitOpts, ptrace: bool, p: Task) -> bool:
    """Tell whether pid and options ask for this child."""
    if not eligible_pid(wo, p):
        return False
    # Wait for all children (clone and not) if __WALL is set or if it is traced by us.
    if ptrace or wo.wo_flags & __WALL:
        return True
    # Otherwise, wait for clone children *only* if __WCLONE is set; a "clone" child here is one that reports to its
    # parent using a signal other than SIGCHLD, or a non-leader thread which we can only see if it is traced by us.
    return (p.exit_signal != SIGCHLD) == bool(wo.wo_flags & __WCLONE)


def wait_task_zombie(wo: WaitOpts, p: Task) -> int:
    """Report a dead child and, without WNOWAIT, reap it.

    Context: tasklist_lock held for reading; released when the return value is not 0.
    """
    m = machine.cur
    current = m.cpu.curr
    if not wo.wo_flags & WEXITED:
        return 0
    pid = pid_.task_pid_vnr(p)
    uid = p.cred.uid
    if wo.wo_flags & WNOWAIT:
        # 907c311f37ba ("exit: Fix the exit_code for wait_task_zombie", v5.16): before, it was the thread's own
        status = (p.signal.group_exit_code if p.signal.flags & SIGNAL_GROUP_EXIT and m.flavour.version >= (5, 16)
                  else p.exit_code)
        get_task_struct(p)
        read_unlock(m.tasklist_lock)
        if wo.wo_rusage is not None:
            sys_.fill_rusage(p, sys_.RUSAGE_BOTH, wo.wo_rusage)
        put_task_struct(p)
    else:
        # Move the task's state to DEAD/TRACE, only one thread can do this.
        if p.exit_state != EXIT_ZOMBIE:
            return 0
        state = EXIT_TRACE if p.ptrace and thread_group_leader(p) and ptrace_reparented(p) else EXIT_DEAD
        exit_.set_exit_state(p, state)
        # We own this thread, nobody else can reap it.
        read_unlock(m.tasklist_lock)
        # Check thread_group_leader() to exclude the traced sub-threads.
        if state == EXIT_DEAD and thread_group_leader(p):
            sig = p.signal
            psig = current.signal
            assert current.sighand is not None
            tgutime, tgstime = cputime.thread_group_cputime_adjusted(p)
            spin_lock_irq(current.sighand.siglock)
            psig.cutime += tgutime + sig.cutime
            psig.cstime += tgstime + sig.cstime
            psig.cmin_flt += p.min_flt + sig.min_flt + sig.cmin_flt
            psig.cmaj_flt += p.maj_flt + sig.maj_flt + sig.cmaj_flt
            psig.cnvcsw += p.nvcsw + sig.nvcsw + sig.cnvcsw
            psig.cnivcsw += p.nivcsw + sig.nivcsw + sig.cnivcsw
            spin_unlock_irq(current.sighand.siglock)
        if wo.wo_rusage is not None:
            sys_.fill_rusage(p, sys_.RUSAGE_BOTH, wo.wo_rusage)
        status = p.signal.group_exit_code if p.signal.flags & SIGNAL_GROUP_EXIT else p.exit_code
        wo.wo_stat = status
        if state == EXIT_TRACE:
            state = cascade(p)
        if state == EXIT_DEAD:
            exit_.release_task(p)
    infop = wo.wo_info
    if infop is not None:
        if status & 0x7F == 0:
            infop.cause = CLD_EXITED
            infop.status = status >> 8
        else:
            infop.cause = CLD_DUMPED if status & 0x80 else CLD_KILLED
            infop.status = status & 0x7F
        infop.pid = pid
        infop.uid = uid
    return pid


def cascade(p: Task) -> int:
    """Hand a dead child on from its tracer to its real parent; its exit state: the end of wait_task_zombie()."""
    m = machine.cur
    write_lock_irq(m.tasklist_lock)
    # We dropped tasklist, ptracer could die and untrace
    ptrace_.ptrace_unlink(p)
    # If parent wants a zombie, don't release it now
    state = EXIT_ZOMBIE
    if signal_notify.do_notify_parent(p, p.exit_signal):
        state = EXIT_DEAD
    exit_.set_exit_state(p, state)
    write_unlock_irq(m.tasklist_lock)
    return state


def task_stopped_code(p: Task, ptrace: bool) -> int:
    """Return what a stopped task has to report to its tracer, or to its real parent; 0 for nothing."""
    if ptrace:
        return p.exit_code if task_is_traced(p) and not p.jobctl & JOBCTL_LISTENING else 0
    return p.signal.group_exit_code if p.signal.flags & SIGNAL_STOP_STOPPED else 0


def wait_task_stopped(wo: WaitOpts, ptrace: bool, p: Task) -> int:
    """Report a stopped child, once.

    Context: as `wait_task_zombie`.
    """
    # Traditionally we see ptrace'd stopped tasks regardless of options.
    if not ptrace and not wo.wo_flags & WUNTRACED:
        return 0
    if not task_stopped_code(p, ptrace):
        return 0
    assert p.sighand is not None
    spin_lock_irq(p.sighand.siglock)
    exit_code = task_stopped_code(p, ptrace)
    if exit_code and not wo.wo_flags & WNOWAIT:
        if ptrace:
            p.exit_code = 0
        else:
            p.signal.group_exit_code = 0
    spin_unlock_irq(p.sighand.siglock)
    if not exit_code:
        return 0
    pid = wait_report(wo, p)
    if not wo.wo_flags & WNOWAIT:
        wo.wo_stat = exit_code << 8 | 0x7F
    infop = wo.wo_info
    if infop is not None:
        infop.cause = CLD_TRAPPED if ptrace else CLD_STOPPED
        infop.status = exit_code
    return pid


def wait_task_continued(wo: WaitOpts, p: Task) -> int:
    """Report a child that SIGCONT has continued, once.

    Context: as `wait_task_zombie`.
    """
    if not wo.wo_flags & WCONTINUED:
        return 0
    if not p.signal.flags & SIGNAL_STOP_CONTINUED:
        return 0
    assert p.sighand is not None
    spin_lock_irq(p.sighand.siglock)
    if not wo.wo_flags & WNOWAIT:
        p.signal.flags &= ~SIGNAL_STOP_CONTINUED
    spin_unlock_irq(p.sighand.siglock)
    pid = wait_report(wo, p)
    infop = wo.wo_info
    if infop is None:
        wo.wo_stat = 0xFFFF
    else:
        infop.cause = CLD_CONTINUED
        infop.status = SIGCONT
    return pid


def wait_report(wo: WaitOpts, p: Task) -> int:
    """Note who was found and what it used; releases tasklist_lock; the end of wait_task_stopped() and _continued()."""
    pid = pid_.task_pid_vnr(p)
    if wo.wo_info is not None:
        wo.wo_info.pid = pid
        wo.wo_info.uid = p.cred.uid
    get_task_struct(p)
    read_unlock(machine.cur.tasklist_lock)
    if wo.wo_rusage is not None:
        sys_.fill_rusage(p, sys_.RUSAGE_BOTH, wo.wo_rusage)
    put_task_struct(p)
    return pid


def wait_consider_task(wo: WaitOpts, ptrace: bool, p: Task) -> int:
    """Look at one child: its pid if it has something to report, else 0.

    ``wo.notask_error`` becomes 0 if the child could report something later.

    Context: tasklist_lock held for reading; released when the return value is not 0.
    """
    exit_state = p.exit_state
    if exit_state == EXIT_DEAD:
        return 0
    if not eligible_child(wo, ptrace, p):
        return 0
    if exit_state == EXIT_TRACE:
        # ptrace == 0 means we are the natural parent.  In this case we should clear notask_error, debugger will notify
        # us.
        if not ptrace:
            wo.notask_error = 0
        return 0
    # If it is traced by its real parent's group, just pretend the caller is ptrace_do_wait() and reap this child if it
    # is zombie.  This also hides group stop state from real parent; otherwise a single stop can be reported twice as
    # group and ptrace stop.
    if not ptrace and p.ptrace and not ptrace_reparented(p):
        ptrace = True
    # slay zombie?
    if exit_state == EXIT_ZOMBIE:
        # We don't reap group leaders with subthreads.  A zombie ptracee is only visible to its ptracer: notification
        # and reaping will be cascaded to the real parent when the ptracer detaches.
        if not delay_group_leader(p) and (ptrace or not p.ptrace):
            return wait_task_zombie(wo, p)
        # Allow access to stopped/continued state via zombie by falling through.  Not the tracer's: stopped state is
        # per-task and thus can't change once the task is dead.
        if not ptrace or wo.wo_flags & (WCONTINUED | WEXITED):
            wo.notask_error = 0
    else:
        # @p is alive and it's gonna stop, continue or exit, so there always is something to wait for.
        wo.notask_error = 0
    # Wait for stopped.  Depending on @ptrace, different stopped state is used and the two don't interact with each
    # other.
    ret = wait_task_stopped(wo, ptrace, p)
    if ret:
        return ret
    return wait_task_continued(wo, p)


def do_wait_thread(wo: WaitOpts, tsk: Task) -> int:
    """Look at all children of one thread.

    Context: as `wait_consider_task`.
    """
    head = tsk.children
    node = head.next
    while node is not head:
        ret = wait_consider_task(wo, False, node.owner)
        if ret:
            return ret
        node = node.next
    return 0


def ptrace_do_wait(wo: WaitOpts, tsk: Task) -> int:
    """Look at all tasks that one thread traces.

    Context: as `wait_consider_task`.
    """
    head = tsk.ptraced
    node = head.next
    while node is not head:
        ret = wait_consider_task(wo, True, node.owner)
        if ret:
            return ret
        node = node.next
    return 0


def child_wait_callback(wait: WaitQueueEntry, mode: int, sync: int, key: Any) -> int:
    """Wake a waiter only for a child it asked for."""
    wo: WaitOpts = wait.owner
    p: Task = key
    if not eligible_pid(wo, p):
        return 0
    if wo.wo_flags & __WNOTHREAD and wait.private is not p.parent:
        return 0
    return sched_core.default_wake_function(wait, mode, sync, key)


def __wake_up_parent(p: Task, parent: Task) -> None:
    """Wake those who wait for a child in the parent's process."""
    wait_.__wake_up_sync_key(parent.signal.wait_chldexit, TASK_INTERRUPTIBLE, 1, p)


def do_wait(wo: WaitOpts) -> int:
    """Find a child with something to report; sleep until there is one."""
    m = machine.cur
    current = m.cpu.curr
    trace_sched_process_wait(wo.wo_pid)
    wo.child_wait = WaitQueueEntry(current, child_wait_callback, wo)
    queue = current.signal.wait_chldexit
    wait_.add_wait_queue(queue, wo.child_wait)
    while True:
        # If there is nothing that can match our criteria, just get out.  We will clear ->notask_error to zero if we
        # see any child that might later match our criteria, even if we are not able to reap it yet.
        wo.notask_error = -ECHILD
        retval = 0
        if wo.wo_type == PIDTYPE_MAX or (wo.wo_pid is not None
                                         and wo.wo_pid.tasks[wo.wo_type].next is not wo.wo_pid.tasks[wo.wo_type]):
            set_current_state(TASK_INTERRUPTIBLE)
            read_lock(m.tasklist_lock)
            if wo.wo_flags & __WNOTHREAD or thread_group_empty(current):
                retval = do_wait_thread(wo, current)
                if not retval and current.ptraced.next is not current.ptraced:
                    retval = ptrace_do_wait(wo, current)
            else:
                for tsk in signal_send.while_each_thread(current):
                    retval = do_wait_thread(wo, tsk) or ptrace_do_wait(wo, tsk)
                    if retval:
                        break
            if retval:
                break
            read_unlock(m.tasklist_lock)
        retval = wo.notask_error
        if retval or wo.wo_flags & WNOHANG:
            break
        retval = -ERESTARTSYS
        if signal_pending(current):
            break
        sched_core.schedule()
    current.state = TASK_RUNNING
    wait_.remove_wait_queue(queue, wo.child_wait)
    return retval


def kernel_waitid(which: int, upid: int, infop: WaitidInfo, options: int, ru: Any) -> int:
    """Wait as waitid(2) asks; the child's pid, 0, or a negative errno."""
    m = machine.cur
    if options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL):
        return -EINVAL
    if not options & (WEXITED | WSTOPPED | WCONTINUED):
        return -EINVAL
    pid: Pid | None = None
    if which == P_ALL:
        type_ = PIDTYPE_MAX
    elif which == P_PID:
        type_ = PIDTYPE_PID
        if upid <= 0:
            return -EINVAL
        pid = pid_.get_pid(pid_.find_vpid(upid))
    elif which == P_PGID:
        type_ = PIDTYPE_PGID
        # Since v5.4 (821cc7b0b205, "waitid: Add support for waiting for the current process group") 0 is the own group.
        if upid < 0 or (upid == 0 and not m.flavour.switches.clone3):
            return -EINVAL
        pid = pid_.get_pid(pid_.find_vpid(upid)) if upid else pid_.get_task_pid(m.cpu.curr, PIDTYPE_PGID)
    elif which == P_PIDFD and m.flavour.switches.clone3:
        type_ = PIDTYPE_PID
        if upid < 0:
            return -EINVAL
        found = pidfs.pidfd_get_pid(upid)
        if isinstance(found, int):
            return found
        pid = found
    else:
        return -EINVAL
    wo = WaitOpts(type_, pid, options, infop, ru)
    ret = do_wait(wo)
    pid_.put_pid(pid)
    return ret


def sys_waitid(which: int, upid: int, infop: Any, options: int, ru: Any = None) -> int:
    """waitid(2); fills the `Siginfo` behind `infop` with SIGCHLD's fields, all 0 if WNOHANG found nothing."""
    import taskscope.model.include.linux.sched_signal as sched_signal

    info = WaitidInfo()
    rusage = sys_.Rusage() if ru else None
    err = kernel_waitid(which, upid, info, options & 0xFFFF_FFFF, rusage)
    signo = 0
    if err > 0:
        signo = SIGCHLD
        err = 0
        if ru and put_user(rusage, ru):
            return -EFAULT
    if not infop:
        return err
    siginfo = sched_signal.Siginfo(signo, info.cause, info.pid, info.uid)
    siginfo.si_status = info.status
    if put_user(siginfo, infop):
        return -EFAULT
    return err


def kernel_wait4(upid: int, stat_addr: Any, options: int, ru: Any) -> int:
    """Wait as wait4(2) asks; the child's pid, 0, or a negative errno."""
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL):
        return -EINVAL
    # -INT_MIN is not defined
    if upid == -(1 << 31):
        return -ESRCH
    pid: Pid | None = None
    if upid == -1:
        type_ = PIDTYPE_MAX
    elif upid < 0:
        type_ = PIDTYPE_PGID
        pid = pid_.get_pid(pid_.find_vpid(-upid))
    elif upid == 0:
        type_ = PIDTYPE_PGID
        pid = pid_.get_task_pid(machine.cur.cpu.curr, PIDTYPE_PGID)
    else:
        type_ = PIDTYPE_PID
        pid = pid_.get_pid(pid_.find_vpid(upid))
    wo = WaitOpts(type_, pid, options | WEXITED, None, ru)
    ret = do_wait(wo)
    pid_.put_pid(pid)
    if ret > 0 and stat_addr and put_user(wo.wo_stat, stat_addr):
        ret = -EFAULT
    return ret


def sys_wait4(upid: int, stat_addr: Any, options: int, ru: Any = None) -> int:
    """wait4(2)."""
    rusage = sys_.Rusage() if ru else None
    err = kernel_wait4(upid, stat_addr, options & 0xFFFF_FFFF, rusage)
    if err > 0 and ru and put_user(rusage, ru):
        return -EFAULT
    return err


def sys_waitpid(pid: int, stat_addr: Any, options: int) -> int:
    """waitpid(2), a system call on i386 only; the C library uses wait4."""
    return sys_wait4(pid, stat_addr, options, None)
