"""Tracing threads: each task has a tracer of its own, and is one.  kernel/ptrace.c, kernel/exit.c, ptrace(2)."""

from __future__ import annotations

from typing import Any

from taskscope.abi.ptrace import PtraceOption as O
from taskscope.abi.ptrace import PtraceRequest as R
from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    comes_to,
    execute,
    field,
    sleeper,
    state,
    status,
    until,
    wait,
)
from taskscope.labs.truth.rules.ptrace import _end, _tracee

SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 10, 15, 17, 18, 19
WNOHANG, WALL = 1, 0x40000000


def _begins_a_thread(sys: Any, gate: Gate, fn: Any) -> None:
    gate.wait(sys)
    sys.pthread_create(fn)
    sleeper(sys)


def _sleeps(sys: Any) -> None:
    sleeper(sys)


def _two(sys: Any, say: Any, fn: Any = _sleeps, options: int = 0) -> tuple[int, int]:
    """Return a seized process and its second thread, both running."""
    gate = Gate(sys)
    pid = sys.clone(_begins_a_thread, gate, fn)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid, 0, O.PTRACE_O_TRACECLONE | options)
    gate.open(sys)
    word = sys.waitpid(pid, WALL)[1]
    tid = sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)
    say("event", status(word), wait(sys, say, tid, WALL))
    # The thread last: it may end the other.
    sys.ptrace(R.PTRACE_CONT, pid)
    sys.ptrace(R.PTRACE_CONT, tid)
    return int(pid), int(tid)


def a_thread_is_traced_by_itself(sys: Any, say: Any) -> None:
    """A stop of one thread is not one of the other; only __WALL or __WCLONE tell of a thread that is not the leader."""
    pid, tid = _two(sys, say)
    sys.ptrace(R.PTRACE_INTERRUPT, tid)
    say(wait(sys, say, tid, WALL))
    asleep(sys, pid)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG | WALL))
    sys.ptrace(R.PTRACE_CONT, tid)
    _end_both(sys, say, pid, tid)


def _end_both(sys: Any, say: Any, pid: int, tid: int) -> None:
    """Kill a process; both threads are told of, the leader last."""
    sys.kill(pid, 9)
    say(wait(sys, say, tid, WALL), wait(sys, say, pid, WALL))


def _ends_alone(sys: Any) -> None:
    sys.pthread_exit(0)


def end_of_a_thread(sys: Any, say: Any) -> None:
    """The end of a thread is told to its tracer, as that of a process."""
    pid, tid = _two(sys, say, _ends_alone)
    say(wait(sys, say, tid, WALL), wait(sys, say, tid, WALL))
    asleep(sys, pid)
    say(field(sys, pid, "Threads"))
    _end(sys, say, pid)


def group_stop_of_threads(sys: Any, say: Any) -> None:
    """A stop signal is shown to one thread, and the stop of the group is then reported by each."""
    pid, tid = _two(sys, say)
    asleep(sys, pid)
    sys.tgkill(pid, tid, SIGSTOP)
    say(wait(sys, say, tid, WALL), wait(sys, say, pid, WNOHANG | WALL))
    sys.ptrace(R.PTRACE_CONT, tid, 0, SIGSTOP)
    say(wait(sys, say, tid, WALL), wait(sys, say, pid, WALL))
    _end_both(sys, say, pid, tid)


def fatal_signal_of_a_thread(sys: Any, say: Any) -> None:
    """A fatal signal that one thread takes ends both, with that signal."""
    pid, tid = _two(sys, say)
    sys.tgkill(pid, tid, SIGTERM)
    say(wait(sys, say, tid, WALL))
    sys.ptrace(R.PTRACE_CONT, tid, 0, SIGTERM)
    say(wait(sys, say, tid, WALL), wait(sys, say, pid, WALL))


def _executed(sys: Any, say: Any) -> None:
    say("executed")
    sys.exit(9)


def _executes(sys: Any) -> None:
    execute(sys, _executed)


def exec_of_a_thread(sys: Any, say: Any) -> None:
    """A thread that executes a program reports with the leader's pid, and its own in the message."""
    pid, tid = _two(sys, say, _executes, O.PTRACE_O_TRACEEXEC)
    word = sys.waitpid(pid, WALL)[1]
    say(status(word), "about", say.who(sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)))
    say("thread", wait(sys, say, tid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


@differs("it fails until the tracer has waited for the event since v5.13 (dbb5afad100a)", "4.19-arm")
def exec_not_waited_for(sys: Any, say: Any) -> None:
    """A request for the pid fails with ESRCH while the tracer has not heard that a thread has taken it over."""
    pid, tid = _two(sys, say, _executes, O.PTRACE_O_TRACEEXEC)
    until(sys, _gone, tid)
    comes_to(sys, pid, "t")
    say(attempt(sys.ptrace, R.PTRACE_SETOPTIONS, pid, 0, 0))
    say(wait(sys, say, pid, WALL))
    say(attempt(sys.ptrace, R.PTRACE_SETOPTIONS, pid, 0, 0))
    _end(sys, say, pid)


def _gone(sys: Any, pid: int) -> bool:
    return state(sys, pid) == "gone"


def exit_group_of_threads(sys: Any, say: Any) -> None:
    """exit_group() of a thread ends the leader, too; with PTRACE_O_TRACEEXIT each reports its end."""
    pid, tid = _two(sys, say, _ends_all, O.PTRACE_O_TRACEEXIT)
    for one in (tid, pid):
        say(wait(sys, say, one, WALL), status(sys.ptrace_get(R.PTRACE_GETEVENTMSG, one)))
        sys.ptrace(R.PTRACE_CONT, one)
    say(wait(sys, say, tid, WALL), wait(sys, say, pid, WALL))


def _ends_all(sys: Any) -> None:
    sys.exit(5)


def _asks_for(sys: Any, say: Any, pid: int, gates: list[Gate]) -> None:
    gates[0].wait(sys)
    say("thread", attempt(sys.ptrace, R.PTRACE_CONT, pid), attempt(sys.ptrace, R.PTRACE_DETACH, pid))
    say("thread", wait(sys, say, pid, WNOHANG | WALL), wait(sys, say, pid, 0x20000000 | WNOHANG | WALL))
    gates[1].open(sys)
    sys.pthread_exit(0)


def a_thread_is_the_tracer(sys: Any, say: Any) -> None:
    """Requests of another thread of the tracer's process fail with ESRCH; it may wait, unless __WNOTHREAD is given."""
    gates = [Gate(sys), Gate(sys)]
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.ptrace(R.PTRACE_INTERRUPT, pid)
    say(wait(sys, say, pid, WALL))
    sys.pthread_create(_asks_for, say, pid, gates)
    gates[0].open(sys)
    gates[1].wait(sys)
    say(attempt(sys.ptrace, R.PTRACE_CONT, pid))
    _end(sys, say, pid)
