"""Random programs whose transcript is the same under every schedule.

A program grows in one right order of its operations, each performed at once on the reference (`shadow.World`).  Vector clocks say what is
ordered already: by a script's own order, by birth, by a death and the wait that sees it.  Where an operation depends on one of
another process that is not yet ordered before it, a fence is put in: a token through a pipe, or a wait without reaping by the
parent, who alone can see a death.  Everything else runs at the same time: what is left to the scheduler can not change a result.

Input are steps of small numbers, so that one generator serves a seed and Hypothesis, and dropping a step keeps the others' sense.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final

from taskscope.abi.sched import CloneFlag
from taskscope.labs.truth.program import Item, Program
from taskscope.labs.truth.shadow import (
    COMMUTE,
    HARMLESS,
    P_ALL,
    P_PGID,
    P_PID,
    PR_GET_CHILD_SUBREAPER,
    PR_GET_PDEATHSIG,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SIGSTOP,
    WALL,
    WCLONE,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
    WUNTRACED,
    Death,
    Effect,
    Resource,
    SkipError,
    Touch,
    World,
)

#: a step: who, what, and three numbers that its arguments are chosen by
Step = tuple[int, int, int, int, int]
#: numbers of a step are below this
STEP_MAX: Final = 1 << 10

ACTORS: Final = 10          # processes of a program at most, the reaper counted
STEPS: Final = 40
TOKENS: Final = 250         # a token is one byte

SIGTERM: Final = 15
SIGUSR1: Final = 10
NOBODY: Final = 0x3FFF_FFFF     # above every pid_max: the pid of nobody

_C: Final = CloneFlag
#: flags of births that succeed, with the exit signal
FORKS: Final = (
    17, 17, 17, 17, 17, 17,
    0,                                                      # no exit signal: a "clone" child
    17 | _C.CLONE_PARENT,
    17 | _C.CLONE_FILES | _C.CLONE_FS,
    23,                                                     # SIGURG
    17 | _C.CLONE_FILES,
    17 | _C.CLONE_FS | _C.CLONE_SYSVSEM | _C.CLONE_UNTRACED,
    28 | _C.CLONE_PARENT,
)
#: flags that contradict each other (copy_process(): EINVAL)
BAD_CLONES: Final = (
    17 | _C.CLONE_SIGHAND,                                  # without CLONE_VM
    17 | _C.CLONE_THREAD,                                   # without CLONE_SIGHAND
    17 | _C.CLONE_THREAD | _C.CLONE_VM,
    17 | _C.CLONE_NEWNS | _C.CLONE_FS,
    17 | _C.CLONE_NEWUSER | _C.CLONE_FS,
)
EXIT_CODES: Final = (0, 1, 2, 42, 255, 256, 259, -1)
WAIT_OPTIONS: Final = (0, 0, 0, WNOHANG, WALL, WUNTRACED | WCONTINUED, WNOHANG | WUNTRACED | WCONTINUED, WCLONE,
                       WNOHANG | WCLONE, WNOTHREAD, WNOHANG | WALL, WEXITED, WNOWAIT, 0x40)
WAITID_OPTIONS: Final = (WEXITED, WEXITED, WEXITED | WNOWAIT, WEXITED | WNOHANG, WUNTRACED | WNOHANG, WCONTINUED | WNOHANG,
                         WEXITED | WUNTRACED | WCONTINUED, WEXITED | WNOHANG | WNOWAIT, WEXITED | WALL, WEXITED | WCLONE, WNOHANG,
                         WUNTRACED | WNOWAIT | WNOHANG, WEXITED | WNOTHREAD, 0x40 | WEXITED)
SIGNALS: Final = (SIGKILL, SIGKILL, SIGKILL, SIGTERM, 0, SIGSTOP, SIGCONT, SIGSTOP, SIGCONT, SIGHUP, SIGUSR1, *sorted(HARMLESS), 65)
PDEATHS: Final = (SIGKILL, SIGTERM, 0, 23, 65, SIGHUP)
IGNORES: Final = (SIGCHLD, SIGTERM, SIGCHLD, SIGHUP, SIGKILL, SIGUSR1)
NAMES: Final = ("raspbian_proc", "a", "", "0123456789abcdef_", "with space", "x" * 15)

#: what a step does, with how many shares of the dice; the first is what shrinking ends at
KINDS: Final = tuple(name for name, shares in (
    ("getpid", 1), ("fork", 7), ("exit", 4), ("kill", 7), ("wait4", 6), ("waitid", 5), ("setpgid", 4), ("setsid", 2), ("getppid", 2),
    ("getpgid", 2), ("getsid", 1), ("subreaper", 2), ("pdeath", 2), ("prctl_get", 1), ("signal", 3), ("name", 1), ("files", 2),
    ("umask", 1), ("badclone", 1), ("gettid", 1),
) for _ in range(shares))

#: kinds that can end the process itself or another
DEADLY: Final = frozenset({"exit", "kill"})


def random_steps(seed: int | str, count: int | None = None) -> list[Step]:
    """Return the steps of a seed."""
    rng = random.Random(f"taskscope {seed}")
    below = rng.randrange
    if count is None:
        count = below(4, STEPS + 1)
    return [(below(STEP_MAX), below(STEP_MAX), below(STEP_MAX), below(STEP_MAX), below(STEP_MAX)) for _ in range(count)]


def program(seed: int | str) -> Program:
    """Return the program of a seed."""
    return build(random_steps(seed), str(seed))


def build(steps: Iterable[Step], seed: str = "") -> Program:
    """Build a program from steps; what makes no sense where it would stand is left out."""
    steps = list(steps)
    for order in (1, -1):
        builder = Builder()
        for step in steps:
            builder.step(step)
        try:
            builder.finish(order)
        except SkipError:
            continue
        return Program(builder.scripts, builder.expected, seed)
    # Nobody's end can be told apart from another's: a shorter program has no such knot.
    return build(steps[: len(steps) // 2], seed)


class Builder:
    """A program in the making."""

    def __init__(self) -> None:
        self.world = World()
        self.scripts: list[list[Item]] = [[]]
        self.expected: list[str | None] = []
        #: clock[a][b]: up to which event of b everything is known to have happened when a goes on
        self.clock: list[list[int]] = [[0] * (ACTORS + 1)]
        self.access: dict[Resource, list[tuple[int, int, str]]] = {}
        self.tokens = 0
        self.resume: dict[int, int] = {}            # who was stopped by another: the token that it waits for
        self.unfinished: dict[int, int] = {}        # who stopped in an operation of its own: actor -> serial number
        self.emit(0, ["fork", 1, 17, "fn"])
        self.emit(1, ["setsid"])

    # ---- fences ----------------------------------------------------------------------------------------

    def active(self, actor: int) -> bool:
        """Tell whether a process can do something now."""
        return self.world.procs[actor].state == "run"

    def sync(self, z: int, b: int, n: int) -> None:
        """Order event `n` of `b` before whatever `z` does next.

        :raises SkipError: nobody is left who could tell
        """
        clock = self.clock
        if clock[z][b] >= n:
            return
        procs = self.world.procs
        source = self._knows(b, n)
        if source is None:
            for d in range(1, len(procs)):
                if procs[d].state == "zombie" and clock[d][b] >= n and self.active(procs[d].parent):
                    source = procs[d].parent
                    self.emit(source, ["waitid", P_PID, f"@{d}", WEXITED | WNOWAIT | WALL])
                    break
            else:
                raise SkipError
        if source != z:
            self._token(source, z)

    def _knows(self, b: int, n: int) -> int | None:
        if self.active(b):
            return b
        for a in range(len(self.clock)):
            if self.clock[a][b] >= n and self.active(a):
                return a
        return None

    def _token(self, source: int, z: int) -> None:
        if self.tokens >= TOKENS:
            raise SkipError
        number = self.tokens
        self.tokens += 1
        self.scripts[source].append([-1, "tok", z, number])
        self.scripts[z].append([-1, "await", number])
        self.clock[source][source] += 1
        self.clock[z][z] += 1
        _join(self.clock[z], self.clock[source])

    def _order(self, actor: int, touches: Iterable[Touch], exempt: int | None, but: tuple[int, Resource] | None) -> None:
        access = self.access
        clock = self.clock[actor]
        for resource, mode in touches:
            for b, n, before in access.get(resource, ()):
                if b != actor and clock[b] < n and b != exempt and mode + before not in COMMUTE and but != (b, resource):
                    self.sync(actor, b, n)

    # ---- operations ------------------------------------------------------------------------------------

    def emit(self, actor: int, call: Item, but: tuple[int, Resource] | None = None, exempt: int | None = None) -> None:
        """Add an operation with its fences.

        :param but: (actor, resource) whose access needs no fence, as the operation itself waits for it
        :raises SkipError: it can not be added; the program is as before, or has more fences
        """
        if not self.active(actor):
            raise SkipError
        item: Item = [0, *call]
        world = self.world.copy()
        effect = world.apply(actor, item)
        self._check_deaths(effect)
        for x, _ in effect.continued:
            if world.procs[x].state == "run" and x in self.resume and world.procs[actor].state != "run":
                raise SkipError             # nobody could tell it to go on
        if any(death.actor == actor and death.cause >= 0 for death in effect.deaths):
            raise SkipError                 # the call might return before its consequences kill the caller
        for parent, x, _ in effect.observe:
            if world.procs[parent].state != "run" or not self.active(parent):
                raise SkipError
            self._order(parent, [(("pid", x), "r")], None, None)
        exempt = effect.exempt if exempt is None else exempt
        self._order(actor, effect.touches, exempt, but)
        for death in effect.deaths:
            self._order(actor, death.touches, None, but)
        for x in effect.quiesce:
            if x != actor:
                self.sync(actor, x, self.clock[x][x])

        # The operation takes effect in one moment, and returns in a later one.
        self.world = world
        clock = self.clock
        item[0] = serial = len(self.expected)
        self.scripts[actor].append(item)
        self.expected.append(effect.result)
        clock[actor][actor] += 1
        self._note(actor, effect.touches)
        if exempt is not None:
            _join(clock[actor], clock[exempt])
        moment = list(clock[actor])
        if effect.born is not None:
            self.scripts.append([])
            clock.append(list(moment))
        moments: list[list[int]] = []
        for death in effect.deaths:
            moments.append(self._died(death, moments[death.cause] if death.cause >= 0 else moment))
        for x, cause in effect.continued:
            _join(clock[x], moments[cause] if cause >= 0 else moment)
            token = self.resume.pop(x, None)
            if token is not None and world.procs[x].state == "run":
                self.scripts[actor].append([-1, "tok", x, token])
        if world.procs[actor].state == "stopped":
            self.unfinished[actor] = serial
        elif world.procs[actor].state == "run":
            clock[actor][actor] += 1
        for x in list(self.unfinished):
            if self.world.procs[x].state == "run":
                del self.unfinished[x]
                clock[x][x] += 1
        for parent, x, how in effect.observe:
            if how == "stopped":
                _join(clock[x], moment)
                clock[x][x] += 1
                if x != actor:
                    # It would go on with its script until the signal arrives.
                    self.resume[x] = self.tokens
                    self.scripts[x].append([-1, "await", self.tokens])
                    self.tokens += 1
                call = ["waitid", P_PID, f"@{x}", WUNTRACED | WNOWAIT | WALL]
                self.emit(parent, call, but=(actor, ("wst", x)), exempt=x)
                # A signal that comes before the stop is complete may be taken first.
                self.access["wst", x] = [(parent, clock[parent][parent] - 1, "w")]
            else:
                self._vanished(parent, x)

    def _check_deaths(self, effect: Effect) -> None:
        """Deaths that nothing orders must not touch the same things."""
        deaths = effect.deaths
        for j, late in enumerate(deaths):
            above = set()
            cause = late.cause
            while cause >= 0:
                above.add(cause)
                cause = deaths[cause].cause
            for i in range(j):
                if i in above:
                    continue
                for resource, mode in late.touches:
                    for other, before in deaths[i].touches:
                        if resource == other and mode + before not in COMMUTE:
                            raise SkipError

    def _note(self, actor: int, touches: Iterable[Touch]) -> None:
        n = self.clock[actor][actor]
        for resource, mode in touches:
            if mode == "w":
                self.access[resource] = [(actor, n, mode)]
            else:
                seen = self.access.setdefault(resource, [])
                if (actor, n, mode) not in seen:
                    seen.append((actor, n, mode))

    def _died(self, death: Death, moment: Sequence[int]) -> list[int]:
        x = death.actor
        clock = self.clock[x]
        _join(clock, moment)
        clock[x] += 1
        self._note(x, death.touches)
        serial = self.unfinished.pop(x, None)
        if serial is not None:
            self.expected[serial] = None
        return list(clock)

    def _vanished(self, parent: int, x: int) -> None:
        """Let the parent of a process that releases itself wait until it has: the call blocks, and finds nobody."""
        self.scripts[parent].append([len(self.expected), "waitid", P_PID, f"@{x}", WEXITED | WNOWAIT | WALL])
        self.expected.append("ECHILD")
        _join(self.clock[parent], self.clock[x])
        self.clock[parent][parent] += 1

    # ---- steps -----------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Add what a step asks for, if that is possible here."""
        who, what, a, b, c = step
        kind = KINDS[what % len(KINDS)]
        able = [n for n in range(1, len(self.world.procs)) if self.active(n)]
        if self.tokens > TOKENS - 50:
            return
        if not able or (kind in ("wait4", "waitid") and who % 16 == 15):
            able = [0]
        actor = able[who % len(able)]
        if kind in DEADLY and not self._may_end(actor, who // len(able)):
            kind = "fork"
        call = getattr(self, f"_step_{kind}")(actor, a, b, c)
        if call is None or (actor == 0 and kind not in ("wait4", "waitid")):
            return
        try:
            self.emit(actor, call)
        except SkipError:
            return

    def _may_end(self, actor: int, dice: int) -> bool:
        """Let a program have processes before it loses them, and its first one live longer."""
        born = len(self.world.procs)
        return born > 3 and (actor != 1 or born > 5 or dice % 8 == 7)

    def _anyone(self, actor: int, a: int, *, kids: int = 0) -> str | int:
        """Choose whom an operation is about; with `kids` of 8 shares, one of the actor's children."""
        procs = self.world.procs
        a, dice = divmod(a, 8)
        own = procs[actor].kids
        if dice < kids and own:
            return f"@{own[a % len(own)]}"
        if a % 16 == 15:
            return NOBODY
        if a % 8 == 7:
            return 0
        return f"@{a % (len(procs) - 1) + 1}"

    def _step_getpid(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["getpid"]

    def _step_gettid(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["gettid"]

    def _step_getppid(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["getppid"]

    def _step_fork(self, actor: int, a: int, b: int, c: int) -> Item | None:
        child = len(self.world.procs)
        if child >= ACTORS:
            return None
        return ["fork", child, int(FORKS[a % len(FORKS)]), ("fn", "again")[b % 2]]

    def _step_badclone(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["badclone", int(BAD_CLONES[a % len(BAD_CLONES)])]

    def _step_exit(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["exit", EXIT_CODES[a % len(EXIT_CODES)]]

    def _step_getpgid(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["getpgid", self._anyone(actor, a)]

    def _step_getsid(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["getsid", self._anyone(actor, a)]

    def _step_setsid(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["setsid"]

    def _step_setpgid(self, actor: int, a: int, b: int, c: int) -> Item:
        target = self._anyone(actor, a, kids=4) if a % 3 else 0
        group: str | int = self._anyone(actor, b) if b % 2 else 0
        if b % 16 == 14:
            group = "-@1"
        return ["setpgid", target, group]

    def _step_subreaper(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["prctl", PR_SET_CHILD_SUBREAPER, int(a % 4 != 3)]

    def _step_pdeath(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["prctl", PR_SET_PDEATHSIG, PDEATHS[a % len(PDEATHS)]]

    def _step_prctl_get(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["prctl_get", (PR_GET_CHILD_SUBREAPER, PR_GET_PDEATHSIG)[a % 2]]

    def _step_name(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["setname", NAMES[b % len(NAMES)]] if a % 2 else ["getname"]

    def _step_signal(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["signal", IGNORES[a % len(IGNORES)], "ign" if b % 4 else "dfl"]

    def _step_files(self, actor: int, a: int, b: int, c: int) -> Item:
        return [("getfd", "dup2", "close")[a % 3], 200 + b % 3]

    def _step_umask(self, actor: int, a: int, b: int, c: int) -> Item:
        return ["umask", (0o22, 0o77, 0o7777, 0)[a % 4]]

    def _step_kill(self, actor: int, a: int, b: int, c: int) -> Item:
        target = self._anyone(actor, a, kids=5)
        if b % 4 == 3:
            target = f"-{target}" if isinstance(target, str) else -target
        sig, dice = SIGNALS[c % len(SIGNALS)], c // len(SIGNALS) % 4
        own = self.world.procs[actor].pgrp
        if dice and sig not in HARMLESS and target in (0, f"@{actor}", f"-@{own}"):
            target = f"@{a % (len(self.world.procs) - 1) + 1}"
        return ["kill", target, sig]

    def _step_wait4(self, actor: int, a: int, b: int, c: int) -> Item:
        target = self._anyone(actor, a, kids=7)
        if b % 3 == 1:
            target = -1
        elif b % 8 == 7:
            target = f"-{target}" if isinstance(target, str) else 0
        return ["wait4", target, WAIT_OPTIONS[c % len(WAIT_OPTIONS)]]

    def _step_waitid(self, actor: int, a: int, b: int, c: int) -> Item:
        target = self._anyone(actor, a, kids=7)
        options = WAITID_OPTIONS[c % len(WAITID_OPTIONS)]
        if b % 3 == 1:
            return ["waitid", P_ALL, 0, options]
        return ["waitid", P_PGID if b % 8 == 7 else 7 if b % 64 == 62 else P_PID, target, options]

    # ---- the end ---------------------------------------------------------------------------------------

    def finish(self, order: int) -> None:
        """Let the reaper look at what is left, kill it, and reap it.

        :param order: 1 to kill the oldest first, -1 the youngest
        :raises SkipError: deaths would come in an order that nobody can tell
        """
        everyone = range(1, len(self.world.procs))
        for x in everyone:
            if self.world.procs[x].state not in ("gone", "ghost"):
                for call in (["getpgid", f"@{x}"], ["getsid", f"@{x}"]):
                    self.emit(0, call)
        for x in everyone[::order]:
            if self.world.procs[x].state in ("run", "stopped"):
                self.emit(0, ["kill", f"@{x}", SIGKILL])
        for x in everyone:
            if self.world.procs[x].state == "zombie":
                self.emit(0, ["wait4", f"@{x}", WALL])
        self.emit(0, ["wait4", -1, WALL])
        assert self.expected[-1] == "ECHILD", "everybody has been reaped"


def _join(mine: list[int], other: Sequence[int]) -> None:
    for n, value in enumerate(other):
        if value > mine[n]:
            mine[n] = value
