"""``taskscope export``: tables as Parquet, JSON Lines or CSV; and whole recordings in the formats of other tools.

A part of a recording as a trace.dat is made by `taskscope.recording.Recording.cut`: only the front door knows pages.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from taskscope.errors import UsageError
from taskscope.lives.lives import Lives
from taskscope.views.json import lives_jsonl

if TYPE_CHECKING:
    import polars as pl

Format = Literal["parquet", "jsonl", "csv"]
FORMATS: tuple[Format, ...] = ("parquet", "jsonl", "csv")

#: formats of a whole recording, or of a part of it
Form = Literal["perfetto", "systrace", "dot", "story"]
FORMS: tuple[Form, ...] = ("perfetto", "systrace", "dot", "story")

#: what is written into a folder when no table is named
TABLES = ("lives", "spans")


def table_of(lives: Lives, name: str) -> pl.DataFrame:
    """Return the table ``lives``, ``spans``, or that of the event `name`.

    :raises NoSuchEventError: the recording does not declare the event
    """
    if name == "lives":
        return lives.frame()
    if name == "spans":
        return lives.spans_frame()
    return lives.trace.events(name)


def write_table(lives: Lives, name: str, form: Format, out: IO[bytes]) -> None:
    """Write one table.  ``lives`` as JSON Lines is the data contract of ``taskscope lives --json``."""
    if name == "lives" and form == "jsonl":
        for block in lives_jsonl(lives):
            out.write(block)
        return
    frame = table_of(lives, name)
    if form == "parquet":
        frame.write_parquet(out)
    elif form == "jsonl":
        frame.write_ndjson(out)
    else:
        _flat(frame).write_csv(out)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Write lists as text (``1 2 3``): CSV has no cells within cells."""
    import polars as pl

    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    return frame.with_columns([pl.col(n).cast(pl.List(pl.String)).list.join(" ") for n in lists]) if lists else frame


def targets(path: Path, table: str | None, form: Format) -> dict[str, Path]:
    """Return which table goes to which file.

    A folder (or a path that ends in a slash) gets one file a table, all of `TABLES` if none is named; any
    other path is the file of the one table, ``lives`` if none is named.
    """
    if path.is_dir():
        names = TABLES if table is None else (table,)
        return {name: path / f"{name.replace(':', '.').replace('/', '.')}.{form}" for name in names}
    return {table or "lives": path}


def export(lives: Lives, where: dict[str, Path], form: Format, *, force: bool = False) -> Iterator[tuple[str, Path]]:
    """Write tables to files, and yield (table, file) as each is done.

    A file comes into being whole or not at all.

    :param force: replace files that are there
    :raises UsageError: a file is there already and `force` is not given
    """
    refuse_replacing(where.values(), force=force)
    for name, path in where.items():
        with whole(path) as out:
            write_table(lives, name, form, out)
        yield name, path


def refuse_replacing(paths: Iterable[Path], *, force: bool) -> None:
    """Refuse files that are there.

    :raises UsageError: one is, and `force` is not given
    """
    for path in paths:
        if not force and os.path.lexists(path):
            raise UsageError(f"{path} is there already; --force replaces it")


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write that takes its name when the block ends well, and else is removed."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        mask = os.umask(0)
        os.umask(mask)
        Path(part).chmod(0o666 & ~mask)
        Path(part).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise


def write_form(lives: Lives, form: Form, out: IO[bytes], *, pids: Sequence[int] = (), after: int | None = None,
               before: int | None = None, verbose: bool = False) -> None:
    """Write a recording in the format of another tool.

    :param pids: only these tasks; of a tree with their descendants, of a systrace the events that concern them
    :param after: ns; only from that time on; `before`: only up to that time
    :param verbose: a story with the records that it rests on
    :raises UsageError: a story of no task, or a format that this recording or installation cannot give
    :raises NoSuchTaskError: a pid is not in the recording
    """
    if form == "story" and not pids:
        raise UsageError("a story of whom? name tasks: -p PID; 'taskscope lives' lists all")
    chosen = lives.choose(pids, (), after, before)
    if form == "perfetto":
        from taskscope.views.perfetto import write_perfetto

        write_perfetto(lives, out, chosen, after, before)
    elif form == "systrace":
        from taskscope.views.filters import select
        from taskscope.views.systrace import systrace

        for block in systrace(lives, select(lives.trace, pids=pids, after=after, before=before)):
            out.write(block)
    elif form == "dot":
        from taskscope.views.dot import tree_dot

        shown = lives.choose((), (), after, before)
        out.writelines(f"{line}\n".encode() for line in tree_dot(lives, shown, pids=pids))
    else:
        from taskscope.views.markdown import story_markdown

        out.writelines(part.encode() for part in story_markdown(lives, chosen, verbose=verbose))
