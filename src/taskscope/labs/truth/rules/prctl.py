"""prctl(2): names, parent-death signals, subreapers, dumpable, no_new_privs.  kernel/sys.c, prctl(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    field,
    kill,
    raw,
    sleeper,
    stat,
    state,
    thread_ends,
    wait,
)

SIGUSR1, SIGTERM = 10, 15
SET_PDEATHSIG, GET_PDEATHSIG, GET_DUMPABLE, SET_DUMPABLE, SET_NAME, GET_NAME = 1, 2, 3, 4, 15, 16
SET_SUBREAPER, GET_SUBREAPER, SET_NNP, GET_NNP = 36, 37, 38, 39


def name_is_cut(sys: Any, say: Any) -> None:
    """A name has 15 bytes at most; more are cut off."""
    for name in (b"short", b"123456789012345", b"1234567890123456", b"x" * 40, b"", b"with space", b"a(b) c"):
        sys.prctl(SET_NAME, name)
        say(len(name), sys.prctl_get(GET_NAME), stat(sys, sys.getpid())[1])


def name_in_status(sys: Any, say: Any) -> None:
    """A name is in /proc/PID/comm and /proc/PID/status."""
    sys.prctl(SET_NAME, b"a name")
    say(sys.slurp(f"/proc/{sys.getpid()}/comm"), field(sys, sys.getpid(), "Name"))


def name_of_a_thread(sys: Any, say: Any) -> None:
    """Each thread has a name; that of the process is its first thread's."""
    gate, done = Gate(sys), Gate(sys)
    sys.prctl(SET_NAME, b"first")
    tid = sys.pthread_create(_renames, gate, done)
    gate.wait(sys)
    me = sys.getpid()
    text = sys.slurp(f"/proc/{me}/task/{tid}/comm")
    say(sys.prctl_get(GET_NAME), stat(sys, me)[1], text)
    done.open(sys)


def _renames(sys: Any, gate: Gate, done: Gate) -> None:
    sys.prctl(SET_NAME, b"second")
    gate.open(sys)
    done.wait(sys)


def bad_pointers(sys: Any, say: Any) -> None:
    """Where prctl() writes, a bad pointer gives EFAULT."""
    for option in (GET_PDEATHSIG, GET_NAME, GET_SUBREAPER, SET_NAME):
        say(option, raw(sys, "prctl", option, 8, 0, 0, 0))


def unknown_option(sys: Any, say: Any) -> None:
    """An option that is none gives EINVAL."""
    for option in (0, 1000, -1):
        say(option, attempt(sys.prctl, option, 0, 0, 0, 0))


def pdeathsig_values(sys: Any, say: Any) -> None:
    """The parent-death signal is 0 at first, and any signal after; what is none gives EINVAL and changes nothing."""
    say(sys.prctl_get(GET_PDEATHSIG))
    for signal in (SIGTERM, 64, 65, -1, 1, 0):
        say(signal, attempt(sys.prctl, SET_PDEATHSIG, signal), sys.prctl_get(GET_PDEATHSIG))


def pdeathsig_kills(sys: Any, say: Any) -> None:
    """A parent-death signal without a handler kills the child of a dead parent."""
    told = Gate(sys)
    sys.prctl(SET_SUBREAPER, 1)
    parent = sys.clone(_has_faithful_child, told.write)
    child = int(sys.read(told.read, 16))
    asleep(sys, child)
    kill(sys, parent)
    say(wait(sys, say, child), wait(sys, say, parent))


def _has_faithful_child(sys: Any, fd: int) -> None:
    sys.clone(_is_faithful, fd)
    sleeper(sys)


def _is_faithful(sys: Any, fd: int) -> None:
    sys.prctl(SET_PDEATHSIG, SIGTERM)
    sys.write(fd, str(sys.getpid()).encode())
    sleeper(sys)


def pdeathsig_of_a_thread(sys: Any, say: Any) -> None:
    """The parent-death signal comes when the thread that forked ends, though its process lives on."""
    told, go = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_thread_with_child, told.write, go)
    child = int(sys.read(told.read, 16))
    asleep(sys, child)
    say(state(sys, child))
    go.open(sys)
    say(wait(sys, say, child))
    thread_ends(sys, tid)


def _thread_with_child(sys: Any, fd: int, go: Gate) -> None:
    sys.clone(_is_faithful, fd)
    go.wait(sys)


def pdeathsig_again(sys: Any, say: Any) -> None:
    """The parent-death signal comes again when the parent that adopted ends."""
    told, done = Gate(sys), Gate(sys)
    outer = sys.clone(_adopts, say, told.write, done)
    middle, child = (int(sys.read(told.read, 16)) for _ in range(2))
    asleep(sys, child)
    sys.kill(middle, 9)
    done.wait(sys)
    asleep(sys, child)
    kill(sys, outer)
    done.wait(sys)
    say(wait(sys, say, outer))


def _adopts(sys: Any, say: Any, fd: int, done: Gate) -> None:
    sys.prctl(SET_SUBREAPER, 1)
    pid = sys.clone(_makes_counter, say, fd, done)
    sys.write(fd, str(pid).encode().ljust(16))
    sleeper(sys)


def _makes_counter(sys: Any, say: Any, fd: int, done: Gate) -> None:
    # Its pid is written first.
    asleep(sys, sys.getppid())
    pid = sys.clone(_counts, say, done)
    sys.write(fd, str(pid).encode().ljust(16))
    sleeper(sys)


def _counts(sys: Any, say: Any, done: Gate) -> None:
    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal, say.who(sys.getppid()))
        done.open(sys)

    sys.prctl(SET_PDEATHSIG, SIGUSR1)
    sys.sigaction(SIGUSR1, handler)
    sleeper(sys)


@root
def pdeathsig_and_ids(sys: Any, say: Any) -> None:
    """A change of the effective user id takes the parent-death signal back."""
    sys.prctl(SET_PDEATHSIG, SIGTERM)
    sys.setuid(0)
    say(sys.prctl_get(GET_PDEATHSIG))
    say(wait(sys, say, sys.clone(_becomes_another, say)))


def _becomes_another(sys: Any, say: Any) -> None:
    sys.prctl(SET_PDEATHSIG, SIGTERM)
    sys.setuid(1000)
    say(sys.getuid(), sys.prctl_get(GET_PDEATHSIG))


def subreaper_values(sys: Any, say: Any) -> None:
    """Any number but 0 makes a subreaper, which reads as 1."""
    say(sys.prctl_get(GET_SUBREAPER))
    for value in (1, 0, 7, -1, 0):
        say(value, sys.prctl(SET_SUBREAPER, value), sys.prctl_get(GET_SUBREAPER))


def subreaper_is_the_process(sys: Any, say: Any) -> None:
    """A thread that makes a subreaper makes its process one."""
    gate = Gate(sys)
    sys.pthread_create(_makes_subreaper, gate)
    gate.wait(sys)
    say(sys.prctl_get(GET_SUBREAPER))


def _makes_subreaper(sys: Any, gate: Gate) -> None:
    sys.prctl(SET_SUBREAPER, 1)
    gate.open(sys)


def dumpable_values(sys: Any, say: Any) -> None:
    """A process is dumpable at first, can say no and yes, and nothing else: EINVAL."""
    say(sys.prctl(GET_DUMPABLE))
    for value in (0, 1, 2, 3, -1):
        say(value, attempt(sys.prctl, SET_DUMPABLE, value), sys.prctl(GET_DUMPABLE))


def dumpable_is_inherited(sys: Any, say: Any) -> None:
    """A child is dumpable as its parent is, and what it sets is its own."""
    sys.prctl(SET_DUMPABLE, 0)
    say(wait(sys, say, sys.clone(_sets_dumpable, say)), sys.prctl(GET_DUMPABLE))


def _sets_dumpable(sys: Any, say: Any) -> None:
    say("child", sys.prctl(GET_DUMPABLE), sys.prctl(SET_DUMPABLE, 1), sys.prctl(GET_DUMPABLE))


def no_new_privs_is_for_ever(sys: Any, say: Any) -> None:
    """no_new_privs is set by 1 with zeros behind it, and never taken back; anything else gives EINVAL."""
    for args in ((0, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 0, 1)):
        say(args, attempt(sys.prctl, SET_NNP, *args), sys.prctl(GET_NNP, 0, 0, 0, 0))
    say(attempt(sys.prctl, SET_NNP, 1, 0, 0, 0), sys.prctl(GET_NNP, 0, 0, 0, 0),
        attempt(sys.prctl, SET_NNP, 0, 0, 0, 0))
    say(attempt(sys.prctl, GET_NNP, 1, 0, 0, 0), field(sys, sys.getpid(), "NoNewPrivs"))


def no_new_privs_of_a_thread(sys: Any, say: Any) -> None:
    """A thread that sets no_new_privs sets it for itself only."""
    gate = Gate(sys)
    sys.pthread_create(_sets_no_new_privs, say, gate)
    gate.wait(sys)
    say("first", sys.prctl(GET_NNP, 0, 0, 0, 0))


def _sets_no_new_privs(sys: Any, say: Any, gate: Gate) -> None:
    sys.prctl(SET_NNP, 1, 0, 0, 0)
    say("second", sys.prctl(GET_NNP, 0, 0, 0, 0))
    gate.open(sys)
