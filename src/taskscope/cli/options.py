"""What the commands share: the common options, the ``-i`` file, help that ends in examples.

`verb` makes a command; the function under it gets a `Common` first and its own options after.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from taskscope.cli.python import PROGRAMS
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.recording import Recording
    from taskscope.trace.trace import Trace
    from taskscope.views.times import Times

Examples = Sequence[tuple[str, str]]

DEFAULT_INPUT = "trace.dat"

# -vv shows tracebacks; main() asks after the command has failed, when its context is gone.
_asked = {"debug": False}


def debug_asked() -> bool:
    """Tell whether this run was started with ``-vv``."""
    return _asked["debug"]


def ask_debug(verbose: int) -> None:
    """Remember ``-vv`` of a command that has not the common options."""
    _asked["debug"] = verbose >= 2


@dataclass(slots=True)
class Common:
    """The common options of one call."""

    input: str | None = None
    buffer: str | None = None
    color: str = "auto"
    pager: bool = True
    quiet: bool = False
    verbose: int = 0
    json: bool = False
    pids: tuple[int, ...] = ()
    cpus: tuple[int, ...] = ()
    after: str | None = None  # --from
    before: str | None = None  # --to
    at: str | None = None
    core: str | None = None
    guest: str | None = None
    live: bool = False
    pause: bool = False
    btf: str | None = None
    symbols: str | None = None
    vmlinux: str | None = None

    def open(self) -> Recording:
        """Open the recording that was asked for, `trace.dat` by default, and say on stderr what it lacks."""
        from taskscope.cli.input import open_recording

        path = self.input
        if path is None:
            path = DEFAULT_INPUT
            if not os.path.lexists(path):
                if os.path.isdir(f"{path}.spool"):  # noqa: PTH112
                    raise UsageError(
                        f"no recording was named and there is no {path} here, but a {path}.spool: the recording "
                        f"runs, or was killed; read it with -i {path}.spool, or make the file of it: "
                        f"taskscope record --recover {path}.spool"
                    )
                raise UsageError(f"no recording was named and there is no {path} here; name one: -i FILE")
        return open_recording(path, self)

    def times(self, trace: Trace) -> Times:
        """Return what shows and parses times of this recording."""
        from taskscope.views.times import Times

        return Times(trace.clock, trace.start)

    def window(self, trace: Trace) -> tuple[int | None, int | None]:
        """Return ``--from`` and ``--to`` in ns of the recording's clock.

        :raises UsageError: one is no time, or the window is empty
        """
        times = self.times(trace)
        after = None if self.after is None else times.parse(self.after, "--from", "first")
        before = None if self.before is None else times.parse(self.before, "--to", "last")
        if after is not None and before is not None and before < after:
            raise UsageError(f"--to {self.before} is before --from {self.after}")
        return after, before

    def moment(self, trace: Trace) -> int | None:
        """Return ``--at`` in ns of the recording's clock, None if it was not given.

        :raises UsageError: it is no time, or not inside the recording
        """
        if self.at is None:
            return None
        times = self.times(trace)
        first, last = times.parse(self.at, "--at", "first"), times.parse(self.at, "--at", "last")
        if last < trace.start or first > trace.end:
            raise UsageError(
                f"--at {self.at}: the recording covers {times.stamp(trace.start)} to "
                f"{times.stamp(trace.end)} (or +0 to +{times.stamp(trace.end - trace.start)})"
            )
        # After what was recorded at that stamp.
        return min(max(last, trace.start), trace.end)


class Verb(click.Command):
    """A command whose help ends in three examples."""

    examples: Examples = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples as they are, one command a line with what it is for."""
        write_examples(formatter, self.examples)


def write_examples(formatter: click.HelpFormatter, examples: Examples) -> None:
    """Write the Examples section of a help page."""
    with formatter.section("Examples"):
        for line, what in examples:
            formatter.write(f"  {line}\n      {what}\n")


def _ints(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    found: list[int] = []
    for value in values:
        for part in value.split(","):
            text = part.strip()
            low, dash, high = text.partition("-")
            try:
                if dash and param.name == "cpus":
                    first, last = int(low), int(high)
                    if not 0 <= first <= last < 1 << 16:
                        raise ValueError
                    found.extend(range(first, last + 1))
                else:
                    found.append(int(text))
            except ValueError:
                what = "0,2-3" if param.name == "cpus" else "911 or 911,2042"
                raise click.BadParameter(f"{value!r} is no list of numbers like {what}") from None
    return tuple(found)


def _each(function: Any, *options: Callable[[Any], Any]) -> Any:
    """Give a function several options, in this order."""
    for option in reversed(options):
        function = option(function)
    return function


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "file": click.argument("file", required=False, metavar="[FILE]"),
    "input": click.option("-i", "--input", metavar="FILE", help="The recording; - is stdin.  [default: trace.dat]"),
    "source": click.option("-i", "--input", metavar="FILE", help="A recording; - is stdin.  [default: /proc]"),
    "buffer": click.option("-B", "--buffer", metavar="NAME", help="Read one ring buffer (instance) only."),
    "pids": click.option(
        "-p", "--pid", "pids", multiple=True, metavar="PID[,…]", callback=_ints, help="Only these tasks."
    ),
    "cpus": click.option(
        "-C", "--cpu", "cpus", multiple=True, metavar="CPU[,…]", callback=_ints, help="Only these cpus (0,2-3)."
    ),
    "from": click.option(
        "--from",
        "after",
        metavar="T",
        help="From this time on: seconds of the recording's clock, +S from its start, or with ns, us, ms.",
    ),
    "window": lambda f: _OPTIONS["from"](click.option("--to", "before", metavar="T", help="Up to this time.")(f)),
    "at": click.option("--at", metavar="T", help="The moment: seconds of the recording's clock, or +S from its start."),
    "kernel": lambda f: _each(
        f,
        click.option("--live", is_flag=True, help="This kernel's memory instead (root; it is only read)."),
        click.option("--core", metavar="DUMP", help="A crash dump instead: an ELF vmcore, or kdump-compressed."),
        click.option("--guest", metavar="SOCKET", help="A running QEMU guest instead: its QMP socket."),
        click.option("--pause", is_flag=True, help="Stop the guest meanwhile."),
        click.option("--btf", metavar="FILE", help="Types (BTF), if the dump's or guest's memory has none."),
        click.option("--symbols", metavar="FILE", help="Symbols (System.map), if its memory has none."),
        click.option("-s", "--vmlinux", metavar="FILE", help="Types and symbols: its vmlinux with DWARF."),
    ),
    "json": click.option("--json", is_flag=True, help="JSON Lines: one object a line, times in ns."),
    "color": click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colour; auto obeys NO_COLOR and FORCE_COLOR.",
    ),
    "pager": click.option(
        "--no-pager", "pager", flag_value=False, default=True, type=bool, help="Do not page on a terminal."
    ),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="No notes and no progress on stderr."),
    "py": click.option("--py", is_flag=True, help="Print the Python program that gives this answer."),
    "verbose": click.option("-v", "--verbose", count=True, help="Show more; -vv also where an error arose."),
}
_COMMON_ALWAYS = ("buffer", "color", "pager", "quiet", "verbose")


def verb(
    name: str, *, takes: Sequence[str] = (), examples: Examples, file: bool = True, default: bool | None = True
) -> Callable[[Callable[..., Any]], Verb]:
    """Make a command of a function that takes a `Common` and its own options.

    :param takes: which of the optional common options it has: pids, cpus, window (or from alone), at, json
    :param examples: (command line, what it is for), shown at the end of ``--help``
    :param file: whether the recording may also be given as an argument
    :param default: whether the recording is trace.dat unless one is named; None: -i is not taken at all
    """
    inputs = [] if default is None else ["input" if default else "source"]
    names = [*takes, *inputs, *_COMMON_ALWAYS, *(["py"] if name in PROGRAMS else [])]

    def decorate(function: Callable[..., Any]) -> Verb:
        def call(**given: Any) -> Any:
            path = given.pop("file", None)
            if path is not None:
                if given["input"] is not None:
                    raise click.UsageError(
                        f"two recordings were named: {given['input']} and {path}", click.get_current_context()
                    )
                given["input"] = path
            common = Common(**{key: given.pop(key) for key in Common.__slots__ if key in given})
            _asked["debug"] = common.verbose >= 2
            if given.pop("py", False):
                _put_program(name, common, given)
                return None
            return function(common, **given)

        call.__doc__ = function.__doc__
        call.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        decorated: Any = call
        for key in reversed(names):
            decorated = _OPTIONS[key](decorated)
        # click collects decorators from the inside out: the command's own options come first in its help.
        params = decorated.__click_params__
        own = len(getattr(function, "__click_params__", []))
        decorated.__click_params__ = params[own:] + params[:own]
        if file:
            decorated = _OPTIONS["file"](decorated)
        made: Verb = click.command(name, cls=Verb)(decorated)
        made.examples = examples
        return made

    return decorate


def offers_program(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give ``--py`` to a command that has not the common options."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            if given.pop("py"):
                _put_program(name, Common(color=given.get("color", "auto")), given)
                return None
            return function(**given)

        call.__doc__ = function.__doc__
        return _OPTIONS["py"](call)  # type: ignore[no-any-return]

    return decorate


def _put_program(name: str, common: Common, given: dict[str, Any]) -> None:
    from taskscope.cli.output import put_lines
    from taskscope.cli.python import program

    put_lines(program(name, common, given), common)


def is_terminal() -> bool:
    """Tell whether stdout is a terminal."""
    return sys.stdout.isatty()


__all__ = ["Common", "Verb", "ask_debug", "debug_asked", "is_terminal", "offers_program", "verb", "write_examples"]
