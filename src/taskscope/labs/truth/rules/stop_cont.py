"""Stop signals and SIGCONT: what they cancel, who stops, what orphaned groups do.  kernel/signal.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import (
    Gate,
    asleep,
    attempt,
    field,
    kill,
    sig,
    sleeper,
    started,
    state,
    stop,
    until,
    wait,
)

SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU = 18, 19, 20, 21, 22
WNOHANG, WUNTRACED, WCONTINUED = 1, 2, 8
BLOCK, UNBLOCK, SETMASK = 0, 1, 2


def _tell(say: Any) -> Any:
    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys, info
        say("handler", signal)

    return handler


def _in_a_group(sys: Any, *args: Any) -> int:
    """Make a child that sleeps in a group of its own, which is not orphaned: its parent is in the same session."""
    pid = started(sys, *args)
    sys.setpgid(pid, pid)
    return pid


# ---- they cancel each other -----------------------------------------------------------------------------

def cont_cancels_pending_stops(sys: Any, say: Any) -> None:
    """SIGCONT throws pending stop signals away, also when it is blocked itself."""
    for blocked in (False, True):
        sys.sigprocmask(SETMASK, sig(SIGTSTP, SIGTTIN, SIGTTOU, *([SIGCONT] if blocked else [])))
        for signal in (SIGTSTP, SIGTTIN, SIGTTOU):
            sys.kill(sys.getpid(), signal)
        sys.raise_(SIGTSTP)
        say(hex(sys.sigpending()))
        sys.kill(sys.getpid(), SIGCONT)
        say(hex(sys.sigpending()))


def stop_cancels_pending_cont(sys: Any, say: Any) -> None:
    """A stop signal throws a pending SIGCONT away, also when it is blocked itself."""
    sys.sigprocmask(SETMASK, sig(SIGCONT, SIGTSTP))
    sys.kill(sys.getpid(), SIGCONT)
    say(hex(sys.sigpending()))
    sys.kill(sys.getpid(), SIGTSTP)
    say(hex(sys.sigpending()))


def ignored_stop_cancels_cont(sys: Any, say: Any) -> None:
    """A stop signal that is ignored throws a pending SIGCONT away all the same."""
    sys.sigprocmask(SETMASK, sig(SIGCONT))
    sys.sigaction(SIGTSTP, sys.SIG_IGN)
    sys.kill(sys.getpid(), SIGCONT)
    sys.kill(sys.getpid(), SIGTSTP)
    say(hex(sys.sigpending()))


def ignored_cont_continues(sys: Any, say: Any) -> None:
    """SIGCONT continues a process that ignores or blocks it."""
    for ignores in (True, False):
        pid = _in_a_group(sys, _shuts_out_cont, ignores)
        stop(sys, pid)
        sys.kill(pid, SIGCONT)
        say(wait(sys, say, pid, WCONTINUED))
        asleep(sys, pid)
        say(field(sys, pid, "ShdPnd"))
        kill(sys, pid)


def _shuts_out_cont(sys: Any, ignores: bool) -> None:
    if ignores:
        sys.sigaction(SIGCONT, sys.SIG_IGN)
    else:
        sys.sigprocmask(BLOCK, sig(SIGCONT))
    sleeper(sys)


def cont_cancels_only_what_is_pending(sys: Any, say: Any) -> None:
    """A stop signal that comes after SIGCONT stops."""
    pid = _in_a_group(sys)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    sys.kill(pid, SIGTSTP)
    say(wait(sys, say, pid, WUNTRACED))


# ---- who stops ------------------------------------------------------------------------------------------

def handled_stop_does_not_stop(sys: Any, say: Any) -> None:
    """A stop signal with a handler runs it and stops nobody; SIGSTOP has none."""
    gate = Gate(sys)
    pid = sys.clone(_handles_stops, say, gate)
    sys.setpgid(pid, pid)
    gate.wait(sys)
    asleep(sys, pid)
    sys.kill(pid, SIGTSTP)
    gate.wait(sys)
    say(wait(sys, say, pid, WNOHANG | WUNTRACED))
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED))


def _handles_stops(sys: Any, say: Any, gate: Gate) -> None:
    sys.sigaction(SIGTSTP, _tell(say))
    gate.open(sys)
    attempt(sys.pause)
    gate.open(sys)
    sleeper(sys)


def ignored_stop_does_not_stop(sys: Any, say: Any) -> None:
    """Stop signals that are ignored stop nobody."""
    pid = _in_a_group(sys, _ignores_stops)
    for signal in (SIGTSTP, SIGTTIN, SIGTTOU):
        sys.kill(pid, signal)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG | WUNTRACED))


def _ignores_stops(sys: Any) -> None:
    for signal in (SIGTSTP, SIGTTIN, SIGTTOU):
        sys.sigaction(signal, sys.SIG_IGN)
    sleeper(sys)


def blocked_stop_stops_later(sys: Any, say: Any) -> None:
    """A blocked stop signal stops when it is unblocked."""
    gate = Gate(sys)
    pid = _in_a_group(sys, _unblocks_stop, gate)
    sys.kill(pid, SIGTSTP)
    say(state(sys, pid), field(sys, pid, "ShdPnd"))
    gate.open(sys)
    say(wait(sys, say, pid, WUNTRACED))


def _unblocks_stop(sys: Any, gate: Gate) -> None:
    sys.sigprocmask(BLOCK, sig(SIGTSTP))
    gate.wait(sys)
    sys.sigprocmask(UNBLOCK, sig(SIGTSTP))


def orphaned_group_does_not_stop(sys: Any, say: Any) -> None:
    """In an orphaned group SIGTSTP, SIGTTIN and SIGTTOU stop nobody, SIGSTOP does."""
    gate = Gate(sys)
    pid = sys.clone(_own_session, gate)
    gate.wait(sys)
    asleep(sys, pid)
    for signal in (SIGTSTP, SIGTTIN, SIGTTOU):
        sys.kill(pid, signal)
        until(sys, _nothing_pending, pid)
    say(state(sys, pid), wait(sys, say, pid, WNOHANG | WUNTRACED))
    sys.kill(pid, SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED))


def _own_session(sys: Any, gate: Gate) -> None:
    sys.setsid()
    gate.open(sys)
    sleeper(sys)


def _nothing_pending(sys: Any, pid: int) -> bool:
    return field(sys, pid, "ShdPnd") == "0" * 16 and state(sys, pid) == "S"


def self_stop(sys: Any, say: Any) -> None:
    """A process that stops itself goes on behind kill() when it is continued."""
    pid = sys.clone(_stops_itself, say)
    say(wait(sys, say, pid, WUNTRACED))
    say("continuing")
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))


def _stops_itself(sys: Any, say: Any) -> None:
    sys.kill(sys.getpid(), SIGSTOP)
    say("continued")
    sys.exit(3)


def group_stops(sys: Any, say: Any) -> None:
    """A stop signal to a group stops every member, SIGCONT to the group continues each."""
    pids = [started(sys) for _ in range(3)]
    for pid in pids:
        sys.setpgid(pid, pids[0])
    sys.kill(-pids[0], SIGSTOP)
    say([wait(sys, say, pid, WUNTRACED) for pid in pids])
    sys.kill(-pids[0], SIGCONT)
    say([wait(sys, say, pid, WCONTINUED) for pid in pids])


def threads_stop_together(sys: Any, say: Any) -> None:
    """A stop signal to one thread stops all of the process, which is told once."""
    told = Gate(sys)
    pid = sys.clone(_has_threads, told)
    told.wait(sys)
    tids = sorted(int(name) for name in _threads(sys, pid))
    for tid in tids:
        until(sys, _thread_is, pid, tid, "S")
    sys.tgkill(pid, tids[-1], SIGSTOP)
    say(wait(sys, say, pid, WUNTRACED), [_thread_state(sys, pid, tid) for tid in tids])
    say(wait(sys, say, pid, WUNTRACED | WNOHANG))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED))
    for tid in tids:
        until(sys, _thread_is, pid, tid, "S")


def _has_threads(sys: Any, told: Gate) -> None:
    for _ in range(2):
        sys.pthread_create(sleeper)
    told.open(sys)
    sleeper(sys)


def _threads(sys: Any, pid: int) -> list[str]:
    return list(sys.listdir(f"/proc/{pid}/task"))


def _thread_state(sys: Any, pid: int, tid: int) -> str:
    text = sys.slurp(f"/proc/{pid}/task/{tid}/stat").decode()
    return str(text[text.rindex(")") + 2])


def _thread_is(sys: Any, pid: int, tid: int, letter: str) -> bool:
    return _thread_state(sys, pid, tid) == letter


# ---- what a stopped process is not ----------------------------------------------------------------------

def stopped_makes_no_progress(sys: Any, say: Any) -> None:
    """A stopped process does not finish the call that it sleeps in, however ready that is."""
    gate, done = Gate(sys), Gate(sys)
    pid = started(sys, _passes_on, gate, done)
    stop(sys, pid)
    gate.open(sys)
    sys.nanosleep(2_000_000)
    say(state(sys, pid))
    sys.kill(pid, SIGCONT)
    done.wait(sys)
    say(wait(sys, say, pid))


def _passes_on(sys: Any, gate: Gate, done: Gate) -> None:
    gate.wait(sys)
    done.open(sys)


def stop_does_not_interrupt(sys: Any, say: Any) -> None:
    """A read that a stop and a continuation come over goes on."""
    read, write = sys.pipe()
    pid = started(sys, _reads, say, read)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    asleep(sys, pid)
    sys.write(write, b"data")
    say(wait(sys, say, pid))


def _reads(sys: Any, say: Any, fd: int) -> None:
    say("read", attempt(sys.read, fd, 10))


def pause_survives_stop(sys: Any, say: Any) -> None:
    """pause() goes on after a stop and a continuation without a handler."""
    pid = started(sys)
    for _ in range(2):
        stop(sys, pid)
        sys.kill(pid, SIGCONT)
        asleep(sys, pid)
    say(wait(sys, say, pid, WNOHANG), state(sys, pid))


def handler_of_cont_runs_after_stop(sys: Any, say: Any) -> None:
    """A handler of SIGCONT runs when the process goes on, and ends the call that it slept in."""
    gate = Gate(sys)
    pid = sys.clone(_handles_cont, say, gate)
    gate.wait(sys)
    asleep(sys, pid)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))


def _handles_cont(sys: Any, say: Any, gate: Gate) -> None:
    sys.sigaction(SIGCONT, _tell(say))
    gate.open(sys)
    say("pause", attempt(sys.pause))


def fork_while_stop_is_pending(sys: Any, say: Any) -> None:
    """A child of a process that has a stop pending has none."""
    sys.sigprocmask(BLOCK, sig(SIGTSTP))
    sys.kill(sys.getpid(), SIGTSTP)
    pid = started(sys)
    say(field(sys, pid, "ShdPnd"), field(sys, sys.getpid(), "ShdPnd"))
