"""Pid namespaces: numbers, and how to get into one.  kernel/pid_namespace.c, pid_namespaces(7)."""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import differs, root
from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    ends,
    field,
    refused,
    sleeper,
    started,
    status,
    wait,
)

NEWPID: Final = 0x2000_0000
PARENT, THREAD, SIGHAND, VM, FS, FILES = 0x8000, 0x1_0000, 0x800, 0x100, 0x200, 0x400
SIGHUP, SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 1, 9, 10, 15, 17, 18, 19
WUNTRACED, WNOHANG, WEXITED = 2, 1, 4
_CLONE3: Final = "49cb2fc42ce4, v5.5, fork: extend clone3() to support setting a PID"
_PIDFD: Final = "303cc571d107, v5.8, nsproxy: attach to namespaces via pidfds; pidfds are of v5.3"


def _init(sys: Any, fn: Any, *args: Any) -> int:
    """Make a process that is the init of a new pid namespace."""
    return int(sys.clone(fn, *args, flags=NEWPID | SIGCHLD))


def _init_sleeper(sys: Any) -> int:
    pid = _init(sys, sleeper)
    asleep(sys, pid)
    return pid


# ---- numbers ---------------------------------------------------------------------------------------------------

def _says_ids(sys: Any, say: Any) -> None:
    say(sys.getpid(), sys.gettid(), sys.getppid(), sys.getpgid(0), sys.getsid(0))


def number_one(sys: Any, say: Any) -> None:
    """The first process of a namespace is 1 there; parent, group and session outside of it are 0."""
    pid = _init(sys, _says_ids, say)
    say(pid > 1, wait(sys, say, pid))


def _has_children(sys: Any, say: Any) -> None:
    for code in (3, 4):
        pid = sys.clone(_says_parent_and_ends, say, code)
        got, word = sys.waitpid(-1)
        say("made", pid, "waited", got, status(word))


def _says_parent_and_ends(sys: Any, say: Any, code: int) -> int:
    say(sys.getpid(), sys.getppid())
    return code


def numbers_inside(sys: Any, say: Any) -> None:
    """Inside, fork() and wait() return the numbers of the inside."""
    say(wait(sys, say, _init(sys, _has_children, say)))


def _says_group(sys: Any, say: Any) -> None:
    sys.setpgid(0, 0)
    say(sys.getpgid(0), attempt(sys.setsid))
    pid = sys.clone(_begins_session, say)
    say(status(sys.waitpid(pid)[1]), attempt(sys.getsid, 1), attempt(sys.getpgid, 2))


def _begins_session(sys: Any, say: Any) -> None:
    say(sys.getpgid(0), sys.getsid(0), sys.setsid(), sys.getpgid(0), sys.getsid(0))


def groups_inside(sys: Any, say: Any) -> None:
    """Groups and sessions that begin inside have the numbers of the inside."""
    say(wait(sys, say, _init(sys, _says_group, say)))


def nobody_outside(sys: Any, say: Any) -> None:
    """Inside, the number of a process outside stands for nobody."""
    other = started(sys)
    say(wait(sys, say, _init(sys, _looks_for, say, other)))


def _looks_for(sys: Any, say: Any, other: int) -> None:
    say(attempt(sys.kill, other, 0), attempt(sys.getpgid, other), attempt(sys.getsid, other),
        attempt(sys.waitpid, other), attempt(sys.setpgid, 0, other), attempt(sys.kill, -other, 0),
        attempt(sys.getpriority, 0, other))


def two_sides(sys: Any, say: Any) -> None:
    """Outside, a process inside has a number of its own; /proc/PID/status has one for each level (NSpid)."""
    told = Gate(sys)
    pid = _init(sys, _nests, told.write)
    sys.read(told.read, 1)
    numbers = field(sys, pid, "NSpid").split()
    say(numbers[-1], int(numbers[0]) == pid or numbers.index(str(pid)) >= 0, field(sys, pid, "NStgid") == field(
        sys, pid, "NSpid"))
    say(field(sys, pid, "NSpgid").split()[-1], field(sys, pid, "NSsid").split()[-1])
    child = int(sys.slurp(f"/proc/{pid}/task/{pid}/children").split()[0])
    say(field(sys, child, "NSpid").split()[-2:], len(field(sys, child, "NSpid").split()) - len(numbers))
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def _nests(sys: Any, fd: int) -> None:
    sys.clone(ends, 0)
    sys.wait()
    asleep_ = _init(sys, sleeper)
    del asleep_
    sys.write(fd, b"r")
    sleeper(sys)


def three_levels(sys: Any, say: Any) -> None:
    """Namespaces nest, and each level has its own numbers."""
    say(wait(sys, say, _init(sys, _deeper, say, 3)))


def _deeper(sys: Any, say: Any, levels: int) -> int:
    sys.clone(ends, 0)
    sys.wait()
    say(levels, sys.getpid(), sys.getppid())
    if levels:
        pid = _init(sys, _deeper, say, levels - 1)
        say(levels, "made", pid, status(sys.waitpid(pid)[1]))
    return levels


# ---- how to get there ------------------------------------------------------------------------------------------

def unshare_is_for_children(sys: Any, say: Any) -> None:
    """unshare(CLONE_NEWPID) leaves the caller where it is; its children live in the new namespace."""
    say(wait(sys, say, sys.clone(_unshares, say)))


def _unshares(sys: Any, say: Any) -> None:
    before = sys.getpid()
    sys.unshare(NEWPID)
    say(sys.getpid() == before, sys.getppid() > 0)
    gate = Gate(sys)
    first = sys.clone(_says_ids_and_waits, say, gate)
    asleep(sys, first)
    say(wait(sys, say, sys.clone(_says_ids_as, say)))
    gate.open(sys)
    say(wait(sys, say, first))


def _says_ids_and_waits(sys: Any, say: Any, gate: Gate) -> None:
    say(sys.getpid(), sys.getppid())
    gate.wait(sys)


def _says_ids_as(sys: Any, say: Any) -> None:
    say(sys.getpid(), sys.getppid(), sys.getsid(0))


def unshare_once(sys: Any, say: Any) -> None:
    """Who has unshared cannot unshare again, as its children live elsewhere; the first child can."""
    say(wait(sys, say, sys.clone(_unshares_twice, say)))


def _unshares_twice(sys: Any, say: Any) -> None:
    say(attempt(sys.unshare, NEWPID), attempt(sys.unshare, NEWPID), refused(sys, NEWPID | SIGCHLD))
    say(wait(sys, say, sys.clone(_unshares_below, say)))


def _unshares_below(sys: Any, say: Any) -> None:
    say(sys.getpid(), attempt(sys.unshare, NEWPID))


def no_thread_there(sys: Any, say: Any) -> None:
    """A thread lives where its process does: CLONE_THREAD with CLONE_NEWPID, or after unshare(), is EINVAL."""
    thread = THREAD | SIGHAND | VM
    say(refused(sys, thread | NEWPID))
    say(wait(sys, say, sys.clone(_unshares_and_threads, say, thread)))


def _unshares_and_threads(sys: Any, say: Any, flags: int) -> None:
    sys.unshare(NEWPID)
    say(refused(sys, flags))


def siblings_of_init(sys: Any, say: Any) -> None:
    """The init of a namespace cannot make siblings (CLONE_PARENT)."""
    say(wait(sys, say, _init(sys, _makes_sibling, say)))


def _makes_sibling(sys: Any, say: Any) -> None:
    say(refused(sys, PARENT | SIGCHLD), refused(sys, PARENT | NEWPID | SIGCHLD))


@root
def needs_privilege(sys: Any, say: Any) -> None:
    """Without CAP_SYS_ADMIN clone() and unshare() are EPERM."""
    say(wait(sys, say, sys.clone(_tries_as, say, 4242)))


def _tries_as(sys: Any, say: Any, uid: int) -> None:
    sys.setuid(uid)
    say(refused(sys, NEWPID | SIGCHLD), attempt(sys.unshare, NEWPID))


@differs(_PIDFD, "4.19-arm")
def by_pidfd(sys: Any, say: Any) -> None:
    """setns() takes a pidfd and flags: children are born into that process's namespace, and stay children."""
    pid = _init_sleeper(sys)
    say(wait(sys, say, sys.clone(_enters, say, sys.pidfd_open(pid), NEWPID)))
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def by_nsfs(sys: Any, say: Any) -> None:
    """setns() takes a file of /proc/PID/ns, with its kind or with 0."""
    pid = _init_sleeper(sys)
    for flags in (0, NEWPID):
        say(wait(sys, say, sys.clone(_enters, say, sys.open(f"/proc/{pid}/ns/pid"), flags)))


def _enters(sys: Any, say: Any, fd: int, flags: int) -> None:
    say(attempt(sys.setns, fd, flags), sys.getpid() > 1)
    for code in (5, 6):
        say(wait(sys, say, sys.clone(_says_parent_and_ends, say, code)))


@differs(_PIDFD, "4.19-arm")
def wrong_ways(sys: Any, say: Any) -> None:
    """setns() is EBADF for no descriptor, EINVAL for one of another kind or flags that are not those of the file."""
    pid = _init_sleeper(sys)
    file, pidfd, pipe = sys.open(f"/proc/{pid}/ns/pid"), sys.pidfd_open(pid), sys.pipe()[0]
    say(attempt(sys.setns, 99, NEWPID), attempt(sys.setns, pipe, NEWPID), attempt(sys.setns, pipe, 0))
    say(attempt(sys.setns, file, VM), attempt(sys.setns, file, 0x2_0000), attempt(sys.setns, pidfd, 0),
        attempt(sys.setns, pidfd, VM), attempt(sys.setns, pidfd, NEWPID | VM))


def never_upwards(sys: Any, say: Any) -> None:
    """setns() leads down or nowhere: to a namespace above, or beside, it is EINVAL."""
    beside = _init_sleeper(sys)
    up, side = sys.open("/proc/self/ns/pid"), sys.open(f"/proc/{beside}/ns/pid")
    say(wait(sys, say, _init(sys, _tries_to_leave, say, up, side)))


def _tries_to_leave(sys: Any, say: Any, up: int, side: int) -> None:
    say(attempt(sys.setns, up, NEWPID), attempt(sys.setns, side, NEWPID))


def back_home(sys: Any, say: Any) -> None:
    """Who has unshared, or entered, can let its children be born at home again."""
    home = sys.open("/proc/self/ns/pid")
    say(wait(sys, say, sys.clone(_goes_and_returns, say, home)))


def _goes_and_returns(sys: Any, say: Any, home: int) -> None:
    sys.unshare(NEWPID)
    say(attempt(sys.setns, home, NEWPID), wait(sys, say, sys.clone(_has_parent, say, sys.getpid())))
    say(attempt(sys.unshare, NEWPID))


def _has_parent(sys: Any, say: Any, parent: int) -> None:
    say(sys.getppid() == parent)


@differs(_CLONE3, "4.19-arm")
def chosen_numbers(sys: Any, say: Any) -> None:
    """clone3() can choose the number in the new task's namespace, and in those above it."""
    first = sys.clone3(ends, 3, set_tid=(4000,))
    say(first, wait(sys, say, first))
    say(wait(sys, say, _init(sys, _chooses, say)))


def _chooses(sys: Any, say: Any) -> None:
    pid = sys.clone3(sleeper, set_tid=(77, 4100))
    say(pid, attempt(sys.clone3, ends, 0, set_tid=(77,)), attempt(sys.clone3, ends, 0, set_tid=(78, 4100)))
    say(attempt(sys.clone3, ends, 0, set_tid=(0,)), attempt(sys.clone3, ends, 0, set_tid=(-1,)),
        attempt(sys.clone3, ends, 0, set_tid=(1,)), attempt(sys.clone3, ends, 0, set_tid=(1,) * 33))
    say(sys.clone3(ends, 0, set_tid=(50,)), sys.clone(ends, 0))


@differs(_CLONE3, "4.19-arm")
def first_number(sys: Any, say: Any) -> None:
    """The first process of a namespace must be number 1; what is chosen is not what the next one follows."""
    say(attempt(sys.clone3, ends, 0, flags=NEWPID, set_tid=(5,)))
    say(wait(sys, say, sys.clone3(_has_two, say, flags=NEWPID, set_tid=(1,))))


def _has_two(sys: Any, say: Any) -> None:
    say(sys.getpid(), sys.clone3(ends, 0, set_tid=(30,)), sys.clone(ends, 0))


@root
@differs(_CLONE3, "4.19-arm")
def choosing_needs_privilege(sys: Any, say: Any) -> None:
    """Choosing a number needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE."""
    say(wait(sys, say, sys.clone(_chooses_as, say, 4242)))


def _chooses_as(sys: Any, say: Any, uid: int) -> None:
    sys.setuid(uid)
    say(attempt(sys.clone3, ends, 0, set_tid=(4200,)), attempt(sys.clone3, ends, 0, set_tid=(0,)))


@root
def entering_needs_privilege(sys: Any, say: Any) -> None:
    """setns() without CAP_SYS_ADMIN is EPERM."""
    pid = _init_sleeper(sys)
    say(wait(sys, say, sys.clone(_enters_as, say, sys.open(f"/proc/{pid}/ns/pid"), 4242)))


def _enters_as(sys: Any, say: Any, fd: int, uid: int) -> None:
    sys.setuid(uid)
    say(attempt(sys.setns, fd, NEWPID))
