"""Which name a task bore at a time, from the records that carry names.

saved_cmdlines knows only the last name of a pid, so an event of before an exec would bear the name of after it.
Here task_rename, sched_switch, task_newtask and sched_process_fork say what a pid was called and from when on.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from taskscope.trace.trace import Trace

#: (event, field with the pid, field with its name), in the order in which one record says them
_SAYS = (
    ("task_rename", "pid", "oldcomm"),
    ("task_rename", "pid", "newcomm"),
    ("task_newtask", "pid", "comm"),
    ("sched_process_fork", "parent_pid", "parent_comm"),
    ("sched_process_fork", "child_pid", "child_comm"),
    ("sched_switch", "prev_pid", "prev_comm"),
    ("sched_switch", "next_pid", "next_comm"),
)


class Comms:
    """Names of pids over time."""

    def __init__(self, trace: Trace) -> None:
        self._saved = trace.source.cmdlines
        # pid -> (times, names): from times[i] on it was names[i]; before times[0], names[0].
        self._times: dict[int, list[int]] = {}
        self._names: dict[int, list[bytes]] = {}
        self._collect(trace)

    def _collect(self, trace: Trace) -> None:
        # Where every rename was recorded, switches tell no more than a first name, and there are millions of them.
        complete = len(trace.rows("task_rename")) > 0 and not trace.lost
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        number: dict[bytes, int] = {}
        for k, (event, pid_field, comm) in enumerate(_SAYS):
            rows = trace.rows(event)
            t = trace.type(event)
            if not len(rows) or t is None or t.field(pid_field) is None or t.field(comm) is None:
                continue
            pid = trace.column(event, pid_field, rows)
            if pid.dtype.kind not in "iu":
                continue
            if complete and event == "sched_switch":
                pid, first = np.unique(pid, return_index=True)
                rows = rows[first]
            unique, inverse = np.unique(trace.column(event, comm, rows), return_inverse=True)
            codes = np.array([number.setdefault(bytes(u), len(number)) for u in unique.tolist()], np.int64)
            parts.append((pid.astype(np.int64), trace.ts(rows), rows * 8 + k, codes[inverse.reshape(-1)]))
        if not parts:
            return
        names = list(number)
        pid, ts, seq, code = (np.concatenate(x) for x in zip(*parts, strict=True))
        order = np.lexsort((seq, ts, pid))
        pid, ts, code = pid[order], ts[order], code[order]
        new = np.ones(len(pid), bool)
        new[1:] = (pid[1:] != pid[:-1]) | (code[1:] != code[:-1])
        for p, t, n in zip(pid[new].tolist(), ts[new].tolist(), code[new].tolist(), strict=True):
            self._times.setdefault(p, []).append(t)
            self._names.setdefault(p, []).append(names[n])

    def name(self, pid: int, ts: int) -> bytes:
        """Return the name of a pid at a time, ``<...>`` if nothing tells it."""
        if pid == 0:
            return b"<idle>"
        times = self._times.get(pid)
        if times is None:
            return self._saved.get(pid, b"<...>")
        # The record of a rename itself is still the work of the old name.
        return self._names[pid][max(bisect_left(times, ts) - 1, 0)]

    def at(self, pids: npt.NDArray[np.int32], ts: npt.NDArray[np.int64]) -> list[bytes]:
        """Return the names of many pids, each at its time."""
        single = {p: self.name(p, 0) for p in np.unique(pids).tolist() if len(self._times.get(p, ())) < 2}
        return [single[p] if p in single else self.name(p, t)
                for p, t in zip(pids.tolist(), ts.tolist(), strict=True)]
