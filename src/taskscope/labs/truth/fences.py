"""Fences: what makes the transcript of a program the same under every schedule.

A program grows in one right order of its operations, each performed at once on the reference (`shadow.World`).
Vector clocks say what is ordered already: by a script's own order, by birth, by a death and the wait that sees it.
Where an operation depends on one of another process that is not yet ordered before it, a fence is put in: a token
through a pipe, or a wait without reaping by the parent, who alone can see a death.  Everything else runs at the same
time: what is left to the scheduler can not change a result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from taskscope.labs.truth.program import Item
from taskscope.labs.truth.shadow import World
from taskscope.labs.truth.shadow_state import (
    COMMUTE,
    P_PID,
    SIGKILL,
    WALL,
    WEXITED,
    WNOWAIT,
    WUNTRACED,
    Death,
    Effect,
    Resource,
    SkipError,
    Touch,
)

ACTORS: Final = 10          # processes of a program at most, the reaper counted
TOKENS: Final = 250         # a token is one byte


class Builder:
    """A program in the making."""

    def __init__(self) -> None:
        self.world = World()
        self.scripts: list[list[Item]] = [[]]
        self.expected: list[str | None] = []
        #: clock[a][b]: up to which event of b everything is known to have happened when a goes on
        self.clock: list[list[int]] = [[0] * (ACTORS + 1)]
        self.access: dict[Resource, list[tuple[int, int, str]]] = {}
        self.before: dict[Resource, list[tuple[int, int, str]]] = {}    # accesses before the last change
        self.tokens = 0
        self.seeing: set[int] = set()               # whose deaths are about to be seen
        self.resume: dict[int, int] = {}            # who was stopped by another: the token that it waits for
        self.unfinished: dict[int, int] = {}        # who stopped in an operation of its own: actor -> serial number
        self.emit(0, ["fork", 1, 17, "fn"])
        self.emit(1, ["setsid"])

    # ---- fences ----------------------------------------------------------------------------------------

    def active(self, actor: int) -> bool:
        """Tell whether a process can do something now."""
        proc = self.world.procs[actor]
        return proc.state == "run" and not proc.execed and not proc.waiting

    def sync(self, z: int, b: int, n: int) -> None:
        """Order event `n` of `b` before whatever `z` does next.

        :raises SkipError: nobody is left who could tell
        """
        clock = self.clock
        if clock[z][b] >= n:
            return
        source = self._knows(b, n)
        if source is None:
            source = self._see(b, n)
        if source != z:
            self._token(source, z)

    def _see(self, b: int, n: int) -> int:
        """Let the parent of a dead process that was after event `n` of `b` see it dead; return the parent."""
        procs = self.world.procs
        for d in (b, *range(1, len(procs))):
            parent: int = procs[d].parent
            if procs[d].state == "zombie" and self.clock[d][b] >= n and self.active(parent) and d not in self.seeing:
                self.seeing.add(d)
                try:
                    self.emit(parent, ["waitid", P_PID, f"@{d}", WEXITED | WNOWAIT | WALL])
                finally:
                    self.seeing.discard(d)
                return parent
        raise SkipError

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

    def _order(
        self, actor: int, touches: Iterable[Touch], exempt: int | None, but: tuple[int, Resource] | None
    ) -> None:
        access = self.access
        clock = self.clock[actor]
        for resource, mode in touches:
            for b, n, before in access.get(resource, ()):
                known = b == actor or clock[b] >= n or but == (b, resource)
                if b == exempt and resource != ("ids", b):
                    # Its death is waited for, so that all it did before has happened: but the group must fit at once.
                    known = True
                if not known and mode + before not in COMMUTE:
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
        if effect.handled - {actor} and world.procs[actor].state != "run":
            raise SkipError                 # nobody could tell them that a handler is to run first
        if any(death.actor == actor and death.cause >= 0 for death in effect.deaths):
            raise SkipError                 # the call might return before its consequences kill the caller
        for parent, x, _ in effect.observe:
            if world.procs[parent].state != "run" or not self.active(parent):
                raise SkipError
            # The wait must find its child, and what it waits for must not be there from before.
            self._order(parent, [(("pid", x), "r"), (("par", x), "r"), (("wst", x), "r")], None, None)
        exempt = effect.exempt if exempt is None else exempt
        waited = self._waited(actor, effect) if but is None else None
        if waited is not None:
            but = (waited[0], ("sig", actor))
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
        if waited is not None:
            clock[actor][waited[0]] = max(clock[actor][waited[0]], waited[1])
        moment = list(clock[actor])
        if effect.born is not None:
            self.scripts.append([])
            clock.append(list(moment))
        moments: list[list[int]] = []
        for death in effect.deaths:
            moments.append(self._died(death, moments[death.cause] if death.cause >= 0 else moment))
        for x, cause in effect.continued:
            _join(clock[x], moments[cause] if cause >= 0 else moment)
            self._told_later(x)
            token = self.resume.pop(x, None)
            if token is not None and world.procs[x].state == "run":
                self.scripts[actor].append([-1, "tok", x, token])
        if world.procs[actor].state == "stopped" or world.procs[actor].waiting:
            self.unfinished[actor] = serial
        elif world.procs[actor].state == "run":
            clock[actor][actor] += 1
        for x in sorted(effect.handled - {actor}):
            if world.procs[x].state == "run":
                if not any(x == c for c, _ in effect.continued):
                    # Its next call would be interrupted; it runs the handler before it goes on.
                    self._token(actor, x)
                self.access["sig", x] = [(x, clock[x][x], "w")]
        for x in list(self.unfinished):
            if self.world.procs[x].state == "run" and not self.world.procs[x].waiting:
                del self.unfinished[x]
                clock[x][x] += 1
        for parent, x, how in effect.observe:
            if how == "stopped":
                _join(clock[x], moment)
                clock[x][x] += 1
                self._told_later(x)
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

    def _told_later(self, x: int) -> None:
        """Note that a process sends its parent a signal before it does anything else."""
        clock = self.clock[x]
        clock[x] += 1
        self.access.setdefault(("chld", self.world.procs[x].parent), []).append((x, clock[x], "r"))

    def _waited(self, actor: int, effect: Effect) -> tuple[int, int] | None:
        """Return the event of another process that an operation waits for by itself, so that it needs no fence."""
        if effect.waits is None:
            return None
        last = self.access.get(effect.waits, [])
        clock = self.clock[actor]
        if len(last) != 1 or last[0][0] == actor or last[0][2] != "w":
            return None
        # Another signal before it might be taken in its place.
        for b, n, _ in self.before.get(effect.waits, ()):
            if b != actor and clock[b] < n:
                return None
        return last[0][0], last[0][1]

    def _note(self, actor: int, touches: Iterable[Touch]) -> None:
        n = self.clock[actor][actor]
        for resource, mode in touches:
            if mode == "w":
                self.before[resource] = self.access.get(resource, [])
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

    def vfork(self, actor: int, call: Item, inside: Sequence[Callable[[World, int], Item | None]], end: Item) -> None:
        """Let a process sleep in its birth of a child that does something, and then exits or execs.

        :param inside: choose operations of the child
        :param end: exit or exec
        :raises SkipError: it can not be added; the builder is unusable then
        """
        child = len(self.world.procs)
        self.emit(actor, call)
        for choose in inside:
            todo = choose(self.world, child)
            with contextlib.suppress(SkipError):
                if todo is not None and todo[0] not in ("fork", "exec"):
                    before = list(self.clock[child])
                    self.emit(child, todo)
            if not self.active(child):
                break
        else:
            before = list(self.clock[child])
            if end[0] == "exit":
                self.emit(child, end)
        if self.world.procs[child].state == "stopped":
            raise SkipError                 # nobody would continue it
        if actor in self.unfinished:        # else the child has killed it
            self.world.procs[actor].waiting = False
            del self.unfinished[actor]
            _join(self.clock[actor], before)
            self.clock[actor][actor] += 1
        if end[0] == "exec" and self.active(child):
            self.exec(child, end[1])

    def exec(self, actor: int, path: str) -> None:
        """Add an exec; the parent waits until it has happened.

        :raises SkipError: the parent can not
        """
        parent = self.world.procs[actor].parent
        if not self.active(parent) or self.tokens >= TOKENS - 50:
            raise SkipError
        token = self.tokens
        self.tokens += 1
        # Before the call: a new parent would have to be told otherwise.
        self.emit(actor, ["exec", path, parent, token])
        self.scripts[parent].append([-1, "await", token])
        self.clock[parent][parent] += 1
        _join(self.clock[parent], self.clock[actor])

    def _vanished(self, parent: int, x: int) -> None:
        """Let the parent of a process that releases itself wait until it has: then the call finds nobody.

        The call alone would not wait if the process becomes a child by another's death that is still to come.
        """
        self.scripts[parent].append([-1, "gone", x])
        self.scripts[parent].append([len(self.expected), "waitid", P_PID, f"@{x}", WEXITED | WNOWAIT | WALL])
        self.expected.append("ECHILD")
        _join(self.clock[parent], self.clock[x])
        self.clock[parent][parent] += 1

    # ---- the end ---------------------------------------------------------------------------------------

    def finish(self, order: int) -> None:
        """Let the reaper look at what is left, kill it, and reap it.

        :param order: 1 to kill the oldest first, -1 the youngest
        :raises SkipError: deaths would come in an order that nobody can tell
        """
        everyone = range(1, len(self.world.procs))
        for x in everyone:
            if self.world.procs[x].state not in ("gone", "ghost"):
                self.emit(0, ["stat", f"@{x}"])
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
