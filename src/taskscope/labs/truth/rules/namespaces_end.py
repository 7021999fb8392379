"""Orphans in a pid namespace, and what the death of its init ends.  kernel/pid_namespace.c, pid_namespaces(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    ends,
    refused,
    sleeper,
    status,
    wait,
)
from taskscope.labs.truth.rules.namespaces import (
    NEWPID,
    SIGCHLD,
    SIGHAND,
    SIGKILL,
    SIGTERM,
    THREAD,
    VM,
    WEXITED,
    _init,
    _init_sleeper,
)

SUBREAPER, PDEATHSIG = 36, 1


def orphans_inside(sys: Any, say: Any) -> None:
    """An orphan goes to the init of its namespace, which waits for it."""
    say(wait(sys, say, _init(sys, _adopts, say)))


def _adopts(sys: Any, say: Any) -> int:
    gate = Gate(sys)
    middle = sys.clone(_leaves_orphan, say, gate)
    say(status(sys.waitpid(middle)[1]))
    gate.open(sys)
    got, word = sys.waitpid(-1)
    say(got, status(word), attempt(sys.waitpid, -1))
    return 2


def _leaves_orphan(sys: Any, say: Any, gate: Gate) -> int:
    sys.clone(_waits_and_says_parent, say, gate)
    return 1


def _waits_and_says_parent(sys: Any, say: Any, gate: Gate) -> int:
    gate.wait(sys)
    say(sys.getpid(), sys.getppid())
    return 9


def subreaper_outside(sys: Any, say: Any) -> None:
    """A subreaper outside adopts nobody from inside."""
    sys.prctl(SUBREAPER, 1, 0, 0, 0)
    say(wait(sys, say, _init(sys, _adopts, say)), wait(sys, say))


def subreaper_inside(sys: Any, say: Any) -> None:
    """A subreaper inside adopts its descendants, and is not passed on across the border."""
    say(wait(sys, say, _init(sys, _reaps_inside, say)))


def _reaps_inside(sys: Any, say: Any) -> None:
    pid = sys.clone(_is_subreaper, say)
    say(status(sys.waitpid(pid)[1]))


def _is_subreaper(sys: Any, say: Any) -> None:
    sys.prctl(SUBREAPER, 1, 0, 0, 0)
    gate = Gate(sys)
    middle = sys.clone(_leaves_orphan, say, gate)
    sys.waitpid(middle)
    gate.open(sys)
    say(status(sys.waitpid(-1)[1]))


def end_of_all(sys: Any, say: Any) -> None:
    """When init ends, everybody inside is killed and gone before its parent hears of it, whatever they block."""
    read, write = sys.pipe()
    pid = _init(sys, _ends_with_others)
    sys.close(write)
    say(wait(sys, say, pid), sys.read(read, 100))


def _ends_with_others(sys: Any) -> int:
    told = Gate(sys)
    for _ in range(3):
        sys.clone(_blocks_all_and_sleeps, told)
        told.wait(sys)
    return 5


def _blocks_all_and_sleeps(sys: Any, told: Gate) -> None:
    sys.sigprocmask(2, (1 << 64) - 1)
    sys.clone(sleeper)
    told.open(sys)
    sleeper(sys)


def killed_init(sys: Any, say: Any) -> None:
    """An init that is killed takes nested namespaces with it."""
    read, write = sys.pipe()
    told = Gate(sys)
    pid = _init(sys, _has_nested, told)
    told.wait(sys)
    sys.close(write)
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid), sys.read(read, 100))


def _has_nested(sys: Any, told: Gate) -> None:
    sys.clone(sleeper)
    _init(sys, _opens_and_sleeps, told)
    sleeper(sys)


def _opens_and_sleeps(sys: Any, told: Gate) -> None:
    sys.clone(sleeper)
    told.open(sys)
    sleeper(sys)


def zombies_of_init(sys: Any, say: Any) -> None:
    """Zombies that init has not waited for, and children that ignore it, do not hold up its end."""
    say(wait(sys, say, _init(sys, _leaves_zombies)))


def _leaves_zombies(sys: Any) -> int:
    for code in (1, 2):
        sys.clone(ends, code)
    pid = sys.clone(ends, 3)
    sys.waitid(1, pid, WEXITED | 0x0100_0000)
    return 8


def no_more_births(sys: Any, say: Any) -> None:
    """After the end of its init nobody is born into a namespace: fork() is ENOMEM for who had unshared."""
    say(wait(sys, say, sys.clone(_forks_after_the_end, say)))


def _forks_after_the_end(sys: Any, say: Any) -> None:
    sys.unshare(NEWPID)
    say(wait(sys, say, sys.clone(ends, 1)))
    say(refused(sys, SIGCHLD), refused(sys, SIGCHLD), refused(sys, THREAD | SIGHAND | VM))


def entered_and_killed(sys: Any, say: Any) -> None:
    """Who was born inside of a parent outside is killed with the rest, and that parent waits for it."""
    pid = _init_sleeper(sys)
    fd = sys.open(f"/proc/{pid}/ns/pid")
    told = Gate(sys)
    outer = sys.clone(_has_child_inside, say, fd, told)
    told.wait(sys)
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, outer))
    say(wait(sys, say, pid))


def _has_child_inside(sys: Any, say: Any, fd: int, told: Gate) -> None:
    sys.setns(fd, NEWPID)
    pid = sys.clone(sleeper)
    asleep(sys, pid)
    told.open(sys)
    say(wait(sys, say, pid), refused(sys, SIGCHLD))


def dead_namespace_can_be_entered(sys: Any, say: Any) -> None:
    """A namespace whose init has ended can be entered, and then nobody is born there."""
    pid = _init_sleeper(sys)
    file = sys.open(f"/proc/{pid}/ns/pid")
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))
    say(wait(sys, say, sys.clone(_enters_dead, say, file)))


def _enters_dead(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.setns, fd, NEWPID), refused(sys, SIGCHLD))


def init_with_threads(sys: Any, say: Any) -> None:
    """The namespace lasts as long as a thread of its init does."""
    say(wait(sys, say, _init(sys, _first_thread_ends, say)))


def _first_thread_ends(sys: Any, say: Any) -> None:
    gate = Gate(sys)
    sys.pthread_create(_goes_on, say, gate)
    sys.clone(_opens_when_thread_ends, gate)
    sys.pthread_exit(0)


def _opens_when_thread_ends(sys: Any, gate: Gate) -> int:
    sys.nanosleep(5_000_000)
    gate.open(sys)
    return 3


def _goes_on(sys: Any, say: Any, gate: Gate) -> None:
    gate.wait(sys)
    got, word = sys.waitpid(-1)
    say(got > 1, status(word), sys.getpid())
    say(wait(sys, say, sys.clone(ends, 4)))
    sys.exit(6)


def death_signal_inside(sys: Any, say: Any) -> None:
    """PR_SET_PDEATHSIG of a child of init works inside as anywhere; the sender has its number of the inside."""
    say(wait(sys, say, _init(sys, _orphans_with_death_signal, say)))


def _orphans_with_death_signal(sys: Any, say: Any) -> None:
    made = Gate(sys)
    middle = sys.clone(_makes_and_ends, made)
    say(status(sys.waitpid(middle)[1]))
    got, word = sys.waitpid(-1)
    say(got, status(word))


def _makes_and_ends(sys: Any, made: Gate) -> None:
    sys.clone(_asks_for_death, made)
    made.wait(sys)


def _asks_for_death(sys: Any, made: Gate) -> None:
    sys.prctl(PDEATHSIG, SIGTERM)
    made.open(sys)
    sleeper(sys)
