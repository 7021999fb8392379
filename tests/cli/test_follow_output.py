"""Lines of ``record --follow`` go out without making the recorder wait, whatever their reader does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskscope.cli import follow
from taskscope.cli.follow import Lines, Printer, open_for_lines
from taskscope.errors import UsageError

PIPE = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[PIPE]:
    """Give a pipe; what a test left open is closed."""
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            continue


def drain(fd: int) -> bytes:
    """Read to the end."""
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def test_lines_come_whole_and_in_order(pipe: PIPE) -> None:
    """All lines arrive in the order in which they were put."""
    lines = Lines(pipe[1])
    expected = [b"%d\n" % k for k in range(50_000)]
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(drain(pipe[0])))
    reader.start()
    for k in range(0, len(expected), 100):
        lines.put(expected[k:k + 100])
    lines.close()
    os.close(pipe[1])
    reader.join(timeout=20)
    assert got == [b"".join(expected)]
    assert not lines.closed
    assert lines.dropped == 0


def test_a_line_goes_out_at_once(pipe: PIPE) -> None:
    """A line does not wait for more lines."""
    lines = Lines(pipe[1])
    lines.put([b"one\n"])
    assert os.read(pipe[0], 100) == b"one\n"
    lines.close()


def test_a_reader_that_stops_holds_up_nobody(pipe: PIPE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Putting lines never waits; beyond a bound they are counted and left out, and those before come whole."""
    monkeypatch.setattr(follow, "_WAITING", 1 << 20)
    lines = Lines(pipe[1])
    block = [b"x" * 99 + b"\n"] * 1000
    began = time.monotonic()
    for _ in range(100):
        lines.put(block)
    assert time.monotonic() - began < 5
    assert lines.dropped > 50_000
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(drain(pipe[0])))
    reader.start()
    lines.close()
    os.close(pipe[1])
    reader.join(timeout=20)
    assert len(got[0]) == (100_000 - lines.dropped) * 100


def test_a_reader_that_goes_away_is_noticed(pipe: PIPE) -> None:
    """When nobody reads any more that is known, and no error."""
    lines = Lines(pipe[1])
    os.close(pipe[0])
    lines.put([b"one\n"])
    lines.close()
    assert lines.closed
    assert lines.error is None
    lines.put([b"two\n"])
    assert lines.dropped == 0


def test_a_full_disk_is_an_error_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that takes no more ends the following with a sentence, not the program."""
    fd = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(fd)
    lines.put([b"one\n"])
    lines.close()
    os.close(fd)
    assert lines.closed
    assert lines.error is not None
    printer = Printer("/dev/full", command=False, everything=True, json=False, threads=False, clock="mono")
    printer._lines = lines
    printer.close()
    assert "following was ended: /dev/full takes no more (No space left on device)" in capsys.readouterr().err


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: PIPE) -> None:
    """A pipe that somebody set to O_NONBLOCK gets everything all the same."""
    os.set_blocking(pipe[1], False)
    lines = Lines(pipe[1])
    lines.put([b"y" * (1 << 20)])
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(drain(pipe[0])))
    reader.start()
    lines.close()
    os.close(pipe[1])
    reader.join(timeout=20)
    assert len(got[0]) == 1 << 20


def test_a_file_that_is_there_is_overwritten_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--follow-to FILE makes the file, or empties it and says so."""
    path = tmp_path / "lines"
    for _ in range(2):
        os.close(open_for_lines(str(path), None))
        assert capsys.readouterr().err == ""
    path.write_text("old")
    os.close(open_for_lines(str(path), None))
    assert f"{path} is overwritten" in capsys.readouterr().err
    assert path.read_text() == ""


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """The message names the file, the reason and the option."""
    with pytest.raises(UsageError, match=r"--follow-to .*none/lines: the file cannot be written \(No such file"):
        open_for_lines(str(tmp_path / "none" / "lines"), None)
