"""Reading the files of /proc: `Proc`.

A task may be gone before it is read, and a file may be closed to who asks; both are said apart.  Follows proc(5).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from os import PathLike
from typing import Final

from taskscope.errors import TraceError

#: no file that is read here is longer
_MOST: Final = 1 << 20
_GONE: Final = (errno.ENOENT, errno.ESRCH)
_CLOSED: Final = (errno.EACCES, errno.EPERM)


class GoneError(Exception):
    """The task has ended."""


class Proc:
    """A proc file system, or a copy of its files.

    :param root: where it is mounted
    :raises TraceError: none is there
    """

    def __init__(self, root: str | PathLike[str] = "/proc") -> None:
        self.root = os.fspath(root)
        # On Linux only the kernel's own /proc and copies of it have this file.
        if not os.path.exists(f"{self.root}/stat"):  # noqa: PTH110
            raise TraceError("is no proc file system; mount it: mount -t proc proc /proc", self.root)

    def pids(self) -> list[int]:
        """Return the pids of all processes, from the lowest on.

        :raises TraceError: the folder cannot be read
        """
        try:
            return sorted(int(name) for name in os.listdir(self.root) if name.isdigit())  # noqa: PTH208
        except OSError as error:
            raise TraceError(error.strerror or str(error), self.root) from None

    def tids(self, pid: int) -> list[int]:
        """Return the ids of a process's threads; none if it is gone."""
        try:
            names = os.listdir(f"{self.root}/{pid}/task")  # noqa: PTH208
        except OSError:
            return []
        # A copy that a shell has made may have a file called * where the process had gone.
        return sorted(int(name) for name in names if name.isdigit())

    def read(self, name: str) -> bytes | None:
        """Read a file, such as ``103/stat``; None if this user may not, or there is no such file in this kernel.

        :raises GoneError: the task has ended while it was read
        """
        try:
            fd = os.open(f"{self.root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _CLOSED or error.errno in _GONE:
                return None
            raise TraceError(error.strerror or str(error), f"{self.root}/{name}") from None
        try:
            data = os.read(fd, 4096)
            if len(data) >= 4095:
                while len(data) < _MOST and (more := os.read(fd, 1 << 16)):
                    data += more
        except OSError as error:
            if error.errno in _GONE:
                raise GoneError from None
            return None
        finally:
            os.close(fd)
        return data

    def link(self, name: str) -> str | None:
        """Return where a symbolic link leads; None if it cannot be read."""
        try:
            return os.readlink(f"{self.root}/{name}")  # noqa: PTH115
        except OSError:
            return None

    def owner(self, name: str) -> int | None:
        """Return the uid that a folder belongs to; None if it is not there."""
        try:
            return os.stat(f"{self.root}/{name}").st_uid  # noqa: PTH116
        except OSError:
            return None

    def words(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the lines ``name: value`` of a file."""
        for line in (self.read(name) or b"").decode("utf-8", "replace").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                yield key, value.strip()
