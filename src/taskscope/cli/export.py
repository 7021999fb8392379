"""``taskscope export``: tables for other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import click

from taskscope.cli.choose import open_lives
from taskscope.cli.options import Common, verb
from taskscope.cli.output import buffered_stdout, progress, say
from taskscope.errors import UsageError


@verb(
    "export",
    examples=(
        ("taskscope export -i trace.dat --to parquet -o out/", "lives.parquet and spans.parquet in the folder out"),
        ("taskscope export -i trace.dat --to csv --table sched_switch -o s.csv", "the table of one event"),
        ("taskscope export -i trace.dat --to jsonl -o -", "lives as JSON Lines on stdout"),
    ),
)
@click.option("--to", "form", type=click.Choice(["parquet", "jsonl", "csv"]), required=True, help="Which format.")
@click.option("-o", "--output", required=True, metavar="FILE|DIR", help="A file, a folder, or - for stdout.")
@click.option(
    "--table", metavar="NAME", help="lives, spans, or an event.  [default: lives; into a folder lives and spans]"
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(common: Common, form: str, output: str, table: str | None, force: bool) -> None:
    """Write lives, their spans, or the table of an event as Parquet, JSON Lines or CSV.

    Times are ns of the recording's clock.  A file comes into being whole or not at all; one that is there is
    not replaced without --force.
    """
    from taskscope.views.export import Format, export, targets, write_table

    chosen = cast("Format", form)
    if output == "-":
        if chosen == "parquet" and sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal; redirect stdout or give -o FILE")
        lives = open_lives(common)
        with progress("writing", common), buffered_stdout() as out:
            write_table(lives, table or "lives", chosen, out)
        return
    path = Path(output)
    if output.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    if not path.is_dir() and not path.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {path.parent}")
    where = targets(path, table, chosen)
    lives = open_lives(common)
    with progress("writing", common):
        done = list(export(lives, where, chosen, force=force))
    if not common.quiet:
        for name, file in done:
            say(f"wrote {name} to {file}")
