"""Rules on the executable kernel: process 1 plays them one after the other, as `worker` does on the host.

One machine plays many rules; a schedule is a seed (`Machine.choose`).  After each rule everything is checked
(`invariants.Watch`), and with `leaks` that nothing of it is left.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from typing import Any, Final

from taskscope.labs.truth.invariants import Watch
from taskscope.labs.truth.rules import HOST_FLAVOUR, Rule, kit
from taskscope.labs.truth.rules.transcript import Saying, Transcript, ending, mark, named
from taskscope.model import flavours, machine
from taskscope.model.init import main as init_main
from taskscope.model.user import programs

#: virtual time that a rule may take, in ns
PATIENCE: Final = 20_000_000_000
#: virtual ns after a rule until RCU has freed what it left
SETTLE: Final = 60_000_000
RULES: Final = "taskscope.labs.truth.rules."


class Told(Saying):
    """`say` on the model; a child that runs its program again from its parent's start says nothing twice."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, line: str) -> None:
        """See `Saying`."""
        user = machine.cur.cpu.curr.journal
        if user._at >= user._end:
            self.lines.append(line)


def run(
    rules: Sequence[Rule], seed: int = 0, *, flavour: str = HOST_FLAVOUR, cpus: int = 2, leaks: bool = False
) -> dict[str, Transcript]:
    """Return the transcripts of rules on the model, by their names.

    That of a rule which did not come to its end, or during which an invariant did not hold, has lines more that say
    so; the rules after it run on a new machine.

    :param seed: what draws whatever the machine may decide freely
    """
    found: dict[str, Transcript] = {}
    while len(found) < len(rules):
        found.update(_Player(rules[len(found) :], seed, flavour, cpus, leaks).play())
    return found


class _Player:
    """One machine and its process 1."""

    def __init__(self, rules: Sequence[Rule], seed: int, flavour: str, cpus: int, leaks: bool) -> None:
        self.rules = rules
        self.leaks = leaks
        self.m = machine.Machine(flavours.flavour(flavour), cpus, 100, seed, 256 << 20)
        self.told = Told()
        self.main = 0
        self.done = False
        self.end: list[str] = []
        self.watch: Watch | None = None

    def play(self) -> dict[str, Transcript]:
        """Play rules until one goes wrong; return the transcripts of those that were played."""
        m = self.m
        found: dict[str, Transcript] = {}
        init_main.power_on(m, bare=True, program=self.process_one)
        try:
            for rule in self.rules:
                problem = ""
                try:
                    m.run_until(m.now + PATIENCE)
                except Exception as error:
                    first: BaseException = error
                    while first.__context__ is not None:
                        first = first.__context__
                    problem = "".join(traceback.format_exception(first)[-6:])
                lines = self.told.lines
                if problem:
                    lines.append("the machine: " + problem)
                elif not self.done:
                    lines += [f"hangs: not at its end after {PATIENCE // 10**9} s", *self.left()]
                found[rule.name] = named(lines + self.end, self.main)
                if problem or not self.done:
                    return found
                self.done = False
        finally:
            m.close()
        return found

    def left(self) -> list[str]:
        """Return what tasks there are, process 1 and kernel threads aside: for the report of a rule that hangs."""
        tasks = Watch.tasks(self.watch) if self.watch is not None else []
        return [f"{mark(p.pid)} state {p.state:#x} in system call {p.journal._calling}" for p in tasks
                if p.pid > 1 and p.journal is not None]

    def process_one(self, sys: Any, argv: list[str]) -> None:
        """Be process 1."""
        del argv
        sys.umask(0o22)
        null = sys.open("/dev/null", 2)
        sys.nanosleep(SETTLE)
        self.watch = watch = Watch(self.m)
        before = watch.counts()
        for rule in self.rules:
            self.one(sys, rule, null)
            if self.leaks:
                sys.nanosleep(SETTLE)
                after = watch.counts()
                gone = {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}
                if gone:
                    self.end.append(f"left behind: {gone}")
                    before = after
            watch.check()
            self.done = True
            self.m.stop()
            sys.nanosleep(1000)
        watch.close()
        while True:
            sys.pause()

    def one(self, sys: Any, rule: Rule, null: int) -> None:
        """Play one rule."""
        self.told = told = Told()
        self.end = []
        sys.mkdir(kit.ROOM)
        programs.install_program(kit.PROGRAM, self.executed)
        errors = sys.pipe()
        self.main = sys.clone(_first, rule.run, told, null, errors)
        sys.close(errors[1])
        pid = status = 0
        while pid != self.main:
            pid, status = sys.waitpid(-1)
        try:
            sys.kill(-1, 9)
            while True:
                sys.waitpid(-1, 0x40000000)
        except OSError:
            pass
        self.end = ending(status, sys.read_all(errors[0]))
        sys.close(errors[0])
        # The next rule has a room of its own.
        sys.rename(kit.ROOM, f"/was.{self.main}")

    def executed(self, sys: Any, argv: list[str]) -> int:
        """Be the program that `kit.execute` executes."""
        module, _, name = argv[1].partition(":")
        fn = getattr(importlib.import_module(RULES + module), name)
        result = fn(sys, self.told, *argv[2:])
        return result if isinstance(result, int) else 0


def _first(sys: Any, rule: Any, told: Told, null: int, errors: tuple[int, int]) -> int:
    """Be the first process of a rule."""
    sys.dup2(errors[1], 2)
    sys.dup2(null, 0)
    sys.dup2(null, 1)
    for fd in {null, *errors} - {0, 1, 2}:
        sys.close(fd)
    sys.setsid()
    sys.prctl(15, "rule")
    rule(sys, told)
    return 0
