"""Raw pages from the kernel's ring buffers into files, as they are, while the recording runs.

A read of ``per_cpu/cpuN/trace_pipe_raw`` gives one sub-buffer and takes it out of the ring (tracing_buffers_read() in
kernel/trace/trace.c).  It is read straight into the mapped file, whose blocks are reserved before: so a recorder that
is killed at any moment leaves every page that it took, and a full disk is met before a page is taken, not after.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskscope.ftrace.spool import RESERVED, Spool

if TYPE_CHECKING:
    from taskscope.ftrace.record_follow import Both
    from taskscope.ftrace.tracefs import Instance

#: pages read from one cpu before the next has its turn
_TURN = 512

OnPages = Callable[[int, bytes], None]


class DiskFullError(Exception):
    """The file system takes no more pages; ``cause`` is what it says."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause.strerror or str(cause))
        self.cause = cause


class PageFile:
    """The pages of one cpu on disk.

    :param fd: a new file, owned by this object from now on
    :param page_size: bytes of a sub-buffer
    """

    def __init__(self, fd: int, page_size: int) -> None:
        self.fd = fd
        self.page_size = page_size
        # bytes of pages in the file; one of a killed recorder is continued
        self.size = os.fstat(fd).st_size // page_size * page_size
        self._reserved = 0
        self._start = 0                           # where the mapped window begins
        self._window: mmap.mmap | None = None
        self._view: memoryview | None = None

    def room(self) -> memoryview:
        """Return the place of the next page.

        :raises DiskFullError: the file system has none for it
        """
        if self._view is None or self.size - self._start >= len(self._view):
            self._grow()
        assert self._view is not None
        at = self.size - self._start
        return self._view[at:at + self.page_size]

    def _grow(self) -> None:
        self._unmap()
        size = max(RESERVED, self.page_size)
        while True:
            try:
                self._reserve(self.size, size)
                break
            except OSError as e:
                # Up to the last page that fits.
                if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and size > self.page_size:
                    size = max(size // 4 // self.page_size * self.page_size, self.page_size)
                    continue
                raise DiskFullError(e) from e
        self._reserved = self.size + size
        # A mapping begins at a multiple of the machine's page.
        self._start = self.size // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._window = mmap.mmap(self.fd, self._reserved - self._start, offset=self._start)
        self._view = memoryview(self._window)

    def _reserve(self, at: int, size: int) -> None:
        try:
            os.posix_fallocate(self.fd, at, size)
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            # A file system that cannot reserve: its blocks are written once.
            done = 0
            while done < size:
                done += os.pwrite(self.fd, bytes(min(size - done, 1 << 16)), at + done)

    def _unmap(self) -> None:
        if self._view is not None:
            self._view.release()
            self._view = None
        if self._window is not None:
            self._window.close()
            self._window = None

    def close(self) -> None:
        """Cut the file to its pages and close it."""
        if self.fd >= 0:
            self._unmap()
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
            os.close(self.fd)
            self.fd = -1


class Pump:
    """Reads the ring buffers of an instance.

    :param instance: folder of the instance
    :param page_size: bytes of a sub-buffer
    :param create: makes the file of a cpu's pages, and gives its descriptor
    :param on_pages: called with the cpu and each run of whole pages, for those who follow
    """

    def __init__(self, instance: Path, page_size: int, create: Callable[[int], int],
                 on_pages: OnPages | None = None) -> None:
        self.page_size = page_size
        self._instance = instance
        self._create = create
        self._on_pages = on_pages
        self._sources: dict[int, int] = {}
        self._files: dict[int, PageFile] = {}
        self._poll = select.epoll()
        self.watch()

    def watch(self) -> None:
        """Open the buffers of cpus that are new."""
        for name in os.listdir(self._instance / "per_cpu"):  # noqa: PTH208  names, not paths
            cpu = int(name[3:]) if name[3:].isdigit() else -1
            if cpu < 0 or cpu in self._sources:
                continue
            path = self._instance / "per_cpu" / name / "trace_pipe_raw"
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._sources[cpu] = fd
            self._poll.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that can be read when a buffer is full enough (buffer_percent)."""
        return self._poll.fileno()

    def read(self, until: float | None = None) -> bool:
        """Move what the buffers hold into the files; tell whether all of them were seen empty.

        :param until: time.monotonic() at which to give up, for a load that never lets the buffers run dry
        :raises DiskFullError: the file system takes no more; what was moved is safe
        """
        full = set(self._sources)
        while full:
            full = {cpu for cpu in full if self._turn(cpu) >= _TURN * self.page_size}
            if until is not None and time.monotonic() > until:
                break
        return not full

    def _turn(self, cpu: int) -> int:
        source = self._sources[cpu]
        file = self._files.get(cpu)
        if file is None:
            file = self._files[cpu] = PageFile(self._create(cpu), self.page_size)
        moved = 0
        size = self.page_size
        run: list[bytes] = []
        try:
            for _ in range(_TURN):
                # Given back at once: a mapping that is still looked at cannot be moved on.
                with file.room() as room:
                    got = os.readv(source, [room])
                    if got <= 0:
                        break
                    if got < size:                # never seen; what the file holds must be whole pages
                        room[got:] = bytes(size - got)
                    if self._on_pages is not None:
                        run.append(bytes(room))
                file.size += size
                moved += size
        except BlockingIOError:
            pass
        except OSError as e:
            if e.errno in (errno.EFAULT, errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise DiskFullError(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if e.errno == errno.EFAULT
                                    else e) from e
            raise
        finally:
            if run and self._on_pages is not None:
                self._on_pages(cpu, b"".join(run))
        return moved

    @property
    def size(self) -> int:
        """Bytes of pages moved so far."""
        return sum(f.size for f in self._files.values())

    def cpus(self) -> Sequence[int]:
        """Return the cpus that are read."""
        return tuple(self._sources)

    def close(self) -> None:
        """Close buffers and files."""
        for fd in self._sources.values():
            os.close(fd)
        self._sources.clear()
        for file in self._files.values():
            file.close()
        if not self._poll.closed:
            self._poll.close()


class Pumps:
    """Reads the instance, and the second one.

    The second comes first: a task whose birth is read after a signal to it would pass for somebody else's.
    """

    def __init__(self, instance: Instance, outside: Instance | None, spool: Spool, follow: Both | None) -> None:
        size = spool.info.page_size
        self._pumps: list[Pump] = []
        feed = follow.feed if follow is not None else None
        try:
            if outside is not None:
                self._pumps.append(Pump(outside.path, size, lambda cpu: spool.create(f"cpu{cpu}.raw", outside=True),
                                        follow.feed_outside if follow is not None else None))
            self._pumps.append(Pump(instance.path, size, lambda cpu: spool.create(f"cpu{cpu}.raw"), feed))
        except BaseException:
            self.close()
            raise

    def filenos(self) -> set[int]:
        """Return descriptors that can be read when a buffer is full enough."""
        return {pump.fileno() for pump in self._pumps}

    def read(self, until: float) -> bool:
        """See `Pump.read`."""
        dry = [pump.read(until) for pump in self._pumps]        # each is read, also behind one that is not empty yet
        return all(dry)

    def watch(self) -> None:
        """See `Pump.watch`."""
        for pump in self._pumps:
            pump.watch()

    def close(self) -> None:
        """Close buffers and files."""
        for pump in self._pumps:
            pump.close()
