"""``taskscope ps``: the process table at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Common, is_terminal, verb
from taskscope.cli.output import columns, paint_for, put_bytes, put_lines
from taskscope.cli.source import end, snapshot_of
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.views.ps import Form


@verb(
    "ps",
    takes=("pids", "at", "kernel", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope ps -ely", "this machine's processes, as ps -ely shows them"),
        ("taskscope ps -eo pid,tracer,kind,run_delay,wchan,comm --sort -run_delay", "columns that ps has not"),
        ("taskscope ps --core vmcore -L --stacks --json", "each task of a crash dump with its kernel stack, as data"),
    ),
)
@click.option("-e", "-A", "e", is_flag=True, help="All processes: always so here.")
@click.option("-f", "f", is_flag=True, help="Full: UID PID PPID C STIME TTY TIME CMD, with arguments.")
@click.option("-l", "l", is_flag=True, help="Long: F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD.")
@click.option("-y", "y", is_flag=True, help="With -l: RSS instead of ADDR, no F.")
@click.option("-j", "j", is_flag=True, help="Jobs: process groups and sessions.")
@click.option("-F", "F", is_flag=True, help="Extra full: -f with SZ RSS PSR.")
@click.option("-H", "H", is_flag=True, help="Children indented below their parents.")
@click.option("-L", "L", is_flag=True, help="Threads too, with LWP and NLWP.")
@click.option("-o", "--format", "chosen", multiple=True, metavar="COLUMN[=HEADER],…", help="These columns.")
@click.option("--sort", metavar="[-]COLUMN,…", help="In this order; - from the highest on.")
@click.option("--no-headers", "--no-heading", "bare", is_flag=True, help="No line of headers.")
@click.option("--columns", "catalog", is_flag=True, help="List the columns of -o and --sort, and end.")
@click.option("--stacks", is_flag=True, help="With --json: kernel stacks too.")
@click.argument("bsd", required=False, metavar="[axjf]")
def command(
    common: Common, chosen: tuple[str, ...], sort: str | None, bare: bool, catalog: bool, stacks: bool,
    bsd: str | None, **letters: bool,
) -> None:
    """Show processes as ps(1) does: of this machine, a recording at a time, a crash dump, a QEMU guest.

    Formats: -ely (default), -ejH, -eLf, -ef …, axjf, aux, or the columns of -o.  What the source cannot know is -;
    with --json it is null and stands under "unavailable" with the reason.  Of a recording, TIME and C are known of
    tasks that were born in it; one of the executable kernel keeps the descriptors that it ended with.
    """
    from taskscope.views.ps import ps_table
    from taskscope.views.ps_columns import COLUMNS

    if catalog:
        put_lines((f"{name:<16} {column.header}" for name, column in sorted(COLUMNS.items())), common)
        return
    form = _form("".join(letter for letter, given in letters.items() if given), chosen, sort, bsd)
    if common.json:
        from taskscope.views.descriptors import ps_json

        found = snapshot_of(common, stacks=stacks, threads=form.threads)
        put_bytes(ps_json(found, threads=form.threads, stacks=stacks), common)
        end(common, found.wounds)
        return
    if stacks:
        raise UsageError("ps: --stacks is for --json; 'taskscope stack' shows them")
    names = [column.name for column in form.columns] + [name for name, _ in form.sort]
    wanted = {field for name in names for field in COLUMNS[name].fields}
    found = snapshot_of(common, fields=wanted | ({"args"} if form.full else set()), threads=form.threads, names=True)
    limit = columns() if is_terminal() else None
    put_lines(ps_table(found, form, paint=paint_for(common), header=not bare, limit=limit), common)
    end(common, found.wounds)


def _form(letters: str, chosen: tuple[str, ...], sort: str | None, bsd: str | None) -> Form:
    from dataclasses import replace

    from taskscope.views import ps

    if bsd is not None and (chosen or letters):
        raise UsageError(f"ps: {bsd!r} and dashed options are two formats")
    if chosen:
        if set(letters) - set("eHL"):
            raise UsageError("ps: -o is a format of its own: only -e, -L and -H go with it")
        found = ps.Form(tuple(column for text in chosen for column in ps.chosen_columns(text)),
                        "h" * ("H" in letters), "L" in letters)
    elif bsd is not None:
        found = ps.bsd(bsd)
    else:
        found = ps.sysv(letters) if set(letters) - set("e") else ps.ELY
    return replace(found, sort=ps.sort_keys(sort)) if sort else found
