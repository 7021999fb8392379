"""The machine: its clock, its events, chance, interrupts, several machines at once, and that nothing is left of one."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from bare import SECOND, World, world
from taskscope.model import flavours, machine
from taskscope.model.machine import Machine
from taskscope.model.schedule import Schedule

MS = 1_000_000


def hardware(cpus: int = 1, seed: int = 0) -> Machine:
    """Make a machine that has not booted."""
    flavour = flavours.flavour("4.19-arm")
    return Machine(flavour, cpus, flavour.hz, seed, 1 << 20)


def test_events_fire_in_the_order_of_time_and_then_of_making() -> None:
    """The queue is ordered by time, then by the order of queueing; a cancelled event never fires."""
    m = hardware()
    seen: list[Any] = []
    for time, name in ((30, "c"), (10, "a"), (20, "b1"), (20, "b2")):
        m.at(time, seen.append, name)
    gone = m.at(15, seen.append, "gone")
    m.cancel(gone)
    m.run_until(None)
    assert seen == ["a", "b1", "b2", "c"]
    assert m.now == 30
    m.cancel(gone)
    m.close()


def test_the_clock_shows_the_end_of_a_run_and_later_events_wait() -> None:
    """run_until(t) leaves the clock at t, and what is due later for the next run."""
    m = hardware()
    seen: list[int] = []
    m.at(100, seen.append, 1)
    m.run_until(50)
    assert (m.now, seen) == (50, [])
    m.run_until(100)
    assert (m.now, seen) == (100, [1])
    m.close()


def test_many_cancelled_events_do_not_fill_the_queue() -> None:
    """A queue of mostly cancelled events is tidied up."""
    m = hardware()
    keep = m.at(10**9, lambda arg: None)
    for n in range(10_000):
        m.cancel(m.at(10**6 + n, lambda arg: None))
    assert len(m._events) < 200
    assert m.next_due() == 10**9
    m.cancel(keep)
    m.close()


def test_an_exception_of_kernel_code_leaves_the_run() -> None:
    """What an event raises comes out of run_until() as it is."""
    m = hardware()
    m.at(5, _fail)
    with pytest.raises(ZeroDivisionError):
        m.run_until(10)
    m.close()


def _fail(arg: Any) -> None:
    raise ZeroDivisionError


def test_chance_has_one_door() -> None:
    """Seed 0 always takes the usual; a seed draws the same each time; a schedule of one's own decides by itself."""
    m = hardware()
    assert [m.choose(5, "x") for _ in range(10)] == [0] * 10
    a, b, c = hardware(seed=3), hardware(seed=3), hardware(seed=4)
    draws = [[one.choose(1000, "x") for _ in range(10)] for one in (a, b, c)]
    assert draws[0] == draws[1] != draws[2]
    asked: list[tuple[int, str]] = []

    class Last(Schedule):
        def pick(self, n: int, what: str, who: Any) -> int:
            del who
            asked.append((n, what))
            return n - 1

    m.schedule = Last("last")
    assert m.choose(7, "who is first") == 6
    assert asked == [(7, "who is first")]
    for one in (m, a, b, c):
        one.close()


def _sleep_a_little(sys: Any) -> int:
    for _ in range(10):
        sys.nanosleep(10 * MS)
    return int(sys.clock_gettime_ns())


def test_machines_do_not_know_of_each_other() -> None:
    """Two machines that run by turns do what each does alone, and outside of a run there is no current machine."""
    with world(cpus=2) as alone:
        expected = alone.run(_sleep_a_little)
    one, two = World(cpus=2), World("6.1-x86_64")
    one.run(_sleep_a_little)
    two.run(_sleep_a_little)
    assert machine.cur is None
    for _ in range(20):
        one.m.run_until(one.m.now + 7 * MS)
        two.m.run_until(two.m.now + 11 * MS)
    assert one.result == expected
    one.close()
    two.m.run_until(two.m.now + SECOND)
    two.close()


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("flavour", ["4.19-arm", "6.18-x86_64"])
def test_nothing_is_left_of_a_closed_machine(flavour: str, bare: bool) -> None:
    """close() unwinds every stack; the machine and its tasks are garbage that the collector takes."""
    one = World(flavour, cpus=2, bare=bare)

    def child(sys: Any) -> None:
        sys.pause()

    def scenario(sys: Any) -> None:
        for _ in range(5):
            sys.clone(child)
        sys.nanosleep(MS)

    one.run(scenario)
    stacks = [weakref.ref(stack) for stack in one.m._stacks]
    assert len(stacks) > 8
    gone = weakref.ref(one.m), weakref.ref(one.m.init_task)
    one.close()
    one.close()
    with pytest.raises(AssertionError, match="closed"):
        one.m.run_until(None)
    del one, scenario
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert not [ref() for ref in stacks if ref() is not None]


def test_a_seed_delays_programs_and_0_does_not() -> None:
    """With a seed the CPU is kept from programs now and then; without, calls take their cost alone."""

    def scenario(sys: Any) -> int:
        t = machine.cur.now
        for _ in range(200):
            sys.getpid()
        return int(machine.cur.now - t)

    took = []
    for seed in (0, 1, 2):
        with world(seed=seed) as one:
            took.append(one.run(scenario))
    assert took[0] < 200 * 1000
    assert took[1] > MS
    assert len(set(took)) == 3


def test_an_interrupt_waits_for_a_cpu_that_has_them_off() -> None:
    """An IPI to a CPU with interrupts disabled is pending until they are on and the CPU parks."""
    seen: list[tuple[int, int]] = []

    def note(info: Any) -> None:
        seen.append((machine.cur.cpu.id, machine.cur.now))

    def closed() -> int:
        m = machine.cur
        m.cpu.irqs_off = True
        m.run_for(100 * MS)
        until = m.now
        m.cpu.irqs_off = False
        m.catch_up()
        return until

    def other(sys: Any) -> int:
        sys.sched_setaffinity(0, {1})
        call(closed, until)
        return 0

    until: list[int] = []

    def scenario(sys: Any) -> None:
        from taskscope.model.kernel import smp

        sys.clone(other)
        sys.nanosleep(20 * MS)
        call(lambda: smp.smp_call_function_single(1, note, None, False), [])
        sys.nanosleep(300 * MS)

    with world(cpus=2) as one:
        one.run(scenario)
    assert [cpu for cpu, _ in seen] == [1]
    assert seen[0][1] >= until[0]


def call(function: Any, out: list[Any]) -> None:
    """Run a function as a system call of the running program."""
    m = machine.cur
    m.sys_call_table[0x7001] = _run
    m.cpu.curr.journal._gate(0x7001, (function, out))


def _run(function: Any, out: list[Any]) -> int:
    out.append(function())
    return 0
