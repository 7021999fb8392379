"""<unistd.h>, <fcntl.h>, <sys/stat.h>: descriptors, files, terminals."""

from __future__ import annotations

import os
from typing import Any, Final

from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.include.uapi.asm_generic.termbits import (
    TCFLSH,
    TCGETS,
    TCSBRK,
    TCSETS,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCSPGRP,
    TIOCSWINSZ,
    Termios,
)
from taskscope.model.user.python import UserContext

_AT_FDCWD: Final = -100


class Files(UserContext):
    """The calls on descriptors and paths."""

    __slots__ = ()

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Open a file; return its descriptor."""
        return int(self._call("open", path, flags, mode))

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self._call("close", fd)

    def read(self, fd: int, n: int) -> bytes:
        """Read up to `n` bytes; b"" at the end."""
        return self._call("read", fd, (cell := Cell(b"")), n, out=cell)[1]  # type: ignore[no-any-return]

    def write(self, fd: int, data: bytes) -> int:
        """Write; return how many bytes were taken."""
        return int(self._call("write", fd, data, len(data)))

    def lseek(self, fd: int, offset: int, whence: int = 0) -> int:
        """Move the file position; return it."""
        return int(self._call("lseek", fd, offset, whence))

    def pipe(self) -> tuple[int, int]:
        """Make a pipe; return (read end, write end)."""
        return self._call("pipe", (cell := Cell((-1, -1))), out=cell)[1]  # type: ignore[no-any-return]

    def pipe2(self, flags: int) -> tuple[int, int]:
        """Make a pipe with O_CLOEXEC or O_NONBLOCK."""
        return self._call("pipe2", (cell := Cell((-1, -1))), flags, out=cell)[1]  # type: ignore[no-any-return]

    def dup(self, fd: int) -> int:
        """Duplicate a descriptor to the lowest free number."""
        return int(self._call("dup", fd))

    def dup2(self, fd: int, fd2: int) -> int:
        """Duplicate a descriptor to a number of one's choice."""
        return int(self._call("dup2", fd, fd2))

    def fcntl(self, fd: int, cmd: int, arg: int = 0) -> int:
        """Do what F_* says with a descriptor."""
        return int(self._call("fcntl", fd, cmd, arg))

    def ioctl(self, fd: int, cmd: int, arg: Any = 0) -> int:
        """Ask the driver behind a descriptor."""
        return int(self._call("ioctl", fd, cmd, arg))

    def ioctl_get(self, fd: int, cmd: int) -> Any:
        """Return what ioctl(2) stores through its third argument."""
        return self._call("ioctl", fd, cmd, (cell := Cell(None)), out=cell)[1]

    def isatty(self, fd: int) -> bool:
        """Tell whether a descriptor is a terminal."""
        try:
            self._call("ioctl", fd, TCGETS, (cell := Cell(None)), out=cell)
        except OSError:
            return False
        return True

    def tcgetpgrp(self, fd: int) -> int:
        """Return the foreground process group of a terminal."""
        return int(self._call("ioctl", fd, TIOCGPGRP, (cell := Cell(0)), out=cell)[1])

    def tcsetpgrp(self, fd: int, pgrp: int) -> None:
        """Set the foreground process group of the controlling terminal."""
        self._call("ioctl", fd, TIOCSPGRP, Cell(pgrp))

    def tcgetattr(self, fd: int) -> Termios:
        """Return a terminal's settings."""
        return self._call("ioctl", fd, TCGETS, (cell := Cell(None)), out=cell)[1]  # type: ignore[no-any-return]

    def tcsetattr(self, fd: int, termios: Termios, when: int = 0) -> None:
        """Set a terminal's settings: now (0), when all is shown (1), and what is typed is forgotten (2)."""
        self._call("ioctl", fd, TCSETS + when, termios)

    def tcflush(self, fd: int, queue: int = 0) -> None:
        """Forget what was typed (0, 2)."""
        self._call("ioctl", fd, TCFLSH, queue)

    def tcdrain(self, fd: int) -> None:
        """Wait until all is shown."""
        self._call("ioctl", fd, TCSBRK, 1)

    def tcgetwinsize(self, fd: int) -> tuple[int, int]:
        """Return a window's rows and columns."""
        rows, columns, *_ = self._call("ioctl", fd, TIOCGWINSZ, (cell := Cell(None)), out=cell)[1]
        return rows, columns

    def tcsetwinsize(self, fd: int, size: tuple[int, int]) -> None:
        """Set a window's rows and columns."""
        self._call("ioctl", fd, TIOCSWINSZ, (*size, 0, 0))

    def tcgetsid(self, fd: int) -> int:
        """Return the session of the controlling terminal."""
        return int(self._call("ioctl", fd, TIOCGSID, (cell := Cell(0)), out=cell)[1])

    def chdir(self, path: str) -> None:
        """Change the working directory."""
        self._call("chdir", path)

    def getcwd(self) -> str:
        """Return the working directory."""
        return str(self._call("getcwd", (cell := Cell("")), 4096, out=cell)[1])

    def umask(self, mask: int) -> int:
        """Set the mask of permissions for new files; return the one before."""
        return int(self._call("umask", mask))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make a directory."""
        self._call("mkdir", path, mode)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._call("unlink", path)

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        self._call("rename", old, new)

    def chmod(self, path: str, mode: int) -> None:
        """Set permissions."""
        self._call("chmod", path, mode)

    def stat(self, path: str) -> Any:
        """Return a file's attributes: st_mode, st_ino, st_size, st_uid, st_rdev."""
        return self._call("stat", path, (cell := Cell(None)), out=cell)[1]

    def fstat(self, fd: int) -> Any:
        """Return an open file's attributes."""
        return self._call("fstat", fd, (cell := Cell(None)), out=cell)[1]

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, without ``.`` and ``..``."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        names: list[str] = []
        while True:
            _, some = self._call("getdents64", fd, (cell := Cell(())), 32768, out=cell)
            if not some:
                break
            names += some
        self.close(fd)
        return [name for name in names if name not in (".", "..")]

    def slurp(self, path: str) -> bytes:
        """Read a whole file: open, read to the end, close."""
        fd = self.open(path)
        data = self.read_all(fd)
        self.close(fd)
        return data

    def read_all(self, fd: int) -> bytes:
        """Read to the end of a file."""
        parts = []
        while part := self.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)

    def write_all(self, fd: int, data: bytes) -> None:
        """Write all, however many write() calls it takes."""
        while data:
            data = data[self.write(fd, data) :]
