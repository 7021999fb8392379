"""Runs ``taskscope lives --json`` inside the test process and reads what it prints.

The answer for a recording is kept for the whole run: many tests look at the same one.
"""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def run_inside(*args: str) -> tuple[int, bytes, str]:
    """Run the command line in this process; return exit code, stdout, stderr."""
    from taskscope.cli.main import main

    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    code: object = 0
    argv, sys.argv = sys.argv, ["taskscope", *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(args))
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = argv
    out.flush()
    number = code if isinstance(code, int) else 0 if code is None else 1
    return number, raw.getvalue(), err.getvalue()


def lives_of(recording: str | os.PathLike[str]) -> list[Row]:
    """Return the lines of ``taskscope lives --json -i RECORDING`` as objects."""
    code, out, err = run_inside("lives", "--json", "-i", os.fspath(recording))
    assert code == 0, f"exit code {code}: {err}"
    return [json.loads(line) for line in out.decode().splitlines()]


_unpacked = tempfile.TemporaryDirectory(prefix="taskscope-tests-")


@cache
def readable(recording: Path) -> Path:
    """Return the recording itself, or, for ``.xz``, an unpacked copy of it."""
    if recording.suffix != ".xz":
        return recording
    copy = Path(_unpacked.name) / recording.stem
    with lzma.open(recording) as packed, copy.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return copy


@cache
def cached_lives(recording: Path) -> tuple[Row, ...]:
    """Return `lives_of` a recording (``.xz`` too), read once a run; callers must not change the rows."""
    return tuple(lives_of(readable(recording)))


def recordings(folder: Path) -> list[Path]:
    """Return every numbered recording (d05-zombie.dat …) of a folder: trace.dat files, raw folders, texts."""
    found = [
        *folder.glob("d[0-9]*.dat"),
        *folder.glob("d[0-9]*.dat.xz"),
        *folder.glob("d[0-9]*.trace.txt"),
        *(p for p in folder.glob("d[0-9]*") if (p / "header_page").exists()),
        *(p for p in folder.glob("d[0-9]*perf-script*.txt") if "facts" not in p.name),
    ]
    return sorted(found)
