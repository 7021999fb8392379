"""Signals and kernel threads: ignored, unless a thread asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bare import ALL, error, world
from taskscope.model import machine
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, Task
from taskscope.model.include.linux.sched_signal import SEND_SIG_NOINFO, SEND_SIG_PRIV
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.kernel import kthread
from taskscope.model.kernel.sched import core
from taskscope.model.kernel.signal import deliver, send

USR1, USR2 = 10, 12


class Seen:
    """What a kernel thread saw."""

    def __init__(self, allow: Callable[[int], None] | None) -> None:
        self.allow = allow
        self.wakeups: list[bool] = []


def listens(seen: Seen) -> int:
    """Sleep until stopped; note at each wakeup whether a signal is pending, and throw it away."""
    current = machine.cur.cpu.curr
    if seen.allow is not None:
        seen.allow(USR1)
    while not kthread.kthread_should_stop():
        current.state = TASK_INTERRUPTIBLE
        if not kthread.kthread_should_stop() and not signal_pending(current):
            core.schedule()
        current.state = 0
        seen.wakeups.append(signal_pending(current))
        deliver.flush_signals(current)
    return 7


def play(
    allow: Callable[[int], None] | None, flavour: str, sends: Callable[[Any, Task], Any]
) -> tuple[Any, list[bool]]:
    """Let a kernel thread listen, send it something, stop it."""
    with world(flavour) as one:
        seen = Seen(allow)

        def scenario(sys: Any) -> Any:
            m = machine.cur
            m.cpu.user_mode = False
            thread = kthread.kthread_create(listens, seen, "listens")
            assert isinstance(thread, Task)
            core.wake_up_process(thread)
            m.cpu.user_mode = True
            sys.nanosleep(1_000_000)
            told = sends(sys, thread)
            sys.nanosleep(1_000_000)
            machine.cur.cpu.user_mode = False
            result = kthread.kthread_stop(thread)
            machine.cur.cpu.user_mode = True
            assert result == 7
            return told

        return one.run(scenario), seen.wakeups


@pytest.mark.parametrize("flavour", ALL)
def test_a_kernel_thread_ignores_every_signal(flavour: str) -> None:
    """To send a kernel thread a signal is no error and does not wake it: SIGKILL either."""

    def sends(sys: Any, thread: Task) -> Any:
        results: list[int] = []
        tracepoint_probe_register(
            machine.cur.tp, "signal_generate", lambda data, sig, info, task, group, result: results.append(result), None
        )
        return [error(sys.kill, thread.pid, sig) for sig in (9, 15, 19, USR1, 64)], results, thread.state

    told, wakeups = play(None, flavour, sends)
    assert told == (["None"] * 5, [1] * 5, TASK_INTERRUPTIBLE)
    assert wakeups == [False]           # kthread_stop()


@pytest.mark.parametrize("flavour", ALL)
def test_a_kernel_thread_may_ask_for_a_signal(flavour: str) -> None:
    """After allow_signal() a signal wakes it, as pending; others do not, and it is not killed by them."""
    told, wakeups = play(
        deliver.allow_signal, flavour, lambda sys, thread: [error(sys.kill, thread.pid, sig) for sig in (USR2, USR1)])
    assert told == ["None"] * 2
    assert wakeups == [True, False]


@pytest.mark.parametrize("flavour", ALL)
def test_a_kernel_thread_may_ask_the_kernel_alone(flavour: str) -> None:
    """After allow_kernel_signal() it is woken by a signal from the kernel, not by one of a program."""

    def sends(sys: Any, thread: Task) -> Any:
        sys.kill(thread.pid, USR1)
        sys.nanosleep(1_000_000)
        machine.cur.cpu.user_mode = False
        send.send_sig_info(USR1, SEND_SIG_NOINFO, thread)
        machine.cur.cpu.user_mode = True
        sys.nanosleep(1_000_000)
        machine.cur.cpu.user_mode = False
        send.send_sig_info(USR1, SEND_SIG_PRIV, thread)
        machine.cur.cpu.user_mode = True

    assert play(deliver.allow_kernel_signal, flavour, sends)[1] == [True, False]


@pytest.mark.parametrize("flavour", ALL)
def test_a_fault_of_init_kills_it(flavour: str) -> None:
    """Process 1 takes no fatal signal from programs; one that the kernel forces, as a fault does, ends it: panic."""
    with world(flavour) as one:

        def scenario(sys: Any) -> None:
            for sig in (9, 15, 11, 19):
                sys.kill(1, sig)
            machine.cur.cpu.user_mode = False
            send.force_sig(11, machine.cur.cpu.curr)
            machine.cur.cpu.user_mode = True
            sys.getpid()

        with pytest.raises(AssertionError, match=r"Attempted to kill init! exitcode=0x0000000b"):
            one.run(scenario)
