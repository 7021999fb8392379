"""Works for tests of workqueues, what they note when they are done, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.workqueue import WorkStruct
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import timer

MS = 1_000_000


def in_kernel(fn: Callable[[], Any]) -> Any:
    """Run `fn` as the kernel would inside of a system call of the running task."""
    m = machine.cur
    m.cpu.user_mode = False
    result = fn()
    m = machine.cur
    m.cpu.user_mode = True
    return result


class Log:
    """What works did: (name, what, ms, comm, CPU)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int, str, int]] = []

    def note(self, name: str, what: str) -> None:
        """Note that a work begins or ends here and now."""
        m = machine.cur
        self.rows.append((name, what, m.now // MS, m.cpu.curr.comm, m.cpu.id))

    def work(self, name: str, sleep: int = 0, compute: int = 0) -> WorkStruct:
        """Make a work that sleeps for some jiffies, or computes for some ms."""

        def func(work: WorkStruct) -> None:
            self.note(name, "begin")
            if sleep:
                timer.schedule_timeout_uninterruptible(sleep)
            for _ in range(compute):
                machine.cur.run_for(MS)
                core._cond_resched()
            self.note(name, "end")

        return WorkStruct(func)

    def order(self) -> list[str]:
        """Return what happened: name and < for the begin, > for the end."""
        return [name + ("<" if what == "begin" else ">") for name, what, *_ in self.rows]

    def comms(self) -> dict[str, str]:
        """Return who did each work."""
        return {name: comm for name, what, _, comm, _ in self.rows if what == "begin"}


def workers(m: machine.Machine) -> list[str]:
    """Return the names of the workers that live."""
    return sorted(t.comm for t in list_for_each_entry(m.init_task.tasks) if t.comm.startswith("kworker/"))


def unbound_name(m: machine.Machine) -> str:
    """Return the beginning of the names of workers of the standard unbound pool."""
    return f"kworker/u{m.nr_cpus * (4 if m.flavour.version >= (6, 9) else 2)}:"


def at_rest(m: machine.Machine) -> None:
    """Check what must hold of every pool and workqueue when all works have been done."""
    for pool in (pool for pool in m.worker_pool_idr.values() if pool is not None):
        idle = list(list_for_each_entry(pool.idle_list))
        assert not list(list_for_each_entry(pool.worklist)), f"{pool} has works"
        assert (pool.nr_running, pool.busy_hash, pool.manager) == (0, [], None), pool
        assert pool.nr_workers == pool.nr_idle == len(idle), pool
        assert pool.nr_idle >= 1, f"{pool}: a worker is there for the next work"
        assert {worker.id for worker in idle} == pool.worker_ida, pool
        assert all(worker.task.state == 0x402 and worker.current_work is None for worker in idle), pool
    for wq in m.workqueues:
        for pwq in list_for_each_entry(wq.pwqs):
            assert not any(pwq.nr_in_flight), pwq
            assert (pwq.nr_active, pwq.refcnt, pwq.flush_color) == (0, 1, -1), pwq
            assert not list(list_for_each_entry(pwq.delayed_works)), pwq
        assert (wq.first_flusher, wq.nr_pwqs_to_flush) == (None, 0), wq
        assert wq.work_color == wq.flush_color, wq
