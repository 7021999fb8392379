"""kthread_worker: one thread, works in order, delayed works, waiting, the end; and the mutexes that sleepers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bare import ALL, SECOND, world
from taskscope.model import machine
from taskscope.model.include.linux.kthread import KthreadDelayedWork, KthreadWork
from taskscope.model.include.linux.mutex import Mutex
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.kernel import kthread
from taskscope.model.kernel.locking import mutex
from taskscope.model.kernel.time import timer

MS = 1_000_000


def in_kernel(fn: Callable[[], Any]) -> Any:
    """Run `fn` as the kernel would inside of a system call of the running task."""
    machine.cur.cpu.user_mode = False
    result = fn()
    machine.cur.cpu.user_mode = True
    return result


class Log:
    """What works did, by whom."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.comms: set[str] = set()

    def work(self, name: str, sleep: int = 0) -> Callable[[KthreadWork], None]:
        """Make a work's function that notes < and >."""

        def func(work: KthreadWork) -> None:
            self.rows.append(name + "<")
            self.comms.add(machine.cur.cpu.curr.comm)
            if sleep:
                timer.schedule_timeout_uninterruptible(sleep)
            self.rows.append(name + ">")

        return func


@pytest.mark.parametrize("flavour", ALL)
def test_works_are_done_in_order_by_one_thread(flavour: str) -> None:
    """A kthread_worker does one work after the other, though they sleep, in its own thread; a waiting one only once."""
    with world(flavour, cpus=2) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            worker = in_kernel(lambda: kthread.kthread_create_worker("spi0"))
            works = [KthreadWork(log.work(name, sleep=3)) for name in "abc"]
            queued = in_kernel(lambda: [kthread.kthread_queue_work(worker, w) for w in (*works, works[2])])
            in_kernel(lambda: kthread.kthread_flush_worker(worker))
            return queued, list(log.rows), log.comms, worker.task.real_parent.pid

        assert one.run(scenario) == (
            [True, True, True, False], ["a<", "a>", "b<", "b>", "c<", "c>"], {"spi0"}, 2)


def test_flush_work_waits_for_that_work() -> None:
    """kthread_flush_work() waits until this work has ended, not for those behind it; not at all for an idle one."""
    with world() as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            worker = in_kernel(lambda: kthread.kthread_create_worker("w"))
            first, second = KthreadWork(log.work("a", sleep=5)), KthreadWork(log.work("b", sleep=20))
            in_kernel(lambda: [kthread.kthread_queue_work(worker, w) for w in (first, second)])
            in_kernel(lambda: kthread.kthread_flush_work(first))
            log.rows.append("flushed a")
            in_kernel(lambda: kthread.kthread_flush_work(first))
            log.rows.append("idle")
            in_kernel(lambda: kthread.kthread_flush_work(second))
            return log.rows

        assert one.run(scenario) == ["a<", "a>", "flushed a", "idle", "b<", "b>"]


def test_delayed_works() -> None:
    """A delayed work comes when its time is over; it can be moved, and taken back."""
    with world() as one:
        times: list[int] = []

        def scenario(sys: Any) -> Any:
            m = one.m
            worker = in_kernel(lambda: kthread.kthread_create_worker("w"))
            dwork = KthreadDelayedWork(lambda w: times.append(machine.cur.now // MS))
            start = m.now // MS
            got = [
                in_kernel(lambda: kthread.kthread_queue_delayed_work(worker, dwork, 10)),
                in_kernel(lambda: kthread.kthread_queue_delayed_work(worker, dwork, 10)),
                in_kernel(lambda: kthread.kthread_mod_delayed_work(worker, dwork, 40)),
            ]
            sys.nanosleep(300 * MS)
            got.append(bool(times))
            sys.nanosleep(SECOND)
            got.append(len(times) == 1 and 400 <= times[0] - start < 450)
            in_kernel(lambda: kthread.kthread_queue_delayed_work(worker, dwork, 10))
            got.append(in_kernel(lambda: kthread.kthread_cancel_delayed_work_sync(dwork)))
            sys.nanosleep(SECOND)
            return got, len(times), in_kernel(lambda: kthread.kthread_destroy_worker(worker))

        assert one.run(scenario) == ([True, False, True, False, True, True], 1, None)


def test_cancel_waits_and_blocks_queueing() -> None:
    """While a running work is cancelled it cannot queue itself again; the canceller goes on when it has ended."""
    with world() as one:
        log = Log()
        refused: list[bool] = []

        def again(work: KthreadWork) -> None:
            log.rows.append("<")
            timer.schedule_timeout_uninterruptible(5)
            assert work.worker is not None
            refused.append(not kthread.kthread_queue_work(work.worker, work))
            log.rows.append(">")

        def scenario(sys: Any) -> Any:
            worker = in_kernel(lambda: kthread.kthread_create_worker("w"))
            work = KthreadWork(again)
            in_kernel(lambda: kthread.kthread_queue_work(worker, work))
            sys.nanosleep(20 * MS)
            was = in_kernel(lambda: kthread.kthread_cancel_work_sync(work))
            rows = list(log.rows)
            sys.nanosleep(SECOND)
            return was, rows, log.rows, refused

        assert one.run(scenario) == (False, ["<", ">"], ["<", ">"], [True])


@pytest.mark.parametrize("flavour", ALL)
def test_destroy_ends_the_thread(flavour: str) -> None:
    """kthread_destroy_worker() finishes what is queued, and the thread is gone."""
    with world(flavour) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            worker = in_kernel(lambda: kthread.kthread_create_worker_on_cpu(0, "bound"))
            mask = worker.task.cpus_allowed
            in_kernel(lambda: kthread.kthread_queue_work(worker, KthreadWork(log.work("a", sleep=3))))
            in_kernel(lambda: kthread.kthread_destroy_worker(worker))
            sys.nanosleep(100 * MS)
            return mask, log.rows, [t.comm for t in one.tasks()]

        assert one.run(scenario) == (1, ["a<", "a>"], ["init", "kthreadd"])


@pytest.mark.parametrize("flavour", ["6.1-x86_64", "6.18-x86_64"])
def test_events_of_kthread_works(flavour: str) -> None:
    """sched_kthread_work_queue_work, execute_start and execute_end name one work, in this order."""
    with world(flavour) as one:
        events: list[tuple[str, Any]] = []

        def scenario(sys: Any) -> Any:
            worker = in_kernel(lambda: kthread.kthread_create_worker("w"))
            names = ("queue_work", "execute_start", "execute_end")
            for name in names:
                tracepoint_probe_register(
                    one.m.tp, f"sched_kthread_work_{name}", lambda data, *args: events.append((data, args)), name)
            work = KthreadWork(Log().work("a"))
            in_kernel(lambda: kthread.kthread_queue_work(worker, work))
            sys.nanosleep(20 * MS)
            return [(name, work in args) for name, args in events]

        assert one.run(scenario) == [("queue_work", True), ("execute_start", True), ("execute_end", True)]


def test_mutex_is_given_in_the_order_of_arrival() -> None:
    """Who finds a mutex held sleeps in D, and they get it in the order in which they came; one holds it at a time."""
    with world(cpus=2) as one:
        order: list[int] = []
        states: list[int] = []
        inside: list[int] = []

        def scenario(sys: Any) -> Any:
            lock = Mutex("test")

            def locker(sys: Any, n: int) -> int:
                sys.nanosleep(n * 10 * MS)

                def critical() -> None:
                    mutex.mutex_lock(lock)
                    inside.append(1)
                    order.append(n)
                    assert len(inside) == 1
                    timer.schedule_timeout_uninterruptible(10)
                    inside.pop()
                    mutex.mutex_unlock(lock)

                in_kernel(critical)
                return 0

            pids = [sys.clone(locker, n, flags=0x100 | 17) for n in range(4)]
            sys.nanosleep(60 * MS)
            states.extend(t.state for t in one.tasks() if t.pid in pids)
            waits = len(lock.wait_list)
            for pid in pids:
                sys.waitpid(pid)
            return waits, lock.owner

        assert one.run(scenario) == (3, None)
        assert order == [0, 1, 2, 3]
        assert states == [2, 2, 2, 2]

