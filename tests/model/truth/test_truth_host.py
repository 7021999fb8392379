"""Programs of processes on this host's kernel: the reference is right, and whatever a program does, nothing is left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from truth_strategies import PROGRAMS

from taskscope.labs.truth import build
from taskscope.labs.truth.host import HostRunner, Mode, works
from taskscope.labs.truth.program import Program

pytestmark = pytest.mark.real

NOBODY = 65534


@pytest.fixture(scope="module")
def host() -> Iterator[HostRunner]:
    """A runner in the best mode that this user may have."""
    with HostRunner() as runner:
        yield runner


def below(pid: int) -> list[int]:
    """Return the processes that descend from one, by their parents in /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text[text.rindex(")") + 2 :].split()[1])
    found = {pid}
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def test_the_host_does_what_the_reference_says(host: HostRunner) -> None:
    """The host's kernel gives each of 150 random programs the transcript that the reference expects."""
    programs = [build.program(f"check {n}") for n in range(150)]
    for program, lines in zip(programs, host.run_all(programs), strict=True):
        assert lines == program.expected, program.text(program.expected, lines, fences=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROGRAMS)
def test_the_host_agrees_on_what_hypothesis_finds(host: HostRunner, program: Program) -> None:
    """No list of steps makes a program that the host's kernel runs otherwise than the reference."""
    lines = host.run(program)
    assert lines == program.expected, program.text(program.expected, lines, fences=True)


@pytest.mark.parametrize("mode", ["user", "sub"])
def test_without_root_the_host_does_the_same(mode: Mode) -> None:
    """Programs need no root: in a user namespace or under a subreaper their transcripts are the same."""
    if not works(mode):
        pytest.skip("user namespaces may not be made, or have no /proc of their own, here")
    programs = [build.program(f"user {n}") for n in range(60)]
    with HostRunner(mode, uid=NOBODY if os.getuid() == 0 else None) as runner:
        for program, lines in zip(programs, runner.run_all(programs), strict=True):
            assert lines == program.expected, program.text(program.expected, lines, fences=True)


@pytest.mark.parametrize("mode", [None, "sub"])
def test_a_program_that_hangs_is_ended(mode: str | None) -> None:
    """A program without the fence it needs is given up after its time, told with its transcript, and leaves nothing."""
    # The last process sleeps before it has sent the token that the reaper waits for.
    scripts = [[[0, "fork", 1, 17, "fn"], [-1, "await", 3], [2, "wait4", "@1", 0]], [[1, "fork", 2, 17, "fn"]], []]
    program = Program(scripts, ["@1", "@2", "@1 0x0009"], "hangs")
    with HostRunner(mode, seconds=0.5) as runner:  # type: ignore[arg-type]
        start = time.monotonic()
        good = build.program("after")
        lines, after = runner.run_all([program, good])
        assert time.monotonic() - start < 10
        assert lines[:3] == ["@1", "@2", None]
        assert str(lines[3]).startswith("not at its end after 0.5 s")
        assert after == good.expected
        assert below(runner._worker.pid) == []


def test_a_program_that_leaves_processes_is_told() -> None:
    """A program whose reaper has not reaped all of it is refused, and what it left is gone."""
    program = Program([[[0, "fork", 1, 17, "fn"]], []], ["@1"], "leaves")
    with HostRunner() as runner:
        lines = runner.run(program)
        assert lines[0] == "@1"
        assert "processes are left" in str(lines[1])
        assert below(runner._worker.pid) == []


def test_a_missing_fence_shows() -> None:
    """Programs whose tokens are not waited for do not all give the transcript they should: fences are needed."""
    differ = 0
    with HostRunner(seconds=3.0) as runner:
        for n in range(60):
            program = build.program(f"check {n}")
            scripts = [[item for item in script if item[1] != "await"] for script in program.scripts]
            differ += runner.run(program._replace(scripts=scripts)) != program.expected
            if differ:
                return
    pytest.fail("fences change nothing")


def test_closing_leaves_no_process() -> None:
    """A runner that is closed, even in the middle of a batch, leaves no process."""
    runner = HostRunner()
    pid = runner._worker.pid
    runner.run(build.program("closing"))
    runner.close()
    assert not Path(f"/proc/{pid}").exists()
