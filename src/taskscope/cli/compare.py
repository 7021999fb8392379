"""``taskscope compare``: did the same tasks do the same, on two kernels?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Verb
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.labs.compare import Comparison
    from taskscope.labs.lab import Run

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
@click.pass_context
def command(ctx: click.Context, a: str, b: str, lab_name: str | None, as_json: bool) -> None:
    """Compare two recordings, or a lab on two machines: what each task did, in its own order.

    Tasks are matched by their role: by name and creator, or as the lab names them.  Of each the acts are compared:
    whom it creates, what it execs, whom it signals, which signals it takes, how it ends, whom it reaps.  Times, pids,
    cpus and unrelated tasks are left out.  Says equal; or allowed, if a schedule of the model shows the same race; or
    the first difference, with both sides' stacks.

    Exits with 0 if they are equal or the difference is allowed, with 1 if they differ.
    """
    from taskscope.views.text import escape

    found = _labs(lab_name, a, b) if lab_name is not None else _files(a, b)
    if as_json:
        d = found.difference
        click.echo(json.dumps({
            "a": a, "b": b, "lab": lab_name, "verdict": found.verdict, "schedules": found.schedules,
            "broken": list(found.broken),
            "difference": None if d is None else {
                "role": d.role, "index": d.index,
                **{name: None if act is None else {"at": act.at, "what": str(act), "stack": list(act.stack)}
                   for name, act in (("a", d.a), ("b", d.b))},
            },
        }, ensure_ascii=False))
    else:
        click.echo("\n".join(escape(line) for line in str(found).splitlines()))
    ctx.exit(1 if found.verdict == "differs" else 0)


def _files(a: str, b: str) -> Comparison:
    from taskscope.labs.compare import compare_recordings
    from taskscope.recording import Recording

    return compare_recordings(Recording.open(a), Recording.open(b))


def _labs(name: str, a: str, b: str) -> Comparison:
    from taskscope.labs.catalog import get
    from taskscope.labs.lab import flavour_of, run_lab, run_real
    from taskscope.labs.on import compare_runs, open_real, places

    lab = get(name)
    runs: dict[str, Run] = {}
    for on in (a, b):
        (place, *more) = places(lab, on)
        if more or on == "all":
            raise UsageError("compare --lab takes two machines: model, host, guest[:KERNEL]")
        if place != "model" and place not in runs:
            machine = open_real(place, lambda text: click.echo(f"taskscope: {text}", err=True))
            try:
                runs[place] = run_real(lab, machine)
            finally:
                machine.close()
    real = next(iter(runs.values()), None)
    if "model" in (a, b):
        machine_of = None if real is None else real.machine
        flavour = "4.19-arm" if machine_of is None else flavour_of(machine_of.release, machine_of.machine)
        runs["model"] = run_lab(lab, flavour)
    first, second = (runs[places(lab, on)[0]] for on in (a, b))
    return compare_runs(first, second)


command.examples = EXAMPLES
