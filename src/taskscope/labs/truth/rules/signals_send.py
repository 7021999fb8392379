"""Who may send which signal to whom: kill(2), tkill(2), sigqueue(3), pidfd_send_signal(2).  kernel/signal.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, dead, ends, sig, sleeper, wait

SIGUSR1, SIGCONT, RT = 10, 18, 34
NOBODY = 0x3FFF_FFFF
USER, OTHER = 1000, 1001


def kill_errors(sys: Any, say: Any) -> None:
    """kill() of nobody is ESRCH, whatever the signal; of somebody a number beyond 64 is EINVAL, and 0 asks only."""
    me = sys.getpid()
    for pid in (NOBODY, me, 0, -me, -NOBODY, -(1 << 31)):
        say("self" if abs(pid) == me else pid, [attempt(sys.kill, pid, number) for number in (0, 65, -1, 1000)])


def kill_a_group(sys: Any, say: Any) -> None:
    """A signal to a group reaches each member, and the sender if it is one; 0 is the own group."""
    pids = [sys.clone(sleeper) for _ in range(3)]
    for pid in pids[:2]:
        sys.setpgid(pid, pids[0])
    say(attempt(sys.kill, -pids[0], 9), attempt(sys.killpg, pids[0], 0))
    for pid in pids[:2]:
        say(wait(sys, say, pid))
    say(attempt(sys.kill, -pids[0], 0))
    sys.sigaction(SIGUSR1, lambda sys, sig, info: say("handler", sig, say.who(info.si_pid)), 4)
    say(attempt(sys.kill, 0, SIGUSR1))
    say(wait(sys, say, pids[2]))


def kill_all(sys: Any, say: Any) -> None:
    """kill(-1) reaches everybody but the sender and process 1."""
    pids = [sys.clone(sleeper) for _ in range(2)]
    sys.setpgid(pids[1], pids[1])
    say(attempt(sys.kill, -1, 9))
    for pid in pids:
        say(wait(sys, say, pid))
    say(attempt(sys.kill, 1, 0))


def zombies_can_be_signalled(sys: Any, say: Any) -> None:
    """To send a signal to a zombie is no error and does nothing; when it is reaped it is ESRCH."""
    pid = dead(sys, 3)
    say(attempt(sys.kill, pid, 9), attempt(sys.tkill, pid, 9), attempt(sys.tgkill, pid, pid, 9))
    say(wait(sys, say, pid))
    say(attempt(sys.kill, pid, 9), attempt(sys.tkill, pid, 9), attempt(sys.tgkill, pid, pid, 9))


def thread_errors(sys: Any, say: Any) -> None:
    """tkill() and tgkill() take positive ids only; a thread of another process is ESRCH to tgkill()."""
    me = sys.getpid()
    pid = sys.clone(sleeper)
    for tgid, tid in ((0, me), (me, 0), (-1, me), (me, -1), (me, pid), (pid, me), (NOBODY, NOBODY), (me, NOBODY)):
        say(attempt(sys.tgkill, tgid, tid, 0))
    say([attempt(sys.tkill, tid, 0) for tid in (0, -1, NOBODY, pid, me)])
    say([attempt(sys.tgkill, me, me, number) for number in (0, 65, -1)])


def kill_finds_the_process_of_a_thread(sys: Any, say: Any) -> None:
    """kill() with the id of a thread is for its process."""
    gate, done = Gate(sys), Gate(sys)
    took: list[int] = []

    def handler(sys: Any, sig: int, info: Any) -> None:
        took.append(sys.gettid())
        done.open(sys)

    def thread(sys: Any) -> None:
        sys.sigprocmask(0, sig(SIGUSR1))
        done.open(sys)
        gate.wait(sys)

    sys.sigaction(SIGUSR1, handler)
    tid = sys.pthread_create(thread)
    done.wait(sys)
    say(attempt(sys.kill, tid, SIGUSR1))
    done.wait(sys)
    say(took == [sys.getpid()])
    gate.open(sys)


def codes_that_may_be_queued(sys: Any, say: Any) -> None:
    """To others only negative codes may be sent, and not SI_TKILL; to oneself every code."""
    pid = sys.clone(_blocks_and_sleeps)
    asleep(sys, pid)
    for code in (-1, -2, -6, -60, 0, 1, 0x80):
        say(code, attempt(sys.rt_sigqueueinfo, pid, RT, code), attempt(sys.rt_tgsigqueueinfo, pid, pid, RT, code))
    sys.sigprocmask(0, sig(RT))
    for code in (-1, -6, 0, 5):
        say(code, attempt(sys.rt_sigqueueinfo, sys.getpid(), RT, code, 9), sys.sigtimedwait(sig(RT), 0).si_code)


def _blocks_and_sleeps(sys: Any) -> None:
    sys.sigprocmask(0, sig(RT))
    sleeper(sys)


def queue_errors(sys: Any, say: Any) -> None:
    """sigqueue() of nobody is ESRCH, of a bad signal EINVAL; it does not know groups."""
    me = sys.getpid()
    say(attempt(sys.sigqueue, NOBODY, RT), attempt(sys.sigqueue, me, 65), attempt(sys.sigqueue, me, 0))
    say(attempt(sys.sigqueue, -me, 0), attempt(sys.sigqueue, 0, 0))
    say(attempt(sys.rt_tgsigqueueinfo, me, 0, RT, -1), attempt(sys.rt_tgsigqueueinfo, me, NOBODY, RT, -1))


# ---- permissions ----------------------------------------------------------------------------------------

def _as(sys: Any, uid: int, fn: Any, *args: Any) -> Any:
    sys.setuid(uid)
    return fn(sys, *args)


def others_may_not_be_signalled(sys: Any, say: Any) -> None:
    """Without CAP_KILL a process of another user is EPERM, also for signal 0; the own user's can be killed."""
    pids = [sys.clone(_as, uid, sleeper) for uid in (OTHER, USER)]
    for pid in pids:
        asleep(sys, pid)
    say(wait(sys, say, sys.clone(_as, USER, _tries, say, [*pids, 1, sys.getpid()])))
    say(wait(sys, say, pids[1]))


def _tries(sys: Any, say: Any, pids: list[int]) -> None:
    for pid in pids:
        say(say.who(pid), attempt(sys.kill, pid, 0), attempt(sys.tkill, pid, 0), attempt(sys.kill, pid, 15))
    say(attempt(sys.kill, -sys.getpgrp(), 0), attempt(sys.sigqueue, pids[0], 15))


def continue_is_free_in_a_session(sys: Any, say: Any) -> None:
    """SIGCONT may be sent to every process of the own session, whoever runs it."""
    pids = [sys.clone(_as, OTHER, sleeper), sys.clone(_own_session)]
    for pid in pids:
        asleep(sys, pid)
    say(wait(sys, say, sys.clone(_as, USER, _continues, say, pids)))


def _own_session(sys: Any) -> None:
    sys.setsid()
    _as(sys, OTHER, sleeper)


def _continues(sys: Any, say: Any, pids: list[int]) -> None:
    for pid in pids:
        say(attempt(sys.kill, pid, SIGCONT), attempt(sys.kill, pid, 0))


def group_with_some_permitted(sys: Any, say: Any) -> None:
    """A signal to a group works if one member may be signalled, and is EPERM if none may."""
    pids = [sys.clone(_as, uid, sleeper) for uid in (OTHER, OTHER, USER)]
    for pid in pids:
        sys.setpgid(pid, pids[0])
        asleep(sys, pid)
    say(wait(sys, say, sys.clone(_as, USER, _kills_group, say, pids[0])))
    say(wait(sys, say, pids[2]))
    say(wait(sys, say, sys.clone(_as, USER, _kills_group, say, pids[0])))


def _kills_group(sys: Any, say: Any, group: int) -> None:
    say(attempt(sys.kill, -group, 15))


def kill_all_skips_the_forbidden(sys: Any, say: Any) -> None:
    """kill(-1) is no error if somebody may be signalled, and is EPERM never: those who may not are passed over."""
    pid = sys.clone(_as, USER, sleeper)
    asleep(sys, pid)
    say(wait(sys, say, sys.clone(_as, USER, _kills_all, say)))
    say(wait(sys, say, pid))
    say(wait(sys, say, sys.clone(_as, USER, _kills_all, say)))


def _kills_all(sys: Any, say: Any) -> None:
    say(attempt(sys.kill, -1, 15))


# ---- process 1 ------------------------------------------------------------------------------------------

def process_one_is_immune(sys: Any, say: Any) -> None:
    """Process 1 is sent no signal that it has no handler for, SIGKILL and SIGSTOP included: that is no error."""
    for number in (9, 19, 15, 11, SIGUSR1, RT):
        say(number, attempt(sys.kill, 1, number), attempt(sys.tgkill, 1, 1, number))
    say(attempt(sys.sigqueue, 1, 15), attempt(sys.kill, 1, 0))


# ---- descriptors ----------------------------------------------------------------------------------------

_NONE = "pidfd_send_signal() came with v5.1, pidfd_open() with v5.3"


@differs(_NONE, "4.19-arm")
def pidfd_signals_a_process(sys: Any, say: Any) -> None:
    """pidfd_send_signal() signals the process behind a descriptor; when that is reaped it is ESRCH."""
    pid = sys.clone(sleeper)
    fd = sys.pidfd_open(pid, 0)
    say(attempt(sys.pidfd_send_signal, fd, 0), attempt(sys.pidfd_send_signal, fd, 65))
    say(attempt(sys.pidfd_send_signal, fd, 15))
    say(wait(sys, say, pid), attempt(sys.pidfd_send_signal, fd, 0))


@differs(_NONE, "4.19-arm")
def pidfd_errors(sys: Any, say: Any) -> None:
    """What is no pidfd is EBADF, an unknown flag EINVAL."""
    pid = sys.clone(ends, 0)
    fd = sys.pidfd_open(pid, 0)
    read, _ = sys.pipe()
    say(attempt(sys.pidfd_send_signal, read, 0), attempt(sys.pidfd_send_signal, 77, 0))
    say(attempt(sys.pidfd_send_signal, fd, 0, 8), attempt(sys.pidfd_send_signal, fd, 0, 1 << 31))
    say(attempt(sys.pidfd_open, 0, 0), attempt(sys.pidfd_open, NOBODY, 0), attempt(sys.pidfd_open, pid, 1))


@differs(_NONE, "4.19-arm")
@differs("flags of pidfd_send_signal() came with v6.9 (81b9d8ac0640, \"pidfd: change pidfd_send_signal() to respect "
         "PIDFD_THREAD\", and the one after it)", "6.1-x86_64")
def pidfd_flags_choose_who(sys: Any, say: Any) -> None:
    """pidfd_send_signal() can be for the thread (1), the process (2) or the group (4), and only one of them."""

    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler", number, info.si_code)

    pid = sys.clone(sleeper)
    sys.setpgid(pid, pid)
    sys.sigaction(SIGUSR1, handler, 4)
    mine, its = sys.pidfd_open(sys.getpid(), 0), sys.pidfd_open(pid, 0)
    for flags in (1, 2, 3, 4, 6):
        say(flags, attempt(sys.pidfd_send_signal, mine, SIGUSR1, flags))
    say(attempt(sys.pidfd_send_signal, its, 15, 4), wait(sys, say, pid))


@differs(_NONE, "4.19-arm")
@differs("PIDFD_SELF came with v6.14 (\"pidfd: add PIDFD_SELF* sentinels to refer to own thread/process\")",
         "6.1-x86_64")
def pidfd_self(sys: Any, say: Any) -> None:
    """pidfd_send_signal() knows the own thread as -10000 and the own process as -10001."""

    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler", number, info.si_code)

    sys.sigaction(SIGUSR1, handler, 4)
    say(attempt(sys.pidfd_send_signal, -10000, SIGUSR1), attempt(sys.pidfd_send_signal, -10001, SIGUSR1))
    say(attempt(sys.pidfd_send_signal, -10002, SIGUSR1))
