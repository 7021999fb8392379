"""prev_state is read as the recording spells it: by its print format, by the kernel's letters, by trace-cmd's."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

import taskscope
from taskscope.lives.life import State
from taskscope.lives.states import parse_letters


@pytest.mark.parametrize(("text", "state", "involuntary"), [
    ("R", State.RUNNABLE, True), ("R+", State.RUNNABLE, True), ("S", State.SLEEPING, False),
    ("D", State.BLOCKED, False), ("D|K", State.BLOCKED, False), ("D|N", State.IDLE, False), ("I", State.IDLE, False),
    ("t", State.TRACED, False), ("T", State.STOPPED, False), ("P", State.PARKED, False), ("Z", State.ZOMBIE, False),
    ("X", State.DEAD, False), ("x", State.DEAD, False), ("0x1000", State.UNKNOWN, False)])
def test_letters_of_the_kernel(text: str, state: State, involuntary: bool):
    """Each letter means its state; a task that was still runnable was switched out involuntarily."""
    assert parse_letters(text) == (state, involuntary)


@pytest.mark.parametrize("name", ["d06-threads", "d08-signals"])
def test_the_text_of_trace_cmd_tells_the_same_lives(name: str, data: Path, tmp_path: Path):
    """trace-cmd's letters (X a zombie, Z dead, W idle) give the states that the recording itself gives."""
    path = tmp_path / "report.txt"
    path.write_bytes(lzma.decompress((data / f"{name}.report.txt.xz").read_bytes()))
    told = {x.ref: x for x in taskscope.open(path).lives}
    for life in taskscope.open(data / f"{name}.dat").lives:
        if life.kind == "idle":
            continue
        # The text is cut to microseconds: one at each end of each span.
        for state, ns in life.time.items():
            assert told[life.ref].time[state] == pytest.approx(ns, abs=2000 * (2 + 4 * life.wakeups)), (life.ref, state)
