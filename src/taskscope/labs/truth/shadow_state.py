"""The processes of the reference, and what happens to them: groups, deaths, orphans, signals.

`State` is what `shadow.World` performs system calls on.  While it changes it notes in `Effect` what it touched, which
processes die, and what must have come before.

Touches are (resource, mode).  Two touches of one resource by different processes must be ordered unless both read
(``r``), both add to a set (``a``), both take from a set that stays non-empty (``d``), or one asks whether a set is
empty (``e``) and the other is ``r``, ``e``, ``a`` or ``d``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from taskscope.abi.signal import Signal

Resource = tuple[str, int]
Touch = tuple[Resource, str]

SIGCHLD: Final = int(Signal.SIGCHLD)
SIGKILL: Final = int(Signal.SIGKILL)
SIGSTOP: Final = int(Signal.SIGSTOP)
SIGCONT: Final = int(Signal.SIGCONT)
SIGHUP: Final = int(Signal.SIGHUP)
#: default action: ignore
HARMLESS: Final = frozenset({SIGCHLD, int(Signal.SIGURG), int(Signal.SIGWINCH)})

WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x01000000
WNOTHREAD, WALL, WCLONE = 0x20000000, 0x40000000, 0x80000000
P_ALL, P_PID, P_PGID = 0, 1, 2
CLD_EXITED, CLD_KILLED, CLD_STOPPED, CLD_CONTINUED = 1, 2, 5, 6

#: pairs of modes that commute
COMMUTE: Final = frozenset({"rr", "aa", "dd", "ee", "er", "re", "ea", "ae", "ed", "de"})


class SkipError(Exception):
    """The operation makes no sense here, would block for ever, or has no single result."""


@dataclass(slots=True)
class Proc:
    """One process of the reference."""

    parent: int
    pgrp: int
    sid: int
    leader: bool = False
    state: str = "run"              # run, stopped, zombie, ghost (released by itself, some time soon), gone (reaped)
    exit_signal: int = SIGCHLD
    status: int = 0
    subreaper: bool = False
    pdeath: int = 0
    ignored: frozenset[int] = frozenset()
    name: str = ""
    files: int = 0                  # which table of file descriptors
    fs: int = 0                     # which umask
    stop_code: int = 0              # of a stop that nobody has waited for
    continued: bool = False         # a SIGCONT that nobody has waited for
    pending: frozenset[int] = frozenset()
    kids: tuple[int, ...] = ()
    uid: int = 0                    # 0: who started the program
    execed: bool = False            # it runs /bin/cat, and nothing of its script any more
    waiting: bool = False           # in vfork(), until the child has ended or execed

    def copy(self) -> Proc:
        """Return a copy."""
        return Proc(self.parent, self.pgrp, self.sid, self.leader, self.state, self.exit_signal, self.status,
                    self.subreaper, self.pdeath, self.ignored, self.name, self.files, self.fs, self.stop_code,
                    self.continued, self.pending, self.kids, self.uid, self.execed, self.waiting)


@dataclass(slots=True)
class Death:
    """A process dies, some time after its cause: the operation (-1) or an earlier death of the same operation."""

    actor: int
    cause: int
    touches: list[Touch] = field(default_factory=list)


@dataclass(slots=True)
class Effect:
    """What one operation does beside its result."""

    result: str | None = None
    touches: list[Touch] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    #: whose operations must all have finished before
    quiesce: set[int] = field(default_factory=set)
    #: a child whose death this operation itself waits for
    exempt: int | None = None
    #: (parent, child, how): what the parent must wait for at once, without reaping
    observe: list[tuple[int, int, str]] = field(default_factory=list)
    continued: list[tuple[int, int]] = field(default_factory=list)    # (actor, cause)
    #: the actor that was born
    born: int | None = None
    #: the caller stopped or died in the call
    suspended: bool = False


def ref(text: Any) -> tuple[int, int | None]:
    """Take a symbolic pid apart: (sign, actor), or (number, None) of a literal."""
    if isinstance(text, int):
        return text, None
    return (-1, int(text[2:])) if text[0] == "-" else (1, int(text[1:]))


class State:
    """The processes of a program, as the reference sees them, and what happens to them: groups, deaths, signals."""

    __slots__ = ("effect", "files", "procs", "queue", "tainted", "umasks")

    def __init__(self) -> None:
        self.procs: list[Proc] = [Proc(parent=-1, pgrp=0, sid=0, leader=True, name="reaper")]
        self.files: dict[int, frozenset[int]] = {0: frozenset()}
        self.umasks: dict[int, int] = {0: 0o22}
        self.tainted: frozenset[int] = frozenset()      # groups of which a ghost may still be a member
        self.effect = Effect()
        self.queue: list[tuple[int, int, int]] = []

    def copy(self) -> Self:
        """Return a copy that may be changed."""
        new = type(self).__new__(type(self))
        new.procs = [proc.copy() for proc in self.procs]
        new.files = dict(self.files)
        new.umasks = dict(self.umasks)
        new.tainted = self.tainted
        new.effect = Effect()
        new.queue = []
        return new

    # ---- looking ---------------------------------------------------------------------------------------

    def touch(self, kind: str, number: int, mode: str) -> None:
        """Note that the operation depends on (or changes) something."""
        self.effect.touches.append(((kind, number), mode))

    def members(self, group: int) -> list[int]:
        """Return the processes of a group, oldest first; zombies count until they are reaped."""
        return [n for n, p in enumerate(self.procs) if p.pgrp == group and p.state not in ("gone", "ghost")]

    def group_exists(self, group: int) -> bool:
        """Tell whether a process group has members."""
        if self.members(group):
            self.touch("pg", group, "e")
            return True
        if group in self.tainted:
            raise SkipError
        self.touch("pg", group, "r")
        return False

    def find(self, target: Any, actor: int) -> int | None:
        """Return the process that a positive pid names, None if there is none (any more)."""
        sign, who = ref(target)
        if who is None:
            return actor if sign == 0 else None
        if sign < 0:
            return None
        self.touch("ext", who, "r")
        state = self.procs[who].state
        if state == "ghost":
            raise SkipError
        return None if state == "gone" else who

    # ---- groups ----------------------------------------------------------------------------------------

    def _move(self, who: int, group: int) -> None:
        proc = self.procs[who]
        if proc.pgrp == group:
            self.touch("pg", group, "e")
            return
        if proc.state == "stopped":
            self.touch("stops", proc.pgrp, "w")
            self.touch("stops", group, "w")
        self._leave(who)
        self.touch("pg", group, "a" if self.members(group) else "w")
        proc.pgrp = group
        # A ghost that still is in the group no longer decides whether it exists.

    def _leave(self, who: int) -> None:
        group = self.procs[who].pgrp
        self.touch("pg", group, "d" if len(self.members(group)) > 1 else "w")

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
        me.pending = frozenset()
        me.waiting = False
        me.state, me.status = "dying", status       # exit_state is set at the end of exit_notify()
        if me.kids:
            self._forget_children(x, index)
        self._orphaned(x, me.parent, x, index)
        me.state = "zombie"
        above = me.parent
        while above > 0:
            self.touch("ign", above, "r")
            above = self.procs[above].parent
        if any(SIGCHLD in proc.ignored for proc in self.procs):
            self.touch("par", x, "r")   # which parent it is that dies unmourned
        if me.exit_signal == SIGCHLD and SIGCHLD in self.procs[me.parent].ignored:
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
                self._deliver(c, child.pdeath, index)
            child.exit_signal = SIGCHLD
            if child.state == "zombie":
                self.touch("ign", reaper, "r")
                if SIGCHLD in heir.ignored:
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
                self._deliver(m, SIGHUP, index)
        for m in members:
            if procs[m].state in ("run", "stopped"):
                self._deliver(m, SIGCONT, index)
    # ---- signals ---------------------------------------------------------------------------------------

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

    def _deliver(self, x: int, sig: int, cause: int) -> None:
        proc = self.procs[x]
        if x == 0:
            raise SkipError                 # the reaper is no actor to be killed
        self.touch("wst", x, "r")
        if proc.state not in ("run", "stopped"):
            return
        if any(victim == x for victim, _, _ in self.queue):
            return                          # it is dying already
        if sig == SIGCONT:
            if proc.state == "stopped":
                self._continue(x, cause)
            return
        if sig == SIGSTOP:
            if proc.state == "run":
                if cause >= 0 or proc.waiting:
                    raise SkipError         # it would stop some time later
                self._stop(x)
            return
        if sig != SIGKILL:
            self.touch("ign", x, "r")
            if sig in HARMLESS or sig in proc.ignored:
                return
            if proc.state == "stopped":
                proc.pending |= {sig}
                return
        self.touch("wst", x, "w")
        self.effect.quiesce.add(x)
        self.queue.append((x, sig, cause))

    def _stop(self, x: int) -> None:
        proc = self.procs[x]
        self.touch("wst", x, "w")
        self.touch("stops", proc.pgrp, "w")
        self.effect.quiesce.add(x)
        proc.state, proc.stop_code, proc.continued = "stopped", SIGSTOP, False
        self.effect.observe.append((proc.parent, x, "stopped"))

    def _continue(self, x: int, cause: int) -> None:
        proc = self.procs[x]
        self.touch("wst", x, "w")
        self.touch("stops", proc.pgrp, "w")
        proc.state, proc.stop_code, proc.continued = "run", 0, True
        self.effect.continued.append((x, cause))
        if proc.pending:
            self.queue.append((x, min(proc.pending), cause))
            proc.pending = frozenset()
