"""Signals, as the reference sees them: sent, blocked, pending, taken; handlers; stops and continuations.

Followed is kernel/signal.c of Linux 4.19 to 6.18: prepare_signal(), __send_signal(), get_signal(), do_notify_parent(),
with one thread a process.  What a process does about signals is the resource ``sig``: a signal that it takes at once
by dying reads it, one that becomes pending or runs a handler changes it.  Signals that children send are read of
``chld``, as they may come long after what can be seen of their cause.
"""

from __future__ import annotations

from taskscope.labs.truth.shadow_state import (
    CLD_EXITED,
    CLD_KILLED,
    DEFAULT,
    SA_NOCLDSTOP,
    SA_NODEFER,
    SA_RESETHAND,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    Proc,
    Sent,
    SkipError,
    State,
)

STOPS = frozenset({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU})
RTMIN = 32
#: what children send
CHILDREN = 1 << 16 | 1 << 22 | 1 << 27


def bit(sig: int) -> int:
    """Return the set of one signal."""
    return 1 << sig - 1


def pending(proc: Proc) -> int:
    """Return the set of what is pending."""
    found = 0
    for sent in (*proc.own, *proc.shared):
        found |= bit(sent.sig)
    return found


def flush(proc: Proc, mask: int) -> None:
    """Throw the pending signals of a set away."""
    proc.own = tuple(sent for sent in proc.own if not mask & bit(sent.sig))
    proc.shared = tuple(sent for sent in proc.shared if not mask & bit(sent.sig))


class Signals(State):
    """What happens to signals."""

    __slots__ = ()

    def _may_kill(self, actor: int, x: int, sig: int) -> bool:
        """check_kill_permission(), kill_ok_by_cred()"""
        me, proc = self.procs[actor], self.procs[x]
        self.touch("uid", actor, "r")
        self.touch("uid", x, "r")
        if me.uid in (0, proc.uid):
            return True
        self.touch("ids", actor, "r")
        self.touch("ids", x, "r")
        return sig == SIGCONT and proc.sid == me.sid

    # ---- sending ---------------------------------------------------------------------------------------

    def _deliver(self, x: int, sent: Sent, cause: int, *, private: bool = False) -> None:
        """send_signal() to a process of the program, and what it does about it.

        :param cause: see `Death`
        :param private: for the thread alone
        """
        sig = sent.sig
        proc = self.procs[x]
        if x == 0:
            raise SkipError                 # the reaper is no actor to be killed
        self.touch("wst", x, "r")
        self.touch("sig", x, "r")
        if proc.state not in ("run", "stopped"):
            return
        if any(victim == x for victim, _, _ in self.queue):
            return                          # it is dying already
        if sig == SIGKILL:
            self._doom(x, sig, cause)
            return
        if sig in STOPS:
            if pending(proc) & bit(SIGCONT):
                self.touch("sig", x, "w")
            flush(proc, bit(SIGCONT))
        if sig == SIGCONT:
            stops = sum(map(bit, STOPS))
            if pending(proc) & stops:
                self.touch("sig", x, "w")
            flush(proc, stops)
            if proc.state == "stopped":
                self._continue(x, cause)
        self._queue(x, sent, private=private)
        if proc.state == "run":
            self._take(x, cause)

    def _queue(self, x: int, sent: Sent, *, private: bool = False) -> None:
        """__send_signal(): ignored, pending already, or queued."""
        proc = self.procs[x]
        blocked = proc.blocked & bit(sent.sig)
        if not blocked and proc.ignores(sent.sig):
            return
        queue = proc.own if private else proc.shared
        if blocked or proc.state == "stopped":
            self.touch("sig", x, "w")
        if sent.sig < RTMIN and any(before.sig == sent.sig for before in queue):
            return                          # legacy_queue()
        if private:
            proc.own += (sent,)
        else:
            proc.shared += (sent,)

    def _doom(self, x: int, sig: int, cause: int) -> None:
        self.touch("wst", x, "w")
        self.effect.quiesce.add(x)
        self.queue.append((x, sig, cause))

    # ---- taking ----------------------------------------------------------------------------------------

    def _dequeue(self, x: int, mask: int) -> Sent | None:
        """dequeue_signal(): the thread's own first, the lowest first, the oldest of each."""
        proc = self.procs[x]
        for name in ("own", "shared"):
            queue: tuple[Sent, ...] = getattr(proc, name)
            able = [sent for sent in queue if not mask & bit(sent.sig)]
            if able:
                first = min(able, key=_number)
                at = queue.index(first)
                setattr(proc, name, queue[:at] + queue[at + 1 :])
                return first
        return None

    def _take(self, x: int, cause: int, saved: int | None = None) -> None:
        """get_signal() and the handlers, until nothing is left that is not blocked.

        :param saved: the mask that comes back after the first handler: of sigsuspend()
        """
        proc = self.procs[x]
        frames: list[tuple[Sent, int]] = []
        while True:
            while (sent := self._dequeue(x, proc.blocked)) is not None:
                how, flags, mask = proc.action(sent.sig)
                if how == "catch":
                    frames.append((sent, proc.blocked if saved is None else saved))
                    saved = None
                    if flags & SA_RESETHAND:
                        self._act(proc, sent.sig, ("dfl", flags, mask))
                    proc.blocked |= mask | (0 if flags & SA_NODEFER else bit(sent.sig))
                elif proc.ignores(sent.sig):
                    continue
                elif sent.sig in STOPS:
                    if frames or sent.sig != SIGSTOP or cause >= 0 or proc.waiting:
                        raise SkipError     # it would stop some time later, or not if its group is orphaned
                    self._stop(x)
                    return
                else:
                    self._doom(x, sent.sig, cause)
                    return
            if not frames:
                return
            if cause >= 0 or proc.waiting or proc.execed:
                raise SkipError             # nobody could tell when
            sent, proc.blocked = frames.pop()
            proc.caught += (sent,)
            self.touch("sig", x, "w")
            self.effect.handled.add(x)
            self.effect.quiesce.add(x)

    def _changes(self, actor: int, mask: int) -> None:
        """Note that a process changes what it does about the signals of a set."""
        self.touch("sig", actor, "w")
        if mask & CHILDREN:
            self.touch("chld", actor, "w")

    def _act(self, proc: Proc, sig: int, action: tuple[str, int, int]) -> None:
        rest = tuple(entry for entry in proc.actions if entry[0] != sig)
        proc.actions = rest if action == DEFAULT else (*rest, (sig, action))

    # ---- telling parents -------------------------------------------------------------------------------

    def _tell_death(self, x: int) -> None:
        """do_notify_parent()"""
        proc = self.procs[x]
        sig = proc.exit_signal
        if not sig or proc.parent < 0:
            return
        self.touch("chld", proc.parent, "r")
        if sig == SIGCHLD and self.procs[proc.parent].action(SIGCHLD)[0] == "ign":
            return
        killed = proc.status & 0x7F
        self._tell(proc.parent, Sent(sig, CLD_KILLED if killed else CLD_EXITED, x, killed or proc.status >> 8))

    def _tell_stop(self, x: int) -> None:
        """do_notify_parent_cldstop(): some time after the stop or continuation can be waited for."""
        above = self.procs[x].parent
        self.touch("chld", above, "r")
        how, flags, _ = self.procs[above].action(SIGCHLD)
        if how == "ign" or flags & SA_NOCLDSTOP:
            return
        if self.procs[above].blocked & bit(SIGCHLD) or how == "catch":
            raise SkipError

    def _tell(self, above: int, sent: Sent) -> None:
        proc = self.procs[above]
        if proc.state not in ("run", "stopped"):
            return
        if proc.blocked & bit(sent.sig):
            self._queue(above, sent)
        elif not proc.ignores(sent.sig):
            raise SkipError                 # it would be interrupted, or die, some time later

    # ---- stops -----------------------------------------------------------------------------------------

    def _stop(self, x: int) -> None:
        proc = self.procs[x]
        self.touch("wst", x, "w")
        self.touch("stops", proc.pgrp, "w")
        self.effect.quiesce.add(x)
        proc.state, proc.stop_code, proc.continued = "stopped", SIGSTOP, False
        self._tell_stop(x)
        self.effect.observe.append((proc.parent, x, "stopped"))

    def _continue(self, x: int, cause: int) -> None:
        proc = self.procs[x]
        self.touch("wst", x, "w")
        self.touch("stops", proc.pgrp, "w")
        proc.state, proc.stop_code, proc.continued = "run", 0, True
        self._tell_stop(x)
        self.effect.continued.append((x, cause))


def _number(sent: Sent) -> int:
    return sent.sig
