"""The end of a terminal, or of its session's leader: who hears SIGHUP.  drivers/tty/tty_io.c, tty_jobctrl.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, field, sleeper, wait
from taskscope.labs.truth.rules.terminals import job, terminal

SIGHUP, SIGCONT = 1, 18
O_RDWR = 2


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
    back = job(sys, _hears, say, "background", gates)
    sys.write(gates[2].write, str(back).encode())
    front = job(sys, _hears, say, "foreground", gates)
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
    front = job(sys, _hears, say, "foreground", gates)
    sys.tcsetpgrp(fd, front)
    gates[2].open(sys)
    sleeper(sys)
