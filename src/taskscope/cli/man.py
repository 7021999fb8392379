"""``taskscope man``: manual pages and shell completions, made of the same text as ``--help``, and schemas.

Pages are man(7); completions are those of click for bash, zsh and fish; schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from taskscope.cli.options import Verb, offers_program
from taskscope.errors import UsageError

EXAMPLES = (
    ("taskscope man ps | man -l -", "read the page of ps"),
    ("taskscope man --folder share/man/man1", "write all pages, for packagers"),
    ("taskscope man --completion bash", "what ~/.local/share/bash-completion/completions/taskscope should hold"),
)
SHELLS: Final = ("bash", "zsh", "fish")


@click.command("man", cls=Verb)
@click.argument("name", required=False, metavar="[VERB]")
@click.option("--folder", metavar="FOLDER", help="Write all pages there: taskscope.1, taskscope-ps.1, …")
@click.option("--completion", type=click.Choice(SHELLS), help="Print the completion script of a shell instead.")
@click.option("--schema", "schemas", is_flag=True, help="Print the JSON Schema of VERB's --json instead.")
@offers_program("man")
def command(name: str | None, folder: str | None, completion: str | None, schemas: bool) -> None:
    """Print a manual page, the completion script of a shell, or the schema of a command's JSON.

    Pages and completions are made of what --help shows.
    """
    from taskscope.cli.main import VERBS

    if schemas:
        sys.stdout.write(schema_text(name))
        return
    if completion is not None:
        sys.stdout.write(script(completion))
        return
    if name is not None and name not in VERBS:
        raise UsageError(f"man: there is no command {name!r}; it is one of {', '.join(VERBS)}")
    if folder is None:
        sys.stdout.write(manual(name))
        return
    write_all(folder)


def write_all(folder: str) -> None:
    """Write all pages into a folder: taskscope.1, taskscope-ps.1 and so on.

    :raises UsageError: that cannot be written
    """
    from taskscope.cli.main import VERBS

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for verb in (None, *VERBS):
            (Path(folder) / (f"taskscope-{verb}.1" if verb else "taskscope.1")).write_text(manual(verb), "utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; name another folder") from None


def schema_text(name: str | None) -> str:
    """Return the schema of one line that a command prints with --json, as text.

    :raises UsageError: it has no such option
    """
    from taskscope.cli.schemas import SCHEMAS, schema

    if name not in SCHEMAS:
        which = "name a command" if name is None else f"{name} has no --json"
        raise UsageError(f"man: {which}; --schema is for {', '.join(SCHEMAS)}")
    return json.dumps(schema(name), indent=2) + "\n"


def script(shell: str) -> str:
    """Return the completion script of a shell.

    :param shell: one of `SHELLS`
    """
    from click.shell_completion import get_completion_class

    from taskscope.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None, shell
    # Of bash click asks the version, which needs one installed; the script is the same without.
    completer = made(cli, {}, "taskscope", "_TASKSCOPE_COMPLETE")
    return completer.source_template % completer.source_vars() + "\n"


def manual(verb: str | None) -> str:
    """Return the page of a command; of all for None."""
    import importlib

    from taskscope import __version__
    from taskscope.cli.main import VERBS, cli

    title = "taskscope" if verb is None else f"taskscope-{verb}"
    found: click.Command = cli if verb is None else importlib.import_module(VERBS[verb][0]).command
    # Its own settings: -h, which the page and, afterwards, the command's --help are to name.
    above = None if verb is None else click.Context(cli, info_name="taskscope", **cli.context_settings)
    context = click.Context(found, above, info_name=title.replace("-", " ", 1) if above is None else verb,
                            **(cli.context_settings if above is None else {}))
    lines = [f'.TH {title.upper()} 1 "" "taskscope {__version__}" "taskscope"', ".SH NAME",
             f"{title} \\- " + _text("tell the life of every Linux task" if verb is None else VERBS[verb][1]),
             ".SH SYNOPSIS", f".B {title.replace('-', ' ', 1)}",
             _text(" ".join(found.collect_usage_pieces(context))), ".SH DESCRIPTION"]
    lines += _paragraphs(found.help or "")
    if verb is None:
        lines.append(".SH COMMANDS")
        for name, (_, what) in VERBS.items():
            lines += [".TP", f".B {name}", f"{_text(what)}; see taskscope-{name}(1)"]
    lines.append(".SH OPTIONS")
    for parameter in found.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f".B {_text(record[0])}", _text(record[1])]
    examples = getattr(found, "examples", ())
    if examples:
        lines.append(".SH EXAMPLES")
        for line, what in examples:
            lines += [".TP", f".B {_text(line)}", _text(what)]
    lines += [".SH EXIT STATUS", ".TP", ".B 0", "done", ".TP", ".B 1", "something was found, or differs", ".TP", ".B 2",
              "the command was used wrongly", ".TP", ".B 3", "the input cannot be read, or is damaged", ".TP", ".B 77",
              "this user may not"]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for n, part in enumerate(re.split(r"\n\s*\n", text.strip())):
        if n:
            yield ".PP"
        yield _text(" ".join(part.split()))


def _text(text: str) -> str:
    """Write text so that nothing in it is taken for a request or an escape."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown


command.examples = EXAMPLES
