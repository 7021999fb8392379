"""Racy programs: nothing orders what their processes do, and a transcript is right if some schedule can give it.

A few processes set up what they do about signals, are let go together, and then kill, wait for, stop and watch each
other.  The reaper waits until all have come to rest (they are at their end, dead, or stopped), ends what is left, and
notes how each ended.  What the host says must be among what the model says under some schedule.
"""

from __future__ import annotations

import random
from typing import Final

from taskscope.labs.truth.build_signals import RT, SIGTERM, SIGUSR1, SIGUSR2
from taskscope.labs.truth.program import Item, Program
from taskscope.labs.truth.shadow_ids import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG
from taskscope.labs.truth.shadow_signals import bit
from taskscope.labs.truth.shadow_state import (
    P_ALL,
    SA_NOCLDWAIT,
    SA_RESETHAND,
    SA_RESTART,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    WALL,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    WUNTRACED,
)

#: what racers catch or block
CAUGHT: Final = (SIGUSR1, SIGUSR2, RT, SIGTERM, SIGCHLD)
#: what they send
SENT: Final = (SIGKILL, SIGTERM, SIGTERM, SIGUSR1, SIGUSR1, SIGUSR2, RT, RT, SIGCONT, SIGSTOP)
SET: Final = bit(SIGUSR1) | bit(SIGUSR2) | bit(RT)


class _Race:
    """A racy program in the making."""

    def __init__(self, seed: int | str, racers: int) -> None:
        self.random = random.Random(f"race {seed}")
        self.seed = str(seed)
        self.racers = racers
        self.scripts: list[list[Item]] = [[]]
        self.count = 0
        #: whether some may be stopped.  Then there are no groups, and no children of the reaper: of an orphaned group
        #: with stopped processes Linux asks whose child is the machine's init's (kernel/exit.c:
        #: will_become_orphaned_pgrp()), and the reaper is that init on the model, and the host's is not
        self.stops = False

    def add(self, actor: int, *call: object) -> None:
        self.scripts[actor].append([self.count, *call])
        self.count += 1

    def below(self, n: int) -> int:
        return self.random.randrange(n)

    def build(self) -> Program:
        below = self.below
        deep = below(6) == 0
        racers = 2 if deep else self.racers or 2 + below(2)
        everyone = range(1, racers + 2)
        self.scripts += [[] for _ in everyone]
        self.add(0, "fork", 1, 17, "fn")
        stops = self.stops = below(3) == 0
        self.setup(1)
        for n in range(2, racers + 2):
            # A child of the first, or of the one before.
            parent = 0x8000 if below(12) == 0 and not stops else 0
            self.add(n - 1 if deep and n > 2 else 1, "fork", n, 17 | parent, "fn")
            self.setup(n)
        barrier = below(4) != 0 and not deep
        if barrier:
            for n in range(2, racers + 2):
                self.scripts[n] += [[-1, "tok", 1, 100 + n], [-1, "await", n]]
                self.scripts[1].append([-1, "await", 100 + n])
            self.scripts[1] += [[-1, "tok", n, n] for n in range(2, racers + 2)]
        for n in everyone[1:]:
            for _ in range(1 + below(2)):
                self.act(n, racers, stops=stops)
            # Somebody waits for them all, unless they may be stopped.
            if not stops or below(3):
                self.add(n, "exit", n)
        for _ in range(1 + below(3)):
            self.act(1, racers, stops=stops)
        self.waits(racers, stops=stops)
        if below(2):
            self.add(1, "caught")
        # The end: everybody comes to rest and is ended.
        self.scripts[0].append([-1, "settle"])
        for n in everyone:
            self.scripts[0].append([-1, "end", n])
            self.add(0, "wait4", f"@{n}", WALL)
        self.scripts[0].append([-1, "sweep"])
        return Program(self.scripts, [None] * self.count, self.seed)

    def setup(self, n: int) -> None:
        """Let a racer say what it does about signals."""
        below = self.below
        for _ in range(below(3)):
            sig = CAUGHT[below(len(CAUGHT))]
            if sig == SIGCHLD and below(3):
                self.add(n, "act", sig, ("dfl", "ign", "catch")[below(3)], (SA_NOCLDWAIT, SA_RESTART)[below(2)], 0)
            else:
                self.add(n, "act", sig, ("catch", "catch", "ign")[below(3)],
                         (SA_RESTART, SA_RESTART | SA_RESETHAND)[below(2)], (0, SET)[below(2)])
        if below(3) == 0:
            self.add(n, "mask", 0, (SET, bit(SIGUSR1), SET | bit(SIGTERM))[below(3)])
        if below(8) == 0:
            self.add(n, "prctl", PR_SET_CHILD_SUBREAPER, 1)
        if below(8) == 0:
            self.add(n, "prctl", PR_SET_PDEATHSIG, (SIGUSR1, SIGTERM)[below(2)])
        if below(6) == 0 and not self.stops:
            self.add(n, "setpgid", 0, 0)

    def act(self, n: int, racers: int, *, stops: bool) -> None:
        """Let a racer do something that others notice, or notice something."""
        below = self.below
        other = f"@{1 + below(racers + 1)}"
        what = below(16)
        if what < 6:
            sig = SENT[below(len(SENT) - (0 if stops else 2))]
            self.add(n, "kill", f"-{other}" if below(8) == 0 else other, sig)
        elif what < 8:
            self.add(n, "sigqueue", other, (RT, SIGUSR1)[below(2)], n)
        elif what == 8:
            self.add(n, "mask", 1, SET)
        elif what == 9:
            self.add(n, "pend")
        elif what == 10:
            self.add(n, "caught")
        elif what == 11:
            self.add(n, "stat", other)
        elif what == 12:
            self.add(n, "getppid")
        elif what == 13:
            self.add(n, "getpgid", other)
        elif what == 14:
            self.add(n, "sigwait", SET, 0)
        elif not self.stops:
            self.add(n, "setpgid", 0, 0)

    def waits(self, racers: int, *, stops: bool) -> None:
        """Let the first racer wait for its children."""
        below = self.below
        for _ in range(1 + below(racers)):
            what = below(6)
            if stops or what == 0:
                options = WEXITED | WUNTRACED | WCONTINUED | WNOHANG | (WNOWAIT if what > 4 else 0)
                self.add(1, "waitid", P_ALL, 0, options)
            elif what == 1:
                self.add(1, "wait4", -1, WNOHANG)
            else:
                self.add(1, "wait4", -1, 0)


def race(seed: int | str, racers: int = 0) -> Program:
    """Return the racy program of a seed.

    :param racers: how many race with the first; 2 or 3 by default
    """
    return _Race(seed, racers).build()
