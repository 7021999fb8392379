"""The events raw_syscalls:sys_enter and sys_exit: include/trace/events/syscalls.h, v4.19 (unchanged until v6.18).

The system ``syscalls``, with an event for each call, is made of the same two tracepoints in
kernel/trace/trace_syscalls.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events


def trace_sys_enter(regs: Sequence[Any], id: int) -> None:
    """Trace the entry of a system call.

    :param regs: its arguments, as the program gave them: what syscall_get_arguments() reads from the registers
    """
    probes = machine.cur.tp.sys_enter
    if probes:
        for probe, data in probes:
            probe(data, regs, id)


def trace_sys_exit(regs: Any, ret: int, id: int) -> None:
    """Trace the return of a system call.

    :param regs: as for `trace_sys_enter`; the record has nothing of them
    :param id: its number, which the kernel finds in the registers
    """
    del regs
    probes = machine.cur.tp.sys_exit
    if probes:
        for probe, data in probes:
            probe(data, ret, id)


def trace_event_raw_event_sys_enter(file: TraceEventFile, regs: Sequence[Any], id: int) -> None:
    """Write the record of a call."""
    trace_events.trace_event_buffer_commit(file, (id, *trace_events.syscall_get_arguments(machine.cur, regs)))


def trace_event_raw_event_sys_exit(file: TraceEventFile, ret: int, id: int) -> None:
    """Write the record of a return."""
    trace_events.trace_event_buffer_commit(file, (id, ret))


def trace_raw_output_sys_enter(v: Any) -> str:
    """Print a call."""
    return f"NR {v[0]} (" + ", ".join(f"{x:x}" for x in v[1:]) + ")"


EVENTS: Final = (
    Declaration(
        "raw_syscalls",
        "sys_enter",
        "long id; unsigned long args[6]",
        '"NR %ld (%lx, %lx, %lx, %lx, %lx, %lx)", REC->id, ' + ", ".join(f"REC->args[{i}]" for i in range(6)),
        trace_event_raw_event_sys_enter,
        trace_raw_output_sys_enter,
    ),
    Declaration(
        "raw_syscalls",
        "sys_exit",
        "long id; long ret",
        '"NR %ld = %ld", REC->id, REC->ret',
        trace_event_raw_event_sys_exit,
        None,
    ),
)
