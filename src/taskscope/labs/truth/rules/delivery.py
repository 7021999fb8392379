"""Signals that wait: which are kept, in which order they come, who takes them.  kernel/signal.c, signal(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, field, raw, sig, started, stop, wait

SIGHUP, SIGINT, SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2 = 1, 2, 9, 10, 11, 12
SIGTERM, SIGCHLD, SIGCONT, SIGSTOP, SIGURG, SIGWINCH = 15, 17, 18, 19, 23, 28
SIGRTMIN, SIGRTMAX = 34, 64
BLOCK, UNBLOCK, SETMASK = 0, 1, 2
SA_SIGINFO, SA_NODEFER, SA_RESETHAND = 4, 0x40000000, 0x80000000
ALL = (1 << 64) - 1


def _tell(say: Any) -> Any:
    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys, info
        say("handler", signal)

    return handler


def _blocked(sys: Any, say: Any, *signals: int) -> None:
    """Block signals and give each a handler that says its number and blocks all meanwhile."""
    sys.sigprocmask(BLOCK, sig(*signals))
    for signal in signals:
        sys.sigaction(signal, _tell(say), 0, ALL)


# ---- pending --------------------------------------------------------------------------------------------

def blocked_is_pending(sys: Any, say: Any) -> None:
    """A blocked signal is pending until it is unblocked, and then its handler runs before the call returns."""
    _blocked(sys, say, SIGUSR1)
    sys.kill(sys.getpid(), SIGUSR1)
    say("pending", hex(sys.sigpending()))
    say("unblocked", hex(sys.sigprocmask(UNBLOCK, sig(SIGUSR1))), hex(sys.sigpending()))


def standard_signals_once(sys: Any, say: Any) -> None:
    """A standard signal that is pending already is not queued again."""
    _blocked(sys, say, SIGUSR1)
    for _ in range(3):
        sys.kill(sys.getpid(), SIGUSR1)
    sys.sigprocmask(SETMASK, 0)


def first_sender_is_kept(sys: Any, say: Any) -> None:
    """Of a standard signal that comes twice the first sender's siginfo is kept."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, say.who(info.si_pid))

    sys.sigprocmask(BLOCK, sig(SIGUSR1))
    sys.sigaction(SIGUSR1, handler, SA_SIGINFO)
    for _ in range(2):
        pid = sys.clone(_signals, sys.getpid(), SIGUSR1)
        sys.waitpid(pid)
        say(say.who(pid))
    sys.sigprocmask(SETMASK, 0)


def _signals(sys: Any, pid: int, signal: int) -> None:
    sys.kill(pid, signal)


def realtime_signals_queue(sys: Any, say: Any) -> None:
    """A realtime signal is queued as often as it is sent, and comes in the order in which it was sent."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys
        say("handler", signal, say.who(info.si_pid))

    sys.sigprocmask(BLOCK, sig(SIGRTMIN))
    sys.sigaction(SIGRTMIN, handler, SA_SIGINFO)
    for _ in range(3):
        sys.waitpid(sys.clone(_signals, sys.getpid(), SIGRTMIN))
    say(hex(sys.sigpending()))
    sys.sigprocmask(SETMASK, 0)
    say(hex(sys.sigpending()))


def lowest_first(sys: Any, say: Any) -> None:
    """Of several pending signals the one with the lowest number is taken first, whichever was sent first."""
    _blocked(sys, say, SIGTERM, SIGUSR2, SIGUSR1, SIGHUP, SIGRTMIN, SIGRTMAX)
    for signal in (SIGRTMAX, SIGTERM, SIGUSR2, SIGRTMIN, SIGUSR1, SIGHUP):
        sys.kill(sys.getpid(), signal)
    sys.sigprocmask(SETMASK, 0)


def thread_before_process(sys: Any, say: Any) -> None:
    """Signals that were sent to the thread are taken before those that were sent to the process."""
    _blocked(sys, say, SIGHUP, SIGTERM, SIGUSR1)
    sys.kill(sys.getpid(), SIGHUP)
    sys.raise_(SIGTERM)
    sys.raise_(SIGUSR1)
    sys.sigprocmask(SETMASK, 0)


def synchronous_first(sys: Any, say: Any) -> None:
    """Signals of faults are taken before others with lower numbers."""
    _blocked(sys, say, SIGHUP, SIGINT, SIGSEGV, SIGUSR1)
    for signal in (SIGHUP, SIGINT, SIGUSR1, SIGSEGV):
        sys.kill(sys.getpid(), signal)
    sys.sigprocmask(SETMASK, 0)


def nested_handlers(sys: Any, say: Any) -> None:
    """A handler during which nothing else is blocked is interrupted by the next pending signal before it begins."""
    sys.sigprocmask(BLOCK, sig(SIGUSR1, SIGUSR2))

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("begin", signal, hex(sys.sigprocmask(BLOCK, 0)))

    for signal in (SIGUSR1, SIGUSR2):
        sys.sigaction(signal, handler)
        sys.kill(sys.getpid(), signal)
    sys.sigprocmask(SETMASK, 0)
    say("after", hex(sys.sigprocmask(BLOCK, 0)))


def pending_of_thread_and_process(sys: Any, say: Any) -> None:
    """sigpending() shows what is pending for the thread and for the process."""
    _blocked(sys, say, SIGUSR1, SIGUSR2)
    sys.raise_(SIGUSR1)
    sys.kill(sys.getpid(), SIGUSR2)
    say(hex(sys.sigpending()), field(sys, sys.getpid(), "SigPnd"), field(sys, sys.getpid(), "ShdPnd"))


def in_both_queues(sys: Any, say: Any) -> None:
    """A standard signal may be pending once for the thread and once for the process."""
    _blocked(sys, say, SIGUSR1)
    sys.raise_(SIGUSR1)
    sys.kill(sys.getpid(), SIGUSR1)
    sys.kill(sys.getpid(), SIGUSR1)
    sys.sigprocmask(SETMASK, 0)


# ---- what is not kept -----------------------------------------------------------------------------------

def ignored_is_thrown_away(sys: Any, say: Any) -> None:
    """A signal that is ignored is not kept, if it is not blocked."""
    for action in (sys.SIG_IGN, sys.SIG_DFL):
        for signal in (SIGCHLD, SIGURG, SIGWINCH):
            sys.sigaction(signal, action)
            sys.kill(sys.getpid(), signal)
        say(hex(sys.sigpending()))
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    sys.kill(sys.getpid(), SIGUSR1)
    sys.sigprocmask(BLOCK, sig(SIGUSR1))
    say(hex(sys.sigpending()))


def ignored_and_blocked_is_kept(sys: Any, say: Any) -> None:
    """A signal that is ignored and blocked is kept, and thrown away when it is unblocked."""
    sys.sigprocmask(BLOCK, sig(SIGUSR1, SIGURG))
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    for signal in (SIGUSR1, SIGURG):
        sys.kill(sys.getpid(), signal)
    say(hex(sys.sigpending()))
    sys.sigprocmask(SETMASK, 0)
    say(hex(sys.sigpending()))


def ignoring_throws_away(sys: Any, say: Any) -> None:
    """Setting a pending signal to SIG_IGN, or to a default that ignores, throws it away for thread and process."""
    _blocked(sys, say, SIGUSR1, SIGURG, SIGTERM)
    for signal in (SIGUSR1, SIGURG, SIGTERM):
        sys.kill(sys.getpid(), signal)
        sys.raise_(signal)
    say(hex(sys.sigpending()))
    sys.sigaction(SIGUSR1, sys.SIG_IGN)
    say(hex(sys.sigpending()))
    sys.sigaction(SIGURG, sys.SIG_DFL)
    say(hex(sys.sigpending()))
    sys.sigaction(SIGTERM, sys.SIG_DFL)
    say(hex(sys.sigpending()))


def handler_set_while_pending(sys: Any, say: Any) -> None:
    """The action that counts is the one at delivery, not the one at sending."""
    sys.sigprocmask(BLOCK, sig(SIGTERM))
    sys.kill(sys.getpid(), SIGTERM)
    sys.sigaction(SIGTERM, _tell(say))
    sys.sigprocmask(SETMASK, 0)


def unblocked_death(sys: Any, say: Any) -> None:
    """A deadly signal that is pending kills when it is unblocked."""
    pid = sys.clone(_unblocks_death, say)
    say(wait(sys, say, pid))


def _unblocks_death(sys: Any, say: Any) -> None:
    sys.sigprocmask(BLOCK, sig(SIGTERM, SIGUSR1))
    for signal in (SIGTERM, SIGUSR1):
        sys.kill(sys.getpid(), signal)
    say("pending", hex(sys.sigpending()))
    sys.sigprocmask(UNBLOCK, sig(SIGTERM))
    say("not reached")


# ---- masks ----------------------------------------------------------------------------------------------

def kill_and_stop_cannot_be_blocked(sys: Any, say: Any) -> None:
    """SIGKILL and SIGSTOP are left out of every mask, without an error."""
    sys.sigprocmask(SETMASK, ALL)
    say(hex(sys.sigprocmask(BLOCK, 0)))
    pid = started(sys)
    stop(sys, pid)
    sys.kill(pid, SIGKILL)
    say(wait(sys, say, pid))


def how_masks_change(sys: Any, say: Any) -> None:
    """SIG_BLOCK adds, SIG_UNBLOCK takes away, SIG_SETMASK replaces; each returns the set before."""
    for how, signals in ((BLOCK, (1, 2)), (BLOCK, (2, 3)), (UNBLOCK, (2, 4)), (SETMASK, (5,)), (BLOCK, ())):
        say(how, hex(sys.sigprocmask(how, sig(*signals))))


def bad_how(sys: Any, say: Any) -> None:
    """A way to change the mask that is none gives EINVAL, unless there is no new set."""
    for how in (3, -1, 99):
        say(how, attempt(sys.sigprocmask, how, sig(1)), attempt(sys.sigprocmask, how, None))


def bad_set_size(sys: Any, say: Any) -> None:
    """A set whose size is not that of the kernel's gives EINVAL."""
    for size in (0, 4, 16, 128):
        say(size, raw(sys, "rt_sigprocmask", BLOCK, 0, 0, size), raw(sys, "rt_sigsuspend", 0, size))
    say(raw(sys, "rt_sigprocmask", BLOCK, 0, 0, 8))


def mask_of_a_handler(sys: Any, say: Any) -> None:
    """During a handler its own signal and those of sa_mask are blocked, and afterwards the mask is as before."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del signal, info
        say("handler", hex(sys.sigprocmask(BLOCK, 0)))

    sys.sigprocmask(SETMASK, sig(SIGHUP))
    sys.sigaction(SIGUSR1, handler, 0, sig(SIGUSR2, SIGTERM))
    sys.kill(sys.getpid(), SIGUSR1)
    say("after", hex(sys.sigprocmask(BLOCK, 0)))
    sys.sigaction(SIGUSR1, handler, SA_NODEFER, sig(SIGTERM))
    sys.kill(sys.getpid(), SIGUSR1)
    say("after", hex(sys.sigprocmask(BLOCK, 0)))


def mask_changed_in_a_handler(sys: Any, say: Any) -> None:
    """A mask that a handler changes is as before when it returns."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del signal, info
        sys.sigprocmask(SETMASK, sig(SIGINT, SIGHUP))
        say("handler", hex(sys.sigprocmask(BLOCK, 0)))

    sys.sigaction(SIGUSR1, handler)
    sys.kill(sys.getpid(), SIGUSR1)
    say("after", hex(sys.sigprocmask(BLOCK, 0)))


def same_signal_in_its_handler(sys: Any, say: Any) -> None:
    """A signal that comes during its own handler waits for its end; with SA_NODEFER it does not."""
    depth: list[int] = []

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        depth.append(1)
        say("begin", len(depth))
        if len(depth) == 1:
            sys.kill(sys.getpid(), signal)
        say("end", len(depth))

    for flags in (0, SA_NODEFER):
        depth.clear()
        sys.sigaction(SIGUSR1, handler, flags)
        sys.kill(sys.getpid(), SIGUSR1)


def threads_have_masks(sys: Any, say: Any) -> None:
    """Each thread has its own mask, and begins with that of its maker."""
    gate = Gate(sys)
    sys.sigprocmask(SETMASK, sig(SIGUSR1))
    sys.pthread_create(_changes_mask, say, gate)
    gate.wait(sys)
    say("first", hex(sys.sigprocmask(BLOCK, 0)))


def _changes_mask(sys: Any, say: Any, gate: Gate) -> None:
    say("second", hex(sys.sigprocmask(SETMASK, sig(SIGTERM))))
    gate.open(sys)


# ---- waiting for signals --------------------------------------------------------------------------------

def sigsuspend_swaps_masks(sys: Any, say: Any) -> None:
    """sigsuspend() takes a pending signal under its own mask, fails with EINTR, and brings the old mask back."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal, hex(sys.sigprocmask(BLOCK, 0)))

    sys.sigprocmask(SETMASK, sig(SIGUSR1, SIGUSR2))
    for signal in (SIGUSR1, SIGUSR2):
        sys.sigaction(signal, handler)
        sys.kill(sys.getpid(), signal)
    say(attempt(sys.sigsuspend, sig(SIGUSR1, SIGHUP)), hex(sys.sigprocmask(BLOCK, 0)), hex(sys.sigpending()))


def sigsuspend_with_two_signals(sys: Any, say: Any) -> None:
    """Two signals that end a sigsuspend() are both handled, and the mask from before it comes back after both."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal, hex(sys.sigprocmask(BLOCK, 0)))

    sys.sigprocmask(SETMASK, sig(SIGUSR1, SIGUSR2, SIGHUP))
    for signal in (SIGUSR1, SIGUSR2):
        sys.sigaction(signal, handler)
        sys.kill(sys.getpid(), signal)
    say(attempt(sys.sigsuspend, sig(SIGTERM)), hex(sys.sigprocmask(BLOCK, 0)))


def pause_returns_after_handler(sys: Any, say: Any) -> None:
    """pause() fails with EINTR after a handler has run, whatever SA_RESTART says."""
    for flags in (0, 0x10000000):
        sys.sigaction(SIGUSR1, _tell(say), flags)
        pid = sys.clone(_signals_when_asleep, sys.getpid(), SIGUSR1)
        say(attempt(sys.pause), wait(sys, say, pid))


def _signals_when_asleep(sys: Any, pid: int, *signals: int) -> None:
    asleep(sys, pid)
    for signal in signals:
        sys.kill(pid, signal)


def pause_sleeps_over_ignored(sys: Any, say: Any) -> None:
    """A signal that is ignored does not end pause()."""
    sys.sigaction(SIGUSR2, sys.SIG_IGN)
    sys.sigaction(SIGUSR1, _tell(say))
    sys.clone(_signals_when_asleep, sys.getpid(), SIGUSR2, SIGURG, SIGCONT, SIGUSR1)
    say(attempt(sys.pause))


def kill_runs_handler_before_return(sys: Any, say: Any) -> None:
    """A signal that a process sends itself is handled before kill() returns."""
    sys.sigaction(SIGUSR1, _tell(say))
    say("returned", attempt(sys.kill, sys.getpid(), SIGUSR1))


def handler_in_a_stopped_process(sys: Any, say: Any) -> None:
    """Signals for a stopped process wait until it is continued, SIGCONT's own handler then comes in order."""
    gate, done = Gate(sys), Gate(sys)
    pid = sys.clone(_handles_until_told, say, gate, done)
    asleep(sys, pid)
    stop(sys, pid)
    for signal in (SIGTERM, SIGUSR1, SIGCONT):
        sys.kill(pid, signal)
    gate.open(sys)
    done.wait(sys)
    say(wait(sys, say, pid))


def _handles_until_told(sys: Any, say: Any, gate: Gate, done: Gate) -> None:
    for signal in (SIGTERM, SIGUSR1, SIGCONT):
        sys.sigaction(signal, _tell(say), 0, ALL)
    gate.wait(sys)
    done.open(sys)


def init_is_immune(sys: Any, say: Any) -> None:
    """Process 1 gets no signal that it has no handler for, not even SIGKILL from its own namespace."""
    for signal in (SIGTERM, SIGKILL, SIGSTOP, SIGUSR1):
        say(signal, attempt(sys.kill, 1, signal))
        asleep(sys, 1)


def reset_after_first(sys: Any, say: Any) -> None:
    """With SA_RESETHAND the action is the default again when the handler begins, and its flags are kept."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal, sys.sigaction(signal)[0])

    sys.sigaction(SIGURG, handler, SA_RESETHAND)
    sys.kill(sys.getpid(), SIGURG)
    sys.kill(sys.getpid(), SIGURG)
    say(sys.sigaction(SIGURG)[0])


def action_is_told(sys: Any, say: Any) -> None:
    """sigaction() returns handler, flags and mask as they were set, without SIGKILL and SIGSTOP in the mask."""
    handler = _tell(say)
    say(sys.sigaction(SIGUSR1, handler, SA_NODEFER, ALL)[0])
    found, flags, mask = sys.sigaction(SIGUSR1, sys.SIG_IGN)
    say(found is handler, hex(flags), hex(mask))
    say(sys.sigaction(SIGUSR1, sys.SIG_DFL)[0], sys.sigaction(SIGUSR1)[0])


def actions_that_cannot_be_set(sys: Any, say: Any) -> None:
    """SIGKILL, SIGSTOP and numbers that are no signal have no action to set: EINVAL; asking works for the first two."""
    for signal in (SIGKILL, SIGSTOP, 0, 65, -1):
        say(signal, attempt(sys.sigaction, signal, sys.SIG_IGN), attempt(sys.sigaction, signal))
