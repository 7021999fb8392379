"""Transcripts of rules as a host's kernel gave them, kept as text: what the model is held against without that host.

A file per group: the kernel's release, then each rule's name with its lines indented below it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from taskscope.labs.truth.rules.transcript import Transcript

_RELEASE: Final = "# Linux "
_INDENT: Final = "    "


def write(path: Path, transcripts: dict[str, Transcript], release: str) -> None:
    """Write the transcripts of one group.

    :param release: of the kernel that gave them, as ``uname -r`` has it
    """
    lines = [_RELEASE + release]
    for name, said in transcripts.items():
        lines += [name, *(_INDENT + line for line in said)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Transcript]:
    """Return the transcripts of one group by the names of rules; none if the file is not there."""
    found: dict[str, Transcript] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(_INDENT):
            found[list(found)[-1]].append(line.removeprefix(_INDENT))
        elif not line.startswith(_RELEASE):
            found[line] = []
    return found
