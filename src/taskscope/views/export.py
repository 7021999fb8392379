"""``taskscope export``: lives, spans or the table of one event as Parquet, JSON Lines or CSV."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from taskscope.errors import UsageError
from taskscope.lives.lives import Lives
from taskscope.views.json import lives_jsonl

if TYPE_CHECKING:
    import polars as pl

Format = Literal["parquet", "jsonl", "csv"]
FORMATS: tuple[Format, ...] = ("parquet", "jsonl", "csv")

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
    for path in where.values():
        if not force and os.path.lexists(path):
            raise UsageError(f"{path} is there already; --force replaces it")
    for name, path in where.items():
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                write_table(lives, name, form, out)
            mask = os.umask(0)
            os.umask(mask)
            Path(part).chmod(0o666 & ~mask)
            Path(part).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(part).unlink()
            raise
        yield name, path
