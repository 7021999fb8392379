"""What happens to tasks, told at once: births, execs, signals, deaths; and the events that were lost.

The names are those of ``taskscope lives --json`` where the meaning is the same.  Tasks are named by pid and by the
name they bore at that moment: how many tasks bore a pid before is only known of a whole recording.  Times are
integer ns of the recording's clock; what was not seen is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from taskscope.lives.life import Cause, How, Kind


class Who(NamedTuple):
    """A task as it was known at a moment."""

    pid: int
    comm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What all happenings have; ``pid`` is the task that it happened to."""

    event: ClassVar[str]

    at: int
    cpu: int                        # where it was recorded
    late: bool = False              # it was recorded before happenings that were told already


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Happening):
    """The kernel could not keep events of a cpu, up to this time."""

    event: ClassVar[str] = "lost"

    count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfTask(Happening):
    """Something that happened to a task."""

    pid: int
    tgid: int | None
    kind: Kind | None
    comm: str | None
    parent: Who | None              # the process whose child it is; None too when that one is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked(OfTask):
    """The task was created."""

    event: ClassVar[str] = "fork"

    by: Who | None
    how: How | None
    clone_flags: int | None         # as in task_newtask: without the exit signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Execed(OfTask):
    """The task began to run a program; ``old_pid`` differs from pid when a non-leader thread called execve."""

    event: ClassVar[str] = "exec"

    filename: str
    old_pid: int
    old_comm: str | None            # the name that it bore before


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed(OfTask):
    """Somebody sent the task a signal; ``sender`` is ``from`` in JSON, None when an interrupt sent it."""

    event: ClassVar[str] = "kill"

    sig: int
    code: int                       # si_code
    sender: Who | None
    group: bool                     # sent to the whole thread group
    result: int                     # TRACE_SIGNAL_*: 0 delivered, 2 already pending, 3, 4 lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(OfTask):
    """The task ended; of a process, its last thread did.

    ``code`` is 0…255 when it exited by itself, ``signal`` what ended it, ``si_code`` and ``killer`` how and by whom
    that was sent.
    """

    event: ClassVar[str] = "exit"

    code: int | None
    signal: int | None
    core: bool | None
    cause: Cause | None
    killer: Who | None
    si_code: int | None
    lived: int | None               # ns since its birth
    inferred: tuple[str, ...] = ()
