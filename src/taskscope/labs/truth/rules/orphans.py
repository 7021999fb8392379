"""Orphans: who adopts them, and in which order.  kernel/exit.c: find_new_reaper(), reparent_leader()."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    comes_to,
    dead,
    family,
    kill,
    parent_of,
    sleeper,
    started,
    stat,
    state,
    thread_ends,
    until,
    wait,
)

SIGKILL, SIGUSR1 = 9, 10
WNOHANG = 1
PR_SET_CHILD_SUBREAPER = 36


# ---- orphans --------------------------------------------------------------------------------------------

def _is_child_of(sys: Any, pid: int, parent: int) -> bool:
    return parent_of(sys, pid) == parent


def _tells_child(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.clone(sleeper)).encode().ljust(16))
    sleeper(sys)


def orphan_goes_to_init(sys: Any, say: Any) -> None:
    """A process whose parent dies is a child of process 1 from then on, and lives on."""
    child, grandchild = family(sys)
    say(say.who(parent_of(sys, grandchild)) == say.who(child))
    kill(sys, child)
    say(say.who(parent_of(sys, grandchild)), wait(sys, say, child), wait(sys, say, grandchild), state(sys, grandchild))


def orphan_sees_new_parent(sys: Any, say: Any) -> None:
    """getppid() of an orphan is that of its new parent."""
    gate, done = Gate(sys), Gate(sys)
    child = sys.clone(_makes_asker, say, gate, done)
    asleep(sys, child)
    kill(sys, child)
    gate.open(sys)
    done.wait(sys)


def _makes_asker(sys: Any, say: Any, gate: Gate, done: Gate) -> None:
    sys.clone(_asks_parent, say, gate, done)
    sleeper(sys)


def _asks_parent(sys: Any, say: Any, gate: Gate, done: Gate) -> None:
    gate.wait(sys)
    say("orphan", say.who(sys.getppid()))
    done.open(sys)


def zombie_goes_to_init(sys: Any, say: Any) -> None:
    """A zombie whose parent dies without having reaped it is reaped by process 1."""
    told = Gate(sys)
    child = sys.clone(_tells_zombie, told.write)
    zombie = int(sys.read(told.read, 16))
    say(state(sys, zombie))
    kill(sys, child)
    comes_to(sys, zombie, "gone")
    say(state(sys, zombie), wait(sys, say, child))


def _tells_zombie(sys: Any, fd: int) -> None:
    sys.write(fd, str(dead(sys)).encode().ljust(16))
    sleeper(sys)


def subreaper_adopts(sys: Any, say: Any) -> None:
    """An orphan goes to the nearest ancestor that is a child subreaper."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child, grandchild = family(sys)
    kill(sys, child)
    say(say.who(parent_of(sys, grandchild)), wait(sys, say, child))
    kill(sys, grandchild)
    say(wait(sys, say, grandchild))


def nearest_subreaper(sys: Any, say: Any) -> None:
    """Of two subreapers among the ancestors the nearer one adopts, and after its death the other."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    told = Gate(sys)
    inner = sys.clone(_is_subreaper, told.write)
    middle = int(sys.read(told.read, 16))
    leaf = int(sys.read(told.read, 16))
    sys.kill(middle, SIGKILL)
    until(sys, _is_child_of, leaf, inner)
    say(say.who(inner), say.who(parent_of(sys, leaf)))
    kill(sys, inner)
    say(say.who(parent_of(sys, leaf)))


def _is_subreaper(sys: Any, fd: int) -> None:
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    pid = sys.clone(_tells_child, fd)
    sys.write(fd, str(pid).encode().ljust(16))
    sleeper(sys)


def subreaper_too_late(sys: Any, say: Any) -> None:
    """A subreaper adopts descendants that were there before it became one."""
    child, grandchild = family(sys)
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    kill(sys, child)
    say(say.who(parent_of(sys, grandchild)))


def no_subreaper_any_more(sys: Any, say: Any) -> None:
    """A process that is a subreaper no longer adopts nobody."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child, grandchild = family(sys)
    sys.prctl(PR_SET_CHILD_SUBREAPER, 0)
    kill(sys, child)
    say(say.who(parent_of(sys, grandchild)))


def adopted_come_last(sys: Any, say: Any) -> None:
    """Adopted children are reaped after those that a process had before, oldest first."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child, grandchild = family(sys)
    own = started(sys)
    kill(sys, child)
    for pid in (grandchild, own):
        kill(sys, pid)
    say(say.who(child), say.who(grandchild), say.who(own), [wait(sys, say) for _ in range(4)])


def zombie_goes_to_subreaper(sys: Any, say: Any) -> None:
    """A zombie whose parent dies can be reaped by the subreaper, which is told by SIGCHLD."""
    told = Gate(sys)
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = sys.clone(_tells_zombie, told.write)
    zombie = int(sys.read(told.read, 16))
    say(wait(sys, say, zombie, WNOHANG))
    kill(sys, child)
    say(wait(sys, say, child), wait(sys, say, zombie))


def adopted_sends_sigchld(sys: Any, say: Any) -> None:
    """A child with another exit signal sends SIGCHLD once it has been adopted."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    told = Gate(sys)
    child = sys.clone(_tells_odd_child, told.write)
    grandchild = int(sys.read(told.read, 16))
    say(stat(sys, grandchild)[37])
    kill(sys, child)
    say(stat(sys, grandchild)[37])
    kill(sys, grandchild)
    say(wait(sys, say, grandchild))


def _tells_odd_child(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.clone(sleeper, flags=SIGUSR1)).encode().ljust(16))
    sleeper(sys)


def thread_adopts(sys: Any, say: Any) -> None:
    """Children of a thread that ends stay children of its process."""
    told = Gate(sys)
    tid = sys.pthread_create(_thread_tells_child, told.write)
    pid = int(sys.read(told.read, 16))
    thread_ends(sys, tid)
    say(say.who(parent_of(sys, pid)))
    kill(sys, pid)
    say(wait(sys, say, pid, 0x20000000))


def _thread_tells_child(sys: Any, fd: int) -> None:
    sys.write(fd, str(started(sys)).encode().ljust(16))
