"""What our writer writes, opened by trace-cmd: its report, its statistics, its conversion."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_dat_tracecmd import trace_cmd
from test_datwrite import CONTAINERS, dat_file, everything

from conftest import DATA
from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.datwrite import DatBuffer, dat_of, write_dat

pytestmark = [
    pytest.mark.tracecmd,
    pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed"),
]


@pytest.mark.parametrize("name", sorted(p.name for p in DATA.glob("*.dat")))
@pytest.mark.parametrize(("version", "compression"), CONTAINERS)
def test_trace_cmd_reports_the_same(tmp_path: Path, data: Path, name: str, version: int, compression: str) -> None:
    """`trace-cmd report` of a recording that was written again equals that of the recording, times in ns."""
    again = tmp_path / "again.dat"
    write_dat(again, dat_of(read_dat(str(data / name))), version, compression)
    assert trace_cmd("report", "-t", again) == trace_cmd("report", "-t", data / name)
    assert b"is a valid trace-cmd file" in trace_cmd("dump", "-v", again)


@pytest.mark.parametrize(("version", "compression"), CONTAINERS)
def test_trace_cmd_shows_clock_system_and_statistics(tmp_path: Path, version: int, compression: str) -> None:
    """The options and statistics are there as trace-cmd writes its own, and nothing is warned of."""
    import subprocess

    path = tmp_path / "x.dat"
    instance = DatBuffer("odd name", "mono", 4096, {1: b""}, {1: b"entries: 4\noverrun: 9\n"})
    d = dat_file()
    d = dat_file(buffers=[*d.buffers, instance])
    write_dat(path, d, version, compression)
    done = subprocess.run(["trace-cmd", "report", "--stat", str(path)], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    stat = done.stdout.decode()
    assert "overrun: 7" in stat
    assert stat.index("Buffer: odd name") < stat.index("overrun: 9")
    options = trace_cmd("dump", "--options", path).decode()
    for expected in ("[mono]", "Linux h 6.1 x86_64", "taskscope", "0x5"):
        assert expected in options
    assert trace_cmd("dump", "--all", path)


@pytest.mark.parametrize("name", ["d03-shellexec.dat", "d60-signals-32.dat", "d14-instances.dat"])
def test_trace_cmd_converts_it(tmp_path: Path, data: Path, name: str) -> None:
    """`trace-cmd convert` makes the other version of our file, and that holds the same."""
    before = read_dat(str(data / name))
    for version, to in ((7, ("--file-version", "6")), (6, ("--compression", "none"))):
        ours, theirs = tmp_path / "ours.dat", tmp_path / "theirs.dat"
        write_dat(ours, dat_of(before), version)
        trace_cmd("convert", "-i", ours, "-o", theirs, *to)
        got, expected = everything(read_dat(str(theirs))), everything(read_dat(str(ours)))
        if version == 6:
            # trace-cmd 3.1 leaves the number of cpus out when it converts from version 6.
            got["cpus"] = expected["cpus"]
        assert got == expected
