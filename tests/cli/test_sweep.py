"""Every command on every recording: an answer, nothing on stderr but notes, 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import DATA
from lives_json import readable, recordings, run_inside
from taskscope.views.text import width

TABLES = ("lives", "tree", "sched", "kills", "kills --all", "forks", "ps -ejH", "tree --at +0")
OTHERS = ("ps axjf", "lives -v", "sched -v", "forks -v", "ps", "report")
OBJECTS = ("lives", "ps", "tree", "sched", "kills --all", "forks", "report")


def answer(path: Path, command: str, *more: str) -> str:
    """Run a command on a recording, and hold that it succeeds and says nothing but notes on stderr."""
    verb, *rest = command.split()
    code, out, err = run_inside(verb, "-i", str(path), *rest, *more)
    assert code == 0, (command, err)
    assert all(line.startswith("taskscope: note: ") for line in err.splitlines()), err
    text = out.decode()
    assert all(c.isprintable() or c == "\n" for c in text)
    return text


@pytest.mark.slow
@pytest.mark.limit(300)
@pytest.mark.parametrize("recording", recordings(DATA), ids=lambda p: p.name)
def test_every_command(recording: Path) -> None:
    """Text is printable, tables fit 80 columns, and JSON has as many objects as the table has records."""
    path = readable(recording)
    records: dict[str, int] = {}
    for command in TABLES:
        lines = answer(path, command).splitlines()
        records[command] = len(lines) - 1
        assert max(map(width, lines)) <= 80, command
    for command in OTHERS:
        answer(path, command)
    for command in OBJECTS:
        rows = [json.loads(x) for x in answer(path, command, "--json").splitlines()]
        assert all(isinstance(row, dict) for row in rows)
        if command in ("lives", "tree", "kills --all", "forks"):
            assert len(rows) == records[command]
