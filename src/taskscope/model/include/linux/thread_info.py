"""thread_info: arch/arm/include/asm/thread_info.h v4.19, arch/x86/include/asm/thread_info.h v6.1.

On ARM it stands at the lowest address of the kernel stack, and `current_thread_info` finds it by clearing the low
bits of the stack pointer.  With CONFIG_THREAD_INFO_IN_TASK it is the first member of task_struct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

#: what a task's count is while it does not run
PREEMPT_SWITCHED: Final = 2


class ThreadInfo:
    """struct thread_info; which of the fields a flavour has is the decoder's business."""

    __slots__ = (
        "addr_limit",
        "cpu",
        "cpu_domain",
        "flags",
        "regs",
        "start",
        "status",
        "syscall",
        "syscall_work",
        "task",
        "tp_value",
        "used_cp",
    )

    def __init__(self, task: Task) -> None:
        self.task = task
        self.flags = 0
        self.cpu = 0
        self.addr_limit = 0
        self.cpu_domain = 0
        self.start: Any = None                      # what copy_thread() has put into cpu_context
        self.syscall = 0
        self.syscall_work = 0
        self.regs: Any = None                       # task_pt_regs(), while a tracer may look at them
        self.status = 0
        self.used_cp = 0
        self.tp_value = (0, 0)

    @property
    def cpu_context(self) -> Any:
        """The registers that the last switch away has saved, read off the suspended stack (the arch's process.py)."""
        return machine.cur.arch.cpu_context(self.task)

    @property
    def preempt_count(self) -> int:
        """The word as memory would hold it: that of the CPU while the task runs, else what every switch leaves behind.

        A task leaves its CPU in schedule(), which has disabled preemption and holds rq.lock: the word is 2, as it is
        made to be for a task that has not run yet (FORK_PREEMPT_COUNT).
        """
        cpu = machine.cur.cpus[self.cpu]
        return cpu.preempt_count if cpu.curr is self.task else PREEMPT_SWITCHED


def current_thread_info() -> ThreadInfo:
    """Find the thread_info of the running task as the CPU does.

    On 32-bit ARM: clear the low bits of the stack pointer, and it stands there.  With CONFIG_THREAD_INFO_IN_TASK it is
    the first member of ``current``, which is a per-cpu variable.
    """
    m = machine.cur
    cpu = m.cpu
    if m.flavour.switches.thread_info_in_task:
        return cpu.curr.thread_info
    found: ThreadInfo = m.memory[cpu.sp & ~(m.flavour.thread_size - 1)]
    return found


def set_tsk_need_resched(tsk: Task) -> None:
    """Ask the task to call schedule() on its way out of the kernel."""
    tsk.thread_info.flags |= machine.cur.tif.NEED_RESCHED


def clear_tsk_need_resched(tsk: Task) -> None:
    """Take the request back."""
    tsk.thread_info.flags &= ~machine.cur.tif.NEED_RESCHED


def test_tsk_need_resched(tsk: Task) -> bool:
    """Tell whether the task was asked to call schedule()."""
    return bool(tsk.thread_info.flags & machine.cur.tif.NEED_RESCHED)


def need_resched() -> bool:
    """Tell whether the running task was asked to call schedule()."""
    cur = machine.cur
    return bool(cur.cpu.curr.thread_info.flags & cur.tif.NEED_RESCHED)


def set_tsk_sigpending(tsk: Task) -> None:
    """Mark that signals are to be looked at on the way to user space (TIF_SIGPENDING)."""
    tsk.thread_info.flags |= machine.cur.tif.SIGPENDING


def clear_tsk_sigpending(tsk: Task) -> None:
    """Clear TIF_SIGPENDING."""
    tsk.thread_info.flags &= ~machine.cur.tif.SIGPENDING


def signal_pending(tsk: Task) -> bool:
    """Tell whether TIF_SIGPENDING is set."""
    return bool(tsk.thread_info.flags & machine.cur.tif.SIGPENDING)


def set_task_syscall_work(t: Task, fl: int) -> None:
    """Have a task's system calls take the long way: a bit of `machine.cur.syscall_work_bits`.

    The flags stand in ``thread_info.flags`` (TIF_*), on x86 since v5.11 in ``thread_info.syscall_work``.
    """
    if machine.cur.flavour.switches.syscall_work:
        t.thread_info.syscall_work |= fl
    else:
        t.thread_info.flags |= fl


def clear_task_syscall_work(t: Task, fl: int) -> None:
    """Take the bit away."""
    if machine.cur.flavour.switches.syscall_work:
        t.thread_info.syscall_work &= ~fl
    else:
        t.thread_info.flags &= ~fl
