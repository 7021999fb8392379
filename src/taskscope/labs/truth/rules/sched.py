"""Policies, nice values, CPUs.  kernel/sched/syscalls.c (core.c until v6.11), kernel/sys.c; sched(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, attempt, dead, sleeper, wait

SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 0, 1, 2, 3, 5
RESET_ON_FORK = 0x4000_0000
PRIO_PROCESS, PRIO_PGRP = 0, 1
NOBODY = 0x3FFF_FFFF


# ---- policies -----------------------------------------------------------------------------------------------

def policy_at_first(sys: Any, say: Any) -> None:
    """A process begins with SCHED_OTHER; 0 means the caller."""
    say(sys.sched_getscheduler(0), sys.sched_getscheduler(sys.getpid()))


def policy_errors(sys: Any, say: Any) -> None:
    """A negative pid is EINVAL, nobody's is ESRCH, for asking and for setting."""
    for pid in (-1, NOBODY):
        say(attempt(sys.sched_getscheduler, pid), attempt(sys.sched_setscheduler, pid, SCHED_BATCH, 0))


def policy_and_priority_must_fit(sys: Any, say: Any) -> None:
    """Only realtime policies have a priority, 1 to 99; other policies must have 0."""
    for policy, priority in (
        (SCHED_OTHER, 1), (SCHED_BATCH, 1), (SCHED_IDLE, 99), (SCHED_FIFO, 0), (SCHED_FIFO, 100), (SCHED_RR, 0),
        (SCHED_RR, -1),
    ):
        say(policy, priority, attempt(sys.sched_setscheduler, 0, policy, priority), sys.sched_getscheduler(0))


def unknown_policies(sys: Any, say: Any) -> None:
    """A policy that does not exist gives EINVAL and changes nothing."""
    for policy in (4, 8, 99, -1, 0x2000_0000):
        say(attempt(sys.sched_setscheduler, 0, policy, 0), sys.sched_getscheduler(0))


def batch_and_back(sys: Any, say: Any) -> None:
    """SCHED_BATCH and SCHED_OTHER can be changed for each other."""
    for policy in (SCHED_BATCH, SCHED_OTHER, SCHED_BATCH):
        say(attempt(sys.sched_setscheduler, 0, policy, 0), sys.sched_getscheduler(0))


def priority_ranges(sys: Any, say: Any) -> None:
    """Priorities go from 1 to 99 for FIFO and RR and are 0 for the others; an unknown policy has none."""
    for policy in (SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE, 4, 99, -1):
        say(policy, attempt(sys.sched_get_priority_min, policy), attempt(sys.sched_get_priority_max, policy))


def _tells_policy(sys: Any, say: Any) -> None:
    say("child", sys.sched_getscheduler(0))


def policy_is_inherited(sys: Any, say: Any) -> None:
    """A child has its parent's policy."""
    sys.sched_setscheduler(0, SCHED_BATCH, 0)
    say(wait(sys, say, sys.clone(_tells_policy, say)))


def reset_on_fork(sys: Any, say: Any) -> None:
    """SCHED_RESET_ON_FORK is told with the policy, and a child has neither it nor a negative nice value."""
    sys.sched_setscheduler(0, SCHED_BATCH | RESET_ON_FORK, 0)
    say(sys.sched_getscheduler(0) == SCHED_BATCH | RESET_ON_FORK)
    say(wait(sys, say, sys.clone(_tells_policy, say)))


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


# ---- nice values ----------------------------------------------------------------------------------------------

def nice_is_clamped(sys: Any, say: Any) -> None:
    """A nice value above 19 is taken for 19."""
    for value in (5, 1000, 20, 19):
        say(attempt(sys.setpriority, PRIO_PROCESS, 0, value), sys.getpriority(PRIO_PROCESS, 0))


def nice_errors(sys: Any, say: Any) -> None:
    """Nobody's pid or group is ESRCH; what is no process, group or user is EINVAL."""
    for which, who in ((PRIO_PROCESS, NOBODY), (PRIO_PGRP, NOBODY), (3, 0), (-1, 0), (PRIO_PROCESS, -1)):
        say(which, attempt(sys.getpriority, which, who), attempt(sys.setpriority, which, who, 5))


def _sleeps_behind(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


def nice_of_a_group(sys: Any, say: Any) -> None:
    """PRIO_PGRP sets the nice value of every process of a group, and is told the lowest of them."""
    gate = Gate(sys)
    pids = [sys.clone(_sleeps_behind, gate) for _ in range(3)]
    for pid in pids:
        sys.setpgid(pid, pids[0])
    sys.setpriority(PRIO_PGRP, pids[0], 4)
    say([sys.getpriority(PRIO_PROCESS, pid) for pid in pids], sys.getpriority(PRIO_PROCESS, 0))
    sys.setpriority(PRIO_PROCESS, pids[1], 9)
    say(sys.getpriority(PRIO_PGRP, pids[0]))
    sys.setpriority(PRIO_PROCESS, pids[0], 12)
    sys.setpriority(PRIO_PROCESS, pids[2], 10)
    say(sys.getpriority(PRIO_PGRP, pids[0]))
    for _ in pids:
        gate.open(sys)
    say([wait(sys, say, pid) for pid in pids])


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


def nice_of_a_zombie(sys: Any, say: Any) -> None:
    """A zombie can be given a nice value; who was reaped cannot."""
    pid = dead(sys)
    say(attempt(sys.setpriority, PRIO_PROCESS, pid, 6), attempt(sys.getpriority, PRIO_PROCESS, pid))
    sys.waitpid(pid)
    say(attempt(sys.setpriority, PRIO_PROCESS, pid, 6), attempt(sys.getpriority, PRIO_PROCESS, pid))


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


# ---- CPUs -------------------------------------------------------------------------------------------------------

def _tells_cpus(sys: Any, say: Any) -> None:
    say("child", sorted(sys.sched_getaffinity(0)), sys.getcpu())


def affinity_is_inherited(sys: Any, say: Any) -> None:
    """A process that is bound to a CPU runs there, and so do its children."""
    say(attempt(sys.sched_setaffinity, 0, {0}), sorted(sys.sched_getaffinity(0)), sys.getcpu())
    say(wait(sys, say, sys.clone(_tells_cpus, say)))


def affinity_errors(sys: Any, say: Any) -> None:
    """No CPU at all, or none that there is, gives EINVAL; nobody's pid ESRCH."""
    say(attempt(sys.sched_setaffinity, 0, set()), attempt(sys.sched_setaffinity, 0, {60}))
    say(attempt(sys.sched_setaffinity, NOBODY, {0}), attempt(sys.sched_getaffinity, NOBODY))


def yield_is_no_sleep(sys: Any, say: Any) -> None:
    """sched_yield() returns 0, whether others want the CPU or not."""
    say(attempt(sys.sched_yield), attempt(sys.sched_yield))
