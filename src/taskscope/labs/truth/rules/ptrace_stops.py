"""Stops under a tracer: before a signal is taken, with the group, at PTRACE_INTERRUPT.  kernel/signal.c, ptrace(2)."""

from __future__ import annotations

from typing import Any

from taskscope.abi.ptrace import PtraceRequest as R
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, field, sig, sleeper, state, wait
from taskscope.labs.truth.rules.ptrace import _attached, _end, _tracee

SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGWINCH = 1, 10, 12, 15, 17, 18, 19, 20, 28
WNOHANG, WUNTRACED, WCONTINUED, WALL = 1, 2, 8, 0x40000000


def _handles(sys: Any, say: Any, numbers: tuple[int, ...], gate: Gate) -> None:
    """Be a child that says which signals it handles."""

    def told(_sys: Any, number: int, info: Any) -> None:
        say("handler", number, "code", info.si_code, "from", say.who(info.si_pid))

    for number in numbers:
        sys.sigaction(number, told)
    gate.wait(sys)
    sys.exit(3)


def _handler(sys: Any, say: Any, *numbers: int) -> tuple[int, Gate]:
    """Return a child that handles signals and sleeps, seized, and what lets it end."""
    gate = Gate(sys)
    pid = sys.clone(_handles, say, numbers, gate)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    return pid, gate


def suppressed(sys: Any, say: Any) -> None:
    """A signal stops the task before it is taken; continued with 0 it never was."""
    pid, gate = _handler(sys, say, SIGUSR1)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid), state(sys, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    gate.open(sys)
    say(wait(sys, say, pid))


def passed_on(sys: Any, say: Any) -> None:
    """Continued with the signal, the handler runs, and knows who sent it."""
    pid, gate = _handler(sys, say, SIGUSR1)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGUSR1)
    gate.open(sys)
    say(wait(sys, say, pid))


def changed(sys: Any, say: Any) -> None:
    """Continued with another signal, that one is taken, as if the tracer had sent it."""
    pid, gate = _handler(sys, say, SIGUSR1, SIGUSR2)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGUSR2)
    gate.open(sys)
    say(wait(sys, say, pid))


def changed_to_a_fatal_one(sys: Any, say: Any) -> None:
    """Continued with a signal that it does not handle, the task dies by that."""
    pid, _gate = _handler(sys, say, SIGUSR1)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGTERM)
    say(wait(sys, say, pid))


def siginfo(sys: Any, say: Any) -> None:
    """PTRACE_GETSIGINFO tells what the task would get; PTRACE_SETSIGINFO changes it."""
    pid, gate = _handler(sys, say, SIGUSR1)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, pid)
    say(info.si_signo, info.si_code, say.who(info.si_pid), info.si_uid)
    sys.ptrace_setsiginfo(pid, SIGUSR1, -6, 1, 0)
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGUSR1)
    gate.open(sys)
    say(wait(sys, say, pid))


def _ignores(sys: Any, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        sys.sigaction(number, sys.SIG_IGN)
    sleeper(sys)


def ignored_signals_are_shown(sys: Any, say: Any) -> None:
    """A tracer sees signals that the task ignores, by its own wish or by default."""
    pid = sys.clone(_ignores, (SIGUSR1,))
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    for number in (SIGUSR1, SIGCHLD, SIGWINCH):
        sys.kill(pid, number)
        say(wait(sys, say, pid))
        sys.ptrace(R.PTRACE_CONT, pid, 0, number)
    _end(sys, say, pid)


def _blocks(sys: Any, number: int, gate: Gate) -> None:
    sys.sigprocmask(0, sig(number))
    gate.wait(sys)
    sys.sigprocmask(1, sig(number))
    sys.exit(6)


def blocked_signals_are_not(sys: Any, say: Any) -> None:
    """A blocked signal stops the task when it is unblocked."""
    gate = Gate(sys)
    pid = sys.clone(_blocks, SIGUSR1, gate)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGUSR1)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG))
    gate.open(sys)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))


def one_at_a_time(sys: Any, say: Any) -> None:
    """Of several signals the lowest is shown first; those that come during a stop wait for their turn."""
    pid, gate = _handler(sys, say, SIGHUP, SIGUSR1, SIGUSR2)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    for number in (SIGUSR2, SIGHUP):
        sys.kill(pid, number)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG))
    for _ in range(2):
        sys.ptrace(R.PTRACE_CONT, pid)
        say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    gate.open(sys)
    say(wait(sys, say, pid))


def sigmask(sys: Any, say: Any) -> None:
    """A tracer reads and sets what a task blocks; SIGKILL and SIGSTOP are left out."""
    pid = _attached(sys)
    say(f"{sys.ptrace_get(R.PTRACE_GETSIGMASK, pid, 8):x}")
    sys.ptrace_setsigmask(pid, (1 << 64) - 1)
    say(f"{sys.ptrace_get(R.PTRACE_GETSIGMASK, pid, 8):x}", field(sys, pid, "SigBlk"))
    say(attempt(sys.ptrace_get, R.PTRACE_GETSIGMASK, pid, 4))
    sys.ptrace(R.PTRACE_CONT, pid)
    sys.kill(pid, SIGTERM)
    asleep(sys, pid)
    say(wait(sys, say, pid, WNOHANG), field(sys, pid, "ShdPnd"))
    _end(sys, say, pid)


def queued_signals(sys: Any, say: Any) -> None:
    """PTRACE_PEEKSIGINFO lists what is queued for the process, and for the thread."""
    pid = _attached(sys)
    for number in (SIGUSR2, SIGUSR1):
        sys.kill(pid, number)
    sys.tgkill(pid, pid, SIGHUP)
    for flags in (1, 0):
        found = sys.ptrace_get(R.PTRACE_PEEKSIGINFO, pid, (0, flags, 9))
        say([info.si_signo for info in found], [info.si_code for info in found])
    say([info.si_signo for info in sys.ptrace_get(R.PTRACE_PEEKSIGINFO, pid, (1, 1, 9))])
    say(attempt(sys.ptrace_get, R.PTRACE_PEEKSIGINFO, pid, (0, 2, 1)))
    _end(sys, say, pid)


# ---- the group's stop -----------------------------------------------------------------------------------

def group_stop_attached(sys: Any, say: Any) -> None:
    """Under PTRACE_ATTACH a stop signal is shown, and passed on the group's stop looks the same, without a siginfo."""
    pid = _attached(sys)
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGSTOP)
    say(wait(sys, say, pid), state(sys, pid))
    say(attempt(sys.ptrace_get, R.PTRACE_GETSIGINFO, pid))
    _end(sys, say, pid)


def group_stop_seized(sys: Any, say: Any) -> None:
    """Under PTRACE_SEIZE the group's stop is PTRACE_EVENT_STOP with the signal."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGSTOP)
    say(wait(sys, say, pid), state(sys, pid))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, pid)
    say(info.si_signo, hex(info.si_code), say.who(info.si_pid))
    sys.kill(pid, SIGCONT)
    for _ in range(2):
        sys.ptrace(R.PTRACE_CONT, pid)
        say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    asleep(sys, pid)
    _end(sys, say, pid)


def stop_in_an_orphaned_group(sys: Any, say: Any) -> None:
    """A stop signal of a terminal that the tracer passes on stops nobody where the process group is orphaned."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGTSTP)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGTSTP)
    asleep(sys, pid)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG))
    _end(sys, say, pid)


def stop_of_a_terminal(sys: Any, say: Any) -> None:
    """Elsewhere it stops the group with its own number."""
    pid = _tracee(sys)
    sys.setpgid(pid, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGTSTP)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGTSTP)
    say(wait(sys, say, pid), state(sys, pid))
    _end(sys, say, pid)


def stop_suppressed(sys: Any, say: Any) -> None:
    """A stop signal that the tracer does not pass on stops nobody."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    asleep(sys, pid)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG))
    _end(sys, say, pid)


def listen(sys: Any, say: Any) -> None:
    """PTRACE_LISTEN leaves a task in its group's stop; SIGCONT then brings it back into a stop for its tracer."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid))
    say(attempt(sys.ptrace, R.PTRACE_LISTEN, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGSTOP)
    say(wait(sys, say, pid))
    say(attempt(sys.ptrace, R.PTRACE_LISTEN, pid))
    say(state(sys, pid), wait(sys, say, pid, WNOHANG), attempt(sys.ptrace, R.PTRACE_CONT, pid))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))
    _end(sys, say, pid)


def interrupt_ends_listening(sys: Any, say: Any) -> None:
    """PTRACE_INTERRUPT brings a task that listens back into the same stop."""
    pid = _tracee(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.ptrace(R.PTRACE_SEIZE, pid)
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_LISTEN, pid)
    say(attempt(sys.ptrace, R.PTRACE_INTERRUPT, pid))
    say(wait(sys, say, pid, WALL))
    _end(sys, say, pid)


def interrupt(sys: Any, say: Any) -> None:
    """PTRACE_INTERRUPT stops a seized task that sleeps, with SIGTRAP and PTRACE_EVENT_STOP."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    say(attempt(sys.ptrace, R.PTRACE_INTERRUPT, pid))
    say(wait(sys, say, pid), state(sys, pid))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, pid)
    say(info.si_signo, hex(info.si_code), say.who(info.si_pid), info.si_uid)
    sys.ptrace(R.PTRACE_CONT, pid)
    asleep(sys, pid)
    say(state(sys, pid))
    _end(sys, say, pid)


def interrupt_in_a_stop(sys: Any, say: Any) -> None:
    """PTRACE_INTERRUPT during a stop makes another one follow."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_INTERRUPT, pid)
    say(wait(sys, say, pid, WNOHANG))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))
    _end(sys, say, pid)


def attach_to_a_stopped_one(sys: Any, say: Any) -> None:
    """PTRACE_ATTACH turns a stop of job control into one for the tracer; its own SIGSTOP comes after."""
    pid = _tracee(sys)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED), state(sys, pid))
    sys.ptrace(R.PTRACE_ATTACH, pid)
    say(state(sys, pid), wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    asleep(sys, pid)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG))
    _end(sys, say, pid)


def seize_a_stopped_one(sys: Any, say: Any) -> None:
    """PTRACE_SEIZE of a stopped task reports the group's stop."""
    pid = _tracee(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.ptrace(R.PTRACE_SEIZE, pid)
    say(state(sys, pid), wait(sys, say, pid))
    _end(sys, say, pid)


def detach_from_a_group_stop(sys: Any, say: Any) -> None:
    """A task that is let go during its group's stop is stopped by job control then."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGSTOP)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_DETACH, pid)
    comes_to(sys, pid, "T")
    say(field(sys, pid, "State"))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED))
    asleep(sys, pid)
    _end(sys, say, pid)


def sigcont_does_not_resume(sys: Any, say: Any) -> None:
    """SIGCONT does not wake a task that is stopped for its tracer; it is shown when the tracer continues it."""
    pid = _attached(sys)
    sys.kill(pid, SIGCONT)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))
    _end(sys, say, pid)


def _traces_a_stop(sys: Any, say: Any, pid: int, gates: list[Gate]) -> None:
    sys.ptrace(R.PTRACE_SEIZE, pid)
    gates[0].open(sys)
    say("tracer", wait(sys, say, pid, WALL))
    gates[1].open(sys)
    gates[2].wait(sys)
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGSTOP)
    say("tracer", wait(sys, say, pid, WALL))
    gates[1].open(sys)
    gates[2].wait(sys)


def parent_hears_of_the_groups_stop(sys: Any, say: Any) -> None:
    """The real parent is told when the group has stopped, and nothing of the stops for the tracer."""
    gates = [Gate(sys) for _ in range(3)]
    pid = _tracee(sys)
    tracer = sys.clone(_traces_a_stop, say, pid, gates)
    gates[0].wait(sys)
    sys.kill(pid, SIGSTOP)
    gates[1].wait(sys)
    say("parent", wait(sys, say, pid, WUNTRACED | WNOHANG))
    gates[2].open(sys)
    gates[1].wait(sys)
    say("parent", wait(sys, say, pid, WUNTRACED | WNOHANG))
    gates[2].open(sys)
    say(wait(sys, say, tracer))
    comes_to(sys, pid, "T")
    say(state(sys, pid))
    _end(sys, say, pid)


# ---- calls that a stop interrupts -----------------------------------------------------------------------

def _reads_once(sys: Any, say: Any, fd: int) -> None:
    say("read", attempt(sys.read, fd, 1))


def a_call_goes_on(sys: Any, say: Any) -> None:
    """A read() that a stop interrupts goes on when the signal is suppressed, or when PTRACE_INTERRUPT was all."""
    read, write = sys.pipe()
    pid = sys.clone(_reads_once, say, read)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGUSR1)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_INTERRUPT, pid)
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    asleep(sys, pid)
    sys.write(write, b"x")
    say(wait(sys, say, pid))


def _pauses(sys: Any, say: Any) -> None:
    sys.sigaction(SIGUSR1, _nothing)
    say("pause", attempt(sys.pause))


def _nothing(sys: Any, number: int, info: Any) -> None:
    del sys, number, info


def pause_ends_with_a_handler(sys: Any, say: Any) -> None:
    """pause() sleeps on after a suppressed signal, and ends with EINTR after one that is handled."""
    pid = sys.clone(_pauses, say)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    for number in (0, SIGUSR1):
        sys.kill(pid, SIGUSR1)
        say(wait(sys, say, pid))
        sys.ptrace(R.PTRACE_CONT, pid, 0, number)
        if not number:
            asleep(sys, pid)
            say("sleeps")
    say(wait(sys, say, pid))


def sigchld_of_a_stop(sys: Any, say: Any) -> None:
    """The SIGCHLD of a stop says CLD_TRAPPED and which signal it was; that of a group's stop CLD_STOPPED."""

    def told(_sys: Any, number: int, info: Any) -> None:
        say("SIGCHLD", number, "code", info.si_code, "status", info.si_status, "pid", say.who(info.si_pid))

    pid = _tracee(sys)
    sys.sigprocmask(0, sig(SIGCHLD))
    sys.sigaction(SIGCHLD, told)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.kill(pid, SIGSTOP)
    say(attempt(sys.sigsuspend, 0))
    say(wait(sys, say, pid))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGSTOP)
    say(attempt(sys.sigsuspend, 0))
    say(wait(sys, say, pid))
    _end(sys, say, pid)


def killed_while_listening(sys: Any, say: Any) -> None:
    """SIGKILL ends a task that listens."""
    pid = _tracee(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    sys.ptrace(R.PTRACE_SEIZE, pid)
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_LISTEN, pid)
    _end(sys, say, pid)


def tracer_of_a_stopped_one_dies(sys: Any, say: Any) -> None:
    """A task in its group's stop stays stopped when its tracer dies, and the parent can wait for that."""
    pid = _tracee(sys)
    sys.kill(pid, SIGSTOP)
    comes_to(sys, pid, "T")
    say(wait(sys, say, sys.clone(_seizes_a_stopped_one, pid)))
    comes_to(sys, pid, "T")
    say(field(sys, pid, "TracerPid"), wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED))
    _end(sys, say, pid)


def _seizes_a_stopped_one(sys: Any, pid: int) -> None:
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.waitpid(pid, WALL)
