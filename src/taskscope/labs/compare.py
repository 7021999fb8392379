"""Comparing two recordings: do the same tasks do the same things in the same order, on two kernels?

Tasks are matched by their role.  Of each task the *acts* are compared, in its own order: whom it creates, what it
execs, whom it signals, which signals it takes, how it ends, whom it tells, whom it reaps.  Times, pids, cpus and tasks
without a role are left out.  What one task's act needs of another's (the parent forks before the child runs, a signal
is generated before it is delivered, a child ends before it is reaped, vfork's parent goes on after the child has its
own memory) must hold in each recording by itself; with equal acts the order between tasks is then equal wherever the
kernel promises one.  Whatever else differs is a race: it is allowed if some schedule of the executable kernel shows
the same acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from taskscope.abi.signal import signal_name

if TYPE_CHECKING:
    from taskscope.lives.life import Life, TaskRef
    from taskscope.recording import Recording

Verdict = Literal["equal", "allowed", "differs"]


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a task did.

    :param at: ns, of the recording's clock
    :param what: what is compared
    :param detail: more of it, compared where both recordings tell it; None where this one does not
    :param stack: how it came to it, innermost first, where the recording has that
    """

    at: int
    what: str
    detail: str | None = None
    stack: tuple[str, ...] = ()

    def like(self, other: Act) -> bool:
        """Tell whether two acts are the same, as far as both are known."""
        return self.what == other.what and (self.detail == other.detail or None in (self.detail, other.detail))

    def __str__(self) -> str:
        return self.what if self.detail is None else f"{self.what} ({self.detail})"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first act in which two recordings differ.

    :param role: whose it is
    :param index: how many acts of that task are equal before it
    :param a: the act in the first recording, None if there is none
    :param b: in the second
    """

    role: str
    index: int
    a: Act | None
    b: Act | None

    def __str__(self) -> str:
        lines = [f"{self.role}: its act {self.index + 1} differs"]
        for name, act in (("A", self.a), ("B", self.b)):
            lines.append(f"  {name}  {act if act is not None else 'nothing more'}")
            if act is not None and act.stack:
                lines += [f"       {frame}" for frame in act.stack[:12]]
        return "\n".join(lines)


Acts = dict[str, list[Act]]


def acts_of(roles: Mapping[str, Life], others: Mapping[str, Life] | None = None) -> Acts:
    """Return the acts of each task that has a role, in its order.

    :param roles: the tasks by what they are called
    :param others: tasks of which counts only what they do to those
    """
    everybody = {**(others or {}), **roles}
    names: dict[TaskRef, str] = {life.ref: role for role, life in everybody.items()}
    found: dict[str, list[Act]] = {role: [] for role in everybody}

    def add(actor: TaskRef | None, at: int | None, what: str, detail: str | None = None,
            stack: Sequence[str] | None = None) -> None:
        if actor is not None and at is not None and actor in names:
            found[names[actor]].append(Act(at, what, detail, tuple(stack or ())))

    def who(ref: TaskRef | None, instead: str = "another task") -> str:
        return names.get(ref, instead) if ref is not None else instead

    for role, life in roles.items():
        if life.born is not None:
            add(life.born.by, life.born.at, f"creates {role}", life.born.how, life.born.stack)
        for one in life.execs:
            add(life.ref, one.at, f"execs {PurePosixPath(one.filename).name}")
        for sig in life.signals:
            if sig.result == 0 or sig.result == 2:
                pending = "" if sig.result == 0 else ", which is pending already"
                add(sig.sender, sig.at, f"sends {role} {signal_name(sig.sig)}{pending}")
            if sig.delivered_at is not None:
                does = "handler" if sig.handler not in (0, 1, None) else "default"
                add(life.ref, sig.delivered_at, f"takes {signal_name(sig.sig)}", does)
        if life.exit is not None:
            code = f"code {life.exit.code}" if life.exit.code is not None else None
            if life.exit.signal is not None:
                add(life.ref, life.exit.at, f"ends by {signal_name(life.exit.signal)}", None, life.exit.stack)
            else:
                add(life.ref, life.exit.at, "ends by itself", code, life.exit.stack)
            if life.exit.notified is not None and life.exit.notified_sig is not None:
                add(life.ref, life.exit.notified_at,
                    f"tells {who(life.exit.notified)} by {signal_name(life.exit.notified_sig)}")
        if life.reaped is not None:
            add(life.reaped.by, life.reaped.at, f"reaps {role}")
    for acts in found.values():
        acts.sort(key=lambda act: act.at)
    return found


def broken(roles: Mapping[str, Life]) -> list[str]:
    """Return which promises of the kernel's order a recording does not keep: one sentence each, none if all is well."""
    wrong = []
    for role, life in roles.items():
        born, end = life.born, life.exit
        if born is not None and life.execs and life.execs[0].at < born.at:
            wrong.append(f"{role} execs before it is created")
        wrong += [f"{role} takes {signal_name(sig.sig)} before it is sent" for sig in life.signals
                  if sig.delivered_at is not None and sig.at - sig.delivered_at > _RACE]
        if end is not None and life.reaped is not None and life.reaped.at < end.at:
            wrong.append(f"{role} is reaped before it ends")
        if end is not None and end.notified_at is not None and end.notified_at < end.at:
            wrong.append(f"{role} tells its parent before it ends")
        if life.freed is not None and end is not None and life.freed.at < end.at:
            wrong.append(f"{role} is freed before it ends")
    return wrong


#: ns by which signal_generate may come after the delivery on another cpu: the event stands at the end of send_signal()
_RACE = 5_000_000


def first_difference(a: Acts, b: Acts) -> Difference | None:
    """Return the first act that differs, by the first recording's time; None if all are equal."""
    found: list[tuple[int, Difference]] = []
    for role in dict.fromkeys([*a, *b]):
        ours, theirs = a.get(role, []), b.get(role, [])
        for index in range(max(len(ours), len(theirs))):
            one = ours[index] if index < len(ours) else None
            two = theirs[index] if index < len(theirs) else None
            if one is None or two is None or not one.like(two):
                at = one.at if one is not None else (ours[-1].at + 1 if ours else 0)
                found.append((at, Difference(role, index, one, two)))
                break
    return min(found, key=lambda pair: pair[0])[1] if found else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two recordings compare.

    :param difference: the first one, also where it is allowed
    :param schedules: how many schedules of the executable kernel were looked at for a race
    :param broken: promises of the kernel's order that one of them does not keep
    """

    verdict: Verdict
    difference: Difference | None = None
    schedules: int = 0
    broken: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as data."""
        d = self.difference
        return {
            "verdict": self.verdict, "schedules": self.schedules, "broken": list(self.broken),
            "difference": None if d is None else {
                "role": d.role, "index": d.index,
                **{name: None if act is None else {"at": act.at, "what": str(act), "stack": list(act.stack)}
                   for name, act in (("a", d.a), ("b", d.b))},
            },
        }

    def __str__(self) -> str:
        if self.broken:
            return "differs: " + "; ".join(self.broken)
        if self.difference is None:
            return "equal"
        if self.verdict == "allowed":
            return f"allowed: a race, as schedule {self.schedules} of the model shows\n{self.difference}"
        tried = f" (in none of {self.schedules} schedules of the model)" if self.schedules else ""
        return f"differs{tried}\n{self.difference}"


def compare_acts(a: Acts, b: Acts, others: Iterable[Acts] = (), wrong: Sequence[str] = ()) -> Comparison:
    """Compare two recordings' acts.

    :param others: what other schedules of the executable kernel show, made one at a time while none is like `b`
    :param wrong: promises that one of the recordings does not keep
    """
    if wrong:
        return Comparison("differs", broken=tuple(wrong))
    difference = first_difference(a, b)
    if difference is None:
        return Comparison("equal")
    count = 0
    for count, other in enumerate(others, 1):
        if first_difference(other, b) is None:
            return Comparison("allowed", difference, count)
    return Comparison("differs", difference, count)


# ---- roles where nobody names them ---------------------------------------------------------------------------


def roles_of(recording: Recording) -> tuple[dict[str, Life], dict[str, Life]]:
    """Name the tasks of a recording by what they are: name, creator, and how many of that kind came before.

    :return: those that the recording saw come, and those that were there and created some of them: of them counts only
        what they do to the others.  Kernel threads and idle tasks play no role.
    """
    users = [life for life in recording.lives if life.kind in ("process", "thread", None)]
    born = sorted((life for life in users if life.born is not None), key=lambda life: life.first)
    creators = {life.born.by for life in born if life.born is not None} - {life.ref for life in born}
    others: dict[str, Life] = {}
    for life in users:
        if life.ref in creators:
            others[_free(life.comm, others)] = life
    names: dict[TaskRef, str] = {}
    roles: dict[str, Life] = {}
    for life in born:
        assert life.born is not None
        above = names.get(life.born.by) if life.born.by is not None else None
        name = _free(life.comm if above is None else f"{above}/{life.comm}", {**roles, **others})
        roles[name], names[life.ref] = life, name
    return roles, others


def _free(name: str, taken: Mapping[str, object]) -> str:
    if name not in taken:
        return name
    count = 2
    while f"{name}.{count}" in taken:
        count += 1
    return f"{name}.{count}"


def compare_recordings(a: Recording, b: Recording) -> Comparison:
    """Compare two recordings whose tasks nobody has named."""
    ours, theirs = roles_of(a), roles_of(b)
    wrong = [f"{name}: {what}" for name, (roles, _) in (("A", ours), ("B", theirs)) for what in broken(roles)]
    return compare_acts(acts_of(*ours), acts_of(*theirs), wrong=wrong)
