"""``taskscope compare``: did the same tasks do the same, on two kernels?"""

from __future__ import annotations

import click

from taskscope.cli.options import Verb, offers_program

EXAMPLES = (
    ("taskscope compare trace.dat other.dat", "two recordings of the same command"),
    ("taskscope compare --lab raspbian-proc model host", "a lab on the model and on this host"),
    ("taskscope compare --lab zombie host guest:6.1 --json", "on two real kernels, as data"),
)


@click.command("compare", cls=Verb, options_metavar="[OPTIONS]")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--lab", "lab_name", metavar="NAME", help="A and B are machines: model, host, guest[:KERNEL].")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@offers_program("compare")
@click.pass_context
def command(ctx: click.Context, a: str, b: str, lab_name: str | None, as_json: bool) -> None:
    """Compare two recordings, or a lab on two machines: what each task did, in its own order.

    Tasks are matched by their role: by name and creator, or as the lab names them.  Of each the acts are compared:
    whom it creates, what it execs, whom it signals, which signals it takes, how it ends, whom it reaps.  Times, pids,
    cpus and unrelated tasks are left out.  Says equal; or allowed, if a schedule of the model shows the same race; or
    the first difference, with both sides' stacks.

    Exits with 0 if they are equal or the difference is allowed, with 1 if they differ.
    """
    from taskscope.views.json import dumps
    from taskscope.views.text import escape

    if lab_name is not None:
        from taskscope.labs.on import compare_labs

        found = compare_labs(lab_name, a, b, lambda text: click.echo(f"taskscope: {text}", err=True))
    else:
        from taskscope.labs.compare import compare_recordings
        from taskscope.recording import Recording

        found = compare_recordings(Recording.open(a), Recording.open(b))
    if as_json:
        click.echo(dumps({"a": a, "b": b, "lab": lab_name, **found.as_json()}))
    else:
        click.echo("\n".join(escape(line) for line in str(found).splitlines()))
    ctx.exit(1 if found.verdict == "differs" else 0)


command.examples = EXAMPLES
