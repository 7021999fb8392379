"""Workqueues: who does a work, how many at a time, delayed works, waiting for works, cancelling them."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, SECOND, world
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.include.linux.workqueue import (
    WQ_CPU_INTENSIVE,
    DelayedWork,
    WorkStruct,
)
from taskscope.model.kernel import workqueue
from taskscope.model.kernel.time import timer
from works import MS, Log, in_kernel, unbound_name, workers

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
