"""What is typed on a terminal: lines, keys that signal, its window.  drivers/tty/n_tty.c, termios(3)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, sleeper, state, wait
from taskscope.labs.truth.rules.terminals import job, set_line, terminal

SIGINT, SIGQUIT, SIGCONT, SIGTSTP, SIGTTOU, SIGWINCH = 2, 3, 18, 20, 22, 28
WUNTRACED, WNOHANG = 2, 1
O_RDWR, O_NONBLOCK = 2, 0o4000
ISIG, ICANON, NOFLSH = 1, 2, 0x80
RLIMIT_CORE = 4


def keys_signal_the_foreground(sys: Any, say: Any) -> None:
    """^C, ^Backslash and ^Z send SIGINT, SIGQUIT and SIGTSTP to the foreground group alone, from the kernel."""
    tty = terminal(sys)
    fd = sys.open(tty.path, O_RDWR)
    sys.sigaction(SIGTTOU, 1)
    for key in (b"\x03", b"\x1c", b"\x1a"):
        back, front = job(sys, sleeper), job(sys, _says_key, say)
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
    set_line(sys, ISIG | ICANON, fd, False)
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
        set_line(sys, NOFLSH, fd, keep)
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
    pid = job(sys, _reads, say, fd)
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


def _reads(sys: Any, say: Any, fd: int) -> None:
    say(attempt(sys.read, fd, 10))
