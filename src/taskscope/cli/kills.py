"""``taskscope kills``: signals and who died of them."""

from __future__ import annotations

import click

from taskscope.cli.choose import choose, open_lives
from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, put_bytes, put_lines


@verb(
    "kills",
    takes=("pids", "window", "json"),
    examples=(
        ("taskscope kills -i trace.dat", "who signalled whom, and what came of it"),
        ("taskscope kills -i trace.dat --deaths", "only signals that killed"),
        ("taskscope kills -i trace.dat --all -p 911 --json", "every signal that task 911 got, as data"),
    ),
)
@click.option("--all", "every", is_flag=True, help="Also SIGCHLD of children that changed, and ignored signals.")
@click.option("--deaths", is_flag=True, help="Only signals that ended a task.")
def command(common: Common, every: bool, deaths: bool) -> None:
    """Print one line for each signal that was sent, and for each death by a signal.

    PID and COMM are the sender's (- for an interrupt), TPID and TCOMM the target's.  RESULT: killed, handler,
    default, ignored, already pending, not delivered.
    """
    from taskscope.views.kills import kills, kills_json, kills_table

    if every and deaths:
        raise click.UsageError("--all and --deaths exclude each other", click.get_current_context())
    lives = open_lives(common)
    after, before = common.window(lives.trace)
    found = [
        k
        for k in kills(choose(lives, common), every=every, deaths=deaths)
        if (after is None or k.at >= after) and (before is None or k.at <= before)
    ]
    if common.json:
        put_bytes(kills_json(found), common)
    else:
        put_lines(kills_table(lives, found, paint=paint_for(common)), common)
