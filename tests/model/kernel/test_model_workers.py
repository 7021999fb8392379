"""Workers: they come and go, rescuers help, /proc names them; whatever is asked of workqueues, they come to rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
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
from works import MS, Log, at_rest, in_kernel, workers

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
                workqueue.set_worker_desc("flush-179:0 and so on for ever, it seems")
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
        # WORKER_DESC_LEN is 32 since v6.10.
        said = "flush-179:0 and so on for ever, it seems"[: 31 if one.m.flavour.version >= (6, 10) else 23]
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


# ---- whatever is asked of them -------------------------------------------------------------------------------


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


@pytest.mark.parametrize("flavour", ALL)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    programs=st.lists(st.lists(STEPS, max_size=12), min_size=1, max_size=3),
    costs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=6, max_size=6),
    seed=st.integers(0, 30),
    cpus=st.integers(1, 3),
)
# jiffies stood still: a CPU whose tick was stopped had taken over the duty of counting them, and slept on.
@example(programs=[[("queue", 0, 0), ("cancel", 0, 0), ("delayed", 2, 6), ("delayed", 4, 3)]],
         costs=[(0, 0)] * 4 + [(3, 0), (0, 0)], seed=3, cpus=3)
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
