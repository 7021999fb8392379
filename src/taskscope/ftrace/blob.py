"""The bytes of an input: a mapped file or the content of a pipe, read without ever hanging on it.

A regular file is mapped, never read whole, so a sparse file of any size costs nothing.  Pipes, and files
without a size as those of /proc and tracefs, are read into memory up to a limit.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from taskscope.errors import PermissionRefusedError, TraceError

#: most bytes taken from a pipe
STREAM_MAX = 8 << 30
#: seconds after which a named pipe without a writer, or a file of tracefs without data, is given up
PATIENCE = 10.0
_STEP = 1 << 20
_EXTENTS_MAX = 10_000


def os_error(error: OSError, path: str) -> TraceError:
    """Turn a failure of the operating system into the error that people see."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionRefusedError("may not be read by this user; become its owner or root, or copy it", path)
    if error.errno == errno.ENOENT:
        return TraceError("does not exist; check the name", path)
    return TraceError(f"cannot be read: {error.strerror or error}; check that it is a file or folder on a "
                      "working disk",
                      path)


def _is_anonymous_pipe(fd: int) -> bool:
    """Tell whether a shell made the pipe (``<(…)``): its writer exists, so waiting for it is no hang."""
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("pipe:")
    except OSError:
        return False


class Blob:
    """The bytes of one input.

    ``bytes`` is the content (empty for a folder, and for a stream before `load`), ``head`` its first bytes.
    Use it as a context manager; the mapping outlives it, the file descriptor does not.
    """

    def __init__(self, path: str, fd: int, *, owned: bool = True) -> None:
        self.path = path
        self._fd = fd
        self._owned = owned
        self._patience: float | None = None
        self._rest = False               # a stream whose content is not loaded yet
        self.bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self.in_memory = False
        status = os.fstat(fd)
        self.is_folder = stat.S_ISDIR(status.st_mode)
        self._sparse = False
        if self.is_folder:
            return
        if stat.S_ISREG(status.st_mode) and status.st_size:
            try:
                self.bytes = np.frombuffer(mmap.mmap(fd, 0, access=mmap.ACCESS_READ), np.uint8)
                self._sparse = status.st_blocks * 512 < status.st_size
                return
            except (OSError, ValueError):
                pass                     # a file system that cannot map: read it as a stream
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode) or not owned):
            kinds = ((stat.S_ISCHR, "a character device"), (stat.S_ISBLK, "a block device"),
                     (stat.S_ISSOCK, "a socket"))
            kind = next((name for test, name in kinds if test(status.st_mode)), "a special file")
            raise TraceError(f"is {kind}, not a file; give a recording's file or folder", path)
        if owned and not _is_anonymous_pipe(fd):
            self._patience = PATIENCE
        self._start()

    @classmethod
    def open(cls, path: str) -> Blob:
        """Open a path; ``-`` is the standard input.

        :raises TraceError: there is no such file, or it is a device
        :raises PermissionRefusedError: the system refuses to open it
        """
        if path == "-":
            if os.isatty(0):
                raise TraceError("standard input is a terminal; name a file, or pipe a recording in", path)
            try:
                return cls("-", 0, owned=False)
            except OSError as e:
                raise os_error(e, path) from e
        try:
            # O_NONBLOCK: opening a named pipe must not wait for its writer.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except ValueError as e:
            raise TraceError("is no file name; check the name", repr(path)) from e
        except OSError as e:
            raise os_error(e, path) from e
        try:
            return cls(path, fd)
        except OSError as e:
            os.close(fd)
            raise os_error(e, path) from e
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._owned and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    @property
    def view(self) -> memoryview:
        """The content without a copy."""
        return self.bytes.data

    @property
    def head(self) -> bytes:
        """The first 4 KiB."""
        return self.bytes[:4096].tobytes()

    def _start(self) -> None:
        # Enough to tell what it is; the rest is read by load() if it is something to read.
        self.in_memory = True
        buffer = bytearray()
        while len(buffer) < 4096 and (piece := self._read(4096)):
            buffer += piece
        self._buffer = buffer
        self._rest = len(buffer) >= 4096
        self.bytes = np.frombuffer(bytes(buffer), np.uint8)

    def _wait(self, seconds: float | None) -> bool:
        """Wait until there is something to read or the writer is gone; False if neither came in time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _read(self, size: int) -> bytes:
        while True:
            if self._patience is not None and not self._wait(self._patience):
                raise TraceError(f"gave no data for {self._patience:.0f} s; if another program is to write "
                                 "it, start that first", self.path)
            try:
                return os.read(self._fd, size)
            except BlockingIOError:
                self._wait(self._patience)
            except OSError as e:
                raise os_error(e, self.path) from e

    def load(self) -> None:
        """Read the rest of a stream.

        :raises TraceError: it is longer than `STREAM_MAX`, or memory does not hold it
        """
        if not self._rest:
            return
        self._rest = False
        try:
            while piece := self._read(_STEP):
                self._buffer += piece
                if len(self._buffer) > STREAM_MAX:
                    raise TraceError(f"gives more than {STREAM_MAX >> 30} GiB; write it to a file and read that",
                                     self.path)
        except MemoryError:
            raise TraceError("does not fit into memory; write it to a file and read that", self.path) from None
        self.bytes = np.frombuffer(self._buffer, np.uint8)

    def replace(self, content: bytes | bytearray) -> None:
        """Put other bytes in the place of the content (what a compressed file holds)."""
        self.bytes = np.frombuffer(content, np.uint8)
        self._sparse = False
        self._rest = False
        self.in_memory = True

    def data_end(self, start: int, stop: int) -> int:
        """Return where the last byte that was ever written between two places of a sparse file ends.

        Behind it lies a hole, which reads as zeros; `stop` where the file has no holes or does not tell.
        """
        if not self._sparse or self._fd < 0:
            return stop
        end = start
        at = start
        with contextlib.suppress(OSError):
            for _ in range(_EXTENTS_MAX):
                try:
                    data = os.lseek(self._fd, at, os.SEEK_DATA)
                except OSError as e:
                    if e.errno == errno.ENXIO:       # no data from here to the end of the file
                        return end
                    raise
                if data >= stop:
                    return end
                end = at = min(os.lseek(self._fd, data, os.SEEK_HOLE), stop)
                if at >= stop:
                    return stop
        return stop
