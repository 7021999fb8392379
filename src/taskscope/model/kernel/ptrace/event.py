"""What the kernel tells a tracer: the inline functions of include/linux/ptrace.h and tracehook.h, v4.19.

Called where the event happens: in fork, exec, exit, and where system calls take the long way (arch/*/kernel/ptrace.py).
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.send as send
import taskscope.model.kernel.signal.trap as trap
from taskscope.model import machine
from taskscope.model.include.linux.ptrace import (
    PT_PTRACED,
    PT_SEIZED,
    PT_TRACESYSGOOD,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENTMSG_SYSCALL_ENTRY,
    PTRACE_EVENTMSG_SYSCALL_EXIT,
    ptrace_event_enabled,
)

SIGTRAP: Final = 5


def ptrace_event(event: int, message: int) -> None:
    """Stop for an event that the tracer asked for; one that is not seized gets a SIGTRAP for an execve() anyway."""
    current = machine.cur.cpu.curr
    if ptrace_event_enabled(current, event):
        trap.ptrace_notify(event << 8 | SIGTRAP, message)
    elif event == PTRACE_EVENT_EXEC and current.ptrace & (PT_PTRACED | PT_SEIZED) == PT_PTRACED:
        # legacy EXEC report via SIGTRAP
        send.send_sig(SIGTRAP, current, False)


def ptrace_event_pid(event: int, pid: Any) -> None:
    """Stop for an event that is about a task; PTRACE_GETEVENTMSG tells its number as the tracer knows it."""
    current = machine.cur.cpu.curr
    ptrace_event(event, pid_.pid_nr_ns(pid, pid_.task_active_pid_ns(current.parent)))


def ptrace_report_syscall(message: int) -> bool:
    """Stop at a system call; tell whether the task has to die.

    :param message: PTRACE_EVENTMSG_SYSCALL_ENTRY or _EXIT (v5.3)
    """
    m = machine.cur
    current = m.cpu.curr
    ptrace = current.ptrace
    if not ptrace & PT_PTRACED:
        return False
    signr = trap.ptrace_notify(
        SIGTRAP | (0x80 if ptrace & PT_TRACESYSGOOD else 0),
        message if m.flavour.switches.ptrace_syscall_info else None,
    )
    # This isn't the same as continuing with a signal, but it will do for normal use.  strace only continues with a
    # signal if the stopping signal is not SIGTRAP.
    if signr:
        send.send_sig(signr, current, True)
        current.exit_code = 0
    return send.fatal_signal_pending(current)


def tracehook_report_syscall_entry() -> bool:
    """Stop before a system call; True: do not make it.  ptrace_report_syscall_entry() since v5.18."""
    return ptrace_report_syscall(PTRACE_EVENTMSG_SYSCALL_ENTRY)


def tracehook_report_syscall_exit() -> None:
    """Stop after a system call.  ptrace_report_syscall_exit() since v5.18."""
    ptrace_report_syscall(PTRACE_EVENTMSG_SYSCALL_EXIT)
