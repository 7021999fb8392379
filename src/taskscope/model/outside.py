"""Looking at a machine from outside: its files, its trace events, and the stack of what runs when a probe is called.

As a debugger does: nothing here takes virtual time or is done by a task of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from stat import S_ISBLK
from types import FrameType

from taskscope.abi.syscalls import call_of_name
from taskscope.errors import UsageError
from taskscope.model.fs import file_table, namei
from taskscope.model.include.linux.fs import File
from taskscope.model.include.linux.sched_task_stack import kernel_depth, task_sp
from taskscope.model.kernel import kallsyms, stacktrace
from taskscope.model.kernel.trace import trace, trace_events
from taskscope.model.machine import Machine


def _failed(error: int, path: str) -> OSError:
    return OSError(-error, os.strerror(-error), path)


@contextmanager
def opened(m: Machine, path: str, flags: int) -> Iterator[File]:
    """Open a file as root, from the root, whatever task happens to run.

    :raises OSError: as open(2) would on the machine
    """
    cpu, before = m.cpu, m.cpu.curr
    fs = m.init_task.fs
    cpu.curr, m.init_task.fs = m.init_task, m.init_fs
    try:
        f = namei.do_filp_open(path, flags, 0o644)
        if isinstance(f, int):
            raise _failed(f, path)
        try:
            yield f
        finally:
            file_table.__fput_sync(f)
    finally:
        cpu.curr, m.init_task.fs = before, fs


def read_file(m: Machine, path: str) -> bytes:
    """Return the contents of a file.

    :raises OSError: as open(2) or read(2) would on the machine
    """
    parts: list[bytes] = []
    with opened(m, path, os.O_RDONLY) as f:
        if S_ISBLK(f.f_inode.i_mode):
            raise _failed(-95, path)        # EOPNOTSUPP: the device answers a task of the machine, by an interrupt
        if f.f_op.read is None:
            raise _failed(-21, path)        # EISDIR
        while True:
            part = f.f_op.read(f, 1 << 20)
            if isinstance(part, int):
                raise _failed(part, path)
            if not part:
                return b"".join(parts)
            parts.append(part)


def write_file(m: Machine, path: str, data: bytes, append: bool) -> None:
    """Write a file: ``>``, or ``>>`` with `append`.

    :raises OSError: as open(2) or write(2) would on the machine
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    with opened(m, path, flags) as f:
        if S_ISBLK(f.f_inode.i_mode):
            raise _failed(-95, path)
        result = -22 if f.f_op.write is None else f.f_op.write(f, data)     # EINVAL
        # A task that this has woken on the executing CPU would be looked for at the end of the interrupt or system call
        # that woke it; there is none.
        if m.cpu.curr.thread_info.flags & m.tif_need_resched or m.cpu.idle.thread_info.flags & m.tif_need_resched:
            m.send_ipi(m.cpu, m.ipi_reschedule)
        if result < 0:
            raise _failed(result, path)


def switch_events_on(m: Machine, events: Sequence[str]) -> None:
    """Switch trace events on; with none, those of sched, task and signal, and what was passed to exit().

    :raises UsageError: the kernel has no such event
    """
    tr = trace.top_trace_array(m)
    if not events:
        # No event of sched tells an exit code.
        calls = [call_of_name(m.flavour.machine, name) for name in ("exit_group", "exit")]
        trace_events.ftrace_set_clr_event(tr, "raw_syscalls:sys_enter", True)
        trace_events.apply_event_filter(
            tr.events["raw_syscalls", "sys_enter"], " || ".join(f"id == {c.number}" for c in calls if c is not None)
        )
    for event in events or ("sched:*", "task:*", "signal:*"):
        system, _, name = event.partition(":")
        found = trace_events.set_event(tr, None if system == "*" else system, None if name in ("", "*") else name, True)
        if found:
            raise UsageError(f"this kernel has no event {event}")


def kernel_frame(m: Machine, frame: FrameType) -> tuple[FrameType, str | None]:
    """Return the innermost frame of the kernel, and the name of the function at whose entry a probe stands.

    Between `frame` and the kernel stand the probe's own frames, and for a probe on a function the stub in its place.
    """
    table = kallsyms.kallsyms(m)
    entered: str | None = None
    while frame.f_back is not None:
        symbol = table.by_code.get(id(frame.f_code))
        if symbol is not None and not symbol.notrace:
            break
        if frame.f_code.co_filename == "<ftrace>":
            entered = kallsyms.symbol_name(frame.f_code.co_name, m)
        frame = frame.f_back
    return frame, entered


def running_stack(m: Machine, frame: FrameType) -> list[str]:
    """Return the call stack of the task that runs, innermost function first, for a probe whose frame is given."""
    frame, entered = kernel_frame(m, frame)
    names = [kallsyms.sprint_symbol(m, kallsyms.kallsyms(m).by_name[entered].address)] if entered else []
    return names + [kallsyms.sprint_symbol(m, address) for address in stacktrace.save_stack_trace(m, frame)]


def sample_sp(m: Machine, frame: FrameType) -> int:
    """Set the executing CPU's stack pointer to what it is in the kernel function that was entered."""
    frame, entered = kernel_frame(m, frame)
    m.cpu.sp = task_sp(m.cpu.curr, kernel_depth(frame) + bool(entered))
    return m.cpu.sp
