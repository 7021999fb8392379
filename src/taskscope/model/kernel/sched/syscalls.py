"""The scheduler's system calls: policy, priority, affinity, nice, yield: kernel/sched/core.c, v4.19.

They have a file of their own since v6.12.  User memory is as elsewhere in the model: a sched_param is its priority, an
affinity mask an integer, a timespec (s, ns).
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, EPERM, ESRCH
from typing import Any, Final, NamedTuple

from taskscope.model import machine
from taskscope.model.include.linux.preempt import preempt_enable
from taskscope.model.include.linux.sched import (
    MAX_NICE,
    MAX_RT_PRIO,
    MIN_NICE,
    PF_NO_SETAFFINITY,
    SCHED_BATCH,
    SCHED_DEADLINE,
    SCHED_FIFO,
    SCHED_IDLE,
    SCHED_NORMAL,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
    TASK_ON_RQ_QUEUED,
    Task,
    task_nice,
)
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.kernel import cred, pid
from taskscope.model.kernel.locking import rtmutex
from taskscope.model.kernel.sched import core, fair, rt
from taskscope.model.kernel.sched.core import pi as pi_
from taskscope.model.kernel.sched.sched import (
    DEQUEUE_MOVE,
    DEQUEUE_NOCLOCK,
    DEQUEUE_SAVE,
    ENQUEUE_HEAD,
    ENQUEUE_MOVE,
    ENQUEUE_NOCLOCK,
    ENQUEUE_RESTORE,
    fair_policy,
    idle_policy,
    rt_policy,
    valid_policy,
)
from taskscope.model.kernel.signal import send

SETPARAM_POLICY: Final = -1
CAP_SYS_NICE: Final = 23
RLIMIT_NICE: Final = 13
RLIMIT_RTPRIO: Final = 14
SCHED_FLAG_RESET_ON_FORK: Final = 0x01
MAX_USER_RT_PRIO: Final = 100


class SchedAttr(NamedTuple):
    """struct sched_attr; runtime, deadline and period are SCHED_DEADLINE's, which is not modelled."""

    sched_policy: int
    sched_flags: int = 0
    sched_nice: int = 0
    sched_priority: int = 0


def find_process_by_pid(nr: int) -> Task | None:
    """Return the task of that number, the running one for 0."""
    return pid.find_task_by_vpid(nr) if nr else machine.cur.cpu.curr


# ---- nice --------------------------------------------------------------------------------------------------


def set_user_nice(p: Task, nice: int) -> None:
    """Change a task's nice value; a realtime task keeps it for later."""
    if task_nice(p) == nice or nice < MIN_NICE or nice > MAX_NICE:
        return
    rq, flags = core.task_rq_lock(p)
    core.update_rq_clock(rq)
    # The RT priorities are set via sched_setscheduler(), but we still allow the 'normal' nice value to be set - but as
    # expected it won't have any effect on scheduling until the task is SCHED_NORMAL again.
    if rt_policy(p.policy):
        p.static_prio = 120 + nice
        core.task_rq_unlock(rq, p, flags)
        return
    queued = p.on_rq == TASK_ON_RQ_QUEUED
    running = rq.curr is p
    if queued:
        core.dequeue_task(rq, p, DEQUEUE_SAVE | DEQUEUE_NOCLOCK)
    if running:
        p.sched_class.put_prev_task(rq, p)
    p.static_prio = 120 + nice
    core.set_load_weight(p)
    old_prio = p.prio
    p.prio = core.effective_prio(p)
    delta = p.prio - old_prio
    if queued:
        core.enqueue_task(rq, p, ENQUEUE_RESTORE | ENQUEUE_NOCLOCK)
        # If the task increased its priority or is running and lowered its priority, then reschedule its CPU.
        if delta < 0 or (delta > 0 and p.on_cpu):
            core.resched_curr(rq)
    if running:
        p.sched_class.set_curr_task(rq)
    core.task_rq_unlock(rq, p, flags)


def can_nice(p: Task, nice: int) -> bool:
    """Tell whether the caller may give the task that nice value: RLIMIT_NICE allows 20 - limit."""
    return 20 - nice <= send.task_rlimit(p, RLIMIT_NICE) or cred.capable(CAP_SYS_NICE)


def sys_nice(increment: int) -> int:
    """Change the running task's nice value by `increment`: nice(2)."""
    current = machine.cur.cpu.curr
    increment = max(-40, min(increment, 40))
    nice = max(MIN_NICE, min(task_nice(current) + increment, MAX_NICE))
    if increment < 0 and not can_nice(current, nice):
        return -EPERM
    set_user_nice(current, nice)
    return 0


# ---- policy ------------------------------------------------------------------------------------------------


def check_same_owner(p: Task) -> bool:
    """Tell whether the caller owns the task."""
    mine, pcred = machine.cur.cpu.curr.cred, p.cred
    return bool(mine.euid in (pcred.euid, pcred.uid))


def __setscheduler(p: Task, attr: SchedAttr) -> None:
    policy = attr.sched_policy
    if policy == SETPARAM_POLICY:
        policy = p.policy
    p.policy = policy                                       # __setscheduler_params()
    if fair_policy(policy):
        p.static_prio = 120 + attr.sched_nice
    p.rt_priority = attr.sched_priority
    p.normal_prio = core.normal_prio(p)
    core.set_load_weight(p)
    # Keep a potential priority boosting if called from sched_setscheduler().
    p.prio = core.normal_prio(p) if p.pi is None else pi_.rt_effective_prio(p, core.normal_prio(p))
    p.sched_class = rt.rt_sched_class if p.prio < MAX_RT_PRIO else fair.fair_sched_class


def sched_permission(p: Task, attr: SchedAttr, policy: int, reset_on_fork: bool) -> int:
    """Check whether the caller, who is not privileged, may do this; return 0 or -EPERM."""
    if fair_policy(policy) and attr.sched_nice < task_nice(p) and not can_nice(p, attr.sched_nice):
        return -EPERM
    if rt_policy(policy):
        limit = send.task_rlimit(p, RLIMIT_RTPRIO)
        # Can't set/change the rt policy, can't increase priority.
        if policy != p.policy and not limit:
            return -EPERM
        if attr.sched_priority > p.rt_priority and attr.sched_priority > limit:
            return -EPERM
    # Treat SCHED_IDLE as nice 20. Only allow a switch to SCHED_NORMAL if the RLIMIT_NICE limit allows it.
    if idle_policy(p.policy) and not idle_policy(policy) and not can_nice(p, task_nice(p)):
        return -EPERM
    # Can't change other user's priorities, nor clear the reset-on-fork flag.
    if not check_same_owner(p) or (p.sched_reset_on_fork and not reset_on_fork):
        return -EPERM
    return 0


def __sched_setscheduler(p: Task, attr: SchedAttr, user: bool, pi: bool) -> int:
    """Change a task's policy and priority.

    :param user: check the caller's permission
    :param pi: pass a new priority on to who owns what the task waits for
    :return: 0 or a negative errno
    """
    policy = attr.sched_policy
    if policy < 0:
        reset_on_fork = p.sched_reset_on_fork
        policy = p.policy
    else:
        reset_on_fork = bool(attr.sched_flags & SCHED_FLAG_RESET_ON_FORK)
        if not valid_policy(policy):
            return -EINVAL
    if attr.sched_flags & ~SCHED_FLAG_RESET_ON_FORK:
        return -EINVAL
    # Valid priorities for SCHED_FIFO and SCHED_RR are 1..MAX_USER_RT_PRIO-1, for the others 0.
    if not 0 <= attr.sched_priority < MAX_USER_RT_PRIO or rt_policy(policy) != (attr.sched_priority != 0):
        return -EINVAL
    if user and not cred.capable(CAP_SYS_NICE):
        refused = sched_permission(p, attr, policy, reset_on_fork)
        if refused:
            return refused
    rq, flags = core.task_rq_lock(p)
    core.update_rq_clock(rq)
    # Changing the policy of the stop threads its a very bad idea.
    if p is rq.stop:
        core.task_rq_unlock(rq, p, flags)
        return -EINVAL
    # If not changing anything there's no need to proceed further, but store a possible modification of reset_on_fork.
    if policy == p.policy and not (fair_policy(policy) and attr.sched_nice != task_nice(p)) \
            and not (rt_policy(policy) and attr.sched_priority != p.rt_priority):
        p.sched_reset_on_fork = reset_on_fork
        core.task_rq_unlock(rq, p, flags)
        return 0
    p.sched_reset_on_fork = reset_on_fork
    oldprio = p.prio
    prev_class = p.sched_class
    queued = p.on_rq == TASK_ON_RQ_QUEUED
    running = rq.curr is p
    if queued:
        core.dequeue_task(rq, p, DEQUEUE_SAVE | DEQUEUE_MOVE | DEQUEUE_NOCLOCK)
    if running:
        p.sched_class.put_prev_task(rq, p)
    __setscheduler(p, attr)
    if queued:
        # We enqueue to tail when the priority of a task is increased (user space view).
        queue_flags = ENQUEUE_RESTORE | ENQUEUE_MOVE | ENQUEUE_NOCLOCK
        if oldprio < p.prio:
            queue_flags |= ENQUEUE_HEAD
        core.enqueue_task(rq, p, queue_flags)
    if running:
        p.sched_class.set_curr_task(rq)
    core.check_class_changed(rq, p, prev_class, oldprio)
    # Avoid rq from going away on us: preemption stays disabled over the unlock.
    machine.cur.cpu.preempt_count += 1
    core.task_rq_unlock(rq, p, flags)
    if pi and p.pi is not None:
        rtmutex.rt_mutex_adjust_pi(p)
    core.balance_callback(rq)
    preempt_enable()
    return 0


def _sched_setscheduler(p: Task, policy: int, priority: int, check: bool) -> int:
    flags = 0
    # Fixup the legacy SCHED_RESET_ON_FORK hack.
    if policy != SETPARAM_POLICY and policy & SCHED_RESET_ON_FORK:
        flags |= SCHED_FLAG_RESET_ON_FORK
        policy &= ~SCHED_RESET_ON_FORK
    return __sched_setscheduler(p, SchedAttr(policy, flags, task_nice(p), priority), check, True)


def sched_setscheduler(p: Task, policy: int, priority: int) -> int:
    """Change policy and realtime priority with the checks of the system call."""
    return _sched_setscheduler(p, policy, priority, True)


def sched_setscheduler_nocheck(p: Task, policy: int, priority: int) -> int:
    """Change policy and realtime priority from the kernel."""
    return _sched_setscheduler(p, policy, priority, False)


def do_sched_setscheduler(nr: int, policy: int, param: int | None) -> int:
    """Do what sched_setscheduler() and sched_setparam() share."""
    if param is None or nr < 0:
        return -EINVAL
    p = find_process_by_pid(nr)
    return -ESRCH if p is None else sched_setscheduler(p, policy, param)


def sys_sched_setscheduler(nr: int, policy: int, param: int | None) -> int:
    """Change policy and priority: sched_setscheduler(2)."""
    return -EINVAL if policy < 0 else do_sched_setscheduler(nr, policy, param)


def sys_sched_setparam(nr: int, param: int | None) -> int:
    """Change the priority: sched_setparam(2)."""
    return do_sched_setscheduler(nr, SETPARAM_POLICY, param)


def sys_sched_setattr(nr: int, attr: SchedAttr | None, flags: int) -> int:
    """Change policy, nice value and priority: sched_setattr(2)."""
    if attr is None or nr < 0 or flags:
        return -EINVAL
    if attr.sched_policy < 0:
        return -EINVAL
    attr = attr._replace(sched_nice=max(MIN_NICE, min(attr.sched_nice, MAX_NICE)))
    p = find_process_by_pid(nr)
    return -ESRCH if p is None else __sched_setscheduler(p, attr, True, True)


def sys_sched_getscheduler(nr: int) -> int:
    """Return the policy: sched_getscheduler(2)."""
    if nr < 0:
        return -EINVAL
    p = find_process_by_pid(nr)
    if p is None:
        return -ESRCH
    return p.policy | (SCHED_RESET_ON_FORK if p.sched_reset_on_fork else 0)


def sys_sched_getparam(nr: int, param: Any) -> int:
    """Store the realtime priority: sched_getparam(2)."""
    if not param or nr < 0:
        return -EINVAL
    p = find_process_by_pid(nr)
    if p is None:
        return -ESRCH
    return -EFAULT if put_user(p.rt_priority if rt_policy(p.policy) else 0, param) else 0


def sys_sched_getattr(nr: int, uattr: Any, size: int, flags: int) -> int:
    """Store policy, nice value and priority as a `SchedAttr`: sched_getattr(2)."""
    if not uattr or nr < 0 or size < 48 or flags:
        return -EINVAL
    p = find_process_by_pid(nr)
    if p is None:
        return -ESRCH
    reset = SCHED_FLAG_RESET_ON_FORK if p.sched_reset_on_fork else 0
    if rt_policy(p.policy):
        attr = SchedAttr(p.policy, reset, 0, p.rt_priority)
    else:
        attr = SchedAttr(p.policy, reset, task_nice(p), 0)
    return -EFAULT if put_user(attr, uattr) else 0


def sys_sched_get_priority_max(policy: int) -> int:
    """Return the highest realtime priority of a policy."""
    if policy in (SCHED_FIFO, SCHED_RR):
        return MAX_USER_RT_PRIO - 1
    return 0 if policy in (SCHED_DEADLINE, SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE) else -EINVAL


def sys_sched_get_priority_min(policy: int) -> int:
    """Return the lowest realtime priority of a policy."""
    if policy in (SCHED_FIFO, SCHED_RR):
        return 1
    return 0 if policy in (SCHED_DEADLINE, SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE) else -EINVAL


def sys_sched_rr_get_interval(nr: int, interval: Any) -> int:
    """Store the slice of a task as (s, ns): sched_rr_get_interval(2)."""
    if nr < 0:
        return -EINVAL
    p = find_process_by_pid(nr)
    if p is None:
        return -ESRCH
    rq, flags = core.task_rq_lock(p)
    jiffies = p.sched_class.get_rr_interval(rq, p)
    core.task_rq_unlock(rq, p, flags)
    return -EFAULT if put_user(divmod(jiffies * machine.cur.tick_nsec, 1_000_000_000), interval) else 0


# ---- affinity ----------------------------------------------------------------------------------------------


def sched_setaffinity(nr: int, in_mask: int) -> int:
    """Change a task's affinity with the checks of the system call."""
    p = find_process_by_pid(nr)
    if p is None:
        return -ESRCH
    if p.flags & PF_NO_SETAFFINITY:
        return -EINVAL
    if not check_same_owner(p) and not cred.capable(CAP_SYS_NICE):
        return -EPERM
    # cpuset_cpus_allowed(): all CPUs.  Not modelled: cpusets.
    return core.__set_cpus_allowed_ptr(p, in_mask & (1 << machine.cur.nr_cpus) - 1, True)


def sys_sched_setaffinity(nr: int, length: int, mask: int | None) -> int:
    """Change a task's affinity: sched_setaffinity(2)."""
    if mask is None:
        return -EFAULT
    return sched_setaffinity(nr, mask & (1 << 8 * length) - 1)


def sys_sched_getaffinity(nr: int, length: int, mask: Any) -> int:
    """Store a task's affinity, of the CPUs that are there, and return the bytes that were: sched_getaffinity(2)."""
    m = machine.cur
    if length * 8 < m.nr_cpus or length & (m.flavour.long_size - 1):
        return -EINVAL
    p = find_process_by_pid(nr)
    if p is None:
        return -ESRCH
    if put_user(core.task_cpus_mask(p) & m.cpu_active_mask, mask):
        return -EFAULT
    words = -(-m.nr_cpus // (8 * m.flavour.long_size))
    return min(length, words * m.flavour.long_size)


# ---- yield -------------------------------------------------------------------------------------------------


def do_sched_yield() -> None:
    """Let the others that are runnable go first, as the running task's class understands it."""
    m = machine.cur
    cpu = m.cpu
    rq = cpu.rq
    assert not cpu.preempt_count, "a system call holds no lock"
    cpu.irqs_off = True                                     # this_rq_lock_irq()
    cpu.preempt_count = 1
    if __debug__:
        assert rq.lock.owner is None, "rq.lock"
        rq.lock.owner = cpu
    rq.yld_count += 1
    cpu.curr.sched_class.yield_task(rq)
    # Since we are going to call schedule() anyway, there's no need to preempt or enable interrupts.
    if __debug__:
        rq.lock.owner = None
    cpu.preempt_count = 0
    cpu.irqs_off = False
    core.schedule()


def sys_sched_yield() -> int:
    """Let others run: sched_yield(2)."""
    do_sched_yield()
    return 0
