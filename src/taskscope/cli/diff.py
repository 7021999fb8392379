"""``taskscope diff``: what changed between two moments, whatever they are of."""

from __future__ import annotations

import click

from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, progress, put_bytes, put_lines
from taskscope.cli.source import WOUNDED


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
    from taskscope.cli.input import open_recording
    from taskscope.cli.output import say
    from taskscope.moments import moment
    from taskscope.views.diff import diff, diff_json, diff_lines

    found = []
    for named in (first, second):
        with progress(f"reading {named}", common):
            found.append(moment(named, lambda path: open_recording(path, common)))
    one, two = found
    changes = diff(one, two)
    if common.json:
        put_bytes(diff_json(changes), common)
    else:
        put_lines(diff_lines(changes, paint=paint_for(common)), common)
    wounds = [f"{side.source}: {wound}" for side in (one, two) for wound in side.wounds]
    for wound in wounds:
        say(wound)
    if wounds or changes:
        click.get_current_context().exit(WOUNDED if wounds else 1)
