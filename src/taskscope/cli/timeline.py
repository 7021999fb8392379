"""``taskscope timeline``: the lives of a recording as a page in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskscope.cli.choose import lives_of
from taskscope.cli.input import open_recording
from taskscope.cli.options import Common, verb
from taskscope.cli.output import progress, say
from taskscope.errors import TaskscopeError, UsageError

if TYPE_CHECKING:
    from taskscope.views.timeline.pack import Pages


@verb(
    "timeline",
    examples=(
        ("taskscope timeline -i trace.dat -o lives.html", "a page that opens from disk, without a network"),
        ("taskscope timeline -i trace.dat --beside other.dat -o both.html", "two recordings, one above the other"),
        ("taskscope timeline -i trace.dat --serve", "on http://127.0.0.1, until Ctrl-C"),
    ),
)
@click.option("-o", "--output", metavar="FILE", default="lives.html", show_default=True, help="The page; - is stdout.")
@click.option("--beside", metavar="FILE", help="Another recording, shown below with the same scale.")
@click.option("--serve", is_flag=True, help="Serve it on the loopback device instead: of any size, and whole.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For --serve; any free one by default.")
def command(common: Common, output: str, beside: str | None, serve: bool, port: int) -> None:
    """Write the lives of a recording as a page for a browser: who ran, slept, was woken, signalled, killed and reaped.

    One file that loads nothing from anywhere.  A lane a CPU and a lane a task, in the creation tree; zoom and move by
    wheel, drag or wasd; the story of the chosen task beside it, each line a link to its moment; ? shows the keys.
    """
    from taskscope.views.text import escape
    from taskscope.views.timeline.pack import Pages
    from taskscope.views.timeline.page import page

    traces = [common.open()]
    if beside is not None:
        traces.append(open_recording(beside, common))
    packed = []
    for trace in traces:
        lives = lives_of(trace, common)
        with progress("packing the timeline", common):
            packed.append(Pages(lives, escape(Path(trace.path).name or trace.path)))
    if serve:
        _serve(packed, port)
        return
    with progress("telling stories", common):
        text = page([one.whole() for one in packed]).encode("utf-8")
    if output == "-":
        sys.stdout.buffer.write(text)
        return
    try:
        Path(output).write_bytes(text)
    except OSError as error:
        raise TaskscopeError(f"{output}: {error.strerror}; name another file with -o") from None
    if not common.quiet:
        say(f"wrote {output} ({len(text):,} bytes); open it in a browser: file://{os.path.abspath(output)}")  # noqa: PTH100


def _serve(recordings: list[Pages], port: int) -> None:
    """Serve recordings on the loopback device until interrupted.

    :raises UsageError: the port is taken
    """
    from taskscope.views.timeline.server import TimelineServer

    try:
        server = TimelineServer(recordings, port)
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}; name another with --port") from None
    say(f"http://127.0.0.1:{server.port}/  (Ctrl-C ends it)")
    with server:
        server.serve_forever()
