"""Call stacks, read off the stack of a task: kernel/stacktrace.c, arch/*/kernel/stacktrace.c, v4.19.

A frame of the model is a frame of the kernel: what stands on the task's greenlet is walked from the innermost function
outwards, to where user mode began.  Left out are what a compiler inlines (include/, helpers), tracing itself, and the
stubs of the function tracer.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

from taskscope.model.kernel import kallsyms

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task
    from taskscope.model.machine import Machine

_USER: Final = __file__.rpartition("/kernel/")[0] + "/user/"
#: where the code of the function tracer's stubs says that it is from
STUB: Final = "<ftrace>"
#: entries of a stack that is recorded (FTRACE_STACK_MAX_ENTRIES is a page of them)
MAX_ENTRIES: Final = 512


def save_stack_trace(cur: Machine, frame: FrameType | None = None, limit: int = MAX_ENTRIES) -> list[int]:
    """Return the return addresses on the running stack, innermost first.

    :param frame: where to begin; the caller's by default
    """
    if frame is None:
        frame = sys._getframe(1)
    table = kallsyms.kallsyms(cur)
    by_code = table.by_code
    entries: list[int] = []
    traced = False
    while frame is not None and len(entries) < limit:
        code = frame.f_code
        symbol = by_code.get(id(code))
        if symbol is not None:
            address = kallsyms.frame_address(cur, frame)
            if symbol.name in ("vector_swi", "do_syscall_64"):
                _add_entry(table, symbol, address, entries)
                break
            if not symbol.hidden and address is not None:
                entries.append(address)
            traced = symbol.name == "ftrace_ops_list_func"
        elif code.co_filename == STUB:
            # A stub that calls the tracers stands for its function, of which nothing has run yet.
            if traced:
                entries.append(_entry_of(table, code))
        elif _begins_user_mode(table, code):
            break
        frame = frame.f_back
    return entries


def save_stack_trace_tsk(cur: Machine, tsk: Task, limit: int = MAX_ENTRIES) -> list[int]:
    """Return the return addresses on a task's stack; on that of one that runs elsewhere nothing can be seen."""
    stack = tsk.stack_greenlet
    if stack is None or (cur.cpus[tsk.thread_info.cpu].curr is tsk and stack.gr_frame is None):
        return []
    return save_stack_trace(cur, stack.gr_frame, limit) if stack.gr_frame is not None else []


def _entry_of(table: kallsyms.Kallsyms, stub: CodeType) -> int:
    """Return the address behind the call of the tracer in the function that a stub stands for."""
    from taskscope.model.kernel.trace.ftrace import DynFtrace, ftrace_call_address

    record = next(c for c in stub.co_consts if isinstance(c, DynFtrace))
    symbol = table.symbol_of(record.code)
    assert symbol is not None, record.function
    return ftrace_call_address(symbol, table.arm) + (4 if table.arm else 5)


def _add_entry(table: kallsyms.Kallsyms, symbol: kallsyms.Symbol, address: int | None, entries: list[int]) -> None:
    # ARM: vector_swi jumps to the function with lr = ret_fast_syscall; its unwinder ends there.
    if symbol.name == "vector_swi":
        entries.append(table.by_name["ret_fast_syscall"].address)
        return
    if address is not None:
        entries.append(address)
    outer = table.by_name["entry_SYSCALL_64_after_hwframe"]
    entries.append(outer.address + outer.size // 2)


def _begins_user_mode(table: kallsyms.Kallsyms, code: CodeType) -> bool:
    """Tell whether a frame is where a program entered the kernel.

    What is neither the kernel's nor user/ stands outside of the machine: the function of a probe.
    """
    known = table.user.get(id(code))
    if known is None:
        known = code, code.co_filename.startswith(_USER)
        table.user[id(code)] = known
    return known[1]
