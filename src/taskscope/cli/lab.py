"""``taskscope lab``.

The labs; list them, or run one.
"""

from __future__ import annotations

import json

import click

from taskscope.cli.options import Verb
from taskscope.errors import UsageError

EXAMPLES = (
    ("taskscope lab list", "the labs"),
    ("taskscope lab raspbian-proc --answer", "run one, and read what it shows"),
    (
        "taskscope lab task-dead --flavour 6.18-x86_64 -q",
        "on a later kernel, only what was checked",
    ),
)


@click.command("lab", cls=Verb, options_metavar="[OPTIONS]")
@click.argument("name", metavar="list|NAME")
@click.option(
    "--flavour",
    metavar="NAME",
    default="4.19-arm",
    show_default=True,
    help="The kernel: 4.19-arm, 6.1-x86_64, 6.18-x86_64, or all.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another number schedules in another way."
)
@click.option("--schedule", metavar="S", help="seed:N as --seed, or pct:DEPTH[:SEED] by priorities.")
@click.option("--on", "on", type=click.Choice(["model"]), default="model", show_default=True, help="The machine.")
@click.option("--answer", is_flag=True, help="Say the answer, too.")
@click.option("--mutant", is_flag=True, help="Run it with its mutant: one line of the kernel changed.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.option("-q", "--quiet", is_flag=True, help="Only what was checked.")
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    flavour: str,
    seed: int,
    schedule: str | None,
    on: str,
    answer: bool,
    mutant: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a lab: a question about the kernel, a scenario, what to look at, and what must be seen.

    Exits with 0 if all was seen that must be seen, with 1 if not.
    """
    del on
    from taskscope.labs.catalog import TITLES, get

    if name == "list":
        listing(TITLES, as_json)
        return
    lab = get(name)
    from taskscope.labs.lab import run_lab
    from taskscope.model.flavours import FLAVOURS

    if flavour != "all" and flavour not in FLAVOURS:
        raise UsageError(f"there is no flavour {flavour!r}; it is one of {', '.join(FLAVOURS)}, or all")
    passed = True
    for one in lab.flavours if flavour == "all" else (flavour,):
        run = run_lab(lab, one, seed, mutant, schedule or "")
        passed = passed and run.passed
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "name": lab.name,
                        "flavour": one,
                        "machine": "model",
                        "mutant": lab.mutant.name if mutant else None,
                        "passed": run.passed,
                        "crash": run.crash,
                        "checks": [
                            {"what": c.what, "passed": c.passed, "seen": None if c.passed else c.seen}
                            for c in run.checks
                        ],
                        "output": run.output,
                    },
                    ensure_ascii=False,
                )
            )
            continue
        click.echo(f"{lab.name}: {lab.title} ({one})")
        if not quiet:
            click.echo(f"\nQuestion: {wrapped(lab.question)}\nLook at:  {wrapped(lab.look)}\n")
            if mutant:
                click.echo(f"Mutant:   {lab.mutant.name} ({lab.mutant.function.replace(':', ': ')}())\n")
            for line in run.output:
                click.echo(line)
        for check in run.checks:
            click.echo(
                f"{'ok  ' if check.passed else 'FAIL'} {check.what}"
                + ("" if check.passed or not check.seen else f"\n     seen: {check.seen[:400]}")
            )
        if run.crash is not None:
            click.echo(f"FAIL the kernel fell over: {run.crash}")
        if answer:
            click.echo(f"\nAnswer: {wrapped(lab.answer)}")
    ctx.exit(0 if passed else 1)


def listing(titles: dict[str, str], as_json: bool) -> None:
    """List the labs: name, machines, title."""
    from taskscope.labs.catalog import get

    width = max(map(len, titles))
    if not as_json:
        click.echo(f"{'NAME':<{width}}  MACHINES  TITLE")
    for name, title in titles.items():
        if as_json:
            lab = get(name)
            click.echo(
                json.dumps(
                    {
                        "name": name,
                        "title": title,
                        "machines": list(lab.machines),
                        "flavours": list(lab.flavours),
                        "question": lab.question,
                        "mutant": lab.mutant.name,
                    },
                    ensure_ascii=False,
                )
            )
        else:
            click.echo(f"{name:<{width}}  model     {title}")


def wrapped(text: str) -> str:
    """Break a text to 80 columns, continued under its first line."""
    import textwrap

    return textwrap.fill(text, 80, initial_indent=" " * 10, subsequent_indent=" " * 10).lstrip()


command.examples = EXAMPLES
