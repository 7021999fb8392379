"""What is no QMP socket, or none that answers: one clear error in a bounded time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.memory import qmp
from taskscope.memory.guest import open_guest
from taskscope.memory.qmp import Monitor

#: drgn keeps the interpreter to itself while it waits, so that the other side is a process of its own
SERVER = """
import socket, sys, time
place, says, answers = {!r}, {!r}, {!r}
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(place)
    listening.listen(1)
    print("ready", flush=True)
    client = listening.accept()[0]
    client.sendall(says)
    for text in answers:
        client.recv(4096)
        client.sendall(text)
    time.sleep(30)
"""


@contextlib.contextmanager
def server(place: Path, says: bytes, answers: tuple[bytes, ...] = ()) -> Iterator[None]:
    """Listen on a socket: greet, give an answer to each request, and then say nothing more."""
    program = SERVER.format(str(place), says, answers)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


def test_what_is_no_socket(tmp_path: Path) -> None:
    """No file, a file, a folder, a socket on which nobody listens, a path too long: each is told, with what to do."""
    (tmp_path / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    (tmp_path / ("x" * 120)).mkdir()
    for name, said in (("none", "no such socket: start QEMU with -qmp"), ("file", "is no socket; start QEMU"),
                       (".", "is no socket"), ("file/x", "cannot be connected to"), ("dead", "nobody listens")):
        with pytest.raises(TraceError, match=said) as caught:
            open_guest(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    deep = tmp_path / ("x" * 120) / "qmp"
    before = Path.cwd()
    os.chdir(deep.parent)
    try:
        with socket.socket(socket.AF_UNIX) as long:
            long.bind("qmp")
    finally:
        os.chdir(before)
    with pytest.raises(TraceError, match="too long a path"):
        open_guest(deep)


def test_a_socket_that_may_not_be_used(tmp_path: Path) -> None:
    """A socket of somebody else is a refusal that says what helps."""
    place = tmp_path / "qmp"
    with server(place, b""):
        place.chmod(0)
        mine = os.geteuid()
        if not mine:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionRefusedError, match="sudo taskscope"):
                Monitor(str(place))
        finally:
            os.seteuid(mine)
        place.chmod(0o600)
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(place))


@pytest.mark.parametrize(("says", "answers", "said"), [
    (b"", (), "says nothing: it is taken"),
    (b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ", (), "QEMU's monitor for people"),
    (b"HTTP/1.1 400 Bad Request\r\n", (), "something else listens there"),
    (b'{"QMP": {}}\r\n', (), "QEMU does not answer"),
    (b'{"QMP": {}}\r\n', (b'{"return": {}}\r\n',), "QEMU does not answer"),
    (b'{"QMP": {}}\r\n', (b'{"error": {"class": "X", "desc": "never"}}\r\n',), "cannot be opened .*never"),
    (b'{"QMP": {}}\r\n', (b"nonsense\r\n",), "cannot be opened"),
], ids=["silent", "people", "other", "deaf", "deaf-later", "refusing", "nonsense"])
def test_what_speaks_no_qmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes, answers: tuple[bytes, ...],
                            said: str) -> None:
    """Whoever listens there and is no QEMU that answers is told from one within a bounded time."""
    monkeypatch.setattr(qmp, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(Monitor.__init__, "__defaults__", (1.0,))
    began = time.monotonic()
    with server(tmp_path / "qmp", says, answers), pytest.raises(TraceError, match=said):
        open_guest(tmp_path / "qmp")
    assert time.monotonic() - began < 10


def test_answers_are_told_from_events(tmp_path: Path) -> None:
    """What QEMU says of itself between a command and its answer is passed over; an error is one with its words."""
    event = b'{"event": "STOP", "timestamp": {}}\r\n'
    with server(tmp_path / "qmp", b'{"QMP": {}}\r\n', (
            b'{"return": {}, "id": "taskscope-1"}\r\n', b'half an event}\r\n' + event + b'{"return": {"a": 1}, '
            b'"id": "taskscope-2"}\r\n', b'{"id": "taskscope-3", "error": {"desc": "not now"}}\r\n')):
        monitor = Monitor(str(tmp_path / "qmp"))
        monitor.negotiate()
        assert monitor.execute("query-status") == {"a": 1}
        with pytest.raises(TraceError, match="QEMU refuses 'stop': not now"):
            monitor.execute("stop")
        monitor.close()
        monitor.close()
