"""``taskscope run``.

Programs on the executable kernel, recorded as a real kernel records them.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from taskscope.cli.options import Verb, offers_program
from taskscope.cli.output import say, want_color
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.system import System
    from taskscope.terminal import Process

EXAMPLES = (
    (
        "taskscope run -c 'raspbian_proc & sleep 5; kill -9 $!'",
        "a shell line, into trace.dat; then: taskscope life raspbian_proc",
    ),
    ("taskscope run --cpus 4 --seed 7 program.py 10", "a Python program: def main(sys, argv)"),
    (
        "taskscope run --flavour 6.1-x86_64 --for 2 raspbian_fork --then 'ps -axjf'",
        "2 s of a program of the machine, and who is there then",
    ),
)
#: what --then knows
THEN = "ps [-ely|-ejH|axjf], tree, task PID, stack PID"


@click.command(
    "run",
    cls=Verb,
    context_settings={"allow_interspersed_args": True, "ignore_unknown_options": False},
    options_metavar="[OPTIONS]",
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="[--] [PROG [ARG]…]")
@click.option("-c", "--command", "line", metavar="LINE", help="Run a shell line on the machine.")
@click.option("--cpus", type=click.IntRange(1, 64), default=2, show_default=True, help="Virtual CPUs.")
@click.option(
    "--flavour",
    metavar="NAME",
    default="4.19-arm",
    show_default=True,
    help="The kernel: 4.19-arm, 6.1-x86_64, 6.18-x86_64.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="0 schedules in the usual way, another number draws.",
)
@click.option(
    "--schedule",
    metavar="S",
    help="seed:N as --seed, pct:DEPTH[:SEED] by priorities, file:PATH as a recording says (its CPUs, its kernel).",
)
@click.option(
    "--preempt",
    type=click.Choice(["none", "voluntary", "full"]),
    help="Preemption model, on kernels that can choose (6.1, 6.18).",
)
@click.option("--threadirqs", is_flag=True, help="Threads handle interrupts: irq/N-NAME.")
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Stop after S seconds of the machine's time.",
)
@click.option(
    "-e",
    "--event",
    "events",
    multiple=True,
    metavar="EVENT",
    help="Events instead of sched, task, signal: SYSTEM:EVENT, SYSTEM:*.",
)
@click.option(
    "-o", "--output", metavar="FILE", default="trace.dat", show_default=True, help="The recording; '' for none."
)
@click.option("--then", "then", multiple=True, metavar="CMD", help=f"Look at the machine at the end: {THEN}.")
@click.option("--dmesg", is_flag=True, help="Print the kernel's log at the end.")
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True, help="Colour."
)
@click.option("-q", "--quiet", is_flag=True, help="No notes on stderr.")
@offers_program("run")
@click.pass_context
def command(
    ctx: click.Context,
    program: tuple[str, ...],
    line: str | None,
    cpus: int,
    flavour: str,
    seed: int,
    preempt: str | None,
    threadirqs: bool,
    schedule: str | None,
    seconds: float | None,
    events: tuple[str, ...],
    output: str,
    then: tuple[str, ...],
    dmesg: bool,
    color: str,
    quiet: bool,
) -> None:
    """Run programs on the executable kernel, and record what they do.

    PROG is a Python file with ``def main(sys, argv)``, or a program of the machine (`ls /bin` lists them).  What it
    prints is
    printed; the exit status is its own, 128 + N if signal N killed it.
    """
    import taskscope
    from taskscope.schedules import order

    if (line is None) == (not program):
        raise UsageError("run what? name a program, or give a shell line with -c LINE (not both)")
    if seconds is None and line is None and program and program[0] in ("bash", "sh") and len(program) == 1:
        raise UsageError("a shell without a line waits for ever: give one with -c LINE, or a time with --for S")
    looks = [parse_then(text) for text in then]
    options: dict[str, Any] = {
        "cpus": cpus, "flavour": flavour, "seed": seed, "preempt": preempt, "threadirqs": threadirqs,
        "schedule": schedule or "",
    }
    if schedule:
        # What a log is of need not be said again; what is said must fit.
        said = {name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
        options |= {name: value for name, value in order(schedule).machine.items() if name not in said}
    with taskscope.boot(**options) as k:
        if output:
            k.trace(*events)
        k.machine.console_tty.sink = show
        process = start(k, line, program)
        k.run(until=process, s=24 * 3600 if seconds is None else seconds)
        # What the end of the program sets off: reaping, RCU.
        if process.status is not None:
            k.run(s=0.05)
        sys.stdout.flush()
        k.check_schedule()
        for look in looks:
            for text in look(k, want_color(color)):
                # What was painted stays so in a pipe, too: --color always.
                click.echo(text, color=True)
        if dmesg:
            click.echo(k.dmesg(), nl=False)
        if output:
            k.save(output)
            if not quiet:
                say(f"{k.now / 1e9:.6f} s of {k.machine.flavour.name} on {k.machine.nr_cpus} CPUs are in {output}")
        ctx.exit(exit_code(process))


def exit_code(process: Process) -> int:
    """Return what a shell would make of how the program ended; 0 if it has not."""
    code = process.exitcode
    return 0 if code is None else code if code >= 0 else 128 - code


def show(data: bytes) -> None:
    """Print what a program prints, as it comes."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def start(k: System, line: str | None, program: tuple[str, ...]) -> Process:
    """Start what is to run."""
    if line is not None:
        return k.spawn("bash", "-c", line)
    name, *args = program
    if name.endswith(".py"):
        return k.spawn(load(name), *args, name=Path(name).stem)
    return k.spawn(name, *args)


def load(path: str) -> Callable[..., Any]:
    """Return the ``main`` of a Python file.

    :raises UsageError: there is no such file, it fails, or has no main
    """
    import runpy

    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        found = runpy.run_path(path, run_name="taskscope_program").get("main")
    except Exception as error:
        raise UsageError(f"{path}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise UsageError(f"{path}: a program has a function main(sys, argv); this file has none")
    main: Callable[..., Any] = found
    return main


def parse_then(text: str) -> Callable[[System, bool], Any]:
    """Return what looks at the machine for one ``--then``.

    :raises UsageError: it is none of `THEN`
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--then {text!r}: {error}") from None
    verb, args = (words[0], words[1:]) if words else ("", [])
    if verb == "ps" and len(args) <= 1 and (not args or args[0].lstrip("-") in ("ely", "ejH", "axjf")):
        style = args[0].lstrip("-") if args else "ely"
        return lambda k, color: _ps(k, style, color)
    if verb == "tree" and not args:
        return lambda k, color: _tree(k, color)
    if verb in ("task", "stack") and len(args) == 1 and args[0].isdigit():
        return lambda k, _color: _task(k, verb, int(args[0]))
    raise UsageError(f"--then {text!r} is none of {THEN}")


def _ps(k: System, style: Any, color: bool) -> Any:
    from taskscope.views.ps import FORMS, ps_table
    from taskscope.views.text import Paint

    return ps_table(k.ps(), FORMS[style], paint=Paint(color))


def _tree(k: System, color: bool) -> Any:
    from taskscope.views.text import Paint
    from taskscope.views.tree import link, snapshot_nodes, tree_table

    return tree_table(link(snapshot_nodes(k.ps())), paint=Paint(color))


def _task(k: System, verb: str, pid: int) -> Any:
    from taskscope.views.task import stack_lines, task_lines

    detail = k.task(pid)
    return task_lines(detail, k.machine.flavour.arch) if verb == "task" else stack_lines(detail)


command.examples = EXAMPLES
