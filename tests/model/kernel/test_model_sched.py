"""The scheduler as programs see it: shares, preemption, realtime, affinity, balancing, errors, accounting."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bare import ALL, SECOND, World, error, play, world
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.kernel.sched import cputime
from taskscope.model.kernel.sched.sched import sched_prio_to_weight

MS = 1_000_000
NORMAL, FIFO, RR, BATCH, IDLE = 0, 1, 2, 3, 5


def hog(sys: Any, until: int) -> int:
    """Compute until the clock shows `until`."""
    while sys.clock_gettime_ns() < until:
        sys.run_for(MS)
    return 0


def ran(pid: int) -> int:
    """Return the time that a task has run (ns)."""
    task = next(t for t in _tasks() if t.pid == pid)
    return int(task.se.sum_exec_runtime)


def _tasks() -> list[Any]:
    from taskscope.model.include.linux.list import list_for_each_entry

    return list(list_for_each_entry(machine.cur.init_task.tasks))


def switches(one: World) -> list[tuple[int, int, int, int]]:
    """Collect (time, cpu, prev pid, next pid) of all switches from now on."""
    seen: list[tuple[int, int, int, int]] = []
    tracepoint_probe_register(one.m.tp, "sched_switch", _note_switch, seen)
    return seen


def _note_switch(seen: list[tuple[int, int, int, int]], preempt: bool, prev: Any, next: Any) -> None:
    m = machine.cur
    seen.append((m.now, m.cpu.id, prev.pid, next.pid))


# ---- shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
@pytest.mark.parametrize("nice", [0, 5, 10])
def test_time_is_shared_by_weight(flavour: str, nice: int) -> None:
    """Two programs that compute share the CPU by the weights of their nice values."""

    def scenario(sys: Any) -> tuple[int, int]:
        end = sys.clock_gettime_ns() + 3 * SECOND
        a, b = sys.clone(hog, end), sys.clone(hog, end)
        sys.setpriority(0, b, nice)
        sys.nanosleep(2_900 * MS)
        return ran(a), ran(b)

    a, b = play(scenario, flavour)
    weight = sched_prio_to_weight[20 + nice]
    assert a / (a + b) == pytest.approx(1024 / (1024 + weight), abs=0.03)


def test_many_programs_get_equal_shares() -> None:
    """Ten programs that compute on one CPU have run equally long, within two slices."""

    def scenario(sys: Any) -> list[int]:
        end = sys.clock_gettime_ns() + 5 * SECOND
        pids = [sys.clone(hog, end) for _ in range(10)]
        sys.nanosleep(4 * SECOND)
        return [ran(pid) for pid in pids]

    shares = play(scenario)
    assert max(shares) - min(shares) <= 2 * 10 * MS
    assert sum(shares) == pytest.approx(4 * SECOND, rel=0.01)


def test_a_sleeper_preempts_a_program_that_computes() -> None:
    """A program that wakes after a long sleep runs at once, although another computes (wakeup preemption)."""

    def scenario(sys: Any) -> list[int]:
        sys.clone(hog, sys.clock_gettime_ns() + 2 * SECOND)
        late = []
        for _ in range(20):
            due = sys.clock_gettime_ns() + 50 * MS
            sys.nanosleep(50 * MS)
            late.append(sys.clock_gettime_ns() - due)
        return late

    assert max(play(scenario)) < 200_000        # timer slack 50 us, costs


def test_sched_idle_only_gets_what_is_left() -> None:
    """A SCHED_IDLE program gets weight 3: nearly nothing beside one that computes."""

    def scenario(sys: Any) -> tuple[int, int]:
        end = sys.clock_gettime_ns() + 3 * SECOND
        a, b = sys.clone(hog, end), sys.clone(hog, end)
        sys.sched_setscheduler(b, IDLE, 0)
        sys.nanosleep(2 * SECOND)
        return ran(a), ran(b)

    a, b = play(scenario)
    assert b / (a + b) < 0.02


def test_yield_lets_the_other_run() -> None:
    """sched_yield() of two programs alternates them."""
    order: list[int] = []

    def yielder(sys: Any, start: int) -> int:
        sys.nanosleep(start - sys.clock_gettime_ns())
        for _ in range(10):
            order.append(sys.getpid())
            sys.sched_yield()
        return 0

    def scenario(sys: Any) -> None:
        start = sys.clock_gettime_ns() + SECOND
        pids = [sys.clone(yielder, start) for _ in range(2)]
        for pid in pids:
            sys.waitpid(pid)

    play(scenario)
    assert all(a != b for a, b in pairwise(order[1:-1]))


# ---- realtime ----------------------------------------------------------------------------------------------


def test_fifo_runs_before_all_that_is_fair() -> None:
    """A SCHED_FIFO program computes to its end while fair ones wait."""

    def fifo(sys: Any) -> int:
        sys.sched_setscheduler(0, FIFO, 10)
        t = sys.clock_gettime_ns()
        sys.run_for(500 * MS)
        return 0 if sys.clock_gettime_ns() - t < 502 * MS else 1

    def scenario(sys: Any) -> Any:
        sys.clone(hog, sys.clock_gettime_ns() + 2 * SECOND)
        return sys.waitpid(sys.clone(fifo))[1]

    assert play(scenario) == 0


def test_rr_takes_turns_and_fifo_does_not() -> None:
    """SCHED_RR programs of one priority take turns of 100 ms; SCHED_FIFO ones run one after the other."""

    def worker(sys: Any, policy: int, out: list[int]) -> int:
        sys.sched_setscheduler(0, policy, 10)
        for _ in range(30):
            sys.run_for(10 * MS)
            out.append(sys.getpid())
        return 0

    for policy, changes in ((RR, {5, 6, 7}), (FIFO, {1})):
        out: list[int] = []

        def scenario(sys: Any, policy: int = policy, out: list[int] = out) -> None:
            sys.sched_setscheduler(0, FIFO, 20)
            flags = 0x100 | 17                  # CLONE_VM: the list is shared
            pids = [sys.clone(worker, policy, out, flags=flags) for _ in range(2)]
            for pid in pids:
                sys.waitpid(pid)

        play(scenario)
        assert sum(a != b for a, b in pairwise(out)) in changes, policy


def test_higher_priority_preempts_lower() -> None:
    """A realtime program that wakes preempts one of lower priority, and not one of higher."""

    def sleeper(sys: Any, prio: int, out: list[Any]) -> int:
        sys.sched_setscheduler(0, FIFO, prio)
        due = sys.clock_gettime_ns() + 100 * MS
        sys.nanosleep(100 * MS)
        out.append((prio, sys.clock_gettime_ns() - due < MS))
        return 0

    def scenario(sys: Any) -> list[Any]:
        out: list[Any] = []
        sys.sched_setscheduler(0, FIFO, 50)
        pids = [sys.clone(sleeper, prio, out, flags=0x100 | 17) for prio in (40, 60)]
        sys.nanosleep(10 * MS)
        sys.run_for(300 * MS)
        for pid in pids:
            sys.waitpid(pid)
        return out

    assert play(scenario) == [(60, True), (40, False)]


def test_realtime_tasks_spread_over_the_cpus() -> None:
    """Two realtime programs that compute on two CPUs run at the same time."""

    def worker(sys: Any) -> int:
        sys.sched_setscheduler(0, FIFO, 10)
        sys.run_for(200 * MS)
        return 0

    def scenario(sys: Any) -> int:
        t = sys.clock_gettime_ns()
        pids = [sys.clone(worker) for _ in range(2)]
        for pid in pids:
            sys.waitpid(pid)
        return int(sys.clock_gettime_ns() - t)

    assert play(scenario, cpus=2) < 220 * MS


# ---- CPUs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
@pytest.mark.parametrize("cpus", [2, 4])
def test_computing_programs_spread_over_the_cpus(flavour: str, cpus: int) -> None:
    """As many programs that compute as there are CPUs all run all the time."""

    def scenario(sys: Any) -> list[int]:
        end = sys.clock_gettime_ns() + SECOND
        pids = [sys.clone(hog, end) for _ in range(cpus)]
        sys.nanosleep(900 * MS)
        return [ran(pid) for pid in pids]

    assert min(play(scenario, flavour, cpus=cpus)) > 850 * MS


def test_balancing_pulls_work_to_an_idle_cpu() -> None:
    """Programs pinned to one CPU and then let go spread: an idle CPU pulls what waits elsewhere."""

    def scenario(sys: Any) -> list[int]:
        end = sys.clock_gettime_ns() + 4 * SECOND
        pids = [sys.clone(hog, end) for _ in range(4)]
        for pid in pids:
            sys.sched_setaffinity(pid, {0})
        sys.nanosleep(500 * MS)
        for pid in pids:
            sys.sched_setaffinity(pid, {0, 1})
        sys.nanosleep(200 * MS)
        before = [ran(pid) for pid in pids]
        sys.nanosleep(2 * SECOND)
        return [ran(pid) - b for pid, b in zip(pids, before, strict=True)]

    shares = play(scenario, cpus=2)
    assert sum(shares) > 3.9 * SECOND
    assert max(shares) - min(shares) < 0.3 * SECOND


def test_affinity_moves_a_running_program_at_once() -> None:
    """sched_setaffinity() of a program that runs elsewhere moves it through migration/N, and so does one's own."""

    def scenario(sys: Any) -> list[Any]:
        seen = []
        for cpu in (1, 0, 1):
            sys.sched_setaffinity(0, {cpu})
            seen.append(machine.cur.cpu.id)
        pid = sys.clone(hog, sys.clock_gettime_ns() + SECOND)
        sys.sched_setaffinity(pid, {0, 1})
        sys.nanosleep(100 * MS)
        for cpu in (0, 1):
            sys.sched_setaffinity(pid, {cpu})
            seen.append(next(t for t in _tasks() if t.pid == pid).thread_info.cpu)
        seen.append(sorted(sys.sched_getaffinity(pid)))
        return seen

    assert play(scenario, cpus=2, bare=False) == [1, 0, 1, 0, 1, [1]]


def test_a_bare_machine_moves_the_caller_too() -> None:
    """Without migration/N a program still moves itself: it sleeps for a tick and wakes where it may."""

    def scenario(sys: Any) -> list[int]:
        seen = []
        for cpu in (1, 0):
            sys.sched_setaffinity(0, {cpu})
            seen.append(machine.cur.cpu.id)
        return seen

    assert play(scenario, cpus=2) == [1, 0]


def test_a_pinned_program_never_leaves() -> None:
    """A program pinned to a CPU runs there only, whatever the balancer thinks."""

    def scenario(sys: Any) -> int:
        end = sys.clock_gettime_ns() + 2 * SECOND
        pids = [sys.clone(hog, end) for _ in range(3)]
        for pid in pids:
            sys.sched_setaffinity(pid, {1})
        sys.nanosleep(50 * MS)
        seen = switches_of(one)
        sys.nanosleep(SECOND)
        return sum(cpu != 1 for _, cpu, _, pid in seen if pid in pids)

    def switches_of(one: World) -> list[tuple[int, int, int, int]]:
        return switches(one)

    with world(cpus=2, bare=False) as one:
        assert one.run(scenario) == 0


# ---- errors ------------------------------------------------------------------------------------------------


def test_calls_fail_as_linux_says() -> None:
    """Each sched_* call gives the errno of its manual page."""

    def scenario(sys: Any) -> list[str]:
        return [
            error(sys.sched_setscheduler, 9999, NORMAL, 0),
            error(sys.sched_setscheduler, -1, NORMAL, 0),
            error(sys.sched_setscheduler, 0, -5, 0),
            error(sys.sched_setscheduler, 0, 77, 0),
            error(sys.sched_setscheduler, 0, FIFO, 0),
            error(sys.sched_setscheduler, 0, FIFO, 100),
            error(sys.sched_setscheduler, 0, NORMAL, 1),
            error(sys.sched_getscheduler, -1),
            error(sys.sched_getscheduler, 9999),
            error(sys.sched_setaffinity, 0, []),
            error(sys.sched_setaffinity, 0, [17]),
            error(sys.sched_setaffinity, 9999, [0]),
            error(sys.sched_setaffinity, 2, [0]),         # kthreadd is no per-cpu thread: allowed
            error(sys.sched_getaffinity, 9999),
        ]

    assert play(scenario) == [
        "ESRCH", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "ESRCH", "EINVAL", "EINVAL",
        "ESRCH", "None", "ESRCH",
    ]


def test_without_privilege_nothing_gets_better() -> None:
    """An ordinary user may lower itself, and not take it back, nor touch what is another's."""

    def user(sys: Any) -> list[str]:
        sys.setuid(1000)
        return [
            error(sys.setpriority, 0, 0, 5),
            error(sys.setpriority, 0, 0, 4),
            error(sys.sched_setscheduler, 0, FIFO, 1),
            error(sys.sched_setscheduler, 0, BATCH, 0),
            error(sys.sched_setscheduler, 1, NORMAL, 0),
            error(sys.sched_setaffinity, 1, [0]),
            error(sys.sched_setscheduler, 0, IDLE, 0),
            error(sys.sched_setscheduler, 0, NORMAL, 0),
        ]

    said: list[str] = []

    def child(sys: Any) -> int:
        said.extend(user(sys))
        return 0

    def scenario(sys: Any) -> None:
        sys.waitpid(sys.clone(child))

    play(scenario)
    assert said == ["None", "EACCES", "EPERM", "None", "EPERM", "EPERM", "None", "EPERM"]


# ---- accounting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_run_times_add_up_to_the_cpus_time(flavour: str) -> None:
    """What tasks ran and what the CPUs idled is all the time there was, but for the time inside switches."""

    def scenario(sys: Any) -> tuple[int, int]:
        end = sys.clock_gettime_ns() + 2 * SECOND
        for _ in range(3):
            sys.clone(hog, end)
        m = machine.cur
        start, before = m.now, sum(t.se.sum_exec_runtime for t in _tasks())
        sys.nanosleep(1500 * MS)
        return m.now - start, sum(t.se.sum_exec_runtime for t in _tasks()) - before

    wall, ran = play(scenario, flavour, cpus=2)
    assert ran == pytest.approx(2 * wall, rel=0.01)


def test_sampled_times_are_scaled_to_the_run_time() -> None:
    """Utime + stime of a program is its exact run time; utime of one that computes is nearly all of it."""

    def scenario(sys: Any) -> tuple[int, int, int]:
        pid = sys.clone(hog, sys.clock_gettime_ns() + SECOND)
        sys.nanosleep(990 * MS)
        task = next(t for t in _tasks() if t.pid == pid)
        utime, stime = cputime.task_cputime_adjusted(task)
        return utime, stime, ran(pid)

    utime, stime, exact = play(scenario)
    assert utime + stime == exact
    assert utime > 0.95 * exact


def test_run_delay_is_the_time_on_the_runqueue() -> None:
    """Of two programs that compute, each waits half of the time: sched_info.run_delay says so."""

    def scenario(sys: Any) -> list[tuple[int, int]]:
        end = sys.clock_gettime_ns() + 2 * SECOND
        pids = [sys.clone(hog, end) for _ in range(2)]
        sys.nanosleep(1900 * MS)
        tasks = [next(t for t in _tasks() if t.pid == pid) for pid in pids]
        return [(t.sched_info.run_delay, t.sched_info.pcount) for t in tasks]

    for delay, pcount in play(scenario):
        assert delay == pytest.approx(950 * MS, rel=0.05)
        assert pcount > 80


def test_switches_are_counted_by_kind() -> None:
    """Sleeping is a voluntary switch, being preempted is not."""

    def sleeper(sys: Any) -> int:
        for _ in range(10):
            sys.nanosleep(MS)
        return 0

    def scenario(sys: Any) -> tuple[int, int, int, int]:
        a = sys.clone(sleeper)
        sys.nanosleep(100 * MS)
        t = next(t for t in _tasks() if t.pid == a)
        first = t.nvcsw, t.nivcsw
        end = sys.clock_gettime_ns() + SECOND
        b = sys.clone(hog, end)
        sys.clone(hog, end)
        sys.nanosleep(900 * MS)
        t = next(t for t in _tasks() if t.pid == b)
        return *first, t.nvcsw, t.nivcsw

    voluntary, involuntary, hog_voluntary, hog_involuntary = play(scenario)
    assert (voluntary, involuntary) == (11, 0)          # ten sleeps and the death
    assert hog_voluntary == 0
    assert hog_involuntary > 40


# ---- determinism -------------------------------------------------------------------------------------------


def _story(seed: int) -> list[tuple[int, int, int, int]]:
    def worker(sys: Any, n: int) -> int:
        for k in range(20):
            sys.nanosleep((n * 7 + k) * 100_000)
            sys.run_for(n * 300_000)
        return 0

    def scenario(sys: Any) -> None:
        seen.extend([])
        pids = [sys.clone(worker, n) for n in range(5)]
        for pid in pids:
            sys.waitpid(pid)

    seen: list[tuple[int, int, int, int]] = []
    with world(cpus=2, seed=seed) as one:
        tracepoint_probe_register(one.m.tp, "sched_switch", _note_switch, seen)
        one.run(scenario)
    return seen


def test_same_seed_same_run() -> None:
    """A seed gives one run; another seed gives another."""
    assert _story(0) == _story(0)
    assert _story(5) == _story(5)
    assert len({tuple(_story(seed)) for seed in range(4)}) == 4
