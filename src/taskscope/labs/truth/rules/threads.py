"""Processes of several threads: who is told what, who dies, who is left.  kernel/exit.c, fs/exec.c, signal(7)."""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import (
    Gate,
    attempt,
    comes_to,
    ends,
    execute,
    field,
    state,
    status,
    thread_ends,
    until,
    wait,
    waitid,
)

SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 9, 10, 15, 17, 18, 19
WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x0100_0000
NOTHREAD: Final = 0x2000_0000
PR_SET_PDEATHSIG: Final = 1


def _child(sys: Any, say: Any, fn: Any, *args: Any) -> None:
    """Let a child be the process of the rule, and say how it ended."""
    say(wait(sys, say, sys.clone(fn, say, *args)))


def _parks(sys: Any, told: Gate | None = None) -> None:
    """Be a thread that sleeps for ever."""
    if told is not None:
        told.open(sys)
    while True:
        sys.nanosleep(3_600_000_000_000)


def _passes(sys: Any, gate: Gate) -> None:
    """Be a thread that ends when a gate is open."""
    gate.wait(sys)


def _count(sys: Any, pid: int) -> str:
    return field(sys, pid, "Threads")


def _has(sys: Any, pid: int, count: str) -> bool:
    return _count(sys, pid) == count


# ---- ids -----------------------------------------------------------------------------------------------------


def one_process(sys: Any, say: Any) -> None:
    """Threads have one pid, parent, group and session, and a tid each; that of the first is the pid."""
    _child(sys, say, _has_a_thread)


def _has_a_thread(sys: Any, say: Any) -> None:
    done = Gate(sys)
    ids = (sys.getpid(), sys.getppid(), sys.getpgid(0), sys.getsid(0))
    say(sys.gettid() == sys.getpid())
    sys.pthread_create(_compares, say, ids, done)
    done.wait(sys)


def _compares(sys: Any, say: Any, ids: tuple[int, ...], done: Gate) -> None:
    found = (sys.getpid(), sys.getppid(), sys.getpgid(0), sys.getsid(0))
    say([one == other for one, other in zip(found, ids, strict=True)], sys.gettid() != sys.getpid(),
        sys.gettid() > sys.getpid())
    done.open(sys)


def tid_as_pid(sys: Any, say: Any) -> None:
    """A tid where a pid is wanted: kill() reaches the process, wait finds no child, setpgid() says EINVAL."""
    _child(sys, say, _uses_tid)


def _uses_tid(sys: Any, say: Any) -> None:
    gate = Gate(sys)
    tid = sys.pthread_create(_passes, gate)
    say(attempt(sys.kill, tid, 0), attempt(sys.waitpid, tid), attempt(sys.waitid, 1, tid, WEXITED),
        attempt(sys.setpgid, tid, 0), attempt(sys.kill, -tid, 0))
    say(sys.getpgid(tid) == sys.getpgid(0), sys.getsid(tid) == sys.getsid(0))
    gate.open(sys)
    thread_ends(sys, tid)
    say(attempt(sys.kill, tid, 0), attempt(sys.getpgid, tid))


def tgkill_checks(sys: Any, say: Any) -> None:
    """tgkill() wants a thread of that process: ESRCH for one of another, EINVAL for no number."""
    _child(sys, say, _sends_to_threads)


def _sends_to_threads(sys: Any, say: Any) -> None:
    gate = Gate(sys)
    tid = sys.pthread_create(_passes, gate)
    me = sys.getpid()
    say(attempt(sys.tgkill, me, tid, 0), attempt(sys.tgkill, tid, tid, 0), attempt(sys.tgkill, sys.getppid(), tid, 0),
        attempt(sys.tgkill, me, 0, 0), attempt(sys.tgkill, -1, tid, 0), attempt(sys.tkill, 0, 0),
        attempt(sys.tkill, -1, 0), attempt(sys.tgkill, me, tid, 65))
    gate.open(sys)
    thread_ends(sys, tid)
    say(attempt(sys.tkill, tid, 0))


def proc_counts(sys: Any, say: Any) -> None:
    """/proc/PID/status counts threads, and /proc/PID/task has a folder for each."""
    pid = sys.clone(_has_threads, 3)
    until(sys, _has, pid, "4")
    say(_count(sys, pid), len(sys.slurp(f"/proc/{pid}/task/{pid}/comm")) > 0)
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def _has_threads(sys: Any, count: int) -> None:
    for _ in range(count):
        sys.pthread_create(_parks)
    _parks(sys)


# ---- the end -------------------------------------------------------------------------------------------------


def exit_of_one(sys: Any, say: Any) -> None:
    """exit_group() of any thread ends the process, with its code."""
    pid = sys.clone(_has_thread_that_exits, 9)
    say(wait(sys, say, pid), wait(sys, say, pid))


def _has_thread_that_exits(sys: Any, code: int) -> None:
    sys.pthread_create(_exits, code)
    _parks(sys)


def _exits(sys: Any, code: int) -> None:
    sys.exit(code)


def kill_is_for_all(sys: Any, say: Any) -> None:
    """A deadly signal to one thread ends them all."""
    for sig in (SIGKILL, SIGTERM, SIGUSR1):
        _child(sys, say, _kills_its_thread, sig)


def _kills_its_thread(sys: Any, say: Any, sig: int) -> None:
    del say
    told = Gate(sys)
    tid = sys.pthread_create(_parks, told)
    told.wait(sys)
    sys.tgkill(sys.getpid(), tid, sig)
    _parks(sys)


def first_thread_ends(sys: Any, say: Any) -> None:
    """A process whose first thread has ended is a zombie to see, lives, and cannot be waited for."""
    gate = Gate(sys)
    pid = sys.clone(_leaves_thread, gate, 4)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid, WNOHANG), waitid(sys, say, 1, pid, WEXITED | WNOHANG | WNOWAIT), attempt(sys.kill, pid, 0))
    say(_count(sys, pid))
    gate.open(sys)
    say(wait(sys, say, pid))


def _leaves_thread(sys: Any, gate: Gate, code: int) -> None:
    sys.pthread_create(_passes_and_exits, gate, code)
    sys.pthread_exit(0)


def _passes_and_exits(sys: Any, gate: Gate, code: int) -> None:
    gate.wait(sys)
    sys.exit(code)


@differs("before synchronize_group_exit(), of v6.1 at the latest, the code was that of the first thread", "4.19-arm")
def last_code_counts(sys: Any, say: Any) -> None:
    """If every thread ends by itself, the code of the process is that of the last one."""
    gate = Gate(sys)
    pid = sys.clone(_leaves_thread_that_ends, gate)
    comes_to(sys, pid, "Z")
    gate.open(sys)
    say(wait(sys, say, pid))


def _leaves_thread_that_ends(sys: Any, gate: Gate) -> None:
    sys.pthread_create(_passes_and_ends, gate)
    sys.pthread_exit(3)


def _passes_and_ends(sys: Any, gate: Gate) -> None:
    gate.wait(sys)
    sys.pthread_exit(6)


def signal_after_first(sys: Any, say: Any) -> None:
    """A signal to a process whose first thread has ended goes to another one: a handler runs, SIGKILL ends it."""
    read, write = sys.pipe()
    pid = sys.clone(_handles_in_thread, write)
    sys.read(read, 1)
    comes_to(sys, pid, "Z")
    sys.kill(pid, SIGUSR1)
    say(sys.read(read, 1))
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def _handles_in_thread(sys: Any, write: int) -> None:
    sys.dup2(write, 500)
    sys.sigaction(SIGUSR1, _notes)
    sys.pthread_create(_tells_and_pauses)
    sys.pthread_exit(0)


def _notes(sys: Any, sig: int, info: Any) -> None:
    del sig, info
    sys.write(500, b"h")


def _tells_and_pauses(sys: Any) -> None:
    sys.write(500, b"r")
    while True:
        attempt(sys.pause)


def descriptors_stay(sys: Any, say: Any) -> None:
    """The end of one thread closes nothing, that of the last everything."""
    read, write = sys.pipe()
    gate = Gate(sys)
    pid = sys.clone(_leaves_thread, gate, 2)
    sys.close(write)
    comes_to(sys, pid, "Z")
    flags = 0o4000
    sys.fcntl(read, 4, flags)
    say(attempt(sys.read, read, 1))
    gate.open(sys)
    say(wait(sys, say, pid), attempt(sys.read, read, 1))


# ---- children ------------------------------------------------------------------------------------------------


def child_of_thread(sys: Any, say: Any) -> None:
    """A child of a thread is a child of the process: its parent is the pid, and every thread may wait for it."""
    _child(sys, say, _thread_has_child)


def _thread_has_child(sys: Any, say: Any) -> None:
    told, until_ = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_clones, told.write, until_)
    pid = int(sys.read(told.read, 16))
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid, WNOHANG | NOTHREAD), wait(sys, say, pid))
    until_.open(sys)
    thread_ends(sys, tid)


def _clones(sys: Any, fd: int, until_: Gate) -> None:
    pid = sys.clone(ends, 5)
    sys.write(fd, str(pid).encode())
    until_.wait(sys)


def children_move_over(sys: Any, say: Any) -> None:
    """The children of a thread that ends go to another thread of the process, and nobody is told."""
    _child(sys, say, _inherits)


def _inherits(sys: Any, say: Any) -> None:
    told, until_ = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_clones, told.write, until_)
    pid = int(sys.read(told.read, 16))
    comes_to(sys, pid, "Z")
    until_.open(sys)
    thread_ends(sys, tid)
    say(wait(sys, say, pid, NOTHREAD))


def death_signal_of_thread(sys: Any, say: Any) -> None:
    """PR_SET_PDEATHSIG is sent when the thread ends that made the child, though its process lives."""
    _child(sys, say, _thread_with_mortal_child)


def _thread_with_mortal_child(sys: Any, say: Any) -> None:
    told = Gate(sys)
    sys.pthread_create(_makes_mortal, told.write)
    pid = int(sys.read(told.read, 16))
    say(wait(sys, say, pid))


def _makes_mortal(sys: Any, fd: int) -> None:
    ready = Gate(sys)
    pid = sys.clone(_is_mortal, ready)
    ready.wait(sys)
    sys.write(fd, str(pid).encode())


def _is_mortal(sys: Any, ready: Gate) -> None:
    sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    ready.open(sys)
    _parks(sys)


def alone_after_fork(sys: Any, say: Any) -> None:
    """The child of a process of many threads has one: a copy of the one that forked."""
    _child(sys, say, _many_and_forks)


def _many_and_forks(sys: Any, say: Any) -> None:
    for _ in range(2):
        sys.pthread_create(_parks)
    until(sys, _has, sys.getpid(), "3")
    say(wait(sys, say, sys.clone(_says_count, say)))


def _says_count(sys: Any, say: Any) -> None:
    say(_count(sys, sys.getpid()), sys.gettid() == sys.getpid())


# ---- stop and continue ---------------------------------------------------------------------------------------


def all_stop(sys: Any, say: Any) -> None:
    """SIGSTOP stops every thread, and is told once; SIGCONT continues every thread, and is told once."""
    told = Gate(sys)
    pid = sys.clone(_tells_tid, told.write)
    tid = int(sys.read(told.read, 16))
    for _ in range(2):
        sys.kill(pid, SIGSTOP)
        say(wait(sys, say, pid, WUNTRACED), state(sys, pid), state(sys, tid), wait(sys, say, pid, WUNTRACED | WNOHANG))
        sys.kill(tid, SIGCONT)
        say(wait(sys, say, pid, WCONTINUED), wait(sys, say, pid, WCONTINUED | WNOHANG))
        comes_to(sys, pid, "S")
        comes_to(sys, tid, "S")
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def _tells_tid(sys: Any, fd: int) -> None:
    tid = sys.pthread_create(_parks)
    sys.write(fd, str(tid).encode())
    _parks(sys)


def stop_by_tgkill(sys: Any, say: Any) -> None:
    """SIGSTOP to one thread stops the whole process."""
    told = Gate(sys)
    pid = sys.clone(_tells_tid, told.write)
    tid = int(sys.read(told.read, 16))
    sys.tgkill(pid, tid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED), state(sys, pid), state(sys, tid))
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


# ---- exec ----------------------------------------------------------------------------------------------------


def exec_takes_over(sys: Any, say: Any) -> None:
    """A thread that executes a program becomes the process: its pid, its parent; the others are gone."""
    pid = sys.clone(_thread_executes, 2)
    say(wait(sys, say, pid))


def _thread_executes(sys: Any, others: int) -> None:
    pid = sys.getpid()
    for _ in range(others):
        sys.pthread_create(_parks)
    sys.pthread_create(_executes, pid)
    _parks(sys)


def _executes(sys: Any, pid: int) -> None:
    execute(sys, _says_who, str(pid), str(sys.getppid()))


def _says_who(sys: Any, say: Any, pid: str, parent: str) -> int:
    say(sys.getpid() == int(pid), sys.gettid() == int(pid), sys.getppid() == int(parent),
        _count(sys, sys.getpid()))
    return 7


def exec_of_first(sys: Any, say: Any) -> None:
    """When the first thread executes a program the others are gone, too."""
    pid = sys.clone(_first_executes)
    say(wait(sys, say, pid))


def _first_executes(sys: Any) -> None:
    told = Gate(sys)
    for _ in range(2):
        sys.pthread_create(_parks, told)
        told.wait(sys)
    _executes(sys, sys.getpid())


def exec_after_first(sys: Any, say: Any) -> None:
    """A thread executes a program when the first one has ended already, and its process is no zombie any more."""
    gate = Gate(sys)
    pid = sys.clone(_leaves_executing_thread, gate)
    comes_to(sys, pid, "Z")
    gate.open(sys)
    say(wait(sys, say, pid))


def _leaves_executing_thread(sys: Any, gate: Gate) -> None:
    sys.pthread_create(_passes_and_executes, gate, sys.getpid())
    sys.pthread_exit(0)


def _passes_and_executes(sys: Any, gate: Gate, pid: int) -> None:
    gate.wait(sys)
    _executes(sys, pid)


def failed_exec(sys: Any, say: Any) -> None:
    """An execve() that fails leaves all threads as they are."""
    _child(sys, say, _fails_to_execute)


def _fails_to_execute(sys: Any, say: Any) -> None:
    gate = Gate(sys)
    tid = sys.pthread_create(_passes, gate)
    say(attempt(sys.execve, "/nothing", ["nothing"], {}), attempt(sys.execve, "/dev/null", ["x"], {}))
    say(attempt(sys.tkill, tid, 0), sys.gettid() == sys.getpid(), _count(sys, sys.getpid()))
    gate.open(sys)
    thread_ends(sys, tid)


def exec_keeps_children(sys: Any, say: Any) -> None:
    """Children of a thread that is gone by execve() are children of the new program."""
    pid = sys.clone(_thread_has_child_then_executes)
    say(wait(sys, say, pid))


def _thread_has_child_then_executes(sys: Any) -> None:
    told, never = Gate(sys), Gate(sys)
    sys.pthread_create(_clones, told.write, never)
    pid = int(sys.read(told.read, 16))
    execute(sys, _waits_for, str(pid))


def _waits_for(sys: Any, say: Any, pid: str) -> int:
    got, word = sys.waitpid(int(pid))
    say(got == int(pid), status(word))
    return 1
