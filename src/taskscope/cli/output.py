"""Where output goes: the answer to stdout (through a pager on a terminal), everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from taskscope.cli.options import Common
from taskscope.views.text import Paint, cut, escape

if TYPE_CHECKING:
    import subprocess


def say(text: str) -> None:
    """Print one line for people on stderr: ``taskscope: …``; names in it are escaped."""
    clear_progress()
    shown = "\n".join(escape(line) for line in text.split("\n"))
    print(f"taskscope: {shown}", file=sys.stderr)  # noqa: T201


def want_color(choice: str) -> bool:
    """Decide about colour: an explicit ``--color`` wins, then NO_COLOR, FORCE_COLOR, then whether stdout is a tty."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def paint_for(common: Common) -> Paint:
    """Return the painter for stdout."""
    return Paint(want_color(common.color))


def columns() -> int:
    """Return how wide the output may be: the terminal's width, 80 elsewhere."""
    if not sys.stdout.isatty():
        return 80
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


def put_lines(lines: Iterable[str], common: Common) -> None:
    """Print text lines (without newlines)."""

    def blocks() -> Iterator[bytes]:
        encoding = sys.stdout.encoding or "utf-8"
        kept: list[str] = []
        for line in lines:
            kept.append(line)
            if len(kept) >= 1000:
                yield ("\n".join(kept) + "\n").encode(encoding, "backslashreplace")
                kept.clear()
        if kept:
            yield ("\n".join(kept) + "\n").encode(encoding, "backslashreplace")

    put_bytes(blocks(), common)


def write_all(out: BinaryIO, block: bytes) -> None:
    """Write a whole block; an unbuffered stdout (``python -u``) may take less than it is given."""
    rest = memoryview(block)
    while rest:
        rest = rest[out.write(rest) or 0 :]


@contextmanager
def buffered_stdout() -> Iterator[BinaryIO]:
    """Give stdout for bytes, such that every write takes all it is given."""
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    if not isinstance(out, io.RawIOBase):
        yield out
        out.flush()
        return
    over = io.BufferedWriter(out)
    try:
        yield over
        over.flush()
    finally:
        with contextlib.suppress(OSError):
            over.detach()


def put_bytes(blocks: Iterable[bytes], common: Common) -> None:
    """Print blocks of bytes, through the pager if stdout is a terminal and paging is not refused."""
    sys.stdout.flush()
    pager = _pager() if common.pager and sys.stdout.isatty() else None
    if pager is None:
        out: BinaryIO = sys.stdout.buffer
        for block in blocks:
            clear_progress()
            write_all(out, block)
        out.flush()
        return
    _page(blocks, pager)


def _pager() -> list[str] | None:
    chosen = os.environ.get("TASKSCOPE_PAGER", os.environ.get("PAGER"))
    if chosen is not None:
        return ["/bin/sh", "-c", chosen] if chosen.strip() not in ("", "cat") else None
    import shutil

    found = shutil.which("less")
    return [found] if found else None


def _page(blocks: Iterable[bytes], command: list[str]) -> None:
    import subprocess

    # As git does: quit at once if it fits one screen, keep colours, leave the text on the screen.
    env = {"LESS": "FRX", "LESSCHARSET": "utf-8"} | dict(os.environ)
    process: subprocess.Popen[bytes] | None = None
    try:
        for block in blocks:
            if process is None:
                clear_progress()
                process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env)
            assert process.stdin is not None
            process.stdin.write(block)
    except BrokenPipeError:
        pass  # the reader left the pager: that is how one leaves a pager
    finally:
        if process is not None:
            _leave(process)


def _leave(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    while True:
        try:
            process.wait()
            return
        except KeyboardInterrupt:
            continue  # Ctrl-C belongs to the pager while it runs


class _Progress:
    """The line on stderr that says that long work goes on."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.begun = time.monotonic()
        self.shown = False
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        wait = 1.0  # nothing is said about work that takes less than a second
        while not self.stop.wait(wait):
            wait = 0.5
            with self.lock:
                if self.stop.is_set():
                    return
                took = time.monotonic() - self.begun
                sys.stderr.write(f"\r\x1b[K{cut(f'taskscope: {self.what} … {took:.0f} s', 79)}")
                sys.stderr.flush()
                self.shown = True

    def clear(self) -> None:
        self.stop.set()
        with self.lock:
            if self.shown:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self.shown = False


_running: list[_Progress] = []


def clear_progress() -> None:
    """Take the progress line away: something is about to be printed."""
    while _running:
        _running.pop().clear()


@contextmanager
def progress(what: str, common: Common) -> Iterator[None]:
    """Say on stderr, after a second and only on a terminal, that `what` goes on."""
    if common.quiet or not sys.stderr.isatty():
        yield
        return
    clear_progress()
    _running.append(_Progress(escape(what)))
    try:
        yield
    finally:
        clear_progress()
