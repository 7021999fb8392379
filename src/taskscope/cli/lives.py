"""``taskscope lives``: every task of a recording."""

from __future__ import annotations

import gc

import click

from taskscope.cli.choose import choose, open_lives
from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, put_bytes, put_lines


@verb(
    "lives",
    takes=("pids", "window", "json"),
    examples=(
        ("taskscope lives -i trace.dat", "one line a task: created, ran, how it ended"),
        ("taskscope lives -i trace.dat --kind process --from +1 --to +2", "processes that lived in that second"),
        ("taskscope lives -i trace.dat --json | jq 'select(.exit.signal == 9)'", "the whole of what is known, as data"),
    ),
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["process", "thread", "kthread", "idle"]),
    help="Only tasks of this kind.",
)
def command(common: Common, kinds: tuple[str, ...]) -> None:
    """List every task in a recording, from its creation to its end.

    GEN counts the tasks that bore a pid before; K is p process, t thread, k kernel thread, i idle.  LIVED has
    > where birth or end lie outside the recording.  -v adds columns.
    """
    # Many small objects that live until the end: the collector would only walk them again and again.
    gc.disable()
    try:
        _list(common, kinds)
    finally:
        gc.enable()


def _list(common: Common, kinds: tuple[str, ...]) -> None:
    lives = open_lives(common)
    chosen = choose(lives, common, kinds)
    if common.json:
        from taskscope.views.json import lives_jsonl

        put_bytes(lives_jsonl(chosen), common)
    else:
        from taskscope.views.lives_table import lives_table

        put_lines(lives_table(lives, chosen, paint=paint_for(common), wide=common.verbose > 0), common)
