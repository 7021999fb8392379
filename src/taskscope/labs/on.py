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
    place: str, say: Callable[[str], None] = lambda _: None, btf: str | None = None, symbols: str | None = None
) -> Real:
    """Return a real kernel to run labs on, or a dump of one to look at.

    :param btf: of a dump: its types, if its memory has none
    :param symbols: of a dump: its symbols, if its memory has none

    :raises PermissionRefusedError: this user may not record here
    :raises GuestError: a guest cannot be had here
    """
    if place.startswith("dump:"):
        from taskscope.labs.real.dump import Dumped

        return Dumped(place.removeprefix("dump:"), btf, symbols)
    kernel = parse_place(place)
    if kernel is None:
        from taskscope.labs.real.host import Host

        return Host()
    from taskscope.labs.real.in_guest import InGuest

    return InGuest(kernel, say)


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
