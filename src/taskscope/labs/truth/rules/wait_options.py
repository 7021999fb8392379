"""The options of wait4(2): WNOHANG, WUNTRACED, WCONTINUED, __WCLONE, __WALL.  kernel/exit.c, wait(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import asleep, comes_to, dead, kill, sleeper, started, stop, wait

WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x01000000
WALL, WCLONE = 0x40000000, -0x80000000
SIGKILL, SIGUSR2, SIGCHLD, SIGCONT, SIGSTOP = 9, 12, 17, 18, 19


# ---- options --------------------------------------------------------------------------------------------

def nohang(sys: Any, say: Any) -> None:
    """With WNOHANG a child without news gives 0, one that died is reaped."""
    pid = started(sys)
    say(wait(sys, say, -1, WNOHANG), wait(sys, say, pid, WNOHANG), wait(sys, say, 0, WNOHANG))
    kill(sys, pid)
    say(wait(sys, say, -1, WNOHANG), wait(sys, say, -1, WNOHANG))


def nohang_leaves_status(sys: Any, say: Any) -> None:
    """With WNOHANG and no news the status is not written."""
    started(sys)
    say(sys.waitpid(-1, WNOHANG))


def unknown_options(sys: Any, say: Any) -> None:
    """Options that wait4() does not have give EINVAL, those of waitid() too, and nothing is reaped."""
    dead(sys, 2)
    for option in (WEXITED, WNOWAIT, 0x10, 0x40, 0x1000, 0x10000000, WEXITED | WNOHANG):
        say(hex(option), wait(sys, say, -1, option))
    say(wait(sys, say))


def stop_is_told(sys: Any, say: Any) -> None:
    """With WUNTRACED a stop is told once, with the signal in the second byte and 0x7f in the first."""
    for signal in (19, 20, 21, 22):
        pid = started(sys)
        sys.setpgid(pid, 0)
        stop(sys, pid, signal)
        say(signal, wait(sys, say, pid, WUNTRACED), wait(sys, say, pid, WUNTRACED | WNOHANG))
        sys.kill(pid, SIGKILL)
        say(wait(sys, say, pid))


def stop_is_not_told(sys: Any, say: Any) -> None:
    """Without WUNTRACED a stop is not told, and is still there for who asks."""
    pid = started(sys)
    stop(sys, pid)
    say(wait(sys, say, pid, WNOHANG), wait(sys, say, pid, WNOHANG | WCONTINUED), wait(sys, say, pid, WUNTRACED))


def stop_wakes_waiter(sys: Any, say: Any) -> None:
    """A wait with WUNTRACED that sleeps ends when the child stops."""
    say(wait(sys, say, sys.clone(_stops), WUNTRACED))


def _stops(sys: Any) -> None:
    sys.kill(sys.getpid(), SIGSTOP)


def continue_is_told(sys: Any, say: Any) -> None:
    """With WCONTINUED a continuation is told once, as 0xffff."""
    pid = started(sys)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WNOHANG | WUNTRACED), wait(sys, say, pid, WCONTINUED),
        wait(sys, say, pid, WCONTINUED | WNOHANG))


def continue_replaces_stop(sys: Any, say: Any) -> None:
    """A stop that nobody asked for before the continuation is lost."""
    pid = started(sys)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED | WUNTRACED), wait(sys, say, pid, WCONTINUED | WUNTRACED | WNOHANG))


def stop_replaces_continue(sys: Any, say: Any) -> None:
    """A continuation that nobody asked for before the next stop is lost."""
    pid = started(sys)
    stop(sys, pid)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    asleep(sys, pid)
    stop(sys, pid)
    say(wait(sys, say, pid, WCONTINUED | WNOHANG), wait(sys, say, pid, WUNTRACED))


def continue_without_stop(sys: Any, say: Any) -> None:
    """SIGCONT to a process that is not stopped is no news."""
    pid = started(sys)
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WCONTINUED | WNOHANG))


def death_of_stopped(sys: Any, say: Any) -> None:
    """A stopped child that is killed tells its death, not the stop."""
    pid = started(sys)
    stop(sys, pid)
    kill(sys, pid)
    say(wait(sys, say, pid, WUNTRACED), wait(sys, say))


def death_after_continue(sys: Any, say: Any) -> None:
    """A child that died tells its death, whatever was left to tell of its continuation."""
    pid = started(sys)
    stop(sys, pid)
    sys.kill(pid, SIGCONT)
    kill(sys, pid)
    say(wait(sys, say, pid, WCONTINUED), wait(sys, say))


def two_stops(sys: Any, say: Any) -> None:
    """Each stop of a child is told with its own signal."""
    pid = started(sys)
    for signal in (SIGSTOP, SIGSTOP, 20):
        stop(sys, pid, signal)
        say(wait(sys, say, pid, WUNTRACED))
        sys.kill(pid, SIGCONT)
        say(wait(sys, say, pid, WCONTINUED))
        asleep(sys, pid)
        sys.setpgid(pid, 0)


def stop_signal_while_stopped(sys: Any, say: Any) -> None:
    """A stop signal to a process that is stopped is no news."""
    pid = started(sys)
    stop(sys, pid)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, 20)
    say(wait(sys, say, pid, WUNTRACED | WNOHANG))


# ---- children that do not send SIGCHLD ------------------------------------------------------------------

def clone_child_is_hidden(sys: Any, say: Any) -> None:
    """A child whose exit signal is not SIGCHLD is not seen by a wait without __WCLONE or __WALL: ECHILD."""
    for signal in (0, SIGUSR2):
        sys.sigaction(SIGUSR2, 1)
        pid = dead(sys, 1, flags=signal)
        say(wait(sys, say), wait(sys, say, pid, WNOHANG), wait(sys, say, pid, WCLONE))


def wclone_hides_others(sys: Any, say: Any) -> None:
    """With __WCLONE a child whose exit signal is SIGCHLD is not seen."""
    pid = dead(sys, 2)
    say(wait(sys, say, -1, WCLONE), wait(sys, say, pid, WCLONE | WNOHANG), wait(sys, say, pid))


def wall_sees_both(sys: Any, say: Any) -> None:
    """With __WALL children are seen whatever their exit signal, oldest first."""
    for flags in (0, SIGCHLD, 0):
        dead(sys, 3, flags=flags)
    for _ in range(4):
        say(wait(sys, say, -1, WALL))


def wall_beats_wclone(sys: Any, say: Any) -> None:
    """__WALL with __WCLONE is __WALL."""
    dead(sys, 4)
    dead(sys, 5, flags=0)
    say(wait(sys, say, -1, WALL | WCLONE), wait(sys, say, -1, WALL | WCLONE))


def hidden_child_stops(sys: Any, say: Any) -> None:
    """The stop of a child without SIGCHLD is told with __WCLONE only."""
    pid = started(sys, sleeper, flags=0)
    stop(sys, pid)
    say(wait(sys, say, pid, WUNTRACED | WNOHANG), wait(sys, say, pid, WUNTRACED | WCLONE))


def exec_makes_it_ordinary(sys: Any, say: Any) -> None:
    """A child without SIGCHLD that executes a program sends SIGCHLD from then on."""
    pid = sys.clone(_executes_true, flags=0)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid, WCLONE), wait(sys, say, pid))


def _executes_true(sys: Any) -> None:
    sys.execve("/bin/true", ["true"], {})
