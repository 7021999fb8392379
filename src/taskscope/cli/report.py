"""``taskscope report``: the events of a recording."""

from __future__ import annotations

import click

from taskscope.cli.options import Common, verb
from taskscope.cli.output import progress, put_bytes


@verb(
    "report",
    takes=("pids", "cpus", "window", "json"),
    examples=(
        ("taskscope report -i trace.dat", "all events, as tracefs and trace-cmd print them"),
        ("taskscope report -i trace.dat -F 'sched_switch:prev_comm~\"ba*\"' -C 0", "switches away from ba… on cpu 0"),
        (
            "taskscope report -i trace.dat -p 911 --from +1.5 --to +2 --json",
            "what task 911 did or suffered then, as data",
        ),
    ),
)
@click.option(
    "-F",
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="Only these events: EVENT, SYSTEM, SYSTEM:EVENT (wildcards * ?), or EVENT:EXPRESSION with the kernel's "
    "filter grammar (== != < <= > >= & ~, && || !, parentheses). Several are joined by or.",
)
@click.option(
    "--comm",
    type=click.Choice(["last", "then"]),
    default="last",
    show_default=True,
    help="The name in front: the last one known of the pid, as the kernel prints it, or the one that it bore then.",
)
@click.option("--no-stacks", is_flag=True, help="Leave out call stacks.")
def command(common: Common, filters: tuple[str, ...], comm: str, no_stacks: bool) -> None:
    """Print the events of a recording, in order of time.

    With -p, the events that these tasks wrote and those that name them.  Call stacks stand behind their
    event.
    """
    from taskscope.views.filters import parse_filter, select
    from taskscope.views.report import report_json, report_text, with_stacks, without_stacks

    parsed = [parse_filter(f) for f in filters]
    trace = common.open()
    after, before = common.window(trace)
    with progress("selecting events", common):
        rows = select(trace, parsed, pids=common.pids, cpus=common.cpus, after=after, before=before)
        if no_stacks:
            rows = without_stacks(trace, rows)
        elif filters or common.pids:
            rows = with_stacks(trace, rows)
    if common.json:
        put_bytes(report_json(trace, rows, stacks=not no_stacks), common)
    else:
        put_bytes(report_text(trace, rows, then=comm == "then"), common)
