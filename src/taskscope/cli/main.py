"""The ``taskscope`` command: finds the sub-command, and turns failures into one line and an exit code.

A sub-command's module is imported when it is called; ``taskscope --help`` needs the table below only.  Exit
codes: 0 done, 1 found or differs, 2 usage, 3 unreadable input, 77 no permission, 130 interrupted, 141 the
reader of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from taskscope import __version__
from taskscope.errors import AmbiguousTaskError, TaskscopeError

#: verb -> (module that has ``command``, one line for the overview); in the order in which they are listed
VERBS: dict[str, tuple[str, str]] = {
    "run": ("taskscope.cli.run", "run programs on the executable kernel, and record them"),
    "record": ("taskscope.cli.record", "record a command, processes or everything on this machine"),
    "report": ("taskscope.cli.report", "print the events, as tracefs and trace-cmd do"),
    "lives": ("taskscope.cli.lives", "list every task: created, ran, how it ended"),
    "life": ("taskscope.cli.life", "one task's story: created, ran, slept, signalled, died, reaped"),
    "timeline": ("taskscope.cli.timeline", "lives as a page in a browser: zoom, search, arrows, stories"),
    "ps": ("taskscope.cli.ps", "process table: of this machine, a recording, a dump, a guest"),
    "tree": ("taskscope.cli.tree", "who created whom, living and dead"),
    "task": ("taskscope.cli.task", "one task descriptor, every bit named, of the same sources"),
    "stack": ("taskscope.cli.stack", "the kernel call stack of one task"),
    "cpus": ("taskscope.cli.cpus", "what each CPU runs, and who waits for it"),
    "blocked": ("taskscope.cli.blocked", "who runs or is in D, and what they wait for"),
    "diff": ("taskscope.cli.diff", "what changed between two moments, of any sources"),
    "sched": ("taskscope.cli.sched", "run, wait, sleep and block times; the worst wakeup latencies"),
    "kills": ("taskscope.cli.kills", "one line for each signal that kills or is sent"),
    "forks": ("taskscope.cli.forks", "one line for each task created"),
    "export": ("taskscope.cli.export", "for other tools: Perfetto, trace.dat, Graphviz, Markdown, tables"),
    "lab": ("taskscope.cli.lab", "the labs: questions about the kernel, and machines that answer"),
    "compare": ("taskscope.cli.compare", "did tasks do the same, in two recordings or on two kernels?"),
    "check": ("taskscope.cli.check", "say what this host can and cannot do, and what mends it"),
    "decode": ("taskscope.cli.decode", "say what a number means: clone flags, wait status, syscall, …"),
    "man": ("taskscope.cli.man", "manual pages, and completions for bash, zsh and fish"),
}


class Verbs(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the verbs in the order of the overview."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        import importlib

        found: click.Command = importlib.import_module(VERBS[cmd_name][0]).command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say which verbs come near a mistyped one."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in VERBS:
            import difflib

            near = difflib.get_close_matches(name, VERBS, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; it is one of {', '.join(VERBS)}"
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the overview from the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """End in three examples."""
        from taskscope.cli.options import write_examples

        write_examples(
            formatter,
            (
                ("taskscope lives -i trace.dat", "who lived in this recording"),
                ("taskscope life -i trace.dat bash", "the story of one of them"),
                ("taskscope ps -i trace.dat --at +2.5 -ely", "the process table 2.5 s into it"),
            ),
        )


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}, no_args_is_help=True
)
@click.version_option(__version__, "--version", message="taskscope %(version)s")
def cli() -> None:
    """Tell the life of every task: of a recording, of this kernel, of one in QEMU, or of the kernel inside."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    :param args: arguments without the program's name; those of the process by default
    """
    import gc

    # What a command makes is nearly all still in use when it ends: to look for what is not is a tenth of its time.
    gc.set_threshold(100_000, 20, 20)
    status = run(sys.argv[1:] if args is None else args)
    gc.freeze()
    sys.exit(status)


def run(args: Sequence[str]) -> int:
    """Run the command line and return its exit code; no exception leaves it unless debugging is asked for."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape instead of an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if "_TASKSCOPE_COMPLETE" in os.environ:
            return _complete(os.environ["_TASKSCOPE_COMPLETE"])
        # Not cli.main(): that has its own ideas of what an interrupt and a closed pipe are.
        with cli.make_context("taskscope", list(args)) as ctx:
            cli.invoke(ctx)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as mistake:
        return _usage(mistake)
    except BrokenPipeError:
        # The reader (head, a pager) has enough.  Python must not try to flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 130
    except TaskscopeError as error:
        return _failed(error, error.exit_code)
    except MemoryError as error:
        return _failed(error, 1, "not enough memory; look at a part with --from and --to, or at one --buffer")
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        code = 77 if isinstance(error, PermissionError) else 1
        return _failed(error, code, f"{place}{error.strerror or error}")
    except Exception as error:
        return _failed(
            error,
            70,
            f"this is a bug in taskscope: {type(error).__name__}: {error} "
            "(TASKSCOPE_DEBUG=1 shows where; please report it)",
        )


def _complete(instruction: str) -> int:
    """Answer a shell that completes a command line."""
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, "taskscope", "_TASKSCOPE_COMPLETE", instruction)


def _say(text: str) -> None:
    from taskscope.cli.output import say

    say(text)


def _usage(mistake: click.ClickException) -> int:
    _say(mistake.format_message())
    ctx = getattr(mistake, "ctx", None)
    if ctx is not None:
        print(f"Try '{ctx.command_path} --help'.", file=sys.stderr)  # noqa: T201
    return mistake.exit_code


def _failed(error: BaseException, code: int, text: str | None = None) -> int:
    if os.environ.get("TASKSCOPE_DEBUG") or _very_verbose():
        import traceback

        traceback.print_exception(error)
    _say(str(error) if text is None else text)
    if isinstance(error, AmbiguousTaskError):
        for line in error.candidates:
            print(line, file=sys.stderr)  # noqa: T201
    return code


def _very_verbose() -> bool:
    from taskscope.cli.options import debug_asked

    return debug_asked()


if __name__ == "__main__":
    main()
