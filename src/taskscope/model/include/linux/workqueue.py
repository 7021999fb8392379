"""Works and workqueues: include/linux/workqueue.h, v4.19.  What works on them is in kernel/workqueue/.

``work->data`` holds, packed into one word, either the pool_workqueue that the work is queued on or the number of the
pool where it was last: here these are ``pwq`` and ``pool_id``, with the flags beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.timer import TimerList

if TYPE_CHECKING:
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue, WorkqueueStruct

WORK_STRUCT_PENDING: Final = 1 << 0     # to be executed
WORK_STRUCT_DELAYED: Final = 1 << 1     # waits for its pwq to have fewer active works (INACTIVE since v5.15)
WORK_STRUCT_LINKED: Final = 1 << 3      # the next work on the list belongs to this one
WORK_OFFQ_CANCELING: Final = 1 << 4     # somebody waits in cancel_work_sync()

WORK_NR_COLORS: Final = 15
WORK_NO_COLOR: Final = WORK_NR_COLORS
#: for queue_work_on(): any CPU.  It is NR_CPUS in C; events show it as req_cpu.
WORK_CPU_UNBOUND: Final = -1
#: the pool of a work that was in none yet
WORK_OFFQ_POOL_NONE: Final = -1

WQ_UNBOUND: Final = 1 << 1              # not bound to any cpu
WQ_FREEZABLE: Final = 1 << 2            # freeze during suspend
WQ_MEM_RECLAIM: Final = 1 << 3          # may be used for memory reclaim: it has a rescuer
WQ_HIGHPRI: Final = 1 << 4              # high priority
WQ_CPU_INTENSIVE: Final = 1 << 5        # its works compute for long: they count as not running
WQ_SYSFS: Final = 1 << 6                # visible in sysfs
WQ_POWER_EFFICIENT: Final = 1 << 7      # unbound where wq_power_efficient says so
__WQ_DRAINING: Final = 1 << 16
__WQ_ORDERED: Final = 1 << 17
__WQ_LEGACY: Final = 1 << 18

#: bytes of the first kernel data that a work can stand in, behind the kernel's text
_DATA: Final = 0x100_0000
_SIZEOF_WORK: Final = 0x40

WorkFunc = Callable[["WorkStruct"], None]


class WorkStruct:
    """struct work_struct: a function to be called by a worker; ``owner`` is what container_of() would find.

    Guarded by the lock of the pool it is queued on.
    """

    __slots__ = ("address", "color", "entry", "flags", "func", "owner", "pool_id", "pwq")

    def __init__(self, func: WorkFunc, owner: Any = None, *, on_stack: bool = False) -> None:
        self.func = func
        self.owner = owner
        self.flags = 0
        self.color = WORK_NO_COLOR
        self.pwq: PoolWorkqueue | None = None   # while it is queued
        self.pool_id = WORK_OFFQ_POOL_NONE      # afterwards
        self.entry = ListHead(self)
        self.address = stack_address(_SIZEOF_WORK) if on_stack else data_address(_SIZEOF_WORK)

    def __repr__(self) -> str:
        return f"<work {getattr(self.func, '__name__', self.func)}>"


class DelayedWork:
    """struct delayed_work: a work that a timer queues."""

    __slots__ = ("cpu", "owner", "timer", "work", "wq")

    def __init__(self, func: WorkFunc, owner: Any = None) -> None:
        from taskscope.model.kernel.workqueue import queue

        self.work = WorkStruct(func, self)
        self.timer = TimerList(queue.delayed_work_timer_fn, self)
        self.owner = owner
        # target workqueue and CPU ->timer uses to queue ->work
        self.wq: WorkqueueStruct | None = None
        self.cpu = WORK_CPU_UNBOUND


def data_address(size: int) -> int:
    """Return the address of a structure in the kernel's data that has none yet: where the linker would put it."""
    m = machine.cur
    offset: int = getattr(m, "data_end", 0)
    m.data_end = offset + size
    return m.flavour.text_base + _DATA + offset


def stack_address(size: int) -> int:
    """Return the address of a local variable of kernel code: below where the stack pointer was last seen."""
    return (machine.cur.cpu.sp - size) & -16


def wq_name_len() -> int:
    """Return WQ_NAME_LEN, which is WORKER_DESC_LEN, too: bytes with the NUL behind them; 24 until v6.10."""
    return 32 if machine.cur.flavour.version >= (6, 10) else 24


def to_delayed_work(work: WorkStruct) -> DelayedWork:
    """Return the delayed work that a work is part of."""
    dwork: DelayedWork = work.owner
    return dwork


def work_pending(work: WorkStruct) -> bool:
    """Tell whether the work is pending: on a timer or on a queue."""
    return bool(work.flags & WORK_STRUCT_PENDING)


def delayed_work_pending(dwork: DelayedWork) -> bool:
    """Tell whether a delayed work is pending."""
    return bool(dwork.work.flags & WORK_STRUCT_PENDING)


def work_next_color(color: int) -> int:
    """Return the colour after this one."""
    return (color + 1) % WORK_NR_COLORS


# ---- what is inline in C ---------------------------------------------------------------------------------------


def queue_work(wq: WorkqueueStruct, work: WorkStruct) -> bool:
    """Queue a work on the CPU at hand, or on the workqueue's unbound pool; False if it waits somewhere already."""
    from taskscope.model.kernel.workqueue import queue

    return queue.queue_work_on(WORK_CPU_UNBOUND, wq, work)


def schedule_work_on(cpu: int, work: WorkStruct) -> bool:
    """Queue a work on a CPU, on the system's workqueue."""
    from taskscope.model.kernel.workqueue import queue

    return queue.queue_work_on(cpu, machine.cur.system_wq, work)


def schedule_work(work: WorkStruct) -> bool:
    """Queue a work on the system's workqueue."""
    return queue_work(machine.cur.system_wq, work)


def queue_delayed_work(wq: WorkqueueStruct, dwork: DelayedWork, delay: int) -> bool:
    """Queue a work in `delay` jiffies."""
    from taskscope.model.kernel.workqueue import queue

    return queue.queue_delayed_work_on(WORK_CPU_UNBOUND, wq, dwork, delay)


def schedule_delayed_work(dwork: DelayedWork, delay: int) -> bool:
    """Queue a work on the system's workqueue in `delay` jiffies."""
    return queue_delayed_work(machine.cur.system_wq, dwork, delay)


def mod_delayed_work(wq: WorkqueueStruct, dwork: DelayedWork, delay: int) -> bool:
    """Let a work be queued in `delay` jiffies from now, whether it is pending (True) or not (False)."""
    from taskscope.model.kernel.workqueue import queue

    return queue.mod_delayed_work_on(WORK_CPU_UNBOUND, wq, dwork, delay)


def flush_scheduled_work() -> None:
    """Wait for the works of the system's workqueue."""
    from taskscope.model.kernel.workqueue import flush

    flush.flush_workqueue(machine.cur.system_wq)


def alloc_ordered_workqueue(fmt: str, flags: int) -> WorkqueueStruct:
    """Make a workqueue that does one work at a time, in the order in which they are queued."""
    from taskscope.model.kernel.workqueue import setup

    return setup.alloc_workqueue(fmt, WQ_UNBOUND | __WQ_ORDERED | flags, 1)


def create_workqueue(name: str) -> WorkqueueStruct:
    """Make a workqueue as they once were: one work a CPU, with a rescuer."""
    from taskscope.model.kernel.workqueue import setup

    return setup.alloc_workqueue(name, __WQ_LEGACY | WQ_MEM_RECLAIM, 1)


def create_singlethread_workqueue(name: str) -> WorkqueueStruct:
    """Make a workqueue with one thread, as they once were."""
    return alloc_ordered_workqueue(name, __WQ_LEGACY | WQ_MEM_RECLAIM)
