"""Making workqueues and pools: kernel/workqueue.c, v4.19: alloc_workqueue(), attributes of unbound ones, the boot.

Each CPU has two pools, of nice 0 and -20.  Unbound workqueues share a pool if nice and CPUs are the same; it goes
with the last of them.  Pools exist early, and works can be queued; workers come when threads can be made.

Not modelled: NUMA nodes and, since v6.5, affinity scopes (all CPUs share one), BH workqueues (v6.9), the freezer,
sysfs.
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING, Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.locking.mutex as mutex
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
import taskscope.model.kernel.time.timer as timer_
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.kthread import KthreadWork
from taskscope.model.include.linux.list import list_add_tail, list_del_init, list_empty, list_for_each_entry
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.sched import TASK_UNINTERRUPTIBLE
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    raw_spin_lock_irq,
    raw_spin_lock_irqsave,
    raw_spin_unlock_irq,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead
from taskscope.model.include.linux.workqueue import (
    __WQ_ORDERED,
    WQ_FREEZABLE,
    WQ_HIGHPRI,
    WQ_POWER_EFFICIENT,
    WQ_UNBOUND,
    WorkStruct,
    wq_name_len,
)
from taskscope.model.kernel.workqueue import flush, rescuer
from taskscope.model.kernel.workqueue import pool as pool_
from taskscope.model.kernel.workqueue import pwq as pwq_
from taskscope.model.kernel.workqueue import worker as worker_
from taskscope.model.kernel.workqueue.pool import POOL_DISASSOCIATED, POOL_MANAGER_ACTIVE, WorkerPool, WorkqueueAttrs

if TYPE_CHECKING:
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue, WorkqueueStruct

HIGHPRI_NICE_LEVEL: Final = -20
#: the nice values of the pools of a CPU
STD_NICE: Final = (0, HIGHPRI_NICE_LEVEL)
WQ_MAX_ACTIVE: Final = 512
WQ_MAX_UNBOUND_PER_CPU: Final = 4                           # until v6.9
WQ_DFL_ACTIVE: Final = WQ_MAX_ACTIVE // 2

# ---- pools -------------------------------------------------------------------------------------------------


def worker_pool_assign_id(pool: WorkerPool) -> None:
    """Give a pool the lowest number that is free; unbound workers bear it in their names.

    Context: wq_pool_mutex held.
    """
    idr = machine.cur.worker_pool_idr
    pool.id = next(n for n in range(len(idr) + 1) if n not in idr)
    idr[pool.id] = pool


def get_unbound_pool(attrs: WorkqueueAttrs) -> WorkerPool | None:
    """Return the pool of unbound workers with these attributes, made if need be; None if it could get no worker.

    Context: wq_pool_mutex held; sleeps.
    """
    m = machine.cur
    for one in m.unbound_pools:
        if one.attrs.nice == attrs.nice and one.attrs.cpumask == attrs.cpumask:         # wqattrs_equal()
            one.refcnt += 1
            return one
    # no_numa isn't a worker_pool attribute, always clear it
    pool = WorkerPool(WorkqueueAttrs(attrs.nice, attrs.cpumask))
    pool.lock = Spinlock("pool.lock/unbound")               # see put_pwq()
    worker_pool_assign_id(pool)
    # create and start the initial worker
    if m.wq_online and worker_.create_worker(pool) is None:
        put_unbound_pool(pool)
        return None
    m.unbound_pools.append(pool)
    return pool


def put_unbound_pool(pool: WorkerPool) -> None:
    """Drop a reference; the last one ends all workers of the pool.

    Context: wq_pool_mutex held; sleeps.
    """
    m = machine.cur
    pool.refcnt -= 1
    if pool.refcnt:
        return
    assert pool.cpu < 0, "an unbound pool without work"
    assert list_empty(pool.worklist), "an unbound pool without work"
    # release id and unhash
    del m.worker_pool_idr[pool.id]
    if pool in m.unbound_pools:
        m.unbound_pools.remove(pool)
    # Become the manager and destroy all workers: that no other one becomes it.  wait_event_lock_irq(wq_manager_wait, …)
    raw_spin_lock_irq(pool.lock)
    wait = DEFINE_WAIT()
    while pool.flags & POOL_MANAGER_ACTIVE:
        sched_wait.prepare_to_wait(m.wq_manager_wait, wait, TASK_UNINTERRUPTIBLE)
        raw_spin_unlock_irq(pool.lock)
        sched_core.schedule()
        raw_spin_lock_irq(pool.lock)
    sched_wait.finish_wait(m.wq_manager_wait, wait)
    pool.flags |= POOL_MANAGER_ACTIVE
    dying = []
    worker = pool_.first_idle_worker(pool)
    while worker is not None:
        worker_.destroy_worker(worker)
        dying.append(worker)
        worker = pool_.first_idle_worker(pool)
    assert not pool.nr_workers, "all workers were idle"
    assert not pool.nr_idle, "all workers were idle"
    raw_spin_unlock_irq(pool.lock)
    detach_completion = Completion()
    mutex.mutex_lock(m.wq_pool_attach_mutex)
    worker_.wake_dying_workers(dying)
    if not list_empty(pool.workers):
        pool.detach_completion = detach_completion
    mutex.mutex_unlock(m.wq_pool_attach_mutex)
    if pool.detach_completion is not None:
        completion.wait_for_completion(pool.detach_completion)
    # shut down the timers
    timer_.del_timer_sync(pool.idle_timer)
    timer_.del_timer_sync(pool.mayday_timer)
    # The memory goes after a grace period (rcu_free_pool()).


# ---- pool_workqueues ---------------------------------------------------------------------------------------


def _release_pwq(pwq: PoolWorkqueue) -> None:
    """Release the pwq of an unbound workqueue that nobody uses.

    Context: process context; sleeps.
    """
    m = machine.cur
    wq = pwq.wq
    mutex.mutex_lock(wq.mutex)
    list_del_init(pwq.pwqs_node)
    mutex.mutex_unlock(wq.mutex)
    mutex.mutex_lock(m.wq_pool_mutex)
    put_unbound_pool(pwq.pool)
    mutex.mutex_unlock(m.wq_pool_mutex)


def pwq_unbound_release_workfn(work: WorkStruct) -> None:
    """Release a pwq in a worker of the system's workqueue, until v6.6."""
    _release_pwq(work.owner)


def pwq_release_workfn(work: KthreadWork) -> None:
    """Release a pwq in the thread pool_workqueue_release (v6.6; a kthread_worker, so that no pool is needed for it)."""
    _release_pwq(work.owner)


def pwq_adjust_max_active(pwq: PoolWorkqueue) -> None:
    """Let a pwq take on its workqueue's max_active, and activate what it allows.

    Context: wq.mutex held.
    """
    flags = raw_spin_lock_irqsave(pwq.pool.lock)
    pwq.max_active = pwq.wq.saved_max_active
    kick = False
    while not list_empty(pwq.delayed_works) and pwq.nr_active < pwq.max_active:
        pwq_.pwq_activate_first_delayed(pwq)
        kick = True
    # Need to kick a worker after max_active is increased: works that were kept back have become active.
    if kick:
        pool_.wake_up_worker(pwq.pool)
    raw_spin_unlock_irqrestore(pwq.pool.lock, flags)


def link_pwq(pwq: PoolWorkqueue) -> None:
    """Make a pwq one of its workqueue's.

    Context: wq.mutex held.
    """
    # may be called multiple times, ignore if already linked
    if not list_empty(pwq.pwqs_node):
        return
    # set the matching work_color
    pwq.work_color = pwq.wq.work_color
    # sync max_active to the current setting
    pwq_adjust_max_active(pwq)
    list_add_tail(pwq.pwqs_node, pwq.wq.pwqs)


def apply_workqueue_attrs(wq: WorkqueueStruct, attrs: WorkqueueAttrs) -> int:
    """Give an unbound workqueue other attributes: 0 or a negative errno.

    Works queued from now on go to the pool of these; those on the pool of before are done there.

    Context: process context; sleeps.
    """
    m = machine.cur
    mutex.mutex_lock(m.wq_pool_mutex)
    ret = apply_workqueue_attrs_locked(wq, attrs)
    mutex.mutex_unlock(m.wq_pool_mutex)
    return ret


def apply_workqueue_attrs_locked(wq: WorkqueueStruct, attrs: WorkqueueAttrs) -> int:
    """Do what `apply_workqueue_attrs` says.

    Context: wq_pool_mutex held; sleeps.
    """
    # only unbound workqueues can change attributes
    if not wq.flags & WQ_UNBOUND:
        return -EINVAL
    # creating multiple pwqs breaks ordering guarantee
    if not list_empty(wq.pwqs) and wq.flags & __WQ_ORDERED:
        return -EINVAL
    cpumask = attrs.cpumask & (1 << machine.cur.nr_cpus) - 1
    if not cpumask:                                         # cpumask_empty(): the default is wq_unbound_cpumask
        cpumask = (1 << machine.cur.nr_cpus) - 1
    new_attrs = WorkqueueAttrs(attrs.nice, cpumask, attrs.no_numa)
    pool = get_unbound_pool(new_attrs)
    if pool is None:
        return -ENOMEM
    pwq = pwq_.PoolWorkqueue(wq, pool)                      # alloc_unbound_pwq()
    # apply_wqattrs_commit(): all pwqs have been created successfully, let's install'em
    mutex.mutex_lock(wq.mutex)
    wq.unbound_attrs = new_attrs
    old_pwq, wq.dfl_pwq = wq.dfl_pwq, pwq
    link_pwq(pwq)
    mutex.mutex_unlock(wq.mutex)
    pwq_.put_pwq_unlocked(old_pwq)
    return 0


# ---- workqueues --------------------------------------------------------------------------------------------


def alloc_and_link_pwqs(wq: WorkqueueStruct) -> int:
    """Give a workqueue its pwqs: 0 or a negative errno.

    Context: process context; sleeps if it is unbound.
    """
    m = machine.cur
    highpri = bool(wq.flags & WQ_HIGHPRI)
    if not wq.flags & WQ_UNBOUND:
        mutex.mutex_lock(wq.mutex)
        for cpu in range(m.nr_cpus):
            pwq = pwq_.PoolWorkqueue(wq, m.cpu_worker_pools[cpu][highpri])
            wq.cpu_pwqs.append(pwq)
            link_pwq(pwq)
        mutex.mutex_unlock(wq.mutex)
        return 0
    cpumask = (1 << m.nr_cpus) - 1
    # unbound_std_wq_attrs, ordered_wq_attrs
    return apply_workqueue_attrs(wq, WorkqueueAttrs(STD_NICE[highpri], cpumask, bool(wq.flags & __WQ_ORDERED)))


def wq_clamp_max_active(max_active: int, flags: int, name: str) -> int:
    """Return max_active within its limits."""
    version = machine.cur.flavour.version
    # v6.14 made it 2048; until v6.9 an unbound one could have more on many CPUs
    lim = 2048 if version >= (6, 14) else WQ_MAX_ACTIVE
    if flags & WQ_UNBOUND and version < (6, 9):
        lim = max(lim, machine.cur.nr_cpus * WQ_MAX_UNBOUND_PER_CPU)
    if not 1 <= max_active <= lim:
        printk_.printk(f"<4>workqueue: max_active {max_active} requested for {name} is out of range, "
                       f"clamping between 1 and {lim}\n")
    return min(max(max_active, 1), lim)


def alloc_workqueue(fmt: str, flags: int, max_active: int) -> WorkqueueStruct:
    """Make a workqueue, with its rescuer if threads can be made already.

    Context: process context; sleeps once wq_online.

    :param fmt: its name; C has a format with its arguments
    :param flags: WQ_*
    :param max_active: how many works may be active on a CPU; 0 for the default
    """
    m = machine.cur
    version = m.flavour.version
    # Unbound && max_active == 1 used to imply ordered, until v6.6.
    if flags & WQ_UNBOUND and max_active == 1 and version < (6, 6):
        flags |= __WQ_ORDERED
    # see the comment above the definition of WQ_POWER_EFFICIENT; the parameter wq_power_efficient is off.
    if not max_active:
        max_active = WQ_DFL_ACTIVE if version < (6, 14) else 1024
    max_active = wq_clamp_max_active(max_active, flags, fmt)
    wq = pwq_.WorkqueueStruct(fmt[: wq_name_len() - 1], flags, max_active)
    error = alloc_and_link_pwqs(wq)
    assert not error, f"{wq}: {error}"
    if m.wq_online and rescuer.init_rescuer(wq) < 0:
        printk_.printk(f"<3>workqueue: Failed to create a rescuer kthread for wq \"{wq.name}\"\n")
    # wq_pool_mutex protects global freeze state and workqueues list.
    mutex.mutex_lock(m.wq_pool_mutex)
    m.workqueues.append(wq)
    mutex.mutex_unlock(m.wq_pool_mutex)
    return wq


def destroy_workqueue(wq: WorkqueueStruct) -> None:
    """Finish all works of a workqueue, and destroy it.

    Context: process context; sleeps.
    """
    m = machine.cur
    # drain it before proceeding with destruction
    flush.drain_workqueue(wq)
    # kill rescuer, if sanity checks leave it w/o rescuer
    if wq.rescuer is not None:
        worker, wq.rescuer = wq.rescuer, None
        assert worker.task is not None, "the rescuer has its thread"
        kthread.kthread_stop(worker.task)
    # sanity checks
    mutex.mutex_lock(m.wq_pool_mutex)
    for pwq in list_for_each_entry(wq.pwqs):
        assert not any(pwq.nr_in_flight), f"{pwq} has works"
        assert not pwq.nr_active, f"{pwq} has works"
        assert list_empty(pwq.delayed_works), f"{pwq} has works"
        assert pwq is wq.dfl_pwq or pwq.refcnt <= 1, f"{pwq} is in use"
    m.workqueues.remove(wq)
    mutex.mutex_unlock(m.wq_pool_mutex)
    # The memory of a bound one goes after a grace period (rcu_free_wq()); an unbound one lets go of its pool.
    if wq.flags & WQ_UNBOUND:
        dfl_pwq, wq.dfl_pwq = wq.dfl_pwq, None
        pwq_.put_pwq_unlocked(dfl_pwq)


def workqueue_set_max_active(wq: WorkqueueStruct, max_active: int) -> None:
    """Let more or fewer works of a workqueue be active on a CPU.

    Context: process context; sleeps.
    """
    assert not wq.flags & __WQ_ORDERED, "max_active of an ordered workqueue is 1"
    max_active = wq_clamp_max_active(max_active, wq.flags, wq.name)
    mutex.mutex_lock(wq.mutex)
    wq.saved_max_active = max_active
    for pwq in list_for_each_entry(wq.pwqs):
        pwq_adjust_max_active(pwq)
    mutex.mutex_unlock(wq.mutex)


# ---- the boot ----------------------------------------------------------------------------------------------


def workqueue_init_early() -> None:
    """Make the pools and the system's workqueues; no worker exists yet.  Called by start_kernel()."""
    m = machine.cur
    m.wq_online = False
    m.wq_pool_mutex = Mutex("wq_pool_mutex")
    m.wq_pool_attach_mutex = Mutex("wq_pool_attach_mutex")
    m.wq_mayday_lock = Spinlock("wq_mayday_lock")
    m.wq_manager_wait = WaitQueueHead("wq_manager_wait")
    m.cancel_waitq = WaitQueueHead("cancel_waitq")
    m.workqueues = []
    m.worker_pool_idr = {}
    m.unbound_pools = []
    m.cpu_worker_pools = []
    for cpu in range(m.nr_cpus):
        if m.flavour.switches.wq_bh_pools:
            # Not modelled: the pools of BH workqueues.  They have no threads, but numbers.
            for _ in STD_NICE:
                m.worker_pool_idr[len(m.worker_pool_idr)] = None
        m.cpu_worker_pools.append([init_cpu_worker_pool(cpu, nice) for nice in STD_NICE])
    m.system_wq = alloc_workqueue("events", 0, 0)
    m.system_highpri_wq = alloc_workqueue("events_highpri", WQ_HIGHPRI, 0)
    m.system_long_wq = alloc_workqueue("events_long", 0, 0)
    m.system_unbound_wq = alloc_workqueue("events_unbound", WQ_UNBOUND, WQ_MAX_ACTIVE)
    m.system_freezable_wq = alloc_workqueue("events_freezable", WQ_FREEZABLE, 0)
    m.system_power_efficient_wq = alloc_workqueue("events_power_efficient", WQ_POWER_EFFICIENT, 0)
    name = "events_freezable_pwr_efficient" if m.flavour.version >= (6, 9) else "events_freezable_power_efficient"
    m.system_freezable_power_efficient_wq = alloc_workqueue(name, WQ_FREEZABLE | WQ_POWER_EFFICIENT, 0)


def init_cpu_worker_pool(cpu: int, nice: int) -> WorkerPool:
    """Make a pool of a CPU."""
    pool = WorkerPool(WorkqueueAttrs(nice, 1 << cpu))
    pool.cpu = cpu
    worker_pool_assign_id(pool)
    return pool


def workqueue_init() -> None:
    """Make the rescuers and the first workers: threads can be made from now on.  Called by kernel_init_freeable().

    Context: process context, one CPU is up; sleeps.
    """
    m = machine.cur
    if m.flavour.switches.pwq_release_worker:
        worker = kthread.kthread_create_worker("pool_workqueue_release")
        assert not isinstance(worker, int), f"pool_workqueue_release: {worker}"
        m.pwq_release_worker = worker
    for wq in m.workqueues:
        if rescuer.init_rescuer(wq):
            printk_.printk(f"<4>workqueue: failed to create early rescuer for {wq.name}\n")
    # create the initial workers
    for cpu in range(m.nr_cpus):
        if m.cpu_online_mask >> cpu & 1:
            for pool in m.cpu_worker_pools[cpu]:
                pool.flags &= ~POOL_DISASSOCIATED
                worker_.create_worker(pool)
    for pool in m.unbound_pools:
        worker_.create_worker(pool)
    m.wq_online = True


def workqueue_prepare_cpu(cpu: int) -> int:
    """Make the first workers of a CPU that is about to come up: 0 or a negative errno.

    Context: process context; sleeps.
    """
    for pool in machine.cur.cpu_worker_pools[cpu]:
        if not pool.nr_workers and worker_.create_worker(pool) is None:
            return -ENOMEM
    return 0


def workqueue_online_cpu(cpu: int) -> int:
    """Bind the pools of a CPU that has come up to it: 0.

    Context: process context; sleeps.
    """
    m = machine.cur
    mutex.mutex_lock(m.wq_pool_mutex)
    for pool in m.cpu_worker_pools[cpu]:
        mutex.mutex_lock(m.wq_pool_attach_mutex)
        rebind_workers(pool)
        mutex.mutex_unlock(m.wq_pool_attach_mutex)
    mutex.mutex_unlock(m.wq_pool_mutex)
    return 0


def rebind_workers(pool: WorkerPool) -> None:
    """Bind the workers of a pool to its CPU, which is up.

    Context: wq_pool_attach_mutex held.
    """
    for worker in list_for_each_entry(pool.workers):
        sched_core.set_cpus_allowed_ptr(worker.task, pool.attrs.cpumask)
    raw_spin_lock_irq(pool.lock)
    pool.flags &= ~POOL_DISASSOCIATED
    for worker in list_for_each_entry(pool.workers):
        # A worker counts again once it has begun a work anew: REBOUND keeps it out until then.
        worker.flags |= pool_.WORKER_REBOUND
        worker.flags &= ~pool_.WORKER_UNBOUND
    raw_spin_unlock_irq(pool.lock)
