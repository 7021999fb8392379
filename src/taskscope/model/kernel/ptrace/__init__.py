"""Tracing another task: kernel/ptrace.c, include/linux/ptrace.h, v4.19.

The C file in two, `attach` and `request`, and the header's functions in `event`.  They are called by this name, as in
C; how a task stops for its tracer is in kernel/signal/trap.py.
"""

from __future__ import annotations

from taskscope.model.kernel.ptrace.attach import (
    __ptrace_link,
    __ptrace_may_access,
    __ptrace_unlink,
    check_ptrace_options,
    exit_ptrace,
    ptrace_attach,
    ptrace_check_attach,
    ptrace_detach,
    ptrace_init_task,
    ptrace_link,
    ptrace_may_access,
    ptrace_release_task,
    ptrace_traceme,
    ptrace_unfreeze_traced,
    ptrace_unlink,
    ptracer_capable,
)
from taskscope.model.kernel.ptrace.event import (
    ptrace_event,
    ptrace_event_pid,
    ptrace_report_syscall,
    tracehook_report_syscall_entry,
    tracehook_report_syscall_exit,
)
from taskscope.model.kernel.ptrace.request import ptrace_request, ptrace_resume, sys_ptrace

__all__ = [
    "__ptrace_link",
    "__ptrace_may_access",
    "__ptrace_unlink",
    "check_ptrace_options",
    "exit_ptrace",
    "ptrace_attach",
    "ptrace_check_attach",
    "ptrace_detach",
    "ptrace_event",
    "ptrace_event_pid",
    "ptrace_init_task",
    "ptrace_link",
    "ptrace_may_access",
    "ptrace_release_task",
    "ptrace_report_syscall",
    "ptrace_request",
    "ptrace_resume",
    "ptrace_traceme",
    "ptrace_unfreeze_traced",
    "ptrace_unlink",
    "ptracer_capable",
    "sys_ptrace",
    "tracehook_report_syscall_entry",
    "tracehook_report_syscall_exit",
]
