"""The data contract of ``taskscope lives --json``: exactly these keys, plain values, whatever the names hold."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.lives.life import (
    Adoption,
    Birth,
    Comm,
    Exec,
    Exit,
    Freed,
    Life,
    Reaped,
    Signal,
    State,
    Switches,
    TaskRef,
)
from taskscope.views.json import life_json, lives_jsonl

KEYS = (
    *("pid", "generation", "tgid", "kind", "comm", "comms", "parent", "born", "execs", "signals", "exit", "reaped"),
    *("freed", "adopted", "time", "switches", "wakeups", "migrations", "cpus", "gaps", "inferred"),
)
TIMES = ("running", "runnable", "sleeping", "blocked", "stopped", "traced", "parked", "idle", "zombie", "unknown")
SH = TaskRef(911, 1)


def whole_life(**changed: Any) -> Life:
    """Return a life of which everything is known, with some parts changed."""
    life = Life(
        pid=2042,
        generation=0,
        tgid=2042,
        kind="process",
        comm="ls",
        comms=(Comm(5, "bash"), Comm(9, "ls")),
        parent=SH,
        born=Birth(5, 1, SH, "fork", 0x1200000, 17, ("copy_process", "kernel_clone"), 7, ("why",)),
        execs=(Exec(10, 1, "/bin/ls", 2042),),
        signals=(Signal(20, 0, 9, 0, SH, 0, True, 25, 0), Signal(21, 0, 17, 1, None, 1, True, None, None)),
        exit=Exit(30, 1, None, 9, False, "signal", SH, ("do_exit",), 31, 17, SH, ("a", "b")),
        reaped=Reaped(40, SH, ()),
        freed=Freed(50, 0),
        adopted=(Adoption(None, TaskRef(1, 0), ("who",)),),
        time={s.name.lower(): int(s) * 10 for s in State if s is not State.DEAD},
        switches=Switches(3, 1),
        wakeups=4,
        migrations=2,
        cpus=(0, 1),
        gaps=1,
        first=5,
        last=50,
        inferred=("c",),
        prio=120,
    )
    return dataclasses.replace(life, **changed)


def test_the_whole_contract() -> None:
    """A life of which everything is known gives all keys, in the order of the contract, with these values."""
    row = json.loads(life_json(whole_life()))
    assert tuple(row) == KEYS
    sh = {"pid": 911, "generation": 1}
    assert row == {
        "pid": 2042,
        "generation": 0,
        "tgid": 2042,
        "kind": "process",
        "comm": "ls",
        "comms": [{"at": 5, "comm": "bash"}, {"at": 9, "comm": "ls"}],
        "parent": sh,
        "born": {
            "at": 5,
            "by": sh,
            "how": "fork",
            "clone_flags": 0x1200000,
            "exit_signal": 17,
            "stack": ["copy_process", "kernel_clone"],
            "inferred": ["why"],
        },
        "execs": [{"at": 10, "filename": "/bin/ls", "old_pid": 2042}],
        "signals": [
            {"at": 20, "sig": 9, "code": 0, "from": sh, "result": 0, "delivered_at": 25},
            {"at": 21, "sig": 17, "code": 1, "from": None, "result": 1, "delivered_at": None},
        ],
        "exit": {
            "at": 30,
            "code": None,
            "signal": 9,
            "core": False,
            "cause": "signal",
            "killer": sh,
            "stack": ["do_exit"],
            "inferred": ["a", "b"],
        },
        "reaped": {"at": 40, "by": sh, "inferred": []},
        "freed": {"at": 50},
        "adopted": [{"at": None, "by": {"pid": 1, "generation": 0}, "inferred": ["who"]}],
        "time": {name: k * 10 for k, name in enumerate(TIMES)},
        "switches": {"voluntary": 3, "involuntary": 1},
        "wakeups": 4,
        "migrations": 2,
        "cpus": [0, 1],
        "gaps": 1,
        "inferred": ["c"],
    }


def test_unknown_is_null() -> None:
    """What is not known is null, and no key is left out for it."""
    row = json.loads(
        life_json(
            whole_life(
                tgid=None, kind=None, parent=None, born=None, exit=None, reaped=None, freed=None, adopted=(), execs=()
            )
        )
    )
    assert tuple(row) == KEYS
    assert [row[k] for k in ("tgid", "kind", "parent", "born", "exit", "reaped", "freed")] == [None] * 7
    assert row["adopted"] == row["execs"] == []
    bare = Birth(5, 1, None, None, None, None, None, None)
    born = json.loads(life_json(whole_life(born=bare)))["born"]
    assert born == {
        "at": 5, "by": None, "how": None, "clone_flags": None, "exit_signal": None, "stack": None, "inferred": [],
    }  # fmt: skip


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_of_any_kind(comm: str, filename: str) -> None:
    """Quotes, control characters, surrogates: valid JSON of pure printable ASCII that gives the name back."""
    line = life_json(whole_life(comm=comm, execs=(Exec(1, 0, filename, 1),)))
    assert line.isascii()
    assert line.isprintable()
    row = json.loads(line)
    assert (row["comm"], row["execs"][0]["filename"]) == (comm, filename)


def test_lines() -> None:
    """One object a line, whatever the size of the blocks, and each line ends."""
    lives = [whole_life(pid=k) for k in range(5)]
    for block in (1, 2, 5, 100):
        data = b"".join(lives_jsonl(lives, block))
        assert data.endswith(b"}\n")
        assert [json.loads(x)["pid"] for x in data.splitlines()] == [0, 1, 2, 3, 4]
    assert b"".join(lives_jsonl([])) == b""


@pytest.mark.slow
def test_many_lives_do_not_take_minutes() -> None:
    """100,000 lives are written in seconds."""
    life = whole_life()
    start = time.perf_counter()
    size = sum(len(b) for b in lives_jsonl(life for _ in range(100_000)))
    assert size > 50_000_000
    assert time.perf_counter() - start < 15
