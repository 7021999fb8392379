"""fork(2): what a child has of its parent, and what it does not have.  kernel/fork.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import attempt, dead, sig, started, stat, wait

CLONE_FS = 0x200
SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD = 10, 12, 15, 17
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_NAME = 1, 2, 15


# ---- returns twice --------------------------------------------------------------------------------------

def returns_twice(sys: Any, say: Any) -> None:
    """fork() returns 0 in the child and the child's pid in the parent."""
    parent = sys.getpid()
    pid = sys.fork()
    if pid == 0:
        say("child", sys.getppid() == parent, sys.gettid() == sys.getpid())
        sys.exit(5)
    say(wait(sys, say, pid), pid == parent)


def pids_ascend(sys: Any, say: Any) -> None:
    """Each new process has a higher pid than the one before, also when that is gone."""
    pids = []
    for _ in range(4):
        pids.append(dead(sys))
        sys.wait()
    say([say.who(pid) for pid in pids], pids == sorted(set(pids)))


def three_generations(sys: Any, say: Any) -> None:
    """Parent and grandparent of a process are who made them."""
    say(say.who(sys.getpid()), say.who(sys.getppid()))
    if sys.fork() == 0:
        say(say.who(sys.getpid()), say.who(sys.getppid()))
        if sys.fork() == 0:
            say(say.who(sys.getpid()), say.who(sys.getppid()))
            sys.exit(0)
        sys.wait()
        sys.exit(0)
    sys.wait()


def twice_in_a_row(sys: Any, say: Any) -> None:
    """Two forks in a row make three more processes."""
    main = sys.getpid()
    first = sys.fork()
    second = sys.fork()
    if sys.getpid() == main:
        say(wait(sys, say, first), wait(sys, say, second))
        return
    # The first child reaps its own child; who is a second child has none.
    found = attempt(sys.wait)
    sys.exit(3 if found == "ECHILD" else 4 + (found[1] >> 8))


# ---- what a child has -----------------------------------------------------------------------------------

def inherits_group_and_session(sys: Any, say: Any) -> None:
    """A child is in its parent's process group and session."""
    pid = started(sys)
    say(sys.getpgid(pid) == sys.getpgid(0), sys.getsid(pid) == sys.getsid(0))


def inherits_umask_and_directory(sys: Any, say: Any) -> None:
    """A child begins with its parent's umask and directory, and changes only its own."""
    sys.umask(0o77)
    sys.chdir("/mnt")
    say(wait(sys, say, sys.clone(_changes_fs, say)))
    say("parent", oct(sys.umask(0o22)), sys.getcwd())


def _changes_fs(sys: Any, say: Any) -> None:
    say("child", oct(sys.umask(0o11)), sys.getcwd())
    sys.chdir("/")


def shares_fs(sys: Any, say: Any) -> None:
    """With CLONE_FS a child's umask and directory are its parent's too."""
    say(wait(sys, say, sys.clone(_changes_fs, say, flags=SIGCHLD | CLONE_FS)))
    say("parent", oct(sys.umask(0o22)), sys.getcwd())
    sys.chdir("/mnt")
    say(wait(sys, say, sys.clone(_changes_fs, say, flags=SIGCHLD | CLONE_FS)))
    say("parent", oct(sys.umask(0o22)), sys.getcwd())


def inherits_name(sys: Any, say: Any) -> None:
    """A child has its parent's name, and a new one is its own."""
    sys.prctl(PR_SET_NAME, b"parent name")
    pid = sys.clone(_renames, say)
    say(wait(sys, say, pid), _name(sys))


def _name(sys: Any) -> str:
    return stat(sys, sys.getpid())[1]


def _renames(sys: Any, say: Any) -> None:
    say("child", _name(sys))
    sys.prctl(PR_SET_NAME, b"child name")
    say("child", _name(sys))


def inherits_mask(sys: Any, say: Any) -> None:
    """A child begins with its parent's set of blocked signals, and changes only its own."""
    sys.sigprocmask(2, sig(SIGUSR1, SIGTERM))
    say(wait(sys, say, sys.clone(_changes_mask, say)), hex(sys.sigprocmask(0, 0)))


def _changes_mask(sys: Any, say: Any) -> None:
    say("child", hex(sys.sigprocmask(2, sig(SIGUSR2))), hex(sys.sigprocmask(0, 0)))


def inherits_actions(sys: Any, say: Any) -> None:
    """A child begins with its parent's signal actions, and changes only its own."""
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    sys.sigaction(SIGUSR2, _nothing, 0, sig(SIGTERM))
    say(wait(sys, say, sys.clone(_changes_actions, say)))
    say("parent", sys.sigaction(SIGUSR1)[0], sys.sigaction(SIGTERM)[0])


def _nothing(sys: Any, signal: int, info: Any) -> None:
    del sys, signal, info


def _changes_actions(sys: Any, say: Any) -> None:
    handler, flags, mask = sys.sigaction(SIGUSR2)
    say("child", sys.sigaction(SIGUSR1)[0], handler is _nothing, flags, hex(mask))
    sys.sigaction(SIGUSR1, sys.SIG_DFL)
    sys.sigaction(SIGTERM, sys.SIG_IGN)


def handler_runs_in_child(sys: Any, say: Any) -> None:
    """A handler that the parent has set runs in the child that gets the signal."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal, say.who(sys.getpid()))

    sys.sigaction(SIGUSR1, handler)
    pid = sys.fork()
    if pid == 0:
        sys.kill(sys.getpid(), SIGUSR1)
        sys.exit(0)
    say(wait(sys, say, pid))


def pending_is_not_inherited(sys: Any, say: Any) -> None:
    """Signals that are pending for the parent are not pending for a child."""
    sys.sigprocmask(2, sig(SIGUSR1, SIGTERM))
    sys.kill(sys.getpid(), SIGUSR1)
    sys.raise_(SIGTERM)
    say(wait(sys, say, sys.clone(_says_pending, say)), hex(sys.sigpending()))


def _says_pending(sys: Any, say: Any) -> None:
    say("child", hex(sys.sigpending()), hex(sys.sigprocmask(0, 0)))


def pdeathsig_is_not_inherited(sys: Any, say: Any) -> None:
    """A child's parent-death signal is none, whatever its parent's is."""
    sys.prctl(PR_SET_PDEATHSIG, SIGTERM)
    say(wait(sys, say, sys.clone(_says_pdeathsig, say)), sys.prctl_get(PR_GET_PDEATHSIG))


def _says_pdeathsig(sys: Any, say: Any) -> None:
    say("child", sys.prctl_get(PR_GET_PDEATHSIG))


def subreaper_is_not_inherited(sys: Any, say: Any) -> None:
    """A child of a child subreaper is none itself."""
    sys.prctl(36, 1)
    say(wait(sys, say, sys.clone(_says_subreaper, say)), sys.prctl_get(37))


def _says_subreaper(sys: Any, say: Any) -> None:
    say("child", sys.prctl_get(37))


def no_new_privs_is_inherited(sys: Any, say: Any) -> None:
    """A child has its parent's no_new_privs."""
    say(sys.prctl(39, 0, 0, 0, 0), sys.prctl(38, 1, 0, 0, 0))
    say(wait(sys, say, sys.clone(_says_no_new_privs, say)))


def _says_no_new_privs(sys: Any, say: Any) -> None:
    say("child", sys.prctl(39, 0, 0, 0, 0))


def inherits_nice(sys: Any, say: Any) -> None:
    """A child has its parent's nice value and changes only its own."""
    sys.setpriority(0, 0, 5)
    say(wait(sys, say, sys.clone(_changes_nice, say)), sys.getpriority(0, 0))


def _changes_nice(sys: Any, say: Any) -> None:
    say("child", sys.getpriority(0, 0))
    sys.setpriority(0, 0, 7)
    say("child", sys.getpriority(0, 0))


def inherits_limits(sys: Any, say: Any) -> None:
    """A child has its parent's resource limits and changes only its own."""
    sys.setrlimit(7, (100, 200))
    say(wait(sys, say, sys.clone(_changes_limits, say)), sys.getrlimit(7))


def _changes_limits(sys: Any, say: Any) -> None:
    say("child", sys.getrlimit(7))
    sys.setrlimit(7, (50, 60))


@root
def inherits_ids(sys: Any, say: Any) -> None:
    """A child has its parent's user ids, and new ones are its own."""
    say(wait(sys, say, sys.clone(_becomes, say)), sys.getuid())


def _becomes(sys: Any, say: Any) -> None:
    sys.setuid(1000)
    say("child", sys.getuid(), sys.geteuid())
    say(wait(sys, say, sys.clone(_says_uid, say)))


def _says_uid(sys: Any, say: Any) -> None:
    say("grandchild", sys.getuid(), sys.geteuid())
