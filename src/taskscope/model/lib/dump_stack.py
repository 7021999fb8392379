"""dump_stack(): lib/dump_stack.c, arch/arm/kernel/traps.c, arch/x86/kernel/dumpstack.c, v4.19 and v6.1.

The stack is the running task's own: what stands on its greenlet, never made up.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from taskscope.model import machine
from taskscope.model.kernel import kallsyms, panic, stacktrace
from taskscope.model.kernel.printk import printk

if TYPE_CHECKING:
    from types import FrameType

    from taskscope.model.include.linux.sched import Task
    from taskscope.model.machine import Machine


def dump_stack() -> None:
    """Print who the running task is, and how it came here, into the kernel's log."""
    dump_stack_print_info("")
    show_stack(None, sys._getframe())


def dump_stack_print_info(level: str) -> None:
    """Print the lines that stand before a stack."""
    cur = machine.cur
    current = cur.cpu.curr
    version = cur.flavour.version
    taints = panic.print_tainted()
    if version < (6, 11):
        printk(f"{level}CPU: {cur.cpu.id} PID: {current.pid} Comm: {current.comm} {taints} {cur.flavour.release} #1\n")
    else:
        # The user came with v6.11, the model of preemption with v6.16.
        model = f"PREEMPT({cur.flavour.preempt}) " if version >= (6, 16) else ""
        printk(
            f"{level}CPU: {cur.cpu.id} UID: {current.cred.uid} PID: {current.pid} Comm: {current.comm} {taints} "
            f"{cur.flavour.release} #1 {model}\n"
        )
        if panic.panic_state().tainted_mask:
            printk(f"{level}{panic.print_tainted_verbose()}\n")
    printk(f"{level}Hardware name: {'BCM2835' if cur.flavour.arch == 'arm' else 'taskscope'}\n")


def show_stack(tsk: Task | None, frame: FrameType | None = None, skip: int = 0) -> None:
    """Print the stack of a task into the kernel's log; of the running one by default.

    :param frame: the innermost function of the running task that is shown
    :param skip: leave out so many of the innermost ones (x86)
    """
    cur = machine.cur
    if tsk is None or tsk is cur.cpu.curr:
        entries = stacktrace.save_stack_trace(cur, frame or sys._getframe(1))
    else:
        entries = stacktrace.save_stack_trace_tsk(cur, tsk)
    if cur.flavour.arch == "arm":
        for where, origin in pairwise(entries):
            dump_backtrace_entry(cur, where, origin)
        return
    printk("Call Trace:\n <TASK>\n")
    for address in entries[skip:]:
        printk(f" {kallsyms.sprint_symbol(cur, address)}\n")
    printk(" </TASK>\n")


def dump_backtrace_entry(cur: Machine, where: int, origin: int) -> None:
    """Print one call as ARM does: the function, and where it was called from."""
    name = kallsyms.sprint_symbol(cur, where, False)
    printk(f"[<{where:08x}>] ({name}) from [<{origin:08x}>] ({kallsyms.sprint_symbol(cur, origin)})\n")
