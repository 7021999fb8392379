"""ptrace(2): requests, events and options (include/uapi/linux/ptrace.h; the low requests are the architecture's)."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class PtraceRequest(IntEnum):
    """The first argument of ptrace(2)."""

    PTRACE_TRACEME = 0
    PTRACE_PEEKTEXT = 1
    PTRACE_PEEKDATA = 2
    PTRACE_PEEKUSR = 3
    PTRACE_POKETEXT = 4
    PTRACE_POKEDATA = 5
    PTRACE_POKEUSR = 6
    PTRACE_CONT = 7
    PTRACE_KILL = 8
    PTRACE_SINGLESTEP = 9               # not on 32-bit ARM
    PTRACE_ATTACH = 16
    PTRACE_DETACH = 17
    PTRACE_OLDSETOPTIONS = 21
    PTRACE_SET_SYSCALL = 23             # 32-bit ARM only
    PTRACE_SYSCALL = 24
    PTRACE_SYSEMU = 31                  # x86 only
    PTRACE_SETOPTIONS = 0x4200
    PTRACE_GETEVENTMSG = 0x4201
    PTRACE_GETSIGINFO = 0x4202
    PTRACE_SETSIGINFO = 0x4203
    PTRACE_SEIZE = 0x4206               # v3.4
    PTRACE_INTERRUPT = 0x4207
    PTRACE_LISTEN = 0x4208
    PTRACE_PEEKSIGINFO = 0x4209         # v3.10
    PTRACE_GETSIGMASK = 0x420A          # v3.11
    PTRACE_SETSIGMASK = 0x420B
    PTRACE_GET_SYSCALL_INFO = 0x420E    # v5.3


class PtraceEvent(IntEnum):
    """What a stopped task reports, in the third byte of the wait status."""

    PTRACE_EVENT_FORK = 1
    PTRACE_EVENT_VFORK = 2
    PTRACE_EVENT_CLONE = 3
    PTRACE_EVENT_EXEC = 4
    PTRACE_EVENT_VFORK_DONE = 5
    PTRACE_EVENT_EXIT = 6
    PTRACE_EVENT_SECCOMP = 7
    PTRACE_EVENT_STOP = 128             # of PTRACE_SEIZE


class PtraceOption(IntFlag):
    """What PTRACE_SETOPTIONS and PTRACE_SEIZE take."""

    PTRACE_O_TRACESYSGOOD = 1
    PTRACE_O_TRACEFORK = 1 << 1
    PTRACE_O_TRACEVFORK = 1 << 2
    PTRACE_O_TRACECLONE = 1 << 3
    PTRACE_O_TRACEEXEC = 1 << 4
    PTRACE_O_TRACEVFORKDONE = 1 << 5
    PTRACE_O_TRACEEXIT = 1 << 6
    PTRACE_O_TRACESECCOMP = 1 << 7
    PTRACE_O_EXITKILL = 1 << 20         # v3.8
    PTRACE_O_SUSPEND_SECCOMP = 1 << 21  # v4.3


class SyscallStop(IntEnum):
    """struct ptrace_syscall_info.op (v5.3)."""

    PTRACE_SYSCALL_INFO_NONE = 0
    PTRACE_SYSCALL_INFO_ENTRY = 1
    PTRACE_SYSCALL_INFO_EXIT = 2
    PTRACE_SYSCALL_INFO_SECCOMP = 3
