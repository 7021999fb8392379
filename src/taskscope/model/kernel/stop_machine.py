"""The stoppers, migration/N: kernel/stop_machine.c, v4.19: run a function on a CPU in place of whatever runs there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    raw_spin_lock_irq,
    raw_spin_lock_irqsave,
    raw_spin_unlock_irq,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.kernel import kthread, smpboot
from taskscope.model.kernel.sched import completion, core, stop_task


class CpuStopWork:
    """struct cpu_stop_work with its struct cpu_stop_done."""

    __slots__ = ("arg", "done", "fn", "ret")

    def __init__(self, fn: Callable[[Any], int], arg: Any, done: Completion | None) -> None:
        self.fn = fn
        self.arg = arg
        self.done = done
        self.ret = 0


class CpuStopper:
    """struct cpu_stopper."""

    __slots__ = ("enabled", "lock", "thread", "works")

    def __init__(self) -> None:
        self.lock = Spinlock("stopper.lock")
        self.works: deque[CpuStopWork] = deque()
        self.thread: Task | None = None
        self.enabled = False


def cpu_stop_queue_work(cpu: int, work: CpuStopWork) -> bool:
    """Queue work for a CPU's stopper and wake it; False if there is no stopper (yet)."""
    stopper: CpuStopper | None = machine.cur.cpus[cpu].cpu_stopper
    if stopper is None or stopper.thread is None:
        return False
    flags = raw_spin_lock_irqsave(stopper.lock)
    enabled = stopper.enabled
    if enabled:
        stopper.works.append(work)
    raw_spin_unlock_irqrestore(stopper.lock, flags)
    if enabled:
        core.wake_up_process(stopper.thread)
    return enabled


def stop_one_cpu(cpu: int, fn: Callable[[Any], int], arg: Any) -> int:
    """Run ``fn(arg)`` in a CPU's stopper and wait for it.

    :return: what it returned, or -ENOENT: the CPU has no stopper
    """
    done = Completion()
    work = CpuStopWork(fn, arg, done)
    if not cpu_stop_queue_work(cpu, work):
        return -2
    completion.wait_for_completion(done)
    return work.ret


def stop_one_cpu_nowait(cpu: int, fn: Callable[[Any], int], arg: Any) -> bool:
    """Run ``fn(arg)`` in a CPU's stopper some time."""
    return cpu_stop_queue_work(cpu, CpuStopWork(fn, arg, None))


def cpu_stop_should_run(cpu: int) -> bool:
    """Tell whether the stopper has work."""
    return bool(machine.cur.cpus[cpu].cpu_stopper.works)


def cpu_stopper_thread(cpu: int) -> None:
    """Do the stopper's work; called by smpboot_thread_fn() when there is some."""
    stopper: CpuStopper = machine.cur.cpus[cpu].cpu_stopper
    while True:
        raw_spin_lock_irq(stopper.lock)
        work = stopper.works.popleft() if stopper.works else None
        raw_spin_unlock_irq(stopper.lock)
        if work is None:
            return
        # cpu stop callbacks must not sleep, make in_atomic() == T
        machine.cur.cpu.preempt_count += 1
        work.ret = work.fn(work.arg)
        machine.cur.cpu.preempt_count -= 1
        if work.done is not None:
            completion.complete(work.done)


def sched_set_stop_task(cpu: int, stop: Task) -> None:
    """Make the task the CPU's stopper (kernel/sched/core.c).

    It looks like a SCHED_FIFO task of priority 99 to user space.
    """
    rq = machine.cur.cpus[cpu].rq
    flags = raw_spin_lock_irqsave(rq.lock)
    stop.policy = 1
    stop.rt_priority = 99
    stop.normal_prio = stop.prio = 0
    queued = stop.on_rq == 1
    running = rq.curr is stop
    if queued:
        core.dequeue_task(rq, stop, 0)
    if running:
        stop.sched_class.put_prev_task(rq, stop)
    stop.sched_class = stop_task.stop_sched_class
    if queued:
        core.enqueue_task(rq, stop, 0)
    if running:
        stop.sched_class.set_curr_task(rq)
    rq.stop = stop
    raw_spin_unlock_irqrestore(rq.lock, flags)


def cpu_stop_create(cpu: int) -> None:
    """Give a CPU its stopper."""
    sched_set_stop_task(cpu, machine.cur.cpus[cpu].cpu_stopper.thread)


def cpu_stop_park(cpu: int) -> None:
    """Check that a parked stopper has nothing to do."""
    assert not machine.cur.cpus[cpu].cpu_stopper.works, "a stopper with work is parked"


def stop_machine_unpark(cpu: int) -> None:
    """Let a CPU's stopper take work."""
    stopper: CpuStopper = machine.cur.cpus[cpu].cpu_stopper
    stopper.enabled = True
    assert stopper.thread is not None, "the stopper's thread was made"
    kthread.kthread_unpark(stopper.thread)


def cpu_stop_init() -> None:
    """Make the stoppers of all CPUs: migration/N (an early initcall)."""
    m = machine.cur
    for cpu in m.cpus:
        cpu.cpu_stopper = CpuStopper()
    smpboot.smpboot_register_percpu_thread(smpboot.SmpHotplugThread(
        comm="migration/%u",
        store=cpu_stopper_store,
        should_run=cpu_stop_should_run,
        fn=cpu_stopper_thread,
        create=cpu_stop_create,
        park=cpu_stop_park,
        selfparking=True,
    ))
    stop_machine_unpark(m.cpu.id)


def cpu_stopper_store(cpu: int, tsk: Task | None) -> None:
    """Remember the CPU's stopper thread (smp_hotplug_thread.store is a per-cpu pointer in C)."""
    machine.cur.cpus[cpu].cpu_stopper.thread = tsk
