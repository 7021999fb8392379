"""Where tasks run: the balancing half of kernel/sched/fair.c, v4.19: wakeup placement, load balancing, idle balancing.

One domain spans all CPUs; load is the weight that waits and runs on a CPU.  Not modelled: the hierarchy of domains and
groups, PELT averages, capacities, NUMA, asymmetric packing.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import costs, machine, schedule
from taskscope.model.include.linux.interrupt import SCHED_SOFTIRQ
from taskscope.model.include.linux.sched import TASK_ON_RQ_MIGRATING, TASK_ON_RQ_QUEUED, Task
from taskscope.model.kernel import smp, softirq
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_NOCLOCK,
    ENQUEUE_NOCLOCK,
    SD_BALANCE_WAKE,
    WF_SYNC,
    Rq,
    rq_lock,
    rq_unlock,
)

#: balance when the busiest has this much more (sd->imbalance_pct)
IMBALANCE_PCT: Final = 125
SCHED_NR_MIGRATE: Final = 32


def weighted_cpuload(rq: Rq) -> int:
    """Return the load of a CPU."""
    return rq.cfs.load.weight


def find_idlest_cpu(p: Task, cpu: int) -> int:
    """Find the CPU with the least load that the task may use; the given one if no other has less."""
    m = machine.cur
    best = -1
    load = 0
    this_idle = core.idle_cpu(cpu) and p.cpus_allowed >> cpu & 1
    if this_idle:
        return cpu
    candidates = []
    for other in m.cpus:
        if not (m.cpu_active_mask & p.cpus_allowed) >> other.id & 1:
            continue
        weight = weighted_cpuload(other.rq)
        if best < 0 or weight < load:
            best, load = other.id, weight
            candidates = [other.id]
        elif weight == load:
            candidates.append(other.id)
    if best < 0:
        return cpu
    if cpu in candidates:
        return cpu
    return candidates[m.choose(len(candidates), schedule.IDLEST)] if len(candidates) > 1 else best


def wake_affine(p: Task, this_cpu: int, prev_cpu: int, sync: int) -> int:
    """Choose between the waker's CPU and the one where the task ran."""
    del p
    m = machine.cur
    this_rq = m.cpus[this_cpu].rq
    # wake_affine_idle(): if this_cpu is idle, it implies the wakeup is from interrupt context.
    if core.idle_cpu(this_cpu) and core.cpus_share_cache(this_cpu, prev_cpu):
        return prev_cpu if core.idle_cpu(prev_cpu) else this_cpu
    if sync and this_rq.nr_running == 1:
        return this_cpu
    # wake_affine_weight()
    this_load = weighted_cpuload(this_rq)
    if sync:
        this_load -= this_rq.curr.se.load.weight if this_rq.curr.sched_class.rank == 3 else 0
    if this_load * 100 < weighted_cpuload(m.cpus[prev_cpu].rq) * (100 + (IMBALANCE_PCT - 100) // 2):
        return this_cpu
    return prev_cpu


def select_idle_sibling(p: Task, prev: int, target: int) -> int:
    """Find an idle CPU that shares the target's cache: the target, where the task ran, any other."""
    m = machine.cur
    if core.idle_cpu(target):
        return target
    if prev != target and core.cpus_share_cache(prev, target) and core.idle_cpu(prev):
        return prev
    allowed = m.cpu_active_mask & p.cpus_allowed
    llc = m.cpus[target].llc_id
    n = m.nr_cpus
    if m.chooses:
        return schedule.choose_idle(allowed, llc, target)
    for step in range(1, n):
        cpu = m.cpus[(target + step) % n]
        if cpu.llc_id == llc and allowed >> cpu.id & 1 and core.idle_cpu(cpu.id):
            return cpu.id
    return target


def select_task_rq_fair(p: Task, prev_cpu: int, sd_flag: int, wake_flags: int) -> int:
    """Choose the CPU for a task that wakes, forks or execs.  Context: p.pi_lock held."""
    m = machine.cur
    if not m.sched_domains:
        return prev_cpu
    cpu = m.cpu.id
    if sd_flag & SD_BALANCE_WAKE:
        new_cpu = prev_cpu
        if cpu != prev_cpu and p.cpus_allowed >> cpu & 1:   # want_affine
            new_cpu = wake_affine(p, cpu, prev_cpu, wake_flags & WF_SYNC)
        return select_idle_sibling(p, prev_cpu, new_cpu)
    return find_idlest_cpu(p, cpu)


# ---- load balancing ----------------------------------------------------------------------------------------


def find_busiest_queue(this_cpu: int) -> Rq | None:
    """Find the CPU with the most load, if it has enough more than this one."""
    m = machine.cur
    this_load = weighted_cpuload(m.cpus[this_cpu].rq)
    busiest: Rq | None = None
    load = 0
    for cpu in m.cpus:
        rq = cpu.rq
        if cpu.id != this_cpu and rq.cfs.nr_running > 1 and weighted_cpuload(rq) > load:
            busiest, load = rq, weighted_cpuload(rq)
    if busiest is None or load * 100 <= this_load * IMBALANCE_PCT:
        return None
    return busiest


def can_migrate_task(p: Task, src: Rq, dst_cpu: int, failed: int) -> bool:
    """Tell whether a waiting task may be moved: allowed there, not running, its cache not warm."""
    if not p.cpus_allowed >> dst_cpu & 1 or p.on_cpu:
        return False
    # task_hot(): moved anyway after some failed tries.
    hot = src.clock - p.se.exec_start < machine.cur.sysctl_sched_migration_cost
    return not hot or failed > 1


def detach_tasks(src: Rq, dst_cpu: int, imbalance: int, failed: int, idle: bool) -> list[Task]:
    """Take tasks off the busiest queue, up to half of what it has more.  Context: src.lock held."""
    tasks: list[Task] = []
    cfs = src.cfs
    # The kernel walks rq->cfs_tasks from the end: those that ran longest ago.
    for se in cfs.timeline[cfs.first : cfs.first + SCHED_NR_MIGRATE]:
        if cfs.nr_running <= 1 or imbalance <= 0:
            break
        p: Task = se.task
        if not can_migrate_task(p, src, dst_cpu, failed):
            continue
        load = p.se.load.weight
        if load // 2 > imbalance and not failed:
            continue
        p.on_rq = TASK_ON_RQ_MIGRATING                      # detach_task()
        core.deactivate_task(src, p, DEQUEUE_NOCLOCK)
        core.set_task_cpu(p, dst_cpu)
        tasks.append(p)
        imbalance -= load
        if idle:                                            # newly idle: one is enough
            break
    return tasks


def attach_task(rq: Rq, p: Task) -> None:
    """Put a detached task on its new queue.  Context: rq.lock held."""
    core.activate_task(rq, p, ENQUEUE_NOCLOCK)
    p.on_rq = TASK_ON_RQ_QUEUED
    core.check_preempt_curr(rq, p, 0)


def load_balance(this_rq: Rq, idle: bool) -> int:
    """Move tasks from the busiest CPU here; return how many.  Context: irqs off, no rq.lock held."""
    m = machine.cur
    busiest = find_busiest_queue(this_rq.cpu_id)
    if busiest is None:
        return 0
    imbalance = (weighted_cpuload(busiest) - weighted_cpuload(this_rq)) // 2
    pcpu = this_rq.cpu.pcpu
    failed = pcpu.get("nr_balance_failed", 0)
    rq_lock(busiest)
    core.update_rq_clock(busiest)
    tasks = detach_tasks(busiest, this_rq.cpu_id, imbalance, failed, idle)
    rq_unlock(busiest)
    if tasks:
        rq_lock(this_rq)
        core.update_rq_clock(this_rq)
        for p in tasks:
            attach_task(this_rq, p)
        rq_unlock(this_rq)
        pcpu["nr_balance_failed"] = 0
    else:
        pcpu["nr_balance_failed"] = failed + 1
    m.now += costs.SCHEDULE
    return len(tasks)


def idle_balance(this_rq: Rq) -> int:
    """Look for work elsewhere before going idle.

    :return: how many tasks came; -1 if one of a higher class did meanwhile
    Context: rq.lock held; it is released for a while.
    """
    m = machine.cur
    this_rq.idle_stamp = m.now
    if not m.sched_domains:
        return 0
    for cpu in m.cpus:
        if cpu.rq is not this_rq and cpu.rq.cfs.nr_running > 1:
            break
    else:
        return 0
    rq_unlock(this_rq)
    pulled = load_balance(this_rq, True)
    rq_lock(this_rq)
    if pulled:
        this_rq.idle_stamp = 0
    if this_rq.nr_running != this_rq.cfs.nr_running:
        return -1
    return pulled


def rebalance_domains(rq: Rq, idle: bool) -> None:
    """Balance if the interval is over: longer while busy."""
    m = machine.cur
    if m.jiffies >= rq.next_balance:
        rq.cpu.irqs_off = True
        load_balance(rq, idle)
        rq.cpu.irqs_off = False
        interval = m.nr_cpus * (1 if idle else 32)          # ms: sd->balance_interval, times busy_factor
        rq.next_balance = m.jiffies + max(1, interval * m.hz // 1000)


def run_rebalance_domains() -> None:
    """Handle SCHED_SOFTIRQ: balance this CPU and, if it idles and was asked to, those that idle without a tick."""
    m = machine.cur
    cpu = m.cpu
    rq = cpu.rq
    if cpu.pcpu.pop("nohz_kick", False):
        # nohz_idle_balance(): in the name of each idle CPU; this one last.
        for other in m.cpus:
            if other is not cpu and core.idle_cpu(other.id) and other.tick_cpu_sched is not None \
                    and other.tick_cpu_sched.tick_stopped:
                rebalance_for(other.rq)
    rebalance_domains(rq, rq.idle_balance)


def rebalance_for(rq: Rq) -> None:
    """Pull tasks to an idle CPU from here."""
    this = machine.cur.cpu
    this.irqs_off = True
    load_balance(rq, True)
    this.irqs_off = False


def nohz_balancer_kick(rq: Rq) -> None:
    """Ask an idle CPU without a tick to balance: this one has more than it can run.  Context: hard interrupt."""
    m = machine.cur
    if rq.nr_running < 2:
        return
    for cpu in m.cpus:
        ts = cpu.tick_cpu_sched
        if cpu.rq is not rq and core.idle_cpu(cpu.id) and ts is not None and ts.tick_stopped:
            if not cpu.pcpu.get("nohz_kick"):
                cpu.pcpu["nohz_kick"] = True
                smp.smp_send_reschedule(cpu.id)        # kick_ilb()
            return


def trigger_load_balance(rq: Rq) -> None:
    """Raise SCHED_SOFTIRQ if it is time to balance.  Context: hard interrupt."""
    m = machine.cur
    if not m.sched_domains:
        return
    if m.jiffies >= rq.next_balance:
        softirq.raise_softirq_irqoff(SCHED_SOFTIRQ)
    nohz_balancer_kick(rq)
