"""``taskscope record``: record a command and its descendants, given processes, or everything on this machine."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Verb, offers_program
from taskscope.cli.output import say

if TYPE_CHECKING:
    from taskscope.ftrace.record_end import Result

EXAMPLES = (
    ("taskscope record -- make -j4", "a command and its descendants, into trace.dat"),
    ("taskscope record -a -d 5 --follow", "everything for 5 s, and births and deaths as they happen"),
    ("taskscope record -a --trigger 'sched_waking:stacktrace if pid == 2'", "and the stack of who wakes kthreadd"),
)


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return KiB."""
    if value is None:
        return None
    m = re.fullmatch(r"(\d{1,9})([kKmMgG]?)(?:i?[bB])?", value.strip())
    size = int(m[1]) * {"": 1, "k": 1, "m": 1 << 10, "g": 1 << 20}[m[2].lower()] if m else 0
    if size <= 0:
        raise click.BadParameter(f"{value!r} is no size of a buffer; it is KiB, or a number with M or G: 8M")
    return size


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    m = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})(ms|s|m|h)?", value.strip())
    seconds = float(m[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[m[2] or "s"] if m else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is no length of time; it is seconds, or a number with ms, s, m or h")
    return seconds


def _pids(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    found = []
    for part in (p.strip() for value in values for p in value.split(",")):
        if not re.fullmatch(r"\d{1,9}", part) or not int(part):
            raise click.BadParameter(f"{part!r} is no pid; give 911 or 911,2042")
        found.append(int(part))
    return tuple(dict.fromkeys(found))


@click.command(
    "record",
    cls=Verb,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD [ARG]…]")
@click.option("-o", "--output", metavar="FILE", help="The file.  [default: trace.dat]")
@click.option(
    "-e",
    "--event",
    "events",
    multiple=True,
    metavar="EVENT[:FILTER]",
    help="Events instead of the default ones: SYSTEM, SYSTEM:EVENT, EVENT, globs; `default` for those.",
)
@click.option("--irq", is_flag=True, help="Interrupts and softirqs too.")
@click.option(
    "-p",
    "--pid",
    "pids",
    multiple=True,
    metavar="PID[,…]",
    callback=_pids,
    help="These processes, with their threads.",
)
@click.option("-c", "--children", is_flag=True, help="With -p: what they create too.")
@click.option("-a", "--all", "everything", is_flag=True, help="Everything on this machine.")
@click.option("-d", "--duration", "seconds", metavar="SECONDS", callback=_seconds, help="End after so long (5, 500ms).")
@click.option(
    "--stacks/--no-stacks",
    "stacks",
    default=None,
    help="Call stacks of all events, or of none.  [default: of births, execs, ends and signals]",
)
@click.option(
    "-l",
    "--function",
    "functions",
    multiple=True,
    metavar="FUNC",
    help="Calls of this kernel function; globs.",
)
@click.option(
    "--probe",
    "probes",
    multiple=True,
    metavar="FUNC[:COND]",
    help="Calls of this kernel function, each with its call stack.",
)
@click.option(
    "--trigger",
    "triggers",
    multiple=True,
    metavar="EVENT:TRIGGER",
    help="What the kernel does at an event: stacktrace, traceoff, … [if FILTER].",
)
@click.option("--user", metavar="NAME", help="Run the command as this user.  [default: who called sudo]")
@click.option(
    "-b",
    "--buffer",
    "buffer_kb",
    metavar="SIZE",
    callback=_size,
    help="Ring buffer of each cpu.  [default: 8M]",
)
@click.option("--clock", metavar="NAME", default="mono", show_default=True, help="The kernel's clock for the stamps.")
@click.option("--file-version", type=click.Choice(["7", "6"]), default="7", show_default=True, help="Of trace.dat.")
@click.option("--compression", type=click.Choice(["zstd", "none"]), help="Of version 7.  [default: zstd]")
@click.option("--follow", is_flag=True, help="Print births, execs, signals and deaths as they happen.")
@click.option(
    "--follow-to",
    metavar="FILE",
    help="The same, into FILE; - is stdout.  [default: stdout; stderr if a command is recorded]",
)
@click.option("-t", "--threads", is_flag=True, help="With --follow: births and deaths of threads too.")
@click.option("--json", "as_json", is_flag=True, help="With --follow: JSON Lines.")
@click.option("--recover", metavar="SPOOL", help="Make the file of a recording that was killed.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", count=True, help="-vv shows where an error arose.")
@offers_program("record")
def command(
    command: tuple[str, ...],
    output: str | None,
    events: tuple[str, ...],
    irq: bool,
    pids: tuple[int, ...],
    children: bool,
    everything: bool,
    seconds: float | None,
    stacks: bool | None,
    functions: tuple[str, ...],
    probes: tuple[str, ...],
    triggers: tuple[str, ...],
    user: str | None,
    buffer_kb: int | None,
    clock: str,
    file_version: str,
    compression: str | None,
    follow: bool,
    follow_to: str | None,
    threads: bool,
    as_json: bool,
    recover: str | None,
    quiet: bool,
    verbose: int,
) -> None:
    """Record a command and its descendants, given processes (-p), or everything (-a).

    Recording ends with the command, after -d SECONDS, or with Ctrl-C.  The command runs as the user who called sudo,
    and its exit status becomes that of record.  While it runs, the other commands read FILE.spool.
    """
    from taskscope.cli.options import ask_debug

    ask_debug(verbose)
    if recover is not None:
        _recover(recover, output, quiet)
        return
    if children and not pids:
        raise click.UsageError(
            "-c goes with -p PID; what a command creates is always recorded", click.get_current_context()
        )
    follow = follow or follow_to is not None
    if (threads or as_json) and not follow:
        raise click.UsageError("-t and --json go with --follow", click.get_current_context())
    if file_version == "6" and compression == "zstd":
        raise click.UsageError(
            "version 6 of trace.dat has no compression; take --file-version 7", click.get_current_context()
        )
    from taskscope.ftrace.record import Recorder
    from taskscope.ftrace.record_child import calling_user, named_user
    from taskscope.ftrace.record_order import Order

    caller = calling_user(os.environ)
    if not command and not pids and not everything:
        everything = True
        if not quiet:
            say(f"recording everything {'for ' + format(seconds, 'g') + ' s' if seconds else 'until Ctrl-C'}")
    owner = (caller.uid, caller.gid) if caller is not None else None
    printer = None
    if follow:
        from taskscope.cli.follow import Printer

        printer = Printer(
            follow_to,
            command=bool(command),
            everything=everything,
            pids=pids,
            json=as_json,
            threads=threads,
            clock=clock,
            owner=owner,
        )
    order = Order(
        output=Path(output or "trace.dat"),
        command=command,
        user=named_user(user) if user is not None else caller,
        owner=owner,
        pids=pids,
        children=children,
        everything=everything,
        seconds=seconds,
        events=events,
        irq=irq,
        stacks="rare" if stacks is None else "all" if stacks else "none",
        triggers=triggers,
        probes=probes,
        functions=functions,
        buffer_kb=buffer_kb,
        clock=clock,
        file_version=int(file_version),
        compression=compression,
        follow=printer.start if printer is not None else None,
        arguments=sys.argv[1:],
    )
    _rename_self()
    recorder = Recorder(order, (lambda _: None) if quiet else say)
    try:
        result = recorder.run()
    except KeyboardInterrupt:
        _die(recorder.result.signal)
        raise
    finally:
        if printer is not None:
            printer.close()
    _finish(result, quiet)


def _finish(result: Result, quiet: bool) -> None:
    """Say what came of it, and end as the recording did."""
    if result.failed:
        say(result.failed)
    if result.running is not None and not quiet:
        say(f"the command runs on: pid {result.running}")
    if result.spool is not None:
        say(f"what was recorded is kept: taskscope record --recover {_quoted(result.spool)}")
    elif not quiet:
        say(_summary(result))
    _die(result.signal)
    code = result.exit_code or 0
    if result.failed:
        code = 1
    elif result.signal is not None and result.exit_code is None:
        code = 128 + result.signal
    sys.exit(code)


def _summary(result: Result) -> str:
    from taskscope.views.text import escape

    lost = "an unknown number" if result.lost is None else f"{result.lost:,}"
    size = result.size / 1024
    parts = [f"{result.events:,} events", f"{lost} lost"]
    if result.seconds is not None:
        parts.append(f"{result.seconds:.1f} s")
    parts.append(f"{size:,.0f} KiB" if size < 10000 else f"{size / 1024:,.1f} MiB")
    from_ = "" if str(result.output) == "trace.dat" else f" -i {_quoted(result.output)}"
    # A comm is cut to 15 bytes.
    comm = os.fsdecode(os.fsencode(os.path.basename(result.command))[:15])  # noqa: PTH119
    name = _quoted(Path(comm)) if comm else ""
    hint = f"taskscope life{from_} {name}" if name else f"taskscope lives{from_}"
    return f"{escape(str(result.output))}: {', '.join(parts)}  ({hint})"


def _quoted(path: Path) -> str:
    from taskscope.ftrace.record_end import quoted

    return quoted(path)


def _die(number: int | None) -> None:
    """End by the signal that ended the recording, so that whoever sent it sees that it did."""
    if number is not None and number != signal.SIGINT:
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _rename_self() -> None:
    """Bear a name that says what this is in the recording, also when run as ``python -m``."""
    try:
        Path("/proc/self/comm").write_text("taskscope")
    except OSError:
        return


def _recover(spool: str, output: str | None, quiet: bool) -> None:
    from taskscope.ftrace.record_recover import recover

    result = recover(Path(spool), Path(output) if output is not None else None, (lambda _: None) if quiet else say)
    _finish(result, quiet)


command.examples = EXAMPLES
