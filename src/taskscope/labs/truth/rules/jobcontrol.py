"""Terminals, sessions and their groups: tty_jobctrl.c, tty_io.c and n_tty.c in drivers/tty; termios(3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, field, sig, sleeper, state, wait
from taskscope.labs.truth.rules.terminals import terminal

SIGHUP, SIGINT, SIGQUIT, SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH = 1, 2, 3, 17, 18, 20, 21, 22, 28
WUNTRACED, WNOHANG = 2, 1
O_RDWR, O_NOCTTY, O_NONBLOCK = 2, 0o400, 0o4000
ISIG, ICANON, NOFLSH, TOSTOP = 1, 2, 0x80, 0x100
RLIMIT_CORE = 4
TIOCSCTTY, TIOCNOTTY = 0x540E, 0x5422


def _job(sys: Any, fn: Callable[..., Any], *args: Any) -> int:
    """Make a child in a group of its own, in the background: it begins when it is there."""
    gate = Gate(sys)
    pid = sys.clone(_begins, gate, fn, *args)
    sys.setpgid(pid, pid)
    gate.open(sys)
    return int(pid)


def _begins(sys: Any, gate: Gate, fn: Callable[..., Any], *args: Any) -> Any:
    gate.wait(sys)
    return fn(sys, *args)


def _line(sys: Any, lflag: int, fd: int, on: bool) -> None:
    now = sys.tcgetattr(fd)
    sys.tcsetattr(fd, now._replace(c_lflag=now.c_lflag | lflag if on else now.c_lflag & ~lflag))


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


# ---- keys -----------------------------------------------------------------------------------------------

def keys_signal_the_foreground(sys: Any, say: Any) -> None:
    """^C, ^Backslash and ^Z send SIGINT, SIGQUIT and SIGTSTP to the foreground group alone, from the kernel."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    sys.sigaction(SIGTTOU, 1)
    for key in (b"\x03", b"\x1c", b"\x1a"):
        back, front = _job(sys, sleeper), _job(sys, _says_key, say)
        asleep(sys, back)
        asleep(sys, front)
        sys.tcsetpgrp(fd, front)
        tty.type(key)
        say(wait(sys, say, front, WUNTRACED), state(sys, back))
        for pid in (back, front):
            attempt(sys.kill, pid, 9)
            wait(sys, say, pid)


def _says_key(sys: Any, say: Any) -> None:
    def handler(sys: Any, number: int, info: Any) -> None:
        say("handler", number, info.si_code)
        sys.sigaction(number, 0)
        sys.raise_(number)

    sys.setrlimit(RLIMIT_CORE, (0, 0))
    for number in (SIGINT, SIGQUIT, SIGTSTP):
        sys.sigaction(number, handler, 4 | 0x4000_0000)
    sleeper(sys)


def keys_without_isig(sys: Any, say: Any) -> None:
    """Without ISIG ^C is a byte like others; without ICANON it can be read at once."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    _line(sys, ISIG | ICANON, fd, False)
    tty.type(b"a\x03")
    got = sys.read(fd, 10)
    while len(got) < 2:
        got += sys.read(fd, 10)
    say(got)


def a_key_forgets_the_line(sys: Any, say: Any) -> None:
    """^C forgets what was typed before; with NOFLSH it does not."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    gate = Gate(sys)
    sys.sigaction(SIGINT, lambda sys, sig, info: gate.open(sys))
    for keep in (False, True):
        _line(sys, NOFLSH, fd, keep)
        tty.type(b"old\x03")
        gate.wait(sys)
        tty.type(b"new\n")
        say(sys.read(fd, 100))


def lines_are_read_one_by_one(sys: Any, say: Any) -> None:
    """A read returns a line, in parts if it is long; ^D ends one without a newline, and alone is an end of file."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    tty.type(b"one\ntwo\nthr\x7f\x7fhree\x04\x04ab\x15last\r")
    for count in (100, 2, 100, 100, 100, 100):
        say(sys.read(fd, count))
    fd = sys.open(tty.path, O_RDWR | O_NONBLOCK)
    say(attempt(sys.read, fd, 10))


def a_window_changes_its_size(sys: Any, say: Any) -> None:
    """When a window's size changes the foreground group hears SIGWINCH; to set the same size sends nothing."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    sys.sigaction(SIGWINCH, lambda sys, sig, info: say("handler", sig, info.si_code), 4)
    say(sys.tcgetwinsize(fd))
    for size in ((24, 80), (24, 80), (25, 80)):
        sys.tcsetwinsize(fd, size)
        say(sys.tcgetwinsize(fd))


# ---- the background -------------------------------------------------------------------------------------

def reading_in_the_background(sys: Any, say: Any) -> None:
    """A group in the background that reads is stopped by SIGTTIN, and reads when it is in the foreground."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    sys.sigaction(SIGTTOU, 1)
    pid = _job(sys, _reads, say, fd)
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
    other = _job(sys, sleeper)
    asleep(sys, other)
    gate = Gate(sys)
    pid = sys.clone(_begins, gate, _reads, say, fd)
    sys.setpgid(pid, other)
    gate.open(sys)
    say(wait(sys, say, pid, WUNTRACED), wait(sys, say, other, WUNTRACED))


def reading_that_cannot_stop(sys: Any, say: Any) -> None:
    """A read in the background is EIO for who ignores or blocks SIGTTIN."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    for how in ("ignores", "blocks"):
        say(how, wait(sys, say, _job(sys, _cannot_stop, say, SIGTTIN, how, fd), WUNTRACED))


def _cannot_stop(sys: Any, say: Any, number: int, how: str, fd: int) -> None:
    if how == "ignores":
        sys.sigaction(number, 1)
    else:
        sys.sigprocmask(0, sig(number))
    say(attempt(sys.read, fd, 10) if number == SIGTTIN else attempt(sys.write, fd, b"x"))


def a_handler_of_ttin(sys: Any, say: Any) -> None:
    """A handler of SIGTTIN runs, and with SA_RESTART the read is made again: it comes once more."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, _job(sys, _handles_ttin, say, fd)))


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
    _line(sys, TOSTOP, fd, True)
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
    say(attempt(sys.tcflush, fd, 0), attempt(_line, sys, TOSTOP, fd, False))
    sys.sigaction(SIGTTOU, 1)
    say(attempt(sys.write, fd, b"x"))
    done.open(sys)


def writing_in_the_background(sys: Any, say: Any) -> None:
    """The background may write; with TOSTOP SIGTTOU stops it then, and if that is ignored or blocked it writes."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, _job(sys, _writes, say, fd), WUNTRACED))
    _line(sys, TOSTOP, fd, True)
    pid = _job(sys, _writes, say, fd)
    say(wait(sys, say, pid, WUNTRACED))
    sys.kill(pid, 9)
    say(wait(sys, say, pid))
    for how in ("ignores", "blocks"):
        say(how, wait(sys, say, _job(sys, _cannot_stop, say, SIGTTOU, how, fd), WUNTRACED))


def _writes(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.write, fd, b"x"))


def settings_in_the_background(sys: Any, say: Any) -> None:
    """To change a terminal's settings, or to flush it, from the background is stopped by SIGTTOU; to ask is not."""
    fd = sys.open(terminal(sys).path, O_RDWR)
    say(wait(sys, say, _job(sys, _asks, say, fd), WUNTRACED))
    for what in (_sets, _flushes, _drains):
        pid = _job(sys, what, say, fd)
        say(wait(sys, say, pid, WUNTRACED))
        sys.kill(pid, 9)
        wait(sys, say, pid)
    say(wait(sys, say, _job(sys, _sets_with_ttou_ignored, say, fd), WUNTRACED))


def _asks(sys: Any, say: Any, fd: int) -> None:
    say(sys.tcgetattr(fd).c_lflag & (ISIG | ICANON | TOSTOP), sys.tcgetwinsize(fd))


def _sets(sys: Any, say: Any, fd: int) -> None:
    say(attempt(_line, sys, TOSTOP, fd, True))


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
    pid = _job(sys, _takes, say, fd, 0)
    say(wait(sys, say, pid, WUNTRACED), say.who(sys.tcgetpgrp(fd)))
    sys.kill(pid, 9)
    wait(sys, say, pid)
    pid = _job(sys, _takes, say, fd, 1)
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


# ---- the end --------------------------------------------------------------------------------------------

def a_leader_dies(sys: Any, say: Any) -> None:
    """When a session's leader dies the foreground group hears SIGHUP, the background nothing."""
    tty = terminal(sys)
    sys.prctl(36, 1)
    gates = [Gate(sys) for _ in range(3)]
    leader = sys.clone(_leader, say, tty, gates)
    for _ in range(3):
        gates[0].wait(sys)
    sys.kill(leader, 9)
    gates[1].wait(sys)
    say(wait(sys, say, leader))
    back = int(sys.read(gates[2].read, 16))
    asleep(sys, back)
    say(field(sys, back, "ShdPnd"))


def _leader(sys: Any, say: Any, tty: Any, gates: list[Gate]) -> None:
    sys.setsid()
    fd = sys.open(tty.path, O_RDWR)
    back = _job(sys, _hears, say, "background", gates)
    sys.write(gates[2].write, str(back).encode())
    front = _job(sys, _hears, say, "foreground", gates)
    sys.tcsetpgrp(fd, front)
    gates[0].open(sys)
    sleeper(sys)


def _hears(sys: Any, say: Any, who: str, gates: list[Gate]) -> None:
    def handler(sys: Any, number: int, info: Any) -> None:
        say(who, number, info.si_code)
        gates[1].open(sys)

    for number in (SIGHUP, SIGCONT):
        sys.sigaction(number, handler, 4, (1 << 64) - 1)
    gates[0].open(sys)
    sleeper(sys)


def a_terminal_hangs_up(sys: Any, say: Any) -> None:
    """When a terminal hangs up the session's leader hears SIGHUP and SIGCONT, reads an end and writes EIO."""
    tty = terminal(sys)
    gate, done = Gate(sys), Gate(sys)
    leader = sys.clone(_leader_with, say, tty, gate, done)
    gate.wait(sys)
    asleep(sys, leader)
    tty.hang_up()
    say(wait(sys, say, leader))


def _leader_with(sys: Any, say: Any, tty: Any, gate: Gate, done: Gate) -> None:
    sys.setsid()
    master = getattr(tty, "master", -1)
    if master >= 0:
        sys.close(master)
    fd = sys.open(tty.path, O_RDWR)

    def handler(sys: Any, number: int, info: Any) -> None:
        say(number, info.si_code)
        done.open(sys)

    for number in (SIGHUP, SIGCONT):
        sys.sigaction(number, handler, 4, (1 << 64) - 1)
    gate.open(sys)
    done.wait(sys)
    done.wait(sys)
    say(sys.read(fd, 10), attempt(sys.write, fd, b"x"), attempt(sys.tcgetpgrp, fd))
    say(attempt(sys.tcsetpgrp, fd, sys.getpgrp()), attempt(sys.open, "/dev/tty", O_RDWR))


def hanging_up_reaches_the_foreground_by_the_leader(sys: Any, say: Any) -> None:
    """When a terminal hangs up the foreground group is told when the leader dies of it: SIGHUP, then SIGCONT."""
    tty = terminal(sys)
    sys.prctl(36, 1)
    gates = [Gate(sys) for _ in range(3)]
    leader = sys.clone(_leader_and_front, say, tty, gates)
    gates[0].wait(sys)
    gates[2].wait(sys)
    asleep(sys, leader)
    tty.hang_up()
    gates[1].wait(sys)
    gates[1].wait(sys)
    say(wait(sys, say, leader))


def _leader_and_front(sys: Any, say: Any, tty: Any, gates: list[Gate]) -> None:
    sys.setsid()
    master = getattr(tty, "master", -1)
    if master >= 0:
        sys.close(master)
    fd = sys.open(tty.path, O_RDWR)
    front = _job(sys, _hears, say, "foreground", gates)
    sys.tcsetpgrp(fd, front)
    gates[2].open(sys)
    sleeper(sys)


def a_read_is_interrupted(sys: Any, say: Any) -> None:
    """A handler ends a read of a terminal with EINTR; with SA_RESTART it is made again."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    gate = Gate(sys)
    for flags in (0, 0x1000_0000):
        sys.sigaction(10, lambda sys, sig, info: gate.open(sys), flags)
        pid = sys.clone(_pokes, sys.getpid(), gate, tty if flags else None)
        say(attempt(sys.read, fd, 10))
        say(wait(sys, say, pid))


def _pokes(sys: Any, pid: int, gate: Gate, tty: Any) -> None:
    asleep(sys, pid)
    sys.kill(pid, 10)
    gate.wait(sys)
    if tty is not None:
        asleep(sys, pid)
        tty.type(b"line\n")


def stop_and_foreground_again(sys: Any, say: Any) -> None:
    """^Z stops the foreground job; after SIGCONT it goes on in the background, where it may read no more."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    sys.sigaction(SIGTTOU, 1)
    pid = _job(sys, _reads, say, fd)
    comes_to(sys, pid, "S T")
    sys.tcsetpgrp(fd, pid)
    sys.kill(pid, SIGCONT)
    asleep(sys, pid)
    sys.waitpid(pid, WUNTRACED | WNOHANG)
    tty.type(b"\x1a")
    say(wait(sys, say, pid, WUNTRACED))
    sys.tcsetpgrp(fd, sys.getpgrp())
    sys.kill(-pid, SIGCONT)
    say(wait(sys, say, pid, WUNTRACED))
