"""What the files of the scheduler share: kernel/sched/sched.h, v4.19.

The runqueue, its parts per class, and the table of functions that a class is.  The fair class's timeline is a red-black
tree in C; here it is an ordered array with the same order and the same operations (`CfsRq`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.sched import (
    MAX_RT_PRIO,
    SCHED_BATCH,
    SCHED_FIFO,
    SCHED_IDLE,
    SCHED_NORMAL,
    SCHED_RR,
    LoadWeight,
    SchedEntity,
    Task,
)
from taskscope.model.include.linux.spinlock import Spinlock

if TYPE_CHECKING:
    from taskscope.model.machine import Cpu

DEQUEUE_SLEEP: Final = 0x01
DEQUEUE_SAVE: Final = 0x02
DEQUEUE_MOVE: Final = 0x04
DEQUEUE_NOCLOCK: Final = 0x08
ENQUEUE_WAKEUP: Final = 0x01
ENQUEUE_RESTORE: Final = 0x02
ENQUEUE_MOVE: Final = 0x04
ENQUEUE_NOCLOCK: Final = 0x08
ENQUEUE_HEAD: Final = 0x10
ENQUEUE_REPLENISH: Final = 0x20
ENQUEUE_MIGRATED: Final = 0x40

WF_SYNC: Final = 0x01
WF_FORK: Final = 0x02
WF_MIGRATED: Final = 0x4

SD_BALANCE_EXEC: Final = 0x0004
SD_BALANCE_FORK: Final = 0x0008
SD_BALANCE_WAKE: Final = 0x0010

NICE_0_LOAD: Final = 1024
WEIGHT_IDLEPRIO: Final = 3
RR_TIMESLICE_MS: Final = 100

#: weight of nice -20 … 19: one nice level is 10 % of CPU time (kernel/sched/core.c)
sched_prio_to_weight: Final = (
    88761, 71755, 56483, 46273, 36291,
    29154, 23254, 18705, 14949, 11916,
    9548, 7620, 6100, 4904, 3906,
    3121, 2501, 1991, 1586, 1277,
    1024, 820, 655, 526, 423,
    335, 272, 215, 172, 137,
    110, 87, 70, 56, 45,
    36, 29, 23, 18, 15,
)


class SchedClass(NamedTuple):
    """struct sched_class; ``rank`` says which goes first and stands for the chain of ``next`` pointers."""

    name: str
    rank: int
    enqueue_task: Callable[[Rq, Task, int], None]
    dequeue_task: Callable[[Rq, Task, int], None]
    yield_task: Callable[[Rq], None]
    check_preempt_curr: Callable[[Rq, Task, int], None]
    pick_next_task: Callable[[Rq, Task], Task | None]
    put_prev_task: Callable[[Rq, Task], None]
    select_task_rq: Callable[[Task, int, int, int], int]
    migrate_task_rq: Callable[[Task, int], None] | None
    set_curr_task: Callable[[Rq], None]
    task_tick: Callable[[Rq, Task, int], None]
    task_fork: Callable[[Task], None] | None
    prio_changed: Callable[[Rq, Task, int], None]
    switched_from: Callable[[Rq, Task], None] | None
    switched_to: Callable[[Rq, Task], None]
    get_rr_interval: Callable[[Rq, Task], int]
    update_curr: Callable[[Rq], None]


class CfsRq:
    """struct cfs_rq.

    ``timeline`` from ``first`` on holds what waits, ordered by vruntime and then by arrival: the order of the kernel's
    tree, in which equals go to the right.  Finding a place is a binary search, the leftmost is at hand, and most tasks
    that come back belong at the end; ``None`` before ``first`` is room that is given back from time to time.  The list
    is empty when nothing waits.
    """

    __slots__ = (
        "curr", "first", "keys", "last", "load", "min_vruntime", "next", "nr_running", "skip", "timeline",
    )

    def __init__(self) -> None:
        self.load = LoadWeight()
        self.nr_running = 0
        # sched_init() starts below the wrap in C; a Python integer does not wrap.
        self.min_vruntime = 0
        self.curr: SchedEntity | None = None
        self.next: SchedEntity | None = None        # buddies: see pick_next_entity()
        self.last: SchedEntity | None = None
        self.skip: SchedEntity | None = None
        self.timeline: list[Any] = []
        #: their vruntimes, side by side in memory, as a binary search looks at many
        self.keys = array("q")
        self.first = 0


class RtRq:
    """struct rt_rq with struct rt_prio_array in it; ``bitmap`` has a bit for each priority with tasks."""

    __slots__ = ("bitmap", "queue", "rt_nr_running", "rt_throttled", "rt_time")

    def __init__(self) -> None:
        self.bitmap = 0
        self.queue: list[ListHead | None] = [None] * MAX_RT_PRIO
        self.rt_nr_running = 0
        self.rt_time = 0
        self.rt_throttled = False


class Rq:
    """struct rq: what one CPU has to run.  Guarded by ``lock``."""

    __slots__ = (
        "calc_load_active", "calc_load_update", "cfs", "clock", "cpu", "cpu_id", "curr", "idle", "idle_balance",
        "idle_stamp", "lock", "next_balance", "nr_iowait", "nr_running", "nr_switches", "nr_uninterruptible", "online",
        "prev_mm", "rt", "sched_goidle",
        "skip_clock_update", "stop", "ttwu_count", "ttwu_local", "wake_list", "yld_count",
    )

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.cpu_id = cpu.id
        self.lock = Spinlock("rq.lock")
        self.nr_running = 0
        self.nr_switches = 0
        self.nr_uninterruptible = 0
        self.nr_iowait = 0
        self.cfs = CfsRq()
        self.rt = RtRq()
        self.curr: Task = None  # type: ignore[assignment]
        self.idle: Task = None  # type: ignore[assignment]
        self.stop: Task | None = None
        self.prev_mm: Any = None
        self.clock = 0                          # ns
        self.skip_clock_update = False          # rq_clock_skip_update(): the next __schedule() keeps the clock
        self.wake_list: list[Task] = []         # ttwu_queue_remote() put them there, newest last
        self.online = False
        # balancing
        self.next_balance = 0
        self.idle_balance = False
        self.idle_stamp = 0
        # load average
        self.calc_load_active = 0
        self.calc_load_update = 0
        # schedstats
        self.yld_count = 0
        self.sched_goidle = 0
        self.ttwu_count = 0
        self.ttwu_local = 0


def cpu_rq(cpu: int) -> Rq:
    """Return the runqueue of a CPU."""
    return machine.cur.cpus[cpu].rq


def this_rq() -> Rq:
    """Return the runqueue of the executing CPU."""
    return machine.cur.cpu.rq


def task_rq(p: Task) -> Rq:
    """Return the runqueue of the task's CPU."""
    return machine.cur.cpus[p.thread_info.cpu].rq


def rq_lock(rq: Rq) -> None:
    """Take rq.lock.  Context: irqs off."""
    cpu = machine.cur.cpu
    assert cpu.irqs_off, "irqs off"
    cpu.preempt_count += 1
    if __debug__:
        assert rq.lock.owner is None, f"rq.lock of cpu {rq.cpu_id} is held"
        rq.lock.owner = cpu


def rq_unlock(rq: Rq) -> None:
    """Release rq.lock.  Context: irqs off, so that no preemption can happen here."""
    cpu = machine.cur.cpu
    if __debug__:
        assert rq.lock.owner is cpu, "rq.lock"
        rq.lock.owner = None
    cpu.preempt_count -= 1


def task_running(rq: Rq, p: Task) -> bool:
    """Tell whether the task is on a CPU now."""
    del rq
    return bool(p.on_cpu)


def task_on_rq_queued(p: Task) -> bool:
    """Tell whether the task is on a runqueue."""
    return p.on_rq == 1


def idle_policy(policy: int) -> bool:
    """Tell whether the policy is SCHED_IDLE."""
    return policy == SCHED_IDLE


def fair_policy(policy: int) -> bool:
    """Tell whether the fair class serves the policy (SCHED_IDLE too, at the lowest weight)."""
    return policy in (SCHED_NORMAL, SCHED_BATCH)


def rt_policy(policy: int) -> bool:
    """Tell whether the realtime class serves the policy."""
    return policy in (SCHED_FIFO, SCHED_RR)


def valid_policy(policy: int) -> bool:
    """Tell whether sched_setscheduler() knows the policy.  Not modelled: SCHED_DEADLINE."""
    return policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR)
