"""Opening the recording that a command was asked to read, and saying what it lacks."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from taskscope.cli.memory import keep_heap
from taskscope.cli.options import Common
from taskscope.cli.output import progress, say
from taskscope.errors import TraceError
from taskscope.recording import Recording


def open_recording(path: str, common: Common) -> Recording:
    """Open a recording; ``-`` reads stdin.  Notes about it go to stderr unless ``-q`` was given.

    :raises TraceError: as `taskscope.open`
    """
    keep_heap(path)
    with progress(f"reading {path}", common):
        trace = _open_stdin(common) if path == "-" else Recording.open(path, buffer=common.buffer)
    if not common.quiet:
        for note in trace.notes:
            say(f"note: {note}")
        if trace.lost:
            count = trace.lost_count
            many = "an unknown number of" if count is None else f"{count:,}"
            places = f"{len(trace.lost):,} {'places' if len(trace.lost) != 1 else 'place'}"
            say(f"note: the kernel lost {many} events in {places}; what tasks did there is unknown")
    return trace


def _open_stdin(common: Common) -> Recording:
    """Copy stdin to a file, because a recording is read from its ends and not from front to back."""
    if sys.stdin.isatty():
        raise TraceError("stdin is a terminal; pipe a recording into it or name a file with -i", "-")
    handle, name = tempfile.mkstemp(prefix="taskscope-")

    def remove() -> None:
        with contextlib.suppress(OSError):
            Path(name).unlink()

    atexit.register(remove)
    with os.fdopen(handle, "wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
    try:
        trace = Recording.open(name, buffer=common.buffer)
    except TraceError as error:
        raise type(error)(str(error).replace(name, "<stdin>")) from None
    trace.source.path = "<stdin>"
    return trace
