"""Process groups and sessions: setpgid(2), setsid(2), kill(2) of groups.  kernel/sys.c, kernel/signal.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, attempt, comes_to, dead, execute, kill, sleeper, started, stat, wait

SIGKILL, SIGTERM = 9, 15
NOBODY = 0x3FFFFFFF


def _gone(sys: Any, pid: int) -> str:
    """Return a process's state, after waiting until it is dead."""
    comes_to(sys, pid, "Z")
    return "dead"


# ---- setpgid --------------------------------------------------------------------------------------------

def leader_of_everything(sys: Any, say: Any) -> None:
    """Who has begun a session leads it and its first group."""
    me = sys.getpid()
    say(sys.getpgid(0) == me, sys.getsid(0) == me, sys.getpgid(me) == me, sys.getsid(me) == me)


def own_group(sys: Any, say: Any) -> None:
    """setpgid(0, 0) makes the caller the leader of a new group in the same session."""
    say(wait(sys, say, sys.clone(_groups_itself, say)))


def _groups_itself(sys: Any, say: Any) -> None:
    say(attempt(sys.setpgid, 0, 0), say.who(sys.getpgid(0)), say.who(sys.getsid(0)))
    say(attempt(sys.setpgid, 0, 0), attempt(sys.setpgid, sys.getpid(), sys.getpid()))


def child_by_parent(sys: Any, say: Any) -> None:
    """A parent can move a child to a group of its own, to another of the session, and back to its own."""
    one, two = started(sys), started(sys)
    for pid, group in ((one, 0), (two, one), (two, two), (two, sys.getpid()), (two, sys.getpid())):
        say(say.who(pid), say.who(group), attempt(sys.setpgid, pid, group), say.who(sys.getpgid(pid)))


def group_of_nobody(sys: Any, say: Any) -> None:
    """A group that does not exist, and is not the process's own number, gives EPERM."""
    pid = started(sys)
    other = dead(sys)
    sys.wait()
    say(attempt(sys.setpgid, pid, NOBODY), attempt(sys.setpgid, pid, other), say.who(sys.getpgid(pid)))


def pid_is_no_group(sys: Any, say: Any) -> None:
    """A process that leads no group is none: EPERM."""
    one, two = started(sys), started(sys)
    say(attempt(sys.setpgid, one, two), attempt(sys.setpgid, two, two), attempt(sys.setpgid, one, two))


def negative_group(sys: Any, say: Any) -> None:
    """A negative group gives EINVAL, before anything else is looked at."""
    for pid in (0, NOBODY, started(sys), -1):
        say(attempt(sys.setpgid, pid, -1), attempt(sys.setpgid, pid, -(1 << 31)))
    say(attempt(sys.setpgid, -5, 0))


def strangers(sys: Any, say: Any) -> None:
    """Who is neither the caller nor its child gives ESRCH: the parent, a sibling, a grandchild, nobody."""
    told = Gate(sys)
    child = sys.clone(_has_child, told.write)
    grandchild = int(sys.read(told.read, 16))
    for pid in (sys.getppid(), NOBODY, grandchild):
        say(attempt(sys.setpgid, pid, 0))
    say(wait(sys, say, sys.clone(_moves, say, child, sys.getpid())))


def _has_child(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.clone(sleeper)).encode())
    sleeper(sys)


def _moves(sys: Any, say: Any, sibling: int, parent: int) -> None:
    say("sibling", attempt(sys.setpgid, sibling, 0), attempt(sys.setpgid, parent, 0))


def session_leader(sys: Any, say: Any) -> None:
    """A session leader stays in its group: EPERM, for itself and for its parent."""
    say(attempt(sys.setpgid, 0, 0), attempt(sys.setpgid, sys.getpid(), 0))
    gate = Gate(sys)
    pid = sys.clone(_begins_session, gate)
    gate.wait(sys)
    say(attempt(sys.setpgid, pid, 0), attempt(sys.setpgid, pid, pid), attempt(sys.setpgid, pid, sys.getpid()))


def _begins_session(sys: Any, gate: Gate) -> None:
    sys.setsid()
    gate.open(sys)
    sleeper(sys)


def child_of_another_session(sys: Any, say: Any) -> None:
    """A child that has left the session cannot be moved: EPERM, even if it leads no session itself."""
    told = Gate(sys)
    sys.prctl(36, 1)
    child = sys.clone(_session_with_child, told.write)
    grandchild = int(sys.read(told.read, 16))
    comes_to(sys, child, "Z")
    say(say.who(sys.getsid(grandchild)), attempt(sys.setpgid, grandchild, 0))


def _session_with_child(sys: Any, fd: int) -> None:
    sys.setsid()
    pid = sys.clone(sleeper)
    sys.write(fd, str(pid).encode())


def group_of_another_session(sys: Any, say: Any) -> None:
    """A group of another session cannot be joined: EPERM."""
    gate = Gate(sys)
    other = sys.clone(_begins_session, gate)
    gate.wait(sys)
    pid = started(sys)
    say(attempt(sys.setpgid, pid, other), attempt(sys.setpgid, pid, 1), attempt(sys.setpgid, pid, sys.getpgid(other)))


def child_that_has_executed(sys: Any, say: Any) -> None:
    """A child that has executed a program is not moved any more: EACCES, though it may move itself."""
    gate, go = Gate(sys), Gate(sys)
    pid = sys.clone(_executes, gate.write, go.read)
    gate.wait(sys)
    say(attempt(sys.setpgid, pid, 0), attempt(sys.setpgid, pid, sys.getpid()))
    go.open(sys)
    say(wait(sys, say, pid))


def _executes(sys: Any, write: int, read: int) -> None:
    execute(sys, _program, str(write), str(read))


def _program(sys: Any, say: Any, write: str, read: str) -> None:
    sys.write(int(write), b"x")
    sys.read(int(read), 1)
    say("program", attempt(sys.setpgid, 0, 0), sys.getpgid(0) == sys.getpid())


def child_of_the_executed(sys: Any, say: Any) -> None:
    """A process that has executed a program moves the children that it makes afterwards."""
    pid = sys.clone(_executes_and_forks)
    say(wait(sys, say, pid))


def _executes_and_forks(sys: Any) -> None:
    execute(sys, _forks_and_moves)


def _forks_and_moves(sys: Any, say: Any) -> None:
    pid = started(sys)
    say("program", attempt(sys.setpgid, pid, 0), sys.getpgid(pid) == pid)
    kill(sys, pid)


def zombie_child(sys: Any, say: Any) -> None:
    """A zombie can still be moved to another group by its parent."""
    pid = dead(sys)
    say(attempt(sys.setpgid, pid, 0), sys.getpgid(pid) == pid, wait(sys, say, -pid))


def thread_is_no_process(sys: Any, say: Any) -> None:
    """The id of a thread that is not the first gives EINVAL."""
    gate = Gate(sys)
    tid = sys.pthread_create(_passes, gate)
    say(attempt(sys.setpgid, tid, 0))


def _passes(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


def thread_moves_process(sys: Any, say: Any) -> None:
    """A thread that calls setpgid(0, 0) moves its process, whose number the group gets."""
    say(wait(sys, say, sys.clone(_moved_by_thread, say)))


def _moved_by_thread(sys: Any, say: Any) -> None:
    gate = Gate(sys)
    sys.pthread_create(_groups_process, gate)
    gate.wait(sys)
    say(sys.getpgid(0) == sys.getpid())


def _groups_process(sys: Any, gate: Gate) -> None:
    sys.setpgid(0, 0)
    gate.open(sys)


# ---- groups live on -------------------------------------------------------------------------------------

def group_survives_leader(sys: Any, say: Any) -> None:
    """A group lives on without its leader as long as it has members, and can be joined."""
    one, two, three = started(sys), started(sys), started(sys)
    sys.setpgid(one, 0)
    sys.setpgid(two, one)
    kill(sys, one)
    sys.waitpid(one)
    say(say.who(sys.getpgid(two)), attempt(sys.setpgid, three, one), say.who(sys.getpgid(three)))
    say(attempt(sys.kill, one, 0), attempt(sys.kill, -one, 0))


def zombie_keeps_group(sys: Any, say: Any) -> None:
    """A zombie keeps its group: it can be joined, and is gone when the zombie is reaped."""
    one, two = started(sys), started(sys)
    sys.setpgid(one, 0)
    kill(sys, one)
    say(attempt(sys.setpgid, two, one), attempt(sys.setpgid, two, two))
    sys.waitpid(one)
    say(attempt(sys.setpgid, two, one))


def session_survives_leader(sys: Any, say: Any) -> None:
    """A process stays in its session when the leader is gone."""
    told = Gate(sys)
    leader = sys.clone(_session_with_child, told.write)
    child = int(sys.read(told.read, 16))
    sys.waitpid(leader)
    say(say.who(sys.getsid(child)), say.who(sys.getpgid(child)), attempt(sys.getsid, leader))


# ---- setsid ---------------------------------------------------------------------------------------------

def new_session(sys: Any, say: Any) -> None:
    """setsid() makes the caller the leader of a new session and a new group, and returns its pid."""
    say(wait(sys, say, sys.clone(_new_session, say)))


def _new_session(sys: Any, say: Any) -> None:
    me = sys.getpid()
    say(sys.setsid() == me, sys.getsid(0) == me, sys.getpgid(0) == me, say.who(sys.getppid()))


def group_leader_begins_no_session(sys: Any, say: Any) -> None:
    """A group leader cannot begin a session: EPERM; nor can a session leader."""
    say(attempt(sys.setsid), wait(sys, say, sys.clone(_leads_and_tries, say)))


def _leads_and_tries(sys: Any, say: Any) -> None:
    sys.setpgid(0, 0)
    say("leader", attempt(sys.setsid), sys.getsid(0) == sys.getpid())


def group_of_own_number(sys: Any, say: Any) -> None:
    """Who has left the group of its own number, with others in it, cannot begin a session: EPERM."""
    gate = Gate(sys)
    one = sys.clone(_tries_when_told, say, gate)
    two = started(sys)
    sys.setpgid(one, 0)
    sys.setpgid(two, one)
    sys.setpgid(one, sys.getpid())
    gate.open(sys)
    say(wait(sys, say, one))


def _tries_when_told(sys: Any, say: Any, gate: Gate) -> None:
    gate.wait(sys)
    result = attempt(sys.setsid)
    say(result if isinstance(result, str) else result == sys.getpid())


def moved_leader_begins_session(sys: Any, say: Any) -> None:
    """A former group leader whose group is empty can begin a session."""
    gate = Gate(sys)
    one = sys.clone(_tries_when_told, say, gate)
    sys.setpgid(one, 0)
    sys.setpgid(one, sys.getpid())
    gate.open(sys)
    say(wait(sys, say, one))


def children_stay(sys: Any, say: Any) -> None:
    """Children that a process had before setsid() stay in the old session, later ones are in the new."""
    say(wait(sys, say, sys.clone(_session_between_children, say, sys.getpid())))


def _session_between_children(sys: Any, say: Any, old: int) -> None:
    before = started(sys)
    sys.setsid()
    later = started(sys)
    say(sys.getsid(before) == old, sys.getsid(later) == sys.getpid(), sys.getpgid(before) == old)
    say(attempt(sys.setpgid, before, 0), attempt(sys.setpgid, later, 0))


# ---- asking ---------------------------------------------------------------------------------------------

def of_nobody(sys: Any, say: Any) -> None:
    """Group and session of nobody give ESRCH."""
    for pid in (NOBODY, -1, -sys.getpid()):
        say(attempt(sys.getpgid, pid), attempt(sys.getsid, pid))


def of_another_session(sys: Any, say: Any) -> None:
    """Group and session of a process of another session may be asked for."""
    gate = Gate(sys)
    pid = sys.clone(_begins_session, gate)
    gate.wait(sys)
    say(sys.getsid(pid) == pid, sys.getpgid(pid) == pid, sys.getsid(1) <= 1)


def of_a_zombie(sys: Any, say: Any) -> None:
    """A zombie still has its group and its session."""
    pid = dead(sys)
    say(say.who(sys.getpgid(pid)), say.who(sys.getsid(pid)), stat(sys, pid)[4] == str(sys.getpid()))


def of_a_thread(sys: Any, say: Any) -> None:
    """A thread's id may be asked for: it has the group and session of its process."""
    gate = Gate(sys)
    tid = sys.pthread_create(_passes, gate)
    say(say.who(sys.getpgid(tid)), say.who(sys.getsid(tid)))


# ---- signals to groups ----------------------------------------------------------------------------------

def kill_group(sys: Any, say: Any) -> None:
    """kill() of a negative pid reaches every member of the group and nobody else."""
    pids = [started(sys) for _ in range(4)]
    for pid in pids[1:3]:
        sys.setpgid(pid, pids[1])
    sys.kill(-pids[1], SIGTERM)
    say([_gone(sys, pid) for pid in pids[1:3]], [stat(sys, pid)[2] for pid in (pids[0], pids[3])])


def kill_own_group(sys: Any, say: Any) -> None:
    """kill() of 0 reaches the caller's group, the caller too."""
    one, two = started(sys), started(sys)
    sys.setpgid(one, 0)
    pid = sys.clone(_kills_group)
    say(wait(sys, say, pid), stat(sys, one)[2], stat(sys, two)[2])


def _kills_group(sys: Any) -> None:
    sys.setpgid(0, 0)
    sys.kill(0, SIGTERM)
    sys.exit(99)


def kill_all(sys: Any, say: Any) -> None:
    """kill() of -1 reaches everybody but the caller and process 1."""
    pids = [started(sys) for _ in range(3)]
    sys.setpgid(pids[0], 0)
    sys.sigaction(SIGTERM, sys.SIG_IGN)
    say(attempt(sys.kill, -1, SIGTERM), [_gone(sys, pid) for pid in pids], attempt(sys.kill, 1, 0))


def kill_group_of_nobody(sys: Any, say: Any) -> None:
    """kill() of a group that does not exist gives ESRCH, of a process that leads none too."""
    pid = started(sys)
    say(attempt(sys.kill, -NOBODY, 0), attempt(sys.kill, -pid, SIGTERM), attempt(sys.kill, pid, 0))


def kill_group_of_zombies(sys: Any, say: Any) -> None:
    """kill() of a group of zombies succeeds."""
    pid = dead(sys)
    sys.setpgid(pid, 0)
    say(attempt(sys.kill, -pid, SIGTERM), wait(sys, say, pid), attempt(sys.kill, -pid, SIGTERM))


def kill_bad_signal(sys: Any, say: Any) -> None:
    """A number that is no signal gives EINVAL, if there is somebody to send it to, else ESRCH."""
    pid = started(sys)
    for signal in (65, -1, 1000):
        say(signal, attempt(sys.kill, pid, signal), attempt(sys.kill, -sys.getpid(), signal),
            attempt(sys.kill, NOBODY, signal))


def kill_nothing(sys: Any, say: Any) -> None:
    """Signal 0 is not sent, it tells whether there is somebody."""
    pid = started(sys)
    say(attempt(sys.kill, pid, 0), attempt(sys.kill, 0, 0), attempt(sys.kill, NOBODY, 0), stat(sys, pid)[2])
    kill(sys, pid)
    say(attempt(sys.kill, pid, 0), attempt(sys.kill, pid, SIGKILL), wait(sys, say, pid), attempt(sys.kill, pid, 0))


def kill_minus_int_min(sys: Any, say: Any) -> None:
    """The lowest number has no negative: ESRCH."""
    say(attempt(sys.kill, -(1 << 31), 0))


def kill_in_exit_order(sys: Any, say: Any) -> None:
    """Every member of a killed group is told of, oldest first."""
    pids = [started(sys) for _ in range(3)]
    for pid in pids:
        sys.setpgid(pid, pids[0])
    sys.kill(-pids[0], SIGKILL)
    for pid in pids:
        comes_to(sys, pid, "Z")
    say([wait(sys, say) for _ in range(4)])
