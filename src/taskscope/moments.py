"""The tasks at one moment, by a name that says whose: `moment`, for ``taskscope diff``.

Stands at the front door because it joins recordings with everything that `taskscope.source` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import taskscope
from taskscope.errors import TraceError, UsageError
from taskscope.source import Source

if TYPE_CHECKING:
    from taskscope.recording import Recording
    from taskscope.snapshot.snapshot import Snapshot

_DUMPS: Final = (b"\x7fELF", b"KDUMP   ", b"DISKDUMP", b"makedumpfile")


def moment(named: str, opened: Callable[[str], Recording] = taskscope.open) -> Snapshot:
    """Read the tasks at one moment.

    :param named: ``proc``, ``live``, ``guest:SOCKET``, a crash dump, a recording at a time (``FILE@T``; its end without
        ``@T``), or what ``taskscope ps -L --json`` printed
    :param opened: opens a recording
    :raises UsageError: there is nothing of that name
    :raises TraceError: it cannot be read
    """
    if named in ("proc", "live"):
        return Source(live=named == "live").snapshot()
    if named.startswith("guest:"):
        return Source(guest=named.removeprefix("guest:")).snapshot()
    head = _head(named)
    if head.startswith(b"{"):
        from taskscope.snapshot.lines import read_lines

        return read_lines(named)
    return Source(core=named).snapshot() if head.startswith(_DUMPS) else _recorded(named, opened)


def _head(named: str) -> bytes:
    try:
        with Path(named).open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _recorded(named: str, opened: Callable[[str], Recording]) -> Snapshot:
    from taskscope.views.times import Times

    path, at, text = named.rpartition("@")
    if not at or Path(named).exists():
        path, text = named, ""
    if not Path(path).exists():
        raise UsageError(f"diff: there is no {named!r}: name proc, live, guest:SOCKET, a dump, a recording, or JSON "
                         "Lines")
    try:
        trace = opened(path)
    except TraceError as error:
        raise TraceError(f"{error} (it is no crash dump and no JSON Lines of 'taskscope ps' either)") from None
    when = Times(trace.clock, trace.start).parse(text, "@", "last") if text else trace.end
    return trace.lives.at(min(max(when, trace.start), trace.end))
