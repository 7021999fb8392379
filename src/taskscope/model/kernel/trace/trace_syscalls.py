"""The events syscalls:sys_enter_x and sys_exit_x (kernel/trace/trace_syscalls.c, v4.19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.model.include.linux.trace_events import Abi, TraceEventCall
    from taskscope.model.machine import Machine


def syscall_event_calls(cur: Machine, abi: Abi, ids: dict[tuple[str, str], int]) -> list[TraceEventCall]:
    """Make the two events of each system call."""
    del cur, abi, ids
    return []
