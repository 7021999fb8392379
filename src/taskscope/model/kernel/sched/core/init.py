"""The scheduler at boot: kernel/sched/core.c, v4.19: runqueues, idle tasks, CPUs that come up."""

from __future__ import annotations

from taskscope.model import machine
from taskscope.model.include.linux.sched import (
    PF_IDLE,
    TASK_ON_RQ_QUEUED,
    TASK_RUNNING,
    SchedEntity,
    SchedInfo,
    Task,
)
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock,
    raw_spin_lock_irqsave,
    raw_spin_unlock,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.kernel import printk as printk_
from taskscope.model.kernel import softirq
from taskscope.model.kernel.sched import fair, fair_balance, idle, loadavg, wait_bit
from taskscope.model.kernel.sched.core import affinity, switch, wakeup
from taskscope.model.kernel.sched.sched import (
    Rq,
)


def init_idle(tsk: Task, cpu: int) -> None:
    """Make the task the idle task of a CPU.

    After this the CPU can be started: its first schedule() leaves the idle task.
    """
    m = machine.cur
    this = m.cpus[cpu]
    rq = this.rq
    flags = raw_spin_lock_irqsave(tsk.pi_lock)
    raw_spin_lock(rq.lock)
    wakeup.__sched_fork(0, tsk)
    tsk.state = TASK_RUNNING
    tsk.se.exec_start = m.now
    tsk.flags |= PF_IDLE
    affinity.set_cpus_allowed_common(tsk, 1 << cpu)
    wakeup.__set_task_cpu(tsk, cpu)
    rq.curr = rq.idle = tsk
    this.idle = tsk
    this.curr = tsk
    tsk.on_rq = TASK_ON_RQ_QUEUED
    tsk.on_cpu = 1
    raw_spin_unlock(rq.lock)
    raw_spin_unlock_irqrestore(tsk.pi_lock, flags)
    # The idle tasks have their own, simple scheduling class.
    tsk.sched_class = idle.idle_sched_class
    tsk.sched_info = SchedInfo()
    tsk.comm = f"swapper/{cpu}"
    tsk.comm16 = tsk.comm.encode().ljust(16, b"\0")


def sched_init() -> None:
    """Make the runqueues, and the boot task the idle task of this CPU.  Called once, by start_kernel()."""
    m = machine.cur
    m.preempt_schedule = switch.preempt_schedule
    wait_bit.wait_bit_init()
    m.cpu_online_mask = 1
    m.cpu_active_mask = 1
    m.sched_domains = False
    loadavg.loadavg_init()
    fair.sched_init_granularity()
    for cpu in m.cpus:
        cpu.rq = Rq(cpu)
        cpu.rq.calc_load_update = m.jiffies + loadavg.LOAD_FREQ * m.hz
    init_task = m.cpu.curr
    if init_task.se is None or not init_task.se.load.weight:
        init_task.se = SchedEntity(init_task)
        init_task.se.load.weight = 1024
    init_idle(init_task, m.cpu.id)
    m.cpu.rq.online = True
    softirq.open_softirq(softirq.SCHED_SOFTIRQ, fair_balance.run_rebalance_domains)


def setup_preempt_mode(mode: str) -> int:
    """Take the boot argument ``preempt=``: none, voluntary or full (CONFIG_PREEMPT_DYNAMIC).

    :return: 1; 0 if it is none of them
    """
    if mode not in ("none", "voluntary", "full"):
        printk_.printk(f"<4>Dynamic Preempt: unsupported mode: {mode}\n")
        return 0
    sched_dynamic_update(mode)
    return 1


def sched_dynamic_update(mode: str) -> None:
    """Choose the preemption model.

    In C this patches cond_resched(), might_resched() and preempt_schedule() in or out; here ``kernel_preempt`` says
    whether the kernel preempts itself, and `_cond_resched` and `might_resched` look at ``preempt``.
    """
    m = machine.cur
    assert mode in ("none", "voluntary", "full"), mode
    m.preempt = mode  # type: ignore[assignment]
    m.kernel_preempt = mode == "full"
    printk_.printk(f"<6>Dynamic Preempt: {mode}\n")


def preempt_name() -> str:
    """Return what uname(2) and the first line of the log say of preemption, with a space before it."""
    m = machine.cur
    if m.flavour.switches.preempt_dynamic:
        return " PREEMPT_DYNAMIC"
    return " PREEMPT" if m.kernel_preempt else ""


def sched_init_smp() -> None:
    """Let the CPUs that are up by now balance with each other."""
    m = machine.cur
    m.sched_domains = m.cpu_active_mask.bit_count() > 1
    fair.sched_init_granularity()


def set_cpu_online(cpu: int, online: bool) -> None:
    """Let the CPU be online: kernel threads may run on it."""
    m = machine.cur
    if online:
        m.cpu_online_mask |= 1 << cpu
        m.cpus[cpu].rq.online = True
    else:
        m.cpu_online_mask &= ~(1 << cpu)
        m.cpus[cpu].rq.online = False


def set_cpu_active(cpu: int, active: bool) -> None:
    """Let the CPU be active: any task may run on it."""
    m = machine.cur
    if active:
        m.cpu_active_mask |= 1 << cpu
    else:
        m.cpu_active_mask &= ~(1 << cpu)
