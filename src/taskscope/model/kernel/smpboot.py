"""Kernel threads that every CPU has, and idle tasks for CPUs: kernel/smpboot.c, v4.19.

A subsystem registers what its threads do (`SmpHotplugThread`); they are made parked and unparked when their CPU comes
up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.preempt import preempt_disable, preempt_enable
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task, set_current_state
from taskscope.model.include.linux.sched_task import get_task_struct

HP_THREAD_NONE: Final = 0
HP_THREAD_ACTIVE: Final = 1
HP_THREAD_PARKED: Final = 2


class SmpHotplugThread:
    """struct smp_hotplug_thread: what a per-cpu thread does.

    ``store(cpu, task)`` stands for the per-cpu pointer of C; ``threads`` keeps the tasks too.
    """

    __slots__ = (
        "cleanup", "comm", "create", "fn", "park", "selfparking", "setup", "should_run", "store", "threads", "unpark",
    )

    def __init__(
        self, comm: str, should_run: Callable[[int], Any], fn: Callable[[int], None],
        store: Callable[[int, Task | None], None] | None = None, create: Callable[[int], None] | None = None,
        setup: Callable[[int], None] | None = None, park: Callable[[int], None] | None = None,
        unpark: Callable[[int], None] | None = None, selfparking: bool = False,
    ) -> None:
        self.comm = comm                    # with %u for the CPU
        self.should_run = should_run
        self.fn = fn
        self.store = store
        self.create = create
        self.setup = setup
        self.park = park
        self.unpark = unpark
        self.selfparking = selfparking
        self.threads: dict[int, Task] = {}


class SmpbootThreadData:
    """struct smpboot_thread_data: the argument of one such thread."""

    __slots__ = ("cpu", "ht", "status")

    def __init__(self, cpu: int, ht: SmpHotplugThread) -> None:
        self.cpu = cpu
        self.status = HP_THREAD_NONE
        self.ht = ht


def smpboot_init() -> None:
    """Nothing is registered yet; called by start_kernel()."""
    m = machine.cur
    m.hotplug_threads = []
    m.idle_threads = {}


def smpboot_thread_fn(data: SmpbootThreadData) -> int:
    """Be a per-cpu thread: park, unpark, and call ``fn`` whenever ``should_run`` says so."""
    m = machine.cur
    current = m.cpu.curr
    ht = data.ht
    while True:
        set_current_state(TASK_INTERRUPTIBLE)
        preempt_disable()
        if kthread.kthread_should_stop():
            current.state = TASK_RUNNING
            preempt_enable()
            return 0
        if kthread.kthread_should_park():
            current.state = TASK_RUNNING
            preempt_enable()
            if ht.park and data.status == HP_THREAD_ACTIVE:
                ht.park(data.cpu)
                data.status = HP_THREAD_PARKED
            kthread.kthread_parkme()
            # We might have been woken for stop
            continue
        assert data.cpu == m.cpu.id, f"{current} runs on cpu {m.cpu.id}"
        # Check for state change setup
        if data.status == HP_THREAD_NONE:
            current.state = TASK_RUNNING
            preempt_enable()
            if ht.setup:
                ht.setup(data.cpu)
            data.status = HP_THREAD_ACTIVE
            continue
        if data.status == HP_THREAD_PARKED:
            current.state = TASK_RUNNING
            preempt_enable()
            if ht.unpark:
                ht.unpark(data.cpu)
            data.status = HP_THREAD_ACTIVE
            continue
        if not ht.should_run(data.cpu):
            # preempt_enable_no_resched(), so that we do not sleep as preempted
            m.cpu.preempt_count -= 1
            sched_core.schedule()
        else:
            current.state = TASK_RUNNING
            preempt_enable()
            ht.fn(data.cpu)


def __smpboot_create_thread(ht: SmpHotplugThread, cpu: int) -> int:
    if cpu in ht.threads:
        return 0
    td = SmpbootThreadData(cpu, ht)
    tsk = kthread.kthread_create_on_cpu(smpboot_thread_fn, td, cpu, ht.comm)
    if isinstance(tsk, int):
        return tsk
    # Park the thread so that it could start right on the CPU when it is available.
    kthread.kthread_park(tsk)
    get_task_struct(tsk)
    ht.threads[cpu] = tsk
    if ht.store:
        ht.store(cpu, tsk)
    if ht.create:
        # Make sure that the task has actually scheduled out into park position, before calling the create callback.
        # At least the migration thread callback requires that the task is off the runqueue.
        sched_core.wait_task_inactive(tsk, 0x0040)
        ht.create(cpu)
    return 0


def smpboot_create_threads(cpu: int) -> int:
    """Make all registered threads for a CPU that is about to come up."""
    for ht in machine.cur.hotplug_threads:
        ret = __smpboot_create_thread(ht, cpu)
        if ret:
            return ret
    return 0


def smpboot_unpark_thread(ht: SmpHotplugThread, cpu: int) -> None:
    """Let a CPU's thread run."""
    tsk = ht.threads.get(cpu)
    if tsk is not None and not ht.selfparking:
        kthread.kthread_unpark(tsk)


def smpboot_unpark_threads(cpu: int) -> int:
    """Let all threads of a CPU that came up run."""
    for ht in machine.cur.hotplug_threads:
        smpboot_unpark_thread(ht, cpu)
    return 0


def smpboot_register_percpu_thread(plug_thread: SmpHotplugThread) -> int:
    """Make a thread for every CPU that is up, and for those that will come."""
    m = machine.cur
    for cpu in range(m.nr_cpus):
        if not m.cpu_online_mask >> cpu & 1:
            continue
        ret = __smpboot_create_thread(plug_thread, cpu)
        if ret:
            return ret
        smpboot_unpark_thread(plug_thread, cpu)
    # list_add(): what registers last is made first on the CPUs that come up
    m.hotplug_threads.insert(0, plug_thread)
    return 0


def idle_thread_set_boot_cpu() -> None:
    """The boot task is the idle task of the boot CPU."""
    m = machine.cur
    m.idle_threads[m.cpu.id] = m.cpu.curr


def idle_threads_init() -> None:
    """Make the idle tasks of the other CPUs."""
    m = machine.cur
    for cpu in range(m.nr_cpus):
        if cpu not in m.idle_threads:
            m.idle_threads[cpu] = fork.fork_idle(cpu)


def idle_thread_get(cpu: int) -> Task:
    """Return the idle task of a CPU."""
    tsk: Task = machine.cur.idle_threads[cpu]
    return tsk


