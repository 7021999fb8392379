"""The end of a recording: from the spool to the trace.dat, also for a spool whose recorder was killed.

Before the file is written the pages are gone through once: records are counted, and records that do not belong to the
recording are discarded the way the kernel does it (see `taskscope.ftrace.record_pages`).
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskscope.errors import TaskscopeError, UsageError
from taskscope.ftrace.record_signals import Signals
from taskscope.ftrace.spool import SpoolInfo, remove_spool

if TYPE_CHECKING:
    from taskscope.ftrace.datwrite import DatFile
    from taskscope.ftrace.record_pages import Counted

MAGIC = b"\x17\x08\x44tracing"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WritingStoppedError(Exception):
    """Ctrl-C came while the file was written."""


def quoted(path: Path) -> str:
    """Return a path as a shell takes it, on one line and without control characters."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    # bash's $'…'
    plain = "".join(c if c.isprintable() and c not in "\\'" else "".join(f"\\x{b:02x}" for b in os.fsencode(c))
                    for c in text)
    return f"$'{plain}'"


def refuse_output(output: Path, say: Callable[[str], None]) -> None:
    """Say that an output is there and will be replaced; refuse one that is no recording.

    :raises UsageError: it is something else than a file of a recording, or its folder does not exist
    :raises TraceError: it cannot be looked at
    """
    try:
        status = output.lstat()
    except FileNotFoundError:
        if not output.parent.is_dir():
            raise UsageError(f"{output}: there is no folder {output.parent}; make it, or name another file: "
                             "-o FILE") from None
        return
    except (OSError, ValueError) as e:
        raise UsageError(f"-o {str(output)!r} is no file that can be written: {e}") from e
    if stat.S_ISLNK(status.st_mode):
        try:
            status = output.stat()
        except OSError as e:
            raise UsageError(f"{output} is a symbolic link to nothing; name the file itself: -o FILE") from e
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{output} is no regular file; name another: -o FILE")
    if status.st_size:
        try:
            with output.open("rb") as file:
                head = file.read(len(MAGIC))
        except OSError as e:
            raise UsageError(f"{output} is there and cannot be read ({e.strerror}); name another file: -o FILE") from e
        if head != MAGIC:
            raise UsageError(f"{output} is there and is no recording: it is not overwritten; name another file: "
                             "-o FILE")
        say(f"{output} is there already: it is replaced when the new recording is complete")


@dataclass(slots=True)
class Result:
    """How a recording ended.

    ``exit_code`` is the command's, None without one; ``signal`` the signal that ended the recorder.
    """

    output: Path
    exit_code: int | None = None
    signal: int | None = None
    failed: str = ""                  # why it ended early or no file was written: a sentence; "" if all is well
    events: int = 0
    lost: int | None = 0              # None: some, and nobody knows how many
    seconds: float | None = None
    size: int = 0                     # bytes of the file
    spool: Path | None = None         # the spool, if it was kept instead of a file
    running: int | None = None        # pid of a command that runs on
    command: str = ""


def write(folder: Path, info: SpoolInfo, output: Path, result: Result, signals: Signals,
          owner: tuple[int, int] | None = None) -> None:
    """Write the trace.dat of a spool whose recording has ended, and remove the spool.

    What goes wrong is told in `result`, and the spool is kept then.

    :param owner: uid and gid that get the file
    """
    from taskscope.ftrace.datwrite import write_dat
    from taskscope.ftrace.record_pages import go_through

    interrupted = len(signals.seen)

    def progress(_done: int, _all: int) -> None:
        if signal.SIGINT in signals.seen[interrupted:]:
            raise WritingStoppedError

    result.output = output
    try:
        counted = go_through(folder, info)
        result.events, result.lost = counted.events, counted.lost
        write_dat(output, _dat(folder, info, counted), version=info.file_version, compression=info.compression,
                  progress=progress)
        if owner is not None:
            os.chown(output, *owner, follow_symlinks=False)
        result.size = output.stat().st_size
    except WritingStoppedError:
        result.signal = signal.SIGINT
        result.failed = f"{output} was not written"
    except OSError as e:
        what = "the disk is full" if e.errno in _FULL else (e.strerror or str(e))
        result.failed = f"{output} was not written: {what}"
    except TaskscopeError as e:
        result.failed = str(e)
    else:
        remove_spool(folder)
        return
    result.spool = folder


def _dat(folder: Path, info: SpoolInfo, counted: Counted) -> DatFile:
    from taskscope.ftrace.datwrite import DatBuffer, DatFile
    from taskscope.ftrace.formats import split_formats
    from taskscope.ftrace.record_pages import big_endian

    def text(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            return b""

    stats = {cpu: text(f"cpu{cpu}.stats") for cpu in counted.cpus}
    buffers = [DatBuffer("", info.clock, info.page_size, counted.cpus, stats)]
    return DatFile(
        header_page=text("header_page"), header_event=text("header_event"), formats=split_formats(text("formats")),
        kallsyms=text("kallsyms"), printk_formats=text("printk_formats"), cmdlines=text("saved_cmdlines"),
        buffers=buffers, cpu_count=max([info.cpu_count, *(cpu + 1 for cpu in counted.cpus)]),
        long_size=info.long_size, big_endian=big_endian(), uname=info.uname or None,
        tgids=text("saved_tgids"), trace_id=info.trace_id or None)
