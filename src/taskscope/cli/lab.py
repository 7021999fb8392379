"""``taskscope lab``.

The labs; list them, or run one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from taskscope.cli.options import Verb, offers_program
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
@click.option("--on", "on", metavar="MACHINE", default="model", show_default=True,
              help="model, host, guest[:KERNEL], dump:FILE, or all that the lab is for, compared.")
@click.option("--btf", metavar="FILE", help="With --on dump: its types (BTF), if its memory has none.")
@click.option("--symbols", metavar="FILE", help="With --on dump: its symbols (System.map), if its memory has none.")
@click.option("-s", "--vmlinux", metavar="FILE", help="With --on dump: types and symbols, its vmlinux with DWARF.")
@click.option("--kernel", metavar="KERNEL", help="With --on guest: its kernel; as --on guest:KERNEL.")
@click.option("--timeline", "page", metavar="FILE", help="Write its recordings as a page for a browser.")
@click.option("--answer", is_flag=True, help="Say the answer, too.")
@click.option("--mutant", is_flag=True, help="Run it with its mutant: one line of the kernel (or one expectation) "
              "changed.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.option("-q", "--quiet", is_flag=True, help="Only what was checked.")
@offers_program("lab")
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
    vmlinux: str | None,
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
    from taskscope.labs.catalog import get
    from taskscope.labs.on import play
    from taskscope.labs.text import compared, lab_page, listing, run_lines

    if name == "list":
        put(listing(as_json=as_json))
        return
    runs = []
    for run in play(get(name), machine_of(on, kernel), flavour=flavour, seed=seed, schedule=schedule, mutant=mutant,
                    btf=btf, symbols=symbols, vmlinux=vmlinux,
                    say=lambda text: click.echo(f"taskscope: {text}", err=True)):
        runs.append(run)
        put(run_lines(run, answer=answer, mutant=mutant, as_json=as_json, quiet=quiet))
    if page is not None:
        try:
            Path(page).write_text(lab_page(runs), "utf-8")
        except OSError as error:
            raise UsageError(f"{page}: {error.strerror}; name another file with --timeline") from None
        click.echo(f"taskscope: wrote {page}", err=True)
    good = True
    if on == "all" and not mutant:
        for text, verdict in compared(runs, as_json=as_json):
            put([text])
            good = good and verdict
    ctx.exit(0 if good and all(run.passed for run in runs) else 1)


def machine_of(on: str, kernel: str | None) -> str:
    """Return the machine that ``--on`` and ``--kernel`` name.

    :raises UsageError: the kernel is of no guest
    """
    if kernel is None:
        return on
    if on != "guest":
        raise UsageError("--kernel names the kernel of a guest: it goes with --on guest")
    return f"guest:{kernel}"


def put(lines: Iterable[str]) -> None:
    """Print lines as they come."""
    for line in lines:
        click.echo(line)


command.examples = EXAMPLES
