"""What happened to tasks, as instants of a Perfetto trace, and the flows between them.

A flow leads from a creator to its child, from a sender to its target and on to the delivery, from a death to the
reaper.  It is made only where both ends are shown; what is known of the other end is annotated anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from taskscope.lives.life import Life, Signal, TaskRef
from taskscope.lives.lives import Lives
from taskscope.views.names import clone_text, si_code_name, signal_name
from taskscope.views.perfetto_writer import Notes
from taskscope.views.signals import RESULTS
from taskscope.views.text import escape
from taskscope.views.who import comm_at, end_text, pid_text


class Mark(NamedTuple):
    """One instant on the track of a task."""

    ref: TaskRef
    at: int
    name: str
    notes: Notes
    begins: int | None = None
    ends: int | None = None


def task_name(lives: Lives, ref: TaskRef, at: int) -> str:
    """Name a task, ``bash 911``, with the name it bore at that time."""
    with suppress(KeyError):
        return f"{comm_at(lives[ref], at)} {pid_text(ref)}"
    return pid_text(ref)


def identity(life: Life) -> Notes:
    """Return who a task is."""
    notes: Notes = {"pid": life.pid, "generation": life.generation}
    if life.tgid is not None:
        notes["tgid"] = life.tgid
    return notes


def exit_notes(life: Life, lives: Lives) -> Notes:
    """Return how and why a task ended."""
    end = life.exit
    if end is None:
        return {}
    notes: Notes = {"exit": end_text(life)}
    for key, value in (("code", end.code), ("core", end.core), ("cause", end.cause)):
        if value is not None:
            notes[key] = value
    if end.signal is not None:
        notes["signal"] = signal_name(end.signal)
    if end.killer is not None:
        notes["killer"] = task_name(lives, end.killer, end.at)
    return notes | _evidence(end.stack, end.inferred)


def _evidence(stack: tuple[str, ...] | None, inferred: tuple[str, ...]) -> Notes:
    notes: Notes = {}
    if stack:
        notes["stack"] = tuple(map(escape, stack))
    if inferred:
        notes["inferred"] = tuple(map(escape, inferred))
    return notes


class Marks:
    """Collects the instants of some lives.

    :param shown: tells whether a task has a track that shows a time
    """

    def __init__(self, lives: Lives, shown: Callable[[TaskRef | None, int], bool]) -> None:
        self.lives, self.shown = lives, shown
        self.flows = count(1)
        self._first: list[Mark] = []
        self._then: list[Mark] = []

    def collect(self, chosen: Iterable[Life]) -> list[Mark]:
        """Return the instants; the beginning of each flow stands before its end, also if they have the same time."""
        for life in chosen:
            self._created(life)
            for one in life.execs:
                self._then.append(Mark(life.ref, one.at, f"exec {escape(one.filename)}", {"old pid": one.old_pid}))
            for signal in life.signals:
                self._signal(life, signal)
            self._ended(life)
        return [m for m in self._first + self._then if self.shown(m.ref, m.at)]

    def flow(self, ref: TaskRef | None, at: int, to: TaskRef | None, arrives: int) -> int | None:
        """Return the number of a new flow, None if one of its ends is not shown."""
        return next(self.flows) if self.shown(ref, at) and self.shown(to, arrives) else None

    def _created(self, life: Life) -> None:
        born = life.born
        if born is None:
            return
        notes: Notes = {} if born.how is None else {"how": born.how}
        if born.clone_flags is not None:
            notes["flags"] = clone_text(born.clone_flags, born.exit_signal)
        notes |= _evidence(born.stack, born.inferred)
        flow = self.flow(born.by, born.at, life.ref, born.at)
        text = "created"
        if born.by is not None:
            text = f"created by {task_name(self.lives, born.by, born.at)}"
            child = task_name(self.lives, life.ref, born.at)
            self._first.append(Mark(born.by, born.at, f"creates {child}", notes, begins=flow))
        self._then.append(Mark(life.ref, born.at, text, notes, ends=flow))

    def _signal(self, life: Life, one: Signal) -> None:
        name = signal_name(one.sig)
        notes: Notes = {"code": si_code_name(one.sig, one.code), "group": one.group,
                        "result": RESULTS.get(one.result, str(one.result))}
        sent = None if one.sender == life.ref else self.flow(one.sender, one.at, life.ref, one.at)
        by = "an interrupt" if one.sender is None else task_name(self.lives, one.sender, one.at)
        if one.sender is not None and one.sender != life.ref:
            target = task_name(self.lives, life.ref, one.at)
            self._first.append(Mark(one.sender, one.at, f"sends {name} to {target}", notes, begins=sent))
        at = one.delivered_at
        passed = None if at is None else self.flow(life.ref, one.at, life.ref, at)
        self._then.append(Mark(life.ref, one.at, f"{name} from {by}", notes, passed, sent))
        if at is not None:
            how = {None: "", 0: " (default)", 1: " (ignored)"}.get(one.handler, " (handler)")
            self._then.append(Mark(life.ref, at, f"{name} delivered{how}", {}, ends=passed))

    def _ended(self, life: Life) -> None:
        end, reaped = life.exit, life.reaped
        flow = None
        if end is not None:
            if reaped is not None and reaped.by != life.ref:
                flow = self.flow(life.ref, end.at, reaped.by, reaped.at)
            self._first.append(Mark(life.ref, end.at, f"exits: {end_text(life)}", exit_notes(life, self.lives), flow))
        if reaped is not None and reaped.by is not None and reaped.by != life.ref:
            name = task_name(self.lives, life.ref, reaped.at)
            self._then.append(Mark(reaped.by, reaped.at, f"reaps {name}", _evidence(None, reaped.inferred), ends=flow))
