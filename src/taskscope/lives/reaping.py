"""After death: who adopted a task's children, who reaped a zombie, when its task_struct was freed.

Follows forget_original_parent(), wait_task_zombie(), release_task() and delayed_put_task_struct() in kernel/exit.c
(6.1).  Only the parent's thread group can reap; a thread, and a child whose parent ignores SIGCHLD, releases itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taskscope.lives.deaths import Death
from taskscope.lives.family import Family
from taskscope.lives.functions import RELEASE, Functions, syscall_number
from taskscope.lives.life import Adoption, Freed, Reaped, State
from taskscope.lives.records import Rec, chosen_rows, ints, records
from taskscope.lives.timeline import Timeline

#: with more dead children than this, which one a wait() for any child took is not searched for
_MANY = 4096


@dataclass(slots=True)
class WaitReturn:
    """A wait4() or waitpid() that returned a child's pid."""

    rec: Rec
    pid: int


class Reaping:
    """Adoption, reaping and release of every life."""

    def __init__(self, timeline: Timeline, family: Family, deaths: dict[int, Death], functions: Functions,
                 signals_recorded: bool) -> None:
        self.signals_recorded = signals_recorded
        self.tl, self.family, self.deaths, self.functions = timeline, family, deaths, functions
        self.ids = timeline.ids
        self.freed: dict[int, Freed] = {}
        self.reaped: dict[int, Reaped] = {}
        self.adopted: dict[int, list[Adoption]] = {}
        self._run_times: dict[int, npt.NDArray[np.int64]] = {}
        self.orphaned: dict[int, int] = {}          # when its parent's thread group ended, adopted by whomever
        self._freed()
        self._adopted()
        self._reaped()

    # ---- the last reference ------------------------------------------------------------------------------------

    def _freed(self) -> None:
        """Give each sched_process_free to the oldest dead life of its pid that was not freed yet.

        It comes from an RCU callback, so its pid may have a new owner by then, and its current task means nothing.
        """
        replaced = {h.old: h.rec.ts for h in self.tl.handovers}
        for rec in records(self.tl.trace, "sched_process_free", "pid"):
            pid = rec.f["pid"]
            if not isinstance(pid, int):
                continue
            for life in self.ids.generations(pid):
                if life in self.freed:
                    continue
                death = self.deaths.get(life)
                dead = death.at if death is not None else replaced.get(life)
                birth = self.ids.birth_of[life]
                if dead is None and birth is not None and birth.first.ts > rec.ts:
                    continue
                if dead is None or dead <= rec.ts:
                    self.freed[life] = Freed(rec.ts, rec.cpu)
                    break

    # ---- new parents -------------------------------------------------------------------------------------------

    def _group_end(self, life: int) -> int | None:
        """Return when the last thread of a life's group exited; None while one lives."""
        ends = []
        for member in self.family.members.get(self.family.group[life], [life]):
            death = self.deaths.get(member)
            if death is None:
                if any(h.old == member for h in self.tl.handovers):
                    continue
                return None
            ends.append(death.at)
        return max(ends, default=None)

    def _adopted(self) -> None:
        for life, parent in enumerate(self.family.parent):
            if parent is None or self.family.kind[life] not in ("process", "kthread"):
                continue
            death = self.deaths.get(life)
            told = death.notice.target if death is not None and death.notice is not None else None
            gone = self._group_end(parent)
            if gone is not None and death is not None and death.at < gone:
                gone = None
            if told is not None and self.family.group[told] != self.family.group[parent]:
                self.adopted[life] = [Adoption(gone, self.ids.ref(told), (
                    *(("adopted.at: when its parent exited",) if gone is not None else ()),
                    "adopted.by: it got the exit signal"))]
            if gone is not None and (told is None or life in self.adopted):
                self.orphaned[life] = gone

    def parent_at_end(self, life: int) -> int | None:
        """Return the parent that a life had last, None if unknown."""
        if life in self.adopted:
            by = self.adopted[life][-1].by
            return self.ids.number(by) if by is not None else None
        return self.family.parent[life] if life not in self.orphaned else None

    # ---- wait() ------------------------------------------------------------------------------------------------

    def _wait_returns(self) -> list[WaitReturn]:
        trace = self.tl.trace
        found: list[WaitReturn] = []
        for event in ("sys_exit_wait4", "sys_exit_waitpid"):
            found += [WaitReturn(r, r.f["ret"]) for r in records(trace, event, "ret") if isinstance(r.f["ret"], int)]
        found += [WaitReturn(r, v) for r, v in self.functions.probes("wait4", "pid", "ret", "arg1")]
        type_ = trace.type("sys_exit")
        if type_ is not None and type_.field("id") is not None:
            number = syscall_number(trace.kernel.machine, "wait4")
            rows = chosen_rows(trace, "sys_exit")
            if number is not None and len(rows):
                rows = rows[ints(trace, "sys_exit", "id", rows) == number]
                found += [WaitReturn(r, r.f["ret"]) for r in records(trace, "sys_exit", "ret", rows=rows)
                          if isinstance(r.f["ret"], int)]
        found = [w for w in found if w.pid > 0]
        found.sort(key=lambda w: w.rec.key)
        return found

    def _dead_children(self) -> dict[int, list[int]]:
        """Return the dead children of each thread group, by its leader."""
        found: dict[int, list[int]] = {}
        for life in self.deaths:
            parent = self.parent_at_end(life)
            if parent is not None:
                found.setdefault(self.family.group[parent], []).append(life)
        return found

    def _reaped(self) -> None:
        self._children = self._dead_children()
        releases: dict[int, list[Rec]] = {}
        for call in self.functions.calls(*RELEASE):
            caller = self.ids.one(call.pid, call.ts, call.cpu, call.row)
            if caller is not None:
                releases.setdefault(caller, []).append(call)
        self._by_returns(releases)
        for life, death in self.deaths.items():
            if life not in self.reaped:
                reaped = self._by_itself(life, death, releases) or self._by_release(life, death, releases) \
                    or self._by_wait_calls(life, death) or self._by_waiting(life, death)
                if reaped is not None:
                    self.reaped[life] = reaped

    def _by_returns(self, releases: dict[int, list[Rec]]) -> None:
        """A wait4() that returned the pid; release_task() before it, if traced, is the moment itself."""
        for w in self._wait_returns():
            for life in self.ids.generations(w.pid):
                death = self.deaths.get(life)
                if life in self.reaped or death is None or death.at > w.rec.ts:
                    continue
                freed = self.freed.get(life)
                by = self.ids.one(w.rec.pid, w.rec.ts, w.rec.cpu, w.rec.row)
                if by is None or (freed is not None and freed.at < death.at):
                    continue
                at = w.rec.ts
                notes: tuple[str, ...] = ("reaped.at: when wait() returned",)
                calls = releases.get(by, [])
                k = bisect_right(calls, w.rec.key, key=lambda c: c.key) - 1
                if k >= 0 and calls[k].ts >= death.at:
                    at, notes = calls[k].ts, ()
                self.reaped[life] = Reaped(at, self.ids.ref(by), notes)
                break

    def _by_itself(self, life: int, death: Death, releases: dict[int, list[Rec]]) -> Reaped | None:
        """A thread, or a child that nobody waits for, calls release_task() on its own way out (EXIT_DEAD)."""
        if death.last_out is None or death.last_out[2] != State.DEAD:
            return None
        call = next((c for c in releases.get(life, ()) if c.ts >= death.at), None)
        if call is not None:
            return Reaped(call.ts, self.ids.ref(life))
        if self.family.group[life] == life and (death.notice is not None or not self.signals_recorded):
            return None         # a parent that is faster than the last switch-out leaves the same trace
        return Reaped(death.last_out[0], self.ids.ref(life), (
            "reaped.by: it left the cpu in EXIT_DEAD, so it released itself",
            "reaped.at: by its last switch at the latest"))

    def _zombies_of(self, reaper: int, at: int) -> list[int]:
        """Find the dead children that a thread group could reap at a time."""
        found: list[int] = []
        children = self._children.get(self.family.group[reaper], ())
        if len(children) > _MANY:
            return found
        for life in children:
            death = self.deaths[life]
            if death.at > at:
                continue
            if self.family.kind[life] == "thread" or (death.last_out is not None and death.last_out[2] == State.DEAD):
                continue
            freed, reaped = self.freed.get(life), self.reaped.get(life)
            if (freed is not None and freed.at < at) or (reaped is not None and reaped.at <= at):
                continue
            found.append(life)
        return found

    def _by_release(self, life: int, death: Death, releases: dict[int, list[Rec]]) -> Reaped | None:
        """A release_task() of the parent while this was its only zombie."""
        parent = self.parent_at_end(life)
        if parent is None:
            return None
        freed = self.freed.get(life)
        for member in self.family.members.get(self.family.group[parent], [parent]):
            calls = releases.get(member, [])
            for call in calls[bisect_left(calls, (death.at, -1), key=lambda c: c.key):]:
                if freed is not None and call.ts > freed.at:
                    break
                own = self.deaths.get(member)
                if own is not None and call.ts >= own.at:
                    break       # its own release
                if self._zombies_of(member, call.ts) == [life]:
                    return Reaped(call.ts, self.ids.ref(member))
        return None

    def _by_wait_calls(self, life: int, death: Death) -> Reaped | None:
        """Conclude from sched_process_wait: what its parent's wait() did with this child.

        It returns at once with a child that is dead already; one that sleeps in it runs again because of the death.
        """
        parent = self.parent_at_end(life)
        if parent is None or self.family.kind[life] == "thread" or life in self.orphaned:
            return None
        limit = self.freed[life].at if life in self.freed else self.tl.trace.end
        for member in self.family.members.get(self.family.group[parent], [parent]):
            calls = self._wait_calls.get(member, [])
            k = bisect_right(calls, (death.at, 1 << 62), key=lambda c: c.key)
            before = calls[k - 1] if k else None
            if before is not None and before.f["pid"] in (0, self.ids.refs[life].pid) \
                    and self.tl.state_at(member, (death.at, 1 << 62)) == State.SLEEPING \
                    and self._last_ran(member, death.at) < before.ts:
                again = self._runs_again(member, death.at)
                if again is not None and again <= limit:
                    return Reaped(again, self.ids.ref(member), (
                        "reaped: its parent slept in wait() and ran again when it died",))
            for call in calls[k:]:
                if call.ts > limit:
                    break
                if call.f["pid"] == self.ids.refs[life].pid or (
                        call.f["pid"] == 0 and self._zombies_of(member, call.ts) == [life]):
                    return Reaped(call.ts, self.ids.ref(member), (
                        "reaped: its parent called wait() for it when it was dead",))
        return None

    @cached_property
    def _wait_calls(self) -> dict[int, list[Rec]]:
        """Return the sched_process_wait records of each life; pid 0 waits for any child."""
        found: dict[int, list[Rec]] = {}
        for rec in records(self.tl.trace, "sched_process_wait", "pid"):
            caller = self.ids.one(rec.pid, rec.ts, rec.cpu, rec.row)
            if caller is not None:
                found.setdefault(caller, []).append(rec)
        return found

    def _runs(self, life: int) -> npt.NDArray[np.int64]:
        """Return when a life came to a cpu, in order."""
        times = self._run_times.get(life)
        if times is None:
            a, b = self.tl.bounds(life)
            rows = self.tl.rows
            times = self._run_times[life] = rows.ts[a:b][rows.code[a:b] == State.RUNNING]
        return times

    def _last_ran(self, life: int, time: int) -> int:
        runs = self._runs(life)
        k = int(np.searchsorted(runs, time, "right"))
        return int(runs[k - 1]) if k else self.tl.trace.start - 1

    def _runs_again(self, life: int, time: int) -> int | None:
        runs = self._runs(life)
        k = int(np.searchsorted(runs, time, "left"))
        return int(runs[k]) if k < len(runs) else None

    def _by_waiting(self, life: int, death: Death) -> Reaped | None:
        """Nobody else than its parent can have reaped a zombie that was freed."""
        if life not in self.freed or death.last_out is None or death.last_out[2] != State.ZOMBIE:
            return None
        parent = self.parent_at_end(life)
        if parent is None or len(self.family.members.get(self.family.group[parent], [parent])) > 1:
            return None
        gone = self._group_end(parent)
        if gone is not None and gone <= self.freed[life].at:
            return None         # whoever adopted the zombie may have reaped it
        return Reaped(self.freed[life].at, self.ids.ref(parent), (
            "reaped.by: it was a zombie and was freed, and only its parent can have waited for it",
            "reaped.at: when it was freed, at the latest"))

    # ---- ends of zombies ---------------------------------------------------------------------------------------

    def ends(self) -> dict[int, int]:
        """Return when each zombie ceased to be one: reaped, else freed."""
        found: dict[int, int] = {}
        for life, death in self.deaths.items():
            if death.last_out is not None and death.last_out[2] == State.DEAD:
                continue
            reaped, freed = self.reaped.get(life), self.freed.get(life)
            if reaped is not None:
                found[life] = reaped.at
            elif freed is not None:
                found[life] = freed.at
        return found


def migration_counts(timeline: Timeline, lives: int) -> npt.NDArray[np.int64]:
    """Count sched_migrate_task records by life."""
    trace = timeline.trace
    rows = chosen_rows(trace, "sched_migrate_task")
    if not len(rows):
        return np.zeros(lives, np.int64)
    pid = ints(trace, "sched_migrate_task", "pid", rows)
    life = timeline.ids.of(pid, trace.ts(rows), np.full(len(rows), -1, np.int32))
    return np.bincount(life[life >= 0], minlength=lives).astype(np.int64, copy=False)
