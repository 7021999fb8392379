"""User and group ids, capabilities, and who may signal whom.  kernel/sys.c, security/commoncap.c, credentials(7)."""

from __future__ import annotations

from typing import Any, Final

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, execute, sleeper, wait, waitid

SIGKILL, SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 9, 10, 15, 17, 18, 19
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP = 7, 8, 23, 24
PR_GET_SECUREBITS, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 27, 28, 47
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


# ---- user ids ------------------------------------------------------------------------------------------------


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


# ---- group ids -----------------------------------------------------------------------------------------------


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


# ---- capabilities --------------------------------------------------------------------------------------------


def _kept(sys: Any) -> str:
    """Return which of the sets have something in them, and whether effective is permitted."""
    effective, permitted, inheritable = sys.capget()
    return f"{bool(effective)} {bool(permitted)} {bool(inheritable)} {effective == permitted}"


@root
def leaving_root(sys: Any, say: Any) -> None:
    """The last id that is 0 takes the permitted and effective capabilities with it."""
    for ids in ((A, A, A), (0, A, A), (A, 0, A), (A, A, 0)):
        _child(sys, say, _becomes, *ids)


def _becomes(sys: Any, say: Any, *ids: int) -> None:
    sys.setresuid(*ids)
    say(ids, _kept(sys))


@root
def effective_follows(sys: Any, say: Any) -> None:
    """The effective capabilities go and come with the effective id 0."""
    _child(sys, say, _goes_and_comes)


def _goes_and_comes(sys: Any, say: Any) -> None:
    sys.setresuid(-1, A, -1)
    say(_kept(sys), attempt(sys.setgid, B))
    sys.setresuid(-1, 0, -1)
    say(_kept(sys), attempt(sys.setgid, B))


@root
def keepcaps(sys: Any, say: Any) -> None:
    """PR_SET_KEEPCAPS keeps the permitted capabilities when root is left; the effective ones go all the same."""
    _child(sys, say, _keeps)


def _keeps(sys: Any, say: Any) -> None:
    say(sys.prctl(PR_GET_KEEPCAPS), attempt(sys.prctl, PR_SET_KEEPCAPS, 2), attempt(sys.prctl, PR_SET_KEEPCAPS, 1))
    sys.setuid(A)
    say(_kept(sys), sys.prctl(PR_GET_KEEPCAPS), sys.prctl(PR_GET_SECUREBITS))
    effective, permitted, inheritable = sys.capget()
    sys.capset(permitted & 1 << KILL, permitted, inheritable)
    say(sys.capget()[0], effective, attempt(sys.kill, 1, 0), attempt(sys.setgid, B))


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


@root
def keepcaps_and_exec(sys: Any, say: Any) -> None:
    """A user's program begins without capabilities, whether PR_SET_KEEPCAPS had kept them or not."""
    _program(sys, say, _keeps_as, 0)
    _program(sys, say, _keeps_as, 1)


def _keeps_as(sys: Any, keep: int) -> None:
    sys.prctl(PR_SET_KEEPCAPS, keep)
    sys.setuid(A)


@root
def exec_of_half_root(sys: Any, say: Any) -> None:
    """execve() of who has a real id 0 and another effective one gives permitted capabilities and no effective ones."""
    for ids in ((0, A, A), (A, 0, 0), (A, A, 0), (0, 0, A)):
        _program(sys, say, _is, *ids)


@root
def fsuid_takes(sys: Any, say: Any) -> None:
    """setfsuid() away from 0 takes the capabilities of files from the effective set, and back to 0 gives them."""
    _child(sys, say, _changes_fsuid)


def _changes_fsuid(sys: Any, say: Any) -> None:
    for uid in (A, 0):
        sys.setfsuid(uid)
        effective, permitted, _ = sys.capget()
        say(uid, f"{permitted & ~effective:#x}", effective >> KILL & 1)


@root
def capset_down(sys: Any, say: Any) -> None:
    """capset() can take away, and what is gone from the permitted set is gone; effective must be permitted."""
    _child(sys, say, _takes_away)


def _takes_away(sys: Any, say: Any) -> None:
    _, permitted, inheritable = sys.capget()
    less = permitted & ~(1 << CHOWN)
    say(attempt(sys.capset, permitted, less, inheritable), attempt(sys.capset, less, less, inheritable))
    say(attempt(sys.capset, less, permitted, inheritable), attempt(sys.capset, permitted, permitted, inheritable))
    say(attempt(sys.capset, 0, less, inheritable), attempt(sys.setgid, A), attempt(sys.capset, less, less, 0, 1))
    say(attempt(sys.capset, less, less, 0, sys.getpid()), attempt(sys.capget, 0x3FFF_FFFF), attempt(sys.capget, -1))


@root
def capset_inheritable(sys: Any, say: Any) -> None:
    """Inheritable capabilities: without CAP_SETPCAP only those that are permitted can be added."""
    _child(sys, say, _adds_inheritable)


def _adds_inheritable(sys: Any, say: Any) -> None:
    _, permitted, _ = sys.capget()
    few = 1 << SETPCAP | 1 << KILL
    say(attempt(sys.capset, few, few, 1 << CHOWN), sys.capget()[2])
    say(attempt(sys.capset, 1 << KILL, few, 1 << CHOWN | 1 << KILL), sys.capget()[2])
    say(attempt(sys.capset, 1 << KILL, few, 1 << NICE), attempt(sys.capset, 1 << KILL, few, 1 << SETPCAP))
    say(permitted > few)


@root
def root_without(sys: Any, say: Any) -> None:
    """User id 0 without the capability may not: CAP_SETUID, CAP_SETGID, CAP_KILL are asked for, not the id."""
    for cap in (SETUID, SETGID, KILL):
        _child(sys, say, _loses, cap)


def _loses(sys: Any, say: Any, cap: int) -> None:
    other = sys.clone(_becomes_and_sleeps, A)
    asleep(sys, other)
    _, permitted, _ = sys.capget()
    sys.capset(permitted & ~(1 << cap), permitted & ~(1 << cap), 0)
    say(cap, attempt(sys.kill, other, 0), attempt(sys.setgroups, []), attempt(sys.setgid, B), attempt(sys.setuid, B))


def _becomes_and_sleeps(sys: Any, *ids: int) -> None:
    sys.setresuid(*(ids if len(ids) == 3 else ids * 3))
    sleeper(sys)


@root
def bounding_set(sys: Any, say: Any) -> None:
    """What is dropped from the bounding set is gone from what execve() gives root; dropping needs CAP_SETPCAP."""
    _child(sys, say, _bounds)


def _bounds(sys: Any, say: Any) -> None:
    say(sys.prctl(PR_CAPBSET_READ, KILL), attempt(sys.prctl, PR_CAPBSET_DROP, KILL), sys.prctl(PR_CAPBSET_READ, KILL),
        attempt(sys.prctl, PR_CAPBSET_READ, 63), attempt(sys.prctl, PR_CAPBSET_DROP, 63))
    say(sys.capget()[1] >> KILL & 1)
    execute(sys, _says_bounds)


def _says_bounds(sys: Any, say: Any) -> None:
    effective, permitted, _ = sys.capget()
    say(effective >> KILL & 1, permitted >> KILL & 1, permitted >> CHOWN & 1)
    sys.setuid(A)
    say(attempt(sys.prctl, PR_CAPBSET_DROP, CHOWN), attempt(sys.prctl, PR_CAPBSET_READ, CHOWN))


@root
def ambient(sys: Any, say: Any) -> None:
    """Only what is permitted and inheritable can be made ambient."""
    _child(sys, say, _is_ambient)


def _is_ambient(sys: Any, say: Any) -> None:
    _, permitted, _ = sys.capget()
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 2, KILL, 0, 0))
    sys.capset(permitted, permitted, 1 << KILL)
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 2, CHOWN, 0, 0), attempt(sys.prctl, PR_CAP_AMBIENT, 5, KILL, 0, 0))
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 2, KILL, 0, 0), sys.prctl(PR_CAP_AMBIENT, 1, KILL, 0, 0),
        sys.prctl(PR_CAP_AMBIENT, 1, CHOWN, 0, 0))
    say(attempt(sys.prctl, PR_CAP_AMBIENT, 4, 0, 0, 0), sys.prctl(PR_CAP_AMBIENT, 1, KILL, 0, 0))


@root
def ambient_and_exec(sys: Any, say: Any) -> None:
    """A user's program begins with the ambient capabilities; leaving root takes them, unless raised afterwards."""
    _program(sys, say, _raises, True)
    _program(sys, say, _raises, False)


def _raises(sys: Any, afterwards: bool) -> None:
    _, permitted, _ = sys.capget()
    sys.capset(permitted, permitted, 1 << KILL)
    sys.prctl(PR_SET_KEEPCAPS, 1)
    if not afterwards:
        sys.prctl(PR_CAP_AMBIENT, 2, KILL, 0, 0)
    sys.setuid(A)
    if afterwards:
        sys.prctl(PR_CAP_AMBIENT, 2, KILL, 0, 0)


@root
def no_fixup(sys: Any, say: Any) -> None:
    """With SECBIT_NO_SETUID_FIXUP capabilities stay whatever the ids become; bits that are locked stay, too."""
    _child(sys, say, _has_bits)


def _has_bits(sys: Any, say: Any) -> None:
    say(attempt(sys.prctl, PR_SET_SECUREBITS, 1 << 12), attempt(sys.prctl, PR_SET_SECUREBITS, 0x0C | 1))
    say(attempt(sys.prctl, PR_SET_SECUREBITS, 1), sys.prctl(PR_GET_SECUREBITS))
    sys.setresuid(A, A, A)
    say(_kept(sys))


@root
def root_is_nobody(sys: Any, say: Any) -> None:
    """With SECBIT_NOROOT execve() gives root nothing."""
    _program(sys, say, _has_no_root, 0)
    _program(sys, say, _has_no_root, A)


def _has_no_root(sys: Any, uid: int) -> None:
    sys.prctl(PR_SET_SECUREBITS, 1 | 1 << 2)
    sys.setuid(uid)


# ---- what else goes with them --------------------------------------------------------------------------------


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


# ---- kill() --------------------------------------------------------------------------------------------------


def _target(sys: Any, *ids: int) -> int:
    pid = int(sys.clone(_becomes_and_sleeps, *ids))
    asleep(sys, pid)
    return pid


def _sends_as(sys: Any, say: Any, ids: tuple[int, int, int], pids: tuple[int, ...], sig: int) -> None:
    sys.setresuid(*ids)
    say("/".join(map(str, ids)), [attempt(sys.kill, pid, sig) for pid in pids])


@root
def who_may(sys: Any, say: Any) -> None:
    """A signal may be sent if the sender's real or effective id is the target's real or saved one."""
    pids = (_target(sys, A, B, C), _target(sys, B, B, B), _target(sys, 0, 0, 0))
    for ids in ((A, D, D), (D, A, D), (B, D, D), (D, B, D), (C, D, D), (D, C, D), (D, D, A), (D, D, C)):
        _child(sys, say, _sends_as, ids, pids, 0)


@root
def may_not(sys: Any, say: Any) -> None:
    """Where it may not be sent it is EPERM for signal 0, too, and the target does not get it."""
    pid = _target(sys, A, A, A)
    _child(sys, say, _sends_as, (B, B, B), (pid,), SIGKILL)
    _child(sys, say, _sends_as, (B, B, B), (pid, 1), 0)
    _child(sys, say, _sends_as, (A, A, A), (pid,), SIGTERM)
    say(wait(sys, say, pid))


@root
def sigcont_in_session(sys: Any, say: Any) -> None:
    """SIGCONT may be sent to everybody of the own session, whoever it is; not to another session."""
    pid = _target(sys, A, A, A)
    other = sys.clone(_begins_session, A)
    asleep(sys, other)
    _child(sys, say, _sends_as, (B, B, B), (pid, other), SIGCONT)
    _child(sys, say, _sends_as, (B, B, B), (pid, other), SIGSTOP)


def _begins_session(sys: Any, uid: int) -> None:
    sys.setsid()
    _becomes_and_sleeps(sys, uid)


@root
def group_of_many(sys: Any, say: Any) -> None:
    """A signal to a group succeeds if one member gets it, and is EPERM if none may."""
    for uids, sender in (((A, B), A), ((A, B), B), ((A, B), C), ((0, A), A)):
        _child(sys, say, _has_group, uids, sender)


def _has_group(sys: Any, say: Any, uids: tuple[int, ...], sender: int) -> None:
    pids: list[int] = []
    for uid in uids:
        gate = Gate(sys)
        pid = sys.clone(_waits_and_becomes, gate, uid)
        sys.setpgid(pid, pids[0] if pids else pid)
        gate.open(sys)
        comes_to(sys, pid, "S")
        pids.append(pid)
    for pid in pids:
        _until_becomes(sys, pid)
    _child(sys, say, _sends_as, (sender, sender, sender), (-pids[0],), SIGTERM)
    for pid in pids:
        sys.kill(pid, SIGKILL)
        say(wait(sys, say, pid))


def _waits_and_becomes(sys: Any, gate: Gate, uid: int) -> None:
    gate.wait(sys)
    sys.prctl(15, b"became" if hasattr(sys, "launch") else "became")
    _becomes_and_sleeps(sys, uid)


def _named(sys: Any, pid: int) -> bool:
    return bool(sys.slurp(f"/proc/{pid}/comm") == b"became\n")


def _until_becomes(sys: Any, pid: int) -> None:
    from taskscope.labs.truth.rules.kit import until

    until(sys, _named, pid)
    asleep(sys, pid)


@root
def everybody_one_may(sys: Any, say: Any) -> None:
    """kill(-1) of a user reaches the processes of that user and no others."""
    mine, others = _target(sys, A, A, A), _target(sys, B, B, B)
    _child(sys, say, _kills_all_as, A)
    say(wait(sys, say, mine), attempt(sys.waitpid, others, 1))


def _kills_all_as(sys: Any, say: Any, uid: int) -> None:
    sys.setuid(uid)
    say(attempt(sys.kill, -1, SIGTERM))


@root
def uid_in_siginfo(sys: Any, say: Any) -> None:
    """waitid() tells the child's real id."""
    pid = sys.clone(_becomes, say, A, B, C)
    say(waitid(sys, say, 1, pid, 4))


@root
def thread_of_another(sys: Any, say: Any) -> None:
    """Within a process every signal may be sent, whoever its threads are."""
    _child(sys, say, _has_foreign_thread)


def _has_foreign_thread(sys: Any, say: Any) -> None:
    told, go = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_is_foreign, told, go)
    told.wait(sys)
    sys.setuid(A)
    say(attempt(sys.tgkill, sys.getpid(), tid, 0), attempt(sys.tkill, tid, 0))
    go.open(sys)


def _is_foreign(sys: Any, told: Gate, go: Gate) -> None:
    sys.setuid(B)
    told.open(sys)
    go.wait(sys)
