"""Invariants of the scheduler and of locks, under programs and schedules drawn at random."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bare import ALL, SECOND, error, world
from taskscope.labs.truth.invariants import Watch
from taskscope.model import machine
from taskscope.model.include.linux.spinlock import Spinlock
from taskscope.model.init import main

MS = 1_000_000

# ---- the order of locks ------------------------------------------------------------------------------------


class Lockdep:
    """Notes which lock is taken while which is held, by the names of their classes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[int, list[Spinlock]] = defaultdict(list)
        self.order: set[tuple[str, str]] = set()
        slot = Spinlock.owner                   # type: ignore[misc]  # the descriptor of the slot
        monkeypatch.setattr(Spinlock, "owner", property(slot.__get__, self.taken))  # type: ignore[attr-defined]
        self.store = slot.__set__               # type: ignore[attr-defined]

    def taken(self, lock: Spinlock, cpu: machine.Cpu | None) -> None:
        """See a lock taken or released."""
        if cpu is None:
            for stack in self.held.values():
                if lock in stack:
                    stack.remove(lock)
        else:
            stack = self.held[cpu.id]
            self.order.update((other.name, lock.name) for other in stack)
            stack.append(lock)
        self.store(lock, cpu)

    def circle(self) -> list[str]:
        """Return a circle of classes, each taken while the one before it is held; [] if there is none."""
        after = defaultdict(set)
        for first, second in self.order:
            after[first].add(second)
        for start in list(after):
            paths = [[start]]
            while paths:
                path = paths.pop()
                for name in after[path[-1]]:
                    if name == start:
                        return [*path, name]
                    if name not in path:
                        paths.append([*path, name])
        return []


def busy(sys: Any) -> int:
    """Do a little of everything that takes locks."""
    def handler(sys: Any, sig: int, info: Any) -> None:
        """Do nothing."""

    def child(sys: Any, r: int, w: int) -> int:
        sys.write(w, b"x")
        sys.nanosleep(3 * MS)
        return 3

    def sleeper(sys: Any) -> int:
        while True:
            sys.pause()

    sys.signal(10, handler)
    for _ in range(3):
        r, w = sys.pipe()
        a = sys.clone(child, r, w)
        b = sys.clone(sleeper)
        sys.pthread_create(child, r, w)
        sys.read(r, 1)
        sys.setpgid(b, b)
        sys.sched_setaffinity(b, {1})
        sys.sched_setscheduler(b, 1, 5)
        sys.setpriority(0, a, 3)
        sys.kill(sys.getpid(), 10)
        sys.kill(b, 9)
        sys.waitpid(a)
        sys.waitpid(b)
        sys.close(r)
        sys.close(w)
    sys.nanosleep(100 * MS)
    return 0


@pytest.mark.parametrize("flavour", ALL)
def test_locks_nest_in_one_order(flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two classes of locks are ever taken in both orders, directly or through others; none inside rq.lock."""
    lockdep = Lockdep(monkeypatch)
    with world(flavour, cpus=2, bare=False) as one:
        one.run(busy)
    assert {("tasklist_lock", "siglock"), ("siglock", "pi_lock"), ("pi_lock", "rq.lock")} <= lockdep.order
    assert len(lockdep.order) > 8
    assert not lockdep.circle(), lockdep.circle()
    assert not [second for first, second in lockdep.order if first == "rq.lock"]
    assert not any(lockdep.held.values()), "a lock is still held"


# ---- runqueues ---------------------------------------------------------------------------------------------


def check_runqueues(m: machine.Machine) -> None:
    """Check each runqueue against what is on it."""
    for cpu in m.cpus:
        cfs = cpu.rq.cfs
        waiting = cfs.timeline[cfs.first:]
        assert all(se is None for se in cfs.timeline[: cfs.first])
        assert len(cfs.keys) == len(cfs.timeline)
        assert [se.vruntime for se in waiting] == list(cfs.keys[cfs.first:]), "each is at the place of its vruntime"
        assert list(cfs.keys[cfs.first:]) == sorted(cfs.keys[cfs.first:]), "the timeline is in order"
        assert all(se.on_rq for se in waiting)
        running = [cfs.curr] if cfs.curr is not None and cfs.curr.on_rq else []
        entities = waiting + running
        assert cfs.nr_running == len(entities)
        assert cfs.load.weight == sum(se.load.weight for se in entities), "load is the weight of what is there"
        for buddy in (cfs.last, cfs.next):
            assert buddy is None or buddy.on_rq, f"{buddy.task}: a buddy that is not runnable"
        assert cfs.curr is None or cfs.curr.task is cpu.rq.curr
        rt = cpu.rq.rt
        bits = 0
        for prio, queue in enumerate(rt.queue):
            if queue is not None and queue.next is not queue:
                bits |= 1 << prio
        assert rt.bitmap == bits, "a bit for each queue with tasks"
        assert cpu.softirq_pending >> 10 == 0


STEPS = st.one_of(
    st.tuples(st.just("compute"), st.integers(1, 20)),
    st.tuples(st.just("sleep"), st.integers(0, 30)),
    st.tuples(st.just("yield"), st.just(0)),
    st.tuples(st.just("nice"), st.integers(-20, 19)),
    st.tuples(st.just("policy"), st.sampled_from([(0, 0), (1, 10), (1, 50), (2, 10), (3, 0), (5, 0)])),
    st.tuples(st.just("affinity"), st.integers(1, 7)),
    st.tuples(st.just("clone"), st.just(0)),
)


def follow(sys: Any, steps: list[tuple[str, Any]], depth: int) -> int:
    """Do the steps; a clone does the rest of them too."""
    children = []
    for at, (what, arg) in enumerate(steps):
        if what == "compute":
            sys.run_for(arg * MS)
        elif what == "sleep":
            sys.nanosleep(arg * MS)
        elif what == "yield":
            sys.sched_yield()
        elif what == "nice":
            sys.setpriority(0, 0, arg)
        elif what == "policy":
            sys.sched_setscheduler(0, *arg)
        elif what == "affinity":
            error(sys.sched_setaffinity, 0, [cpu for cpu in range(3) if arg >> cpu & 1])
        elif what == "clone" and depth:
            children.append(sys.clone(follow, steps[at + 1:], depth - 1))
    for pid in children:
        sys.waitpid(pid)
    return 0


def start(one: Any, scenario: Any) -> None:
    """Switch the machine on with a pid 1 that runs the scenario."""
    one.started = False

    def init(sys: Any, argv: list[str]) -> None:
        one.started = True
        sys.nanosleep(5 * MS)
        one.result = scenario(sys)
        one.done = True
        while True:
            sys.pause()

    main.power_on(one.m, bare=one.bare, program=init)


@pytest.mark.parametrize("flavour", ["4.19-arm", "6.1-x86_64"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs=st.lists(st.lists(STEPS, max_size=8), min_size=1, max_size=4), seed=st.integers(0, 20),
       cpus=st.integers(1, 3))
def test_runqueues_are_right_at_all_times(
    flavour: str, programs: list[list[tuple[str, Any]]], seed: int, cpus: int,
) -> None:
    """Whatever programs do to their priorities, CPUs and children, under any schedule: no task is lost or twice."""

    def scenario(sys: Any) -> bool:
        pids = [sys.clone(follow, steps, 1) for steps in programs]
        for pid in pids:
            sys.waitpid(pid)
        return True

    with world(flavour, cpus=cpus, seed=seed, bare=False) as one:
        start(one, scenario)
        while not one.started:
            one.m.run_until(one.m.now + MS)
        watch = Watch(one.m)
        while not one.done and one.m.now < 600 * SECOND:
            one.m.run_until(one.m.now + 3_337_000)
            check_runqueues(one.m)
            watch.check()
        assert one.done, "every program ends"
        watch.close()
