"""``export --to systrace``: the events as the text that Android's systrace wrote, for Catapult and the Perfetto UI.

It is tracefs' text with the column of thread groups, in the shape that their readers know: four columns of flags with
the letters of Linux 4.14, one line an event, no calls and no call stacks.  Names
are those of the time, thread groups those of the lives.

Follows Catapult's tracing/extras/importer/linux_perf/ftrace_importer.html and Perfetto's systrace_line_tokenizer.cc.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

import numpy as np

from taskscope.errors import UsageError
from taskscope.lives.lives import Lives
from taskscope.trace.frames import decode
from taskscope.trace.source import UNKNOWN_TYPE, Rows
from taskscope.views.text import escape

_HEAD = """\
# tracer: nop
#
# entries-in-buffer/entries-written: {rows}/{rows}   #P:{cpus}
#
#                                      _-----=> irqs-off
#                                     / _----=> need-resched
#                                    | / _---=> hardirq/softirq
#                                    || / _--=> preempt-depth
#                                    ||| /     delay
#           TASK-PID    TGID   CPU#  ||||    TIMESTAMP  FUNCTION
#              | |        |      |   ||||       |         |
"""

#: a line of a report whose name is ``x``: pid, maybe a thread group, cpu, flags, then what goes on as it is
_LINE = re.compile(rb" *x-\d+ +(?:\([ \d-]+\) )?\[\d+\] [^ ]+ +(\d+\.\d+: )(.*)")

#: in a name it would be taken for the column of cpus
_CPU = re.compile(rb"\[(\d+)\]")

#: IRQS_OFF, and who wants a reschedule: NEED_RESCHED, PREEMPT_RESCHED
_IRQS_OFF, _NEED, _PREEMPT = 0x01, 0x04, 0x20
_HARDIRQ, _SOFTIRQ, _NMI = 0x08, 0x10, 0x40


def systrace(lives: Lives, rows: Rows, block: int = 20_000) -> Iterator[bytes]:
    """Yield the text in blocks.

    :param rows: of the recording, in order of time
    :raises UsageError: the clock counts cycles, and the format has seconds
    """
    trace = lives.trace
    if trace.clock.unit == "cycles":
        raise UsageError(f"{trace.path}: its clock {trace.clock.name} counts cycles, and a systrace has seconds; "
                         "export it --to perfetto")
    # The tracer's own records (functions, stacks) are no events to those readers, but for what programs wrote.
    others = [t.index for t in trace.types if t.system == "ftrace" and t.name != "print"]
    rows = rows[~np.isin(trace.source.index.type[rows], np.array([*others, UNKNOWN_TYPE], np.uint16))]
    yield _HEAD.format(rows=len(rows), cpus=len(trace.cpus)).encode()
    groups = _Groups(lives)
    losses = _losses(lives, rows)
    for k in range(0, len(rows), block):
        part = rows[k:k + block]
        out: list[bytes] = []
        for body, ts, cpu, pid, flags, comm in zip(
            _bodies(lives, part), trace.ts(part).tolist(), trace.cpu(part).tolist(),
            trace.source.pids(part).tolist(), trace.source.flags(part).tolist(), trace.comms_at(part), strict=True
        ):
            while losses and losses[0][0] <= ts:
                out.append(losses.popleft()[1])
            if body is not None:
                name = _CPU.sub(rb"<\1>", escape(decode(bytes(comm))).encode())
                out.append(b"%16s-%-5d (%s) [%03d] %s %s\n" % (
                    name, pid, groups.of(pid, ts), cpu, _flags(flags & 0xFF, flags >> 8), body))
        yield b"".join(out)
    yield b"".join(line for _, line in losses)


def _bodies(lives: Lives, rows: Rows) -> list[bytes | None]:
    """Return time, event and text of each row; None where the report has no line for one (a leaf of a call graph)."""
    trace = lives.trace
    found: list[tuple[bytes, bytes] | None] = [*_split(trace.source.report(rows, comms=[b"x"] * len(rows)))]
    if len(found) != len(rows):
        alone = (_split(trace.source.report(rows[k:k + 1], comms=[b"x"])) for k in range(len(rows)))
        found = [one[0] if one else None for one in alone]
    names = [trace.types[k].name.encode() for k in trace.source.index.type[rows].tolist()]
    return [None if one is None else one[0] + _named(name, one[1]) for name, one in zip(names, found, strict=True)]


def _split(text: bytes) -> list[tuple[bytes, bytes]]:
    # What does not fit one line (a user's stack) ends with its first.
    return [(m[1], m[2]) for line in text.split(b"\n") if (m := _LINE.fullmatch(line))]


def _named(name: bytes, body: bytes) -> bytes:
    """Put the name of an event before a text that does not begin with it, as those of system calls do not."""
    return body if name == b"print" or body.startswith(name + b": ") else name + b": " + body


def _flags(flags: int, count: int) -> bytes:
    """Return the four columns that the readers know; newer letters become the older ones that say nearly the same."""
    need = {_NEED | _PREEMPT: "N", _NEED: "n", _PREEMPT: "p", 0: "."}[flags & (_NEED | _PREEMPT)]
    hard = flags & (_HARDIRQ | _NMI)
    context = ("H" if flags & _SOFTIRQ else "h") if hard else "s" if flags & _SOFTIRQ else "."
    depth = count & 0xF
    return f"{'d' if flags & _IRQS_OFF else '.'}{need}{context}{f'{depth:x}' if depth else '.'}".encode()


class _Groups:
    """The thread group of a pid at a time, as the column has it."""

    def __init__(self, lives: Lives) -> None:
        self._known: dict[int, tuple[list[int], list[bytes]]] = {}
        for life in sorted(lives, key=lambda x: x.first):
            tgid = life.pid if life.tgid is None and life.kind != "thread" else life.tgid
            begins, texts = self._known.setdefault(life.pid, ([], []))
            begins.append(life.first)
            texts.append(b"-----" if tgid is None else b"%5d" % tgid)

    def of(self, pid: int, ts: int) -> bytes:
        """Return ``  911``, or ``-----`` where it is not known."""
        begins, texts = self._known.get(pid, ((), ()))
        return texts[max(bisect_right(begins, ts) - 1, 0)] if texts else b"-----"


def _losses(lives: Lives, rows: Rows) -> deque[tuple[int, bytes]]:
    """Return the comments that tell of lost events, with the time before which they stand."""
    trace = lives.trace
    if not len(rows):
        return deque()
    first, last = (int(trace.ts(rows[k:k + 1])[0]) for k in (0, len(rows) - 1))
    found = []
    for gap in trace.lost:
        if (gap.end is None or gap.end >= first) and (gap.start is None or gap.start <= last):
            cpu = "?" if gap.cpu is None else gap.cpu
            many = "" if gap.count is None else f"{gap.count} "
            found.append((last + 1 if gap.end is None else gap.end, f"# CPU:{cpu} [LOST {many}EVENTS]\n".encode()))
    return deque(sorted(found))
