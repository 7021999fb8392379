"""What a tracer is told: births, execve(), ends, system calls.  include/linux/ptrace.h, kernel/fork.c, ptrace(2)."""

from __future__ import annotations

from typing import Any

from taskscope.abi.ptrace import PtraceOption as O
from taskscope.abi.ptrace import PtraceRequest as R
from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import Gate, asleep, ends, execute, field, sleeper, state, status, wait
from taskscope.labs.truth.rules.ptrace import _end, _tracee, _who

SIGTRAP, SIGUSR1, SIGTERM, SIGCHLD, SIGSTOP = 5, 10, 15, 17, 19
WNOHANG, WALL = 1, 0x40000000
CLONE_PTRACE, CLONE_VFORK, CLONE_UNTRACED = 0x2000, 0x4000, 0x800000


def _gated(sys: Any, gate: Gate, fn: Any, args: tuple[Any, ...]) -> Any:
    gate.wait(sys)
    return fn(sys, *args)


def _seized(sys: Any, options: int, fn: Any, *args: Any) -> int:
    """Return a child that is traced from before it runs ``fn(sys, *args)``."""
    gate = Gate(sys)
    pid = sys.clone(_gated, gate, fn, args)
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_SEIZE, pid, 0, options)
    gate.open(sys)
    return int(pid)


def _births(sys: Any, flags: tuple[int, ...]) -> None:
    for one in flags:
        pid = sys.clone(ends, 4, flags=one)
        sys.waitpid(pid, WALL)
    sys.exit(5)


def _event(sys: Any, say: Any, pid: int) -> int:
    """Wait for an event about a task, say it, and return the task."""
    got, word = sys.waitpid(pid, WALL)
    about = sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)
    say(say.who(got), status(word), "about", say.who(about))
    return int(about)


def fork_event(sys: Any, say: Any) -> None:
    """PTRACE_O_TRACEFORK stops the creator; its message is the child, which is traced from its first step."""
    pid = _seized(sys, O.PTRACE_O_TRACEFORK, _births, (SIGCHLD,))
    child = _event(sys, say, pid)
    say(wait(sys, say, child, WALL))
    say(_who(sys, say, child))
    sys.ptrace(R.PTRACE_CONT, child)
    say(wait(sys, say, child, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say("creator", wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def attached_children_get_sigstop(sys: Any, say: Any) -> None:
    """The child of a task that was attached begins with a SIGSTOP, that of a seized one with PTRACE_EVENT_STOP."""
    gate = Gate(sys)
    pid = sys.clone(_gated, gate, _births, ((SIGCHLD,),))
    asleep(sys, pid)
    sys.ptrace(R.PTRACE_ATTACH, pid)
    sys.waitpid(pid, WALL)
    sys.ptrace(R.PTRACE_SETOPTIONS, pid, 0, O.PTRACE_O_TRACEFORK)
    sys.ptrace(R.PTRACE_CONT, pid)
    gate.open(sys)
    child = _event(sys, say, pid)
    say(wait(sys, say, child, WALL))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, child)
    say(info.si_signo, info.si_code)
    sys.kill(child, 9)
    say(wait(sys, say, child, WALL))
    _end(sys, say, pid)


def kinds_of_birth(sys: Any, say: Any) -> None:
    """The exit signal and CLONE_VFORK decide whether a birth is a fork, a vfork or a clone."""
    options = O.PTRACE_O_TRACEFORK | O.PTRACE_O_TRACEVFORK | O.PTRACE_O_TRACECLONE
    flags = (SIGCHLD, 0, SIGUSR1, CLONE_VFORK | SIGCHLD, CLONE_VFORK)
    pid = _seized(sys, options, _births, flags)
    while True:
        word = sys.waitpid(pid, WALL)[1]
        if word & 0xFF != 0x7F:
            say(status(word))
            return
        if word >> 16:
            child = sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)
            say("event", word >> 16, "about", say.who(child))
            sys.waitpid(child, WALL)
            sys.ptrace(R.PTRACE_DETACH, child)
        else:
            say("signal", word >> 8)
        sys.ptrace(R.PTRACE_CONT, pid)


def _two_generations(sys: Any) -> None:
    sys.waitpid(sys.clone(_births, (SIGCHLD,)))


def options_are_inherited(sys: Any, say: Any) -> None:
    """A child that is traced from its birth has its creator's options."""
    pid = _seized(sys, O.PTRACE_O_TRACEFORK, _two_generations)
    child = _event(sys, say, pid)
    sys.waitpid(child, WALL)
    sys.ptrace(R.PTRACE_CONT, pid)
    sys.ptrace(R.PTRACE_CONT, child)
    grandchild = _event(sys, say, child)
    say(wait(sys, say, grandchild, WALL))
    for one in (grandchild, child, pid):
        sys.kill(one, 9)
        say(wait(sys, say, one, WALL))


def only_what_was_asked_for(sys: Any, say: Any) -> None:
    """A birth of another kind than was asked for is not told, and its child is not traced."""
    pid = _seized(sys, O.PTRACE_O_TRACEVFORK | O.PTRACE_O_TRACECLONE, _births, (SIGCHLD,))
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def untraced_birth(sys: Any, say: Any) -> None:
    """CLONE_UNTRACED keeps a birth from the tracer."""
    pid = _seized(sys, O.PTRACE_O_TRACEFORK, _births, (CLONE_UNTRACED | SIGCHLD,))
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def _birth_and_sleep(sys: Any, flags: int, write: int) -> None:
    sys.write(write, str(sys.clone(sleeper, flags=flags)).encode())
    sleeper(sys)


def clone_ptrace(sys: Any, say: Any) -> None:
    """CLONE_PTRACE has the child traced by the creator's tracer, without an event."""
    read, write = sys.pipe()
    pid = _seized(sys, 0, _birth_and_sleep, CLONE_PTRACE | SIGCHLD, write)
    child = int(sys.read(read, 20))
    say(wait(sys, say, child, WALL))
    say(_who(sys, say, child))
    asleep(sys, pid)
    sys.kill(child, 9)
    say(wait(sys, say, child, WALL))
    say(wait(sys, say, pid, WALL))
    _end(sys, say, pid)


def vfork_done(sys: Any, say: Any) -> None:
    """PTRACE_O_TRACEVFORKDONE tells when the creator goes on, after the child has ended."""
    pid = _seized(sys, O.PTRACE_O_TRACEVFORK | O.PTRACE_O_TRACEVFORKDONE, _births, (CLONE_VFORK | SIGCHLD,))
    child = _event(sys, say, pid)
    say(wait(sys, say, child, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say("creator", wait(sys, say, pid, WNOHANG | WALL))
    sys.ptrace(R.PTRACE_CONT, child)
    say(wait(sys, say, child, WALL))
    say(_event(sys, say, pid) == child)
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


# ---- execve() -------------------------------------------------------------------------------------------

def _executed(sys: Any, say: Any) -> None:
    say("executed")
    sys.exit(9)


def _executes(sys: Any) -> None:
    execute(sys, _executed)


def exec_event(sys: Any, say: Any) -> None:
    """PTRACE_O_TRACEEXEC stops a task with its new program; the message is its former pid."""
    pid = _seized(sys, O.PTRACE_O_TRACEEXEC, _executes)
    _event(sys, say, pid)
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def exec_of_a_seized_one(sys: Any, say: Any) -> None:
    """Without the option a seized task executes another program in silence."""
    pid = _seized(sys, 0, _executes)
    say(wait(sys, say, pid, WALL))


def _asks_and_executes(sys: Any) -> None:
    sys.ptrace(R.PTRACE_TRACEME)
    execute(sys, _executed)


def exec_sends_sigtrap(sys: Any, say: Any) -> None:
    """Without the option a task that is traced in the old way gets a SIGTRAP when it has executed a program."""
    pid = sys.clone(_asks_and_executes)
    say(wait(sys, say, pid))
    info = sys.ptrace_get(R.PTRACE_GETSIGINFO, pid)
    say(info.si_signo, info.si_code, say.who(info.si_pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid))


# ---- the end --------------------------------------------------------------------------------------------

def exit_event(sys: Any, say: Any) -> None:
    """PTRACE_O_TRACEEXIT stops a task at its end, when everything of it is still there; the message is its status."""
    pid = _seized(sys, O.PTRACE_O_TRACEEXIT, ends, 3)
    say(wait(sys, say, pid, WALL), status(sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)))
    say(state(sys, pid), field(sys, pid, "Threads"))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def exit_event_of_a_signal(sys: Any, say: Any) -> None:
    """A signal that ends a task is shown, then the end."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid, 0, O.PTRACE_O_TRACEEXIT)
    sys.kill(pid, SIGTERM)
    say(wait(sys, say, pid, WALL))
    sys.ptrace(R.PTRACE_CONT, pid, 0, SIGTERM)
    say(wait(sys, say, pid, WALL), status(sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def exit_event_of_sigkill(sys: Any, say: Any) -> None:
    """The end by SIGKILL is told, too."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid, 0, O.PTRACE_O_TRACEEXIT)
    sys.kill(pid, 9)
    say(wait(sys, say, pid, WALL), status(sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)))
    say(state(sys, pid))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


def waitid_of_an_event(sys: Any, say: Any) -> None:
    """waitid() tells of an event with CLD_TRAPPED, and the event above the signal."""
    pid = _seized(sys, O.PTRACE_O_TRACEEXIT, ends, 3)
    info = sys.waitid(1, pid, 2 | WALL)
    say(info.si_code, hex(info.si_status))
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))


@differs("before v5.18 the word of the last event stays", "4.19-arm")
def message_of_other_stops(sys: Any, say: Any) -> None:
    """PTRACE_GETEVENTMSG tells 0 at a stop that is no event."""
    pid = _seized(sys, O.PTRACE_O_TRACEFORK, _births, (SIGCHLD,))
    child = _event(sys, say, pid)
    sys.waitpid(child, WALL)
    sys.ptrace(R.PTRACE_DETACH, child)
    sys.ptrace(R.PTRACE_CONT, pid)
    say(wait(sys, say, pid, WALL))
    say(say.who(sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid)))
    _end(sys, say, pid)


def no_message_before_the_first_event(sys: Any, say: Any) -> None:
    """A task that has had no event has no message."""
    pid = _tracee(sys)
    sys.ptrace(R.PTRACE_SEIZE, pid)
    sys.ptrace(R.PTRACE_INTERRUPT, pid)
    say(wait(sys, say, pid, WALL), sys.ptrace_get(R.PTRACE_GETEVENTMSG, pid))
    _end(sys, say, pid)
