"""The processes of the reference, and the groups that they are in.

`State` is what `shadow.World` performs system calls on, with what `shadow_signals` and `shadow_deaths` add.  While it
changes it notes in `Effect` what it touched, which processes die, and what must have come before.

Touches are (resource, mode).  Two touches of one resource by different processes must be ordered unless both read
(``r``), both add to a set (``a``), both take from a set that stays non-empty (``d``), or one asks whether a set is
empty (``e``) and the other is ``r``, ``e``, ``a`` or ``d``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from taskscope.abi.signal import Signal


class Sent(NamedTuple):
    """A signal on its way: the siginfo that a process sees."""

    sig: int
    code: int
    sender: int | None              # None: the kernel
    value: int


#: what a signal does: "dfl", "ign" or "catch", flags, mask
Action = tuple[str, int, int]
DEFAULT: Final[Action] = ("dfl", 0, 0)
Resource = tuple[str, int]
Touch = tuple[Resource, str]

SIGCHLD: Final = int(Signal.SIGCHLD)
SIGKILL: Final = int(Signal.SIGKILL)
SIGSTOP: Final = int(Signal.SIGSTOP)
SIGCONT: Final = int(Signal.SIGCONT)
SIGHUP: Final = int(Signal.SIGHUP)
#: stop signals of a terminal
SIGTSTP, SIGTTIN, SIGTTOU = 20, 21, 22
SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO = 1, 2, 4
SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x1000_0000, 0x4000_0000, 0x8000_0000
SI_USER, SI_KERNEL, SI_QUEUE, SI_TKILL = 0, 0x80, -1, -6
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
    #: by signal, where it is not the default: "ign" or "catch", flags, mask
    actions: tuple[tuple[int, Action], ...] = ()
    blocked: int = 0                # a set of signals, bit n-1 is signal n
    own: tuple[Sent, ...] = ()      # pending for the thread
    shared: tuple[Sent, ...] = ()   # pending for the process
    caught: tuple[Sent, ...] = ()   # what handlers have noted
    name: str = ""
    files: int = 0                  # which table of file descriptors
    fs: int = 0                     # which umask
    stop_code: int = 0              # of a stop that nobody has waited for
    continued: bool = False         # a SIGCONT that nobody has waited for
    kids: tuple[int, ...] = ()
    uid: int = 0                    # 0: who started the program
    execed: bool = False            # it runs /bin/cat, and nothing of its script any more
    waiting: bool = False           # in vfork(), until the child has ended or execed

    def copy(self) -> Proc:
        """Return a copy."""
        return copy.copy(self)

    def action(self, sig: int) -> Action:
        """Return what a signal does: "dfl", "ign" or "catch", flags, mask."""
        for number, action in self.actions:
            if number == sig:
                return action
        return DEFAULT

    def ignores(self, sig: int) -> bool:
        """Tell whether the action of a signal is to ignore it, by itself or by default."""
        how = self.action(sig)[0]
        return how == "ign" or (how == "dfl" and (sig in HARMLESS or sig == SIGCONT))

    def sigchld(self) -> bool:
        """Tell whether SIGCHLD is ignored explicitly: its children release themselves."""
        return self.action(SIGCHLD)[0] == "ign"

    def autoreaps(self) -> bool:
        """Tell whether its children release themselves."""
        how, flags, _ = self.action(SIGCHLD)
        return how == "ign" or bool(flags & SA_NOCLDWAIT)


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
    #: who runs a handler: it must be at rest before, and is told to go on afterwards
    handled: set[int] = field(default_factory=set)
    #: what the operation waits for by itself, if one access of another process has brought it
    waits: Resource | None = None


def ref(text: Any) -> tuple[int, int | None]:
    """Take a symbolic pid apart: (sign, actor), or (number, None) of a literal."""
    if isinstance(text, int):
        return text, None
    return (-1, int(text[2:])) if text[0] == "-" else (1, int(text[1:]))


class State:
    """The processes of a program, as the reference sees them."""

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
