"""``taskscope lives``: one line a task, from creation to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taskscope.lives.life import Life
from taskscope.lives.lives import Lives
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Cell, Paint
from taskscope.views.times import Times
from taskscope.views.who import comm_at, end_text

#: one letter a kind, as in the K column
KIND_LETTERS = {"process": "p", "thread": "t", "kthread": "k", "idle": "i"}

_COLUMNS = (
    Column("PID", least=5),
    Column("GEN"),
    Column("K", "<"),
    Column("PPID", least=5),
    Column("BORN", least=10),
    Column("LIVED", least=6),
    Column("RUN", least=6),
    Column("SLEEP", least=6),
)
_MORE = (
    Column("WAIT", least=6),
    Column("BLOCK", least=6),
    Column("ZOMBIE", least=6),
    Column("UNKN", least=6),
    Column("WAKE"),
    Column("VOL"),
    Column("INVOL"),
    Column("MIGR"),
)
_LAST = (Column("COMM", "<", 4), Column("END", "<"))


def lives_table(
    lives: Lives, chosen: Iterable[Life], *, paint: Paint | None = None, wide: bool = False, header: bool = True
) -> Iterator[str]:
    """Yield the lines of the table.

    :param chosen: the lives to list, in order
    :param wide: more columns than fit 80 cells: WAIT BLOCK ZOMBIE UNKN (times), WAKE VOL INVOL MIGR (counts)
    """
    times = Times(lives.trace.clock, lives.trace.start)
    columns = (*_COLUMNS, *(_MORE if wide else ()), *_LAST)
    return table(columns, (_row(life, times, wide) for life in chosen), paint, header)


def lived(life: Life) -> int:
    """Return how long (ns) a task lived, from creation to sched_process_exit, as far as the recording shows it.

    It still runs a little after that, until it leaves the cpu for the last time.
    """
    begin = life.born.at if life.born else life.first
    end = life.exit.at if life.exit else life.freed.at if life.freed else life.last
    return max(end - begin, 0)


def _row(life: Life, times: Times, wide: bool) -> Row:
    time = life.time
    whole = "" if life.born is not None and life.exit is not None else ">"
    row: list[str | Cell] = [
        str(life.pid),
        str(life.generation),
        KIND_LETTERS.get(life.kind or "", "-"),
        "-" if life.parent is None else str(life.parent.pid),
        times.stamp(life.born.at) if life.born else "-",
        whole + times.short(lived(life)),
        times.short(time["running"]),
        times.short(time["sleeping"] + time["idle"]),
    ]
    if wide:
        row += [
            times.short(time["runnable"]),
            times.short(time["blocked"]),
            times.short(time["zombie"]),
            times.short(time["unknown"]),
            str(life.wakeups),
            str(life.switches.voluntary),
            str(life.switches.involuntary),
            str(life.migrations),
        ]
    killed = life.exit is not None and life.exit.signal is not None
    return [
        *row,
        comm_at(life),
        Cell("-" if life.kind == "idle" else end_text(life), "kill" if killed else None),
    ]
