"""Bringing CPUs up: kernel/cpu.c, v4.19, and what each architecture's secondary_start_kernel() does.

The boot CPU prepares a CPU's threads and starts it on its idle task; from then on cpuhp/N, on the CPU itself, brings
it up to
the state in which tasks are put on it.  Not modelled: CPUs going down.
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.idle as idle
import taskscope.model.kernel.smpboot as smpboot
import taskscope.model.kernel.stop_machine as stop_machine
import taskscope.model.kernel.time.tick_sched as tick_sched
import taskscope.model.kernel.workqueue as workqueue
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.preempt import preempt_disable

CPUHP_OFFLINE: Final = 0
CPUHP_AP_ONLINE_IDLE: Final = 1
CPUHP_ONLINE: Final = 2


class CpuhpCpuState:
    """struct cpuhp_cpu_state: how far a CPU is up."""

    __slots__ = ("done_up", "should_run", "state", "target", "thread")

    def __init__(self) -> None:
        self.state = CPUHP_OFFLINE
        self.target = CPUHP_OFFLINE
        self.should_run = False
        self.thread: Any = None
        self.done_up = Completion()


def cpuhp_state(cpu: int) -> CpuhpCpuState:
    """Return the state of a CPU (a per-cpu variable)."""
    state: CpuhpCpuState = machine.cur.cpuhp_states[cpu]
    return state


def boot_cpu_hotplug_init() -> None:
    """The boot CPU is up."""
    m = machine.cur
    m.cpuhp_states = [CpuhpCpuState() for _ in m.cpus]
    boot = m.cpuhp_states[m.cpu.id]
    boot.state = boot.target = CPUHP_ONLINE


def cpuhp_thread_store(cpu: int, tsk: Any) -> None:
    """Remember cpuhp/N."""
    cpuhp_state(cpu).thread = tsk


def cpuhp_should_run(cpu: int) -> bool:
    """Tell whether the boot CPU has asked for a step."""
    return cpuhp_state(cpu).should_run


def cpuhp_thread_fun(cpu: int) -> None:
    """Take the CPU to its target state, on the CPU itself."""
    st = cpuhp_state(cpu)
    cpuhp_ap_up(cpu)
    st.should_run = False
    completion.complete(st.done_up)


def cpuhp_ap_up(cpu: int) -> None:
    """Do the steps from CPUHP_AP_ONLINE_IDLE to CPUHP_ONLINE."""
    st = cpuhp_state(cpu)
    # CPUHP_AP_SMPBOOT_THREADS
    smpboot.smpboot_unpark_threads(cpu)
    # CPUHP_AP_WORKQUEUE_ONLINE
    workqueue.workqueue_online_cpu(cpu)
    # CPUHP_AP_RCUTREE_ONLINE: nothing to do.  CPUHP_AP_ACTIVE: sched_cpu_activate()
    sched_core.set_cpu_active(cpu, True)
    st.state = CPUHP_ONLINE


def cpuhp_threads_init() -> None:
    """Make cpuhp/N for the boot CPU, and register it for the others."""
    smpboot.smpboot_register_percpu_thread(smpboot.SmpHotplugThread(
        comm="cpuhp/%u",
        store=cpuhp_thread_store,
        should_run=cpuhp_should_run,
        fn=cpuhp_thread_fun,
        selfparking=True,
    ))
    kthread.kthread_unpark(cpuhp_state(machine.cur.cpu.id).thread)


def cpu_up(cpu: int) -> int:
    """Bring a CPU up: 0."""
    m = machine.cur
    st = cpuhp_state(cpu)
    st.target = CPUHP_ONLINE
    if not m.bare:
        # CPUHP_CREATE_THREADS, CPUHP_WORKQUEUE_PREP
        smpboot.smpboot_create_threads(cpu)
        workqueue.workqueue_prepare_cpu(cpu)
    # CPUHP_BRINGUP_CPU
    bringup_cpu(cpu)
    if m.bare:
        # cpuhp/N is one of the threads that a bare machine does without
        cpuhp_ap_up(cpu)
        return 0
    # bringup_wait_for_ap()
    stop_machine.stop_machine_unpark(cpu)
    kthread.kthread_unpark(st.thread)
    # cpuhp_kick_ap()
    st.should_run = True
    sched_core.wake_up_process(st.thread)
    completion.wait_for_completion(st.done_up)
    return 0


def bringup_cpu(cpu: int) -> None:
    """Start the CPU on its idle task and wait until it idles (__cpu_up())."""
    m = machine.cur
    tsk = smpboot.idle_thread_get(cpu)
    m.cpu_running = Completion()
    tsk.stack_greenlet = m.new_stack(secondary_start_kernel)
    target = m.cpus[cpu]
    target.curr = tsk
    target.sp = tsk.stack + m.flavour.thread_size - 8
    m.start_cpu(target)
    completion.wait_for_completion(m.cpu_running)


def secondary_start_kernel() -> None:
    """Be a CPU that was just started.

    Context: interrupts off, on the stack of the CPU's idle task.
    """
    m = machine.cur
    cpu = m.cpu
    # All kernel threads share the same mm context; grab a reference and switch to it.
    fork.mmgrab(m.init_mm)
    cpu.curr.active_mm = m.init_mm
    preempt_disable()
    # notify_cpu_starting()
    cpuhp_state(cpu.id).state = CPUHP_AP_ONLINE_IDLE
    tick_sched.tick_setup_sched_timer()
    # OK, now it's safe to let the boot CPU continue.
    sched_core.set_cpu_online(cpu.id, True)
    completion.complete(m.cpu_running)
    cpu.irqs_off = False
    idle.cpu_startup_entry(CPUHP_AP_ONLINE_IDLE)
    raise AssertionError("the idle loop ended")


def smp_init() -> None:
    """Bring up all CPUs (kernel/smp.c)."""
    m = machine.cur
    boot_cpu_hotplug_init()
    smpboot.idle_threads_init()
    if not m.bare:
        cpuhp_threads_init()
    if m.nr_cpus > 1:
        printk_.printk("<6>smp: Bringing up secondary CPUs ...\n")
    for cpu in range(m.nr_cpus):
        if not m.cpu_online_mask >> cpu & 1:
            cpu_up(cpu)
    printk_.printk(f"<6>smp: Brought up 1 node, {m.nr_cpus} CPU{'s' if m.nr_cpus > 1 else ''}\n")
