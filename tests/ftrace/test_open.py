"""From a path to a source: what an input is, told by its content, and what everything else is refused with."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import datwriter as w
import pytest
import zstandard
from test_damage_size import peak_of
from test_dat import dat

from taskscope.errors import PermissionRefusedError, TraceError, UsageError
from taskscope.ftrace import blob as blob_module
from taskscope.ftrace.compress import inflate_xz
from taskscope.ftrace.open import open_source

SRC = Path(__file__).resolve().parents[2] / "src"


def refused(path: str | Path, message: str) -> TraceError:
    """Open a path that must be refused; return the error."""
    start = time.monotonic()
    with pytest.raises(TraceError, match=message) as e:
        open_source(str(path))
    assert time.monotonic() - start < 8, "waited for something"
    assert str(e.value).startswith(str(path))
    assert ";" in str(e.value)
    return e.value


def test_the_content_and_not_the_name_tells_the_kind(tmp_path: Path, data: Path) -> None:
    """A trace.dat named .txt, text named .dat and a folder named .dat are read as what they are."""
    shutil.copy(data / "d05-zombie.dat", tmp_path / "a.txt")
    shutil.copy(data / "d15-text-stack.trace.txt", tmp_path / "b.dat")
    shutil.copytree(data / "d18-raw4k", tmp_path / "c.dat")
    assert open_source(str(tmp_path / "a.txt")).container == "trace.dat v7 (zstd)"
    assert "text" in open_source(str(tmp_path / "b.dat")).container
    assert open_source(str(tmp_path / "c.dat")).container == "raw pages"


@pytest.mark.parametrize(("name", "events"), [
    ("d02-exit0-v6.dat", 197), ("d05-zombie.dat", 194), ("d50-signals-be64.dat", 924), ("d60-signals-32.dat", 918),
    ("d07-vfork-v6.dat.xz", 626), ("d14-instances.dat", 634), ("d18-raw4k", 189), ("d37-raw16k-612", 821),
    ("d53-raw-be64", 226), ("d62-raw-32", 469),
])
def test_real_recordings_have_the_events_that_their_list_says(data: Path, name: str, events: int) -> None:
    """Every container leads to the number of records that was counted when it was made."""
    source = open_source(str(data / name))
    assert len(source.index) == events
    assert source.notes == ()


def test_xz_is_unpacked_by_its_magic(tmp_path: Path, data: Path) -> None:
    """A recording in xz is read like the recording itself, trace.dat or text."""
    for name in ("d33-zombie-612-v6.dat", "d15-text-stack.trace.txt"):
        plain = data / name
        (tmp_path / "x").write_bytes(lzma.compress(plain.read_bytes()))
        packed, whole = open_source(str(tmp_path / "x")), open_source(str(plain))
        assert len(packed.index) == len(whole.index)
        assert packed.path == str(tmp_path / "x")
        assert packed.notes == whole.notes
    assert open_source(str(data / "d07-vfork-v6.dat.xz")).container == "trace.dat v6 in xz"


def test_xz_that_ends_early_or_is_damaged_gives_what_is_there(tmp_path: Path, data: Path) -> None:
    """What could be unpacked is read, with a note on the rest; nothing at all is an error."""
    raw = (data / "d33-zombie-612-v6.dat").read_bytes()
    packed = lzma.compress(raw, preset=0)
    (tmp_path / "x").write_bytes(packed[:-200])
    source = open_source(str(tmp_path / "x"))
    assert "the xz data end early" in source.notes[0]
    assert len(source.notes) > 1 or len(source.index) > 0
    (tmp_path / "x").write_bytes(packed[:30])
    refused(tmp_path / "x", "xz data end early")
    bad = bytearray(packed)
    bad[200:300] = bytes(100)
    (tmp_path / "x").write_bytes(bad)
    refused(tmp_path / "x", "xz data are damaged|cut short|bytes are wanted|needs")


def test_xz_streams_one_behind_the_other(tmp_path: Path) -> None:
    """Several streams and padding between them are one content, as xz(1) has it."""
    packed = lzma.compress(b"abc") + bytes(8) + lzma.compress(b"def")
    assert inflate_xz(memoryview(packed), "x") == (bytearray(b"abcdef"), None)


def test_an_xz_bomb_is_refused(tmp_path: Path) -> None:
    """A small file that unpacks to hundreds of MB is an error, not memory."""
    path = tmp_path / "x"
    packer = lzma.LZMACompressor(preset=0)
    path.write_bytes(b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush())
    assert peak_of(lambda: refused(path, "inflates to more than")) < 100 << 20


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"\x17\x08\x44trac", "is cut short: a trace.dat begins like this"),
    (b"PERFILE2" + bytes(100), r"perf\.data.*perf script -i"),
    (b"\x7fELF\2\1\1" + bytes(100), "ELF"),
    (gzip.compress(b"x", mtime=0), "gunzip"),
    (zstandard.compress(b"x"), "unzstd"),
    (b"BZh91AY" + bytes(10), "bunzip2"),
    (b"PK\x03\x04" + bytes(10), "unzip"),
    (bytes(5000), "begins with zeros"),
    (b"\1\2\3\0text", r"begins with the bytes 01 02 03 00"),
    (lzma.compress(lzma.compress(b"x")), "xz twice"),
    (lzma.compress(b""), "is empty"),
])
def test_files_of_other_kinds_are_refused_with_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    """One clear error names what the file is and the command that helps."""
    (tmp_path / "x").write_bytes(content)
    error = refused(tmp_path / "x", message)
    assert error.exit_code == 3


def test_text_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    """A letter is no trace."""
    (tmp_path / "x").write_text("Dear reader,\nthis is no trace.\n")
    refused(tmp_path / "x", "no recording|not a line")


def test_paths_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files, folders without pages, devices, sockets and impossible names are errors of one line."""
    refused(tmp_path / "none", "does not exist")
    refused(tmp_path, "folder without pages")
    refused("/dev/null", "character device")
    refused("/dev/zero", "character device")
    refused(tmp_path / ("x" * 300), "cannot be read")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "cannot be read")
    with socket.socket(socket.AF_UNIX) as s:
        monkeypatch.chdir(tmp_path)      # a socket's path may be only 108 bytes long
        s.bind("sock")
        refused(tmp_path / "sock", "socket|cannot be read")
    with pytest.raises(TraceError, match="file name"):
        open_source("a\0b")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file of another user is refused with exit code 77."""
    path = tmp_path / "x.dat"
    path.write_bytes(dat().build())
    path.chmod(0)
    if os.geteuid() == 0:
        for p in (tmp_path, *list(tmp_path.parents)[:2]):
            p.chmod(p.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionRefusedError) as e:
            open_source(str(path))
    finally:
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())
    assert e.value.exit_code == 77


def test_a_pipe_without_a_writer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe that nobody writes to does not hang the reader."""
    monkeypatch.setattr(blob_module, "PATIENCE", 0.2)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "gave no data")


def test_a_pipe_with_a_writer_is_read(tmp_path: Path, data: Path) -> None:
    """What comes through a named pipe in pieces is read to its end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    raw = (data / "d33-zombie-612-v6.dat").read_bytes()

    def write() -> None:
        with pipe.open("wb", buffering=0) as f:
            for k in range(0, len(raw), 30_000):
                f.write(raw[k:k + 30_000])
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    source = open_source(str(pipe))
    writer.join()
    assert len(source.index) == len(open_source(str(data / "d33-zombie-612-v6.dat")).index)


_STDIN = """
import sys
from taskscope.errors import TaskscopeError
from taskscope.ftrace.open import open_source
try:
    s = open_source("-")
    print(s.container, len(s.index), s.path)
except TaskscopeError as e:
    print("error", e.exit_code, e)
"""


def run_stdin(stdin: bytes | io.IOBase | int) -> str:
    """Read the standard input in a process of its own; return what it printed."""
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    done = subprocess.run([sys.executable, "-c", _STDIN], capture_output=True, timeout=60, check=True,
                          env={"PYTHONPATH": str(SRC)}, **given)  # type: ignore[call-overload]
    return bytes(done.stdout).decode()


def test_standard_input(data: Path) -> None:
    """`-` reads a trace.dat or text from a pipe or a redirected file."""
    raw = (data / "d33-zombie-612-v6.dat").read_bytes()
    expected = len(open_source(str(data / "d33-zombie-612-v6.dat")).index)
    assert run_stdin(raw) == f"trace.dat v6 {expected} -\n"
    with (data / "d33-zombie-612-v6.dat").open("rb") as f:
        assert run_stdin(f) == f"trace.dat v6 {expected} -\n"
    assert "text" in run_stdin((data / "d15-text-stack.trace.txt").read_bytes())
    assert run_stdin(b"").startswith("error 3 -: is empty;")
    assert run_stdin(subprocess.DEVNULL).startswith("error 3 -: is empty;")


def test_an_endless_standard_input_is_refused_by_its_beginning() -> None:
    """What is no recording is not read to its end, which may never come."""
    with Path("/dev/zero").open("rb") as f:
        assert "begins with zeros" in run_stdin(f)


def test_a_buffer_is_chosen_by_name(data: Path) -> None:
    """Only the named ring buffer is read; a name that is not there lists those that are."""
    path = str(data / "d14-instances.dat")
    whole = open_source(path)
    parts = [open_source(path, name) for name in ("", "tasks", "irqs")]
    assert sum(len(p.index) for p in parts) == len(whole.index)
    assert [p.buffers for p in parts] == [("",), ("tasks",), ("irqs",)]
    with pytest.raises(UsageError, match="has no buffer 'irq'; it has '', 'tasks', 'irqs'"):
        open_source(path, "irq")
    with pytest.raises(UsageError, match="has no buffer 'x'"):
        open_source(str(data / "d15-text-stack.trace.txt"), "x")


@pytest.mark.parametrize("version", [6, 7])
def test_a_latency_tracers_trace_dat_is_read_as_text(tmp_path: Path, data: Path, version: int) -> None:
    """A trace.dat that holds text is read like the text itself."""
    text = (data / "d17-text-latency.trace.txt").read_bytes()
    path = tmp_path / "x.dat"
    path.write_bytes(dat(version=version, buffers=[w.Buf("", text=text)], cpu_count=1).build())
    source = open_source(str(path))
    assert len(source.index) == len(open_source(str(data / "d17-text-latency.trace.txt")).index)
    assert source.container == f"trace.dat v{version}, text"


def test_a_buffer_of_text_beside_pages_is_noted(tmp_path: Path) -> None:
    """Pages are read, and the text buffer is named as left out."""
    path = tmp_path / "x.dat"
    path.write_bytes(dat(buffers=[w.Buf("", {0: w.pages(2)}), w.Buf("lat", text=b"# tracer: x\n")]).build())
    source = open_source(str(path))
    assert source.buffers == ("",)
    assert any("'lat' was recorded as text" in n for n in source.notes)


@pytest.mark.slow
def test_every_recording_of_the_larger_collection_opens(sweep: Path) -> None:
    """Each trace.dat, raw folder and text of the collection has events; only text leaves notes."""
    kinds = (".dat", ".dat.xz", ".trace.txt", "-signals.txt")
    names = [p for p in sorted(sweep.iterdir()) if p.is_dir() or p.name.endswith(kinds)]
    assert len(names) > 30
    for p in names:
        source = open_source(str(p))
        assert source.notes == () or "text" in source.container, p.name
        assert len(source.index) or "latency" in p.name, p.name
