"""``taskscope tree``: who created whom."""

from __future__ import annotations

from dataclasses import replace

import click

from taskscope.cli.choose import lives_of, one_life
from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, progress, put_bytes, put_lines
from taskscope.cli.source import end, snapshot_of, source_of
from taskscope.errors import NoSuchTaskError, UsageError


@verb(
    "tree",
    takes=("at", "kernel", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope tree", "this machine's tasks, threads under their process"),
        ("taskscope tree -i trace.dat", "everyone in the recording, the dead too, under who created them"),
        ("taskscope tree --core vmcore", "of a crash dump"),
    ),
)
@click.argument("task", required=False, metavar="[TASK]")
def command(common: Common, task: str | None) -> None:
    """Show who created whom: of this machine, a recording, a crash dump, or a QEMU guest.

    Of a recording without --at all tasks, living and dead (X), under the parent that they were given at creation;
    else those that exist, under the parent they have.  {name} is a thread, [name] a kernel thread.
    """
    if source_of(common) is None:
        _of_recording(common, task)
        return
    from taskscope.views.descriptors import ps_json
    from taskscope.views.tree import link, pick, snapshot_nodes, tree_table, walk

    snapshot = snapshot_of(common, fields=None if common.json else ())
    nodes = snapshot_nodes(snapshot)
    roots = link(nodes)
    if task is not None:
        wanted = {row.pid for row in snapshot.tasks if task in (str(row.pid), row.comm) and row.kind != "idle"}
        roots = pick(nodes, {node.ref for node in nodes if node.ref.pid in wanted})
        if not roots:
            raise NoSuchTaskError(f"{snapshot.source}: there is no task {task!r}; 'taskscope ps' lists who is there")
    if common.json:
        shown = {node.ref.pid for node, *_ in walk(roots)}
        put_bytes(ps_json(replace(snapshot, tasks=tuple(t for t in snapshot.tasks if t.pid in shown))), common)
    else:
        put_lines(tree_table(roots, paint=paint_for(common)), common)
    end(common, snapshot.wounds)


def _of_recording(common: Common, task: str | None) -> None:
    from taskscope.views.tree import life_nodes, link, pick, tree_json, tree_table

    trace = common.open()
    at = common.moment(trace)
    lives = lives_of(trace, common)
    with progress("growing the tree", common):
        snapshot = None if at is None else lives.at(at)
        nodes = life_nodes(lives, at, snapshot)
        roots = link(nodes)
        if task is not None:
            life = one_life(lives, task)
            roots = pick(nodes, {life.ref})
            if not roots:
                raise UsageError(f"{task} does not exist at --at {common.at}")
    if common.json:
        put_bytes(tree_json(roots, lives), common)
    else:
        put_lines(tree_table(roots, paint=paint_for(common)), common)
