"""``taskscope life TASK``: one task's story."""

from __future__ import annotations

import click

from taskscope.cli.choose import lives_named, open_lives
from taskscope.cli.options import Common, verb
from taskscope.cli.output import columns, progress, put_bytes, put_lines, want_color


@verb(
    "life",
    takes=("json",),
    file=False,
    examples=(
        ("taskscope life -i trace.dat bash", "by name"),
        ("taskscope life -i trace.dat 911.1", "by pid; .1 is the second task that bore it"),
        ("taskscope life -i trace.dat -v 911", "with the records and whole call stacks that each line rests on"),
    ),
)
@click.argument("task", metavar="TASK")
def command(common: Common, task: str) -> None:
    """Tell a task's story: created, ran, slept, was signalled, died, was reaped, freed.

    TASK is a pid, a name, PID:NAME or PID.GENERATION; up to four tasks of one name are told one after the other.
    Every line stands at the time and cpu of a record and names that record's event in brackets; what was concluded
    rather than recorded is marked (inferred: …).
    """
    lives = open_lives(common)
    found = lives_named(lives, task)
    if common.json:
        from taskscope.views.json import lives_jsonl

        put_bytes(lives_jsonl(found), common)
        return
    from taskscope.views.story import told

    with progress("telling the story", common):
        width, color = min(max(columns(), 60), 120), want_color(common.color)
        stories = [told(life, lives, width=width, color=color, verbose=common.verbose > 0) for life in found]
    put_lines("\n\n\n".join(stories).split("\n"), common)
