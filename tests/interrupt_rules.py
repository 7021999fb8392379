"""What every kernel's log of interrupts must keep to: rules over its events and the flags column, CPU by CPU."""

from __future__ import annotations

import re
from typing import NamedTuple

_ROW = re.compile(
    rb"\s*(?P<comm>.+?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?\[(?P<cpu>\d+)\]\s+(?P<flags>[.dDbXNnpBLl]{2}[.hsHzZ]\S{1,2})\s+"
    rb"(?P<time>[\d.]+):\s+(?P<event>\w+):\s+(?P<body>.*)"
)


class Row(NamedTuple):
    """One event."""

    comm: str
    pid: int
    cpu: int
    flags: str
    event: str
    body: str
    text: str

    def value(self, name: str) -> str:
        """Return ``name=…`` of the text."""
        found = re.search(rf"\b{name}=(\S+)", self.body)
        return found[1] if found else ""


def rows_of(text: bytes) -> list[Row]:
    """Return the events of a log, as ``trace`` or ``report`` print it."""
    rows = []
    for line in text.splitlines():
        match = _ROW.match(line)
        if match:
            rows.append(
                Row(
                    match["comm"].decode(errors="replace"),
                    int(match["pid"]),
                    int(match["cpu"]),
                    match["flags"].decode(),
                    match["event"].decode(),
                    match["body"].decode(errors="replace"),
                    line.decode(errors="replace"),
                )
            )
    return rows


def broken(rows: list[Row]) -> list[str]:
    """Return what breaks a rule: the rule, and the row.

    A log may begin and end anywhere, so what is open at its begin is not known: each CPU counts from its first
    sched_switch on, where no handler and no softirq is at work.
    """
    out = []
    for cpu in sorted({row.cpu for row in rows}):
        out += _broken_on([row for row in rows if row.cpu == cpu])
    return out


def _broken_on(rows: list[Row]) -> list[str]:
    out: list[str] = []
    hard: list[str] = []  # handlers at work
    soft: str | None = None  # the softirq at work
    raised: set[str] = set()  # in a hard interrupt that came outside of softirqs, not run yet
    known = False
    last = ""

    def rule(holds: bool, what: str, row: Row) -> None:
        if not holds:
            out.append(f"{what}: {row.text}")

    for row in rows:
        context = row.flags[2]
        if row.event == "sched_switch":
            rule(not known or (not hard and soft is None), "a switch inside of a handler or softirq", row)
            rule(context == ".", "a switch in interrupt context", row)
            rule(row.flags[0] in "dD", "a switch with interrupts on", row)
            known, hard, soft = True, [], None
            raised.clear()
            continue
        if not known:
            continue
        if row.event == "irq_handler_entry":
            rule(context in "hH" and row.flags[0] in "dD", "a handler outside of hard interrupt context", row)
            # Interrupts are on from before the first softirq's begin until after the last one's end.
            between = bool(raised) or last == "softirq_exit"
            rule(context == "H" or soft is None, "h where a softirq is interrupted", row)
            rule(context == "h" or soft is not None or between, "H where no softirq is interrupted", row)
            hard.append(row.value("irq"))
        elif row.event == "irq_handler_exit":
            rule(bool(hard) and hard[-1] == row.value("irq"), "a handler's end without its begin", row)
            del hard[-1:]
        elif row.event == "softirq_raise":
            rule(row.flags[0] in "dD", "a softirq is raised with interrupts on", row)
            rule(not hard or context in "hH", "raised by a handler, and not in its context", row)
            if context == "h" and soft is None:
                raised.add(row.value("vec"))
        elif row.event == "softirq_entry":
            rule(context == "s" and row.flags[0] == ".", "a softirq with interrupts off, or in another context", row)
            rule(not hard, "a softirq inside of a handler", row)
            rule(soft is None, "a softirq inside of a softirq", row)
            soft = row.value("vec")
            raised.discard(soft)
        elif row.event == "softirq_exit":
            rule(soft == row.value("vec"), "a softirq's end without its begin", row)
            soft = None
        elif hard:
            rule(context in "hH", "inside of a handler, and not in its context", row)
        elif soft is not None:
            # What the softirq does, or an interrupt that has no event of its own here (a vector of x86).
            rule(context in "sH", "inside of a softirq, and not in its context", row)
        rule(row.flags[0] in "dD" or context not in "hH", "hard interrupt context with interrupts on", row)
        last = row.event
    return out
