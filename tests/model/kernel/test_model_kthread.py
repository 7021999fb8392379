"""Kernel threads on request: who makes them, stop, park, bind, failures."""

from __future__ import annotations

from typing import Any

from bare import accounts, world
from taskscope.model import machine
from taskscope.model.include.linux.sched import (
    PF_KTHREAD,
    PF_NO_SETAFFINITY,
    TASK_INTERRUPTIBLE,
    Task,
    set_current_state,
)
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.kernel import kthread
from taskscope.model.kernel.sched import core


def in_kernel(sys: Any, fn: Any) -> Any:
    """Run `fn` as the kernel would inside of a system call of the running task."""
    m = machine.cur
    m.cpu.user_mode = False
    result = fn()
    m.cpu.user_mode = True
    return result


def worker(data: Any) -> int:
    """Sleep until stopped; return what was given."""
    while not kthread.kthread_should_stop():
        if kthread.kthread_should_park():
            kthread.kthread_parkme()
            continue
        set_current_state(TASK_INTERRUPTIBLE)
        if not kthread.kthread_should_stop() and not kthread.kthread_should_park():
            core.schedule()
        machine.cur.cpu.curr.state = 0
    return int(data)


def test_a_thread_is_made_by_kthreadd_and_stopped() -> None:
    """The request goes over kthreadd: the thread is its child, named and waiting to be woken.

    Kthread_stop() returns its result.
    """
    with world() as one:
        born: list[tuple[int, int]] = []

        def scenario(sys: Any) -> Any:
            tracepoint_probe_register(
                one.m.tp, "task_newtask", lambda data, p, flags: born.append((machine.cur.cpu.curr.pid, flags)), None
            )

            def make() -> Any:
                k = kthread.kthread_create(worker, 42, "vhost-1234567890abcdef")
                assert isinstance(k, Task)
                first = (
                    k.comm,
                    k.real_parent.pid,
                    bool(k.flags & PF_KTHREAD),
                    k.mm,
                    k.state,
                    k.files is k.real_parent.files,
                    k.fs is k.real_parent.fs,
                )
                core.wake_up_process(k)
                return first, k

            first, k = in_kernel(sys, make)
            sys.nanosleep(1_000_000)
            state = k.state
            ret = in_kernel(sys, lambda: kthread.kthread_stop(k))
            sys.nanosleep(500_000_000)
            return first, state, ret, k.exit_state, k.pid in one.m.init_pid_ns.idr

        first, state, ret, exit_state, there = one.run(scenario)
        assert first == ("vhost-123456789", 2, True, None, 2, True, True)
        assert born[0][0] == 2
        # CLONE_FS | CLONE_FILES | CLONE_VM | CLONE_UNTRACED, and on 4.19 SIGCHLD
        assert born[0][1] == 0x800711
        # kthreadd ignores SIGCHLD: its children release themselves
        assert (state, ret, exit_state, there) == (TASK_INTERRUPTIBLE, 42, 0x10, False)


def test_stop_before_the_first_wakeup() -> None:
    """A thread that is stopped before it was woken never runs its function: -EINTR."""
    with world() as one:
        def scenario(sys: Any) -> Any:
            k = in_kernel(sys, lambda: kthread.kthread_create(worker, 1, "never"))
            return in_kernel(sys, lambda: kthread.kthread_stop(k))

        assert one.run(scenario) == -4


def test_park_unpark_and_bind() -> None:
    """A bound thread runs on its CPU only and cannot be moved; parked it sleeps in TASK_PARKED until unparked."""
    with world(cpus=2) as one:
        def scenario(sys: Any) -> Any:
            def make() -> Any:
                k = kthread.kthread_create_on_cpu(worker, 7, 1, "perc/%u")
                core.wake_up_process(k)
                return k

            k = in_kernel(sys, make)
            sys.nanosleep(5_000_000)
            before = (k.comm, k.cpus_allowed, bool(k.flags & PF_NO_SETAFFINITY), k.thread_info.cpu)
            parked = in_kernel(sys, lambda: kthread.kthread_park(k))
            state = k.state
            again = in_kernel(sys, lambda: kthread.kthread_park(k))
            in_kernel(sys, lambda: kthread.kthread_unpark(k))
            sys.nanosleep(5_000_000)
            return before, parked, state, again, k.state, in_kernel(sys, lambda: kthread.kthread_stop(k))

        assert one.run(scenario) == (("perc/1", 2, True, 1), 0, 0x40, -16, TASK_INTERRUPTIBLE, 7)


def test_failures_come_back_to_whoever_asked() -> None:
    """When kthreadd cannot fork, kthread_create() returns the errno and nothing is left."""
    with world() as one:
        def scenario(sys: Any) -> Any:
            def make() -> Any:
                k = kthread.kthread_run(worker, 0, "probe")
                return kthread.kthread_stop(k)

            in_kernel(sys, make)
            sys.nanosleep(500_000_000)
            before = accounts()
            got = []
            for nth in range(1, 30):
                kthreadd = one.m.kthreadd_task
                one.m.fault_log.clear()
                kthreadd.fail_nth = nth
                k = in_kernel(sys, lambda: kthread.kthread_create(worker, 0, "probe"))
                if not isinstance(k, int):
                    kthreadd.fail_nth = 0
                    in_kernel(sys, lambda k=k: kthread.kthread_stop(k))
                    break
                got.append(k)
                sys.nanosleep(500_000_000)
                after = accounts()
                assert after == before, {key: (before[key], after[key]) for key in before if before[key] != after[key]}
            return got

        got = one.run(scenario)
        assert len(got) >= 8
        assert set(got) == {-12, -11}


def test_sigkill_of_the_one_who_asks() -> None:
    """Who is killed while kthreadd has not answered gets -EINTR; the thread made for nobody ends by itself."""
    with world() as one:
        out: list[Any] = []

        def asker(sys: Any) -> None:
            # kthreadd is kept busy by nobody: stop it from running while we wait
            out.append(in_kernel(sys, lambda: kthread.kthread_create(worker, 0, "late")))

        def scenario(sys: Any) -> Any:
            kthreadd = one.m.kthreadd_task
            # a realtime hog on the only CPU keeps kthreadd, of the fair class, away
            sys.sched_setscheduler(0, 1, 50)
            pid = sys.clone(asker)
            sys.sched_setscheduler(pid, 1, 60)
            sys.sched_yield()
            waiting = (one.m.kthread_create_list.next is not one.m.kthread_create_list, kthreadd.on_rq)
            sys.kill(pid, 9)
            status = sys.waitpid(pid)[1]
            sys.sched_setscheduler(0, 0, 0)
            sys.nanosleep(1_000_000_000)
            return waiting, status, [t.comm for t in one.tasks()]

        assert one.run(scenario) == ((True, 1), 9, ["init", "kthreadd"])
