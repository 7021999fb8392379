"""``taskscope export``: recordings for other tools."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import IO

import click

from taskscope.cli.choose import lives_of
from taskscope.cli.options import Common, verb
from taskscope.cli.output import buffered_stdout, progress, say
from taskscope.errors import UsageError

#: bytes that are not for a terminal
_BINARY = ("parquet", "perfetto")
_FORMATS = ("parquet", "jsonl", "csv", "perfetto", "systrace", "trace.dat", "dot", "story")


@verb(
    "export",
    takes=("pids", "from"),
    examples=(
        ("taskscope export -i trace.dat --to perfetto -o trace.pftrace", "lives for the Perfetto UI"),
        (
            "taskscope export -i trace.dat --to trace.dat --to +2 -p 911 -o part.dat",
            "what task 911 did in the first 2 s, for trace-cmd and taskscope",
        ),
        ("taskscope export -i trace.dat --to parquet -o out/", "lives.parquet and spans.parquet in the folder out"),
    ),
)
@click.option(
    "--to",
    "to",
    multiple=True,
    metavar="FORMAT|T",
    help="Which format, by its name; and, given once more with a time, up to that time.",
)
@click.option("-o", "--output", required=True, metavar="FILE|DIR", help="A file, a folder, or - for stdout.")
@click.option(
    "--table", metavar="NAME", help="lives, spans, or an event.  [default: lives; into a folder lives and spans]"
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(common: Common, to: tuple[str, ...], output: str, table: str | None, force: bool) -> None:
    """Write a recording in the format of another tool.

    \b
    perfetto   lives for the Perfetto UI: tasks, cpus, states, flows
    systrace   events as text for Perfetto and Catapult (chrome://tracing)
    trace.dat  a part of a recording of pages, for trace-cmd and taskscope
    dot        who created whom, for Graphviz
    story      the lives of the tasks -p, in Markdown, for a bug report
    parquet, csv, jsonl
               lives, spans, or the table of an event; times are ns

    -p, --from and --to T are for all but tables; with -p a trace.dat has what the tasks wrote and what names them.
    A file comes into being whole or not at all; one that is there is not replaced without --force.
    """  # noqa: D301  click takes the control character for a paragraph that is not wrapped
    form, before = format_and_time(to)
    common = replace(common, before=before)
    stdout = output == "-"
    if stdout and form in _BINARY and sys.stdout.isatty():
        raise UsageError(f"{form} is not for a terminal; redirect stdout or give -o FILE")
    path = Path(output)
    if output.endswith("/") and not stdout:
        path.mkdir(parents=True, exist_ok=True)
    if not stdout and not path.is_dir() and not path.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {path.parent}")
    trace = common.open()
    after, until = common.window(trace)
    lives_of(trace, common)

    def write(target: Path | IO[bytes]) -> list[tuple[str, Path]]:
        return trace.export(form, target, table=table, pids=common.pids, after=after, before=until,
                            verbose=common.verbose > 0, force=force)

    with progress("writing", common):
        if stdout:
            with buffered_stdout() as out:
                done = write(out)
        else:
            done = write(path)
    if not common.quiet:
        for name, file in done:
            say(f"wrote {name} to {file}")


def format_and_time(to: tuple[str, ...]) -> tuple[str, str | None]:
    """Tell the two that share ``--to`` apart: a format is known by its name, all else is a time.

    :raises UsageError: there is no format, or two of one kind
    """
    formats = [x for x in to if x in _FORMATS]
    times = [x for x in to if x not in _FORMATS]
    for text in times:
        if text.strip()[:1] not in "+.0123456789":
            raise UsageError(f"--to {text}: neither a format ({', '.join(_FORMATS)}) nor a time")
    if len(formats) > 1 or len(times) > 1:
        what = "two formats" if len(formats) > 1 else "two times"
        raise UsageError(f"--to names {what}: {', '.join(formats if len(formats) > 1 else times)}")
    if not formats:
        raise UsageError(f"which format? --to with one of {', '.join(_FORMATS)}")
    return formats[0], times[0] if times else None
