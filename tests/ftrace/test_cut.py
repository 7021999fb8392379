"""A part of a recording as a trace.dat: the same records to the byte, the same losses; trace-cmd reads it too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lives_json import readable, recordings
from taskscope.errors import UsageError
from taskscope.ftrace.pages import PageLayout, PageWalker
from taskscope.ftrace.record_splice import Encoder
from taskscope.recording import Recording
from taskscope.views.filters import select
from taskscope.views.report import with_stacks

DATA = Path(__file__).resolve().parent.parent / "data"
PAGES = [p for p in recordings(DATA) if "trace.txt" not in p.name and "perf-script" not in p.name]


def text_of(trace: Recording, rows: object = None) -> list[bytes]:
    """Return the lines of a report, without the lines that tell of losses."""
    chosen = trace.order if rows is None else rows
    lines = b"".join(trace.report(chosen)).splitlines()      # type: ignore[arg-type]
    return [x for x in lines if not re.match(rb"CPU:\d+ \[LOST", x)]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_the_whole_comes_back(path: Path, tmp_path: Path) -> None:
    """Cut to all of it, a recording of any kernel, architecture and container has the same text, losses and names."""
    trace = Recording.open(readable(path))
    file = tmp_path / "x.dat"
    assert trace.cut(file) == len(trace)
    again = Recording.open(file)
    assert b"".join(again.report()) == b"".join(trace.report())
    assert again.lost == trace.lost
    assert (again.cpus, again.clock, again.kernel) == (trace.cpus, trace.clock, trace.kernel)
    assert again.source.cmdlines == trace.source.cmdlines
    assert [(t.system, t.name) for t in again.types] == [(t.system, t.name) for t in trace.types]
    assert not again.notes or again.notes == trace.notes


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_a_part_by_time(path: Path, tmp_path: Path) -> None:
    """A window has the lines that a report of that window has, stacks and symbols included."""
    trace = Recording.open(readable(path))
    third = (trace.end - trace.start) // 3
    after, before = trace.start + third, trace.start + 2 * third
    file = tmp_path / "x.dat"
    rows = select(trace, after=after, before=before)
    assert trace.cut(file, after=after, before=before) == len(rows)
    assert text_of(Recording.open(file)) == text_of(trace, rows)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_a_part_by_task(path: Path, tmp_path: Path) -> None:
    """Of a task, there is what it wrote and what names it, with stacks; its birth, signals and end are the same."""
    trace = Recording.open(readable(path))
    life = max(trace.lives, key=lambda x: (x.exit is not None, len(x.signals), x.pid))
    file = tmp_path / "x.dat"
    trace.cut(file, pids=[life.pid])
    again = Recording.open(file)
    assert text_of(again) == text_of(trace, with_stacks(trace, select(trace, pids=[life.pid])))
    found = again.lives[life.ref]
    assert (found.born and found.born.at) == (life.born and life.born.at)
    assert [(s.at, s.sig) for s in found.signals] == [(s.at, s.sig) for s in life.signals]
    assert (found.exit and (found.exit.at, found.exit.signal)) == (life.exit and (life.exit.at, life.exit.signal))
    assert found.time["running"] == life.time["running"] or trace.lost


def test_losses_of_a_part(tmp_path: Path) -> None:
    """A loss stays where it touches the window, with its number, also where no record follows it or few are left."""
    trace = Recording.open(DATA / "d12-overrun.dat")
    counted, unknown = trace.lost
    assert counted.start is not None
    assert counted.end is not None
    assert unknown.end is not None
    file = tmp_path / "x.dat"

    def lost(**part: int) -> list[tuple[int | None, int | None, int | None]]:
        trace.cut(file, **part)      # type: ignore[arg-type]
        return [(g.start, g.end, g.count) for g in Recording.open(file).lost]

    inside = (counted.start + counted.end) // 2
    assert lost(after=counted.start - 10_000_000, before=inside) == [(counted.start, None, 165)]
    assert lost(after=inside, before=unknown.end) == [
        (None, counted.end, 165), (unknown.start, unknown.end, None)]
    assert lost(before=counted.start - 1) == []
    assert lost(after=unknown.end + 1) == []
    # Of task 266 cpu 1 has records behind both losses alone.
    trace.cut(file, pids=[266])
    [gap] = Recording.open(file).lost
    assert (gap.cpu, gap.start, gap.count) == (1, None, None)


def test_saved_tasks_go_along(tmp_path: Path) -> None:
    """A machine's recording keeps its task descriptors where its end is kept, and has none else."""
    import taskscope
    from taskscope.snapshot.saved import read_tasks

    whole, part = tmp_path / "m.dat", tmp_path / "p.dat"
    with taskscope.boot(cpus=1) as machine:
        machine.trace()
        machine.spawn("true").wait()
        machine.save(whole)
    trace = Recording.open(whole)
    trace.cut(part, after=(trace.start + trace.end) // 2)
    assert read_tasks(part) == read_tasks(whole) is not None
    trace.cut(part, before=(trace.start + trace.end) // 2)
    assert read_tasks(part) is None


def test_text_is_refused(tmp_path: Path) -> None:
    """A text has no pages to cut, which is said."""
    trace = Recording.open(DATA / "d15-text-stack.trace.txt")
    with pytest.raises(UsageError, match="is text"):
        trace.cut(tmp_path / "x.dat")
    assert not (tmp_path / "x.dat").exists()


@pytest.mark.tracecmd
@pytest.mark.parametrize("name", ["d08-signals.dat", "d04-orphan-v6.dat", "d12-overrun.dat", "d34-tsc-612.dat",
                                  "d50-signals-be64.dat", "d60-signals-32.dat", "d18-raw4k", "d14-instances.dat"])
def test_trace_cmd_shows_the_same_events(name: str, tmp_path: Path) -> None:
    """`trace-cmd report` of a part prints the lines that it prints of the whole in that time."""
    if shutil.which("trace-cmd") is None:
        pytest.skip("trace-cmd is not installed")
    trace = Recording.open(DATA / name)
    whole, part = tmp_path / "whole.dat", tmp_path / "part.dat"
    trace.cut(whole)
    third = (trace.end - trace.start) // 3
    after, before = trace.start + third, trace.start + 2 * third
    trace.cut(part, after=after, before=before)
    original = DATA / name if (DATA / name).is_file() else whole
    assert _report(part) == [x for x in _report(original) if after <= x[1] <= before]


@pytest.mark.tracecmd
def test_trace_cmd_tells_the_loss(tmp_path: Path) -> None:
    """`trace-cmd report` of a part names a loss in it as it does of the whole."""
    if shutil.which("trace-cmd") is None:
        pytest.skip("trace-cmd is not installed")
    trace = Recording.open(DATA / "d12-overrun.dat")
    gap = trace.lost[0]
    part = tmp_path / "part.dat"
    trace.cut(part, after=gap.start, before=gap.end)
    done = subprocess.run(["trace-cmd", "report", "-i", str(part)], capture_output=True, check=True, timeout=60)
    assert b"CPU:1 [165 EVENTS DROPPED]" in done.stdout


def _report(path: Path) -> list[tuple[str, int, str]]:
    done = subprocess.run(["trace-cmd", "report", "-t", "-R", "-i", str(path)], capture_output=True, check=True,
                          timeout=60)
    found = []
    for line in done.stdout.decode(errors="backslashreplace").splitlines():
        # A clock that counts cycles has no point; a loss has no time.
        m = re.match(r"(.*\[\d+\]) *(?:\S+ +)?([\d.]+): (.*)", line)
        if m:
            found.append((m[1].strip(), int(m[2].replace(".", "")), m[3]))
    assert found
    return sorted(found)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 1 << 30) | st.integers(-(1 << 60), 1 << 60), st.integers(4, 1016)),
                min_size=1, max_size=60),
       st.sampled_from([None, 0, 7]), st.booleans(), st.sampled_from([4, 8]))
def test_pages_are_read_back(steps: list[tuple[int, int]], lost: int | None, big: bool, word: int) -> None:
    """Records of any size and distance, also back in time, come back from new pages with their bytes and times."""
    layout = PageLayout(8, word, 8 + word)
    ts, records = 1 << 40, []
    for k, (step, size) in enumerate(steps):
        ts = min(max(ts + step, 0), (1 << 62) - 1)
        records.append((ts, bytes([k]) * (size // 4 * 4)))
    data = np.frombuffer(bytearray(Encoder(layout, 1048, big).pages(records, lost)), np.uint8)
    assert len(data) % 1048 == 0
    walker = PageWalker(data, big, layout, 1048)
    offsets = np.arange(0, len(data), 1048, dtype=np.int64)
    w = walker.walk(offsets, walker.lengths(offsets, np.full(len(offsets), 1048)))
    words, sizes = walker.data_words(w.head) * 4, walker.sizes(w.head)
    found = [(int(t), data[a:a + n].tobytes()) for t, a, n in zip(w.ts, words.tolist(), sizes.tolist(), strict=True)]
    assert found == records
    assert not len(w.damaged)
    missed = [walker.missed(int(o), 1048) for o in offsets]
    assert missed[0][0] == (lost is not None)
    assert missed[0][1] in ((lost or None), None)
    assert not any(m for m, _ in missed[1:])
