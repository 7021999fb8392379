"""Who reaped a zombie, and when, from what the parent's wait() did."""

from __future__ import annotations

from pathlib import Path

import pytest

import taskscope


@pytest.mark.parametrize(("recording", "pid", "zombie_ms"), [
    ("d05-zombie.dat", 158, 2500), ("d05-zombie.dat", 159, 700), ("d33-zombie-612-v6.dat", 225, 2500)])
def test_a_zombie_is_reaped_when_its_parent_waits(data: Path, recording: str, pid: int, zombie_ms: int):
    """Only sched_process_wait shows the reaping: as late as the workload had its zombies lie (2.5 and 0.7 s)."""
    trace = taskscope.open(data / recording)
    life = trace.life(pid)
    assert life.reaped.by == life.parent
    assert life.reaped.inferred
    waits = trace.events("sched_process_wait").select("ts", "fields.pid").iter_rows()
    (wait,) = [ts for ts, who in waits if who == pid]
    assert life.reaped.at == wait
    assert zombie_ms * 0.99e6 <= life.time["zombie"] <= zombie_ms * 1.02e6


def test_a_parent_asleep_in_wait_reaps_when_it_runs_again(data: Path):
    """A shell that waits for a killed program (vfork and whoami here) reaps it in the run that its death began."""
    trace = taskscope.open(data / "d07-vfork-v6.dat.xz")
    life = trace.life(183)
    runs = [s for s in trace.lives.spans(life.parent) if s.state.name == "RUNNING"]
    assert life.reaped.at in [s.at for s in runs]
    assert life.exit.at < life.reaped.at < life.freed.at


def test_what_traced_functions_show_is_not_inferred(data: Path):
    """release_task() in the function trace is the moment itself."""
    life = taskscope.open(data / "d08-signals.dat").life(200)
    assert life.reaped.inferred == ()
    assert life.reaped.by.pid == 195
