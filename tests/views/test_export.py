"""Exports: the same figures in every format, files whole or not at all, nothing replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from taskscope.errors import NoSuchEventError, UsageError
from taskscope.recording import Recording
from taskscope.views.export import FORMATS, Format, export, targets
from taskscope.views.json import life_json


@pytest.fixture(scope="module")
def trace(data: Path) -> Recording:
    """A real recording with threads."""
    return Recording.open(data / "d06-threads.dat")


def write(trace: Recording, path: Path, table: str | None, form: Format, force: bool = False) -> dict[str, Path]:
    """Export and return the files by table."""
    return dict(export(trace.lives, targets(path, table, form), form, force=force))


READ = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("table", ["spans", "sched_switch", "sched:sched_process_fork"])
def test_tables_come_back(trace: Recording, tmp_path: Path, table: str, form: Format) -> None:
    """What is written is read back equal, in every format."""
    written = write(trace, tmp_path / "out", table, form)
    frame = READ[form](written[table])
    expected = trace.lives.spans_frame() if table == "spans" else trace.events(table)
    assert frame.height == expected.height > 0
    assert frame.columns == expected.columns
    for name in expected.columns:
        assert frame[name].to_list() == expected[name].to_list(), name


def test_lives_as_json_lines_are_the_contract(trace: Recording, tmp_path: Path) -> None:
    """Lives as JSON Lines is what ``taskscope lives --json`` prints."""
    written = write(trace, tmp_path / "lives.jsonl", None, "jsonl")
    lines = written["lives"].read_text().splitlines()
    assert lines == [life_json(x) for x in trace.lives]
    assert json.loads(lines[0])["pid"] == next(iter(trace.lives)).pid


def test_a_folder_gets_a_file_a_table(trace: Recording, tmp_path: Path) -> None:
    """Into a folder go lives and spans, or the one table that was named."""
    assert set(write(trace, tmp_path, None, "parquet").values()) == {
        tmp_path / "lives.parquet",
        tmp_path / "spans.parquet",
    }
    assert write(trace, tmp_path, "sched:sched_switch", "csv") == {
        "sched:sched_switch": tmp_path / "sched.sched_switch.csv"
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lives.parquet", "sched.sched_switch.csv", "spans.parquet"]


def test_nothing_is_replaced_unasked(trace: Recording, tmp_path: Path) -> None:
    """A file that is there stays as it is, unless it may be replaced."""
    path = tmp_path / "mine.csv"
    path.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        write(trace, path, "spans", "csv")
    assert path.read_text() == "precious"
    write(trace, path, "spans", "csv", force=True)
    assert path.read_text().startswith("pid,")


def test_a_failure_leaves_nothing_behind(trace: Recording, tmp_path: Path) -> None:
    """Where a table cannot be made, no file and no part of one remains."""
    with pytest.raises(NoSuchEventError):
        write(trace, tmp_path / "x.csv", "no_such_event", "csv")
    assert list(tmp_path.iterdir()) == []


def test_arrays_in_csv(data: Path, tmp_path: Path) -> None:
    """CSV has no cells within cells: an array is written as its numbers with blanks between."""
    trace = Recording.open(data / "d31-shellexec-612.dat")
    name = next(
        f"{t.system}:{t.name}"
        for t in trace.types
        if f"{t.system}:{t.name}" in trace.counts and any(f.shape == "array" for f in t.fields)
    )
    written = write(trace, tmp_path / "x.csv", name, "csv")
    frame, expected = pl.read_csv(written[name]), trace.events(name)
    column = next(c for c, d in expected.schema.items() if isinstance(d, pl.List))
    assert [[int(x) for x in str(v).split()] for v in frame[column]] == expected[column].to_list()
