"""ptrace(2): who may trace whom, beginning and end, reaping.  kernel/ptrace.c, kernel/exit.c, ptrace(2)."""

from __future__ import annotations

from typing import Any

from taskscope.abi.ptrace import PtraceOption as O
from taskscope.abi.ptrace import PtraceRequest as R
from taskscope.labs.truth.rules import differs, root
from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    comes_to,
    dead,
    ends,
    field,
    sig,
    sleeper,
    stat,
    state,
    wait,
)

SIGUSR1, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 10, 15, 17, 18, 19
WNOHANG, WUNTRACED, WALL = 1, 2, 0x40000000
UID = 1234


def _tracee(sys: Any) -> int:
    """Return a child that sleeps for ever."""
    pid = sys.clone(sleeper)
    asleep(sys, pid)
    return int(pid)


def _attached(sys: Any) -> int:
    """Return a child that is stopped by PTRACE_ATTACH."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_ATTACH, pid)
    sys.waitpid(pid, WALL)
    return pid


def _end(sys: Any, say: Any, pid: int) -> None:
    """Kill a child and reap it."""
    sys.kill(pid, 9)
    say(wait(sys, say, pid, WALL))


def _who(sys: Any, say: Any, pid: int) -> str:
    """Return the state of a process, its parent and its tracer."""
    parent, tracer = int(stat(sys, pid)[3]), int(field(sys, pid, "TracerPid"))
    return f"{state(sys, pid)} ppid {say.who(parent)} tracer {say.who(tracer)}"


def _stops_itself(sys: Any) -> None:
    sys.ptrace(R.PTRACE_TRACEME)
    sys.raise_(SIGSTOP)
    sys.exit(7)


def traceme(sys: Any, say: Any) -> None:
    """A child that asked to be traced stops for a signal, and its parent's plain wait tells of it."""
    pid = sys.clone(_stops_itself)
    say(wait(sys, say, pid))
    say(_who(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))


def _asks_twice(sys: Any, say: Any) -> None:
    say(attempt(sys.ptrace, R.PTRACE_TRACEME), attempt(sys.ptrace, R.PTRACE_TRACEME))


def traceme_twice(sys: Any, say: Any) -> None:
    """Asking to be traced a second time is not permitted."""
    say(wait(sys, say, sys.clone(_asks_twice, say)))


def attach(sys: Any, say: Any) -> None:
    """PTRACE_ATTACH stops a process as SIGSTOP does, in state t; PTRACE_DETACH lets it sleep on."""
    pid = _tracee(sys)
    say(_who(sys, say, pid))
    say(attempt(sys.ptrace, R.PTRACE_ATTACH, pid))
    say(wait(sys, say, pid))
    say(_who(sys, say, pid), field(sys, pid, "State"))
    say(attempt(sys.ptrace, R.PTRACE_DETACH, pid))
    asleep(sys, pid)
    say(_who(sys, say, pid))
    _end(sys, say, pid)


def attach_errors(sys: Any, say: Any) -> None:
    """Nobody traces itself, what is traced already, what is dead, or what is not there."""
    say("itself", attempt(sys.ptrace, R.PTRACE_ATTACH, sys.getpid()))
    say("nobody", attempt(sys.ptrace, R.PTRACE_ATTACH, 0x3FFFFFF), attempt(sys.ptrace, R.PTRACE_SEIZE, 0x3FFFFFF))
    pid = _attached(sys)
    say("again", attempt(sys.ptrace, R.PTRACE_ATTACH, pid), attempt(sys.ptrace, R.PTRACE_SEIZE, pid))
    _end(sys, say, pid)
    zombie = dead(sys, 3)
    say("zombie", attempt(sys.ptrace, R.PTRACE_ATTACH, zombie))
    say(wait(sys, say, zombie))


def _tries(sys: Any, say: Any, pid: int) -> None:
    say("another", attempt(sys.ptrace, R.PTRACE_ATTACH, pid), attempt(sys.ptrace, R.PTRACE_CONT, pid))


def one_tracer_only(sys: Any, say: Any) -> None:
    """A second tracer gets EPERM, and requests of one that is not the tracer get ESRCH."""
    pid = _attached(sys)
    say(wait(sys, say, sys.clone(_tries, say, pid)))
    say(_who(sys, say, pid))
    _end(sys, say, pid)


def requests_need_a_stop(sys: Any, say: Any) -> None:
    """Nearly every request to a task that is not stopped for the tracer fails with ESRCH."""
    pid = _tracee(sys)
    say("not traced", [attempt(sys.ptrace, r, pid) for r in (R.PTRACE_CONT, R.PTRACE_DETACH, R.PTRACE_KILL)])
    sys.ptrace(R.PTRACE_SEIZE, pid)
    running = (R.PTRACE_CONT, R.PTRACE_SYSCALL, R.PTRACE_DETACH, R.PTRACE_SETOPTIONS, R.PTRACE_LISTEN)
    say("running", [attempt(sys.ptrace, r, pid) for r in running])
    say("running", [attempt(sys.ptrace_get, r, pid) for r in (R.PTRACE_GETSIGINFO, R.PTRACE_GETEVENTMSG)])
    _end(sys, say, pid)


def bad_arguments(sys: Any, say: Any) -> None:
    """Unknown requests and signals are EIO, unknown options EINVAL, and EIO for PTRACE_SEIZE."""
    pid = _tracee(sys)
    say("seize", attempt(sys.ptrace, R.PTRACE_SEIZE, pid, 0, 1 << 30), attempt(sys.ptrace, R.PTRACE_SEIZE, pid, 1, 0))
    sys.ptrace(R.PTRACE_ATTACH, pid)
    say(wait(sys, say, pid))
    say("request", attempt(sys.ptrace, 4711, pid))
    say("signal", [attempt(sys.ptrace, r, pid, 0, 65) for r in (R.PTRACE_CONT, R.PTRACE_SYSCALL, R.PTRACE_DETACH)])
    say("options", attempt(sys.ptrace, R.PTRACE_SETOPTIONS, pid, 0, 1 << 30))
    say("memory", attempt(sys.ptrace_get, R.PTRACE_PEEKDATA, pid, 0))
    say("not seized", attempt(sys.ptrace, R.PTRACE_INTERRUPT, pid), attempt(sys.ptrace, R.PTRACE_LISTEN, pid))
    say(state(sys, pid))
    _end(sys, say, pid)


def seize_does_not_stop(sys: Any, say: Any) -> None:
    """PTRACE_SEIZE makes one the tracer and lets the task sleep."""
    pid = _tracee(sys)
    say(attempt(sys.ptrace, R.PTRACE_SEIZE, pid))
    say(_who(sys, say, pid), wait(sys, say, pid, WNOHANG | WALL))
    _end(sys, say, pid)


def detach_with_a_signal(sys: Any, say: Any) -> None:
    """A signal that PTRACE_DETACH brings is taken without another stop."""
    pid = _attached(sys)
    say(attempt(sys.ptrace, R.PTRACE_DETACH, pid, 0, SIGTERM))
    say(wait(sys, say, pid))


@differs("PTRACE_KILL sends SIGKILL since v5.19; before, it does nothing to a task that is not stopped", "4.19-arm")
def kill_request(sys: Any, say: Any) -> None:
    """PTRACE_KILL ends a task that runs."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    say(attempt(sys.ptrace, R.PTRACE_KILL, pid))
    # shown to the tracer if the task lives
    sys.kill(pid, SIGTERM)
    say(wait(sys, say, pid))


def kill_request_while_stopped(sys: Any, say: Any) -> None:
    """PTRACE_KILL ends a task that is stopped for its tracer."""
    pid = _attached(sys)
    say(attempt(sys.ptrace, R.PTRACE_KILL, pid))
    say(wait(sys, say, pid))


def sigkill_needs_no_tracer(sys: Any, say: Any) -> None:
    """SIGKILL ends a traced task out of its stop, and is not shown to the tracer."""
    pid = _attached(sys)
    say(state(sys, pid))
    _end(sys, say, pid)


# ---- permission -----------------------------------------------------------------------------------------

def _without_rights(sys: Any, say: Any, pid: int) -> None:
    sys.setgid(UID)
    sys.setuid(UID)
    say("other", attempt(sys.ptrace, R.PTRACE_ATTACH, pid), attempt(sys.ptrace, R.PTRACE_SEIZE, pid))
    own = sys.clone(sleeper)
    asleep(sys, own)
    say("own", attempt(sys.ptrace, R.PTRACE_SEIZE, own))
    _end(sys, say, own)


@root
def a_user_traces_its_own(sys: Any, say: Any) -> None:
    """Without CAP_SYS_PTRACE one may not trace a process of root, and one that setuid() left undumpable neither."""
    pid = _tracee(sys)
    say(wait(sys, say, sys.clone(_without_rights, say, pid)))
    _end(sys, say, pid)


def _dumpable(sys: Any, say: Any) -> None:
    sys.setgid(UID)
    sys.setuid(UID)
    for dumpable in (1, 0):
        sys.prctl(4, dumpable)
        own = sys.clone(sleeper)
        asleep(sys, own)
        say("dumpable", dumpable, attempt(sys.ptrace, R.PTRACE_SEIZE, own))
        _end(sys, say, own)


@root
def dumpable_decides(sys: Any, say: Any) -> None:
    """With equal ids it is the process's PR_SET_DUMPABLE that decides."""
    say(wait(sys, say, sys.clone(_dumpable, say)))


def _one_id_differs(sys: Any, say: Any, number: int) -> None:
    ids = [UID] * 3
    ids[number] = UID + 1
    gate = Gate(sys)
    pid = sys.clone(_takes_ids, gate, ids)
    comes_to(sys, pid, "S")
    sys._call("setresgid", UID, UID, UID)
    sys._call("setresuid", UID, UID, UID)
    say(ids, attempt(sys.ptrace, R.PTRACE_SEIZE, pid))
    gate.open(sys)
    gate.close(sys)


def _takes_ids(sys: Any, gate: Gate, ids: list[int]) -> None:
    sys._call("setresgid", UID, UID, UID)
    sys._call("setresuid", *ids)
    sys.prctl(4, 1)
    gate.wait(sys)


@root
def all_three_ids_must_be_equal(sys: Any, say: Any) -> None:
    """The tracer's real uid must be the real, the effective and the saved one of the task."""
    for number in range(3):
        say(wait(sys, say, sys.clone(_one_id_differs, say, number)))


# ---- the end of either ----------------------------------------------------------------------------------

def _traces_and_dies(sys: Any, pid: int, options: int, seize: int) -> None:
    if seize:
        sys.ptrace(R.PTRACE_SEIZE, pid, 0, options)
    else:
        sys.ptrace(R.PTRACE_ATTACH, pid)
        sys.waitpid(pid, WALL)
        sys.ptrace(R.PTRACE_SETOPTIONS, pid, 0, options)


def tracer_dies(sys: Any, say: Any) -> None:
    """When the tracer dies its tasks go on untraced, those in a stop too."""
    for seize in (1, 0):
        pid = _tracee(sys)
        say(wait(sys, say, sys.clone(_traces_and_dies, pid, 0, seize)))
        comes_to(sys, pid, "S")
        say(_who(sys, say, pid), wait(sys, say, pid, WNOHANG))
        _end(sys, say, pid)


def exitkill(sys: Any, say: Any) -> None:
    """With PTRACE_O_EXITKILL the tracer's death is that of its tasks."""
    for seize in (1, 0):
        pid = _tracee(sys)
        say(wait(sys, say, sys.clone(_traces_and_dies, pid, O.PTRACE_O_EXITKILL, seize)))
        say(wait(sys, say, pid))


def _reaps_second(sys: Any, say: Any, pid: int, gates: list[Gate], reaps: int) -> None:
    sys.ptrace(R.PTRACE_SEIZE, pid)
    gates[0].open(sys)
    gates[1].wait(sys)
    if reaps:
        say("tracer", wait(sys, say, pid, WALL))
        say("tracer", wait(sys, say, pid, WALL))
    gates[2].open(sys)
    sleeper(sys)


def tracer_reaps_first(sys: Any, say: Any) -> None:
    """The death of a traced child is told to the tracer first, and to the parent when the tracer has waited for it."""
    gates = [Gate(sys) for _ in range(3)]
    pid = _tracee(sys)
    tracer = sys.clone(_reaps_second, say, pid, gates, 1)
    gates[0].wait(sys)
    sys.kill(pid, SIGTERM)
    # the stop before the signal
    comes_to(sys, pid, "t")
    sys.kill(pid, 9)
    comes_to(sys, pid, "Z")
    say("parent", wait(sys, say, pid, WNOHANG))
    gates[1].open(sys)
    gates[2].wait(sys)
    say("parent", wait(sys, say, pid))
    _end(sys, say, tracer)


def tracer_dies_before_it_reaps(sys: Any, say: Any) -> None:
    """If the tracer dies without waiting, the parent gets the zombie."""
    gates = [Gate(sys) for _ in range(3)]
    pid = _tracee(sys)
    tracer = sys.clone(_reaps_second, say, pid, gates, 0)
    gates[0].wait(sys)
    sys.kill(pid, 9)
    comes_to(sys, pid, "Z")
    say("parent", wait(sys, say, pid, WNOHANG))
    _end(sys, say, tracer)
    say("parent", wait(sys, say, pid, WNOHANG))


def parent_ignores_children(sys: Any, say: Any) -> None:
    """A traced zombie whose parent ignores SIGCHLD is gone when the tracer has waited for it."""
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    gates = [Gate(sys) for _ in range(3)]
    pid = _tracee(sys)
    tracer = sys.clone(_reaps_second, say, pid, gates, 1)
    gates[0].wait(sys)
    sys.kill(pid, 9)
    comes_to(sys, pid, "Z")
    say("zombie")
    gates[1].open(sys)
    gates[2].wait(sys)
    say(state(sys, pid))
    sys.kill(tracer, 9)
    say(wait(sys, say))


def sigchld_of_both_kinds(sys: Any, say: Any) -> None:
    """A stop sends the tracer SIGCHLD, unless it has SA_NOCLDSTOP."""
    sys.sigprocmask(0, sig(SIGCHLD))
    for flags in (0, 1):
        sys.sigaction(SIGCHLD, _noted, flags)
        pid = _tracee(sys)
        sys.ptrace(R.PTRACE_ATTACH, pid)
        say(wait(sys, say, pid), "pending" if sys.sigpending() & sig(SIGCHLD) else "not pending")
        _end(sys, say, pid)
        sys.sigaction(SIGCHLD, sys.SIG_IGN)


def _noted(sys: Any, number: int, info: Any) -> None:
    del sys, number, info


def waits_that_tell_of_stops(sys: Any, say: Any) -> None:
    """A tracer's wait tells of a stop whatever the options, and once; WNOWAIT leaves it there."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_ATTACH, pid)
    comes_to(sys, pid, "t")
    for options in (2 | 0x01000000 | 1, 2 | 1, 2 | 1):
        info = sys.waitid(1, pid, options)
        say("nothing" if info is None else f"code {info.si_code} status {info.si_status}")
    say(wait(sys, say, pid, WNOHANG))
    _end(sys, say, pid)


def orphan_of_a_tracer(sys: Any, say: Any) -> None:
    """A traced child whose parent dies gets another real parent, and keeps its tracer."""
    gate = Gate(sys)
    read, write = sys.pipe()
    parent = sys.clone(_has_a_child, gate, write)
    pid = int(sys.read(read, 20))
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    say(_who(sys, say, pid))
    gate.open(sys)
    say(wait(sys, say, parent))
    say(_who(sys, say, pid))
    _end(sys, say, pid)


def _has_a_child(sys: Any, gate: Gate, write: int) -> None:
    sys.write(write, str(sys.clone(sleeper)).encode())
    gate.wait(sys)
    sys.exit(4)


def normal_children_beside(sys: Any, say: Any) -> None:
    """Children that are not traced are waited for as ever; traced ones that are no children come after them."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    other = sys.clone(ends, 5)
    say(wait(sys, say))
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "t")
    say(wait(sys, say), other > pid)
    _end(sys, say, pid)
