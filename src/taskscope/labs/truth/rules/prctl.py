"""prctl(2): the name, the parent-death signal, subreapers, dumpable, no_new_privs.  kernel/sys.c, prctl(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, sig, stat, wait

SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD = 1, 10, 12, 17
SIG_BLOCK = 0
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME = 1, 2, 3, 4, 15, 16
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 36, 37, 38, 39


# ---- name -------------------------------------------------------------------------------------------------

def name_has_fifteen_bytes(sys: Any, say: Any) -> None:
    """A name is cut to fifteen bytes."""
    for name in (b"", b"x", b"fifteen bytes..", b"sixteen bytes...", b"much longer than it may be"):
        say(attempt(sys.prctl, PR_SET_NAME, name, 0, 0, 0), f"[{sys.prctl_get(PR_GET_NAME)}]")


def name_ends_at_nul(sys: Any, say: Any) -> None:
    """What stands behind a NUL byte is no part of the name."""
    say(attempt(sys.prctl, PR_SET_NAME, b"one\0two", 0, 0, 0), sys.prctl_get(PR_GET_NAME))


def name_in_proc(sys: Any, say: Any) -> None:
    """/proc/PID/comm and stat show the name, parentheses and spaces as they are."""
    sys.prctl(PR_SET_NAME, b"a) (b c", 0, 0, 0)
    say(sys.slurp("/proc/self/comm").decode().strip(), stat(sys, sys.getpid())[1])


def _names_itself(sys: Any, say: Any, gate: Gate, end: Gate) -> None:
    say("before", sys.prctl_get(PR_GET_NAME))
    sys.prctl(PR_SET_NAME, b"thread", 0, 0, 0)
    say("after", sys.prctl_get(PR_GET_NAME))
    gate.open(sys)
    end.wait(sys)


def name_is_of_the_thread(sys: Any, say: Any) -> None:
    """A thread begins with the name of its creator, and naming itself names nobody else."""
    sys.prctl(PR_SET_NAME, b"leader", 0, 0, 0)
    gate, end = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_names_itself, say, gate, end)
    gate.wait(sys)
    say(sys.prctl_get(PR_GET_NAME), sys.slurp("/proc/self/comm").decode().strip())
    say(sys.slurp(f"/proc/self/task/{tid}/comm").decode().strip())
    end.open(sys)


def name_bad_pointer(sys: Any, say: Any) -> None:
    """A name at address 0 gives EFAULT."""
    say(attempt(sys.prctl, PR_SET_NAME, 0, 0, 0, 0), attempt(sys.prctl, PR_GET_NAME, 0, 0, 0, 0))


# ---- the parent-death signal --------------------------------------------------------------------------------

def pdeathsig_values(sys: Any, say: Any) -> None:
    """The parent-death signal is none at first; 0 to 64 can be set, nothing else."""
    say(sys.prctl_get(PR_GET_PDEATHSIG))
    for number in (SIGHUP, 64, 65, -1, 0x1_0000, 34, 0):
        say(number, attempt(sys.prctl, PR_SET_PDEATHSIG, number, 0, 0, 0), sys.prctl_get(PR_GET_PDEATHSIG))


def pdeathsig_bad_pointer(sys: Any, say: Any) -> None:
    """Asking for the parent-death signal with address 0 gives EFAULT."""
    say(attempt(sys.prctl, PR_GET_PDEATHSIG, 0, 0, 0, 0))


def _outlives(sys: Any, say: Any, ready: Gate, told: Gate, number: int) -> None:
    seen = []

    def handler(sys: Any, sig: int, info: Any) -> None:
        seen.append((sig, info.si_code, info.si_uid, info.si_pid not in (0, sys.getpid())))

    sys.sigaction(number, handler, 4)
    sys.sigprocmask(SIG_BLOCK, sig(number))
    sys.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    ready.open(sys)
    attempt(sys.sigsuspend, 0)
    say("signal", *seen)
    told.open(sys)


def _dies_first(sys: Any, say: Any, armed: Gate, told: Gate, go: Gate, number: int) -> None:
    ready = Gate(sys)
    child = sys.clone(_outlives, say, ready, told, number)
    ready.wait(sys)
    asleep(sys, child)
    armed.open(sys)
    go.wait(sys)


def pdeathsig_comes(sys: Any, say: Any) -> None:
    """When the parent ends the child gets the signal that it asked for, from the dying parent: SI_USER."""
    armed, told, go = Gate(sys), Gate(sys), Gate(sys)
    parent = sys.clone(_dies_first, say, armed, told, go, SIGUSR1)
    armed.wait(sys)
    go.open(sys)
    told.wait(sys)
    say(wait(sys, say, parent))


def pdeathsig_of_a_killed_parent(sys: Any, say: Any) -> None:
    """It comes, too, when the parent is killed, and may be a realtime signal."""
    armed, told, go = Gate(sys), Gate(sys), Gate(sys)
    parent = sys.clone(_dies_first, say, armed, told, go, 40)
    armed.wait(sys)
    sys.kill(parent, 9)
    told.wait(sys)
    say(wait(sys, say, parent))


def _begets_and_ends(sys: Any, say: Any, ready: Gate, told: Gate) -> None:
    sys.clone(_outlives, say, ready, told, SIGUSR2)
    ready.wait(sys)
    say("the thread ends")
    sys.pthread_exit()


def _has_a_thread(sys: Any, say: Any) -> None:
    ready, told = Gate(sys), Gate(sys)
    sys.pthread_create(_begets_and_ends, say, ready, told)
    told.wait(sys)
    say("the process lives", wait(sys, say))


def pdeathsig_is_of_the_thread(sys: Any, say: Any) -> None:
    """The parent that counts is the thread: the signal comes when the thread that has forked ends."""
    say(wait(sys, say, sys.clone(_has_a_thread, say)))


# ---- subreapers -----------------------------------------------------------------------------------------------

def subreaper_values(sys: Any, say: Any) -> None:
    """A process is no subreaper at first; any number but 0 makes it one."""
    say(sys.prctl_get(PR_GET_CHILD_SUBREAPER))
    for value in (1, 5, 0, -1, 0):
        say(attempt(sys.prctl, PR_SET_CHILD_SUBREAPER, value, 0, 0, 0), sys.prctl_get(PR_GET_CHILD_SUBREAPER))


def _is_subreaper(sys: Any, say: Any, gate: Gate) -> None:
    say("thread", sys.prctl_get(PR_GET_CHILD_SUBREAPER))
    sys.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    gate.open(sys)


def subreaper_is_of_the_process(sys: Any, say: Any) -> None:
    """All threads of a process are subreapers, or none."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gate = Gate(sys)
    sys.pthread_create(_is_subreaper, say, gate)
    gate.wait(sys)
    say(sys.prctl_get(PR_GET_CHILD_SUBREAPER))


# ---- dumpable, no_new_privs -----------------------------------------------------------------------------------

def dumpable_values(sys: Any, say: Any) -> None:
    """A process can be made dumpable or not, and nothing else."""
    for value in (1, 0, 1, 2, 3, -1):
        say(value, attempt(sys.prctl, PR_SET_DUMPABLE, value, 0, 0, 0), sys.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))


def _tells_dumpable(sys: Any, say: Any) -> None:
    say("child", sys.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))


def dumpable_is_inherited(sys: Any, say: Any) -> None:
    """A child of a process that is not dumpable is not, either."""
    sys.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    say(wait(sys, say, sys.clone(_tells_dumpable, say)))


def no_new_privs_is_for_ever(sys: Any, say: Any) -> None:
    """no_new_privs is set with 1 and zeroes behind it, and cannot be taken back."""
    def now() -> Any:
        return attempt(sys.prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)

    say(now(), attempt(sys.prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), attempt(sys.prctl, PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0))
    say(now(), attempt(sys.prctl, PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), attempt(sys.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 1))
    say(now(), attempt(sys.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), now())
    say(attempt(sys.prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), now(), attempt(sys.prctl, PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _sets_no_new_privs(sys: Any, gate: Gate, end: Gate) -> None:
    sys.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    gate.open(sys)
    end.wait(sys)


def no_new_privs_is_of_the_thread(sys: Any, say: Any) -> None:
    """no_new_privs of one thread is not that of the others."""
    gate, end = Gate(sys), Gate(sys)
    sys.pthread_create(_sets_no_new_privs, gate, end)
    gate.wait(sys)
    say(sys.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
    end.open(sys)


def unknown_option(sys: Any, say: Any) -> None:
    """An option that does not exist gives EINVAL."""
    for option in (0, 9999, -1):
        say(attempt(sys.prctl, option, 0, 0, 0, 0))


def _orphan(sys: Any, say: Any, told: Gate) -> None:
    say("pdeathsig", sys.prctl_get(PR_GET_PDEATHSIG))
    told.open(sys)


def _sets_and_forks(sys: Any, say: Any, told: Gate) -> None:
    sys.prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0)
    pid = sys.clone(_orphan, say, told)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid), sys.prctl_get(PR_GET_PDEATHSIG))


def pdeathsig_is_not_the_childs(sys: Any, say: Any) -> None:
    """Who asks for a parent-death signal asks for itself alone: its child has none, its own stays."""
    told = Gate(sys)
    say(wait(sys, say, sys.clone(_sets_and_forks, say, told)))
