"""``taskscope kills``: one line a signal, and one for each death by a signal whose sending was not recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from taskscope.lives.life import Life, Signal, TaskRef
from taskscope.lives.lives import Lives
from taskscope.views.json import dumps
from taskscope.views.names import signal_name
from taskscope.views.signals import RESULTS, SIGCHLD, SIGCONT, fatal
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Cell, Paint
from taskscope.views.times import Times
from taskscope.views.who import comm_at, pid_text

_COLUMNS = (
    Column("TIME", least=10),
    Column("CPU"),
    Column("PID", least=5),
    Column("COMM", "<", 4),
    Column("SIGNAL", "<", 7),
    Column("TPID", least=5),
    Column("TCOMM", "<", 5),
    Column("RESULT", "<"),
)


class Kill(NamedTuple):
    """One signal, or one death by a signal (``signal`` None: nobody was seen sending it)."""

    at: int
    cpu: int | None
    sig: int
    sender: TaskRef | None
    target: Life
    signal: Signal | None
    deadly: bool


def kills(lives: Iterable[Life], *, every: bool = False, deaths: bool = False) -> list[Kill]:
    """Return the signals of some lives, in order of time.

    Without the options: all but the kernel's own notices (SIGCHLD of a child that changed) and what a task
    ignored.

    :param every: all signals
    :param deaths: only those that ended a task
    """
    found: list[Kill] = []
    for life in lives:
        killed = False
        for one in life.signals:
            deadly = fatal(life, one)
            killed |= deadly
            # A stopped task goes on at SIGCONT even if it ignores it.
            notice = (one.result == 1 and one.sig != SIGCONT) or (one.sig == SIGCHLD and one.code > 0)
            if deadly or every or (not deaths and not notice):
                found.append(Kill(one.at, one.cpu, one.sig, one.sender, life, one, deadly))
        end = life.exit
        # Threads that die because their group does are not killed a second time.
        if end is not None and end.signal is not None and not killed and end.cause != "group_exit":
            found.append(Kill(end.at, end.cpu, end.signal, end.killer, life, None, True))
    return sorted(found, key=lambda k: (k.at, k.target.pid))


def kills_table(
    lives: Lives, found: Iterable[Kill], *, paint: Paint | None = None, header: bool = True
) -> Iterator[str]:
    """Yield the lines of the table; PID and COMM are the sender's, TPID and TCOMM the target's."""
    times = Times(lives.trace.clock, lives.trace.start)
    return table(_COLUMNS, (_row(kill, lives, times) for kill in found), paint, header)


def _row(kill: Kill, lives: Lives, times: Times) -> Row:
    comm = "-"
    if kill.sender is not None:
        try:
            comm = comm_at(lives[kill.sender], kill.at)
        except KeyError:
            comm = "-"
    return [
        times.stamp(kill.at),
        "-" if kill.cpu is None else str(kill.cpu),
        "-" if kill.sender is None else pid_text(kill.sender),
        comm,
        Cell(signal_name(kill.sig), "kill" if kill.deadly else None),
        pid_text(kill.target.ref),
        comm_at(kill.target, kill.at),
        Cell(result_text(kill), "kill" if kill.deadly else None),
    ]


def result_text(kill: Kill) -> str:
    """Say what became of a signal: ``killed``, ``handler``, ``default``, ``ignored`` and so on."""
    one = kill.signal
    if kill.deadly:
        end = kill.target.exit
        text = "killed" + (" core" if end is not None and end.core else "")
        if end is not None and end.cause == "oom":
            text += " oom"
        return text if one is not None else f"{text} (sending not recorded)"
    assert one is not None, "only a death has no signal"
    if one.result:
        return RESULTS.get(one.result, f"result {one.result}")
    if one.delivered_at is None:
        return "not delivered"
    if one.handler is None:
        return "delivered"
    return {0: "default", 1: "ignored"}.get(one.handler, "handler")


def kills_json(found: Iterable[Kill]) -> Iterator[bytes]:
    """Yield one JSON object a signal: at, cpu, sig, code, from, to, comm, result, delivered_at, deadly."""
    for kill in found:
        one = kill.signal
        yield (
            dumps(
                {
                    "at": kill.at,
                    "cpu": kill.cpu,
                    "sig": kill.sig,
                    "code": None if one is None else one.code,
                    "from": None if kill.sender is None else kill.sender._asdict(),
                    "to": kill.target.ref._asdict(),
                    "comm": kill.target.comm,
                    "result": None if one is None else one.result,
                    "delivered_at": None if one is None else one.delivered_at,
                    "deadly": kill.deadly,
                }
            )
            + "\n"
        ).encode()
