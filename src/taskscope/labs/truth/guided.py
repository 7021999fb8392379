"""A guided search: is there a schedule under which the model says what the host said of a racy program?

A run is followed line by line and ends as soon as it says something else than the host: the choices up to there are
kept, and other runs do the same up to one of the last of them and go another way.  So what must come in a certain order
is put in order one after the other.  What is found is a whole run of the model, as any other.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from taskscope.labs.truth.model import ModelBoard, ModelRunner
from taskscope.labs.truth.program import Item, Program, Transcript, render
from taskscope.model import machine
from taskscope.model.include.linux.sched import EXIT_DEAD
from taskscope.model.include.linux.sched_signal import SIGNAL_GROUP_EXIT
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.schedule import Branch, ChoiceLog, Detour, Pct, Random, Schedule

#: of the machines, by turns: who is kept from his program keeps a CPU busy, and on the host others run meanwhile
CPUS: Final = (4, 2, 3, 4, 1)
#: runs before a search begins anew for the first time
SHORTEST: Final = 60
#: so many of the runs that came farthest are gone on from
KEPT: Final = 24


class Follower(ModelBoard):
    """A board that compares with what is wanted, and ends the run at the first difference."""

    def __init__(self, program: Program, wanted: Transcript) -> None:
        super().__init__(None)
        self.wanted = wanted
        self.items: dict[int, Item] = {item[0]: item for script in program.scripts for item in script if item[0] >= 0}
        self.serials = [[item[0] for item in script if item[0] >= 0] for script in program.scripts]
        self.ends = _ends(program, wanted)
        self.dead: list[Any] = []
        #: length of the choice log when the program began, and when it first differed
        self.began = -1
        self.differed = -1

    def given(self, watch: object) -> Follower:
        """Be the board of a machine that nobody watches."""
        del watch
        return self

    def pid_of(self, actor: int) -> int:
        """See `interp.Board`."""
        if self.began < 0:
            self.begin()
        return super().pid_of(actor)

    def begin(self) -> None:
        """Note where the program's choices begin, and watch who exits."""
        self.began = _choices()
        tracepoint_probe_register(machine.cur.tp, "sched_process_exit", self.exits, None)

    def born(self, actor: int, pid: int) -> None:
        """See `interp.Board`."""
        if self.began < 0:
            self.begin()
        super().born(actor, pid)

    def put(self, serial: int, ret: int, more: tuple[int, ...] | bytes = ()) -> None:
        """See `interp.Board`."""
        super().put(serial, ret, more)
        names = {pid: f"@{actor}" for actor, pid in self.pids.items() if pid}
        line = render(self.items[serial], (ret, more), names)
        # Who has no name yet may be given one.
        if line != self.wanted[serial] and (line is None or "?" not in line or self.wanted[serial] is None):
            self.end()
        # Who was left for the reaper may have been reaped by nobody before.
        if self.dead and machine.cur.cpu.curr.pid != 1 and any(task.exit_state == EXIT_DEAD for task in self.dead):
            self.end()

    def exits(self, data: Any, task: Any, *_: Any) -> None:
        """Compare at the end of a process: its status, what it has not said and will not say, whom it leaves behind."""
        del data
        actor = self.actor_of(task)
        if actor is None:
            return
        signal = task.signal
        status = signal.group_exit_code if signal.flags & SIGNAL_GROUP_EXIT else task.exit_code
        wanted = self.ends.status.get(actor)
        if (wanted is not None and status != wanted) or any(
            self.wanted[n] is not None and n not in self.raws for n in self.serials[actor]
        ):
            self.end()
        if actor in self.ends.by_reaper:
            self.dead.append(task)

    def actor_of(self, task: Any) -> int | None:
        """Return which actor a task is."""
        return next((actor for actor, pid in self.pids.items() if pid == task.pid and actor), None)

    def end(self) -> None:
        """Let the run end here: it differs."""
        if self.differed < 0:
            self.differed = _choices()
            machine.cur.stop()


class Ends(NamedTuple):
    """What a transcript says of the ends of its processes."""

    status: dict[int, int]        # by actor, as wait() gives it
    by_reaper: frozenset[int]     # who was left for the reaper


def _ends(program: Program, wanted: Transcript) -> Ends:
    """Gather from the results of waits how each process ended, and who was reaped by the reaper."""
    status: dict[int, int] = {}
    left = set()
    for actor, script in enumerate(program.scripts):
        for item in script:
            line = wanted[item[0]] if item[0] >= 0 else None
            if line is None or item[1] not in ("wait4", "waitid"):
                continue
            if found := re.fullmatch(r"@(\d+) 0x([0-9a-f]{4})", line):
                number, code = int(found[1]), int(found[2], 16)
                if code & 0xFF not in (0x7F, 0xFF):
                    status[number] = code
                    if not actor:
                        left.add(number)
            elif found := re.match(r"@(\d+) code ([123]) status (\d+) ", line):
                number, code, value = map(int, found.groups())
                status[number] = value << 8 if code == 1 else value | (0x80 if code == 3 else 0)
    return Ends(status, frozenset(left))


def _choices() -> int:
    schedule = machine.cur.schedule
    return 0 if schedule is None else len(schedule.log)


@dataclass(slots=True)
class Lead:
    """A run that came so far before it differed."""

    lines: int
    began: int
    differed: int
    log: ChoiceLog
    used: int = 0


def _turn(lead: Lead, chance: random.Random) -> int:
    """Choose where to go another way: rather late, or at any of the choices of one kind, as rare kinds matter too."""
    if chance.randrange(3):
        back = int(2 ** chance.uniform(0, max(1, (lead.differed - lead.began).bit_length())))
        return max(lead.began, lead.differed - back)
    asked = lead.log.asked[lead.began : lead.differed]
    if not asked:
        return lead.began
    kind = chance.choice(sorted(set(asked)))
    return lead.began + chance.choice([n for n, number in enumerate(asked) if number == kind])


def _lengths() -> Iterator[int]:
    """Yield how many runs to try before beginning anew: Luby, Sinclair and Zuckerman's sequence (1993)."""
    n = 0
    while True:
        n += 1
        k = n
        while k & (k + 1):
            k -= (1 << (k.bit_length() - 1)) - 1
        yield SHORTEST * ((k + 1) >> 1)


@dataclass(slots=True)
class Searched:
    """What came of a search: the transcript that came nearest, the schedule, how many runs it took."""

    found: bool
    lines: Transcript
    schedule: str
    runs: int


def search(program: Program, wanted: Transcript, most: int, flavour: str = "4.19-arm", seed: str = "") -> Searched:
    """Look for a run of the model that says what is wanted.

    :param most: how many runs to try
    :param seed: of the search's own draws, with the program's seed
    """
    chance = random.Random(f"guided {program.seed} {seed}")
    leads: list[Lead] = []
    nearest = Searched(False, [], "", 0)
    best = -1
    again = _lengths()
    left = next(again)
    machines = itertools.cycle(CPUS)
    cpus = next(machines)
    for n in range(most):
        if not left:
            # Luck decides how long a search takes; one that began badly may never come to its end.
            leads = []
            left = next(again)
            cpus = next(machines)
        left -= 1
        schedule: Schedule
        if leads and n % 5:
            # The farther a run came the rather it is gone on from, unless that was tried often.
            lead = max(chance.sample(leads, min(3, len(leads))), key=lambda one: one.lines - one.used / 40)
            lead.used += 1
            at = _turn(lead, chance)
            schedule = (Branch, Detour)[chance.randrange(2)](lead.log, at, chance.randrange(1 << 30))
        elif n % 3 == 1:
            schedule = Pct(1 + n // 3 % 4, n)
        else:
            schedule = Random(chance.randrange(1 << 30))
        board = Follower(program, wanted)
        lines = ModelRunner(schedule, flavour=flavour, cpus=cpus, check=False, board=board.given).run(program)
        if lines == wanted:
            return Searched(True, lines, f"{schedule.name} on {cpus} CPUs", n + 1)
        if board.differed >= 0:
            del lines[program.operations :]     # it was ended, and so did not come to its end
        said = sum(a is not None and a == b for a, b in zip(lines, wanted, strict=False))
        if said > best:
            best = said
            nearest = Searched(False, lines, f"{schedule.name} on {cpus} CPUs", 0)
        differed = board.differed if board.differed >= 0 else len(schedule.log)
        leads.append(Lead(said, max(board.began, 0), differed, schedule.log))
        if len(leads) > KEPT:
            leads.remove(min(leads, key=lambda one: one.lines - one.used / 40))
    nearest.runs = most
    return nearest
