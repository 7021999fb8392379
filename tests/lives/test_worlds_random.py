"""Random worlds: a toy scheduler runs random tasks, writes the text that a kernel would, and keeps the truth itself.

What it knows of each task (times in every state, switches, parents, generations) it adds up as it goes, not from
the text; `taskscope lives` must find the same in the text.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from world import World, ref

Make = Callable[..., World]
CPUS = 2
PIDS = range(200, 208)  # few, so that they come back soon


@dataclass
class Truth:
    """One task as the toy scheduler knows it."""

    pid: int
    generation: int
    comm: str
    parent: Truth | None
    born: int
    state: str = "runnable"
    since: int = 0
    cpu: int = 0
    time: Counter[str] = field(default_factory=Counter)
    voluntary: int = 0
    involuntary: int = 0
    wakeups: int = 1
    exited: int | None = None
    released: bool = False
    freed: int | None = None
    reborn: int | None = None  # when the pid came back
    adopted: Truth | None = None
    told: Truth | None = None  # to whom its exit was reported
    reaper: Truth | None = None

    def to(self, us: int, state: str) -> None:
        """Enter a state."""
        self.time[self.state] += us - self.since
        self.state, self.since = state, us

    @property
    def name(self) -> tuple[str, int]:
        """Return comm and pid."""
        return self.comm, self.pid


class Toy:
    """A machine of two cpus with init on the first; `run` makes random things happen."""

    def __init__(self, world: World, seed: int) -> None:
        self.w, self.chance = world, random.Random(seed)
        self.now = 10
        self.init = Truth(1, 0, "init", None, 0, "running", 0)
        self.on: list[Truth | None] = [self.init, None]
        self.tasks = [self.init]
        self.generations: Counter[int] = Counter()
        world.switch(0, 0, "R", self.init.name)

    def run(self, steps: int) -> None:
        """Take random steps, the clock standing still now and then."""
        for _ in range(steps):
            self.now += self.chance.choice((0, 0, 1, 2, 5, 30))
            self.chance.choice(
                (self.fork, self.switch, self.switch, self.wake, self.wake, self.exit, self.free, self.reap)
            )(self.chance.randrange(CPUS))
        self.now += 10
        self.w.line(self.now, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=0 dest_cpu=1")
        for task in self.tasks:
            if task.state not in ("dead", "gone"):
                task.to(self.now, "end")

    def in_use(self, pid: int) -> bool:
        """Tell whether a pid belongs to a task that was not released."""
        return any(t.pid == pid and not t.released for t in self.tasks)

    def fork(self, cpu: int) -> None:
        """Let the task on the cpu make a child."""
        maker, free = self.on[cpu], [p for p in PIDS if not self.in_use(p)]
        if maker is None or not free:
            return
        pid = self.chance.choice(free)
        for old in self.tasks:
            if old.pid == pid and old.reborn is None:
                old.reborn = self.now
        child = Truth(pid, self.generations[pid], f"t{len(self.tasks)}", maker, self.now, since=self.now, cpu=cpu)
        self.generations[pid] += 1
        self.tasks.append(child)
        self.w.fork(self.now, cpu, child.name)
        self.now += 2

    def switch(self, cpu: int, state: str | None = None) -> None:
        """Switch the cpu to another task, or to idle."""
        off = self.on[cpu]
        waiting = [t for t in self.tasks if t.state == "runnable" and t.cpu == cpu]
        if off is None and not waiting:
            return
        into = self.chance.choice(waiting) if waiting else None
        letter = "R"
        if off is not None:
            letter = state or self.chance.choice(("S", "S", "D", "R+" if into else "S", "R" if into else "D"))
            off.to(
                self.now,
                {"S": "sleeping", "D": "blocked", "R": "runnable", "R+": "runnable", "Z": "zombie", "X": "dead"}[
                    letter
                ],
            )
            if letter[0] == "R":
                off.involuntary += 1
            else:
                off.voluntary += 1
        self.w.switch(self.now, cpu, letter, into.name if into else (f"swapper/{cpu}", 0))
        if into is not None:
            into.to(self.now, "running")
        self.on[cpu] = into

    def wake(self, cpu: int) -> None:
        """Wake a sleeping task, from the cpu's task or an interrupt."""
        asleep = [t for t in self.tasks if t.state in ("sleeping", "blocked")]
        if not asleep:
            return
        task = self.chance.choice(asleep)
        flags = "d.h3." if self.on[cpu] is None or self.chance.random() < 0.3 else "d..3."
        self.w.waking(self.now, cpu, task.name, flags=flags)
        task.cpu = self.chance.randrange(CPUS)
        self.w.wakeup(self.now, cpu, task.name, flags=flags, target=task.cpu)
        task.wakeups += 1
        task.to(self.now, "runnable")

    def exit(self, cpu: int) -> None:
        """Let the task on the cpu end, perhaps unnoticed by a parent that ignores SIGCHLD."""
        task = self.on[cpu]
        if task is None or task is self.init or self.chance.random() < 0.4:
            return
        parent = task.adopted or task.parent
        assert parent is not None
        task.exited = self.now
        self.w.exit(self.now, cpu)
        for child in self.tasks:
            if child.parent is task and child.state not in ("dead", "gone") and child.adopted is None:
                child.adopted = self.init
        ignored = self.chance.random() < 0.2
        if not ignored:
            task.told = parent
            self.w.generate(self.now, cpu, 17, parent.name, code=1, result=1)
        self.switch(cpu, "X" if ignored else "Z")
        task.released = ignored

    def reap(self, cpu: int) -> None:
        """Let the task on the cpu wait for its dead children."""
        parent = self.on[cpu]
        for task in self.tasks:
            if parent is not None and task.state == "zombie" and (task.adopted or task.parent) is parent:
                task.released, task.reaper = True, parent

    def free(self, cpu: int) -> None:
        """Free a task that was released before."""
        ready = [t for t in self.tasks if t.released and t.freed is None]
        if not ready or self.chance.random() < 0.5:
            return
        # RCU callbacks run in the order of the releases: of one pid, the older life first.
        pid = self.chance.choice(ready).pid
        task = next(t for t in ready if t.pid == pid)
        task.freed = self.now
        self.w.free(self.now, cpu, task.name)
        if task.state == "zombie":
            task.to(self.now, "gone")


@pytest.mark.parametrize("seed", range(25))
def test_a_random_world_is_told_as_it_was(world: Make, seed: int) -> None:
    """Every task of a random world has the times, counts, parents and ends that it really had."""
    w = world()
    toy = Toy(w, seed)
    toy.run(400)
    lives = w.lives()
    assert {(r["pid"], r["generation"]) for r in lives.rows if r["born"]} == {
        (t.pid, t.generation) for t in toy.tasks if t is not toy.init
    }
    for task in toy.tasks[1:]:
        life = lives(task.pid, task.generation)
        who = f"{task.comm} {task.pid}.{task.generation}"
        assert task.parent is not None
        assert life["comm"] == task.comm, who
        assert life["born"]["at"] == w.ns(task.born), who
        assert life["born"]["by"] == life["parent"] == ref(task.parent.pid, task.parent.generation), who
        for state in ("running", "runnable", "sleeping", "blocked"):
            assert life["time"][state] == task.time[state] * 1000, (who, state)
        assert life["time"]["unknown"] == 0, who
        assert life["switches"] == {"voluntary": task.voluntary, "involuntary": task.involuntary}, who
        assert life["wakeups"] == task.wakeups, who
        assert (life["exit"] and life["exit"]["at"]) == (w.ns(task.exited) if task.exited is not None else None), who
        assert (life["freed"] and life["freed"]["at"]) == (w.ns(task.freed) if task.freed is not None else None), who
        # Nothing in the text shows the reaping; a pid that comes back shows that it is past.
        zombie = task.time["zombie"]
        allowed = {zombie}
        if task.reborn is not None and task.told:
            start = (task.freed if task.freed is not None else toy.now) - zombie
            allowed.add(task.reborn - start)
        assert life["time"]["zombie"] // 1000 in allowed, who
        adopters = [a["by"] for a in life["adopted"]]
        if task.told is toy.init and task.adopted is toy.init and task.parent is not toy.init:
            assert adopters == [ref(1)], who
        assert adopters in ([], [ref(1)], [None]) if task.adopted else adopters == [], who
        reaper = life["reaped"] and life["reaped"]["by"]
        if reaper is not None and task.told:
            assert task.reaper is not None, who
            assert reaper == ref(task.reaper.pid, task.reaper.generation), who
