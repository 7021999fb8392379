"""What is pending, for whom, in which order: the queues of signals.  kernel/signal.c, signal(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, execute, field, sig, sleeper, wait

SIG_BLOCK, SIG_UNBLOCK = 0, 1
SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGWINCH = 10, 12, 17, 18, 20, 21, 28
RT, RT2 = 34, 40
ALL = (1 << 64) - 1
RLIMIT_SIGPENDING = 11


def _take(sys: Any, *signals: int) -> Any:
    """Take a signal of a set at once: (number, code, value), or the error."""
    try:
        info = sys.sigtimedwait(sig(*signals), 0)
    except OSError:
        return "none"
    return info.si_signo, info.si_code, info.si_value if info.si_code < 0 and info.si_code != -6 else "-"


def only_blocked_are_pending(sys: Any, say: Any) -> None:
    """sigpending() returns what is pending and blocked."""
    sys.sigaction(SIGUSR1, lambda sys, sig, info: None)
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR2, RT))
    for number in (SIGUSR1, SIGUSR2, RT):
        sys.kill(sys.getpid(), number)
    say(f"{sys.sigpending():#x}")


def _says_pending(sys: Any, say: Any) -> None:
    say(f"{sys.sigpending():#x}", f"{sys.sigprocmask(SIG_BLOCK, 0):#x}")


def fork_clears_pending(sys: Any, say: Any) -> None:
    """A child inherits the mask, not what is pending."""
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1, RT))
    sys.kill(sys.getpid(), SIGUSR1)
    sys.raise_(RT)
    say(wait(sys, say, sys.clone(_says_pending, say)), f"{sys.sigpending():#x}")


def exec_keeps_pending(sys: Any, say: Any) -> None:
    """What is pending stays so over execve(), and so does the mask."""
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1, RT))
    sys.sigqueue(sys.getpid(), RT, 5)
    sys.raise_(SIGUSR1)
    execute(sys, _after_exec)


def _after_exec(sys: Any, say: Any) -> None:
    say(f"{sys.sigpending():#x}", f"{sys.sigprocmask(SIG_BLOCK, 0):#x}")
    say(_take(sys, RT, SIGUSR1), _take(sys, RT, SIGUSR1), _take(sys, RT, SIGUSR1))


def default_ignored_discards(sys: Any, say: Any) -> None:
    """To give a signal that is ignored by default its default action throws away what is pending of it."""
    for number in (SIGCHLD, SIGWINCH, SIGCONT, 23, SIGUSR1, SIGTSTP):
        sys.sigaction(number, lambda sys, sig, info: None)
        sys.sigprocmask(SIG_BLOCK, sig(number))
        sys.raise_(number)
        sys.sigaction(number, 0)
        say(number, f"{sys.sigpending():#x}", _take(sys, number))


def stop_takes_continue_away(sys: Any, say: Any) -> None:
    """A stop signal takes a pending SIGCONT away, and SIGCONT pending stop signals, blocked ones too."""
    for number in (SIGCONT, SIGTSTP, SIGTTIN):
        sys.sigaction(number, lambda sys, sig, info: None)
    sys.sigprocmask(SIG_BLOCK, sig(SIGCONT, SIGTSTP, SIGTTIN))
    for number in (SIGCONT, SIGTSTP, SIGTTIN, SIGCONT, SIGTTIN):
        sys.kill(sys.getpid(), number)
        say(number, f"{sys.sigpending():#x}")


def full_queue(sys: Any, say: Any) -> None:
    """With a full queue sigqueue() of a real-time signal is EAGAIN, kill() works, and siginfo is lost.

    What kill() sends of a standard signal has its siginfo always.
    """
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1, SIGUSR2, RT, RT2))
    sys.setrlimit(RLIMIT_SIGPENDING, (0, 0))
    me = sys.getpid()
    say(attempt(sys.sigqueue, me, RT, 1), attempt(sys.kill, me, RT2))
    say(attempt(sys.sigqueue, me, SIGUSR1, 1), attempt(sys.kill, me, SIGUSR2), attempt(sys.raise_, RT))
    for _ in range(4):
        try:
            info = sys.sigtimedwait(sig(SIGUSR1, SIGUSR2, RT, RT2), 0)
            say(info.si_signo, info.si_code, say.who(info.si_pid))
        except OSError:
            say("none")


def two_handlers_run_highest_first(sys: Any, say: Any) -> None:
    """Of two signals that become deliverable at once the lower is taken first, so the handler of the higher runs first.

    With a mask that blocks the other it is the lower one's.
    """
    for mask in (0, ALL):
        for number in (SIGUSR1, SIGUSR2, RT):
            sys.sigaction(number, lambda sys, sig, info: say("handler", sig), 0, mask)
        sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1, SIGUSR2, RT))
        for number in (SIGUSR2, RT, SIGUSR1):
            sys.kill(sys.getpid(), number)
        say("now")
        sys.sigprocmask(SIG_UNBLOCK, sig(SIGUSR1, SIGUSR2, RT))


def _thread(sys: Any, say: Any, gate: Gate, tids: list[int]) -> None:
    sys.sigprocmask(SIG_UNBLOCK, sig(SIGUSR1))
    gate.wait(sys)


def process_signal_finds_a_thread(sys: Any, say: Any) -> None:
    """A signal for the process goes to a thread that does not block it."""
    took: list[int] = []
    done, gate = Gate(sys), Gate(sys)

    def handler(sys: Any, sig: int, info: Any) -> None:
        took.append(sys.gettid())
        done.open(sys)

    sys.sigaction(SIGUSR1, handler)
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1))
    tid = sys.pthread_create(_thread, say, gate, took)
    asleep(sys, tid)
    sys.kill(sys.getpid(), SIGUSR1)
    done.wait(sys)
    say(took == [tid], f"{sys.sigpending():#x}")
    gate.open(sys)


def process_signal_waits_for_who_unblocks(sys: Any, say: Any) -> None:
    """A signal for the process that all threads block is taken by the first that unblocks it."""
    took: list[int] = []
    done, gate = Gate(sys), Gate(sys)

    def handler(sys: Any, sig: int, info: Any) -> None:
        took.append(sys.gettid())
        done.open(sys)

    def thread(sys: Any) -> None:
        gate.wait(sys)
        sys.sigprocmask(SIG_UNBLOCK, sig(SIGUSR1))
        gate.wait(sys)

    sys.sigaction(SIGUSR1, handler)
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1))
    tid = sys.pthread_create(thread)
    asleep(sys, tid)
    sys.kill(sys.getpid(), SIGUSR1)
    say(f"{sys.sigpending():#x}")
    gate.open(sys)
    done.wait(sys)
    say(took == [tid], f"{sys.sigpending():#x}")
    gate.open(sys)


def thread_signal_stays_with_it(sys: Any, say: Any) -> None:
    """What tgkill() sends to a thread that blocks it stays pending for it, though another would take it."""
    gate, ready = Gate(sys), Gate(sys)
    sys.sigaction(SIGUSR1, lambda sys, sig, info: say("handler"))

    def thread(sys: Any) -> None:
        sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1))
        ready.open(sys)
        gate.wait(sys)
        say(f"{sys.sigpending():#x}")
        ready.open(sys)
        gate.wait(sys)

    tid = sys.pthread_create(thread)
    ready.wait(sys)
    sys.tgkill(sys.getpid(), tid, SIGUSR1)
    say(f"{sys.sigpending():#x}")
    gate.open(sys)
    ready.wait(sys)


def blocking_hands_it_on(sys: Any, say: Any) -> None:
    """A signal for the process whose chosen thread dies before it takes it is taken by another."""
    gates = [Gate(sys) for _ in range(2)]
    done = Gate(sys)
    sys.sigaction(SIGUSR1, lambda sys, sig, info: done.open(sys))
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1))

    def leaves(sys: Any) -> None:
        gates[0].wait(sys)

    def stays(sys: Any) -> None:
        gates[1].wait(sys)
        sys.sigprocmask(SIG_UNBLOCK, sig(SIGUSR1))
        gates[1].wait(sys)

    sys.pthread_create(leaves)
    sys.pthread_create(stays)
    sys.kill(sys.getpid(), SIGUSR1)
    gates[0].open(sys)
    gates[1].open(sys)
    done.wait(sys)
    say(f"{sys.sigpending():#x}")
    gates[1].open(sys)


def status_shows_sets(sys: Any, say: Any) -> None:
    """/proc/PID/status has the sets: pending for the thread, for the process, blocked, ignored, caught."""
    pid = sys.clone(sleeper)
    asleep(sys, pid)
    sys.sigaction(SIGUSR1, lambda sys, sig, info: None)
    sys.sigaction(SIGUSR2, 1)
    sys.sigprocmask(SIG_BLOCK, sig(RT, 15))
    sys.kill(sys.getpid(), RT)
    sys.raise_(15)
    for name in ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"):
        say(name, field(sys, sys.getpid(), name), field(sys, pid, name))
