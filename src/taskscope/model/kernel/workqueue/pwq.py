"""Workqueues and their ties to pools: kernel/workqueue.c, v4.19: struct workqueue_struct, struct pool_workqueue.

A workqueue has one pool_workqueue for each CPU, or one for all if it is unbound.  It counts the works that are active
on the pool and keeps those above ``max_active`` back; and it counts works by colour, so that a flush can wait for
those that were there before it.
"""

from __future__ import annotations

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.completion as completion
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.kthread import KthreadWork
from taskscope.model.include.linux.list import ListHead, list_empty, list_first_entry
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.spinlock import raw_spin_lock_irq, raw_spin_unlock_irq
from taskscope.model.include.linux.workqueue import (
    WORK_CPU_UNBOUND,
    WORK_NO_COLOR,
    WORK_NR_COLORS,
    WORK_STRUCT_DELAYED,
    WQ_UNBOUND,
    WorkStruct,
)
from taskscope.model.include.trace.events import workqueue as trace
from taskscope.model.kernel.workqueue import pool as pool_
from taskscope.model.kernel.workqueue import queue, setup
from taskscope.model.kernel.workqueue.pool import WorkerPool, WorkqueueAttrs
from taskscope.model.kernel.workqueue_internal import Worker


class WqFlusher:
    """struct wq_flusher: one caller of flush_workqueue() that waits."""

    __slots__ = ("done", "flush_color", "list")

    def __init__(self) -> None:
        self.list = ListHead(self)
        self.flush_color = -1                               # the colour that it waits for
        self.done = Completion()


class PoolWorkqueue:
    """struct pool_workqueue.  Guarded by pool.lock but for ``pwqs_node`` (wq.mutex) and ``mayday_node``."""

    __slots__ = (
        "delayed_works",
        "flush_color",
        "max_active",
        "mayday_node",
        "nr_active",
        "nr_in_flight",
        "pool",
        "pwqs_node",
        "refcnt",
        "release_work",
        "work_color",
        "wq",
    )

    def __init__(self, wq: WorkqueueStruct, pool: WorkerPool) -> None:
        self.pool = pool
        self.wq = wq
        self.work_color = 0                                 # of works queued now
        self.flush_color = -1                               # that a flush waits for
        self.refcnt = 1
        self.nr_in_flight = [0] * WORK_NR_COLORS
        self.nr_active = 0
        self.max_active = 0
        self.delayed_works = ListHead()                     # inactive_works since v5.15
        self.pwqs_node = ListHead(self)
        self.mayday_node = ListHead(self)                   # on wq.maydays; wq_mayday_lock
        # A pwq of an unbound workqueue cannot be released under pool.lock: a work does it, since v6.6 one of a
        # kthread_worker.
        self.release_work = (
            KthreadWork(setup.pwq_release_workfn, self)
            if machine.cur.flavour.switches.pwq_release_worker
            else WorkStruct(setup.pwq_unbound_release_workfn, self)
        )

    def __repr__(self) -> str:
        return f"<pwq {self.wq.name} on {self.pool}>"


class WorkqueueStruct:
    """struct workqueue_struct.  Guarded by ``mutex`` but for ``flags`` and ``name``."""

    __slots__ = (
        "cpu_pwqs",
        "dfl_pwq",
        "first_flusher",
        "flags",
        "flush_color",
        "flusher_overflow",
        "flusher_queue",
        "maydays",
        "mutex",
        "name",
        "nr_drainers",
        "nr_pwqs_to_flush",
        "pwqs",
        "rescuer",
        "saved_max_active",
        "unbound_attrs",
        "work_color",
    )

    def __init__(self, name: str, flags: int, max_active: int) -> None:
        self.name = name
        self.flags = flags
        self.pwqs = ListHead()                              # all pool_workqueues
        self.mutex = Mutex("wq.mutex")
        self.work_color = 0                                 # current work colour
        self.flush_color = 0                                # current flush colour
        self.nr_pwqs_to_flush = 0                           # flush in progress
        self.first_flusher: WqFlusher | None = None
        self.flusher_queue = ListHead()                     # flushes that wait for their colour
        self.flusher_overflow = ListHead()                  # flushes that wait for a colour
        self.maydays = ListHead()                           # pwqs that ask for rescue; wq_mayday_lock
        self.rescuer: Worker | None = None
        self.nr_drainers = 0
        self.saved_max_active = max_active
        self.unbound_attrs: WorkqueueAttrs | None = None
        self.dfl_pwq: PoolWorkqueue | None = None           # of an unbound one
        self.cpu_pwqs: list[PoolWorkqueue] = []             # of others, by CPU

    def __repr__(self) -> str:
        return f"<workqueue {self.name}>"


def get_pwq(pwq: PoolWorkqueue) -> None:
    """Take a reference.

    Context: pool.lock held.
    """
    assert pwq.pool.lock.held, "pool.lock"
    assert pwq.refcnt > 0, "the pwq lives"
    pwq.refcnt += 1


def put_pwq(pwq: PoolWorkqueue) -> None:
    """Drop a reference; the last one lets the pwq of an unbound workqueue be released.

    Context: pool.lock held.
    """
    assert pwq.pool.lock.held, "pool.lock"
    pwq.refcnt -= 1
    if pwq.refcnt:
        return
    assert pwq.wq.flags & WQ_UNBOUND, f"{pwq}: no reference is left"
    release = pwq.release_work
    if isinstance(release, WorkStruct):
        queue.queue_work_on(WORK_CPU_UNBOUND, machine.cur.system_wq, release)
    else:
        kthread.kthread_queue_work(machine.cur.pwq_release_worker, release)


def put_pwq_unlocked(pwq: PoolWorkqueue | None) -> None:
    """Drop a reference.

    Context: pool.lock not held.
    """
    if pwq is not None:
        raw_spin_lock_irq(pwq.pool.lock)
        put_pwq(pwq)
        raw_spin_unlock_irq(pwq.pool.lock)


def pwq_activate_delayed_work(work: WorkStruct) -> None:
    """Let a work that was kept back go on the pool's list.

    Context: pool.lock held.
    """
    pwq = work.pwq
    assert pwq is not None, "the work is queued"
    trace.trace_workqueue_activate_work(work)
    pool_.move_linked_works(work, pwq.pool.worklist)
    work.flags &= ~WORK_STRUCT_DELAYED
    pwq.nr_active += 1


def pwq_activate_first_delayed(pwq: PoolWorkqueue) -> None:
    """Activate the work that was kept back first.

    Context: pool.lock held.
    """
    pwq_activate_delayed_work(list_first_entry(pwq.delayed_works))


def pwq_dec_nr_in_flight(pwq: PoolWorkqueue, color: int) -> None:
    """Note that a work of this colour has ended or was taken off its queue.

    Context: pool.lock held.
    """
    # uncolored work items don't participate in flushing or nr_active
    if color == WORK_NO_COLOR:
        put_pwq(pwq)
        return
    pwq.nr_in_flight[color] -= 1
    pwq.nr_active -= 1
    # one down, submit a delayed one
    if not list_empty(pwq.delayed_works) and pwq.nr_active < pwq.max_active:
        pwq_activate_first_delayed(pwq)
    # is flush in progress and are we at the flushing tip, with no works in flight?
    if pwq.flush_color == color and not pwq.nr_in_flight[color]:
        # this pwq is done, clear flush_color
        pwq.flush_color = -1
        # If this was the last pwq, wake up the first flusher.  It will handle the rest.
        wq = pwq.wq
        wq.nr_pwqs_to_flush -= 1
        if not wq.nr_pwqs_to_flush:
            assert wq.first_flusher is not None, "somebody flushes"
            completion.complete(wq.first_flusher.done)
    put_pwq(pwq)
