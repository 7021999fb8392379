"""sigaction(2): handlers, flags, masks, default actions.  kernel/signal.c, sigaction(2), sigaltstack(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import Gate, attempt, execute, field, sig, sleeper, wait

SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT = 10, 12, 17, 18
NOCLDSTOP, NOCLDWAIT, SIGINFO, ONSTACK, RESTART, NODEFER, RESETHAND = (
    1, 2, 4, 0x0800_0000, 0x1000_0000, 0x4000_0000, 0x8000_0000)
SS_ONSTACK, SS_DISABLE, SS_AUTODISARM = 1, 2, 1 << 31
RT = 34
STACK = 0x0050_0000
SIZE = 1 << 20
RLIMIT_CORE = 4


def codes_of_senders(sys: Any, say: Any) -> None:
    """si_code tells kill() (0), tgkill() (-6) and sigqueue() (-1, with a value) from each other."""

    def handler(sys: Any, number: int, info: Any) -> None:
        value = info.si_value if info.si_code == -1 else "-"
        say(number, info.si_code, info.si_errno, say.who(info.si_pid), info.si_uid, value)

    sys.sigaction(RT, handler, SIGINFO)
    me = sys.getpid()
    sys.kill(me, RT)
    sys.raise_(RT)
    sys.tkill(me, RT)
    sys.sigqueue(me, RT, 4711)
    sys.rt_tgsigqueueinfo(me, me, RT, -1, 4712)


@differs("23acdc76f179, \"signal: clear non-uapi flag bits when passing/returning sa_flags\", v5.11", "4.19-arm")
def unknown_flags_are_forgotten(sys: Any, say: Any) -> None:
    """Bits of sa_flags that mean nothing are not returned, nor is SA_UNSUPPORTED."""
    sys.sigaction(SIGUSR1, 1, 0x400 | 0x40 | RESTART)
    say(f"{sys.sigaction(SIGUSR1)[1]:#x}")


def handlers_nest(sys: Any, say: Any) -> None:
    """A handler is interrupted by other signals, and by its own with SA_NODEFER; else that comes when it returns."""
    depth: list[int] = []

    def handler(sys: Any, number: int, info: Any) -> None:
        say("begin", number, len(depth))
        depth.append(number)
        if len(depth) == 1:
            sys.raise_(number)
            sys.raise_(SIGUSR2)
        say("end", number)

    for flags in (0, NODEFER):
        depth.clear()
        sys.sigaction(SIGUSR1, handler, flags)
        sys.sigaction(SIGUSR2, handler)
        sys.raise_(SIGUSR1)


def _raises(sys: Any, number: int) -> None:
    sys.raise_(number)


def _says_actions(sys: Any, say: Any) -> None:
    sys.raise_(SIGUSR1)
    sys.raise_(SIGUSR2)
    say(sys.sigaction(SIGUSR2)[0], field(sys, sys.getpid(), "SigIgn"))


def fork_inherits_actions(sys: Any, say: Any) -> None:
    """A child has its parent's handlers and ignored signals; to change them later changes nothing in the other."""
    sys.sigaction(SIGUSR1, lambda sys, number, info: say("handler", say.who(sys.getpid())))
    sys.sigaction(SIGUSR2, 1)
    gate = Gate(sys)
    pid = sys.clone(_waits_then_says, say, gate)
    sys.sigaction(SIGUSR1, 0)
    sys.sigaction(SIGUSR2, 0)
    gate.open(sys)
    say(wait(sys, say, pid))


def _waits_then_says(sys: Any, say: Any, gate: Gate) -> None:
    gate.wait(sys)
    _says_actions(sys, say)


def exec_resets_handlers(sys: Any, say: Any) -> None:
    """execve() gives what has a handler its default action, and leaves ignored what is ignored; flags and masks go."""
    sys.sigaction(SIGUSR1, lambda sys, sig, info: None, RESTART, sig(15))
    sys.sigaction(SIGUSR2, 1, NODEFER)
    sys.sigaltstack((STACK, 0, SIZE))
    execute(sys, _after_exec)


def _after_exec(sys: Any, say: Any) -> None:
    say(sys.sigaction(SIGUSR1), sys.sigaction(SIGUSR2))
    say(sys.sigaltstack()[1:])


# ---- defaults -------------------------------------------------------------------------------------------

def _default(sys: Any, say: Any, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        pid = sys.clone(_raises, number)
        say(number, wait(sys, say, pid, 2))
        sys.kill(pid, 9) if number in (19, 20, 21, 22) else None
        say(wait(sys, say, pid) if number in (19, 20, 21, 22) else "-")


def default_terminates(sys: Any, say: Any) -> None:
    """Most signals end a process by default, real-time signals too, and the status has the number."""
    _default(sys, say, (1, 2, 9, 10, 12, 13, 14, 15, 16, 26, 27, 29, 30, 34, 50, 64))


def default_dumps(sys: Any, say: Any) -> None:
    """Ten signals end a process with a core by default; with RLIMIT_CORE 0 there is none, and the bit is not set."""
    sys.setrlimit(RLIMIT_CORE, (0, 0))
    _default(sys, say, (3, 4, 5, 6, 7, 8, 11, 24, 25, 31))


def default_stops(sys: Any, say: Any) -> None:
    """Four signals stop a process by default, the three of the terminal only where its group is not orphaned."""
    for number in (19, 20, 21, 22):
        pid = sys.clone(_own_group_raises, number)
        say(number, wait(sys, say, pid, 2))
        sys.kill(pid, 9)
        say(wait(sys, say, pid))


def _own_group_raises(sys: Any, number: int) -> None:
    sys.setpgid(0, 0)
    sys.raise_(number)


def default_ignores(sys: Any, say: Any) -> None:
    """SIGCHLD, SIGCONT, SIGURG and SIGWINCH do nothing by default."""
    _default(sys, say, (17, 18, 23, 28))


def dead_of_what_a_thread_did(sys: Any, say: Any) -> None:
    """A fatal signal to one thread ends the process, with the number as its status."""
    for number in (15, 11, RT):
        pid = sys.clone(_threads_die, number)
        say(number, wait(sys, say, pid))


def _threads_die(sys: Any, number: int) -> None:
    sys.setrlimit(RLIMIT_CORE, (0, 0))
    tids = [sys.pthread_create(sleeper) for _ in range(2)]
    sys.tgkill(sys.getpid(), tids[0], number)
    sleeper(sys)


def blocked_and_ignored_do_not_kill(sys: Any, say: Any) -> None:
    """Blocked or ignored, a signal that is fatal by default kills nobody; unblocked it does."""
    pid = sys.clone(_survives, say)
    say(wait(sys, say, pid))


def _survives(sys: Any, say: Any) -> None:
    sys.sigaction(15, 1)
    sys.sigprocmask(0, sig(SIGUSR1))
    sys.raise_(15)
    sys.raise_(SIGUSR1)
    say("alive")
    sys.sigprocmask(1, sig(SIGUSR1))
    say("not reached")


# ---- the alternate stack --------------------------------------------------------------------------------

def altstack_is_set_and_told(sys: Any, say: Any) -> None:
    """sigaltstack() returns what was set; SS_DISABLE takes it away; SS_ONSTACK to set it means nothing."""
    say(sys.sigaltstack()[1:])
    say(sys.sigaltstack((STACK, 0, SIZE))[1:])
    say(sys.sigaltstack() == (STACK, 0, SIZE))
    say(sys.sigaltstack((STACK, SS_ONSTACK, SIZE)) == (STACK, 0, SIZE), sys.sigaltstack() == (STACK, 0, SIZE))
    say(sys.sigaltstack((STACK, SS_DISABLE, SIZE)) == (STACK, 0, SIZE), sys.sigaltstack())
    say(sys.sigaltstack((STACK, SS_AUTODISARM, SIZE)), sys.sigaltstack() == (STACK, SS_AUTODISARM, SIZE))


def altstack_errors(sys: Any, say: Any) -> None:
    """A stack of less than 2048 bytes is ENOMEM, an unknown flag EINVAL, and the old stack stays."""
    sys.sigaltstack((STACK, 0, SIZE))
    for ss in ((STACK, 0, 2047), (STACK, 0, 0), (STACK, 4, SIZE), (STACK, 3, SIZE), (STACK, 8, 0)):
        say(attempt(sys.sigaltstack, ss))
    say(sys.sigaltstack() == (STACK, 0, SIZE))


def handlers_on_the_altstack(sys: Any, say: Any) -> None:
    """A handler with SA_ONSTACK runs on the alternate stack, which then says SS_ONSTACK and cannot be changed: EPERM.

    One without runs on the stack that the program is on, be it that.
    """

    def handler(sys: Any, number: int, info: Any) -> None:
        say(number, sys.sigaltstack()[1:], attempt(sys.sigaltstack, (0, SS_DISABLE, 0)) if number != RT else "-")
        if number == SIGUSR1:
            sys.raise_(SIGUSR2)

    sys.sigaltstack((STACK, 0, SIZE))
    sys.sigaction(SIGUSR1, handler, ONSTACK)
    sys.sigaction(SIGUSR2, handler)
    sys.sigaction(RT, handler)
    sys.raise_(SIGUSR1)
    say(sys.sigaltstack() == (STACK, 0, SIZE))
    sys.raise_(RT)


def altstack_that_disarms(sys: Any, say: Any) -> None:
    """With SS_AUTODISARM the alternate stack is off while a handler runs on it, can be set, and comes back after."""

    def handler(sys: Any, number: int, info: Any) -> None:
        say(sys.sigaltstack(), attempt(sys.sigaltstack, (STACK + SIZE, 0, SIZE))[1])
        say(sys.sigaltstack() == (STACK + SIZE, 0, SIZE))

    sys.sigaltstack((STACK, SS_AUTODISARM, SIZE))
    sys.sigaction(SIGUSR1, handler, ONSTACK)
    sys.raise_(SIGUSR1)
    say(sys.sigaltstack() == (STACK, SS_AUTODISARM, SIZE))


def _says_altstack(sys: Any, say: Any) -> None:
    say(sys.sigaltstack() == (STACK, 0, SIZE))


def fork_keeps_the_altstack(sys: Any, say: Any) -> None:
    """A child of fork() has its parent's alternate stack."""
    sys.sigaltstack((STACK, 0, SIZE))
    say(wait(sys, say, sys.clone(_says_altstack, say)))


def threads_have_no_altstack(sys: Any, say: Any) -> None:
    """A new thread has no alternate stack."""
    gate = Gate(sys)

    def thread(sys: Any) -> None:
        say(sys.sigaltstack()[1:])
        gate.open(sys)

    sys.sigaltstack((STACK, 0, SIZE))
    sys.pthread_create(thread)
    gate.wait(sys)
