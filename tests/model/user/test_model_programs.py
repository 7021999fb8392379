"""Programs in Python: fork() by replay, clone(fn), threads, handlers, and the rule that programs obey."""

from __future__ import annotations

import random

import pytest

import taskscope
from taskscope.model import machine
from taskscope.model.include.linux.sched_signal import Sigframe
from taskscope.model.user import python


def forked_in_a_loop(sys, argv):
    total = 0
    for n in range(4):
        pid = sys.fork()
        if pid == 0:
            sys.printf("child %d of %d sees total %d\n", n, sys.getppid(), total)
            sys.exit(n)
        _, status = sys.waitpid(pid)
        total += sys.WEXITSTATUS(status)
    sys.printf("total %d\n", total)
    return total


def test_fork_returns_twice(ran):
    """fork() returns 0 in the child, which has the parent's variables, and the child's pid in the parent."""
    code, text = ran(forked_in_a_loop)
    assert code == 0 + 1 + 2 + 3
    lines = text.splitlines()
    assert [line.split()[-1] for line in lines[:4]] == ["0", "0", "1", "3"]
    assert lines[4] == "total 6"


def nested(sys, argv):
    if sys.fork() == 0:
        if sys.fork() == 0:
            if sys.fork() == 0:
                sys.puts("great-grandchild")
                return 7
            _, status = sys.wait()
            return sys.WEXITSTATUS(status)
        _, status = sys.wait()
        return sys.WEXITSTATUS(status)
    _, status = sys.wait()
    return sys.WEXITSTATUS(status)


def test_fork_in_a_child_of_a_fork(ran):
    """A child that was run from the log can fork in turn, and so can its child."""
    assert ran(nested) == (7, "great-grandchild\n")


def unpredictable(sys, argv):
    if random.random() < 2:
        sys.getpid()
    drawn.append(1)
    if len(drawn) == 1:
        sys.getuid()
    else:
        sys.getgid()
    if sys.fork() == 0:
        return 0
    _, status = sys.wait()
    return sys.WEXITSTATUS(status)


drawn: list[int] = []


def test_divergence_is_an_error(ran):
    """A program that does something else when its child runs it again is told so; the child ends with status 1."""
    drawn.clear()
    code, text = ran(unpredictable)
    assert code == 1
    assert "DivergedError" in text
    assert "getuid" in text
    assert "getgid" in text


def chatty(sys, argv):
    for _ in range(40):
        sys.getpid()
    if sys.fork() == 0:
        return 0
    return 0


def test_log_is_bounded(ran, monkeypatch):
    """A program cannot fork() after more calls than are remembered, and is told what to do instead."""
    monkeypatch.setattr(python, "LOG_MAX", 20)
    code, text = ran(chatty)
    assert code == 1
    assert "sys.clone(fn, …)" in text


def starting(sys, argv):
    for _ in range(40):
        sys.getpid()
    sys.become(going_on, 5)


def going_on(sys, left):
    if left:
        pid = sys.fork()
        if pid == 0:
            sys.exit(left)
        sys.waitpid(pid)
        sys.printf("%d ", left)
        sys.become(going_on, left - 1)
    sys.puts("done")
    return 3


def test_become_starts_a_new_log(ran, monkeypatch):
    """become() goes on in another function with nothing to remember, so that a program can fork for ever."""
    monkeypatch.setattr(python, "LOG_MAX", 20)
    assert ran(starting) == (3, "5 4 3 2 1 done\n")


def cloner(sys, argv):
    bag = [1, [2]]
    pid = sys.clone(changing, bag)
    sys.waitpid(pid)
    sys.puts(str(bag))
    tid_bag: list[int] = []
    sys.pthread_create(changing_shared, tid_bag)
    while not tid_bag:
        sys.sched_yield()
    sys.puts(str(tid_bag))


def changing(sys, bag):
    bag[1].append(3)
    sys.printf("child has %s\n", bag)


def changing_shared(sys, bag):
    bag.append(4)


def test_clone_copies_arguments_unless_memory_is_shared(ran):
    """A child of clone(fn) without CLONE_VM has copies of its arguments; a thread has the very objects."""
    assert ran(cloner) == (0, "child has [1, [2, 3]]\n[1, [2]]\n[4]\n")


def handling(sys, argv):
    seen = []

    def handler(sys, sig, info):
        seen.append(sig)
        sys.printf("handler %d\n", sig)

    sys.sigaction(10, handler)
    sys.kill(sys.getpid(), 10)
    if sys.fork() == 0:
        sys.printf("child has seen %s\n", seen)
        sys.exit(0)
    sys.wait()
    sys.printf("parent has seen %s\n", seen)


def test_handlers_are_replayed(ran):
    """A signal handler that ran before a fork() runs again in the child's replay, and prints nothing twice."""
    assert ran(handling) == (0, "handler 10\nchild has seen [10]\nparent has seen [10]\n")


def fork_made_again(sys, argv):
    """Fork as if a signal had come in just then: -ERESTARTNOINTR, a handler's frame, and the call once more."""
    gate = sys._gate

    def interrupted(nr, args):
        sys._gate = gate
        machine.cur.cpu.curr.sigframes = (Sigframe(0, (0, 0, 0), 0),)
        sys.frames.append((lambda sys, sig, info: sys.getppid(), 10, None))
        return -513

    sys._gate = interrupted
    if sys.fork() == 0:
        return 3
    _, status = sys.wait()
    return sys.WEXITSTATUS(status)


def test_a_fork_is_made_again_after_a_handler(ran):
    """A fork that a signal handler came before is remembered as the fork, not as the handler's last call."""
    assert ran(fork_made_again)[0] == 3


def crashing(sys, argv):
    sys.puts("before")
    raise KeyError("a mistake")


def test_a_signal_before_the_first_instruction():
    """A forked child that has a signal to handle before it runs for the first time handles it behind its fork()."""

    def program(sys, argv):
        seen = []
        sys.sigaction(10, lambda sys, sig, info: seen.append((sig, sys.getpid())))
        sys.sigprocmask(0, 1 << 9)
        sys.sigprocmask(1, 1 << 9)
        pid = sys.fork()
        if pid:
            sys.kill(pid, 10)
            return sys.WEXITSTATUS(sys.waitpid(pid)[1]) + len(seen)
        # Under some schedules it comes before the first instruction, under others later.
        for _ in range(100):
            if seen:
                break
            sys.sleep(0.01)
        return 42 if seen == [(10, sys.getpid())] else 1

    for seed in range(5):
        with taskscope.boot(cpus=1, seed=seed, bare=True) as k:
            assert k.spawn(program).wait() == 42


def test_crash_of_a_program_that_nobody_hears(ran):
    """A program whose output can not be written ends all the same, with the status that it would have had."""

    def crashes(sys, argv):
        sys.printf("lost")
        sys.close(1)
        sys.close(2)
        raise KeyError("lost too")

    def ends(sys, argv):
        sys.printf("lost")
        sys.close(1)
        return 3

    assert ran(crashes)[0] == 1
    assert ran(ends)[0] == 3


def test_crash_of_a_program(ran):
    """An exception that a program does not catch goes to its standard error; the exit status is 1, as CPython's."""
    code, text = ran(crashing)
    assert code == 1
    assert text.startswith("before\nTraceback")
    assert "KeyError: 'a mistake'" in text
    assert "user_mode" not in text


def stubborn(sys, argv):
    try:
        sys.pause()
    finally:
        sys.puts("not any more")


def test_the_dead_make_no_calls(k):
    """What a killed program does in `finally:` does not reach the kernel."""
    process = k.spawn(stubborn)
    k.run(s=0.1)
    k.spawn("kill", "-9", str(process.pid))
    assert process.wait() == -9
    assert process.text == ""


def replaced(sys, argv):
    try:
        sys.execv("/bin/echo", ["echo", "new program"])
    finally:
        sys.puts("not any more")


def test_a_replaced_program_is_gone(ran):
    """After exec nothing of the old program runs, not even `finally:`."""
    assert ran(replaced) == (0, "new program\n")


def buffered(sys, argv):
    read_end, write_end = sys.pipe()
    sys.dup2(write_end, 1)
    sys.printf("once or twice? ")
    if sys.fork() == 0:
        sys.exit(0)
    sys.wait()
    sys.fflush()
    sys.close(write_end)
    sys.write(2, sys.read(read_end, 100))


def test_stdio_is_copied_by_fork(ran):
    """What stdout buffers when a program forks is written by both, as C's stdio does into a pipe."""
    assert ran(buffered) == (0, "once or twice? once or twice? ")


def computing(sys, argv):
    before = sys.clock_gettime_ns()
    sys.run_for(5_000_000)
    return (sys.clock_gettime_ns() - before) // 1_000_000


def test_computing_takes_virtual_time(ran):
    """A program takes time by run_for() and by its system calls, and by nothing else."""
    assert ran(computing)[0] == 5


def alarmed(sys, argv):
    times = []

    def handler(sys, sig, info):
        times.append(sys.clock_gettime_ns())

    sys.sigaction(14, handler)
    start = sys.clock_gettime_ns()
    sys.alarm(1)
    sys.run_for(3_000_000_000)
    if sys.fork() == 0:
        return 0
    sys.wait()
    sys.printf("%d %d", (times[0] - start) // 1_000_000, (sys.clock_gettime_ns() - start) // 1_000_000)
    return 0


def test_a_handler_interrupts_a_computation(ran):
    """A signal that comes while a program computes is handled then, and the computation goes on."""
    code, text = ran(alarmed)
    assert code == 0, text
    at, end = map(int, text.split())
    assert 1000 <= at <= 1011
    assert 3000 <= end <= 3010


@pytest.mark.parametrize("flavour", ["4.19-arm", "6.1-x86_64", "6.18-x86_64"])
def test_same_on_every_flavour(flavour):
    """A program does not see which kernel it runs on, unless it asks."""
    with taskscope.boot(flavour=flavour, bare=True) as k:
        process = k.spawn(forked_in_a_loop)
        assert process.wait() == 6
        assert process.text.splitlines()[-1] == "total 6"


def test_same_seed_same_run():
    """The same seed gives the same run, to the nanosecond; another seed another one."""

    def once(seed):
        with taskscope.boot(cpus=2, seed=seed, bare=True) as k:
            process = k.spawn(forked_in_a_loop)
            process.wait()
            return k.now, process.text

    assert once(3) == once(3)
    assert len({once(seed)[0] for seed in range(1, 5)}) > 1


def everything(sys, argv):
    calls = {
        "getpid": (),
        "getppid": (),
        "gettid": (),
        "getpgrp": (),
        "getsid": (),
        "getuid": (),
        "geteuid": (),
        "getgid": (),
        "umask": (0o22,),
        "prctl_get": (16,),
        "sigpending": (),
        "sigprocmask": (0, 0),
        "alarm": (0,),
        "nanosleep": (1000,),
        "sleep": (0,),
        "usleep": (1,),
        "clock_gettime_ns": (),
        "times": (),
        "getrusage": (),
        "getrlimit": (6,),
        "setrlimit": (6, (100, 100)),
        "uname": (),
        "sched_yield": (),
        "sched_getscheduler": (),
        "sched_setscheduler": (0, 0, 0),
        "sched_getaffinity": (),
        "sched_setaffinity": (0, [0]),
        "getcpu": (),
        "nice": (1,),
        "getpriority": (0, 0),
        "isatty": (1,),
        "getcwd": (),
        "listdir": ("/",),
        "stat": ("/",),
        "fstat": (1,),
        "pipe": (),
        "pipe2": (0,),
        "dup": (1,),
        "kcmp": (1, 1, 0),
        "sigaction": (10,),
        "setitimer": (0, 0),
        "chdir": ("/",),
        "mkdir": ("/tmp/d",),
        "fcntl": (1, 3),
        "lseek": (sys.open("/etc/passwd"), 0),
        "set_tid_address": (0,),
        "getpgid": (0,),
    }
    for name, args in calls.items():
        try:
            getattr(sys, name)(*args)
        except OSError as error:
            sys.puts(f"{name}: {error}")


@pytest.mark.parametrize("flavour", ["4.19-arm", "6.1-x86_64", "6.18-x86_64"])
def test_the_c_library_is_served(flavour):
    """Each function of the C library that takes no more than simple arguments succeeds on each flavour."""
    with taskscope.boot(flavour=flavour, bare=True) as k:
        process = k.spawn(everything)
        code = process.wait()
        assert (code, process.text) == (0, "")
