"""The shape of a life: one task from creation to release, as a recording shows it.

The names here are the names of ``taskscope lives --json``.  Times are integer ns of the recording's clock.  What the
recording does not show is None; what was concluded rather than recorded is named in an ``inferred`` tuple, one
sentence each, so that a reader can tell evidence from inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import polars as pl

    from taskscope.lives.lives import Lives

Kind = Literal["process", "thread", "kthread", "idle"]
How = Literal["fork", "vfork", "clone", "thread", "kthread"]
Cause = Literal["exit", "signal", "group_exit", "exec", "oom"]


class State(IntEnum):
    """What a task is doing during one span; the order is that of ``time`` in the data contract."""

    RUNNING = 0
    RUNNABLE = 1
    SLEEPING = 2       # TASK_INTERRUPTIBLE
    BLOCKED = 3        # TASK_UNINTERRUPTIBLE (D)
    STOPPED = 4        # group stop
    TRACED = 5         # stopped by a tracer
    PARKED = 6         # kthread_park()
    IDLE = 7           # TASK_IDLE: an idle kernel thread (I)
    ZOMBIE = 8
    UNKNOWN = 9
    # After the last switch-out of a task that nobody must reap: no time is counted.
    DEAD = 10


#: the letter that ps(1) and sched_switch show for a state; "?" where the recording does not tell
STATE_LETTERS: Mapping[State, str] = {
    State.RUNNING: "R", State.RUNNABLE: "R", State.SLEEPING: "S", State.BLOCKED: "D", State.STOPPED: "T",
    State.TRACED: "t", State.PARKED: "P", State.IDLE: "I", State.ZOMBIE: "Z", State.UNKNOWN: "?", State.DEAD: "X",
}


class TaskRef(NamedTuple):
    """Which life: a pid and how many lives bore that pid before it in this recording."""

    pid: int
    generation: int


@dataclass(frozen=True, slots=True)
class Comm:
    """A name that the task bore from ``at`` on."""

    at: int
    comm: str


@dataclass(frozen=True, slots=True)
class Birth:
    """How the task was created."""

    at: int
    cpu: int
    by: TaskRef | None
    how: How | None
    clone_flags: int | None         # as in task_newtask: without the exit signal
    exit_signal: int | None
    stack: tuple[str, ...] | None   # innermost first, the tracer's own frames folded away
    woken_at: int | None            # sched_wakeup_new
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exec:
    """A program that the task began to run; ``old_pid`` differs from pid when a non-leader thread called execve."""

    at: int
    cpu: int
    filename: str
    old_pid: int


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal_generate for this task, and its delivery if that was recorded."""

    at: int
    cpu: int
    sig: int
    code: int                       # si_code
    sender: TaskRef | None          # ``from`` in JSON; None when an interrupt sent it
    result: int                     # TRACE_SIGNAL_*: 0 delivered, 1 ignored, 2 already pending, 3, 4 lost
    group: bool                     # sent to the whole thread group
    delivered_at: int | None
    handler: int | None             # sa_handler at delivery: 0 is SIG_DFL, 1 SIG_IGN


@dataclass(frozen=True, slots=True)
class Exit:
    """How the task ended.

    ``code`` is 0…255 when it exited by itself (for the leader of a group: the status its parent sees), ``signal``
    the signal that ended it.  ``cause`` says which of the kernel's ways it took.
    """

    at: int
    cpu: int
    code: int | None
    signal: int | None
    core: bool | None
    cause: Cause | None
    killer: TaskRef | None
    stack: tuple[str, ...] | None
    notified_at: int | None         # when the parent was sent the exit signal
    notified_sig: int | None
    notified: TaskRef | None        # whom
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reaped:
    """When wait() (or the dying task itself: threads, ignored SIGCHLD) released the task."""

    at: int
    by: TaskRef | None
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Freed:
    """The last reference to the task_struct was dropped (sched_process_free)."""

    at: int
    cpu: int


@dataclass(frozen=True, slots=True)
class Adoption:
    """The task got a new parent."""

    at: int | None
    by: TaskRef | None
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Switches:
    """Context switches away from the task, counted as the kernel counts nvcsw and nivcsw."""

    voluntary: int
    involuntary: int


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time in one state.

    ``cpu`` is where it ran (RUNNING) or on whose runqueue it last was; ``waker`` and ``woken_at`` are set on a RUNNABLE
    span that a wakeup began (``waker`` None: an interrupt, or not recorded); ``preempted`` on one that a switch began.
    """

    at: int
    end: int
    state: State
    cpu: int | None
    waker: TaskRef | None
    woken_at: int | None            # sched_waking, else sched_wakeup
    irq_waker: bool                 # woken from interrupt context
    preempted: bool                 # involuntarily switched out while runnable

    @property
    def dur(self) -> int:
        """Length in ns."""
        return self.end - self.at


@dataclass(slots=True)
class Life:
    """One task's life, see the data contract in docs/json.md; `spans` and `story` are made on demand."""

    pid: int
    generation: int
    tgid: int | None
    kind: Kind | None
    comm: str
    comms: tuple[Comm, ...]
    parent: TaskRef | None
    born: Birth | None
    execs: tuple[Exec, ...]
    signals: tuple[Signal, ...]
    exit: Exit | None
    reaped: Reaped | None
    freed: Freed | None
    adopted: tuple[Adoption, ...]
    time: dict[str, int]            # state name in lower case -> ns
    switches: Switches
    wakeups: int
    migrations: int
    cpus: tuple[int, ...]
    gaps: int
    first: int                      # time of the first record that shows the task
    last: int                       # … and of the last; the end of the recording while it lives
    inferred: tuple[str, ...] = ()
    orphaned_at: int | None = None  # when its parent's thread group ended while it lived
    prio: int | None = None         # last prio seen (sched_switch: 0…139)
    _owner: Lives | None = field(default=None, repr=False, compare=False)

    @property
    def ref(self) -> TaskRef:
        """The identity (pid, generation)."""
        return TaskRef(self.pid, self.generation)

    @property
    def spans(self) -> pl.DataFrame:
        """Every state interval of the life as a table, see `taskscope.lives.lives.Lives.spans_frame`."""
        return self._lives.spans_frame(self.ref)

    @property
    def _lives(self) -> Lives:
        if self._owner is None:
            raise ValueError("this Life was made by hand and belongs to no recording")
        return self._owner

    def __str__(self) -> str:
        story = self._owner.story if self._owner is not None else None
        return story(self) if story is not None else repr(self)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"
