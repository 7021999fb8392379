"""What a lab is, and running one: `Lab`, `Run`, `run_lab`.

A lab asks a question about the kernel, plays a scenario on a machine, shows what to look at, and checks what must be
seen.  Each stands in a file of its own as ``LAB``; its scenario is a function that gets a `Run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskscope.errors import UsageError
from taskscope.labs.mutant import Mutant

if TYPE_CHECKING:
    from taskscope.lives.life import Life
    from taskscope.recording import Recording
    from taskscope.system import System


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab."""

    name: str
    title: str
    question: str
    look: str  # what to look at in the output
    answer: str
    scenario: Callable[[Run], None]
    mutant: Mutant
    machines: tuple[str, ...] = ("model",)
    flavours: tuple[str, ...] = ("4.19-arm", "6.1-x86_64", "6.18-x86_64")
    cpus: int = 2


@dataclass(slots=True)
class Check:
    """One thing that must be seen, and whether it was."""

    what: str
    passed: bool
    seen: str = ""


@dataclass(slots=True)
class Run:
    """A lab on one machine: what its scenario gets, and what came of it."""

    lab: Lab
    flavour: str
    seed: int = 0
    schedule: str = ""
    output: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    crash: str | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def passed(self) -> bool:
        """Whether all was seen that must be seen."""
        return self.crash is None and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def new(self) -> bool:
        """Whether the kernel is one of the later flavours (x86-64, thread_info in task_struct, kernel_clone)."""
        return self.flavour != "4.19-arm"

    # ---- for scenarios -------------------------------------------------------------------------------

    def boot(self, cpus: int | None = None, **options: Any) -> System:
        """Boot a machine of the run's flavour; it is closed when the run ends."""
        import taskscope

        return self._stack.enter_context(
            taskscope.boot(
                cpus=cpus or self.lab.cpus, flavour=self.flavour, seed=self.seed, schedule=self.schedule, **options
            )
        )

    def check(self, what: str, passed: bool, seen: object = "") -> bool:
        """State something that must be seen.

        :param seen: what was seen, shown where it failed
        """
        self.checks.append(Check(what, bool(passed), str(seen)))
        return bool(passed)

    def equal(self, what: str, seen: object, expected: object) -> bool:
        """State that two things must be equal."""
        return self.check(what, seen == expected, f"{seen!r} instead of {expected!r}")

    def show(self, lines: str | Iterable[str], title: str = "") -> None:
        """Show something: what the reader is asked to look at."""
        if title:
            self.output.append(f"{title}:")
        shown = lines.splitlines() if isinstance(lines, str) else list(lines)
        self.output += [f"  {line}" if title else line for line in shown]
        self.output.append("")

    def typed(self, line: str, output: str) -> None:
        """Show a line that was typed on the machine and what it printed, without the terminal's echo and prompt."""
        shown = output.splitlines()
        if shown and shown[0] == line:
            del shown[0]
        while shown and shown[-1].strip() in ("", "$"):
            del shown[-1]
        self.output.append(f"$ {line}")
        self.output += [f"  {text.removeprefix('$ ')}" for text in shown]

    def story(self, life: Life) -> None:
        """Show a life as `taskscope life` tells it."""
        self.show(str(life).partition("\nNext: ")[0].rstrip(), "its life, told from the recording")

    def name(self, old: str) -> str:
        """Return what this flavour calls a function of 4.19."""
        from taskscope.model.flavours import FLAVOURS
        from taskscope.model.kernel.kallsyms import symbol_name

        class _At:
            flavour = FLAVOURS[self.flavour]

        return symbol_name(old, _At())  # type: ignore[arg-type]

    # ---- evidence ------------------------------------------------------------------------------------

    def events(self, recording: Recording, event: str, **conditions: Any) -> list[dict[str, Any]]:
        """Return the records of an event whose own fields have these values, oldest first.

        Its fields with ``ts`` and ``cpu``.
        """
        if recording.type(event) is None:
            return []
        table = recording.events(event)
        own = {column.removeprefix("fields."): column for column in table.columns}
        # A field that bears the name of a common column is called fields.NAME.
        own |= {column.removeprefix("fields."): column for column in table.columns if column.startswith("fields.")}
        return [
            {name: row[column] for name, column in own.items()} | {"ts": row["ts"], "cpu": row["cpu"]}
            for row in table.iter_rows(named=True)
            if all(row[own[name]] == value for name, value in conditions.items())
        ]

    def life(self, recording: Recording, pid: int) -> Life:
        """Return the last life of a pid in a recording."""
        found = [life for life in recording.lives if life.pid == pid]
        if not found:
            raise UsageError(f"the recording has no task {pid}")
        return found[-1]


def run_lab(
    lab: Lab, flavour: str = "4.19-arm", seed: int = 0, mutant: bool = False, schedule: str = ""
) -> Run:
    """Run a lab on the executable kernel.

    :param flavour: which kernel
    :param schedule: as `taskscope.boot` takes it, instead of a seed
    :param mutant: with its mutant's change in the kernel; then a check must fail
    :raises UsageError: the flavour has no such thing
    """
    if flavour not in lab.flavours:
        raise UsageError(f"lab {lab.name} is not for {flavour}; it runs on {', '.join(lab.flavours)}")
    run = Run(lab, flavour, seed, schedule)
    with ExitStack() as stack:
        if mutant:
            stack.enter_context(lab.mutant.applied())
        stack.enter_context(run._stack)
        try:
            lab.scenario(run)
        except Exception as error:
            if not mutant:
                raise
            # A kernel that is wrong may well fall over: that is noticed, too.
            run.crash = f"{type(error).__name__}: {error}"
    return run
