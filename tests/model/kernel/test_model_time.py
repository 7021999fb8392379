"""Time in the kernel: sleeping, timers, the tick and its absence, softirqs, RCU, wait queues, completions, stoppers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bare import ALL, SECOND, error, play, world
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.interrupt import SCHED_SOFTIRQ, TIMER_SOFTIRQ
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.linux.wait import WQ_FLAG_EXCLUSIVE, WaitQueueHead, wake_up, wake_up_all
from taskscope.model.kernel import kthread, smp, softirq, stop_machine
from taskscope.model.kernel.rcu import tree as rcu
from taskscope.model.kernel.sched import completion, core
from taskscope.model.kernel.sched import wait as sched_wait
from taskscope.model.kernel.time import timer

MS = 1_000_000
TEST_CALL = 0x7000


def in_kernel(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function as a system call of the running program, and return its result."""
    m = machine.cur
    out: list[Any] = []
    m.sys_call_table[TEST_CALL] = _test_call
    m.cpu.curr.journal._gate(TEST_CALL, (function, args, out))
    return out[0]


def _test_call(function: Callable[..., Any], args: tuple[Any, ...], out: list[Any]) -> int:
    out.append(function(*args))
    return 0


# ---- sleeping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
@pytest.mark.parametrize("ns", [0, 1, 1_000, MS, 1_234_567, 3 * SECOND])
def test_nanosleep_takes_its_time_and_the_timer_slack(flavour: str, ns: int) -> None:
    """nanosleep() returns no earlier than asked, and later by at most the timer slack (50 us) and the kernel's time."""

    def scenario(sys: Any) -> int:
        t = sys.clock_gettime_ns()
        sys.nanosleep(ns)
        return int(sys.clock_gettime_ns() - t)

    assert ns <= play(scenario, flavour) <= ns + 50_000 + 20_000


def test_nanosleep_refuses_what_is_no_time() -> None:
    """A negative time or a second's worth of nanoseconds is EINVAL."""

    def scenario(sys: Any) -> list[str]:
        return [error(sys._call, "nanosleep", (-1, 0), 0), error(sys._call, "nanosleep", (0, SECOND), 0)]

    assert play(scenario) == ["EINVAL", "EINVAL"]


def test_a_handled_signal_ends_a_sleep_and_says_what_is_left() -> None:
    """A signal with a handler ends nanosleep() with EINTR; the remainder is what was not slept."""

    def handler(sys: Any, sig: int, info: Any) -> None:
        """Do nothing."""

    def scenario(sys: Any) -> tuple[str, Any]:
        from taskscope.model.include.linux.uaccess import Cell

        sys.signal(14, handler)
        sys._call("setitimer", 0, ((0, 0), (0, 100_000)), 0)
        rem = Cell((0, 0))
        said = error(sys._call, "nanosleep", (1, 0), rem)
        return said, rem.value

    said, (sec, nsec) = play(scenario)
    assert said == "EINTR"
    assert sec == 0
    assert 899 * MS < nsec <= 900 * MS + 50_000         # the kernel counts to the end of the timer slack


def test_an_interval_timer_fires_on_its_grid() -> None:
    """setitimer() with an interval sends SIGALRM each time, without drifting."""
    seen: list[int] = []

    def handler(sys: Any, sig: int, info: Any) -> None:
        seen.append(machine.cur.now)

    def scenario(sys: Any) -> int:
        sys.signal(14, handler)
        start = int(machine.cur.now)
        sys._call("setitimer", 0, ((0, 50_000), (0, 50_000)), 0)
        while len(seen) < 10:
            error(sys.pause)
        return start

    start = play(scenario)
    assert [round((t - start) / (50 * MS)) for t in seen] == list(range(1, 11))
    assert all((t - start) % (50 * MS) < MS for t in seen)


@pytest.mark.parametrize("flavour", ALL)
def test_schedule_timeout_counts_jiffies(flavour: str) -> None:
    """schedule_timeout(n) sleeps between n and n + 1 ticks, and returns 0."""

    def scenario(sys: Any) -> list[tuple[int, int]]:
        m = machine.cur
        out = []
        for ticks in (1, 2, 10):
            t = m.now
            left = in_kernel(timer.schedule_timeout_uninterruptible, ticks)
            assert left == 0
            out.append((ticks, (m.now - t) * 100 // m.tick_nsec))
        return out

    for ticks, hundredths in play(scenario, flavour):
        assert 100 * ticks <= hundredths <= 100 * (ticks + 1) + 10


def test_far_timers_are_rounded_up_to_the_wheels_granularity() -> None:
    """A timer fires in the jiffy after its own below 63, in multiples of 8 below 504, of 64 below 4,032."""
    assert timer.calc_index(1010, 1000) == 1011
    assert timer.calc_index(1100, 1000) == 1104
    assert timer.calc_index(2000, 1000) == 2048
    assert all(timer.calc_index(1000 + d, 1000) > 1000 + d - 1 for d in range(5000))


def test_a_deleted_timer_does_not_fire_and_a_moved_one_fires_once() -> None:
    """del_timer() takes a timer back; mod_timer() of a pending one moves it."""
    fired: list[str] = []

    def first(t: TimerList) -> None:
        fired.append("first")

    def second(t: TimerList) -> None:
        fired.append("second")

    def kernel() -> tuple[int, int, int]:
        m = machine.cur
        a, b = TimerList(first), TimerList(second)
        timer.mod_timer(a, m.jiffies + 2)
        timer.mod_timer(b, m.jiffies + 2)
        gone = timer.del_timer(a)
        moved = timer.mod_timer(b, m.jiffies + 5)
        timer.schedule_timeout_uninterruptible(20)
        return gone, moved, timer.del_timer(b)

    assert play(lambda sys: in_kernel(kernel)) == (1, 1, 0)
    assert fired == ["second"]


# ---- the tick ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_an_idle_machine_stops_its_ticks(flavour: str) -> None:
    """When all programs sleep, the CPUs take no timer interrupts, and jiffies are right afterwards."""

    def scenario(sys: Any) -> tuple[int, int]:
        m = machine.cur
        sys.nanosleep(SECOND)                   # grace periods of the boot end
        before = sum(m.irq_timer.kstat_irqs)
        sys.nanosleep(100 * SECOND)
        return sum(m.irq_timer.kstat_irqs) - before, m.jiffies - m.now // m.tick_nsec

    interrupts, behind = play(scenario, flavour, cpus=2)
    assert interrupts <= 10
    assert behind in (-1, 0)


@pytest.mark.parametrize("flavour", ALL)
def test_a_computing_cpu_ticks(flavour: str) -> None:
    """A CPU that computes takes HZ ticks a second, most of them in user mode."""

    def scenario(sys: Any) -> tuple[int, int, int]:
        m = machine.cur
        before, utime = sum(m.irq_timer.kstat_irqs), m.cpu.curr.utime
        sys.run_for(2 * SECOND)
        return sum(m.irq_timer.kstat_irqs) - before, m.cpu.curr.utime - utime, m.hz

    interrupts, utime, hz = play(scenario, flavour)
    assert abs(interrupts - 2 * hz) <= 1
    assert utime == pytest.approx(2 * SECOND, rel=0.01)


def test_the_load_average_follows_the_number_of_runnable_programs() -> None:
    """With two programs that compute the one-minute average goes towards 2 as Linux computes it."""

    def hog(sys: Any) -> int:
        sys.run_for(200 * SECOND)
        return 0

    def scenario(sys: Any) -> list[float]:
        for _ in range(2):
            sys.clone(hog)
        sys.nanosleep(60 * SECOND)
        return [a / 2048 for a in machine.cur.avenrun]

    one, five, fifteen = play(scenario)
    assert one == pytest.approx(2 * (1 - 2.718281828**-1), abs=0.1)
    assert one > five > fifteen > 0.05


# ---- softirqs ----------------------------------------------------------------------------------------------


def test_a_softirq_raised_in_a_task_waits_for_ksoftirqd_and_one_in_an_interrupt_does_not() -> None:
    """raise_softirq() outside of interrupts wakes ksoftirqd/N; in an interrupt it runs on the way out."""
    ran: list[str] = []

    def action() -> None:
        m = machine.cur
        assert m.cpu.preempt_count & 0xFF00 == 0x100
        ran.append(m.cpu.curr.comm)

    def kernel() -> None:
        softirq.open_softirq(4, action)
        softirq.raise_softirq(4)

    def scenario(sys: Any) -> None:
        in_kernel(kernel)
        sys.nanosleep(MS)
        in_kernel(smp.smp_call_function_single, 1, _raise, None, True)

    play(scenario, cpus=2, bare=False)
    assert ran == ["ksoftirqd/0", "swapper/1"]


def _raise(info: Any) -> None:
    softirq.raise_softirq_irqoff(4)


def test_softirqs_are_held_back_by_local_bh_disable() -> None:
    """Between local_bh_disable() and local_bh_enable() none runs; the last enable runs what was raised."""
    ran: list[int] = []

    def action() -> None:
        ran.append(machine.cur.cpu.preempt_count)

    def kernel() -> list[int]:
        softirq.open_softirq(4, action)
        softirq.local_bh_disable()
        softirq.local_bh_disable()
        softirq.raise_softirq(4)
        softirq.local_bh_enable()
        before = list(ran)
        softirq.local_bh_enable()
        return before

    assert play(lambda sys: in_kernel(kernel), bare=False) == []
    assert ran == [0x101]


def test_a_softirq_that_raises_itself_is_left_to_ksoftirqd() -> None:
    """__do_softirq() goes round ten times at most; the rest is for ksoftirqd, which others can preempt."""
    ran: list[str] = []

    def action() -> None:
        ran.append(machine.cur.cpu.curr.comm)
        if len(ran) < 25:
            softirq.raise_softirq(4)

    def scenario(sys: Any) -> None:
        softirq.open_softirq(4, action)
        in_kernel(smp.smp_call_function_single, 1, _raise, None, True)
        sys.nanosleep(10 * MS)

    play(scenario, cpus=2, bare=False)
    assert ran == ["swapper/1"] * 10 + ["ksoftirqd/1"] * 15


# ---- RCU ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("flavour", ALL)
def test_a_callback_runs_after_every_cpu_has_passed_a_quiescent_state(flavour: str, bare: bool) -> None:
    """call_rcu()'s function runs in a softirq, after each CPU that computed was seen in user mode or switched."""
    ran: list[tuple[int, bool]] = []

    def callback(head: Any) -> None:
        ran.append((machine.cur.now, bool(machine.cur.cpu.preempt_count & 0x100)))

    def hog(sys: Any) -> int:
        sys.run_for(SECOND)
        return 0

    def scenario(sys: Any) -> int:
        sys.clone(hog)
        sys.nanosleep(10 * MS)
        in_kernel(rcu.call_rcu, None, callback)
        t = int(machine.cur.now)
        sys.nanosleep(500 * MS)
        return t

    with world(flavour, cpus=2, bare=bare) as one:
        t = one.run(scenario)
        tick = one.m.tick_nsec
    assert len(ran) == 1
    when, softirqs = ran[0]
    assert softirqs
    assert tick <= when - t <= 12 * tick


def test_a_cpu_that_does_not_pass_one_holds_the_grace_period() -> None:
    """While a CPU stays in the kernel without switching, no grace period ends."""
    ran: list[int] = []

    def callback(head: Any) -> None:
        ran.append(machine.cur.now)

    def stay() -> int:
        m = machine.cur
        m.cpu.preempt_count += 1                # a reader
        m.run_for(300 * MS)
        m.cpu.preempt_count -= 1
        return m.now

    def reader(sys: Any) -> int:
        until.append(in_kernel(stay))
        return 0

    until: list[int] = []

    def scenario(sys: Any) -> None:
        sys.clone(reader)
        sys.nanosleep(10 * MS)
        in_kernel(rcu.call_rcu, None, callback)
        sys.nanosleep(SECOND)

    play(scenario, cpus=2)
    assert len(ran) == len(until) == 1
    assert ran[0] >= until[0]


def test_synchronize_rcu_waits_for_a_grace_period() -> None:
    """synchronize_rcu() returns when a grace period has ended that began after the call."""

    def scenario(sys: Any) -> bool:
        before = machine.cur.rcu_state.completed
        in_kernel(rcu.synchronize_rcu)
        return bool(machine.cur.rcu_state.completed > before)

    assert play(scenario, cpus=2)


# ---- waiting -----------------------------------------------------------------------------------------------


def _sleep_on(arg: Any) -> int:
    queue, name, exclusive, out = arg
    from taskscope.model.include.linux.wait import DEFINE_WAIT

    wait = DEFINE_WAIT()
    if exclusive:
        sched_wait.prepare_to_wait_exclusive(queue, wait, 2)
    else:
        sched_wait.prepare_to_wait(queue, wait, 2)
    core.schedule()
    sched_wait.finish_wait(queue, wait)
    out.append(name)
    return 0


def test_wake_up_wakes_all_and_one_exclusive_waiter() -> None:
    """wake_up() wakes every waiter that is not exclusive and one that is, the one that waited longest."""
    out: list[str] = []

    def kernel() -> list[list[str]]:
        queue = WaitQueueHead()
        for name, exclusive in (("a", False), ("x1", True), ("b", False), ("x2", True)):
            kthread.kthread_run(_sleep_on, (queue, name, exclusive, out), name)
            timer.schedule_timeout_uninterruptible(1)
        seen = []
        for wake in (wake_up, wake_up, wake_up_all):
            wake(queue)
            timer.schedule_timeout_uninterruptible(1)
            seen.append(sorted(out))
        return seen

    assert WQ_FLAG_EXCLUSIVE == 1
    assert play(lambda sys: in_kernel(kernel)) == [["a", "b", "x1"], ["a", "b", "x1", "x2"], ["a", "b", "x1", "x2"]]


def _wait_for(arg: Any) -> int:
    x, name, out = arg
    completion.wait_for_completion(x)
    out.append(name)
    return 0


def test_complete_lets_one_through_in_order_and_complete_all_everybody() -> None:
    """complete() wakes one waiter, first come first served; after complete_all() nobody waits any more."""
    out: list[str] = []

    def kernel() -> list[list[str]]:
        x = Completion()
        completion.complete(x)
        completion.wait_for_completion(x)       # done before: does not wait
        for name in "abc":
            kthread.kthread_run(_wait_for, (x, name, out), name)
            timer.schedule_timeout_uninterruptible(1)
        seen = []
        for done in (completion.complete, completion.complete_all):
            done(x)
            timer.schedule_timeout_uninterruptible(1)
            seen.append(list(out))
        completion.wait_for_completion(x)
        return seen

    assert play(lambda sys: in_kernel(kernel)) == [["a"], ["a", "b", "c"]]


def test_a_timeout_ends_the_wait_for_a_completion() -> None:
    """wait_for_completion_timeout() returns 0 when the time is over, else the jiffies that are left."""

    def kernel() -> tuple[int, bool]:
        x = Completion()
        over = completion.wait_for_completion_timeout(x, 5)
        kthread.kthread_run(_complete_later, x, "later")
        left = completion.wait_for_completion_timeout(x, 100)
        return over, 90 <= left <= 99

    assert play(lambda sys: in_kernel(kernel)) == (0, True)


def _complete_later(x: Any) -> int:
    timer.schedule_timeout_uninterruptible(3)
    completion.complete(x)
    return 0


# ---- stoppers, softirq numbers -----------------------------------------------------------------------------


def test_a_stopper_runs_in_place_of_whatever_runs_there() -> None:
    """stop_one_cpu() runs its function in migration/N, before a realtime program of priority 99 goes on."""

    def fifo(sys: Any) -> int:
        sys.sched_setscheduler(0, 1, 99)
        sys.sched_setaffinity(0, {1})
        sys.run_for(SECOND)
        return 0

    def where(arg: Any) -> int:
        m = machine.cur
        seen.append((m.cpu.id, m.cpu.curr.comm, m.now))
        return 7

    seen: list[tuple[int, str, int]] = []

    def scenario(sys: Any) -> tuple[int, int]:
        sys.clone(fifo)
        sys.nanosleep(100 * MS)
        t = machine.cur.now
        return in_kernel(stop_machine.stop_one_cpu, 1, where, None), t

    ret, t = play(scenario, cpus=2, bare=False)
    assert ret == 7
    cpu, comm, when = seen[0]
    assert (cpu, comm) == (1, "migration/1")
    assert when - t < MS


def test_scheduling_while_atomic_is_found() -> None:
    """Sleeping with a spinlock held or an interrupt handled is a bug that the machine reports."""

    def kernel() -> None:
        machine.cur.cpu.preempt_count += 1
        timer.schedule_timeout_uninterruptible(1)

    with world() as one, pytest.raises(AssertionError, match="scheduling while atomic"):
        one.run(lambda sys: in_kernel(kernel))


def test_softirqs_have_the_kernels_numbers() -> None:
    """TIMER is 1, SCHED is 7: they are in events' vec field."""
    assert (TIMER_SOFTIRQ, SCHED_SOFTIRQ) == (1, 7)
