"""The losses that a text tells of, as gaps between records of a cpu."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.text_scan import Scan
from taskscope.trace.source import Gap


def gaps_of(found: Scan, buffer: npt.NDArray[np.uint8]) -> tuple[Gap, ...]:
    """Return the gaps in order of time.

    ``CPU:n [LOST m EVENTS]`` (tracefs), ``CPU:n [m EVENTS DROPPED]`` (trace-cmd) and PERF_RECORD_LOST stand before the
    first record after the loss.  The counts at the head of a tracefs text say how many records were overwritten before
    those that are there, but not on which cpu; where it has no counts, ``buffer started`` names the cpus.

    :param buffer: ring buffer of each record, in the order of the text
    """
    header, records = found.header, found.records
    gaps: list[Gap] = []
    rows_of: dict[int, npt.NDArray[np.int64]] = {}

    def rows(cpu: int) -> npt.NDArray[np.int64]:
        if cpu not in rows_of:
            rows_of[cpu] = np.flatnonzero(records.cpu == cpu)
        return rows_of[cpu]

    # Records that perf's call chains make are not counted where a line's number is.
    real = np.cumsum(records.count == 0) - 1
    for loss in header.losses:
        before = int(np.searchsorted(real, loss.before))
        mine = np.arange(len(records.ts)) if loss.cpu is None else rows(loss.cpu)
        at = int(np.searchsorted(mine, before))
        start = int(records.ts[mine[at - 1]]) if at > 0 and not (loss.head and loss.before == 0) else None
        end = int(records.ts[mine[at]]) if at < len(mine) else None
        near = mine[at] if at < len(mine) else mine[at - 1] if len(mine) else None
        gaps.append(Gap(loss.cpu, start, end, loss.count, int(buffer[near]) if near is not None else 0))
    if not any(loss.head for loss in header.losses):
        for cpu in header.started:
            mine = rows(cpu)
            if len(mine):
                gaps.append(Gap(cpu, None, int(records.ts[mine[0]]), None))
    return tuple(sorted(gaps, key=lambda g: (g.start is not None, g.start or 0, g.end or 0, g.cpu or 0)))
