"""``taskscope task`` and ``stack``: what a machine's recording keeps of its tasks."""

from __future__ import annotations

import json
import struct

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taskscope
from taskscope.cli.main import cli, run
from taskscope.errors import TraceError
from taskscope.snapshot.saved import read_tasks


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "x.dat"
    with taskscope.boot(cpus=2, flavour="6.1-x86_64") as k:
        k.trace()
        k.spawn("bash", "-c", "sleep 100")
        k.run(s=0.5)
        details = {row.pid: k.task(row.pid) for row in k.ps().tasks if row.pid}
        k.save(path)
    return path, details


def test_round_trip(recording):
    """What is read back is what the machine had, member by member."""
    path, details = recording
    saved = read_tasks(path)
    assert {d.row.pid: d for d in saved.tasks if d.row.pid} == details


def test_recording_is_as_before(recording):
    """The block behind the recording is in nobody's way."""
    path, _ = recording
    assert any(life.comm == "sleep" for life in taskscope.open(path).lives)


def test_task(recording):
    """A task is named by pid or name; --json gives its members."""
    path, details = recording
    result = CliRunner().invoke(cli, ["task", "-i", str(path), "sleep"])
    assert result.exit_code == 0, result.output
    assert "TASK_INTERRUPTIBLE" in result.output
    assert "the first member of task_struct" in result.output
    result = CliRunner().invoke(cli, ["task", "-i", str(path), "1", "--json"])
    row = json.loads(result.output)
    assert row["comm"] == "init"
    assert row["members"]["flags"] == details[1].members["flags"]


def test_stack(recording):
    """The stack is that of the sleeping task."""
    path, _ = recording
    result = CliRunner().invoke(cli, ["stack", "-i", str(path), "sleep"])
    assert "hrtimer_nanosleep+0x" in result.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["task", "4194999"], "no task '4194999'"),
        (["task", "-i", "{path}", "nosuch"], "no task 'nosuch'"),
        (["stack", "-i", "{dat}", "1"], "keeps no task descriptors"),
    ],
)
def test_usage(recording, capsys, args, said):
    """What cannot be shown is one clear line and exit code 2."""
    path, _ = recording
    places = {"path": path, "dat": "tests/data/d05-zombie.dat"}
    assert run([arg.format(**places) for arg in args]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("at", [-40, -17])
def test_damaged(recording, tmp_path, at):
    """A damaged block is an error that names the file, not a crash."""
    data = bytearray(recording[0].read_bytes())
    data[at] ^= 0xFF
    path = tmp_path / "bad.dat"
    path.write_bytes(data)
    with pytest.raises(TraceError, match=r"bad\.dat"):
        read_tasks(path)


def test_cut_off(tmp_path):
    """A length that the file does not have is an error."""
    path = tmp_path / "short.dat"
    path.write_bytes(b"x" * 20 + struct.pack("<Q8s", 1 << 40, b"TSTASKS1"))
    with pytest.raises(TraceError, match="cut off"):
        read_tasks(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_any_damage_is_an_error_or_none(recording, tmp_path, place, value):
    """Whatever byte of the block is wrong: an error that names the file, or tasks of the right shape."""
    data = bytearray(recording[0].read_bytes())
    data[-1 - place % 4000] ^= value
    path = tmp_path / "fuzz.dat"
    path.write_bytes(data)
    try:
        saved = read_tasks(path)
        good = saved is None or bool(saved.tasks)
    except TraceError as error:
        good = "fuzz.dat" in str(error)
    assert good
