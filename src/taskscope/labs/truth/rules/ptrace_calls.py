"""What a tracer sees of system calls: stops, registers, PTRACE_GET_SYSCALL_INFO, PTRACE_SYSEMU.

kernel/ptrace.c, arch/x86/kernel/ptrace.c and process.c, v6.18; ptrace(2).
"""

from __future__ import annotations

from typing import Any

from taskscope.abi.ptrace import PtraceOption as O
from taskscope.abi.ptrace import PtraceRequest as R
from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, ends, sleeper, status, wait
from taskscope.labs.truth.rules.ptrace import _end
from taskscope.labs.truth.rules.ptrace_events import _births, _event, _gated

SIGTRAP, SIGTERM, SIGCHLD = 5, 15, 17
WALL = 0x40000000
#: numbers of x86-64, and places of its registers in struct user
CLONE, GETPPID, GETPGID, RAX, ORIG_RAX, RDI = 56, 110, 121, 80, 120, 112
ARM = "PTRACE_GET_SYSCALL_INFO came with v5.3 (201766a20e30), and registers are the architecture's"

def _calls(sys: Any, say: Any) -> None:
    say("got", say.who(sys.getppid()))
    sys.exit(2)


def _to_call(sys: Any, pid: int, number: int) -> Any:
    """Let a task go on until it enters a system call; return what is known of it, or the name of an error."""
    while True:
        sys.ptrace(R.PTRACE_SYSCALL, pid)
        word = sys.waitpid(pid, WALL)[1]
        if word >> 8 != SIGTRAP | 0x80:
            return status(word)
        try:
            info = sys.ptrace_get(R.PTRACE_GET_SYSCALL_INFO, pid, 128)
        except OSError as error:
            return f"error {error.errno}"
        if info.op == 1 and info.nr == number:
            return info


def _paused(sys: Any, fn: Any, *args: Any) -> int:
    """Return a child that is stopped by its tracer before it runs ``fn(sys, *args)``."""
    gate = Gate(sys)
    pid = sys.clone(_gated, gate, fn, args)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid, 0, O.PTRACE_O_TRACESYSGOOD)
    sys.ptrace(R.PTRACE_INTERRUPT, pid)
    sys.waitpid(pid, WALL)
    gate.open(sys)
    return int(pid)


def syscall_stops_alternate(sys: Any, say: Any) -> None:
    """PTRACE_SYSCALL stops a task before and after each call, the second time with the same status."""
    pid = _paused(sys, ends, 0)
    # read() begins again and ends, exit_group() begins
    for _ in range(4):
        sys.ptrace(R.PTRACE_SYSCALL, pid)
        say(wait(sys, say, pid, WALL))


def without_tracesysgood(sys: Any, say: Any) -> None:
    """Without PTRACE_O_TRACESYSGOOD a stop at a system call looks like a SIGTRAP; its si_code tells."""
    pid = _paused(sys, ends, 0)
    sys.ptrace(R.PTRACE_SETOPTIONS, pid, 0, 0)
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, pid)
    say(info.si_signo, info.si_code)
    _end(sys, say, pid)


@differs(ARM, "4.19-arm")
def syscall_info(sys: Any, say: Any) -> None:
    """PTRACE_GET_SYSCALL_INFO tells number and arguments before a call, and the result after it."""
    pid = _paused(sys, _calls, say)
    info = _to_call(sys, pid, GETPPID)
    if isinstance(info, str):
        say(info)
        return
    say(info.op, info.nr, info.arch, sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid))
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    info = sys.ptrace_get(R.PTRACE_GET_SYSCALL_INFO, pid, 128)
    say(info.op, say.who(info.rval), info.is_error, sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def _group_of_nobody(sys: Any, say: Any) -> None:
    found = attempt(sys.getpgid, 0x3FFFFFF)
    say("got", found if isinstance(found, str) or found == 4242 else say.who(found))


@differs(ARM, "4.19-arm")
def failing_call(sys: Any, say: Any) -> None:
    """A call that fails shows its argument before, and an error after."""
    pid = _paused(sys, _group_of_nobody, say)
    info = _to_call(sys, pid, GETPGID)
    if isinstance(info, str):
        say(info)
        return
    say(hex(info.args[0]))
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    info = sys.ptrace_get(R.PTRACE_GET_SYSCALL_INFO, pid, 128)
    say(info.rval, info.is_error)
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


@differs(ARM, "4.19-arm")
def argument_changed(sys: Any, say: Any) -> None:
    """A tracer that writes an argument register makes another call of it."""
    pid = _paused(sys, _group_of_nobody, say)
    if isinstance(_to_call(sys, pid, GETPGID), str):
        say("no")
        return
    say(hex(sys.ptrace_get(R.PTRACE_PEEKUSR, pid, RDI)))
    sys.ptrace(R.PTRACE_POKEUSR, pid, RDI, 0)
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    say(say.who(sys.ptrace_get(R.PTRACE_GET_SYSCALL_INFO, pid, 128).rval))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


@differs(ARM, "4.19-arm")
def call_skipped(sys: Any, say: Any) -> None:
    """With -1 for its number no call is made, ENOSYS results, and the tracer may put another result there."""
    pid = _paused(sys, _group_of_nobody, say)
    if isinstance(_to_call(sys, pid, GETPGID), str):
        say("no")
        return
    sys.ptrace(R.PTRACE_POKEUSR, pid, ORIG_RAX, (1 << 64) - 1)
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    say(sys.ptrace_get(R.PTRACE_GET_SYSCALL_INFO, pid, 128).rval)
    sys.ptrace(R.PTRACE_POKEUSR, pid, RAX, 4242)
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def signal_at_a_syscall_stop(sys: Any, say: Any) -> None:
    """A signal given at a system call stop is sent to the task, and stops it before it is taken."""
    pid = _paused(sys, sleeper)
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGTERM)
    say(wait(sys, say, pid, WALL))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, pid)
    say(info.si_signo, info.si_code)
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGTERM)
    say(wait(sys, say, pid, WALL))


def sigkill_at_a_syscall_stop(sys: Any, say: Any) -> None:
    """SIGKILL at the stop before a call ends the task without the call."""
    pid = _paused(sys, ends, 3)
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    _end(sys, say, pid)


def detached_at_a_call(sys: Any, say: Any) -> None:
    """Let go at the stop before a call, the task makes it and stops no more."""
    pid = _paused(sys, ends, 6)
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_DETACH, pid)
    say(wait(sys, say, pid))


def _calls_twice(sys: Any, say: Any) -> None:
    sys.getppid()
    say("got", sys.getppid())


@differs("PTRACE_SYSEMU is x86's", "4.19-arm")
def emulated_calls(sys: Any, say: Any) -> None:
    """PTRACE_SYSEMU stops before a call that is then not made; what it returns is the tracer's affair."""
    pid = _paused(sys, _calls_twice, say)
    if isinstance(_to_call(sys, pid, GETPPID), str):
        say("no")
        return
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    sys.waitpid(pid, WALL)
    say(attempt(sys.ptrace, R.PTRACE_SYSEMU, pid))
    say(wait(sys, say, pid, WALL))
    info = sys.ptrace_get(R.PTRACE_GET_SYSCALL_INFO, pid, 128)
    say(info.op, info.nr)
    sys.ptrace(R.PTRACE_POKEUSR, pid, RAX, 77)
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def _registers(sys: Any, say: Any, pid: int) -> None:
    number, first, result = (sys.ptrace_get(R.PTRACE_PEEKUSR, pid, place) for place in (ORIG_RAX, RDI, RAX))
    say("call", number, "first", hex(first), "result", hex(result))


@differs(ARM, "4.19-arm")
def registers_of_a_birth(sys: Any, say: Any) -> None:
    """At the event of a birth the creator is inside its call; the child begins with its registers, and 0 as result."""
    pid = _paused(sys, _births, (SIGCHLD,))
    sys.ptrace(R.PTRACE_SETOPTIONS, pid, 0, O.PTRACE_O_TRACESYSGOOD | O.PTRACE_O_TRACEFORK)
    if isinstance(_to_call(sys, pid, CLONE), str):
        say("no")
        return
    sys.ptrace(R.PTRACE_SYSCALL, pid)
    child = _event(sys, say, pid)
    _registers(sys, say, pid)
    sys.waitpid(child, WALL)
    _registers(sys, say, child)
    sys.kill(child, 9)
    say(wait(sys, say, child, WALL))
    _end(sys, say, pid)
