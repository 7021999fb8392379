"""Terminals, sessions and their groups: tty_jobctrl.c, tty_io.c and n_tty.c in drivers/tty; termios(3)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, sig, sleeper, wait
from taskscope.labs.truth.rules.terminals import begins, job, set_line, terminal

SIGHUP, SIGCONT, SIGTTIN, SIGTTOU = 1, 18, 21, 22
WUNTRACED = 2
O_RDWR, O_NOCTTY = 2, 0o400
ISIG, ICANON, TOSTOP = 1, 2, 0x100
TIOCSCTTY, TIOCNOTTY = 0x540E, 0x5422


def a_leader_gets_a_terminal(sys: Any, say: Any) -> None:
    """A session leader without a terminal gets the first that it opens, and its group is in the foreground."""
    tty = terminal(sys)
    say(attempt(sys.open, "/dev/tty", O_RDWR))
    fd = sys.open(tty.path, O_RDWR)
    say(say.who(sys.tcgetsid(fd)), say.who(sys.tcgetpgrp(fd)))
    say(say.who(sys.tcgetpgrp(sys.open("/dev/tty", O_RDWR))))
    other = sys.open(terminal(sys).path, O_RDWR)
    say(attempt(sys.tcgetpgrp, other), attempt(sys.tcgetsid, other))


def noctty_gives_none(sys: Any, say: Any) -> None:
    """With O_NOCTTY nobody gets a terminal; TIOCSCTTY gives it, once, and not to who is no leader."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR | O_NOCTTY)
    say(attempt(sys.tcgetpgrp, fd), attempt(sys.open, "/dev/tty", O_RDWR))
    say(wait(sys, say, sys.clone(_asks_for, say, fd)))
    say(attempt(sys.ioctl, fd, TIOCSCTTY, 0), attempt(sys.ioctl, fd, TIOCSCTTY, 0), say.who(sys.tcgetpgrp(fd)))
    other = sys.open(terminal(sys).path, O_RDWR)
    say(attempt(sys.ioctl, other, TIOCSCTTY, 0))


def _asks_for(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.ioctl, fd, TIOCSCTTY, 0))


def a_new_session_has_no_terminal(sys: Any, say: Any) -> None:
    """setsid() parts a process from its terminal; one that is another session's cannot be had."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, sys.clone(_leaves, say, fd)))


def _leaves(sys: Any, say: Any, fd: int) -> None:
    say(say.who(sys.tcgetpgrp(fd)))
    sys.setsid()
    say(attempt(sys.tcgetpgrp, fd), attempt(sys.open, "/dev/tty", O_RDWR), attempt(sys.ioctl, fd, TIOCSCTTY, 0))


def giving_a_terminal_up(sys: Any, say: Any) -> None:
    """TIOCNOTTY of the leader parts the whole session from the terminal; the foreground hears SIGHUP and SIGCONT."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    for number in (SIGHUP, SIGCONT):
        sys.sigaction(number, lambda sys, sig, info: say("handler", sig, info.si_code), 4, (1 << 64) - 1)
    sys.sigprocmask(0, sig(SIGHUP, SIGCONT))
    pid = sys.clone(_still_has, say, fd, gate := Gate(sys))
    say(attempt(sys.ioctl, fd, TIOCNOTTY, 0), attempt(sys.tcgetpgrp, fd), attempt(sys.ioctl, fd, TIOCNOTTY, 0))
    say(f"{sys.sigpending():#x}")
    sys.sigprocmask(1, sig(SIGHUP, SIGCONT))
    gate.open(sys)
    say(wait(sys, say, pid))


def _still_has(sys: Any, say: Any, fd: int, gate: Gate) -> None:
    sys.sigaction(SIGHUP, 1)
    sys.sigaction(SIGCONT, 0)
    gate.wait(sys)
    say(attempt(sys.tcgetpgrp, fd))


# ---- the background -------------------------------------------------------------------------------------

def reading_in_the_background(sys: Any, say: Any) -> None:
    """A group in the background that reads is stopped by SIGTTIN, and reads when it is in the foreground."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    sys.sigaction(SIGTTOU, 1)
    pid = job(sys, _reads, say, fd)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid, WUNTRACED))
    sys.tcsetpgrp(fd, pid)
    tty.type(b"line\n")
    sys.kill(pid, SIGCONT)
    say(wait(sys, say, pid))


def _reads(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.read, fd, 10))


def all_of_a_group_stop(sys: Any, say: Any) -> None:
    """If one of a group in the background reads, all of it are stopped."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    other = job(sys, sleeper)
    asleep(sys, other)
    gate = Gate(sys)
    pid = sys.clone(begins, gate, _reads, say, fd)
    sys.setpgid(pid, other)
    gate.open(sys)
    say(wait(sys, say, pid, WUNTRACED), wait(sys, say, other, WUNTRACED))


def reading_that_cannot_stop(sys: Any, say: Any) -> None:
    """A read in the background is EIO for who ignores or blocks SIGTTIN."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    for how in ("ignores", "blocks"):
        say(how, wait(sys, say, job(sys, _cannot_stop, say, SIGTTIN, how, fd), WUNTRACED))


def _cannot_stop(sys: Any, say: Any, number: int, how: str, fd: int) -> None:
    if how == "ignores":
        sys.sigaction(number, 1)
    else:
        sys.sigprocmask(0, sig(number))
    say(attempt(sys.read, fd, 10) if number == SIGTTIN else attempt(sys.write, fd, b"x"))


def a_handler_of_ttin(sys: Any, say: Any) -> None:
    """A handler of SIGTTIN runs, and with SA_RESTART the read is made again: it comes once more."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, job(sys, _handles_ttin, say, fd)))


def _handles_ttin(sys: Any, say: Any, fd: int) -> None:
    count: list[int] = []

    def handler(sys: Any, number: int, info: Any) -> None:
        count.append(number)
        say("handler", number, info.si_code)
        if len(count) == 2:
            sys.sigaction(number, 1)

    sys.sigaction(SIGTTIN, handler, 4)
    say(attempt(sys.read, fd, 10))
    count.clear()
    sys.sigaction(SIGTTIN, handler, 4 | 0x1000_0000)
    say(attempt(sys.read, fd, 10))


def orphans_get_eio(sys: Any, say: Any) -> None:
    """A read by an orphaned group in the background is EIO; with TOSTOP a write, too; tcsetpgrp() is ENOTTY."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    set_line(sys, TOSTOP, fd, True)
    gate, done = Gate(sys), Gate(sys)
    say(wait(sys, say, sys.clone(_leaves_an_orphan, say, fd, gate, done)))
    gate.open(sys)
    done.wait(sys)


def _leaves_an_orphan(sys: Any, say: Any, fd: int, gate: Gate, done: Gate) -> None:
    pid = sys.clone(_orphan, say, fd, gate, done)
    sys.setpgid(pid, pid)


def _orphan(sys: Any, say: Any, fd: int, gate: Gate, done: Gate) -> None:
    gate.wait(sys)
    say(attempt(sys.read, fd, 10), attempt(sys.write, fd, b"x"), attempt(sys.tcsetpgrp, fd, sys.getpgrp()))
    say(attempt(sys.tcflush, fd, 0), attempt(set_line, sys, TOSTOP, fd, False))
    sys.sigaction(SIGTTOU, 1)
    say(attempt(sys.write, fd, b"x"))
    done.open(sys)


def writing_in_the_background(sys: Any, say: Any) -> None:
    """The background may write; with TOSTOP SIGTTOU stops it then, and if that is ignored or blocked it writes."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, job(sys, _writes, say, fd), WUNTRACED))
    set_line(sys, TOSTOP, fd, True)
    pid = job(sys, _writes, say, fd)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, 9)
    say(wait(sys, say, pid))
    for how in ("ignores", "blocks"):
        say(how, wait(sys, say, job(sys, _cannot_stop, say, SIGTTOU, how, fd), WUNTRACED))


def _writes(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.write, fd, b"x"))


def settings_in_the_background(sys: Any, say: Any) -> None:
    """To change a terminal's settings, or to flush it, from the background is stopped by SIGTTOU; to ask is not."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, job(sys, _asks, say, fd), WUNTRACED))
    for what in (_sets, _flushes, _drains):
        pid = job(sys, what, say, fd)
        say(wait(sys, say, pid, WUNTRACED))
        sys.kill(pid, 9)
        wait(sys, say, pid)
    say(wait(sys, say, job(sys, _sets_with_ttou_ignored, say, fd), WUNTRACED))


def _asks(sys: Any, say: Any, fd: int) -> None:
    say(sys.tcgetattr(fd).c_lflag & (ISIG | ICANON | TOSTOP), sys.tcgetwinsize(fd))


def _sets(sys: Any, say: Any, fd: int) -> None:
    say(attempt(set_line, sys, TOSTOP, fd, True))


def _sets_with_ttou_ignored(sys: Any, say: Any, fd: int) -> None:
    sys.sigaction(SIGTTOU, 1)
    _sets(sys, say, fd)


def _flushes(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.tcflush, fd, 0))


def _drains(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.tcdrain, fd))


def taking_the_foreground(sys: Any, say: Any) -> None:
    """tcsetpgrp() from the background is stopped by SIGTTOU; ignored or blocked it works."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    pid = job(sys, _takes, say, fd, 0)
    say(wait(sys, say, pid, WUNTRACED), say.who(sys.tcgetpgrp(fd)))
    sys.kill(pid, 9)
    wait(sys, say, pid)
    pid = job(sys, _takes, say, fd, 1)
    say(wait(sys, say, pid), sys.tcgetpgrp(fd) == pid)


def _takes(sys: Any, say: Any, fd: int, ignore: int) -> None:
    if ignore:
        sys.sigaction(SIGTTOU, 1)
    say(attempt(sys.tcsetpgrp, fd, sys.getpgrp()))


def foreground_errors(sys: Any, say: Any) -> None:
    """tcsetpgrp() takes groups of the session only: EINVAL, ESRCH, EPERM; of another terminal it is ENOTTY."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    pid = sys.clone(_own_session)
    asleep(sys, pid)
    say(attempt(sys.tcsetpgrp, fd, -1), attempt(sys.tcsetpgrp, fd, 0x3FFF_FFFF), attempt(sys.tcsetpgrp, fd, pid))
    child = sys.clone(sleeper)
    say(attempt(sys.tcsetpgrp, fd, child))
    other = sys.open(terminal(sys).path, O_RDWR)
    say(attempt(sys.tcsetpgrp, other, sys.getpgrp()))
    read, _ = sys.pipe()
    say(attempt(sys.tcsetpgrp, read, sys.getpgrp()), attempt(sys.tcgetpgrp, read))


def _own_session(sys: Any) -> None:
    sys.setsid()
    sleeper(sys)
