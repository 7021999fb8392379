"""What a tracer asks for, and what task_struct.ptrace holds: include/linux/ptrace.h, include/uapi/linux/ptrace.h, v4.19.

The calls are served by kernel/ptrace.py; how a task stops for its tracer is in kernel/signal/trap.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model.include.linux.sched import __TASK_STOPPED, __TASK_TRACED, same_thread_group

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

# ---- requests: the first argument of ptrace(2) ----
PTRACE_TRACEME: Final = 0
PTRACE_PEEKTEXT: Final = 1
PTRACE_PEEKDATA: Final = 2
PTRACE_PEEKUSR: Final = 3
PTRACE_POKETEXT: Final = 4
PTRACE_POKEDATA: Final = 5
PTRACE_POKEUSR: Final = 6
PTRACE_CONT: Final = 7
PTRACE_KILL: Final = 8
PTRACE_SINGLESTEP: Final = 9
PTRACE_GETREGS: Final = 12
PTRACE_SETREGS: Final = 13
PTRACE_ATTACH: Final = 16
PTRACE_DETACH: Final = 17
PTRACE_OLDSETOPTIONS: Final = 21
PTRACE_SET_SYSCALL: Final = 23          # 32-bit ARM
PTRACE_SYSCALL: Final = 24
PTRACE_SYSEMU: Final = 31               # x86
PTRACE_SYSEMU_SINGLESTEP: Final = 32
PTRACE_SETOPTIONS: Final = 0x4200
PTRACE_GETEVENTMSG: Final = 0x4201
PTRACE_GETSIGINFO: Final = 0x4202
PTRACE_SETSIGINFO: Final = 0x4203
PTRACE_SEIZE: Final = 0x4206
PTRACE_INTERRUPT: Final = 0x4207
PTRACE_LISTEN: Final = 0x4208
PTRACE_PEEKSIGINFO: Final = 0x4209
PTRACE_GETSIGMASK: Final = 0x420A
PTRACE_SETSIGMASK: Final = 0x420B
PTRACE_GET_SYSCALL_INFO: Final = 0x420E

PTRACE_PEEKSIGINFO_SHARED: Final = 1

# ---- what PTRACE_GETEVENTMSG tells of a system call stop (v5.3), and PTRACE_GET_SYSCALL_INFO of any ----
PTRACE_EVENTMSG_SYSCALL_ENTRY: Final = 1
PTRACE_EVENTMSG_SYSCALL_EXIT: Final = 2
PTRACE_SYSCALL_INFO_NONE: Final = 0
PTRACE_SYSCALL_INFO_ENTRY: Final = 1
PTRACE_SYSCALL_INFO_EXIT: Final = 2

# ---- events: the second byte of a wait status above the signal ----
PTRACE_EVENT_FORK: Final = 1
PTRACE_EVENT_VFORK: Final = 2
PTRACE_EVENT_CLONE: Final = 3
PTRACE_EVENT_EXEC: Final = 4
PTRACE_EVENT_VFORK_DONE: Final = 5
PTRACE_EVENT_EXIT: Final = 6
PTRACE_EVENT_SECCOMP: Final = 7
PTRACE_EVENT_STOP: Final = 128          # of PTRACE_SEIZE

# ---- options: set by PTRACE_SETOPTIONS and PTRACE_SEIZE ----
PTRACE_O_TRACESYSGOOD: Final = 1
PTRACE_O_TRACEFORK: Final = 1 << PTRACE_EVENT_FORK
PTRACE_O_TRACEVFORK: Final = 1 << PTRACE_EVENT_VFORK
PTRACE_O_TRACECLONE: Final = 1 << PTRACE_EVENT_CLONE
PTRACE_O_TRACEEXEC: Final = 1 << PTRACE_EVENT_EXEC
PTRACE_O_TRACEVFORKDONE: Final = 1 << PTRACE_EVENT_VFORK_DONE
PTRACE_O_TRACEEXIT: Final = 1 << PTRACE_EVENT_EXIT
PTRACE_O_TRACESECCOMP: Final = 1 << PTRACE_EVENT_SECCOMP
PTRACE_O_EXITKILL: Final = 1 << 20
PTRACE_O_SUSPEND_SECCOMP: Final = 1 << 21
PTRACE_O_MASK: Final = 0xFF | PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP

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
    return bool(task.state & __TASK_TRACED)


def task_is_stopped(task: Task) -> bool:
    """Tell whether the task is stopped by job control (include/linux/sched.h)."""
    return bool(task.state & __TASK_STOPPED)


def task_pt_regs(task: Task) -> Any:
    """Return the registers with which the task entered the kernel; None where no program's call put any there.

    Kept only for calls that somebody watches: the others come and go by the short way.
    """
    return task.thread_info.regs
