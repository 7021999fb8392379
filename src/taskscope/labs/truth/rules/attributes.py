"""Whose a nice value, a policy, a name or an alarm is, and what becomes of them.  kernel/sys.c, fs/exec.c, sched(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, dead, execute, sig, sleeper, stat, wait

SIGUSR1, SIGCHLD = 10, 17
SIG_BLOCK = 0
WNOHANG, WCLONE = 1, 0x8000_0000
PR_SET_PDEATHSIG, PR_SET_NAME, PR_GET_NAME = 1, 15, 16
SCHED_OTHER, SCHED_BATCH, SCHED_IDLE = 0, 3, 5
PRIO_PROCESS, PRIO_PGRP = 0, 1


def _ends_with_nine(sys: Any, say: Any) -> None:
    say("ends")
    sys.exit(9)


def _executes_with_signal(sys: Any, gate: Gate) -> None:
    gate.wait(sys)
    execute(sys, _ends_with_nine)


def exit_signal_becomes_sigchld(sys: Any, say: Any) -> None:
    """A child with another exit signal is hidden from a plain wait until it executes a program, then it is not."""
    gate = Gate(sys)
    sys.sigprocmask(SIG_BLOCK, sig(SIGCHLD, SIGUSR1))
    pid = sys.clone(_executes_with_signal, gate, flags=SIGUSR1)
    say(wait(sys, say, pid, WNOHANG), wait(sys, say, pid, WNOHANG | WCLONE))
    gate.open(sys)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid, WNOHANG | WCLONE), wait(sys, say, pid), sys.sigpending() == sig(SIGCHLD))


def _tells_alarm(sys: Any, say: Any) -> None:
    say("left", 90 <= sys.alarm(0) <= 100)


def _executes_with_alarm(sys: Any) -> None:
    sys.alarm(100)
    execute(sys, _tells_alarm)


def alarm_goes_on(sys: Any, say: Any) -> None:
    """An alarm goes on in the new program."""
    say(wait(sys, say, sys.clone(_executes_with_alarm)))


def _waits_for_byte(sys: Any, say: Any, fd: str) -> None:
    del say
    sys.read(int(fd), 1)


def _executes_to_tell(sys: Any, read: int, write: int, gate: Gate) -> None:
    sys.close(read)
    sys.fcntl(write, 2, 1)
    execute(sys, _waits_for_byte, str(gate.read))


def parent_sees_the_end(sys: Any, say: Any) -> None:
    """A pipe whose last writing end has FD_CLOEXEC tells the reader of the execve(): end of file."""
    read, write = sys.pipe()
    gate = Gate(sys)
    pid = sys.clone(_executes_to_tell, read, write, gate)
    sys.close(write)
    say("read", len(sys.read(read, 10)), wait(sys, say, pid, WNOHANG))
    gate.open(sys)
    say(wait(sys, say, pid))


def _tells_policy(sys: Any, say: Any) -> None:
    say("policy", sys.sched_getscheduler(0), "nice", sys.getpriority(PRIO_PROCESS, 0))


def _executes_as_batch(sys: Any) -> None:
    sys.sched_setscheduler(0, SCHED_BATCH, 0)
    execute(sys, _tells_policy)


def exec_keeps_policy(sys: Any, say: Any) -> None:
    """execve() keeps the policy."""
    say(wait(sys, say, sys.clone(_executes_as_batch)))


def name_ends_at_nul(sys: Any, say: Any) -> None:
    """What stands behind a NUL byte is no part of the name."""
    say(attempt(sys.prctl, PR_SET_NAME, b"one\0two", 0, 0, 0), sys.prctl_get(PR_GET_NAME))


def name_in_proc(sys: Any, say: Any) -> None:
    """/proc/PID/comm and stat show the name, parentheses and spaces as they are."""
    sys.prctl(PR_SET_NAME, b"a) (b c", 0, 0, 0)
    say(sys.slurp("/proc/self/comm").decode().strip(), stat(sys, sys.getpid())[1])


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


def pdeathsig_of_a_killed_parent(sys: Any, say: Any) -> None:
    """It comes, too, when the parent is killed, and may be a realtime signal."""
    armed, told, go = Gate(sys), Gate(sys), Gate(sys)
    parent = sys.clone(_dies_first, say, armed, told, go, 40)
    armed.wait(sys)
    sys.kill(parent, 9)
    told.wait(sys)
    say(wait(sys, say, parent))


def _changes_policy(sys: Any, say: Any, gate: Gate, end: Gate) -> None:
    sys.sched_setscheduler(0, SCHED_BATCH, 0)
    say("thread", sys.sched_getscheduler(0))
    gate.open(sys)
    end.wait(sys)


def policy_is_of_the_thread(sys: Any, say: Any) -> None:
    """A policy is a thread's: another thread, asked by its tid, has another."""
    gate, end = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_changes_policy, say, gate, end)
    gate.wait(sys)
    say(sys.sched_getscheduler(0), sys.sched_getscheduler(tid))
    end.open(sys)


def policy_of_another(sys: Any, say: Any) -> None:
    """The policy of a child can be set and asked for; a zombie has one still, who was reaped has none."""
    child, zombie = sys.clone(sleeper), dead(sys)
    say(attempt(sys.sched_setscheduler, child, SCHED_BATCH, 0), sys.sched_getscheduler(child))
    say(attempt(sys.sched_getscheduler, zombie))
    sys.waitpid(zombie)
    say(attempt(sys.sched_getscheduler, zombie))
    sys.kill(child, 9)
    say(wait(sys, say, child))


def _sleeps_behind(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


def nice_of_the_own_group(sys: Any, say: Any) -> None:
    """PRIO_PGRP with 0 is the caller's group."""
    gate = Gate(sys)
    pid = sys.clone(_sleeps_behind, gate)
    say(attempt(sys.setpriority, PRIO_PGRP, 0, 3), sys.getpriority(PRIO_PROCESS, pid), sys.getpriority(PRIO_PGRP, 0))
    gate.open(sys)
    say(wait(sys, say, pid))


def _is_nice(sys: Any, say: Any, gate: Gate, end: Gate) -> None:
    sys.setpriority(PRIO_PROCESS, 0, 11)
    say("thread", sys.getpriority(PRIO_PROCESS, 0))
    gate.open(sys)
    end.wait(sys)


def nice_is_of_the_thread(sys: Any, say: Any) -> None:
    """On Linux a nice value is a thread's: 0 is the calling thread, a tid is that thread."""
    gate, end = Gate(sys), Gate(sys)
    tid = sys.pthread_create(_is_nice, say, gate, end)
    gate.wait(sys)
    say(sys.getpriority(PRIO_PROCESS, 0), sys.getpriority(PRIO_PROCESS, sys.getpid()), sys.getpriority(0, tid))
    end.open(sys)


def nice_in_stat(sys: Any, say: Any) -> None:
    """/proc/PID/stat shows the nice value, and a priority of 20 more."""
    sys.setpriority(PRIO_PROCESS, 0, 13)
    fields = sys.slurp("/proc/self/stat").decode().rpartition(")")[2].split()
    say("priority", fields[15], "nice", fields[16], "rt", fields[37], "policy", fields[38])


def nice_of_batch(sys: Any, say: Any) -> None:
    """A change of the policy keeps the nice value."""
    sys.setpriority(PRIO_PROCESS, 0, 8)
    sys.sched_setscheduler(0, SCHED_BATCH, 0)
    say(sys.getpriority(PRIO_PROCESS, 0))
    sys.sched_setscheduler(0, SCHED_IDLE, 0)
    say(sys.getpriority(PRIO_PROCESS, 0), sys.sched_getscheduler(0))
