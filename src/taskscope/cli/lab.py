"""``taskscope lab``.

The labs; list them, or run one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Verb
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.labs.lab import Run

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
@click.option("--on", "on", metavar="MACHINE", default="model", show_default=True,
              help="model, host, guest[:KERNEL], dump:FILE, or all that the lab is for, compared.")
@click.option("--btf", metavar="FILE", help="With --on dump: its types (BTF), if its memory has none.")
@click.option("--symbols", metavar="FILE", help="With --on dump: its symbols (System.map), if its memory has none.")
@click.option("--kernel", metavar="KERNEL", help="With --on guest: its kernel; as --on guest:KERNEL.")
@click.option("--timeline", "page", metavar="FILE", help="Write its recordings as a page for a browser.")
@click.option("--answer", is_flag=True, help="Say the answer, too.")
@click.option("--mutant", is_flag=True, help="Run it with its mutant: one line of the kernel (or one expectation) "
              "changed.")
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
    btf: str | None,
    symbols: str | None,
    kernel: str | None,
    page: str | None,
    answer: bool,
    mutant: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a lab: a question about the kernel, a scenario, what to look at, and what must be seen.

    It runs on the executable kernel, on this host's kernel (root), or on a real kernel in QEMU: guest:6.1, guest:6.12,
    guest:armhf, guest:arm64 (Debian's, fetched once), guest:host, guest:/path/to/vmlinuz.  What kernel memory shows is
    looked at there too (taskscope[memory]), and in a crash dump with dump:FILE.  With --on all it runs on each machine
    that the lab is for, and what the model showed is compared with what the real kernels showed.

    Exits with 0 if all was seen that must be seen, with 1 if not.
    """
    from taskscope.labs.catalog import TITLES, get

    if name == "list":
        listing(TITLES, as_json)
        return
    if kernel is not None:
        if on != "guest":
            raise UsageError("--kernel names the kernel of a guest: it goes with --on guest")
        on = f"guest:{kernel}"
    lab = get(name)
    from taskscope.labs.lab import run_lab, run_real
    from taskscope.labs.on import open_real, places
    from taskscope.model.flavours import FLAVOURS

    if flavour != "all" and flavour not in FLAVOURS:
        raise UsageError(f"there is no flavour {flavour!r}; it is one of {', '.join(FLAVOURS)}, or all")
    runs: list[Run] = []

    def done(run: Run) -> None:
        runs.append(run)
        report(run, answer=answer, mutant=mutant, as_json=as_json, quiet=quiet)

    for place in places(lab, on):
        if place == "model":
            for one in lab.flavours if flavour == "all" else (flavour,):
                done(run_lab(lab, one, seed, mutant, schedule or ""))
            continue
        machine = open_real(place, lambda text: click.echo(f"taskscope: {text}", err=True), btf, symbols)
        try:
            done(run_real(lab, machine, mutant))
        finally:
            machine.close()
    if page is not None:
        write_page(runs, page)
    passed = all(run.passed for run in runs)
    if on == "all" and not mutant:
        passed = compare(runs, as_json) and passed
    ctx.exit(0 if passed else 1)


def write_page(runs: list[Run], path: str) -> None:
    """Write the recordings that the runs kept as one page, with the lab's question and what was checked.

    :raises UsageError: none was kept, or the file cannot be written
    """
    from pathlib import Path

    from taskscope.views.timeline.pack import pack
    from taskscope.views.timeline.page import page

    packed = []
    for run in runs:
        lab = {"question": run.lab.question, "look": run.lab.look, "answer": run.lab.answer,
               "checks": [[check.what, check.passed, check.seen[:200]] for check in run.checks]}
        packed += [pack(kept.recording.lives, f"{run.lab.name}, {run.place} {run.flavour}", lab=lab)
                   for kept in run.kept]
    if not packed:
        raise UsageError(f"lab {runs[0].lab.name} keeps no recording of its own: there is nothing to draw")
    try:
        Path(path).write_text(page(packed), "utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name another file with --timeline") from None
    click.echo(f"taskscope: wrote {path}", err=True)


def compare(runs: list[Run], as_json: bool) -> bool:
    """Compare the model with each real kernel; tell whether all are equal or allowed."""
    from taskscope.labs.lab import run_lab
    from taskscope.labs.on import compare_runs

    good = True
    models = {run.flavour: run for run in runs if run.place == "model"}
    for run in runs:
        if run.place == "model":
            continue
        model = models.get(run.flavour)
        if model is None:
            model = models[run.flavour] = run_lab(run.lab, run.flavour)
        if not model.kept or not run.kept:
            nothing = "nothing to compare: no task of its own"
            click.echo(json.dumps({"name": run.lab.name, "compared": [f"model {run.flavour}", run.place],
                                   "verdict": None, "schedules": 0, "text": nothing}) if as_json else
                       f"A model {run.flavour}, B {run.place} ({run.real.release}): {nothing}")
            continue
        found = compare_runs(model, run)
        good = good and found.verdict != "differs"
        if as_json:
            click.echo(json.dumps({"name": run.lab.name, "compared": [f"model {run.flavour}", run.place],
                                   "verdict": found.verdict, "schedules": found.schedules, "text": str(found)},
                                  ensure_ascii=False))
        else:
            click.echo(f"A model {run.flavour}, B {run.place} ({run.real.release}): {found}")
    return good


def report(run: Run, *, answer: bool, mutant: bool, as_json: bool, quiet: bool) -> None:
    """Print what came of a run."""
    lab = run.lab
    if as_json:
        click.echo(
            json.dumps(
                {
                    "name": lab.name,
                    "flavour": run.flavour,
                    "machine": run.place,
                    "release": None if run.machine is None else run.machine.release,
                    "mutant": lab.mutant.name if mutant else None,
                    "passed": run.passed,
                    "crash": run.crash,
                    "checks": [
                        {"what": c.what, "passed": c.passed, "seen": None if c.passed else c.seen} for c in run.checks
                    ],
                    "output": run.output,
                },
                ensure_ascii=False,
            )
        )
        return
    where = run.flavour if run.machine is None else f"{run.place}, {run.machine.release}"
    click.echo(f"{lab.name}: {lab.title} ({where})")
    if not quiet:
        click.echo(f"\nQuestion: {wrapped(lab.question)}\nLook at:  {wrapped(lab.look)}\n")
        if mutant and run.machine is None:
            click.echo(f"Mutant:   {lab.mutant.name} ({lab.mutant.function.replace(':', ': ')}())\n")
        elif mutant:
            click.echo("Mutant:   one expectation is a wrong one\n")
        for line in run.output:
            click.echo(line)
    for check in run.checks:
        click.echo(f"{'ok  ' if check.passed else 'FAIL'} {wrapped(check.what, 5)}")
        if not check.passed and check.seen:
            click.echo(f"     seen: {check.seen[:400]}")
    if run.crash is not None:
        click.echo(f"FAIL the kernel fell over: {run.crash}")
    if answer:
        click.echo(f"\nAnswer: {wrapped(lab.answer)}")


def listing(titles: dict[str, str], as_json: bool) -> None:
    """List the labs: name, machines, title."""
    from taskscope.labs.catalog import get

    width = max(map(len, titles))
    if not as_json:
        click.echo(f"{'NAME':<{width}}  ON   TITLE  (on M the model, H this host, G a guest)")
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
            machines = get(name).machines
            letters = "".join(one[0].upper() if one in machines else "-" for one in ("model", "host", "guest"))
            click.echo(f"{name:<{width}}  {letters}  {title}")


def wrapped(text: str, indent: int = 10) -> str:
    """Break a text to 80 columns, continued under its first line, which begins at a column."""
    import textwrap

    blanks = " " * indent
    return textwrap.fill(text, 80, initial_indent=blanks, subsequent_indent=blanks).lstrip()


command.examples = EXAMPLES
