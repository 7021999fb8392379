"""Schedules: what decides where Linux leaves open which of several things happens.

All chance of a machine goes through `Machine.choose`, which asks its schedule.  `KINDS` lists what is asked, and
where; option 0 is the usual one.  A schedule keeps a log of all that it was asked and what it answered, so that a run
can be repeated: `Replay`.  A machine without a schedule takes the usual way everywhere, and keeps no log.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from taskscope.errors import ScheduleError
from taskscope.model import machine

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import SchedEntity, Task
    from taskscope.model.kernel.sched.sched import CfsRq

    #: whom the options are about: the task that would go on; None: hardware
    Who = Sequence[Task | None]


class Kind(NamedTuple):
    """A kind of choice."""

    where: str      # who asks
    options: str    # among what
    usual: str      # option 0
    odds: int       # most seeds take the usual one `odds` - 1 times out of `odds`


NEXT_EVENT: Final = "next event"
KERNEL_IRQ: Final = "interrupt in the kernel"
EXIT: Final = "delay in an exit"
DELAY: Final = "delay on the way to user space"
INSTRUCTION: Final = "delay between two instructions"
IPI: Final = "IPI latency"
TIMER: Final = "timer latency"
NEXT_TASK: Final = "next task"
PREEMPTION: Final = "wakeup preemption"
IDLEST: Final = "idlest cpu"
IDLE: Final = "idle cpu"

#: how long the CPU is kept from the program, in ns, by option
DELAYS: Final = (0, 20_000, 80_000, 320_000, 1_280_000, 5_120_000)
#: how long a program is held up before an atomic instruction, in ns, by option
INSTRUCTIONS: Final = (0, 5_000, 20_000, 80_000, 320_000, 1_280_000)
#: how long a preemptible kernel's code is held up by an interrupt, in ns, by option; the first: there is none
KERNEL_IRQS: Final = (-1, 0, 5_000, 50_000, 500_000)
#: by how much longer an address space is torn down, in ns, by option; the first: by nothing
EXITS: Final = (*KERNEL_IRQS, 5_000_000)
#: what is added to the usual latency of an IPI, in ns, by option
IPIS: Final = (0, 2_000, 20_000)
#: how late a timer's interrupt arrives, in ns, by option
TIMERS: Final = (0, 2_000, 20_000, 200_000)
#: nothing that is due is passed over for longer, in ns
PATIENCE: Final = 2_000_000

#: by what a seed multiplies the odds of a kind
TEMPERS: Final = (0.25, 0.5, 1, 1, 2, 4)

KINDS: Final[dict[str, Kind]] = {
    NEXT_EVENT: Kind("machine.py: _fire", "CPUs that go on, timers and IPIs that are due", "the earliest", 2),
    KERNEL_IRQ: Kind("kernel/sched/core: preempt_schedule", "none, or one of 0, 5, 50, 500 us", "none", 12),
    EXIT: Kind("kernel/fork: exit_mmap", "none, or one of 0, 5, 50, 500 us, 5 ms", "none", 4),
    DELAY: Kind("machine.py: catch_up", "none, 20 us to 5 ms", "none", 8),
    INSTRUCTION: Kind("user/python.py: _hold_up", "none, 5 us to 1.3 ms", "none", 8),
    IPI: Kind("kernel/smp.py", "1, 3, 21 us", "1 us", 4),
    TIMER: Kind("kernel/time/tick.py: tick_program_event", "0, 2, 20, 200 us late", "0", 8),
    NEXT_TASK: Kind("kernel/sched/fair.py: pick_next_entity",
                    "tasks within a latency of the leftmost", "what CFS's order says", 4),
    PREEMPTION: Kind("kernel/sched/fair.py: check_preempt_wakeup",
                     "who runs on, within a latency", "what the vruntimes say", 4),
    IDLEST: Kind("kernel/sched/fair_balance.py: find_idlest_cpu", "CPUs with the least load", "the lowest", 2),
    IDLE: Kind("kernel/sched/fair_balance.py: select_idle_sibling", "idle CPUs of the cache", "the nearest", 4),
}


def choose_entity(cfs_rq: CfsRq, curr: SchedEntity | None, se: SchedEntity, left: SchedEntity) -> SchedEntity:
    """Choose among a runqueue's entities that are so near to each other that some ns more or less decide.

    :param curr: the running one, if it is still runnable
    :param se: the usual one
    :param left: the leftmost
    """
    m = machine.cur
    latest = left.vruntime + m.sysctl_sched_latency
    near = [se]
    for other in cfs_rq.timeline[cfs_rq.first :]:
        if other.vruntime > latest:
            break
        if other is not se:
            near.append(other)
    if curr is not None and curr is not se and curr.vruntime <= latest:
        near.append(curr)
    if len(near) == 1:
        return se
    return near[m.choose(len(near), NEXT_TASK, [entity.task for entity in near])]


def choose_idle(allowed: int, llc: int, target: int) -> int:
    """Choose among the idle CPUs of a cache, the next after `target` first; return `target` if there is none.

    Where Linux's search begins, and whether a whole core is idle, is chance to a program.

    :param allowed: the CPUs that the task may use, bit by bit
    :param llc: the cache
    """
    m = machine.cur
    n = m.nr_cpus
    order = [m.cpus[(target + step) % n] for step in range(1, n)]
    idle = [cpu.id for cpu in order if cpu.llc_id == llc and allowed >> cpu.id & 1 and cpu.rq.curr is cpu.idle]
    idle = [cpu for cpu in idle if not m.cpus[cpu].rq.nr_running and not m.cpus[cpu].rq.wake_list]
    if len(idle) > 1:
        return idle[m.choose(len(idle), IDLE)]
    return idle[0] if idle else target


class ChoiceLog:
    """What a schedule was asked and what it answered: all questions in order, and the answers that were not 0."""

    __slots__ = ("asked", "kinds", "numbers", "others")

    def __init__(
        self, kinds: Sequence[tuple[str, int]] = (), asked: array[int] | None = None,
        others: Sequence[tuple[int, int]] = (),
    ) -> None:
        #: (what, n) by number
        self.kinds = list(kinds)
        self.numbers = {kind: number for number, kind in enumerate(self.kinds)}
        #: by choice: the number of its kind
        self.asked: array[int] = array("H") if asked is None else asked
        #: (choice, option) where the option is not the usual one
        self.others = list(others)

    def note(self, n: int, what: str, option: int) -> None:
        """Add a choice."""
        number = self.numbers.get((what, n))
        if number is None:
            number = self.numbers[what, n] = len(self.kinds)
            self.kinds.append((what, n))
        if option:
            self.others.append((len(self.asked), option))
        self.asked.append(number)

    def __len__(self) -> int:
        return len(self.asked)


class Schedule:
    """Decides what is open.

    :param name: how it is asked for: ``seed:7``
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.log = ChoiceLog()

    def choose(self, n: int, what: str, who: Who = ()) -> int:
        """Choose an option, and keep it in the log; see `Machine.choose`."""
        option = self.pick(n, what, who)
        assert 0 <= option < n, f"{what}: option {option} of {n}"
        self.log.note(n, what, option)
        return option

    def pick(self, n: int, what: str, who: Who) -> int:
        """Choose an option: what the kinds of schedules differ in."""
        raise NotImplementedError


class Random(Schedule):
    """Draws: the usual option as often as the odds of its kind say, else one of the others.

    Seeds differ in their odds too: one delays programs a lot, another turns the order of tasks round all the time.
    What needs many of one kind and none of another comes up so.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(f"seed:{seed}")
        self.random = random.Random(seed)
        self.odds = {what: max(2, int(kind.odds * self.random.choice(TEMPERS))) for what, kind in KINDS.items()}

    def pick(self, n: int, what: str, who: Who) -> int:
        """See `Schedule.pick`."""
        del who
        odds = self.odds.get(what)
        draw = self.random.randrange
        if odds is None:
            return draw(n)
        if n < 2 or draw(odds):
            return 0
        return 1 + draw(n - 1)


class Pct(Schedule):
    """Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): priorities that rarely change.

    Every task has a random priority, and wherever tasks compete the one of the highest goes on: a CPU whose task has
    not the highest is kept from its program for a while.  At `depth` - 1 steps the task that would go on falls
    below all others.  The number of steps, which the algorithm wants to know beforehand, is drawn from powers of two.
    A bug that needs `depth` things in an order is found with a probability that has a lower bound.

    :param depth: how many things must come in an order, 1 or more
    """

    def __init__(self, depth: int, seed: int = 0) -> None:
        super().__init__(f"pct:{depth}:{seed}")
        self.random = random.Random(f"pct {depth} {seed}")
        self.depth = depth
        #: at which steps priorities fall, the first at the end
        self.changes: list[int] = []
        self.steps = 0
        self.priorities: dict[int, float] = {}
        self.begin()

    def begin(self) -> None:
        """Begin anew, with other priorities and steps: for each of several programs that one machine runs."""
        steps = 1 << self.random.randrange(4, 15)
        self.changes = sorted((self.random.randrange(steps) for _ in range(self.depth - 1)), reverse=True)
        self.steps = 0
        self.priorities = {}

    def pick(self, n: int, what: str, who: Who) -> int:
        """See `Schedule.pick`."""
        if not who:
            return 0
        if what in (DELAY, INSTRUCTION, KERNEL_IRQ, EXIT):
            current = who[0]
            assert current is not None
            self._step(current)
            mine = self._priority(current)
            late = any(self._priority(task) > mine for task in _runnable() if task is not current)
            return n - 2 if late else 0
        best = self._best(who)
        task = who[best]
        return self._best(who) if task is not None and self._step(task) else best

    def _best(self, who: Who) -> int:
        priorities = [self._priority(task) for task in who]
        return priorities.index(max(priorities))

    def _priority(self, task: Task | None) -> float:
        if task is None:
            return float("inf")                     # an interrupt comes before all tasks
        if not task.pid:
            return -float("inf")
        found = self.priorities.get(task.pid)
        if found is None:
            found = self.priorities[task.pid] = self.depth + self.random.random()
        return found

    def _step(self, task: Task) -> bool:
        """Count a step of a program's task; lower its priority if it is one of the chosen; tell whether it was."""
        if task.mm is None or task.pid <= 2:
            return False
        self.steps += 1
        if not self.changes or self.steps <= self.changes[-1]:
            return False
        self.changes.pop()
        self.priorities[task.pid] = float(len(self.changes))
        return True


def _runnable() -> list[Task]:
    """Return the tasks that run or wait for a CPU, but for idle ones."""
    found = []
    for cpu in machine.cur.cpus:
        if cpu.curr.pid and not cpu.curr.state:
            found.append(cpu.curr)
        found += [se.task for se in cpu.rq.cfs.timeline[cpu.rq.cfs.first :]]
    return found


class Replay(Schedule):
    """Answers as a log says.

    :param name: that of the schedule that made the log, so that the run's recording is the same, to the byte
    """

    def __init__(self, name: str, log: ChoiceLog) -> None:
        super().__init__(name)
        self.source = log
        self._other = 0

    def pick(self, n: int, what: str, who: Who) -> int:
        """See `Schedule.pick`.

        :raises ScheduleError: the run asks what the log has not
        """
        del who
        source = self.source
        at = len(self.log)
        if at >= len(source):
            raise ScheduleError(f"the choice log ends after {at:,} choices, and the run goes on ({_now()}): is it "
                                f"the log of this program, with its arguments and options?")
        expected = source.kinds[source.asked[at]]
        if (what, n) != expected:
            raise ScheduleError(f"choice {at:,} of the log is {expected[0]!r} among {expected[1]}, the run asks for "
                                f"{what!r} among {n} ({_now()}): it is not the log of this program")
        if self._other < len(source.others) and source.others[self._other][0] == at:
            option = source.others[self._other][1]
            self._other += 1
            return option
        return 0

    def finish(self) -> None:
        """Check that the run has come to the end of the log.

        :raises ScheduleError: it has not
        """
        if len(self.log) < len(self.source):
            raise ScheduleError(f"the run made {len(self.log):,} choices, its log has {len(self.source):,}: it is not "
                                f"the log of this program")


class Branch(Schedule):
    """Does as a log says up to one of its choices, and draws from there on: another end of a story that began well.

    :param log: of a run of the same program
    :param at: up to which choice
    """

    def __init__(self, log: ChoiceLog, at: int, seed: int) -> None:
        super().__init__(f"branch:{at}:{seed}")
        self._source = log
        self._left = dict(log.others)
        self._at = at
        self._then = Random(seed)

    def pick(self, n: int, what: str, who: Who) -> int:
        """See `Schedule.pick`."""
        at = len(self.log)
        source = self._source
        if at < self._at and at < len(source) and source.kinds[source.asked[at]] == (what, n):
            return self._left.get(at, 0)
        self._at = 0
        return self._then.pick(n, what, who)


class Detour(Branch):
    """Does as a log says up to one of its choices, takes another option there, and then mostly the usual ones.

    :param log: of a run of the same program
    :param at: which choice
    """

    def __init__(self, log: ChoiceLog, at: int, seed: int) -> None:
        super().__init__(log, at, seed)
        self.name = f"detour:{at}:{seed}"
        self._then.odds = {what: 8 * odds for what, odds in self._then.odds.items()}

    def pick(self, n: int, what: str, who: Who) -> int:
        """See `Schedule.pick`."""
        if len(self.log) == self._at:
            self._at = 0
            return self._then.random.randrange(n)
        return super().pick(n, what, who)


def _now() -> str:
    m = machine.cur
    return "before the machine ran" if m is None else f"at {m.now / 1e9:.6f} s of the machine's time"
