"""The kernel memory that a command was asked to look at, and what it says of its wounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from taskscope.cli.options import Common
from taskscope.cli.output import progress, say
from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory

#: what a command exits with that has shown all that it could reach of something damaged
WOUNDED = 3


def memory_of(common: Common) -> KernelMemory | None:
    """Open the crash dump that was named; None if none was.

    :raises UsageError: a recording was named too
    :raises TraceError: it cannot be read
    """
    if common.core is None:
        for given, option in ((common.btf, "--btf"), (common.symbols, "--symbols")):
            if given is not None:
                raise UsageError(f"{option} is for a crash dump: name it with --core")
        return None
    if common.input is not None or common.at is not None:
        raise UsageError("two sources were named: a recording (-i, --at) and a crash dump (--core)")
    from taskscope.source import Source

    with progress(f"reading {common.core}", common):
        return Source(core=common.core, btf=common.btf, symbols=common.symbols).memory()


def end(common: Common, wounds: Sequence[str]) -> None:
    """Say what was damaged, a line each, and exit accordingly: after everything was shown."""
    for wound in wounds:
        say(f"{common.core}: {wound}")
    if wounds:
        click.get_current_context().exit(WOUNDED)
