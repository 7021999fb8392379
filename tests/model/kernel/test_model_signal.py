"""Signals: delivery order, handlers, restarting, masks, queues, job control, threads."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, error, play
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register

SA_RESTART = 0x1000_0000


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


@pytest.mark.parametrize("flavour", ALL)
def test_lowest_number_first_and_standard_signals_once(flavour: str) -> None:
    """Pending signals are delivered in order of number.

    A standard signal is pending once, a real-time signal as often as sent.
    """

    def scenario(sys: Any) -> Any:
        got: list[int] = []
        mask = 0
        for sig in (10, 12, 15, 34, 40):
            sys.sigaction(sig, lambda sys, sig, info: got.append(sig), 0, (1 << 64) - 1)
            mask |= 1 << (sig - 1)
        sys.sigprocmask(0, mask)
        for sig in (40, 15, 34, 12, 10, 10, 34, 15):
            sys.kill(sys.getpid(), sig)
        pending = sys.sigpending()
        sys.sigprocmask(1, mask)
        return got, pending == mask

    # The way out pushes a frame for each: the last one pushed runs first, as the frames stand on the stack.
    got, pending = play(scenario, flavour)
    assert sorted(got) == [10, 12, 15, 34, 34, 40]
    assert pending


def test_delivery_events_come_lowest_first() -> None:
    """signal_deliver is traced in the order of numbers, synchronous signals before all others."""

    def child(sys: Any) -> None:
        for sig in (10, 11, 12):
            sys.sigaction(sig, lambda sys, sig, info: None)
        sys.sigprocmask(0, 0xE00)
        for sig in (12, 11, 10):
            sys.tgkill(sys.getpid(), sys.gettid(), sig)
        sys.sigprocmask(1, 0xE00)

    def scenario(sys: Any) -> Any:
        order: list[int] = []
        tracepoint_probe_register(machine.cur.tp, "signal_deliver", lambda data, sig, info, ka: order.append(sig), None)
        sys.waitpid(sys.clone(child))
        return [sig for sig in order if sig != 17]

    assert play(scenario) == [11, 10, 12]


@pytest.mark.parametrize("flavour", ALL)
def test_restart(flavour: str) -> None:
    """A read that a handler interrupts is EINTR, with SA_RESTART it goes on; pause() is EINTR all the same."""

    def scenario(sys: Any) -> Any:
        out: list[Any] = []
        me = sys.getpid()

        def poke(sys: Any, w: int) -> None:
            sys.nanosleep(5_000_000)
            sys.kill(me, 10)
            sys.nanosleep(5_000_000)
            sys.write(w, b"x")

        for flags in (0, SA_RESTART):
            sys.sigaction(10, lambda sys, sig, info: out.append("handler"), flags)
            r, w = sys.pipe()
            pid = sys.clone(poke, w)
            out.append(error(sys.read, r, 1))
            sys.waitpid(pid)
        pid = sys.clone(poke, w)
        out.append(error(sys.pause))
        sys.waitpid(pid)
        return out

    assert play(scenario, flavour) == ["handler", "EINTR", "handler", "b'x'", "handler", "EINTR"]


@pytest.mark.parametrize("flavour", ALL)
def test_a_stop_does_not_disturb_a_sleep(flavour: str) -> None:
    """nanosleep() goes on after SIGSTOP and SIGCONT by restart_syscall(), and ends when it would have."""

    def sleeper(sys: Any) -> int:
        begun = machine.cur.now
        sys.nanosleep(50_000_000)
        took = machine.cur.now - begun
        return 1 if 50_000_000 <= took < 60_000_000 else 2

    def scenario(sys: Any) -> Any:
        pid = sys.clone(sleeper)
        sys.nanosleep(10_000_000)
        sys.kill(pid, 19)
        stopped = sys.waitpid(pid, 2)[1]
        sys.nanosleep(10_000_000)
        sys.kill(pid, 18)
        return stopped, sys.waitpid(pid)[1]

    assert play(scenario, flavour) == (0x137F, 0x100)


def test_stop_and_continue_cancel_each_other() -> None:
    """A stop signal takes pending SIGCONTs away, SIGCONT takes pending stop signals away."""

    def scenario(sys: Any) -> Any:
        mask = 1 << 17 | 1 << 19
        sys.sigaction(18, lambda sys, sig, info: None)
        sys.sigaction(20, lambda sys, sig, info: None)
        sys.sigprocmask(0, mask)
        me = sys.getpid()
        got = []
        for sig in (18, 20, 18, 20):
            sys.kill(me, sig)
            got.append(sys.sigpending())
        return got

    assert play(scenario) == [1 << 17, 1 << 19, 1 << 17, 1 << 19]


def test_stop_takes_all_threads_and_tells_once() -> None:
    """SIGSTOP stops every thread of a process; the parent hears of it once, when the last has stopped.

    SIGKILL still works.
    """

    def process(sys: Any) -> None:
        for _ in range(3):
            sys.pthread_create(asleep)
        asleep(sys)

    def scenario(sys: Any) -> Any:
        told: list[tuple[int, int]] = []
        pid = sys.clone(process)
        sys.nanosleep(10_000_000)
        tracepoint_probe_register(
            machine.cur.tp,
            "signal_generate",
            lambda data, sig, info, task, group, result: told.append((sig, info.si_code)) if sig == 17 else None,
            None,
        )
        sys.kill(pid, 19)
        status = sys.waitpid(pid, 2)[1]
        leader = machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner
        node, states = leader.signal.thread_head.next, []
        while node is not leader.signal.thread_head:
            states.append(node.owner.state & 4)
            node = node.next
        sys.kill(pid, 9)
        return status, states, told, sys.waitpid(pid)[1]

    status, states, told, end = play(scenario, cpus=2)
    assert (status, states, end) == (0x137F, [4] * 4, 9)
    assert told[0] == (17, 5)
    assert told.count((17, 5)) == 1


def test_masks_and_sigsuspend() -> None:
    """sigsuspend() waits with another mask and puts the old one back.

    SIGKILL and SIGSTOP cannot be blocked or handled.
    """

    def scenario(sys: Any) -> Any:
        got: list[int] = []
        sys.sigaction(10, lambda sys, sig, info: got.append(sig))
        sys.sigprocmask(0, 1 << 9)
        sys.kill(sys.getpid(), 10)
        waiting = list(got)
        suspended = error(sys.sigsuspend, 0)
        after = machine.cur.cpu.curr.blocked
        sys.sigprocmask(2, (1 << 64) - 1)
        return (
            waiting,
            suspended,
            got,
            after,
            machine.cur.cpu.curr.blocked == (1 << 64) - 1 & ~(1 << 8 | 1 << 18),
            error(sys.sigaction, 9, 1),
            error(sys.sigaction, 19, 0),
            error(sys.sigaction, 65, 0),
            error(sys.sigprocmask, 7, 0),
        )

    assert play(scenario) == ([], "EINTR", [10], 1 << 9, True, "EINVAL", "EINVAL", "EINVAL", "EINVAL")


def test_the_handlers_own_signal_is_blocked_while_it_runs() -> None:
    """While a handler runs its signal is blocked unless SA_NODEFER; SA_RESETHAND makes it a default again."""

    def scenario(sys: Any) -> Any:
        seen: list[Any] = []

        def handler(sys: Any, sig: int, info: Any) -> None:
            seen.append((sig, machine.cur.cpu.curr.blocked))

        sys.sigaction(10, handler, 0, 1 << 11)
        sys.sigaction(12, handler, 0x4000_0000)
        sys.sigaction(14, handler, 0x8000_0000)
        for sig in (10, 12, 14):
            sys.kill(sys.getpid(), sig)
        return seen, machine.cur.cpu.curr.blocked, machine.cur.cpu.curr.sighand.action[13].sa_handler

    assert play(scenario) == ([(10, 1 << 11 | 1 << 9), (12, 0), (14, 1 << 13)], 0, 0)


def test_thread_signals_stay_with_the_thread_and_process_signals_find_one() -> None:
    """tgkill() is for one thread; a signal for the process goes to a thread that does not block it."""

    def scenario(sys: Any) -> Any:
        got: list[Any] = []

        def handler(sys: Any, sig: int, info: Any) -> None:
            got.append((sig, sys.gettid()))

        sys.sigaction(10, handler)
        sys.sigaction(12, handler)

        def thread(sys: Any) -> None:
            for _ in range(2):
                error(sys.pause)

        tid = sys.pthread_create(thread)
        sys.nanosleep(1_000_000)
        sys.sigprocmask(0, 1 << 9 | 1 << 11)
        sys.kill(sys.getpid(), 10)
        sys.nanosleep(1_000_000)
        sys.tgkill(sys.getpid(), tid, 12)
        sys.nanosleep(1_000_000)
        sys.tgkill(sys.getpid(), sys.gettid(), 12)
        mine = machine.cur.cpu.curr.pending.signal
        return [(sig, who == tid) for sig, who in got], mine

    assert play(scenario) == ([(10, True), (12, True)], 1 << 11)


def test_siginfo_of_senders() -> None:
    """Siginfo tells kill() from tgkill() from a child's end, with pid, uid and status."""

    def scenario(sys: Any) -> Any:
        seen: list[Any] = []

        def handler(sys: Any, sig: int, info: Any) -> None:
            seen.append((sig, info.si_code, info.si_pid, info.si_uid, info.si_status))

        sys.sigaction(10, handler)
        sys.sigaction(17, handler)
        sys.kill(1, 10)
        sys.tgkill(1, 1, 10)
        pid = sys.clone(lambda sys: 9)
        error(sys.nanosleep, 10_000_000)
        return seen, pid

    seen, pid = play(scenario)
    assert seen == [(10, 0, 1, 0, 0), (10, -6, 1, 0, 0), (17, 1, pid, 0, 9)]


def test_sigtimedwait() -> None:
    """rt_sigtimedwait() takes a blocked signal, waits for one, and is EAGAIN when the time is over."""
    from taskscope.model.kernel.signal import action

    def scenario(sys: Any) -> Any:
        sys.sigprocmask(0, 1 << 9)

        def call(timeout: tuple[int, int] | None) -> int:
            m = machine.cur
            m.cpu.user_mode = False
            result = action.sys_rt_sigtimedwait(1 << 9, None, timeout)
            m.cpu.user_mode = True
            return result

        def poke(sys: Any) -> None:
            sys.nanosleep(20_000_000)
            sys.kill(1, 10)

        got = [call((0, 0)), call((0, 10_000_000)), call((0, 1_000_000_000)), call((-1, 0))]
        sys.kill(1, 10)
        got.append(call((0, 0)))
        pid = sys.clone(poke)
        got.append(call(None))
        sys.waitpid(pid)
        return got

    assert play(scenario) == [-11, -11, -22, -22, 10, 10]


def test_rlimit_sigpending() -> None:
    """Beyond RLIMIT_SIGPENDING a queued real-time signal is EAGAIN, a plain kill() loses its siginfo only."""

    def scenario(sys: Any) -> Any:
        from taskscope.model.include.linux.sched_signal import Siginfo
        from taskscope.model.kernel.signal import action

        def child(sys: Any) -> int:
            sys.sigprocmask(0, 1 << 39)
            sys.setrlimit(11, (2, 2))
            me = sys.getpid()
            m = machine.cur
            m.cpu.user_mode = False
            got = [action.sys_rt_sigqueueinfo(me, 40, Siginfo(40, -1, me, 0)) for _ in range(3)]
            m.cpu.user_mode = True
            sys.kill(me, 40)
            sys.write(1, repr((got, m.root_user.sigpending)).encode())
            return 0

        sys.waitpid(sys.clone(child))
        return machine.cur.console_tty.text, machine.cur.root_user.sigpending

    assert play(scenario) == ("([0, 0, -11], 2)", 0)
