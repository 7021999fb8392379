"""The tasks that are alive while records come in, their thread groups, and what is known of each for a judgement.

A task that no birth was seen of was found running: it is known from its first record on, by what the recorder knew of
the tasks that were there.  A group lets go of its parent when it has ended, so that memory is bounded by what lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taskscope.lives.deaths import Death
from taskscope.lives.family import named_as_kthread
from taskscope.lives.happenings import Who
from taskscope.lives.identity import PID_LIMIT
from taskscope.lives.judge import Judge
from taskscope.lives.life import Kind
from taskscope.lives.records import Rec
from taskscope.lives.signals import SIGKILL, Sent

#: undelivered signals kept of a group, and deaths of threads kept of one that goes on
MOST = 64

#: dead tasks that still have their pid (zombies; all of them where sched_process_free is not recorded)
_DEAD = 8192


@dataclass(slots=True, eq=False)
class Group:
    """A thread group."""

    leader: int                         # life number
    pid: int                            # of the leader; of the only task known of it where the leader is not
    known: bool                         # that pid is the thread group's id
    parent: Group | None = None
    ever: int = 1                       # tasks that were in it
    alive: int = 1
    kthread: bool = False
    gone: bool = False
    childless: bool = False             # its birth was seen, and no child's
    seen: int = 0                       # losses of events before the last record that shows it
    deaths: list[Death] = field(default_factory=list)
    sent: deque[Sent] = field(default_factory=lambda: deque(maxlen=MOST))       # fatal by default, no handler ran
    execs: list[int] = field(default_factory=list)
    head: Task | None = None

    @property
    def who(self) -> Who | None:
        """The process as a parent of others, None when it has ended."""
        return None if self.gone else Who(self.pid, self.head.comm if self.head is not None else None)


@dataclass(slots=True, eq=False)
class Task:
    """A task."""

    life: int
    pid: int
    group: Group
    kind: Kind | None
    comm: str | None
    death: Death                        # what is known so far of how it will have ended
    born: int | None = None
    creator: int | None = None          # pid
    rank: int = -1                      # which of the three records of a birth was seen last
    before: str | None = None           # the name that the last rename replaced
    dead: bool = False

    @property
    def leads(self) -> bool:
        """Tell whether it is the leader of its group."""
        return self.group.leader == self.life

    @property
    def who(self) -> Who:
        """The task as it is known now."""
        return Who(self.pid, self.comm)


class Tasks:
    """Finds the task that a pid means now.

    :param comms: names of tasks that were found running, by pid
    :param tgids: their thread groups, where known
    :param parents: their parent processes, where known
    """

    def __init__(self, comms: Mapping[int, str], tgids: Mapping[int, int], parents: Mapping[int, int]) -> None:
        self._comms, self._tgids, self._parents = dict(comms), dict(tgids), dict(parents)
        self._by_pid: dict[int, Task] = {}
        self._dead: deque[Task] = deque()
        self._lives = 0
        self.losses = 0

    def known(self, pid: int) -> Task | None:
        """Return the task of a pid if it was seen before."""
        return self._by_pid.get(pid)

    def get(self, pid: int, comm: str | None = None) -> Task | None:
        """Return the task that has a pid; None for the idle tasks, and for a number that is no pid.

        :param comm: the name that a record says it bears now
        """
        task = self._by_pid.get(pid) or self._found(pid)
        if task is not None:
            task.group.seen = self.losses
            if comm is not None:
                task.comm = comm
        return task

    def parent_of(self, group: Group) -> Who | None:
        """Return the parent process; None if it has ended, or may have since events were lost."""
        parent = group.parent
        return parent.who if parent is not None and parent.seen == self.losses else None

    def current(self, rec: Rec) -> Task | None:
        """Return the task that wrote a record; None if an interrupt did."""
        return None if rec.irq else self.get(rec.pid)

    def _found(self, pid: int) -> Task | None:
        if not 0 < pid <= PID_LIMIT:
            return None
        tgid, comm = self._tgids.pop(pid, None), self._comms.pop(pid, None)
        leader = self.get(tgid) if tgid is not None and tgid != pid else None
        if leader is not None:
            return self.add(pid, comm, "thread", leader.group)
        parent = self._parents.pop(pid, 0)
        kthread = pid == 2 or parent == 2 or (comm is not None and named_as_kthread(comm))
        task = self.add(pid, comm, "kthread" if kthread else None if tgid is None else "process", None)
        above = self.get(parent) if parent not in (0, pid) else None
        task.group.parent = above.group if above is not None else None
        return task

    def add(self, pid: int, comm: str | None, kind: Kind | None, group: Group | None) -> Task:
        """Note a task that is there from now on.

        :param group: that it is a thread of; None: it leads its own
        """
        self._comms.pop(pid, None)
        self._tgids.pop(pid, None)
        self._parents.pop(pid, None)
        old = self._by_pid.get(pid)
        if old is not None and not old.dead:
            # Its end was not seen.
            old.group.alive -= 1
        life, self._lives = self._lives, self._lives + 1
        if group is None:
            group = Group(life, pid, kind is not None and kind != "thread", kthread=kind == "kthread", seen=self.losses)
        else:
            group.ever += 1
            group.alive += 1
        task = self._by_pid[pid] = Task(life, pid, group, kind, comm, Death(life))
        if task.leads:
            group.head = task
        return task

    def bury(self, task: Task) -> None:
        """Note that a task is dead; its pid is its own until it is released."""
        task.dead = True
        self._dead.append(task)
        if len(self._dead) > _DEAD:
            self.forget(self._dead.popleft())

    def forget(self, task: Task) -> None:
        """Give the pid of a task free."""
        if self._by_pid.get(task.pid) is task:
            del self._by_pid[task.pid]


class Evidence(Judge):
    """Answers for the groups that are judged just now; ``lossy`` and ``deliveries`` are kept by whom it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[int, Group] = {}
        self.lost = self.deliveries = False

    @property
    def deliveries_recorded(self) -> bool:
        """See `Judge`: as long as none was seen, none is recorded."""
        return self.deliveries

    @property
    def lossy(self) -> bool:
        """See `Judge`."""
        return self.lost

    def size(self, leader: int) -> int:
        """See `Judge`."""
        return self.groups[leader].ever

    def is_kthread(self, life: int) -> bool:
        """See `Judge`."""
        return any(g.kthread and any(d.life == life for d in g.deaths) for g in self.groups.values())

    def execs_of(self, leader: int) -> Sequence[int]:
        """See `Judge`."""
        return self.groups[leader].execs

    def sent_to(self, leader: int) -> Sequence[Sent]:
        """See `Judge`."""
        return tuple(self.groups[leader].sent)

    def unblocked(self, candidates: list[Sent], leader: int,  # noqa: ARG002
                  until: int) -> tuple[list[Sent], list[str]]:
        """See `Judge`.

        prepare_signal() drops what is sent to a group that is being killed: a signal that was queued shows that none
        before it was fatal.  Older kernels queue it all the same, so this is an inference; the scheduling of the
        target, which tells for sure, is not followed.
        """
        before = [s for s in candidates if s.rec.ts <= until]
        upto = next((k + 1 for k, s in enumerate(before) if s.sig == SIGKILL), len(before))
        if upto < 2:
            return before[:upto], []
        note = (f"exit.signal: of {upto} signals that could have killed it the last that the kernel queued; it drops "
                "what is sent to a process that is being killed")
        return [before[upto - 1]], [note]
