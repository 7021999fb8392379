"""``taskscope check``: what this machine can and cannot do, and the command that mends each."""

from __future__ import annotations

import click

from taskscope.cli.options import Verb, offers_program


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
@offers_program("check")
def command(needed: tuple[str, ...], as_json: bool) -> None:
    """Say what this host can and cannot do, and how to mend it.

    Looks only: nothing is mounted, set or installed.  A line says yes, no, partly (it is there and lacks something) or
    unknown (this user may not be told); below it stands, after "mend:", the command that helps.  Exit code 0, or 1 if
    something --need asks for does not work.
    """
    from taskscope.host.lines import answer_lines
    from taskscope.host.probes import PROBES, look
    from taskscope.views.json import dumps

    for name in needed:
        if name not in PROBES:
            import difflib

            near = difflib.get_close_matches(name, PROBES, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(PROBES)}"
            raise click.BadParameter(f"there is nothing called {name!r} to check; {hint}", param_hint="--need")
    answers = look(names=needed or None)
    for line in (dumps(a.as_json()) for a in answers) if as_json else \
            answer_lines(answers, whole=not needed):
        click.echo(line)
    if needed and not all(a.works for a in answers):
        raise click.exceptions.Exit(1)
