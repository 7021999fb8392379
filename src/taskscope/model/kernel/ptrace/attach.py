"""Tracer and traced: the first half of kernel/ptrace.c, v4.19: who may, becoming a tracer, and letting go.

A traced task has its tracer as ``parent`` and stands on that one's ``ptraced`` list; ``real_parent`` stays whoever
created it.  Nearly every request needs a task that is stopped for its tracer (TASK_TRACED), and holds it there.
"""

from __future__ import annotations

from errno import EINVAL, EIO, EPERM, ESRCH
from typing import Final

import taskscope.model.kernel.cred as cred_
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait_bit as wait_bit
import taskscope.model.kernel.signal.notify as notify_
import taskscope.model.kernel.signal.send as send
import taskscope.model.kernel.signal.trap as trap
from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead, list_add, list_del_init, list_empty, list_for_each_entry_safe
from taskscope.model.include.linux.ptrace import (
    PT_EXITKILL,
    PT_OPT_FLAG_SHIFT,
    PT_PTRACED,
    PT_SEIZED,
    PTRACE_EVENT_EXEC,
    PTRACE_MODE_ATTACH_REALCREDS,
    PTRACE_MODE_FSCREDS,
    PTRACE_O_MASK,
    PTRACE_O_SUSPEND_SECCOMP,
    PTRACE_SEIZE,
    task_is_stopped,
    task_is_traced,
)
from taskscope.model.include.linux.sched import (
    __TASK_STOPPED,
    __TASK_TRACED,
    EXIT_DEAD,
    EXIT_ZOMBIE,
    PF_EXITING,
    PF_KTHREAD,
    TASK_KILLABLE,
    TASK_TRACED,
    Task,
    same_thread_group,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_LISTENING,
    JOBCTL_PTRACE_FROZEN,
    JOBCTL_STOP_PENDING,
    JOBCTL_STOP_SIGMASK,
    JOBCTL_STOPPED,
    JOBCTL_TRACED,
    JOBCTL_TRAP_MASK,
    JOBCTL_TRAP_STOP,
    JOBCTL_TRAPPING,
    SA_NOCLDWAIT,
    SEND_SIG_FORCED,
    SIG_IGN,
    SIGNAL_STOP_STOPPED,
    SighandStruct,
    thread_group_empty,
)
from taskscope.model.include.linux.spinlock import (
    read_lock,
    read_unlock,
    spin_lock,
    spin_lock_irq,
    spin_unlock,
    spin_unlock_irq,
    write_lock_irq,
    write_unlock_irq,
)
from taskscope.model.include.linux.thread_info import clear_task_syscall_work
from taskscope.model.include.uapi.linux.capability import CAP_SYS_PTRACE

SIGTRAP: Final = 5
SIGKILL: Final = 9
SIGCHLD: Final = 17
SIGSTOP: Final = 19
_NSIG: Final = 64
_SUID_DUMP_USER: Final = 1


# ---- tracer and traced ----------------------------------------------------------------------------------

def __ptrace_link(child: Task, new_parent: Task, ptracer_cred: cred_.Cred) -> None:
    """Make the tracer the task's parent; the creator stays its real_parent.

    Context: tasklist_lock held for writing.
    """
    assert machine.cur.tasklist_lock.held, "tasklist_lock"
    assert list_empty(child.ptrace_entry), f"{child} is traced already"
    list_add(child.ptrace_entry, new_parent.ptraced)
    child.parent = new_parent
    child.ptracer_cred = cred_.get_cred(ptracer_cred)


def ptrace_link(child: Task, new_parent: Task) -> None:
    """Link with the credentials of the caller, which count whenever rights are asked of the tracer."""
    __ptrace_link(child, new_parent, machine.cur.cpu.curr.cred)


def __ptrace_unlink(child: Task) -> None:
    """Give the task back to its real parent, and let it go on or stop as its process does.

    Context: tasklist_lock held for writing.
    """
    m = machine.cur
    assert m.tasklist_lock.held, "tasklist_lock"
    assert child.ptrace, f"{child} is not traced"
    bits = m.syscall_work_bits
    clear_task_syscall_work(child, bits.SYSCALL_TRACE | bits.SYSCALL_EMU)
    child.parent = child.real_parent
    list_del_init(child.ptrace_entry)
    old_cred = child.ptracer_cred
    child.ptracer_cred = None
    cred_.put_cred(old_cred)
    sighand = child.sighand
    assert sighand is not None, f"{child} is released while traced"
    spin_lock(sighand.siglock)
    child.ptrace = 0
    # Clear all pending traps and TRAPPING, regardless of JOBCTL_STOP_PENDING.
    send.task_clear_jobctl_pending(child, JOBCTL_TRAP_MASK)
    send.task_clear_jobctl_trapping(child)
    # Reinstate JOBCTL_STOP_PENDING if group stop is in effect and the child isn't dead.
    if not child.flags & PF_EXITING and (
        child.signal.flags & SIGNAL_STOP_STOPPED or child.signal.group_stop_count
    ):
        child.jobctl |= JOBCTL_STOP_PENDING
        # This is only possible if this thread was cloned by the traced task running in the stopped group, set the
        # signal for the future reports.
        if not child.jobctl & JOBCTL_STOP_SIGMASK:
            child.jobctl |= SIGSTOP
    # If transition to TASK_STOPPED is pending or in TASK_TRACED, kick the child.  Resume only one in TASK_TRACED;
    # otherwise, we might unduly disrupt TASK_KILLABLE sleeps.
    if child.jobctl & JOBCTL_STOP_PENDING or task_is_traced(child):
        trap.ptrace_signal_wake_up(child, True)
    spin_unlock(sighand.siglock)


def ptrace_unlink(child: Task) -> None:
    """Unlink a task that may be traced or not (include/linux/ptrace.h).

    Context: tasklist_lock held for writing.
    """
    if child.ptrace:
        __ptrace_unlink(child)


def ptrace_release_task(task: Task) -> None:
    """Cut the tie to a tracer, for a task that is reaped (include/linux/ptrace.h).

    Context: tasklist_lock held for writing.
    """
    assert task.ptraced.next is task.ptraced, f"{task} still traces somebody"
    if task.ptrace:
        __ptrace_unlink(task)
    assert list_empty(task.ptrace_entry), f"{task} is released while traced"


def ptrace_init_task(child: Task, ptrace: bool) -> None:
    """Start untraced, or traced by who traces the creator (include/linux/ptrace.h).

    :param ptrace: the tracer asked for the event of this birth, or the creator for CLONE_PTRACE
    Context: tasklist_lock held for writing; the child has not run yet.
    """
    current = machine.cur.cpu.curr
    child.ptraced = ListHead()
    child.ptrace_entry = ListHead(child)
    child.jobctl = 0
    child.ptrace = 0
    child.parent = child.real_parent
    child.ptracer_cred = None
    if ptrace and current.ptrace:
        child.ptrace = current.ptrace
        __ptrace_link(child, current.parent, current.ptracer_cred)
        if child.ptrace & PT_SEIZED:
            send.task_set_jobctl_pending(child, JOBCTL_TRAP_STOP)
        else:
            child.pending.signal |= 1 << (SIGSTOP - 1)


# ---- a stopped task, and who may touch it ---------------------------------------------------------------

def looks_like_a_spurious_pid(task: Task) -> bool:
    """Tell whether the tracer may mean the leader that this task, in an execve() that is not reported yet, replaced."""
    if not machine.cur.flavour.switches.ptrace_knows_its_pid or task.exit_code != (PTRACE_EVENT_EXEC << 8 | SIGTRAP):
        return False
    return pid_.task_pid_vnr(task) != task.ptrace_message


def frozen(task: Task) -> bool:
    """Tell whether not even SIGKILL wakes the task from its stop, as its tracer is at work on it."""
    if machine.cur.flavour.switches.traced_in_jobctl:
        return bool(task.jobctl & JOBCTL_PTRACE_FROZEN)
    return task.state == __TASK_TRACED


def ptrace_freeze_traced(task: Task) -> bool:
    """Ensure that nothing can wake the task up, even SIGKILL; False if it is not stopped for its tracer."""
    # Lockless, nobody but us can set this flag
    if task.jobctl & JOBCTL_LISTENING:
        return False
    ret = False
    assert task.sighand is not None
    spin_lock_irq(task.sighand.siglock)
    if task_is_traced(task) and not looks_like_a_spurious_pid(task) and not send.__fatal_signal_pending(task):
        if machine.cur.flavour.switches.traced_in_jobctl:
            task.jobctl |= JOBCTL_PTRACE_FROZEN
        else:
            task.state = __TASK_TRACED
        ret = True
    spin_unlock_irq(task.sighand.siglock)
    return ret


def ptrace_unfreeze_traced(task: Task) -> None:
    """Let SIGKILL wake the task again."""
    if not frozen(task):
        return
    assert task.ptrace, f"{task} is not traced"
    assert task.parent is machine.cur.cpu.curr, f"{task} is traced by another task"
    # PTRACE_LISTEN can allow ptrace_trap_notify to wake us up remotely.
    assert task.sighand is not None
    spin_lock_irq(task.sighand.siglock)
    if frozen(task):
        task.jobctl &= ~JOBCTL_PTRACE_FROZEN
        if send.__fatal_signal_pending(task):
            task.jobctl &= ~JOBCTL_TRACED
            sched_core.wake_up_state(task, __TASK_TRACED)
        elif not machine.cur.flavour.switches.traced_in_jobctl:
            task.state = TASK_TRACED
    spin_unlock_irq(task.sighand.siglock)


def ptrace_check_attach(child: Task, ignore_state: bool) -> int:
    """Check that the caller traces the task and that it is stopped: 0, -ESRCH.

    :param ignore_state: the request is good for a task that runs, too
    """
    m = machine.cur
    ret = -ESRCH
    read_lock(m.tasklist_lock)
    if child.ptrace and child.parent is m.cpu.curr:
        assert not frozen(child), f"{child} was left frozen"
        if ignore_state or ptrace_freeze_traced(child):
            ret = 0
    read_unlock(m.tasklist_lock)
    if not ret and not ignore_state and not sched_core.wait_task_inactive(child, __TASK_TRACED):
        # This can only happen if may_ptrace_stop() fails and ptrace_stop() changes ->state back to TASK_RUNNING.
        assert not frozen(child), f"{child} was left frozen"
        ret = -ESRCH
    return ret


def ptracer_capable(tsk: Task) -> bool:
    """Tell whether the task is not traced, or by somebody who had CAP_SYS_PTRACE (kernel/capability.c)."""
    return tsk.ptracer_cred is None or bool(tsk.ptracer_cred.cap_effective >> CAP_SYS_PTRACE & 1)


def __ptrace_may_access(task: Task, mode: int) -> int:
    """Check that the caller may look into a task: 0, -EPERM."""
    current = machine.cur.cpu.curr
    # Don't let security modules deny introspection
    if same_thread_group(task, current):
        return 0
    mine, its = current.cred, task.cred
    caller_uid, caller_gid = (mine.fsuid, mine.fsgid) if mode & PTRACE_MODE_FSCREDS else (mine.uid, mine.gid)
    if not (
        (caller_uid == its.euid == its.suid == its.uid and caller_gid == its.egid == its.sgid == its.gid)
        or cred_.capable(CAP_SYS_PTRACE)
    ):
        return -EPERM
    mm = task.mm
    if mm is not None and mm.dumpable != _SUID_DUMP_USER and not cred_.capable(CAP_SYS_PTRACE):
        return -EPERM
    # Not modelled: security_ptrace_access_check(): security modules, Yama's ptrace_scope among them.
    return 0


def ptrace_may_access(task: Task, mode: int) -> bool:
    """Tell whether the caller may look into a task, by its real ids or those it has for files."""
    # task_lock(task)
    return not __ptrace_may_access(task, mode)


# ---- attach and let go ----------------------------------------------------------------------------------

def check_ptrace_options(data: int) -> int:
    """Check PTRACE_O_*: 0, -EINVAL."""
    if data & ~PTRACE_O_MASK:
        return -EINVAL
    # Not modelled: seccomp, and with it PTRACE_O_SUSPEND_SECCOMP.
    return -EINVAL if data & PTRACE_O_SUSPEND_SECCOMP else 0


def ptrace_attach(task: Task, request: int, addr: int, flags: int) -> int:
    """Become the tracer of a task, and stop it unless this is PTRACE_SEIZE: 0, -EIO, -EPERM.

    :param flags: PTRACE_O_* of PTRACE_SEIZE
    """
    m = machine.cur
    current = m.cpu.curr
    seize = request == PTRACE_SEIZE
    if seize:
        # Unknown options are -EIO here and -EINVAL in PTRACE_SETOPTIONS.
        if addr != 0 or flags & ~PTRACE_O_MASK:
            return -EIO
        if check_ptrace_options(flags):
            return -EINVAL
        flags = PT_PTRACED | PT_SEIZED | flags << PT_OPT_FLAG_SHIFT
    else:
        flags = PT_PTRACED
    # Not modelled: audit_ptrace().
    if task.flags & PF_KTHREAD:
        return -EPERM
    if same_thread_group(task, current):
        return -EPERM
    # Not modelled: cred_guard_mutex, at which one would wait for an execve() in progress.
    retval = __ptrace_may_access(task, PTRACE_MODE_ATTACH_REALCREDS)
    if retval:
        return retval
    write_lock_irq(m.tasklist_lock)
    if task.exit_state or task.ptrace:
        write_unlock_irq(m.tasklist_lock)
        return -EPERM
    task.ptrace = flags
    ptrace_link(task, current)
    # SEIZE doesn't trap tracee on attach
    if not seize:
        send.send_sig_info(SIGSTOP, SEND_SIG_FORCED, task)
    # If the task is already STOPPED, set JOBCTL_TRAP_STOP and TRAPPING, and kick it so that it transits to TRACED.
    # TRAPPING will be cleared if the child completes the transition or any event which clears the group stop states
    # happens.  We'll wait for that below: the caller does not see the state between.
    assert task.sighand is not None
    spin_lock(task.sighand.siglock)
    if task_is_stopped(task) and send.task_set_jobctl_pending(task, JOBCTL_TRAP_STOP | JOBCTL_TRAPPING):
        task.jobctl &= ~JOBCTL_STOPPED
        send.signal_wake_up_state(task, __TASK_STOPPED)
    spin_unlock(task.sighand.siglock)
    write_unlock_irq(m.tasklist_lock)
    # A SIGKILL may end the wait: then the caller exits, and clears the bit in __ptrace_unlink().
    wait_bit.wait_on_bit(task, "jobctl", JOBCTL_TRAPPING, TASK_KILLABLE)
    # Not modelled: proc_ptrace_connector().
    return 0


def ptrace_traceme() -> int:
    """Let the parent trace the caller: 0, -EPERM if it is traced already."""
    m = machine.cur
    current = m.cpu.curr
    ret = -EPERM
    write_lock_irq(m.tasklist_lock)
    # Are we already being traced?
    if not current.ptrace:
        # Not modelled: security_ptrace_traceme().
        ret = 0
        # A real_parent that has passed exit_ptrace() would never untrace us: pretend that it did right after this.
        if not current.real_parent.flags & PF_EXITING:
            current.ptrace = PT_PTRACED
            ptrace_link(current, current.real_parent)
    write_unlock_irq(m.tasklist_lock)
    return ret


def ignoring_children(sigh: SighandStruct | None) -> bool:
    """Tell whether children of the process reap themselves."""
    assert sigh is not None
    spin_lock(sigh.siglock)
    action = sigh.action[SIGCHLD - 1]
    ret = action.sa_handler == SIG_IGN or bool(action.sa_flags & SA_NOCLDWAIT)
    spin_unlock(sigh.siglock)
    return ret


def __ptrace_detach(tracer: Task, p: Task) -> bool:
    """Unlink a task, and make up for the notice that its tracing held back if it is dead; True: release_task() is due.

    Context: tasklist_lock held for writing.
    """
    __ptrace_unlink(p)
    if p.exit_state != EXIT_ZOMBIE:
        return False
    dead = not thread_group_leader(p)
    if not dead and thread_group_empty(p):
        if not same_thread_group(p.real_parent, tracer):
            dead = notify_.do_notify_parent(p, p.exit_signal)
        elif ignoring_children(tracer.sighand):
            exit_.__wake_up_parent(p, tracer)
            dead = True
    # Mark it as in the process of being reaped.
    if dead:
        exit_.set_exit_state(p, EXIT_DEAD)
    return dead


def ptrace_detach(child: Task, data: int) -> int:
    """Let a task go, with a signal if `data` is one: 0, -EIO."""
    m = machine.cur
    if not 0 <= data <= _NSIG:
        return -EIO
    # Not modelled: ptrace_disable(): single steps.
    write_lock_irq(m.tasklist_lock)
    # It is frozen: it can't be killed and untraced by another thread, it can't be a zombie.
    assert child.ptrace, f"{child} is not traced"
    assert not child.exit_state, f"{child} is dead"
    child.exit_code = data
    __ptrace_detach(m.cpu.curr, child)
    write_unlock_irq(m.tasklist_lock)
    return 0


def exit_ptrace(tracer: Task, dead: ListHead) -> None:
    """Let all go whom a dying task traces; those that nobody will reap are put on the list.

    Context: tasklist_lock held for writing.
    """
    for p in list_for_each_entry_safe(tracer.ptraced):
        if p.ptrace & PT_EXITKILL:
            send.send_sig_info(SIGKILL, SEND_SIG_FORCED, p)
        if __ptrace_detach(tracer, p):
            list_add(p.ptrace_entry, dead)
