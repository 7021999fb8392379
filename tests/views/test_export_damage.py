"""Exports of damaged recordings: each is written, or refused in words; a part has what could be read."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskscope.errors import TaskscopeError, UsageError
from taskscope.recording import Recording

DATA = Path(__file__).resolve().parent.parent / "data"
WHOLE = {name: (DATA / name).read_bytes() for name in
         ("d02-exit0-v6.dat", "d61-orphan-32-v6.dat", "d51-threads-be64-v6.dat", "d15-text-stack.trace.txt")}


@pytest.mark.limit(200)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 255)), max_size=8),
       st.sampled_from([1.0, 1.0, 0.9]))
def test_damage_ends_in_words(name: str, changes: list[tuple[float, int]], kept: float) -> None:
    """Whatever bytes of its last part are changed, or cut off, an export neither fails nor loses what can be read."""
    content = bytearray(WHOLE[name])
    for place, value in changes:
        content[len(content) - 1 - int(place * len(content))] = value
    with tempfile.TemporaryDirectory() as folder:
        _export_all(Path(folder), bytes(content[: int(kept * len(content))]))


def _export_all(folder: Path, content: bytes) -> None:
    damaged, part = folder / "damaged", folder / "part.dat"
    damaged.write_bytes(content)
    try:
        trace = Recording.open(damaged)
    except TaskscopeError:
        return
    pids = [x.pid for x in trace.lives][:2]
    for form in ("perfetto", "systrace", "dot", "story"):
        # Refused where nobody has a story, seconds are cycles, or perfetto is not installed.
        with contextlib.suppress(UsageError):
            trace.export(form, io.BytesIO(), pids=pids)
    if is_text(trace):
        return
    trace.cut(part)
    again = Recording.open(part)
    assert len(again) == len(trace)
    assert known(again) == known(trace)


def known(trace: Recording) -> list[bytes]:
    """Return the lines of a recording's events; those of no type that there is are nobody's."""
    return [line for line in b"".join(trace.report()).splitlines() if b": Unknown type " not in line]


def is_text(trace: Recording) -> bool:
    """Tell whether a recording is text, which cannot be cut."""
    return "trace.dat" not in trace.source.container
