"""``taskscope tree``: who created whom."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from taskscope.cli.choose import lives_of, one_life
from taskscope.cli.options import Common, missing_source, verb
from taskscope.cli.output import paint_for, progress, put_bytes, put_lines
from taskscope.cli.source import end, memory_of
from taskscope.errors import NoSuchTaskError, UsageError

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory


@verb(
    "tree",
    takes=("at", "core", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope tree -i trace.dat", "everyone in the recording, the dead too, under who created them"),
        ("taskscope tree -i trace.dat --at +2.5", "who was whose child 2.5 s into it"),
        ("taskscope tree --core vmcore", "of a crash dump"),
    ),
)
@click.argument("task", required=False, metavar="[TASK]")
def command(common: Common, task: str | None) -> None:
    """Show who created whom.

    Without --at all tasks of the recording, living and dead (X), under the parent that they were given at
    creation; with --at those that existed then, under the parent they had then.  {name} is a thread, [name] a
    kernel thread.
    """
    memory = memory_of(common)
    if memory is not None:
        _of_memory(memory, common, task)
        return
    if common.input is None:
        raise missing_source("tree")
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


def _of_memory(memory: KernelMemory, common: Common, task: str | None) -> None:
    """Show the tree of a crash dump."""
    from taskscope.views.descriptors import descriptors_json
    from taskscope.views.tree import link, pick, snapshot_nodes, tree_table, walk

    snapshot = memory.snapshot()
    nodes = snapshot_nodes(snapshot)
    roots = link(nodes)
    if task is not None:
        wanted = {row.pid for row in snapshot.tasks if task in (str(row.pid), row.comm) and row.kind != "idle"}
        roots = pick(nodes, {node.ref for node in nodes if node.ref.pid in wanted})
        if not roots:
            raise NoSuchTaskError(f"{common.core}: no task {task!r} is in it; 'taskscope ps --core' lists who is")
    if common.json:
        shown = {node.ref.pid for node, *_ in walk(roots)}
        put_bytes(descriptors_json(replace(snapshot, tasks=tuple(t for t in snapshot.tasks if t.pid in shown))), common)
    else:
        put_lines(tree_table(roots, paint=paint_for(common)), common)
    end(common, memory.wounds)
