"""Where a lab runs: ``model``, ``host``, ``guest[:KERNEL]``, ``dump:FILE``, ``all``; and two of its runs compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from taskscope.errors import UsageError
from taskscope.labs.guest.guest import parse_place
from taskscope.labs.lab import Kept, Lab, Run, run_lab

if TYPE_CHECKING:
    from taskscope.labs.compare import Acts, Comparison
    from taskscope.labs.real import Real
    from taskscope.lives.life import Life

#: schedules of the model that are looked at before a difference is none that a race explains
SCHEDULES: Final = 20


def places(lab: Lab, on: str) -> list[str]:
    """Return the machines that ``--on`` asks for.

    :raises UsageError: it names none
    """
    if on == "all":
        return ["guest:6.1" if place == "guest" else place for place in lab.machines]
    if on in ("model", "host") or on.startswith("dump:"):
        return [on]
    kernel = parse_place(on)
    if kernel is None:
        raise UsageError(f"--on {on!r}: it is model, host, guest, guest:KERNEL, dump:FILE or all")
    return [f"guest:{kernel}"]


def open_real(
    place: str, say: Callable[[str], None] = lambda _: None, btf: str | None = None, symbols: str | None = None,
    vmlinux: str | None = None,
) -> Real:
    """Return a real kernel to run labs on, or a dump of one to look at.

    :param btf: of a dump: its types, if its memory has none
    :param symbols: of a dump: its symbols, if its memory has none
    :param vmlinux: of a dump: types and symbols out of its DWARF instead
    :raises PermissionRefusedError: this user may not record here
    :raises GuestError: a guest cannot be had here
    """
    if place.startswith("dump:"):
        from taskscope.labs.real.dump import Dumped

        return Dumped(place.removeprefix("dump:"), btf, symbols, vmlinux)
    kernel = parse_place(place)
    if kernel is None:
        from taskscope.labs.real.host import Host

        return Host()
    from taskscope.labs.real.in_guest import InGuest

    return InGuest(kernel, say)


def play(
    lab: Lab,
    on: str = "model",
    *,
    flavour: str = "4.19-arm",
    seed: int = 0,
    schedule: str | None = None,
    mutant: bool = False,
    btf: str | None = None,
    symbols: str | None = None,
    vmlinux: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Run]:
    """Run a lab on each machine that is asked for, and yield what came of it.

    :param on: model, host, guest[:KERNEL], dump:FILE, or all that the lab is for
    :param flavour: of the model; all runs it on each that the lab is for
    :param seed: another number schedules the model in another way
    :param schedule: seed:N, or pct:DEPTH[:SEED]
    :param mutant: with one line of the model, or one expectation, changed
    :param btf: of a dump: its types, if its memory has none
    :param symbols: of a dump: its symbols, if its memory has none
    :param vmlinux: of a dump: types and symbols out of its DWARF instead
    :param say: takes a sentence for people
    :raises UsageError: there is no such machine or flavour
    :raises PermissionRefusedError: this user may not record here
    :raises GuestError: a guest cannot be had here
    """
    from taskscope.labs.lab import run_real
    from taskscope.model.flavours import FLAVOURS

    if flavour != "all" and flavour not in FLAVOURS:
        raise UsageError(f"there is no flavour {flavour!r}; it is one of {', '.join(FLAVOURS)}, or all")
    for place in places(lab, on):
        if place == "model":
            for one in lab.flavours if flavour == "all" else (flavour,):
                yield run_lab(lab, one, seed, mutant, schedule or "")
            continue
        machine = open_real(place, say, btf, symbols, vmlinux)
        try:
            run = run_real(lab, machine, mutant)
        finally:
            machine.close()
        yield run


def compare_labs(name: str, first: str, second: str, say: Callable[[str], None] = lambda _: None) -> Comparison:
    """Run a lab on two machines and compare what it showed.

    :param first: model, host or guest[:KERNEL]
    :raises UsageError: there is no such lab or machine
    """
    from taskscope.labs.catalog import get
    from taskscope.labs.lab import flavour_of, run_real

    lab = get(name)
    runs: dict[str, Run] = {}
    for on in (first, second):
        (place, *more) = places(lab, on)
        if more or on == "all":
            raise UsageError("compare --lab takes two machines: model, host, guest[:KERNEL]")
        if place != "model" and place not in runs:
            machine = open_real(place, say)
            try:
                runs[place] = run_real(lab, machine)
            finally:
                machine.close()
    real = next(iter(runs.values()), None)
    if "model" in (first, second):
        machine_of = None if real is None else real.machine
        flavour = "4.19-arm" if machine_of is None else flavour_of(machine_of.release, machine_of.machine)
        runs["model"] = run_lab(lab, flavour)
    one, other = (runs[places(lab, on)[0]] for on in (first, second))
    return compare_runs(one, other)


def compare_runs(first: Run, second: Run) -> Comparison:
    """Compare what a lab showed on two machines: the recordings that it kept, in their order.

    Where one of them is the executable kernel, its other schedules tell whether a difference is a race.

    :raises UsageError: the lab keeps none, or not as many on both
    """
    from taskscope.labs.compare import Comparison, broken, compare_acts

    if not first.kept or len(first.kept) != len(second.kept):
        raise UsageError(f"lab {first.lab.name} kept {len(first.kept)} recordings on {first.place} and "
                         f"{len(second.kept)} on {second.place}: nothing to compare")
    last = Comparison("equal")
    for index, (ours, theirs) in enumerate(zip(first.kept, second.kept, strict=True)):
        wrong = [f"{name}: {what}" for name, kept in ((first.place, ours), (second.place, theirs))
                 for what in broken(lives_of(kept, kept.roles))]
        others = _schedules(first, index) if first.machine is None else ()
        found = compare_acts(acts_of_kept(ours), acts_of_kept(theirs), others, wrong)
        if found.verdict == "differs":
            return found
        if found.verdict == "allowed":
            last = found
    return last


def acts_of_kept(kept: Kept) -> Acts:
    """Return the acts of those who play a role in a recording."""
    from taskscope.labs.compare import acts_of

    return acts_of(lives_of(kept, kept.roles), lives_of(kept, kept.others))


def lives_of(kept: Kept, roles: dict[str, int]) -> dict[str, Life]:
    """Return the lives of those who play a role in a recording."""
    found: dict[str, Life] = {}
    for role, pid in roles.items():
        lives = [life for life in kept.recording.lives if life.pid == pid]
        if not lives:
            raise UsageError(f"the recording has no task {pid}, which is to be {role}")
        found[role] = lives[-1]
    return found


def _schedules(model: Run, index: int) -> Iterator[Acts]:
    for seed in range(1, SCHEDULES + 1):
        run = run_lab(model.lab, model.flavour, seed)
        if index < len(run.kept):
            yield acts_of_kept(run.kept[index])
