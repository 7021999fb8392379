"""The monitor of a running QEMU: a connection over a Unix socket that speaks QMP (docs/interop/qmp-spec of QEMU).

The connection is shared with drgn, which negotiates and reads over its own descriptor of it: either speaks only while
the other is silent, and no wait of either is without an end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Any, Final

from taskscope.errors import PermissionRefusedError, TraceError

#: seconds for the greeting, and for an answer
GREETING_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
_START: Final = "start QEMU with -qmp unix:SOCKET,server=on,wait=off"
#: bytes of one message that nobody sends
_MOST: Final = 1 << 24


class Monitor:
    """A connection to a QMP server, which has greeted and waits for ``qmp_capabilities``.

    :param name: the path of the socket
    :param seconds: for the greeting
    :raises TraceError: there is no such socket, nobody listens, it is taken, or what listens is no QMP server
    :raises PermissionRefusedError: this user may not connect
    """

    def __init__(self, name: str, seconds: float = GREETING_SECONDS) -> None:
        self.name = name
        self._number = 0
        self._rest = b""
        end = time.monotonic() + seconds
        self._socket = _connect(name, end)
        try:
            self._greeted(end)
        except BaseException:
            self._socket.close()
            raise
        # The descriptor stays a blocking one, because drgn takes it for one; the kernel ends each wait.
        limit = struct.pack("@ll", int(ANSWER_SECONDS), 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _greeted(self, end: float) -> None:
        """Wait for the greeting, and leave it there."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(end - time.monotonic(), 0) * 1000):
            raise _taken(self.name)
        try:
            said = self._socket.recv(64, socket.MSG_PEEK)
        except ConnectionError:
            said = b""
        if not said:
            raise TraceError(f"hangs up at once: it is no monitor of QEMU, or the guest is ending; {_START}", self.name)
        if not said.startswith(b'{"QMP"'):
            hint = "this is QEMU's monitor for people" if b"QEMU" in said else "something else listens there"
            raise TraceError(f"is no QMP socket ({hint}); {_START}", self.name)

    def descriptor(self) -> int:
        """Return a new descriptor of the connection, which belongs to the caller."""
        return os.dup(self._socket.fileno())

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._socket.fileno()

    def peer(self) -> int:
        """Return the pid of the QEMU; 0 if it is in a PID namespace that is not ours."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", raw)[0])

    def negotiate(self) -> None:
        """Read the greeting and leave the negotiation, where drgn does not do it."""
        self._message(time.monotonic() + ANSWER_SECONDS)
        self.execute("qmp_capabilities")

    def execute(self, command: str, *, seconds: float = ANSWER_SECONDS, **arguments: Any) -> Any:
        """Execute a command and return what it returns.

        :param seconds: for the answer
        :raises TraceError: QEMU refuses it, does not answer in time, or has ended
        """
        self._number += 1
        number = f"taskscope-{self._number}"
        message: dict[str, Any] = {"execute": command, "id": number}
        if arguments:
            message["arguments"] = arguments
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\r\n")
        except BlockingIOError:
            raise self._late(command) from None
        except OSError:
            raise ended(self.name) from None
        end = time.monotonic() + seconds
        while True:
            answer = self._message(end, command)
            # Events, and the tail of a message whose head drgn has read, have no id of ours.
            if answer.get("id") != number:
                continue
            if "error" in answer:
                said = answer["error"].get("desc", "") if isinstance(answer["error"], dict) else ""
                raise TraceError(f"QEMU refuses {command!r}: {said}", self.name)
            return answer.get("return")

    def _message(self, end: float, command: str = "") -> dict[str, Any]:
        """Read one line; what is no message is {}."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or len(self._rest) > _MOST or not poll.poll(left * 1000):
                raise self._late(command)
            try:
                more = self._socket.recv(1 << 16)
            except OSError:
                more = b""
            if not more:
                raise ended(self.name)
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _late(self, command: str) -> TraceError:
        return TraceError(f"QEMU does not answer {command!r}; is it stopped or overloaded? try it again", self.name)

    def alive(self) -> bool:
        """Tell whether QEMU still holds the connection."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Let the monitor go, also for descriptors that others still have; the second time does nothing."""
        if self._socket.fileno() < 0:
            return
        # QEMU may have gone.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def ended(name: str) -> TraceError:
    """Return the error for a guest that is there no more."""
    return TraceError("the guest has ended while it was looked at; start it again", name)


def _taken(name: str) -> TraceError:
    return TraceError("says nothing: it is taken, as QMP serves one client at a time (end the other, or give QEMU a "
                      f"second -qmp), or it is no QMP socket ({_START})", name)


def _connect(name: str, end: float) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not stat.S_ISSOCK(Path(name).stat().st_mode):
            raise TraceError(f"is no socket; {_START}", name)
        found.settimeout(max(end - time.monotonic(), 0.001))
        while True:
            try:
                found.connect(name)
            except BlockingIOError:
                # Others wait already: the queue of those who are not served is full.
                if time.monotonic() > end:
                    raise _taken(name) from None
                time.sleep(0.05)
            else:
                found.settimeout(None)
                return found
    except BaseException as error:
        found.close()
        if isinstance(error, OSError):
            raise _refused(name, error) from None
        raise


def _refused(name: str, error: OSError) -> TraceError:
    if isinstance(error, PermissionError):
        return PermissionRefusedError("may not be connected to by this user; run it as root: sudo taskscope …", name)
    if isinstance(error, FileNotFoundError):
        return TraceError(f"there is no such socket: {_START}, and name it", name)
    if isinstance(error, ConnectionRefusedError):
        return TraceError("nobody listens there: the QEMU that made it has ended; start the guest again", name)
    if isinstance(error, TimeoutError):
        return _taken(name)
    if error.errno is None:
        return TraceError("is too long a path for a socket (107 bytes); go into its folder and name it from there",
                          name)
    return TraceError(f"cannot be connected to ({error.strerror}); {_START}", name)
