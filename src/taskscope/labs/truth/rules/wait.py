"""wait4(2): which child, which errors, what status.  kernel/exit.c, wait(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    after,
    attempt,
    comes_to,
    dead,
    ends,
    kill,
    raw,
    sleeper,
    started,
    stop,
    wait,
)

WNOHANG, WUNTRACED = 1, 2
WNOTHREAD = 0x20000000
SIGCHLD = 17
NOBODY = 0x3FFFFFFF


# ---- status ---------------------------------------------------------------------------------------------

def exit_code(sys: Any, say: Any) -> None:
    """A child that exits leaves the low eight bits of its code in the second byte of the status."""
    for code in (0, 1, 42, 255, 256, 257, -1):
        pid = sys.clone(ends, code)
        say(code, wait(sys, say, pid))


def return_is_exit(sys: Any, say: Any) -> None:
    """A program that returns from main() ends with what it returned."""
    say(wait(sys, say, sys.clone(_returns, 5)), wait(sys, say, sys.clone(_returns, 0)))


def _returns(sys: Any, code: int) -> int:
    sys.getpid()
    return code


def killed_by(sys: Any, say: Any) -> None:
    """A child that a signal kills leaves the signal's number in the low seven bits of the status."""
    for signal in (1, 2, 9, 10, 12, 13, 14, 15, 16, 26, 27, 29, 30, 34, 50, 64):
        pid = started(sys)
        sys.kill(pid, signal)
        say(signal, wait(sys, say, pid))


def killed_without_core(sys: Any, say: Any) -> None:
    """A signal that dumps core leaves no core bit in the status where the limit on cores is 1 byte."""
    sys.setrlimit(4, (1, 1))
    for signal in (3, 4, 5, 6, 7, 8, 11, 24, 25, 31):
        pid = started(sys)
        sys.kill(pid, signal)
        say(signal, wait(sys, say, pid))


def macros(sys: Any, say: Any) -> None:
    """The macros of <sys/wait.h> tell ends, kills, stops and continuations apart."""
    for word in (0x0000, 0x2A00, 0x000F, 0x008B, 0x137F, 0xFFFF):
        say(hex(word), sys.WIFEXITED(word), sys.WIFSIGNALED(word), sys.WIFSTOPPED(word),
            sys.WIFCONTINUED(word), sys.WEXITSTATUS(word), sys.WTERMSIG(word), sys.WSTOPSIG(word))


def null_status(sys: Any, say: Any) -> None:
    """A caller that gives no place for the status waits all the same."""
    pid = dead(sys, 3)
    say(raw(sys, "wait4", pid, 0, 0, 0) == pid, wait(sys, say))


def bad_status_pointer(sys: Any, say: Any) -> None:
    """A bad pointer for the status gives EFAULT when the child has been reaped already."""
    pid = dead(sys, 3)
    say(raw(sys, "wait4", pid, 8, 0, 0), wait(sys, say))


# ---- who ------------------------------------------------------------------------------------------------

def no_children(sys: Any, say: Any) -> None:
    """Waiting without a child fails with ECHILD, whatever is asked."""
    for pid in (-1, 0, 1, sys.getpid(), -sys.getpid(), NOBODY):
        say(wait(sys, say, pid), wait(sys, say, pid, WNOHANG))


def zombies_oldest_first(sys: Any, say: Any) -> None:
    """Of several zombies, waiting for any reaps the one that was born first, whichever died first."""
    gates = [Gate(sys) for _ in range(3)]
    pids = [sys.clone(after, gate, code) for code, gate in enumerate(gates)]
    for n in (1, 2, 0):
        gates[n].open(sys)
        comes_to(sys, pids[n], "Z")
    for _ in range(4):
        say(wait(sys, say))


def oldest_with_news_first(sys: Any, say: Any) -> None:
    """Of a child that stopped and one that died, the one that was born first is told of first."""
    first = started(sys)
    second = dead(sys, 1)
    third = started(sys)
    for pid in (third, first):
        stop(sys, pid)
    say(say.who(first), say.who(second), say.who(third))
    for _ in range(3):
        say(wait(sys, say, -1, WUNTRACED))
    say(wait(sys, say, -1, WUNTRACED | WNOHANG))


def one_pid(sys: Any, say: Any) -> None:
    """Waiting for one pid leaves every other zombie where it is."""
    one, two, three = (dead(sys, code) for code in (1, 2, 3))
    say(wait(sys, say, two), wait(sys, say, two), wait(sys, say, three), wait(sys, say, one))


def own_group(sys: Any, say: Any) -> None:
    """Waiting for pid 0 sees children of the caller's group only."""
    other = started(sys)
    sys.setpgid(other, 0)
    say(wait(sys, say, 0), wait(sys, say, 0, WNOHANG))
    mine = dead(sys, 4)
    say(say.who(mine), wait(sys, say, 0))
    kill(sys, other)
    say(wait(sys, say, 0), wait(sys, say, -1))


def a_group(sys: Any, say: Any) -> None:
    """Waiting for a negative pid sees children of that group only, and a zombie is still in its group."""
    pids = [started(sys) for _ in range(3)]
    for pid in pids[:2]:
        sys.setpgid(pid, pids[0])
    for pid in pids:
        kill(sys, pid)
    say(wait(sys, say, -pids[2]), [wait(sys, say, -pids[0]) for _ in range(3)], wait(sys, say, pids[2]))


def group_changes(sys: Any, say: Any) -> None:
    """A child that has changed its group is found in the new one and not in the old one."""
    pid = started(sys)
    sys.setpgid(pid, 0)
    say(wait(sys, say, 0, WNOHANG), wait(sys, say, -pid, WNOHANG))
    sys.setpgid(pid, sys.getpid())
    say(wait(sys, say, 0, WNOHANG), wait(sys, say, -pid, WNOHANG))


def not_a_grandchild(sys: Any, say: Any) -> None:
    """A grandchild is nobody to wait for as long as its parent lives."""
    told = Gate(sys)
    child = sys.clone(_has_child, told.write)
    grandchild = int(sys.read(told.read, 16))
    say(say.who(child), wait(sys, say, grandchild, WNOHANG), wait(sys, say, child, WNOHANG))


def _has_child(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.clone(sleeper)).encode())
    sleeper(sys)


def not_a_parent(sys: Any, say: Any) -> None:
    """A parent is nobody to wait for."""
    say(wait(sys, say, sys.clone(_waits_for_parent, say)))


def _waits_for_parent(sys: Any, say: Any) -> None:
    say(wait(sys, say, sys.getppid()), wait(sys, say, sys.getpid()))


def reaped_once(sys: Any, say: Any) -> None:
    """A zombie is reaped once; then its pid is nobody's."""
    pid = dead(sys, 9)
    say(attempt(sys.kill, pid, 0), wait(sys, say, pid), wait(sys, say, pid), attempt(sys.kill, pid, 0),
        attempt(sys.getpgid, pid))


def sibling_by_clone_parent(sys: Any, say: Any) -> None:
    """A child made with CLONE_PARENT is waited for by its maker's parent, not by its maker."""
    pid = sys.clone(_makes_sibling, say)
    say(wait(sys, say, pid))
    say(wait(sys, say), wait(sys, say))


def _makes_sibling(sys: Any, say: Any) -> None:
    sys.clone(ends, 6, flags=SIGCHLD | 0x8000)
    say("maker", wait(sys, say))


def minus_int_min(sys: Any, say: Any) -> None:
    """The lowest number has no negative: ESRCH, even without children."""
    say(attempt(sys.waitpid, -(1 << 31)))
    dead(sys)
    say(attempt(sys.waitpid, -(1 << 31)), wait(sys, say))


# ---- threads --------------------------------------------------------------------------------------------

def child_of_a_thread(sys: Any, say: Any) -> None:
    """A thread's child is waited for by every thread of its process."""
    made, done = Gate(sys), Gate(sys)
    sys.pthread_create(_thread_forks, made, done)
    made.wait(sys)
    say(wait(sys, say))


def _thread_forks(sys: Any, made: Gate, done: Gate) -> None:
    sys.clone(ends, 7)
    made.open(sys)
    done.wait(sys)


def wnothread(sys: Any, say: Any) -> None:
    """With __WNOTHREAD a thread waits for its own children only."""
    made, done = Gate(sys), Gate(sys)
    mine = dead(sys, 1)
    sys.pthread_create(_thread_waits, say, made, done)
    made.wait(sys)
    say("first", wait(sys, say, mine, WNOTHREAD), wait(sys, say, -1, WNOTHREAD))
    done.open(sys)
    made.wait(sys)
    say(wait(sys, say, -1))


def _thread_waits(sys: Any, say: Any, made: Gate, done: Gate) -> None:
    dead(sys, 2)
    made.open(sys)
    done.wait(sys)
    say("second", wait(sys, say, -1, WNOTHREAD), wait(sys, say, -1, WNOTHREAD))
    made.open(sys)
    done.wait(sys)
