"""Limits and timers on CPU time, as exact as the tick."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bare import ALL, play
from taskscope.model import machine
from taskscope.model.include.linux.sched_signal import RLIM_INFINITY
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register

SECOND = 1_000_000_000
RLIMIT_CPU = 0
SIGXCPU, SIGVTALRM, SIGPROF = 24, 26, 27


@pytest.mark.parametrize("flavour", ALL)
def test_the_limit_of_cpu_time(flavour: str) -> None:
    """SIGXCPU comes at the soft limit and each second after it, SIGKILL at the hard one; asleep no time passes."""

    def scenario(sys: Any) -> Any:
        sent: list[tuple[int, int]] = []

        def child(sys: Any) -> None:
            sys.sigaction(SIGXCPU, lambda sys, sig, info: None)
            sys.setrlimit(RLIMIT_CPU, (1, 3))
            sys.nanosleep(5 * SECOND)
            begun = machine.cur.now
            tracepoint_probe_register(
                machine.cur.tp, "signal_generate",
                lambda data, sig, info, *_: sent.append((sig, round((machine.cur.now - begun) / SECOND, 1))), None)
            sys.run_for(10 * SECOND)

        _, status = sys.waitpid(sys.clone(child))
        return status, [one for one in sent if one[0] in (SIGXCPU, 9)]

    assert play(scenario, flavour) == (9, [(SIGXCPU, 1.0), (SIGXCPU, 2.0), (9, 3.0)])


@pytest.mark.parametrize("flavour", ALL)
def test_a_limit_of_nothing(flavour: str) -> None:
    """A soft limit of 0 is made 1 second before v5.4, and since then SIGXCPU comes at once."""

    def scenario(sys: Any) -> Any:
        def child(sys: Any) -> None:
            sys.setrlimit(RLIMIT_CPU, (0, RLIM_INFINITY))
            begun = machine.cur.now
            limit = sys.getrlimit(RLIMIT_CPU)[0]

            def handler(sys: Any, sig: int, info: Any) -> None:
                sys.exit(10 * limit + (machine.cur.now - begun > SECOND // 2))

            sys.sigaction(SIGXCPU, handler)
            sys.run_for(10 * SECOND)

        return sys.waitpid(sys.clone(child))[1] >> 8

    assert play(scenario, flavour) == (11 if flavour == "4.19-arm" else 0)


def test_a_child_has_the_limit_and_a_count_of_its_own() -> None:
    """RLIMIT_CPU is inherited; what the parent has used does not count."""

    def scenario(sys: Any) -> Any:
        def grandchild(sys: Any) -> None:
            begun = machine.cur.now
            sys.sigaction(SIGXCPU, lambda sys, sig, info: sys.exit(round((machine.cur.now - begun) / SECOND)))
            sys.run_for(10 * SECOND)

        def child(sys: Any) -> int:
            sys.setrlimit(RLIMIT_CPU, (1, 9))
            sys.run_for(SECOND * 9 // 10)
            return int(sys.waitpid(sys.clone(grandchild))[1] >> 8)

        return sys.waitpid(sys.clone(child))[1] >> 8

    assert play(scenario) == 1


@pytest.mark.parametrize("flavour", ALL)
def test_interval_timers_on_cpu_time(flavour: str) -> None:
    """ITIMER_PROF counts what threads compute and its children do not; each signal is an interval of ticks later."""

    def scenario(sys: Any) -> Any:
        times: list[int] = []

        def handler(sys: Any, sig: int, info: Any) -> None:
            times.append(machine.cur.now)

        sys.sigaction(SIGPROF, handler)
        begun = machine.cur.now
        sys.setitimer(2, 0.1, 0.05)
        sys.waitpid(sys.clone(lambda sys: sys.run_for(SECOND)))
        quiet = len(times)
        begun = machine.cur.now
        sys.run_for(300_000_000)
        sys.setitimer(2, 0)
        return quiet, [round((at - begun) / 1_000_000) for at in times]

    quiet, times = play(scenario, flavour)
    tick = 10 if flavour == "4.19-arm" else 4
    assert quiet == 0
    assert abs(times[0] - 100) <= 2 * tick
    assert all(abs(b - a - 50) <= tick for a, b in pairwise(times))
    assert len(times) in (4, 5)


def test_who_has_no_timers_pays_nothing() -> None:
    """A process that has asked for no CPU timer has no record of them: the tick passes it by."""

    def scenario(sys: Any) -> Any:
        first = machine.cur.cpu.curr.signal.it
        sys.setitimer(1, 0)
        return first, machine.cur.cpu.curr.signal.it is not None

    assert play(scenario) == (None, True)
