"""The rules by which the kernel ends a thread group, as judgements on what is known of its deaths.

Follows get_signal(), complete_signal(), do_group_exit() and do_exit() in kernel/signal.c and kernel/exit.c (6.1): the
first of exit_group() and a fatal signal decides the status of the whole group; its other threads die of a SIGKILL
that nobody generated.  A fatal signal without core dump is delivered as SIGKILL, so its number is in signal_generate.

What is known comes from a whole recording (`causes`) or from records as they happen (`follow`): each answers the
questions of `Judge`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskscope.abi import signal as abi_signal
from taskscope.abi.renames import fold
from taskscope.lives.deaths import Death
from taskscope.lives.life import Cause
from taskscope.lives.signals import CLD_DUMPED, CLD_EXITED, CLD_KILLED, SIGKILL, Sent

#: what is inferred of a thread that called execve
HANDED_OVER = "exit: its execve gave it the pid of the group's leader; the task goes on as that life"

_UNSENT = ("exit.signal: the record of its sending is missing; a fatal signal is delivered as SIGKILL, "
           "so its number is not known")


@dataclass
class Verdict:
    """What ended one life; becomes an `Exit`."""

    cause: Cause | None = None
    code: int | None = None
    signal: int | None = None
    core: bool | None = None
    killer: int | None = None
    inferred: list[str] = field(default_factory=list)


class Judge(ABC):
    """Concludes why the tasks of a thread group died; ``verdicts`` by life number."""

    def __init__(self) -> None:
        self.verdicts: dict[int, Verdict] = {}

    # ---- what is known -----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def deliveries_recorded(self) -> bool:
        """Tell whether signal_deliver is recorded."""

    @property
    @abstractmethod
    def lossy(self) -> bool:
        """Tell whether events were lost."""

    @abstractmethod
    def size(self, leader: int) -> int:
        """Return how many tasks the group had in all its time."""

    @abstractmethod
    def is_kthread(self, life: int) -> bool:
        """Tell whether a life is that of a kernel thread."""

    @abstractmethod
    def execs_of(self, leader: int) -> Sequence[int]:
        """Return the times at which the group called execve."""

    @abstractmethod
    def sent_to(self, leader: int) -> Sequence[Sent]:
        """Return the signals generated for the group, in order of time."""

    @abstractmethod
    def unblocked(self, candidates: list[Sent], leader: int, until: int) -> tuple[list[Sent], list[str]]:
        """Leave out the signals that the group had blocked; also say what was inferred.

        :param candidates: signals that are fatal by default and found no handler, in order of time
        :param until: when the group was killed, ns
        """

    # ---- one thread group --------------------------------------------------------------------------------------

    def judge(self, leader: int, deaths: list[Death]) -> None:
        """Give each death of a thread group its verdict.

        :param leader: life number of the group's leader
        :param deaths: in order of time
        """
        rest = []
        for d in deaths:
            if self._by_exec(leader, d):
                self.verdicts[d.life] = Verdict("exec", inferred=[
                    "exit.cause: it was killed without a signal being sent, and its group went on to exec"])
            else:
                rest.append(d)
        alone = self.size(leader) == 1
        exit_ = next((d for d in sorted(rest, key=lambda d: d.call.rec.key if d.call else (0, 0))
                      if d.call is not None and d.call.group), None)
        killing = self._killing(leader, rest)
        if exit_ is not None and killing is not None and exit_.call is not None \
                and killing[0].fatal is not None and exit_.call.rec.key > killing[0].fatal.rec.key:
            exit_ = None
        if exit_ is not None and exit_.call is not None:
            for d in rest:
                self._exited(d, leader, exit_, exit_.call.code, alone)
        elif killing is not None:
            for d in rest:
                self._killed(d, leader, killing[0], killing[1], killing[2])
        else:
            self._by_traces(rest, alone)
        for d in rest:
            self._settle(leader, d)

    def _by_exec(self, leader: int, d: Death) -> bool:
        """Tell whether a thread died because another of its group called execve."""
        after = [t for t in self.execs_of(leader) if t >= d.at]
        if not after or d.life == leader:
            return False
        if d.fatal is not None and d.fatal.sig == SIGKILL and d.fatal.sent is None:
            return True
        return d.stack is not None and d.call is None and "get_signal" in d.stack

    def _exited(self, d: Death, leader: int, initiator: Death, code: int, alone: bool) -> None:
        v = self.verdicts[d.life] = Verdict(code=code)
        if d is initiator or (d.call is not None and not d.call.group):
            v.cause = "exit"
            if d is not initiator and d.life != leader and d.call is not None:
                v.code = d.call.code
        else:
            v.cause = "exit" if alone else "group_exit"

    def _killed(self, d: Death, leader: int, target: Death, sent: Sent | None, notes: list[str]) -> None:
        if d.call is not None and not d.call.group and d.life != leader:
            self.verdicts[d.life] = Verdict("exit", code=d.call.code)
            return
        sig = sent.sig if sent is not None else (target.fatal.sig if target.fatal is not None else None)
        v = self.verdicts[d.life] = Verdict("group_exit", signal=sig, killer=sent.sender if sent else None,
                                            inferred=list(notes))
        if d is target or (sent is not None and sent.target == d.life):
            v.cause = "signal"
        victim = target.victim or d.victim
        if victim is not None and sig == SIGKILL:
            v.cause = "oom" if v.cause == "signal" else v.cause

    def _killing(self, leader: int, deaths: list[Death]) -> tuple[Death, Sent | None, list[str]] | None:
        """Find the fatal signal that ended a group: (who took it, signal_generate, what was inferred)."""
        fatal = sorted((d for d in deaths if d.fatal is not None), key=lambda d: d.fatal.rec.key if d.fatal else (0, 0))
        dumping = next((d for d in fatal if d.fatal is not None and d.fatal.sig != SIGKILL), None)
        if dumping is not None and dumping.fatal is not None:
            return dumping, dumping.fatal.sent, []
        if fatal and fatal[0].fatal is not None:
            before = fatal[0].fatal.rec.key
            sent, notes = self._first_fatal(leader, before)
            if sent is None:
                return self._unsent(leader, fatal[0], deaths)
            target = next((d for d in deaths if d.life == sent.target), fatal[0])
            return target, sent, notes
        notice = next((d.notice for d in deaths if d.life == leader), None)
        said_killed = notice is not None and notice.code in (CLD_KILLED, CLD_DUMPED)
        if said_killed and not self.deliveries_recorded:
            head = next(d for d in deaths if d.life == leader)
            sent, notes = self._first_fatal(leader, (head.at, 1 << 62))
            if sent is not None:
                return head, sent, [*notes, "exit.signal: deliveries were not recorded; it is the fatal signal sent"]
        return None

    def _unsent(self, leader: int, first: Death, deaths: list[Death]) -> tuple[Death, Sent | None, list[str]] | None:
        """Judge a SIGKILL that nobody sent: another thread's exit, or a sender that the recording left out."""
        others = [d for d in deaths if d.fatal is None]
        notice = next((d.notice for d in deaths if d.life == leader), None)
        if self.size(leader) > 1 and (others or notice is None or notice.code == CLD_EXITED):
            return None
        if notice is not None and notice.code == CLD_EXITED:
            return None
        self.verdicts[first.life] = Verdict("signal", inferred=[_UNSENT])
        return None

    def _first_fatal(self, leader: int, before: tuple[int, int]) -> tuple[Sent | None, list[str]]:
        """Return the first signal to the group that complete_signal() took as fatal.

        One that was delivered to a handler was not; nor one after which its target went to sleep interruptibly,
        which schedule() does not allow with an unblocked signal pending: that one was blocked.
        """
        candidates = [s for s in self.sent_to(leader)
                      if s.result == 0 and s.rec.key < before and abi_signal.fatal_by_default(s.sig)
                      and (s.delivered is None or s.delivered.key >= before or s.handler in (0, None))]
        left, notes = self.unblocked(candidates, leader, before[0])
        if not left:
            return None, []
        if left[0].sig != SIGKILL:
            notes = [*notes, f"exit.signal: delivered as SIGKILL; signal {left[0].sig} was the first fatal one sent"]
        return left[0], notes

    def _by_traces(self, deaths: list[Death], alone: bool) -> None:
        """Conclude from call stacks and the parent's signal where no call and no fatal signal is recorded."""
        initiator = self._initiator(deaths) if not alone else None
        for d in deaths:
            if d.life in self.verdicts:
                continue
            v = self.verdicts[d.life] = Verdict()
            if d.stack is not None:
                names = {fold(f) for f in d.stack}
                if "sys_exit_group" in names or "sys_exit" in names:
                    v.cause = "exit"
                elif "get_signal" in names:
                    v.cause = "signal" if alone else "group_exit"
            if v.cause is None and d.fatal is not None:
                v.cause = "group_exit"
            if v.cause is None and d is initiator:
                v.cause = "exit"
                v.inferred.append("exit.cause: the only one of its group that was not killed")
            if v.cause is None and d.notice is not None and d.notice.code == CLD_EXITED:
                v.cause = "exit"
            if v.cause is None and d.notice is not None and d.notice.code in (CLD_KILLED, CLD_DUMPED):
                v.cause = "signal"
            if v.cause in (None, "exit") and d.call is not None:
                v.cause, v.code = "exit", d.call.code
            if v.cause is None and self.deliveries_recorded and not self.lossy and d.fatal is None:
                v.cause = "exit"
                v.inferred.append("exit.cause: no fatal signal was delivered to it")

    def _initiator(self, deaths: list[Death]) -> Death | None:
        killed = [d for d in deaths if d.fatal is not None]
        own = [d for d in deaths if d.fatal is None and d.call is None]
        return own[0] if killed and len(own) == 1 else None

    def _settle(self, leader: int, d: Death) -> None:
        """Let the strongest evidence, the wait status itself, have the last word; add what the parent was told."""
        v = self.verdicts.setdefault(d.life, Verdict())
        if d.status is not None and not self.is_kthread(d.life):
            low = d.status & 0x7F
            if low == 0:
                v.signal = None
                v.code = (d.status >> 8) & 0xFF if d.life != leader or v.code is None else v.code
                v.cause = v.cause if v.cause in ("exit", "group_exit") else "exit"
            else:
                if v.signal != low:
                    v.inferred = [i for i in v.inferred if not i.startswith("exit.signal")]
                    v.killer = self._sender_of(leader, d, low)
                v.signal, v.code = low, None
                v.cause = v.cause if v.cause in ("signal", "group_exit", "oom") else "signal"
            if d.status & 0x80:
                v.core = True
        if v.signal is not None or v.cause == "signal":
            if d.notice is not None:
                v.core = d.notice.code == CLD_DUMPED
            elif d.status is not None and d.status & 0x7F:
                v.core = bool(d.status & 0x80)

    def _sender_of(self, leader: int, d: Death, sig: int) -> int | None:
        sent = [s for s in self.sent_to(leader)
                if s.sig == sig and s.result == 0 and s.rec.ts <= d.at]
        return sent[0].sender if sent else None
