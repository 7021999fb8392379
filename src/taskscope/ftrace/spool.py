"""The spool of a recording that runs: the folder ``OUT.spool`` beside the output, which every command reads.

It is a folder of raw pages (see `taskscope.ftrace.rawdir`), complete before the command starts, with ``spool.json``
that tells who records.  The recorder holds a lock on ``spool.json`` for as long as it lives; by that and by its pid and
start time others tell a running recording from one that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskscope.errors import TraceError
from taskscope.ftrace.saved import parse_cmdlines
from taskscope.ftrace.tracefs import boot_id, start_time

INFO = "spool.json"
SUFFIX = ".spool"
_FORMAT = 1
_PAGE_MIN, _PAGE_MAX = 512, 1 << 24
_INFO_MAX = 16 << 20
#: the buffer of what others did to the recorded tasks, and its folder (see `taskscope.ftrace.record_outside`)
OUTSIDE_NAME = "outside"
OUTSIDE = f"instances/{OUTSIDE_NAME}"
#: bytes by which a file of pages grows
RESERVED = 1 << 20


@dataclass(slots=True)
class SpoolInfo:
    """What ``spool.json`` says; ``state`` is "setup", "recording" or "writing"."""

    state: str = "setup"
    pid: int = 0
    start_time: int = 0
    boot_id: str = ""
    instance: str = ""
    outside: str = ""                                     # the second instance
    tracefs: str = ""
    mounted: bool = False
    probes: list[str] = field(default_factory=list)
    output: str = ""
    file_version: int = 7
    compression: str | None = None
    clock: str = ""
    page_size: int = 4096
    long_size: int = 8
    cpu_count: int = 1
    uname: str = ""
    trace_id: int = 0
    stacks: list[str] = field(default_factory=list)      # events whose every record has a stack of its own
    tasks: list[int] = field(default_factory=list)        # that were chosen; none: everything is recorded
    children: bool = False                                # and what they create
    command: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    began: float = 0.0                                    # time.time()

    def dumps(self) -> bytes:
        """Return the text of the file."""
        values = {"format": _FORMAT, **{name: getattr(self, name) for name in self.__slots__}}
        return json.dumps(values, indent=1).encode() + b"\n"


def read_info(folder: Path) -> SpoolInfo | None:
    """Read the ``spool.json`` of a folder; None where the folder is no spool, or was killed before it was one.

    :raises TraceError: it is damaged, or of a later format
    """
    path = folder / INFO
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        try:
            text = file.read(_INFO_MAX)
        except OSError:
            return None
    if not text.strip():
        return SpoolInfo()
    try:
        values = json.loads(text)
        known = _checked(values)
    except (ValueError, TypeError, RecursionError) as e:
        raise TraceError(f"is damaged ({e}); move it away, then the folder is read as raw pages", str(path)) from e
    if known is None:
        raise TraceError(f"is of format {values.get('format')!r}, which this taskscope does not know; read it with the "
                         "one that recorded it", str(path))
    return known


def _checked(values: Any) -> SpoolInfo | None:
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    if values.get("format") != _FORMAT:
        return None
    info = SpoolInfo()
    for name in SpoolInfo.__slots__:
        if name not in values:
            continue
        value, before = values[name], getattr(info, name)
        good: bool
        if isinstance(before, list):
            kind = int if name == "tasks" else str
            good = isinstance(value, list) and all(type(v) is kind for v in value)
        elif name == "compression":
            good = value is None or isinstance(value, str)
        elif isinstance(before, float):
            good = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            good = type(value) is type(before)
        if not good:
            raise ValueError(f"{name} is {type(value).__name__}")
        setattr(info, name, value)
    if not _PAGE_MIN <= info.page_size <= _PAGE_MAX or info.page_size % 8:
        raise ValueError(f"page_size is {info.page_size}")
    if info.long_size not in (4, 8) or not 0 < info.cpu_count < 1 << 16:
        raise ValueError(f"long_size is {info.long_size}, cpu_count is {info.cpu_count}")
    return info


def used(fd: int, page_size: int) -> int:
    """Return the bytes of a file of pages without what its recorder had only reserved: zeros at the end."""
    size = os.fstat(fd).st_size // page_size * page_size
    for _ in range(max(RESERVED // page_size, 1) + 1):
        # The header of a page begins with the time of its first record.
        if size <= 0 or any(os.pread(fd, 16, size - page_size)):
            break
        size -= page_size
    return size


def is_running(folder: Path, info: SpoolInfo) -> bool:
    """Tell whether the recorder of a spool lives."""
    if info.pid and info.boot_id == boot_id() and start_time(info.pid) == info.start_time:
        return True
    # In another pid namespace its pid says nothing, but its lock holds.
    try:
        fd = os.open(folder / INFO, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


class Spool:
    """A spool being written.

    All files are made inside the folder that was made here, never through a name that somebody could have replaced.

    :param folder: where it is made
    :param owner: uid and gid that it is given to
    :raises FileExistsError: there is something of that name
    """

    def __init__(self, folder: Path, info: SpoolInfo, owner: tuple[int, int] | None = None) -> None:
        self.folder = folder
        self.info = info
        self.cmdlines: dict[int, bytes] = {}
        self.tgids: dict[int, int] = {}
        self._owner = owner
        self._written: dict[tuple[str, int], int] = {}
        self._lock = self._outside = -1
        folder.mkdir(mode=0o700)
        self._dir = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if owner is not None:
            os.fchown(self._dir, *owner)
        self._lock = self.create(INFO)
        with contextlib.suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.save()

    def make_outside(self) -> None:
        """Make the folder of the second instance."""
        at = self._dir
        for name in Path(OUTSIDE).parts:
            os.mkdir(name, 0o700, dir_fd=at)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            if at != self._dir:
                os.close(at)
            at = below
            if self._owner is not None:
                os.fchown(at, *self._owner)
        self._outside = at

    def create(self, name: str, *, outside: bool = False) -> int:
        """Make a file of the spool, or of the second instance's folder in it; return its descriptor."""
        folder = self._outside if outside else self._dir
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        if self._owner is not None:
            os.fchown(fd, *self._owner)
        return fd

    def put(self, name: str, content: bytes, *, outside: bool = False) -> None:
        """Write a file; one that is there is replaced at once, and left alone if nothing changed."""
        key = hash(content)
        folder = self._outside if outside else self._dir
        if self._written.get((name, folder)) == key:
            return
        temporary = f".{name}.{secrets.token_hex(3)}"
        fd = self.create(temporary, outside=outside)
        try:
            try:
                _write(fd, content)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        self._written[name, folder] = key

    def save(self) -> None:
        """Write ``spool.json`` as it is now; in place, because the lock is on this very file."""
        text = self.info.dumps()
        # Blanks over what stood there: whoever reads meanwhile sees one text, never the end of another.
        os.pwrite(self._lock, text.ljust(os.fstat(self._lock).st_size), 0)

    def refresh(self, tracefs: Path) -> bytes:
        """Keep the names of tasks, since the kernel's table of them is small and shared; return the thread groups.

        :param tracefs: where it is mounted
        """
        with contextlib.suppress(OSError):
            comms, _ = parse_cmdlines((tracefs / "saved_cmdlines").read_bytes())
            self.cmdlines.update((pid, comm) for pid, comm in comms.items() if comm != b"<...>")
        self.put("saved_cmdlines", self.names())
        # The kernel has room for the thread groups of all pids.
        tgids = b""
        with contextlib.suppress(OSError):
            tgids = (tracefs / "saved_tgids").read_bytes()
        self.put("saved_tgids", b"".join(b"%d %d\n" % item for item in self.tgids.items()) + tgids)
        return tgids

    def names(self) -> bytes:
        """Return the names of tasks as ``saved_cmdlines`` has them."""
        return b"".join(b"%d %s\n" % item for item in sorted(self.cmdlines.items()))

    def path(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / name

    def close(self) -> None:
        """Let go of it; the files stay."""
        for fd in (self._lock, self._outside, self._dir):
            if fd >= 0:
                os.close(fd)
        self._lock = self._outside = self._dir = -1

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        self.close()
        remove_spool(self.folder)


def remove_spool(folder: Path) -> None:
    """Remove a spool; a symbolic link of its name is not followed."""
    if not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def _write(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest):]
