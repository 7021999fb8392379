"""What a tracer asks of a task that is stopped for it: the second half of kernel/ptrace.c, v4.19: ptrace(2)."""

from __future__ import annotations

from errno import EFAULT, EINVAL, EIO, ESRCH
from typing import Any, Final

import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace.attach as attach
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.send as send
import taskscope.model.kernel.signal.trap as trap
from taskscope.model import machine
from taskscope.model.include.linux.ptrace import (
    PT_OPT_FLAG_SHIFT,
    PT_SEIZED,
    PTRACE_ATTACH,
    PTRACE_CONT,
    PTRACE_DETACH,
    PTRACE_EVENT_STOP,
    PTRACE_EVENTMSG_SYSCALL_ENTRY,
    PTRACE_EVENTMSG_SYSCALL_EXIT,
    PTRACE_GET_SYSCALL_INFO,
    PTRACE_GETEVENTMSG,
    PTRACE_GETSIGINFO,
    PTRACE_GETSIGMASK,
    PTRACE_INTERRUPT,
    PTRACE_KILL,
    PTRACE_LISTEN,
    PTRACE_O_MASK,
    PTRACE_OLDSETOPTIONS,
    PTRACE_PEEKDATA,
    PTRACE_PEEKSIGINFO,
    PTRACE_PEEKSIGINFO_SHARED,
    PTRACE_PEEKTEXT,
    PTRACE_POKEDATA,
    PTRACE_POKETEXT,
    PTRACE_SEIZE,
    PTRACE_SETOPTIONS,
    PTRACE_SETSIGINFO,
    PTRACE_SETSIGMASK,
    PTRACE_SYSCALL,
    PTRACE_SYSCALL_INFO_ENTRY,
    PTRACE_SYSCALL_INFO_EXIT,
    PTRACE_SYSCALL_INFO_NONE,
    PTRACE_SYSEMU,
    PTRACE_TRACEME,
    PtraceSyscallInfo,
    task_pt_regs,
)
from taskscope.model.include.linux.sched import (
    __TASK_TRACED,
    Task,
)
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_LISTENING,
    JOBCTL_TRACED,
    JOBCTL_TRAP_NOTIFY,
    JOBCTL_TRAP_STOP,
    SEND_SIG_NOINFO,
    SIG_KERNEL_ONLY_MASK,
    Siginfo,
    thread_group_empty,
)
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct
from taskscope.model.include.linux.spinlock import (
    spin_lock_irq,
    spin_unlock_irq,
)
from taskscope.model.include.linux.thread_info import (
    clear_task_syscall_work,
    set_task_syscall_work,
)
from taskscope.model.include.linux.uaccess import get_user, put_user

SIGTRAP: Final = 5
SIGKILL: Final = 9
_NSIG: Final = 64
_SUID_DUMP_USER: Final = 1
_SIGSET_SIZE: Final = 8


def ptrace_setoptions(child: Task, data: int) -> int:
    """PTRACE_SETOPTIONS."""
    retval = attach.check_ptrace_options(data)
    if retval:
        return retval
    # Avoid intermediate state when all opts are cleared
    child.ptrace = child.ptrace & ~(PTRACE_O_MASK << PT_OPT_FLAG_SHIFT) | data << PT_OPT_FLAG_SHIFT
    return 0


def copy_siginfo(info: Siginfo) -> Siginfo:
    """Return a copy (include/linux/signal.h)."""
    new = Siginfo(info.si_signo, info.si_code)
    for name in Siginfo.__slots__:
        setattr(new, name, getattr(info, name))
    return new


def ptrace_getsiginfo(child: Task, ptr: Any) -> int:
    """PTRACE_GETSIGINFO: -EINVAL in a group stop of a task that is not seized, which has none."""
    if child.sighand is None:
        return -ESRCH
    if child.last_siginfo is None:
        return -EINVAL
    return -EFAULT if put_user(copy_siginfo(child.last_siginfo), ptr) else 0


def ptrace_setsiginfo(child: Task, info: Any) -> int:
    """PTRACE_SETSIGINFO; `info` is a `Siginfo`, or a pointer to one."""
    if not isinstance(info, Siginfo):
        info = get_user(info)
        if not isinstance(info, Siginfo):
            return -EFAULT
    if child.sighand is None:
        return -ESRCH
    if child.last_siginfo is None:
        return -EINVAL
    for name in Siginfo.__slots__:
        setattr(child.last_siginfo, name, getattr(info, name))
    return 0


def ptrace_peek_siginfo(child: Task, arg: Any, ptr: Any) -> int:
    """PTRACE_PEEKSIGINFO: how many of the queued signals were stored as a list.

    :param arg: struct ptrace_peeksiginfo_args: (off, flags, nr)
    """
    if not isinstance(arg, (tuple, list)) or len(arg) != 3:
        return -EFAULT
    off, flags, nr = arg
    if flags & ~PTRACE_PEEKSIGINFO_SHARED or nr < 0:
        return -EINVAL
    pending = child.signal.shared_pending if flags & PTRACE_PEEKSIGINFO_SHARED else child.pending
    found: list[Siginfo] = []
    node = pending.list.next
    while node is not pending.list and len(found) < nr:
        if off:
            off -= 1
        else:
            found.append(copy_siginfo(node.owner.info))
        node = node.next
    return -EFAULT if found and put_user(found, ptr) else len(found)


def ptrace_sigmask(child: Task, request: int, addr: int, data: Any) -> int:
    """PTRACE_GETSIGMASK, PTRACE_SETSIGMASK; a set is an integer."""
    if addr != _SIGSET_SIZE:
        return -EINVAL
    if request == PTRACE_GETSIGMASK:
        # test_tsk_restore_sigmask()
        restore = child.restore_sigmask or child.thread_info.flags & machine.cur.tif.RESTORE_SIGMASK
        mask = child.saved_sigmask if restore else child.blocked
        return -EFAULT if put_user(mask, data) else 0
    new_set = data if isinstance(data, int) else get_user(data)
    if new_set < 0:
        return -EFAULT
    # Every thread does recalc_sigpending() after resume.
    assert child.sighand is not None
    spin_lock_irq(child.sighand.siglock)
    child.blocked = new_set & ~SIG_KERNEL_ONLY_MASK
    spin_unlock_irq(child.sighand.siglock)
    # clear_tsk_restore_sigmask()
    child.restore_sigmask = False
    child.thread_info.flags &= ~machine.cur.tif.RESTORE_SIGMASK
    return 0


def ptrace_access_vm(child: Task) -> dict[int, Any] | None:
    """Return the words of a task's memory; None if the caller may not touch them."""
    mm = child.mm
    if mm is None or not child.ptrace or machine.cur.cpu.curr is not child.parent:
        return None
    if mm.dumpable != _SUID_DUMP_USER and not attach.ptracer_capable(child):
        return None
    words: dict[int, Any] = mm.words
    return words


def generic_ptrace_peekdata(child: Task, addr: int, data: Any) -> int:
    """PTRACE_PEEKDATA: a word of the memory that system calls write; -EIO where none stands.

    Text, data and stack of a program in Python are not in the machine's memory: nothing is mapped there.
    """
    words = ptrace_access_vm(child)
    if words is None or addr not in words:
        return -EIO
    return put_user(words[addr], data)


def generic_ptrace_pokedata(child: Task, addr: int, data: Any) -> int:
    """PTRACE_POKEDATA, to where a word stands."""
    words = ptrace_access_vm(child)
    if words is None or addr not in words:
        return -EIO
    words[addr] = data
    return 0


def ptrace_get_syscall_info(child: Task, user_size: int, ptr: Any) -> int:
    """PTRACE_GET_SYSCALL_INFO (v5.3): store a `PtraceSyscallInfo`; how many bytes the structure has.

    :param user_size: bytes that the caller has room for
    """
    info = PtraceSyscallInfo(PTRACE_SYSCALL_INFO_NONE, machine.cur.arch.AUDIT_ARCH)
    actual_size = 24
    # This does not need lock_task_sighand() to access child->last_siginfo: the child is frozen.
    siginfo = child.last_siginfo
    regs = task_pt_regs(child)
    if siginfo is not None and siginfo.si_code == SIGTRAP | 0x80 and regs is not None:
        if child.ptrace_message == PTRACE_EVENTMSG_SYSCALL_ENTRY:
            info.op = PTRACE_SYSCALL_INFO_ENTRY
            info.nr = regs.nr
            info.args = regs.words()
            actual_size = 80
        elif child.ptrace_message == PTRACE_EVENTMSG_SYSCALL_EXIT:
            info.op = PTRACE_SYSCALL_INFO_EXIT
            info.rval = regs.ret
            info.is_error = int(-4095 <= regs.ret < 0)
            actual_size = 33
    if user_size > 0 and put_user(info, ptr):
        return -EFAULT
    return actual_size


def ptrace_resume(child: Task, request: int, data: int) -> int:
    """Let a stopped task go on, with a signal if `data` is one: 0, -EIO."""
    if not 0 <= data <= _NSIG:
        return -EIO
    bits = machine.cur.syscall_work_bits
    if request == PTRACE_SYSCALL:
        set_task_syscall_work(child, bits.SYSCALL_TRACE)
    else:
        clear_task_syscall_work(child, bits.SYSCALL_TRACE)
    if request == PTRACE_SYSEMU:
        set_task_syscall_work(child, bits.SYSCALL_EMU)
    else:
        clear_task_syscall_work(child, bits.SYSCALL_EMU)
    # Change ->exit_code and ->state under siglock to avoid the race with wait_task_stopped() in between; a non-zero
    # ->exit_code will wrongly look like another report from tracee.
    need_siglock = bool(data) and not thread_group_empty(machine.cur.cpu.curr)
    assert child.sighand is not None
    if need_siglock:
        spin_lock_irq(child.sighand.siglock)
    child.exit_code = data
    child.jobctl &= ~JOBCTL_TRACED
    sched_core.wake_up_state(child, __TASK_TRACED)
    if need_siglock:
        spin_unlock_irq(child.sighand.siglock)
    return 0


def ptrace_interrupt(child: Task) -> int:
    """PTRACE_INTERRUPT: at least one trap follows, without any effect on signals or job control."""
    if not child.ptrace & PT_SEIZED or child.sighand is None:
        return -EIO
    spin_lock_irq(child.sighand.siglock)
    # INTERRUPT doesn't disturb existing trap sans one exception.  If ptracer issued LISTEN for the current STOP, this
    # INTERRUPT should clear LISTEN and re-trap tracee into STOP.
    if send.task_set_jobctl_pending(child, JOBCTL_TRAP_STOP):
        trap.ptrace_signal_wake_up(child, bool(child.jobctl & JOBCTL_LISTENING))
    spin_unlock_irq(child.sighand.siglock)
    return 0


def ptrace_listen(child: Task) -> int:
    """PTRACE_LISTEN: leave the task in its group's stop, and let it report what happens to that."""
    if not child.ptrace & PT_SEIZED or child.sighand is None:
        return -EIO
    ret = -EIO
    spin_lock_irq(child.sighand.siglock)
    si = child.last_siginfo
    if si is not None and si.si_code >> 8 == PTRACE_EVENT_STOP:
        child.jobctl |= JOBCTL_LISTENING
        # If NOTIFY is set, it means event happened between start of this trap and now.  Trigger re-trap.
        if child.jobctl & JOBCTL_TRAP_NOTIFY:
            trap.ptrace_signal_wake_up(child, True)
        ret = 0
    spin_unlock_irq(child.sighand.siglock)
    return ret


def ptrace_request(child: Task, request: int, addr: Any, data: Any) -> int:
    """Serve the requests that are the same on every architecture; -EIO for one that is none.

    PTRACE_SINGLESTEP is none on 32-bit ARM since v3.0; x86 has it, but a program in Python has no instructions to step.
    The same holds for register sets, breakpoints and seccomp filters: nothing here that they could show.
    """
    m = machine.cur
    if request in (PTRACE_CONT, PTRACE_SYSCALL) or (request == PTRACE_SYSEMU and m.syscall_work_bits.SYSCALL_EMU):
        return ptrace_resume(child, request, data)
    if request in (PTRACE_PEEKTEXT, PTRACE_PEEKDATA):
        return generic_ptrace_peekdata(child, addr, data)
    if request in (PTRACE_POKETEXT, PTRACE_POKEDATA):
        return generic_ptrace_pokedata(child, addr, data)
    if request in (PTRACE_SETOPTIONS, PTRACE_OLDSETOPTIONS):
        return ptrace_setoptions(child, data)
    if request == PTRACE_GETEVENTMSG:
        return put_user(child.ptrace_message, data)
    if request == PTRACE_PEEKSIGINFO:
        return ptrace_peek_siginfo(child, addr, data)
    if request == PTRACE_GETSIGINFO:
        return ptrace_getsiginfo(child, data)
    if request == PTRACE_SETSIGINFO:
        return ptrace_setsiginfo(child, data)
    if request in (PTRACE_GETSIGMASK, PTRACE_SETSIGMASK):
        return ptrace_sigmask(child, request, addr, data)
    if request == PTRACE_INTERRUPT:
        return ptrace_interrupt(child)
    if request == PTRACE_LISTEN:
        return ptrace_listen(child)
    if request == PTRACE_DETACH:
        return attach.ptrace_detach(child, data)
    if request == PTRACE_GET_SYSCALL_INFO and m.flavour.switches.ptrace_syscall_info:
        return ptrace_get_syscall_info(child, addr, data)
    if request == PTRACE_KILL:
        if m.flavour.switches.ptrace_kill_sends:
            send.send_sig_info(SIGKILL, SEND_SIG_NOINFO, child)
            return 0
        # Good for a stopped task only: any other gets a status that its next stop overwrites.
        return 0 if child.exit_state else ptrace_resume(child, request, SIGKILL)
    return -EIO


def sys_ptrace(request: int, pid: int, addr: Any = 0, data: Any = 0) -> int:
    """ptrace(2)."""
    if request == PTRACE_TRACEME:
        return attach.ptrace_traceme()
    # find_get_task_by_vpid()
    child = pid_.find_task_by_vpid(pid)
    if child is None:
        return -ESRCH
    get_task_struct(child)
    if request in (PTRACE_ATTACH, PTRACE_SEIZE):
        ret = attach.ptrace_attach(child, request, addr, data)
    else:
        ret = attach.ptrace_check_attach(child, request in (PTRACE_KILL, PTRACE_INTERRUPT))
        if ret >= 0:
            ret = machine.cur.arch.arch_ptrace(child, request, addr, data)
            if ret or request != PTRACE_DETACH:
                attach.ptrace_unfreeze_traced(child)
    put_task_struct(child)
    return ret
