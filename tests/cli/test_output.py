"""Where output goes: pipes that close or are slow, a full disk, Ctrl-C, terminals, colour, pager, progress."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, Ran
from lives_json import run_inside

Cli = Callable[..., Ran]

ENV = dict(os.environ, PYTHONPATH=str(ROOT / "src"), TERM="xterm", PYTHONDONTWRITEBYTECODE="1")
COMMAND = [sys.executable, "-m", "taskscope.cli.main"]


@pytest.fixture
def small(data: Path) -> Path:
    """A small real recording."""
    return data / "d05-zombie.dat"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves(data: Path, unbuffered: str) -> None:
    """When the reader of a pipe leaves, the command ends quietly, with 128 + SIGPIPE."""
    with subprocess.Popen(
        [*COMMAND, "report", "-i", str(data / "d12-overrun.dat"), "-q"],
        env=ENV | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(100)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 128 + signal.SIGPIPE


def test_a_full_disk(data: Path) -> None:
    """When the answer cannot be written, one line says why, and the exit code is 1."""
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*COMMAND, "report", "-i", str(data / "d12-overrun.dat"), "-q"],
            env=ENV,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (1, b"taskscope: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_everything(data: Path, unbuffered: str) -> None:
    """A reader that takes little at a time gets the whole answer."""
    args = [*COMMAND, "report", "-i", str(data / "d12-overrun.dat"), "-q"]
    whole = subprocess.run(args, env=ENV, stdout=subprocess.PIPE, check=True).stdout
    with subprocess.Popen(args, env=ENV | {"PYTHONUNBUFFERED": unbuffered}, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        parts = []
        while part := child.stdout.read1(30_000):
            parts.append(part)
    assert b"".join(parts) == whole


def test_interrupt() -> None:
    """Ctrl-C ends it with 130 and one line, not a traceback."""
    with subprocess.Popen(
        [*COMMAND, "lives", "-i", "-"], env=ENV, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stderr is not None
        deadline = time.monotonic() + 5
        # It reads stdin, which never ends, once it has put its temporary copy there.
        while time.monotonic() < deadline and "pipe_read" not in _wchan(child.pid):
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.stderr.read() == b"taskscope: interrupted\n"
        assert child.wait(30) == 130


def _wchan(pid: int) -> str:
    return Path(f"/proc/{pid}/wchan").read_text()


def on_terminal(args: list[str], keys: bytes = b"", columns: int = 100, **more: str) -> tuple[int, str]:
    """Run the command with a terminal as stdin, stdout and stderr; return exit code and what the terminal got."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    own = ("NO_COLOR", "FORCE_COLOR", "PAGER", "LESS", "COLUMNS", "LINES")
    env = {k: v for k, v in ENV.items() if k not in own} | more
    child = subprocess.Popen(
        [*COMMAND, *args], env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    if keys:
        os.write(master, keys)
    got = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            got += part
        elif child.poll() is not None:
            break
    code = child.wait(10)
    os.close(master)
    return code, got.decode().replace("\r\n", "\n")


def test_colour_on_a_terminal(small: Path) -> None:
    """A terminal gets colour, unless NO_COLOR, --color=never or a dumb terminal says otherwise."""
    args = ["lives", "-i", str(small), "--no-pager"]
    code, shown = on_terminal(args)
    assert code == 0
    assert "\x1b[31mSIGKILL by 157\x1b[0m" in shown
    assert "\x1b[" not in on_terminal(args, NO_COLOR="1")[1]
    assert "\x1b[" not in on_terminal([*args, "--color", "never"])[1]
    assert "\x1b[" not in on_terminal(args, TERM="dumb")[1]
    assert "\x1b[31m" in on_terminal([*args, "--color", "always"], NO_COLOR="1")[1]


def test_colour_in_a_pipe(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets none, unless FORCE_COLOR or --color=always asks for it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert b"\x1b[" not in run_inside("lives", "-i", str(small))[1]
    assert b"\x1b[31m" in run_inside("lives", "-i", str(small), "--color", "always")[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert b"\x1b[31m" in run_inside("lives", "-i", str(small))[1]
    assert b"\x1b[" not in run_inside("lives", "-i", str(small), "--color=never")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[" not in run_inside("lives", "-i", str(small))[1]


def test_the_pager(small: Path, tmp_path: Path) -> None:
    """On a terminal the answer goes through $PAGER; not with --no-pager, and errors never."""
    pager = f"cat > {tmp_path}/paged"
    code, shown = on_terminal(["lives", "-i", str(small)], PAGER=pager)
    assert (code, shown) == (0, "")
    assert "SIGKILL by 157" in (tmp_path / "paged").read_text()
    assert "SIGKILL by 157" in on_terminal(["lives", "-i", str(small), "--no-pager"], PAGER=pager)[1]
    (tmp_path / "paged").unlink()
    code, shown = on_terminal(["lives", "-i", str(tmp_path / "absent")], PAGER=pager)
    assert code == 3
    assert "absent" in shown
    assert not (tmp_path / "paged").exists()


def test_a_pager_that_is_left(data: Path) -> None:
    """Leaving the pager early is no error."""
    code, shown = on_terminal(["report", "-i", str(data / "d12-overrun.dat"), "-q"], PAGER="head -1")
    assert code == 0
    assert len(shown.splitlines()) == 1


def test_terminal_width(small: Path) -> None:
    """On a terminal the process table is cut to its width, as ps does, and a story keeps to it."""
    _, shown = on_terminal(["ps", "-i", str(small), "--no-pager", "--color=never"], columns=75)
    assert max(map(len, shown.splitlines())) == 75
    _, story = on_terminal(["life", "-i", str(small), "159", "--no-pager", "--color=never"], columns=100)
    assert max(len(x) for x in story.splitlines() if "taskscope" not in x) > 90


def test_progress_only_on_a_terminal_and_after_a_second(cli: Cli, small: Path) -> None:
    """Quick work says nothing on stderr, on a terminal or not."""
    assert cli("lives", "-i", small).err == b""
    assert "…" not in on_terminal(["lives", "-i", str(small), "--no-pager"])[1]


def test_progress_of_long_work() -> None:
    """Long work shows one line that is taken away before the answer."""
    script = (
        "import time; from taskscope.cli.options import Common; from taskscope.cli.output import progress\n"
        "c = Common(input=None, buffer=None, color='auto', pager=False, quiet=False, verbose=0)\n"
        "with progress('reading x', c): time.sleep(1.4)\n"
        "print('answer')\n"
    )
    master, slave = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", script], env=ENV, stdout=slave, stderr=slave)
    child.wait(30)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert re.fullmatch(r"\r\x1b\[Ktaskscope: reading x … 1 s\r\x1b\[Kanswer\r\n", shown), repr(shown)
