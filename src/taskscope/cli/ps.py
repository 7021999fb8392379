"""``taskscope ps``: the process table at one moment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from taskscope.cli.choose import lives_of
from taskscope.cli.options import Common, is_terminal, missing_source, verb
from taskscope.cli.output import columns, paint_for, progress, put_bytes, put_lines
from taskscope.cli.source import end, memory_of
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.snapshot.snapshot import Snapshot
    from taskscope.views.ps import Style


@verb(
    "ps",
    takes=("pids", "at", "core", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope ps -i trace.dat -ely", "the process table at the end of the recording"),
        ("taskscope ps -i trace.dat --at +2.5 -ejH", "2.5 s into it, with process groups, as a hierarchy"),
        ("taskscope ps --core vmcore -L --stacks --json", "each task of a crash dump with its kernel stack, as data"),
    ),
)
@click.option("-e", "_every", is_flag=True, help="All processes: always so here.")
@click.option("-l", "long", is_flag=True, help="-ely: the long format.")
@click.option("-y", "rss", is_flag=True, help="-ely: RSS instead of ADDR, no F.")
@click.option("-j", "jobs", is_flag=True, help="-ejH: the jobs format.")
@click.option("-H", "hierarchy", is_flag=True, help="-ejH: as a hierarchy.")
@click.option("-L", "threads", is_flag=True, help="With --json: threads too.")
@click.option("--stacks", is_flag=True, help="With --json, of a crash dump: kernel stacks too.")
@click.argument("bsd", required=False, metavar="[axjf]")
def command(
    common: Common, _every: bool, long: bool, rss: bool, jobs: bool, hierarchy: bool, threads: bool, stacks: bool,
    bsd: str | None,
) -> None:
    """Show the processes of a recording at a time, or of a crash dump, as ps(1) shows them.

    Formats: -ely (default), -ejH, axjf.  What the source cannot know is -; with --json it is null and stands
    under "unavailable" with the reason.  TIME and C are known of tasks that were born in the recording.
    """
    style = _style(long, rss, jobs, hierarchy, bsd)
    if (threads or stacks) and not common.json:
        raise UsageError("ps: -L and --stacks are for --json; 'taskscope tree' shows threads, 'taskscope stack' stacks")
    memory = memory_of(common)
    if memory is not None:
        found = _chosen(memory.snapshot(stacks=stacks), common)
        if common.json:
            from taskscope.views.descriptors import descriptors_json

            put_bytes(descriptors_json(found, threads=threads, stacks=stacks), common)
        else:
            from taskscope.views.ps import ps_table

            limit = columns() if is_terminal() else None
            put_lines(ps_table(found, style, paint=paint_for(common), limit=limit), common)
        end(common, memory.wounds)
        return
    if stacks:
        raise UsageError("ps: --stacks is for a crash dump (--core)")
    if common.input is None:
        raise missing_source("ps")
    from taskscope.views.ps import ps_json, ps_table

    trace = common.open()
    at = common.moment(trace)
    lives = lives_of(trace, common)
    with progress("finding the moment", common):
        snapshot = lives.at(trace.end if at is None else at)
    snapshot = _chosen(snapshot, common)
    if common.json:
        put_bytes(ps_json(snapshot), common)
    else:
        limit = columns() if is_terminal() else None
        put_lines(ps_table(snapshot, style, paint=paint_for(common), limit=limit), common)


def _chosen(snapshot: Snapshot, common: Common) -> Snapshot:
    """Keep the tasks that ``-p`` names."""
    if not common.pids:
        return snapshot
    kept = tuple(t for t in snapshot.tasks if t.pid in common.pids)
    if not kept:
        raise UsageError(f"no task with pid {', '.join(map(str, common.pids))} exists in {snapshot.source}")
    return replace(snapshot, tasks=kept)


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
