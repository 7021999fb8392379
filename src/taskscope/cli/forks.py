"""``taskscope forks``: creations."""

from __future__ import annotations

from taskscope.cli.choose import choose, open_lives
from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, put_bytes, put_lines


@verb(
    "forks",
    takes=("pids", "window", "json"),
    examples=(
        ("taskscope forks -i trace.dat", "who created whom, how, with which flags"),
        ("taskscope forks -i trace.dat -p 911", "what task 911 created, and its own creation"),
        ("taskscope forks -i trace.dat --from +1 --to +2 --json", "the creations of one second, as data"),
    ),
)
def command(common: Common) -> None:
    """Print one line for each task that was created in the recording.

    PID and COMM are the creator's, with the name it bore then.  FLAGS are those of clone(2) with
    the exit signal; -v writes them out.
    """
    from dataclasses import replace

    from taskscope.views.forks import forks_json, forks_table

    lives = open_lives(common)
    after, before = common.window(lives.trace)
    choose(lives, common)  # a pid that is not there is said, not passed over
    pids = set(common.pids)
    chosen = [
        x
        for x in choose(lives, replace(common, pids=(), after=None, before=None))
        if x.born is not None
        and (after is None or x.born.at >= after)
        and (before is None or x.born.at <= before)
        and (not pids or x.pid in pids or (x.born.by is not None and x.born.by.pid in pids))
    ]
    if common.json:
        put_bytes(forks_json(chosen), common)
    else:
        put_lines(forks_table(lives, chosen, paint=paint_for(common), wide=common.verbose > 0), common)
