"""clone(2) and vfork(2): what is shared, which flags contradict, who waits.  kernel/fork.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import (
    Gate,
    attempt,
    comes_to,
    dead,
    ends,
    execute,
    field,
    refused,
    sleeper,
    started,
    stat,
    wait,
    word,
)

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK = 0x100, 0x200, 0x400, 0x800, 0x4000
CLONE_PARENT, CLONE_THREAD, CLONE_NEWNS = 0x8000, 0x10000, 0x20000
CLONE_PARENT_SETTID, CLONE_CHILD_SETTID = 0x100000, 0x1000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGURG = 9, 10, 15, 17, 23
WALL = 0x40000000
WNOHANG = 1


# ---- descriptors ----------------------------------------------------------------------------------------

def copies_descriptors(sys: Any, say: Any) -> None:
    """A child has the descriptors of its parent; what it closes and opens is its own."""
    read, write = sys.pipe()
    say(wait(sys, say, sys.clone(_closes, say, read, write)))
    say("parent", attempt(sys.fcntl, read, 1), attempt(sys.fcntl, write, 1), attempt(sys.fcntl, 50, 1))


def _closes(sys: Any, say: Any, read: int, write: int) -> None:
    say("child", attempt(sys.fcntl, read, 1), attempt(sys.fcntl, write, 1))
    sys.dup2(read, 50)
    sys.close(read)
    say("child", attempt(sys.fcntl, read, 1))


def shares_descriptors(sys: Any, say: Any) -> None:
    """With CLONE_FILES what a child closes and opens, it closes and opens for both."""
    read, write = sys.pipe()
    say(wait(sys, say, sys.clone(_closes, say, read, write, flags=SIGCHLD | CLONE_FILES)))
    say("parent", attempt(sys.fcntl, read, 1), attempt(sys.fcntl, write, 1), attempt(sys.fcntl, 50, 1))


def shares_offset(sys: Any, say: Any) -> None:
    """A descriptor that was inherited has one offset with the parent's."""
    fd = sys.open("/mnt/offset", 0o102)
    say(wait(sys, say, sys.clone(_writes, fd, b"child ")))
    sys.write(fd, b"parent")
    sys.lseek(fd, 0)
    say(sys.read(fd, 100))
    say(wait(sys, say, sys.clone(_seeks, fd)), sys.read(fd, 100))


def _writes(sys: Any, fd: int, data: bytes) -> None:
    sys.write(fd, data)


def _seeks(sys: Any, fd: int) -> None:
    sys.lseek(fd, 3)


def shares_status_flags(sys: Any, say: Any) -> None:
    """O_NONBLOCK belongs to the open file: a child that sets it sets it for its parent."""
    read, _ = sys.pipe()
    say(oct(sys.fcntl(read, 3)))
    say(wait(sys, say, sys.clone(_nonblocks, read)), oct(sys.fcntl(read, 3)), attempt(sys.read, read, 1))


def _nonblocks(sys: Any, fd: int) -> None:
    sys.fcntl(fd, 4, 0o4000)


def cloexec_survives_fork(sys: Any, say: Any) -> None:
    """FD_CLOEXEC closes nothing at fork(), and a child that clears it clears it for itself."""
    read, _ = sys.pipe2(0o2000000)
    say(wait(sys, say, sys.clone(_clears_cloexec, say, read)), sys.fcntl(read, 1))


def _clears_cloexec(sys: Any, say: Any, fd: int) -> None:
    say("child", sys.fcntl(fd, 1), sys.fcntl(fd, 2, 0), sys.fcntl(fd, 1))


# ---- clone's other flags --------------------------------------------------------------------------------

def clone_parent(sys: Any, say: Any) -> None:
    """With CLONE_PARENT the child's parent is its maker's parent."""
    say(wait(sys, say, sys.clone(_clones_sibling, say)))
    say(wait(sys, say))


def _clones_sibling(sys: Any, say: Any) -> None:
    pid = sys.clone(_says_parent, say, sys.getppid(), flags=SIGCHLD | CLONE_PARENT)
    comes_to(sys, pid, "Z")


def _says_parent(sys: Any, say: Any, maker_parent: int) -> None:
    say("sibling", sys.getppid() == maker_parent, say.who(sys.getppid()))


def clone_parent_exit_signal(sys: Any, say: Any) -> None:
    """With CLONE_PARENT the exit signal is that of its maker, not the one that was asked."""
    sys.sigaction(SIGURG, sys.SIG_IGN)
    pid = sys.clone(_clones_with, SIGUSR1, flags=SIGURG)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, -1, WALL), wait(sys, say), wait(sys, say, -1, WALL))


def _clones_with(sys: Any, signal: int) -> None:
    pid = sys.clone(sleeper, flags=signal | CLONE_PARENT)
    comes_to(sys, pid, "S")
    code = int(stat(sys, pid)[37])
    sys.kill(pid, SIGKILL)
    comes_to(sys, pid, "Z")
    sys.exit(code)


def parent_settid(sys: Any, say: Any) -> None:
    """CLONE_PARENT_SETTID writes the child's pid where the parent sees it."""
    at = word(sys)
    pid = sys.clone(ends, 0, flags=SIGCHLD | CLONE_PARENT_SETTID, parent_tid=at)
    say(at.get() == pid, wait(sys, say))


def child_settid(sys: Any, say: Any) -> None:
    """CLONE_CHILD_SETTID writes the child's pid in the child's memory, not in the parent's."""
    at = word(sys)
    at.put(7)
    pid = sys.clone(_says_word, say, at, flags=SIGCHLD | CLONE_CHILD_SETTID, child_tid=at)
    say(wait(sys, say, pid), at.get())


def _says_word(sys: Any, say: Any, at: Any) -> None:
    say("child", at.get() == sys.getpid())


def settid_is_not_asked(sys: Any, say: Any) -> None:
    """Without the SETTID flags nothing is written, pointers or not."""
    one, two = word(sys, 1), word(sys, 2)
    one.put(1)
    two.put(2)
    say(wait(sys, say, sys.clone(ends, 0, parent_tid=one, child_tid=two)), one.get(), two.get())


def exit_signal(sys: Any, say: Any) -> None:
    """The low byte of clone's flags is the signal that the parent gets when the child ends."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, info.si_code, say.who(info.si_pid), info.si_status)

    for signal in (SIGUSR1, SIGURG, SIGCHLD):
        sys.sigaction(signal, handler)
        pid = dead(sys, 3, flags=signal)
        say(signal, stat(sys, pid)[37], wait(sys, say, pid, WALL))


def no_exit_signal(sys: Any, say: Any) -> None:
    """A child whose exit signal is 0 or no signal sends none, and is a zombie all the same."""
    sys.sigprocmask(2, (1 << 64) - 1)
    for signal in (0, 65, 255):
        pid = dead(sys, 4, flags=signal)
        say(signal, hex(sys.sigpending()), wait(sys, say, pid, WALL))


def deadly_exit_signal(sys: Any, say: Any) -> None:
    """An exit signal does to the parent what its action says: SIGTERM kills it."""
    pid = sys.clone(_has_deadly_child)
    say(wait(sys, say, pid))


def _has_deadly_child(sys: Any) -> None:
    sys.clone(ends, 0, flags=SIGTERM)
    sleeper(sys)


def contradictions(sys: Any, say: Any) -> None:
    """Flags that contradict each other give EINVAL."""
    for flags in (
        CLONE_SIGHAND, CLONE_THREAD, CLONE_THREAD | CLONE_SIGHAND, CLONE_THREAD | CLONE_VM, CLONE_NEWNS | CLONE_FS,
        CLONE_NEWUSER | CLONE_FS, CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
    ):
        say(hex(flags), refused(sys, flags | SIGCHLD))


def refused_makes_nobody(sys: Any, say: Any) -> None:
    """A clone that is refused leaves no child and uses up no pid that anybody sees."""
    say(refused(sys, CLONE_THREAD | SIGCHLD), wait(sys, say, -1, WALL))


@root
def too_many_processes(sys: Any, say: Any) -> None:
    """Where RLIMIT_NPROC is reached fork() gives EAGAIN, but not to root."""
    sys.setrlimit(6, (0, 0))
    say(wait(sys, say, sys.clone(ends, 1)))
    say(wait(sys, say, sys.clone(_forks_as, say, 54321)))


def _forks_as(sys: Any, say: Any, uid: int) -> None:
    sys.setuid(uid)
    say(attempt(sys.clone, ends, 0))


# ---- vfork ----------------------------------------------------------------------------------------------

def vfork_waits_for_exit(sys: Any, say: Any) -> None:
    """vfork() returns in the parent after the child has ended."""
    pid = sys.clone(_ends_slowly, say, flags=SIGCHLD | CLONE_VFORK)
    say("parent", wait(sys, say, pid))


def _ends_slowly(sys: Any, say: Any) -> None:
    sys.nanosleep(2_000_000)
    say("child")
    sys.exit(4)


def vfork_waits_for_exec(sys: Any, say: Any) -> None:
    """vfork() returns in the parent when the child has executed a program, which goes on living."""
    gate = Gate(sys)
    pid = sys.clone(_executes_slowly, say, gate.read, flags=SIGCHLD | CLONE_VFORK)
    say("parent", wait(sys, say, pid, WNOHANG))
    gate.open(sys)
    say(wait(sys, say, pid))


def _executes_slowly(sys: Any, say: Any, fd: int) -> None:
    sys.nanosleep(2_000_000)
    say("child")
    execute(sys, _waits_for, str(fd))


def _waits_for(sys: Any, say: Any, fd: str) -> int:
    sys.read(int(fd), 1)
    say("program")
    return 6


def vfork_waits_for_death(sys: Any, say: Any) -> None:
    """vfork() returns in the parent when the child is killed."""
    pid = sys.clone(_kills_itself, say, flags=SIGCHLD | CLONE_VFORK)
    say("parent", wait(sys, say, pid))


def _kills_itself(sys: Any, say: Any) -> None:
    say("child")
    sys.kill(sys.getpid(), SIGKILL)


def vfork_parent_takes_no_signal(sys: Any, say: Any) -> None:
    """A signal for a parent that waits in vfork() is handled when vfork() returns."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys, info
        say("handler", signal)

    sys.sigaction(SIGUSR1, handler)
    pid = sys.clone(_signals_parent, say, sys.getpid(), flags=SIGCHLD | CLONE_VFORK)
    say("parent", wait(sys, say, pid))


def _signals_parent(sys: Any, say: Any, parent: int) -> None:
    comes_to(sys, parent, "D")
    sys.kill(parent, SIGUSR1)
    sys.nanosleep(1_000_000)
    say("child", stat(sys, parent)[2])


def vfork_parent_can_be_killed(sys: Any, say: Any) -> None:
    """A parent that waits in vfork() is killed by SIGKILL while its child lives."""
    told = Gate(sys)
    parent = sys.clone(_vforks_sleeper, told)
    told.wait(sys)
    comes_to(sys, parent, "D")
    sys.kill(parent, SIGKILL)
    say(wait(sys, say, parent))


def _vforks_sleeper(sys: Any, told: Gate) -> None:
    sys.clone(_tells_and_sleeps, told, flags=SIGCHLD | CLONE_VFORK)


def _tells_and_sleeps(sys: Any, told: Gate) -> None:
    told.open(sys)
    sleeper(sys)


# ---- threads --------------------------------------------------------------------------------------------

def only_the_caller_is_copied(sys: Any, say: Any) -> None:
    """A child of a process with threads has one thread, the copy of the one that forked."""
    gate = Gate(sys)
    sys.pthread_create(_passes, gate)
    say(field(sys, sys.getpid(), "Threads"))
    pid = started(sys)
    say(field(sys, pid, "Threads"))


def _passes(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


def parent_of_a_threads_child(sys: Any, say: Any) -> None:
    """The parent of a thread's child is the process."""
    made, done = Gate(sys), Gate(sys)
    sys.pthread_create(_thread_forks, say, made, done)
    made.wait(sys)
    say(wait(sys, say))


def _thread_forks(sys: Any, say: Any, made: Gate, done: Gate) -> None:
    comes_to(sys, sys.clone(_says_parent, say, sys.getpid()), "Z")
    made.open(sys)
    done.wait(sys)
