"""The events syscalls:sys_enter_x and sys_exit_x (kernel/trace/trace_syscalls.c, v4.19).

All of an instance share one probe on each of the tracepoints sys_enter and sys_exit, which finds the event by the
number of the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from taskscope.abi import syscalls
from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Abi, Declaration, TraceEventCall, TraceEventFile
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register, tracepoint_probe_unregister
from taskscope.model.kernel.trace import trace_events
from taskscope.model.kernel.trace.syscalls_metadata import SyscallMetadata, syscalls_metadata

if TYPE_CHECKING:
    from taskscope.model.kernel.trace.trace import TraceArray
    from taskscope.model.machine import Machine

#: ids that recordings of Debian's 6.1 have shown; its other ids, and 4.19's, are made up, above all that are known
_IDS_61: Final = {"exit_group": 138, "kill": 173, "wait4": 134}
_MADE_UP: Final = 1400
#: names that the calls have in 4.19 to 6.18 beside those of their numbers
_NUMBER_NAMES: Final = {
    "newstat": "stat",
    "newlstat": "lstat",
    "newfstat": "fstat",
    "newuname": "uname",
    "umount": "umount2",
}


def syscall_event_calls(cur: Machine, abi: Abi) -> list[TraceEventCall]:
    """Make the two events of each system call that this kernel has."""
    calls = []
    for n, metadata in enumerate(syscalls_metadata()):
        if syscall_number(cur, metadata.name) is None:
            continue
        if cur.flavour.version >= (6, 2):
            enter = metadata.enter_id
        else:
            enter = _IDS_61.get(metadata.name, _MADE_UP + 2 * n) if cur.flavour.version >= (5, 0) else _MADE_UP + 2 * n
        calls.append(TraceEventCall(_exit_declaration(metadata), enter - 1, abi))
        calls.append(TraceEventCall(_enter_declaration(metadata, abi), enter, abi))
    return calls


def syscall_number(cur: Machine, name: str) -> int | None:
    """Return the number of a call on this architecture, None if it has no such call."""
    call = syscalls.call_of_name(cur.flavour.machine, _NUMBER_NAMES.get(name, name))
    return call.number if call is not None else None


def _enter_declaration(metadata: SyscallMetadata, abi: Abi) -> Declaration:
    # syscall_enter_define_fields(): each parameter takes an unsigned long, whatever its type says.
    at = 8 + abi.long_size
    fields = ["int __syscall_nr @8"]
    for c_type, name in zip(metadata.types, metadata.args, strict=True):
        fields.append(f"{c_type} {name} @{at} #unsigned long")
        at += abi.long_size
    text = ", ".join(f"{name}: 0x%0{abi.long_size}lx" for name in metadata.args)
    args = "".join(f", ((unsigned long)(REC->{name}))" for name in metadata.args)
    return Declaration(
        "syscalls",
        f"sys_enter_{metadata.name}",
        "; ".join(fields),
        f'"{text}"{args}',
        ftrace_syscall_enter,
        None,
        tracepoint="sys_enter",
    )


def _exit_declaration(metadata: SyscallMetadata) -> Declaration:
    return Declaration(
        "syscalls",
        f"sys_exit_{metadata.name}",
        "int __syscall_nr; long ret",
        '"0x%lx", REC->ret',
        ftrace_syscall_exit,
        None,
        tracepoint="sys_exit",
    )


def syscall_register(cur: Machine, file: TraceEventFile, wanted: bool) -> None:
    """Put an event into its instance's table of calls, or out of it; the first brings the probe, the last takes it."""
    tr: TraceArray = file.tr
    name = file.event_call.declaration.tracepoint
    table = tr.enter_syscall_files if name == "sys_enter" else tr.exit_syscall_files
    number = syscall_number(cur, file.event_call.name.split("_", 2)[2])
    assert number is not None
    probe = file.event_call.probe
    assert probe is not None
    before = bool(table)
    if wanted:
        table[number] = file
    else:
        del table[number]
    if table and not before:
        tracepoint_probe_register(cur.tp, name, probe, tr)
    elif before and not table:
        tracepoint_probe_unregister(cur.tp, name, probe, tr)


def ftrace_syscall_enter(tr: TraceArray, regs: Sequence[Any], id: int) -> None:
    """Write the record of a call, if its event is on."""
    file = tr.enter_syscall_files.get(id)
    if file is not None:
        words = trace_events.syscall_get_arguments(machine.cur, regs)[: len(file.event_call.fields) - 1]
        trace_events.trace_event_buffer_commit(file, (id, *words))


def ftrace_syscall_exit(tr: TraceArray, ret: int, id: int) -> None:
    """Write the record of a return, if its event is on."""
    file = tr.exit_syscall_files.get(id)
    if file is not None:
        trace_events.trace_event_buffer_commit(file, (id, ret))


def print_syscall(cur: Machine, event_call: TraceEventCall, values: tuple[Any, ...]) -> str:
    """Print a record as ``sys_kill(pid: 1, sig: 9)`` or ``sys_kill -> 0x0``; numbers from 10 on have 0x since v6.18."""
    name = "sys_" + event_call.name.split("_", 2)[2]
    if event_call.declaration.tracepoint == "sys_exit":
        mask = (1 << 8 * event_call.fields[1].size) - 1
        return f"{name} -> 0x{values[1] & mask:x}"
    prefix = cur.flavour.version >= (6, 18)
    return (
        f"{name}("
        + ", ".join(
            f"{f.name}: {'0x' if prefix and v >= 10 else ''}{v:x}"
            for f, v in zip(event_call.fields[1:], values[1:], strict=True)
        )
        + ")"
    )
