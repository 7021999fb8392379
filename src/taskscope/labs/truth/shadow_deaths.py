"""Deaths, as the reference sees them: children that get another parent, orphaned groups, who is told.

Followed is kernel/exit.c of Linux 4.19 to 6.18: exit_notify(), find_new_reaper(), kill_orphaned_pgrp().
"""

from __future__ import annotations

from taskscope.labs.truth.shadow_signals import Signals
from taskscope.labs.truth.shadow_state import (
    DEFAULT,
    SI_KERNEL,
    SI_USER,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    Death,
    Sent,
)


class Deaths(Signals):
    """What happens when a process dies."""

    __slots__ = ()

    # ---- death ------------------------------------------------------------------------------------------

    def _die(self, x: int, status: int, cause: int) -> None:
        """do_exit(): exit_notify() above all."""
        death = Death(x, cause)
        outer, self.effect.touches = self.effect.touches, death.touches
        index = len(self.effect.deaths)
        self.effect.deaths.append(death)
        me = self.procs[x]
        self.touch("wst", x, "w")
        if me.state == "stopped":
            self.touch("stops", me.pgrp, "w")
        me.own = me.shared = ()
        me.waiting = False
        me.state, me.status = "dying", status       # exit_state is set at the end of exit_notify()
        if me.kids:
            self._forget_children(x, index)
        self._orphaned(x, me.parent, x, index)
        me.state = "zombie"
        above = me.parent
        while above > 0:
            self.touch("chld", above, "r")
            above = self.procs[above].parent
        if any(proc.action(SIGCHLD) != DEFAULT or proc.blocked for proc in self.procs):
            self.touch("par", x, "r")   # which parent it is that dies unmourned
        self._tell_death(x)
        if me.exit_signal == SIGCHLD and self.procs[me.parent].autoreaps():
            self._vanish(x)
            self.effect.observe.append((me.parent, x, "vanished"))
        self.effect.touches = outer

    def _forget_children(self, x: int, index: int) -> None:
        me = self.procs[x]
        reaper = self._reaper(x)
        heir = self.procs[reaper]
        self.touch("kids", x, "w")
        self.touch("kids", reaper, "w")
        kids = me.kids
        me.kids = ()
        stay = []
        for c in kids:
            child = self.procs[c]
            self.touch("par", c, "w")
            child.parent = reaper
            self.touch("pds", c, "r")
            if child.pdeath and self._may_kill(x, c, child.pdeath):
                self._deliver(c, Sent(child.pdeath, SI_USER, x, 0), index)
            child.exit_signal = SIGCHLD
            if child.state == "zombie":
                self.touch("chld", reaper, "r")
                self._tell_death(c)
                if heir.autoreaps():
                    self._vanish(c)
                    continue
            stay.append(c)
            self._orphaned(c, x, None, index)
        heir.kids += tuple(stay)

    def _vanish(self, x: int) -> None:
        """The process releases itself: nobody can tell when exactly."""
        proc = self.procs[x]
        proc.state = "ghost"
        self.touch("ext", x, "w")
        self.touch("wst", x, "w")
        self.touch("ids", x, "w")
        self.touch("pg", proc.pgrp, "w")
        self.tainted |= {proc.pgrp}
        parent = self.procs[proc.parent]
        parent.kids = tuple(k for k in parent.kids if k != x)

    def _reaper(self, x: int) -> int:
        """find_new_reaper()"""
        at = x
        while True:
            self.touch("par", at, "r")
            at = self.procs[at].parent
            if at == 0:
                return 0
            self.touch("sub", at, "r")
            if self.procs[at].subreaper:
                return at

    def _orphaned(self, x: int, parent: int, ignored: int | None, index: int) -> None:
        """kill_orphaned_pgrp()"""
        procs = self.procs
        group, session = procs[x].pgrp, procs[x].sid
        self.touch("ids", x, "r")
        self.touch("stops", group, "r")
        members = self.members(group)
        if not any(procs[m].state == "stopped" for m in members):
            return
        self.touch("pg", group, "r")
        for m in {x, *members}:
            self.touch("ids", m, "r")
            self.touch("par", m, "r")
            if procs[m].parent >= 0:
                self.touch("ids", procs[m].parent, "r")
        self.touch("ids", parent, "r")
        if procs[parent].pgrp == group or procs[parent].sid != session:
            return
        for m in members:
            proc = procs[m]
            if m == ignored or proc.state == "zombie" or proc.parent <= 0:
                continue
            above = procs[proc.parent]
            if above.pgrp != group and above.sid == proc.sid:
                return
        for m in members:
            if procs[m].state in ("run", "stopped"):
                self._deliver(m, Sent(SIGHUP, SI_KERNEL, None, 0), index)
        for m in members:
            if procs[m].state in ("run", "stopped"):
                self._deliver(m, Sent(SIGCONT, SI_KERNEL, None, 0), index)
