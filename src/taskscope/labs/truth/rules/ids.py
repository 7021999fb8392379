"""User and group ids, and what else changes with them.  kernel/sys.c, kernel/cred.c, credentials(7)."""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import Gate, attempt, sleeper, wait

SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 9, 10, 15, 17, 18, 19
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, SETPCAP, NICE = 0, 1, 5, 6, 7, 8, 23
A, B, C, D = 4001, 4002, 4003, 4004
_NONE: Final = -1


def _child(sys: Any, say: Any, fn: Any, *args: Any) -> None:
    """Let a child do what changes a process for ever."""
    say(wait(sys, say, sys.clone(fn, say, *args)))


def _ids(sys: Any) -> str:
    return "/".join(map(str, sys.getresuid()))


def _groups(sys: Any) -> str:
    return "/".join(map(str, sys.getresgid()))


def _is(sys: Any, real: int, effective: int, saved: int) -> None:
    sys.setresuid(real, effective, saved)


# ---- user ids --------------------------------------------------------------------------------------------------

@root
def setuid_of_root(sys: Any, say: Any) -> None:
    """setuid() of root sets all three ids, and there is no way back."""
    _child(sys, say, _leaves_root)


def _leaves_root(sys: Any, say: Any) -> None:
    sys.setuid(A)
    say(_ids(sys), attempt(sys.setuid, 0), attempt(sys.setresuid, -1, 0, -1), attempt(sys.setreuid, 0, -1))
    say(attempt(sys.setuid, A), _ids(sys))


@root
def setuid_of_others(sys: Any, say: Any) -> None:
    """setuid() of others sets the effective id, to the real or the saved one."""
    _child(sys, say, _sets_effective)


def _sets_effective(sys: Any, say: Any) -> None:
    _is(sys, A, B, C)
    for uid in (D, B, C, A, B, C):
        say(uid, attempt(sys.setuid, uid), _ids(sys))


@root
def effective_and_back(sys: Any, say: Any) -> None:
    """Root that lowers its effective id only can take it back, as the saved one is still 0."""
    _child(sys, say, _lowers_and_returns)


def _lowers_and_returns(sys: Any, say: Any) -> None:
    sys.setresuid(-1, A, -1)
    say(_ids(sys), attempt(sys.setuid, B), attempt(sys.setuid, 0), _ids(sys))
    sys.setreuid(-1, A)
    say(_ids(sys), attempt(sys.setreuid, -1, 0), _ids(sys))


@root
def setreuid_saves(sys: Any, say: Any) -> None:
    """setreuid() sets the saved id to the new effective one if the real one is given or the effective one is not it."""
    for ids in ((A, B), (A, -1), (-1, B), (-1, 0), (0, B), (-1, -1)):
        _child(sys, say, _sets_both, *ids)


def _sets_both(sys: Any, say: Any, real: int, effective: int) -> None:
    say(attempt(sys.setreuid, real, effective), _ids(sys))


@root
def setreuid_of_others(sys: Any, say: Any) -> None:
    """Without root the real id can become the effective one, the effective one any of the three."""
    for ids in ((B, A), (A, C), (B, C), (C, B), (D, -1), (-1, D), (C, -1), (-1, A), (B, -1)):
        _child(sys, say, _sets_both_as, *ids)


def _sets_both_as(sys: Any, say: Any, real: int, effective: int) -> None:
    _is(sys, A, B, C)
    say(real, effective, attempt(sys.setreuid, real, effective), _ids(sys))


@root
def setresuid_of_others(sys: Any, say: Any) -> None:
    """Without root setresuid() takes any of the three for any of the three; one that is not is EPERM for all."""
    for ids in ((C, A, B), (-1, -1, A), (A, D, A), (D, -1, -1), (-1, -1, D), (B, B, B), (-1, -1, -1)):
        _child(sys, say, _sets_three_as, *ids)


def _sets_three_as(sys: Any, say: Any, *ids: int) -> None:
    _is(sys, A, B, C)
    say(ids, attempt(sys.setresuid, *ids), _ids(sys))


def no_id(sys: Any, say: Any) -> None:
    """-1 is no id: EINVAL for setuid() and setgid(), "leave it" elsewhere."""
    say(attempt(sys.setuid, -1), attempt(sys.setgid, -1), attempt(sys.setuid, 0xFFFF_FFFF))
    say(attempt(sys.setreuid, -1, -1), attempt(sys.setregid, -1, -1), _ids(sys), _groups(sys))


@root
def fsuid(sys: Any, say: Any) -> None:
    """setfsuid() returns what was, and never says whether it was allowed; it follows the effective id."""
    _child(sys, say, _sets_fsuid)


def _sets_fsuid(sys: Any, say: Any) -> None:
    say(sys.setfsuid(B), sys.setfsuid(-1), sys.setfsuid(0))
    _is(sys, A, B, C)
    say(sys.setfsuid(D), sys.setfsuid(-1), sys.setfsuid(A), sys.setfsuid(C), sys.setfsuid(-1))
    say(attempt(sys.setresuid, -1, A, -1), sys.setfsuid(-1))


@root
def fsgid(sys: Any, say: Any) -> None:
    """setfsgid() does as setfsuid()."""
    _child(sys, say, _sets_fsgid)


def _sets_fsgid(sys: Any, say: Any) -> None:
    say(sys.setfsgid(B), sys.setfsgid(-1), sys.setfsgid(0))
    sys.setresgid(A, B, C)
    sys.setuid(A)
    say(sys.setfsgid(D), sys.setfsgid(-1), sys.setfsgid(A), sys.setfsgid(C), sys.setfsgid(-1))


@root
def of_one_thread(sys: Any, say: Any) -> None:
    """The system call setuid() changes the thread that calls and no other."""
    _child(sys, say, _thread_changes)


def _thread_changes(sys: Any, say: Any) -> None:
    done = Gate(sys)
    sys.pthread_create(_changes, say, done)
    done.wait(sys)
    say(_ids(sys), _groups(sys))


def _changes(sys: Any, say: Any, done: Gate) -> None:
    sys.setgid(B)
    sys.setuid(A)
    say(_ids(sys), _groups(sys))
    done.open(sys)


# ---- group ids -------------------------------------------------------------------------------------------------

@root
def setgid_of_root(sys: Any, say: Any) -> None:
    """setgid() with CAP_SETGID sets all three, and takes no capability away."""
    _child(sys, say, _changes_groups)


def _changes_groups(sys: Any, say: Any) -> None:
    sys.setgid(A)
    say(_groups(sys), attempt(sys.setgid, B), _groups(sys), attempt(sys.setresgid, 0, -1, C), _groups(sys))
    sys.setregid(D, -1)
    say(_groups(sys))


@root
def groups_of_others(sys: Any, say: Any) -> None:
    """Without CAP_SETGID the group ids follow the rules of the user ids."""
    for call, ids in (("setgid", (C,)), ("setgid", (B,)), ("setgid", (D,)), ("setregid", (B, C)), ("setregid", (C, B)),
                      ("setregid", (B, -1)), ("setresgid", (C, A, B)), ("setresgid", (-1, D, -1))):
        _child(sys, say, _sets_groups_as, call, ids)


def _sets_groups_as(sys: Any, say: Any, call: str, ids: tuple[int, ...]) -> None:
    sys.setresgid(A, B, C)
    sys.setuid(A)
    say(call, ids, attempt(getattr(sys, call), *ids), _groups(sys))


@root
def supplementary(sys: Any, say: Any) -> None:
    """setgroups() keeps the groups sorted, twice the same twice; without CAP_SETGID it is EPERM."""
    _child(sys, say, _sets_supplementary)


def _sets_supplementary(sys: Any, say: Any) -> None:
    sys.setgroups([C, A, B, A])
    say(sys.getgroups(), attempt(sys._call, "getgroups", 0, None), attempt(sys._call, "getgroups", 2, None),
        attempt(sys._call, "getgroups", -1, None), attempt(sys._call, "setgroups", 65537, None))
    sys.setuid(A)
    say(attempt(sys.setgroups, []), sys.getgroups())


# ---- capabilities ----------------------------------------------------------------------------------------------

def _kept(sys: Any) -> str:
    """Return which of the sets have something in them, and whether effective is permitted."""
    effective, permitted, inheritable = sys.capget()
    return f"{bool(effective)} {bool(permitted)} {bool(inheritable)} {effective == permitted}"


def _becomes(sys: Any, say: Any, *ids: int) -> None:
    sys.setresuid(*ids)
    say(ids, _kept(sys))


def _program(sys: Any, say: Any, prepare: Any, *args: Any) -> None:
    """Let a child that prepares itself execute cat, and say who it is then."""
    read, write = sys.pipe()
    pid = sys.clone(_shows_itself, write, prepare, args)
    sys.close(write)
    text = b""
    while part := sys.read(read, 4096):
        text += part
    sys.close(read)
    lines = dict(line.split(":", 1) for line in text.decode().splitlines())
    all_ = lines.get("CapBnd")
    caps = {name: "all" if lines.get(name) == all_ else lines.get(name, "none").lstrip("\t0") or "0"
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    say(args, *(lines.get(name, "none").split() for name in ("Uid", "Gid")), *caps.values(), wait(sys, say, pid))


def _shows_itself(sys: Any, write: int, prepare: Any, args: tuple[Any, ...]) -> None:
    sys.dup2(write, 1)
    sys.close(write)
    prepare(sys, *args)
    sys.execve("/bin/cat", ["cat", "/proc/self/status"], {})


def _becomes_and_sleeps(sys: Any, *ids: int) -> None:
    sys.setresuid(*(ids if len(ids) == 3 else ids * 3))
    sleeper(sys)


# ---- what else goes with them ----------------------------------------------------------------------------------

@root
def death_signal_goes(sys: Any, say: Any) -> None:
    """A change of the effective or file system ids clears PR_SET_PDEATHSIG; one of real or saved ids does not."""
    for call, ids in (("setresuid", (A, -1, -1)), ("setresuid", (-1, -1, A)), ("setresuid", (-1, A, -1)),
                      ("setfsuid", (A,)), ("setgid", (A,)), ("setresgid", (A, -1, A))):
        _child(sys, say, _keeps_death_signal, call, ids)


def _keeps_death_signal(sys: Any, say: Any, call: str, ids: tuple[int, ...]) -> None:
    sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    getattr(sys, call)(*ids)
    say(call, ids, sys.prctl_get(PR_GET_PDEATHSIG))


@root
def dumpable_goes(sys: Any, say: Any) -> None:
    """A process is not dumpable after such a change, until it says so."""
    _child(sys, say, _is_dumpable)


def _is_dumpable(sys: Any, say: Any) -> None:
    sys.prctl(PR_SET_DUMPABLE, 1)
    sys.setresuid(A, -1, -1)
    say(sys.prctl(PR_GET_DUMPABLE))
    sys.setresuid(A, A, A)
    say(sys.prctl(PR_GET_DUMPABLE) != 1, attempt(sys.prctl, PR_SET_DUMPABLE, 1), sys.prctl(PR_GET_DUMPABLE))
    say(attempt(sys.prctl, PR_SET_DUMPABLE, 2), attempt(sys.prctl, PR_SET_DUMPABLE, 3))


@root
def exec_saves(sys: Any, say: Any) -> None:
    """execve() copies the effective ids to the saved ones, and leaves the real ones."""
    _program(sys, say, _is_all, A, B, C)


def _is_all(sys: Any, *ids: int) -> None:
    sys.setresgid(*ids)
    sys.setresuid(*ids)


def fork_copies(sys: Any, say: Any) -> None:
    """A child has its parent's ids, groups and capabilities."""
    _child(sys, say, _says_same, sys.getresuid(), sys.getresgid(), sys.getgroups(), sys.capget())


def _says_same(sys: Any, say: Any, *wanted: Any) -> None:
    found = (sys.getresuid(), sys.getresgid(), sys.getgroups(), sys.capget())
    say([tuple(one) == tuple(other) for one, other in zip(found, wanted, strict=True)])
