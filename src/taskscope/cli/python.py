"""``--py``: the Python program that gives the answer of a command with its options.

The programs are put together in `taskscope.cli.programs`, a function a command, which is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from taskscope.cli.options import Common

#: command -> module of `taskscope.cli.programs` with the function of its name
PROGRAMS: Final = {
    **dict.fromkeys(("lives", "life", "timeline", "sched", "kills", "forks", "report", "export", "compare"),
                    "recorded"),
    **dict.fromkeys(("tree", "ps", "task", "stack", "cpus", "blocked", "diff"), "moment"),
    **dict.fromkeys(("run", "record", "lab", "check", "decode", "man"), "machine"),
}


def program(verb: str, common: Common, given: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the program of a command.

    :param given: the command's own options
    :raises UsageError: there is none: the input is stdin, or is not named
    """
    from importlib import import_module

    from taskscope.cli.programs.program import Program

    made = Program(common)
    getattr(import_module(f"taskscope.cli.programs.{PROGRAMS[verb]}"), verb)(made, given)
    return made.lines()
