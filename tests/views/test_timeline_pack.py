"""The data of a timeline page: levels cover what slices cover, lanes are the lives' spans, hostile names are text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import DATA, ROOT, run_cli
from taskscope.lives.life import State
from taskscope.recording import Recording
from taskscope.views.timeline.mips import FACTOR, Lanes, levels
from taskscope.views.timeline.pack import FORK, REAP, SIGNAL, WAKE, pack
from taskscope.views.timeline.page import page

RECORDINGS = ["d05-zombie.dat", "d06-threads.dat", "d08-signals.dat", "d12-overrun.dat", "d35-sched-612.dat"]


def column(text: str, dtype: str) -> np.ndarray[Any, Any]:
    """Read a packed column back."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def stamps(packed: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Read packed times back."""
    return column(packed["hi"], "<u2").astype(np.int64) << 32 | column(packed["lo"], "<u4")


lanes = st.lists(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 9)), min_size=0, max_size=700), min_size=1,
                 max_size=5)


@given(lanes)
def test_each_level_covers_what_the_one_below_covers(made: list[list[tuple[int, int]]]) -> None:
    """A level begins and ends where its lanes do, is in order, and bears only what is below it; the last is short."""
    at, code, bounds = [], [], [0]
    for lane in made:
        t = 0
        for length, what in lane:
            at.append(t)
            code.append(what)
            t += length
        at.append(t)
        code.append(10)
        bounds.append(len(at))
    found = levels(Lanes(np.array(at, np.int64), np.array(code, np.uint8), np.array(bounds, np.int64)))
    for below, above in itertools.pairwise(found):
        for k in range(len(made)):
            a, b = slice(*below.bounds[k : k + 2]), slice(*above.bounds[k : k + 2])
            assert above.at[b][0] == below.at[a][0]
            assert above.at[b][-1] == below.at[a][-1]
            assert above.code[b][-1] == 10
            assert np.all(np.diff(above.at[b]) >= 0)
            assert set(above.code[b]) <= set(below.code[a])
            assert len(above.at[b]) == -(-(len(below.at[a]) - 1) // FACTOR) + 1
    assert max(np.diff(found[-1].bounds)) <= 65


def test_the_longest_gives_its_name() -> None:
    """Of eight neighbours the group bears what the longest of them was."""
    at = np.array([0, 1, 2, 100, 101, 102, 103, 104, *range(105, 205)], np.int64)
    code = np.array([1, 1, 7, 1, 1, 1, 1, 1, *[2] * 99, 10], np.uint8)
    found = levels(Lanes(at, code, np.array([0, len(at)])))
    assert found[1].code[0] == 7
    assert found[1].code[1] == 2


@pytest.mark.parametrize("name", RECORDINGS)
def test_lanes_are_the_spans_of_the_lives(name: str) -> None:
    """Level 0 of a task is its spans, and of a CPU who ran there; nothing is lost and nothing added."""
    trace = Recording.open(DATA / name)
    packed = pack(trace.lives, name)
    level = packed["taskLevels"][0]
    at, code, bounds = stamps(level), column(level["code"], "u1"), column(level["bounds"], "<u4")
    labels = {row[1]: k for k, row in enumerate(packed["tasks"])}
    assert len(labels) == len(trace.lives)
    ran: list[tuple[int, int, int]] = []
    for life in trace.lives:
        k = labels[f"{life.pid}" if life.generation == 0 else f"{life.pid}.{life.generation}"]
        mine = slice(bounds[k], bounds[k + 1] - 1)
        spans = list(trace.lives.spans(life.ref))
        assert at[mine].tolist() == [span.at - trace.start for span in spans]
        assert code[mine].tolist() == [int(span.state) for span in spans]
        ran += [(span.cpu, span.at - trace.start, k) for span in spans
                if span.state is State.RUNNING and span.cpu is not None and span.end > span.at]
    level = packed["cpuLevels"][0]
    at, code, bounds = stamps(level), column(level["code"], "<u4"), column(level["bounds"], "<u4")
    shown = [(cpu, int(at[k]), int(code[k])) for n, cpu in enumerate(packed["cpus"])
             for k in range(bounds[n], bounds[n + 1] - 1) if code[k] != 0xFFFFFFFF]
    assert sorted(shown) == sorted(ran)


@pytest.mark.parametrize("name", RECORDINGS)
def test_arrows_are_what_the_lives_know(name: str) -> None:
    """Each creation, signal, reaping and wakeup with a known doer is an arrow from who did it to whom."""
    trace = Recording.open(DATA / name)
    packed = pack(trace.lives, name)
    kind = column(packed["arrows"]["kind"], "u1")
    lives, refs = list(trace.lives), {life.ref for life in trace.lives}
    assert (kind == FORK).sum() == sum(x.born is not None and x.born.by in refs for x in lives)
    assert (kind == SIGNAL).sum() == sum(s.sender in refs for x in lives for s in x.signals if s.sender)
    assert (kind == REAP).sum() == sum(x.reaped is not None and x.reaped.by in refs for x in lives)
    assert (kind == WAKE).sum() == sum(span.waker is not None and span.waker in refs and span.woken_at is not None
                                       for x in lives for span in trace.lives.spans(x.ref))
    assert packed["arrows"]["left"] == 0


def test_a_slice_takes_at_most_twelve_bytes() -> None:
    """With all its levels, before they are compressed, a slice of a task or of a CPU takes no more than 12 bytes."""
    n = 100_000
    made = Lanes(np.arange(n, dtype=np.int64), np.zeros(n, np.uint8), np.array([0, n]))
    slices = sum(len(level.at) for level in levels(made))
    assert slices * (4 + 2 + 1) / n <= 12      # tasks
    assert slices * (4 + 2 + 4) / n <= 12      # CPUs


def test_the_page_is_built_of_its_sources() -> None:
    """The page in the package says of which sources it was built: those that are here."""
    web = ROOT / "web"
    digest = hashlib.sha256()
    names = ["page.html", "style.css", *(f"src/{path.name}" for path in sorted((web / "src").iterdir()))]
    for name in names:
        digest.update(name.encode() + b"\0" + (web / name).read_bytes() + b"\0")
    built = (ROOT / "src/taskscope/views/timeline/page.html").read_text()
    assert digest.hexdigest() in built, "run npm install && npm run build in web/"


def test_the_page_loads_nothing() -> None:
    """Its policy allows its own script and style by their hashes, and nothing else; both are those that stand in it."""
    text = (ROOT / "src/taskscope/views/timeline/page.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        held = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(held) == 1
        hashed = base64.b64encode(hashlib.sha256(held[0].encode()).digest()).decode()
        assert f"{rule} 'sha256-{hashed}'" in policy[1]
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text


def test_hostile_names_cannot_leave_the_data() -> None:
    """Whatever a name holds, the data ends where it should, and is what was packed."""
    packed = {"title": "</script><script>alert(1)</script>\u202e\x1b[2J", "tasks": [["<!--"]]}
    text = page([packed])
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1]) == [packed]
    assert text.count("<script") == 2


def test_the_command(tmp_path: Path) -> None:
    """`timeline` writes the page, two recordings beside each other too; a folder that is not there is an error."""
    output = tmp_path / "lives.html"
    ran = run_cli("timeline", "-i", DATA / "d05-zombie.dat", "--beside", DATA / "d08-signals.dat", "-o", output)
    assert ran.code == 0
    assert f"wrote {output}".encode() in ran.err
    data = re.search(r'id="data">(.*?)</script>', output.read_text(), re.DOTALL)
    assert data is not None
    assert [one["title"] for one in json.loads(data[1])] == ["d05-zombie.dat", "d08-signals.dat"]
    assert run_cli("timeline", "-i", DATA / "d05-zombie.dat", "-o", tmp_path / "no" / "x.html").code == 1
    assert run_cli("timeline", "-i", DATA / "d05-zombie.dat", "-q", "-o", "-").out.startswith(b"<!DOCTYPE html>")
