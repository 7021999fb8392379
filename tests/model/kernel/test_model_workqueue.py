"""Workqueues: who does a work, how many at a time, waiting for works, workers that come and go, rescuers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_model_locks import Lockdep

from bare import ALL, SECOND, world
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import PF_WQ_WORKER
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.include.linux.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    DelayedWork,
    WorkStruct,
)
from taskscope.model.kernel import printk, workqueue
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.time import timer
from taskscope.model.lib import fault_inject

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


# ---- who does a work -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_a_work_is_done_by_a_worker_of_its_pool(flavour: str) -> None:
    """Works go to the pool of the CPU that was asked for, of high priority if their workqueue is, or to the unbound."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            m = one.m
            a, b, c, d = (log.work(name) for name in "abcd")
            queued = in_kernel(lambda: [
                workqueue.queue_work_on(0, m.system_wq, a),
                workqueue.queue_work_on(1, m.system_wq, b),
                workqueue.queue_work_on(1, m.system_highpri_wq, c),
                workqueue.queue_work(m.system_unbound_wq, d),
            ])
            sys.nanosleep(20 * MS)
            return queued, log.comms(), {name: cpu for name, _, _, _, cpu in log.rows}, unbound_name(m)

        queued, comms, cpus, unbound = one.run(scenario)
        assert queued == [True] * 4
        assert comms["a"].startswith("kworker/0:")
        assert not comms["a"].endswith("H")
        assert comms["b"].startswith("kworker/1:")
        assert comms["c"].startswith("kworker/1:")
        assert comms["c"].endswith("H")
        assert comms["d"].startswith(unbound)
        assert (cpus["a"], cpus["b"], cpus["c"]) == (0, 1, 1)


def test_a_pending_work_is_queued_once() -> None:
    """Queueing a work that waits is refused; while it is being done it can be queued again, and runs once more."""
    with world(bare=False) as one:
        log = Log()
        again: list[bool] = []

        def func(work: WorkStruct) -> None:
            log.note("w", "begin")
            if not again:
                again.append(workqueue.schedule_work(work))
                again.append(workqueue.schedule_work(work))

        def scenario(sys: Any) -> Any:
            work = WorkStruct(func)
            return (
                in_kernel(lambda: (workqueue.schedule_work(work), workqueue.schedule_work(work))),
                sys.nanosleep(20 * MS),
            )[0]

        assert one.run(scenario) == (True, False)
        assert again == [True, False]
        assert log.order() == ["w<", "w<"]


@pytest.mark.parametrize("flavour", ALL)
def test_a_work_never_runs_twice_at_a_time(flavour: str) -> None:
    """A work that is queued on another CPU while it runs is done there where it runs, afterwards."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            work = log.work("w", sleep=20)
            in_kernel(lambda: workqueue.schedule_work_on(0, work))
            sys.nanosleep(50 * MS)
            in_kernel(lambda: workqueue.schedule_work_on(1, work))
            sys.nanosleep(SECOND)
            return log.order(), {cpu for *_, cpu in log.rows}

        assert one.run(scenario) == (["w<", "w>", "w<", "w>"], {0})


# ---- concurrency ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_works_that_compute_run_one_after_the_other(flavour: str) -> None:
    """A pool of a CPU has one worker run at a time as long as none sleeps."""
    with world(flavour, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            works = [log.work(name, compute=4) for name in "abc"]
            in_kernel(lambda: [workqueue.schedule_work(work) for work in works])
            sys.nanosleep(100 * MS)
            return log.order(), len(set(log.comms().values()))

        assert one.run(scenario) == (["a<", "a>", "b<", "b>", "c<", "c>"], 1)


@pytest.mark.parametrize("flavour", ALL)
def test_another_worker_runs_when_one_sleeps(flavour: str) -> None:
    """When a worker goes to sleep at its work, the scheduler's hook has another one begin the next work."""
    with world(flavour, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            works = [log.work(name, sleep=20) for name in "abc"]
            in_kernel(lambda: [workqueue.schedule_work(work) for work in works])
            sys.nanosleep(SECOND)
            pool = one.m.cpu_worker_pools[0][0]
            return log.order(), len(set(log.comms().values())), workers(one.m), pool.nr_running, pool.nr_workers

        order, who, names, running, count = one.run(scenario)
        assert order == ["a<", "b<", "c<", "a>", "b>", "c>"]
        assert who == 3
        # One stays idle behind the three, so that the next work finds one at once.
        assert [name for name in names if name.startswith("kworker/0:") and not name.endswith("H")] == [
            "kworker/0:0", "kworker/0:1", "kworker/0:2", "kworker/0:3"]
        assert (running, count) == (0, 4)


@pytest.mark.parametrize("flavour", ALL)
def test_cpu_intensive_works_do_not_keep_others_waiting(flavour: str) -> None:
    """Works of a WQ_CPU_INTENSIVE workqueue do not count as running: the next one begins while they compute."""
    with world(flavour, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            def make() -> None:
                wq = workqueue.alloc_workqueue("hog", WQ_CPU_INTENSIVE, 0)
                hog, short = log.work("hog", compute=400), log.work("short")
                workqueue.queue_work(wq, hog)
                workqueue.schedule_work(short)

            in_kernel(make)
            sys.nanosleep(2 * SECOND)
            return log.order()

        assert one.run(scenario) == ["hog<", "short<", "short>", "hog>"]


@pytest.mark.parametrize("flavour", ALL)
def test_a_hog_is_found_by_the_tick_since_v6_5(flavour: str) -> None:
    """A work that computes for more than 10 ms holds up those behind it, until v6.5, whose tick takes it out."""
    with world(flavour, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            works = log.work("hog", compute=400), log.work("short")
            in_kernel(lambda: [workqueue.schedule_work(work) for work in works])
            sys.nanosleep(2 * SECOND)
            pool = one.m.cpu_worker_pools[0][0]
            return log.order(), pool.nr_running

        late = one.m.flavour.version >= (6, 5)
        assert one.run(scenario) == (
            ["hog<", "short<", "short>", "hog>"] if late else ["hog<", "hog>", "short<", "short>"], 0)


def test_max_active_keeps_works_back() -> None:
    """At most max_active works of a workqueue are active on a CPU; the others come in the order of queueing."""
    with world(bare=False) as one:
        log = Log()
        events: list[tuple[str, Any]] = []

        def scenario(sys: Any) -> Any:
            m = one.m
            for name in ("workqueue_queue_work", "workqueue_activate_work"):
                tracepoint_probe_register(m.tp, name, lambda data, *args: events.append((data[10:], args[-1])), name)
            works = [log.work(name, sleep=20) for name in "abcd"]

            def make() -> Any:
                wq = workqueue.alloc_workqueue("two", 0, 2)
                for work in works:
                    workqueue.queue_work(wq, work)
                pwq = wq.cpu_pwqs[0]
                return pwq.nr_active, len(list(list_for_each_entry(pwq.delayed_works)))

            counts = in_kernel(make)
            sys.nanosleep(2 * SECOND)
            return counts, log.order(), [(what, works.index(w)) for what, w in events if w in works]

        counts, order, seen = one.run(scenario)
        assert counts == (2, 2)
        assert order == ["a<", "b<", "a>", "c<", "b>", "d<", "c>", "d>"]
        assert seen == [("queue_work", 0), ("activate_work", 0), ("queue_work", 1), ("activate_work", 1),
                        ("queue_work", 2), ("queue_work", 3), ("activate_work", 2), ("activate_work", 3)]


@pytest.mark.parametrize("flavour", ALL)
def test_an_ordered_workqueue_does_one_work_at_a_time(flavour: str) -> None:
    """An ordered workqueue does its works strictly in order, though they sleep."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            works = [log.work(name, sleep=1 + (name == "a")) for name in "abc"]

            def make() -> None:
                wq = workqueue.alloc_ordered_workqueue("row", 0)
                for work in works:
                    workqueue.queue_work(wq, work)

            in_kernel(make)
            sys.nanosleep(500 * MS)
            return log.order()

        assert one.run(scenario) == ["a<", "a>", "b<", "b>", "c<", "c>"]


def test_max_active_can_be_raised() -> None:
    """Raising max_active activates works that were kept back, at once."""
    with world(bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            works = [log.work(name, sleep=50) for name in "abc"]

            def make() -> Any:
                wq = workqueue.alloc_workqueue("grows", 0, 1)
                for work in works:
                    workqueue.queue_work(wq, work)
                return wq

            wq = in_kernel(make)
            sys.nanosleep(50 * MS)
            before = log.order()
            in_kernel(lambda: workqueue.workqueue_set_max_active(wq, 3))
            sys.nanosleep(80 * MS)
            return before, log.order()

        assert one.run(scenario) == (["a<"], ["a<", "b<", "c<"])


# ---- delayed works -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_a_delayed_work_waits_on_a_timer(flavour: str) -> None:
    """A delayed work is queued by its timer, in softirq context, not before its delay is over; 0 means at once."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            m = one.m
            late = DelayedWork(lambda w: log.note("late", "begin"))
            now = DelayedWork(lambda w: log.note("now", "begin"))
            other = DelayedWork(lambda w: log.note("other", "begin"))
            where: list[Any] = []
            tracepoint_probe_register(
                m.tp, "workqueue_queue_work",
                lambda data, req, pwq, w: where.append((w, machine.cur.cpu.preempt_count & 0xFF00)), None)
            delay = m.hz // 5

            def make() -> Any:
                return (m.now // MS, workqueue.schedule_delayed_work(late, delay),
                        workqueue.schedule_delayed_work(late, delay), workqueue.schedule_delayed_work(now, 0),
                        workqueue.queue_delayed_work_on(1, m.system_wq, other, delay))

            start, *queued = in_kernel(make)
            sys.nanosleep(SECOND)
            softirq = {w is late.work: bool(count) for w, count in where}
            return queued, {name: (ms - start, cpu) for name, _, ms, _, cpu in log.rows}, softirq

        queued, times, softirq = one.run(scenario)
        assert queued == [True, False, True, True]
        assert times["now"][0] < 40
        assert 200 <= times["late"][0] < 240
        assert 200 <= times["other"][0] < 240
        assert times["other"][1] == 1
        assert softirq == {True: True, False: True}


def test_mod_delayed_work_moves_it() -> None:
    """mod_delayed_work() starts a delayed work anew, whether it waits for its timer, on a list, or not at all."""
    with world(bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            m = one.m
            work = DelayedWork(lambda w: log.note("w", "begin"))
            start = m.now // MS
            first = in_kernel(lambda: workqueue.mod_delayed_work(m.system_wq, work, 10))
            second = in_kernel(lambda: workqueue.mod_delayed_work(m.system_wq, work, 50))
            sys.nanosleep(300 * MS)
            none = log.order()
            third = in_kernel(lambda: workqueue.mod_delayed_work(m.system_wq, work, 0))
            # queued, not yet done: taken off the list and put on the timer
            fourth = in_kernel(lambda: workqueue.mod_delayed_work(m.system_wq, work, 10))
            sys.nanosleep(SECOND)
            return first, second, third, fourth, none, [ms - start for _, _, ms, _, _ in log.rows]

        first, second, third, fourth, none, times = one.run(scenario)
        assert (first, second, third, fourth, none) == (False, True, True, True, [])
        assert len(times) == 1
        assert 400 <= times[0] < 450


# ---- waiting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_flush_work_waits_for_the_end(flavour: str) -> None:
    """flush_work() returns when the work has ended, whether it was queued or running; an idle one is not waited for."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            work = log.work("w", sleep=3)
            got = [in_kernel(lambda: workqueue.flush_work(work))]
            for pause in (0, 5 * MS):
                in_kernel(lambda: workqueue.schedule_work(work))
                sys.nanosleep(pause)
                got.append(in_kernel(lambda: workqueue.flush_work(work)))
                log.note("flushed", "end")
            return got, log.order()

        assert one.run(scenario) == ([False, True, True], ["w<", "w>", "flushed>"] * 2)


@pytest.mark.parametrize("flavour", ALL)
def test_flush_workqueue_waits_for_those_before_it(flavour: str) -> None:
    """flush_workqueue() waits for the works that were queued before it, and not for one that queues itself for ever."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()
        state = {"go": True}

        def func(work: WorkStruct) -> None:
            log.note("ever", "begin")
            timer.schedule_timeout_uninterruptible(1)
            if state["go"]:
                workqueue.queue_work(state["wq"], work)

        def scenario(sys: Any) -> Any:
            def make() -> Any:
                wq = state["wq"] = workqueue.alloc_workqueue("flushed", 0, 0)
                for name in "ab":
                    workqueue.queue_work(wq, log.work(name, sleep=4))
                workqueue.queue_work_on(1, wq, log.work("c", sleep=6))
                workqueue.queue_work(wq, WorkStruct(func))
                workqueue.flush_workqueue(wq)
                log.note("flushed", "end")
                return wq.work_color, wq.flush_color, [sum(p.nr_in_flight) for p in list_for_each_entry(wq.pwqs)]

            colors = in_kernel(make)
            order = log.order()
            state["go"] = False
            in_kernel(lambda: workqueue.flush_workqueue(state["wq"]))
            in_kernel(lambda: workqueue.destroy_workqueue(state["wq"]))
            return order, colors

        order, (work_color, flush_color, in_flight) = one.run(scenario)
        assert order[-1] == "flushed>"
        assert {"a>", "b>", "c>"} <= set(order)
        assert order.count("ever<") > 1
        assert (work_color, flush_color) == (1, 1)
        assert sum(in_flight) == 1


@pytest.mark.parametrize("flavour", ALL)
def test_many_flushes_at_a_time(flavour: str) -> None:
    """Each of twenty overlapping flushes, more than there are colours, ends after the works before it."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            def make() -> Any:
                return workqueue.alloc_workqueue("colours", 0, 3)

            wq = in_kernel(make)

            def flusher(sys: Any, n: int) -> int:
                work = log.work(f"w{n}", sleep=2 + n % 3)
                in_kernel(lambda: workqueue.queue_work_on(n % 2, wq, work))
                in_kernel(lambda: workqueue.flush_workqueue(wq))
                log.note(f"f{n}", "end")
                return 0

            for n in range(20):
                sys.pthread_create(flusher, n)
            sys.nanosleep(3 * SECOND)
            pwqs = list(list_for_each_entry(wq.pwqs))
            return log.order(), wq.first_flusher, [p.nr_in_flight for p in pwqs], wq.work_color == wq.flush_color

        order, flusher, in_flight, same = one.run(scenario)
        assert len(order) == 60
        for n in range(20):
            assert order.index(f"w{n}>") < order.index(f"f{n}>"), n
        assert (flusher, same) == (None, True)
        assert not any(map(any, in_flight))


def test_drain_waits_for_chains() -> None:
    """drain_workqueue() waits for works that works queue, too; who queues from outside is told that it is a mistake."""
    with world(bare=False) as one:
        log = Log()
        left = [3]

        def func(work: WorkStruct) -> None:
            log.note("w", "begin")
            timer.schedule_timeout_uninterruptible(1)
            left[0] -= 1
            if left[0]:
                workqueue.queue_work(wqs[0], work)

        wqs: list[Any] = []

        def scenario(sys: Any) -> Any:
            def make() -> None:
                wqs.append(workqueue.alloc_workqueue("chain", 0, 0))
                workqueue.queue_work(wqs[0], WorkStruct(func))
                workqueue.drain_workqueue(wqs[0])
                log.note("drained", "end")

            in_kernel(make)
            return log.order()

        assert one.run(scenario) == ["w<", "w<", "w<", "drained>"]


@pytest.mark.parametrize("flavour", ALL)
def test_cancel_work_sync(flavour: str) -> None:
    """cancel_work_sync() takes a waiting work back, waits for a running one, and stops one that queues itself again."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()
        counts = {"ever": 0}

        def ever(work: WorkStruct) -> None:
            counts["ever"] += 1
            timer.schedule_timeout_uninterruptible(1)
            counts["refused"] = int(not workqueue.schedule_work(work))

        def scenario(sys: Any) -> Any:
            idle, running, again = log.work("idle"), log.work("running", sleep=20), WorkStruct(ever)
            got = [in_kernel(lambda: workqueue.cancel_work_sync(idle))]
            # kept back behind another one, so that it waits
            wq = in_kernel(lambda: workqueue.alloc_workqueue("one", 0, 1))
            in_kernel(lambda: (workqueue.queue_work(wq, running), workqueue.queue_work(wq, idle)))
            sys.nanosleep(50 * MS)
            got.append(in_kernel(lambda: workqueue.cancel_work_sync(idle)))
            got.append(in_kernel(lambda: workqueue.cancel_work_sync(running)))
            log.note("cancelled", "end")
            in_kernel(lambda: workqueue.schedule_work(again))
            sys.nanosleep(25 * MS)
            got.append(in_kernel(lambda: workqueue.cancel_work_sync(again)))
            seen = counts["ever"]
            sys.nanosleep(200 * MS)
            return got, log.order(), seen == counts["ever"], counts["refused"], again.flags

        assert one.run(scenario) == (
            [False, True, False, False], ["running<", "running>", "cancelled>"], True, 1, 0)


def test_two_cancel_the_same_work() -> None:
    """Who cancels a work that somebody else cancels waits until that one is done."""
    with world(bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            work = log.work("w", sleep=20)
            in_kernel(lambda: workqueue.schedule_work(work))
            sys.nanosleep(50 * MS)

            def canceller(sys: Any, n: int) -> int:
                in_kernel(lambda: workqueue.cancel_work_sync(work))
                log.note(f"c{n}", "end")
                return 0

            for n in range(3):
                sys.pthread_create(canceller, n)
            sys.nanosleep(SECOND)
            return log.order()

        order = one.run(scenario)
        assert order[:2] == ["w<", "w>"]
        assert sorted(order[2:]) == ["c0>", "c1>", "c2>"]


def test_cancel_delayed_work_sync() -> None:
    """A delayed work that waits for its timer is taken back; flush_delayed_work() has it done at once."""
    with world(bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            dwork = DelayedWork(lambda w: log.note("w", "begin"))
            in_kernel(lambda: workqueue.schedule_delayed_work(dwork, 20))
            got = [in_kernel(lambda: workqueue.cancel_delayed_work_sync(dwork))]
            sys.nanosleep(SECOND)
            got.append(bool(log.rows))
            in_kernel(lambda: workqueue.schedule_delayed_work(dwork, 2000))
            got.append(in_kernel(lambda: workqueue.flush_delayed_work(dwork)))
            return got, log.order(), in_kernel(lambda: workqueue.cancel_delayed_work(dwork))

        assert one.run(scenario) == ([True, False, True], ["w<"], False)


def test_schedule_on_each_cpu() -> None:
    """schedule_on_each_cpu() calls a function on every CPU, and returns when all have done it."""
    with world(cpus=3, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            in_kernel(lambda: workqueue.schedule_on_each_cpu(lambda w: log.note("each", "begin")))
            return sorted(cpu for *_, cpu in log.rows)

        assert one.run(scenario) == [0, 1, 2]


# ---- workers come and go -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_idle_workers_go_after_five_minutes(flavour: str) -> None:
    """Workers that a burst of sleeping works has brought end when they were idle for 300 s; two stay."""
    with world(flavour, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            works = [log.work(str(n), sleep=60) for n in range(6)]
            in_kernel(lambda: [workqueue.schedule_work(work) for work in works])
            sys.nanosleep(SECOND)
            pool = one.m.cpu_worker_pools[0][0]
            many = pool.nr_workers
            sys.nanosleep(290 * SECOND)
            still = pool.nr_workers
            sys.nanosleep(320 * SECOND)
            all_ = workers(one.m)
            names = [n for n in all_ if n.startswith(("kworker/0:", "kworker/dying")) and not n.endswith("H")]
            # the next burst takes the lowest numbers that are free
            in_kernel(lambda: [workqueue.schedule_work(work) for work in works[:3]])
            sys.nanosleep(SECOND)
            return many, still, pool.nr_workers, names, len(pool.worker_ida)

        many, still, after, names, ids = one.run(scenario, seconds=2000)
        assert (many, still) == (7, 7)
        assert len(names) == 2
        assert after == ids == 4


@pytest.mark.parametrize("flavour", ALL)
def test_a_dying_worker_leaves_nothing(flavour: str) -> None:
    """Destroying an unbound workqueue with attributes of its own ends the workers of its pool and frees its number."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            m = one.m
            before = sorted(m.worker_pool_idr)

            def make() -> Any:
                wq = workqueue.alloc_workqueue("nice", WQ_UNBOUND | WQ_HIGHPRI, 0)
                workqueue.queue_work(wq, log.work("w", sleep=2))
                return wq

            wq = in_kernel(make)
            sys.nanosleep(20 * MS)
            pool = wq.dfl_pwq.pool
            name = f"kworker/u{pool.id}:"
            there = [n for n in workers(m) if n.startswith(name)]
            nice = {t.static_prio for t in one.tasks() if t.comm.startswith(name)}
            in_kernel(lambda: workqueue.destroy_workqueue(wq))
            sys.nanosleep(SECOND)
            return there, nice, log.order(), [n for n in workers(m) if n.startswith(name)], sorted(
                m.worker_pool_idr) == before, pool.nr_workers, wq in m.workqueues

        there, nice, order, left, same, count, listed = one.run(scenario)
        assert len(there) == 2
        assert nice == {100}
        assert order == ["w<", "w>"]
        assert (left, same, count, listed) == ([], True, 0, False)


@pytest.mark.parametrize("flavour", ALL)
def test_unbound_workqueues_share_a_pool(flavour: str) -> None:
    """Unbound workqueues with the same nice and CPUs have one pool; other attributes take a workqueue to another."""
    with world(flavour, cpus=2, bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            m = one.m

            def make() -> Any:
                wq = workqueue.alloc_workqueue("mine", WQ_UNBOUND, 0)
                same = wq.dfl_pwq.pool is m.system_unbound_wq.dfl_pwq.pool
                error = workqueue.apply_workqueue_attrs(m.system_wq, workqueue.WorkqueueAttrs(5, 3))
                ret = workqueue.apply_workqueue_attrs(wq, workqueue.WorkqueueAttrs(5, 2))
                workqueue.queue_work(wq, log.work("w", compute=1))
                return wq, same, error, ret

            wq, same, error, ret = in_kernel(make)
            sys.nanosleep(100 * MS)
            pool = wq.dfl_pwq.pool
            task = next(t for t in one.tasks() if t.comm == f"kworker/u{pool.id}:0")
            return same, error, ret, (task.static_prio, task.cpus_allowed), {cpu for *_, cpu in log.rows}, len(
                list(list_for_each_entry(wq.pwqs)))

        assert one.run(scenario) == (True, -22, 0, (125, 2), {1}, 1)


# ---- rescuers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_rescuer_helps_when_no_worker_can_be_made(flavour: str, cpus: int) -> None:
    """While kthreadd cannot fork, the rescuer of a WQ_MEM_RECLAIM workqueue does its works there; others wait."""
    last = cpus - 1
    with world(flavour, cpus=cpus, bare=False) as one:
        log = Log()
        broken = {"on": True}

        def scenario(sys: Any) -> Any:
            m = one.m
            wq = in_kernel(lambda: workqueue.alloc_workqueue("saved", WQ_MEM_RECLAIM, 0))
            sys.nanosleep(20 * MS)

            def break_kthreadd(data: Any, p: Any) -> None:
                # Each time that kthreadd is woken its next fork fails, as long as memory is short.
                if p is m.kthreadd_task and broken["on"]:
                    fault_inject.fail_next("task_struct", "kthreadd")

            tracepoint_probe_register(m.tp, "sched_waking", break_kthreadd, None)
            # All workers of the CPU sleep, and nobody is idle: what comes now needs a new worker.
            blockers = [log.work(f"b{n}", sleep=2 * m.hz) for n in range(2)]
            in_kernel(lambda: [workqueue.schedule_work_on(last, work) for work in blockers])
            sys.nanosleep(50 * MS)
            saved, other = log.work("saved"), log.work("other")
            in_kernel(lambda: (workqueue.queue_work_on(last, wq, saved), workqueue.schedule_work_on(last, other)))
            sys.nanosleep(500 * MS)
            meanwhile = log.comms()
            broken["on"] = False
            m.fault_point = None
            sys.nanosleep(3 * SECOND)
            return meanwhile, log.comms()

        meanwhile, later = one.run(scenario)
        rescuer = "kworker/R-saved" if one.m.flavour.version >= (6, 9) else "saved"
        assert meanwhile["saved"] == rescuer
        assert "other" not in meanwhile
        assert later["other"].startswith(f"kworker/{last}:")
    assert {cpu for name, *_, cpu in log.rows if name == "saved"} == {last}


# ---- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_proc_names_a_worker_with_what_it_does(flavour: str) -> None:
    """/proc/PID/comm, stat and status show a worker with ``+`` and its workqueue, or what it said; then with ``-``."""
    with world(flavour, bare=False) as one:
        def scenario(sys: Any) -> Any:
            pids: list[int] = []

            def func(work: WorkStruct) -> None:
                pids.append(machine.cur.cpu.curr.pid)
                timer.schedule_timeout_uninterruptible(one.m.hz)
                workqueue.set_worker_desc("flush-179:0 and so on for ever")
                timer.schedule_timeout_uninterruptible(one.m.hz)

            def name() -> str:
                fd = sys.open(f"/proc/{pids[0]}/comm")
                text = sys.read(fd, 100)
                sys.close(fd)
                return str(text.decode())

            in_kernel(lambda: workqueue.schedule_work(WorkStruct(func)))
            sys.nanosleep(100 * MS)
            names = [name()]
            sys.nanosleep(SECOND)
            names.append(name())
            sys.nanosleep(SECOND)
            names.append(name())
            fd = sys.open(f"/proc/{pids[0]}/stat")
            stat = sys.read(fd, 100).decode()
            comm = one.m.init_pid_ns.idr[pids[0]].tasks[0].next.owner.comm
            return names, stat.split(")")[0].split("(")[1], comm

        names, stat, comm = one.run(scenario)
        said = "flush-179:0 and so on f"
        assert names == ["kworker/0:0+events\n", f"kworker/0:0+{said}\n", f"kworker/0:0-{said}\n"]
        assert stat == f"kworker/0:0-{said}"
        assert comm == "kworker/0:0"


def test_leaking_a_lock_is_found() -> None:
    """A work that returns with preemption disabled is named in the log, and is an error of the model."""
    with world(bare=False) as one:
        def leaks(work: WorkStruct) -> None:
            machine.cur.cpu.preempt_count += 1

        def scenario(sys: Any) -> Any:
            in_kernel(lambda: workqueue.schedule_work(WorkStruct(leaks)))
            sys.nanosleep(20 * MS)

        with pytest.raises(AssertionError, match=r"leaks\(\) leaked a lock"):
            one.run(scenario)
        with one.current():
            assert "BUG: workqueue leaked lock or atomic: kworker/0:0/0x00000001/" in printk.dmesg()


def test_flush_dependency_is_warned_of() -> None:
    """A work that frees memory and waits for one that need not make progress is warned of."""
    with world(bare=False) as one:
        log = Log()

        def scenario(sys: Any) -> Any:
            target = log.work("target", sleep=1)

            def waits(work: WorkStruct) -> None:
                workqueue.schedule_work(target)
                workqueue.flush_work(target)

            def make() -> None:
                wq = workqueue.alloc_workqueue("reclaim", WQ_MEM_RECLAIM, 0)
                workqueue.queue_work(wq, WorkStruct(waits))

            in_kernel(make)
            sys.nanosleep(200 * MS)
            return printk.dmesg()

        assert "workqueue: WQ_MEM_RECLAIM reclaim:" in one.run(scenario)


@pytest.mark.parametrize("flavour", ALL)
def test_workers_say_that_they_are_workers(flavour: str) -> None:
    """PF_WQ_WORKER is set for workers and rescuers, and for nobody else."""
    with world(flavour, cpus=2, bare=False) as one:
        one.run(lambda sys: sys.nanosleep(SECOND))
        for task in one.tasks():
            name = task.kthread.threadfn.__name__ if task.kthread is not None else ""
            assert bool(task.flags & PF_WQ_WORKER) == (name in ("worker_thread", "rescuer_thread")), task


# ---- who uses them, and the host -----------------------------------------------------------------------------


RECORD = re.compile(r"\s*(\S.*?)-\d+\s+\[\d+\]\s+\S+\s+[\d.]+: workqueue_(\w+): work struct[ =](\w+):? ?(.*)")


def story(lines: list[str], comm: str) -> list[str]:
    """Return the events of one flush_to_ldisc() as text, with the names that differ made one."""
    out = []
    work = None
    for line in lines:
        match = RECORD.match(line)
        if match is None:
            continue
        who, event, address, rest = match.groups()
        if work is None and event == "queue_work" and "function=flush_to_ldisc" in rest:
            work = address
        if address == work:
            by = "worker" if re.match(r"kworker/u\d+:\d+\Z", who) else "waker"
            text = re.sub(r"req_cpu=\d+", "req_cpu=N", rest).strip()
            out.append(f"{by}: {event}: {text}")
    assert work is not None, f"{comm} queued no work"
    return out[:4]


TTY_STORY = [
    "waker: queue_work: function=flush_to_ldisc workqueue=events_unbound req_cpu=N cpu=-1",
    "waker: activate_work: function=flush_to_ldisc",
    "worker: execute_start: function flush_to_ldisc",
    "worker: execute_end: function flush_to_ldisc",
]


def typed_on_the_model(flavour: str) -> list[str]:
    """Type a line on a terminal of a machine and return the text of its trace."""
    import taskscope

    with taskscope.boot(cpus=2, flavour=flavour) as k:
        terminal = k.terminal()
        k.write("/sys/kernel/tracing/events/workqueue/enable", "1")
        terminal.type("true")
        return k.read("/sys/kernel/tracing/trace").decode().splitlines()


def test_what_is_typed_goes_through_a_worker() -> None:
    """A terminal's interrupt queues flush_to_ldisc() on system_unbound_wq; the text of the trace is that of 6.18."""
    assert story(typed_on_the_model("6.18-x86_64"), "uart") == TTY_STORY


def test_events_of_4_19() -> None:
    """On 4.19 the workqueue is an address, CPUs are unsigned, and not all events name the function."""
    lines = [line.partition(": ")[2] for line in typed_on_the_model("4.19-arm") if "workqueue_" in line]
    patterns = [
        r"workqueue_queue_work: work struct=[0-9a-f]{8} function=flush_to_ldisc workqueue=0+ req_cpu=4 cpu=4294967295$",
        r"workqueue_activate_work: work struct [0-9a-f]{8}\Z",
        r"workqueue_execute_start: work struct [0-9a-f]{8}: function flush_to_ldisc\Z",
        r"workqueue_execute_end: work struct [0-9a-f]{8}\Z",
    ]
    assert len(lines) == 4
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.match(pattern, line), line


@pytest.mark.root
@pytest.mark.skipif(not Path("/sys/kernel/tracing/instances").is_dir(), reason="no tracefs is mounted")
@pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")
def test_host_takes_the_same_way() -> None:
    """On this host, too, what is written to a pty's master is flushed to the line discipline by an unbound worker."""
    if "6.18.44" not in Path("/proc/sys/kernel/osrelease").read_text():
        pytest.skip("the host runs another kernel than the flavour 6.18-x86_64")
    folder = Path(f"/sys/kernel/tracing/instances/taskscope-test-{os.getpid()}-workqueue")
    folder.mkdir()
    try:
        (folder / "events/workqueue/enable").write_text("1")
        master, slave = os.openpty()
        os.write(master, b"hello\n")
        assert os.read(slave, 100) == b"hello\n"
        # The reader is woken inside of the work: it has ended when a second line has come through.
        os.write(master, b"more\n")
        assert os.read(slave, 100) == b"more\n"
        (folder / "tracing_on").write_text("0")
        lines = (folder / "trace").read_text().splitlines()
        os.close(master)
        os.close(slave)
    finally:
        (folder / "events/enable").write_text("0")
        folder.rmdir()
    own = [line for line in lines if re.match(rf"\s*\S.*-{os.getpid()}\s", line) or "kworker/u" in line]
    assert story(own, "this test") == TTY_STORY


@pytest.mark.parametrize("flavour", ALL)
def test_locks_nest_in_one_order(flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pool.lock of unbound pools comes before that of others, both before waiters' locks; rq.lock has none inside."""
    lockdep = Lockdep(monkeypatch)
    log = Log()

    def scenario(sys: Any) -> Any:
        m = one.m
        works = [log.work(str(n), sleep=1 + n % 3, compute=n % 2) for n in range(12)]

        def make() -> None:
            own = workqueue.alloc_workqueue("own", WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM, 2)
            wqs = [m.system_wq, m.system_highpri_wq, m.system_unbound_wq, own]
            for n, work in enumerate(works):
                workqueue.queue_work(wqs[n % 4], work)
            for wq in wqs:
                workqueue.flush_workqueue(wq)
            workqueue.apply_workqueue_attrs(own, workqueue.WorkqueueAttrs(3, 3))
            workqueue.destroy_workqueue(own)

        in_kernel(make)
        sys.nanosleep(SECOND)

    with world(flavour, cpus=2, bare=False) as one:
        one.run(scenario)
        at_rest(one.m)
    inner = "kthread_worker.lock" if one.m.flavour.version >= (6, 6) else "pool.lock"
    assert {("pool.lock", "pi_lock"), ("pool.lock", "completion.wait"), ("pool.lock/unbound", inner)} <= lockdep.order
    assert not lockdep.circle(), lockdep.circle()
    assert not [second for first, second in lockdep.order if first == "rq.lock"]


# ---- whatever is asked of them ---------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("queue"), st.integers(0, 5), st.integers(0, 4)),
    st.tuples(st.just("delayed"), st.integers(0, 5), st.integers(0, 9)),
    st.tuples(st.just("mod"), st.integers(0, 5), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("flush work"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("flush"), st.just(0), st.integers(0, 4)),
    st.tuples(st.just("max_active"), st.integers(1, 4), st.integers(0, 4)),
    st.tuples(st.just("sleep"), st.just(0), st.integers(0, 40)),
)


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


@pytest.mark.parametrize("flavour", ALL)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    programs=st.lists(st.lists(STEPS, max_size=12), min_size=1, max_size=3),
    costs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=6, max_size=6),
    seed=st.integers(0, 30),
    cpus=st.integers(1, 3),
)
def test_no_work_is_lost_or_done_twice(
    flavour: str, programs: list[list[Any]], costs: list[tuple[int, int]], seed: int, cpus: int
) -> None:
    """Whatever is queued, delayed, moved, cancelled and flushed at a time: no work is lost, pools come to rest.

    Each queueing is one execution or one cancellation, and no work runs twice at a time, under any schedule.
    """
    queued, done, taken, running = [0] * 6, [0] * 6, [0] * 6, [0] * 6

    def scenario(sys: Any) -> Any:
        m = one.m

        def make(n: int) -> DelayedWork:
            def func(work: WorkStruct) -> None:
                assert not running[n], f"work {n} runs twice at a time"
                running[n] = 1
                if costs[n][0]:
                    timer.schedule_timeout_uninterruptible(costs[n][0])
                for _ in range(costs[n][1]):
                    machine.cur.run_for(MS)
                    core._cond_resched()
                running[n] = 0
                done[n] += 1

            return DelayedWork(func)

        works = [make(n) for n in range(6)]
        wqs = in_kernel(lambda: [
            m.system_wq, m.system_highpri_wq, m.system_unbound_wq,
            workqueue.alloc_workqueue("two", WQ_CPU_INTENSIVE, 2), workqueue.alloc_ordered_workqueue("row", 0)])

        def step(what: str, n: int, arg: int) -> None:
            if what == "queue":
                # On one workqueue each: on several a work may well run twice at a time.
                queued[n] += workqueue.queue_work_on((n + arg) % m.nr_cpus, wqs[n % 5], works[n].work)
            elif what == "delayed":
                queued[n] += workqueue.queue_delayed_work(wqs[n % 5], works[n], arg)
            elif what == "mod":
                queued[n] += not workqueue.mod_delayed_work(wqs[n % 5], works[n], arg)
            elif what == "cancel":
                taken[n] += workqueue.cancel_delayed_work_sync(works[n])
            elif what == "flush work":
                workqueue.flush_delayed_work(works[n])
            elif what == "flush":
                workqueue.flush_workqueue(wqs[arg])
            elif what == "max_active" and arg != 4:
                workqueue.workqueue_set_max_active(wqs[arg], n)

        def follow(sys: Any, steps: list[Any]) -> int:
            for what, n, arg in steps:
                if what == "sleep":
                    sys.nanosleep(arg * MS)
                else:
                    in_kernel(lambda what=what, n=n, arg=arg: step(what, n, arg))
            return 0

        for steps in programs[1:]:
            sys.pthread_create(follow, steps)
        follow(sys, programs[0])
        sys.nanosleep(30 * SECOND)

    with world(flavour, cpus=cpus, seed=seed, bare=False) as one:
        one.run(scenario)
        assert [a + b for a, b in zip(done, taken, strict=True)] == queued
        at_rest(one.m)
