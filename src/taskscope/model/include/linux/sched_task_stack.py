"""A task's kernel stack seen as memory: include/linux/sched/task_stack.h, v4.19.

The stack pointer of the model moves with the depth of calls: each kernel function on the stack takes the architecture's
`Machine.frame_size` below the registers that the entry from user mode has saved.  It is computed where the kernel
looks at it.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Final

from taskscope.model import machine

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

_MODEL: Final = __file__.rpartition("/include/")[0] + "/"
_USER: Final = _MODEL + "user/"
_MACHINE: Final = _MODEL + "machine.py"
_INCLUDE: Final = _MODEL + "include/"


def kernel_depth(frame: FrameType | None) -> int:
    """Count the kernel functions on a stack, from `frame` outwards to where user mode ends.

    Inlined ones do not count.
    """
    depth = 0
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_USER):
            break
        # What is not of the model is no frame of the kernel: the stub of a traced function, the function of a probe.
        if name.startswith(_MODEL) and name != _MACHINE and not name.startswith(_INCLUDE):
            depth += 1
        frame = frame.f_back
    return depth


def task_sp(tsk: Task, depth: int) -> int:
    """Return the stack pointer of a task that many calls deep; it never leaves the stack."""
    m = machine.cur
    lowest = tsk.stack + (0 if m.flavour.switches.thread_info_in_task else m.sizeof_thread_info) + m.flavour.long_size
    return max(tsk.stack + m.entry_sp - depth * m.frame_size, lowest)


def thread_saved_sp(tsk: Task) -> int:
    """Return the stack pointer that the last switch away from the task has saved.

    Of one that runs, where its entry began.
    """
    stack = tsk.stack_greenlet
    return task_sp(tsk, kernel_depth(stack.gr_frame) if stack is not None else 0)


def sample_sp() -> int:
    """Set the executing CPU's stack pointer to what it is here, and return it.

    Called where the kernel looks at it: dump_stack(), exceptions, probes.
    """
    cpu = machine.cur.cpu
    cpu.sp = task_sp(cpu.curr, kernel_depth(sys._getframe(1)))
    return cpu.sp
