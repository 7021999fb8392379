"""What a tracer asks for, and what task_struct.ptrace holds: include/linux/ptrace.h, uapi/linux/ptrace.h, v4.19.

The calls are served by kernel/ptrace.py; how a task stops for its tracer is in kernel/signal/trap.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.abi.ptrace import PtraceEvent, PtraceOption, PtraceRequest, SyscallStop
from taskscope.model import machine
from taskscope.model.include.linux.sched import __TASK_STOPPED, __TASK_TRACED, same_thread_group
from taskscope.model.include.linux.sched_signal import JOBCTL_STOPPED, JOBCTL_TRACED

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

# Plain integers: some of these are tested at every fork, exec and exit.
PTRACE_TRACEME: Final = int(PtraceRequest.PTRACE_TRACEME)
PTRACE_PEEKTEXT: Final = int(PtraceRequest.PTRACE_PEEKTEXT)
PTRACE_PEEKDATA: Final = int(PtraceRequest.PTRACE_PEEKDATA)
PTRACE_PEEKUSR: Final = int(PtraceRequest.PTRACE_PEEKUSR)
PTRACE_POKETEXT: Final = int(PtraceRequest.PTRACE_POKETEXT)
PTRACE_POKEDATA: Final = int(PtraceRequest.PTRACE_POKEDATA)
PTRACE_POKEUSR: Final = int(PtraceRequest.PTRACE_POKEUSR)
PTRACE_CONT: Final = int(PtraceRequest.PTRACE_CONT)
PTRACE_KILL: Final = int(PtraceRequest.PTRACE_KILL)
PTRACE_ATTACH: Final = int(PtraceRequest.PTRACE_ATTACH)
PTRACE_DETACH: Final = int(PtraceRequest.PTRACE_DETACH)
PTRACE_OLDSETOPTIONS: Final = int(PtraceRequest.PTRACE_OLDSETOPTIONS)
PTRACE_SET_SYSCALL: Final = int(PtraceRequest.PTRACE_SET_SYSCALL)
PTRACE_SYSCALL: Final = int(PtraceRequest.PTRACE_SYSCALL)
PTRACE_SYSEMU: Final = int(PtraceRequest.PTRACE_SYSEMU)
PTRACE_SETOPTIONS: Final = int(PtraceRequest.PTRACE_SETOPTIONS)
PTRACE_GETEVENTMSG: Final = int(PtraceRequest.PTRACE_GETEVENTMSG)
PTRACE_GETSIGINFO: Final = int(PtraceRequest.PTRACE_GETSIGINFO)
PTRACE_SETSIGINFO: Final = int(PtraceRequest.PTRACE_SETSIGINFO)
PTRACE_SEIZE: Final = int(PtraceRequest.PTRACE_SEIZE)
PTRACE_INTERRUPT: Final = int(PtraceRequest.PTRACE_INTERRUPT)
PTRACE_LISTEN: Final = int(PtraceRequest.PTRACE_LISTEN)
PTRACE_PEEKSIGINFO: Final = int(PtraceRequest.PTRACE_PEEKSIGINFO)
PTRACE_GETSIGMASK: Final = int(PtraceRequest.PTRACE_GETSIGMASK)
PTRACE_SETSIGMASK: Final = int(PtraceRequest.PTRACE_SETSIGMASK)
PTRACE_GET_SYSCALL_INFO: Final = int(PtraceRequest.PTRACE_GET_SYSCALL_INFO)

PTRACE_EVENT_FORK: Final = int(PtraceEvent.PTRACE_EVENT_FORK)
PTRACE_EVENT_VFORK: Final = int(PtraceEvent.PTRACE_EVENT_VFORK)
PTRACE_EVENT_CLONE: Final = int(PtraceEvent.PTRACE_EVENT_CLONE)
PTRACE_EVENT_EXEC: Final = int(PtraceEvent.PTRACE_EVENT_EXEC)
PTRACE_EVENT_VFORK_DONE: Final = int(PtraceEvent.PTRACE_EVENT_VFORK_DONE)
PTRACE_EVENT_EXIT: Final = int(PtraceEvent.PTRACE_EVENT_EXIT)
PTRACE_EVENT_STOP: Final = int(PtraceEvent.PTRACE_EVENT_STOP)

PTRACE_O_TRACESYSGOOD: Final = int(PtraceOption.PTRACE_O_TRACESYSGOOD)
PTRACE_O_EXITKILL: Final = int(PtraceOption.PTRACE_O_EXITKILL)
PTRACE_O_SUSPEND_SECCOMP: Final = int(PtraceOption.PTRACE_O_SUSPEND_SECCOMP)

PTRACE_SYSCALL_INFO_NONE: Final = int(SyscallStop.PTRACE_SYSCALL_INFO_NONE)
PTRACE_SYSCALL_INFO_ENTRY: Final = int(SyscallStop.PTRACE_SYSCALL_INFO_ENTRY)
PTRACE_SYSCALL_INFO_EXIT: Final = int(SyscallStop.PTRACE_SYSCALL_INFO_EXIT)

PTRACE_O_MASK: Final = 0xFF | PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP
PTRACE_PEEKSIGINFO_SHARED: Final = 1
#: what PTRACE_GETEVENTMSG tells of a system call stop (v5.3)
PTRACE_EVENTMSG_SYSCALL_ENTRY: Final = 1
PTRACE_EVENTMSG_SYSCALL_EXIT: Final = 2

# ---- task_struct.ptrace ----
PT_SEIZED: Final = 0x10000              # by PTRACE_SEIZE: the newer manner
PT_PTRACED: Final = 0x1
PT_OPT_FLAG_SHIFT: Final = 3
PT_TRACESYSGOOD: Final = PTRACE_O_TRACESYSGOOD << PT_OPT_FLAG_SHIFT
PT_EXITKILL: Final = PTRACE_O_EXITKILL << PT_OPT_FLAG_SHIFT

# ---- how ptrace_may_access() is asked ----
PTRACE_MODE_READ: Final = 0x01
PTRACE_MODE_ATTACH: Final = 0x02
PTRACE_MODE_FSCREDS: Final = 0x08
PTRACE_MODE_REALCREDS: Final = 0x10
PTRACE_MODE_READ_FSCREDS: Final = PTRACE_MODE_READ | PTRACE_MODE_FSCREDS
PTRACE_MODE_READ_REALCREDS: Final = PTRACE_MODE_READ | PTRACE_MODE_REALCREDS
PTRACE_MODE_ATTACH_REALCREDS: Final = PTRACE_MODE_ATTACH | PTRACE_MODE_REALCREDS


class PtraceSyscallInfo:
    """struct ptrace_syscall_info (v5.3): at which system call a task is stopped, and on which side of it.

    instruction_pointer and stack_pointer are 0: a program in Python has no such addresses.
    """

    __slots__ = ("arch", "args", "instruction_pointer", "is_error", "nr", "op", "rval", "stack_pointer")

    def __init__(self, op: int, arch: int) -> None:
        self.op = op                    # PTRACE_SYSCALL_INFO_*
        self.arch = arch                # AUDIT_ARCH_*
        self.instruction_pointer = 0
        self.stack_pointer = 0
        self.nr = 0                     # entry: the number of the call
        self.args: tuple[int, ...] = ()
        self.rval = 0                   # exit: what it returns
        self.is_error = 0


def pt_event_flag(event: int) -> int:
    """Return the bit of task_struct.ptrace that asks for an event (PT_EVENT_FLAG)."""
    return 1 << (PT_OPT_FLAG_SHIFT + event)


def ptrace_event_enabled(task: Task, event: int) -> bool:
    """Tell whether the tracer wants to hear of the event."""
    return bool(task.ptrace & pt_event_flag(event))


def ptrace_reparented(child: Task) -> bool:
    """Tell whether the tracer is another process than the creator."""
    return not same_thread_group(child.real_parent, child.parent)


def task_is_traced(task: Task) -> bool:
    """Tell whether the task is stopped for its tracer (include/linux/sched.h)."""
    if machine.cur.flavour.switches.traced_in_jobctl:
        return bool(task.jobctl & JOBCTL_TRACED)
    return bool(task.state & __TASK_TRACED)


def task_is_stopped(task: Task) -> bool:
    """Tell whether the task is stopped by job control (include/linux/sched.h)."""
    if machine.cur.flavour.switches.traced_in_jobctl:
        return bool(task.jobctl & JOBCTL_STOPPED)
    return bool(task.state & __TASK_STOPPED)


def task_pt_regs(task: Task) -> Any:
    """Return the registers with which the task entered the kernel; None where no program's call put any there.

    Kept only for calls that somebody watches: the others come and go by the short way.
    """
    return task.thread_info.regs
