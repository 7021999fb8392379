"""The log as the kernel prints it, row by row with its flags column: what labs about contexts look at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from taskscope.recording import Recording
    from taskscope.system import System

TRACE = "/sys/kernel/tracing/trace"
_ROW = re.compile(
    r"\s*(?P<comm>.+)-(?P<pid>\d+)\s+(?:\([^)]*\)\s+)?\[(?P<cpu>\d+)\]\s+(?P<flags>\S{4,5})\s+"
    r"(?P<s>\d+)\.(?P<us>\d{6}): "
    r"(?P<event>\w+): (?P<body>.*)\Z"
)


class Row(NamedTuple):
    """One event of the log.

    ``flags`` is the column irqs-off, need-resched, hardirq/softirq, preempt-depth; ``us`` the time in microseconds.
    """

    comm: str
    pid: int
    cpu: int
    flags: str
    us: int
    event: str
    body: str
    text: str

    @property
    def irqs_off(self) -> bool:
        """Whether interrupts were off."""
        return self.flags[0] in "dD"

    @property
    def need_resched(self) -> bool:
        """Whether a reschedule was due."""
        return self.flags[1] != "."

    @property
    def context(self) -> str:
        """``h`` in a hard interrupt, ``s`` in a softirq, ``H`` in the first during the second, ``.`` in neither."""
        return self.flags[2]

    @property
    def depth(self) -> int:
        """How often preemption was disabled."""
        return 0 if self.flags[3] == "." else int(self.flags[3], 16)

    def value(self, name: str) -> str:
        """Return a field of the text: ``prev_state`` of a sched_switch."""
        found = re.search(rf"\b{name}=(\S+)", self.body)
        return found[1] if found else ""


def log_rows(k: System) -> list[Row]:
    """Return the log's events, oldest first."""
    return rows_of(k.read(TRACE).decode())


def report_rows(recording: Recording) -> list[Row]:
    """Return the events of a recording, oldest first."""
    return rows_of("".join(block.decode(errors="replace") for block in recording.report()))


def rows_of(text: str) -> list[Row]:
    """Return the events in a text of the log."""
    rows = []
    for line in text.splitlines():
        match = _ROW.match(line)
        if match:
            rows.append(
                Row(
                    match["comm"],
                    int(match["pid"]),
                    int(match["cpu"]),
                    match["flags"],
                    int(match["s"]) * 1_000_000 + int(match["us"]),
                    match["event"],
                    match["body"],
                    line.rstrip(),
                )
            )
    return rows


def clear_log(k: System) -> None:
    """Empty the log."""
    k.write(TRACE, "")
