"""``taskscope check``: what this machine can and cannot do, and the command that mends each."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Verb

if TYPE_CHECKING:
    from taskscope.host.answer import Answer

_NAME, _STATE = 17, 9


class _Check(Verb):
    examples = (
        ("taskscope check", "what can be recorded and looked at here, and what is missing"),
        ("taskscope check --need tracefs --need events", "in a script: exit code 1 unless both work"),
        ("taskscope check --json", "one object a line, for programs"),
    )


@click.command("check", cls=_Check)
@click.option("--need", "needed", multiple=True, metavar="NAME", help="Ask for this only, and exit with 1 unless it "
              "works; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: one object an answer.")
def command(needed: tuple[str, ...], as_json: bool) -> None:
    """Say what this host can and cannot do, and how to mend it.

    Looks only: nothing is mounted, set or installed.  A line says yes, no, partly (it is there and lacks something) or
    unknown (this user may not be told); below it stands, after "mend:", the command that helps.  Exit code 0, or 1 if
    something --need asks for does not work.
    """
    from taskscope.host.probes import PROBES, look

    for name in needed:
        if name not in PROBES:
            import difflib

            near = difflib.get_close_matches(name, PROBES, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(PROBES)}"
            raise click.BadParameter(f"there is nothing called {name!r} to check; {hint}", param_hint="--need")
    answers = look(names=needed or None)
    for line in (json.dumps(a.as_json(), ensure_ascii=False) for a in answers) if as_json else _lines(answers, needed):
        click.echo(line)
    if needed and not all(a.works for a in answers):
        raise click.exceptions.Exit(1)


def _lines(answers: list[Answer], needed: tuple[str, ...]) -> Iterator[str]:
    from taskscope.views.text import escape

    if not needed:
        yield f"{platform.system()} {platform.release()} {platform.machine()}"
    group = ""
    said: set[str] = set()
    for answer in answers:
        if answer.group != group and not needed:
            group = answer.group
            said.clear()
            yield ""
            yield group.upper()
        lines = _wrapped(escape(answer.detail))
        yield f"{answer.name:<{_NAME}}{answer.state:<{_STATE}}{lines[0]}"
        yield from (" " * (_NAME + _STATE) + line for line in lines[1:])
        if answer.remedy and answer.remedy not in said:
            # On one line, so that it can be copied; once in a group, for many lack the same.
            said.add(answer.remedy)
            yield " " * _NAME + f"mend: {escape(answer.remedy)}"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 79 - _NAME - _STATE, break_long_words=False, break_on_hyphens=False) or [""]
