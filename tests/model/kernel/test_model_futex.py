"""Futexes and what the C library builds on them; what the host shows, too, is in labs/truth/rules/futex.py."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bare import ALL, accounts, error, play, world
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.include.linux.uaccess import Word
from taskscope.model.kernel import futex
from taskscope.model.kernel.kallsyms import sprint_symbol
from taskscope.model.kernel.stacktrace import save_stack_trace_tsk

WAIT, WAKE, PRIVATE, REALTIME = 0, 1, 128, 256
LOCK_PI, UNLOCK_PI = 6, 7
SHARED = 0x100 | 17                         # CLONE_VM: another process with the same memory
WAITERS, OWNER_DIED = 0x8000_0000, 0x4000_0000


def task_of(pid: int) -> Any:
    return machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner


def sleeps(sys: Any, at: Any, value: int = 0) -> int:
    sys.futex(at, WAIT, value)
    return 5


def until_asleep(sys: Any, pid: int) -> None:
    while task_of(pid).state != 1:
        sys.nanosleep(100_000)


def queued() -> int:
    """Return how many sleepers the hash table holds."""
    return sum(len(hb.chain) for hb in machine.cur.futex_queues.values())


# ---- the kernel ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("flavour", "name"), [
    ("4.19-arm", "futex_wait_queue_me"), ("6.1-x86_64", "futex_wait_queue"), ("6.18-x86_64", "futex_do_wait")])
def test_wchan(flavour: str, name: str) -> None:
    """A sleeper's WCHAN is the function of its kernel, under futex_wait() and do_futex()."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(sleeps, Word(0x5000))
        until_asleep(sys, pid)
        m = machine.cur
        stack = [sprint_symbol(m, one).partition("+")[0] for one in save_stack_trace_tsk(m, task_of(pid))]
        return sys.slurp(f"/proc/{pid}/wchan").decode(), stack

    wchan, stack = play(scenario, flavour)
    assert wchan == name
    at = stack.index(name)
    assert stack[at + 1:at + 3] == ["futex_wait", "do_futex"]


@pytest.mark.parametrize(("flavour", "name"), [
    ("4.19-arm", "rt_mutex_wait_proxy_lock"), ("6.1-x86_64", "futex_lock_pi"), ("6.18-x86_64", "rt_mutex_schedule")])
def test_wchan_with_priority_inheritance(flavour: str, name: str) -> None:
    """WCHAN of who waits for a lock with priority inheritance is the first function that is not the scheduler's."""

    def scenario(sys: Any) -> Any:
        at = Word(0x5000)
        at.put(1)
        pid = sys.clone(lambda sys: sys.futex(at, LOCK_PI, 0), flags=SHARED)
        until_asleep(sys, pid)
        return sys.slurp(f"/proc/{pid}/wchan").decode()

    assert play(scenario, flavour) == name


def test_lending_is_traced() -> None:
    """sched_pi_setprio comes when a priority is lent and when it is given back; a child does not inherit it."""
    seen: list[tuple[str, int, str]] = []

    def probe(data: Any, tsk: Any, pi_task: Any) -> None:
        del data
        seen.append((tsk.comm, tsk.prio, pi_task.comm if pi_task is not None else "none"))

    def wants(sys: Any, at: Any) -> None:
        sys.prctl(15, "wants")
        sys.sched_setscheduler(0, 1, 40)
        sys.futex(at, LOCK_PI, 0)
        sys.futex(at, UNLOCK_PI, 0)

    def scenario(sys: Any) -> Any:
        tracepoint_probe_register(machine.cur.tp, "sched_pi_setprio", probe, None)
        at = Word(0x5000)
        sys.futex(at, LOCK_PI, 0)
        pid = sys.clone(wants, at, flags=SHARED)
        until_asleep(sys, pid)
        lent = task_of(sys.getpid()).prio
        child = sys.clone(lambda sys: sys.nanosleep(1_000_000))
        own = task_of(child).prio
        sys.futex(at, UNLOCK_PI, 0)
        back = task_of(sys.getpid()).prio
        sys.waitpid(pid)
        return lent, own, back

    assert play(scenario) == (59, 120, 120)
    assert seen == [("init", 120, "wants"), ("init", 59, "none")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), priorities=st.lists(st.integers(0, 20), min_size=2, max_size=5),
       cpus=st.integers(1, 3), flavour=st.sampled_from(ALL), locks=st.integers(1, 3))
# A waiter gave up whose lock somebody had taken over; a runqueue of another CPU was pushed with interrupts off.
@example(seed=5962, priorities=[10, 8, 15], cpus=2, flavour="4.19-arm", locks=1)
@example(seed=3853, priorities=[10, 11, 18, 20, 9], cpus=2, flavour="4.19-arm", locks=1)
@example(seed=5246, priorities=[12, 10, 12, 2, 2], cpus=2, flavour="6.18-x86_64", locks=2)
def test_lent_priorities_come_back(
    seed: int, priorities: list[int], cpus: int, flavour: str, locks: int
) -> None:
    """Whoever takes locks, dies with them or waits in vain: at the end nobody has a priority that is not its own.

    On 4.19 nobody dies with them: who is more urgent would ask again and again, for ever on one CPU (futex_cleanup()).
    """

    def takes(sys: Any, n: int, words: list[Any]) -> int:
        if priorities[n]:
            sys.sched_setscheduler(0, 1, priorities[n])
        for turn in range(3):
            held = []
            for at in words[(n + turn) % len(words):]:
                until = divmod(sys.clock_gettime_ns(0) + 300_000, 1_000_000_000) if (n + turn) % 3 == 1 else None
                if error(sys.futex, at, LOCK_PI, 0, until) == "0":
                    held.append(at)
                sys.run_for(20_000)
            if turn == 2 and n % 2 and flavour != "4.19-arm":
                return 1                    # with its locks
            for at in reversed(held):
                assert error(sys.futex, at, UNLOCK_PI, 0) == "0"
            current = machine.cur.cpu.curr
            assert current.prio == current.normal_prio, (current.prio, current.normal_prio)
            assert not current.pi or not current.pi.pi_waiters
        return 0

    def scenario(sys: Any) -> Any:
        words = [Word(0x5000 + 64 * n) for n in range(locks)]
        pids = [sys.clone(takes, n, words, flags=SHARED) for n in range(len(priorities))]
        statuses = [sys.waitpid(pid)[1] for pid in pids]
        current = machine.cur.cpu.curr
        return statuses, queued(), current.prio

    dies = 0 if flavour == "4.19-arm" else 0x100
    assert play(scenario, flavour, cpus, seed) == ([dies * (n % 2) for n in range(len(priorities))], 0, 120)


@pytest.mark.parametrize("flavour", ALL)
def test_tid_is_cleared_and_its_sleeper_woken(flavour: str) -> None:
    """CLONE_CHILD_CLEARTID: when a task whose memory has others ends, the word becomes 0 and one sleeper is woken."""

    def scenario(sys: Any) -> Any:
        at = Word(0x5000)
        at.put(77)
        pid = sys.clone(lambda sys: sys.nanosleep(5_000_000), flags=SHARED | 0x20_0000, child_tid=at)
        for one in [sys.clone(sleeps, at, 77, flags=SHARED) for _ in range(2)]:
            until_asleep(sys, one)
        sys.waitpid(pid)
        left = sys.waitpid(-1)[1], at.get(), error(sys.waitpid, -1, 1)
        # Alone in its memory nobody could see it.
        alone = sys.clone(lambda sys: at.put(5) or 0, flags=17 | 0x20_0000, child_tid=at)
        sys.waitpid(alone)
        return left, queued()

    assert play(scenario, flavour) == ((0x500, 0, "(0, 0)"), 1)


@pytest.mark.parametrize(("flavour", "woken"), [("4.19-arm", 0), ("6.1-x86_64", 1), ("6.18-x86_64", 1)])
def test_robust_exit_race(flavour: str, woken: int) -> None:
    """Who dies between releasing a lock and waking others leaves the wakeup to the kernel, since v5.5."""

    def dies(sys: Any, head: Any, lock: Any) -> None:
        size = machine.cur.flavour.long_size
        for n, value in enumerate((head.addr, 0, lock.addr)):
            Word(head.addr + n * size).put(value)
        sys.set_robust_list(head, 3 * size)

    def scenario(sys: Any) -> Any:
        lock, head = Word(0x5000), Word(0x6000)
        sleeper = sys.clone(sleeps, lock, flags=SHARED)
        until_asleep(sys, sleeper)
        sys.waitpid(sys.clone(dies, head, lock, flags=SHARED))
        return 1 - queued(), sys.futex(lock, WAKE, 9)

    assert play(scenario, flavour) == (woken, 1 - woken)


def test_robust_list_in_a_circle() -> None:
    """A robust list that runs in a circle, or to where nothing was written, does not keep a task from its end."""

    def dies(sys: Any, head: Any, first: Word, following: int) -> None:
        size = machine.cur.flavour.long_size
        for n, value in enumerate((first.addr, 0, 0)):
            Word(head.addr + n * size).put(value)
        first.put(following)
        sys.set_robust_list(head, 3 * size)

    def scenario(sys: Any) -> Any:
        return [sys.waitpid(sys.clone(dies, Word(0x6000), Word(0x7000), following))[1]
                for following in (0x7000, 0x8000, 0x6000)]

    assert play(scenario) == [0, 0, 0]


def test_a_child_has_no_robust_list() -> None:
    """fork() does not copy the robust list, execve() and the end go over it once."""

    def scenario(sys: Any) -> Any:
        mine = Word(0x6000)
        mine.put(0x6000)
        sys.set_robust_list(mine, 3 * machine.cur.flavour.long_size)
        pid = sys.clone(lambda sys: 0 if sys.get_robust_list(0)[0] == 0 else 1)
        return sys.waitpid(pid)[1], sys.get_robust_list(0)[0] == mine

    assert play(scenario) == (0, True)


def test_private_and_shared_keys_are_two() -> None:
    """One word has a private key and a shared one: threads that mix them do not meet."""

    def thread(sys: Any, at: Any, op: int) -> int:
        sys.futex(at, op, 0)
        return 1

    def scenario(sys: Any) -> Any:
        at = sys.new_word()
        tids = [sys.pthread_create(thread, at, op) for op in (WAIT, WAIT | PRIVATE)]
        for tid in tids:
            until_asleep(sys, tid)
        return (sys.futex(at, WAKE | PRIVATE, 9), sys.futex(at, WAKE, 9), [sys.pthread_join(tid) for tid in tids])

    assert play(scenario, cpus=2) == (1, 1, [1, 1])


def test_many_words_in_one_bucket() -> None:
    """Words that fall into one bucket of the hash table are told apart."""

    def scenario(sys: Any) -> Any:
        machine.cur.futex_hashsize = 1
        words = [Word(0x5000 + 4 * n) for n in range(4)]
        pids = [sys.clone(sleeps, one, flags=SHARED) for one in words]
        for pid in pids:
            until_asleep(sys, pid)
        moved = sys.futex(words[0], 3, 0, 1, words[1])
        return (len(machine.cur.futex_queues), moved, sys.futex(words[0], WAKE, 9), sys.futex(words[1], WAKE, 9),
                sys.futex(words[3], WAKE, 9), sys.futex(words[2], WAKE, 9))

    assert play(scenario) == (1, 1, 0, 2, 1, 1)


def test_nothing_is_left() -> None:
    """Sleepers that are woken, time out or are killed leave nothing in the kernel."""

    def scenario(sys: Any) -> Any:
        at = Word(0x5000)
        found = None
        for _ in range(3):
            pids = [sys.clone(sleeps, at, flags=SHARED) for _ in range(6)]
            for pid in pids:
                until_asleep(sys, pid)
            sys.kill(pids[0], 9)
            sys.waitpid(pids.pop(0))
            sys.futex(at, WAKE, 2)
            error(sys.futex, at, WAIT, 0, (0, 1000))
            for pid in pids:
                sys.kill(pid, 15)
            for pid in pids:
                sys.waitpid(pid)
            sys.nanosleep(1_000_000_000)
            before, found = found, accounts()
        assert queued() == 0
        return before == found or (before, found)

    assert play(scenario) is True


# ---- the C library ------------------------------------------------------------------------------------------

def adds(sys: Any, mutex: Any, at: Any, times: int) -> int:
    for _ in range(times):
        sys.pthread_mutex_lock(mutex)
        value = sys.load(at)
        sys.run_for(500)
        sys.store(at, value + 1)
        sys.pthread_mutex_unlock(mutex)
    return times


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), threads=st.integers(1, 5), cpus=st.integers(1, 3), robust=st.booleans(),
       flavour=st.sampled_from(ALL))
def test_mutex_excludes(seed: int, threads: int, cpus: int, robust: bool, flavour: str) -> None:
    """Threads that add one to a word under a mutex lose nothing, under any schedule."""

    def scenario(sys: Any) -> Any:
        mutex, at = sys.pthread_mutex_init(robust), sys.new_word()
        tids = [sys.pthread_create(adds, mutex, at, 8) for _ in range(threads)]
        joined = [sys.pthread_join(tid) for tid in tids]
        return joined, sys.load(at), sys.load(mutex.lock) & ~WAITERS, queued()

    assert play(scenario, flavour, cpus, seed) == ([8] * threads, 8 * threads, 0, 0)


def takes(sys: Any, mutex: Any, cond: Any, at: Any, got: Any, times: int) -> int:
    for _ in range(times):
        sys.pthread_mutex_lock(mutex)
        while sys.load(at) == 0:
            sys.pthread_cond_wait(cond, mutex)
        sys.store(at, sys.load(at) - 1)
        sys.fetch_add(got, 1)
        sys.pthread_mutex_unlock(mutex)
    return 0


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), takers=st.integers(1, 4), burst=st.integers(1, 6), broadcast=st.booleans())
def test_condition_wakes_enough(seed: int, takers: int, burst: int, broadcast: bool) -> None:
    """Who waits for a condition is woken by signal or broadcast, which may move sleepers, as often as needed."""

    def scenario(sys: Any) -> Any:
        mutex, cond = sys.pthread_mutex_init(), sys.pthread_cond_init()
        at, got = sys.new_word(), sys.new_word()
        tids = [sys.pthread_create(takes, mutex, cond, at, got, burst) for _ in range(takers)]
        for _ in range(takers * burst):
            sys.pthread_mutex_lock(mutex)
            sys.store(at, sys.load(at) + 1)
            if broadcast:
                sys.pthread_cond_broadcast(cond, mutex)
            else:
                sys.pthread_cond_signal(cond)
            sys.pthread_mutex_unlock(mutex)
            sys.run_for(3_000)
        for tid in tids:
            sys.pthread_join(tid)
        return sys.load(got), sys.load(at), queued()

    assert play(scenario, "6.18-x86_64", 2, seed) == (takers * burst, 0, 0)


@pytest.mark.parametrize("flavour", ALL)
def test_robust_mutex(flavour: str) -> None:
    """A robust mutex whose owner ends goes to the next as EOWNERDEAD; made consistent it lives on, else it is lost."""

    def dies(sys: Any, mutex: Any) -> int:
        return int(sys.pthread_mutex_lock(mutex))

    def scenario(sys: Any) -> Any:
        mutex = sys.pthread_mutex_init(robust=True)
        waiter = []
        for consistent in (True, False):
            sys.pthread_join(sys.pthread_create(dies, mutex))
            waiter.append(sys.pthread_mutex_lock(mutex))
            if consistent:
                sys.pthread_mutex_consistent(mutex)
            sys.pthread_mutex_unlock(mutex)
        return waiter, error(sys.pthread_mutex_lock, mutex), error(sys.pthread_mutex_unlock, mutex)

    assert play(scenario, flavour) == ([errno.EOWNERDEAD] * 2, "ENOTRECOVERABLE", "EPERM")


def test_robust_mutex_of_many() -> None:
    """Of those who sleep on a robust mutex when its owner ends one gets EOWNERDEAD, and then all get it in turn."""

    def owns(sys: Any, mutex: Any, told: Any) -> None:
        sys.pthread_mutex_lock(mutex)
        sys.sem_post(told)
        sys.nanosleep(20_000_000)

    def wants(sys: Any, mutex: Any) -> int:
        got = int(sys.pthread_mutex_lock(mutex))
        if got:
            sys.pthread_mutex_consistent(mutex)
        sys.pthread_mutex_unlock(mutex)
        return got

    def scenario(sys: Any) -> Any:
        mutex, told = sys.pthread_mutex_init(robust=True), sys.sem_init()
        sys.pthread_create(owns, mutex, told)
        sys.sem_wait(told)
        tids = [sys.pthread_create(wants, mutex) for _ in range(3)]
        return sorted(sys.pthread_join(tid) for tid in tids)

    for seed in range(6):
        assert play(scenario, "6.1-x86_64", 2, seed) == [0, 0, errno.EOWNERDEAD]


def test_timeouts() -> None:
    """Timed waits for a mutex, a condition and a semaphore end with ETIMEDOUT, the condition with its mutex taken."""

    def scenario(sys: Any) -> Any:
        def soon() -> Any:
            return divmod(sys.clock_gettime_ns(0) + 5_000_000, 1_000_000_000)

        mutex, cond, sem = sys.pthread_mutex_init(), sys.pthread_cond_init(), sys.sem_init()
        sys.pthread_mutex_lock(mutex)
        before = sys.clock_gettime_ns()
        found = [error(sys.pthread_mutex_lock, mutex, soon()), error(sys.sem_wait, sem, soon()),
                 error(sys.pthread_cond_wait, cond, mutex, soon()), error(sys.pthread_mutex_trylock, mutex),
                 error(sys.sem_trywait, sem)]
        took = (sys.clock_gettime_ns() - before) // 1_000_000
        sys.pthread_mutex_unlock(mutex)
        return found, 15 <= took < 17, error(sys.pthread_mutex_trylock, mutex)

    assert play(scenario) == (["ETIMEDOUT"] * 3 + ["EBUSY", "EAGAIN"], True, "None")


def test_semaphore_and_handler() -> None:
    """A handler ends sem_wait() with EINTR; sem_getvalue() counts what is there."""

    def posts(sys: Any, pid: int) -> None:
        sys.nanosleep(1_000_000)
        sys.kill(pid, 10)

    def scenario(sys: Any) -> Any:
        sem = sys.sem_init(2)
        sys.sem_wait(sem)
        sys.sem_post(sem)
        sys.sem_wait(sem)
        sys.sem_wait(sem)
        sys.sigaction(10, lambda sys, sig, info: None)
        sys.clone(posts, sys.getpid())
        return error(sys.sem_wait, sem), sys.sem_getvalue(sem)

    assert play(scenario) == ("EINTR", 0)


def test_fork_copies_words() -> None:
    """The child of a fork() has copies of the words, runs the same accesses again without making them, and goes on."""

    def scenario(sys: Any) -> Any:
        one, two = sys.new_word(3), sys.new_word()
        sys.fetch_add(one, 4)
        sys.cmpxchg(two, 0, 9)
        read, write = sys.pipe()
        if sys.fork() == 0:
            sys.store(one, sys.load(one) * 10)
            sys.write(write, repr((sys.load(one), sys.load(two))).encode())
            sys.exit(0)
        sys.wait()
        return sys.read(read, 100), sys.load(one), sys.load(two), one.addr != two.addr

    assert play(scenario) == (b"(70, 9)", 7, 9, True)


def test_forked_child_owns_no_lock() -> None:
    """A child that forks while its parent holds a robust mutex leaves that alone when it ends."""

    def scenario(sys: Any) -> Any:
        mutex = sys.pthread_mutex_init(robust=True)
        sys.pthread_mutex_lock(mutex)
        pid = sys.fork()
        if pid == 0:
            sys.exit(0 if sys.get_robust_list(0)[0] else 1)
        status = sys.waitpid(pid)[1]
        return status, sys.load(mutex.lock) == sys.gettid()

    assert play(scenario) == (0, True)


def test_join_of_nobody() -> None:
    """pthread_join() of a thread that was joined, or never was, is ESRCH; the result is that of the function."""

    def scenario(sys: Any) -> Any:
        tid = sys.pthread_create(lambda sys: 42)
        other = sys.pthread_create(lambda sys: sys.pthread_exit(17))
        return sys.pthread_join(tid), error(sys.pthread_join, tid), error(sys.pthread_join, 1), sys.pthread_join(other)

    assert play(scenario) == (42, "ESRCH", "ESRCH", 17)


def test_hash_table_grows_with_cpus() -> None:
    """There are 256 buckets a CPU, rounded up to a power of two."""
    for cpus, size in ((1, 256), (2, 512), (3, 1024)):
        with world(cpus=cpus) as one:
            one.run(lambda sys: None)
            assert one.m.futex_hashsize == size


def test_bad_pointers() -> None:
    """What is no user address is EFAULT: a variable on the stack has none here, and the kernel's memory is none."""

    def scenario(sys: Any) -> Any:
        return [error(sys.futex, at, WAKE, 1) for at in ("x", 1 << 50, -4)]

    assert play(scenario) == ["EFAULT"] * 3
    assert futex.ROBUST_LIST_LIMIT == 2048
