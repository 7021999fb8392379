"""A process that is gone when the recorder begins to wait for its end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from recording import needs_recording
from taskscope.ftrace import record
from taskscope.ftrace.record import Order, Recorder

pytestmark = needs_recording


def test_a_process_that_ended_just_before_ends_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaped between the choice of the tasks and the wait for their end: there is nothing to wait for."""
    victim = subprocess.Popen(["sleep", "60"])
    before = record.awaited

    @contextmanager
    def late(pids: Sequence[int]) -> Iterator[list[int]]:
        victim.kill()
        victim.wait()
        with before(pids) as fds:
            assert fds == []
            yield fds

    monkeypatch.setattr(record, "awaited", late)
    try:
        # The seconds are for the case that it does not end by itself.
        result = Recorder(Order(output=tmp_path / "trace.dat", pids=[victim.pid], seconds=20)).run()
    finally:
        victim.kill()
        victim.wait()
    assert result.seconds is not None
    assert result.seconds < 10
