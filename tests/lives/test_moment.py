"""The tasks at one moment of a recording are those that existed then, as they were then."""

from __future__ import annotations

from pathlib import Path

import pytest

import taskscope


@pytest.mark.parametrize("name", ["d05-zombie.dat", "d09-sched.dat", "d19-storm.dat", "d32-execthread-612.dat"])
def test_a_moment_agrees_with_the_lives(name: str, data: Path):
    """At any time a task is listed if its life spans it, in the state of that span, with the comm that it bore."""
    trace = taskscope.open(data / name)
    for k in range(1, 8):
        at = trace.start + (trace.end - trace.start) * k // 8
        listed = {(t.pid, t.generation): t for t in trace.lives.at(at).tasks}
        expected = {x.ref: trace.lives.state_at(x.ref, at) for x in trace.lives}
        assert {tuple(ref) for ref, span in expected.items() if span is not None} == set(listed)
        for life in trace.lives:
            task = listed.get(tuple(life.ref))
            if task is not None:
                assert task.comm == [c.comm for c in life.comms if c.at <= at][-1]
                assert task.sum_exec_runtime <= life.time["running"]


def test_a_priority_is_that_of_the_last_switch_until_then(data: Path):
    """A task that becomes a FIFO one later has its old priority before; one not switched yet has none."""
    trace = taskscope.open(data / "d09-sched.dat")
    switches = trace.events("sched_switch").sort("ts")
    prios = [(ts, prio) for ts, prev, prio, nxt, nprio in
             switches.select("ts", "prev_pid", "prev_prio", "next_pid", "next_prio").iter_rows()
             for prio in ([prio] if prev == 218 else [nprio] if nxt == 218 else [])]
    assert len({p for _, p in prios}) > 1
    for ts, prio in prios[:-1]:  # with the last one it is gone
        task = next(t for t in trace.lives.at(ts).tasks if t.pid == 218)
        assert task.prio == prio
    before = next(t for t in trace.lives.at(trace.life(218).born.at).tasks if t.pid == 218)
    assert before.prio is None


def test_an_orphan_has_its_adopter_as_parent_afterwards(data: Path):
    """Ppid is the creator until it exits, then the task that was sent the exit signal."""
    trace = taskscope.open(data / "d04-orphan-v6.dat")
    life = trace.life(149)
    moment = life.adopted[0].at

    def ppid(at: int) -> int | None:
        return next(t for t in trace.lives.at(at).tasks if t.pid == 149).ppid

    assert (ppid(moment - 1), ppid(moment)) == (148, 1)
