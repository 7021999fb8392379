"""Why each task of a recording died: gathers what `judge` asks for, and makes each verdict an `Exit`."""

from __future__ import annotations

from collections.abc import Sequence

from taskscope.lives.deaths import Death
from taskscope.lives.family import Family
from taskscope.lives.judge import HANDED_OVER, Judge, Verdict
from taskscope.lives.life import Exit, State
from taskscope.lives.records import records
from taskscope.lives.signals import SIGKILL, Sent, Signals
from taskscope.lives.timeline import Timeline


class Causes(Judge):
    """Concludes the cause of every death."""

    def __init__(self, timeline: Timeline, family: Family, signals: Signals, deaths: dict[int, Death]) -> None:
        super().__init__()
        self.tl, self.family, self.signals, self.deaths = timeline, family, signals, deaths
        self.execs = self._exec_times()
        groups: dict[int, list[Death]] = {}
        for life, death in deaths.items():
            groups.setdefault(family.group[life], []).append(death)
        for leader, group in groups.items():
            group.sort(key=lambda d: d.at)
            self.judge(leader, group)
        for h in timeline.handovers:
            self.verdicts[h.old] = Verdict("exec", inferred=[HANDED_OVER])

    def _exec_times(self) -> dict[int, list[int]]:
        """Times of execs by thread group."""
        found: dict[int, list[int]] = {}
        for rec in records(self.tl.trace, "sched_process_exec", "pid"):
            life = self.tl.ids.one(rec.f["pid"], rec.ts, row=rec.row)
            if life is not None:
                found.setdefault(self.family.group[life], []).append(rec.ts)
        return found

    # ---- what is known -----------------------------------------------------------------------------------------

    @property
    def deliveries_recorded(self) -> bool:
        """See `Judge`."""
        return self.signals.recorded_delivery

    @property
    def lossy(self) -> bool:
        """See `Judge`."""
        return bool(self.tl.trace.lost)

    def size(self, leader: int) -> int:
        """See `Judge`."""
        return len(self.family.members.get(leader, [leader]))

    def is_kthread(self, life: int) -> bool:
        """See `Judge`."""
        return self.family.kind[life] == "kthread"

    def execs_of(self, leader: int) -> Sequence[int]:
        """See `Judge`."""
        return self.execs.get(leader, ())

    def sent_to(self, leader: int) -> Sequence[Sent]:
        """See `Judge`."""
        return self.signals.to_group.get(leader, ())

    def unblocked(self, candidates: list[Sent], leader: int, until: int) -> tuple[list[Sent], list[str]]:
        """See `Judge`; the scheduling of the target shows it."""
        return [s for s in candidates if s.sig == SIGKILL or not self._was_blocked(s, leader, until)], []

    def _was_blocked(self, s: Sent, leader: int, until: int) -> bool:
        """Tell whether the target's scheduling shows that it did not take a signal.

        complete_signal() wakes a sleeping target before the record is written, and a task with an unblocked signal
        pending does not go to sleep interruptibly.
        """
        rows = self.tl.rows
        alone = self.size(leader) == 1
        if alone and s.sender != s.target and self.tl.wakeups_recorded \
                and self.tl.state_at(s.target, s.rec.key) == State.SLEEPING:
            return True
        a, b = self.tl.bounds(s.target)
        ts, code = rows.ts[a:b], rows.code[a:b]
        return bool(((ts > s.rec.ts) & (ts < until) & (code == State.SLEEPING)).any())

    # ---- the result --------------------------------------------------------------------------------------------

    def exit_of(self, life: int) -> Exit | None:
        """Return the end of a life, None while it lives."""
        verdict = self.verdicts.get(life)
        if verdict is None:
            return None
        ref = self.tl.ids.ref
        d = self.deaths.get(life)
        if d is None:
            h = next(h for h in self.tl.handovers if h.old == life)
            return Exit(h.rec.ts, h.cpu, None, None, None, "exec", None, None, None, None, None,
                        tuple(verdict.inferred))
        n = d.notice
        inferred = list(verdict.inferred)
        if d.exit is None:
            inferred.append("exit.at: its last switch-out; sched_process_exit was not recorded")
        return Exit(d.at, d.cpu, verdict.code, verdict.signal, verdict.core, verdict.cause, ref(verdict.killer),
                    d.stack, n.rec.ts if n else None, n.sig if n else None, ref(n.target) if n else None,
                    tuple(inferred))
