"""``taskscope sched``: where the time went, and the worst wakeup latencies."""

from __future__ import annotations

from collections.abc import Iterator

import click

from taskscope.cli.choose import choose, open_lives
from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, progress, put_bytes, put_lines


@verb(
    "sched",
    takes=("pids", "window", "json"),
    examples=(
        ("taskscope sched -i trace.dat", "where each task's time went, and the worst latencies"),
        ("taskscope sched -i trace.dat --sort max --worst 20", "who waits longest after a wakeup"),
        ("taskscope sched -i trace.dat -p 911 --json", "one task, as data"),
    ),
)
@click.option(
    "--sort",
    type=click.Choice(["run", "wait", "sleep", "block", "max", "pid"]),
    default="run",
    show_default=True,
    help="Order of the table.",
)
@click.option(
    "--worst",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="How many of the worst latencies to list.",
)
def command(common: Common, sort: str, worst: int) -> None:
    """Show where each task's time went, how long it waited for a cpu after wakeups, and the worst of these.

    RUN on a cpu, WAIT runnable, SLEEP interruptible or idle, BLOCK uninterruptible (D); P99 and MAX: from a wakeup
    (sched_wakeup) to running; VOL and INV: voluntary and involuntary switches; MIG: moves to another cpu.  --from and
    --to choose the tasks that lived then, and the wakeups counted; the times are those of whole lives.  -v adds how
    many wakeups there were and their average latency.
    """
    from taskscope.views.sched import SchedStats, order_by, sched_json, sched_table, worst_table

    lives = open_lives(common)
    # The time of an idle task is nobody's; it is shown only to who asks for pid 0.
    chosen = [x for x in choose(lives, common) if x.kind != "idle" or common.pids]
    after, before = common.window(lives.trace)
    with progress("sorting latencies", common):
        stats = SchedStats(lives, after, before)
        ordered = order_by(stats, chosen, sort)
    if common.json:
        put_bytes(sched_json(stats, ordered), common)
        return
    paint = paint_for(common)

    def lines() -> Iterator[str]:
        yield from sched_table(stats, ordered, paint=paint, wide=common.verbose > 0)
        found = stats.worst(chosen, worst)
        if found:
            yield ""
            yield from worst_table(stats, found, paint=paint)

    put_lines(lines(), common)
