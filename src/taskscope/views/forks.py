"""``taskscope forks``: one line a creation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taskscope.lives.life import Life
from taskscope.lives.lives import Lives
from taskscope.views.json import dumps
from taskscope.views.names import clone_text
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Paint
from taskscope.views.times import Times
from taskscope.views.who import comm_at, pid_text

_COLUMNS = (
    Column("TIME", least=10),
    Column("CPU"),
    Column("PID", least=5),
    Column("COMM", "<", 4),
    Column("CHILD", least=5),
    Column("CHILD-COMM", "<"),
    Column("HOW", "<"),
    Column("FLAGS", "<"),
)


def forks_table(
    lives: Lives, chosen: Iterable[Life], *, paint: Paint | None = None, wide: bool = False, header: bool = True
) -> Iterator[str]:
    """Yield one line for each of the lives that was born in the recording, in order of birth.

    PID and COMM are the creator's, with the name it bore then.

    :param wide: write the flags out; else they are hexadecimal, with the exit signal in the low byte
    """
    times = Times(lives.trace.clock, lives.trace.start)
    return table(_COLUMNS, (_row(life, lives, times, wide) for life in _born(chosen)), paint, header)


def _born(lives: Iterable[Life]) -> list[Life]:
    return sorted((x for x in lives if x.born is not None), key=lambda x: x.born.at if x.born else 0)


def _row(life: Life, lives: Lives, times: Times, wide: bool) -> Row:
    born = life.born
    assert born is not None, "_born() leaves out the others"
    comm = "-"
    if born.by is not None:
        try:
            comm = comm_at(lives[born.by], born.at)
        except KeyError:
            comm = "-"
    flags = "-"
    if born.clone_flags is not None:
        exit_signal = born.exit_signal or 0
        flags = clone_text(born.clone_flags, exit_signal) if wide else f"0x{born.clone_flags | exit_signal:08x}"
    return [
        times.stamp(born.at),
        str(born.cpu),
        "-" if born.by is None else pid_text(born.by),
        comm,
        pid_text(life.ref),
        comm_at(life),
        born.how or "-",
        flags,
    ]


def forks_json(chosen: Iterable[Life]) -> Iterator[bytes]:
    """Yield one JSON object a creation: at, cpu, by, child, comm, how, clone_flags, exit_signal, stack."""
    for life in _born(chosen):
        born = life.born
        assert born is not None, "_born() leaves out the others"
        yield (
            dumps(
                {
                    "at": born.at,
                    "cpu": born.cpu,
                    "by": None if born.by is None else born.by._asdict(),
                    "child": life.ref._asdict(),
                    "comm": life.comm,
                    "how": born.how,
                    "clone_flags": born.clone_flags,
                    "exit_signal": born.exit_signal,
                    "stack": None if born.stack is None else list(born.stack),
                }
            )
            + "\n"
        ).encode()
