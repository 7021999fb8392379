"""What a rule's processes say, with names for pids that are the same on every kernel."""

from __future__ import annotations

import re
from typing import Final

#: how a pid stands in a line until the rule has ended
_MARK: Final = re.compile(r"\x01(-?)(\d+)\x01")
Transcript = list[str]


def mark(pid: int) -> str:
    """Return how a pid stands in a line."""
    return f"\x01{pid}\x01"


def named(lines: list[str], main: int) -> Transcript:
    """Return the lines with names in place of pids.

    Pids of a namespace ascend, so that order of birth is their order: ``@0`` is the rule's first process, ``@1`` and
    on are what came after it and is told of; ``init`` is process 1, ``outer`` is older than the rule.
    """
    pids = {int(found[1]) for line in lines for found in _MARK.findall(line)}
    names = {0: "0", 1: "init", main: "@0"}
    names.update({pid: "outer" for pid in pids if 1 < pid < main})
    names.update({pid: f"@{n}" for n, pid in enumerate(sorted(pid for pid in pids if pid > main), 1)})
    return [_MARK.sub(lambda found: found[1] + names[int(found[2])], line) for line in lines]


def ending(status: int, stderr: bytes) -> list[str]:
    """Return the lines at the end: how the rule's first process ended, if not by returning, and what went wrong."""
    lines = [] if status == 0 else [f"ended 0x{status:04x}"]
    text = stderr.decode(errors="replace").strip()
    if text:
        lines.append("stderr: " + text.splitlines()[-1])
    return lines


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_shown, value)) or "none"
    return str(value)


class Saying:
    """`say`: adds lines to the transcript; the side decides where they go."""

    def __call__(self, *values: object) -> None:
        """Add a line: the values with spaces between, those of a list or tuple with commas."""
        self.put(" ".join(_shown(value) for value in values))

    def who(self, pid: int) -> str:
        """Return the name of a pid for a line."""
        return mark(pid)

    def put(self, line: str) -> None:
        """Add a line."""
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, object]) -> Saying:
        """It is not part of a process: a child's copy of the memory has the same one."""
        return self
