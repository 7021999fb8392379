"""A file that holds many format files, one after the other, as folders of raw pages and spools have it.

Each begins with ``name:`` and ends with ``print fmt:``; what stands between two of them may say the system.
"""

from __future__ import annotations

import re

from taskscope.ftrace.reader import show
from taskscope.ftrace.sections import EVENTS_MAX, Formats
from taskscope.ftrace.systems import system_of


def split_formats(text: bytes) -> Formats:
    """Split a file that holds many format files, one after the other.

    The system of each is read from what stands before it, where something does (``system: sched``, or a path
    ``events/sched/sched_switch/format``), and told by its name elsewhere.
    """
    starts = [m.start() for m in re.finditer(rb"^name: ", text, re.MULTILINE)]
    formats: Formats = []
    if not starts:
        return formats
    before = text[:starts[0]]
    stated: bytes | None = None
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        one = text[start:end]
        m = re.search(rb"^print fmt:.*\n?", one, re.MULTILINE)
        one, behind = (one[:m.end()], one[m.end():]) if m else (one, b"")
        # `system:` holds until the next; a path is that of one file.
        stated = _last(rb"^system: *(\S+)", before) or stated
        system = _last(rb"([\w.-]+)/[\w.-]+/format\b", before) or stated
        name = one[6:one.find(b"\n")].strip()
        formats.append((show(system) if system else system_of(show(name)), one))
        before = behind
        if len(formats) >= EVENTS_MAX:
            break
    return formats


def _last(pattern: bytes, text: bytes) -> bytes | None:
    found = re.findall(pattern, text, re.MULTILINE)
    return found[-1] if found else None
