"""The names that each task bore, and from when on.

A child bears its parent's name until it execs (task_rename, then sched_process_exec) or renames itself.  Where the
recording has every rename, these tell all; where it has none, or lost events, the names in sched_switch are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.lives.life import Comm, State
from taskscope.lives.records import records
from taskscope.lives.rows import WAKE
from taskscope.lives.timeline import Timeline


class Names:
    """Names of lives, by life number."""

    def __init__(self, timeline: Timeline) -> None:
        self.tl = timeline
        self.trace = timeline.trace
        self.ids = timeline.ids
        # life -> (time, row, comm), unordered
        self._said: dict[int, list[tuple[int, int, str]]] = {}
        self._old: dict[int, str] = {}
        self._from_births()
        renames = self._from_renames()
        if renames and not self.trace.lost:
            self._from_first_switches()
        else:
            self._from_all_switches()
        for said in self._said.values():
            said.sort(key=lambda x: x[:2])

    def _say(self, life: int | None, ts: int, row: int, comm: str | None) -> None:
        if life is not None and comm is not None:
            self._said.setdefault(life, []).append((ts, row, comm))

    def _from_births(self) -> None:
        for life, birth in enumerate(self.ids.birth_of):
            if birth is None or birth.seen is not None:
                continue
            rec = birth.first
            comm = rec.f.get("child_comm") or rec.f.get("comm")
            self._say(life, rec.ts, rec.row, comm)
            if birth.fork is not None:
                creator = self.ids.one(rec.pid, rec.ts, rec.cpu, rec.row)
                if creator is not None and creator not in self._old:
                    self._old[creator] = birth.fork.f.get("parent_comm") or self._old.get(creator, "")

    def _from_renames(self) -> int:
        found = records(self.trace, "task_rename", "pid", "oldcomm", "newcomm")
        first: set[int] = set()
        for rec in found:
            life = self.ids.one(rec.f["pid"], rec.ts, row=rec.row)
            if life is None:
                continue
            if life not in first:
                first.add(life)
                if rec.f["oldcomm"]:
                    self._old[life] = rec.f["oldcomm"]
            self._say(life, rec.ts, rec.row, rec.f["newcomm"])
        return len(found)

    def _switch_comms(self, at: npt.NDArray[Any]) -> list[str]:
        """Return the comm of sorted rows that came from sched_switch: next's where it came, prev's where it left."""
        rows = self.tl.rows
        out: list[str] = [""] * len(at)
        came = rows.code[at] == State.RUNNING
        for mask, name in ((came, "next_comm"), (~came, "prev_comm")):
            which = np.flatnonzero(mask)
            if len(which):
                column: Any = self.trace.column("sched_switch", name, rows.row[at[which]])
                for k, comm in zip(which.tolist(), column.tolist(), strict=True):
                    out[k] = bytes(comm).decode("utf-8", "backslashreplace")
        return out

    def _from_switch(self) -> npt.NDArray[Any]:
        """Return the places in the sorted rows that sched_switch records made."""
        type_ = self.trace.type("sched_switch")
        rows = self.tl.rows
        if type_ is None or type_.field("next_comm") is None or type_.field("prev_comm") is None:
            return np.empty(0, np.int64)
        # Births, handovers and first records have no row of their own.
        return np.flatnonzero((rows.row >= 0) & (rows.code < WAKE))

    def _from_first_switches(self) -> None:
        at = self._from_switch()
        life = self.tl.rows.life[at]
        first = np.ones(len(at), bool)
        first[1:] = life[1:] != life[:-1]
        at = at[first]
        for k, comm in zip(at.tolist(), self._switch_comms(at), strict=True):
            number = int(self.tl.rows.life[k])
            # Renames tell the rest; of a life that was born, also this.
            if number not in self._said:
                self._old.setdefault(number, comm)

    def _from_all_switches(self) -> None:
        at = self._from_switch()
        if not len(at):
            return
        comm = np.empty(len(at), "S16")
        came = self.tl.rows.code[at] == State.RUNNING
        for mask, name in ((came, "next_comm"), (~came, "prev_comm")):
            which = np.flatnonzero(mask)
            if len(which):
                comm[which] = self.trace.column("sched_switch", name, self.tl.rows.row[at[which]]).astype("S16")
        life = self.tl.rows.life[at]
        words = comm.view(np.uint64).reshape(-1, 2)
        new = np.ones(len(at), bool)
        new[1:] = (life[1:] != life[:-1]) | (words[1:] != words[:-1]).any(axis=1)
        for k in np.flatnonzero(new).tolist():
            p = int(at[k])
            number = int(life[k])
            text = bytes(comm[k]).decode("utf-8", "backslashreplace")
            other = self._old.get(number, text) != text
            if number in self._said or self.ids.birth_of[number] is not None or other:
                self._say(number, int(self.tl.rows.ts[p]), int(self.tl.rows.row[p]), text)
            else:
                self._old.setdefault(number, text)

    def first(self, life: int) -> str:
        """Return the first name known of a life, ``<...>`` if none is."""
        ref = self.ids.refs[life]
        if ref.pid == 0:
            return f"swapper/{ref.generation}"
        if self._old.get(life):
            return self._old[life]
        said = self._said.get(life)
        if said:
            return said[0][2]
        saved = self.trace.source.cmdlines.get(ref.pid)
        return saved.decode("utf-8", "backslashreplace") if saved is not None else "<...>"

    def history(self, life: int, begin: int) -> tuple[Comm, ...]:
        """Return the names of a life in order of time; the first holds from `begin` (ns) on."""
        out = [Comm(begin, self.first(life))]
        for ts, _, comm in self._said.get(life, ()):
            if comm != out[-1].comm:
                # A name given at birth, or said again at the very beginning, replaces the one assumed.
                if ts <= begin:
                    out[-1] = Comm(begin, comm)
                else:
                    out.append(Comm(ts, comm))
        return tuple(out)
