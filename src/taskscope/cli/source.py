"""Where a command was asked to look at tasks: /proc unless something else is named; and what is said of damage."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Common
from taskscope.cli.output import progress, say
from taskscope.errors import NoSuchTaskError, UsageError
from taskscope.source import Source

if TYPE_CHECKING:
    from taskscope.snapshot.snapshot import Snapshot

#: what a command exits with that has shown all that it could reach of something damaged
WOUNDED = 3


def source_of(common: Common) -> Source | None:
    """Return what was named besides a recording, /proc if nothing was; None if a recording was.

    :raises UsageError: two sources were named
    """
    kernels = [option for given, option in ((common.core, "--core"), (common.guest, "--guest"), (common.live, "--live"))
               if given]
    recorded = ["-i"] if common.input is not None else ["--at"] if common.at is not None else []
    if len(kernels + recorded) > 1:
        raise UsageError(f"two sources were named: {' and '.join(kernels + recorded)}")
    for given, option in ((common.btf, "--btf"), (common.symbols, "--symbols")):
        if given is not None and kernels not in (["--core"], ["--guest"]):
            raise UsageError(f"{option} is for a crash dump or a guest: name it with --core or --guest")
    if common.vmlinux is not None and not kernels:
        raise UsageError("--vmlinux is for kernel memory: name it with --live, --core or --guest")
    if common.vmlinux is not None and common.btf is not None and common.symbols is not None:
        raise UsageError("types and symbols were named twice: by --vmlinux, and by --btf and --symbols")
    if common.pause and kernels != ["--guest"]:
        raise UsageError("--pause is for a guest: name it with --guest")
    if common.input is not None:
        return None
    if recorded:
        raise UsageError("--at is a moment of a recording: name it with -i FILE")
    return Source(core=common.core, guest=common.guest, live=common.live, btf=common.btf, symbols=common.symbols,
                  vmlinux=common.vmlinux, pause=common.pause)


def snapshot_of(
    common: Common, *, stacks: bool = False, fields: Collection[str] | None = None, threads: bool = True,
    names: bool = False,
) -> Snapshot:
    """Read the tasks of the source that was named; of those that ``-p`` names, if it is there.

    The parameters are those of `Source.snapshot`.

    :raises UsageError: two sources were named, or one that cannot give this
    :raises NoSuchTaskError: no task has one of the pids
    """
    source = source_of(common)
    if source is not None:
        with progress(f"reading {source.name}", common):
            found = source.snapshot(stacks=stacks, fields=fields, threads=threads, names=names, pids=common.pids,
                                    cpus=len(os.sched_getaffinity(0)))
    else:
        if stacks:
            raise UsageError("a recording has no stacks of all its tasks: name another source, or see 'taskscope "
                             "report'")
        kept = None if common.at is not None else _kept(common)
        if kept is not None:
            return _chosen(kept, common)
        from taskscope.cli.choose import lives_of

        trace = common.open()
        at = common.moment(trace)
        lives = lives_of(trace, common)
        with progress("finding the moment", common):
            found = lives.at(trace.end if at is None else at)
    return _chosen(found, common)


def _kept(common: Common) -> Snapshot | None:
    """Return the tasks whose descriptors a recording of the executable kernel keeps; None if it keeps none."""
    from taskscope.snapshot.saved import read_tasks

    if common.input is None or not os.path.isfile(common.input):  # noqa: PTH113
        return None
    saved = read_tasks(common.input)
    return None if saved is None else saved.snapshot()


def _chosen(found: Snapshot, common: Common) -> Snapshot:
    """Keep the tasks that ``-p`` names.

    :raises NoSuchTaskError: none has one of the pids
    """
    if not common.pids:
        return found
    kept = tuple(t for t in found.tasks if t.pid in common.pids or t.tgid in common.pids)
    if not kept:
        raise NoSuchTaskError(f"{found.source}: there is no task with pid {', '.join(map(str, common.pids))}")
    return replace(found, tasks=kept)


def end(common: Common, wounds: Sequence[str]) -> None:
    """Say what was damaged, a line each, and exit accordingly: after everything was shown."""
    source = source_of(common)
    for wound in wounds:
        say(f"{source.name if source else common.input}: {wound}")
    if wounds:
        click.get_current_context().exit(WOUNDED)
