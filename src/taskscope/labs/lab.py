"""What a lab is, and running one: `Lab`, `Run`, `run_lab`, `run_real`.

A lab asks a question about the kernel, plays a scenario on a machine, shows what to look at, and checks what must be
seen.  Each stands in a file of its own as ``LAB``; its scenario is a function that gets a `Run`.  One that real kernels
can show, too, has a second function for them (``real``), which asks the same and checks the same.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskscope.errors import TaskscopeError, UsageError
from taskscope.labs.mutant import Mutant

if TYPE_CHECKING:
    from taskscope.labs.look import Look
    from taskscope.labs.real import Real, Shot
    from taskscope.lives.life import Life
    from taskscope.recording import Recording
    from taskscope.system import System

_LABS: Final = str(Path(__file__).parent)
#: where a function of 4.19 is in a real kernel of ARM: static, called from one place, and inlined there
#: (arch/arm/kernel/signal.c)
_ARM_BUILT: Final = {"do_signal": "do_work_pending", "exit_to_usermode_loop": "do_work_pending"}
#: the same on arm64 (arch/arm64/kernel/signal.c).  do_group_exit() does not return: the address behind its call is that
#: of the next function
_ARM64_BUILT: Final = {"do_signal": "do_notify_resume", "exit_to_usermode_loop": "do_notify_resume",
                       "sys_exit_group": "__wake_up_parent"}


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
    flavours: tuple[str, ...] = ("4.19-arm", "6.1-x86_64", "6.18-x86_64")
    cpus: int = 2
    real: Callable[[Run], None] | None = None
    memory: Callable[[Run, Look], None] | None = None  # what a real kernel's memory, or a dump's, must show
    places: tuple[str, ...] = ("host", "guest")  # where `real` can run, if there is one
    refused: str = ""  # why it cannot run on the host, where it cannot
    needs: tuple[str, ...] = ()  # what `real` and `memory` look with: events, functions (the tracer), /proc, memory
    real_note: str = ""  # what a real kernel shows otherwise than the model
    later: Mutant | None = None  # for the flavours after 4.19, where they have not the mutant's line

    def mutant_of(self, flavour: str) -> Mutant:
        """Return the mutant of a flavour's kernel."""
        return self.mutant if self.later is None or flavour == "4.19-arm" else self.later

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines that it runs on: model, host, guest."""
        return ("model", *(self.places if self.real is not None or self.memory is not None else ()))


@dataclass(slots=True)
class Check:
    """One thing that must be seen, and whether it was."""

    what: str
    passed: bool
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording of a run, and which task in it plays which role (by pid): what two machines are compared by.

    :param others: tasks of which counts only what they do to those
    """

    recording: Recording
    roles: dict[str, int]
    others: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """A lab on one machine: what its scenario gets, and what came of it.

    :param flavour: of the model; on a real kernel the flavour whose names are its names
    :param wrong: on a real kernel: one expectation is to be a wrong one, so that a check must fail
    """

    lab: Lab
    flavour: str
    seed: int = 0
    schedule: str = ""
    place: str = "model"
    machine: Real | None = None
    wrong: bool = False
    kept: list[Kept] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    crash: str | None = None  # a sentence, where it could not be played to its end
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

    def keep(self, recording: Recording, roles: dict[str, int], others: dict[str, int] | None = None) -> None:
        """Keep a recording for the comparison with other machines.

        :param roles: the pids of the tasks that it is about, by what they are called
        :param others: the pids of tasks of which counts only what they do to those: the shell that starts them
        """
        self.kept.append(Kept(recording, roles, others or {}))

    @property
    def real(self) -> Real:
        """The real kernel that the lab runs on."""
        assert self.machine is not None, "a lab on the model has no real kernel"
        return self.machine

    def record(self, script: str, **how: Any) -> Shot:
        """Run a script on the real kernel, recorded (see `Real.record`), and show it with what it printed."""
        shot = self.real.record(script, **how)
        self.output += [f"$ {line}" for line in script.strip().splitlines()]
        self.output += [f"  {line}" for line in shot.typed.output.splitlines()]
        self.output.append("")
        return shot

    def slack(self, ms: int) -> int:
        """Return by how many ns a time may be off: so many ms on the model, a second on a busy machine."""
        return ms * 1_000_000 if self.machine is None else 1_000_000_000

    def expect(self, value: Any, wrong: Any) -> Any:
        """Return what must be seen; for a mutated run on a real kernel something that must not be."""
        return wrong if self.wrong else value

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
        # It is as wide as a terminal: not indented.
        self.output.append("its life, told from the recording:")
        self.show(str(life).partition("\nNext: ")[0].rstrip())

    def name(self, old: str) -> str:
        """Return what this flavour calls a function of 4.19."""
        from taskscope.model.flavours import FLAVOURS
        from taskscope.model.kernel.kallsyms import symbol_name

        class _Build:
            name, version, arch = self.flavour, FLAVOURS[self.flavour].version, FLAVOURS[self.flavour].arch

        class _At:
            flavour = _Build

        machine = "" if self.machine is None else self.machine.machine
        if machine == "aarch64" and old in _ARM64_BUILT:
            return _ARM64_BUILT[old]
        if machine.startswith("arm"):
            _Build.name, _Build.arch = "", "arm"
            old = _ARM_BUILT.get(old, old)
        found: str = symbol_name(old, _At())  # type: ignore[arg-type]
        return found.replace("__x64_sys_", "__arm64_sys_") if machine == "aarch64" else found

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

    def life(self, recording: Recording, pid: int | str) -> Life:
        """Return the last life of a pid, or of a name, in a recording."""
        found = [life for life in recording.lives if pid in (life.pid, life.comm)]
        if not found:
            raise UsageError(f"the recording has no task {pid}")
        return found[-1]

    def program(self, recording: Recording, name: str) -> Life:
        """Return the first life in a recording that exec'ed a program of that name; its children bear the name, too."""
        for life in recording.lives:
            if any(one.filename.rpartition("/")[2] == name for one in life.execs):
                return life
        raise UsageError(f"nobody in the recording runs {name}")


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
            stack.enter_context(lab.mutant_of(flavour).applied())
        stack.enter_context(run._stack)
        try:
            lab.scenario(run)
        except Exception as error:
            if not mutant:
                raise
            # A kernel that is wrong may well fall over: that is noticed, too.
            run.crash = _why_it_ended(error)
    return run


def _why_it_ended(error: Exception) -> str:
    """Return whose fault it is that a lab was not played to its end: the kernel's, or that something was not there."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    told = str(error) or last.line or type(error).__name__
    if isinstance(error, TaskscopeError) or last.filename.startswith(_LABS):
        return f"the lab cannot go on: {told}"
    return f"the kernel fell over: {told}"


def run_real(lab: Lab, machine: Real, wrong: bool = False) -> Run:
    """Run a lab on a real kernel.

    :param wrong: with one expectation that is wrong; then a check must fail
    :raises UsageError: the lab is not for such a machine
    :raises GuestError: the machine does not do what it should
    """
    kind = machine.place.partition(":")[0]
    places = (*lab.places, "dump") if lab.memory is not None else lab.places
    if (lab.real is None and lab.memory is None) or kind not in places:
        why = f": {lab.refused}" if kind == "host" and lab.refused else ""
        raise UsageError(f"lab {lab.name} is not for {machine.place}{why}; it runs on {', '.join(lab.machines)}")
    run = Run(lab, flavour_of(machine.release, machine.machine), place=machine.place, machine=machine, wrong=wrong)
    try:
        if lab.real is not None and kind != "dump":
            lab.real(run)
        if lab.memory is not None:
            look_at_memory(run)
    except AssertionError as error:
        # Something that later checks look at was not seen at all.
        run.crash = _why_it_ended(error)
    return run


def look_at_memory(run: Run) -> None:
    """Look at the task descriptors in the kernel's memory; where that cannot be, say so, if there is more to the lab.

    :raises UsageError: there is nothing else to it
    """
    from taskscope.labs.look import looking

    assert run.lab.memory is not None
    try:
        with looking(run.real) as look:
            run.lab.memory(run, look)
    except UsageError as error:
        if not run.checks:
            raise
        run.show(f"not looked at: {error}")


def flavour_of(release: str, machine: str) -> str:
    """Return the flavour of the model that is next to a real kernel.

    :param release: what ``uname -r`` says
    """
    import re

    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < (5, 10) and machine.startswith("arm"):
        return "4.19-arm"
    return "6.1-x86_64" if version < (6, 9) else "6.18-x86_64"
