"""Our reading of trace.dat held against trace-cmd: what it dumps, what it converts, what it says of our own files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import datwriter as w
import pytest
from test_dat import REAL, content, dat

from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.recorded import Recorded

pytestmark = [
    pytest.mark.tracecmd,
    pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed"),
]


def trace_cmd(*args: str | Path) -> bytes:
    """Run trace-cmd and return what it printed."""
    done = subprocess.run(["trace-cmd", *map(str, args)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def everything(r: Recorded) -> dict[str, object]:
    """Return all that a recording holds and that does not depend on its container."""
    pages = {(b.name, c.cpu): content(r, c.cpu, k) for k, b in enumerate(r.buffers) for c in b.cpus if c.size}
    return {"pages": pages, "formats": r.formats, "kallsyms": r.kallsyms, "printk": r.printk_formats,
            "cmdlines": r.cmdlines, "header": (r.header_page, r.header_event), "clock": r.clock, "uname": r.uname,
            "id": r.trace_id, "cpus": r.cpu_count, "order": r.big_endian, "long": r.long_size,
            "overrun": {(b.name, c.cpu): c.overrun for b in r.buffers for c in b.cpus if c.size}}


@pytest.mark.parametrize("name", REAL)
def test_metadata_are_those_that_trace_cmd_dumps(data: Path, name: str) -> None:
    """Symbols, formats, command lines, printk formats and options equal `trace-cmd dump`."""
    path = data / name
    r = read_dat(str(path))

    def dumped(what: str) -> bytes:
        return trace_cmd("dump", f"--{what}", path)

    # Each dump is a heading in brackets, then the text as it is in the file.
    assert r.kallsyms.strip() in dumped("kallsyms")
    assert r.printk_formats.strip() in dumped("printk")
    assert r.header_page in dumped("head-page")
    assert r.header_event in dumped("head-event")
    for pid, comm in r.cmdlines.items():
        assert b"%d %s" % (pid, comm) in dumped("cmd-lines")
    events, ftrace = dumped("events"), dumped("ftrace-events")
    for system, text in r.formats:
        assert text.strip() in (ftrace if system == "ftrace" else events)
    assert events.count(b"\nID: ") == sum(s != "ftrace" for s, _ in r.formats)
    systems = re.findall(rb"^\t\t(\S+) \d+ \[", dumped("systems"), re.MULTILINE)
    if systems:
        assert {s.decode() for s in systems} == {s for s, _ in r.formats} - {"ftrace"}
    options = dumped("options")
    assert (r.uname or "?").encode() in options
    assert b"0x%X" % (r.trace_id or 0) in options


@pytest.mark.parametrize("name", REAL)
def test_pages_lie_where_trace_cmd_says(data: Path, name: str) -> None:
    """The sizes of the cpus' data, inflated, are those that `trace-cmd report --stat` shows of the file."""
    path = data / name
    r = read_dat(str(path))
    text = trace_cmd("report", "--stat", path).decode("utf-8", "replace")
    overruns = [int(n) for n in re.findall(r"^overrun: (\d+)", text, re.MULTILINE)]
    # Buffers stand in the order of their statistics, which is not always that of their data.
    assert sorted(overruns) == sorted(c.overrun or 0 for b in r.buffers for c in b.cpus)
    if r.container == "trace.dat v7":
        rows = re.findall(r"^ +(\d+) (\d+)\t(\d+)\t\[id", trace_cmd("dump", "--options", path).decode(), re.MULTILINE)
        assert [tuple(map(int, row)) for row in rows] == [(c.cpu, c.offset, c.size) for c in r.buffers[0].cpus]


@pytest.mark.parametrize("name", [*REAL, "d12-overrun.dat"])
@pytest.mark.parametrize("to", [("--compression", "none"), ("--compression", "zstd"), ("--compression", "zlib"),
                                ("--file-version", "6")])
def test_a_converted_recording_is_the_same(tmp_path: Path, data: Path, name: str, to: tuple[str, str]) -> None:
    """What trace-cmd writes in another container holds the same pages, formats and options."""
    if to[0] == "--compression" and to[1] != "none" and to[1].encode() not in trace_cmd("list", "-c"):
        pytest.skip(f"this trace-cmd has no {to[1]}")
    before = read_dat(str(data / name))
    if before.big_endian != (sys.byteorder == "big") and to[0] == "--compression":
        pytest.skip("trace-cmd writes the list of buffers in the byte order of the host, and cannot read that either")
    target = tmp_path / "converted.dat"
    trace_cmd("convert", "-i", data / name, "-o", target, *to)
    if not target.exists():
        pytest.skip(f"this trace-cmd cannot convert to {to[1]}")
    after = read_dat(str(target))
    assert after.notes == []
    got, expected = everything(after), everything(before)
    if before.container == "trace.dat v6" and after.container != "trace.dat v6":
        # trace-cmd 3.1 leaves the number of cpus out when it converts from version 6.
        got["cpus"] = expected["cpus"]
    assert got == expected


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("long_size", [4, 8])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_trace_cmd_takes_what_our_writer_writes(tmp_path: Path, version: int, big: bool, long_size: int,
                                                compression: str) -> None:
    """The synthetic files of these tests are valid to trace-cmd, so they test the format and not our idea of it."""
    if version == 6 and compression != "none":
        pytest.skip("version 6 has no compression")
    d = dat(version=version, big_endian=big, long_size=long_size, compression=compression)
    d.options = [(w.TRACECLOCK, b"[local]\0"), (w.TRACEID, d.n(8, 5)), (w.UNAME, b"Linux h 6.1 x86_64\0")]
    if version == 7:
        d.options.append((w.CPUCOUNT, d.n(4, 3)))
    path = tmp_path / "x.dat"
    path.write_bytes(d.build())
    assert b"is a valid trace-cmd file" in trace_cmd("dump", "-v", path)
    report = trace_cmd("report", "-R", path).decode()
    lines = [line for line in report.splitlines() if " function: " in line or "function:" in line]
    assert len(lines) == sum(3 + p % 5 for p in range(23)) + 3 + 4
