"""Writing trace.dat, the file of trace-cmd, so that `trace-cmd report` and KernelShark open it.

`write_dat` writes a `DatFile` as version 7 or 6; the parts of a version are in `datwrite7` and `datwrite6`.
The file appears under its name only when it is whole: until then it is a hidden temporary beside it, removed
on every error.  A temporary that a killed writer left is removed by the next one that writes the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from taskscope.errors import TraceError, UsageError
from taskscope.ftrace.datwrite6 import write6
from taskscope.ftrace.datwrite7 import write7
from taskscope.ftrace.datwriteparts import DatBuffer, DatFile, Meter, Out, PageRun, Progress, check
from taskscope.ftrace.options import Option
from taskscope.ftrace.recorded import CpuPages, Recorded

__all__ = ["DatBuffer", "DatFile", "dat_of", "write_dat"]


def write_dat(path: str | os.PathLike[str], dat: DatFile, version: int = 7, compression: str | None = None,
              progress: Progress | None = None) -> None:
    """Write a trace.dat.

    :param path: the file, replaced at once if there is one; a symbolic link is followed
    :param version: 7, or 6 for trace-cmd before 3.0
    :param compression: ``zstd`` or ``none``; zstd by default, none in version 6, which has no compression
    :param progress: called with the bytes of pages written so far and their sum
    :raises UsageError: the version or the compression is not one of these, or no trace.dat can hold `dat`
    :raises TraceError: `path` is something else than a file, or a file of pages changed meanwhile
    :raises OSError: the system refuses: no space (ENOSPC, EDQUOT, EFBIG), no permission, no such folder, …;
        what was there under the name before is unharmed

    Follows trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5).
    """
    shown = os.fspath(path)
    if version not in (6, 7):
        raise UsageError(f"trace.dat has the versions 6 and 7, not {version}")
    compression = compression or ("zstd" if version == 7 else "none")
    if compression not in ("zstd", "none"):
        raise UsageError(f"{compression!r} is no compression that can be written; zstd and none are")
    if version == 6 and compression != "none":
        raise UsageError("version 6 of trace.dat has no compression; write version 7, or --compression none")
    check(dat, shown)
    runs = [{cpu: PageRun(pages, b.page_size) for cpu, pages in b.cpus.items()} for b in dat.buffers]
    meter = Meter(progress, sum(run.size for cpus in runs for run in cpus.values()))
    with _replacing(shown) as file:
        out = Out(file, dat.big_endian)
        if version == 7:
            write7(out, dat, runs, meter, compression)
        else:
            write6(out, dat, runs, meter, shown)


def dat_of(recorded: Recorded) -> DatFile:
    """Return what to write for a recording that was read; its pages stay where they are, mapped.

    :raises UsageError: it holds text of a latency tracer, which is not written
    """
    if recorded.texts:
        raise UsageError(f"{recorded.path} holds text instead of pages, which cannot be written as a trace.dat; "
                         "use `trace-cmd convert`")
    order = ">" if recorded.big_endian else "<"
    options: list[tuple[int, bytes]] = []
    if recorded.ts_offset:
        options.append((int(Option.OFFSET), str(recorded.ts_offset).encode() + b"\0"))
    if recorded.tsc is not None:
        tsc = recorded.tsc
        options.append((int(Option.TSC2NSEC), struct.pack(order + "IIQ", tsc.mult, tsc.shift, tsc.offset)))
    buffers = [DatBuffer(b.name, b.clock or recorded.clock, b.page_size,
                         {c.cpu: recorded.data[c.offset:c.offset + c.size].data for c in b.cpus},
                         {c.cpu: text for c in b.cpus if (text := _stats(c))}) for b in recorded.buffers]
    if not buffers or buffers[0].name:
        # A recording of instances alone keeps an entry without cpus for the top-level buffer.
        size = buffers[0].page_size if buffers else 4096
        buffers.insert(0, DatBuffer("", recorded.clock, size, {}))
    cpus = [c + 1 for b in buffers for c in b.cpus]
    return DatFile(
        header_page=recorded.header_page, header_event=recorded.header_event, formats=recorded.formats,
        kallsyms=recorded.kallsyms, printk_formats=recorded.printk_formats,
        cmdlines=b"".join(b"%d %s\n" % item for item in recorded.cmdlines.items()), buffers=buffers,
        cpu_count=max([recorded.cpu_count or 1, *cpus]), long_size=recorded.long_size,
        big_endian=recorded.big_endian, uname=recorded.uname,
        tgids=b"".join(b"%d %d\n" % item for item in recorded.tgids.items()),
        trace_id=recorded.trace_id, options=options)


def _stats(pages: CpuPages) -> bytes:
    lines = []
    if pages.overrun is not None:
        lines.append(b"overrun: %d\n" % pages.overrun)
    if pages.dropped is not None:
        lines.append(b"dropped events: %d\n" % pages.dropped)
    return b"".join(lines)


# ---- the file on disk ------------------------------------------------------------------------------------

@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """Open a temporary beside `path` that takes its name when the block ends well."""
    target = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(target.stat().st_mode):
            raise TraceError("is no regular file, and a recording cannot be written over it; name another file", path)
    _remove_stale(target)
    temporary = target.with_name(f"{_prefix(target)}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            # The lock lasts as long as its process: `_remove_stale` tells by it who is alive.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
                yield file
                file.flush()
                temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as e:
        if e.filename is None or e.filename == str(temporary):
            e.filename = path
            e.filename2 = None
        raise


def _prefix(target: Path) -> str:
    # A name has at most 255 bytes; what the temporary adds must fit.
    name = os.fsdecode(os.fsencode(target.name)[:200])
    return f".{name}.tmp-"


def _remove_stale(target: Path) -> None:
    prefix = _prefix(target)
    try:
        left = [p for p in target.parent.iterdir() if p.name.startswith(prefix)]
    except OSError:
        return
    for p in left:
        with contextlib.suppress(OSError):
            descriptor = os.open(p, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                p.unlink()
            finally:
                os.close(descriptor)
