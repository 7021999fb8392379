"""``taskscope diff``: what changed between two moments, whatever they are of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, progress, put_bytes, put_lines
from taskscope.cli.source import WOUNDED
from taskscope.errors import TraceError, UsageError
from taskscope.source import Source

if TYPE_CHECKING:
    from taskscope.snapshot.snapshot import Snapshot

_DUMPS: Final = (b"\x7fELF", b"KDUMP   ", b"DISKDUMP", b"makedumpfile")


@verb(
    "diff",
    takes=("json",),
    file=False,
    default=None,
    examples=(
        ("taskscope diff trace.dat@+0.1 trace.dat", "between two moments of a recording"),
        ("taskscope diff vmcore vmcore", "between two dumps"),
        ("taskscope diff proc live", "what /proc and the kernel's memory say differently"),
    ),
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def command(common: Common, first: str, second: str) -> None:
    """Show what changed from A to B: tasks that are new or gone, states, parents, flags, CPUs, names, time used.

    Each is proc, live, guest:SOCKET, a crash dump, a recording at a time (FILE@T; its end without @T), or what
    'taskscope ps -L --json' printed.  The exit code is 1 if something changed.
    """
    from taskscope.cli.output import say
    from taskscope.views.diff import diff, diff_json, diff_lines

    one, two = _open(common, first), _open(common, second)
    changes = diff(one, two)
    if common.json:
        put_bytes(diff_json(changes), common)
    else:
        put_lines(diff_lines(changes, paint=paint_for(common)), common)
    wounds = [f"{found.source}: {wound}" for found in (one, two) for wound in found.wounds]
    for wound in wounds:
        say(wound)
    if wounds or changes:
        click.get_current_context().exit(WOUNDED if wounds else 1)


def _open(common: Common, named: str) -> Snapshot:
    """Read one moment.

    :raises UsageError: there is nothing of that name
    """
    if named in ("proc", "live"):
        source = Source(live=named == "live")
    elif named.startswith("guest:"):
        source = Source(guest=named.removeprefix("guest:"))
    else:
        head = _head(named)
        if head.startswith(b"{"):
            from taskscope.snapshot.lines import read_lines

            return read_lines(named)
        if not head.startswith(_DUMPS):
            return _recorded(common, named)
        source = Source(core=named)
    with progress(f"reading {source.name}", common):
        return source.snapshot()


def _head(named: str) -> bytes:
    try:
        with Path(named).open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _recorded(common: Common, named: str) -> Snapshot:
    from taskscope.cli.choose import lives_of
    from taskscope.cli.input import open_recording
    from taskscope.views.times import Times

    path, at, text = named.rpartition("@")
    if not at or Path(named).exists():
        path, text = named, ""
    if not Path(path).exists():
        raise UsageError(f"diff: there is no {named!r}: name proc, live, guest:SOCKET, a dump, a recording, or JSON "
                         "Lines")
    try:
        trace = open_recording(path, common)
    except TraceError as error:
        raise TraceError(f"{error} (it is no crash dump and no JSON Lines of 'taskscope ps' either)") from None
    moment = Times(trace.clock, trace.start).parse(text, "@", "last") if text else trace.end
    return lives_of(trace, common).at(min(max(moment, trace.start), trace.end))
