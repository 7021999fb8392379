"""What the recording shows of each death: the exit record, the last switch, calls, deliveries, the parent's signal.

Only collected here; `causes` concludes from it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from taskscope.lives.family import Family
from taskscope.lives.functions import EXIT, Functions, syscall_number
from taskscope.lives.life import State
from taskscope.lives.records import Rec, chosen_rows, ints, records
from taskscope.lives.signals import CLD_DUMPED, CLD_EXITED, Delivered, Sent, Signals
from taskscope.lives.timeline import Timeline


@dataclass(slots=True)
class ExitCall:
    """A task's own exit or exit_group system call."""

    rec: Rec
    code: int
    group: bool


@dataclass(slots=True)
class Death:
    """What is known of the end of one life."""

    life: int
    exit: Rec | None = None                  # sched_process_exit, the last one of the life
    last_out: tuple[int, int, int] | None = None     # ts, cpu, State of the switch-out that it never came back from
    status: int | None = None                # argument of do_exit()
    call: ExitCall | None = None
    fatal: Delivered | None = None           # the last fatal delivery before the exit
    notice: Sent | None = None               # exit signal to the parent
    stack: tuple[str, ...] | None = None
    victim: Rec | None = None                # oom:mark_victim

    @property
    def at(self) -> int:
        """Time of the exit."""
        if self.exit is not None:
            return self.exit.ts
        assert self.last_out is not None, "a death has a record"
        return self.last_out[0]

    @property
    def cpu(self) -> int:
        """Cpu of the exit."""
        if self.exit is not None:
            return self.exit.cpu
        assert self.last_out is not None, "a death has a record"
        return self.last_out[1]


@dataclass
class Deaths:
    """All deaths, by life number."""

    timeline: Timeline
    family: Family
    signals: Signals
    functions: Functions
    by_life: dict[int, Death] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A leader's life goes on with the thread that called execve: what was before is not of its last death.
        self._handed = {h.new: h.rec.ts for h in self.timeline.handovers}

    def collect(self) -> dict[int, Death]:
        """Gather everything."""
        self._exit_records()
        self._last_switches()
        self._statuses()
        self._calls()
        self._deliveries()
        self._notices()
        self._stacks()
        self._victims()
        return self.by_life

    def _exit_records(self) -> None:
        ids = self.timeline.ids
        for rec in records(self.timeline.trace, "sched_process_exit", "pid"):
            pid = rec.f["pid"] if rec.f["pid"] is not None else rec.pid
            life = ids.one(pid, rec.ts, rec.cpu, rec.row)
            if life is not None:
                # An exec from a non-leader thread continues the leader's life: the last exit counts.
                self.by_life.setdefault(life, Death(life)).exit = rec
        for h in self.timeline.handovers:
            death = self.by_life.get(h.new)
            if death is not None and death.exit is not None and death.exit.key < h.rec.key:
                del self.by_life[h.new]

    def _last_switches(self) -> None:
        tl = self.timeline
        outs = tl.outs.state
        which = np.flatnonzero((outs == State.ZOMBIE) | (outs == State.DEAD))
        which = which[np.argsort(tl.switch_ts[which], kind="stable")]
        ts, cpu = tl.switch_ts[which].tolist(), tl.switch_cpu[which].tolist()
        for life, t, c, s in zip(tl.life_out[which].tolist(), ts, cpu, outs[which].tolist(), strict=True):
            if life < 0 or t < self._handed.get(life, t):
                continue
            death = self.by_life.get(life)
            if death is None:
                death = self.by_life[life] = Death(life)
            death.last_out = (t, c, s)

    def _latest(self, life: int | None, rec: Rec) -> Death | None:
        """Return the death that a record of the dying task, before its exit record, belongs to."""
        death = self.by_life.get(life) if life is not None else None
        if death is None or rec.ts > death.at or life is None or rec.ts < self._handed.get(life, rec.ts):
            return None
        return death

    def _statuses(self) -> None:
        for rec, value in self.functions.probes("do_exit", "code", "arg1", "status"):
            death = self._latest(self.timeline.ids.one(rec.pid, rec.ts, rec.cpu, rec.row), rec)
            if death is not None:
                death.status = value & 0xFFFFFFFF

    def _calls(self) -> None:
        ids = self.timeline.ids
        for call in self._exit_calls():
            death = self._latest(ids.one(call.rec.pid, call.rec.ts, call.rec.cpu, call.rec.row), call.rec)
            if death is not None:
                death.call = call

    def _exit_calls(self) -> list[ExitCall]:
        trace = self.timeline.trace
        found: list[ExitCall] = []
        for event, group in (("sys_enter_exit_group", True), ("sys_enter_exit", False)):
            found += [ExitCall(rec, rec.f["error_code"] & 0xFF, group)
                      for rec in records(trace, event, "error_code") if isinstance(rec.f["error_code"], int)]
        found += self._raw_exit_calls()
        found.sort(key=lambda c: c.rec.key)
        return found

    def _raw_exit_calls(self) -> list[ExitCall]:
        trace = self.timeline.trace
        machine = trace.kernel.machine
        type_ = trace.type("sys_enter")
        if type_ is None or type_.field("id") is None:
            return []
        numbers = {n: group for name, group in (("exit_group", True), ("exit", False))
                   for n in [syscall_number(machine, name)] if n is not None}
        rows = chosen_rows(trace, "sys_enter")
        if not len(rows) or not numbers:
            return []
        number = ints(trace, "sys_enter", "id", rows)
        hit = rows[np.isin(number, np.array(list(numbers), np.int64))]
        return [ExitCall(rec, int(rec.f["args"][0]) & 0xFF, numbers[rec.f["id"]])
                for rec in records(trace, "sys_enter", "id", "args", rows=hit)
                if rec.f["args"] is not None and len(rec.f["args"])]

    def _deliveries(self) -> None:
        for d in self.signals.delivered:
            if d.fatal:
                death = self._latest(d.life, d.rec)
                if death is not None:
                    death.fatal = d

    def _notices(self) -> None:
        """Find do_notify_parent(): sent by the dying leader, or for it by the last thread of its group.

        exit_notify() first tells the new parents of zombies that the task leaves behind: its own signal is the last.
        """
        for s in self.signals.sent:
            if s.sender is None or not CLD_EXITED <= s.code <= CLD_DUMPED or s.sender == s.target:
                continue
            dying = self.by_life.get(s.sender)
            if dying is None or (s.rec.ts < dying.at and (dying.exit is not None or s.sig != 17)):
                continue
            leader = self.by_life.get(self.family.group[s.sender])
            if leader is not None:
                leader.notice = s

    def _stacks(self) -> None:
        stacks = self.timeline.trace.stacks
        if not len(stacks):
            return
        calls: dict[int, list[Rec]] = {}
        for call in self.functions.calls(*EXIT):
            life = self.timeline.ids.one(call.pid, call.ts, call.cpu, call.row)
            if life is not None:
                calls.setdefault(life, []).append(call)
        for life, death in self.by_life.items():
            if death.exit is not None:
                death.stack = stacks.get(death.exit.row)
            mine = calls.get(life)
            if death.stack is None and mine and death.exit is not None:
                k = bisect_right(mine, death.exit.key, key=lambda c: c.key) - 1
                if k >= 0:
                    death.stack = stacks.get(mine[k].row)

    def _victims(self) -> None:
        for rec in records(self.timeline.trace, "mark_victim", "pid"):
            life = self.timeline.ids.one(rec.f["pid"], rec.ts, row=rec.row) if isinstance(rec.f["pid"], int) else None
            death = self._latest(life, rec)
            if death is not None:
                death.victim = rec


def unseen_ends(timeline: Timeline, deaths: dict[int, Death]) -> dict[int, int]:
    """Return the exits after which a task left its cpu unseen, by life: its state from then on is unknown.

    So it is where only some tasks were recorded: perf's events of a task end with it.  That it left is shown by a later
    record of another task on its cpu, or by its having come there unseen.
    """
    index, source = timeline.trace.source.index, timeline.trace.source
    found: dict[int, int] = {}
    for life, death in deaths.items():
        if death.exit is None or death.last_out is not None:
            continue
        rec = death.exit
        after = np.arange(rec.row + 1, min(rec.row + 257, len(index)), dtype=np.int64)
        after = after[index.cpu[after] == rec.cpu]
        if bool((source.pids(after) != rec.pid).any()) or timeline.state_at(life, rec.key) != State.RUNNING:
            found[life] = rec.ts
    return found
