"""A module that disables interrupts or preemption for a while: kernel/trace/preemptirq_delay_test.c, v5.8.

Made for testing what measures such times.  It is there once `preemptirq_delay_init` was called, as by insmod; then a
write to /sys/kernel/preemptirq_delay_test/trigger starts the kernel thread that does it.  (In v4.19 loading the module
does.)
"""

from __future__ import annotations

from errno import EINVAL
from typing import Any, Final

import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.completion as completion_
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.preempt import local_irq_restore, local_irq_save, preempt_disable, preempt_enable
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task, set_current_state

_MODULE: Final = "/sys/module/preemptirq_delay_test/parameters/"
_TRIGGER: Final = "/sys/kernel/preemptirq_delay_test/trigger"
_MODES: Final = ("irq", "preempt", "alternate")


class PreemptirqDelay:
    """The module's parameters."""

    __slots__ = ("burst_size", "delay", "done", "test_mode")

    def __init__(self) -> None:
        self.delay = 100                # us
        self.test_mode = "irq"
        self.burst_size = 1             # how often
        self.done = Completion()


def busy_wait(time: int) -> None:
    """Do nothing for `time` us."""
    machine.cur.run_for(time * 1000)


def irqoff_test(par: PreemptirqDelay) -> None:
    """Keep interrupts off; those that have come meanwhile are taken right afterwards."""
    flags = local_irq_save()
    busy_wait(par.delay)
    local_irq_restore(flags)
    machine.cur.take_irqs()


def preemptoff_test(par: PreemptirqDelay) -> None:
    """Keep preemption off; if it was due meanwhile, it happens in preempt_enable() (preempt=full)."""
    preempt_disable()
    busy_wait(par.delay)
    preempt_enable()


def execute_preemptirqtest(par: PreemptirqDelay, idx: int) -> None:
    """Do it once."""
    if par.test_mode == "irq" or (par.test_mode == "alternate" and idx % 2 == 0):
        irqoff_test(par)
    else:
        preemptoff_test(par)


def preemptirq_delay_run(data: Any) -> int:
    """Be the thread: as often as asked for, then wait to be stopped."""
    par: PreemptirqDelay = data
    for i in range(min(par.burst_size, 10)):
        execute_preemptirqtest(par, i)
    completion_.complete(par.done)
    set_current_state(TASK_INTERRUPTIBLE)
    while not kthread.kthread_should_stop():
        sched_core.schedule()
        set_current_state(TASK_INTERRUPTIBLE)
    set_current_state(TASK_RUNNING)
    return 0


def preemptirq_run_test(par: PreemptirqDelay) -> int:
    """Run the test in a thread of its own, irq_test or preempt_test, and wait for its end: 0 or a negative errno."""
    par.done = Completion()
    task = kthread.kthread_run(preemptirq_delay_run, par, f"{par.test_mode}_test")
    if not isinstance(task, Task):
        return task
    completion_.wait_for_completion(par.done)
    kthread.kthread_stop(task)
    return 0


def trigger_store(private: Any, data: bytes) -> int:
    """Run the test."""
    par: PreemptirqDelay = private
    return preemptirq_run_test(par) or len(data)


def show_parameter(private: Any) -> str:
    """Return a parameter."""
    par, name = private
    return f"{getattr(par, name)}\n"


def store_parameter(private: Any, data: bytes) -> int:
    """Set a parameter."""
    par, name = private
    text = data.decode(errors="replace").strip()
    if name == "test_mode":
        if text not in _MODES:
            return -EINVAL
        par.test_mode = text
        return len(data)
    if not text.isdigit():
        return -EINVAL
    setattr(par, name, int(text))
    return len(data)


def preemptirq_delay_init() -> int:
    """Load the module: 0."""
    par = PreemptirqDelay()
    for name in ("delay", "test_mode", "burst_size"):
        entry = proc_inode.ProcEntry(show_parameter, store_parameter, (par, name))
        super_.kern_add(_MODULE + name, proc_inode.proc_get_inode(0o644, entry))
    super_.kern_add(_TRIGGER, proc_inode.proc_get_inode(0o200, proc_inode.ProcEntry(None, trigger_store, par)))
    return 0
