"""``taskscope ps``: the process table at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskscope.cli.choose import lives_of
from taskscope.cli.options import Common, is_terminal, missing_source, verb
from taskscope.cli.output import columns, paint_for, progress, put_bytes, put_lines
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.views.ps import Style


@verb(
    "ps",
    takes=("pids", "at", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope ps -i trace.dat -ely", "the process table at the end of the recording"),
        ("taskscope ps -i trace.dat --at +2.5 -ejH", "2.5 s into it, with process groups, as a hierarchy"),
        ("taskscope ps -i trace.dat --at 163.25 axjf", "at 163.25 s of the recording's clock, as a forest"),
    ),
)
@click.option("-e", "_every", is_flag=True, help="All processes: always so here.")
@click.option("-l", "long", is_flag=True, help="-ely: the long format.")
@click.option("-y", "rss", is_flag=True, help="-ely: RSS instead of ADDR, no F.")
@click.option("-j", "jobs", is_flag=True, help="-ejH: the jobs format.")
@click.option("-H", "hierarchy", is_flag=True, help="-ejH: as a hierarchy.")
@click.argument("bsd", required=False, metavar="[axjf]")
def command(common: Common, _every: bool, long: bool, rss: bool, jobs: bool, hierarchy: bool, bsd: str | None) -> None:
    """Show the processes that existed at a time of a recording, as ps(1) shows them.

    Formats: -ely (default), -ejH, axjf.  What a recording cannot know is -; with --json it is null and stands
    under "unavailable" with the reason.  TIME and C are known of tasks that were born in the recording.
    """
    style = _style(long, rss, jobs, hierarchy, bsd)
    if common.input is None:
        raise missing_source("ps")
    from taskscope.snapshot.snapshot import Snapshot
    from taskscope.views.ps import ps_json, ps_table

    trace = common.open()
    at = common.moment(trace)
    lives = lives_of(trace, common)
    with progress("finding the moment", common):
        snapshot = lives.at(trace.end if at is None else at)
    if common.pids:
        kept = tuple(t for t in snapshot.tasks if t.pid in common.pids)
        if not kept:
            raise UsageError(f"no task with pid {', '.join(map(str, common.pids))} exists in {snapshot.source}")
        snapshot = Snapshot(kept, snapshot.at, snapshot.source, snapshot.unavailable)
    if common.json:
        put_bytes(ps_json(snapshot), common)
    else:
        limit = columns() if is_terminal() else None
        put_lines(ps_table(snapshot, style, paint=paint_for(common), limit=limit), common)


def _style(long: bool, rss: bool, jobs: bool, hierarchy: bool, bsd: str | None) -> Style:
    dashed = long or rss or jobs or hierarchy
    if bsd is not None:
        if set(bsd) != set("axjf") or dashed:
            raise UsageError(
                f"ps: {bsd!r} is none of the formats -ely, -ejH and axjf; the recording is named by -i FILE"
            )
        return "axjf"
    if jobs and not long and not rss:
        return "ejH"
    if (jobs or hierarchy) and dashed:
        raise UsageError("ps: the formats are -ely, -ejH and axjf")
    return "ely"
