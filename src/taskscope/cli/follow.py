"""``taskscope record --follow``: prints what happens to tasks while it is being recorded.

Lines are written by a thread of their own, whole and as soon as they are known: a reader that stops (Ctrl-S, a pager)
does not stop the recorder, which would cost events.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from taskscope.cli.output import say
from taskscope.errors import UsageError
from taskscope.follow import Following
from taskscope.ftrace.ring import COUNTERS
from taskscope.trace.source import Clock
from taskscope.views.follow import header, json_line, line
from taskscope.views.text import Paint
from taskscope.views.times import Times

if TYPE_CHECKING:
    from taskscope.ftrace.record_order import FollowSetup
    from taskscope.lives.happenings import Happening

#: bytes that wait for a slow reader at most; what comes then is counted and left out
_WAITING = 64 << 20


class Lines:
    """Writes lines to a descriptor without ever making the caller wait.

    :param fd: descriptor; stays open
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False              # the reader is gone, or the file takes no more
        self.error: OSError | None = None
        self.dropped = 0                 # lines that a slow reader did not get
        self._parts: list[bytes] = []
        self._size = 0
        self._ending = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._thread.start()

    def put(self, lines: list[bytes]) -> None:
        """Write lines, newlines included, as soon as the reader takes them."""
        with self._change:
            if self.closed or self._size > _WAITING:
                self.dropped += 0 if self.closed else len(lines)
                return
            part = b"".join(lines)
            self._parts.append(part)
            self._size += len(part)
            self._change.notify()

    def close(self) -> None:
        """Wait until all is written, or cannot be."""
        with self._change:
            self._ending = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._parts and not self._ending:
                    self._change.wait()
                parts, self._parts = self._parts, []
                self._size = 0
            if not parts:
                return
            try:
                _write(self.fd, b"".join(parts))
            except OSError as e:
                self.error = None if e.errno == errno.EPIPE else e
                self.closed = True
                return


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest):]
        except BlockingIOError:
            select.select([], [fd], [])


class Printer(Following):
    """Follows a recording and prints.

    :param path: file that gets the lines, ``-`` for stdout; None for stdout, or for stderr where a command is recorded,
        whose stdout is its own
    :param command: whether a command is recorded
    :param everything: whether all tasks are recorded
    :param pids: processes that are recorded
    :param owner: uid and gid that get the file
    :param clock: name of the recording's clock
    """

    def __init__(self, path: str | None, *, command: bool, everything: bool, json: bool, threads: bool, clock: str,
                 pids: Collection[int] = (), owner: tuple[int, int] | None = None) -> None:
        super().__init__(self._print, everything=everything, pids=pids, threads=threads)
        self.json = json
        self._times = Times(Clock(clock, "cycles" if clock in COUNTERS else "ns"))
        self._path = path if path not in (None, "-") else None
        self._owner = owner
        self._fd = 2 if path is None and command else 1
        self._lines: Lines | None = None

    def start(self, setup: FollowSetup) -> Printer:
        """Begin to follow.

        :raises UsageError: the file cannot be written
        :raises TraceError: this kernel's formats cannot be understood
        """
        if self._path is not None:
            self._fd = open_for_lines(self._path, self._owner)
        else:
            sys.stdout.flush()
        super().start(setup)
        if self.missing:
            say(f"--follow does not tell {', '.join(self.missing)}: their events are not recorded (-e default records "
                "what this kernel has of them)")
        self._paint = Paint(_colored(self._fd))
        self._lines = Lines(self._fd)
        if not self.json:
            self._lines.put([_encoded(header(self._paint))])
        return self

    @property
    def closed(self) -> bool:
        """Tell whether nobody reads the lines any more."""
        return self._lines is not None and self._lines.closed

    def close(self) -> None:
        """Wait for the reader, then say what it did not get."""
        lines = self._lines
        if lines is not None:
            lines.close()
            if lines.error is not None:
                say(f"following was ended: {self._path or 'its output'} takes no more ({lines.error.strerror})")
            if lines.dropped:
                say(f"{lines.dropped:,} lines of --follow were left out: their reader was too slow; the recording has "
                    "what they tell")
        if self._path is not None and self._fd > 2:
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def _print(self, happenings: list[Happening]) -> None:
        if self._lines is not None:
            self._lines.put([_encoded(json_line(h) if self.json else line(h, self._times, self._paint))
                             for h in happenings])


def _encoded(line: str) -> bytes:
    return (line + "\n").encode(sys.stdout.encoding or "utf-8", "backslashreplace")


def _colored(fd: int) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (os.isatty(fd) and os.environ.get("TERM") != "dumb")


def open_for_lines(path: str, owner: tuple[int, int] | None) -> int:
    """Open a file for writing; one that is there is emptied, and that is said.

    :param owner: uid and gid that get a new file
    :raises UsageError: it cannot be written
    """
    try:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            before = os.fstat(fd)
            if stat.S_ISREG(before.st_mode):
                if before.st_size:
                    say(f"{path} is overwritten")
                os.ftruncate(fd, 0)
            return fd
        if owner is not None:
            os.fchown(fd, *owner)
    except OSError as e:
        raise UsageError(f"--follow-to {path}: the file cannot be written ({e.strerror}); give another one") from e
    return fd
